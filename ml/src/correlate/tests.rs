use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.sample(rand_distr::StandardNormal)).collect()
}

/// Every lag by its definition.
fn brute_force(a: &[f64], b: &[f64], max_lag: usize) -> Option<(i64, f64)> {
    let n = a.len().min(b.len()) as i64;
    let all: Vec<(i64, f64, usize)> = (-(max_lag as i64)..=max_lag as i64)
        .filter_map(|lag| {
            let rows: Vec<(f64, f64)> = (0..n)
                .filter(|i| (0..n).contains(&(i + lag)))
                .map(|i| (a[i as usize], b[(i + lag) as usize]))
                .filter(|(x, y)| x.is_finite() && y.is_finite())
                .collect();
            let m = rows.len() as f64;
            let (ma, mb) = (rows.iter().map(|r| r.0).sum::<f64>() / m, rows.iter().map(|r| r.1).sum::<f64>() / m);
            let aa: f64 = rows.iter().map(|r| (r.0 - ma).powi(2)).sum();
            let bb: f64 = rows.iter().map(|r| (r.1 - mb).powi(2)).sum();
            let ab: f64 = rows.iter().map(|r| (r.0 - ma) * (r.1 - mb)).sum();
            (rows.len() >= 3).then_some((lag, ab / (aa * bb).sqrt(), rows.len()))
        })
        .collect();
    let most = all.iter().map(|l| l.2).max()?;
    all.into_iter()
        .filter(|l| 2 * l.2 >= most && l.1.is_finite())
        .max_by(|x, y| x.1.abs().total_cmp(&y.1.abs()))
        .map(|l| (l.0, l.1))
}

#[test]
fn a_delayed_copy_is_found_at_its_delay() {
    let a = noise(1, 500);
    let b: Vec<f64> =
        noise(2, 500).iter().enumerate().map(|(i, e)| 0.5 * e + if i >= 7 { 3.0 * a[i - 7] } else { 0.0 }).collect();
    let found = correlate(&a, &b, 20).unwrap();
    assert_eq!(found.lag, 7);
    assert!(found.r > 0.95 && found.p_value < 1e-10, "{found:?}");
    assert_eq!(correlate(&b, &a, 20).unwrap().lag, -7);
}

#[test]
fn an_exact_copy_has_r_one_at_lag_zero() {
    let a = noise(3, 50);
    let found = correlate(&a, &a, 10).unwrap();
    assert_eq!((found.lag, found.p_value), (0, 0.0));
    assert!((found.r - 1.0).abs() < 1e-12);
    let opposite: Vec<f64> = a.iter().map(|v| 5.0 - 2.0 * v).collect();
    assert!((correlate(&a, &opposite, 10).unwrap().r + 1.0).abs() < 1e-12);
}

#[test]
fn independent_noise_is_seldom_significant() {
    let significant =
        (0..200).filter(|&s| correlate(&noise(2 * s, 200), &noise(2 * s + 1, 200), 10).unwrap().p_value < 0.05).count();
    assert!(significant <= 20, "{significant} of 200 at 5 %");
}

#[test]
fn independent_autocorrelated_series_are_seldom_significant() {
    let ar = |seed| -> Vec<f64> {
        noise(seed, 400)
            .iter()
            .scan(0.0, |x, e| {
                *x = 0.9 * *x + e;
                Some(*x)
            })
            .collect()
    };
    let significant = (0..200).filter(|&s| correlate(&ar(2 * s), &ar(2 * s + 1), 10).unwrap().p_value < 0.05).count();
    assert!(significant <= 20, "{significant} of 200 at 5 %");
}

#[test]
fn too_few_rows_and_no_spread_have_no_answer() {
    assert_eq!(correlate(&[1.0, 2.0], &[1.0, 2.0], 1), None);
    assert_eq!(correlate(&[1.0, 2.0, f64::NAN], &[1.0, 2.0, 3.0], 0), None);
    assert_eq!(correlate(&[1.0; 10], &noise(1, 10), 2), None);
    assert_eq!(correlate(&[0.1 + 0.2; 10], &noise(1, 10), 2), None);
    assert_eq!(correlate(&[], &[], 0), None);
}

#[test]
fn magnitude_does_not_matter() {
    let a = noise(5, 100);
    let b = noise(6, 100);
    let plain = correlate(&a, &b, 5).unwrap();
    let large: Vec<f64> = a.iter().map(|v| v * 1e300).collect();
    let scaled = correlate(&large, &b, 5).unwrap();
    assert_eq!(plain.lag, scaled.lag);
    assert!((plain.r - scaled.r).abs() < 1e-9);
}

/// A value, or now and then a missing one.
fn cell() -> impl Strategy<Value = f64> {
    prop_oneof![9 => -100.0..100.0f64, 1 => Just(f64::NAN)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_transform_agrees_with_brute_force(
        rows in prop::collection::vec((cell(), cell()), 4..120),
        max_lag in 0usize..30,
    ) {
        let (a, b): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
        let max_lag = max_lag.min(a.len() - 1);
        if let (Some(found), Some((_, r))) = (correlate(&a, &b, max_lag), brute_force(&a, &b, max_lag)) {
            prop_assert!((found.r.abs() - r.abs()).abs() < 1e-9, "{found:?} against r {r}");
            prop_assert!((0.0..=1.0).contains(&found.p_value));
        }
    }

    #[test]
    fn no_input_panics(
        a in prop::collection::vec(any::<f64>(), 0..40),
        b in prop::collection::vec(any::<f64>(), 0..40),
        max_lag in 0usize..60,
    ) {
        if let Some(found) = correlate(&a, &b, max_lag) {
            prop_assert!(found.r.abs() <= 1.0 && (0.0..=1.0).contains(&found.p_value));
        }
    }
}
