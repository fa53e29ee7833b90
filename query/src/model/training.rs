//! From rows to the detectors of a version.
//!
//! Rows come series after series and in the order of time, so one detector is held at a time. Each row is scored before it is
//! learnt: what a version says of rows that it has not seen yet is its back-test.
use foretell_ml::detect::{Detector, DetectorOptions};
use foretell_ml::health::{Health, Trace};
use xxhash_rust::xxh3::Xxh3;

use super::definition::{Definition, encode_key};
use super::rows::Row;
use crate::error::{Error, ErrorKind, Result};

/// Most series of a model.
const KEYS_MAX: usize = 100_000;
/// Most bytes of the detectors of a version: they are held in memory.
const BYTES_MAX: u64 = 64 << 20;

/// A detector that has seen nothing.
///
/// # Errors
/// `Invalid` for options that the method cannot take.
pub(super) fn fresh(definition: &Definition) -> Result<Detector> {
    let options = DetectorOptions { season_ns: definition.season_ns, ..DetectorOptions::default() };
    Detector::new(definition.method, options).map_err(|error| Error::invalid(error.to_string()))
}

/// What training has made.
#[derive(Debug)]
pub(super) struct Trained {
    /// Detectors by encoded key, in the order of keys.
    pub(super) detectors: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) first_ts: i64,
    pub(super) last_ts: i64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) hash: u128,
    pub(super) health: Health,
}

/// Learns rows that come sorted by key, then time.
pub(super) struct Training<'a> {
    definition: &'a Definition,
    series: Option<Series>,
    made: Trained,
    hash: Xxh3,
}

struct Series {
    key: Vec<Option<String>>,
    detector: Detector,
    trace: Trace,
}

impl<'a> Training<'a> {
    pub(super) fn new(definition: &'a Definition) -> Self {
        let mut hash = Xxh3::new();
        // whatever a detector's bits depend on besides the rows
        let Definition { method, season_ns, seed, .. } = definition;
        hash.update(format!("{} {method} {season_ns:?} {seed}", env!("CARGO_PKG_VERSION")).as_bytes());
        let made = Trained {
            detectors: Vec::new(),
            first_ts: i64::MAX,
            last_ts: i64::MIN,
            rows: 0,
            bytes: 0,
            hash: 0,
            health: Health::default(),
        };
        Self { definition, series: None, made, hash }
    }

    /// # Errors
    /// `Execution` when the model would become too large.
    pub(super) fn learn(&mut self, row: Row) -> Result<()> {
        let same = self.series.as_ref().is_some_and(|series| series.key == row.key);
        if !same {
            self.end_series()?;
        }
        let series = match &mut self.series {
            Some(series) => series,
            None => {
                let detector = fresh(self.definition)?;
                self.series.insert(Series { key: row.key, detector, trace: Trace::default() })
            }
        };
        let verdict = series.detector.update(row.ts, row.value);
        self.made.health.observe(&mut series.trace, row.value, &verdict);
        self.made.rows += 1;
        self.made.first_ts = self.made.first_ts.min(row.ts);
        self.made.last_ts = self.made.last_ts.max(row.ts);
        Ok(())
    }

    fn end_series(&mut self) -> Result<()> {
        let Some(Series { key, detector, .. }) = self.series.take() else { return Ok(()) };
        let (key, mut state) = (encode_key(&key), Vec::new());
        detector.save(&mut state);
        for part in [&key, &state] {
            self.hash.update(&(part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        self.made.bytes += (key.len() + state.len()) as u64;
        self.made.detectors.push((key, state));
        let too_large = |what: String| {
            let advice = "learn fewer series, or use a smaller method such as USING 'mad'";
            Err(Error::new(ErrorKind::Execution, format!("the model would have more than {what}: {advice}")))
        };
        if self.made.detectors.len() > KEYS_MAX {
            return too_large(format!("{KEYS_MAX} series"));
        }
        if self.made.bytes > BYTES_MAX {
            return too_large(format!("{} MiB of detectors", BYTES_MAX >> 20));
        }
        Ok(())
    }

    /// # Errors
    /// `Invalid` when there was no row.
    pub(super) fn finish(mut self) -> Result<Trained> {
        self.end_series()?;
        if self.made.rows == 0 {
            return Err(Error::invalid(
                "the query of the model has no rows with a time and a value that are older than the watermark: nothing can be learnt",
            ));
        }
        self.made.hash = self.hash.digest128();
        Ok(self.made)
    }
}
