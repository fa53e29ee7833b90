//! What senders may send, and what becomes of what they should not.
use crate::support::{Series, Server, body, compress, encode, now_ms, wait_until};

const STALE: u64 = 0x7ff0_0000_0000_0002;

#[test]
fn samples_come_back_as_they_were_sent() {
    let server = Server::start();
    let now = now_ms() / 1000 * 1000;
    let answer = server.write(&[
        Series::of("t_write", "b").sample(now, 2.5).sample(now + 1000, f64::from_bits(STALE)),
        Series::of("t_write", "a").sample(0, -0.0).sample(now, f64::INFINITY),
    ]);
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let rows = server.rows("SELECT job, ts, value FROM metrics.\"t_write\" ORDER BY job, ts");
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0], [serde_json::json!("a"), "1970-01-01T00:00:00.000000000Z".into(), (-0.0).into()]);
    assert_eq!(rows[1][2], "Infinity");
    assert_eq!(rows[2][2], 2.5);
    assert_eq!(rows[3][2], "NaN");
}

#[test]
fn sending_again_changes_nothing() {
    let server = Server::start();
    let series = [Series::of("t_again", "a").sample(1_000, 1.0).sample(2_000, 2.0)];
    for _ in 0..3 {
        assert_eq!(server.write(&series).status, 204);
    }
    assert_eq!(server.count("t_again"), 2);
}

#[test]
fn label_order_does_not_make_another_series() {
    let server = Server::start();
    for labels in [[("__name__", "t_order"), ("a", "1"), ("z", "2")], [("z", "2"), ("__name__", "t_order"), ("a", "1")]]
    {
        assert_eq!(server.write(&[Series::new(&labels).sample(1_000, 1.0)]).status, 204);
    }
    assert_eq!(server.count("t_order"), 1);
    assert_eq!(
        server
            .write(&[Series::new(&[("__name__", "t_order"), ("a", "1"), ("empty", ""), ("z", "2")]).sample(1_000, 1.0)])
            .status,
        204
    );
    assert_eq!(server.count("t_order"), 1, "a label with an empty value is no label");
}

#[test]
fn malformed_requests_store_nothing_and_get_400() {
    let mut server = Server::start();
    let good = encode(&[Series::of("t_malformed", "a").sample(1_000, 1.0)]);
    let mut broken = good.clone();
    broken.extend_from_slice(&[0x0a, 0x7f, 0x01]);
    let whole = compress(&good);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("truncated snappy", whole[..whole.len() - 3].to_vec()),
        ("no snappy at all", b"hello, this is no snappy block".to_vec()),
        ("a length beyond the end", compress(&broken)),
        ("a wrong wire type", compress(&[0x08, 0x01])),
        ("text", compress(b"{\"timeseries\":[]}")),
        ("a group", compress(&[0x0b, 0x0c])),
    ] {
        let answer = server.write_bytes(&bytes);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text);
        assert!(answer.error().starts_with("cannot de"), "{what}: {}", answer.text);
    }
    assert_eq!(server.rows("SELECT count(*) FROM samples")[0][0], 0);
    assert!(server.is_alive());
    assert_eq!(server.write_bytes(&compress(&[])).status, 204, "an empty request is a request");
}

#[test]
fn bombs_are_refused_before_memory_is_spent() {
    let mut server = Server::start();
    server.write(&[Series::of("t_bomb", "a").sample(1_000, 1.0)]);
    let before = server.metric("process_resident_memory_bytes");
    for _ in 0..20 {
        // 4 GiB - 1 in the header, of snappy's maximum; then a ratio beyond reason; then too many bytes.
        let answer = server.write_bytes(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]);
        assert_eq!(answer.status, 413, "{}", answer.text);
        assert!(answer.error().contains("4294967295"), "{}", answer.text);
        assert_eq!(server.write_bytes(&[0x80, 0x80, 0x40, 0x00]).status, 413);
        assert_eq!(server.write_bytes(&compress(&vec![0; 40 << 20])).status, 413);
    }
    // As many tiny messages as fit: 16 million samples of two bytes each.
    let mut series = vec![0x0a, 0x06, 0x0a, 0x01, b'a', 0x12, 0x01, b'b'];
    series.extend_from_slice(&[0x12, 0x00].repeat(8 << 20));
    let mut request = vec![0x0a, 0, 0, 0, 0];
    let len = series.len() as u32;
    for (i, byte) in request[1..].iter_mut().enumerate() {
        *byte = (len >> (7 * i)) as u8 & 0x7f | if i < 3 { 0x80 } else { 0 };
    }
    request.extend_from_slice(&series);
    let answer = server.write_bytes(&compress(&request));
    assert_eq!(answer.status, 413, "{}", answer.text);
    let after = server.metric("process_resident_memory_bytes");
    assert!(after - before < 150e6, "resident memory grew from {before} to {after}");
    assert!(server.is_alive());
}

#[test]
fn a_body_above_the_wire_limit_is_refused() {
    let server = Server::start();
    let head = "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\nConnection: close\r\n";
    let answer = server.raw(format!("{head}Content-Length: 99999999\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = server.write_bytes(&vec![1; 20 << 20]);
    assert_eq!(answer.status, 413, "a sender that sends it all before it reads still gets the answer");
}

#[test]
fn faults_are_named_and_valid_samples_of_the_same_request_kept() {
    let server = Server::start();
    let huge = "v".repeat(1 << 20);
    let far = now_ms() + 2 * 86_400_000;
    let cases: Vec<(&str, Series, &str)> = vec![
        (
            "t_dup",
            Series::new(&[("__name__", "t_dup_x"), ("a", "1"), ("a", "2")]).sample(1_000, 1.0),
            "duplicate label name \"a\"",
        ),
        ("t_empty", Series::new(&[("__name__", "t_empty_x"), ("", "1")]).sample(1_000, 1.0), "empty name"),
        ("t_none", Series::new(&[] as &[(&str, &str)]).sample(1_000, 1.0), "series without labels"),
        ("t_huge", Series::new(&[("__name__", "t_huge_x"), ("a", huge.as_str())]).sample(1_000, 1.0), "1048576 bytes"),
        (
            "t_utf8",
            Series::new(&[(&b"__name__"[..], &b"t_utf8_x"[..]), (b"a", b"\xff\xfe")]).sample(1_000, 1.0),
            "not UTF-8",
        ),
        ("t_max", Series::of("t_max_x", "x").sample(i64::MAX, 1.0), "outside the years"),
        ("t_min", Series::of("t_min_x", "x").sample(i64::MIN, 1.0), "outside the years"),
        ("t_far", Series::of("t_far_x", "x").sample(far, 1.0), "too far ahead"),
    ];
    for (metric, bad, expected) in cases {
        let good = |job: &str| Series::of(metric, job).sample(1_000, 1.0).sample(2_000, 2.0);
        let answer = server.write(&[good("first"), bad, good("last")]);
        assert_eq!(answer.status, 400, "{metric}: {}", answer.text);
        let error = answer.error();
        assert!(
            error.contains(expected) && error.contains("; 1 samples dropped, 4 samples stored"),
            "{metric}: {error}"
        );
        assert!(error.len() < 2_000, "{}", error.len());
        assert_eq!(server.count(metric), 4, "{metric}");
        // A retry must meet the same verdict, not an error of a half-known series.
        assert_eq!(server.write(&[good("first"), good("last")]).status, 204);
    }
    assert_eq!(server.rows("SELECT count(*) FROM samples WHERE metric LIKE 't\\_%\\_x'")[0][0], 0);
}

#[test]
fn a_far_future_timestamp_does_not_block_later_writes() {
    let server = Server::start();
    let now = now_ms();
    let answer = server.write(&[Series::of("t_future", "a").sample(now + 10 * 86_400_000, 1.0)]);
    assert_eq!(answer.status, 400);
    assert_eq!(server.write(&[Series::of("t_future", "a").sample(now + 3_600_000, 1.0)]).status, 204);
    assert_eq!(server.write(&[Series::of("t_future", "a").sample(now, 1.0)]).status, 204);
    assert_eq!(server.count("t_future"), 2);
}

#[test]
fn histograms_and_exemplars_of_1_0_are_stored() {
    let server = Server::start();
    let answer = server.write(&[Series::of("t_native", "a").sample(1_000, 1.0).histogram()]);
    assert_eq!((answer.status, answer.header("x-prometheus-remote-write-histograms-written")), (204, "1"));
    assert_eq!(server.write(&[Series::of("t_native", "b").exemplar()]).status, 204);
    assert_eq!(server.count("t_native"), 1);
    assert_eq!(server.rows("SELECT labels['job'], count FROM histograms"), [["a".into(), serde_json::json!(0.0)]]);
    assert_eq!(server.rows("SELECT labels['job'], value FROM exemplars"), [["b".into(), serde_json::json!(0.0)]]);
    assert_eq!(server.metric("foretell_remote_write_exemplars_total"), 1.0);
    assert_eq!(server.metric("foretell_remote_write_histograms_total"), 1.0);
}

#[test]
fn other_content_is_refused_with_a_list_of_what_is_accepted() {
    let server = Server::start();
    let body = body(&[Series::of("t_content", "a").sample(1_000, 1.0)]);
    let send = |encoding: &str, content_type: &str| {
        server.post("/api/v1/write", &[("Content-Encoding", encoding), ("Content-Type", content_type)], &body)
    };
    for (encoding, content_type) in [
        ("gzip", "application/x-protobuf"),
        ("snappy", "application/json"),
        ("snappy", "application/x-protobuf;proto=io.prometheus.write.v3.Request"),
        ("zstd", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ] {
        let answer = send(encoding, content_type);
        assert_eq!(answer.status, 415, "{encoding} {content_type}");
        assert!(answer.error().contains("application/x-protobuf;proto=prometheus.WriteRequest"), "{}", answer.text);
        assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "");
    }
    let answer = send("snappy", "application/x-protobuf;proto=prometheus.WriteRequest");
    assert_eq!((answer.status, answer.header("x-prometheus-remote-write-samples-written")), (204, "1"));
}

#[test]
fn the_series_limit_refuses_only_new_series() {
    let server = Server::start_with_file("[limits]\nactive_series_max = 3\n");
    let jobs = |range: std::ops::Range<i64>, ts| -> Vec<Series> {
        range.map(|job| Series::of("t_limit", &job.to_string()).sample(ts, 1.0)).collect()
    };
    assert_eq!(server.write(&jobs(0..3, 1_000)).status, 204);
    let answer = server.write(&jobs(0..5, 2_000));
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    assert!(answer.error().contains("2 samples dropped, 3 samples stored"), "{}", answer.text);
    assert_eq!(server.write(&jobs(0..3, 3_000)).status, 204);
    assert_eq!(server.count("t_limit"), 9);
}

#[test]
fn many_senders_lose_nothing() {
    let server = Server::start();
    let (senders, requests, series) = (4, 25, 100);
    std::thread::scope(|scope| {
        for sender in 0..senders {
            let server = &server;
            scope.spawn(move || {
                for request in 0..requests {
                    let batch: Vec<_> = (0..series)
                        .map(|i| {
                            Series::of("t_many", &format!("{sender}-{i}")).sample(request * 1_000, (request * i) as f64)
                        })
                        .collect();
                    assert_eq!(server.write(&batch).status, 204);
                }
            });
        }
    });
    assert_eq!(server.count("t_many"), (senders * requests * series) as u64);
    assert_eq!(server.metric("foretell_remote_write_samples_total"), (senders * requests * series) as f64);
}

#[test]
fn bytes_in_flight_are_bounded() {
    let server = Server::start_with_file("[limits]\nin_flight_bytes_max = \"40MiB\"\n");
    let good = [Series::of("t_busy", "a").sample(1_000, 1.0)];
    let slow: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = server.connect();
            let len = 8 << 20;
            std::io::Write::write_all(
                &mut stream,
                format!("POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n").as_bytes(),
            )
            .unwrap();
            stream
        })
        .collect();
    wait_until("five large requests are in flight", || server.metric("foretell_remote_write_in_flight_bytes") >= 4e7);
    let answer = server.write(&good);
    assert_eq!((answer.status, answer.header("retry-after")), (429, "1"), "{}", answer.text);
    drop(slow);
    wait_until("their senders have gone", || server.metric("foretell_remote_write_in_flight_bytes") == 0.0);
    assert_eq!(server.write(&good).status, 204);
}

#[test]
fn a_retention_drops_old_partitions_and_refuses_samples_that_it_would_not_keep() {
    let server = Server::start();
    let (now, old) = (now_ms(), now_ms() - 40 * 86_400_000);
    server.write(&[Series::of("t_retention", "a").sample(old, 1.0).sample(now, 2.0)]);
    assert_eq!(server.rows("SELECT count(*) FROM sys.partitions WHERE expires_at IS NOT NULL")[0][0], 0);
    assert_eq!(server.count("t_retention"), 2, "kept for ever unless a retention is set");
    let dir = server.stop();
    let server = Server::start_in(dir, &["--retention-age", "30d"]);
    wait_until("the old partition is dropped", || server.metric("foretell_engine_partitions_dropped_total") == 1.0);
    assert_eq!(server.count("t_retention"), 1);
    assert_eq!(server.metric("foretell_engine_partitions"), 1.0);
    let kept = "SELECT count(*) FROM sys.partitions WHERE expires_at > now() + INTERVAL '29 days'";
    assert_eq!(server.rows(kept)[0][0], 1);
    let answer = server.write(&[Series::of("t_retention", "a").sample(old, 1.0).sample(now + 1, 3.0)]);
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("past the retention"), "{}", answer.text);
    assert_eq!(server.count("t_retention"), 2, "the rest of the request is stored");
}
