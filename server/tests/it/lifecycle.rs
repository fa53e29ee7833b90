//! Starting, stopping, dying.
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::support::{Series, Server, body, wait_until};

#[test]
fn what_was_acknowledged_survives_kill_dash_nine() {
    let mut dir = Arc::new(tempfile::TempDir::new().unwrap());
    let mut acknowledged = 0;
    for round in 0..3 {
        let server = Server::start_in(dir, &[]);
        if round > 0 {
            assert!(server.count("t_kill") >= acknowledged as u64, "round {round}");
        }
        let stop = AtomicBool::new(false);
        let sent = AtomicI64::new(acknowledged);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let next = sent.load(Ordering::Relaxed);
                    let batch = [Series::of("t_kill", "a").sample(next * 1_000, next as f64)];
                    match server.try_post("/api/v1/write", &[("Content-Encoding", "snappy")], &body(&batch)) {
                        Ok(answer) if answer.status == 204 => sent.store(next + 1, Ordering::Relaxed),
                        _ => return,
                    }
                }
            });
            wait_until("some writes", || sent.load(Ordering::Relaxed) >= acknowledged + 50);
            server.signal("KILL");
            stop.store(true, Ordering::Relaxed);
        });
        acknowledged = sent.load(Ordering::Relaxed);
        dir = server.kill();
    }
    let server = Server::start_in(dir, &[]);
    let rows = server.rows("SELECT ts, value FROM metrics.\"t_kill\" ORDER BY ts");
    // The write that was being made when the server died may be there or not; nothing else.
    assert!((acknowledged..=acknowledged + 1).contains(&(rows.len() as i64)), "{} of {acknowledged}", rows.len());
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row[1].as_f64(), Some(i as f64));
    }
}

#[test]
fn a_stop_is_clean_and_loses_nothing() {
    let server = Server::start();
    let batch: Vec<_> = (0..1_000).map(|i| Series::of("t_stop", &i.to_string()).sample(1_000, f64::from(i))).collect();
    assert_eq!(server.write(&batch).status, 204);
    let server = Server::start_in(server.stop(), &[]);
    assert_eq!(server.count("t_stop"), 1_000);
    let dir = server.stop();
    assert!(Server::start_in(dir, &[]).log().contains("stopped"));
}

#[test]
fn an_interrupt_is_a_stop_too() {
    let mut server = Server::start();
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_stop_waits_for_work_in_flight_and_refuses_new_work() {
    let mut server = Server::start();
    // A request whose body is still on its way is work in flight.
    let mut slow = server.connect();
    let payload = body(&[Series::of("t_flight", "a").sample(1_000, 1.0)]);
    write!(
        slow,
        "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Encoding: snappy\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        payload.len()
    )
    .unwrap();
    slow.write_all(&payload[..4]).unwrap();
    wait_until("the request is being worked on", || server.metric("foretell_remote_write_in_flight_bytes") > 0.0);
    server.signal("TERM");
    server.wait_stopping();
    let answer = server.write(&[Series::of("t_flight", "b").sample(1_000, 1.0)]);
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(server.sql("SELECT 1").status, 503);
    assert!(server.is_alive());
    slow.write_all(&payload[4..]).unwrap();
    let mut text = String::new();
    slow.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 204"), "{text}");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let server = Server::start_in(Arc::clone(&server.dir), &[]);
    assert_eq!(server.count("t_flight"), 1);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start();
    let mut slow = server.connect();
    write!(slow, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1").unwrap();
    wait_until("the request is being worked on", || server.metric("foretell_remote_write_in_flight_bytes") > 0.0);
    server.signal("TERM");
    server.wait_stopping();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn the_listener_answers_before_the_store_is_open() {
    let server = Server::start();
    for chunk in 0..20 {
        let batch: Vec<_> = (0..500)
            .map(|i| {
                (0..20)
                    .fold(Series::of("t_replay", &i.to_string()), |s, k| s.sample((chunk * 20 + k) * 1_000, k as f64))
            })
            .collect();
        assert_eq!(server.write(&batch).status, 204);
    }
    let server = Server::spawn(server.kill(), &[]);
    assert_eq!(server.get("/-/healthy").status, 200);
    wait_until("ready", || {
        let answer = server.get("/-/ready");
        if answer.status == 503 {
            let json = answer.json();
            assert_eq!(json["status"], "opening");
            assert!(json["wal_bytes"].as_u64().unwrap() > 0 && json["elapsed_seconds"].is_number());
            // Work is put off with a status that makes senders keep their data.
            let write = server.write(&[Series::of("t_replay", "early").sample(1_000, 1.0)]);
            assert!(matches!(write.status, 503 | 204), "{}", write.text);
        }
        answer.status == 200
    });
    assert!(server.count("t_replay") >= 200_000);
}
