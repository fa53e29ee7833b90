//! Scores and p-values of counted values and pairs.
//!
//! A table of two sides, with and without the value, is tested by the likelihood ratio (G, one degree of freedom), and
//! by Fisher's exact test (1922; the smaller tail twice) where a cell is expected to hold fewer than five rows. p-values
//! are corrected for the number of tests by Benjamini and Hochberg (1995): of the rows with at most `q`, a share of `q` is
//! there by chance.
use statrs::distribution::{ChiSquared, ContinuousCDF};
use statrs::function::factorial::ln_binomial;

use super::DIFFERENCES_MAX;
use crate::multiple;

/// A pair is told when its p-value is at most so large.
const PAIR_P_MAX: f64 = 0.05;
/// ... and its score larger than those of its values by this factor.
const PAIR_GAIN_MIN: f64 = 1.02;
/// Rows that the G-test wants to expect in each cell.
const EXPECTED_MIN: f64 = 5.0;
/// Quantile of the normal distribution for the intervals of shares: 95 %.
const Z: f64 = 1.959_963_985;

/// A value or a pair, and its rows on either side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted<P> {
    pub(super) value: P,
    pub(super) rows: [u64; 2],
    /// The second of a pair, and the rows of the first and of the second alone.
    pub(super) and: Option<(P, [[u64; 2]; 2])>,
}

/// See [`super::Difference`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) shares: [f64; 2],
    pub(super) lift: f64,
    pub(super) score: f64,
    pub(super) p_value: f64,
}

/// The differences to tell, as indexes of `counted`, by falling score.
pub(super) fn differences<P>(counted: &[Counted<P>], totals: [u64; 2]) -> Vec<(usize, Judged)> {
    if totals.contains(&0) {
        return Vec::new();
    }
    // a pair that is no more frequent among the selected rows explains nothing that its values do not
    let looked_at = |c: &Counted<P>| {
        let [s, b] = shares(c.rows, totals);
        c.and.is_none() || s > b
    };
    let places: Vec<usize> = (0..counted.len()).filter(|&i| looked_at(&counted[i])).collect();
    let mut p_values: Vec<f64> = places.iter().map(|&i| p_value(&counted[i], totals)).collect();
    multiple::correct(&mut p_values);
    let mut told: Vec<(usize, Judged)> = Vec::new();
    for (&at, &p_value) in places.iter().zip(&p_values) {
        let Counted { rows, and, .. } = &counted[at];
        let score = score(*rows, totals);
        if let Some((_, alone)) = and {
            let best = alone.iter().map(|&rows| self::score(rows, totals)).fold(0.0, f64::max);
            if p_value > PAIR_P_MAX || score <= best * PAIR_GAIN_MIN {
                continue;
            }
        }
        let shares = shares(*rows, totals);
        told.push((at, Judged { shares, lift: shares[0] / shares[1], score, p_value }));
    }
    // equal scores are equal up to rounding; more frequent among the selected rows comes first
    let rank = |score: f64| (score * 1e9).round();
    told.sort_by(|(i, a), (j, b)| {
        let scores = rank(b.score).total_cmp(&rank(a.score));
        scores.then(b.lift.total_cmp(&a.lift)).then(a.p_value.total_cmp(&b.p_value)).then(i.cmp(j))
    });
    told.truncate(DIFFERENCES_MAX);
    told
}

fn shares(rows: [u64; 2], totals: [u64; 2]) -> [f64; 2] {
    [0, 1].map(|side| rows[side] as f64 / totals[side] as f64)
}

/// Of a value against equal shares; of a pair also among the rows of either of its values, the largest of the three.
fn p_value<P>(counted: &Counted<P>, totals: [u64; 2]) -> f64 {
    let whole = independence(counted.rows, totals);
    let within = counted.and.iter().flat_map(|(_, alone)| alone).map(|&alone| independence(counted.rows, alone));
    within.fold(whole, f64::max)
}

/// The p-value of `with[side]` of `all[side]` rows against one share on both sides.
fn independence(with: [u64; 2], all: [u64; 2]) -> f64 {
    // counts that were pruned may be short
    let all = [all[0].max(with[0]), all[1].max(with[1])];
    let n = (all[0] + all[1]) as f64;
    let columns = [(with[0] + with[1]) as f64, n - (with[0] + with[1]) as f64];
    let (mut g, mut least) = (0.0, f64::INFINITY);
    for side in 0..2 {
        for (cell, column) in [with[side], all[side] - with[side]].into_iter().zip(columns) {
            let expected = all[side] as f64 * column / n;
            least = least.min(expected);
            if cell > 0 {
                g += 2.0 * cell as f64 * (cell as f64 / expected).ln();
            }
        }
    }
    if least >= EXPECTED_MIN { ChiSquared::new(1.0).map_or(1.0, |chi| chi.sf(g.max(0.0))) } else { fisher(with, all) }
}

/// Twice the smaller tail of the hypergeometric distribution.
fn fisher(with: [u64; 2], all: [u64; 2]) -> f64 {
    let with_total = with[0] + with[1];
    let (lowest, highest) = (with_total.saturating_sub(all[1]), with_total.min(all[0]));
    let whole = ln_binomial(all[0] + all[1], with_total);
    let probability = |k: u64| (ln_binomial(all[0], k) + ln_binomial(all[1], with_total - k) - whole).exp();
    // away from the observed cell each term is smaller than the one before, once past the middle
    let tail = |cells: &mut dyn Iterator<Item = u64>| {
        let mut sum = 0.0;
        for k in cells {
            let term = probability(k);
            sum += term;
            if term < 1e-17 * sum {
                break;
            }
        }
        sum
    };
    let expected = all[0] as f64 * with_total as f64 / (all[0] + all[1]) as f64;
    let smaller =
        if with[0] as f64 >= expected { tail(&mut (with[0]..=highest)) } else { tail(&mut (lowest..=with[0]).rev()) };
    (2.0 * smaller).clamp(0.0, 1.0)
}

/// Jensen-Shannon divergence of the nearer ends of Wilson's (1927) intervals of both shares.
fn score(rows: [u64; 2], totals: [u64; 2]) -> f64 {
    let [s, b] = shares(rows, totals);
    let [selected, baseline] = [0, 1].map(|side| interval(rows[side] as f64, totals[side] as f64));
    let (s, b) = if s >= b { (selected[0], baseline[1]) } else { (selected[1], baseline[0]) };
    let overlap = (s >= b) != (rows[0] as f64 * totals[1] as f64 >= rows[1] as f64 * totals[0] as f64);
    if overlap { 0.0 } else { (entropy((s + b) / 2.0) - (entropy(s) + entropy(b)) / 2.0).clamp(0.0, 1.0) }
}

fn interval(k: f64, n: f64) -> [f64; 2] {
    let (p, z2) = (k / n, Z * Z);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// Bits of a share.
fn entropy(p: f64) -> f64 {
    [p, 1.0 - p].into_iter().filter(|&p| p > 0.0).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tables_have_the_exact_probability() {
        // 3 of 3 against 0 of 3: one table of twenty, on each side
        assert!((independence([3, 0], [3, 3]) - 0.1).abs() < 1e-12);
        // Fisher's tea: three cups of four
        assert!((fisher([3, 1], [4, 4]) - 2.0 * 17.0 / 70.0).abs() < 1e-12);
        assert_eq!(independence([5, 5], [5, 5]), 1.0);
        assert_eq!(independence([0, 0], [5, 5]), 1.0);
    }

    #[test]
    fn large_tables_have_the_probability_of_the_chi_squared_distribution() {
        // G = 2 * (60 ln(60/50) + 40 ln(40/50)) * 2 = 8.05...
        assert!(
            (independence([60, 40], [100, 100]) - 0.004_541).abs() < 1e-5,
            "{}",
            independence([60, 40], [100, 100])
        );
        let (exact, approximate) = (fisher([60, 40], [100, 100]), independence([60, 40], [100, 100]));
        assert!(exact > approximate && exact < 2.0 * approximate, "{exact}");
    }

    #[test]
    fn few_rows_score_below_many_of_the_same_shares() {
        let scores: Vec<f64> = [1, 10, 100].iter().map(|n| score([8 * n, 2 * n], [10 * n, 10 * n])).collect();
        assert!(scores.windows(2).all(|w| w[0] < w[1]) && scores[0] == 0.0 && scores[2] < 0.279, "{scores:?}");
        assert_eq!(score([1, 0], [2, 2]), 0.0);
        assert!(score([100_000, 0], [100_000, 100_000]) > 0.99);
        assert!((score([900, 100], [1000, 1000]) - score([100, 900], [1000, 1000])).abs() < 1e-12);
    }
}
