//! The watch over every series: one bit a sample.
use super::*;
use crate::detect::ewma::SLOW;

/// Rows a second apart; the scores of those that are anomalous.
fn watched(watch: &mut Watch, values: &[f64]) -> Vec<Option<f64>> {
    let look = |(i, &value): (usize, &f64)| match watch.look(i as i64 * SECOND, value) {
        Sight::Anomalous(score) => Some(score),
        Sight::Usual => None,
        Sight::Late => panic!("row {i} is late"),
    };
    values.iter().enumerate().map(look).collect()
}

/// Noise with a spike, a shift, a constant stretch and a value near the end of the number line.
fn eventful(seed: u64) -> Vec<f64> {
    let mut values: Vec<f64> = noise(seed, 3_000).iter().map(|e| 20.0 + e).collect();
    values[700] += 9.0;
    values[1_200..1_500].iter_mut().for_each(|v| *v += 30.0);
    values[1_800..1_900].fill(20.0);
    values[2_200] = 1e300;
    values
}

#[test]
fn a_gauge_is_judged_as_ewma_judges_it() {
    for seed in 0..20 {
        let values = eventful(500 + seed);
        let mut ewma = Ewma::new(SLOW);
        let expected = values.iter().enumerate().map(|(i, &value)| {
            let judgement = ewma.observe(value).filter(|judgement| judgement.z > judgement.outlook.limit)?;
            // The first rows say what kind of series it is.
            (i >= 12).then(|| judgement.z / judgement.outlook.limit)
        });
        let expected: Vec<Option<f64>> = expected.collect();
        assert!(expected.iter().flatten().count() >= 10, "the case is too easy");
        assert_eq!(watched(&mut Watch::default(), &values), expected, "seed {seed}");
    }
}

#[test]
fn calm_rows_are_anomalous_once_in_two_thousand_at_most_and_a_spike_is() {
    let mut false_alarms = 0;
    for seed in 0..20 {
        let mut values = noise(600 + seed, 10_000);
        values.push(12.0);
        let seen = watched(&mut Watch::default(), &values);
        assert!(seen[10_000] > Some(1.0), "seed {seed}");
        false_alarms += seen[..10_000].iter().flatten().count();
    }
    assert!(false_alarms <= 100, "{false_alarms} of 200,000");
}

/// A counter that grows by about a hundred a row, from a reset at row 400 on from zero.
fn counter(seed: u64) -> Vec<f64> {
    let mut sum = 1e9;
    let grow = |(i, e): (usize, &f64)| {
        if i == 400 {
            sum = 0.0;
        }
        sum += (100.0 + 5.0 * e).max(0.0);
        sum
    };
    noise(seed, 1_000).iter().enumerate().map(grow).collect()
}

#[test]
fn a_counter_is_judged_by_its_rate_and_a_reset_is_none() {
    for watch in [Watch::default(), Watch::of_counter()] {
        let mut values = counter(700);
        assert_eq!(watched(&mut watch.clone(), &values).iter().flatten().count(), 0);
        values[800..].iter_mut().for_each(|v| *v += 1_000.0);
        let seen = watched(&mut watch.clone(), &values);
        let anomalous: Vec<usize> = (0..values.len()).filter(|&i| seen[i].is_some()).collect();
        assert_eq!(anomalous, [800], "the step of a row is one row's");
    }
}

#[test]
fn a_counter_that_misses_rows_keeps_its_rate() {
    let values = counter(701);
    let mut watch = Watch::default();
    for (i, &value) in values.iter().enumerate().filter(|(i, _)| i % 7 != 3 && i % 50 > 4) {
        assert_eq!(watch.look(i as i64 * SECOND, value), Sight::Usual, "row {i}");
    }
}

#[test]
fn what_falls_without_a_reset_is_a_gauge() {
    let mut watch = Watch::of_counter();
    let values: Vec<f64> = noise(702, 500).iter().map(|e| 1_000.0 + e).collect();
    assert_eq!(watched(&mut watch, &values).iter().flatten().count(), 0);
    assert!(matches!(watch.look(600 * SECOND, 1_020.0), Sight::Anomalous(_)));
}

#[test]
fn late_rows_and_those_that_are_no_numbers_change_nothing() {
    let mut watch = Watch::default();
    watched(&mut watch, &noise(703, 100));
    let before = watch.clone();
    assert_eq!(watch.look(99 * SECOND, 1e9), Sight::Late);
    assert_eq!(watch.look(0, 1e9), Sight::Late);
    assert_eq!(watch.look(100 * SECOND, f64::NAN), Sight::Usual);
    assert_eq!(watch.look(100 * SECOND, f64::NEG_INFINITY), Sight::Anomalous(f64::INFINITY));
    assert_eq!(watch, before);
    assert_eq!(Watch::default().look(0, f64::INFINITY), Sight::Usual, "nothing is known yet");
}

#[test]
fn a_saved_watch_goes_on_with_the_same_bits_and_is_one_cache_line() {
    assert!(size_of::<Watch>() <= 64);
    for (start, values) in [(Watch::default(), eventful(704)), (Watch::of_counter(), counter(705))] {
        for at in [0, 1, 5, 12, 13, 400, 800] {
            let mut watch = start.clone();
            watched(&mut watch, &values[..at]);
            let mut bytes = Vec::new();
            watch.save(&mut bytes);
            assert_eq!(bytes.len(), Watch::SAVED_BYTES);
            let mut loaded = Watch::load(&bytes).unwrap();
            assert_eq!(loaded, watch);
            assert!((0..bytes.len()).all(|length| Watch::load(&bytes[..length]).is_err()));
            for (i, &value) in values.iter().enumerate().skip(at) {
                assert_eq!(loaded.look(i as i64 * SECOND, value), watch.look(i as i64 * SECOND, value), "row {i}");
            }
            assert_eq!(loaded, watch);
        }
    }
}

proptest! {
    #[test]
    fn any_rows_are_looked_at_without_harm_and_their_state_can_be_loaded(
        rows in proptest::collection::vec((any::<i64>(), any::<f64>()), 0..200), counter: bool,
    ) {
        let mut watch = if counter { Watch::of_counter() } else { Watch::default() };
        for (ts, value) in rows {
            if let Sight::Anomalous(score) = watch.look(ts, value) {
                prop_assert!(score > 1.0);
            }
            let mut bytes = Vec::new();
            watch.save(&mut bytes);
            prop_assert_eq!(Watch::load(&bytes).unwrap(), watch.clone());
        }
    }
}
