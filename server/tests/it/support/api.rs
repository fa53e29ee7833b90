//! The Prometheus HTTP API as its clients call it.
use serde_json::Value;

use super::{Answer, Server};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// POST of `pairs` as a form.
pub fn form(server: &Server, route: &str, pairs: &[(&str, &str)]) -> Answer {
    form_with(server, route, pairs, &[])
}

/// The same with further headers.
pub fn form_with(server: &Server, route: &str, pairs: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
    let headers = [&[FORM][..], headers].concat();
    server.post(&format!("/api/v1/{route}"), &headers, encode(pairs).as_bytes())
}

/// GET with `pairs` in the URL.
pub fn get(server: &Server, route: &str, pairs: &[(&str, &str)]) -> Answer {
    server.get(&format!("/api/v1/{route}?{}", encode(pairs)))
}

fn encode(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect::<Vec<_>>().join("&")
}

pub fn percent(text: &str) -> String {
    let byte = |b: u8| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

/// The `data` of a success.
pub fn data(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("success")), "{}", answer.text);
    answer.json()["data"].clone()
}
