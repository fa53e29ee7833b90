//! Two HTTP clients: a lean keep-alive one for what is asked under the clock, and an easy one for everything else.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an answer at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Largest header of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 4 << 30;
/// A connection that was idle for longer may be closed by the server.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Longest line before a chunk.
const CHUNK_HEAD_BYTES_MAX: usize = 64;
/// What is shown of an answer that is an error.
const ERROR_CHARS_MAX: usize = 300;

/// One connection that posts bodies. It reads an answer only far enough to know its status and its end, into memory that it keeps.
pub struct Sender {
    address: SocketAddr,
    stream: Option<TcpStream>,
    /// When the last answer had come.
    used: Instant,
    path: String,
    headers: String,
    request: Vec<u8>,
    /// What was read of the answer.
    answer: Vec<u8>,
    /// Where its body is: in one piece, or in chunks.
    body: Vec<Range<usize>>,
    buffer: Box<[u8]>,
}

impl Sender {
    /// Connects, for requests to `path`. `headers` are sent with each request, each with `\r\n` at its end.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr, path: &str, headers: &str) -> Result<Self> {
        let mut this = Self::new(headers);
        this.turn_to(address, path)?;
        Ok(this)
    }

    /// One without a connection yet.
    pub fn new(headers: &str) -> Self {
        Self {
            address: ([127, 0, 0, 1], 0).into(),
            stream: None,
            used: Instant::now(),
            path: String::new(),
            headers: headers.to_owned(),
            request: Vec::new(),
            answer: Vec::new(),
            body: Vec::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }

    /// Makes ready for requests to `path` of `address`: connects if it is not connected there, or the server may have closed.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn turn_to(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        if self.stream.is_none() || self.address != address || self.used.elapsed() > IDLE_MAX {
            self.stream = Some(open(address)?);
            (self.address, self.used) = (address, Instant::now());
        }
        self.path.clear();
        self.path.push_str(path);
        Ok(())
    }

    /// Closes the connection; its memory stays.
    pub fn close(&mut self) {
        self.stream = None;
    }

    /// Posts a body: the status and the answer's text.
    ///
    /// # Errors
    /// When the connection breaks or the answer is no HTTP.
    pub fn post(&mut self, body: &[u8]) -> Result<(u16, String)> {
        let status = self.exchange(body)?;
        Ok((status, String::from_utf8_lossy(&self.joined()).into_owned()))
    }

    /// Posts a body: the status, and how long the answer is.
    ///
    /// # Errors
    /// As [`Sender::post`].
    pub fn post_for_length(&mut self, body: &[u8]) -> Result<(u16, usize)> {
        let status = self.exchange(body)?;
        Ok((status, self.body.iter().map(Range::len).sum()))
    }

    /// Posts a body: the answer, with its time.
    ///
    /// # Errors
    /// As [`Sender::post`]; when it is not 200.
    pub fn timed(&mut self, body: &[u8]) -> Result<Timed> {
        let begun = Instant::now();
        let status = self.exchange(body)?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        Timed::of(&self.path, status, self.joined(), ms)
    }

    /// The answer's body.
    fn joined(&self) -> Vec<u8> {
        let pieces: Vec<&[u8]> = self.body.iter().map(|piece| &self.answer[piece.clone()]).collect();
        pieces.concat()
    }

    /// Sends a request with `body` and reads the answer: its status.
    fn exchange(&mut self, body: &[u8]) -> Result<u16> {
        self.request.clear();
        let Self { address, path, headers, .. } = self;
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        )?;
        self.request.extend_from_slice(body);
        self.stream.as_mut().context("no connection")?.write_all(&self.request)?;
        self.answer.clear();
        self.body.clear();
        let body_at =
            self.read_until(0, b"\r\n\r\n", HEAD_BYTES_MAX).context("answer without the end of its header")?;
        let head = std::str::from_utf8(&self.answer[..body_at])?;
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("answer without a status")?;
        let (mut length, mut in_chunks, mut closes) = (None, false, false);
        for line in head.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let is = |what: &str| name.eq_ignore_ascii_case(what);
            if is("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            } else if is("transfer-encoding") {
                in_chunks = value.trim().eq_ignore_ascii_case("chunked");
            } else if is("connection") {
                closes = value.trim().eq_ignore_ascii_case("close");
            }
        }
        match length {
            _ if in_chunks => self.read_chunks(body_at)?,
            Some(length) => {
                ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
                self.read_up_to(body_at + length)?;
                self.body.push(body_at..body_at + length);
            }
            None => ensure!(status == 204, "answer {status} without a length"),
        }
        self.used = Instant::now();
        if closes {
            self.close();
        }
        Ok(status)
    }

    /// Reads the chunks that begin at `at` of the answer.
    fn read_chunks(&mut self, mut at: usize) -> Result<()> {
        loop {
            let data = self.read_until(at, b"\r\n", at + CHUNK_HEAD_BYTES_MAX).context("a chunk without a length")?;
            let size = std::str::from_utf8(&self.answer[at..data - 2])?;
            let size = usize::from_str_radix(size, 16).with_context(|| format!("{size:?} as the length of a chunk"))?;
            ensure!(
                size <= ANSWER_BYTES_MAX - data.min(ANSWER_BYTES_MAX),
                "an answer of more than {ANSWER_BYTES_MAX} bytes"
            );
            let end = data + size;
            self.read_up_to(end + 2)?;
            ensure!(&self.answer[end..end + 2] == b"\r\n", "a chunk that does not end where it says");
            if size == 0 {
                return Ok(());
            }
            self.body.push(data..end);
            at = end + 2;
        }
    }

    /// Reads until `end` stands in the answer at `from` or behind: where it is over, at most `at_most`.
    fn read_until(&mut self, from: usize, end: &[u8], at_most: usize) -> Result<usize> {
        let mut searched = from;
        loop {
            let found = self.answer.get(searched..).unwrap_or_default().windows(end.len()).position(|own| own == end);
            if let Some(at) = found {
                return Ok(searched + at + end.len());
            }
            ensure!(self.answer.len() < at_most, "none before byte {at_most}");
            searched = from.max(self.answer.len().saturating_sub(end.len() - 1));
            self.read_more()?;
        }
    }

    /// Reads until the answer has so many bytes.
    fn read_up_to(&mut self, bytes: usize) -> Result<()> {
        while self.answer.len() < bytes {
            self.read_more()?;
        }
        Ok(())
    }

    fn read_more(&mut self) -> Result<()> {
        let n = self.stream.as_mut().context("no connection")?.read(&mut self.buffer)?;
        ensure!(n > 0, "connection closed by the server");
        self.answer.extend_from_slice(&self.buffer[..n]);
        Ok(())
    }
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The content type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// The headers of a request whose body is one.
pub const FORM_HEADERS: &str = "Content-Type: application/x-www-form-urlencoded\r\nUser-Agent: foretell-bench\r\n";

/// The headers of an OTLP request that is not compressed.
pub const OTLP_HEADERS: &str = "Content-Type: application/x-protobuf\r\nUser-Agent: foretell-bench\r\n";

/// The headers of a remote write 1.0 request.
pub const REMOTE_WRITE_HEADERS: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
    X-Prometheus-Remote-Write-Version: 0.1.0\r\nUser-Agent: foretell-bench\r\n";

/// An answer, unread, and how long it took from the request until it was there whole.
pub struct Timed {
    /// Its body.
    pub body: Vec<u8>,
    /// Milliseconds.
    pub ms: f64,
}

impl Timed {
    /// The answer of `url`, which must be 200.
    fn of(url: &str, status: u16, body: Vec<u8>, ms: f64) -> Result<Self> {
        ensure!(status == 200, "{url} answers {status}: {}", beginning(&body));
        Ok(Self { body, ms })
    }

    /// What it says.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn parse(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("an answer that is not JSON")
    }
}

/// A client with answers read whole, of any status.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
}

impl Default for Client {
    fn default() -> Self {
        Self::patient(TIMEOUT)
    }
}

impl Client {
    /// A client that waits so long for an answer.
    pub fn patient(timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // loopback only, whatever the environment says
            .proxy(None)
            .build();
        Self { agent: config.into() }
    }

    /// The status and body of a GET.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, url: &str) -> Result<(u16, Vec<u8>)> {
        answer(self.agent.get(url).call().with_context(|| format!("GET {url}"))?)
    }

    /// Whether a GET is answered with 200.
    pub fn is_ok(&self, url: &str) -> bool {
        self.get(url).is_ok_and(|(status, _)| status == 200)
    }

    /// The status and body of a POST.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn post(&self, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let mut request = self.agent.post(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body).with_context(|| format!("POST {url}"))?)
    }

    /// The answer to a POST, with its time.
    ///
    /// # Errors
    /// When it is not 200.
    pub fn timed(&self, url: &str, content_type: &str, body: &str) -> Result<Timed> {
        let begun = Instant::now();
        let (status, answer) = self.post(url, &[("content-type", content_type)], body.as_bytes())?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        Timed::of(url, status, answer, ms)
    }

    /// The answer of Foretell's SQL route to a statement, with its time.
    ///
    /// # Errors
    /// When it is not answered with rows.
    pub fn timed_sql(&self, base: &str, sql: &str) -> Result<Timed> {
        self.timed(&format!("{base}/api/v1/sql"), "text/plain", sql).with_context(|| sql.to_owned())
    }

    /// The rows of a statement sent to Foretell's SQL route.
    ///
    /// # Errors
    /// When it is not answered with rows.
    pub fn sql(&self, base: &str, sql: &str) -> Result<Vec<Vec<serde_json::Value>>> {
        rows(&self.timed_sql(base, sql)?)
    }
}

/// The rows of an answer of Foretell's SQL route.
///
/// # Errors
/// When it has none.
pub fn rows(answer: &Timed) -> Result<Vec<Vec<serde_json::Value>>> {
    Ok(serde_json::from_value(answer.parse()?["rows"].take())?)
}

/// The beginning of an answer that is an error.
fn beginning(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(ERROR_CHARS_MAX).collect()
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<(u16, Vec<u8>)> {
    let status = response.status().as_u16();
    Ok((status, response.body_mut().with_config().limit(ANSWER_BYTES_MAX as u64).read_to_vec()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_sender_reads_answers_one_after_the_other_on_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::Builder::new().spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (body, answer) in [
                ("one", "HTTP/1.1 204 No Content\r\n\r\n"),
                ("three", "HTTP/1.1 429 Too Many\r\ncontent-LENGTH: 4\r\n\r\nbusy"),
            ] {
                let mut request = Vec::new();
                while !request.ends_with(body.as_bytes()) {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                let request = String::from_utf8(request).unwrap();
                assert!(request.starts_with("POST /w HTTP/1.1\r\n"), "{request}");
                assert!(request.contains(&format!("\r\nA: b\r\nContent-Length: {}\r\n\r\n", body.len())), "{request}");
                for byte in answer.as_bytes() {
                    stream.write_all(&[*byte]).unwrap();
                }
            }
        });
        let mut sender = Sender::connect(address, "/w", "A: b\r\n").unwrap();
        assert_eq!(sender.post(b"one").unwrap(), (204, String::new()));
        assert_eq!(sender.post(b"three").unwrap(), (429, "busy".to_owned()));
        server.unwrap().join().unwrap();
        assert!(sender.post(b"more").is_err());
    }

    /// Answers a request to `path` on each connection with the pieces after it, and goes on when its client has read them.
    fn answers(all: Vec<(&'static str, Vec<&'static str>)>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            for (path, pieces) in all {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"body") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                assert!(request.starts_with(format!("POST {path} HTTP/1.1\r\n").as_bytes()));
                pieces.iter().for_each(|piece| stream.write_all(piece.as_bytes()).unwrap());
            }
        };
        std::thread::Builder::new().spawn(serve).unwrap();
        address
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";

    #[test]
    fn an_answer_in_chunks_is_joined_and_a_closed_connection_is_opened_again() {
        let chunks = vec![&CHUNKED[..40], &CHUNKED[40..], "3\r\nab", "c\r", "\nA\r\n0123456789\r\n0", "\r\n\r\n"];
        let refusal = vec!["HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nnone"];
        let address = answers(vec![("/b", chunks), ("/c", refusal)]);
        let mut sender = Sender::new(FORM_HEADERS);
        sender.turn_to(address, "/b").unwrap();
        assert_eq!(sender.timed(b"body").unwrap().body, b"abc0123456789");
        sender.turn_to(address, "/c").unwrap();
        let refused = sender.timed(b"body").err().unwrap();
        assert_eq!(refused.to_string(), "/c answers 500: none");
    }

    #[test]
    fn answers_that_are_not_what_they_say_are_an_error() {
        let endless = "0".repeat(CHUNK_HEAD_BYTES_MAX + 1).leak();
        for (head, bad, message) in [
            (CHUNKED, "x\r\n", "\"x\" as the length of a chunk"),
            (CHUNKED, "2\r\nabc\r\n", "a chunk that does not end where it says"),
            (CHUNKED, "ffffffffffffffff\r\n", "an answer of more than 4294967296 bytes"),
            (CHUNKED, endless, "a chunk without a length"),
            (CHUNKED, "5\r\nabc", "connection closed by the server"),
            ("HTTP/1.1 200 OK\r\n", "\r\n", "answer 200 without a length"),
        ] {
            let mut sender = Sender::connect(answers(vec![("/a", vec![head, bad])]), "/a", "").unwrap();
            assert_eq!(sender.post(b"body").err().unwrap().to_string(), message);
        }
    }
}
