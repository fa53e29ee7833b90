//! Where samples come from: a snapshot of the engine, or what a test holds.
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foretell_engine::{LabelSet, MatchOp, Matcher, Selector, Series, SeriesId, Snapshot, TimeRange};

use super::histogram::{self, Histogram, ResetHint};
use super::parallel;
use super::value::{ABSENT, Column, STALE_BITS};
use crate::default_detector::bits::{ANOMALOUS, Bits, VALUE_LABEL};
use crate::error::{Error, ErrorKind, Result};

/// Rows that are read before it is asked whether more may be: several threads ask.
const ROWS_AT_ONCE: usize = 16 << 10;
/// Samples that there is room for from the start, at most.
const ROOM_MAX: usize = 8 << 10;
/// What finding and opening a series costs, in samples: a block is decoded whole, and a segment of half an hour has some fifty
/// series in one.
const SERIES_SAMPLES: usize = 2000;
/// Distance of samples, where a guess is needed of how many there will be.
const SAMPLE_EVERY_MS: i64 = 15_000;
const NS_PER_MS: i64 = 1_000_000;

/// Sets of conditions, of which one must hold wholly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matchers(pub Vec<Vec<Matcher>>);

/// Samples of one series, oldest first, stale markers included.
#[derive(Clone, Debug, Default)]
pub struct SeriesSamples {
    /// Labels, the name included.
    pub labels: LabelSet,
    /// Milliseconds UTC.
    pub ts_ms: Vec<i64>,
    /// Values, exact bits.
    pub values: Vec<f64>,
    /// Milliseconds UTC and native histograms, beside the values. A stale histogram is a stale marker among the values.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

impl SeriesSamples {
    /// Whether there is no sample.
    pub(crate) fn is_empty(&self) -> bool {
        self.ts_ms.is_empty() && self.histograms.is_empty()
    }

    /// Becomes the series `labels`, without samples; its memory stays.
    fn begin(&mut self, labels: &LabelSet) {
        self.labels = labels.clone();
        self.ts_ms.clear();
        self.values.clear();
        self.histograms.clear();
    }

    /// Puts 1 in the place of each value at one of the `anomalous` instants (ns, increasing), 0 in that of others.
    fn become_bits(&mut self, anomalous: &[i64]) {
        let mut anomalous = anomalous.iter().map(|ts| ts.div_euclid(NS_PER_MS)).peekable();
        for (ts, value) in self.ts_ms.iter().zip(&mut self.values) {
            while anomalous.next_if(|at| at < ts).is_some() {}
            if value.to_bits() != STALE_BITS {
                *value = f64::from(u8::from(anomalous.peek() == Some(ts)));
            }
        }
    }

    /// Numbers that it holds, about.
    pub(crate) fn weight(&self) -> usize {
        self.values.len() + self.histograms.iter().map(|(_, histogram)| histogram.weight()).sum::<usize>()
    }

    /// Adds stale markers at increasing times, where no value is.
    pub(crate) fn add_stale(&mut self, stale: &[i64]) {
        if stale.is_empty() {
            return;
        }
        let room = self.ts_ms.len() + stale.len();
        let (mut ts_ms, mut values) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut stale = stale.iter().copied().peekable();
        for (&ts, &value) in self.ts_ms.iter().zip(&self.values) {
            while let Some(at) = stale.next_if(|&at| at <= ts) {
                if at < ts {
                    ts_ms.push(at);
                    values.push(ABSENT);
                }
            }
            ts_ms.push(ts);
            values.push(value);
        }
        for at in stale {
            ts_ms.push(at);
            values.push(ABSENT);
        }
        (self.ts_ms, self.values) = (ts_ms, values);
    }

    /// Leaves of each histogram only what needs no buckets, after finding out where it was reset. Of a gauge they are needed: it
    /// stays one, and functions for counters compare its buckets.
    pub(crate) fn drop_buckets(&mut self) {
        if self.histograms.iter().any(|(_, histogram)| histogram.reset_hint == ResetHint::Gauge) {
            return;
        }
        let mut before: Option<Arc<Histogram>> = None;
        for (_, histogram) in &mut self.histograms {
            let hint = match &before {
                _ if histogram.reset_hint != ResetHint::Unknown => histogram.reset_hint,
                None => ResetHint::Unknown,
                Some(before) if histogram.is_reset_after(before) => ResetHint::Reset,
                Some(_) => ResetHint::NotReset,
            };
            let bare = Arc::new(histogram.without_buckets(hint));
            before = Some(std::mem::replace(histogram, bare));
        }
    }
}

/// Told, by any thread, how many samples more are held or about to be; an error ends the reading.
pub type Admit<'a> = dyn Fn(usize) -> Result<()> + Sync + 'a;

/// Admits `samples_max` samples in all.
pub fn at_most(samples_max: usize) -> impl Fn(usize) -> Result<()> + Sync {
    let total = AtomicUsize::new(0);
    move |samples| {
        let before = total.fetch_add(samples, Ordering::Relaxed);
        if before.saturating_add(samples) > samples_max { Err(too_many_samples()) } else { Ok(()) }
    }
}

/// Answers selectors.
pub trait SampleSource: Sync {
    /// Series that satisfy `matchers` with their samples of `(after_ms, through_ms]`, in the order of their labels; those
    /// without a sample may be left out. `admit` is told of samples as they are read, by each thread of some thousands at once.
    ///
    /// # Errors
    /// Those of `admit`; `Invalid` for a bad regular expression; damage.
    fn select(
        &self,
        matchers: &Matchers,
        after_ms: i64,
        through_ms: i64,
        admit: &Admit<'_>,
    ) -> Result<Vec<SeriesSamples>>;

    /// What `take` makes of each series that [`SampleSource::select`] would answer, in the same order unless `work` wants none.
    /// Samples are forgotten when they have been taken; any thread may ask `take`, and `work` is what it does.
    ///
    /// # Errors
    /// As [`SampleSource::select`]; those of `take`.
    fn columns(
        &self,
        matchers: &Matchers,
        (after_ms, through_ms): (i64, i64),
        _work: Work,
        admit: &Admit<'_>,
        take: &Take<'_>,
    ) -> Result<Vec<Column>> {
        let series = self.select(matchers, after_ms, through_ms, admit)?;
        series.into_iter().filter_map(|mut one| take(&mut one).transpose()).collect()
    }
}

/// What becomes of a series, which may be emptied; `None` leaves it out.
pub(crate) type Take<'a, T = Column> = dyn Fn(&mut SeriesSamples) -> Result<Option<T>> + Sync + 'a;

/// What is made of a series.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Steps of its column.
    pub(crate) steps: usize,
    /// Looks at each of its samples.
    pub(crate) visits: usize,
    /// Whether nobody asks in which order the series come.
    pub(crate) any_order: bool,
}

impl Work {
    /// Samples or steps looked at for a series of `samples` samples.
    fn of(self, samples: usize) -> usize {
        samples.saturating_mul(self.visits).saturating_add(self.steps)
    }
}

impl SampleSource for Snapshot {
    fn select(
        &self,
        matchers: &Matchers,
        after_ms: i64,
        through_ms: i64,
        admit: &Admit<'_>,
    ) -> Result<Vec<SeriesSamples>> {
        read_all(self, matchers, (after_ms, through_ms), Work { visits: 1, ..Work::default() }, admit, &whole)
    }

    fn columns(
        &self,
        matchers: &Matchers,
        time: (i64, i64),
        work: Work,
        admit: &Admit<'_>,
        take: &Take<'_>,
    ) -> Result<Vec<Column>> {
        read_all(self, matchers, time, work, admit, take)
    }
}

/// What `take` makes of all series that satisfy `matchers`, read on all cores.
fn read_all<T: Send>(
    snapshot: &Snapshot,
    matchers: &Matchers,
    (after_ms, through_ms): (i64, i64),
    work: Work,
    admit: &Admit<'_>,
    take: &Take<'_, T>,
) -> Result<Vec<T>> {
    let range = nanoseconds(after_ms, through_ms);
    let (matchers, shows) = Shows::of(matchers)?;
    let mut series = Vec::new();
    for all in &matchers.0 {
        let selector = Selector { metric: None, matchers: all.clone(), range };
        series.extend(snapshot.select(&selector).map_err(|error| Error::from_engine(&error))?);
    }
    // One set of conditions answers in order already.
    if matchers.0.len() > 1 {
        series.sort_unstable_by_key(|series| series.id);
        series.dedup_by_key(|series| series.id);
    }
    let any_order = work.any_order;
    let each = work.of(samples_each(after_ms, through_ms)).saturating_add(SERIES_SAMPLES);
    let looks = series.len().saturating_mul(each);
    let chunk = series.len().div_ceil(parallel::parts(series.len(), looks)).max(1);
    let chunks = series.chunks(chunk).collect();
    let mut found = Vec::with_capacity(series.len());
    let of_chunk = |series: &[Series]| read(snapshot, (series, any_order), range, shows, admit, take);
    for part in parallel::each(chunks, of_chunk) {
        found.extend(part?);
    }
    if !any_order {
        // Each part is in order: a stable sort finds that and merges.
        found.sort_by(|a, b| a.0.compare(&b.0));
    }
    Ok(found.into_iter().map(|(_, taken)| taken).collect())
}

/// A snapshot as long as selectors find few series and samples in it: otherwise the error is [`too_many_samples`], and comes
/// before much is read.
pub(super) struct FewSeries<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Of each selector.
    pub(super) series_max: u64,
    /// Of each selector, about.
    pub(super) samples_max: usize,
    /// Of each selector: samples and steps that are looked at.
    pub(super) work_max: usize,
}

impl SampleSource for FewSeries<'_> {
    fn select(
        &self,
        matchers: &Matchers,
        after_ms: i64,
        through_ms: i64,
        admit: &Admit<'_>,
    ) -> Result<Vec<SeriesSamples>> {
        self.read(matchers, (after_ms, through_ms), Work { visits: 1, ..Work::default() }, admit, &whole)
    }

    fn columns(
        &self,
        matchers: &Matchers,
        time: (i64, i64),
        work: Work,
        admit: &Admit<'_>,
        take: &Take<'_>,
    ) -> Result<Vec<Column>> {
        self.read(matchers, time, work, admit, take)
    }
}

impl FewSeries<'_> {
    fn read<T>(
        &self,
        matchers: &Matchers,
        (after_ms, through_ms): (i64, i64),
        work: Work,
        admit: &Admit<'_>,
        take: &Take<'_, T>,
    ) -> Result<Vec<T>> {
        let each = samples_each(after_ms, through_ms);
        let (matchers, shows) = Shows::of(matchers)?;
        let [matchers] = matchers.0.as_slice() else { return Err(too_many_samples()) };
        if each > self.samples_max {
            return Err(too_many_samples());
        }
        let selector = Selector { metric: None, matchers: matchers.clone(), range: nanoseconds(after_ms, through_ms) };
        let found = self.snapshot.select_few(&selector, self.series_max);
        let series = found.map_err(|error| Error::from_engine(&error))?.ok_or_else(too_many_samples)?;
        let (samples, looks) = (series.len().saturating_mul(each), series.len().saturating_mul(work.of(each)));
        if samples > self.samples_max || looks > self.work_max {
            return Err(too_many_samples());
        }
        let found = read(self.snapshot, (&series, work.any_order), selector.range, shows, admit, take)?;
        Ok(found.into_iter().map(|(_, taken)| taken).collect())
    }
}

/// What stands in the place of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Values,
    /// 1 for a sample that the default detector found anomalous, 0 for others.
    Bits,
}

impl Shows {
    /// Takes the condition that asks for bits out of `matchers`.
    ///
    /// # Errors
    /// `Invalid` when some of several sets of conditions have it.
    fn of(matchers: &Matchers) -> Result<(Cow<'_, Matchers>, Self)> {
        let asks = |matcher: &Matcher| {
            (&*matcher.name, matcher.op, &*matcher.value) == (VALUE_LABEL, MatchOp::Equal, ANOMALOUS)
        };
        match matchers.0.iter().filter(|all| all.iter().any(asks)).count() {
            0 => Ok((Cow::Borrowed(matchers), Self::Values)),
            some if some == matchers.0.len() => {
                let others = |all: &Vec<Matcher>| all.iter().filter(|matcher| !asks(matcher)).cloned().collect();
                Ok((Cow::Owned(Matchers(matchers.0.iter().map(others).collect())), Self::Bits))
            }
            _ => Err(Error::invalid(format!(
                "{VALUE_LABEL}=\"{ANOMALOUS}\" must stand in each alternative of a selector, or in none"
            ))),
        }
    }
}

/// `(after, through]` in milliseconds of samples whose nanoseconds are cut off.
fn nanoseconds(after_ms: i64, through_ms: i64) -> TimeRange {
    TimeRange {
        start: after_ms.saturating_add(1).saturating_mul(NS_PER_MS),
        end: through_ms.saturating_mul(NS_PER_MS).saturating_add(NS_PER_MS - 1),
    }
}

/// How many samples a series is expected to have.
fn samples_each(after_ms: i64, through_ms: i64) -> usize {
    usize::try_from(through_ms.saturating_sub(after_ms) / SAMPLE_EVERY_MS).unwrap_or(0)
}

/// Takes a series as it is.
#[expect(clippy::unnecessary_wraps, reason = "one of several that are asked")]
fn whole(series: &mut SeriesSamples) -> Result<Option<SeriesSamples>> {
    Ok(Some(std::mem::take(series)))
}

/// What `take` makes of the samples of some series (sorted by id), with the series' labels, and in their order unless any will do.
/// Series without samples are left out.
fn read<T>(
    snapshot: &Snapshot,
    (series, any_order): (&[Series], bool),
    range: TimeRange,
    shows: Shows,
    admit: &Admit<'_>,
    take: &Take<'_, T>,
) -> Result<Vec<(LabelSet, T)>> {
    let mut found = Vec::with_capacity(series.len());
    let mut taken = |samples: &mut SeriesSamples| -> Result<()> {
        if !samples.is_empty() {
            let labels = samples.labels.clone();
            found.extend(take(samples)?.map(|taken| (labels, taken)));
        }
        Ok(())
    };
    let ids: Vec<SeriesId> = series.iter().map(|series| series.id).collect();
    if shows == Shows::Values && !histogram::may_have(snapshot) {
        // One after another, as they are stored, in the memory of the one before.
        let mut samples = SeriesSamples::default();
        let each = samples_each(range.start / NS_PER_MS, range.end / NS_PER_MS).min(ROOM_MAX);
        samples.ts_ms.reserve(each);
        samples.values.reserve(each);
        let mut current = None;
        scan(snapshot, &ids, range, admit, |index, ts, values| {
            if current != Some(index) {
                if current.replace(index).is_some() {
                    taken(&mut samples)?;
                }
                samples.begin(&series[index].labels);
            }
            extend((&mut samples.ts_ms, &mut samples.values), ts, values);
            Ok(())
        })?;
        if current.is_some() {
            taken(&mut samples)?;
        }
    } else {
        let empty = |series: &Series| SeriesSamples { labels: series.labels.clone(), ..SeriesSamples::default() };
        let mut all: Vec<SeriesSamples> = series.iter().map(empty).collect();
        scan(snapshot, &ids, range, admit, |index, ts, values| {
            let samples = &mut all[index];
            extend((&mut samples.ts_ms, &mut samples.values), ts, values);
            Ok(())
        })?;
        match shows {
            Shows::Values => histogram::read(snapshot, &ids, range, &mut all, admit)?,
            Shows::Bits => {
                let bits = Bits::read(snapshot, &ids, range)?;
                all.iter_mut().enumerate().for_each(|(index, samples)| samples.become_bits(bits.of(index)));
            }
        }
        all.into_iter().try_for_each(|mut samples| taken(&mut samples))?;
    }
    if !any_order {
        found.sort_unstable_by(|a, b| a.0.compare(&b.0));
    }
    Ok(found)
}

/// Hands the rows of `ids` (sorted) to `take`, series by series: the place of the series, times (nanoseconds), values.
fn scan(
    snapshot: &Snapshot,
    ids: &[SeriesId],
    range: TimeRange,
    admit: &Admit<'_>,
    mut take: impl FnMut(usize, &[i64], &[f64]) -> Result<()>,
) -> Result<()> {
    let mut scan = snapshot.scan(ids, range, true, ROWS_AT_ONCE).map_err(|error| Error::from_engine(&error))?;
    let mut rows = 0;
    while let Some(slice) = scan.next_slice().map_err(|error| Error::from_engine(&error))? {
        rows += slice.ts.len();
        if rows >= ROWS_AT_ONCE {
            admit(std::mem::take(&mut rows))?;
        }
        take(slice.index as usize, slice.ts, slice.values)?;
    }
    admit(rows)
}

/// Puts rows (increasing times in nanoseconds, and values) behind samples. PromQL knows milliseconds, and one sample in each:
/// of several rows the newest.
pub(crate) fn extend((ts_ms, values): (&mut Vec<i64>, &mut Vec<f64>), ts_ns: &[i64], rows: &[f64]) {
    let from = ts_ms.len().saturating_sub(1);
    if ts_ns.first().is_some_and(|&first| first >= 0) {
        // As unsigned numbers they take half the time.
        ts_ms.extend(ts_ns.iter().map(|&ts| (ts as u64 / NS_PER_MS as u64) as i64));
    } else {
        ts_ms.extend(ts_ns.iter().map(|ts| ts.div_euclid(NS_PER_MS)));
    }
    values.extend_from_slice(rows);
    // Without a way out in the middle, as in `has_stale`: there is hardly ever one.
    let repeats = ts_ms[from..].windows(2).fold(false, |found, pair| found | (pair[0] == pair[1]));
    if repeats {
        let mut kept = from;
        for at in from + 1..ts_ms.len() {
            kept += usize::from(ts_ms[at] != ts_ms[kept]);
            (ts_ms[kept], values[kept]) = (ts_ms[at], values[at]);
        }
        ts_ms.truncate(kept + 1);
        values.truncate(kept + 1);
    }
}

/// The limit on samples is reached.
pub(crate) fn too_many_samples() -> Error {
    Error::new(
        ErrorKind::Execution,
        "query processing would load too many samples into memory in query execution: select less time or fewer series, \
         or raise query.max_samples",
    )
}

/// Whether there is a stale marker.
pub(crate) fn has_stale(samples: &SeriesSamples) -> bool {
    // Without a way out in the middle, which would keep the compiler from comparing several at once.
    samples.values.iter().fold(false, |found, value| found | (value.to_bits() == STALE_BITS))
}

/// Drops stale markers.
pub(crate) fn without_stale(samples: &mut SeriesSamples) {
    let keep: Vec<bool> = samples.values.iter().map(|value| value.to_bits() != STALE_BITS).collect();
    let mut flags = keep.iter();
    samples.ts_ms.retain(|_| flags.next().copied().unwrap_or(false));
    let mut flags = keep.iter();
    samples.values.retain(|_| flags.next().copied().unwrap_or(false));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_engine::{Engine, EngineConfig, WriteBatch};

    use super::*;

    /// Sixty series of two names in three segments, runs and a tail, with overwritten and deleted rows; a step is a second.
    fn write(engine: &Engine) {
        let write = |ns: &mut dyn Iterator<Item = (i64, i64)>, factor: f64| {
            let mut batch = WriteBatch::default();
            for (n, ts) in ns {
                let (name, n_text) = (if n % 3 == 0 { "a" } else { "b" }, (n * 7 % 60).to_string());
                let labels = LabelSet::from_pairs([("__name__", name), ("n", &n_text)]).unwrap();
                batch.push(engine.resolve(&labels).unwrap(), ts * 1_000_000_000, ts as f64 * factor + n as f64);
            }
            engine.write(batch).unwrap().wait().unwrap();
        };
        let rows = |series: std::ops::Range<i64>, time: std::ops::Range<i64>, step: usize| {
            series.flat_map(move |n| time.clone().step_by(step).map(move |ts| (n, ts)))
        };
        write(&mut rows(0..60, 0..600, 1), 1.0);
        engine.flush().unwrap();
        write(&mut rows(0..40, 500..900, 1), 2.0);
        engine.flush().unwrap();
        let range = TimeRange { start: 100_000_000_000, end: 199_999_999_999 };
        let matcher = Matcher { name: "n".into(), op: MatchOp::Regex, value: "1.".into() };
        engine.delete(&Selector { metric: Some("b".into()), matchers: vec![matcher], range }).unwrap();
        write(&mut rows(20..60, 900..1200, 1), 1.0);
        engine.flush().unwrap();
        (0..5).for_each(|k| write(&mut rows(10..50, 1000 + 60 * k..1300 + 60 * k, 7), 3.0));
    }

    #[test]
    fn series_taken_as_they_are_read_are_those_that_are_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = EngineConfig::new(directory.path());
        config.background = false;
        let engine = Engine::open(config).unwrap();
        write(&engine);
        let snapshot = engine.snapshot();
        let few = FewSeries { snapshot: &snapshot, series_max: 100, samples_max: usize::MAX, work_max: usize::MAX };
        let matcher = |name: &str, op, value: &str| Matcher { name: name.into(), op, value: value.into() };
        let all = vec![matcher("__name__", MatchOp::Regex, "a|b")];
        let admit = at_most(usize::MAX);
        // Times among the values, so that both are compared; series with an odd number of samples are left out.
        let column = |series: &SeriesSamples| {
            let pairs = series.ts_ms.iter().zip(&series.values);
            Column::floats(series.labels.clone(), pairs.flat_map(|(&ts, &value)| [ts as f64, value]).collect())
        };
        let keep = |series: &SeriesSamples| series.values.len().is_multiple_of(2);
        let take = |series: &mut SeriesSamples| {
            let taken = keep(series).then(|| column(series));
            // What is left in it must not come back.
            series.ts_ms.push(-1);
            series.values.push(-1.0);
            Ok(taken)
        };
        let (mut found, mut asked, mut in_order) = (0, 0, 0);
        for (after_ms, through_ms) in
            [(-1, 2_000_000), (99_000, 199_000), (450_500, 950_500), (1_100_000, 1_100_001), (5, 5)]
        {
            for matchers in [
                vec![all.clone()],
                vec![vec![matcher("n", MatchOp::Regex, "[1-3]?[0-9]")]],
                vec![vec![matcher("n", MatchOp::Equal, "17")], vec![matcher("n", MatchOp::Regex, "1.")]],
            ] {
                let matchers = Matchers(matchers);
                let read = SampleSource::select(&snapshot, &matchers, after_ms, through_ms, &admit).unwrap();
                let expect: Vec<Column> = read.iter().filter(|series| keep(series)).map(column).collect();
                found += expect.len();
                // Looks at samples decide how many threads read.
                for visits in [1, 1_000_000] {
                    let work = Work { steps: 1, visits, any_order: false };
                    let time = (after_ms, through_ms);
                    let taken = SampleSource::columns(&snapshot, &matchers, time, work, &admit, &take).unwrap();
                    assert_eq!(format!("{taken:?}"), format!("{expect:?}"), "{matchers:?}, {time:?}");
                    let unordered = Work { any_order: true, ..work };
                    let mut taken =
                        SampleSource::columns(&snapshot, &matchers, time, unordered, &admit, &take).unwrap();
                    in_order += usize::from(taken.is_sorted_by(|a, b| a.labels.compare(&b.labels).is_le()));
                    taken.sort_by(|a, b| a.labels.compare(&b.labels));
                    assert_eq!(format!("{taken:?}"), format!("{expect:?}"), "{matchers:?}, {time:?}");
                    asked += 1;
                    if matchers.0.len() == 1 {
                        let taken = few.columns(&matchers, time, work, &admit, &take).unwrap();
                        assert_eq!(format!("{taken:?}"), format!("{expect:?}"), "{matchers:?}, {time:?}");
                    }
                }
            }
        }
        assert!(found > 100, "{found}");
        assert!(in_order < asked, "an order that nobody asks for is not made");
        let matchers = Matchers(vec![all]);
        let refuse = |_: &mut SeriesSamples| Err(Error::invalid("enough"));
        let work = Work { steps: 1, visits: 1_000_000, any_order: false };
        let refused = SampleSource::columns(&snapshot, &matchers, (-1, 2_000_000), work, &admit, &refuse);
        assert_eq!(refused.unwrap_err().message, "enough");
    }

    #[test]
    fn of_a_millisecond_the_newest_sample_stays() {
        let (mut ts_ms, mut values) = (Vec::new(), Vec::new());
        let mut add = |ts_ns: &[i64], rows: &[f64]| extend((&mut ts_ms, &mut values), ts_ns, rows);
        add(&[], &[]);
        add(&[-1, 0, 999_998], &[1.0, 2.0, 3.0]);
        // The same millisecond goes on in the next batch.
        add(&[999_999], &[4.0]);
        add(&[1_000_000, 2_000_000, 2_000_001, 2_999_999, 4_000_000], &[5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(ts_ms, [-1, 0, 1, 2, 4]);
        assert_eq!(values, [1.0, 4.0, 5.0, 8.0, 9.0]);
    }

    #[test]
    fn stale_markers_stand_between_values_and_never_in_their_place() {
        let mut samples = SeriesSamples { ts_ms: vec![10, 20], values: vec![1.0, 2.0], ..SeriesSamples::default() };
        samples.add_stale(&[]);
        samples.add_stale(&[5, 10, 11, 12, 20, 30]);
        assert_eq!(samples.ts_ms, [5, 10, 11, 12, 20, 30]);
        let stale: Vec<bool> = samples.values.iter().map(|value| value.to_bits() == STALE_BITS).collect();
        assert_eq!(stale, [true, false, true, true, false, true]);
        assert_eq!((samples.values[1], samples.values[4]), (1.0, 2.0));
    }
}
