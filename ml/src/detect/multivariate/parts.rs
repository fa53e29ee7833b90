//! What the methods share: distances and what they are made of.

/// How far a row is from what its past was like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Residual {
    /// In spreads.
    pub(super) distance: f64,
    /// What of it each column is blamed for, in any unit, none negative.
    pub(super) blame: Vec<f64>,
}

impl Residual {
    /// Nothing is off.
    pub(super) fn none(columns: usize) -> Self {
        Self { distance: 0.0, blame: vec![0.0; columns] }
    }

    /// Made of these squares.
    pub(super) fn of(squares: Vec<f64>) -> Self {
        Self { distance: squares.iter().sum::<f64>().sqrt(), blame: squares }
    }
}

/// Square of the Euclidean distance; cells that are missing on either side are left out.
pub(super) fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| if (a - b).is_nan() { 0.0 } else { (a - b) * (a - b) }).sum()
}

/// Indices of at most `most` different rows, the last of `rows` first, then always the one furthest from those before.
pub(super) fn far_first(rows: &[Vec<f64>], most: usize) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(most.min(rows.len()));
    let mut squares = vec![f64::INFINITY; rows.len()];
    let mut next = rows.len().checked_sub(1);
    while let Some(at) = next.take().filter(|_| chosen.len() < most) {
        chosen.push(at);
        for (square, row) in squares.iter_mut().zip(rows) {
            *square = square.min(squared(row, &rows[at]));
        }
        let furthest = squares.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        next = furthest.filter(|(_, square)| **square > 0.0).map(|(at, _)| at);
    }
    chosen
}
