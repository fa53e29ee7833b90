//! Merges sorted runs series by series.
use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::types::SeriesId;

use super::run::SortedRun;

/// All rows of one series: `ts` strictly increasing.
pub(crate) struct SeriesRows<'a> {
    pub(crate) series: SeriesId,
    pub(crate) ts: &'a [i64],
    pub(crate) values: &'a [f64],
}

/// Visits every series of `runs` (oldest first) in id order with all its rows; of equal timestamps the newest run's.
pub(crate) fn merge_rows<R: Borrow<SortedRun>, E>(
    runs: &[R],
    mut visit: impl FnMut(SeriesRows<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut heap: BinaryHeap<Reverse<(SeriesId, usize, usize)>> = runs
        .iter()
        .enumerate()
        .filter_map(|(age, run)| run.borrow().series.first().map(|&id| Reverse((id, age, 0))))
        .collect();
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    while let Some(&Reverse((series, ..))) = heap.peek() {
        pieces.clear();
        while let Some(mut top) = heap.peek_mut() {
            let Reverse((id, age, index)) = *top;
            if id != series {
                break;
            }
            pieces.push((age, index));
            match runs[age].borrow().series.get(index + 1) {
                Some(&next) => *top = Reverse((next, age, index + 1)),
                None => drop(std::collections::binary_heap::PeekMut::pop(top)),
            }
        }
        if let [(age, index)] = pieces[..] {
            let (ts, values) = runs[age].borrow().rows(index);
            visit(SeriesRows { series, ts, values })?;
            continue;
        }
        ts.clear();
        values.clear();
        for &(age, index) in &pieces {
            let piece = runs[age].borrow().rows(index);
            ts.extend_from_slice(piece.0);
            values.extend_from_slice(piece.1);
        }
        settle(&mut ts, &mut values, 0);
        visit(SeriesRows { series, ts: &ts, values: &values })?;
    }
    Ok(())
}

/// Sorts the rows from `from` on, which stand oldest first, by time and keeps the newest of equal timestamps. Rows that came
/// in time order, the usual case, are only looked at.
pub(super) fn settle(ts: &mut Vec<i64>, values: &mut Vec<f64>, from: usize) {
    if ts[from..].windows(2).all(|pair| pair[0] < pair[1]) {
        return;
    }
    let mut rows: Vec<(i64, f64)> = ts.drain(from..).zip(values.drain(from..)).collect();
    rows.sort_by_key(|row| row.0);
    for (i, row) in rows.iter().enumerate() {
        if rows.get(i + 1).is_none_or(|next| next.0 != row.0) {
            ts.push(row.0);
            values.push(row.1);
        }
    }
}
