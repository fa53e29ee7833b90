//! What is stored of a continuous query besides its window or detector state: its definition and how far it has come.
//!
//! Keys of the engine's keyed state (all values are [`crate::codec`] values or say otherwise):
//!
//! ```text
//!  cq/def/<name>                       Definition
//!  cq/pos/<name>                       Progress
//!  cq/win/<name>\0<bucket BE><run BE>  partial aggregates of a bucket (Arrow IPC stream)
//!  cq/det/<name>\0<series number BE>   checkpoint of a series' detectors
//!  cq/det/<name>\0journals             which versions of models its rows are by
//!  derived/<table>                     columns of the table it writes (see super::output)
//! ```
use foretell_engine::Lsn;

use super::statement::Noun;
use crate::codec::{Decoder, Encoder};
use crate::duration;
use crate::error::Result;
use crate::statement::Properties;

/// A continuous query as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Its name.
    pub(crate) name: String,
    /// The table it writes.
    pub(crate) target: String,
    /// The SELECT.
    pub(crate) sql: String,
    /// The table it reads; known once it is created.
    pub(crate) source: String,
    /// How far behind the newest row of the source a bucket stays open, or a row waits, nanoseconds.
    pub(crate) watermark_ns: i64,
    /// When rows are written.
    pub(crate) emit: Emit,
    /// What becomes of rows that come after the watermark.
    pub(crate) late: Late,
    /// Rows of the source before this are not looked at.
    pub(crate) from: Option<i64>,
    /// Whether it rests until it is resumed.
    pub(crate) paused: bool,
    /// The statement, if it is a detector's.
    pub(crate) detector: Option<String>,
    /// The models that it asks; known once it is created.
    pub(crate) models: Vec<String>,
}

/// When the row of a bucket is written, or the score of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Emit {
    /// At once, and again whenever it changes.
    #[default]
    Update,
    /// Once the source has rows that are newer by the watermark.
    Close,
}

/// What becomes of rows that come after the watermark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Late {
    /// They count, however late.
    #[default]
    Revise,
    /// They count for so long after the watermark, ns; 0 for not at all.
    Within(i64),
    /// They do not count and are written to this table as they are.
    Into(String),
}

impl Late {
    /// How long after the watermark rows still count, ns; for ever if `None`.
    pub(super) fn within(&self) -> Option<i64> {
        match self {
            Self::Revise => None,
            Self::Within(within) => Some(*within),
            Self::Into(_) => Some(0),
        }
    }
}

impl Definition {
    const VERSION: u8 = 3;

    /// What makes it another one than one of the same name. From when on rows are looked at is not among that: once it has, they were.
    pub(super) fn properties(&self) -> Properties {
        let late = match &self.late {
            Late::Revise => "revise".to_owned(),
            Late::Within(within) => format!("revise within {}", duration::format(*within)),
            Late::Into(table) => format!("into {table}"),
        };
        vec![
            ("kind", self.noun().name().to_owned()),
            ("into", self.target.clone()),
            ("select", self.sql.split_whitespace().collect::<Vec<_>>().join(" ")),
            ("watermark", duration::format(self.watermark_ns)),
            ("emit", if self.emit == Emit::Close { "on window close" } else { "on update" }.to_owned()),
            ("late", late),
        ]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.text(&self.name).text(&self.target).text(&self.sql).signed(self.watermark_ns);
        out.text(&self.source).flag(self.emit == Emit::Close);
        let (within, into) = match &self.late {
            Late::Revise => (None, None),
            Late::Within(within) => (Some(*within), None),
            Late::Into(table) => (None, Some(table.as_str())),
        };
        let signed = |out: &mut Encoder, ns: i64| {
            out.signed(ns);
        };
        let text = |out: &mut Encoder, text: &str| {
            out.text(text);
        };
        out.option(within, signed).option(into, text).option(self.from, signed).flag(self.paused);
        out.option(self.detector.as_deref(), text).unsigned(self.models.len() as u64);
        for model in &self.models {
            out.text(model);
        }
        out.finish()
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "definition of a continuous query";
        let version = bytes.first().copied().filter(|version| (1..Self::VERSION).contains(version));
        let version = version.unwrap_or(Self::VERSION);
        let mut from = Decoder::new(WHAT, bytes, version)?;
        let mut definition = Self {
            name: from.text()?.to_owned(),
            target: from.text()?.to_owned(),
            sql: from.text()?.to_owned(),
            source: String::new(),
            watermark_ns: from.signed()?,
            emit: Emit::Update,
            late: Late::Revise,
            from: None,
            paused: false,
            detector: None,
            models: Vec::new(),
        };
        if version >= 2 {
            let text = |from: &mut Decoder<'_>| from.text().map(str::to_owned);
            definition.source = text(&mut from)?;
            definition.emit = if from.flag()? { Emit::Close } else { Emit::Update };
            let (within, into) = (from.option(Decoder::signed)?, from.option(text)?);
            definition.late = into.map_or_else(|| within.map_or(Late::Revise, Late::Within), Late::Into);
            definition.from = from.option(Decoder::signed)?;
            definition.paused = from.flag()?;
            definition.detector = from.option(text)?;
        }
        if version >= 3 {
            definition.models = (0..from.count()?).map(|_| Ok(from.text()?.to_owned())).collect::<Result<_>>()?;
        }
        from.end()?;
        Ok(definition)
    }

    /// Which kind of object it is.
    pub(super) fn noun(&self) -> Noun {
        if self.detector.is_some() { Noun::Detector } else { Noun::Query }
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
    /// Rows of buckets, and series, that were computed again from storage.
    pub(super) recomputed: u64,
    /// Time of the newest source row seen.
    pub(super) newest_ts: i64,
    /// Of a query that writes when windows close: everything before this is written.
    pub(super) emitted_through: i64,
    /// Source rows that came too late to count.
    pub(super) dropped: u64,
}

impl Progress {
    const VERSION: u8 = 2;

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
            newest_ts: i64::MIN,
            emitted_through: i64::MIN,
            dropped: 0,
        }
    }
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.unsigned(u64::from(self.backfilling))
            .unsigned(self.position.0)
            .signed(self.closed_through)
            .unsigned(self.series_known);
        out.unsigned(self.rows_in).unsigned(self.rows_out).unsigned(self.late).unsigned(self.recomputed);
        out.signed(self.newest_ts).signed(self.emitted_through).unsigned(self.dropped);
        out.finish()
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let first = bytes.first() == Some(&1);
        let version = if first { 1 } else { Self::VERSION };
        let mut from = Decoder::new("position of a continuous query", bytes, version)?;
        let mut progress = Self {
            backfilling: from.unsigned()? != 0,
            position: Lsn(from.unsigned()?),
            closed_through: from.signed()?,
            series_known: from.unsigned()?,
            rows_in: from.unsigned()?,
            rows_out: from.unsigned()?,
            late: from.unsigned()?,
            recomputed: from.unsigned()?,
            ..Self::start(Lsn(0))
        };
        if !first {
            (progress.newest_ts, progress.emitted_through) = (from.signed()?, from.signed()?);
            progress.dropped = from.unsigned()?;
        }
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

/// Among the detectors, so that it goes with them.
pub(super) fn journals_key(name: &str) -> Vec<u8> {
    [&detectors_prefix(name)[..], b"journals"].concat()
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
        for late in [Late::Revise, Late::Within(0), Late::Within(7), Late::Into("t".into())] {
            let definition = Definition {
                name: "a".into(),
                target: "b".into(),
                sql: "SELECT 'ü'".into(),
                source: "m".into(),
                watermark_ns: 30_000_000_000,
                emit: Emit::Close,
                late,
                from: Some(-5),
                paused: true,
                detector: Some("CREATE DETECTOR a".into()),
                models: vec!["lat".into()],
            };
            assert_eq!(Definition::decode(&definition.encode()).unwrap(), definition);
            assert!(Progress::decode(&definition.encode()).is_err());
        }
        let progress = Progress { late: 9, newest_ts: 3, dropped: 4, ..Progress::start(Lsn(77)) };
        assert_eq!(Progress::decode(&progress.encode()).unwrap(), progress);
    }

    #[test]
    fn what_the_first_version_stored_is_read() {
        let mut out = Encoder::new(1);
        out.text("a").text("b").text("SELECT 1").signed(5);
        let definition = Definition::decode(&out.finish()).unwrap();
        assert_eq!((definition.emit, &definition.late, definition.paused), (Emit::Update, &Late::Revise, false));
        let mut out = Encoder::new(1);
        out.unsigned(0).unsigned(9).signed(-1).unsigned(2).unsigned(3).unsigned(4).unsigned(5).unsigned(6);
        let progress = Progress::decode(&out.finish()).unwrap();
        assert_eq!((progress.position, progress.recomputed, progress.newest_ts), (Lsn(9), 6, i64::MIN));
    }
}
