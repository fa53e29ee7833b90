//! A small HTTP server for those who are told things: one request a connection, answered as the benchmark likes.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Largest request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a request may take to come.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// What was asked.
pub struct Request {
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Everything after them.
    pub body: Vec<u8>,
}

impl Request {
    /// A header by its name in lower case, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
    }
}

/// What is answered: a status such as `200 OK`, or nothing at all.
pub type Answer = Option<&'static str>;

/// See the module.
pub struct HttpServer(TcpListener);

impl HttpServer {
    /// Listens at a free port of the loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn bind() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Where it is reached.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn url(&self) -> Result<String> {
        Ok(format!("http://{}/told", self.0.local_addr()?))
    }

    /// Answers requests until `stop`, each on a thread of its own.
    pub fn serve(&self, stop: &AtomicBool, answer: impl Fn(Request) -> Answer + Sync) {
        let answer = &answer;
        thread::scope(|scope| {
            while !stop.load(Ordering::Acquire) {
                match self.0.accept() {
                    Ok((stream, _)) => drop(scope.spawn(move || drop(one(stream, answer)))),
                    Err(_) => thread::sleep(Duration::from_micros(500)),
                }
            }
        });
    }
}

fn one(stream: TcpStream, answer: &(impl Fn(Request) -> Answer + Sync)) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_WITHIN))?;
    let mut reader = BufReader::new(stream);
    let (mut headers, mut line) = (Vec::new(), String::new());
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the end of the connection");
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.trim_end().split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let mut request = Request { headers, body: Vec::new() };
    let length: usize = request.header("content-length").parse().unwrap_or(0);
    ensure!(length <= BODY_BYTES_MAX, "a request of {length} bytes");
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    if let Some(status) = answer(request) {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        reader.into_inner().write_all(head.as_bytes())?;
    }
    Ok(())
}
