//! `spot`: what it is for, and what it takes for calm.
use super::*;

/// Latencies: never far below their usual value, often far above it.
fn skewed(seed: u64, n: usize) -> Vec<f64> {
    noise(seed, n).iter().map(|e| 100.0 + 10.0 * (0.8 * e).exp()).collect()
}

#[test]
fn a_drop_on_the_thin_side_of_a_skewed_series_is_found() {
    let (mut found, mut seen_by_mad) = (0, 0);
    for seed in 0..20 {
        let mut values = skewed(500 + seed, 2_000);
        values[1_500] = 72.0;
        found += usize::from(scores(Method::Spot, &values)[1_500] > Some(1.0));
        seen_by_mad += usize::from(scores(Method::Mad, &values)[1_500] > Some(1.0));
    }
    assert!(found >= 19 && seen_by_mad <= 4, "spot {found}, mad {seen_by_mad} of 20");
}

#[test]
fn a_peak_beyond_all_peaks_is_found_on_the_thick_side_too() {
    for seed in 0..20 {
        let mut values = skewed(600 + seed, 2_000);
        let largest = values.iter().copied().fold(0.0, f64::max);
        values[1_500] = 100.0 + 4.0 * (largest - 100.0);
        assert!(scores(Method::Spot, &values)[1_500] > Some(1.0), "seed {seed}");
    }
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    for calm in [noise, skewed] {
        let alarms: Vec<usize> = (0..10).map(|seed| alarms(Method::Spot, &calm(700 + seed, 10_000))).collect();
        assert!(alarms.iter().sum::<usize>() <= 20, "{alarms:?}");
    }
}

#[test]
fn the_edges_stand_apart_as_the_sides_scatter() {
    let verdicts = run(Method::Spot, None, SECOND, &skewed(800, 5_000));
    let last = verdicts[4_999];
    let (up, down) = (last.hi.unwrap() - last.expected.unwrap(), last.expected.unwrap() - last.lo.unwrap());
    assert!(up > 2.0 * down, "{last:?}");
}
