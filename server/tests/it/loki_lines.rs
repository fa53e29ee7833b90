//! Loki push, line by line: what becomes of lines that are not as they should be, and of what is in them.
use crate::loki::{PATH, PROTOBUF, entry, field, request, varint};
use crate::support::{Server, compress, now_ms};

#[test]
fn good_lines_of_a_partly_bad_request_are_kept_and_counted() {
    let server = Server::start();
    let future = (now_ms() / 1000 + 3 * 86_400) as u64;
    let long = "x".repeat((256 << 10) + 1);
    let many: Vec<(String, String)> = (0..65).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (bad, part) in [
        (entry(future, 0, "x", &[]), "too far ahead"),
        (entry(u64::MAX >> 1, 0, "x", &[]), "outside the years"),
        (entry(1, 0, &long, &[]), "exceeds the limit of 262144"),
        (entry(1, 0, "x", &many), "65 metadatas exceed the limit of 64"),
    ] {
        let answer = server.post(PATH, &[PROTOBUF], &request("{app=\"shop\"}", &[entry(7, 0, "good", &[]), bad]));
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(
            answer.text.contains(part) && answer.text.contains("1 lines dropped, 1 lines stored"),
            "{}",
            answer.text
        );
    }
    for labels in ["{}", "{__service__=\"x\"}", "{app=\"a\", app=\"b\"}"] {
        let answer = server.post(PATH, &[PROTOBUF], &request(labels, &[entry(8, 0, "x", &[])]));
        assert_eq!(answer.status, 400, "{labels}: {}", answer.text);
    }
    assert_eq!(server.rows("SELECT body FROM logs"), [["good"]]);
}

#[test]
fn a_line_that_is_not_utf_8_is_counted_and_the_others_are_kept() {
    let server = Server::start();
    let at = |seconds: u64| field(1, &varint(1, seconds));
    let bad_line = [at(1), field(2, b"caf\xe9")].concat();
    let bad_value = [at(2), field(2, b"x"), field(3, &[field(1, b"user"), field(2, b"\xff")].concat())].concat();
    let bad_name = [at(3), field(2, b"x"), field(3, &field(1, b"\xff"))].concat();
    let entries = [entry(4, 0, "good", &[]), bad_line, bad_value, bad_name, entry(5, 0, "good too", &[])];
    let answer = server.post(PATH, &[PROTOBUF], &request("{app=\"shop\"}", &entries));
    assert_eq!(answer.status, 400);
    assert_eq!(answer.error(), "a line is not UTF-8; send texts; 3 lines dropped, 2 lines stored");
    // A stream whose labels cannot be read takes none of the others with it.
    let stream = |labels: &[u8], line: &str| field(1, &[field(1, labels), field(2, &entry(6, 0, line, &[]))].concat());
    for (labels, part) in
        [(&b"{app=\"\xff\"}"[..], "labels of a stream are not UTF-8"), (&b"{app}"[..], "no '=' at byte 4")]
    {
        let body = [stream(labels, "lost"), stream(b"{app=\"db\"}", "of another stream")].concat();
        let answer = server.post(PATH, &[PROTOBUF], &compress(&body));
        assert_eq!(answer.status, 400);
        assert!(answer.error().contains(part), "{}", answer.text);
        assert!(answer.error().ends_with("; 1 lines dropped, 1 lines stored"), "{}", answer.text);
    }
    assert_eq!(server.rows("SELECT body FROM logs ORDER BY ts"), [["good"], ["good too"], ["of another stream"]]);
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("foretell_loki_push_lines_dropped_total{reason=\"not_utf8\"} 3\n"), "{metrics}");
}

#[test]
fn of_several_ids_of_a_line_the_first_that_is_one_has_the_column_and_another_stays_an_attribute() {
    let server = Server::start();
    let (a, b) = ("0af7651916cd43dd8448eb211c80319c", "ffffffffffffffffffffffffffffffff");
    let (span, other_span) = ("00f067aa0ba902b7", "1111111111111111");
    let lines: [&[(&str, &str)]; 5] = [
        &[("trace_id", a), ("trace_id", b)],
        &[("trace_id", "no id"), ("user", "u"), ("trace_id", b), ("span_id", span)],
        &[("trace_id", ""), ("trace_id", a)],
        &[("trace_id", a), ("trace_id", a), ("span_id", span), ("span_id", other_span)],
        &[("trace_id", "x"), ("trace_id", "y")],
    ];
    let entries: Vec<Vec<u8>> = (1..).zip(lines).map(|(n, metadata)| entry(n, 0, "x", metadata)).collect();
    assert_eq!(server.post(PATH, &[PROTOBUF], &request("{app=\"shop\"}", &entries)).status, 204);
    let columns = "trace_id, attributes['trace_id'], span_id, attributes['span_id'], attributes['user']";
    let rows = server.rows(&format!("SELECT {columns} FROM logs ORDER BY ts"));
    assert_eq!(
        serde_json::json!(rows),
        serde_json::json!([
            [a, b, null, null, null],
            [b, "no id", span, null, "u"],
            [a, "", null, null, null],
            [a, null, span, other_span, null],
            [null, "x", null, null, null],
        ])
    );
    let found = server.rows(&format!("SELECT count(*) FROM logs WHERE trace_id = '{a}'"));
    assert_eq!(found[0], [3]);
}

#[test]
fn columns_that_one_batch_of_a_request_adds_count_for_the_next() {
    // Two batches of 8,192 lines: each has as many keys as a table may have columns, and each key in one line of 128.
    let server = Server::start();
    let keys: Vec<String> = (0..1_024).map(|key| format!("k{key}")).collect();
    let entries: Vec<Vec<u8>> = (0..16_384)
        .map(|n| {
            let first = n / 8_192 * 512 + n % 128 * 4;
            let metadata: Vec<(&str, &str)> = keys[first..first + 4].iter().map(|key| (key.as_str(), "v")).collect();
            entry(n as u64, 0, "x", &metadata)
        })
        .collect();
    let answer = server.post(PATH, &[PROTOBUF], &request("{app=\"shop\"}", &entries));
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let counts = ["k0", "k511", "k512", "k1023"].map(|key| format!("count(attributes['{key}'])")).join(", ");
    let rows = server.rows(&format!("SELECT count(*), {counts} FROM logs"));
    assert_eq!(rows[0], [16_384, 64, 64, 64, 64]);
}
