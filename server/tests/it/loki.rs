//! Loki push: what clients send is what SQL shows, and what becomes of what they should not send.
use std::io::Write as _;

use crate::support::{Server, compress, now_ms};

pub(crate) const PATH: &str = "/loki/api/v1/push";
pub(crate) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
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

pub(crate) fn varint(number: u8, mut value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

pub(crate) fn entry(seconds: u64, nanos: u64, line: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let timestamp = [varint(1, seconds), varint(2, nanos)].concat();
    let mut out = [field(1, &timestamp), field(2, line.as_bytes())].concat();
    for (name, value) in metadata {
        out.extend(field(3, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat()));
    }
    out
}

pub(crate) fn request(labels: &str, entries: &[Vec<u8>]) -> Vec<u8> {
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
fn names_of_labels_with_points_are_known_to_lines_and_index_alike() {
    let server = Server::start();
    for (labels, n) in [(r#"{app="shop", service.name="x", k8s:pod="a"}"#, 1), (r#"{app="shop", service.name="y"}"#, 2)]
    {
        let body = request(labels, &[entry(1_000, n, "line", &[])]);
        assert_eq!(server.post(PATH, &[PROTOBUF], &body).status, 204);
    }
    let get = |path: &str, name: &str, query: &str| {
        let answer = ask(&server, path, &[(name, query), ("start", "1000"), ("end", "1100")]);
        assert_eq!(answer.status, 200, "{path} {query}: {}", answer.text);
        answer.json()
    };
    for query in [r#"{service.name="x"}"#, r#"{app="shop", service.name!="y"}"#, r#"{k8s:pod=~"a|b"}"#] {
        let lines = get("query_range", "query", query);
        assert_eq!(lines["data"]["result"].as_array().unwrap().len(), 1, "{query}: {lines}");
        let series = get("series", "match[]", query);
        let expected = serde_json::json!([{"app": "shop", "service.name": "x", "k8s:pod": "a"}]);
        assert_eq!(series["data"], expected, "{query}");
        assert_eq!(get("index/stats", "query", query)["streams"], 1, "{query}");
        let names = get("labels", "query", query);
        assert_eq!(names["data"], serde_json::json!(["app", "k8s:pod", "service.name"]), "{query}");
    }
}

#[test]
fn queries_that_cannot_be_answered_say_why() {
    let server = Server::start();
    for (path, params, part) in [
        ("query_range", vec![], "parse error at byte 0"),
        ("query_range", vec![("query", "{app=\"x\"} | unpack")], "this stage is not supported"),
        ("query_range", vec![("query", "sum(rate({app=\"x\"}))")], "a range was expected"),
        ("query_range", vec![("query", "1"), ("start", "0"), ("end", "20000"), ("step", "1")], "11000 points"),
        ("query_range", vec![("query", "1"), ("step", "0")], "\"step\""),
        ("query", vec![("query", "{app=\"x\"}")], "not supported as an instant query type"),
        ("index/volume", vec![("query", "{app=\"x\"}"), ("aggregateBy", "x")], "neither series nor labels"),
        ("detected_fields", vec![("query", "{}")], "name at least one label"),
        ("patterns", vec![("query", "1")], "a metric query"),
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

/// Lines of two services, of which what is asked is counted here as well.
fn store_with_requests() -> (Server, Vec<(u64, &'static str, &'static str, u64)>) {
    let server = Server::start();
    let mut lines = Vec::new();
    for (app, host) in [("shop", "a"), ("db", "b")] {
        let entries: Vec<Vec<u8>> = (0..120)
            .map(|n| {
                let level = if n % 5 == 0 { "error" } else { "info" };
                let took = n * 7 % 50;
                lines.push((1_000 + n, app, level, took));
                let line = format!("{{\"level\":\"{level}\",\"took\":{took},\"path\":\"/item/{n}\"}}");
                entry(1_000 + n, 0, &line, &[("severity", level)])
            })
            .collect();
        let labels = format!("{{app=\"{app}\", host=\"{host}\"}}");
        assert_eq!(server.post(PATH, &[PROTOBUF], &request(&labels, &entries)).status, 204);
    }
    (server, lines)
}

fn data(server: &Server, path: &str, params: &[(&str, &str)]) -> serde_json::Value {
    let answer = ask(server, path, params);
    assert_eq!(answer.status, 200, "{path} {params:?}: {}", answer.text);
    let json = answer.json();
    assert_eq!(json["status"], "success", "{}", answer.text);
    json["data"].clone()
}

#[test]
fn metric_queries_count_what_was_pushed() {
    let (server, lines) = store_with_requests();
    let vector = |query: &str| {
        let data = data(&server, "query", &[("query", query), ("time", "1119")]);
        assert_eq!(data["resultType"], "vector", "{query}");
        assert!(data["stats"]["summary"].is_object());
        let mut found: Vec<(String, f64)> = data["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["metric"].to_string(), one["value"][1].as_str().unwrap().parse().unwrap()))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    };
    let of = |app: &'static str, level: &'static str| {
        let wanted = move |line: &&(u64, &str, &str, u64)| line.1 == app && line.2 == level && line.0 > 1_059;
        lines.iter().filter(wanted).map(|line| line.3)
    };
    assert_eq!(vector("vector(1)+vector(1)"), [("{}".to_owned(), 2.0)]);
    assert_eq!(
        vector(r#"sum by (detected_level) (count_over_time({app="shop"}[1m]))"#),
        [
            (r#"{"detected_level":"error"}"#.to_owned(), of("shop", "error").count() as f64),
            (r#"{"detected_level":"info"}"#.to_owned(), of("shop", "info").count() as f64),
        ]
    );
    assert_eq!(
        vector(r#"sum by (service_name) (rate({service_name=~"shop|db"} | json | level="error" [1m]))"#),
        ["db", "shop"].map(|app| (format!("{{\"service_name\":\"{app}\"}}"), of(app, "error").count() as f64 / 60.0))
    );
    let slow = of("db", "info").filter(|took| *took > 40).count() as f64;
    assert_eq!(
        vector(r#"sum(count_over_time({app="db"} | json | level="info" | took > 40 [1m])) > 0"#),
        [("{}".to_owned(), slow)]
    );
    let most = of("db", "error").chain(of("db", "info")).max().unwrap() as f64;
    assert_eq!(
        vector(r#"max by (app) (max_over_time({app="db"} | json | unwrap took [1m]))"#),
        [(r#"{"app":"db"}"#.to_owned(), most)]
    );
    assert_eq!(vector(r#"count(count_over_time({app="none"}[1m]))"#), []);

    let step = [("start", "1009"), ("end", "1119"), ("step", "10")];
    let query = [("query", r#"sum by (app) (count_over_time({app=~".+"}[10s]))"#)];
    let matrix = data(&server, "query_range", &[&query[..], &step[..]].concat());
    assert_eq!(matrix["resultType"], "matrix");
    let result = matrix["result"].as_array().unwrap();
    assert_eq!(result.len(), 2, "{matrix}");
    for one in result {
        let points = one["values"].as_array().unwrap();
        assert_eq!(points.len(), 12, "{one}");
        assert!(points.iter().all(|point| point[1] == "10"), "{one}");
        assert_eq!(points[0][0], 1_009);
    }
    // A line with an error makes no number, unless that is asked for.
    let plain = request(r#"{app="shop"}"#, &[entry(1_100, 5, "no json", &[])]);
    assert_eq!(server.post(PATH, &[PROTOBUF], &plain).status, 204);
    let query = r#"sum(count_over_time({app="shop"} | json [1m]))"#;
    let answer = ask(&server, "query", &[("query", query), ("time", "1119")]);
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(answer.error().contains("pipeline error: 'JSONParserErr'"), "{}", answer.text);
    assert_eq!(vector(&query.replace(" [1m]", " | __error__=\"\" [1m]")), [("{}".to_owned(), 60.0)]);
}

#[test]
fn lines_come_through_their_stages_newest_first() {
    let (server, lines) = store_with_requests();
    let params = [
        ("query", r#"{app="shop"} | json | level_extracted=~".*" | took >= 45 | line_format "{{.path}}""#),
        ("start", "1000"),
        ("end", "1200"),
        ("limit", "5"),
    ];
    let found = data(&server, "query_range", &params);
    let mut shown: Vec<(u64, String)> = Vec::new();
    for stream in found["result"].as_array().unwrap() {
        assert!(stream["stream"]["took"].as_str().unwrap().parse::<u64>().unwrap() >= 45, "{stream}");
        for value in stream["values"].as_array().unwrap() {
            let ts: u64 = value[0].as_str().unwrap().parse().unwrap();
            shown.push((ts / 1_000_000_000, value[1].as_str().unwrap().to_owned()));
        }
    }
    shown.sort_unstable_by(|a, b| b.cmp(a));
    let expected: Vec<(u64, String)> = lines
        .iter()
        .rev()
        .filter(|line| line.1 == "shop" && line.3 >= 45)
        .map(|line| (line.0, format!("/item/{}", line.0 - 1_000)))
        .take(5)
        .collect();
    assert_eq!(shown, expected);

    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("query", r#"{app="shop"} | json | level="info""#),
            ("start", "1000"),
            ("end", "1200"),
            ("limit", "1"),
        ])
        .finish();
    let flags = [("x-loki-response-encoding-flags", "categorize-labels")];
    let answer = server.get_with(&format!("/loki/api/v1/query_range?{query}"), &flags);
    let json = answer.json();
    assert_eq!(json["data"]["encodingFlags"], serde_json::json!(["categorize-labels"]), "{}", answer.text);
    let stream = &json["data"]["result"][0];
    assert_eq!(stream["stream"], serde_json::json!({"app": "shop", "host": "a"}));
    assert_eq!(stream["values"][0][2]["structuredMetadata"], serde_json::json!({"severity": "info"}));
    assert_eq!(stream["values"][0][2]["parsed"]["path"], "/item/119");
}

#[test]
fn what_logs_drilldown_asks_is_answered() {
    let (server, _) = store_with_requests();
    let range = [("start", "1000"), ("end", "1200")];
    let get = |path: &str, params: &[(&str, &str)]| {
        let answer = ask(&server, path, &[params, &range[..]].concat());
        assert_eq!(answer.status, 200, "{path} {params:?}: {}", answer.text);
        answer.json()
    };
    let shop = [("query", r#"{service_name="shop"}"#)];
    assert_eq!(get("label/service_name/values", &[])["data"], serde_json::json!(["db", "shop"]));
    let stats = get("index/stats", &shop);
    assert_eq!((stats["streams"].as_u64(), stats["entries"].as_u64()), (Some(1), Some(120)), "{stats}");
    let volume = get("index/volume", &[("query", r#"{service_name=~".+"}"#), ("targetLabels", "service_name")]);
    assert_eq!(volume["data"]["resultType"], "vector");
    let volumes = volume["data"]["result"].as_array().unwrap();
    assert_eq!(volumes.len(), 2, "{volume}");
    let of_shop = volumes.iter().find(|one| one["metric"]["service_name"] == "shop").unwrap();
    assert_eq!(of_shop["value"][1].as_str().unwrap().parse::<u64>().ok(), stats["bytes"].as_u64());
    let by_label = get("index/volume", &[("query", "{}"), ("aggregateBy", "labels")]);
    assert_eq!(by_label["data"]["result"].as_array().unwrap().len(), 2, "{by_label}");
    let ranges = get("index/volume_range", &[shop[0], ("step", "100")]);
    assert_eq!(ranges["data"]["resultType"], "matrix");
    let labels = get("detected_labels", &[]);
    let labels: Vec<(&str, u64)> = labels["detectedLabels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["label"].as_str().unwrap(), one["cardinality"].as_u64().unwrap()))
        .collect();
    assert_eq!(labels, [("app", 2), ("host", 2), ("service_name", 2)]);
    let fields = get("detected_fields", &shop);
    let fields: Vec<(&str, &str, u64)> = fields["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (one["label"].as_str().unwrap(), one["type"].as_str().unwrap(), one["cardinality"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(
        fields,
        [("level", "string", 2), ("path", "string", 120), ("severity", "string", 2), ("took", "int", 50)]
    );
    assert_eq!(get("detected_field/level/values", &shop)["values"], serde_json::json!(["error", "info"]));
    let patterns = get("patterns", &[shop[0], ("step", "50")]);
    let total: u64 = patterns["data"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["samples"].as_array().unwrap().iter().map(|sample| sample[1].as_u64().unwrap()))
        .sum();
    assert_eq!(total, 120, "{patterns}");
}

/// Each block that follows a marker of the page is a query.
#[test]
fn every_logql_example_of_the_documentation_is_answered() {
    let (server, _) = store_with_requests();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/logs.md")).unwrap();
    let mut examples = 0;
    for query in page.split("```logql\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines()) {
        data(&server, "query_range", &[("query", query), ("start", "1000"), ("end", "1200"), ("step", "10")]);
        examples += 1;
    }
    assert!(examples >= 6, "{examples}");
}
