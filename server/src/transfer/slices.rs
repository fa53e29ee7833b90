//! Cutting time so that each answer is of bounded size: a query has a deadline and a limit of rows, an export has neither.

/// Rows that are asked for at once.
pub(super) const ROWS_MAX: u64 = 1_000_000;

/// A range of time, ns, both ends inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Slice {
    /// The earlier and the later half; `None` for one instant.
    fn halves(self) -> Option<(Self, Self)> {
        let middle = i64::midpoint(self.start, self.end).min(self.end.saturating_sub(1));
        (self.start < self.end)
            .then_some((Self { start: self.start, end: middle }, Self { start: middle + 1, end: self.end }))
    }
}

/// Hands parts of `whole` to `take`, in the order of time: every instant that has rows lies in exactly one. `count` says how
/// many rows a part has; beyond [`ROWS_MAX`] any larger number will do. Only a single instant may have more.
///
/// # Errors
/// Those of `count` and `take`.
pub(super) fn each<E>(
    whole: Slice,
    mut count: impl FnMut(Slice) -> Result<u64, E>,
    mut take: impl FnMut(Slice) -> Result<(), E>,
) -> Result<(), E> {
    // Halves of halves: 64 deep at most.
    let mut waiting = vec![whole];
    while let Some(slice) = waiting.pop() {
        let rows = count(slice)?;
        match slice.halves() {
            Some((earlier, later)) if rows > ROWS_MAX => waiting.extend([later, earlier]),
            _ if rows > 0 => take(slice)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Slices taken, and counts asked for, when `rows` are (instant, rows).
    fn cut(whole: Slice, rows: &[(i64, u64)]) -> (Vec<Slice>, usize) {
        let within = |slice: Slice| rows.iter().filter(move |(ts, _)| slice.start <= *ts && *ts <= slice.end);
        let (mut taken, mut asked) = (Vec::new(), 0);
        let count = |slice: Slice| {
            asked += 1;
            Ok::<u64, ()>(within(slice).map(|row| row.1).sum::<u64>().min(ROWS_MAX + 1))
        };
        each(whole, count, |slice| {
            taken.push(slice);
            Ok(())
        })
        .unwrap();
        assert!(taken.windows(2).all(|pair| pair[0].end < pair[1].start), "{taken:?}");
        for row in rows.iter().filter(|row| whole.start <= row.0 && row.0 <= whole.end) {
            assert_eq!(taken.iter().filter(|slice| slice.start <= row.0 && row.0 <= slice.end).count(), 1, "{row:?}");
        }
        for slice in &taken {
            let total: u64 = within(*slice).map(|row| row.1).sum();
            assert!(total <= ROWS_MAX || slice.start == slice.end, "{slice:?} has {total}");
        }
        (taken, asked)
    }

    const ALL: Slice = Slice { start: i64::MIN, end: i64::MAX };

    #[test]
    fn every_row_is_in_one_slice_of_bounded_size() {
        assert_eq!(cut(ALL, &[]), (vec![], 1));
        assert_eq!(cut(ALL, &[(i64::MIN, 1), (i64::MAX, 1)]), (vec![ALL], 1));
        let crowded: Vec<(i64, u64)> = (0..100).map(|i| (i * 15_000_000_000, 300_000)).collect();
        let (taken, asked) = cut(ALL, &crowded);
        assert!(taken.len() >= 30 && asked < 400, "{} {asked}", taken.len());
        cut(Slice { start: 5, end: 5 }, &[(5, 3_000_000), (6, 1)]);
        cut(Slice { start: i64::MAX - 1, end: i64::MAX }, &[(i64::MAX - 1, 2_000_000), (i64::MAX, 2_000_000)]);
        cut(Slice { start: i64::MIN, end: i64::MIN + 1 }, &[(i64::MIN, 2_000_000), (i64::MIN + 1, 2_000_000)]);
    }
}
