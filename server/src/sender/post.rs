//! Handing a request to a server: again while it is busy (429, 503), after the time it asks for.
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes read of an answer.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// How long a busy server is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Longest pause, whatever the server asks for.
    pub(crate) pause_max: Duration,
    /// All pauses of one request together.
    pub(crate) total_max: Duration,
}

/// Why a request was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undelivered {
    /// Nobody answers.
    #[error("the server does not answer: {0}")]
    Unreachable(#[from] ureq::Error),
    /// It will not take this, however often it is sent.
    #[error("the server refused a request with {status}: {answer}")]
    Refused {
        /// 400, 413, …
        status: StatusCode,
        /// What it says.
        answer: String,
    },
    /// It was busy all the time.
    #[error("the server was too busy for {waited:?}, last {status}: {answer}")]
    Busy {
        /// How long was waited.
        waited: Duration,
        /// 429 or 503.
        status: StatusCode,
        /// What it says.
        answer: String,
    },
}

/// What a server takes at one of its routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Remote write 1.0: bodies of [`super::Request`].
    RemoteWrite,
    /// Protobuf of OTLP over HTTP, not compressed, at this path.
    Otlp(&'static str),
}

impl Wire {
    fn path(self) -> &'static str {
        match self {
            Self::RemoteWrite => "/api/v1/write",
            Self::Otlp(path) => path,
        }
    }
}

/// A server that takes requests.
pub(crate) struct Target {
    agent: Agent,
    url: String,
    wire: Wire,
    user_agent: &'static str,
    patience: Patience,
}

impl Target {
    /// The server at `base`, which takes remote writes and learns that `user_agent` sends.
    pub(crate) fn new(base: &str, user_agent: &'static str, patience: Patience) -> Self {
        Self::of(base, Wire::RemoteWrite, user_agent, patience)
    }

    /// The server at `base`, by another wire.
    pub(crate) fn of(base: &str, wire: Wire, user_agent: &'static str, patience: Patience) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        let url = format!("{}{}", base.trim_end_matches('/'), wire.path());
        Self { agent: config.new_agent(), url, wire, user_agent, patience }
    }

    /// Sends a body, and forgets what the answer to a success says.
    ///
    /// # Durability
    /// As [`Target::post_for_answer`].
    ///
    /// # Errors
    /// See [`Undelivered`]. Parts of a refused request may have been stored.
    pub(crate) fn post(&self, body: &[u8]) -> Result<(), Undelivered> {
        self.deliver(body).map(drop)
    }

    /// Sends a body; the answer to a success.
    ///
    /// # Durability
    /// When this returns, the server has all of it on stable storage (if it waits for that, which is its default).
    ///
    /// # Errors
    /// See [`Undelivered`]. Parts of a refused request may have been stored.
    pub(crate) fn post_for_answer(&self, body: &[u8]) -> Result<Vec<u8>, Undelivered> {
        let answer = self.deliver(body)?.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        Ok(answer?)
    }

    fn deliver(&self, body: &[u8]) -> Result<Response<Body>, Undelivered> {
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            let request = self.agent.post(&self.url).header("Content-Type", "application/x-protobuf");
            let request = match self.wire {
                Wire::RemoteWrite => {
                    request.header("Content-Encoding", "snappy").header("X-Prometheus-Remote-Write-Version", "0.1.0")
                }
                Wire::Otlp(_) => request,
            };
            let response = request.header("User-Agent", self.user_agent).send(body)?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let pause = self.patience.pause(attempt, response.headers());
            let answer = response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_string();
            let answer = error_text(&answer.unwrap_or_default());
            if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
                return Err(Undelivered::Refused { status, answer });
            }
            let waited = begun.elapsed();
            if waited + pause > self.patience.total_max {
                return Err(Undelivered::Busy { waited, status, answer });
            }
            std::thread::sleep(pause);
            attempt += 1;
        }
    }
}

impl Patience {
    /// What the server asks for, or twice as long each time.
    fn pause(self, attempt: u32, headers: &HeaderMap) -> Duration {
        let wanted = headers.get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
        let pause = wanted.map_or(Duration::from_millis(50 << attempt.min(6)), Duration::from_secs);
        pause.max(Duration::from_millis(1)).min(self.pause_max)
    }
}

/// The `error` of an error object, or the text as it is.
fn error_text(body: &str) -> String {
    let json = serde_json::from_str::<serde_json::Value>(body).ok();
    json.and_then(|json| Some(json["error"].as_str()?.to_owned())).unwrap_or_else(|| body.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_how_long_to_wait_within_reason() {
        let patience = Patience { pause_max: Duration::from_secs(2), total_max: Duration::from_secs(9) };
        let mut headers = HeaderMap::new();
        assert_eq!(patience.pause(0, &headers), Duration::from_millis(50));
        assert_eq!(patience.pause(3, &headers), Duration::from_millis(400));
        assert_eq!(patience.pause(60, &headers), Duration::from_secs(2));
        headers.insert("Retry-After", "1".parse().unwrap());
        assert_eq!(patience.pause(9, &headers), Duration::from_secs(1));
        headers.insert("Retry-After", "3600".parse().unwrap());
        assert_eq!(patience.pause(9, &headers), Duration::from_secs(2));
        headers.insert("Retry-After", "0".parse().unwrap());
        assert_eq!(patience.pause(9, &headers), Duration::from_millis(1), "never a busy loop");
    }
}
