//! One POST of JSON to somebody who is told of alerts.
use std::time::Duration;

use ureq::Agent;
use ureq::http::StatusCode;

/// Bytes of an error answer that are shown.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Why something was not taken.
pub(crate) struct Refused {
    pub(crate) message: String,
    /// Whether it may be taken later.
    pub(crate) again: bool,
}

/// Posts within `timeout`.
pub(crate) fn agent(timeout: Duration) -> Agent {
    Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout)).build().new_agent()
}

/// Where an Alertmanager takes alerts.
pub(crate) fn alertmanager_url(url: &str) -> String {
    format!("{}/api/v2/alerts", url.trim_end_matches('/'))
}

/// Posts `body`, with `headers` besides those that say what it is.
///
/// # Errors
/// When it was not taken.
pub(crate) fn post(agent: &Agent, url: &str, headers: &[(&str, &str)], body: &str) -> Result<(), Refused> {
    let request = agent.post(url).header("Content-Type", "application/json");
    let request = request.header("User-Agent", concat!("foretell/", env!("CARGO_PKG_VERSION")));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send(body).map_err(|error| Refused { message: error.to_string(), again: true })?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let again =
        !status.is_client_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let answer = response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    Err(Refused { message: format!("{status}: {}", answer.unwrap_or_default().trim()), again })
}
