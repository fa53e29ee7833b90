#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::types::SeriesId;
use crate::write_batch::WriteBatch;

fn commit(lsn: u64, rows: &[(u64, i64, f64)]) -> Arc<CommittedBatch> {
    let mut batch = WriteBatch::default();
    for &(id, ts, value) in rows {
        batch.push(SeriesId(id), ts, value);
    }
    Arc::new(CommittedBatch { lsn: Lsn(lsn), batch: Arc::new(batch) })
}

fn rows(run: &SortedRun) -> Vec<((u64, i64), f64)> {
    let each = run.series.iter().enumerate();
    each.flat_map(|(i, id)| {
        let (ts, values) = run.rows(i);
        ts.iter().zip(values).map(|(&t, &v)| ((id.0, t), v)).collect::<Vec<_>>()
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_tidying_keeps_the_newest_row_of_each_series_and_time(
        batches in prop::collection::vec(prop::collection::vec((0u64..5, -4i64..4, 0u32..100), 0..20), 0..30),
        run_rows in 1usize..40,
    ) {
        let mut memtable = Memtable::new(0, Lsn(0), 0, &Arc::default());
        let mut model = BTreeMap::new();
        for (lsn, batch) in (1..).zip(&batches) {
            let batch: Vec<_> = batch.iter().map(|&(id, ts, v)| (id, ts, f64::from(v))).collect();
            model.extend(batch.iter().map(|&(id, ts, v)| ((id, ts), v)));
            memtable.push(commit(lsn, &batch), 0);
            while let Some(tidy) = memtable.tidy(run_rows) {
                let run = tidy.execute();
                memtable.apply(&tidy, run);
            }
        }
        let mut runs = memtable.runs.clone();
        runs.push(Arc::new(SortedRun::from_batches(&memtable.tail)));
        let all = SortedRun::from_runs(&runs);
        prop_assert_eq!(rows(&all), model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn many_small_batches_do_not_pile_up() {
    let mut memtable = Memtable::new(0, Lsn(0), 0, &Arc::default());
    for lsn in 1..20_000 {
        memtable.push(commit(lsn, &[(lsn % 7, lsn as i64, 1.0)]), 0);
        while let Some(tidy) = memtable.tidy(1 << 18) {
            let run = tidy.execute();
            memtable.apply(&tidy, run);
        }
    }
    assert!(memtable.runs.len() < 16 && memtable.tail.len() < TAIL_BATCHES_MAX, "{} runs", memtable.runs.len());
}

#[test]
fn a_tail_that_is_read_again_and_again_is_sorted_and_one_that_is_written_only_is_not() {
    let mut memtable = Memtable::new(0, Lsn(0), 0, &Arc::default());
    let batch: Vec<_> = (0..TAIL_ROWS_MIN as u64).map(|id| (id, 1, 1.0)).collect();
    memtable.push(commit(1, &batch), 0);
    for _ in 1..TAIL_SCANS_MAX {
        memtable.clone().count_scan();
        assert!(memtable.tidy(1 << 18).is_none());
    }
    memtable.clone().count_scan();
    let tidy = memtable.tidy(1 << 18).unwrap();
    memtable.apply(&tidy, tidy.execute());
    assert_eq!((memtable.tail.len(), memtable.runs.len()), (0, 1));
    memtable.push(commit(2, &batch), 0);
    assert!(memtable.tidy(1 << 18).is_none(), "it counts anew");
}

#[test]
fn large_runs_are_merged_when_they_are_read_and_small_ones_always() {
    let run_rows = 100;
    let mut memtable = Memtable::new(0, Lsn(0), 0, &Arc::default());
    let add = |memtable: &mut Memtable, lsn: u64| {
        let batch: Vec<_> = (0..run_rows as u64).map(|id| (id, lsn as i64, 1.0)).collect();
        memtable.push(commit(lsn, &batch), 0);
        let tidy = memtable.tidy(run_rows).unwrap();
        memtable.apply(&tidy, tidy.execute());
    };
    (1..=20).for_each(|lsn| add(&mut memtable, lsn));
    assert!(memtable.tidy(run_rows).is_none() && memtable.runs.len() == 20, "nobody reads them");
    (0..RUNS_SCANS_MIN).for_each(|_| memtable.clone().count_scan());
    let tidy = memtable.tidy(run_rows).unwrap();
    let expected = rows(&SortedRun::from_runs(&memtable.runs));
    memtable.apply(&tidy, tidy.execute());
    assert_eq!(memtable.runs.len(), 20 - RUNS_OF_A_SIZE_MAX + 1);
    assert_eq!(rows(&SortedRun::from_runs(&memtable.runs)), expected);
    assert!(memtable.tidy(run_rows).is_none(), "it counts anew");
    // For a run of the usual size these are small.
    assert!(memtable.tidy(1 << 18).is_some());
    // A small run behind large ones does not keep them from being merged.
    memtable.runs.push(Arc::new(SortedRun::from_batches(&[commit(21, &[(1, 21, 1.0)])])));
    assert!(memtable.tidy(run_rows).is_none(), "nobody reads them");
    (0..RUNS_SCANS_MIN).for_each(|_| memtable.clone().count_scan());
    assert!(matches!(memtable.tidy(run_rows), Some(Tidy::Runs(1, runs)) if runs.len() == RUNS_OF_A_SIZE_MAX));
}
