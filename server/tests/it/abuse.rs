//! Every endpoint against what nobody honest sends: the right code, soon, and the server lives. New routes are tested as soon
//! as the description of the API names them. Bombs that only one protocol knows are in its own tests (`remote_write.rs`,
//! `sql.rs`), slow clients and connections in `http.rs` and `connections.rs`.
use std::io::Write as _;

use crate::support::http2::{self, CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, frame};
use crate::support::{Server, is_hang_up, read_to_close};

/// Routes by method.
fn routes(server: &Server, method: &str) -> Vec<String> {
    let api = server.get("/api/openapi.json").json();
    let paths = api["paths"].as_object().unwrap();
    paths.iter().filter(|(_, methods)| methods[method].is_object()).map(|(path, _)| path.clone()).collect()
}

/// Whether a route looks at no body but a form, as in Prometheus.
fn takes_forms_only(path: &str) -> bool {
    let name = path.strip_prefix("/api/v1/").unwrap_or(path);
    let names =
        ["/-/reload", "query", "query_range", "query_exemplars", "format_query", "parse_query", "labels", "series"];
    names.contains(&name) || name.starts_with("admin/tsdb/")
}

/// Whether a route said at once what it says without a body; 503 from those that are not configured. OTLP's look at the content
/// type first.
fn unread(path: &str, status: u16) -> bool {
    (takes_forms_only(path) && matches!(status, 200 | 204 | 400 | 503)) || (is_otlp(path) && status == 415)
}

fn is_otlp(path: &str) -> bool {
    matches!(path, "/v1/metrics" | "/v1/logs" | "/v1/traces")
}

/// Those of InfluxDB's protocol take gzip.
fn is_influx(path: &str) -> bool {
    matches!(path, "/write" | "/api/v2/write")
}

/// The status of the first answer in `text`.
fn status(text: &str) -> u16 {
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {text:?}"))
}

/// A request of which the body never comes.
fn head_alone(path: &str, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n").into()
}

/// An empty deflated body in the form of gzip.
const GZIP: [u8; 20] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn no_route_takes_rubbish_or_fails_over_it() {
    let mut server = Server::start();
    let posts = routes(&server, "post");
    assert!(posts.len() >= 3, "{posts:?}");
    let deep = "[".repeat(200_000);
    let many = format!("{{\"query\":\"SELECT 1\",\"params\":[{}]}}", vec!["1"; 100_000].join(","));
    let keys: String = (0..50_000).map(|i| format!("\"k{i}\":0,")).collect();
    for path in &posts {
        for (what, headers, body) in [
            ("nothing", &[][..], &b""[..]),
            ("zeros", &[], &[0; 1000]),
            ("no UTF-8", &[("Content-Type", "application/json")], &[0xff; 1000]),
            ("gzip", &[("Content-Encoding", "gzip")], &GZIP),
            ("two encodings", &[("Content-Encoding", "gzip, snappy")], &GZIP),
            ("an unknown type", &[("Content-Type", "image/png")], b"\x89PNG\r\n"),
            ("deep JSON", &[("Content-Type", "application/json")], deep.as_bytes()),
            ("many parameters", &[("Content-Type", "application/json")], many.as_bytes()),
            ("many keys", &[("Content-Type", "application/json")], format!("{{{keys}\"k\":0}}").as_bytes()),
        ] {
            let answer = match server.try_post(path, headers, body) {
                Ok(answer) => answer,
                // A route that refuses by the headers alone may close before a long body is sent.
                Err(ureq::Error::Io(error)) if is_hang_up(&error) && body.len() > 32 << 10 => {
                    let refused = status(&server.raw(&head_alone(path, headers, body.len())));
                    let by_headers = (400..500).contains(&refused) && refused != 408;
                    assert!(by_headers || unread(path, refused), "{path}: {what}: {refused} after {error}");
                    continue;
                }
                Err(error) => panic!("{path}: {what}: {error}"),
            };
            // Unknown fields are no fault of OTLP's JSON.
            let is_fine = is_otlp(path) && ["many keys", "many parameters"].contains(&what) && answer.status == 200;
            if unread(path, answer.status) || is_fine {
                continue;
            }
            assert!((400..500).contains(&answer.status), "{path}: {what}: {} {}", answer.status, answer.text);
            assert!(answer.error().len() < 2_000, "{path}: {what}: {}", answer.text);
        }
        let gzip = server.post(path, &[("Content-Encoding", "gzip")], &GZIP);
        let has_no_line = is_influx(path) && gzip.status == 400;
        assert!(gzip.status == 415 || has_no_line || unread(path, gzip.status), "{path}: {}", gzip.text);
    }
    assert!(server.is_alive());
    assert_eq!(server.metric("foretell_remote_write_in_flight_bytes"), 0.0, "nothing stays reserved");
}

#[test]
fn no_route_waits_for_a_body_that_is_too_long_or_does_not_come() {
    let mut server = Server::start_with_file("[limits]\nbody_timeout = \"500ms\"\n");
    for path in &routes(&server, "post") {
        let head = |rest: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n\r\n");
        for (what, request, expected) in [
            ("announced too long", head("Content-Length: 999999999999"), &[413][..]),
            ("announced, half of it sent", head("Content-Length: 100") + "SELECT", &[408]),
            ("chunks that stop", head("Transfer-Encoding: chunked") + "3\r\nabc\r\n", &[408]),
            ("no chunk", head("Transfer-Encoding: chunked") + "rubbish\r\n", &[400]),
            ("two lengths", head("Content-Length: 5\r\nContent-Length: 6"), &[400]),
            ("a negative length", head("Content-Length: -1"), &[400]),
        ] {
            let answer = server.raw(request.as_bytes());
            let status = status(&answer);
            assert!(expected.contains(&status) || unread(path, status), "{path}: {what}: {answer}");
        }
        // 70 MB in chunks, whoever reads them all.
        let mut stream = server.connect();
        stream.write_all(head("Transfer-Encoding: chunked").as_bytes()).unwrap();
        let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
        let mut hung_up = false;
        for _ in 0..70 {
            if let Err(error) = stream.write_all(&chunk) {
                assert!(is_hang_up(&error), "{path}: {error}");
                hung_up = true;
                break;
            }
        }
        let (answer, reset) = read_to_close(&mut stream);
        hung_up |= reset;
        let said = if hung_up && answer.is_empty() { 413 } else { status(&answer) };
        assert!(said == 413 || unread(path, said), "{path}: {answer}");
    }
    assert!(server.is_alive());
    assert_eq!(server.metric("foretell_remote_write_in_flight_bytes"), 0.0, "nothing stays reserved");
}

#[test]
fn no_route_fails_over_its_address() {
    let mut server = Server::start();
    let query: String = (0..5_000).map(|i| format!("a{i}=b&")).collect();
    for (method, paths) in [("GET", routes(&server, "get")), ("POST", routes(&server, "post"))] {
        for path in paths {
            for target in [
                format!("{path}?{query}"),
                format!("{path}?{}", "x".repeat(60_000)),
                format!("{path}?%00%ff%zz=%"),
                format!("{path}/../../../etc/passwd"),
                format!("/{}", "a/".repeat(10_000)),
            ] {
                let request =
                    format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                let answer = server.raw(request.as_bytes());
                let status = status(&answer);
                let refused = (400..500).contains(&status);
                let well = refused || (method == "GET" && status < 400) || unread(&path, status);
                assert!(well, "{method} {}…: {answer}", &target[..target.len().min(80)]);
                assert!(!answer.contains("root:"), "{answer}");
            }
        }
    }
    assert!(server.is_alive());
}

/// Sends `frames` over HTTP/2, again and again, until the server has had enough or all are sent.
fn flood(server: &Server, frames: impl Iterator<Item = Vec<u8>>) {
    let mut stream = server.connect();
    stream.write_all(&http2::hello()).unwrap();
    let mut reader = stream.try_clone().unwrap();
    // Somebody must take the answers, or the server only stops reading.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(error) = std::io::copy(&mut reader, &mut std::io::sink()) {
                assert!(is_hang_up(&error), "reading: {error}");
            }
        });
        for frame in frames {
            if let Err(error) = stream.write_all(&frame) {
                assert!(is_hang_up(&error), "writing: {error}");
                break;
            }
        }
        // Of a connection that the server has reset there is nothing left to shut down.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn floods_of_frames_end_their_connection_and_nothing_else() {
    let mut server = Server::start();
    let before = server.metric("process_resident_memory_bytes");
    let (sql, healthy) = (http2::post("/api/v1/sql"), http2::post("/-/healthy"));
    let ids = || (0..20_000u32).map(|n| 2 * n + 1);
    // Streams opened and given up at once; pings and settings that want answers; headers that never end; lists of headers
    // that are too long.
    flood(&server, ids().map(|id| [frame(HEADERS, END_HEADERS, id, &sql), frame(RST_STREAM, 0, id, &[0; 4])].concat()));
    flood(&server, ids().map(|id| frame(HEADERS, END_HEADERS | END_STREAM, id, &healthy)));
    flood(&server, ids().map(|_| frame(PING, 0, 0, &[0; 8])));
    flood(&server, ids().map(|_| frame(SETTINGS, 0, 0, &[])));
    let more = [&[0x00, 1, b'k', 0x7f, 0xfb, 0x7e][..], &[b'v'; 16_384 - 6]].concat();
    let endless = std::iter::once(frame(HEADERS, 0, 1, &sql)).chain(ids().map(|_| frame(CONTINUATION, 0, 1, &more)));
    flood(&server, endless);
    assert!(server.is_alive());
    assert_eq!(server.rows("SELECT 1 + 1")[0][0], 2);
    let after = server.metric("process_resident_memory_bytes");
    assert!(after - before < 100e6, "resident memory grew from {before} to {after}");
}
