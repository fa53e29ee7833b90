//! Loki push: what clients send is what SQL shows, and what becomes of what they should not send.
use std::io::Write as _;

use crate::support::{Server, compress, now_ms};

const PATH: &str = "/loki/api/v1/push";
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![(number << 3) | 2];
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
    out
}

fn varint(number: u8, mut value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn entry(seconds: u64, nanos: u64, line: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let timestamp = [varint(1, seconds), varint(2, nanos)].concat();
    let mut out = [field(1, &timestamp), field(2, line.as_bytes())].concat();
    for (name, value) in metadata {
        out.extend(field(3, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat()));
    }
    out
}

fn request(labels: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = field(1, labels.as_bytes());
    entries.iter().for_each(|entry| stream.extend(field(2, entry)));
    compress(&field(1, &stream))
}

#[test]
fn lines_of_both_forms_come_back_and_sending_again_changes_nothing() {
    let server = Server::start();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let metadata = [("trace_id", trace), ("level", "warn"), ("user", "u1")];
    let entries = [entry(1_000, 5, "hellö wörld", &metadata), entry(1_001, 0, "second", &[])];
    let body = request(r#"{app="shop", host="a"}"#, &entries);
    let json = r#"{"streams": [{"stream": {"host": "a", "app": "shop"}, "values": [["1002000000000", "third", {"span_id": "no id"}]]}]}"#;
    for _ in 0..2 {
        let answer = server.post(PATH, &[PROTOBUF], &body);
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
        let answer = server.post(PATH, &[JSON], json.as_bytes());
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    let columns = "ts, service, severity, severity_number, body, trace_id, span_id, attributes['user'], attributes['span_id'], resource['host']";
    let rows = server.rows(&format!("SELECT {columns} FROM logs ORDER BY ts"));
    let null = serde_json::Value::Null;
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(
        serde_json::Value::from(rows[0].clone()),
        serde_json::json!([
            "1970-01-01T00:16:40.000000005Z",
            "shop",
            "warn",
            13,
            "hellö wörld",
            trace,
            null,
            "u1",
            null,
            "a"
        ])
    );
    assert_eq!(rows[1][4], "second");
    assert_eq!((rows[2][4].clone(), rows[2][6].clone(), rows[2][8].clone()), ("third".into(), null, "no id".into()));
    assert_eq!(server.rows("SELECT series FROM sys.tables WHERE name = 'logs'")[0][0], 1);
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("foretell_loki_push_lines_total 6\n"), "{metrics}");
}

#[test]
fn acknowledged_lines_survive_kill_9() {
    let server = Server::start();
    let entries: Vec<Vec<u8>> = (0..500).map(|n| entry(n, 0, &format!("line {n}"), &[("n", &n.to_string())])).collect();
    assert_eq!(server.post(PATH, &[PROTOBUF], &request("{app=\"shop\"}", &entries)).status, 204);
    let server = Server::start_in(server.kill(), &[]);
    let rows = server.rows("SELECT count(*), count(attributes['n']) FROM logs WHERE match(body, 'line')");
    assert_eq!(rows[0], [500, 500]);
}

#[test]
fn malformed_requests_store_nothing_and_get_the_right_status() {
    let server = Server::start();
    let good = request("{app=\"shop\"}", &[entry(1, 0, "x", &[])]);
    let bomb = {
        let mut bytes = vec![0xff, 0xff, 0xff, 0x7f];
        bytes.extend_from_slice(&good);
        bytes
    };
    for (what, headers, body, status) in [
        ("nothing", vec![PROTOBUF], Vec::new(), 400),
        ("no snappy", vec![PROTOBUF], b"hello, this is no snappy block".to_vec(), 400),
        ("truncated", vec![PROTOBUF], good[..good.len() - 2].to_vec(), 400),
        ("a declared length beyond the cap", vec![PROTOBUF], bomb, 413),
        ("no protobuf", vec![PROTOBUF], compress(&[0x0a, 0x7f, 1]), 400),
        ("bad labels", vec![PROTOBUF], request("app=shop", &[entry(1, 0, "x", &[])]), 400),
        ("not UTF-8", vec![PROTOBUF], compress(&field(1, &field(2, &field(2, &[0xff])))), 400),
        ("no JSON", vec![JSON], b"{".to_vec(), 400),
        ("another type", vec![("content-type", "text/plain")], good.clone(), 415),
        ("another encoding", vec![PROTOBUF, ("content-encoding", "br")], good.clone(), 415),
        ("a large body", vec![JSON], vec![b' '; (8 << 20) + 1], 413),
    ] {
        let answer = server.post(PATH, &headers, &body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        assert!(answer.text.contains("\"error\""), "{what}: {}", answer.text);
    }
    assert_eq!(server.get(PATH).status, 405);
    assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], 0);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_json_is_taken_within_the_limits_of_what_it_becomes() {
    let server = Server::start();
    let push = |line: &str| {
        format!(
            r#"{{"streams": [{{"stream": {{"app": "shop"}}, "values": [["{}", "{line}"]]}}]}}"#,
            now_ms() * 1_000_000
        )
    };
    let send = |encoding, body: &[u8]| server.post(PATH, &[JSON, ("content-encoding", encoding)], body);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for (encoding, body) in [
        ("gzip", gzip(push("of gzip").as_bytes())),
        ("GZIP", gzip(push("of capitals").as_bytes())),
        ("zstd", zstd(push("of zstd").as_bytes())),
        ("identity", push("as it is").into_bytes()),
    ] {
        let answer = send(encoding, &body);
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{encoding}");
    }
    let found = server.rows("SELECT body FROM logs ORDER BY body");
    assert_eq!(found, [["as it is"], ["of capitals"], ["of gzip"], ["of zstd"]]);
    let whole = gzip(push("x").as_bytes());
    let bomb = vec![b' '; 64 << 20];
    for (what, encoding, body, status) in [
        ("truncated", "gzip", whole[..whole.len() - 4].to_vec(), 400),
        ("no gzip", "gzip", push("x").into_bytes(), 400),
        ("no zstd", "zstd", whole.clone(), 400),
        ("no JSON inside", "gzip", gzip(b"{"), 400),
        ("a bomb of gzip", "gzip", gzip(&bomb), 413),
        ("a bomb of zstd", "zstd", zstd(&bomb), 413),
        ("a bomb in a bomb", "gzip", gzip(&gzip(&bomb)), 400),
        ("another encoding", "deflate", whole.clone(), 415),
        ("two encodings", "gzip, gzip", gzip(&whole), 415),
    ] {
        let answer = send(encoding, &body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
    }
    assert_eq!(server.rows("SELECT count(*) FROM logs")[0][0], 4);
    let metrics = server.get("/metrics").text;
    for counted in ["{cause=\"malformed\"} 5", "{cause=\"too_large\"} 2"] {
        assert!(
            metrics.contains(&format!("foretell_loki_push_decode_errors_total{counted}\n")),
            "{counted}: {metrics}"
        );
    }
}

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

/// The answer to a GET with these parameters.
fn ask(server: &Server, path: &str, params: &[(&str, &str)]) -> crate::support::Answer {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    server.get(&format!("/loki/api/v1/{path}?{query}"))
}

#[test]
fn what_was_pushed_is_read_as_loki_answers() {
    let server = Server::start();
    let push = |labels: &str, entries: &[Vec<u8>]| {
        assert_eq!(server.post(PATH, &[PROTOBUF], &request(labels, entries)).status, 204);
    };
    let lines: Vec<Vec<u8>> = (0..50).map(|n| entry(1_000 + n, 7, &format!("line {n} of 100%"), &[])).collect();
    push(r#"{app="shop", host="a"}"#, &lines);
    push(r#"{app="shop", host="b"}"#, &[entry(1_010, 0, "other: done", &[("level", "warn")])]);
    push(r#"{app="db"}"#, &[entry(1_020, 0, "slow", &[])]);
    let range = [("start", "1000"), ("end", "1100")];
    let lines_of = |query: &str, more: &[(&str, &str)]| {
        let answer = ask(&server, "query_range", &[&[("query", query)][..], &range[..], more].concat());
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let json = answer.json();
        assert_eq!((json["status"].as_str(), json["data"]["resultType"].as_str()), (Some("success"), Some("streams")));
        json["data"]["result"].clone()
    };
    let newest = lines_of(r#"{app="shop"}"#, &[("limit", "2")]);
    assert_eq!(
        newest,
        serde_json::json!([{
            "stream": {"app": "shop", "host": "a"},
            "values": [["1049000000007", "line 49 of 100%"], ["1048000000007", "line 48 of 100%"]],
        }])
    );
    let forward = lines_of(r#"{app="shop"} != "line""#, &[("direction", "forward")]);
    assert_eq!(
        forward,
        serde_json::json!([{
            "stream": {"app": "shop", "host": "b", "level": "warn"},
            "values": [["1010000000000", "other: done"]],
        }])
    );
    for (query, count) in [
        (r#"{app="shop"}"#, 51),
        (r#"{app="shop", host=""}"#, 0),
        (r#"{app=~".+", host=""}"#, 1),
        (r#"{app=~"sh.*", host!="a"}"#, 1),
        (r#"{app=~"sho"}"#, 0),
        (r#"{app=~"shop|db", host!~"a|b"}"#, 1),
        (r#"{app="shop"} |= "100%""#, 50),
        (r#"{app="shop"} |= "10%""#, 0),
        (r#"{app="shop"} |= "line 4" != "line 4 ""#, 10),
        (r#"{app="shop"} |~ "line \\d " or "done""#, 11),
        (r#"{app="shop"} !~ "line \\d+ ""#, 1),
    ] {
        let streams = lines_of(query, &[("limit", "1000")]);
        let found: usize = streams.as_array().unwrap().iter().map(|s| s["values"].as_array().unwrap().len()).sum();
        assert_eq!(found, count, "{query}");
    }
    let data = |path: &str, params: &[(&str, &str)]| {
        let answer = ask(&server, path, &[params, &range[..]].concat());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()["data"].clone()
    };
    assert_eq!(data("labels", &[]), serde_json::json!(["app", "host"]));
    assert_eq!(data("label/app/values", &[]), serde_json::json!(["db", "shop"]));
    assert_eq!(data("label/host/values", &[("query", r#"{app="db"}"#)]), serde_json::json!([]));
    assert_eq!(
        data("series", &[("match[]", r#"{host="b"}"#), ("match[]", r#"{app="db"}"#)]),
        serde_json::json!([{"app": "db"}, {"app": "shop", "host": "b"}])
    );
    assert!(server.get("/api/v1/labels").json()["data"].as_array().unwrap().is_empty(), "metrics do not see them");
}

#[test]
fn queries_that_cannot_be_answered_say_why() {
    let server = Server::start();
    for (path, params, part) in [
        ("query_range", vec![], "parse error at byte 0"),
        ("query_range", vec![("query", "{app=\"x\"} | json")], "only line filters are supported"),
        ("query_range", vec![("query", "sum(rate({app=\"x\"}[5m]))")], "only log queries are supported"),
        ("query_range", vec![("query", "{app=~\"(\"}")], "regular expression"),
        ("query_range", vec![("query", "{app=\"x\"}"), ("limit", "5001")], "from 1 to 5000"),
        ("query_range", vec![("query", "{app=\"x\"}"), ("direction", "up")], "neither forward nor backward"),
        ("query_range", vec![("query", "{app=\"x\"}"), ("start", "soon")], "valid timestamp"),
        ("query_range", vec![("query", "{app=\"x\"}"), ("start", "2"), ("end", "1")], "end is before start"),
        ("labels", vec![("query", "{")], ""),
        ("series", vec![], "match[]"),
    ] {
        let answer = ask(&server, path, &params);
        assert_eq!(answer.status, 400, "{path} {params:?}: {}", answer.text);
        assert!(answer.error().contains(part), "{path} {params:?}: {}", answer.text);
    }
    let empty = ask(&server, "query_range", &[("query", "{app=\"x\"}")]);
    assert_eq!(empty.json()["data"]["result"], serde_json::json!([]));
}
