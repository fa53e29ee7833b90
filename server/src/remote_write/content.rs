//! Which message a request's headers announce.
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::decode::Protocol;
use crate::error::ApiError;

/// What is accepted, for those who sent something else.
const ACCEPTED: &str = "accepted: Content-Encoding snappy with Content-Type \
    application/x-protobuf;proto=io.prometheus.write.v2.Request (remote write 2.0), \
    application/x-protobuf;proto=prometheus.WriteRequest or application/x-protobuf (remote write 1.0)";

/// The message that the headers announce. Absent headers mean remote write 1.0, as they do in Prometheus; present ones must
/// say what is in the body.
///
/// # Errors
/// 415 with a list of what is accepted.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Protocol, ApiError> {
    if !is_snappy(headers) {
        return Err(unsupported("this Content-Encoding is not supported"));
    }
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return Ok(Protocol::V1);
    };
    let content_type = content_type.to_str().unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/x-protobuf") {
        return Err(unsupported("this Content-Type is not supported"));
    }
    let mut protocol = Protocol::V1;
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("proto") {
            let message = value.trim().trim_matches('"');
            let named = [Protocol::V1, Protocol::V2].into_iter().find(|protocol| protocol.message() == message);
            protocol = named.ok_or_else(|| unsupported("this proto of Content-Type is not supported"))?;
        }
    }
    Ok(protocol)
}

/// Whether the headers announce a snappy block, or do not say what the body is.
pub(crate) fn is_snappy(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"snappy"))
}

fn unsupported(what: &str) -> ApiError {
    ApiError::unsupported_media(format!("{what}; {ACCEPTED}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn negotiated(encoding: Option<&'static str>, content_type: Option<&'static str>) -> Result<Protocol, u16> {
        let mut headers = HeaderMap::new();
        encoding.map(|value| headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value)));
        content_type.map(|value| headers.insert(CONTENT_TYPE, HeaderValue::from_static(value)));
        negotiate(&headers).map_err(|error| {
            assert!(error.message.contains(Protocol::V2.message()), "{}", error.message);
            error.status.as_u16()
        })
    }

    #[test]
    fn only_snappy_protobuf_of_the_two_messages_is_taken() {
        let of_type = |content_type| negotiated(Some("snappy"), Some(content_type));
        assert_eq!(negotiated(None, None), Ok(Protocol::V1));
        assert_eq!(of_type("application/x-protobuf"), Ok(Protocol::V1));
        assert_eq!(of_type("application/x-protobuf;proto=prometheus.WriteRequest"), Ok(Protocol::V1));
        assert_eq!(of_type("application/x-protobuf;proto=io.prometheus.write.v2.Request"), Ok(Protocol::V2));
        assert_eq!(of_type("Application/X-Protobuf; Proto=\"io.prometheus.write.v2.Request\""), Ok(Protocol::V2));
        for other in ["application/x-protobuf;proto=other", "application/json", "", "application/x-protobuf;proto="] {
            assert_eq!(of_type(other), Err(415), "{other}");
        }
        let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        for other in ["gzip", "zstd", "", "snappy, gzip"] {
            assert_eq!(negotiated(Some(other), Some(v2)), Err(415), "{other}");
        }
    }
}
