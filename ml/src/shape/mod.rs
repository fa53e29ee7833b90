//! Series of like shape.
//!
//! Each series is put on one grid and made to have mean 0 and deviation 1. Their distance is that of k-Shape (Paparrizos
//! and Gravano 2015): 1 less the largest normalised cross-correlation over all shifts, 0 to 2. The clusters are those of
//! k-medoids, begun greedily (Kaufman and Rousseeuw 1990, BUILD) and improved by swaps (Schubert and Rousseeuw 2021,
//! FasterPAM), so that a centre is a series and nothing is left to chance.
mod distance;
mod medoids;
#[cfg(test)]
mod tests;

use crate::{Error, Result};
use distance::Distances;

/// Most series.
pub const SERIES_MAX: usize = 2_000;
/// Most clusters.
pub const CLUSTERS_MAX: usize = 100;
/// Most clusters tried when their number is not given.
const CLUSTERS_TRIED: usize = 10;
/// Mean silhouette below which there is no structure to speak of, and one cluster (Kaufman and Rousseeuw 1990).
const SILHOUETTE_MIN: f64 = 0.25;
/// Rows a series needs.
const ROWS_MIN: usize = 3;

/// Where a series belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// From 1, by falling number of series.
    pub cluster: usize,
    /// To the centre of the cluster, 0 to 2.
    pub distance: f64,
    /// Whether it is the centre.
    pub is_medoid: bool,
}

/// Clusters series of (time, value) rows, which need not be sorted. Their number is the one with the largest mean
/// silhouette when it is not given. A series with fewer than 3 finite rows has no place; constants are alike, and at
/// distance 1 from all others.
///
/// # Errors
/// `Invalid` for more than [`SERIES_MAX`] series, and for no cluster or more than there are series with a place.
pub fn cluster_series(series: &[(&[i64], &[f64])], clusters: Option<usize>) -> Result<Vec<Option<Place>>> {
    if series.len() > SERIES_MAX {
        return Err(Error::Invalid(format!(
            "{} series, at most {SERIES_MAX} can be clustered: filter them, or group by fewer columns",
            series.len()
        )));
    }
    let rows = |(ts, values): &(&[i64], &[f64])| ts.iter().zip(*values).filter(|row| row.1.is_finite()).count();
    let placed: Vec<usize> = (0..series.len()).filter(|&i| rows(&series[i]) >= ROWS_MIN).collect();
    if let Some(k) = clusters
        && !(1..=CLUSTERS_MAX.min(placed.len().max(1))).contains(&k)
    {
        return Err(Error::Invalid(format!(
            "{k} clusters of {} series with {ROWS_MIN} rows or more: ask for 1 to {}",
            placed.len(),
            CLUSTERS_MAX.min(placed.len().max(1))
        )));
    }
    let mut places = vec![None; series.len()];
    if placed.is_empty() {
        return Ok(places);
    }
    let chosen: Vec<(&[i64], &[f64])> = placed.iter().map(|&i| series[i]).collect();
    let distances = Distances::new(&chosen);
    let centres = match clusters {
        Some(k) => medoids::find(&distances, k),
        None => natural(&distances),
    };
    for (place, &at) in numbered(&distances, &centres).into_iter().zip(&placed) {
        places[at] = Some(place);
    }
    Ok(places)
}

/// The centres of as many clusters as are set apart best.
fn natural(distances: &Distances) -> Vec<usize> {
    let mut best = (SILHOUETTE_MIN, None);
    for k in 2..=CLUSTERS_TRIED.min(distances.len().saturating_sub(1)) {
        let centres = medoids::find(distances, k);
        let silhouette = medoids::silhouette(distances, &centres);
        // more clusters must be better, not as good
        if silhouette > best.0 + 1e-9 {
            best = (silhouette, Some(centres));
        }
    }
    best.1.unwrap_or_else(|| medoids::find(distances, 1))
}

fn numbered(distances: &Distances, centres: &[usize]) -> Vec<Place> {
    let nearest = medoids::nearest(distances, centres);
    let mut sizes = vec![0usize; centres.len()];
    nearest.iter().for_each(|&(at, _)| sizes[at] += 1);
    let mut order: Vec<usize> = (0..centres.len()).collect();
    order.sort_by(|&a, &b| sizes[b].cmp(&sizes[a]).then(centres[a].cmp(&centres[b])));
    let mut number = vec![0; centres.len()];
    order.iter().enumerate().for_each(|(position, &at)| number[at] = position + 1);
    let place = |(i, (at, distance))| Place { cluster: number[at], distance, is_medoid: centres[at] == i };
    nearest.into_iter().enumerate().map(place).collect()
}
