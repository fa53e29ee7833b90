//! `prometheus.ReadRequest`, read from its wire bytes.
//!
//! ```text
//!  1 query { 1 start ms, 2 end ms, 3 matcher { 1 type, 2 name, 3 value }*, 4 hints }*  2 accepted response type*
//! ```
use foretell_engine::{MatchOp, Matcher};
use foretell_query::promql::RawQuery;

use crate::remote_write::wire::{Cursor, LENGTH_DELIMITED, Malformed, VARINT};

/// Questions of a request.
const QUERIES_MAX: usize = 64;
/// Conditions of a question.
const MATCHERS_MAX: usize = 256;
/// Types of answers that a request lists.
const ACCEPTED_MAX: usize = 16;
/// Characters of [`ReadRequest::describe`].
const DESCRIPTION_MAX: usize = 1024;

/// How an answer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// One message with raw samples.
    Samples,
    /// Frames with XOR chunks.
    Chunks,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct ReadRequest {
    /// Each gets one answer.
    pub(super) queries: Vec<RawQuery>,
    /// Encodings that the asker reads and we write, the best first; never empty.
    pub(super) encodings: Vec<Encoding>,
}

/// Why bytes are no request that can be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRequest {
    /// Not the message.
    #[error("cannot decode the body as prometheus.ReadRequest: {0}")]
    Malformed(#[from] Malformed),
    /// Beyond a limit, or not to be answered.
    #[error("{0}")]
    Refused(&'static str),
}

impl ReadRequest {
    /// # Errors
    /// See [`BadRequest`].
    pub(super) fn decode(body: &[u8]) -> Result<Self, BadRequest> {
        let (mut queries, mut accepted) = (Vec::new(), Vec::new());
        let mut cursor = Cursor::new(body);
        while !cursor.is_at_end() {
            match cursor.tag()? {
                (1, LENGTH_DELIMITED) => {
                    if queries.len() >= QUERIES_MAX {
                        return Err(BadRequest::Refused("a request of more than 64 queries; send several requests"));
                    }
                    let message = cursor.delimited()?;
                    queries.push(query(message, cursor.position() - message.len())?);
                }
                (2, VARINT) => accepted.push(cursor.varint()?),
                (2, LENGTH_DELIMITED) => {
                    let message = cursor.delimited()?;
                    let base = cursor.position() - message.len();
                    let mut packed = Cursor::new(message);
                    while !packed.is_at_end() && accepted.len() <= ACCEPTED_MAX {
                        accepted.push(packed.varint().map_err(|malformed| malformed.inside(base))?);
                    }
                }
                (1 | 2, _) => return Err(cursor.malformed("wrong wire type of a ReadRequest field").into()),
                (_, wire_type) => cursor.skip(wire_type)?,
            }
            if accepted.len() > ACCEPTED_MAX {
                return Err(BadRequest::Refused("a request that lists more than 16 response types"));
            }
        }
        let encodings = encodings(&accepted)?;
        Ok(Self { queries, encodings })
    }

    /// The first question in short, for people.
    pub(super) fn describe(&self) -> String {
        let mut text = String::from("remote read of {");
        for (i, matcher) in self.queries.iter().flat_map(|query| &query.matchers).enumerate() {
            let op = match matcher.op {
                MatchOp::NotEqual => "!=",
                MatchOp::Regex => "=~",
                MatchOp::NotRegex => "!~",
                _ => "=",
            };
            text.push_str(&format!("{}{}{op}{:?}", if i > 0 { "," } else { "" }, matcher.name, matcher.value));
            if text.len() > DESCRIPTION_MAX {
                break;
            }
        }
        text.push('}');
        text.chars().take(DESCRIPTION_MAX).collect()
    }
}

/// What of `accepted` we can write; samples when nothing is listed.
fn encodings(accepted: &[u64]) -> Result<Vec<Encoding>, BadRequest> {
    let known = accepted.iter().filter_map(|number| match number {
        0 => Some(Encoding::Samples),
        1 => Some(Encoding::Chunks),
        _ => None,
    });
    let known: Vec<Encoding> = known.collect();
    match (accepted, known.is_empty()) {
        ([], _) => Ok(vec![Encoding::Samples]),
        (_, true) => Err(BadRequest::Refused(
            "server does not support any of the requested response types; supported: SAMPLES, STREAMED_XOR_CHUNKS",
        )),
        _ => Ok(known),
    }
}

fn query(message: &[u8], base: usize) -> Result<RawQuery, BadRequest> {
    let inside = |malformed: Malformed| malformed.inside(base);
    let mut query = RawQuery { matchers: Vec::new(), start_ms: 0, end_ms: 0 };
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag().map_err(inside)? {
            (1, VARINT) => query.start_ms = cursor.varint().map_err(inside)? as i64,
            (2, VARINT) => query.end_ms = cursor.varint().map_err(inside)? as i64,
            (3, LENGTH_DELIMITED) => {
                if query.matchers.len() >= MATCHERS_MAX {
                    return Err(BadRequest::Refused("a query of more than 256 matchers"));
                }
                let message = cursor.delimited().map_err(inside)?;
                query.matchers.push(matcher(message, base + cursor.position() - message.len())?);
            }
            (1..=3, _) => return Err(inside(cursor.malformed("wrong wire type of a Query field")).into()),
            // Hints among them: what the asker does with an answer does not change it.
            (_, wire_type) => cursor.skip(wire_type).map_err(inside)?,
        }
    }
    Ok(query)
}

fn matcher(message: &[u8], base: usize) -> Result<Matcher, BadRequest> {
    let inside = |malformed: Malformed| malformed.inside(base);
    let (mut op, mut name, mut value) = (MatchOp::Equal, String::new(), String::new());
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag().map_err(inside)? {
            (1, VARINT) => {
                op = match cursor.varint().map_err(inside)? {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    _ => return Err(inside(cursor.malformed("invalid matcher type")).into()),
                };
            }
            (number @ (2 | 3), LENGTH_DELIMITED) => {
                let bytes = cursor.delimited().map_err(inside)?;
                let text = std::str::from_utf8(bytes).map_err(|_| inside(cursor.malformed("text that is no UTF-8")))?;
                if number == 2 { name = text.to_owned() } else { value = text.to_owned() }
            }
            (1..=3, _) => return Err(inside(cursor.malformed("wrong wire type of a LabelMatcher field")).into()),
            (_, wire_type) => cursor.skip(wire_type).map_err(inside)?,
        }
    }
    Ok(Matcher { name, op, value })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_proto::prometheus::v1 as proto;
    use prost::Message as _;

    use super::*;

    fn request(accepted: &[i32]) -> proto::ReadRequest {
        let matcher = |r#type, name: &str, value: &str| proto::LabelMatcher {
            r#type,
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let query = |start, end| proto::Query {
            start_timestamp_ms: start,
            end_timestamp_ms: end,
            matchers: vec![matcher(0, "__name__", "up"), matcher(3, "jöb", "a.*")],
            hints: Some(proto::ReadHints { step_ms: 5, func: "rate".to_owned(), ..proto::ReadHints::default() }),
        };
        proto::ReadRequest { queries: vec![query(-5, 7), query(0, 0)], accepted_response_types: accepted.to_vec() }
    }

    #[test]
    fn what_the_generated_types_write_is_read() {
        let read = ReadRequest::decode(&request(&[1, 0]).encode_to_vec()).unwrap();
        assert_eq!(read.encodings, [Encoding::Chunks, Encoding::Samples]);
        let [first, second] = read.queries.as_slice() else { panic!("{read:?}") };
        assert_eq!((first.start_ms, first.end_ms, second.start_ms, second.end_ms), (-5, 7, 0, 0));
        let matchers: Vec<_> = first.matchers.iter().map(|m| (m.name.as_str(), m.op, m.value.as_str())).collect();
        assert_eq!(matchers, [("__name__", MatchOp::Equal, "up"), ("jöb", MatchOp::NotRegex, "a.*")]);
        assert!(read.describe().starts_with("remote read of {__name__=\"up\",jöb!~\"a.*\""), "{}", read.describe());
    }

    #[test]
    fn an_encoding_is_chosen_that_both_sides_know() {
        let decoded = |accepted: &[i32]| ReadRequest::decode(&request(accepted).encode_to_vec());
        assert_eq!(decoded(&[]).unwrap().encodings, [Encoding::Samples]);
        assert_eq!(decoded(&[9, 0]).unwrap().encodings, [Encoding::Samples]);
        assert!(decoded(&[9]).unwrap_err().to_string().contains("does not support any"));
        // As senders wrote it before lists were packed.
        let unpacked = ReadRequest::decode(&[0x10, 1, 0x10, 0]).unwrap();
        assert_eq!(unpacked.encodings, [Encoding::Chunks, Encoding::Samples]);
    }

    #[test]
    fn truncations_are_refused_or_read_as_less() {
        let whole = request(&[0]).encode_to_vec();
        for len in 0..whole.len() {
            if let Ok(read) = ReadRequest::decode(&whole[..len]) {
                assert!(read.queries.len() <= 2);
            }
        }
        assert!(ReadRequest::decode(&[0x0a, 5, 1]).is_err());
        assert!(ReadRequest::decode(&[0x08, 1]).is_err());
        let many = [0x0a, 0].repeat(65);
        assert!(matches!(ReadRequest::decode(&many), Err(BadRequest::Refused(_))));
        let packed = [&[0x12, 20][..], &[1; 20]].concat();
        assert!(matches!(ReadRequest::decode(&packed), Err(BadRequest::Refused(_))));
        let bad_utf8 = [0x0a, 6, 0x1a, 4, 0x12, 2, 0xff, 0xff];
        assert!(ReadRequest::decode(&bad_utf8).unwrap_err().to_string().contains("UTF-8"));
    }
}
