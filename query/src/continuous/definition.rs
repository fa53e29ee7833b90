//! What is stored of a continuous query besides its window or detector state: its definition and how far it has come.
//!
//! Keys of the engine's keyed state (all values are [`crate::codec`] values or say otherwise):
//!
//! ```text
//!  cq/def/<name>                       Definition
//!  cq/pos/<name>                       Progress
//!  cq/win/<name>\0<bucket BE><run BE>  partial aggregates of a bucket (Arrow IPC stream)
//!  cq/det/<name>\0<series number BE>   checkpoint of a series' detectors
//!  derived/<table>                     columns of the table it writes (see super::output)
//! ```
use foretell_engine::Lsn;

use crate::codec::{Decoder, Encoder};
use crate::error::Result;

/// A continuous query as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Its name.
    pub(crate) name: String,
    /// The table it writes.
    pub(crate) target: String,
    /// The SELECT.
    pub(crate) sql: String,
    /// How far behind the newest sample a window stays open, nanoseconds. Later rows are still exact, only dearer.
    pub(crate) watermark_ns: i64,
}

impl Definition {
    const VERSION: u8 = 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.text(&self.name).text(&self.target).text(&self.sql).signed(self.watermark_ns);
        out.finish()
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("definition of a continuous query", bytes, Self::VERSION)?;
        let definition = Self {
            name: from.text()?.to_owned(),
            target: from.text()?.to_owned(),
            sql: from.text()?.to_owned(),
            watermark_ns: from.signed()?,
        };
        from.end()?;
        Ok(definition)
    }
}

/// How far a query has come. Stored in the same record as the rows and the state it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Whether the data that was there at creation is still being worked through.
    pub(super) backfilling: bool,
    /// Every commit up to here is in the rows written.
    pub(super) position: Lsn,
    /// Buckets that start before this have no partial aggregates any more: late rows make them be computed again.
    pub(super) closed_through: i64,
    /// Source series with this number or a higher one have no row at or before `position`.
    pub(super) series_known: u64,
    /// Source rows read from the feed.
    pub(super) rows_in: u64,
    /// Rows written, rewritten ones included.
    pub(super) rows_out: u64,
    /// Source rows that were out of order, repeated or overwriting.
    pub(super) late: u64,
    /// Buckets or series computed again from storage.
    pub(super) recomputed: u64,
}

impl Progress {
    const VERSION: u8 = 1;

    /// Of a query that has seen nothing.
    pub(super) fn start(position: Lsn) -> Self {
        Self {
            backfilling: true,
            position,
            closed_through: i64::MIN,
            series_known: 0,
            rows_in: 0,
            rows_out: 0,
            late: 0,
            recomputed: 0,
        }
    }
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.unsigned(u64::from(self.backfilling))
            .unsigned(self.position.0)
            .signed(self.closed_through)
            .unsigned(self.series_known);
        out.unsigned(self.rows_in).unsigned(self.rows_out).unsigned(self.late).unsigned(self.recomputed);
        out.finish()
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("position of a continuous query", bytes, Self::VERSION)?;
        let progress = Self {
            backfilling: from.unsigned()? != 0,
            position: Lsn(from.unsigned()?),
            closed_through: from.signed()?,
            series_known: from.unsigned()?,
            rows_in: from.unsigned()?,
            rows_out: from.unsigned()?,
            late: from.unsigned()?,
            recomputed: from.unsigned()?,
        };
        from.end()?;
        Ok(progress)
    }
}

/// Prefix of every definition.
pub(super) const DEFINITIONS: &[u8] = b"cq/def/";

pub(super) fn definition_key(name: &str) -> Vec<u8> {
    [DEFINITIONS, name.as_bytes()].concat()
}
pub(super) fn progress_key(name: &str) -> Vec<u8> {
    [b"cq/pos/", name.as_bytes()].concat()
}
/// Prefix of all window state of a query. Names hold no zero byte, so no prefix covers another query's keys.
pub(super) fn windows_prefix(name: &str) -> Vec<u8> {
    [b"cq/win/", name.as_bytes(), b"\0"].concat()
}
pub(super) fn window_key(name: &str, bucket: i64, run: u32) -> Vec<u8> {
    let mut key = windows_prefix(name);
    key.extend_from_slice(&((bucket as u64) ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(&run.to_be_bytes());
    key
}
/// The bucket and run of a key under [`windows_prefix`].
pub(super) fn window_of_key(prefix: &[u8], key: &[u8]) -> Option<(i64, u32)> {
    let (bucket, run) = key.strip_prefix(prefix)?.split_at_checked(8)?;
    Some(((u64::from_be_bytes(bucket.try_into().ok()?) ^ (1 << 63)) as i64, u32::from_be_bytes(run.try_into().ok()?)))
}
/// Prefix of all detector state of a query.
pub(super) fn detectors_prefix(name: &str) -> Vec<u8> {
    [b"cq/det/", name.as_bytes(), b"\0"].concat()
}
pub(super) fn detector_key(name: &str, series_number: u32) -> Vec<u8> {
    let mut key = detectors_prefix(name);
    key.extend_from_slice(&series_number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn window_keys_sort_by_bucket_and_read_back() {
        let buckets = [i64::MIN, -1, 0, 1, i64::MAX];
        let keys: Vec<_> = buckets.iter().flat_map(|&b| [window_key("q", b, 0), window_key("q", b, 7)]).collect();
        assert!(keys.is_sorted());
        let prefix = windows_prefix("q");
        assert_eq!(window_of_key(&prefix, &keys[3]), Some((-1, 7)));
        assert_eq!(window_of_key(&prefix, b"cq/win/q\0short"), None);
        assert_eq!(window_of_key(&prefix, b"other"), None);
    }

    #[test]
    fn definition_and_progress_read_back() {
        let definition =
            Definition {
                name: "a".into(), target: "b".into(), sql: "SELECT 'ü'".into(), watermark_ns: 30_000_000_000
            };
        assert_eq!(Definition::decode(&definition.encode()).unwrap(), definition);
        let progress = Progress { late: 9, ..Progress::start(Lsn(77)) };
        assert_eq!(Progress::decode(&progress.encode()).unwrap(), progress);
        assert!(Progress::decode(&definition.encode()).is_err());
    }
}
