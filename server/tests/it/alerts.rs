//! Alerts of `CREATE ALERT`, told by the real binary to webhooks and an Alertmanager on the loopback.
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Series, Server, now_ms, wait_until};

/// What was posted to it: path, idempotency key, body.
type Posted = (String, String, Value);

/// Takes what is posted, or answers another status; 0: no answer at all.
struct Sink {
    url: String,
    status: Arc<AtomicU16>,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Sink {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (status, posted) = (Arc::new(AtomicU16::new(status)), Arc::new(Mutex::new(Vec::new())));
        let sink = Self { url, status: Arc::clone(&status), posted: Arc::clone(&posted) };
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (status, posted) = (Arc::clone(&status), Arc::clone(&posted));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    let (mut head, mut line) = (Vec::new(), String::new());
                    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                        head.push(std::mem::take(&mut line));
                    }
                    let header = |name: &str| {
                        let value = head.iter().find_map(|line| {
                            let (found, value) = line.split_once(':')?;
                            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                        });
                        value.unwrap_or_default()
                    };
                    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    let code = status.load(Ordering::SeqCst);
                    if code == 0 {
                        std::thread::sleep(Duration::from_secs(60));
                    }
                    if code == 200 {
                        let path = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
                        let body = serde_json::from_slice(&body).unwrap();
                        posted.lock().unwrap().push((path, header("idempotency-key"), body));
                    }
                    let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = reader.get_mut().write_all(answer.as_bytes());
                });
            }
        };
        std::thread::Builder::new().spawn(serve).unwrap();
        sink
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }

    fn states(&self) -> Vec<String> {
        self.posted().iter().map(|(_, _, body)| body["status"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn run(server: &Server, sql: &str) {
    let answer = server.sql(sql);
    assert_eq!(answer.status, 200, "{sql}\n{}", answer.text);
}

fn write(server: &Server, second: i64, host: &str, value: f64) {
    let labels = [("__name__", "load"), ("host", host)];
    let ts_ms = (now_ms() / 1_000 - 600 + second) * 1_000;
    assert_eq!(server.write(&[Series::new(&labels).sample(ts_ms, value)]).status, 204);
}

fn with_detector() -> Server {
    let server = Server::start();
    write(&server, 0, "a", 1.0);
    run(&server, "CREATE DETECTOR d ON load KEY (host) USING 'ewma' INTO anomalies");
    server
}

#[test]
fn an_alert_is_told_to_each_target_until_it_is_taken_over_a_kill() {
    let (hook, manager) = (Sink::start(503), Sink::start(503));
    let server = with_detector();
    run(
        &server,
        &format!(
            "CREATE ALERT high ON DETECTOR d WHERE value > 10 LABELS (severity = 'page', shown = 'on {{{{ $labels.host }}}}') \
             ANNOTATIONS (summary = '{{{{ $labels.host }}}} has {{{{ $value }}}}') NOTIFY (WEBHOOK '{}/hook', ALERTMANAGER '{}')",
            hook.url, manager.url
        ),
    );
    write(&server, 1, "a", 50.0);
    write(&server, 1, "b", 60.0);
    wait_until("both fire", || server.rows("SELECT name FROM sys.alerts WHERE state = 'firing'").len() == 2);
    wait_until("somebody was told and did not take it", || server.metric("foretell_alert_notices_failed_total") > 1.0);
    assert_eq!(server.metric("foretell_alert_notices"), 4.0);
    let exposed = server.get("/metrics").text;
    let of_detectors: Vec<&str> =
        exposed.lines().filter(|line| line.contains("name=\"d\",kind=\"detector\"")).collect();
    let rows_out = "foretell_continuous_query_rows_out_total{name=\"d\",kind=\"detector\"} 3";
    assert!(of_detectors.contains(&rows_out) && of_detectors.len() == 9, "{of_detectors:#?}");
    let shown = server.get("/api/v1/alerts").json();
    let alert = &shown["data"]["alerts"][0];
    assert_eq!((&alert["state"], &alert["value"]), (&json!("firing"), &json!("5e+01")), "{shown}");
    assert_eq!(alert["annotations"]["summary"], "a has 50");
    // what nobody has taken outlives the process
    let server = Server::start_in(server.kill(), &[]);
    hook.answers(200);
    manager.answers(200);
    wait_until("the webhook is told of both", || hook.posted().len() == 2);
    wait_until("the Alertmanager is told of both", || {
        let told = manager.posted();
        told.iter().flat_map(|(_, _, body)| body.as_array().unwrap().clone()).count() >= 2
    });
    let (path, _, body) = hook.posted().remove(0);
    assert_eq!(path, "/hook");
    let labels = json!({"alertname": "high", "host": "a", "severity": "page", "shown": "on a"});
    assert_eq!((&body["labels"], &body["annotations"]), (&labels, &json!({"summary": "a has 50"})));
    assert_eq!((&body["status"], &body["value"], &body["endsAt"]), (&json!("firing"), &json!(50.0), &Value::Null));
    let (path, _, told) = manager.posted().remove(0);
    assert_eq!((path.as_str(), &told[0]["labels"]), ("/api/v2/alerts", &labels));
    assert!(told[0]["endsAt"].as_str().unwrap() > told[0]["startsAt"].as_str().unwrap());
    // it ends once, for each
    write(&server, 2, "a", 1.0);
    wait_until("the end is told", || hook.states() == ["firing", "firing", "resolved"]);
    let keys: BTreeSet<String> = hook.posted().into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys.len(), 3, "each has a key of its own");
    wait_until("all is taken", || server.metric("foretell_alert_notices") == 0.0);
    assert!(server.rows("SELECT * FROM sys.notifications").is_empty());
    let firing = server.rows("SELECT labels FROM sys.alerts WHERE state = 'firing'");
    assert_eq!(
        firing,
        [[json!("{alertname=\"high\", host=\"b\", severity=\"page\", shown=\"on {{ $labels.host }}\"}")]]
    );
    run(&server, "DROP ALERT high");
    wait_until("what fired has ended with its alert", || hook.states().len() == 4);
    assert_eq!(hook.states()[3], "resolved");
}

#[test]
fn a_target_that_hangs_or_refuses_holds_up_nobody() {
    let (hangs, gone, hook) = (Sink::start(0), Sink::start(404), Sink::start(200));
    let server = with_detector();
    for (name, url) in [("first", &hangs.url), ("second", &gone.url), ("third", &hook.url)] {
        run(&server, &format!("CREATE ALERT {name} ON DETECTOR d WHERE value > 10 NOTIFY (WEBHOOK '{url}/x')"));
    }
    let begun = Instant::now();
    write(&server, 1, "a", 50.0);
    wait_until("who listens is told", || hook.posted().len() == 1);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    wait_until("what is refused is given up", || server.metric("foretell_alert_notices_given_up_total") == 1.0);
    let given_up = server.rows("SELECT alert, given_up, error FROM sys.notifications ORDER BY alert");
    assert_eq!(given_up[0], [json!("first"), json!(false), Value::Null]);
    assert_eq!(given_up[1][..2], [json!("second"), json!(true)]);
    assert!(given_up[1][2].as_str().unwrap().starts_with("404"), "{given_up:?}");
    // and the server ends in time
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
