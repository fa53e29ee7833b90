//! A real disk of 64 MB that fills up. Mounting one needs root: elsewhere the tests are skipped and say so on standard error,
//! past the test harness, which would keep it to itself.
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::support::{Answer, Series, Server, wait_until};

/// A file system in memory, mounted at `data` of a temporary directory.
struct Disk {
    dir: Arc<tempfile::TempDir>,
    at: PathBuf,
}

impl Disk {
    fn mount(size: &str) -> Option<Self> {
        let dir = Arc::new(tempfile::TempDir::new().unwrap());
        let at = dir.path().join("data");
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { dir, at }),
            refused => {
                let why = format!("SKIPPED, needs root: a disk of {size} cannot be mounted here: {refused:?}");
                let _ = writeln!(std::io::stderr(), "\n*** server/tests/it/disk_full.rs: {why}\n");
                None
            }
        }
    }
    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.at).status().unwrap().success());
    }
    /// Fills what is left to the last byte.
    fn fill(&self) -> PathBuf {
        let path = self.at.join("somebody-elses-file");
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// 20,000 samples that no codec makes much smaller.
fn write(server: &Server, request: u64) -> Answer {
    let mut state = request.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / 3e9
    };
    let series = |i: u64| {
        let first = request as i64 * 100_000;
        (0..200).fold(Series::of("t_disk", &i.to_string()), |series, k| series.sample(first + k * 500, random()))
    };
    server.write(&(0..100).map(series).collect::<Vec<_>>())
}

/// Writes until the disk is full; how many requests were acknowledged.
fn write_until_refused(server: &Server, from: u64) -> u64 {
    for request in from..from + 1000 {
        let answer = write(server, request);
        if answer.status == 204 {
            continue;
        }
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        assert!(answer.error().contains("the disk is full"), "{}", answer.text);
        return request;
    }
    panic!("20 million samples fit into the disk")
}

fn kept(server: &Server, requests: u64) {
    assert_eq!(server.count("t_disk"), requests * 20_000);
    assert_eq!(server.metric("foretell_engine_poisoned"), 0.0, "{}", server.log());
}

fn bytes_in(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum()
}

#[test]
fn a_full_disk_refuses_writes_answers_reads_and_takes_writes_again() {
    let Some(disk) = Disk::mount("64m") else { return };
    let server = Server::start_in(Arc::clone(&disk.dir), &[]);
    let first = write_until_refused(&server, 0);
    assert!(first > 20, "only {first} requests fit");
    // A flush that ends later would make room.
    wait_until("the log has been flushed", || server.metric("foretell_engine_flushes_total") > 0.0);
    kept(&server, first);
    // Not only near the limit: to the last byte, by somebody else.
    let rubbish = disk.fill();
    for _ in 0..3 {
        assert_eq!(write(&server, 999_999).status, 503);
        kept(&server, first);
    }
    // Room comes back, and without a restart everything goes on.
    disk.resize("512m");
    std::fs::remove_file(rubbish).unwrap();
    wait_until("writes are taken again", || write(&server, first).status == 204);
    let mut sent = first + 1;
    while sent < first + 30 {
        let answer = write(&server, sent);
        assert_eq!(answer.status, 204, "{}", answer.text);
        sent += 1;
    }
    kept(&server, sent);
    wait_until("what could not be flushed is", || server.metric("foretell_engine_flushes_total") > 0.0);
    let server = Server::start_in(server.kill(), &[]);
    kept(&server, sent);
    let server = Server::start_in(server.stop(), &[]);
    kept(&server, sent);
    assert!(bytes_in(&disk.at.join("wal")) < 10_000, "a clean stop leaves an empty log");
}

#[test]
fn a_disk_filled_by_the_store_itself_can_be_written_off_and_stopped() {
    let Some(disk) = Disk::mount("64m") else { return };
    let server = Server::start_in(Arc::clone(&disk.dir), &[]);
    let first = write_until_refused(&server, 0);
    wait_until("the log has been flushed", || server.metric("foretell_engine_flushes_total") > 0.0);
    kept(&server, first);
    // The reserve is enough for what a stop and a start write.
    let server = Server::start_in(server.stop(), &[]);
    kept(&server, first);
}
