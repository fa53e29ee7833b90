use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const HOUR: i64 = 3_600 * SECOND;

fn times(n: usize, step: i64) -> Vec<i64> {
    (0..n as i64).map(|i| i * step).collect()
}

fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.sample(rand_distr::StandardNormal)).collect()
}

#[test]
fn a_day_in_hourly_values_is_found_under_noise_and_trend() {
    let noise = noise(1, 24 * 14);
    let values: Vec<f64> = noise
        .iter()
        .enumerate()
        .map(|(i, e)| 100.0 + 0.2 * i as f64 + 5.0 * (i as f64 * std::f64::consts::TAU / 24.0).sin() + e)
        .collect();
    let season = find(&times(values.len(), HOUR), &values).unwrap();
    assert_eq!(season.period_ns, 24 * HOUR);
    assert!(season.strength > 0.8, "{season:?}");
}

#[test]
fn a_day_that_is_no_whole_number_of_steps_is_snapped_to_the_calendar() {
    let step = 2_560 * SECOND;
    let values: Vec<f64> = (0..400).map(|i| (i as f64 * 2_560.0 * std::f64::consts::TAU / 86_400.0).sin()).collect();
    assert_eq!(find(&times(400, step), &values).unwrap().period_ns, 24 * HOUR);
}

#[test]
fn noise_and_random_walks_have_no_season() {
    let mut false_finds = 0;
    for seed in 0..40 {
        let noise = noise(seed, 500);
        let walk: Vec<f64> = noise
            .iter()
            .scan(0.0, |level, e| {
                *level += e;
                Some(*level)
            })
            .collect();
        false_finds += usize::from(find(&times(500, HOUR), &noise).is_some());
        false_finds += usize::from(find(&times(500, HOUR), &walk).is_some());
    }
    assert!(false_finds <= 4, "{false_finds} of 80");
}

#[test]
fn constants_and_short_series_have_no_season() {
    assert_eq!(find(&times(100, HOUR), &[5.0; 100]), None);
    assert_eq!(find(&times(100, HOUR), &[f64::NAN; 100]), None);
    assert_eq!(find(&[], &[]), None);
    assert_eq!(find(&times(10, HOUR), &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]), None);
}

#[test]
fn a_square_wave_has_its_period() {
    let values: Vec<f64> = (0..300).map(|i| f64::from(u8::from(i % 10 < 3))).collect();
    assert_eq!(find(&times(300, 7), &values).unwrap().period_ns, 70);
}
