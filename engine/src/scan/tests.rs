//! Scans against a map from (series, ts) to value.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::compaction::{Input, execute};
use crate::fs::{FaultFs, Fs};
use crate::segment::SegmentWriter;
use crate::types::Lsn;

type Rows = Vec<(SeriesId, i64, f64)>;
type Model = BTreeMap<(SeriesId, i64), u64>;

#[derive(Clone, Debug)]
enum Form {
    Segment,
    Run,
    Tail,
}

fn disk() -> FaultFs {
    let fs = FaultFs::new();
    fs.create_dir(Path::new("dir")).unwrap();
    fs
}

fn model_of<'a>(sources: impl IntoIterator<Item = &'a Rows>) -> Model {
    sources.into_iter().flatten().map(|&(id, t, v)| ((id, t), v.to_bits())).collect()
}

fn columns(rows: &Rows) -> Vec<(SeriesId, Vec<i64>, Vec<f64>)> {
    let mut columns: Vec<(SeriesId, Vec<i64>, Vec<f64>)> = Vec::new();
    for ((id, t), bits) in model_of([rows]) {
        if columns.last().is_none_or(|last| last.0 != id) {
            columns.push((id, Vec::new(), Vec::new()));
        }
        let last = columns.last_mut().unwrap();
        last.1.push(t);
        last.2.push(f64::from_bits(bits));
    }
    columns
}

fn segment_of(fs: &FaultFs, name: &str, rows: &Rows) -> Arc<Segment> {
    let path = Path::new("dir").join(name);
    let mut writer = SegmentWriter::create(fs, &path, 0, 0, (Lsn(1), Lsn(1))).unwrap();
    for (id, ts, values) in columns(rows) {
        writer.append(id, &ts, &values).unwrap();
    }
    let meta = writer.finish().unwrap();
    Arc::new(Segment::open(fs, &path, &meta).unwrap())
}

fn input(segment: Arc<Segment>) -> Input {
    Input { segment, hidden: Hidden::default() }
}

fn run_of(rows: &Rows) -> SortedRun {
    let mut run = SortedRun { offsets: vec![0], ..SortedRun::default() };
    for (id, ts, values) in columns(rows) {
        run.series.push(id);
        run.ts.extend(ts);
        run.values.extend(values);
        run.offsets.push(run.ts.len() as u32);
    }
    run
}

fn tail_of(rows: &Rows) -> Vec<Arc<WriteBatch>> {
    let batch = |part: &[(SeriesId, i64, f64)]| {
        let mut batch = WriteBatch::default();
        part.iter().for_each(|&(id, t, v)| batch.push(id, t, v));
        Arc::new(batch)
    };
    rows.chunks(7).map(batch).collect()
}

fn sources_of(fs: &FaultFs, sources: &[(Form, Rows)]) -> Vec<Source> {
    let of = |(at, (form, rows)): (usize, &(Form, Rows))| match form {
        Form::Segment if rows.is_empty() => Source::Run(Arc::default()),
        Form::Segment => Source::Segment(segment_of(fs, &format!("{at}-{}.seg", fs.calls()), rows)),
        Form::Run => Source::Run(Arc::new(run_of(rows))),
        Form::Tail => Source::Tail(tail_of(rows)),
    };
    sources.iter().enumerate().map(of).collect()
}

/// Reads a scan to its end, checking the shape of each batch.
fn read(mut scan: Scan, ids: &[SeriesId], rows_target: usize, values: bool) -> Vec<((SeriesId, i64), u64)> {
    let (mut batch, mut all) = (ScanBatch::default(), Vec::new());
    while scan.next_batch(&mut batch).unwrap() {
        assert!(batch.ts.len() <= rows_target.max(1));
        assert_eq!(batch.values.len(), if values { batch.ts.len() } else { 0 });
        assert_eq!(batch.runs.iter().map(|r| r.1 as usize).sum::<usize>(), batch.ts.len());
        assert!(batch.runs.windows(2).all(|w| w[0].0 < w[1].0) && batch.runs.iter().all(|r| r.1 > 0));
        let mut at = 0;
        for &(index, rows) in &batch.runs {
            for row in at..at + rows as usize {
                let bits = batch.values.get(row).map_or(0, |v| v.to_bits());
                all.push(((ids[index as usize], batch.ts[row]), bits));
            }
            at += rows as usize;
        }
    }
    assert!(!scan.next_batch(&mut batch).unwrap());
    all
}

fn expected(model: &Model, ids: &[SeriesId], range: TimeRange, values: bool) -> Vec<((SeriesId, i64), u64)> {
    let wanted = |&(&(id, t), _): &(&(SeriesId, i64), &u64)| {
        ids.binary_search(&id).is_ok() && t >= range.start && t <= range.end
    };
    model.iter().filter(wanted).map(|(&key, &bits)| (key, if values { bits } else { 0 })).collect()
}

fn instant() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0i64..60, 1 => any::<i64>(), 1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, i64::MAX - 1, i64::MAX])]
}

fn rows() -> impl Strategy<Value = Rows> {
    let id = (0u32..3, 0u32..6).prop_map(|(metric, number)| SeriesId::new(metric, number));
    let value = prop_oneof![any::<i16>().prop_map(f64::from), any::<u64>().prop_map(f64::from_bits)];
    prop::collection::vec((id, instant(), value), 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_scan_answers_what_a_map_answers(
        sources in prop::collection::vec((prop::sample::select(vec![Form::Segment, Form::Run, Form::Tail]), rows()), 0..6),
        ids in prop::collection::btree_set((0u32..3, 0u32..8), 0..20),
        (a, b) in (instant(), instant()),
        everything: bool,
        values: bool,
        rows_target in 0usize..60,
    ) {
        let fs = disk();
        let model = model_of(sources.iter().map(|s| &s.1));
        let ids: Vec<SeriesId> = ids.into_iter().map(|(m, n)| SeriesId::new(m, n)).collect();
        let range = if everything { TimeRange::ALL } else { TimeRange { start: a.min(b), end: a.max(b) } };
        let scan = Scan::new(sources_of(&fs, &sources), ids.clone(), range, values, rows_target).unwrap();
        prop_assert_eq!(read(scan, &ids, rows_target, values), expected(&model, &ids, range, values));
        let mut scan = Scan::new(sources_of(&fs, &sources), ids.clone(), range, values, rows_target).unwrap();
        let mut all = Vec::new();
        while let Some(slice) = scan.next_slice().unwrap() {
            prop_assert!((1..=rows_target.max(1)).contains(&slice.ts.len()));
            prop_assert_eq!(slice.values.len(), if values { slice.ts.len() } else { 0 });
            let bits = |row: usize| slice.values.get(row).map_or(0, |value| value.to_bits());
            all.extend(slice.ts.iter().enumerate().map(|(row, &ts)| ((ids[slice.index as usize], ts), bits(row))));
        }
        prop_assert!(scan.next_slice().unwrap().is_none());
        prop_assert_eq!(all, expected(&model, &ids, range, values));
    }

    #[test]
    fn a_merge_changes_no_answer(parts in prop::collection::vec(rows().prop_filter("rows", |r| !r.is_empty()), 1..5)) {
        let fs = disk();
        let name = |at| format!("{at}.seg");
        let segment = |(at, rows)| input(segment_of(&fs, &name(at), rows));
        let inputs: Vec<_> = parts.iter().enumerate().map(segment).collect();
        let path = Path::new("dir/out.seg");
        let meta = execute(&fs, &inputs, path, 1, 1 << 20, &mut || true).unwrap().unwrap().segment.unwrap();
        let merged = Arc::new(Segment::open(&fs, path, &meta).unwrap());
        let (model, ids) = (model_of(&parts), merged.series().iter().collect::<Vec<_>>());
        let scan = Scan::new([Source::Segment(merged)], ids.clone(), TimeRange::ALL, true, 1000).unwrap();
        prop_assert_eq!(read(scan, &ids, 1000, true), model.into_iter().collect::<Vec<_>>());
    }
}

/// Rows of several blocks: `series` series of `rows` rows, every `step`-th instant from `from`.
fn grid(series: u32, rows: i64, from: i64, step: i64) -> Rows {
    (0..series).flat_map(|n| (0..rows).map(move |i| (SeriesId::new(1, n), from + i * step, (i * 3) as f64))).collect()
}

#[test]
fn series_that_span_blocks_and_sources_are_merged() {
    let fs = disk();
    let sources = [
        (Form::Segment, grid(3, 20_000, 0, 2)),
        (Form::Segment, grid(2, 9_000, 10_001, 2)),
        (Form::Run, grid(3, 5_000, 39_000, 1)),
        (Form::Tail, grid(1, 100, 500, 7)),
    ];
    let model = model_of(sources.iter().map(|s| &s.1));
    for ids in [vec![0u32], vec![1, 2], vec![0, 1, 2, 3]] {
        let ids: Vec<SeriesId> = ids.into_iter().map(|n| SeriesId::new(1, n)).collect();
        for range in [TimeRange::ALL, TimeRange { start: 9_999, end: 16_385 }, TimeRange { start: 50_000, end: 60_000 }]
        {
            let scan = Scan::new(sources_of(&fs, &sources), ids.clone(), range, true, 10_000).unwrap();
            assert_eq!(read(scan, &ids, 10_000, true), expected(&model, &ids, range, true));
        }
    }
}

#[test]
fn many_small_series_are_found_one_by_one_and_all_together() {
    let fs = disk();
    // Every third series is absent.
    let rows: Rows = grid(3_000, 10, 0, 15).into_iter().filter(|r| r.0.number() % 3 != 0).collect();
    let sources = [(Form::Segment, rows.clone()), (Form::Tail, rows[..500].to_vec())];
    let model = model_of(sources.iter().map(|s| &s.1));
    let all: Vec<SeriesId> = (0..3_000).map(|n| SeriesId::new(1, n)).collect();
    let built = || sources_of(&fs, &sources);
    let scan = Scan::new(built(), all.clone(), TimeRange::ALL, true, 4_096).unwrap();
    assert_eq!(read(scan, &all, 4_096, true), expected(&model, &all, TimeRange::ALL, true));
    for few in [vec![0], vec![1], vec![2_999], vec![1_500, 1_501], vec![7, 1_000, 2_000]] {
        let ids: Vec<SeriesId> = few.into_iter().map(|n| SeriesId::new(1, n)).collect();
        let scan = Scan::new(built(), ids.clone(), TimeRange::ALL, true, 4_096).unwrap();
        assert_eq!(read(scan, &ids, 4_096, true), expected(&model, &ids, TimeRange::ALL, true));
    }
}

#[test]
fn a_damaged_block_ends_the_scan_with_an_error() {
    let fs = disk();
    let segment = segment_of(&fs, "s.seg", &grid(1, 20_000, 0, 1));
    let (zone, meta) = (segment.blocks()[1].clone(), segment.meta().clone());
    drop(segment);
    fs.flip(Path::new("dir/s.seg"), zone.offset as usize + 3);
    let segment = Arc::new(Segment::open(&fs, Path::new("dir/s.seg"), &meta).unwrap());
    let mut scan =
        Scan::new([Source::Segment(segment)], vec![SeriesId::new(1, 0)], TimeRange::ALL, true, 1_000).unwrap();
    let mut batch = ScanBatch::default();
    let error = loop {
        match scan.next_batch(&mut batch) {
            Ok(more) => assert!(more, "the scan ended without an error"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, crate::Error::Corruption { offset, .. } if offset == zone.offset));
    assert!(!scan.next_batch(&mut batch).unwrap());
}

#[test]
fn a_cancelled_merge_leaves_no_file() {
    let fs = disk();
    let part = |name, from| input(segment_of(&fs, name, &grid(1, 10, from, 1)));
    let inputs = [part("a.seg", 0), part("b.seg", 5)];
    let path = Path::new("dir/out.seg");
    assert!(execute(&fs, &inputs, path, 1, 1 << 20, &mut || false).unwrap().is_none());
    assert!(!fs.exists(path).unwrap());
}
