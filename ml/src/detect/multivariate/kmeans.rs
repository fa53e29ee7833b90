//! How far a row is from the nearest of the centres that the past gathers around.
//!
//! Distance to the nearest k-means centre (Yairi et al. 2001, "Fault detection by mining association rules from
//! house-keeping data"; the method TSB-AD calls KMeansAD), averaged over several numbers of centres: which number is
//! right is not known.
use linfa::DatasetBase;
use linfa::traits::Fit as _;
use linfa_clustering::{KMeans as Lloyd, KMeansInit};
use ndarray::Array2;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::parts::{Residual, squared};
use super::rows::{load_rows, save_rows};
use crate::Result;
use crate::state::Reader;

/// Numbers of centres.
const CENTRES: [usize; 3] = [10, 20, 40];
const ITERATIONS_MAX: u64 = 25;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KMeans {
    /// Centres of each clustering.
    clusterings: [Vec<Vec<f64>>; CENTRES.len()],
}

impl KMeans {
    /// Fits `rows` in spreads; a missing cell is at its mean.
    pub(super) fn fit(rows: &[Vec<f64>], columns: usize, seed: u64) -> Self {
        let cell = |at: (usize, usize)| if rows[at.0][at.1].is_nan() { 0.0 } else { rows[at.0][at.1] };
        let matrix = Array2::from_shape_fn((rows.len(), columns), cell);
        let mut rng = StdRng::seed_from_u64(seed);
        Self { clusterings: CENTRES.map(|centres| cluster(&matrix, centres, &mut rng)) }
    }

    /// Mean distance from the nearest centres, NaN cells left out.
    pub(super) fn residual(&self, row: &[f64]) -> Residual {
        let mut sum = Residual::none(row.len());
        for centres in &self.clusterings {
            let nearest = centres.iter().map(|centre| (squared(row, centre), centre));
            let Some((square, nearest)) = nearest.min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
            sum.distance += square.sqrt() / CENTRES.len() as f64;
            for (blame, off) in sum.blame.iter_mut().zip(row.iter().zip(nearest).map(|(a, b)| a - b)) {
                *blame += if off.is_nan() { 0.0 } else { off * off };
            }
        }
        sum
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.clusterings.iter().for_each(|centres| save_rows(centres.iter(), out));
    }

    pub(super) fn load(from: &mut Reader<'_>, columns: usize) -> Result<Self> {
        let mut clusterings = <[Vec<Vec<f64>>; CENTRES.len()]>::default();
        for (centres, most) in clusterings.iter_mut().zip(CENTRES) {
            *centres = load_rows(from, columns, most)?;
        }
        Ok(Self { clusterings })
    }
}

/// At most `k` centres: Lloyd's iterations from k-means++ seeds (Arthur and Vassilvitskii 2007).
fn cluster(rows: &Array2<f64>, k: usize, rng: &mut StdRng) -> Vec<Vec<f64>> {
    let seeds = seeds(rows, k, rng);
    let Ok(centres) = Array2::from_shape_vec((seeds.len() / rows.ncols().max(1), rows.ncols()), seeds) else {
        return Vec::new();
    };
    let fitted = Lloyd::params(centres.nrows())
        .init_method(KMeansInit::Precomputed(centres.clone()))
        .n_runs(1)
        .max_n_iterations(ITERATIONS_MAX)
        .fit(&DatasetBase::from(rows.view()));
    let centres = fitted.map_or(centres, |fitted| fitted.centroids().clone());
    centres.rows().into_iter().map(|row| row.to_vec()).collect()
}

/// Rows drawn by the square of their distance from those drawn before, one after another; fewer than `k` where there are
/// no more different ones.
fn seeds(rows: &Array2<f64>, k: usize, rng: &mut StdRng) -> Vec<f64> {
    let mut drawn = Vec::new();
    let mut squares = vec![1.0; rows.nrows()];
    while drawn.len() < k * rows.ncols() {
        let total: f64 = squares.iter().sum();
        let mut left = rng.random::<f64>() * total;
        let at = squares.iter().position(|square| {
            left -= square;
            *square > 0.0 && left <= 0.0
        });
        // rounding may leave a little: the last that can be drawn
        let Some(at) = at.or_else(|| squares.iter().rposition(|square| *square > 0.0)) else { break };
        let seed = rows.row(at);
        drawn.extend(seed.iter());
        for (square, row) in squares.iter_mut().zip(rows.rows()) {
            let off: f64 = row.iter().zip(seed).map(|(a, b)| (a - b) * (a - b)).sum();
            *square = if drawn.len() == rows.ncols() { off } else { square.min(off) };
        }
    }
    drawn
}
