//! `foretell verify` on the real binary.
use std::path::Path;
use std::process::Output;

use crate::support::{Series, Server, binary};

pub fn run(args: &[&str], dir: &Path) -> Output {
    binary().args(args).arg("--data-dir").arg(dir).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn exit_codes_say_clean_damaged_or_cannot() {
    let server = Server::start();
    let batch: Vec<_> = (0..50).map(|i| Series::of("t_verify", &i.to_string()).sample(1_000, f64::from(i))).collect();
    assert_eq!(server.write(&batch).status, 204);
    let data = server.dir.path().join("data");
    let held = run(&["verify"], &data);
    assert_eq!(held.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&held.stderr).contains("another process holds this store"));
    let dir = server.stop();
    let clean = run(&["verify"], &data);
    assert_eq!(clean.status.code(), Some(0), "{}", stdout(&clean));
    assert!(stdout(&clean).contains("50 rows") && stdout(&clean).contains("clean"), "{}", stdout(&clean));
    assert_eq!(run(&["verify"], &dir.path().join("nothing")).status.code(), Some(2));

    let segment = segment_of(&data);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[26] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = run(&["verify", "--format", "json"], &data);
    assert_eq!(damaged.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(&stdout(&damaged)).unwrap();
    assert_eq!(report["clean"], false);
    assert_eq!(report["findings"][0]["path"], segment.to_str().unwrap());
    assert_eq!(report["findings"][0]["offset"], 24);
}

/// The one segment of the store in `data`.
fn segment_of(data: &Path) -> std::path::PathBuf {
    let partitions = std::fs::read_dir(data.join("partitions")).unwrap();
    let files = partitions.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "segment")).unwrap()
}
