//! Detectors over each series in time order, and rows as they are.
//!
//! ```text
//!  in-order row of a series -> its detector -> score
//!  late row of a series     -> go back to the newest checkpoint before it (or to the start), read the series from storage
//!                              from there, write its scores again
//!  row that has to wait, row of what a continuous query writes
//!                           -> read from storage at the end of the tick, when it is old enough: from where the detector stands,
//!                              or as a late row
//! ```
//! A partition of the window must be one series (of a derived table: one key), so that the order of its rows is never in doubt. Two
//! checkpoints a series are kept in memory, a watermark apart; the newer one is stored whenever it moves, so that what a tick writes
//! is a small part of what it reads. After a restart a series goes on from its stored checkpoint like after a late row. Without
//! a detector there is nothing to go back for. When a model says that another version judges from some time on, later rows are like late
//! ones.
use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use arrow::compute::filter_record_batch;
use foretell_engine::{SeriesId, Snapshot, TimeRange};
use hashbrown::{HashMap, HashSet};

use super::checkpoint::Checkpoint;
use super::definition::{detector_key, journals_key};
use super::emit::{Emitter, Standing, Swept, bury};
use super::operator::{Chunk, Operator, Work, engine_fault};
use super::output::samples_of;
use super::scoring::{Scoring, State};
use super::source::{Lines, Rows, Span};
use crate::error::{Error, ErrorKind, Result};
use crate::model::definition::Journal;
use crate::model::judge::{decode_journals, encode_journals};

/// Memory of a series without its detectors; and of those, for each byte that they save: themselves and two checkpoints.
const KEY_BYTES: usize = 1_536;
const BYTES_PER_SAVED: usize = 4;

/// A checkpoint moves after at least this many rows (and a watermark).
const CHECKPOINT_ROWS_MIN: u32 = 32;

/// What the calls know of one series.
struct Key {
    states: Vec<State>,
    newer: Option<Checkpoint>,
    older: Option<Checkpoint>,
    rows_since: u32,
    targets: Arc<[SeriesId]>,
    /// Time of the newest row that its detectors have seen.
    last_ts: i64,
}

impl Key {
    fn bytes(&self) -> usize {
        KEY_BYTES + BYTES_PER_SAVED * self.newer.as_ref().map_or(0, |newer| newer.bytes.len())
    }
}

/// Where a series is read from.
enum Start {
    /// From where its detectors stand.
    Live(i64),
    /// From a checkpoint, or from the beginning.
    Checkpoint(Option<Checkpoint>),
    /// From this row on: there is no detector.
    Row(i64),
}

/// Operator of a score query.
pub(super) struct Scores {
    scoring: Scoring,
    keys: HashMap<u32, Key>,
    /// Of `keys`.
    held_bytes: usize,
    /// Series that are read from storage at the end of a tick: from when at the latest, and their newest row.
    waiting: HashMap<u32, Span>,
    /// Series that pass the conditions on labels, by partition: more than one of a partition is an error once both have rows.
    partitions: HashMap<Box<[u8]>, Vec<u32>>,
    relevant: HashSet<u32>,
    /// The reading of the source that `partitions` and `relevant` are of.
    sorted: u64,
    /// Which versions of the models its rows are by; one a call, `None` without a model.
    journals: Vec<Option<Journal>>,
    /// Whether `journals` has to be stored with the rows of this tick.
    judges_changed: bool,
}

impl Scores {
    pub(super) fn new(scoring: Scoring) -> Self {
        let (keys, waiting, partitions) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self {
            scoring,
            keys,
            held_bytes: 0,
            waiting,
            partitions,
            relevant: HashSet::new(),
            sorted: 0,
            journals: Vec::new(),
            judges_changed: false,
        }
    }

    /// From when on rows are judged otherwise by `journals` than by those of the rows written.
    fn judged_anew(&self, journals: &[Option<Journal>]) -> Option<i64> {
        let none = Journal::default();
        let changed = journals.iter().enumerate().filter_map(|(call, journal)| {
            let old = self.journals.get(call).and_then(Option::as_ref);
            old.unwrap_or(&none).differs_from(journal.as_ref()?)
        });
        changed.min()
    }

    /// The last instant whose rows may be written.
    fn bound(work: &Work) -> i64 {
        if work.on_close() { work.complete_before() } else { i64::MAX }
    }

    fn wait(&mut self, number: u32, span: Span) {
        self.waiting.entry(number).or_insert(span).widen(span);
    }

    /// Sorts newly seen series into partitions.
    ///
    /// # Errors
    /// As the expressions of labels.
    fn sort_series(&mut self, work: &Work) -> Result<()> {
        if self.sorted == work.source.readings() {
            return Ok(());
        }
        self.relevant = work.source.relevant_keys().collect();
        self.partitions.clear();
        for &number in &self.relevant {
            self.partitions.entry(self.scoring.partition(&work.source, number)?).or_default().push(number);
        }
        self.sorted = work.source.readings();
        Ok(())
    }

    /// Scores rows whose series are not dirty, each series in time order.
    fn feed(
        &mut self,
        work: &mut Work,
        snapshot: &Snapshot,
        lines: Lines,
        emitter: &mut Emitter,
        mut standing: Option<&mut Standing>,
    ) -> Result<()> {
        let kept = self.scoring.kept(&lines.batch)?;
        let Lines { keys, ts, batch } = match &kept {
            None => lines,
            Some(kept) => {
                let batch = filter_record_batch(&lines.batch, kept).map_err(|e| Error::internal(e.to_string()))?;
                Lines { keys: pick(&lines.keys, kept), ts: pick(&lines.ts, kept), batch }
            }
        };
        if keys.is_empty() {
            return Ok(());
        }
        let inputs = self.scoring.inputs(&batch)?;
        let mut verdicts = self.scoring.verdicts(keys.len());
        for (row, &number) in keys.iter().enumerate() {
            if !self.keys.contains_key(&number) {
                let key = self.fresh(work, snapshot, number)?;
                self.hold(number, key);
            }
            let Some(key) = self.keys.get_mut(&number) else { continue };
            key.last_ts = ts[row];
            for (call, (state, verdicts)) in key.states.iter_mut().zip(&mut verdicts).enumerate() {
                let journal = self.journals.get(call).and_then(Option::as_ref);
                self.scoring.see(call, snapshot, journal, state, (ts[row], inputs[call][row]), verdicts)?;
            }
            key.rows_since = key.rows_since.saturating_add(1);
            if self.scoring.is_stateless() {
                continue;
            }
            let due =
                key.newer.as_ref().is_none_or(|newer| ts[row].saturating_sub(newer.ts) >= work.definition.watermark_ns);
            // Spread, so that series which are scraped together do not all store theirs in one record.
            if due && key.rows_since >= CHECKPOINT_ROWS_MIN + number % CHECKPOINT_ROWS_MIN {
                let checkpoint = Checkpoint::take(ts[row], &key.states);
                emitter.state(detector_key(&work.definition.name, number), Some(checkpoint.bytes.to_vec()));
                self.held_bytes -= key.bytes();
                key.older = key.newer.replace(checkpoint);
                self.held_bytes += key.bytes();
                key.rows_since = 0;
            }
        }
        let columns = self.scoring.values(batch, &inputs, verdicts)?;
        let columns = columns.iter().map(samples_of).collect::<Result<Vec<_>>>()?;
        for (row, number) in keys.iter().enumerate() {
            let Some(key) = self.keys.get(number) else { continue };
            let row_values = || columns.iter().map(|column| column[row]);
            if !standing.as_mut().is_some_and(|standing| standing.has(&key.targets, ts[row], row_values())) {
                emitter.row(&key.targets, ts[row], row_values());
            }
        }
        // Checkpoints may go out before the position: rows read again are late for them, and late rows go further back.
        emitter.commit_large()
    }

    fn hold(&mut self, number: u32, key: Key) {
        self.let_go(number);
        self.held_bytes += key.bytes();
        self.keys.insert(number, key);
    }

    fn let_go(&mut self, number: u32) -> Option<Key> {
        let key = self.keys.remove(&number)?;
        self.held_bytes -= key.bytes();
        Some(key)
    }

    /// Detectors for a series whose first row is at hand.
    fn fresh(&mut self, work: &mut Work, snapshot: &Snapshot, number: u32) -> Result<Key> {
        self.sort_series(work)?;
        self.alone(work, snapshot, number)?;
        let targets = self.targets(work, number)?;
        let states = self.scoring.fresh(&work.source, number);
        Ok(Key { states, newer: None, older: None, rows_since: 0, targets, last_ts: i64::MIN })
    }

    fn targets(&self, work: &mut Work, number: u32) -> Result<Arc<[SeriesId]>> {
        let labels = self.scoring.labels(&work.source, number)?;
        let labels: Vec<Option<&str>> = labels.iter().map(Option::as_deref).collect();
        work.target.of(&work.engine, &labels)
    }

    /// Fails when another series of the same partition has rows too.
    fn alone(&self, work: &Work, snapshot: &Snapshot, number: u32) -> Result<()> {
        let partition = self.scoring.partition(&work.source, number)?;
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
        let mut rows = work.source.open(snapshot, number, TimeRange::ALL)?;
        while let Some(lines) = rows.next()? {
            if self.scoring.kept(&lines.batch)?.is_none_or(|kept| kept.true_count() > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where to go on from so that everything from `from` on is right.
    fn restart(&self, work: &Work, snapshot: &Snapshot, number: u32, from: i64) -> Result<Start> {
        if self.scoring.is_stateless() {
            return Ok(Start::Row(from));
        }
        let newest_first = match self.keys.get(&number) {
            Some(key) if from > key.last_ts => return Ok(Start::Live(key.last_ts)),
            Some(key) => [key.newer.clone(), key.older.clone()],
            None => {
                let stored = snapshot.state(&detector_key(&work.definition.name, number))?;
                [stored.map(Checkpoint::stored).transpose()?.flatten(), None]
            }
        };
        Ok(Start::Checkpoint(newest_first.into_iter().flatten().find(|checkpoint| checkpoint.ts < from)))
    }

    /// Computes a series again from `start` to `end`. Rows of the table that are not there any more are buried if `written`,
    /// a snapshot that holds everything this query wrote, is given.
    fn recompute(
        &mut self,
        work: &mut Work,
        snapshot: &Snapshot,
        number: u32,
        (start, end): (Start, i64),
        written: Option<&Snapshot>,
        emitter: &mut Emitter,
    ) -> Result<()> {
        let checkpoint = match start {
            Start::Live(seen) => {
                let range = TimeRange { start: seen.saturating_add(1), end };
                return self.read(work, snapshot, number, range, None, emitter);
            }
            Start::Row(start) => {
                let range = TimeRange { start, end };
                work.progress.recomputed += 1;
                return self.read(work, snapshot, number, range, written, emitter);
            }
            Start::Checkpoint(checkpoint) => checkpoint,
        };
        let stored =
            self.let_go(number).is_none_or(|key| key.newer.as_ref().map(|c| c.ts) == checkpoint.as_ref().map(|c| c.ts));
        let went_on_from = checkpoint.as_ref().map(|checkpoint| checkpoint.ts);
        let start = checkpoint.as_ref().map_or(i64::MIN, |checkpoint| checkpoint.ts + 1);
        if let Some(checkpoint) = checkpoint {
            let states = self.scoring.restored(&checkpoint.saved()?, &work.source, number)?;
            let (targets, last_ts) = (self.targets(work, number)?, checkpoint.ts);
            let newer = Some(checkpoint);
            self.hold(number, Key { states, newer, older: None, rows_since: 0, targets, last_ts });
        }
        self.read(work, snapshot, number, TimeRange { start, end }, written, emitter)?;
        let newest = self.keys.get(&number).and_then(|key| key.newer.as_ref());
        if !stored || went_on_from.is_none() || newest.map(|checkpoint| checkpoint.ts) != went_on_from {
            emitter
                .state(detector_key(&work.definition.name, number), newest.map(|checkpoint| checkpoint.bytes.to_vec()));
        }
        work.progress.recomputed += 1;
        Ok(())
    }

    /// Reads rows of a series from storage and writes what becomes of them, as far as it does not stand in `written`.
    fn read(
        &mut self,
        work: &mut Work,
        snapshot: &Snapshot,
        number: u32,
        range: TimeRange,
        written: Option<&Snapshot>,
        emitter: &mut Emitter,
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut rows = work.source.open(snapshot, number, range)?;
        let Some(written) = written else {
            while let Some(lines) = rows.next()? {
                self.feed(work, snapshot, lines, emitter, None)?;
            }
            return Ok(());
        };
        let targets = self.targets(work, number)?;
        let mut from = range.start;
        while let Some(lines) = rows.next()? {
            let Some(&last) = lines.ts.last() else { continue };
            let part = TimeRange { start: from, end: last };
            let mut standing = Standing::read(written, &Swept::Series(&targets), part)?;
            self.feed(work, snapshot, lines, emitter, Some(&mut standing))?;
            standing.bury(emitter)?;
            match last.checked_add(1) {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
        bury(emitter, written, &Swept::Series(&targets), TimeRange { start: from, end: range.end })?;
        Ok(())
    }
}

impl Operator for Scores {
    fn follows(&self, snapshot: &Snapshot) -> Result<bool> {
        Ok(self.judged_anew(&self.scoring.journals(snapshot)?).is_none())
    }

    fn begin(&mut self, work: &mut Work, snapshot: &Snapshot) -> Result<()> {
        let journals = self.scoring.journals(snapshot)?;
        if let Some(from) = self.judged_anew(&journals) {
            for (number, span) in work.source.spans(snapshot, from)? {
                self.wait(number, span);
            }
            self.judges_changed = true;
        }
        // Also when it has only forgotten something: those versions are not there any more.
        self.journals = journals;
        Ok(())
    }

    fn absorb(&mut self, work: &mut Work, snapshot: &Snapshot, chunk: Chunk, emitter: &mut Emitter) -> Result<()> {
        for (row, id) in chunk.rows.ids.iter().enumerate() {
            if chunk.rows.ts[row] < work.final_before {
                work.put_aside(&chunk.rows, row, emitter)?;
            } else if !chunk.in_order[row] {
                // Rows that follow are read from storage, too.
                let to = if self.scoring.is_stateless() { chunk.rows.ts[row] } else { i64::MAX };
                self.wait(id.number(), Span { from: chunk.rows.ts[row], to });
            }
        }
        let mut fed = Rows::default();
        for (row, id) in chunk.rows.ids.iter().enumerate() {
            if self.scoring.is_stateless() && self.waiting.contains_key(&id.number()) {
                self.wait(id.number(), Span::at(chunk.rows.ts[row]));
            }
            if !self.waiting.contains_key(&id.number()) && chunk.rows.ts[row] >= work.final_before {
                fed.push(*id, chunk.rows.ts[row], chunk.rows.values[row]);
            }
        }
        if fed.is_empty() { Ok(()) } else { self.feed(work, snapshot, work.source.lines(fed)?, emitter, None) }
    }

    fn touch(&mut self, work: &mut Work, rows: &Rows, emitter: &mut Emitter) -> Result<()> {
        for (row, (id, &ts)) in rows.ids.iter().zip(&rows.ts).enumerate() {
            if ts < work.final_before {
                work.put_aside(rows, row, emitter)?;
                continue;
            }
            work.progress.late += u64::from(work.on_close() && ts <= work.progress.emitted_through);
            self.wait(work.source.key(id.number()), Span::at(ts));
        }
        Ok(())
    }

    fn finish(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        let bound = Self::bound(work);
        if !self.waiting.is_empty() {
            self.sort_series(work)?;
        }
        let mut due = Vec::new();
        let mut retracted = HashMap::new();
        for (number, span) in std::mem::take(&mut self.waiting) {
            if !self.relevant.contains(&number) {
                continue;
            }
            if span.to > bound && bound != i64::MAX {
                self.waiting.insert(number, Span { from: span.from.max(bound.saturating_add(1)), to: span.to });
            }
            if span.from > bound {
                continue;
            }
            let start = self.restart(work, snapshot, number, span.from)?;
            if let (Some(key), Start::Checkpoint(checkpoint)) = (self.keys.get(&number), &start) {
                let start = checkpoint.as_ref().map_or(i64::MIN, |checkpoint| checkpoint.ts + 1);
                retracted.extend(key.targets.iter().map(|&target| (target, start)));
            }
            let end = if self.scoring.is_stateless() { bound.min(span.to) } else { bound };
            due.push((number, start, end));
        }
        due.sort_unstable_by_key(|(number, ..)| *number);
        emitter.retract(&retracted);
        let written = (!due.is_empty()).then(|| work.engine.snapshot());
        for (number, start, end) in due {
            self.recompute(work, snapshot, number, (start, end), written.as_ref(), emitter)?;
        }
        if work.on_close() {
            work.progress.emitted_through = work.progress.emitted_through.max(bound);
        }
        if std::mem::take(&mut self.judges_changed) {
            // Rows may go out before it: then they are written once more.
            emitter.state(journals_key(&work.definition.name), Some(encode_journals(&self.journals)));
        }
        Ok(())
    }

    fn resume(&mut self, work: &mut Work, snapshot: &Snapshot) -> Result<()> {
        let stored = snapshot.state(&journals_key(&work.definition.name))?;
        self.journals = stored.map(|bytes| decode_journals(&bytes)).transpose()?.unwrap_or_default();
        if work.on_close() {
            self.waiting = work.source.spans(snapshot, work.progress.emitted_through.saturating_add(1))?;
        }
        Ok(())
    }

    fn backfill(&mut self, work: &mut Work, snapshot: &Snapshot, emitter: &mut Emitter) -> Result<()> {
        self.forget();
        self.waiting.clear();
        self.journals = self.scoring.journals(snapshot)?;
        if self.journals.iter().any(Option::is_some) {
            emitter.state(journals_key(&work.definition.name), Some(encode_journals(&self.journals)));
        }
        // The source is another one.
        self.sorted = 0;
        self.sort_series(work)?;
        if work.on_close() {
            let spans = work.source.spans(snapshot, i64::MIN)?;
            work.progress.newest_ts = spans.values().map(|span| span.to).max().unwrap_or(i64::MIN);
            let after = Self::bound(work).saturating_add(1);
            let waiting = spans.into_iter().filter(|(_, span)| span.to >= after);
            self.waiting = waiting.map(|(key, span)| (key, Span { from: span.from.max(after), ..span })).collect();
            work.progress.emitted_through = Self::bound(work);
        }
        let bound = Self::bound(work);
        let mut numbers: Vec<u32> = self.relevant.iter().copied().collect();
        numbers.sort_unstable();
        let mut live = HashSet::new();
        for number in numbers {
            let start = if self.scoring.is_stateless() { Start::Row(i64::MIN) } else { Start::Checkpoint(None) };
            self.recompute(work, snapshot, number, (start, bound), Some(snapshot), emitter)?;
            // Later rows go on from the checkpoint: no need to hold every series in memory.
            if let Some(key) = self.let_go(number) {
                live.extend(key.targets.iter().copied());
            }
        }
        let old = foretell_engine::Selector {
            metric: Some(work.target.table().to_owned()),
            matchers: self.scoring.constants(work.target.columns()),
            range: TimeRange::ALL,
        };
        let old = snapshot.select(&old).map_err(engine_fault)?;
        let gone: Vec<SeriesId> = old.into_iter().map(|series| series.id).filter(|id| !live.contains(id)).collect();
        bury(emitter, snapshot, &Swept::Series(&gone), TimeRange::ALL)
    }

    fn keys(&self) -> usize {
        self.keys.len()
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn forget(&mut self) {
        self.keys.clear();
        self.held_bytes = 0;
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
