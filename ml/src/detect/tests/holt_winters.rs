//! `holt_winters`: what it is for, and what it takes for calm.
use super::*;

/// Hours of a series that swings by the day and grows by 24 a day.
fn growing(seed: u64, n: usize) -> Vec<f64> {
    let swing = |i: usize| 200.0 + i as f64 + 40.0 * (i as f64 * TAU / 24.0).sin();
    noise(seed, n).iter().enumerate().map(|(i, e)| swing(i) + e).collect()
}

#[test]
fn a_value_that_is_usual_at_another_hour_is_found_in_a_series_that_grows() {
    let (mut found, mut seen_by_mad) = (0, 0);
    for seed in 0..10 {
        let mut values = growing(900 + seed, 24 * 21);
        // by day what is usual by night
        let fault = 24 * 18 + 18;
        values[fault] = values[fault - 12];
        for season in [None, Some(24 * HOUR)] {
            found += usize::from(run(Method::HoltWinters, season, HOUR, &values)[fault].score > Some(1.0));
        }
        seen_by_mad += usize::from(run(Method::Mad, None, HOUR, &values)[fault].score > Some(1.0));
    }
    assert!(found == 20 && seen_by_mad == 0, "holt_winters {found} of 20, mad {seen_by_mad} of 10");
}

#[test]
fn a_growth_four_times_as_steep_is_found_within_a_day() {
    for seed in 0..10 {
        let mut values = growing(1_000 + seed, 24 * 21);
        let turn = 24 * 18;
        for (i, value) in values[turn..].iter_mut().enumerate() {
            *value += 3.0 * i as f64;
        }
        let scores = run(Method::HoltWinters, Some(24 * HOUR), HOUR, &values);
        let found = scores[turn..turn + 24].iter().any(|v| v.score > Some(1.0));
        assert!(found, "seed {seed}: {:?}", &scores[turn + 12..turn + 24]);
        assert!(scores[24 * 10..turn].iter().all(|v| v.score <= Some(1.0)), "seed {seed}");
    }
}

#[test]
fn growth_and_season_are_foreseen_from_the_third_season_on() {
    let values = growing(1_100, 24 * 12);
    let verdicts = run(Method::HoltWinters, Some(24 * HOUR), HOUR, &values);
    assert!(verdicts[..48].iter().all(|v| v.score.is_none()) && verdicts[48..].iter().all(|v| v.score.is_some()));
    for (row, (verdict, value)) in verdicts.iter().zip(&values).enumerate().skip(48) {
        assert!((verdict.expected.unwrap() - value).abs() < 6.0, "row {row}: {verdict:?} {value}");
    }
}

#[test]
fn a_gap_is_grown_over() {
    let values = growing(1_200, 24 * 16);
    let mut detector = Detector::new(
        Method::HoltWinters,
        DetectorOptions { season_ns: Some(24 * HOUR), ..DetectorOptions::default() },
    )
    .unwrap();
    let mut after = Verdict::NONE;
    for (row, (&ts, &value)) in times(values.len(), HOUR).iter().zip(&values).enumerate() {
        if !(24 * 13..24 * 15).contains(&row) {
            let verdict = detector.update(ts, value);
            if row == 24 * 15 {
                after = verdict;
            }
        }
    }
    assert!((after.expected.unwrap() - values[24 * 15]).abs() < 6.0, "{after:?} {}", values[24 * 15]);
    assert!(after.score < Some(1.0));
}

#[test]
fn calm_rows_raise_no_more_than_one_alarm_in_five_thousand() {
    for season in [None, Some(24 * HOUR)] {
        let alarms: Vec<usize> = (0..10)
            .map(|seed| {
                let verdicts = run(Method::HoltWinters, season, HOUR, &growing(1_300 + seed, 10_000));
                verdicts.iter().filter(|v| v.score > Some(1.0)).count()
            })
            .collect();
        assert!(alarms.iter().sum::<usize>() <= 20, "{season:?} {alarms:?}");
    }
}

#[test]
fn a_clock_that_stands_adds_no_growth() {
    let values = growing(1_210, 24 * 10);
    let mut detector = Detector::new(
        Method::HoltWinters,
        DetectorOptions { season_ns: Some(24 * HOUR), ..DetectorOptions::default() },
    )
    .unwrap();
    let ts = times(values.len(), HOUR);
    detector.update_many(&ts, &values, &mut Vec::new());
    let (last, value) = (ts[ts.len() - 1], values[values.len() - 1]);
    for _ in 0..20 {
        let expected = detector.update(last, value).expected.unwrap();
        assert!((expected - value).abs() < 6.0, "{expected} {value}");
    }
}
