//! `matrix_profile`: what it is for, and what it takes for calm.
use super::*;

/// A beat of 40 values: a steep rise and a slow fall, with a little noise, never quite as high as the time before.
fn beating(seed: u64, n: usize) -> Vec<f64> {
    let beat = |i: usize| {
        let place = (i % 40) as f64;
        (1.0 + 0.3 * ((i / 40) as f64).sin()) * 10.0 * (if place < 8.0 { place / 8.0 } else { (40.0 - place) / 32.0 })
    };
    noise(seed, n).iter().enumerate().map(|(i, e)| beat(i) + 0.2 * e).collect()
}

#[test]
fn a_beat_that_runs_backwards_is_found() {
    let (mut found, mut seen_by_mad) = (0, 0);
    for seed in 0..20 {
        let mut values = beating(2_700 + seed, 3_000);
        values[2_400..2_440].reverse();
        let flagged = |method| scores(method, &values)[2_400..2_472].iter().any(|&score| score > Some(1.0));
        found += usize::from(flagged(Method::MatrixProfile));
        seen_by_mad += usize::from(flagged(Method::Mad));
    }
    assert!(found >= 19 && seen_by_mad == 0, "matrix_profile {found}, mad {seen_by_mad} of 20");
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    for calm in [noise, beating] {
        let alarms: Vec<usize> =
            (0..4).map(|seed| false_alarms(Method::MatrixProfile, &calm(2_800 + seed, 10_000))).collect();
        assert!(alarms.iter().sum::<usize>() <= 8, "{alarms:?}");
    }
}

/// Root mean square distance of two windows, each brought to mean 0 and spread 1, as a share of the largest.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let shape = |window: &[f32]| -> Vec<f64> {
        let n = window.len() as f64;
        let mean = window.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let spread = (window.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt().max(0.1);
        window.iter().map(|&v| (f64::from(v) - mean) / spread).collect()
    };
    let (a, b) = (shape(a), shape(b));
    (a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / (4.0 * a.len() as f64)).sqrt()
}

#[test]
fn the_nearest_window_is_that_of_a_search_one_by_one() {
    for seed in 0..20 {
        // flat pieces, too
        let values: Vec<f32> = noise(2_900 + seed, 500)
            .iter()
            .enumerate()
            .map(|(i, e)| if i / 60 % 3 == 1 { 0.01 * *e as f32 } else { (*e + 3.0) as f32 })
            .collect();
        let (past, window) = values.split_at(468);
        let slow = past.windows(32).map(|other| distance(other, window)).fold(f64::INFINITY, f64::min);
        let fast = crate::detect::matrix_profile::nearest(past, window);
        assert!((slow - fast).abs() < 1e-4, "seed {seed}: {slow} {fast}");
    }
}
