//! How far a row is from the plane that the past lies near: what its principal components do not explain.
//!
//! Squared prediction error (Jackson and Mudholkar 1979, "Control procedures for residuals associated with principal
//! component analysis"). It finds rows in which columns that move together do not, although each is within its usual
//! range. Columns are blamed by their reconstruction-based contributions (Alcala and Qin 2009), which name a single faulty
//! column for certain where plain residuals smear it over its neighbours.
use linfa_linalg::eigh::EighInto as _;
use ndarray::Array2;

use super::parts::Residual;
use super::rows::{load_rows, save_rows};
use crate::Result;
use crate::state::Reader;

/// Share of the variance that the kept components explain.
const EXPLAINED: f64 = 0.9;
/// A column with a smaller share outside the plane is never outside of it.
const OUTSIDE_MIN: f64 = 1e-9;
/// Rounds in which missing cells are filled by what the others say of them.
const FILLS: usize = 4;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pca {
    /// Unit vectors, strongest first.
    components: Vec<Vec<f64>>,
    /// Share of each column's direction that is outside the plane.
    outside: Vec<f64>,
}

impl Pca {
    /// Fits `rows` in spreads, whose mean is 0; a missing cell is at its mean.
    pub(super) fn fit(rows: &[Vec<f64>], columns: usize) -> Self {
        let cell = |at: (usize, usize)| if rows[at.0][at.1].is_nan() { 0.0 } else { rows[at.0][at.1] };
        let matrix = Array2::from_shape_fn((rows.len(), columns), cell);
        let covariance = matrix.t().dot(&matrix) / rows.len().max(1) as f64;
        // without components everything is outside the plane: the distance from the mean
        let Ok((variances, vectors)) = covariance.eigh_into() else { return Self::of(Vec::new(), columns) };
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
        let total: f64 = variances.iter().map(|v| v.max(0.0)).sum();
        let (mut components, mut explained) = (Vec::new(), 0.0);
        for at in order {
            if explained >= EXPLAINED * total || variances[at] <= 0.0 {
                break;
            }
            explained += variances[at];
            components.push(vectors.column(at).to_vec());
        }
        Self::of(components, columns)
    }

    fn of(components: Vec<Vec<f64>>, columns: usize) -> Self {
        let inside = |column: usize| components.iter().map(|c| c[column] * c[column]).sum::<f64>();
        Self { outside: (0..columns).map(|column| 1.0 - inside(column)).collect(), components }
    }

    /// What of `row` is not in the plane. Missing cells are where the others say.
    pub(super) fn residual(&self, row: &[f64]) -> Residual {
        let mut filled: Vec<f64> = row.iter().map(|value| if value.is_nan() { 0.0 } else { *value }).collect();
        let missing: Vec<usize> = (0..row.len()).filter(|&column| row[column].is_nan()).collect();
        let mut plane = self.project(&filled);
        for _ in 0..if missing.is_empty() { 0 } else { FILLS } {
            for &column in &missing {
                filled[column] = plane[column];
            }
            plane = self.project(&filled);
        }
        for &column in &missing {
            filled[column] = plane[column];
        }
        let off: Vec<f64> = filled.iter().zip(&plane).map(|(value, plane)| value - plane).collect();
        let square: f64 = off.iter().map(|off| off * off).sum();
        let blame = |(off, &outside): (&f64, &f64)| if outside > OUTSIDE_MIN { off * off / outside } else { 0.0 };
        Residual { distance: square.sqrt(), blame: off.iter().zip(&self.outside).map(blame).collect() }
    }

    fn project(&self, row: &[f64]) -> Vec<f64> {
        let mut plane = vec![0.0; row.len()];
        for component in &self.components {
            let along: f64 = row.iter().zip(component).map(|(a, b)| a * b).sum();
            plane.iter_mut().zip(component).for_each(|(sum, part)| *sum += along * part);
        }
        plane
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        save_rows(self.components.iter(), out);
    }

    pub(super) fn load(from: &mut Reader<'_>, columns: usize) -> Result<Self> {
        Ok(Self::of(load_rows(from, columns, columns)?, columns))
    }
}
