//! The memory budget under abuse: the process stays inside, honest senders go on.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{Series, Server};

const MIB: u64 = 1 << 20;

/// Most memory the process has ever had resident, file pages excluded where the kernel tells them apart.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
    };
    kib("RssAnon:").or_else(|| kib("VmRSS:")).unwrap() * 1024
}

fn offered(sender: u64, request: u64, series: u64) -> Vec<Series> {
    (0..series)
        .map(|i| {
            let id = format!("{sender}-{request}-{i}");
            Series::new(&[("__name__", "t_abuse"), ("id", &id), ("path", &format!("/api/v1/customers/{id}/orders"))])
                .sample(1_000, i as f64)
        })
        .collect()
}

#[test]
fn new_series_without_end_and_heavy_queries_neither_exhaust_memory_nor_stop_honest_senders() {
    const MEMORY: u64 = 256 * MIB;
    let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    let mut server = Server::start_in(dir, &["--memory", "256MiB"]);
    let known: Vec<Series> = (0..500).map(|i| Series::of("t_honest", &i.to_string()).sample(0, 0.0)).collect();
    assert_eq!(server.write(&known).status, 204);
    let (stop, refused, peak) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (server, stop, refused, peak) = (&server, &stop, &refused, &peak);
        for sender in 0..2 {
            scope.spawn(move || {
                for request in 0..40 {
                    let answer = server.write(&offered(sender, request, 5_000));
                    assert!(matches!(answer.status, 204 | 429 | 503), "{} {}", answer.status, answer.text);
                    refused.fetch_add(u64::from(answer.status == 429), Ordering::Relaxed);
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for sql in [
                    "SELECT a.value, count(*) FROM generate_series(1, 3000000) a GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
                    "SELECT labels, count(*) FROM samples GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
                ] {
                    let answer = server.sql(sql);
                    assert!(matches!(answer.status, 200 | 422 | 503), "{} {}", answer.status, answer.text);
                }
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(resident(server), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let mut ts = 1;
        while !stop.load(Ordering::Relaxed) {
            let batch: Vec<Series> =
                (0..500).map(|i| Series::of("t_honest", &i.to_string()).sample(ts * 1_000, 1.0)).collect();
            let answer = server.write(&batch);
            assert!(answer.status == 204 || answer.status == 503, "{} {}", answer.status, answer.text);
            ts += i64::from(answer.status == 204);
        }
        assert!(ts > 10, "only {} honest requests were taken", ts - 1);
        assert_eq!(server.count("t_honest"), 500 * ts as u64);
    });
    assert!(server.is_alive());
    assert!(refused.load(Ordering::Relaxed) > 0, "the index took 400,000 series within 256 MiB");
    let peak = peak.load(Ordering::Relaxed);
    assert!(peak > 50 * MIB && peak <= MEMORY, "{} MiB resident", peak / MIB);
    let index = server.metric("foretell_memory_used_bytes{share=\"index\"}");
    assert!(index > 0.0 && index <= server.metric("foretell_memory_share_bytes{share=\"index\"}"), "{index}");
}
