//! Lines and spans to requests: grouped by source and scope, of bounded size, each acknowledged before the next.
use std::collections::HashMap;

use anyhow::{anyhow, bail};
use foretell_query::event::Signal;

use super::encode;
use super::mapping::Mapping;
use super::parts::Parts;
use crate::remote_write::wire::{Cursor, LENGTH_DELIMITED, Malformed, VARINT};
use crate::sender::encode::put_bytes;
use crate::sender::{Target, Undelivered, Wire};

/// Rows of a request.
const ROWS_MAX: u64 = 8_192;
/// Bytes of a request, but for its last row.
const BYTES_MAX: usize = 1 << 20;

/// Tags, the same for lines and spans: groups of a request; resource and scopes of a group; scope and rows of a scope; a
/// name.
const GROUP: u8 = 1 << 3 | 2;
const RESOURCE: u8 = 1 << 3 | 2;
const SCOPES: u8 = 2 << 3 | 2;
const SCOPE: u8 = 1 << 3 | 2;
const ROW: u8 = 2 << 3 | 2;
const NAME: u8 = 1 << 3 | 2;

/// The wire of a signal.
pub(in super::super) fn wire(signal: Signal) -> Wire {
    match signal {
        Signal::Logs => Wire::Otlp("/v1/logs"),
        Signal::Spans => Wire::Otlp("/v1/traces"),
    }
}

struct Group {
    resource: Vec<u8>,
    scope: String,
    /// Each with its tag and length.
    rows: Vec<u8>,
}

/// Sends the rows of one file.
pub(in super::super) struct Batcher<'a> {
    target: &'a Target,
    /// (resource, scope) to the index of its group.
    index: HashMap<(Vec<u8>, String), usize>,
    groups: Vec<Group>,
    rows: u64,
    bytes: usize,
    places: Option<(u64, u64)>,
    sent: u64,
}

impl<'a> Batcher<'a> {
    pub(in super::super) fn new(target: &'a Target) -> Self {
        let (index, groups) = Default::default();
        Self { target, index, groups, rows: 0, bytes: 0, places: None, sent: 0 }
    }

    /// Rows acknowledged.
    pub(in super::super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes a row.
    ///
    /// # Errors
    /// What is wrong with it; nothing of it is sent then.
    pub(super) fn push(&mut self, place: u64, parts: &Parts<'_>, mapping: &Mapping) -> Result<(), String> {
        let (mut resource, mut row) = (Vec::new(), Vec::new());
        encode::event(mapping.signal(), parts, mapping.times(), &mut row)?;
        encode::resource(parts, &mut resource);
        let scope = match mapping.signal() {
            Signal::Logs => parts.get("scope").shown().unwrap_or_default().into_owned(),
            Signal::Spans => String::new(),
        };
        let groups = &mut self.groups;
        let key = (resource, scope);
        let at = match self.index.get(&key) {
            Some(&at) => at,
            None => {
                self.bytes += key.0.len() + key.1.len();
                groups.push(Group { resource: key.0.clone(), scope: key.1.clone(), rows: Vec::new() });
                self.index.insert(key, groups.len() - 1);
                groups.len() - 1
            }
        };
        put_bytes(&mut groups[at].rows, ROW, &row);
        self.bytes += row.len();
        self.rows += 1;
        self.places = Some((self.places.map_or(place, |(first, _)| first), place));
        Ok(())
    }

    /// Sends what is pending if that is a whole request.
    ///
    /// # Errors
    /// As [`Batcher::flush`].
    pub(super) fn flush_if_full(&mut self) -> anyhow::Result<()> {
        if self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Sends what is pending.
    ///
    /// # Durability
    /// When this returns, the server has acknowledged every row pushed.
    ///
    /// # Errors
    /// Why not, and which rows were in the request.
    pub(in super::super) fn flush(&mut self) -> anyhow::Result<()> {
        // Taken whatever becomes of it: what was refused once is not sent again.
        let groups = std::mem::take(&mut self.groups);
        let (rows, places) = (std::mem::take(&mut self.rows), self.places.take());
        self.index.clear();
        self.bytes = 0;
        let Some((first, last)) = places else { return Ok(()) };
        let answer = self.target.post_for_answer(&body(&groups)).map_err(|error| {
            let hint = match &error {
                Undelivered::Refused { .. } => "; those that are valid may be stored",
                _ => "",
            };
            anyhow!("rows {first} to {last}: {error}{hint}")
        })?;
        let refused =
            refused(&answer).map_err(|error| anyhow!("rows {first} to {last}: the answer is no OTLP: {error}"))?;
        match refused {
            Some((count, why)) => {
                self.sent += rows.saturating_sub(count);
                bail!("rows {first} to {last}: the server refused {count} of {rows}: {why}; the others are stored")
            }
            None => self.sent += rows,
        }
        Ok(())
    }
}

/// An `ExportLogsServiceRequest` or `ExportTraceServiceRequest`.
fn body(groups: &[Group]) -> Vec<u8> {
    let (mut body, mut of_group, mut of_scope) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        of_group.clear();
        of_scope.clear();
        if !group.scope.is_empty() {
            let mut scope = Vec::new();
            put_bytes(&mut scope, NAME, group.scope.as_bytes());
            put_bytes(&mut of_scope, SCOPE, &scope);
        }
        of_scope.extend_from_slice(&group.rows);
        put_bytes(&mut of_group, RESOURCE, &group.resource);
        put_bytes(&mut of_group, SCOPES, &of_scope);
        put_bytes(&mut body, GROUP, &of_group);
    }
    body
}

/// How many rows a successful answer says were refused, and why: its `partial_success`.
fn refused(answer: &[u8]) -> Result<Option<(u64, String)>, Malformed> {
    let (mut cursor, mut count, mut why) = (Cursor::new(answer), 0, String::new());
    while !cursor.is_at_end() {
        let (1, LENGTH_DELIMITED) = cursor.tag()? else { return Err(cursor.malformed("an unknown field")) };
        let mut partial = Cursor::new(cursor.delimited()?);
        while !partial.is_at_end() {
            match partial.tag()? {
                (1, VARINT) => count = partial.varint()?,
                (2, LENGTH_DELIMITED) => why = String::from_utf8_lossy(partial.delimited()?).into_owned(),
                (_, other) => partial.skip(other)?,
            }
        }
    }
    Ok((count > 0).then_some((count, why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_in_the_group_of_their_source() {
        let group = |rows: &[u8]| Group { resource: b"r".to_vec(), scope: "s".into(), rows: rows.to_vec() };
        let expected = b"\x0a\x0f\x0a\x01r\x12\x0a\x0a\x03\x0a\x01s\x12\x03row";
        assert_eq!(body(&[group(b"\x12\x03row")]), expected);
    }

    #[test]
    fn a_partial_success_says_how_many_rows_were_refused() {
        assert_eq!(refused(b"").unwrap(), None);
        assert_eq!(refused(b"\x0a\x00").unwrap(), None);
        assert_eq!(refused(b"\x0a\x07\x08\x05\x12\x03bad").unwrap(), Some((5, "bad".to_owned())));
        assert_eq!(refused(b"\x0a\x05\x12\x03old").unwrap(), None, "a warning refuses nothing");
        assert!(refused(b"<html>").is_err());
    }
}
