//! Binary segmentation by prefix sums.
use super::noise::Noise;

/// Most breaks found.
const BREAKS_MAX: usize = 256;
/// Times every break is moved to its best place.
const ROUNDS: usize = 3;
/// Breaks that are likelier than this by chance after they have been moved are dropped.
const P_MAX: f64 = 0.05;

/// What a segment is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Level,
    Line,
}

/// A place where the series breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Break {
    pub(super) index: usize,
    pub(super) p_value: f64,
}

/// Prefix sums of values about their mean, of their squares and of their products with the row number about its
/// middle.
pub(super) struct Sums {
    value: Vec<f64>,
    square: Vec<f64>,
    moment: Vec<f64>,
}

impl Sums {
    pub(super) fn new(values: &[f64]) -> Self {
        let (mean, centre) = (mean(values), (values.len() as f64 - 1.0) / 2.0);
        let prefix = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            let mut sum = 0.0;
            std::iter::once(0.0)
                .chain(values.iter().enumerate().map(|(i, v)| {
                    sum += f(i as f64 - centre, v - mean);
                    sum
                }))
                .collect()
        };
        Self { value: prefix(&|_, v| v), square: prefix(&|_, v| v * v), moment: prefix(&|x, v| x * v) }
    }

    fn len(&self) -> usize {
        self.value.len() - 1
    }

    /// Squared distance of rows `[a, b)` from their level or line.
    fn cost(&self, shape: Shape, a: usize, b: usize) -> f64 {
        let rows = (b - a) as f64;
        let sum = self.value[b] - self.value[a];
        let mut cost = self.square[b] - self.square[a] - sum * sum / rows;
        if shape == Shape::Line && b - a > 1 {
            let middle = (a + b - 1) as f64 / 2.0 - (self.len() as f64 - 1.0) / 2.0;
            let xy = self.moment[b] - self.moment[a] - middle * sum;
            cost -= xy * xy * 12.0 / (rows * (rows * rows - 1.0));
        }
        cost.max(0.0)
    }

    /// The best place to break `[a, b)` and its gain in units of the noise.
    fn best(&self, shape: Shape, noise: &Noise, a: usize, b: usize, shortest: usize) -> Option<(usize, f64)> {
        if b - a < 2 * shortest {
            return None;
        }
        let whole = self.cost(shape, a, b);
        let (mut place, mut least) = (a + shortest, f64::INFINITY);
        for k in a + shortest..=b - shortest {
            let cost = self.cost(shape, a, k) + self.cost(shape, k, b);
            if cost < least {
                (place, least) = (k, cost);
            }
        }
        let scatter = least / (b - a) as f64 * noise.inflation;
        Some((place, (whole - least) / noise.long_run.max(scatter)))
    }
}

/// Breaks of a series in order.
pub(super) fn find(sums: &Sums, shape: Shape, noise: &Noise, price: f64, shortest: usize) -> Vec<Break> {
    let n = sums.len();
    let threshold = price * (n as f64).ln();
    let split = |a: usize, b: usize| {
        sums.best(shape, noise, a, b, shortest).filter(|&(_, gain)| gain > threshold).map(|(k, gain)| (gain, a, k, b))
    };
    let mut open: Vec<(f64, usize, usize, usize)> = split(0, n).into_iter().collect();
    let mut places = Vec::new();
    while let Some(best) = (0..open.len()).max_by(|&i, &j| open[i].0.total_cmp(&open[j].0)) {
        let (_, a, k, b) = open.swap_remove(best);
        places.push(k);
        if places.len() == BREAKS_MAX {
            break;
        }
        open.extend(split(a, k));
        open.extend(split(k, b));
    }
    places.sort_unstable();
    for _ in 0..ROUNDS {
        for i in 0..places.len() {
            let (a, b) = around(&places, i, n);
            if let Some((k, _)) = sums.best(shape, noise, a, b, shortest) {
                places[i] = k;
            }
        }
    }
    (0..places.len())
        .filter_map(|i| {
            let (a, b) = around(&places, i, n);
            let (_, gain) = sums.best(shape, noise, a, b, shortest)?;
            // chi-squared with two degrees of freedom, for each of the places tried
            let p_value = ((b - a) as f64 * (-gain / 2.0).exp()).min(1.0);
            (p_value <= P_MAX).then_some(Break { index: places[i], p_value })
        })
        .collect()
}

fn around(places: &[usize], i: usize, n: usize) -> (usize, usize) {
    (if i == 0 { 0 } else { places[i - 1] }, places.get(i + 1).copied().unwrap_or(n))
}

/// Mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Least-squares slope a row; 0 of fewer than two rows.
pub(super) fn slope(values: &[f64]) -> f64 {
    let (xx, xy, _) = moments(values);
    if xx > 0.0 { xy / xx } else { 0.0 }
}

/// Centred sums of squares and products: row by row, row by value, value by value.
fn moments(values: &[f64]) -> (f64, f64, f64) {
    let (mean, centre) = (mean(values), (values.len() as f64 - 1.0) / 2.0);
    values.iter().enumerate().fold((0.0, 0.0, 0.0), |(xx, xy, yy), (i, v)| {
        let (x, y) = (i as f64 - centre, v - mean);
        (xx + x * x, xy + x * y, yy + y * y)
    })
}

/// Squared distance from two levels on a common slope.
pub(super) fn step_cost(left: &[f64], right: &[f64]) -> f64 {
    let ((xx, xy, yy), (xx2, xy2, yy2)) = (moments(left), moments(right));
    let (xx, xy, yy) = (xx + xx2, xy + xy2, yy + yy2);
    if xx > 0.0 { yy - xy * xy / xx } else { yy }
}

/// Squared distance from an unbroken line that bends between the two parts.
pub(super) fn bend_cost(left: &[f64], right: &[f64]) -> f64 {
    let n = (left.len() + right.len()) as f64;
    let bend = left.len() as f64 - 0.5;
    let rows = || left.iter().chain(right).enumerate().map(|(i, &y)| (i as f64, (i as f64 - bend).max(0.0), y));
    let (mut mx, mut mz, mut my) = (0.0, 0.0, 0.0);
    for (x, z, y) in rows() {
        (mx, mz, my) = (mx + x / n, mz + z / n, my + y / n);
    }
    let (mut xx, mut xz, mut zz, mut xy, mut zy, mut yy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, z, y) in rows() {
        let (x, z, y) = (x - mx, z - mz, y - my);
        xx += x * x;
        xz += x * z;
        zz += z * z;
        xy += x * y;
        zy += z * y;
        yy += y * y;
    }
    let determinant = xx * zz - xz * xz;
    if determinant <= 0.0 {
        return yy;
    }
    let (a, b) = ((xy * zz - zy * xz) / determinant, (zy * xx - xy * xz) / determinant);
    yy - a * xy - b * zy
}
