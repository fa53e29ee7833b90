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

/// `pairs` as they stand in a form and in a URL.
pub fn encode(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// `text` as it stands in a path; it has no spaces.
pub fn percent(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The `data` of a success.
pub fn data(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("success")), "{}", answer.text);
    answer.json()["data"].clone()
}
