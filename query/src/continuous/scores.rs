//! Detectors over each series in time order.
//!
//! ```text
//!  in-order row of a series -> its detector -> score
//!  late row of a series     -> go back to the newest checkpoint before it (or to the start), read the series from storage
//!                              from there, write its scores again
//! ```
//! A partition of the window must be one series, so that the order of its rows is never in doubt. Two checkpoints a series
//! are kept in memory, a watermark apart; the newer one is stored whenever it moves, so that what a tick writes is a small
//! part of what it reads. After a restart a series goes on from its stored checkpoint like after a late row.
use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::compute::filter_record_batch;
use foretell_engine::{SeriesId, Snapshot, TimeRange};
use foretell_ml::detect::{Detector, Verdict};
use hashbrown::{HashMap, HashSet};

use super::checkpoint::Checkpoint;
use super::definition::detector_key;
use super::emit::{Emitter, Produced, Swept, bury};
use super::operator::{Chunk, Operator, Work, engine_fault};
use super::output::samples_of;
use super::scoring::Scoring;
use super::source::Rows;
use crate::error::{Error, ErrorKind, Result};

/// A checkpoint moves after at least this many rows (and a watermark).
const CHECKPOINT_ROWS_MIN: u32 = 32;
/// Rows read from storage at once.
const SCAN_ROWS: usize = 16 << 10;

/// One series' detectors.
struct Key {
    detectors: Vec<Detector>,
    newer: Option<Checkpoint>,
    older: Option<Checkpoint>,
    rows_since: u32,
    targets: Arc<[SeriesId]>,
}

/// Operator of a score query.
pub(super) struct Scores {
    scoring: Scoring,
    keys: HashMap<u32, Key>,
    /// Series to compute again, from this time at the latest.
    dirty: HashMap<u32, i64>,
    /// Series that pass the conditions on labels, by partition: more than one of a partition is an error once both have rows.
    partitions: HashMap<Box<[u8]>, Vec<u32>>,
    relevant: HashSet<u32>,
    /// The reading of the source that `partitions` and `relevant` are of.
    sorted: u64,
}

impl Scores {
    pub(super) fn new(scoring: Scoring) -> Self {
        let (keys, dirty, partitions) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { scoring, keys, dirty, partitions, relevant: HashSet::new(), sorted: 0 }
    }

    /// Sorts newly seen series into partitions.
    fn sort_series(&mut self, work: &Work) -> Result<()> {
        if self.sorted == work.source.readings() {
            return Ok(());
        }
        self.relevant = self.scoring.relevant(&work.source)?;
        self.partitions.clear();
        for &number in &self.relevant {
            self.partitions.entry(self.scoring.partition(&work.source, number)).or_default().push(number);
        }
        self.sorted = work.source.readings();
        Ok(())
    }

    /// Scores rows whose series are not dirty, each series in time order.
    fn feed(
        &mut self,
        work: &mut Work,
        snapshot: &Snapshot,
        rows: Rows,
        emitter: &mut Emitter,
        mut produced: Option<&mut Produced>,
    ) -> Result<()> {
        let (ids, ts) = (rows.ids.clone(), rows.ts.clone());
        let batch = work.source.batch(rows)?;
        let kept = self.scoring.kept(&batch)?;
        let (batch, ids, ts) = match &kept {
            None => (batch, ids, ts),
            Some(kept) => {
                let batch = filter_record_batch(&batch, kept).map_err(|e| Error::internal(e.to_string()))?;
                (batch, pick(&ids, kept), pick(&ts, kept))
            }
        };
        if ids.is_empty() {
            return Ok(());
        }
        let inputs = self.scoring.inputs(&batch)?;
        let mut verdicts: Vec<Vec<Verdict>> = inputs.iter().map(|_| Vec::with_capacity(ids.len())).collect();
        for (row, id) in ids.iter().enumerate() {
            if !self.keys.contains_key(&id.number()) {
                let key = self.fresh(work, snapshot, id.number())?;
                self.keys.insert(id.number(), key);
            }
            let Some(key) = self.keys.get_mut(&id.number()) else { continue };
            for (detector, (values, verdicts)) in key.detectors.iter_mut().zip(inputs.iter().zip(&mut verdicts)) {
                verdicts.push(detector.update(ts[row], values[row]));
            }
            key.rows_since = key.rows_since.saturating_add(1);
            let due =
                key.newer.as_ref().is_none_or(|newer| ts[row].saturating_sub(newer.ts) >= work.definition.watermark_ns);
            // Spread, so that series which are scraped together do not all store theirs in one record.
            if due && key.rows_since >= CHECKPOINT_ROWS_MIN + id.number() % CHECKPOINT_ROWS_MIN {
                let checkpoint = Checkpoint::take(ts[row], &key.detectors);
                emitter.state(detector_key(&work.definition.name, id.number()), Some(checkpoint.bytes.to_vec()));
                key.older = key.newer.replace(checkpoint);
                key.rows_since = 0;
            }
        }
        let columns = self.scoring.values(batch, &inputs, &verdicts)?;
        let columns = columns.iter().map(samples_of).collect::<Result<Vec<_>>>()?;
        for (row, id) in ids.iter().enumerate() {
            let Some(key) = self.keys.get(&id.number()) else { continue };
            emitter.row(&key.targets, ts[row], columns.iter().map(|column| column[row]));
            if let Some(produced) = &mut produced {
                produced.add(&key.targets, ts[row]);
            }
        }
        // Checkpoints may go out before the position: rows read again are late for them, and late rows go further back.
        emitter.commit_large()
    }

    /// Detectors for a series whose first row is at hand.
    fn fresh(&mut self, work: &mut Work, snapshot: &Snapshot, number: u32) -> Result<Key> {
        self.sort_series(work)?;
        self.alone(work, snapshot, number)?;
        let targets = self.targets(work, number)?;
        Ok(Key { detectors: self.scoring.detectors(), newer: None, older: None, rows_since: 0, targets })
    }

    fn targets(&self, work: &mut Work, number: u32) -> Result<Arc<[SeriesId]>> {
        let labels = self.scoring.labels(&work.source, number);
        let labels: Vec<Option<&str>> = labels.iter().map(Option::as_deref).collect();
        work.target.of(&work.engine, &labels)
    }

    /// Fails when another series of the same partition has rows too.
    fn alone(&self, work: &Work, snapshot: &Snapshot, number: u32) -> Result<()> {
        let partition = self.scoring.partition(&work.source, number);
        let others = self.partitions.get(&partition).into_iter().flatten().filter(|&&other| other != number);
        for &other in others {
            if self.keys.contains_key(&other) || self.has_rows(work, snapshot, other)? {
                let name = |number: &u32| {
                    work.source.series().get(number).map(|series| format!("{:?}", series.labels)).unwrap_or_default()
                };
                return Err(Error::new(
                    ErrorKind::Execution,
                    format!(
                        "one partition of the window holds two series, {} and {}: the order of their rows is not defined; name every label that differs in PARTITION BY and in the columns, or choose one with WHERE",
                        name(&number.min(other)),
                        name(&number.max(other))
                    ),
                ));
            }
        }
        Ok(())
    }

    fn has_rows(&self, work: &Work, snapshot: &Snapshot, number: u32) -> Result<bool> {
        let mut found = false;
        read(SeriesId::new(work.source.ordinal(), number), snapshot, TimeRange::ALL, |rows| {
            let batch = work.source.batch(rows)?;
            found = self.scoring.kept(&batch)?.is_none_or(|kept| kept.true_count() > 0);
            Ok(!found)
        })?;
        Ok(found)
    }

    /// Where to go on from so that everything from `from` on is right; `None` is the start of time.
    fn restart(&self, work: &Work, snapshot: &Snapshot, number: u32, from: i64) -> Result<Option<Checkpoint>> {
        let newest_first = match self.keys.get(&number) {
            Some(key) => [key.newer.clone(), key.older.clone()],
            None => {
                let stored = snapshot.state(&detector_key(&work.definition.name, number));
                [stored.map(Checkpoint::stored).transpose()?.flatten(), None]
            }
        };
        Ok(newest_first.into_iter().flatten().find(|checkpoint| checkpoint.ts < from))
    }

    /// Computes a series again from `checkpoint` on. Rows of the table that are not there any more are buried if `written`,
    /// a snapshot that holds everything this query wrote, is given.
    fn recompute(
        &mut self,
        work: &mut Work,
        snapshot: &Snapshot,
        number: u32,
        checkpoint: Option<Checkpoint>,
        written: Option<&Snapshot>,
        emitter: &mut Emitter,
    ) -> Result<()> {
        let stored = self
            .keys
            .remove(&number)
            .is_none_or(|key| key.newer.as_ref().map(|c| c.ts) == checkpoint.as_ref().map(|c| c.ts));
        let went_on_from = checkpoint.as_ref().map(|checkpoint| checkpoint.ts);
        let start = checkpoint.as_ref().map_or(i64::MIN, |checkpoint| checkpoint.ts + 1);
        if let Some(checkpoint) = checkpoint {
            let detectors = checkpoint.load()?;
            let targets = self.targets(work, number)?;
            self.keys.insert(number, Key { detectors, newer: Some(checkpoint), older: None, rows_since: 0, targets });
        }
        let range = TimeRange { start, end: i64::MAX };
        let mut produced = written.map(|_| Produced::default());
        read(SeriesId::new(work.source.ordinal(), number), snapshot, range, |rows| {
            self.feed(work, snapshot, rows, emitter, produced.as_mut())?;
            Ok(true)
        })?;
        if let (Some(produced), Some(written)) = (produced, written) {
            let targets = self.targets(work, number)?;
            bury(emitter, written, &Swept::Series(&targets), range, &produced)?;
        }
        let newest = self.keys.get(&number).and_then(|key| key.newer.as_ref());
        if !stored || went_on_from.is_none() || newest.map(|checkpoint| checkpoint.ts) != went_on_from {
            emitter
                .state(detector_key(&work.definition.name, number), newest.map(|checkpoint| checkpoint.bytes.to_vec()));
        }
        work.progress.recomputed += 1;
        Ok(())
    }
}

impl Operator for Scores {
    fn absorb(&mut self, work: &mut Work, snapshot: &Snapshot, chunk: Chunk, emitter: &mut Emitter) -> Result<()> {
        for (row, id) in chunk.rows.ids.iter().enumerate() {
            if !chunk.in_order[row] {
                let ts = chunk.rows.ts[row];
                let earliest = self.dirty.entry(id.number()).or_insert(ts);
                *earliest = ts.min(*earliest);
            }
        }
        let mut fed = Rows::default();
        for (row, id) in chunk.rows.ids.iter().enumerate() {
            if !self.dirty.contains_key(&id.number()) {
                fed.push(*id, chunk.rows.ts[row], chunk.rows.values[row]);
            }
        }
        if fed.is_empty() { Ok(()) } else { self.feed(work, snapshot, fed, emitter, None) }
    }

    fn touch(&mut self, _: &[i64]) -> Result<()> {
        Err(Error::internal("scores of events"))
    }

    fn finish(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        self.sort_series(work)?;
        let mut dirty = Vec::new();
        let mut retracted = HashMap::new();
        for (number, from) in std::mem::take(&mut self.dirty) {
            if self.relevant.contains(&number) {
                let checkpoint = self.restart(work, snapshot, number, from)?;
                if let Some(key) = self.keys.get(&number) {
                    let start = checkpoint.as_ref().map_or(i64::MIN, |checkpoint| checkpoint.ts + 1);
                    retracted.extend(key.targets.iter().map(|&target| (target, start)));
                }
                dirty.push((number, checkpoint));
            }
        }
        dirty.sort_unstable_by_key(|(number, _)| *number);
        emitter.retract(&retracted);
        let written = self.scoring.rows_may_vanish().then(|| work.engine.snapshot());
        for (number, checkpoint) in dirty {
            self.recompute(work, snapshot, number, checkpoint, written.as_ref(), emitter)?;
        }
        Ok(())
    }

    fn backfill(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        self.keys.clear();
        self.dirty.clear();
        // The source is another one.
        self.sorted = 0;
        self.sort_series(work)?;
        let mut numbers: Vec<u32> = self.relevant.iter().copied().collect();
        numbers.sort_unstable();
        let mut live = HashSet::new();
        for number in numbers {
            self.recompute(work, snapshot, number, None, Some(snapshot), emitter)?;
            // Later rows go on from the checkpoint: no need to hold every series in memory.
            if let Some(key) = self.keys.remove(&number) {
                live.extend(key.targets.iter().copied());
            }
        }
        let old = foretell_engine::Selector {
            metric: Some(work.target.table().to_owned()),
            matchers: Vec::new(),
            range: TimeRange::ALL,
        };
        let old = snapshot.select(&old).map_err(engine_fault)?;
        let gone: Vec<SeriesId> = old.into_iter().map(|series| series.id).filter(|id| !live.contains(id)).collect();
        bury(emitter, snapshot, &Swept::Series(&gone), TimeRange::ALL, &Produced::default())
    }

    fn keys(&self) -> usize {
        self.keys.len()
    }

    fn forget(&mut self) {
        self.keys.clear();
    }
}

/// The elements whose flag is set.
fn pick<T: Copy>(from: &[T], kept: &BooleanArray) -> Vec<T> {
    from.iter()
        .enumerate()
        .filter(|(row, _)| kept.is_valid(*row) && kept.value(*row))
        .map(|(_, value)| *value)
        .collect()
}

/// Reads a series batch by batch until `take` answers `false`.
fn read(
    series: SeriesId,
    snapshot: &Snapshot,
    range: TimeRange,
    mut take: impl FnMut(Rows) -> Result<bool>,
) -> Result<()> {
    let mut scan = snapshot.scan(&[series], range, true, SCAN_ROWS).map_err(engine_fault)?;
    let mut batch = Default::default();
    while scan.next_batch(&mut batch).map_err(engine_fault)? {
        let rows = Rows {
            ids: vec![series; batch.ts.len()],
            ts: std::mem::take(&mut batch.ts),
            values: std::mem::take(&mut batch.values),
        };
        if !rows.is_empty() && !take(rows)? {
            break;
        }
    }
    Ok(())
}
