//! `admin/tsdb/*`: what deletes, cleans and snapshots do to what is stored.
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use crate::support::api::{data, form, get};
use crate::support::{Series, Server, binary};

/// Samples of two jobs at 0, 60, …, 600 s.
fn with_data() -> Server {
    let server = Server::start();
    let series = |name: &str, job: &str| {
        (0..=10).fold(Series::of(name, job), |series, i| series.sample(i * 60_000, f64::from(i as i32)))
    };
    let answer = server.write(&[series("t_del", "api"), series("t_del", "web"), series("t_keep", "api")]);
    assert_eq!(answer.status, 204);
    server
}

/// Samples of a selector, counted.
fn count(server: &Server, selector: &str) -> u64 {
    let answer = form(server, "query", &[("query", &format!("sum(count_over_time({selector}[1h]))")), ("time", "600")]);
    let result = data(&answer)["result"].clone();
    result.as_array().unwrap().first().map_or(0, |row| row["value"][1].as_str().unwrap().parse().unwrap())
}

#[test]
fn deletes_hide_the_rows_of_a_selector_and_a_range_and_no_others() {
    let server = with_data();
    let deleted = form(
        &server,
        "admin/tsdb/delete_series",
        &[("match[]", "t_del{job=\"api\"}"), ("start", "60"), ("end", "179.999")],
    );
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!((count(&server, "t_del{job=\"api\"}"), count(&server, "t_del{job=\"web\"}")), (9, 11));
    let instant = server.put("/api/v1/admin/tsdb/delete_series?match[]=t_del%7Bjob%3D%22web%22%7D&start=0&end=0");
    assert_eq!(instant.status, 204, "{}", instant.text);
    assert_eq!(count(&server, "t_del"), 19);
    let selectors = [("match[]", "t_del{job=\"api\"}"), ("match[]", "{__name__=~\"t_.*\",job=\"web\"}")];
    assert_eq!(form(&server, "admin/tsdb/delete_series", &selectors).status, 204);
    assert_eq!((count(&server, "t_del"), count(&server, "t_keep")), (0, 11));
    assert_eq!(server.write(&[Series::of("t_del", "api").sample(600_000, 1.0)]).status, 204);
    assert_eq!(count(&server, "t_del"), 1, "rows that come later stay");
    let server = Server::start_in(server.kill(), &[]);
    assert_eq!((count(&server, "t_del"), count(&server, "t_keep")), (1, 11), "a delete is durable");
    assert_eq!(form(&server, "admin/tsdb/clean_tombstones", &[]).status, 204);
    assert_eq!(server.metric("foretell_engine_tombstones"), 0.0);
    assert_eq!((count(&server, "t_del"), count(&server, "t_keep")), (1, 11));
}

#[test]
fn a_delete_that_is_not_understood_deletes_nothing() {
    let server = with_data();
    for pairs in [
        &[][..],
        &[("match[]", "t_del{")],
        &[("match[]", "{}")],
        &[("match[]", "{job=~\".*\"}")],
        &[("match[]", "t_del"), ("match[]", "rate(t_keep[5m])")],
        &[("match[]", "t_del"), ("start", "x")],
    ] {
        let answer = form(&server, "admin/tsdb/delete_series", pairs);
        assert_eq!((answer.status, answer.json()["errorType"].as_str()), (400, Some("bad_data")), "{}", answer.text);
    }
    let backwards = [("match[]", "t_del"), ("start", "5"), ("end", "4")];
    assert_eq!(form(&server, "admin/tsdb/delete_series", &backwards).status, 204);
    assert_eq!(form(&server, "admin/tsdb/delete_series", &[("match[]", "nothing")]).status, 204);
    assert_eq!((count(&server, "t_del"), count(&server, "t_keep")), (22, 11));
    let origin = [("Origin", "https://evil.example")];
    assert_eq!(server.post("/api/v1/admin/tsdb/delete_series?match[]=t_del", &origin, b"").status, 403);
}

#[test]
fn a_snapshot_is_a_backup_that_can_be_restored() {
    let server = Server::start();
    let refused = server.post("/api/v1/admin/tsdb/snapshot", &[], b"");
    assert_eq!((refused.status, refused.json()["errorType"].as_str()), (503, Some("unavailable")));
    assert!(refused.error().contains("storage.backup_dir"));
    let dir = Arc::new(TempDir::new().unwrap());
    let config = dir.path().join("foretell.toml");
    std::fs::write(&config, format!("[storage]\nbackup_dir = {:?}\n", dir.path().join("backups"))).unwrap();
    let server = Server::start_in(Arc::clone(&dir), &["--config", config.to_str().unwrap()]);
    assert_eq!(server.write(&[Series::of("t_snap", "a").sample(1_000, 1.0)]).status, 204);
    let name = data(&server.post("/api/v1/admin/tsdb/snapshot", &[], b""))["name"].as_str().unwrap().to_owned();
    assert_eq!(server.put("/api/v1/admin/tsdb/snapshot?skip_head=true").status, 200);
    assert_eq!(server.put("/api/v1/admin/tsdb/snapshot?skip_head=maybe").status, 400);
    let source = dir.path().join("backups/snapshots");
    let target = Arc::new(TempDir::new().unwrap());
    let restored = binary()
        .args(["restore", source.to_str().unwrap(), "--at", &name, "--data-dir"])
        .arg(target.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(restored.status.code(), Some(0), "{restored:?}");
    let server = Server::start_in(target, &[]);
    let found = get(&server, "query", &[("query", "t_snap"), ("time", "1")]);
    assert_eq!(data(&found)["result"][0]["value"], json!([1, "1"]));
}
