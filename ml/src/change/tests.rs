use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.sample(rand_distr::StandardNormal)).collect()
}

fn near(found: &[ChangePoint], index: usize, kind: ChangeKind) -> bool {
    found.iter().any(|c| c.index.abs_diff(index) <= 5 && c.kind == kind)
}

#[test]
fn a_level_shift_is_found_where_it_is() {
    for seed in 0..20 {
        let values: Vec<f64> =
            noise(seed, 300).iter().enumerate().map(|(i, e)| 50.0 + e + if i >= 180 { 4.0 } else { 0.0 }).collect();
        let found = change_points(&values);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].index.abs_diff(180) <= 2 && found[0].kind == ChangeKind::Mean && found[0].p_value < 1e-6,
            "{found:?}"
        );
        assert!((found[0].before - 50.0).abs() < 0.5 && (found[0].after - 54.0).abs() < 0.5, "{found:?}");
    }
}

#[test]
fn a_change_of_spread_is_found() {
    let hits = (0..20).filter(|&seed| {
        let values: Vec<f64> =
            noise(seed, 400).iter().enumerate().map(|(i, e)| if i >= 200 { 4.0 * e } else { *e }).collect();
        let found = change_points(&values);
        found.iter().any(|c| c.kind == ChangeKind::Variance && c.index.abs_diff(200) <= 15 && c.after > 2.0 * c.before)
    });
    assert!(hits.count() >= 18);
}

#[test]
fn a_change_of_slope_is_found() {
    let values: Vec<f64> = noise(3, 300)
        .iter()
        .enumerate()
        .map(|(i, e)| e + if i < 150 { 0.2 * i as f64 } else { 60.0 - 0.2 * i as f64 })
        .collect();
    let found = change_points(&values);
    assert!(near(&found, 150, ChangeKind::Trend), "{found:?}");
    assert!((found[0].before - 0.2).abs() < 0.05 && (found[0].after + 0.2).abs() < 0.05, "{found:?}");
}

#[test]
fn noise_has_no_change_points() {
    let mut rng = StdRng::seed_from_u64(9);
    let gaussian: usize = (0..50).map(|seed| change_points(&noise(seed, 400)).len()).sum();
    let heavy: usize = (0..50)
        .map(|_| {
            change_points(&(0..400).map(|_| rng.sample(rand_distr::StudentT::new(3.0).unwrap())).collect::<Vec<f64>>())
                .len()
        })
        .sum();
    let wandering: usize = (0..50)
        .map(|seed| {
            let series: Vec<f64> = noise(seed, 400)
                .iter()
                .scan(0.0, |x, e| {
                    *x = 0.7 * *x + e;
                    Some(*x)
                })
                .collect();
            change_points(&series).len()
        })
        .sum();
    assert!(gaussian <= 2 && heavy <= 4 && wandering <= 8, "{gaussian} {heavy} {wandering} in 50 series each");
}

#[test]
fn a_spike_is_no_change() {
    let mut values = noise(5, 300);
    values[150] = 60.0;
    assert_eq!(change_points(&values), []);
}

#[test]
fn a_step_without_noise_is_found_exactly() {
    let values: Vec<f64> = (0..60).map(|i| if i < 25 { 1.0 } else { 3.0 }).collect();
    let found = change_points(&values);
    assert_eq!((found.len(), found[0].index, found[0].kind), (1, 25, ChangeKind::Mean));
    assert!((found[0].before - 1.0).abs() < 1e-12 && (found[0].after - 3.0).abs() < 1e-12, "{found:?}");
}

#[test]
fn missing_rows_do_not_shift_the_index() {
    let mut values: Vec<f64> =
        noise(6, 200).iter().enumerate().map(|(i, e)| e + if i >= 100 { 8.0 } else { 0.0 }).collect();
    for i in (0..90).step_by(3) {
        values[i] = f64::NAN;
    }
    assert!(near(&change_points(&values), 100, ChangeKind::Mean));
}

#[test]
fn constants_lines_and_short_series_have_no_change() {
    assert_eq!(change_points(&[7.0; 100]), []);
    assert_eq!(change_points(&[0.0; 100]), []);
    assert_eq!(change_points(&(0..100).map(f64::from).collect::<Vec<_>>()), []);
    assert_eq!(change_points(&[1.0, 1.0, 9.0, 9.0]), []);
    assert_eq!(change_points(&[]), []);
}

proptest! {
    #[test]
    fn no_input_panics_and_indexes_ascend(values in prop::collection::vec(any::<f64>(), 0..120)) {
        let found = change_points(&values);
        prop_assert!(found.windows(2).all(|w| w[0].index < w[1].index));
        prop_assert!(found.iter().all(|c| c.index > 0 && c.index < values.len() && (0.0..=1.0).contains(&c.p_value)));
    }
}
