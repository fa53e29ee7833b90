mod cusum;
mod escalation;
mod half_space_trees;
mod holt_winters;
mod matrix_profile;
mod merge;
mod patches;
mod rcf;
mod spectral_residual;
mod spot;
mod subspace;
mod watch;

use super::cusum::Cusum;
use super::ewma::Ewma;
use super::mad::Mad;
use super::spectral_residual::SpectralResidual;
use super::spot::Spot;
use super::window::{self, Window};
use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::f64::consts::TAU;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;

fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..n).map(|_| rng.sample(rand_distr::StandardNormal)).collect()
}

fn times(n: usize, step: i64) -> Vec<i64> {
    (0..n as i64).map(|i| 1_700_000_000 * SECOND + i * step).collect()
}

fn run(method: Method, season_ns: Option<i64>, step: i64, values: &[f64]) -> Vec<Verdict> {
    let mut detector = Detector::new(method, DetectorOptions { season_ns, ..DetectorOptions::default() }).unwrap();
    let mut out = Vec::new();
    detector.update_many(&times(values.len(), step), values, &mut out);
    out
}

/// A swing whose values are all between -11 and 11, mostly.
fn swinging(seed: u64, n: usize) -> Vec<f64> {
    noise(seed, n).iter().enumerate().map(|(i, e)| 10.0 * (i as f64 * TAU / 12.0).sin() + 0.5 * e).collect()
}

fn scores(method: Method, values: &[f64]) -> Vec<Option<f64>> {
    run(method, None, 15 * SECOND, values).iter().map(|v| v.score).collect()
}

fn alarms(method: Method, values: &[f64]) -> usize {
    scores(method, values).iter().flatten().filter(|&&s| s > 1.0).count()
}

fn saved(detector: &Detector) -> Vec<u8> {
    let mut bytes = Vec::new();
    detector.save(&mut bytes);
    bytes
}

/// Values that begin to be beyond the boundary.
fn onsets(scores: &[Option<f64>]) -> usize {
    let on: Vec<bool> = scores.iter().map(|&score| score > Some(1.0)).collect();
    on.iter().enumerate().filter(|&(i, &now)| now && (i == 0 || !on[i - 1])).count()
}

/// False alarms in calm values: of methods with a window, in which one value is seen many times, the runs of them.
fn false_alarms(method: Method, values: &[f64]) -> usize {
    match method {
        Method::Rcf | Method::Subspace | Method::MatrixProfile | Method::Patches => onsets(&scores(method, values)),
        _ => alarms(method, values),
    }
}

/// A verdict down to the bits.
fn bits(v: &Verdict) -> [Option<u64>; 4] {
    [v.score, v.expected, v.lo, v.hi].map(|x| x.map(f64::to_bits))
}

// ---- names and options

#[test]
fn method_names_parse_in_any_case_and_unknown_ones_list_the_known() {
    for method in Method::ALL {
        assert_eq!(method.name().parse(), Ok(method));
        assert_eq!(method.name().to_uppercase().parse(), Ok(method));
    }
    let message = "spott".parse::<Method>().unwrap_err().to_string();
    for method in Method::ALL {
        assert!(message.contains(method.name()), "{message}");
    }
}

#[test]
fn a_season_must_be_above_zero() {
    for season in [0, -1, i64::MIN] {
        assert!(
            Detector::new(Method::Seasonal, DetectorOptions { season_ns: Some(season), ..DetectorOptions::default() })
                .is_err()
        );
    }
}

// ---- degenerate input

#[test]
fn nan_gets_no_score_and_changes_nothing() {
    for method in Method::ALL {
        let values = noise(1, 200);
        let mut with_gaps = Detector::new(method, DetectorOptions::default()).unwrap();
        let mut without = with_gaps.clone();
        for (&ts, &value) in times(200, SECOND).iter().zip(&values) {
            assert_eq!(with_gaps.update(ts, f64::NAN), Verdict::NONE);
            assert_eq!(bits(&with_gaps.update(ts, value)), bits(&without.update(ts, value)), "{method}");
        }
    }
}

#[test]
fn there_is_no_score_before_the_warm_up() {
    for method in Method::ALL {
        let warm_up = match method {
            Method::Mad | Method::Ewma | Method::Seasonal => 10,
            Method::Auto => 12,
            Method::Cusum => 32,
            Method::Spot => 10,
            Method::HoltWinters => 12,
            Method::SpectralResidual => 58,
            Method::HalfSpaceTrees => 90,
            Method::Rcf => 97,
            Method::Subspace => 154,
            Method::MatrixProfile => 153,
            Method::Patches => 282,
        };
        let scores = scores(method, &noise(2, 320));
        assert!(
            scores[..warm_up].iter().all(Option::is_none) && scores[warm_up..].iter().all(Option::is_some),
            "{method} {scores:?}"
        );
    }
}

#[test]
fn a_given_season_is_scored_from_its_third_cycle_on() {
    let verdicts = run(Method::Seasonal, Some(24 * HOUR), HOUR, &noise(3, 24 * 4));
    assert!(verdicts[..48].iter().all(|v| v.score.is_none()));
    assert!(verdicts[48..].iter().all(|v| v.score.is_some()));
}

#[test]
fn a_constant_past_scores_zero_on_it_and_infinity_off_it() {
    for method in Method::ALL {
        for level in [0.0, 5.0, -3.5, 0.1 + 0.2, 1e15] {
            let mut values = vec![level; 320];
            values.push(level + 1.0);
            let scores = scores(method, &values);
            assert!(scores.iter().take(320).flatten().all(|&s| s == 0.0), "{method} {level}");
            assert_eq!(scores[320], Some(f64::INFINITY), "{method} {level}");
        }
    }
    let mut values = vec![7.0; 80];
    values.push(6.0);
    let verdicts = run(Method::Seasonal, Some(24 * HOUR), HOUR, &values);
    assert_eq!((verdicts[79].score, verdicts[80].score), (Some(0.0), Some(f64::INFINITY)));
}

#[test]
fn an_infinite_value_scores_infinity_and_teaches_nothing() {
    for method in Method::ALL {
        let mut detector = Detector::new(method, DetectorOptions::default()).unwrap();
        assert_eq!(detector.update(0, f64::INFINITY).score, None);
        detector.update_many(&times(320, SECOND), &noise(4, 320), &mut Vec::new());
        let before = detector.clone();
        assert_eq!(detector.update(i64::MAX, f64::NEG_INFINITY).score, Some(f64::INFINITY));
        assert_eq!(detector, before);
    }
}

// ---- false alarms

#[test]
fn noise_of_many_kinds_raises_fewer_than_one_alarm_in_a_thousand() {
    const N: usize = 4_000;
    let mut rng = StdRng::seed_from_u64(5);
    let mut draw = |kind: &str| -> Vec<f64> {
        let mut level = 0.0;
        (0..N)
            .map(|i| {
                let e: f64 = rng.sample(rand_distr::StandardNormal);
                match kind {
                    "gaussian" => 1e3 + e,
                    "fat tails" => rng.sample(rand_distr::StudentT::new(4.0).unwrap()),
                    "skewed" => e.exp(),
                    "counts" => rng.sample(rand_distr::Poisson::new(3.0).unwrap()),
                    "autocorrelated" => {
                        level = 0.9 * level + e;
                        level
                    }
                    "random walk" => {
                        level += e;
                        level
                    }
                    "trend" => 0.1 * i as f64 + e,
                    _ => 5.0 * (i as f64 * TAU / 240.0).sin() + e,
                }
            })
            .collect()
    };
    for kind in ["gaussian", "fat tails", "skewed", "counts", "autocorrelated", "random walk", "trend", "seasonal"] {
        let series: Vec<Vec<f64>> = (0..10).map(|_| draw(kind)).collect();
        for method in Method::ALL {
            // tens of microseconds a value
            let is_slow = [Method::Rcf, Method::Subspace, Method::MatrixProfile, Method::Patches].contains(&method);
            let series = &series[..if is_slow { 4 } else { 10 }];
            let alarms = series.iter().map(|values| false_alarms(method, values)).sum::<usize>();
            let rate = alarms as f64 / (series.len() * N) as f64;
            // a trend is one change of level after the other
            let most = if (method, kind) == (Method::Cusum, "trend") { 1.5e-3 } else { 1e-3 };
            assert!(rate < most, "{method} on {kind}: {rate}");
        }
    }
}

#[test]
fn calm_rows_lie_beyond_the_boundary_no_more_often_than_it_says() {
    // scatter without a tail around one level
    let series: Vec<Vec<f64>> = (0..3)
        .map(|seed| {
            let mut rng = StdRng::seed_from_u64(20 + seed);
            (0..10_000).map(|_| rng.random_range(49.0..51.0)).collect()
        })
        .collect();
    for method in Method::ALL {
        let alarms: Vec<usize> = series.iter().map(|values| false_alarms(method, values)).collect();
        assert!(alarms.iter().sum::<usize>() <= 3, "{method}: {alarms:?} of 10,000 each");
    }
}

#[test]
fn methods_that_know_no_season_do_not_look_at_the_clock() {
    let values = noise(23, 500);
    let by_time = [Method::Auto, Method::Seasonal, Method::HoltWinters];
    for method in Method::ALL.into_iter().filter(|method| !by_time.contains(method)) {
        let ordered = run(method, None, SECOND, &values);
        let mut detector = Detector::new(method, DetectorOptions::default()).unwrap();
        for (row, (&value, verdict)) in values.iter().zip(&ordered).enumerate() {
            // duplicates, steps back and leaps
            let ts = [0, 0, i64::MAX, i64::MIN, row as i64][row % 5];
            assert_eq!(bits(&detector.update(ts, value)), bits(verdict), "{method}, row {row}");
        }
    }
}

#[test]
fn two_values_are_never_enough() {
    for method in Method::ALL {
        assert_eq!(scores(method, &[1.0, 1e9]), [None, None], "{method}");
    }
}

// ---- detection

/// Methods that know how far away a value is. Half-space trees know how rare it is where it is, and in noise all is rare;
/// the matrix profile and patches compare shapes.
fn tell_distances() -> impl Iterator<Item = Method> {
    Method::ALL
        .into_iter()
        .filter(|method| ![Method::HalfSpaceTrees, Method::MatrixProfile, Method::Patches].contains(method))
}

#[test]
fn a_spike_is_caught_and_does_not_blind() {
    for method in tell_distances() {
        let mut values = noise(6, 1_500);
        values[1_000] += 12.0;
        // `auto` is tired of what it has told for some tens of values
        values[1_200] -= 12.0;
        let scores: Vec<_> = run(method, None, 300 * SECOND, &values).iter().map(|v| v.score).collect();
        assert!(scores[1_000] > Some(1.0), "{method} {:?}", scores[1_000]);
        assert!(scores[1_200] > Some(1.0), "{method} {:?}", scores[1_200]);
    }
}

#[test]
fn a_level_shift_is_caught_and_then_learnt() {
    // at row 400 the components of `subspace` come from too few windows: it misses this one
    for method in tell_distances().filter(|&method| method != Method::Subspace) {
        let mut values = noise(7, 900);
        values[400..].iter_mut().for_each(|v| *v += 15.0);
        let scores = scores(method, &values);
        assert!(scores[400] > Some(1.0), "{method}");
        let late = scores[500..].iter().flatten().filter(|&&s| s > 1.0).count();
        assert!(late <= 2, "{method} {late}");
    }
}

#[test]
fn a_break_in_the_season_is_caught_by_the_seasonal_methods() {
    // a night without its valley: every value is one the series often has
    let mut values: Vec<f64> =
        noise(8, 24 * 21).iter().enumerate().map(|(i, e)| 100.0 + 30.0 * (i as f64 * TAU / 24.0).sin() + e).collect();
    let valley = 24 * 18 + 18;
    values[valley] = 130.0;
    for (method, season) in [
        (Method::Seasonal, None),
        (Method::Seasonal, Some(24 * HOUR)),
        (Method::Auto, None),
        (Method::Auto, Some(24 * HOUR)),
    ] {
        let verdicts = run(method, season, HOUR, &values);
        assert!(verdicts[valley].score > Some(1.0), "{method} {season:?} {:?}", verdicts[valley]);
        assert!((verdicts[valley].expected.unwrap() - 70.0).abs() < 5.0);
    }
    let blind = run(Method::Mad, None, HOUR, &values)[valley].score;
    assert!(blind < Some(1.0), "the case is too easy: {blind:?}");
}

#[test]
fn irregular_times_do_not_disturb_the_season() {
    let mut rng = StdRng::seed_from_u64(9);
    let mut detector =
        Detector::new(Method::Seasonal, DetectorOptions { season_ns: Some(24 * HOUR), ..DetectorOptions::default() })
            .unwrap();
    let mut late = Vec::new();
    for i in 0..24 * 30 {
        if rng.random_bool(0.2) {
            continue;
        }
        let ts = i * HOUR + rng.random_range(-HOUR / 4..HOUR / 4);
        let value =
            50.0 * (ts as f64 / HOUR as f64 * TAU / 24.0).sin() + rng.sample::<f64, _>(rand_distr::StandardNormal);
        let verdict = detector.update(ts, value);
        late.extend(verdict.score.filter(|_| i > 24 * 10));
    }
    let alarms = late.iter().filter(|&&s| s > 1.0).count();
    assert!(late.len() > 350 && alarms <= 2, "{alarms} of {}", late.len());
}

#[test]
fn the_edges_are_where_the_score_is_one() {
    for method in Method::ALL {
        let mut detector = Detector::new(method, DetectorOptions::default()).unwrap();
        detector.update_many(&times(300, SECOND), &noise(10, 300), &mut Vec::new());
        let ts = 1_800_000_000 * SECOND;
        let verdict = detector.clone().update(ts, 0.0);
        if verdict.expected.is_none() {
            assert_eq!((verdict.lo, verdict.hi), (None, None), "{method}");
            assert!(verdict.score.is_some() && verdict.tier >= 1, "{method}");
            continue;
        }
        for edge in [verdict.lo.unwrap(), verdict.hi.unwrap()] {
            let score = detector.clone().update(ts, edge).score.unwrap();
            assert!((score - 1.0).abs() < 1e-9, "{method} {score}");
        }
    }
}

// ---- context

#[test]
fn noise_raises_no_more_than_one_alarm_in_ten_days_whatever_the_step() {
    const DAYS: usize = 7;
    const SERIES: u64 = 8;
    for step in [15, 60, 300] {
        let per_day = 86_400 / step as usize;
        let alarms: usize = (0..SERIES)
            .map(|seed| {
                let values: Vec<f64> = noise(100 + seed, DAYS * per_day)
                    .iter()
                    .enumerate()
                    .map(|(i, e)| match seed % 2 {
                        0 => 100.0 + e,
                        _ => 100.0 + 10.0 * (i as f64 * TAU / per_day as f64).sin() + e,
                    })
                    .collect();
                onsets(&run(Method::Auto, None, step * SECOND, &values).iter().map(|v| v.score).collect::<Vec<_>>())
            })
            .sum();
        let rate = alarms as f64 / (SERIES as usize * DAYS) as f64;
        assert!(rate <= 0.1, "{rate} alarms a day at {step} s");
    }
}

#[test]
fn an_incident_is_told_once() {
    let mut values = noise(14, 1_000);
    values[600..612].iter_mut().for_each(|v| *v += 15.0);
    let flagged = |method| scores(method, &values)[600..640].iter().filter(|&&score| score > Some(1.0)).count();
    assert!(scores(Method::Auto, &values)[600] > Some(1.0));
    assert!(
        flagged(Method::Auto) <= 3 && flagged(Method::Mad) >= 10,
        "{} {}",
        flagged(Method::Auto),
        flagged(Method::Mad)
    );
}

#[test]
fn what_gets_worse_is_told_again() {
    let mut values = noise(15, 1_000);
    for (i, value) in values[600..606].iter_mut().enumerate() {
        *value += 15.0 * 4f64.powi(i as i32);
    }
    let scores = scores(Method::Auto, &values);
    assert!((600..606).all(|i| scores[i] > Some(1.0)), "{:?}", &scores[600..606]);
    assert!(scores[605] > scores[600]);
}

#[test]
fn rows_of_an_incident_rank_above_calm_ones_and_suspicion_is_no_alarm() {
    // three times the usual scatter, no value of which is out of the question
    let mut values = noise(16, 2_000);
    values[1_500..1_700].iter_mut().for_each(|v| *v = (3.0 * *v).clamp(-3.0, 3.0));
    let scores: Vec<f64> = scores(Method::Auto, &values).iter().map(|score| score.unwrap_or(0.0)).collect();
    let mut calm = scores[500..1_500].to_vec();
    calm.sort_by(f64::total_cmp);
    let above = scores[1_550..1_700].iter().filter(|&&score| score > calm[950]).count();
    assert!(above > 120, "{above} of 150 above 95 % of the calm rows");
    assert!(scores[1_500..].iter().all(|&score| score <= 1.0));
}

#[test]
fn an_ordinary_value_after_a_lull_is_no_alarm() {
    let mut rng = StdRng::seed_from_u64(17);
    let values: Vec<f64> =
        (0..20_000).map(|_| if rng.random_bool(0.01) { rng.random_range(1..9) as f64 } else { 0.0 }).collect();
    let late = |method| scores(method, &values)[2_000..].iter().filter(|&&score| score > Some(1.0)).count();
    assert!(late(Method::Auto) <= 2 && late(Method::Mad) >= 10, "{} {}", late(Method::Auto), late(Method::Mad));
}

// ---- counters

/// Requests a second about 100, added up; starts again from 0 at `reset`.
fn counter(n: usize, reset: usize) -> Vec<f64> {
    let mut total = 5e6;
    noise(11, n)
        .iter()
        .enumerate()
        .map(|(i, e)| {
            total = if i == reset { 40.0 } else { total + 1_500.0 + 30.0 * e };
            total
        })
        .collect()
}

#[test]
fn a_counter_reset_is_no_anomaly() {
    let values = counter(400, 250);
    let scores = scores(Method::Auto, &values);
    assert!(scores.iter().flatten().all(|&s| s <= 1.0), "{scores:?}");
    assert_eq!(scores[250], Some(0.0));
    assert!(alarms(Method::Mad, &values) > 0, "the case is too easy");
}

#[test]
fn a_jump_in_the_rate_of_a_counter_is_an_anomaly_in_its_own_unit() {
    let mut values = counter(400, usize::MAX);
    values[300..].iter_mut().for_each(|v| *v += 3_000.0);
    let verdict = run(Method::Auto, None, 15 * SECOND, &values)[300];
    assert!(verdict.score > Some(1.0));
    assert!((verdict.expected.unwrap() - (values[299] + 1_500.0)).abs() < 100.0, "{verdict:?}");
    assert!(verdict.lo < verdict.expected && verdict.hi < Some(values[300]));
}

#[test]
fn a_rising_gauge_that_falls_is_taken_for_a_gauge_from_then_on() {
    let values: Vec<f64> =
        (0..300).map(|i| 100.0 + if i < 50 { f64::from(i) } else { 50.0 - f64::from(i % 7) }).collect();
    let verdicts = run(Method::Auto, None, SECOND, &values);
    assert!(verdicts[150..].iter().all(|v| v.score <= Some(1.0)));
}

// ---- the window

/// Order statistics of the last values, by sorting them.
fn sorted_distances(last: &[f64]) -> (f64, Vec<f64>) {
    let mut sorted = last.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let median = if n % 2 == 1 { sorted[n / 2] } else { 0.5 * sorted[n / 2 - 1] + 0.5 * sorted[n / 2] };
    let mut distances: Vec<f64> = sorted.iter().map(|v| (v - median).abs()).collect();
    distances.sort_by(f64::total_cmp);
    (median, distances)
}

// ---- state

#[test]
fn state_is_as_small_as_documented_at_any_row() {
    assert!(size_of::<Mad>() < 512 && size_of::<Ewma>() < 128, "{} {}", size_of::<Mad>(), size_of::<Ewma>());
    assert!(size_of::<Cusum>() < 512 && size_of::<Spot>() < 512 && size_of::<SpectralResidual>() < 512);
    let values: Vec<f64> =
        noise(12, 6_000).iter().enumerate().map(|(i, e)| e + 5.0 * (i as f64 * TAU / 1_440.0).sin()).collect();
    for method in Method::ALL {
        // the first rows, too, while there are some
        let limit = match method {
            Method::Mad | Method::Ewma | Method::Cusum | Method::Spot => 512,
            Method::SpectralResidual => 532,
            Method::HalfSpaceTrees | Method::Rcf | Method::Subspace => 12_288,
            Method::MatrixProfile | Method::Patches => 12_288,
            Method::Auto | Method::Seasonal | Method::HoltWinters => 16_384,
        };
        let mut detector = Detector::new(method, DetectorOptions::default()).unwrap();
        let mut largest = 0;
        for (row, (&ts, &value)) in times(values.len(), 60 * SECOND).iter().zip(&values).enumerate() {
            detector.update(ts, value);
            if row < 300 || row % 97 == 0 {
                largest = largest.max(saved(&detector).len());
            }
        }
        assert!(largest < limit, "{method} {largest}");
    }
}

#[test]
fn the_tier_says_what_kind_of_method_decided() {
    for method in Method::ALL {
        let tier = match method {
            Method::SpectralResidual | Method::HalfSpaceTrees => 1,
            Method::Rcf | Method::Subspace | Method::MatrixProfile => 1,
            Method::Patches => 2,
            _ => 0,
        };
        for verdict in run(method, None, SECOND, &noise(25, 300)) {
            assert!(verdict.score.is_none() || verdict.tier == tier, "{method} {verdict:?}");
        }
    }
}

#[test]
fn state_of_a_long_series_survives_saving() {
    let values = noise(27, 2_600);
    let ts = times(values.len(), SECOND);
    for method in Method::ALL {
        let mut detector = Detector::new(method, DetectorOptions::default()).unwrap();
        let mut whole = Vec::new();
        detector.clone().update_many(&ts, &values, &mut whole);
        let mut from = 0;
        for to in [700, 1_103, 1_120, 2_112, 2_150, values.len()] {
            let mut piece = Vec::new();
            detector.update_many(&ts[from..to], &values[from..to], &mut piece);
            assert!(piece.iter().map(bits).eq(whole[from..to].iter().map(bits)), "{method} {from}..{to}");
            detector = Detector::load(&saved(&detector)).unwrap();
            from = to;
        }
    }
}

#[test]
fn any_changed_byte_is_told() {
    let mut detector = Detector::new(Method::Cusum, DetectorOptions::default()).unwrap();
    detector.update_many(&times(100, SECOND), &noise(26, 100), &mut Vec::new());
    let bytes = saved(&detector);
    assert_eq!(Detector::load(&bytes), Ok(detector));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Detector::load(&damaged).is_err(), "byte {at}");
        assert!(Detector::load(&bytes[..at]).is_err(), "{at} bytes");
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = Vec::new();
    Detector::new(Method::Ewma, DetectorOptions::default()).unwrap().save(&mut bytes);
    bytes[0] = 200;
    assert!(Detector::load(&bytes).unwrap_err().to_string().contains("version 200"));
}

/// Series with spikes, repeats, gaps, resets, extremes and clocks that step back.
fn rows() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        8 => -100.0..100.0f64,
        4 => (0..4i32).prop_map(f64::from),
        1 => any::<f64>(),
        1 => Just(f64::NAN),
    ];
    let step = prop_oneof![12 => 1..20 * SECOND, 1 => Just(0), 1 => -SECOND..HOUR, 1 => any::<i64>()];
    let gauge = prop::collection::vec((step, value), 0..300).prop_map(|rows| {
        let mut ts = 0i64;
        rows.into_iter()
            .map(|(step, value)| {
                ts = ts.wrapping_add(step);
                (ts, value)
            })
            .collect::<Vec<_>>()
    });
    let counter = prop::collection::vec(prop_oneof![20 => 0.0..50.0f64, 1 => Just(-1.0)], 0..300).prop_map(|steps| {
        let mut total = 0.0;
        steps
            .into_iter()
            .enumerate()
            .map(|(i, step)| {
                total = if step < 0.0 { 0.0 } else { total + step };
                (i as i64 * SECOND, total)
            })
            .collect::<Vec<_>>()
    });
    let seasonal = (prop::collection::vec(-1.0..1.0f64, 200..300), 5usize..20).prop_map(|(noise, period)| {
        noise
            .iter()
            .enumerate()
            .map(|(i, e)| (i as i64 * SECOND, e + if i % period == 0 { 10.0 } else { 0.0 }))
            .collect::<Vec<_>>()
    });
    prop_oneof![3 => gauge, 1 => counter, 1 => seasonal]
}

/// Makes the checksum fit, so that what it stands for is read.
fn seal(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len().saturating_sub(4));
    let sum = checksum(bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(Method::ALL.to_vec())
}

fn season() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![3 => Just(None), 1 => (1..100 * SECOND).prop_map(Some), 1 => Just(Some(i64::MAX))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn scores_are_never_negative_nor_nan(rows in rows(), method in method(), season_ns in season()) {
        let mut detector = Detector::new(method, DetectorOptions { season_ns, ..DetectorOptions::default() }).unwrap();
        for (ts, value) in rows {
            let verdict = detector.update(ts, value);
            prop_assert!(verdict.score.is_none_or(|s| s >= 0.0), "{verdict:?}");
            prop_assert!(!value.is_nan() || verdict == Verdict::NONE);
        }
    }

    /// Saving and loading at any row changes no bit, and a prefix is scored as if nothing followed.
    #[test]
    fn state_survives_saving_at_any_row_and_prefixes_are_causal(
        rows in rows(), method in method(), season_ns in season(), cut in 0.0..1.0f64,
    ) {
        let fresh = Detector::new(method, DetectorOptions { season_ns, ..DetectorOptions::default() }).unwrap();
        let (ts, values): (Vec<i64>, Vec<f64>) = rows.into_iter().unzip();
        let cut = (cut * ts.len() as f64) as usize;
        let (mut whole, mut first) = (Vec::new(), Vec::new());
        fresh.clone().update_many(&ts, &values, &mut whole);
        let mut detector = fresh.clone();
        detector.update_many(&ts[..cut], &values[..cut], &mut first);
        let mut bytes = Vec::new();
        detector.save(&mut bytes);
        let mut loaded = Detector::load(&bytes).unwrap();
        let mut again = Vec::new();
        loaded.save(&mut again);
        prop_assert_eq!(&bytes, &again);
        loaded.update_many(&ts[cut..], &values[cut..], &mut first);
        prop_assert_eq!(whole.iter().map(bits).collect::<Vec<_>>(), first.iter().map(bits).collect::<Vec<_>>());
        let mut fresh = fresh;
        let one_by_one: Vec<_> = ts.iter().zip(&values).map(|(&t, &v)| bits(&fresh.update(t, v))).collect();
        prop_assert_eq!(whole.iter().map(bits).collect::<Vec<_>>(), one_by_one);
    }

    /// Few distinct values, so that many are equal, or many.
    #[test]
    fn the_window_knows_the_order_statistics_of_its_last_values(
        values in prop_oneof![
            prop::collection::vec((0..4i32).prop_map(f64::from), 1..200),
            prop::collection::vec(-1e3..1e3f64, 1..200),
        ],
    ) {
        let mut window = Window::default();
        for (i, &value) in values.iter().enumerate() {
            window.push(value);
            let (median, distances) = sorted_distances(&values[(i + 1).saturating_sub(window::CAPACITY)..=i]);
            prop_assert_eq!((window.len(), window.median()), (distances.len(), median));
            for (k, &distance) in distances.iter().enumerate() {
                prop_assert_eq!(window.distance(median, k), distance, "rank {} after {} values", k, i + 1);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_work(mut bytes in prop::collection::vec(any::<u8>(), 0..600), version in any::<bool>()) {
        if version && !bytes.is_empty() {
            bytes[0] = VERSION;
            seal(&mut bytes);
        }
        if let Ok(mut detector) = Detector::load(&bytes) {
            detector.update_many(&times(50, SECOND), &noise(13, 50), &mut Vec::new());
        }
    }

    #[test]
    fn damaged_state_is_refused_or_works(
        rows in rows(), method in method(), season_ns in season(),
        at in any::<prop::sample::Index>(), byte in any::<u8>(), keep in 0.0..1.2f64,
    ) {
        let mut detector = Detector::new(method, DetectorOptions { season_ns, ..DetectorOptions::default() }).unwrap();
        for &(ts, value) in &rows {
            detector.update(ts, value);
        }
        let mut bytes = Vec::new();
        detector.save(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate((keep * bytes.len() as f64) as usize);
        seal(&mut bytes);
        if let Ok(mut loaded) = Detector::load(&bytes) {
            for &(ts, value) in &rows {
                let verdict = loaded.update(ts, value);
                prop_assert!(verdict.score.is_none_or(|s| s >= 0.0));
            }
        }
    }
}
