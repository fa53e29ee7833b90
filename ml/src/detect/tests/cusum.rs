//! `cusum`: what it is for, and what it takes for calm.
use super::*;
use crate::detect::reference::Reference;

/// A shift by one spread at row 1,000: no single value is unusual.
fn shifted(seed: u64) -> Vec<f64> {
    noise(seed, 2_000).iter().enumerate().map(|(i, e)| 50.0 + e + if i < 1_000 { 0.0 } else { 1.0 }).collect()
}

#[test]
fn a_small_shift_that_lasts_is_found_within_fifty_rows_and_told_a_few_times_only() {
    for seed in 0..20 {
        let values = shifted(200 + seed);
        let scores = scores(Method::Cusum, &values);
        let first = scores[1_000..].iter().position(|&score| score > Some(1.0));
        assert!(first.is_some_and(|row| row < 50), "seed {seed}: {first:?}");
        assert!(alarms(Method::Cusum, &values) <= 3, "seed {seed}: {}", alarms(Method::Cusum, &values));
    }
    let seen_by_mad =
        (0..20).filter(|seed| scores(Method::Mad, &shifted(200 + seed))[1_000..1_050].iter().any(|&s| s > Some(1.0)));
    assert!(seen_by_mad.count() <= 2, "the case is too easy");
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    let alarms: Vec<usize> = (0..10).map(|seed| alarms(Method::Cusum, &noise(300 + seed, 10_000))).collect();
    assert!(alarms.iter().sum::<usize>() <= 20, "{alarms:?}");
}

/// The largest sum of deviations less 1/2 that ends with the last of them, or 0: what Page's recursion stands for.
fn largest_suffix_sum(deviations: &[f64]) -> f64 {
    (0..=deviations.len()).map(|from| deviations[from..].iter().map(|u| u - 0.5).sum::<f64>()).fold(0.0, f64::max)
}

#[test]
fn scores_and_edges_are_those_of_the_largest_suffix_sums() {
    let values = shifted(400);
    let verdicts = run(Method::Cusum, None, SECOND, &values);
    let first_alarm = verdicts.iter().position(|v| v.score > Some(1.0)).unwrap();
    assert!(first_alarm > 500, "{first_alarm}");
    let mut reference = Reference::new();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (row, (&value, verdict)) in values.iter().zip(&verdicts).enumerate().take(first_alarm) {
        if row >= 32 {
            let (centre, spread) = (reference.centre(), reference.spread());
            let (high, low) = (largest_suffix_sum(&up), largest_suffix_sum(&down));
            up.push((value - centre) / spread);
            down.push((centre - value) / spread);
            let limit = (verdict.hi.unwrap() - centre) / spread - 0.5 + high;
            let from_below = (centre - verdict.lo.unwrap()) / spread - 0.5 + low;
            assert!((limit - from_below).abs() < 1e-9 * limit, "row {row}: {limit} {from_below}");
            let score = largest_suffix_sum(&up).max(largest_suffix_sum(&down)) / limit;
            assert!((verdict.score.unwrap() - score).abs() < 1e-9, "row {row}: {verdict:?} {score}");
        }
        reference.learn(value, 3.0, 1.0 / 256.0);
    }
}
