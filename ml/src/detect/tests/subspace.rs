//! `subspace`: what it is for, and what it takes for calm.
use super::*;

#[test]
fn a_swing_that_stands_still_at_a_usual_value_is_found() {
    let (mut found, mut seen_by_mad) = (0, 0);
    for seed in 0..20 {
        let mut values = swinging(2_300 + seed, 2_000);
        let still = noise(2_400 + seed, 12);
        for (value, e) in values[1_500..].iter_mut().zip(still) {
            *value = 5.0 + 0.5 * e;
        }
        let flagged = |method| scores(method, &values)[1_500..1_514].iter().any(|&score| score > Some(1.0));
        found += usize::from(flagged(Method::Subspace));
        seen_by_mad += usize::from(flagged(Method::Mad));
    }
    assert!(found >= 19 && seen_by_mad == 0, "subspace {found}, mad {seen_by_mad} of 20");
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    for calm in [noise, swinging] {
        let alarms: Vec<usize> =
            (0..4).map(|seed| false_alarms(Method::Subspace, &calm(2_500 + seed, 10_000))).collect();
        assert!(alarms.iter().sum::<usize>() <= 8, "{alarms:?}");
    }
}

#[test]
fn the_score_is_the_same_in_any_unit() {
    let values = swinging(2_600, 500);
    let scaled: Vec<f64> = values.iter().map(|v| 1_024.0 * v).collect();
    assert_eq!(scores(Method::Subspace, &values), scores(Method::Subspace, &scaled));
}
