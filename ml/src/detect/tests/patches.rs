//! `patches`: what it is for, and what it takes for calm.
use super::*;

/// A swing of a shape of its own whose values are all between -11 and 11, mostly.
fn sawing(seed: u64, n: usize) -> Vec<f64> {
    noise(seed, n).iter().enumerate().map(|(i, e)| 20.0 * ((i % 16) as f64 / 15.0 - 0.5) + 0.5 * e).collect()
}

#[test]
fn teeth_that_point_the_other_way_are_found() {
    let (mut found, mut seen_by_mad) = (0, 0);
    for seed in 0..20 {
        let mut values = sawing(2_700 + seed, 2_000);
        values[1_504..1_536].reverse();
        let flagged = |method| scores(method, &values)[1_504..1_560].iter().any(|&score| score > Some(1.0));
        found += usize::from(flagged(Method::Patches));
        seen_by_mad += usize::from(flagged(Method::Mad));
    }
    assert!(found >= 18 && seen_by_mad == 0, "patches {found}, mad {seen_by_mad} of 20");
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    for calm in [noise, sawing] {
        let alarms: Vec<usize> =
            (0..4).map(|seed| false_alarms(Method::Patches, &calm(2_800 + seed, 10_000))).collect();
        assert!(alarms.iter().sum::<usize>() <= 8, "{alarms:?}");
    }
}

#[test]
fn training_again_gives_the_same_bits() {
    let values = sawing(2_900, 1_500);
    assert_eq!(scores(Method::Patches, &values), scores(Method::Patches, &values));
}
