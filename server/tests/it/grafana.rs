//! Grafana: the calls of its Prometheus datasource, and the dashboards in `server/grafana`.
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use foretell_query::promql::{Limits, check};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::prometheus_more::described;
use crate::support::api::{data, form, form_with, get};
use crate::support::{Series, Server};

const DASHBOARDS: [&str; 2] = ["foretell", "node_exporter"];
/// Panels that are empty when all is well.
const ALARMS: [&str; 2] = ["Read-only or broken", "Collectors that fail"];
/// What Grafana sends along.
const HEADERS: [(&str, &str); 7] = [
    ("User-Agent", "Grafana/12.2.0"),
    ("Accept-Encoding", "gzip"),
    ("X-Grafana-Org-Id", "1"),
    ("X-Datasource-Uid", "foretell"),
    ("X-Dashboard-Uid", "foretell-node"),
    ("X-Panel-Id", "3"),
    ("X-Query-Group-Id", "4f0c7a52-5b1f-4a4e-8d59-6a3c1a1c2b3d"),
];

fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&file(&format!("grafana/dashboards/{name}.json"))).unwrap()
}

/// Title of the panel and expression, variables replaced as Grafana replaces them when everything is chosen.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().unwrap();
            let expr = expr.replace("$__rate_interval", "5m").replace("$job", ".+").replace("$instance", ".+");
            assert!(!expr.contains('$'), "{expr}");
            found.push((panel["title"].as_str().unwrap().to_owned(), expr));
        }
    }
    assert!(found.len() > 40);
    found
}

#[test]
fn saving_and_testing_the_datasource_succeeds() {
    let server = Server::start();
    let answer = form_with(&server, "query", &[("query", "1+1"), ("time", "4")], &HEADERS);
    assert_eq!(data(&answer), json!({"resultType": "scalar", "result": [4, "2"]}));
    let info = data(&server.get("/api/v1/status/buildinfo"));
    assert!(info["version"].as_str().unwrap().starts_with("3."), "{info}");
    // A type that Grafana knows is told by a feature list, which only others have.
    assert!(info["features"].is_null(), "{info}");
    assert!(data(&server.get("/api/v1/rules"))["groups"].is_array());
}

#[test]
fn exploring_and_drawing_make_these_calls() {
    let server = described();
    let range = [("start", "0"), ("end", "120")];
    let with = |more: &[(&'static str, &'static str)]| [&range[..], more].concat();
    let names =
        form_with(&server, "labels", &with(&[("match[]", "latency_seconds_bucket"), ("limit", "40000")]), &HEADERS);
    assert_eq!(data(&names), json!(["__name__", "job", "le"]));
    let metrics = get(&server, "label/__name__/values", &with(&[("limit", "40000")]));
    assert_eq!(data(&metrics), json!(["latency_seconds_bucket"]));
    let jobs = get(&server, "label/job/values", &with(&[("match[]", "{__name__=\"latency_seconds_bucket\"}")]));
    assert_eq!(data(&jobs), json!(["api", "web"]));
    let series = form_with(&server, "series", &with(&[("match[]", "{job=\"api\"}")]), &HEADERS);
    assert_eq!(data(&series), json!([{"__name__": "latency_seconds_bucket", "job": "api", "le": "1"}]));
    assert_eq!(data(&get(&server, "metadata", &[("limit", "40000")])).as_object().unwrap().len(), 3);
    let drawn = form_with(
        &server,
        "query_range",
        &[("query", "sum by (job) (latency_seconds_bucket)"), ("start", "60.000"), ("end", "90.000"), ("step", "15")],
        &HEADERS,
    );
    assert_eq!(drawn.header("content-type"), "application/json");
    let values = json!([[60, "3"], [75, "3"], [90, "3"]]);
    let expected = json!([{"metric": {"job": "api"}, "values": values}, {"metric": {"job": "web"}, "values": values}]);
    assert_eq!(data(&drawn), json!({"resultType": "matrix", "result": expected}));
    let exemplars = form_with(&server, "query_exemplars", &with(&[("query", "latency_seconds_bucket")]), &HEADERS);
    assert_eq!(data(&exemplars)[0]["exemplars"].as_array().unwrap().len(), 2);
    let refused = form_with(&server, "query_range", &with(&[("query", "sum("), ("step", "15")]), &HEADERS);
    assert_eq!((refused.status, refused.json()["errorType"].as_str()), (400, Some("bad_data")));
}

#[test]
fn provisioning_names_what_is_there() {
    let datasource = file("grafana/provisioning/datasources/foretell.yaml");
    for line in ["type: prometheus", "url: http://127.0.0.1:8484", "httpMethod: POST", "uid: foretell"] {
        assert!(datasource.lines().any(|found| found.trim() == line), "{line}");
    }
    assert!(file("grafana/provisioning/dashboards/foretell.yaml").contains("type: file"));
}

#[test]
fn dashboards_are_well_formed_and_every_expression_parses() {
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: HashSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: an id for each panel");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let position = &panel["gridPos"];
            assert!(position["x"].as_u64().unwrap() + position["w"].as_u64().unwrap() <= 24, "{panel}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        }
        for (title, expr) in expressions(&dashboard) {
            check(&expr, &Limits::default()).unwrap_or_else(|error| panic!("{name}, {title}: {expr}: {error}"));
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (selector, _) = inner.rsplit_once(", ").unwrap();
            check(&selector.replace("$job", ".+"), &Limits::default()).unwrap();
        }
    }
}

/// A line of exposition as a series that grows, one sample a minute from 0 to 600 s.
fn series(line: &str) -> Series {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let value: f64 = value.parse().unwrap();
    let (name, labels) =
        head.split_once('{').map_or((head, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
    let mut pairs = BTreeMap::from([("__name__", name), ("instance", "host:1"), ("job", "test")]);
    for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once("=\"").unwrap();
        pairs.insert(name, value.trim_end_matches('"'));
    }
    let pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
    (0..=10).fold(Series::new(&pairs), |series, i| series.sample(i * 60_000, value + f64::from(i as i32)))
}

/// Asks for everything on a dashboard, as instants and as ranges: nothing fails, and nothing but alarms is empty.
fn show(server: &Server, name: &str) {
    for (title, expr) in expressions(&dashboard(name)) {
        let instant = data(&form(server, "query", &[("query", &expr), ("time", "600")]));
        let range = [("query", expr.as_str()), ("start", "0"), ("end", "600"), ("step", "60")];
        let drawn = data(&form(server, "query_range", &range));
        let is_empty = |answer: &Value| answer["result"].as_array().unwrap().is_empty();
        if !ALARMS.contains(&title.as_str()) {
            assert!(!is_empty(&instant) && !is_empty(&drawn), "{name}, {title}: {expr} is empty");
        }
    }
}

#[test]
fn the_dashboard_of_machines_shows_what_node_exporter_says() {
    let server = Server::start();
    let lines = file("tests/it/grafana/node_exporter.txt");
    let batch: Vec<Series> = lines.lines().map(series).collect();
    assert!(batch.len() > 50);
    assert_eq!(server.write(&batch).status, 204);
    show(&server, "node_exporter");
}

#[test]
fn the_dashboard_of_foretell_shows_what_foretell_says() {
    let dir = Arc::new(TempDir::new().unwrap());
    let config = dir.path().join("foretell.toml");
    std::fs::write(&config, format!("[storage]\nbackup_dir = {:?}\n", dir.path().join("backups"))).unwrap();
    let server = Server::start_in(dir, &["--config", config.to_str().unwrap()]);
    // One of everything that is counted by what happened.
    assert_eq!(server.write(&[Series::of("t_some", "a").sample(1_000, 1.0).sample(i64::MAX, 1.0)]).status, 400);
    assert_eq!(server.write_bytes(b"broken").status, 400);
    assert_eq!(server.sql("SELEC 1").status, 400);
    let created = server.sql(
        "CREATE CONTINUOUS QUERY t_lag INTO t_lag AS \
         SELECT time_bucket('1m', ts) AS ts, job, count(*) AS n FROM metrics.\"t_some\" GROUP BY 1, 2",
    );
    assert_eq!(created.status, 200, "{}", created.text);
    assert_eq!(server.post("/api/v1/admin/tsdb/snapshot", &[], b"").status, 200);
    let exposed = server.get("/metrics").text;
    let batch: Vec<Series> = exposed.lines().filter(|line| !line.starts_with('#')).map(series).collect();
    assert!(batch.len() > 100);
    assert_eq!(server.write(&batch).status, 204);
    show(&server, "foretell");
}
