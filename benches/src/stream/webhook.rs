//! Somebody who is told of alerts, and does not always take it: refuses, hangs up without an answer, or is slow.
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::http_server::{Answer, HttpServer, Request};

/// What was told, without what only says of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) firing: bool,
    pub(super) starts_at: i64,
    pub(super) ends_at: Option<i64>,
}

/// What has come so far.
#[derive(Clone, Default)]
pub(super) struct Received {
    /// By alert and host, in the order in which they came first.
    pub(super) told: BTreeMap<(String, String), Vec<Notice>>,
    /// Bodies by their idempotency keys.
    keys: HashMap<String, String>,
    /// Notices that came once more.
    pub(super) again: u64,
    /// Notices that were not taken.
    pub(super) refused: u64,
    /// What must not be.
    pub(super) fault: Option<String>,
}

impl Received {
    pub(super) fn of(&self, of: &(String, String)) -> &[Notice] {
        self.told.get(of).map_or(&[], Vec::as_slice)
    }

    fn take(&mut self, key: &str, body: &[u8]) -> Result<()> {
        let mut notice: Value = serde_json::from_slice(body)?;
        // The server listens elsewhere after each start.
        notice["externalURL"] = Value::Null;
        let text = notice.to_string();
        if let Some(known) = self.keys.get(key) {
            self.again += 1;
            ensure!(*known == text, "one key for two notices: {known} and {text}");
            return Ok(());
        }
        ensure!(notice["idempotencyKey"] == *key, "another key in the body: {text}");
        let field = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("incomplete: {text}"));
        let (alert, host) = (field(&notice["alert"])?, field(&notice["labels"]["host"])?);
        let at = |value: &Value| -> Result<i64> {
            let text = field(value)?;
            chrono_ns(&text).with_context(|| format!("no time: {text}"))
        };
        let told = Notice {
            firing: notice["status"] == "firing",
            starts_at: at(&notice["startsAt"])?,
            ends_at: if notice["endsAt"].is_null() { None } else { Some(at(&notice["endsAt"])?) },
        };
        let list = self.told.entry((alert, host)).or_default();
        ensure!(!list.contains(&told), "one notice under two keys: {text}");
        list.push(told);
        self.keys.insert(key.to_owned(), text);
        Ok(())
    }
}

/// Nanoseconds of `2026-01-01T00:12:00.000000000Z`.
fn chrono_ns(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    // Days since 1970 by counting years from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    let fraction = text.get(19..)?.strip_suffix('Z')?;
    let ns = match fraction.strip_prefix('.') {
        Some(digits) if digits.len() <= 9 => digits.parse::<i64>().ok()? * 10_i64.pow(9 - digits.len() as u32),
        Some(_) => return None,
        None => 0,
    };
    Some((days * 86_400 + seconds) * 1_000_000_000 + ns)
}

/// See the module.
pub(super) struct Webhook {
    server: HttpServer,
    received: Mutex<Received>,
    rng: Mutex<SmallRng>,
}

impl Webhook {
    pub(super) fn bind(seed: u64) -> Result<Self> {
        let rng = Mutex::new(SmallRng::seed_from_u64(seed ^ 0xa1e7));
        Ok(Self { server: HttpServer::bind()?, received: Mutex::default(), rng })
    }

    pub(super) fn url(&self) -> Result<String> {
        self.server.url()
    }

    pub(super) fn received(&self) -> Received {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes requests until `stop`.
    pub(super) fn serve(&self, stop: &AtomicBool) {
        self.server.serve(stop, |request| self.answer(&request));
    }

    /// What one request is answered.
    fn answer(&self, request: &Request) -> Answer {
        let draw = self.rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..100);
        {
            let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
            if draw < 8 {
                received.refused += 1;
                return Some("503 Service Unavailable");
            }
            if let Err(fault) = received.take(request.header("idempotency-key"), &request.body) {
                received.fault.get_or_insert_with(|| format!("{fault:#}"));
            }
        }
        if (88..92).contains(&draw) {
            thread::sleep(Duration::from_millis(150));
        }
        // Now and then it was taken, and nobody is told so.
        (draw < 92).then_some("200 OK")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_to_the_nanosecond() {
        assert_eq!(chrono_ns("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(chrono_ns("2024-02-29T12:34:56.000000789Z"), Some(1_709_210_096_000_000_789));
        assert_eq!(chrono_ns("2026-01-01T00:12:00.5Z"), Some(1_767_226_320_500_000_000));
        assert_eq!(chrono_ns("yesterday"), None);
    }

    #[test]
    fn one_key_for_two_notices_and_one_notice_under_two_keys_are_faults() {
        let body = |key: &str, ends: &str| {
            format!(
                r#"{{"alert":"a","labels":{{"host":"h"}},"status":"firing","startsAt":"2026-01-01T00:00:00Z","endsAt":{ends},"idempotencyKey":"{key}"}}"#
            )
        };
        let mut received = Received::default();
        received.take("k", body("k", "null").as_bytes()).unwrap();
        received.take("k", body("k", "null").as_bytes()).unwrap();
        assert_eq!((received.again, received.told.len()), (1, 1));
        assert!(received.take("k", body("k", "\"2026-01-01T00:00:01Z\"").as_bytes()).is_err());
        assert!(received.take("l", body("l", "null").as_bytes()).is_err());
        assert!(received.take("l", body("k", "null").as_bytes()).is_err());
    }
}
