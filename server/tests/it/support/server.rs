//! Starting, asking and ending the real binary.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::write_request::{Series, body};

/// Longest that anything may take on a slow, shared machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the server says of its ports, in this order.
const LISTENING: [&str; 3] =
    ["foretell: http listening on ", "foretell: otlp/http listening on ", "foretell: grpc listening on "];

/// The binary, without the configuration of whoever runs the tests.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foretell"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FORETELL_") {
            command.env_remove(name);
        }
    }
    command
}

/// Polls `condition` until it holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Status, a header reader and the body of an answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// The `error` of an error answer.
    pub fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json["status"], "error", "{}", self.text);
        assert!(json["errorType"].is_string(), "{}", self.text);
        json["error"].as_str().unwrap().to_owned()
    }
}

/// An answer that is no text.
#[derive(Debug)]
pub struct BytesAnswer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub bytes: Vec<u8>,
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    /// Of the port for OTLP over HTTP.
    pub otlp_url: String,
    /// Of the port for gRPC.
    pub grpc_url: String,
    pub dir: Arc<TempDir>,
    agent: ureq::Agent,
}

impl Server {
    /// In a fresh directory, ready.
    pub fn start() -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), &[])
    }

    /// In a fresh directory with a configuration file, ready.
    pub fn start_with_file(toml: &str) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        let path = dir.path().join("foretell.toml");
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        Self::start_in(dir, &["--config", path.to_str().unwrap()])
    }

    /// In `dir`, ready.
    pub fn start_in(dir: Arc<TempDir>, args: &[&str]) -> Self {
        let server = Self::spawn(dir, args);
        server.wait_ready();
        server
    }

    /// In `dir`, as soon as it listens.
    pub fn spawn(dir: Arc<TempDir>, args: &[&str]) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("stderr.log")).unwrap();
        let mut child = binary()
            .args(["serve", "--listen-http", "127.0.0.1:0", "--listen-otlp-http", "127.0.0.1:0"])
            .args(["--listen-grpc", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path().join("data"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .spawn(move || {
                for line in stdout.lines().map_while(Result::ok) {
                    if let Some(url) = LISTENING.iter().find_map(|said| line.strip_prefix(said)) {
                        let _ = sender.send(url.to_owned());
                    }
                }
            })
            .unwrap();
        let [url, otlp_url, grpc_url] = LISTENING.map(|_| {
            receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let _ = child.kill();
                panic!("no listener; log:\n{}", read_log(dir.path()))
            })
        });
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            // A fresh connection each time: a stop closes idle ones, which is not what these tests are about.
            .max_idle_connections(0)
            .build();
        Self { child, url, otlp_url, grpc_url, dir, agent: config.new_agent() }
    }

    pub fn wait_ready(&self) {
        wait_until("ready", || self.get("/-/ready").status == 200);
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(format!("{}{path}", self.url)).call().unwrap())
    }

    /// Waits until a stop has begun. A connection opened at that very moment may be cut off.
    pub fn wait_stopping(&self) {
        wait_until("stopping", || {
            let asked = self.agent.get(format!("{}/-/ready", self.url)).call();
            asked.is_ok_and(|response| answer(response).json()["status"] == "stopping")
        });
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answer(request.call().unwrap())
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_post(path, headers, body).unwrap()
    }

    pub fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send(body).map(answer)
    }

    /// As [`Server::post`], for an answer that is no text.
    pub fn post_for_bytes(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> BytesAnswer {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, mut body) = request.send(body).unwrap().into_parts();
        let bytes = body.with_config().limit(256 << 20).read_to_vec().unwrap();
        BytesAnswer { status: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub fn put(&self, path: &str) -> Answer {
        answer(self.agent.put(format!("{}{path}", self.url)).send_empty().unwrap())
    }

    /// Sends bytes as a write request.
    pub fn write_bytes(&self, body: &[u8]) -> Answer {
        self.post(
            "/api/v1/write",
            &[
                ("Content-Encoding", "snappy"),
                ("Content-Type", "application/x-protobuf"),
                ("X-Prometheus-Remote-Write-Version", "0.1.0"),
            ],
            body,
        )
    }

    pub fn write(&self, series: &[Series]) -> Answer {
        self.write_bytes(&body(series))
    }

    /// Runs SQL text.
    pub fn sql(&self, sql: &str) -> Answer {
        self.post("/api/v1/sql", &[("Content-Type", "text/plain")], sql.as_bytes())
    }

    /// The rows of an answer that must succeed.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let answer = self.sql(sql);
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text);
        let json = answer.json();
        json["rows"].as_array().unwrap().iter().map(|row| row.as_array().unwrap().clone()).collect()
    }

    /// Samples of `metric`.
    pub fn count(&self, metric: &str) -> u64 {
        self.rows(&format!("SELECT count(*) FROM metrics.\"{metric}\""))[0][0].as_u64().unwrap()
    }

    /// A value on `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text;
        // With or without its labels.
        let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        read_log(self.dir.path())
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// SIGKILL; what remains is the directory.
    pub fn kill(mut self) -> Arc<TempDir> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Arc::clone(&self.dir)
    }

    /// SIGTERM, and the exit must be clean.
    pub fn stop(mut self) -> Arc<TempDir> {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        Arc::clone(&self.dir)
    }

    /// Sends raw bytes and returns whatever comes back until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_to_close(&mut stream).0
    }

    pub fn connect(&self) -> TcpStream {
        connect_to(&self.url)
    }
}

fn connect_to(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether an error is what a client sees of a server that has answered and closed before it had read everything: its system
/// resets the connection. Silence until the client's patience ends is something else.
pub fn is_hang_up(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

/// Whatever comes until the server closes, and whether it has hung up: then the answer may be lost.
pub fn read_to_close(stream: &mut TcpStream) -> (String, bool) {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if let Err(error) = &read {
        assert!(is_hang_up(error), "the server does not close: {error}, after {text:?}");
    }
    (text, read.is_err())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("server log:\n{}", self.log());
        }
    }
}

fn read_log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("stderr.log")).unwrap_or_default()
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Answer {
    let (parts, mut body) = response.into_parts();
    // An answer may be protobuf, whose texts are looked for like others.
    let bytes = body.with_config().limit(256 << 20).read_to_vec().unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}
