//! Rows of a matrix by their instants: cut to some, put together of parts.
use std::cmp::Ordering;

use super::super::value::{Point, Row};

/// The rows that have a sample from the first to the last instant of the two, with those samples only.
pub(super) fn cut(rows: &[Row], (first, last): (i64, i64)) -> Vec<Row> {
    let cut = |row: &Row| {
        let points = within(&row.points, |point| point.ts_ms, first, last).to_vec();
        let histograms = within(&row.histograms, |(ts_ms, _)| *ts_ms, first, last).to_vec();
        Row { labels: row.labels.clone(), points, histograms }
    };
    rows.iter().map(cut).filter(|row| !row.is_empty()).collect()
}

fn within<T>(samples: &[T], at: impl Fn(&T) -> i64, first: i64, last: i64) -> &[T] {
    let from = samples.partition_point(|sample| at(sample) < first);
    let until = samples.partition_point(|sample| at(sample) <= last);
    &samples[from..until]
}

/// The rows of two parts, each sorted by labels, of which the second is the later one.
pub(super) fn join(earlier: Vec<Row>, later: Vec<Row>) -> Vec<Row> {
    let mut joined: Vec<Row> = Vec::with_capacity(earlier.len().max(later.len()));
    let (mut earlier, mut later) = (earlier.into_iter().peekable(), later.into_iter().peekable());
    loop {
        let order = match (earlier.peek(), later.peek()) {
            (None, None) => return joined,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.labels.compare(&b.labels),
        };
        let mine = if order == Ordering::Greater { None } else { earlier.next() };
        let theirs = if order == Ordering::Less { None } else { later.next() };
        match (mine, theirs) {
            (Some(mut row), Some(more)) => {
                extend(&mut row.points, &more.points);
                row.histograms.extend(more.histograms);
                joined.push(row);
            }
            (Some(row), None) | (None, Some(row)) => joined.push(row),
            (None, None) => return joined,
        }
    }
}

fn extend(points: &mut Vec<Point>, more: &[Point]) {
    points.reserve_exact(more.len());
    points.extend_from_slice(more);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use foretell_engine::LabelSet;

    use super::super::super::histogram::Histogram;
    use super::*;

    fn row(name: &str, instants: &[i64], histograms: &[i64]) -> Row {
        let points = instants.iter().map(|&ts_ms| Point { ts_ms, value: ts_ms as f64 }).collect();
        let histograms = histograms.iter().map(|&ts_ms| (ts_ms, Arc::new(Histogram::default()))).collect();
        Row { labels: LabelSet::from_pairs([("a", name)]).unwrap(), points, histograms }
    }

    #[test]
    fn what_is_cut_in_parts_and_joined_is_the_whole() {
        let rows = vec![
            row("a", &[10, 20, 30, 40], &[]),
            row("b", &[30], &[10, 20]),
            row("c", &[], &[40]),
            row("d", &[10], &[]),
        ];
        for (border, sizes) in [(10, [4, 3]), (20, [3, 3]), (30, [3, 2])] {
            let (earlier, later) = (cut(&rows, (0, border)), cut(&rows, (border + 1, 50)));
            assert!(earlier.len() <= sizes[0] && later.len() <= sizes[1], "rows without a sample stay away");
            assert_eq!(format!("{:?}", join(earlier, later)), format!("{rows:?}"));
        }
        assert!(cut(&rows, (11, 19)).is_empty());
    }
}
