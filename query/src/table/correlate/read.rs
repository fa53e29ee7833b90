//! Series of a window, each on one grid.
use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::common::utils::datafusion_strsim::normalized_levenshtein;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{LabelSet, Matcher, ScanBatch, Selector, Series, SeriesId, Snapshot, TimeRange};
use foretell_ml::correlate::{Cells, Target};

use super::fault;
use super::question::Question;
use crate::error::Error;
use crate::event::{SERVICE_LABEL, Signal};
use crate::execute;
use crate::metadata::MetricMetadata;
use crate::running::Query;
use crate::table::histogram::stored;
use crate::table::scan_exec::external;

/// Most series of the target, and most candidates.
const TARGETS_MAX: u64 = 1_000;
const CANDIDATES_MAX: u64 = 50_000;
/// Most cells of the grid, and how many there are when the target's rows are denser.
const CELLS_MAX: i64 = 8_192;
const CELLS_USUAL: i64 = 1_024;
/// Cells with a value that the target needs.
const FILLED_MIN: usize = 8;
/// The longest lag when it is left out, as a part of the window.
const LAG_PART: i64 = 8;
/// Cells of series in memory at a time.
const CELLS_AT_ONCE: usize = 1 << 20;
/// Bytes of such a cell.
const CELL_BYTES: usize = 24;
/// Rows read at a time, and those of the target that tell its step.
const ROWS_AT_ONCE: usize = 64 << 10;
const ROWS_OF_STEP: usize = 10_000;
/// Names that an error proposes.
const NAMES_TOLD: usize = 5;
const NAMES_READ: usize = 10_000;
/// Endings of the names of counters, where no metadata says otherwise.
const COUNTERS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// The grid of a question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) cells: usize,
}

impl Frame {
    fn range(&self) -> TimeRange {
        let length = self.step.saturating_mul(self.cells as i64);
        TimeRange { start: self.start, end: self.start.saturating_add(length - 1) }
    }

    fn series_at_once(&self) -> usize {
        (CELLS_AT_ONCE / self.cells).max(1)
    }

    fn cells(&self, counter: bool) -> Cells {
        Cells::new(self.start, self.step, self.cells, counter)
    }
}

/// What is read, and within which bounds.
pub(super) struct Store<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) query: &'a Query,
    pub(super) memory: &'a MemoryReservation,
    /// Bytes of labels.
    pub(super) held: usize,
}

impl Store<'_> {
    /// The grid, the target on it (the mean of its series), and the ids of its series.
    ///
    /// # Errors
    /// `Invalid` when there is no such series or it has too few rows.
    pub(super) fn target(&mut self, question: &Question) -> Result<(Frame, Target, Vec<SeriesId>)> {
        let mut series: Vec<Series> = Vec::new();
        for matchers in &question.target {
            let found = self.select(matchers, TimeRange::ALL, TARGETS_MAX)?;
            series.extend(found.ok_or_else(|| {
                fault(format!(
                    "more than {TARGETS_MAX} series are '{}': choose some by their labels, \
                     such as metric => 'm{{service=\"a\"}}'",
                    question.metric
                ))
            })?);
        }
        series.sort_unstable_by_key(|one| one.id);
        series.dedup_by_key(|one| one.id);
        let ids: Vec<SeriesId> = series.iter().map(|one| one.id).collect();
        if ids.is_empty() {
            return Err(self.unknown(&question.metric).into());
        }
        let end = match question.at {
            Some(at) => at,
            None => {
                let last = self.snapshot.last_values(&ids, TimeRange::ALL).map_err(external)?;
                last.into_iter().flatten().map(|(ts, _)| ts).max().ok_or_else(|| self.unknown(&question.metric))?
            }
        };
        let frame = self.frame(question, ids[0], end)?;
        let max_lag = question.max_lag.unwrap_or(question.window / LAG_PART) / frame.step;
        if max_lag as usize > frame.cells / 2 {
            return Err(fault("argument 'max_lag' must be at most half of 'window'").into());
        }
        let (mut sums, mut counts) = (vec![0.0; frame.cells], vec![0u32; frame.cells]);
        for chunk in series.chunks(frame.series_at_once()) {
            self.read(chunk, &frame, &mut |_, cells| {
                for ((sum, count), value) in sums.iter_mut().zip(&mut counts).zip(cells.means()) {
                    if !value.is_nan() {
                        *sum += value;
                        *count += 1;
                    }
                }
            })?;
        }
        let mean: Vec<f64> = sums.iter().zip(&counts).map(|(sum, &count)| sum / f64::from(count)).collect();
        let filled = mean.iter().filter(|value| value.is_finite()).count();
        if filled < FILLED_MIN {
            return Err(fault(format!(
                "'{}' has values in {filled} steps of {} s of the window, {FILLED_MIN} are needed: \
                 choose a longer 'window', another 'at' or a shorter 'step'",
                question.metric,
                frame.step as f64 / 1e9
            ))
            .into());
        }
        let target = Target::new(&mean, max_lag as usize).ok_or_else(|| {
            fault(format!("'{}' does not change in the window: nothing moves with it", question.metric))
        })?;
        Ok((frame, target, ids))
    }

    /// The grid whose last cell ends with `end`. Without a step it has that of the rows of `series`, within reason.
    fn frame(&self, question: &Question, series: SeriesId, end: i64) -> Result<Frame> {
        let window = question.window;
        let start = end.saturating_sub(window - 1);
        let step = match question.step {
            Some(step) => step,
            None => self.step(series, TimeRange { start, end })?.max(window / CELLS_USUAL).max(1),
        };
        let cells = window / step;
        if cells > CELLS_MAX || cells < FILLED_MIN as i64 {
            return Err(fault(format!(
                "the window has {cells} steps, it may have {FILLED_MIN} to {CELLS_MAX}: choose another 'step' or 'window'"
            ))
            .into());
        }
        let start = end.saturating_sub(step.saturating_mul(cells) - 1);
        Ok(Frame { start, step, cells: cells as usize })
    }

    /// The median time between rows, in whole seconds where it has some.
    fn step(&self, series: SeriesId, range: TimeRange) -> Result<i64> {
        let mut scan = self.snapshot.scan(&[series], range, false, ROWS_AT_ONCE).map_err(external)?;
        let (mut batch, mut ts) = (ScanBatch::default(), Vec::new());
        while ts.len() < ROWS_OF_STEP && scan.next_batch(&mut batch).map_err(external)? {
            ts.extend_from_slice(&batch.ts);
        }
        let mut steps: Vec<i64> = ts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        let middle = steps.len() / 2;
        if steps.is_empty() {
            return Ok(1);
        }
        let (step, second) = (*steps.select_nth_unstable(middle).1, 1_000_000_000);
        Ok(if step < second { step } else { step.saturating_add(second / 2) / second * second })
    }

    /// Calls `correlate` with each candidate on the grid; their labels in the same order.
    pub(super) fn candidates(
        &mut self,
        question: &Question,
        frame: &Frame,
        own: &[SeriesId],
        correlate: &mut dyn FnMut(Vec<f64>),
    ) -> Result<Vec<LabelSet>> {
        let found = self.select(&question.candidates, frame.range(), CANDIDATES_MAX)?;
        let mut series = found.ok_or_else(|| {
            fault(format!(
                "more than {CANDIDATES_MAX} series have rows in the window: choose some by the name of their metric, \
                 such as candidates => 'node_.*'"
            ))
        })?;
        series.retain(|one| own.binary_search(&one.id).is_err());
        let mut labels: Vec<LabelSet> = Vec::new();
        for chunk in series.chunks(frame.series_at_once()) {
            self.read(chunk, frame, &mut |one, cells| {
                labels.push(one.labels.clone());
                correlate(cells.means().collect());
            })?;
        }
        if question.candidates.is_empty() {
            for signal in Signal::ALL {
                for (service, counts) in self.counts(signal, frame)? {
                    let pairs = [(METRIC_NAME, signal.table_name()), ("service", service.as_str())];
                    let named = LabelSet::from_pairs(pairs.into_iter().filter(|(_, value)| !value.is_empty()));
                    labels.push(named.map_err(external)?);
                    correlate(counts);
                }
            }
        }
        Ok(labels)
    }

    /// Calls `each` with some series and its rows in the window; without rows in a cell, too.
    fn read(&self, series: &[Series], frame: &Frame, each: &mut dyn FnMut(&Series, &Cells)) -> Result<()> {
        let ids: Vec<SeriesId> = series.iter().map(|one| one.id).collect();
        self.memory.try_resize(self.held + series.len() * frame.cells * CELL_BYTES)?;
        let mut grids: Vec<Cells> =
            series.iter().map(|one| Ok(frame.cells(self.is_counter(&one.labels)?))).collect::<Result<_>>()?;
        let mut scan = self.snapshot.scan(&ids, frame.range(), true, ROWS_AT_ONCE).map_err(external)?;
        let mut batch = ScanBatch::default();
        while scan.next_batch(&mut batch).map_err(external)? {
            if self.query.cancel.is_cancelled() {
                return Err(execute::cancelled().into());
            }
            let mut at = 0;
            for &(index, rows) in &batch.runs {
                let end = at + rows as usize;
                grids[index as usize].add(&batch.ts[at..end], &batch.values[at..end]);
                at = end;
            }
        }
        for (one, cells) in series.iter().zip(&grids) {
            each(one, cells);
        }
        Ok(())
    }

    /// How many events of each service there are in each cell.
    fn counts(&self, signal: Signal, frame: &Frame) -> Result<BTreeMap<String, Vec<f64>>> {
        let mut counts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        if self.snapshot.record_table(signal.table_name()).is_none() {
            return Ok(counts);
        }
        let metric = Some(signal.stream_name().to_owned());
        let streams = self.snapshot.select(&Selector { metric, matchers: Vec::new(), range: frame.range() });
        let streams = streams.map_err(external)?;
        let services: Vec<&str> = streams.iter().map(|one| one.labels.get(SERVICE_LABEL).unwrap_or_default()).collect();
        let ids: Vec<SeriesId> = streams.iter().map(|one| one.id).collect();
        let scan = self.snapshot.scan_records(signal.table_name(), &ids, frame.range(), Some(&[]));
        let mut scan = scan.map_err(external)?;
        while let Some(batch) = scan.next_batch().map_err(external)? {
            if self.query.cancel.is_cancelled() {
                return Err(execute::cancelled().into());
            }
            let series = stored(&batch, "series")?.as_primitive::<UInt64Type>();
            let ts = stored(&batch, "ts")?.as_primitive::<Int64Type>();
            for (&series, &ts) in series.values().iter().zip(ts.values()) {
                let Ok(stream) = ids.binary_search(&SeriesId(series)) else { continue };
                let cell = ts.saturating_sub(frame.start) / frame.step;
                let Some(cell) = usize::try_from(cell).ok().filter(|&cell| cell < frame.cells) else { continue };
                let service = services[stream];
                match counts.get_mut(service) {
                    Some(cells) => cells[cell] += 1.0,
                    None => {
                        self.memory.try_resize(self.held + (counts.len() + 1) * frame.cells * CELL_BYTES)?;
                        let mut cells = vec![0.0; frame.cells];
                        cells[cell] = 1.0;
                        counts.insert(service.to_owned(), cells);
                    }
                }
            }
        }
        Ok(counts)
    }

    /// Series with these labels, unless they are more than `most`; their labels are held.
    fn select(&mut self, matchers: &[Matcher], range: TimeRange, most: u64) -> Result<Option<Vec<Series>>> {
        let selector = Selector { metric: None, matchers: matchers.to_vec(), range };
        let found = self.snapshot.select_few(&selector, most).map_err(external)?;
        let bytes = found.iter().flatten().map(|one| size_of::<Series>() + 2 * one.labels.own_bytes()).sum::<usize>();
        self.held += bytes;
        self.memory.try_resize(self.held)?;
        Ok(found)
    }

    /// What its metadata says, or else its name.
    fn is_counter(&self, labels: &LabelSet) -> Result<bool> {
        let metric = labels.get(METRIC_NAME).unwrap_or_default();
        let kind = |family: &str| MetricMetadata::of(self.snapshot, family).map(|known| known.map(|m| m.kind.name()));
        Ok(match kind(metric)? {
            Some("counter") => true,
            Some("gauge") => false,
            _ => COUNTERS.iter().any(|ending| metric.ends_with(ending)),
        })
    }

    /// No series is called so; the most similar names are.
    fn unknown(&self, metric: &str) -> Error {
        let all = Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL };
        let mut names = self.snapshot.label_values(METRIC_NAME, &all, NAMES_READ).unwrap_or_default();
        names.sort_by(|a, b| normalized_levenshtein(metric, b).total_cmp(&normalized_levenshtein(metric, a)));
        names.truncate(NAMES_TOLD);
        fault(format!("no series is '{metric}': there are {} …; SHOW TABLES lists all", names.join(", ")))
    }
}
