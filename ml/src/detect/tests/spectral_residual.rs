//! `spectral_residual`: what it is for, and what it takes for calm.
use super::*;

/// A fast swing, several to a window.
fn swinging(seed: u64, n: usize) -> Vec<f64> {
    noise(seed, n).iter().enumerate().map(|(i, e)| 10.0 * (i as f64 * TAU / 12.0).sin() + 0.5 * e).collect()
}

#[test]
fn a_value_out_of_step_with_a_fast_swing_is_found_without_a_season() {
    let (mut found, mut seen_by_mad) = (0, 0);
    for seed in 0..20 {
        let mut values = swinging(1_400 + seed, 1_000);
        // the top of the range where the swing has its lowest point
        values[12 * 60 + 9] = 10.0;
        found += usize::from(scores(Method::SpectralResidual, &values)[12 * 60 + 9] > Some(1.0));
        seen_by_mad += usize::from(scores(Method::Mad, &values)[12 * 60 + 9] > Some(1.0));
    }
    assert!(found >= 19 && seen_by_mad == 0, "spectral_residual {found}, mad {seen_by_mad} of 20");
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    for calm in [noise, swinging] {
        let alarms: Vec<usize> =
            (0..10).map(|seed| alarms(Method::SpectralResidual, &calm(1_500 + seed, 10_000))).collect();
        assert!(alarms.iter().sum::<usize>() <= 20, "{alarms:?}");
    }
}

#[test]
fn the_score_is_the_same_in_any_unit() {
    let values = noise(1_600, 500);
    let scaled: Vec<f64> = values.iter().map(|v| 1_024.0 * v).collect();
    assert_eq!(scores(Method::SpectralResidual, &values), scores(Method::SpectralResidual, &scaled));
}
