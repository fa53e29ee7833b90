//! Choosing which slice gives the next rows.
use super::cursor::Cursor;

/// What to copy next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// Which cursor.
    pub(super) cursor: usize,
    /// How many of its rows, at least one.
    pub(super) rows: usize,
    /// Whether the row is one of several with the same (series, ts), the newest of which is this; `rows` is then 1.
    pub(super) superseded: bool,
}

/// Chooses among cursors (oldest first, none empty): of the lowest series the rows before any other cursor's, at most
/// `rows_max`.
pub(super) fn choose(cursors: &[Cursor], rows_max: usize) -> Choice {
    let mut best = 0;
    let mut first = (u32::MAX, i64::MAX);
    // The first timestamp of the runner-up among slices of the same series.
    let mut bound = None;
    for (at, cursor) in cursors.iter().enumerate() {
        let own = (cursor.index(), cursor.ts()[0]);
        if at == 0 || own <= first {
            bound = (at > 0 && own.0 == first.0).then_some(first.1);
            (best, first) = (at, own);
        } else if own.0 == first.0 {
            bound = Some(bound.map_or(own.1, |b: i64| b.min(own.1)));
        }
    }
    let ts = cursors[best].ts();
    match bound {
        Some(bound) if bound == first.1 => Choice { cursor: best, rows: 1, superseded: true },
        Some(bound) => Choice { cursor: best, rows: rows_before(ts, bound).min(rows_max), superseded: false },
        None => Choice { cursor: best, rows: ts.len().min(rows_max), superseded: false },
    }
}

/// How many of `ts` come before `bound`, found in steps that double: interleaved sources give few, others nearly all.
fn rows_before(ts: &[i64], bound: i64) -> usize {
    if ts[ts.len() - 1] < bound {
        return ts.len();
    }
    let mut step = 1;
    while step < ts.len() && ts[step] < bound {
        step *= 2;
    }
    let from = step / 2;
    from + ts[from..ts.len().min(step)].partition_point(|&t| t < bound)
}
