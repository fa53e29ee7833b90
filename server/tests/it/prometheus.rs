//! The query part of the Prometheus HTTP API, as its clients call it.
use serde_json::{Value, json};

use crate::support::{Answer, Series, Server};

/// Requests of two jobs, one sample a minute for eleven minutes, from zero.
fn with_data() -> Server {
    let server = Server::start();
    let series = |job: &str, step: f64| {
        (0..=10).fold(Series::of("requests_total", job), |s, i| s.sample(i * 60_000, f64::from(i as i32) * step))
    };
    let answer = server.write(&[series("api", 60.0), series("web", 6.0), Series::of("up", "api").sample(0, 1.0)]);
    assert_eq!(answer.status, 204);
    server
}

fn form(server: &Server, route: &str, pairs: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    server.post(&format!("/api/v1/{route}"), &[("Content-Type", "application/x-www-form-urlencoded")], body.as_bytes())
}

fn url_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The `data` of a success.
fn data(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("success")), "{}", answer.text);
    answer.json()["data"].clone()
}

#[test]
fn grafana_saves_and_tests_its_datasource() {
    let server = with_data();
    let answer = form(&server, "query", &[("query", "1+1"), ("time", "4")]);
    assert_eq!(data(&answer), json!({"resultType": "scalar", "result": [4, "2"]}));
    let version = data(&server.get("/api/v1/status/buildinfo"))["version"].clone();
    assert!(version.as_str().unwrap().starts_with("3."), "{version}");
    for route in ["rules", "alerts", "targets", "status/flags", "status/runtimeinfo", "status/tsdb"] {
        data(&server.get(&format!("/api/v1/{route}")));
    }
}

#[test]
fn instant_and_range_queries_by_get_and_by_form() {
    let server = with_data();
    let expr = "sum by (job) (rate(requests_total[5m]))";
    let by_form = form(&server, "query", &[("query", expr), ("time", "600")]);
    let by_get = server.get(&format!("/api/v1/query?query={}&time=600", url_encoded(expr)));
    assert_eq!(by_form.text, by_get.text);
    let expected = json!({"resultType": "vector", "result": [
        {"metric": {"job": "api"}, "value": [600, "1"]},
        {"metric": {"job": "web"}, "value": [600, "0.1"]},
    ]});
    assert_eq!(data(&by_form), expected);
    let range = form(
        &server,
        "query_range",
        &[("query", "requests_total{job=\"web\"}"), ("start", "0"), ("end", "90"), ("step", "45")],
    );
    let expected = json!({"resultType": "matrix", "result": [
        {"metric": {"__name__": "requests_total", "job": "web"}, "values": [[0, "0"], [45, "0"], [90, "6"]]},
    ]});
    assert_eq!(data(&range), expected);
    let instant = form(&server, "query", &[("query", "requests_total[2m]"), ("time", "1970-01-01T00:02:00Z")]);
    assert_eq!(data(&instant)["resultType"], "matrix");
    assert_eq!(data(&instant)["result"][0]["values"], json!([[60, "60"], [120, "120"]]));
}

#[test]
fn names_values_and_series_come_from_the_index() {
    let server = with_data();
    assert_eq!(data(&server.get("/api/v1/labels")), json!(["__name__", "job"]));
    assert_eq!(data(&server.get("/api/v1/label/__name__/values")), json!(["requests_total", "up"]));
    assert_eq!(data(&server.get("/api/v1/label/job/values?match[]=up")), json!(["api"]));
    assert_eq!(data(&server.get("/api/v1/label/nothing/values")), json!([]));
    let series = form(&server, "series", &[("match[]", "requests_total{job=~\"w.*\"}"), ("match[]", "up")]);
    let expected = json!([{"__name__": "requests_total", "job": "web"}, {"__name__": "up", "job": "api"}]);
    assert_eq!(data(&series), expected);
    let cut = server.get("/api/v1/label/job/values?limit=1");
    assert_eq!(data(&cut), json!(["api"]));
    assert_eq!(cut.json()["warnings"], json!(["results truncated due to limit"]));
}

#[test]
fn errors_have_prometheus_types_and_codes() {
    let server = with_data();
    let range = |start: &str, end: &str, step: &str| {
        form(&server, "query_range", &[("query", "up"), ("start", start), ("end", end), ("step", step)])
    };
    for (answer, status, kind) in [
        (form(&server, "query", &[("query", "sum(")]), 400, "bad_data"),
        (form(&server, "query", &[("query", "")]), 400, "bad_data"),
        (form(&server, "query", &[("query", "up"), ("time", "soon")]), 400, "bad_data"),
        (form(&server, "query", &[("query", "up"), ("timeout", "x")]), 400, "bad_data"),
        (
            form(&server, "query", &[("query", "requests_total * on() requests_total"), ("time", "60")]),
            422,
            "execution",
        ),
        (range("0", "60", "0"), 400, "bad_data"),
        (range("60", "0", "1"), 400, "bad_data"),
        (range("0", "11001", "1"), 400, "bad_data"),
        (range("0", "", "1"), 400, "bad_data"),
        (form(&server, "series", &[]), 400, "bad_data"),
        (server.get("/api/v1/series?match[]=rate(up[5m])"), 400, "bad_data"),
        (server.get("/api/v1/label/U__zz_q/values"), 400, "bad_data"),
        (form(&server, "format_query", &[("query", "foo bar")]), 400, "bad_data"),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.json()["errorType"], kind, "{}", answer.text);
        assert!(!answer.error().is_empty());
    }
}

#[test]
fn hostile_expressions_are_refused_and_the_server_lives() {
    let mut server = with_data();
    let deep = format!("{}up{}", "(".repeat(5_000), ")".repeat(5_000));
    let wide = vec!["up"; 20_000].join("+");
    for expr in [deep.as_str(), wide.as_str(), "up{a=~\"(((((\"}", "up{a=~\"(.{1000}){1000}\"}"] {
        let answer = form(&server, "query", &[("query", expr), ("time", "60")]);
        assert_eq!(answer.status, 400, "{}", &answer.text[..answer.text.len().min(300)]);
    }
    let many = "count_over_time(requests_total[1d:1ms])";
    let answer = form(&server, "query_range", &[("query", many), ("start", "0"), ("end", "100000"), ("step", "10")]);
    assert!(matches!(answer.status, 422 | 503), "{}", answer.text);
    assert!(server.is_alive());
    let text = data(&form(&server, "format_query", &[("query", "sum  by(job)(up)")]));
    assert_eq!(text, "sum by (job) (up)");
}
