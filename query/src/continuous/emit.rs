//! Rows on their way out: gathered into records of bounded size, the last of which carries the state they belong to.
//!
//! Every record but the last holds only rows that are right at the snapshot they were computed from. Writing them again is
//! harmless, so a kill between two records of a tick repeats the tick and nothing else. (Checkpoints of detectors may go
//! early too: see `scores`.)
use std::collections::BTreeMap;

use foretell_engine::{Engine, LabelSet, Selector, SeriesId, Snapshot, TimeRange, WriteBatch};
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::table::derived::TOMBSTONE_BITS;

/// A record goes out at this many samples (24 bytes each in memory, fewer in the log).
const RECORD_SAMPLES_MAX: usize = 256 << 10;

/// ... or at this many keys of state that is right without the position.
const RECORD_KEYS_MAX: usize = 8 << 10;

/// Whether a record of so many samples and keys of state goes out.
fn is_full(samples: usize, keys: usize) -> bool {
    samples >= RECORD_SAMPLES_MAX || keys >= RECORD_KEYS_MAX
}

/// Whether a record is so large that nothing more is added to it.
pub(super) fn is_large(record: &WriteBatch) -> bool {
    is_full(record.len(), record.state.len())
}

/// Collects output and state of one tick.
pub(super) struct Emitter {
    engine: Engine,
    batch: WriteBatch,
    /// Newest value of each key.
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    rows: u64,
}

impl Emitter {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, batch: WriteBatch::default(), state: BTreeMap::new(), rows: 0 }
    }
    /// Whether nothing waits to be written, and nothing was.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0 && self.batch.is_empty() && self.state.is_empty()
    }
    /// Rows pushed since creation.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// One row: `values[k]` goes to `series[k]`.
    pub(super) fn row(&mut self, series: &[SeriesId], ts: i64, values: impl Iterator<Item = f64>) {
        for (&series, value) in series.iter().zip(values) {
            self.batch.push(series, ts, value);
        }
        self.rows += 1;
    }

    /// A sample of another table.
    pub(super) fn aside(&mut self, series: SeriesId, ts: i64, value: f64) {
        self.batch.push(series, ts, value);
    }

    /// New value of a key, written with the last record.
    pub(super) fn state(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.state.insert(key, value);
    }

    /// Takes back rows that have not gone out: those at or after `from[series]`, which are about to be computed again.
    pub(super) fn retract(&mut self, from: &HashMap<SeriesId, i64>) {
        let batch = &mut self.batch;
        let mut kept = 0;
        for row in 0..batch.series.len() {
            if from.get(&batch.series[row]).is_none_or(|&from| batch.ts[row] < from) {
                batch.series[kept] = batch.series[row];
                batch.ts[kept] = batch.ts[row];
                batch.values[kept] = batch.values[row];
                kept += 1;
            }
        }
        batch.series.truncate(kept);
        batch.ts.truncate(kept);
        batch.values.truncate(kept);
    }

    /// Writes a record of rows, without state, once enough of them wait.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn spill(&mut self) -> Result<()> {
        if self.batch.len() < RECORD_SAMPLES_MAX {
            return Ok(());
        }
        self.write()
    }

    /// Writes rows and state once enough of them wait. Only for state that is right without the position.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn commit_large(&mut self) -> Result<()> {
        if is_full(self.batch.len(), self.state.len()) { self.commit() } else { Ok(()) }
    }

    /// Writes what waits, rows and state together.
    ///
    /// # Durability
    /// On return the record is on stable storage.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn commit(&mut self) -> Result<()> {
        self.batch.state = std::mem::take(&mut self.state).into_iter().collect();
        self.write()
    }

    /// What waits, rows and state together, for somebody else to write.
    pub(super) fn record(mut self) -> WriteBatch {
        self.batch.state = self.state.into_iter().collect();
        self.batch
    }

    fn write(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.engine.write(batch).and_then(|handle| handle.wait()).map_err(|e| Error::from_engine(&e))?;
        Ok(())
    }
}

/// What stands in a table where rows are computed again: rows that come out the same are not written once more, so that nobody who
/// reads them is told of them again, and those that do not come out are buried.
#[derive(Debug)]
pub(super) struct Standing(HashMap<(SeriesId, i64), u64>);

impl Standing {
    /// Reads what stands in `snapshot`.
    ///
    /// # Errors
    /// As a scan.
    pub(super) fn read(snapshot: &Snapshot, swept: &Swept<'_>, range: TimeRange) -> Result<Self> {
        let mut standing = HashMap::new();
        sweep(snapshot, swept, range, |id, ts, value| {
            standing.insert((id, ts), value.to_bits());
            Ok(())
        })?;
        Ok(Self(standing))
    }

    /// Whether a row that came out stands there already, bit by bit. It is not buried.
    pub(super) fn has(&mut self, series: &[SeriesId], ts: i64, values: impl Iterator<Item = f64>) -> bool {
        let mut same = true;
        for (&id, value) in series.iter().zip(values) {
            same &= self.0.remove(&(id, ts)) == Some(value.to_bits());
        }
        same
    }

    /// Buries what did not come out.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn bury(self, emitter: &mut Emitter) -> Result<()> {
        let mut left: Vec<(SeriesId, i64)> = self.0.into_keys().collect();
        left.sort_unstable();
        for (id, ts) in left {
            emitter.batch.push(id, ts, f64::from_bits(TOMBSTONE_BITS));
        }
        emitter.spill()
    }
}

/// Which rows of a table a recomputation answers for.
pub(super) enum Swept<'a> {
    /// All of them.
    Table(&'a str),
    /// Those of some series.
    Series(&'a [SeriesId]),
    /// Those of a table with certain labels.
    Labels(&'a str, &'a dyn Fn(&LabelSet) -> bool),
}

/// Buries all rows of `swept` in `range` that stand in `snapshot`.
///
/// # Errors
/// As a scan.
pub(super) fn bury(emitter: &mut Emitter, snapshot: &Snapshot, swept: &Swept<'_>, range: TimeRange) -> Result<()> {
    sweep(snapshot, swept, range, |id, ts, _| {
        emitter.batch.push(id, ts, f64::from_bits(TOMBSTONE_BITS));
        emitter.spill()
    })
}

/// Goes through the samples of `swept` in `range`, but for those of rows that are gone.
fn sweep(
    snapshot: &Snapshot,
    swept: &Swept<'_>,
    range: TimeRange,
    mut take: impl FnMut(SeriesId, i64, f64) -> Result<()>,
) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let of_table = |table: &str, swept: &dyn Fn(&LabelSet) -> bool| -> Result<Vec<SeriesId>> {
        let selector = Selector { metric: Some(table.to_owned()), matchers: Vec::new(), range };
        let series = snapshot.select(&selector).map_err(|e| Error::from_engine(&e))?;
        Ok(series.into_iter().filter(|series| swept(&series.labels)).map(|series| series.id).collect())
    };
    let mut ids: Vec<SeriesId> = match swept {
        Swept::Table(table) => of_table(table, &|_| true)?,
        Swept::Labels(table, swept) => of_table(table, swept)?,
        Swept::Series(ids) => ids.to_vec(),
    };
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(());
    }
    let mut scan = snapshot.scan(&ids, range, true, 16_384).map_err(|e| Error::from_engine(&e))?;
    let mut batch = Default::default();
    while scan.next_batch(&mut batch).map_err(|e| Error::from_engine(&e))? {
        let mut row = 0;
        for &(series, rows) in &batch.runs {
            let id = ids[series as usize];
            for at in row..row + rows as usize {
                if batch.values[at].to_bits() != TOMBSTONE_BITS {
                    take(id, batch.ts[at], batch.values[at])?;
                }
            }
            row += rows as usize;
        }
    }
    Ok(())
}
