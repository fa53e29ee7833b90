//! The next step from the steps before it and from those around one, two and three seasons ago, by ridge regression,
//! step after step.
//!
//! All is measured from the last value, so that a level that wanders is followed. The past is forgotten slowly, and
//! the sums are carried on from origin to origin: a back-test costs one pass.
use super::backtest::Span;
use super::ridge::{ROWS_PER_COLUMN_MIN, Sums, dot};
use super::seasons::Seasons;

/// Values before the first origin that are learnt from.
const VALUES_MAX: usize = 4_000;
/// Steps that count for most, and seasons if those are longer.
const MEMORY: usize = 250;
const MEMORY_SEASONS: usize = 10;
/// The last lags, fewer when the first origin is less than this many times further from the start.
const LAGS: usize = 24;
const VALUES_PER_LAG: usize = 5;

/// Lags that explain the next step, ascending; the first is 1.
fn lags(seasons: &Seasons, n: usize) -> Vec<usize> {
    let mut lags: Vec<usize> = (1..=LAGS.min(n / VALUES_PER_LAG).max(1)).collect();
    for &p in seasons.within(n) {
        lags.extend([p - 2, p - 1, p, p + 1, p + 2, 2 * p - 1, 2 * p, 2 * p + 1, 3 * p]);
    }
    lags.retain(|&lag| lag >= 1 && 2 * lag <= n);
    lags.sort_unstable();
    lags.dedup();
    // nearer ones first when there is no room for all
    while lags.last().is_some_and(|longest| n - longest < ROWS_PER_COLUMN_MIN * lags.len()) {
        lags.pop();
    }
    lags
}

/// `None` with too few values.
pub(super) fn continued(values: &[f64], seasons: &Seasons, spans: &[Span]) -> Option<Vec<Vec<f64>>> {
    let first = spans.first()?.origin;
    let from = first.saturating_sub(VALUES_MAX);
    let recent = &values[from..];
    let lags = lags(seasons, first - from);
    let longest = *lags.last()?;
    let shortest_season = seasons.within(first).first().copied().unwrap_or(0);
    let memory = MEMORY.max(MEMORY_SEASONS * shortest_season);
    let features = |past: &[f64], row: &mut Vec<f64>| -> f64 {
        let n = past.len();
        let base = past[n - 1];
        row.clear();
        row.push(1.0);
        row.extend(lags[1..].iter().map(|lag| past[n - lag] - base));
        base
    };
    let mut sums = Sums::new(lags.len(), memory as f64);
    let mut row = Vec::with_capacity(lags.len());
    let mut answers = Vec::with_capacity(spans.len());
    let mut at = longest;
    for span in spans {
        let origin = span.origin - from;
        for i in at..origin {
            let base = features(&recent[..i], &mut row);
            sums.add(&row, recent[i] - base);
        }
        at = origin;
        let weights = sums.weights()?;
        let mut known = recent[origin - longest..origin].to_vec();
        for _ in 0..span.steps {
            let base = features(&known, &mut row);
            known.push(base + dot(&row, &weights));
        }
        answers.push(known.split_off(longest));
    }
    Some(answers)
}

#[cfg(test)]
mod tests {
    use super::super::matrix::shaped;
    use super::*;

    fn ahead(values: &[f64], seasons: &Seasons, steps: usize) -> Option<Vec<f64>> {
        continued(values, seasons, &[Span { origin: values.len(), steps }]).map(|mut answers| answers.remove(0))
    }

    #[test]
    fn a_season_without_noise_is_continued_by_both_kinds_of_ridge() {
        let truth = |i: usize| [3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0][i % 7];
        let values: Vec<f64> = (0..140).map(truth).collect();
        let seasons = Seasons::find(&values, Some(7), 1);
        let matrix = shaped(&values, &seasons, &[Span { origin: 140, steps: 20 }]).unwrap().remove(0);
        for next in [matrix, ahead(&values, &seasons, 20).unwrap()] {
            for (i, v) in next.iter().enumerate() {
                assert!((v - truth(140 + i)).abs() < 0.1, "{i}: {v} {}", truth(140 + i));
            }
        }
    }

    #[test]
    fn a_back_test_says_what_a_forecast_from_there_would_have_said() {
        let values: Vec<f64> = (0..240).map(|i| (i * i % 37) as f64 + 10.0 * (i % 12) as f64).collect();
        let seasons = Seasons::find(&values, Some(12), 1);
        let spans = [Span { origin: 180, steps: 9 }, Span { origin: 240, steps: 9 }];
        let both = continued(&values, &seasons, &spans).unwrap();
        assert_eq!(Some(&both[0]), ahead(&values[..180], &seasons, 9).as_ref());
        assert_ne!(both[0], both[1]);
    }

    #[test]
    fn without_a_season_there_is_no_matrix_and_without_values_no_lag() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        assert_eq!(shaped(&values, &Seasons::default(), &[Span { origin: 50, steps: 5 }]), None);
        assert_eq!(ahead(&values[..3], &Seasons::default(), 5), None);
        assert!(ahead(&values[..30], &Seasons::default(), 5).is_some());
    }
}
