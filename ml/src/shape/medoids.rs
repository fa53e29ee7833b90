//! k-medoids.
use super::distance::Distances;

/// Most passes over all series that look for a better centre.
const PASSES_MAX: usize = 50;
/// A swap must gain more than rounding.
const GAIN_MIN: f64 = 1e-9;

/// The centres of `k` clusters, 1 <= k <= number of series.
pub(super) fn find(distances: &Distances, k: usize) -> Vec<usize> {
    let mut centres = begin(distances, k);
    if centres.len() < 2 {
        return centres;
    }
    let mut near = Near::new(distances, &centres);
    for _ in 0..PASSES_MAX {
        let mut swapped = false;
        for candidate in 0..distances.len() {
            if centres.contains(&candidate) {
                continue;
            }
            let (at, change) = near.best_swap(distances.of(candidate));
            if change < -GAIN_MIN {
                centres[at] = candidate;
                near = Near::new(distances, &centres);
                swapped = true;
            }
        }
        if !swapped {
            break;
        }
    }
    centres
}

/// One after the other, each the series that brings all nearest to a centre; the first of equal ones.
fn begin(distances: &Distances, k: usize) -> Vec<usize> {
    let mut nearest = vec![f64::INFINITY; distances.len()];
    let mut centres = Vec::with_capacity(k);
    for _ in 0..k.min(distances.len()) {
        let total =
            |i: usize| -> f64 { distances.of(i).iter().zip(&nearest).map(|(&d, &near)| f64::from(d).min(near)).sum() };
        let mut best: Option<(f64, usize)> = None;
        for i in (0..distances.len()).filter(|i| !centres.contains(i)) {
            let total = total(i);
            if best.is_none_or(|(least, _)| total < least) {
                best = Some((total, i));
            }
        }
        let Some((_, centre)) = best else { break };
        centres.push(centre);
        for (near, &d) in nearest.iter_mut().zip(distances.of(centre)) {
            *near = near.min(f64::from(d));
        }
    }
    centres
}

/// Of each series the nearest centre, and its distance to that and to the next one.
struct Near {
    series: Vec<(usize, f64, f64)>,
    /// By how much the sum of distances grows without each centre.
    loss: Vec<f64>,
}

impl Near {
    fn new(distances: &Distances, centres: &[usize]) -> Self {
        let mut series = vec![(0, f64::INFINITY, f64::INFINITY); distances.len()];
        for (at, &centre) in centres.iter().enumerate() {
            for (near, &d) in series.iter_mut().zip(distances.of(centre)) {
                let d = f64::from(d);
                if d < near.1 {
                    *near = (at, d, near.1);
                } else if d < near.2 {
                    near.2 = d;
                }
            }
        }
        let mut loss = vec![0.0; centres.len()];
        series.iter().for_each(|&(at, first, second)| loss[at] += second - first);
        Self { series, loss }
    }

    /// The centre that a candidate had best replace, and how the sum of distances changes then.
    fn best_swap(&self, candidate: &[f32]) -> (usize, f64) {
        let mut change = self.loss.clone();
        let mut gain = 0.0;
        for (&(at, first, second), &d) in self.series.iter().zip(candidate) {
            let d = f64::from(d);
            if d < first {
                gain += d - first;
                change[at] += first - second;
            } else if d < second {
                change[at] += d - second;
            }
        }
        let best = (0..change.len()).min_by(|&a, &b| change[a].total_cmp(&change[b])).unwrap_or(0);
        (best, change[best] + gain)
    }
}

/// Of each series the nearest centre, as a position in `centres`, and its distance. A centre belongs to itself.
pub(super) fn nearest(distances: &Distances, centres: &[usize]) -> Vec<(usize, f64)> {
    let near = Near::new(distances, centres);
    let mut nearest: Vec<(usize, f64)> = near.series.iter().map(|&(at, first, _)| (at, first)).collect();
    centres.iter().enumerate().for_each(|(at, &centre)| nearest[centre] = (at, 0.0));
    nearest
}

/// The mean silhouette (Rousseeuw 1987) of two clusters or more: -1 to 1; that of a series alone is 0.
pub(super) fn silhouette(distances: &Distances, centres: &[usize]) -> f64 {
    let nearest = nearest(distances, centres);
    let mut sizes = vec![0.0; centres.len()];
    nearest.iter().for_each(|&(at, _)| sizes[at] += 1.0);
    let mut total = 0.0;
    for (i, &(own, _)) in nearest.iter().enumerate() {
        let mut sums = vec![0.0; centres.len()];
        for (&d, &(at, _)) in distances.of(i).iter().zip(&nearest) {
            sums[at] += f64::from(d);
        }
        if sizes[own] < 2.0 {
            continue;
        }
        let within = sums[own] / (sizes[own] - 1.0);
        let others = (0..centres.len()).filter(|&at| at != own && sizes[at] > 0.0);
        let between = others.map(|at| sums[at] / sizes[at]).fold(f64::INFINITY, f64::min);
        let larger = within.max(between);
        if between.is_finite() && larger > 0.0 {
            total += (between - within) / larger;
        }
    }
    total / distances.len() as f64
}
