//! `rcf`: what it is for, and what it takes for calm.
use super::*;

#[test]
fn a_swing_that_flips_between_its_extremes_is_found() {
    let (mut found, mut seen_by_mad) = (0, 0);
    for seed in 0..20 {
        let mut values = swinging(2_000 + seed, 2_000);
        for (row, value) in values[1_500..1_510].iter_mut().enumerate() {
            *value = if row % 2 == 0 { 10.0 } else { -10.0 };
        }
        let flagged = |method| scores(method, &values)[1_500..1_512].iter().any(|&score| score > Some(1.0));
        found += usize::from(flagged(Method::Rcf));
        seen_by_mad += usize::from(flagged(Method::Mad));
    }
    assert!(found >= 19 && seen_by_mad == 0, "rcf {found}, mad {seen_by_mad} of 20");
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    for calm in [noise, swinging] {
        let alarms: Vec<usize> = (0..4).map(|seed| false_alarms(Method::Rcf, &calm(2_200 + seed, 10_000))).collect();
        assert!(alarms.iter().sum::<usize>() <= 8, "{alarms:?}");
    }
}

#[test]
fn a_strict_repetition_is_no_news() {
    let values: Vec<f64> = (0..2_000).map(|i| f64::from(i % 12)).collect();
    assert_eq!(alarms(Method::Rcf, &values), 0);
}
