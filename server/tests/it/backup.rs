//! `foretell backup`, `restore`, `verify` and `repair` on the real binary.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tempfile::TempDir;

use crate::support::{Series, Server, binary, wait_until};
use crate::verify::{run, stdout};

/// A server that may write backups to the directory `backups` beside its data.
fn serving() -> Server {
    let dir = Arc::new(TempDir::new().unwrap());
    let toml = format!("[storage]\nbackup_dir = {:?}\n", dir.path().join("backups"));
    std::fs::write(dir.path().join("foretell.toml"), toml).unwrap();
    let config = dir.path().join("foretell.toml");
    Server::start_in(Arc::clone(&dir), &["--config", config.to_str().unwrap()])
}

fn restored(source: &Path, target: &Path) {
    let restored = run(&["restore", source.to_str().unwrap()], &target.join("data"));
    assert_eq!(restored.status.code(), Some(0), "{restored:?}");
    let verified = run(&["verify"], &target.join("data"));
    assert_eq!(verified.status.code(), Some(0), "{}", stdout(&verified));
}

/// The values of `metric` in order of time.
fn values(server: &Server, metric: &str) -> Vec<f64> {
    let rows = server.rows(&format!("SELECT value FROM metrics.\"{metric}\" ORDER BY ts"));
    rows.iter().map(|row| row[0].as_f64().unwrap()).collect()
}

#[test]
fn a_backup_while_writing_restores_all_that_was_acknowledged_after_the_server_was_killed() {
    let server = serving();
    let (stop, sent) = (AtomicBool::new(false), AtomicI64::new(0));
    let mut before = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let next = sent.load(Ordering::Relaxed);
                assert_eq!(server.write(&[Series::of("t_backup", "a").sample(next * 1_000, next as f64)]).status, 204);
                sent.store(next + 1, Ordering::Relaxed);
            }
        });
        for round in 1..=2 {
            wait_until("some writes", || sent.load(Ordering::Relaxed) >= 40 * round);
            before = sent.load(Ordering::Relaxed);
            let made = binary().args(["backup", "--url", &server.url, "nightly"]).output().unwrap();
            assert_eq!(made.status.code(), Some(0), "{made:?}");
            assert!(stdout(&made).starts_with("backup 2"), "{}", stdout(&made));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(server.metric("foretell_backup_last_success_timestamp_seconds") > 1e9);
    assert!(server.metric("foretell_backup_last_copied_bytes") < server.metric("foretell_backup_last_bytes"));
    let dir = server.kill();
    let source = dir.path().join("backups/nightly");
    let listed = binary().args(["restore", "--list"]).arg(&source).output().unwrap();
    assert_eq!(stdout(&listed).lines().count(), 2, "{listed:?}");
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let target = Arc::new(TempDir::new().unwrap());
    restored(&source, target.path());
    let server = Server::start_in(target, &[]);
    let found = values(&server, "t_backup");
    assert!(found.len() as i64 >= before, "{} of {before}", found.len());
    assert!(found.iter().enumerate().all(|(i, value)| *value == i as f64));
    assert_eq!(server.write(&[Series::of("t_backup", "b").sample(0, 1.0)]).status, 204);
}

#[test]
fn a_stopped_store_is_backed_up_by_the_command_itself() {
    let server = Server::start();
    let batch: Vec<_> = (0..20).map(|i| Series::of("t_closed", &i.to_string()).sample(1_000, f64::from(i))).collect();
    assert_eq!(server.write(&batch).status, 204);
    let dest = TempDir::new().unwrap();
    let data = server.dir.path().join("data");
    let held = run(&["backup", dest.path().to_str().unwrap()], &data);
    assert_eq!(held.status.code(), Some(2), "{held:?}");
    let _dir = server.kill();
    let made = run(&["backup", dest.path().to_str().unwrap()], &data);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let again = run(&["restore", dest.path().to_str().unwrap()], &data);
    assert!(
        again.status.code() == Some(2) && String::from_utf8_lossy(&again.stderr).contains("not empty"),
        "{again:?}"
    );
    let target = Arc::new(TempDir::new().unwrap());
    restored(dest.path(), target.path());
    assert_eq!(Server::start_in(target, &[]).count("t_closed"), 20);
}

#[test]
fn the_server_writes_nowhere_but_below_the_configured_directory() {
    let server = Server::start();
    let refused = server.post("/api/v1/admin/backup", &[], br#"{"path":"x"}"#);
    assert_eq!(refused.status, 403);
    assert!(refused.error().contains("storage.backup_dir"));
    let command = binary().args(["backup", "--url", &server.url, "x"]).output().unwrap();
    assert_eq!(command.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&command.stderr).contains("storage.backup_dir"), "{command:?}");
    let server = serving();
    for path in ["../x", "/tmp/x", "", "a/../../x"] {
        let body = serde_json::json!({ "path": path }).to_string();
        assert_eq!(server.post("/api/v1/admin/backup", &[], body.as_bytes()).status, 403, "{path}");
    }
    assert_eq!(server.post("/api/v1/admin/backup", &[], b"{}").status, 400);
    let made = server.post("/api/v1/admin/backup", &[], br#"{"path":"x"}"#);
    let last: serde_json::Value = serde_json::from_str(made.text.lines().last().unwrap()).unwrap();
    assert_eq!((made.status, &last["event"]), (200, &"done".into()), "{}", made.text);
}

#[test]
fn a_store_without_its_catalogue_is_repaired_and_answers_as_before() {
    let server = Server::start();
    let batch: Vec<_> = (0..50).map(|i| Series::of("t_repair", &i.to_string()).sample(1_000, f64::from(i))).collect();
    assert_eq!(server.write(&batch).status, 204);
    let sql = "SELECT job, value FROM metrics.\"t_repair\" ORDER BY job";
    let expected = server.rows(sql);
    let dir = server.stop();
    let data = dir.path().join("data");
    std::fs::remove_dir_all(data.join("catalogue")).unwrap();
    let damaged = run(&["verify"], &data);
    assert!(damaged.status.code() == Some(1) && stdout(&damaged).contains("nothing is lost"), "{damaged:?}");
    let dry = run(&["repair", "--dry-run"], &data);
    assert_eq!(dry.status.code(), Some(1), "{dry:?}");
    assert!(!data.join("catalogue").exists());
    let repaired = run(&["repair"], &data);
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
    assert_eq!(run(&["verify"], &data).status.code(), Some(0));
    let server = Server::start_in(dir, &[]);
    assert_eq!(server.rows(sql), expected);
}
