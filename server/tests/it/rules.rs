//! Prometheus rule files: recorded series and alerts of the real binary, told to an Alertmanager on the loopback.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::prometheus_histograms::write_histograms;
use crate::support::{Series, Server, binary, now_ms, wait_until};

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Takes alerts; answers its first requests with 503.
struct Alertmanager {
    url: String,
    alerts: Arc<Mutex<Vec<Value>>>,
}

impl Alertmanager {
    fn start(refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let alerts = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&alerts);
        let serve = move || {
            let mut refusals = refusals;
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let (mut head, mut line) = (Vec::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                    head.push(std::mem::take(&mut line).to_lowercase());
                }
                let length = head.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let status = if refusals > 0 { "503 Service Unavailable" } else { "200 OK" };
                if refusals > 0 {
                    refusals -= 1;
                } else if head.first().is_some_and(|line| line.starts_with("post /api/v2/alerts ")) {
                    let sent: Vec<Value> = serde_json::from_slice(&body).unwrap();
                    taken.lock().unwrap().extend(sent);
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        };
        std::thread::Builder::new().spawn(serve).unwrap();
        Self { url, alerts }
    }

    fn alerts(&self) -> Vec<Value> {
        self.alerts.lock().unwrap().clone()
    }
}

/// A directory with a configuration and a rule file.
fn directory(config: &str, rules: &str) -> (Arc<TempDir>, PathBuf) {
    let dir = Arc::new(TempDir::new().unwrap());
    let path = dir.path().join("foretell.toml");
    std::fs::write(&path, format!("rule_files = [\"rules/*.yml\"]\n{config}")).unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    write_rules(dir.path(), rules);
    (dir, path)
}

fn write_rules(dir: &Path, rules: &str) {
    std::fs::write(dir.join("rules/a.yml"), rules).unwrap();
}

fn start(config: &str, rules: &str) -> Server {
    let (dir, path) = directory(config, rules);
    Server::start_in(dir, &["--config", path.to_str().unwrap()])
}

fn get(server: &Server, path: &str) -> Value {
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()["data"].clone()
}

/// Labels and value of each series that `query` answers now.
fn ask(server: &Server, query: &str) -> Vec<(Value, String)> {
    let percent: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let data = get(server, &format!("/api/v1/query?query={percent}"));
    let rows = data["result"].as_array().unwrap().iter();
    let mut rows: Vec<(Value, String)> =
        rows.map(|row| (row["metric"].clone(), row["value"][1].as_str().unwrap().to_owned())).collect();
    rows.sort_by_key(|row| row.0.to_string());
    rows
}

fn write(server: &Server, series: &[Series]) {
    assert_eq!(server.write(series).status, 204);
}

fn up(instance: &str, value: f64) -> Series {
    Series::new(&[("__name__", "up"), ("instance", instance)]).sample(now_ms(), value)
}

fn seconds(rfc3339: &str) -> f64 {
    let (date, time) = rfc3339.trim_end_matches('Z').split_once('T').unwrap();
    let number = |text: &str| text.parse::<f64>().unwrap();
    let ymd: Vec<f64> = date.split('-').map(number).collect();
    let hms: Vec<f64> = time.split(':').map(number).collect();
    // Days from civil, after Howard Hinnant.
    let (year, month) = if ymd[1] <= 2.0 { (ymd[0] - 1.0, ymd[1] + 9.0) } else { (ymd[0], ymd[1] - 3.0) };
    let days = 365.0 * year + (year / 4.0).floor() - (year / 100.0).floor()
        + (year / 400.0).floor()
        + ((153.0 * month + 2.0) / 5.0).floor()
        + ymd[2]
        - 1.0
        - 719_468.0;
    days * 86_400.0 + hms[0] * 3600.0 + hms[1] * 60.0 + hms[2]
}

#[test]
fn recording_rules_write_series_in_order_and_end_them_when_they_are_gone() {
    let rules = r#"
groups:
- name: recording
  interval: 1s
  rules:
  - record: job:requests:sum
    expr: sum by (job) (requests)
    labels: {tier: one}
  - record: twice
    expr: job:requests:sum * 2
  - record: constant
    expr: 42
"#;
    let server = start("", rules);
    let sample = |instance: &str, job: &str, value: f64| {
        Series::new(&[("__name__", "requests"), ("instance", instance), ("job", job)]).sample(now_ms(), value)
    };
    write(&server, &[sample("a", "api", 1.0), sample("b", "api", 2.0), sample("c", "web", 5.0)]);
    let row =
        |name: &str, job: &str, value: &str| (json!({"__name__": name, "job": job, "tier": "one"}), value.to_owned());
    wait_until("both rules are recorded", || {
        ask(&server, "job:requests:sum") == [row("job:requests:sum", "api", "3"), row("job:requests:sum", "web", "5")]
            && ask(&server, "twice") == [row("twice", "api", "6"), row("twice", "web", "10")]
    });
    // Each rule is durable before the next one is evaluated: this one comes last.
    wait_until("the third is recorded", || !ask(&server, "constant").is_empty());
    assert_eq!(ask(&server, "constant"), [(json!({"__name__": "constant"}), "42".to_owned())]);
    assert!(server.count("twice") >= 2, "samples are rows like any other");

    write(&server, &[sample("c", "web", STALE)]);
    wait_until("the recorded series ends long before the look-back does", || {
        ask(&server, "job:requests:sum") == [row("job:requests:sum", "api", "3")]
            && ask(&server, "twice") == [row("twice", "api", "6")]
    });

    let group = get(&server, "/api/v1/rules")["groups"][0].clone();
    assert_eq!((&group["name"], &group["interval"], &group["limit"]), (&json!("recording"), &json!(1), &json!(0)));
    assert!(group["file"].as_str().unwrap().ends_with("/rules/a.yml"), "{group}");
    let rule = &group["rules"][0];
    assert_eq!(rule["query"], "sum by (job) (requests)");
    assert_eq!((&rule["type"], &rule["health"]), (&json!("recording"), &json!("ok")));
    assert_eq!(rule["labels"], json!({"tier": "one"}));
    assert!(seconds(rule["lastEvaluation"].as_str().unwrap()) * 1e3 > now_ms() as f64 - 60_000.0, "{rule}");
    assert!(server.metric("foretell_rule_evaluations_total") >= 3.0);
    assert_eq!(server.metric("foretell_rule_evaluation_failures_total"), 0.0);
    assert_eq!(server.metric("foretell_rule_group_rules"), 3.0);
}

#[test]
fn an_alert_is_pending_fires_is_told_and_resolves() {
    let alertmanager = Alertmanager::start(1);
    let config = format!(
        "[alerting]\nalertmanagers = [\"{}\"]\nexternal_labels = [\"cluster=eu\"]\nexternal_url = \"http://foretell\"\n",
        alertmanager.url
    );
    let rules = r#"
groups:
- name: alerts
  interval: 1s
  rules:
  - alert: Down
    expr: up == 0
    for: 3s
    labels:
      severity: page
      place: '{{ $labels.instance | toUpper }}'
    annotations:
      summary: '{{ $labels.instance }} is {{ $value }} in {{ $externalLabels.cluster }}'
      broken: '{{ nosuch 1 }}'
"#;
    let server = start(&config, rules);
    write(&server, &[up("a", 0.0), up("b", 1.0)]);
    let alert = || get(&server, "/api/v1/alerts")["alerts"][0].clone();
    wait_until("pending", || alert()["state"] == "pending");
    assert_eq!(alert()["labels"], json!({"alertname": "Down", "instance": "a", "place": "A", "severity": "page"}));
    wait_until("firing", || alert()["state"] == "firing");
    assert_eq!(alert()["value"], "0e+00");
    assert_eq!(alert()["annotations"]["summary"], "a is 0 in eu");
    let broken = alert()["annotations"]["broken"].as_str().unwrap().to_owned();
    assert!(broken.contains("<error expanding template") && broken.contains("\"nosuch\" not defined"), "{broken}");
    let firing = json!({
        "__name__": "ALERTS", "alertname": "Down", "alertstate": "firing", "instance": "a", "place": "A", "severity": "page",
    });
    wait_until("ALERTS says so, and only that", || ask(&server, "ALERTS") == [(firing.clone(), "1".to_owned())]);
    let since: f64 = ask(&server, "ALERTS_FOR_STATE")[0].1.parse().unwrap();
    assert_eq!(since, seconds(alert()["activeAt"].as_str().unwrap()).floor());

    let rule = get(&server, "/api/v1/rules?type=alert")["groups"][0]["rules"][0].clone();
    assert_eq!((&rule["state"], &rule["duration"], &rule["keepFiringFor"]), (&json!("firing"), &json!(3), &json!(0)));
    assert_eq!(rule["labels"], json!({"severity": "page", "place": "{{ $labels.instance | toUpper }}"}));
    assert_eq!(rule["alerts"].as_array().unwrap().len(), 1);

    wait_until("told, although the first attempt was refused", || !alertmanager.alerts().is_empty());
    let told = alertmanager.alerts()[0].clone();
    let expected = json!({"alertname": "Down", "cluster": "eu", "instance": "a", "place": "A", "severity": "page"});
    assert_eq!(told["labels"], expected);
    assert_eq!(told["annotations"]["summary"], "a is 0 in eu");
    assert_eq!(told["generatorURL"], "http://foretell/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    let at = |key: &str| seconds(told[key].as_str().unwrap());
    assert!(at("endsAt") > at("startsAt") + 60.0, "valid for four resends: {told}");

    write(&server, &[up("a", 1.0)]);
    wait_until("resolved", || {
        alertmanager.alerts().iter().any(|alert| {
            let end = seconds(alert["endsAt"].as_str().unwrap());
            end * 1e3 <= now_ms() as f64 && alert["startsAt"] == told["startsAt"]
        })
    });
    wait_until("ALERTS ends", || ask(&server, "ALERTS").is_empty() && ask(&server, "ALERTS_FOR_STATE").is_empty());
    assert_eq!(get(&server, "/api/v1/alerts")["alerts"], json!([]));
    assert!(server.metric("foretell_notifications_sent_total") >= 2.0);
    assert!(server.metric("foretell_notifications_errors_total") >= 1.0);
    assert_eq!(server.metric("foretell_notifications_dropped_total"), 0.0);
}

#[test]
fn a_restart_keeps_how_long_an_alert_has_been_pending() {
    let rules = r#"
groups:
- name: alerts
  interval: 1s
  rules:
  - {alert: Down, expr: up == 0, for: 1h}
"#;
    let (dir, path) = directory("[rules]\nfor_grace_period = \"0\"\n", rules);
    let args = ["--config", path.to_str().unwrap()];
    let server = Server::start_in(dir, &args);
    write(&server, &[up("a", 0.0)]);
    let mut since = 0.0;
    wait_until("the alert has been written as pending for a while", || {
        let rows = ask(&server, "ALERTS_FOR_STATE");
        since = rows.first().map_or(0.0, |row| row.1.parse::<f64>().unwrap());
        since > 0.0 && now_ms() as f64 / 1e3 - since > 12.0
    });
    let dir = server.kill();
    let server = Server::start_in(dir, &args);
    let restarted = now_ms() as f64 / 1e3;
    let active_at = || {
        let alerts = get(&server, "/api/v1/alerts")["alerts"].clone();
        alerts[0]["activeAt"].as_str().map(seconds)
    };
    // Had it started anew, it would be active since an evaluation of the new process.
    wait_until("the alert goes on where it was", || active_at().is_some_and(|at| at < restarted - 1.5));
    // Time down does not count.
    assert!(active_at().unwrap() >= since, "{:?} {since}", active_at());
    wait_until("and is written so", || {
        let rows = ask(&server, "ALERTS_FOR_STATE");
        rows.first().is_some_and(|row| row.1.parse::<f64>().unwrap() < restarted - 1.5)
    });
}

#[test]
fn a_broken_file_keeps_the_server_from_starting_and_says_where() {
    let (dir, path) = directory("", "groups:\n- name: g\n  rules:\n  - {record: a, expr: 'sum('}\n");
    let output = binary()
        .args(["serve", "--listen-http", "127.0.0.1:0", "--listen-otlp-http", "none", "--listen-grpc", "none"])
        .args(["--config", path.to_str().unwrap(), "--data-dir"])
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["cannot use the rule files", "rules/a.yml", "group \"g\", rule 1, \"a\"", "could not parse expression"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_reload_is_all_or_nothing_and_ends_what_has_gone() {
    let group = |name: &str, metric: &str| {
        format!("- name: {name}\n  interval: 1s\n  rules:\n  - {{record: {metric}, expr: 'vector(1)'}}\n")
    };
    let server = start("", &format!("groups:\n{}", group("first", "first_metric")));
    wait_until("recorded", || !ask(&server, "first_metric").is_empty());
    let names = || -> Vec<String> {
        let groups = get(&server, "/api/v1/rules")["groups"].clone();
        groups.as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap().to_owned()).collect()
    };

    write_rules(server.dir.path(), "groups:\n- name: first\n  rules:\n  - {expr: '1'}\n");
    let answer = server.post("/-/reload", &[], b"");
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(
        answer.error().contains("group \"first\", rule 1: one of 'record' or 'alert' must be set"),
        "{}",
        answer.text
    );
    assert_eq!(names(), ["first"]);
    assert_eq!(server.metric("foretell_rules_last_reload_successful"), 0.0);
    wait_until("the old rules go on", || server.metric("foretell_rule_evaluations_total") >= 3.0);

    write_rules(server.dir.path(), &format!("groups:\n{}", group("second", "second_metric")));
    let answer = server.post("/-/reload", &[], b"");
    assert_eq!((answer.status, &answer.json()["data"]["groups"]), (200, &json!(1)), "{}", answer.text);
    assert_eq!(names(), ["second"]);
    assert_eq!(server.metric("foretell_rules_last_reload_successful"), 1.0);
    wait_until("the new group records and the old one's series has ended", || {
        !ask(&server, "second_metric").is_empty() && ask(&server, "first_metric").is_empty()
    });

    let both = format!("groups:\n{}{}", group("second", "second_metric"), group("third", "third_metric"));
    write_rules(server.dir.path(), &both);
    server.signal("HUP");
    wait_until("SIGHUP reloads, too", || names() == ["second", "third"]);
    assert_eq!(server.get("/-/reload").status, 405);
}

#[test]
fn a_series_that_another_group_has_taken_over_is_not_ended_even_after_one_more_reload() {
    let group = |name: &str, rules: &str| format!("groups:\n- name: {name}\n  interval: 1s\n  rules:\n{rules}");
    let rule = |metric: &str, value: u8| format!("  - {{record: {metric}, expr: 'vector({value})'}}\n");
    let server = start("", &group("first", &(rule("stays", 1) + &rule("goes", 1))));
    let value = |metric: &str| ask(&server, metric).first().map(|row| row.1.clone()).unwrap_or_default();
    wait_until("recorded", || value("stays") == "1" && value("goes") == "1");
    let begun_ms = now_ms();
    for taken_over in [2, 3] {
        write_rules(server.dir.path(), &group("second", &rule("stays", taken_over)));
        assert_eq!(server.post("/-/reload", &[], b"").status, 200);
        wait_until("the group that follows records", || value("stays") == taken_over.to_string());
    }
    wait_until("what nobody records any more has ended", || value("goes").is_empty());
    let (begin_s, end_s) = (begun_ms as f64 / 1e3, now_ms() as f64 / 1e3);
    let range = format!("/api/v1/query_range?query=stays&start={begin_s:.3}&end={end_s:.3}&step=0.01");
    let data = get(&server, &range);
    let ts: Vec<f64> =
        data["result"][0]["values"].as_array().unwrap().iter().map(|point| point[0].as_f64().unwrap()).collect();
    assert!((ts[0] - begin_s).abs() < 0.005 && (ts[ts.len() - 1] - end_s).abs() < 0.011, "{begin_s} {end_s} {ts:?}");
    assert!(ts.windows(2).all(|two| two[1] - two[0] < 0.015), "a gap: {ts:?}");
}

#[test]
fn a_rule_that_fails_says_why_and_the_next_one_runs() {
    let rules = r#"
groups:
- name: g
  interval: 1s
  limit: 1
  rules:
  - {record: twice, expr: 'label_replace(up, "instance", "same", "", "")'}
  - {record: many, expr: up}
  - {record: fine, expr: 'vector(7)'}
"#;
    let server = start("", rules);
    write(&server, &[up("a", 1.0), up("b", 1.0)]);
    wait_until("the last rule runs", || ask(&server, "fine") == [(json!({"__name__": "fine"}), "7".to_owned())]);
    let rule = |i: usize| get(&server, "/api/v1/rules")["groups"][0]["rules"][i].clone();
    wait_until("the others have failed", || rule(0)["health"] == "err" && rule(1)["health"] == "err");
    assert!(rule(0)["lastError"].as_str().unwrap().contains("same labelset"), "{}", rule(0));
    assert!(rule(1)["lastError"].as_str().unwrap().contains("exceeded limit of 1 with 2 series"), "{}", rule(1));
    assert_eq!(rule(2)["health"], "ok");
    assert!(rule(2).get("lastError").is_none());
    assert!(server.metric("foretell_rule_evaluation_failures_total") >= 2.0);
}

#[test]
fn native_histograms_are_no_samples_of_a_rule_but_can_be_alerted_on() {
    let rules = r#"
groups:
- name: g
  interval: 1s
  rules:
  - {record: copied, expr: 'latency @ 120'}
  - {record: total, expr: 'histogram_sum(latency @ 120)'}
  - {alert: There, expr: 'latency @ 120'}
"#;
    let server = start("", rules);
    write_histograms(&server);
    wait_until("numbers made of histograms are recorded", || {
        ask(&server, "total") == [(json!({"__name__": "total", "job": "api"}), "10".to_owned())]
    });
    let rule = |i: usize| get(&server, "/api/v1/rules")["groups"][0]["rules"][i].clone();
    wait_until("a histogram is not left out in silence", || rule(0)["health"] == "err");
    assert!(rule(0)["lastError"].as_str().unwrap().contains("native histograms cannot be recorded"), "{}", rule(0));
    wait_until("an alert fires as in Prometheus", || rule(2)["state"] == "firing");
    assert_eq!(rule(2)["alerts"][0]["value"], "0e+00");
}

#[test]
fn groups_and_rules_are_filtered_and_come_in_pages() {
    let group = |name: &str| {
        format!(
            "- name: {name}\n  interval: 1h\n  rules:\n  - {{record: r_{name}, expr: '1', labels: {{team: x}}}}\n  \
             - {{alert: A_{name}, expr: '1', labels: {{severity: page}}}}\n"
        )
    };
    let server = start("", &format!("groups:\n{}{}{}", group("a"), group("b"), group("c")));
    let names = |query: &str| -> Vec<String> {
        let groups = get(&server, &format!("/api/v1/rules?{query}"))["groups"].clone();
        let rules = groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("type=record"), ["r_a", "r_b", "r_c"]);
    assert_eq!(names("rule_name[]=A_b&rule_name[]=r_c"), ["A_b", "r_c"]);
    assert_eq!(names("rule_group[]=b"), ["r_b", "A_b"]);
    assert_eq!(names("match[]=%7Bseverity%3D%22page%22%7D&rule_group[]=a"), ["A_a"]);
    assert!(names("file[]=other.yml").is_empty());
    let first = get(&server, "/api/v1/rules?group_limit=2");
    assert_eq!(first["groups"].as_array().unwrap().len(), 2);
    let token = first["groupNextToken"].as_str().unwrap();
    let second = get(&server, &format!("/api/v1/rules?group_limit=2&group_next_token={token}"));
    assert_eq!((&second["groups"][0]["name"], second.get("groupNextToken")), (&json!("c"), None));
    let unknown = get(&server, "/api/v1/rules?rule_name[]=A_a&exclude_alerts=true")["groups"][0].clone();
    assert_eq!((&unknown["rules"][0]["alerts"], &unknown["rules"][0]["health"]), (&Value::Null, &json!("unknown")));
    assert_eq!(unknown["lastEvaluation"], "0001-01-01T00:00:00Z");
    for bad in [
        "type=x",
        "exclude_alerts=maybe",
        "group_limit=0",
        "group_next_token=x",
        "group_limit=1&group_next_token=x",
        "match[]=1",
    ] {
        assert_eq!(server.get(&format!("/api/v1/rules?{bad}")).status, 400, "{bad}");
    }
}

#[test]
fn the_examples_of_the_documentation_can_be_used() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md")).unwrap();
    let blocks: Vec<&str> = docs.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    let dir = TempDir::new().unwrap();
    for (i, block) in blocks.iter().enumerate() {
        let path = dir.path().join(format!("{i}.yml"));
        std::fs::write(&path, block).unwrap();
        let output = binary().args(["check", "rules"]).arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{block}\n{text}");
        assert!(text.contains("groups") && !text.contains(": 0 groups"), "{text}");
    }
    let server = start("", &blocks[0].replace("interval: 30s", "interval: 1s"));
    write(
        &server,
        &[Series::new(&[("__name__", "up"), ("instance", "a:9100"), ("job", "node")]).sample(now_ms(), 0.0)],
    );
    wait_until("the example records", || !ask(&server, "job:up:ratio").is_empty());
    wait_until("and alerts", || get(&server, "/api/v1/alerts")["alerts"][0]["labels"]["alertname"] == "InstanceDown");

    let bad = dir.path().join("bad.yml");
    std::fs::write(&bad, "groups:\n- name: a\n  rulez: []\n").unwrap();
    let output = binary().args(["check", "rules"]).arg(&bad).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("bad.yml") && text.contains("rulez"), "{text}");
}
