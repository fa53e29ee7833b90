//! Aggregates against adding up the rows of a scan.
use std::collections::BTreeMap;
use std::path::Path;

use foretell_engine::{
    Aggregate, AggregateBatch, Engine, ErrorKind, Result, SeriesId, Sketch, Snapshot, Statistics, TimeRange,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::deletes::one_of;
use crate::support::{HOUR, Store, number, scan, series, write};

/// All that zone maps know.
pub(crate) const ALL: Statistics = Statistics { extremes: true, sum: true, times: true, ends: true, sketch: false };
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// One aggregate, or one row as if it were one.
#[derive(Clone, Debug, Default)]
struct Part {
    rows: i64,
    min: f64,
    max: f64,
    sum: f64,
    first: (i64, f64),
    last: (i64, f64),
    sketch: Sketch,
}

/// Rows that an aggregation has not read: all of them, and those that rollups answered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spared {
    pub(crate) unread: u64,
    pub(crate) rolled_up: u64,
}

/// Of each (key, step) its parts in the order they came.
type Parts = BTreeMap<(u32, i64), Vec<Part>>;

/// Reads an aggregation to its end; what was not asked for is 0. Answers also how many rows were not read.
fn aggregated(snapshot: &Snapshot, aggregate: &Aggregate<'_>, batch_rows: usize) -> (Parts, Spared) {
    let mut running = snapshot.aggregate(aggregate, batch_rows).unwrap();
    let (mut parts, mut batch) = (Parts::new(), AggregateBatch::default());
    while running.next_batch(&mut batch).unwrap() {
        let n = batch.starts.len();
        let Statistics { extremes, sum, times, ends, sketch } = aggregate.statistics;
        let wanted = [
            (batch.min.len(), extremes),
            (batch.max.len(), extremes),
            (batch.sum.len(), sum),
            (batch.sketches.len(), sketch),
        ];
        assert!(wanted.iter().all(|&(len, wanted)| len == if wanted { n } else { 0 }));
        assert_eq!((batch.first_ts.len(), batch.first.len()), (if times { n } else { 0 }, if ends { n } else { 0 }));
        assert_eq!(batch.runs.iter().map(|run| run.1 as usize).sum::<usize>(), n);
        let mut at = 0;
        for &(index, run) in &batch.runs {
            for row in at..at + run as usize {
                let value = |column: &[f64]| column.get(row).copied().unwrap_or_default();
                let time = |column: &[i64]| column.get(row).copied().unwrap_or_default();
                let part = Part {
                    rows: batch.rows[row],
                    min: value(&batch.min),
                    max: value(&batch.max),
                    sum: value(&batch.sum),
                    first: (time(&batch.first_ts), value(&batch.first)),
                    last: (time(&batch.last_ts), value(&batch.last)),
                    sketch: batch.sketches.get(row).cloned().unwrap_or_default(),
                };
                let key = aggregate.groups.get(index as usize).copied().unwrap_or(index);
                parts.entry((key, batch.starts[row])).or_default().push(part);
            }
            at += run as usize;
        }
    }
    assert!(!running.next_batch(&mut batch).unwrap());
    (parts, Spared { unread: running.rows_unread(), rolled_up: running.rows_rolled_up() })
}

/// The same from the rows of a scan, each a part.
fn added_up(snapshot: &Snapshot, aggregate: &Aggregate<'_>) -> Parts {
    let mut parts = Parts::new();
    for ((id, ts), bits) in scan(snapshot, aggregate.series, aggregate.range).unwrap() {
        let index = aggregate.series.iter().position(|other| *other == id).unwrap();
        let key = aggregate.groups.get(index).copied().unwrap_or(index as u32);
        let start = aggregate.step_ns.and_then(|step| ts.div_euclid(step).checked_mul(step)).unwrap_or(i64::MIN);
        let value = f64::from_bits(bits);
        let mut sketch = Sketch::default();
        sketch.add(value);
        let ends = (ts, value);
        let part = Part { rows: 1, min: value, max: value, sum: value, first: ends, last: ends, sketch };
        parts.entry((key, start)).or_default().push(part);
    }
    parts
}

/// Ways to combine parts, each of which a caller might use: NaN is above or below all numbers; or takes the place of what was
/// there and gives way to what comes next; and of equal values the first stays, or not.
fn combined(parts: &[Part], in_order: bool) -> String {
    let rows: i64 = parts.iter().map(|part| part.rows).sum();
    let sum = parts.iter().fold(0.0, |sum, part| sum + part.sum);
    let mins = || parts.iter().map(|part| part.min);
    let maxs = || parts.iter().map(|part| part.max);
    let total = (mins().min_by(f64::total_cmp), maxs().max_by(f64::total_cmp));
    let takes = |before: f64, new: f64, above: bool| {
        let better = if above { new > before } else { new < before };
        if better || new.is_nan() || before.is_nan() { new } else { before }
    };
    let folded =
        (mins().reduce(|before, new| takes(before, new, false)), maxs().reduce(|before, new| takes(before, new, true)));
    let first = parts.iter().map(|part| part.first).min_by_key(|first| first.0);
    let last = parts.iter().map(|part| part.last).max_by_key(|last| last.0);
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    let mut text = format!("{rows} rows, sum {sum:?}, extremes {:?} {:?}", bits(total.0), bits(total.1));
    text += &format!(", from {:?} to {:?}", first.map(|f| f.0), last.map(|l| l.0));
    let mut sketch = Sketch::default();
    parts.iter().for_each(|part| sketch.merge(&part.sketch));
    text += &format!(", {sketch:?}");
    if in_order {
        text += &format!(", folded {:?} {:?}", bits(folded.0), bits(folded.1));
        text += &format!(", ends {:?} {:?}", bits(first.map(|f| f.1)), bits(last.map(|l| l.1)));
    }
    text
}

fn check(snapshot: &Snapshot, aggregate: &Aggregate<'_>, batch_rows: usize, context: &str) -> u64 {
    compare(snapshot, aggregate, batch_rows, context).unread
}

/// Compares an aggregation with the rows of a scan.
pub(crate) fn compare(snapshot: &Snapshot, aggregate: &Aggregate<'_>, batch_rows: usize, context: &str) -> Spared {
    let (got, spared) = aggregated(snapshot, aggregate, batch_rows);
    let expected = added_up(snapshot, aggregate);
    let in_order = aggregate.groups.is_empty();
    let text = |parts: &Parts| -> BTreeMap<(u32, i64), String> {
        // What was not asked for must not be compared.
        let Statistics { extremes, sum, times, ends, sketch } = aggregate.statistics;
        let asked = |part: &Part| Part {
            rows: part.rows,
            min: if extremes { part.min } else { 0.0 },
            max: if extremes { part.max } else { 0.0 },
            sum: if sum { part.sum } else { 0.0 },
            first: (if times { part.first.0 } else { 0 }, if ends { part.first.1 } else { 0.0 }),
            last: (if times { part.last.0 } else { 0 }, if ends { part.last.1 } else { 0.0 }),
            sketch: if sketch { part.sketch.clone() } else { Sketch::default() },
        };
        let of = |parts: &Vec<Part>| combined(&parts.iter().map(asked).collect::<Vec<_>>(), in_order);
        parts.iter().map(|(key, parts)| (*key, of(parts))).collect()
    };
    assert_eq!(text(&got), text(&expected), "{context}: {aggregate:?}");
    spared
}

/// Whole numbers, so that sums are exact in any order, and whatever compares oddly.
fn value(rng: &mut StdRng, odd: f64) -> f64 {
    const ODD: [f64; 6] = [f64::NAN, STALE, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY];
    if rng.random_bool(odd) { ODD[rng.random_range(0..ODD.len())] } else { f64::from(rng.random_range(-3i8..4)) }
}

/// A store after random writes, overwrites, deletes, flushes and merges. Some segments are of one series.
pub(crate) fn any_store(rng: &mut StdRng, engine: &Engine, ids: &[SeriesId]) {
    let odd = [0.0, 0.01, 0.3][rng.random_range(0..3)];
    let latest = [2, 5, 200][rng.random_range(0..3)];
    for _ in 0..rng.random_range(1..30) {
        let only = rng.random_bool(0.4).then(|| rng.random_range(0..ids.len()));
        let new: Vec<_> = (0..rng.random_range(1..60))
            .map(|_| {
                let n = only.unwrap_or_else(|| rng.random_range(0..ids.len()));
                (ids[n], rng.random_range(-20..20 * latest) * (HOUR / 20), value(rng, odd))
            })
            .collect();
        write(engine, &new);
        if rng.random_bool(0.1) {
            let start = rng.random_range(-HOUR..latest * HOUR);
            engine.delete(&one_of(&[rng.random_range(0..7), rng.random_range(0..7)], start, start + HOUR)).unwrap();
        }
        match rng.random_range(0..6) {
            0 | 1 => engine.flush().unwrap(),
            2 => drop(engine.compact().unwrap()),
            _ => {}
        }
    }
}

/// Asks for 25 random aggregates, which must be those of the rows of a scan. What was spared without groups, and with.
pub(crate) fn compare_some(rng: &mut StdRng, snapshot: &Snapshot, ids: &[SeriesId], context: &str) -> [Spared; 2] {
    let mut spared = [Spared::default(); 2];
    for _ in 0..25 {
        let some: Vec<SeriesId> = ids.iter().copied().filter(|_| rng.random_bool(0.9)).collect();
        let groups: Vec<u32> = some.iter().map(|_| rng.random_range(0..2) / rng.random_range(1..3)).collect();
        let grouped = rng.random_bool(0.5);
        let start = rng.random_range(-2 * HOUR..3 * HOUR);
        let steps = [None, Some(1), Some(HOUR / 7), Some(HOUR), Some(3 * HOUR), Some(i64::MAX)];
        let aggregate = Aggregate {
            series: &some,
            groups: if grouped { &groups } else { &[] },
            range: if rng.random() {
                TimeRange::ALL
            } else {
                TimeRange { start, end: start + rng.random_range(-1..100) * HOUR }
            },
            step_ns: steps[rng.random_range(0..steps.len())],
            statistics: if rng.random() {
                ALL
            } else {
                let (extremes, sum, times) = (rng.random(), rng.random(), rng.random());
                Statistics { extremes, sum, times, ends: times && rng.random(), sketch: rng.random_bool(0.3) }
            },
        };
        let batch_rows = [1, 3, 1000][rng.random_range(0..3)];
        let now = compare(snapshot, &aggregate, batch_rows, context);
        let sum = &mut spared[usize::from(grouped)];
        (sum.unread, sum.rolled_up) = (sum.unread + now.unread, sum.rolled_up + now.rolled_up);
    }
    spared
}

/// Number of random stores of a test.
pub(crate) fn cases() -> u64 {
    number("FORETELL_AGGREGATE_CASES", 40)
}

/// `FORETELL_AGGREGATE_CASES` is the number of random stores.
#[test]
fn aggregates_are_those_of_the_rows_of_a_scan() {
    let mut unread = [0, 0];
    for seed in 0..cases() {
        let mut rng = StdRng::seed_from_u64(seed);
        let store = Store::new();
        let engine = store.open();
        let mut ids: Vec<SeriesId> = (0..7).map(|n| series(&engine, n)).collect();
        ids.sort_unstable();
        any_store(&mut rng, &engine, &ids);
        let spared = compare_some(&mut rng, &engine.snapshot(), &ids, &format!("seed {seed}"));
        unread = [unread[0] + spared[0].unread, unread[1] + spared[1].unread];
        assert_eq!((spared[0].rolled_up, spared[1].rolled_up), (0, 0), "nobody asked for rollups");
    }
    assert!(unread.iter().all(|rows| *rows > 100), "zone maps answered {unread:?} rows");
}

fn aggregate(series: &[SeriesId], step_ns: Option<i64>) -> Aggregate<'_> {
    Aggregate { series, groups: &[], range: TimeRange::ALL, step_ns, statistics: ALL }
}

/// 20,000 rows of one series in one segment: three blocks.
fn long_series(store: &Store, value: impl Fn(i64) -> f64) -> (Engine, SeriesId) {
    let engine = store.open();
    let id = series(&engine, 3);
    write(&engine, &(0..20_000).map(|t| (id, t, value(t))).collect::<Vec<_>>());
    engine.flush().unwrap();
    (engine, id)
}

#[test]
fn a_block_in_one_step_is_answered_without_reading_it() {
    let store = Store::new();
    let (engine, id) = long_series(&store, |t| (t % 100) as f64);
    let file = engine.snapshot().segments()[0].file.clone();
    engine.close().unwrap();
    drop(engine);
    // Damage the first block: only a reader would notice.
    store.fs.flip(&Path::new("/store").join(file), 40);
    let engine = store.open();
    let snapshot = engine.snapshot();
    assert!(scan(&snapshot, &[id], TimeRange::ALL).is_err());
    let (parts, unread) = aggregated(&snapshot, &aggregate(&[id], None), 10);
    let [part] = &parts[&(0, i64::MIN)][..] else { panic!("{parts:?}") };
    assert_eq!((unread.unread, part.rows, part.min, part.max, part.sum), (20_000, 20_000, 0.0, 99.0, 990_000.0));
    assert_eq!((part.first, part.last), ((0, 0.0), (19_999, 99.0)));
    // A step inside the block needs its rows.
    let read = || -> Result<()> {
        let mut running = snapshot.aggregate(&aggregate(&[id], Some(1_000)), 10)?;
        while running.next_batch(&mut AggregateBatch::default())? {}
        Ok(())
    };
    assert_eq!(read().unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn a_block_is_read_when_another_source_or_a_delete_reaches_into_it() {
    // (rows written after, by number of series and time), whose rows of times 100 to 200 are deleted, and how many rows of
    // three blocks (8,192, 8,192 and 3,616) are still answered unread.
    type Case = (&'static [(u32, i64)], Option<u32>, u64);
    let cases: [Case; 6] = [
        (&[], None, 20_000),
        (&[(3, 10_000)], None, 20_000 - 8_192),
        (&[(3, 20_000), (6, 10_000)], None, 20_000),
        (&[(3, 8_191), (3, 8_192)], None, 3_616),
        (&[], Some(3), 20_000 - 8_192),
        (&[(6, 50)], Some(6), 20_000),
    ];
    for (rows, deleted, expected) in cases {
        for flush in [false, true] {
            let store = Store::new();
            let (engine, id) = long_series(&store, |t| (t % 100) as f64);
            let rows: Vec<_> = rows.iter().map(|&(n, ts)| (series(&engine, n), ts, 7.0)).collect();
            if !rows.is_empty() {
                write(&engine, &rows);
            }
            if let Some(number) = deleted {
                engine.delete(&one_of(&[number], 100, 200)).unwrap();
            }
            if flush {
                engine.flush().unwrap();
            }
            let unread = check(&engine.snapshot(), &aggregate(&[id], None), 100, "changed");
            assert_eq!(unread, expected, "{rows:?}, {deleted:?}, flush {flush}");
        }
    }
}

#[test]
fn values_that_compare_oddly_are_read_only_if_they_are_compared_or_added() {
    let store = Store::new();
    let (engine, id) = long_series(&store, |t| if t == 10_000 { STALE } else { 1.0 });
    let snapshot = engine.snapshot();
    let ids = [id];
    let of = |statistics| Aggregate { statistics, ..aggregate(&ids, None) };
    let none = Statistics::default();
    for (statistics, unread) in [
        (none, 20_000),
        (Statistics { times: true, ends: true, ..none }, 20_000),
        (Statistics { sum: true, ..none }, 20_000 - 8_192),
        (Statistics { extremes: true, ..none }, 20_000 - 8_192),
    ] {
        assert_eq!(check(&snapshot, &of(statistics), 100, "stale"), unread, "{statistics:?}");
    }
    // Zeros of both signs: the sum is safe, the smallest value is not.
    let store = Store::new();
    let (engine, id) = long_series(&store, |t| if t == 10_000 { -0.0 } else { 0.0 });
    let ids = [id];
    let of = |statistics| Aggregate { statistics, ..aggregate(&ids, None) };
    for (statistics, unread) in
        [(Statistics { sum: true, ..none }, 20_000), (Statistics { extremes: true, ..none }, 20_000 - 8_192)]
    {
        assert_eq!(check(&engine.snapshot(), &of(statistics), 100, "zeros"), unread, "{statistics:?}");
    }
}

#[test]
fn a_block_of_several_series_is_answered_only_for_all_of_them_and_one_group() {
    let store = Store::new();
    let engine = store.open();
    // One metric, so one block.
    let ids: Vec<SeriesId> = [3, 6, 9].map(|n| series(&engine, n)).to_vec();
    for day in 0..3 {
        let rows: Vec<_> = (0..300).map(|i| (ids[i as usize % 3], day * 24 * HOUR + i, i as f64)).collect();
        write(&engine, &rows);
        engine.flush().unwrap();
    }
    // Rows of today in memory are no reason to read yesterday's block.
    write(&engine, &[(ids[0], 72 * HOUR, 1.0), (ids[2], 72 * HOUR, 1.0)]);
    let snapshot = engine.snapshot();
    let of_several = Statistics { ends: false, ..ALL };
    let cases: [(&[SeriesId], &[u32], Statistics, u64); 6] = [
        (&ids, &[4, 4, 4], of_several, 900),
        (&ids, &[], of_several, 0),
        (&ids, &[4, 4, 5], of_several, 0),
        (&ids[..2], &[4, 4], of_several, 0),
        (&ids[1..], &[4, 4], of_several, 0),
        // A zone map of several series knows no ends.
        (&ids, &[4, 4, 4], ALL, 0),
    ];
    for (series, groups, statistics, unread) in cases {
        let aggregate = Aggregate { series, groups, statistics, ..aggregate(&[], None) };
        assert_eq!(check(&snapshot, &aggregate, 100, "groups"), unread);
    }
}

#[test]
fn the_first_and_the_last_instant_have_a_step() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 3);
    write(&engine, &[(id, i64::MIN, 1.0), (id, i64::MIN + 1, 2.0), (id, -1, 3.0), (id, 0, 4.0), (id, i64::MAX, 5.0)]);
    for flush in [false, true] {
        if flush {
            engine.flush().unwrap();
        }
        for step in [1, 2, 7, HOUR, i64::MAX - 1, i64::MAX] {
            check(&engine.snapshot(), &aggregate(&[id], Some(step)), 2, "extreme times");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let store = Store::new();
    let engine = store.open();
    let (a, b) = (series(&engine, 3), series(&engine, 6));
    let ids = [a.min(b), a.max(b)];
    let snapshot = engine.snapshot();
    let twice = [a, a];
    for aggregate in [
        aggregate(&ids, Some(0)),
        aggregate(&ids, Some(-1)),
        aggregate(&twice, None),
        Aggregate { groups: &[1], ..aggregate(&ids, None) },
    ] {
        let error = snapshot.aggregate(&aggregate, 10).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
