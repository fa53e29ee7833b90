//! `alertmanager`: a real Alertmanager is told by Foretell, groups what it hears, and tells it on with its end.
//!
//! ```text
//!  samples ──► foretell: detector, alert ──► Alertmanager (API v2) ──► webhook: one group of three, then its end
//! ```
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::http_server::HttpServer;
use crate::peer::{Binaries, Peer};
use crate::process::{Process, free_port, scratch_dir};
use crate::report::Report;
use crate::run::now_ms;
use crate::workload::encode::{BodyEncoder, encode_labels};

/// Where Debian's Alertmanager looks for its templates.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";
const WITHIN: Duration = Duration::from_secs(30);
const HOSTS: usize = 5;
/// Of these so many are odd.
const ODD: usize = 3;
/// How often Foretell repeats what fires; an Alertmanager believes four of these that it still does.
const RESEND: &str = "1s";

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long what fires is watched: it must not end by itself, seconds
    #[arg(long = "for", default_value_t = 8)]
    pub seconds: u64,
}

/// What the webhook behind the Alertmanager has heard.
type Told = Mutex<Vec<Value>>;

/// Runs it.
///
/// # Errors
/// When the Alertmanager hears of something else, or not in time.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("alertmanager")?;
    provide_templates(binaries)?;
    let (webhook, told, stop) = (HttpServer::bind()?, Told::default(), AtomicBool::new(false));
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            webhook.serve(&stop, |request| {
                if let Ok(heard) = serde_json::from_slice(&request.body) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
                }
                Some("200 OK")
            });
        });
        let outcome = watch(options, binaries, dir.path(), &webhook.url()?, &told);
        stop.store(true, Ordering::Release);
        outcome
    });
    let version = outcome?;
    let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut report = Report::new("alertmanager", json!({ "hosts": HOSTS, "odd": ODD, "seconds": options.seconds }));
    report.text("alertmanager_version", &version, "");
    report.figure("groups_told", told.len() as f64, "by the Alertmanager");
    report.figure("alerts_in_the_group", ODD as f64, "fired together, then resolved together");
    report.print();
    report.write(results)?;
    Ok(())
}

/// Debian's package has its templates in a file, and its program a fixed place for it.
fn provide_templates(binaries: &Binaries) -> Result<()> {
    if Path::new(TEMPLATES).exists() {
        return Ok(());
    }
    let peers = binaries.peers.as_ref().context("say where the peers are: --peers DIR")?;
    let unpacked = fs::canonicalize(peers)?.join(TEMPLATES.trim_start_matches('/'));
    let parent = Path::new(TEMPLATES).parent().context("no folder")?;
    fs::create_dir_all(parent).and_then(|()| symlink(&unpacked, TEMPLATES)).with_context(|| {
        format!("the Alertmanager looks for its templates in {TEMPLATES}: link it to {}", unpacked.display())
    })
}

fn watch(options: &Options, binaries: &Binaries, dir: &Path, webhook: &str, told: &Told) -> Result<String> {
    let program = binaries.unpacked("prometheus-alertmanager")?;
    let (port, config) = (free_port()?, dir.join("alertmanager.yml"));
    fs::write(
        &config,
        format!(
            "route: {{receiver: hook, group_by: [team], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: hook, webhook_configs: [{{url: '{webhook}', send_resolved: true}}]}}]\n"
        ),
    )?;
    let mut command = Command::new(&program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.path={}", dir.join("alertmanager").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
    let mut alertmanager = Process::start("alertmanager", &mut command, &dir.join("alertmanager.log"))?;
    let (client, base) = (Client::default(), format!("http://127.0.0.1:{port}"));
    alertmanager.wait_until("readiness", WITHIN, || client.is_ok(&format!("{base}/-/ready")))?;

    let (foretell_port, settings) = (free_port()?, dir.join("foretell.toml"));
    fs::write(&settings, format!("[rules]\nresend_delay = \"{RESEND}\"\n"))?;
    let mut command = Command::new(binaries.path(Peer::Foretell)?);
    command.arg("serve").arg("--config").arg(&settings).arg("--data-dir").arg(dir.join("foretell"));
    command.args(["--listen-grpc", "none", "--listen-pg", "none", "--listen-otlp-http", "none"]);
    command.arg("--listen-http").arg(format!("127.0.0.1:{foretell_port}"));
    let mut foretell = Process::start("foretell", &mut command, &dir.join("foretell.log"))?;
    let url = format!("http://127.0.0.1:{foretell_port}");
    foretell.wait_until("readiness", WITHIN, || client.is_ok(&format!("{url}/-/ready")))?;

    let mut sender = Sender::connect(([127, 0, 0, 1], foretell_port).into(), "/api/v1/write", REMOTE_WRITE_HEADERS)?;
    let mut send = |value: &dyn Fn(usize) -> f64| -> Result<()> {
        let mut body = BodyEncoder::default();
        for host in 0..HOSTS {
            let name = format!("h{host}");
            body.push(&encode_labels(&[("__name__", "load"), ("host", name.as_str())]), now_ms()?, value(host));
        }
        let (status, text) = sender.post(body.finish()?)?;
        ensure!((200..300).contains(&status), "remote write: {status} {text}");
        Ok(())
    };
    send(&|_| 1.0)?;
    client.sql(&url, "CREATE DETECTOR d ON load KEY (host) USING 'ewma' INTO anomalies")?;
    client.sql(
        &url,
        &format!(
            "CREATE ALERT high ON DETECTOR d WHERE value > 10 LABELS (team = 'a') \
             ANNOTATIONS (summary = '{{{{ $labels.host }}}} has {{{{ $value }}}}') NOTIFY (ALERTMANAGER '{base}')"
        ),
    )?;
    send(&|host| if host < ODD { 50.0 } else { 1.0 })?;

    // Its own view: active, with our labels and texts.
    let active = || -> Result<Vec<Value>> {
        let (status, body) = client.get(&format!("{base}/api/v2/alerts?active=true"))?;
        ensure!(status == 200, "alerts of the Alertmanager: {status}");
        Ok(serde_json::from_slice(&body)?)
    };
    until("the Alertmanager has the alerts", || Ok(active()?.len() == ODD))?;
    for alert in active()? {
        let host = alert["labels"]["host"].as_str().context("no host")?.to_owned();
        let expected = json!({"alertname": "high", "host": host, "team": "a"});
        ensure!(alert["labels"] == expected, "labels {}", alert["labels"]);
        ensure!(alert["annotations"]["summary"] == format!("{host} has 50"), "annotations {}", alert["annotations"]);
    }
    let group = |status: &str| -> Result<Vec<String>> {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.last().filter(|told| told["status"] == status) else { return Ok(Vec::new()) };
        ensure!(last["groupLabels"] == json!({"team": "a"}), "grouped by {}", last["groupLabels"]);
        let hosts = last["alerts"].as_array().into_iter().flatten();
        Ok(hosts.filter_map(|alert| alert["labels"]["host"].as_str().map(str::to_owned)).collect())
    };
    until("it tells of them as one group", || Ok(group("firing")?.len() == ODD))?;
    // It believes that they fire only as long as it is told so.
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while Instant::now() < end {
        ensure!(active()?.len() == ODD, "the Alertmanager has forgotten what fires");
        ensure!(group("resolved")?.is_empty(), "the Alertmanager says that it has ended");
        thread::sleep(Duration::from_millis(200));
    }
    send(&|_| 1.0)?;
    until("it tells of their end", || Ok(group("resolved")?.len() == ODD))?;
    until("it has none any more", || Ok(active()?.is_empty()))?;
    foretell.stop(WITHIN)?;
    alertmanager.stop(WITHIN)?;
    let peers = binaries.peers.as_ref().context("no peers")?;
    Ok(fs::read_to_string(peers.join("versions/prometheus-alertmanager"))?.trim().to_owned())
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("not within {WITHIN:?}: {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
