//! Limits of connections: how many, how many streams, how long unread.
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::http2::{self, END_HEADERS, HEADERS, RST_STREAM, SETTINGS, frame, read_frame};
use crate::support::{Server, wait_until};

const ASK: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";

/// Whether the answer to one request begins within `patience`.
fn is_answered(stream: &mut TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) => {
            assert_eq!(&answer, b"HTTP/1.1 200");
            true
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_connection_above_the_limit_waits_for_a_place() {
    let server = Server::start_with_file("[limits]\nconnections_max = 2\n");
    let ask = || {
        let mut stream = server.connect();
        stream.write_all(ASK).unwrap();
        stream
    };
    let (mut first, mut second) = (ask(), ask());
    assert!(is_answered(&mut first, Duration::from_secs(60)));
    assert!(is_answered(&mut second, Duration::from_secs(60)));
    let mut third = ask();
    assert!(!is_answered(&mut third, Duration::from_millis(300)), "a third connection was served");
    drop(first);
    assert!(is_answered(&mut third, Duration::from_secs(60)));
}

#[test]
fn a_stream_above_the_limit_is_refused_by_the_protocol() {
    let server = Server::start_with_file("[limits]\nstreams_max = 3\n");
    let mut stream = server.connect();
    stream.write_all(&http2::hello()).unwrap();
    let (kind, _, settings) = read_frame(&mut stream).unwrap();
    assert_eq!(kind, SETTINGS);
    assert!(settings.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 3]), "{settings:?}");
    stream.write_all(&frame(SETTINGS, 1, 0, &[])).unwrap();
    // The body never ends.
    let headers = http2::post("/api/v1/sql");
    for id in [1, 3, 5, 7] {
        stream.write_all(&frame(HEADERS, END_HEADERS, id, &headers)).unwrap();
    }
    loop {
        let (kind, id, payload) = read_frame(&mut stream).unwrap();
        if kind == RST_STREAM {
            // 7 is REFUSED_STREAM: nothing was done, it may be sent again.
            assert_eq!((id, payload), (7, vec![0, 0, 0, 7]));
            return;
        }
        assert!(kind != 7, "the whole connection was given up");
    }
}

#[test]
fn a_client_that_takes_no_bytes_loses_its_connection_and_its_query_ends() {
    let server = Server::start_with_file("[limits]\nwrite_stall_timeout = \"300ms\"\n");
    let mut stream = server.connect();
    let sql = "SELECT value, value * 7 AS more FROM generate_series(1, 9000000)";
    let head = format!("POST /api/v1/sql?format=csv HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{sql}", sql.len());
    stream.write_all(head.as_bytes()).unwrap();
    wait_until("the query is given up", || server.metric("foretell_queries_total{outcome=\"abandoned\"}") >= 1.0);
    // What had been sent can still be read; then the connection is over, without the end of the answer.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.ends_with(b"0\r\n\r\n"), "{} bytes, and the end", answer.len());
}
