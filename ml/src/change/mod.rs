//! Change points of a series.
//!
//! A series is taken for straight lines with breaks: binary segmentation (Scott and Knott 1974) by the squared
//! distance from a line in each segment, every break moved to its best place between its neighbours afterwards. A
//! break must pay four logarithms of the length in units of the noise (as Fryzlewicz 2014), where the noise is the
//! larger of two: the *long-run* variance of the whole (autocorrelated noise wanders, and wandering is no change; see
//! `noise.rs`) and the scatter about the lines at that place. A second pass does the same with levels on the
//! logarithm of the squared distances from those lines and finds changes of spread. Spikes of one or two rows are no
//! change: values are clipped to what is usual about the median of their five neighbours.
mod noise;
mod segment;
#[cfg(test)]
mod tests;

use noise::Noise;
use segment::{Break, Shape, Sums};

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The mean.
    Mean,
    /// The spread.
    Variance,
    /// The slope.
    Trend,
}

impl ChangeKind {
    /// The name users read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Variance => "variance",
            Self::Trend => "trend",
        }
    }
}

/// One change point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// Index of the first observation of the new segment.
    pub index: usize,
    /// Kind.
    pub kind: ChangeKind,
    /// p-value against "no change here", corrected for the places tried.
    pub p_value: f64,
    /// Mean (or spread, or slope) before.
    pub before: f64,
    /// ... and after.
    pub after: f64,
}

/// Rows the search needs.
const ROWS_MIN: usize = 8;
/// Shortest segment of a mean or slope, and of a spread.
const LINE_MIN: usize = 4;
const SPREAD_MIN: usize = 10;
/// What a break must pay, in units of the noise times ln(rows).
const LINE_PRICE: f64 = 4.0;
const SPREAD_PRICE: f64 = 6.0;
/// A change of spread this near to a break of the line is the same event.
const SAME_EVENT: usize = 8;
/// Below this the values, scaled to 1, are exact and their noise is rounding.
const NOISE_MIN: f64 = 1e-24;
/// The logarithm of a squared Gaussian scatters by this at least.
const LOG_NOISE_MIN: f64 = 0.5;

/// Finds change points in `values` (NaN rows skipped, indexes refer to the input).
///
/// In the order of their index, 256 of each sort at most; none for fewer than 8 finite rows or no spread. `before`
/// and `after` are means, standard deviations about the line, or slopes a row, in the unit of the values.
pub fn change_points(values: &[f64]) -> Vec<ChangePoint> {
    let (rows, finite): (Vec<usize>, Vec<f64>) =
        values.iter().copied().enumerate().filter(|(_, v)| v.is_finite()).unzip();
    let n = finite.len();
    let largest = finite.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if n < ROWS_MIN || largest == 0.0 {
        return Vec::new();
    }
    // squares of values near the end of the number line do not exist
    let scaled: Vec<f64> = finite.iter().map(|v| v / largest).collect();
    let clipped = noise::clip(&scaled);
    let noise = Noise::of(&clipped);
    if noise.long_run <= NOISE_MIN {
        return Vec::new();
    }
    let breaks = segment::find(&Sums::new(&clipped), Shape::Line, &noise, LINE_PRICE, LINE_MIN);
    let mut found: Vec<ChangePoint> =
        neighbours(&breaks, n).map(|(from, b, to)| classify(&scaled, from, b, to)).collect();
    let residual = residual(&scaled, &breaks);
    for change in spreads(&residual) {
        if breaks.iter().all(|b| b.index.abs_diff(change.index) > SAME_EVENT) {
            found.push(change);
        }
    }
    found.sort_by_key(|change| change.index);
    for change in &mut found {
        change.before *= largest;
        change.after *= largest;
        change.index = rows[change.index];
    }
    found
}

/// Each break between the break before it (or the start) and the one after it (or the end).
fn neighbours(breaks: &[Break], n: usize) -> impl Iterator<Item = (usize, &Break, usize)> {
    breaks.iter().enumerate().map(move |(i, b)| {
        let from = if i == 0 { 0 } else { breaks[i - 1].index };
        (from, b, breaks.get(i + 1).map_or(n, |next| next.index))
    })
}

/// A step in the level, or a bend of an unbroken line: whichever is nearer to the values.
fn classify(values: &[f64], from: usize, at: &Break, to: usize) -> ChangePoint {
    let (left, right) = (&values[from..at.index], &values[at.index..to]);
    let (kind, measure): (_, fn(&[f64]) -> f64) = if segment::bend_cost(left, right) < segment::step_cost(left, right) {
        (ChangeKind::Trend, segment::slope)
    } else {
        (ChangeKind::Mean, segment::mean)
    };
    ChangePoint { index: at.index, kind, p_value: at.p_value, before: measure(left), after: measure(right) }
}

/// Values minus the line of their segment.
fn residual(values: &[f64], breaks: &[Break]) -> Vec<f64> {
    let ends = breaks.iter().map(|b| b.index).chain([values.len()]);
    let mut from = 0;
    let mut rest = Vec::with_capacity(values.len());
    for to in ends {
        let part = &values[from..to];
        let (mean, slope) = (segment::mean(part), segment::slope(part));
        let centre = (part.len() as f64 - 1.0) / 2.0;
        rest.extend(part.iter().enumerate().map(|(i, v)| v - mean - slope * (i as f64 - centre)));
        from = to;
    }
    rest
}

/// Changes of the spread of residuals.
fn spreads(residual: &[f64]) -> Vec<ChangePoint> {
    let usual = noise::median(residual.iter().map(|r| r * r).collect());
    if usual <= 1e-24 {
        return Vec::new();
    }
    // the offset keeps residuals near zero, whose logarithm is anything, from deciding
    let logs: Vec<f64> = residual.iter().map(|r| (r * r / usual + 0.3).ln()).collect();
    let mut noise = Noise::of(&logs);
    noise.long_run = noise.long_run.max(LOG_NOISE_MIN);
    let breaks = segment::find(&Sums::new(&logs), Shape::Level, &noise, SPREAD_PRICE, SPREAD_MIN);
    let deviation = |part: &[f64]| (part.iter().map(|r| r * r).sum::<f64>() / part.len().max(1) as f64).sqrt();
    neighbours(&breaks, residual.len())
        .map(|(from, b, to)| ChangePoint {
            index: b.index,
            kind: ChangeKind::Variance,
            p_value: b.p_value,
            before: deviation(&residual[from..b.index]),
            after: deviation(&residual[b.index..to]),
        })
        .collect()
}
