//! HTTP to the server.
use std::io::{self, Read, Write};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::answer::{self, Answer};

/// Bytes read of an error answer.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Bytes copied at a time.
const COPY_BYTES: usize = 64 << 10;

/// Why a statement gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "cannot reach the server: {0}; is it running? `foretell serve --data-dir DIR` starts one, --url names another"
    )]
    Unreachable(String),
    #[error("{error} ({kind})")]
    Refused { kind: String, error: String },
    #[error("the answer broke off: {0}")]
    Broken(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    #[serde(rename = "errorType")]
    kind: String,
    error: String,
}

/// One server.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    timeout: Option<String>,
}

impl Client {
    pub(crate) fn new(url: &str, timeout: Option<String>) -> Self {
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_connect(Some(Duration::from_secs(5))).build();
        Self { agent: config.new_agent(), base: url.trim_end_matches('/').to_owned(), timeout }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    fn run(&self, sql: &str, format: &str) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.post(format!("{}/api/v1/sql", self.base)).query("format", format);
        if let Some(timeout) = &self.timeout {
            request = request.query("timeout", timeout);
        }
        let response = request.content_type("text/plain; charset=utf-8").send(sql);
        checked(response.map_err(|error| Failure::Unreachable(error.to_string()))?)
    }

    /// The answer with at most `rows_max` of its rows.
    pub(crate) fn rows(&self, sql: &str, rows_max: usize) -> Result<Answer, Failure> {
        answer::read(self.stream(sql, "json")?, rows_max).map_err(Failure::Broken)
    }

    /// The answer as it comes.
    pub(crate) fn stream(&self, sql: &str, format: &str) -> Result<impl Read + use<>, Failure> {
        Ok(self.run(sql, format)?.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// Copies the answer as it comes.
    pub(crate) fn copy(&self, sql: &str, format: &str, out: &mut impl Write) -> Result<io::Result<()>, Failure> {
        let mut body = self.stream(sql, format)?;
        let mut chunk = vec![0; COPY_BYTES];
        loop {
            // Reading and writing fail for different reasons: a broken answer is an error, a closed pipe is not.
            let len = body.read(&mut chunk)?;
            if len == 0 {
                return Ok(Ok(()));
            }
            if let Err(error) = out.write_all(&chunk[..len]) {
                return Ok(Err(error));
            }
        }
    }

    /// Names of tables and functions; none when the server does not answer.
    pub(crate) fn names(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Names {
            names: Vec<String>,
        }
        let response = self.agent.get(format!("{}/api/v1/sql/names", self.base)).call();
        let Ok(response) = response.map_err(|error| Failure::Unreachable(error.to_string())).and_then(checked) else {
            return Vec::new();
        };
        response.into_body().read_json::<Names>().map(|names| names.names).unwrap_or_default()
    }
}

/// The response if it is a success, its error otherwise.
fn checked(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut text = Vec::new();
    let _ = response.into_body().into_reader().take(ERROR_BYTES_MAX).read_to_end(&mut text);
    Err(match serde_json::from_slice::<ErrorBody>(&text) {
        Ok(body) => Failure::Refused { kind: body.kind, error: body.error },
        Err(_) => {
            Failure::Refused { kind: format!("HTTP {status}"), error: String::from_utf8_lossy(&text).into_owned() }
        }
    })
}
