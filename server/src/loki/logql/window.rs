//! Lines and values within the ranges of a metric query.
//!
//! ```text
//!  time        ---a--b----c-------d--->
//!  instants       |    |    |    |          each looks back over (instant - range, instant]
//! ```
//! Lines come in any order. Of counts and bytes only the changes from one instant to the next are kept, which costs the same
//! however much the ranges overlap; values are kept all, sorted at the end.
use std::collections::HashMap;
use std::ops;

use foretell_query::{Error, ErrorKind};

use super::entry::Origin;
use super::metric::{Grouping, Range, RangeAggregation, RangeOp};

/// Series of one read of lines.
const SERIES_MAX: usize = 10_000;
/// Values that all ranges look at together: of a read whose ranges overlap much.
const LOOKS_MAX: usize = 500_000_000;
/// After so many of them the deadline is looked at.
const LOOKS_AT_ONCE: usize = 1 << 20;
/// Memory of a series besides its labels and values.
const SERIES_BYTES: usize = 256;
/// Memory is asked for in such steps.
const RESERVE_BYTES: usize = 1 << 20;

/// The instants of a query, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl Grid {
    /// The instant of number `i`.
    pub(crate) fn at(&self, i: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i as i64))
    }

    /// Times of the lines that are read, the end not included.
    pub(crate) fn reads(&self, range: Range) -> (i64, i64) {
        let last = self.at(self.count.saturating_sub(1));
        let start = self.start.saturating_sub(range.offset_ns).saturating_sub(range.ns).saturating_add(1);
        (start, last.saturating_sub(range.offset_ns).saturating_add(1))
    }

    /// The instants whose range holds `ts`.
    fn looking_at(&self, ts: i64, range: Range) -> ops::Range<usize> {
        let since_start = i128::from(ts) + i128::from(range.offset_ns) - i128::from(self.start);
        let step = i128::from(self.step.max(1));
        let number = |ns: i128| (ns + step - 1).div_euclid(step).clamp(0, self.count as i128) as usize;
        number(since_start)..number(since_start + i128::from(range.ns))
    }
}

/// A series of an answer: a value, or none, for each instant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// Sorted by name.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) values: Vec<Option<f64>>,
}

/// Whether the deadline has not passed.
pub(crate) type InTime<'t> = &'t dyn Fn() -> Result<(), Error>;

/// Asks for memory: so many bytes in all.
pub(crate) type Reserve = Box<dyn Fn(usize) -> Result<(), Error> + Send>;

/// What has been read.
pub(crate) struct Windows {
    grid: Grid,
    range: Range,
    op: RangeOp,
    quantile: f64,
    grouping: Grouping,
    values: bool,
    numbers: HashMap<String, usize>,
    rows: Vec<Row>,
    key: String,
    bytes: usize,
    reserved: usize,
    reserve: Reserve,
}

struct Row {
    labels: Vec<(String, String)>,
    kept: Kept,
}

enum Kept {
    /// By how much lines, and lines or bytes, differ from the instant before.
    Changes(Vec<(i64, i64)>),
    Values(Vec<(i64, f64)>),
}

impl Windows {
    pub(crate) fn new(of: &RangeAggregation, grid: Grid, reserve: Reserve) -> Self {
        Self {
            grid,
            range: of.range,
            op: of.op,
            quantile: of.parameter,
            grouping: of.grouping.clone(),
            values: of.query.unwraps(),
            numbers: HashMap::new(),
            rows: Vec::new(),
            key: String::new(),
            bytes: 0,
            reserved: 0,
            reserve,
        }
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > self.reserved {
            (self.reserve)(self.bytes + RESERVE_BYTES)?;
            self.reserved = self.bytes + RESERVE_BYTES;
        }
        Ok(())
    }

    /// Adds a line of `line_bytes`, or the value of a line.
    ///
    /// # Errors
    /// Too many series, or no memory.
    pub(crate) fn add(
        &mut self,
        labels: &[(&str, &str, Origin)],
        ts: i64,
        line_bytes: usize,
        value: f64,
    ) -> Result<(), Error> {
        let looking = self.grid.looking_at(ts, self.range);
        if looking.is_empty() {
            return Ok(());
        }
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for (name, value, _) in labels.iter().filter(|label| self.grouping.keeps(label.0)) {
            // Lengths, so that no value can look like the next label.
            key.push_str(&format!("{}:{name}{}:{value}", name.len(), value.len()));
        }
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None => self.new_row(&key, labels)?,
        };
        self.key = key;
        if self.values {
            self.grow(size_of::<(i64, f64)>() * 2)?;
        }
        match &mut self.rows[number].kept {
            Kept::Values(values) => values.push((ts, value)),
            Kept::Changes(changes) => {
                let amount = match self.op {
                    RangeOp::Bytes | RangeOp::BytesRate => line_bytes as i64,
                    _ => 1,
                };
                changes[looking.start].0 += 1;
                changes[looking.start].1 += amount;
                if let Some(after) = changes.get_mut(looking.end) {
                    after.0 -= 1;
                    after.1 -= amount;
                }
            }
        }
        Ok(())
    }

    fn new_row(&mut self, key: &str, labels: &[(&str, &str, Origin)]) -> Result<usize, Error> {
        if self.rows.len() >= SERIES_MAX {
            let why = format!(
                "the lines make more than {SERIES_MAX} series: drop labels, as with sum by (…), or select fewer lines"
            );
            return Err(Error::new(ErrorKind::Execution, why));
        }
        let instants = self.grid.count * (size_of::<(i64, i64)>() + size_of::<Option<f64>>());
        self.grow(3 * key.len() + instants + SERIES_BYTES)?;
        let labels = labels.iter().filter(|label| self.grouping.keeps(label.0));
        let labels = labels.map(|(name, value, _)| ((*name).to_owned(), (*value).to_owned())).collect();
        let kept = if self.values { Kept::Values(Vec::new()) } else { Kept::Changes(vec![(0, 0); self.grid.count]) };
        self.rows.push(Row { labels, kept });
        self.numbers.insert(key.to_owned(), self.rows.len() - 1);
        Ok(self.rows.len() - 1)
    }

    /// The series, sorted by their labels, and what keeps their memory reserved.
    ///
    /// # Errors
    /// Ranges that overlap so much that too many values are looked at; those of `in_time`.
    pub(crate) fn finish(self, in_time: InTime<'_>) -> Result<(Vec<Series>, Reserve), Error> {
        let Self { grid, range, op, quantile, rows, reserve, .. } = self;
        let seconds = range.ns as f64 / 1e9;
        let (mut looks, mut next_check) = (0, 0);
        let mut all = Vec::with_capacity(rows.len());
        for Row { labels, kept } in rows {
            in_time()?;
            let values = match kept {
                Kept::Changes(changes) => {
                    let (mut lines, mut amount) = (0, 0);
                    let value = |(more_lines, more): (i64, i64)| {
                        lines += more_lines;
                        amount += more;
                        let amount = amount as f64;
                        let value =
                            if matches!(op, RangeOp::Rate | RangeOp::BytesRate) { amount / seconds } else { amount };
                        (lines > 0).then_some(value)
                    };
                    changes.into_iter().map(value).collect()
                }
                Kept::Values(mut values) => {
                    values.sort_by_key(|(ts, _)| *ts);
                    let mut answers = Vec::with_capacity(grid.count);
                    for i in 0..grid.count {
                        let end = grid.at(i).saturating_sub(range.offset_ns);
                        let from = values.partition_point(|(ts, _)| *ts <= end.saturating_sub(range.ns));
                        let to = values.partition_point(|(ts, _)| *ts <= end);
                        looks += to - from;
                        if looks > LOOKS_MAX {
                            let why =
                                "the ranges overlap so much that too many values are looked at: ask with a longer step";
                            return Err(Error::new(ErrorKind::Execution, why));
                        }
                        if looks >= next_check {
                            in_time()?;
                            next_check = looks + LOOKS_AT_ONCE;
                        }
                        answers.push(answer(op, &values[from..to], quantile, seconds));
                    }
                    answers
                }
            };
            all.push(Series { labels, values });
        }
        all.retain(|series| series.values.iter().any(Option::is_some));
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok((all, reserve))
    }
}

/// What the values of a range become.
fn answer(op: RangeOp, values: &[(i64, f64)], quantile: f64, seconds: f64) -> Option<f64> {
    let (first, last) = (values.first()?.1, values.last()?.1);
    let count = values.len() as f64;
    let numbers = values.iter().map(|(_, value)| *value);
    let sum = || numbers.clone().sum::<f64>();
    Some(match op {
        RangeOp::Count | RangeOp::Bytes | RangeOp::BytesRate => count,
        RangeOp::Sum => sum(),
        RangeOp::Rate => sum() / seconds,
        RangeOp::Avg => sum() / count,
        RangeOp::Min => numbers.fold(f64::INFINITY, f64::min),
        RangeOp::Max => numbers.fold(f64::NEG_INFINITY, f64::max),
        RangeOp::First => first,
        RangeOp::Last => last,
        RangeOp::Stdvar => variance(numbers),
        RangeOp::Stddev => variance(numbers).sqrt(),
        RangeOp::Quantile => self::quantile(numbers.collect(), quantile),
    })
}

/// Of all there are, not of a sample of them.
pub(super) fn variance(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for number in numbers {
        count += 1.0;
        let off = number - mean;
        mean += off / count;
        squares += off * (number - mean);
    }
    squares / count
}

/// Between the two nearest numbers, as Prometheus has it.
fn quantile(mut numbers: Vec<f64>, quantile: f64) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    numbers.sort_by(f64::total_cmp);
    let rank = quantile * (numbers.len() - 1) as f64;
    let (below, above) = (numbers[rank.floor() as usize], numbers[rank.ceil() as usize]);
    let weight = rank - rank.floor();
    below * (1.0 - weight) + above * weight
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Query;
    use super::super::metric::Expr;
    use super::*;

    fn aggregation(text: &str) -> RangeAggregation {
        let Query::Metric(expr) = Query::parse(text).unwrap() else { panic!("{text}") };
        let mut reads: Vec<&RangeAggregation> = Vec::new();
        Expr::reads(&expr, &mut reads);
        reads[0].clone()
    }

    fn none(_: usize) -> Result<(), Error> {
        Ok(())
    }

    /// By the definition.
    fn expected(of: &RangeAggregation, grid: Grid, lines: &[(u64, i64, f64)]) -> Vec<(u64, Vec<Option<f64>>)> {
        let mut series: BTreeMap<u64, Vec<(i64, f64)>> = BTreeMap::new();
        lines.iter().for_each(|(label, ts, value)| series.entry(*label).or_default().push((*ts, *value)));
        let answers = series.into_iter().map(|(label, mut lines)| {
            lines.sort_by_key(|(ts, _)| *ts);
            let value = |i: usize| {
                let end = grid.start + grid.step * i as i64 - of.range.offset_ns;
                let within: Vec<(i64, f64)> =
                    lines.iter().filter(|(ts, _)| *ts > end - of.range.ns && *ts <= end).copied().collect();
                let sum: f64 = within.iter().map(|(_, value)| value).sum();
                let count = within.len() as f64;
                let seconds = of.range.ns as f64 / 1e9;
                let value = match (of.op, of.query.unwraps()) {
                    (RangeOp::Count, _) => count,
                    (RangeOp::Rate, false) => count / seconds,
                    (RangeOp::Bytes | RangeOp::Sum, _) => sum,
                    (RangeOp::BytesRate | RangeOp::Rate, _) => sum / seconds,
                    (RangeOp::Avg, _) => sum / count,
                    (RangeOp::Max, _) => within.iter().map(|(_, value)| *value).fold(f64::MIN, f64::max),
                    (RangeOp::First, _) => within.first().map_or(0.0, |(_, value)| *value),
                    (op, _) => panic!("{op:?}"),
                };
                (!within.is_empty()).then_some(value)
            };
            (label, (0..grid.count).map(value).collect::<Vec<_>>())
        });
        answers.filter(|(_, values)| values.iter().any(Option::is_some)).collect()
    }

    #[test]
    fn whatever_the_ranges_steps_and_order_of_lines_each_instant_sees_its_own() {
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for round in 0..400 {
            let range = ["1s", "3s", "10s", "1m"][next(4) as usize];
            let offset = ["", " offset 2s", " offset -3s"][next(3) as usize];
            let text = match round % 7 {
                0 => format!("count_over_time({{a=\"b\"}}[{range}]{offset})"),
                1 => format!("rate({{a=\"b\"}}[{range}]{offset})"),
                2 => format!("bytes_over_time({{a=\"b\"}}[{range}]{offset})"),
                3 => format!("bytes_rate({{a=\"b\"}}[{range}]{offset})"),
                4 => format!("sum_over_time({{a=\"b\"}} | unwrap v [{range}]{offset})"),
                5 => format!("max_over_time({{a=\"b\"}} | unwrap v [{range}]{offset})"),
                _ => format!("rate({{a=\"b\"}} | unwrap v [{range}]{offset})"),
            };
            let of = aggregation(&text);
            let second = 1_000_000_000;
            let grid = Grid {
                start: next(20) as i64 * second,
                step: (1 + next(5) as i64) * second / 2,
                count: 1 + next(20) as usize,
            };
            // Whole and half seconds, and a bit later, so that lines lie on the borders of ranges and beside them.
            let lines: Vec<(u64, i64, f64)> = (0..next(80) as i64)
                .map(|n| (next(3), (next(80) as i64 - 10) * second / 2 + n % 2, next(100) as f64))
                .collect();
            let mut windows = Windows::new(&of, grid, Box::new(none));
            let (from, to) = grid.reads(of.range);
            for (label, ts, value) in &lines {
                let looked_at = !grid.looking_at(*ts, of.range).is_empty();
                assert!(!looked_at || (from..to).contains(ts), "{text} {grid:?}: {ts} is not read");
                let label = label.to_string();
                windows.add(&[("l", label.as_str(), Origin::Stream)], *ts, *value as usize, *value).unwrap();
            }
            let found: Vec<(u64, Vec<Option<f64>>)> = windows
                .finish(&|| Ok(()))
                .unwrap()
                .0
                .into_iter()
                .map(|series| (series.labels[0].1.parse().unwrap(), series.values))
                .collect();
            assert_eq!(found, expected(&of, grid, &lines), "{text} {grid:?}");
        }
    }

    #[test]
    fn what_values_become_is_what_prometheus_makes_of_them() {
        let values: Vec<(i64, f64)> =
            [4.0, 1.0, 3.0, 2.0].into_iter().enumerate().map(|(i, v)| (i as i64, v)).collect();
        for (op, parameter, value) in [
            (RangeOp::Min, 0.0, 1.0),
            (RangeOp::Last, 0.0, 2.0),
            (RangeOp::First, 0.0, 4.0),
            (RangeOp::Stdvar, 0.0, 1.25),
            (RangeOp::Avg, 0.0, 2.5),
            (RangeOp::Quantile, 0.5, 2.5),
            (RangeOp::Quantile, 0.9, 3.7),
            (RangeOp::Quantile, 2.0, f64::INFINITY),
        ] {
            let found = answer(op, &values, parameter, 1.0).unwrap();
            assert!(found == value || (found - value).abs() < 1e-12, "{op:?}({parameter}) is {found}");
        }
        assert_eq!(answer(RangeOp::Sum, &[], 0.0, 1.0), None);
    }

    #[test]
    fn a_deadline_that_passes_ends_the_look_at_values() {
        let of = aggregation("quantile_over_time(0.5, {a=\"b\"} | unwrap v [1h])");
        let mut windows = Windows::new(&of, Grid { start: 0, step: 1, count: 11_000 }, Box::new(none));
        (0..1_000).for_each(|ts| windows.add(&[("l", "x", Origin::Stream)], -ts, 1, 1.0).unwrap());
        let checks = std::cell::Cell::new(0);
        let in_time = || {
            checks.set(checks.get() + 1);
            if checks.get() < 5 { Ok(()) } else { Err(Error::new(ErrorKind::Timeout, "late")) }
        };
        // 11 million values, of which a few million are looked at.
        assert_eq!(windows.finish(&in_time).err().unwrap().kind, ErrorKind::Timeout);
    }

    #[test]
    fn series_and_memory_have_an_end() {
        let of = aggregation("count_over_time({a=\"b\"}[1m])");
        let grid = Grid { start: 0, step: 1, count: 1 };
        let mut windows = Windows::new(&of, grid, Box::new(none));
        let mut add = |n: usize| windows.add(&[("l", n.to_string().as_str(), Origin::Stream)], 0, 1, 1.0);
        (0..SERIES_MAX).for_each(|n| add(n).unwrap());
        assert!(add(0).is_ok());
        assert!(add(SERIES_MAX).unwrap_err().message.contains("more than 10000 series"));
        let full = |bytes: usize| if bytes > 2 << 20 { Err(Error::internal("full")) } else { Ok(()) };
        let mut windows = Windows::new(&of, Grid { start: 0, step: 1, count: 11_000 }, Box::new(full));
        let refused = (0..100)
            .find(|n: &usize| windows.add(&[("l", n.to_string().as_str(), Origin::Stream)], 0, 1, 1.0).is_err());
        assert!(refused.is_some_and(|n| n < 10), "{refused:?}");
    }
}
