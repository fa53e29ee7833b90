use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::f64::consts::TAU;

const HOUR: i64 = 3_600_000_000_000;

fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.sample(rand_distr::StandardNormal)).collect()
}

fn times(n: usize) -> Vec<i64> {
    (0..n as i64).map(|i| i * HOUR).collect()
}

fn ahead(values: &[f64], steps: usize, options: &ForecastOptions) -> Vec<ForecastPoint> {
    forecast(&times(values.len()), values, Horizon::Steps(steps), options).unwrap().unwrap()
}

fn with(method: &str) -> ForecastOptions {
    ForecastOptions { method: Some(method.into()), ..Default::default() }
}

const METHODS: [&str; 13] = [
    "auto",
    "combination",
    "naive",
    "seasonal_naive",
    "drift",
    "theta",
    "ets",
    "mstl",
    "regression",
    "ridge",
    "autoregression",
    "log_autoregression",
    "analogues",
];

#[test]
fn unknown_methods_list_the_known_ones() {
    let message = forecast(&[], &[], Horizon::Steps(1), &with("prophet")).unwrap_err().to_string();
    assert!(METHODS.iter().all(|method| message.contains(method)), "{message}");
    assert!(forecast(&times(9), &noise(1, 9), Horizon::Steps(1), &with("ETS")).is_ok());
}

#[test]
fn impossible_options_are_refused() {
    let (ts, values) = (times(50), noise(1, 50));
    for level in [0.0, 1.0, -1.0, f64::NAN, 95.0] {
        assert!(
            forecast(&ts, &values, Horizon::Steps(1), &ForecastOptions { level: Some(level), ..Default::default() })
                .is_err()
        );
    }
    for horizon in
        [Horizon::Steps(0), Horizon::Steps(11_001), Horizon::Nanos(0), Horizon::Nanos(-5), Horizon::Nanos(i64::MAX)]
    {
        assert!(forecast(&ts, &values, horizon, &ForecastOptions::default()).is_err(), "{horizon:?}");
    }
    assert!(
        forecast(&ts, &values, Horizon::Steps(1), &ForecastOptions { season_ns: Some(0), ..Default::default() })
            .is_err()
    );
}

#[test]
fn fewer_than_three_points_have_no_forecast() {
    for method in METHODS {
        for values in [&[][..], &[1.0], &[1.0, 2.0], &[1.0, f64::NAN, f64::INFINITY, 3.0]] {
            assert_eq!(forecast(&times(values.len()), values, Horizon::Steps(5), &with(method)), Ok(None));
        }
        assert_eq!(forecast(&[7, 7, 7], &[1.0, 2.0, 3.0], Horizon::Steps(5), &with(method)), Ok(None));
    }
}

#[test]
fn a_constant_is_continued_without_an_interval() {
    for method in METHODS {
        for point in ahead(&[4.2; 40], 10, &with(method)) {
            assert_eq!((point.value, point.lo, point.hi), (4.2, 4.2, 4.2), "{method}");
        }
    }
}

#[test]
fn times_go_on_by_the_median_step() {
    let points = ahead(&noise(2, 30), 3, &ForecastOptions::default());
    assert_eq!(points.iter().map(|p| p.ts).collect::<Vec<_>>(), [30 * HOUR, 31 * HOUR, 32 * HOUR]);
    let six =
        forecast(&times(30), &noise(2, 30), Horizon::Nanos(6 * HOUR), &ForecastOptions::default()).unwrap().unwrap();
    assert_eq!(six.len(), 6);
}

#[test]
fn every_method_is_answered_for_every_length() {
    for n in 3..40 {
        for method in METHODS {
            let points = ahead(&noise(n as u64, n), 5, &with(method));
            assert!(
                points.len() == 5
                    && points
                        .iter()
                        .all(|p| p.lo <= p.value && p.value <= p.hi && p.lo.is_finite() && p.hi.is_finite())
            );
        }
    }
}

#[test]
fn a_line_is_continued() {
    let values: Vec<f64> = (0..100).map(|i| 10.0 + 3.0 * f64::from(i)).collect();
    for (i, point) in ahead(&values, 10, &ForecastOptions::default()).iter().enumerate() {
        let truth = 10.0 + 3.0 * (100 + i) as f64;
        assert!((point.value - truth).abs() < 0.5, "{point:?} {truth}");
    }
}

#[test]
fn auto_beats_the_last_value_on_a_season_with_trend() {
    let truth = |i: usize| 100.0 + 0.1 * i as f64 + 20.0 * (i as f64 * TAU / 24.0).sin();
    let values: Vec<f64> = noise(3, 24 * 20).iter().enumerate().map(|(i, e)| truth(i) + e).collect();
    for season_ns in [None, Some(24 * HOUR)] {
        let points = ahead(&values, 48, &ForecastOptions { season_ns, ..Default::default() });
        let error =
            points.iter().enumerate().map(|(i, p)| (p.value - truth(values.len() + i)).abs()).sum::<f64>() / 48.0;
        assert!(error < 1.5, "{error}");
    }
}

#[test]
fn intervals_of_95_percent_cover_95_percent_and_wider_levels_are_wider() {
    let (mut inside, mut all) = (0, 0);
    for seed in 0..40 {
        let values: Vec<f64> =
            noise(seed, 424).iter().enumerate().map(|(i, e)| e + 3.0 * (i as f64 * TAU / 24.0).sin()).collect();
        let points = ahead(&values[..400], 24, &ForecastOptions::default());
        inside += points.iter().zip(&values[400..]).filter(|(p, v)| (p.lo..=p.hi).contains(v)).count();
        all += 24;
        let half = ahead(&values[..400], 24, &ForecastOptions { level: Some(0.5), ..Default::default() });
        assert!(half.iter().zip(&points).all(|(h, p)| h.hi - h.lo < p.hi - p.lo));
    }
    let coverage = inside as f64 / all as f64;
    assert!((0.93..0.99).contains(&coverage), "{coverage}");
}

#[test]
fn intervals_keep_their_level_on_wandering_and_growing_series() {
    let walk = |seed: u64| -> Vec<f64> {
        let step = |x: &mut f64, e: f64| {
            *x += e;
            Some(*x)
        };
        noise(seed, 420).into_iter().scan(100.0, step).collect()
    };
    let growth = |seed: u64| -> Vec<f64> {
        let level = |i: usize| 50.0 * (i as f64 / 300.0).exp() * (1.0 + 0.3 * (i as f64 * TAU / 24.0).sin());
        noise(seed, 420).iter().enumerate().map(|(i, e)| level(i) * (1.0 + 0.05 * e)).collect()
    };
    for kind in ["walk", "growth"] {
        for level in [0.5, 0.8, 0.95] {
            let (mut inside, mut all) = (0, 0);
            for seed in 0..30 {
                let values = if kind == "walk" { walk(seed) } else { growth(seed) };
                let points = ahead(&values[..400], 20, &ForecastOptions { level: Some(level), ..Default::default() });
                inside += points.iter().zip(&values[400..]).filter(|(p, v)| (p.lo..=p.hi).contains(v)).count();
                all += points.len();
            }
            let coverage = inside as f64 / all as f64;
            assert!((coverage - level).abs() < 0.12, "{kind} {level}: {coverage}");
        }
    }
}

#[test]
fn a_week_inside_days_is_found_and_carried_on() {
    // four weeks and a day: too few for a week to be picked from all lengths, enough for one of the calendar
    let truth = |i: usize| {
        let weekend = if (i / 24) % 7 >= 5 { 0.4 } else { 1.0 };
        weekend * (10.0 + 5.0 * (i as f64 * TAU / 24.0).sin())
    };
    let n = 29 * 24;
    let values: Vec<f64> = noise(11, n).iter().enumerate().map(|(i, e)| truth(i) + 0.2 * e).collect();
    for method in ["ridge", "autoregression", "ets", "mstl", "auto"] {
        let points = ahead(&values, 7 * 24, &with(method));
        let error = points.iter().enumerate().map(|(i, p)| (p.value - truth(n + i)).abs()).sum::<f64>() / (7.0 * 24.0);
        assert!(error < 1.0, "{method}: {error}");
    }
}

/// Hours with a day, and holidays, the 50th day among them, on which nearly nothing happens.
fn with_holidays(seed: u64, n: usize) -> (Vec<f64>, Vec<f64>) {
    let flags: Vec<f64> =
        (0..n).map(|i| if [5, 11, 13, 20, 28, 31, 40, 44, 49].contains(&(i / 24)) { 1.0 } else { 0.0 }).collect();
    let day = |i: usize| 100.0 + 30.0 * (i as f64 * TAU / 24.0).sin();
    let rows = noise(seed, n).into_iter().zip(&flags).enumerate();
    (rows.map(|(i, (e, flag))| day(i) * (1.0 - 0.8 * flag) + e).collect(), flags)
}

#[test]
fn a_holiday_that_is_announced_is_forecast() {
    let (n, steps) = (49 * 24, 24);
    let (truth, flags) = with_holidays(5, n + steps);
    let mut values = truth.clone();
    values[n..].fill(f64::NAN);
    let error = |regressors: &[Vec<f64>]| {
        let points =
            forecast_with(&times(n + steps), &values, regressors, Horizon::Steps(steps), &ForecastOptions::default());
        let points = points.unwrap().unwrap();
        points.iter().zip(&truth[n..]).map(|(p, v)| (p.value - v).abs()).sum::<f64>() / steps as f64
    };
    let (without, with) = (error(&[]), error(std::slice::from_ref(&flags)));
    assert!(without > 30.0 && with < 10.0, "{without} {with}");
}

#[test]
fn a_regressor_of_noise_changes_little() {
    let n = 400;
    let values: Vec<f64> =
        noise(7, n).iter().enumerate().map(|(i, e)| e + 10.0 * (i as f64 * TAU / 24.0).sin()).collect();
    let options = ForecastOptions::default();
    let mut rows = values.clone();
    rows.resize(n + 24, f64::NAN);
    let with = forecast_with(&times(n + 24), &rows, &[noise(8, n + 24)], Horizon::Steps(24), &options);
    for (a, b) in with.unwrap().unwrap().iter().zip(ahead(&values, 24, &options)) {
        assert!(a.ts == b.ts && (a.value - b.value).abs() < 1.0, "{a:?} {b:?}");
    }
}

#[test]
fn regressors_that_do_not_fit_are_told() {
    let (ts, values) = (times(60), noise(1, 60));
    let told = |regressors: &[Vec<f64>]| {
        forecast_with(&ts, &values, regressors, Horizon::Steps(5), &ForecastOptions::default()).unwrap_err().to_string()
    };
    assert!(told(&[vec![0.0; 60]]).contains("known at 0 of the 5 steps"), "{}", told(&[vec![0.0; 60]]));
    assert!(told(&[vec![0.0; 59]]).contains("59 values for 60 rows"));
    assert!(told(&vec![vec![0.0; 60]; 17]).contains("at most 16"));
}

#[test]
fn the_same_rows_have_the_same_bits() {
    let (values, flags) = with_holidays(6, 600);
    let mut rows = values[..560].to_vec();
    rows.resize(600, f64::NAN);
    let run = || {
        forecast_with(&times(600), &rows, std::slice::from_ref(&flags), Horizon::Steps(40), &ForecastOptions::default())
            .unwrap()
            .unwrap()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_model_that_diverges_is_dropped() {
    let wild = |model: Model, values: &[f64], spans: &[Span]| {
        candidates(&[model], &Trial { values, seasons: &Seasons::default(), spans, effects: &[] }).is_empty()
    };
    let values: Vec<f64> = (0..60).map(|i| 2.0f64.powi(i) / 2.0f64.powi(60)).collect();
    let spans = spans(60, 1, 8, 8);
    assert!(wild(Model::Autoregression, &values, &spans));
    assert!(!wild(Model::Naive, &values, &spans));
    assert!(!wild(Model::Autoregression, &noise(3, 60), &spans));
}

#[test]
fn logarithms_are_taken_of_what_grows_by_a_share_and_not_of_a_line_to_zero() {
    let scale =
        |values: &[f64]| scale_of(values, &Regressors::default(), &Seasons::default(), &spans(values.len(), 1, 12, 12));
    let growth: Vec<f64> = noise(4, 200).iter().enumerate().map(|(i, e)| (0.02 * i as f64 + 0.05 * e).exp()).collect();
    assert_eq!(scale(&growth), Scale::Logs);
    let line: Vec<f64> = (0..200).map(|i| 201.0 - f64::from(i)).collect();
    assert_eq!(scale(&line), Scale::Plain);
    let mut zero = growth;
    zero[60] = 0.0;
    assert_eq!(scale(&zero), Scale::Plain);
}

#[test]
fn missing_rows_are_bridged() {
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    for i in (0..24 * 20).filter(|i| i % 7 != 3 && !(200..210).contains(i)) {
        ts.push(i * HOUR);
        values.push(10.0 * (i as f64 * TAU / 24.0).sin());
    }
    let points = forecast(&ts, &values, Horizon::Steps(24), &ForecastOptions::default()).unwrap().unwrap();
    for point in points {
        let truth = 10.0 * (point.ts as f64 / HOUR as f64 * TAU / 24.0).sin();
        assert!((point.value - truth).abs() < 1.5, "{point:?} {truth}");
    }
}

#[test]
fn an_explosion_is_held_by_the_envelope() {
    let values: Vec<f64> = (0..60).map(|i| 1.4f64.powi(i)).collect();
    let top = values[59];
    for method in METHODS {
        assert!(ahead(&values, 200, &with(method)).iter().all(|p| p.value.abs() <= 5.0 * top), "{method}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_input_panics(
        rows in prop::collection::vec((any::<i64>(), prop_oneof![4 => -10.0..10.0f64, 1 => any::<f64>()]), 0..60),
        method in prop::sample::select(METHODS.to_vec()),
        season_ns in prop_oneof![Just(None), (1i64..i64::MAX).prop_map(Some), (1..20 * HOUR).prop_map(Some)],
        regular in any::<bool>(),
        steps in 1usize..40,
        regressor in prop_oneof![2 => Just(None), 1 => prop::collection::vec(any::<f64>(), 120).prop_map(Some)],
    ) {
        let (ts, mut values): (Vec<i64>, Vec<f64>) = rows.into_iter().unzip();
        let ts = if regular { times(values.len()) } else { ts };
        let options = ForecastOptions { method: Some(method.into()), season_ns, level: None };
        let ts = if regressor.is_some() { times(ts.len() + 60) } else { ts };
        values.resize(ts.len(), f64::NAN);
        let regressors: Vec<Vec<f64>> = regressor.into_iter().map(|all| all[..ts.len()].to_vec()).collect();
        if let Ok(Some(points)) = forecast_with(&ts, &values, &regressors, Horizon::Steps(steps), &options) {
            prop_assert_eq!(points.len(), steps);
            prop_assert!(points.iter().all(|p| p.value.is_finite() && p.lo <= p.value && p.value <= p.hi), "{:?}", points);
        }
    }
}
