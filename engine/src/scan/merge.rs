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

/// Which cursor is next.
pub(super) struct Lowest {
    /// Of cursors with equal heads the newest.
    pub(super) cursor: usize,
    /// Where it stands.
    pub(super) head: (u32, i64),
    /// Where the next of the others stands, if in the same series.
    pub(super) bound: Option<i64>,
}

/// Of cursors (oldest first, at least one) the one that stands lowest.
pub(super) fn lowest(cursors: &[Cursor]) -> Lowest {
    let (mut cursor, mut head, mut bound) = (0, (u32::MAX, i64::MAX), None);
    for (at, candidate) in cursors.iter().enumerate() {
        let own = candidate.head();
        if at == 0 || own <= head {
            bound = (at > 0 && own.0 == head.0).then_some(head.1);
            (cursor, head) = (at, own);
        } else if own.0 == head.0 {
            bound = Some(bound.map_or(own.1, |b: i64| b.min(own.1)));
        }
    }
    Lowest { cursor, head, bound }
}

/// Chooses among cursors (oldest first, at least one, none on a whole block): of the lowest series the rows before any other
/// cursor's, at most `rows_max`.
pub(super) fn choose(cursors: &[Cursor], rows_max: usize) -> Choice {
    let Lowest { cursor, head, bound } = lowest(cursors);
    let ts = cursors[cursor].ts();
    match bound {
        Some(bound) if bound == head.1 => Choice { cursor, rows: 1, superseded: true },
        Some(bound) => Choice { cursor, rows: rows_before(ts, bound).min(rows_max), superseded: false },
        None => Choice { cursor, rows: ts.len().min(rows_max), superseded: false },
    }
}

/// How many of `ts` come before `bound`, found in steps that double: interleaved sources give few, others nearly all.
pub(super) fn rows_before(ts: &[i64], bound: i64) -> usize {
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
