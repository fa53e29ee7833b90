//! The Prometheus HTTP API beyond queries: metadata, exemplars, trees, and what a store that does not scrape answers.
use foretell_proto::prometheus::v1::{Exemplar, Label, MetricMetadata, TimeSeries, WriteRequest};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::api::{data, form, get, percent};
use crate::support::{Series, Server, compress};

fn label(name: &str, value: &str) -> Label {
    Label { name: name.to_owned(), value: value.to_owned() }
}

/// A series with two exemplars, one with none, and descriptions of three families.
pub(crate) fn described() -> Server {
    let server = Server::start();
    let exemplar =
        |trace: &str, value, timestamp| Exemplar { labels: vec![label("trace_id", trace)], value, timestamp };
    let series = |job: &str, exemplars| TimeSeries {
        labels: vec![label("__name__", "latency_seconds_bucket"), label("job", job), label("le", "1")],
        samples: vec![foretell_proto::prometheus::v1::Sample { value: 3.0, timestamp: 60_000 }],
        exemplars,
        ..TimeSeries::default()
    };
    let family = |name: &str, r#type, help: &str, unit: &str| MetricMetadata {
        r#type,
        metric_family_name: name.to_owned(),
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    let request = WriteRequest {
        timeseries: vec![
            series("web", Vec::new()),
            series("api", vec![exemplar("t1", 0.25, 59_500), exemplar("t2", 1e-7, 60_000)]),
        ],
        metadata: vec![
            family("latency_seconds", 3, "how \"long\"", "seconds"),
            family("requests", 1, "how many", ""),
            family("up", 2, "", ""),
        ],
    };
    assert_eq!(server.write_bytes(&compress(&request.encode_to_vec())).status, 204);
    server
}

#[test]
fn metadata_are_those_that_senders_gave() {
    let server = described();
    let latency = json!([{"type": "histogram", "unit": "seconds", "help": "how \"long\""}]);
    let all = data(&server.get("/api/v1/metadata"));
    assert_eq!(all["latency_seconds"], latency);
    assert_eq!(all["requests"][0]["type"], "counter");
    assert_eq!(all.as_object().unwrap().len(), 3);
    assert_eq!(data(&server.get("/api/v1/metadata?metric=latency_seconds")), json!({"latency_seconds": latency}));
    assert_eq!(data(&server.get("/api/v1/metadata?metric=nothing")), json!({}));
    for (query, families) in [("limit=2", 2), ("limit=0", 0), ("limit=-1", 3), ("limit_per_metric=1", 3), ("limit=", 3)]
    {
        let answer = data(&server.get(&format!("/api/v1/metadata?{query}")));
        assert_eq!(answer.as_object().unwrap().len(), families, "{query}");
    }
    for query in ["limit=x", "limit_per_metric=x"] {
        let answer = server.get(&format!("/api/v1/metadata?{query}"));
        assert_eq!((answer.status, answer.json()["errorType"].as_str()), (400, Some("bad_data")), "{query}");
    }
}

#[test]
fn exemplars_come_with_their_series() {
    let server = described();
    let labels = json!({"__name__": "latency_seconds_bucket", "job": "api", "le": "1"});
    let first = json!({"labels": {"trace_id": "t1"}, "value": "0.25", "timestamp": 59.5});
    let second = json!({"labels": {"trace_id": "t2"}, "value": "1e-07", "timestamp": 60});
    let query = "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket{job=~\".*\"}[5m])))";
    let both = json!([{"seriesLabels": labels, "exemplars": [first, second]}]);
    let range = [("query", query), ("start", "0"), ("end", "60")];
    assert_eq!(data(&form(&server, "query_exemplars", &range)), both);
    assert_eq!(data(&get(&server, "query_exemplars", &range)), both);
    assert_eq!(data(&form(&server, "query_exemplars", &[("query", query)])), both);
    let later = form(&server, "query_exemplars", &[("query", query), ("start", "60"), ("end", "1e9")]);
    assert_eq!(data(&later)[0]["exemplars"], json!([second]));
    for query in ["latency_seconds_bucket{job=\"web\"}", "nothing"] {
        assert_eq!(data(&form(&server, "query_exemplars", &[("query", query)])), json!([]), "{query}");
    }
    let none = form(&server, "query_exemplars", &[("query", "1 + time()")]);
    assert_eq!((none.status, none.text.as_str()), (204, ""));
    for pairs in [
        &[("query", "sum(")][..],
        &[],
        &[("query", "up"), ("start", "5"), ("end", "4")],
        &[("query", "up"), ("start", "x")],
    ] {
        let answer = form(&server, "query_exemplars", pairs);
        assert_eq!((answer.status, answer.json()["errorType"].as_str()), (400, Some("bad_data")), "{pairs:?}");
    }
    let empty = Server::start();
    assert_eq!(data(&form(&empty, "query_exemplars", &[("query", "up")])), json!([]));
}

#[test]
fn trees_are_answered_by_get_and_by_form() {
    let server = Server::start();
    let text = "sum by (job) (rate(up[5m])) / 2";
    let tree = data(&form(&server, "parse_query", &[("query", text)]));
    assert_eq!(tree, data(&get(&server, "parse_query", &[("query", text)])));
    assert_eq!((tree["type"].as_str(), tree["matching"].clone()), (Some("binaryExpr"), Value::Null));
    assert_eq!(tree["lhs"]["grouping"], json!(["job"]));
    assert_eq!(tree["lhs"]["expr"]["func"]["argTypes"], json!(["matrix"]));
    assert_eq!(tree["lhs"]["expr"]["args"][0]["range"], 300_000);
    let deep = vec!["1"; 2000].join("+");
    for text in ["", "sum(", "up[5m] + 1", &deep] {
        let answer = form(&server, "parse_query", &[("query", text)]);
        assert_eq!((answer.status, answer.json()["errorType"].as_str()), (400, Some("bad_data")), "{}", answer.text);
    }
}

#[test]
fn a_store_that_does_not_scrape_says_so_in_the_right_shape() {
    let server = Server::start();
    for (route, expected) in [
        ("targets", json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}})),
        ("targets/metadata?metric=up", json!([])),
        ("scrape_pools", json!({"scrapePools": []})),
        ("alertmanagers", json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})),
        ("status/walreplay", json!({"min": 0, "max": 0, "current": 0})),
    ] {
        assert_eq!(data(&server.get(&format!("/api/v1/{route}"))), expected, "{route}");
    }
    assert_eq!(server.get("/api/v1/targets/metadata?limit=x").status, 400);
}

#[test]
fn other_methods_are_refused_with_those_that_are_answered() {
    let server = Server::start();
    for route in ["metadata", "targets", "alertmanagers", "label/job/values", "status/buildinfo"] {
        let answer = server.post(&format!("/api/v1/{route}"), &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{route}");
    }
    for route in ["query_exemplars", "parse_query", "labels"] {
        let answer = server.put(&format!("/api/v1/{route}"));
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD, POST"), "{route}");
    }
    for route in ["delete_series", "clean_tombstones", "snapshot"] {
        let answer = server.get(&format!("/api/v1/admin/tsdb/{route}"));
        assert_eq!((answer.status, answer.header("allow")), (405, "POST, PUT"), "{route}");
    }
    assert_eq!(server.get("/api/v1/read").status, 405);
}

#[test]
fn names_with_any_character_are_found_by_their_escapes() {
    let server = Server::start();
    let labels = [("__name__", "http.requests"), ("service.name", "shop"), ("größe_cm", "7")];
    assert_eq!(server.write(&[Series::new(&labels).sample(1_000, 1.0)]).status, 204);
    for (name, expected) in [
        ("U__service_2e_name", json!(["shop"])),
        ("service.name", json!(["shop"])),
        ("U__gr_f6__df_e__cm", json!(["7"])),
        ("U__service_zz_name", json!([])),
        ("U______name____", json!(["http.requests"])),
    ] {
        assert_eq!(data(&server.get(&format!("/api/v1/label/{name}/values"))), expected, "{name}");
    }
    let escaped = percent("größe_cm");
    assert_eq!(data(&server.get(&format!("/api/v1/label/{escaped}/values"))), json!(["7"]));
    let by_name = get(&server, "label/U__service_2e_name/values", &[("match[]", "{\"http.requests\"}")]);
    assert_eq!(data(&by_name), json!(["shop"]));
    assert_eq!(data(&get(&server, "labels", &[("start", "9"), ("end", "1")])), json!([]));
}
