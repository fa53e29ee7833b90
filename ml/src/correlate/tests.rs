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

/// A candidate that follows `values` by `lag` rows, with noise.
fn follower(values: &[f64], lag: usize, noise: f64, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..values.len())
        .map(|i| values[i.saturating_sub(lag)] + noise * rng.sample::<f64, _>(rand_distr::StandardNormal))
        .collect()
}

#[test]
fn one_target_gives_each_candidate_what_the_pair_has() {
    let a = noise(1, 300);
    let mut target = Target::new(&a, 20).unwrap();
    for seed in 0..10 {
        let mut b = follower(&a, seed as usize, 2.0, seed);
        if seed % 2 == 1 {
            (0..300).step_by(7).for_each(|i| b[i] = f64::NAN);
        }
        assert_eq!(target.correlate(&b), correlate(&a, &b, 20));
    }
    assert_eq!(target.correlate(&[1.0; 300]), None);
    assert_eq!(target.correlate(&[]), None);
}

#[test]
fn rows_without_gaps_have_the_same_answer_as_rows_with_one() {
    let a = noise(5, 200);
    let b = follower(&a, 4, 0.5, 6);
    let whole = correlate(&a, &b, 12).unwrap();
    let mut gap = b.clone();
    gap[199] = f64::NAN;
    let gap = correlate(&a, &gap, 12).unwrap();
    assert!(whole.lag == 4 && gap.lag == 4 && (whole.r - gap.r).abs() < 0.01, "{whole:?} {gap:?}");
}

#[test]
fn the_cause_stands_first_among_thousands() {
    let a = noise(2, 240);
    let mut target = Target::new(&a, 24).unwrap();
    let mut ranking = Ranking::default();
    for seed in 0..2_000 {
        let candidate = match seed {
            700 => follower(&a, 3, 0.7, seed),
            900 => vec![5.0; 240],
            _ => noise(1_000 + seed, 240),
        };
        ranking.add(target.correlate(&candidate));
    }
    let strongest = ranking.strongest(10);
    assert_eq!((ranking.len(), strongest.len(), strongest[0].0, strongest[0].1.lag), (2_000, 10, 700, 3));
    assert!(strongest[0].1.p_value < 1e-10 && strongest[1].1.p_value > 0.05, "{:?}", &strongest[..2]);
    assert_eq!(ranking.strongest(5_000).len(), 1_999, "a constant has no correlation");
}

#[test]
fn series_that_wander_alike_by_chance_stand_behind_what_is_believed() {
    let walk = |seed: u64| -> Vec<f64> {
        noise(seed, 240)
            .iter()
            .scan(0.0, |x, e| {
                *x += e;
                Some(*x)
            })
            .collect()
    };
    let a: Vec<f64> = walk(3).iter().zip(noise(4, 240)).map(|(w, e)| w + 3.0 * e).collect();
    let mut target = Target::new(&a, 10).unwrap();
    let mut ranking = Ranking::default();
    for seed in 0..200 {
        ranking.add(target.correlate(&if seed == 50 { follower(&a, 2, 1.0, 9) } else { walk(100 + seed) }));
    }
    let strongest = ranking.strongest(200);
    assert_eq!(strongest[0].0, 50);
    let believed = strongest.iter().filter(|(_, found)| found.p_value <= 0.05).count();
    assert!(believed <= 20, "{believed} of 200 walks");
}

#[test]
fn rows_become_means_of_cells_and_counters_rates() {
    let same = |got: Cells, expect: &[f64]| {
        let got: Vec<f64> = got.means().collect();
        assert!(
            got.len() == expect.len() && got.iter().zip(expect).all(|(g, e)| g.to_bits() == e.to_bits()),
            "{got:?}"
        );
    };
    let second = 1_000_000_000;
    let ts: Vec<i64> = [-1, 0, 5, 10, 35, 40].map(|s| s * second).to_vec();
    let mut gauge = Cells::new(0, 10 * second, 4, false);
    gauge.add(&ts, &[9.0, 1.0, 3.0, f64::NAN, 4.0, 9.0]);
    same(gauge, &[2.0, f64::NAN, f64::NAN, 4.0]);
    let mut counter = Cells::new(0, 10 * second, 4, true);
    counter.add(&ts[..4], &[10.0, 12.0, 17.0, 5.0]);
    counter.add(&ts[4..], &[30.0, 40.0]);
    same(counter, &[1.5, 1.0, f64::NAN, 1.0]);
    let mut extreme = Cells::new(i64::MIN, 1, 2, true);
    extreme.add(&[i64::MIN, i64::MAX], &[f64::MAX, f64::MIN]);
    same(extreme, &[f64::NAN, f64::NAN]);
}
