//! How far a row is from the nearest row of the past.
//!
//! Of the past at most 256 rows are kept, chosen by farthest-first traversal (Gonzalez 1985, "Clustering to minimize the
//! maximum intercluster distance"): the set that leaves no row far from all of it, within a factor of two. What is rare
//! stays known, however long ago it was. Between two fits the rows that are furthest from the set wait to be chosen.
use super::parts::{Residual, far_first, squared};
use super::rows::{load_rows, save_rows};
use super::scale::Scale;
use crate::Result;
use crate::state::{Put, Reader};

const ROWS_MAX: usize = 256;
/// Rows that wait for the next fit.
const WAITING_MAX: usize = 256;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nearest {
    rows: Vec<Vec<f64>>,
    /// `rows` in spreads.
    scaled: Vec<Vec<f64>>,
    /// Rows since the last fit and how far they were, in the order they came.
    waiting: Vec<(f64, Vec<f64>)>,
}

impl Nearest {
    /// Chooses anew, by a new `scale`, among what it knew, what waits, and `past`, oldest first.
    pub(super) fn fit(&mut self, past: &[Vec<f64>], scale: &Scale) {
        let known = std::mem::take(&mut self.rows);
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|(_, row)| row);
        // at the first fit nothing is known, later `past` holds nothing that was not judged
        let mut rows: Vec<Vec<f64>> =
            if known.is_empty() { past.to_vec() } else { known.into_iter().chain(waiting).collect() };
        let scaled: Vec<Vec<f64>> = rows.iter().map(|row| scale.apply(row)).collect();
        let chosen = far_first(&scaled, ROWS_MAX);
        self.scaled = chosen.iter().map(|&at| scaled[at].clone()).collect();
        self.rows = chosen.iter().map(|&at| std::mem::take(&mut rows[at])).collect();
    }

    /// Distance of a row in spreads from the nearest, NaN cells left out, and the squares of which it is made.
    pub(super) fn residual(&self, row: &[f64]) -> Residual {
        let nearest = self.scaled.iter().map(|known| (squared(row, known), known));
        let Some((_, nearest)) = nearest.min_by(|a, b| a.0.total_cmp(&b.0)) else { return Residual::none(row.len()) };
        let off = |(a, b): (&f64, &f64)| if (a - b).is_nan() { 0.0 } else { (a - b) * (a - b) };
        Residual::of(row.iter().zip(nearest).map(off).collect())
    }

    /// A row that was `distance` away waits for the next fit.
    pub(super) fn learn(&mut self, row: &[f64], distance: f64) {
        if distance == 0.0 {
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            let least = self.waiting.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(at, _)| at);
            let Some(least) = least.filter(|&at| self.waiting[at].0 < distance) else { return };
            self.waiting.remove(least);
        }
        self.waiting.push((distance, row.to_vec()));
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        save_rows(self.rows.iter(), out);
        save_rows(self.waiting.iter().map(|(_, row)| row), out);
        for (distance, _) in &self.waiting {
            out.put_f64(*distance);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>, columns: usize, scale: &Scale) -> Result<Self> {
        let rows = load_rows(from, columns, ROWS_MAX)?;
        let waiting = load_rows(from, columns, WAITING_MAX)?;
        let waiting = waiting.into_iter().map(|row| Ok((from.positive()?, row))).collect::<Result<_>>()?;
        Ok(Self { scaled: rows.iter().map(|row| scale.apply(row)).collect(), rows, waiting })
    }
}
