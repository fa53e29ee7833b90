//! The default detector over the real protocols: bits of what is written, in SQL, PromQL and `/metrics`, over a kill.
use serde_json::json;

use crate::support::{Series, Server, wait_until};

const START_MS: i64 = 1_767_225_600_000;

/// Rows `rows`, 15 s apart, of two series; one of them has spikes at rows 80 and 130.
fn write(server: &Server, rows: std::ops::Range<i64>) {
    let series = ["a", "b"].map(|host| {
        rows.clone().fold(Series::new(&[("__name__", "load"), ("host", host)]), |series, row| {
            let spike = if host == "a" && [80, 130].contains(&row) { 500.0 } else { 0.0 };
            series.sample(START_MS + row * 15_000, (row * 7 % 5) as f64 + spike)
        })
    });
    assert_eq!(server.write(&series).status, 204);
}

fn looked_at(server: &Server, samples: f64) {
    wait_until("all samples are looked at", || server.metric("foretell_default_detector_lag_commits") == 0.0);
    assert_eq!(server.metric("foretell_default_detector_samples_total"), samples);
}

#[test]
fn bits_are_kept_over_a_kill_and_a_stop_and_can_be_asked_for_everywhere() {
    let server = Server::start();
    assert_eq!(server.sql("CREATE DEFAULT DETECTOR ON '{host=~\".+\"}'").status, 200);
    write(&server, 0..100);
    looked_at(&server, 200.0);
    // Killed: the log is read again, and the states are what they were.
    let server = Server::start_in(server.kill(), &[]);
    write(&server, 100..120);
    looked_at(&server, 240.0);
    // Stopped: the states are stored, and nothing is read again.
    let mut server = server;
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let server = Server::start_in(std::sync::Arc::clone(&server.dir), &[]);
    write(&server, 120..140);
    looked_at(&server, 40.0);
    assert_eq!(server.metric("foretell_default_detector_series"), 2.0);
    let seconds = "SELECT CAST(ts AS BIGINT) / 1000000000, host FROM load WHERE anomalous ORDER BY ts";
    let second = |row: i64| json!(START_MS / 1_000 + row * 15);
    assert_eq!(server.rows(seconds), [[second(80), json!("a")], [second(130), json!("a")]]);
    let end = START_MS / 1_000 + 139 * 15;
    let query = "sum%20by%20(host)%20(sum_over_time(load%7B__value__%3D%22anomalous%22%7D%5B1h%5D))";
    let answer = server.get(&format!("/api/v1/query?time={end}&query={query}")).json();
    let mut sums: Vec<(String, String)> = answer["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&one["metric"]["host"]), text(&one["value"][1]))
        })
        .collect();
    sums.sort();
    assert_eq!(sums, [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "0".to_owned())]);
}
