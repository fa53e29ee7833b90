//! Merges sorted runs series by series.
use std::borrow::Borrow;

use crate::types::SeriesId;

use super::run::SortedRun;

/// All rows of one series: `ts` strictly increasing.
pub(crate) struct SeriesRows<'a> {
    pub(crate) series: SeriesId,
    pub(crate) ts: &'a [i64],
    pub(crate) values: &'a [f64],
}

/// A run that is merged, and the series in it that comes next.
struct Head<'a> {
    run: &'a SortedRun,
    at: usize,
}

/// Visits every series of `runs` (oldest first) in id order with all its rows; of equal timestamps the newest run's.
///
/// What comes next is found by looking at all runs: they are few, and mostly have the same series, so that one look gives
/// many pieces. A heap would sort the runs anew for each.
pub(crate) fn merge_rows<R: Borrow<SortedRun>, E>(
    runs: &[R],
    mut visit: impl FnMut(SeriesRows<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let runs = runs.iter().map(|run| -> &SortedRun { run.borrow() }).filter(|run| !run.series.is_empty());
    let mut heads: Vec<Head<'_>> = runs.map(|run| Head { run, at: 0 }).collect();
    // Beside the heads, so that looking for the smallest goes over one array.
    let mut next: Vec<SeriesId> = heads.iter().map(|head| head.run.series[0]).collect();
    let mut pieces: Vec<(&[i64], &[f64])> = Vec::with_capacity(heads.len());
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    while let Some(series) = next.iter().copied().min() {
        pieces.clear();
        let mut ended = false;
        for (next, head) in next.iter_mut().zip(&mut heads) {
            if *next != series {
                continue;
            }
            pieces.push(head.run.rows(head.at));
            head.at += 1;
            match head.run.series.get(head.at) {
                Some(&id) => *next = id,
                None => ended = true,
            }
        }
        if ended {
            heads.retain(|head| head.at < head.run.series.len());
            next = heads.iter().map(|head| head.run.series[head.at]).collect();
        }
        if let [(ts, values)] = pieces[..] {
            visit(SeriesRows { series, ts, values })?;
            continue;
        }
        ts.clear();
        values.clear();
        for piece in &pieces {
            match piece {
                // The usual piece of very many series: not worth a call.
                ([t], [value]) => {
                    ts.push(*t);
                    values.push(*value);
                }
                (more_ts, more_values) => {
                    ts.extend_from_slice(more_ts);
                    values.extend_from_slice(more_values);
                }
            }
        }
        settle(&mut ts, &mut values, 0);
        visit(SeriesRows { series, ts: &ts, values: &values })?;
    }
    Ok(())
}

/// Sorts the rows from `from` on, which stand oldest first, by time and keeps the newest of equal timestamps. Rows that came
/// in time order, the usual case, are only looked at.
pub(super) fn settle(ts: &mut Vec<i64>, values: &mut Vec<f64>, from: usize) {
    if is_in_order(&ts[from..]) {
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

/// Whether times increase strictly.
pub(super) fn is_in_order(ts: &[i64]) -> bool {
    ts.windows(2).all(|pair| pair[0] < pair[1])
}
