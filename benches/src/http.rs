//! Two HTTP clients: a lean keep-alive one for bodies that are sent under the clock, and an easy one for everything else.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an answer at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Largest header of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest answer of the easy client.
const ANSWER_BYTES_MAX: u64 = 4 << 30;
/// What is shown of an answer that is an error.
const ERROR_CHARS_MAX: usize = 300;

/// One connection that posts bodies to one path. It reads an answer only far enough to know its status and its end.
pub struct Sender {
    stream: TcpStream,
    head: String,
    request: Vec<u8>,
    answer: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Sender {
    /// Connects. `headers` are sent with each request, each with `\r\n` at its end.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr, path: &str, headers: &str) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: ");
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { stream, head, request: Vec::new(), answer: Vec::new(), buffer })
    }

    /// Posts a body: the status and the answer's text.
    ///
    /// # Errors
    /// When the connection breaks or the answer is no HTTP.
    pub fn post(&mut self, body: &[u8]) -> Result<(u16, String)> {
        let (status, answer) = self.post_for_bytes(body)?;
        Ok((status, String::from_utf8_lossy(answer).into_owned()))
    }

    /// Posts a body: the status and the answer, in memory that the next one reuses.
    ///
    /// # Errors
    /// As [`Sender::post`].
    pub fn post_for_bytes(&mut self, body: &[u8]) -> Result<(u16, &[u8])> {
        self.request.clear();
        self.request.extend_from_slice(self.head.as_bytes());
        write!(self.request, "{}\r\n\r\n", body.len())?;
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request)?;
        self.answer.clear();
        let head_len = loop {
            let searched = self.answer.len().saturating_sub(3);
            self.read_more()?;
            if let Some(at) = self.answer[searched..].windows(4).position(|w| w == b"\r\n\r\n") {
                break searched + at + 4;
            }
            ensure!(self.answer.len() < HEAD_BYTES_MAX, "answer without the end of its header");
        };
        let head = std::str::from_utf8(&self.answer[..head_len])?;
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("answer without a status")?;
        let mut length = 0;
        for line in head.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                bail!("answer {status} in chunks, which the timed sender does not read");
            }
        }
        while self.answer.len() < head_len + length {
            self.read_more()?;
        }
        Ok((status, &self.answer[head_len..head_len + length]))
    }

    fn read_more(&mut self) -> Result<()> {
        let n = self.stream.read(&mut self.buffer)?;
        ensure!(n > 0, "connection closed by the server");
        self.answer.extend_from_slice(&self.buffer[..n]);
        Ok(())
    }
}

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
        let text = || String::from_utf8_lossy(&answer).chars().take(ERROR_CHARS_MAX).collect::<String>();
        ensure!(status == 200, "{url} answers {status}: {}", text());
        Ok(Timed { body: answer, ms })
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

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<(u16, Vec<u8>)> {
    let status = response.status().as_u16();
    Ok((status, response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?))
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
}
