//! The real Prometheus of the comparison: its configuration, its queue, and what it holds.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use foretell_proto::prometheus::v1::{LabelMatcher, Query, ReadRequest, ReadResponse, label_matcher};
use prost::Message;

use super::compare::Store;
use super::records::{Exemplar, Histogram, Key, held_exemplars};
use crate::http::Client;
use crate::peer::Binaries;
use crate::process::Process;

/// How often its own metrics are looked at.
const POLL: Duration = Duration::from_millis(500);
/// The queue counts as drained when nothing has moved for this many looks in a row. Longer than the three seconds after
/// which Prometheus writes the stale markers of a target that was taken from its configuration.
const QUIET_POLLS: usize = 10;
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);

const FEATURES: &str = "--enable-feature=metadata-wal-records,native-histograms,exemplar-storage";
/// A rate of native histograms is a histogram with float counts.
const RULES: &str = "groups:\n  - name: e2e\n    rules:\n      - record: e2e:http_request_duration:rate5s\n        \
    expr: rate(prometheus_http_request_duration_seconds[5s])\n";

/// Type, help and unit of each metric family; targets may describe one differently.
pub type Described = BTreeMap<String, BTreeSet<[String; 3]>>;

/// Where it writes to.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Whole URL.
    pub url: String,
    /// Full name of the message.
    pub message: &'static str,
}

/// A running Prometheus.
pub struct Prometheus {
    process: Process,
    config: PathBuf,
    url: String,
    remotes: Vec<Remote>,
    jobs: Vec<String>,
    client: Client,
}

/// State of its remote write queue, from its own `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queue {
    /// Samples acknowledged.
    pub sent: f64,
    /// Samples, histograms and exemplars read from its log and not acknowledged yet.
    pub pending: f64,
    /// The same, given up.
    pub failed: f64,
    /// The same, left out before sending.
    pub dropped: f64,
    /// Samples sent again.
    pub retried: f64,
    /// Newest sample it has scraped, seconds.
    pub highest: f64,
    /// Newest sample acknowledged, seconds.
    pub highest_sent: f64,
    /// Samples it has stored.
    pub stored: f64,
}

impl Prometheus {
    /// Starts it: it scrapes `targets` (job, address) and itself every second, and writes to `remotes`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(
        binaries: &Binaries,
        dir: &Path,
        port: u16,
        remotes: &[Remote],
        targets: &[(&str, String)],
    ) -> Result<Self> {
        let (config, rules) = (dir.join("prometheus.yml"), dir.join("rules.yml"));
        fs::write(&rules, RULES)?;
        let own = ("prometheus", format!("127.0.0.1:{port}"));
        let jobs: Vec<String> = targets.iter().chain([&own]).map(|(job, _)| (*job).to_owned()).collect();
        let addressed = targets.iter().chain([&own]).map(|(job, address)| (*job, Some(address.as_str())));
        fs::write(&config, config_text(remotes, Some(&rules), addressed))?;
        let mut command = Command::new(binaries.unpacked("prometheus")?);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.args(["--web.enable-lifecycle", "--log.level=warn", FEATURES]);
        let (url, client) = (format!("http://127.0.0.1:{port}"), Client::default());
        let mut process = Process::start("prometheus", &mut command, &dir.join("prometheus.log"))?;
        process.wait_until("readiness", START_WITHIN, || client.is_ok(&format!("{url}/-/ready")))?;
        Ok(Self { process, config, url, remotes: remotes.to_vec(), jobs, client })
    }

    /// Takes every target from its jobs, and the rules: it ends their series with stale markers and scrapes no more. (Were the
    /// jobs to go as well, it would write no markers.)
    ///
    /// # Errors
    /// When it refuses the reload.
    pub fn stop_scraping(&self) -> Result<()> {
        fs::write(&self.config, config_text(&self.remotes, None, self.jobs.iter().map(|job| (job.as_str(), None))))?;
        let (status, answer) = self.client.post(&format!("{}/-/reload", self.url), &[], b"")?;
        ensure!(status == 200, "reload: {status} {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// The queue now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn queue(&self) -> Result<Queue> {
        let (status, text) = self.client.get(&format!("{}/metrics", self.url))?;
        ensure!(status == 200, "/metrics: {status}");
        Ok(Queue::parse(&String::from_utf8_lossy(&text)))
    }

    /// Waits until everything stored is sent and acknowledged.
    ///
    /// # Errors
    /// When it is not within the time, or a sample was given up.
    pub fn drain(&self, within: Duration) -> Result<Queue> {
        let deadline = Instant::now() + within;
        let (mut before, mut quiet) = (Queue::default(), 0);
        loop {
            let queue = self.queue()?;
            let done = queue.pending == 0.0 && queue.highest_sent >= queue.highest.floor() && queue.sent > 0.0;
            quiet = if done && queue == before { quiet + 1 } else { 0 };
            if quiet >= QUIET_POLLS {
                ensure!(
                    queue.failed + queue.dropped == 0.0,
                    "Prometheus gave samples up: {queue:?}; {}",
                    self.process.tail()
                );
                return Ok(queue);
            }
            ensure!(Instant::now() < deadline, "Prometheus's queue is not drained: {queue:?}; {}", self.process.tail());
            before = queue;
            thread::sleep(POLL);
        }
    }

    /// Every sample and every native histogram it holds, by remote read: raw values, stale markers included.
    ///
    /// # Errors
    /// When it does not answer with samples.
    pub fn read_all(&self) -> Result<(Store, BTreeMap<Key, Histogram>)> {
        let matcher = LabelMatcher {
            r#type: label_matcher::Type::Re.into(),
            name: "__name__".to_owned(),
            value: ".+".to_owned(),
        };
        let request = ReadRequest {
            queries: vec![Query {
                start_timestamp_ms: 0,
                end_timestamp_ms: crate::run::now_ms()? + 3_600_000,
                matchers: vec![matcher],
                hints: None,
            }],
            accepted_response_types: Vec::new(),
        };
        let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?;
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-read-version", "0.1.0"),
        ];
        let (status, answer) = self.client.post(&format!("{}/api/v1/read", self.url), &headers, &body)?;
        ensure!(status == 200, "remote read: {status} {}", String::from_utf8_lossy(&answer));
        let answer = snap::raw::Decoder::new().decompress_vec(&answer).context("remote read is not snappy")?;
        let (mut store, mut histograms) = (Store::default(), BTreeMap::new());
        for series in ReadResponse::decode(&*answer)?.results.into_iter().flat_map(|result| result.timeseries) {
            let mut labels: Vec<_> = series.labels.into_iter().map(|label| (label.name, label.value)).collect();
            labels.sort();
            for histogram in &series.histograms {
                let key = (labels.clone(), histogram.timestamp * 1_000_000);
                histograms.insert(key, Histogram::held(histogram));
            }
            let samples = series.samples.iter().map(|sample| (sample.timestamp * 1_000_000, sample.value.to_bits()));
            store.series.entry(labels).or_default().extend(samples);
        }
        Ok((store, histograms))
    }

    /// Every exemplar it holds.
    ///
    /// # Errors
    /// When it does not answer with exemplars.
    pub fn exemplars(&self) -> Result<BTreeMap<Exemplar, ()>> {
        // {job=~".+"}
        let query = "query=%7Bjob%3D~%22.%2B%22%7D&start=0&end=";
        let end = crate::run::now_ms()? / 1000 + 3600;
        let (status, answer) = self.client.get(&format!("{}/api/v1/query_exemplars?{query}{end}", self.url))?;
        ensure!(status == 200, "query_exemplars: {status} {}", String::from_utf8_lossy(&answer));
        held_exemplars(&serde_json::from_slice(&answer)?)
    }

    /// What it knows about the metrics of its targets.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metadata(&self) -> Result<Described> {
        let (status, answer) = self.client.get(&format!("{}/api/v1/metadata", self.url))?;
        ensure!(status == 200, "metadata: {status} {}", String::from_utf8_lossy(&answer));
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let families = answer["data"].as_object().context("metadata without data")?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let one = |value: &serde_json::Value| ["type", "help", "unit"].map(|key| text(&value[key]));
        let all = families.iter().map(|(family, known)| {
            (family.clone(), known.as_array().into_iter().flatten().map(one).collect::<BTreeSet<_>>())
        });
        Ok(all.collect())
    }

    /// A clean stop.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(self) -> Result<()> {
        self.process.stop(STOP_WITHIN).map(drop)
    }
}

fn config_text<'a>(
    remotes: &[Remote],
    rules: Option<&Path>,
    jobs: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> String {
    let mut text = "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n".to_owned();
    if let Some(rules) = rules {
        text.push_str(&format!("rule_files:\n  - {}\n", rules.display()));
    }
    text.push_str("remote_write:\n");
    for Remote { url, message } in remotes {
        // the queue's defaults, but for a shorter pause after a failed attempt and a shorter wait for company
        text.push_str(&format!(
            "  - url: {url}\n    protobuf_message: {message}\n    remote_timeout: 10s\n    queue_config:\n      \
             max_backoff: 1s\n      batch_send_deadline: 1s\n    metadata_config:\n      send_interval: 5s\n    send_exemplars: true\n    \
             send_native_histograms: true\n"
        ));
    }
    text.push_str("scrape_configs:\n");
    for (job, address) in jobs {
        let targets = address.map_or(String::new(), |address| format!("'{address}'"));
        // Classic histograms stay beside the native ones that are made of them.
        text.push_str(&format!(
            "  - job_name: {job}\n    convert_classic_histograms_to_nhcb: true\n    always_scrape_classic_histograms: true\n    \
             static_configs:\n      - targets: [{targets}]\n"
        ));
    }
    text
}

impl Queue {
    fn parse(text: &str) -> Self {
        let sum = |names: &[String]| -> f64 {
            let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
            let named = |line: &&str| {
                names.iter().any(|name| line.strip_prefix(&**name).is_some_and(|r| r.starts_with(['{', ' '])))
            };
            text.lines().filter(named).filter_map(value).sum()
        };
        let least = |name: &str| {
            let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
            let named = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|r| r.starts_with(['{', ' '])));
            named.filter_map(value).reduce(f64::min).unwrap_or_default()
        };
        Self {
            sent: sum(&["prometheus_remote_storage_samples_total".to_owned()]),
            pending: sum(
                &["samples", "histograms", "exemplars"].map(|what| format!("prometheus_remote_storage_{what}_pending"))
            ),
            failed: sum(&["samples", "histograms", "exemplars"]
                .map(|what| format!("prometheus_remote_storage_{what}_failed_total"))),
            dropped: sum(&["samples", "histograms", "exemplars"]
                .map(|what| format!("prometheus_remote_storage_{what}_dropped_total"))),
            retried: sum(&["prometheus_remote_storage_samples_retried_total".to_owned()]),
            highest: least("prometheus_remote_storage_highest_timestamp_in_seconds"),
            highest_sent: least("prometheus_remote_storage_queue_highest_sent_timestamp_seconds"),
            stored: sum(&["prometheus_tsdb_head_samples_appended_total".to_owned()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_read_from_prometheus_own_metrics() {
        let text = "# TYPE x counter\nprometheus_remote_storage_samples_total{remote_name=\"a b\",url=\"u\"} 1.5e+03\n\
            prometheus_remote_storage_histograms_pending{url=\"u\"} 3\nprometheus_remote_storage_exemplars_failed_total 4\n\
            prometheus_remote_storage_samples_total_other 9\nprometheus_remote_storage_samples_pending{url=\"u\"} 2\n\
            prometheus_tsdb_head_samples_appended_total{type=\"float\"} 7\n\
            prometheus_tsdb_head_samples_appended_total{type=\"histogram\"} 1\n\
            prometheus_remote_storage_queue_highest_sent_timestamp_seconds{url=\"u\"} 7\n\
            prometheus_remote_storage_queue_highest_sent_timestamp_seconds{url=\"v\"} 5\n";
        let queue = Queue::parse(text);
        assert_eq!(queue.highest_sent, 5.0, "of the queue that is behind");
        assert_eq!((queue.sent, queue.pending, queue.failed, queue.stored), (1500.0, 5.0, 4.0, 8.0));
    }

    #[test]
    fn a_job_keeps_its_name_when_its_target_goes() {
        let remotes =
            [("http://u", "m.V1"), ("http://v", "m.V2")].map(|(url, message)| Remote { url: url.to_owned(), message });
        let jobs = || [("node", Some("127.0.0.1:1")), ("own", None)].into_iter();
        let text = config_text(&remotes, Some(Path::new("/r.yml")), jobs());
        assert!(text.contains("\nrule_files:\n  - /r.yml\nremote_write:\n"), "{text}");
        assert!(!config_text(&remotes, None, jobs()).contains("rule_files"));
        assert!(text.contains("  - job_name: node\n") && text.contains("      - targets: ['127.0.0.1:1']\n"), "{text}");
        assert!(text.contains("  - url: http://v\n    protobuf_message: m.V2\n"), "{text}");
        assert!(
            text.contains("  - job_name: own\n") && text.ends_with("    static_configs:\n      - targets: []\n"),
            "{text}"
        );
    }
}
