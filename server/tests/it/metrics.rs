//! The server's own metrics.
use crate::support::{Series, Server};

#[test]
fn metrics_follow_what_happens() {
    let server = Server::start();
    assert_eq!(server.write(&[Series::of("t_metrics", "a").sample(1_000, 1.0).sample(i64::MAX, 1.0)]).status, 400);
    assert_eq!(server.write_bytes(b"broken").status, 400);
    assert_eq!(server.sql("SELECT 1").status, 200);
    assert_eq!(server.sql("SELEC 1").status, 400);
    assert_eq!(server.sql("SELECT log_template('took 5 ms')").status, 200);
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let text = &answer.text;
    assert!(text.ends_with("# EOF\n"));
    for line in [
        "foretell_remote_write_samples_total 1",
        "foretell_remote_write_requests_total{protocol=\"1.0\",status=\"400\"} 2",
        "foretell_remote_write_samples_dropped_total{reason=\"timestamp_out_of_range\"} 1",
        "foretell_queries_total{outcome=\"ok\"} 2",
        "foretell_queries_total{outcome=\"bad_data\"} 1",
        "foretell_engine_samples_written_total 1",
        "foretell_engine_active_series 1",
        "foretell_ready 1",
        "foretell_log_templates 1",
        "foretell_log_template_lines_refused_total 0",
        "foretell_http_requests_total{route=\"/api/v1/sql\",method=\"POST\",status=\"200\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.contains("foretell_remote_write_decode_errors_total{cause="), "{text}");
    assert!(server.metric("foretell_engine_wal_syncs_total") >= 1.0);
    assert!(server.metric("foretell_log_template_bytes") > 0.0);
    assert!(server.metric("process_resident_memory_bytes") > 1e6);
    assert!(server.metric("process_open_fds") > 3.0);
    assert!(server.metric("foretell_query_duration_seconds_count") >= 2.0);
}

#[test]
fn every_family_is_described_once_and_samples_stay_together() {
    let server = Server::start();
    server.sql("SELECT 1");
    let text = server.get("/metrics").text;
    let mut seen = std::collections::HashSet::new();
    for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
        assert!(seen.insert(line.split(' ').nth(2).unwrap().to_owned()), "{line}");
    }
    assert!(seen.len() > 25);
}
