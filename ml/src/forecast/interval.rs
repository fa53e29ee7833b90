//! Conformal intervals from back-test errors.
//!
//! Split conformal prediction (Vovk, Gammerman and Shafer 2005) over the rolling origins: errors are put in units of
//! a width that never narrows with the step, pooled, and their finite-sample quantile is the half width. Few origins
//! are strongly dependent, so they are widened.

/// Errors of consecutive steps are alike: an origin counts as about this many independent errors when the quantile is
/// widened.
const WIDENING: f64 = 1.0;

/// Half widths of the interval at steps 1 to `horizon`.
pub(super) fn half_widths(errors: &[Vec<f64>], level: f64, horizon: usize) -> Vec<f64> {
    let known = errors.iter().map(Vec::len).max().unwrap_or(0);
    if known == 0 {
        return vec![0.0; horizon];
    }
    let shape = widths(errors, known);
    let mut scores: Vec<f64> = errors
        .iter()
        .flat_map(|row| row.iter().zip(&shape).map(|(e, w)| if *w > 0.0 { e.abs() / w } else { 0.0 }))
        .collect();
    scores.sort_by(f64::total_cmp);
    let rank = ((scores.len() as f64 + 1.0) * level).ceil() as usize;
    let quantile = scores[rank.clamp(1, scores.len()) - 1];
    let widening = 1.0 + WIDENING / errors.len() as f64;
    let last = shape[known - 1];
    (0..horizon)
        .map(|step| {
            // beyond what was tried, errors grow like those of a random walk
            let width = if step < known { shape[step] } else { last * ((step + 1) as f64 / known as f64).sqrt() };
            quantile * width * widening
        })
        .collect()
}

/// Mean absolute error at each step, smoothed to the nearest non-decreasing sequence (pool adjacent violators).
fn widths(errors: &[Vec<f64>], known: usize) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for step in 0..known {
        let here: Vec<f64> = errors.iter().filter_map(|row| row.get(step)).map(|e| e.abs()).collect();
        let mut block = (here.iter().sum::<f64>() / here.len().max(1) as f64, 1);
        while let Some(&(mean, count)) = blocks.last() {
            if mean <= block.0 {
                break;
            }
            blocks.pop();
            block = ((mean * count as f64 + block.0 * block.1 as f64) / (count + block.1) as f64, count + block.1);
        }
        blocks.push(block);
    }
    blocks.into_iter().flat_map(|(mean, count)| std::iter::repeat_n(mean, count)).collect()
}
