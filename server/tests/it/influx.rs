//! InfluxDB line protocol against the real binary.
use std::io::Write as _;

use crate::support::{Server, now_ms, run_example};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn fields_become_metrics_and_tags_labels() {
    let server = Server::start();
    let lines = "cpu.load,host=a,data-center=b\\ c one=0.5,value=2i,up=t,note=\"text\" 1700000000123456789\n\
                 # a comment\n\
                 cpu.load,host=z one=1 1700000000000000000\n";
    let answer = server.post("/write?db=telegraf&rp=x", &[], lines.as_bytes());
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let rows = server.rows("SELECT host, data_center, ts, value FROM metrics.\"cpu_load_one\" ORDER BY host");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], [serde_json::json!("a"), "b c".into(), "2023-11-14T22:13:20.123456789Z".into(), 0.5.into()]);
    assert_eq!(rows[1][0], "z");
    assert_eq!(server.rows("SELECT value FROM metrics.\"cpu_load\"")[0][0], 2.0);
    assert_eq!(server.rows("SELECT value FROM metrics.\"cpu_load_up\"")[0][0], 1.0);
    assert_eq!(server.metric("foretell_influx_text_fields_skipped_total"), 1.0);
    assert_eq!(server.metric("foretell_ingest_samples_total"), 4.0);
}

#[test]
fn precision_compression_and_the_time_of_arrival() {
    let server = Server::start();
    for (precision, ts) in [("ns", 7_000_000_000i64), ("us", 7_000_000), ("ms", 7_000), ("s", 7)] {
        let line = format!("m,p={precision} value=1 {ts}");
        let answer = server.post(&format!("/api/v2/write?org=o&bucket=b&precision={precision}"), &[], line.as_bytes());
        assert_eq!(answer.status, 204, "{}", answer.text);
    }
    assert_eq!(server.post("/write?precision=m", &[], b"m,p=m value=1 2").status, 204);
    let rows = server.rows("SELECT DISTINCT ts FROM metrics.\"m\" WHERE p <> 'm'");
    assert_eq!(rows, [["1970-01-01T00:00:07.000000000Z"]]);
    let answer = server.post("/write?precision=fortnight", &[], b"m v=1 1");
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("known: ns, us, ms, s, m, h"), "{}", answer.text);

    let headers = [("Content-Encoding", "gzip")];
    assert_eq!(server.post("/write", &headers, &gzip(b"zipped value=1 1")).status, 204);
    let headers = [("Content-Encoding", "zstd")];
    assert_eq!(server.post("/write", &headers, &zstd::encode_all(&b"zipped value=1 2"[..], 3).unwrap()).status, 204);
    assert_eq!(server.count("zipped"), 2);
    assert_eq!(server.post("/write", &[("Content-Encoding", "br")], b"x").status, 415);
    assert_eq!(server.post("/write", &[("Content-Encoding", "gzip")], b"no gzip").status, 400);

    let before = now_ms();
    assert_eq!(server.post("/write", &[], b"now value=1").status, 204);
    let sql = format!("SELECT count(*) FROM metrics.\"now\" WHERE ts >= to_timestamp_millis({before})");
    assert_eq!(server.rows(&sql)[0][0], 1);
}

#[test]
fn a_bad_line_is_named_and_takes_no_other_with_it() {
    let server = Server::start();
    let far = (now_ms() + 2 * 86_400_000) * 1_000_000;
    for (bad, what) in [
        ("m".to_owned(), "no fields"),
        ("m v=abc".to_owned(), "neither a number"),
        ("m v=1 1.5".to_owned(), "no whole number"),
        (format!("m v=1 {far}"), "too far ahead"),
        ("m,a=1,a=2 v=1 1".to_owned(), "duplicate label name \"a\""),
        (format!("m,a={} v=1 1", "x".repeat(5_000)), "the limit is 4096"),
    ] {
        let body = format!("kept v=1 1\n\n{bad}\nkept v=2 2\n");
        let answer = server.post("/write", &[], body.as_bytes());
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text);
        let error = answer.error();
        assert!(error.contains(what) && error.contains("(line 3"), "{bad}: {error}");
        assert!(error.contains("; 1 lines refused, others kept") && error.contains("2 samples stored"), "{error}");
        assert_eq!(server.count("kept_v"), 2);
    }
    let answer = server.post("/write", &[], b"kept v=3 3\nm,a=\xff v=1 1\n");
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("not UTF-8 (line 2)"), "{}", answer.text);
    assert_eq!(server.count("kept_v"), 3);
    let refused = "foretell_ingest_points_refused_total{protocol=\"influx\",reason=\"bad_point\"}";
    assert_eq!(server.metric(refused), 4.0);
}

#[test]
fn bombs_are_refused_and_memory_stays_flat() {
    let mut server = Server::start();
    assert_eq!(server.post("/write", &[], b"m v=1 1").status, 204);
    let before = server.metric("process_resident_memory_bytes");
    let zeros = vec![b'\n'; 512 << 20];
    let bombs = [("gzip", gzip(&zeros)), ("zstd", zstd::encode_all(&zeros[..], 3).unwrap())];
    let tags: String = (0..100_000).map(|i| format!(",t{i}=x")).collect();
    for _ in 0..10 {
        for (encoding, bomb) in &bombs {
            let answer = server.post("/write", &[("Content-Encoding", encoding)], bomb);
            assert_eq!(answer.status, 413, "{}", answer.text);
        }
        let answer = server.post("/write", &[], format!("kept v=1 1\nm{tags} v=1 1\n").as_bytes());
        assert_eq!(answer.status, 400);
        assert!(answer.error().contains("more tags"), "{}", answer.text);
    }
    let fields: Vec<String> = (0..16_385).map(|i| format!("f{i}=1")).collect();
    let answer = server.post("/write", &[], format!("m {} 1\nkept v=1 1\n", fields.join(",")).as_bytes());
    assert!(answer.status == 400 && answer.error().contains("more than 16384 fields"), "{}", answer.text);
    // Sixty long tags in front of sixteen thousand fields: references, not copies.
    let tags: String = (0..60).map(|i| format!(",t{i}={}", "x".repeat(1_000))).collect();
    let fields: Vec<String> = (0..16_000).map(|i| format!("f{i}=1")).collect();
    let answer = server.post("/write", &[], format!("wide{tags} {} 1\n", fields.join(",")).as_bytes());
    assert!(matches!(answer.status, 204 | 400 | 413 | 429), "{}", answer.text);
    assert_eq!(server.count("kept_v"), 1);
    let after = server.metric("process_resident_memory_bytes");
    assert!(after - before < 250e6, "resident memory grew from {before} to {after}");
    assert!(server.is_alive());
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let server = Server::start();
    for i in 0..20 {
        assert_eq!(server.post("/write", &[], format!("acked v={i} {i}").as_bytes()).status, 204);
    }
    let dir = server.kill();
    let server = Server::start_in(dir, &[]);
    assert_eq!(server.count("acked_v"), 20);
}

#[test]
fn clients_of_either_version_find_the_message_and_a_full_index_asks_for_a_retry() {
    let server = Server::start_with_file("[limits]\nactive_series_max = 1\n");
    assert_eq!(server.post("/api/v2/write?org=o&bucket=b", &[], b"known v=1 1\n").status, 204);
    let answer = server.post("/api/v2/write", &[], b"known v=2 2\nfresh v=1 1\n");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (429, Some("too many requests")), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "60");
    assert_eq!(server.count("known_v"), 2, "known series go on");
    let answer = server.post("/api/v2/write", &[("Authorization", "Token any")], b"no line\n");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("invalid")), "{}", answer.text);
    assert_eq!(answer.json()["message"], answer.error());
    assert_eq!(answer.header("content-type"), "application/json");
    let answer = server.post("/write", &[], &vec![b'\n'; 9 << 20]);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("request too large")), "{}", answer.text);
    assert_eq!(server.get("/write").status, 405);
}

#[test]
fn the_example_of_the_documentation_runs() {
    let server = Server::start();
    let said = run_example(&server, "influx.md");
    assert!(said.contains("2023-11-14") && said.contains("web-1") && said.contains("0.42"), "{said}");
    assert_eq!(server.rows("SELECT value FROM metrics.\"cpu_cores\"")[0][0], 8.0);
}
