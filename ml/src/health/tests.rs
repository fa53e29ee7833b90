use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::detect::{Detector, DetectorOptions, Method, Verdict};

fn noise(rng: &mut SmallRng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// What a detector that expects `centre` ± `half` says.
fn said(value: f64, centre: f64, half: f64) -> Verdict {
    Verdict {
        score: Some((value - centre).abs() / half),
        expected: Some(centre),
        lo: Some(centre - half),
        hi: Some(centre + half),
        tier: 0,
    }
}

fn health_of(values: impl Iterator<Item = f64>, centre: f64, half: f64) -> Health {
    let (mut health, mut trace) = (Health::default(), Trace::default());
    values.for_each(|value| health.observe(&mut trace, value, &said(value, centre, half)));
    health
}

/// An AR(1) series of variance 1.
fn correlated(seed: u64, phi: f64, rows: usize) -> Vec<f64> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut last = noise(&mut rng);
    let step = (1.0 - phi * phi).sqrt();
    (0..rows)
        .map(|_| {
            last = phi * last + step * noise(&mut rng);
            last
        })
        .collect()
}

#[test]
fn drift_of_unchanged_rows_is_rarely_significant_even_when_neighbours_are_alike() {
    for phi in [0.0, 0.7] {
        let found = (0..300)
            .filter(|&seed| {
                let rows = correlated(seed, phi, 6_400);
                let training = health_of(rows[..5_120].iter().copied(), 0.0, 4.0);
                let later = health_of(rows[5_120..].iter().copied(), 0.0, 4.0);
                later.drift(&training).unwrap().p_value < 0.05
            })
            .count();
        assert!(found <= 30, "{found} of 300 at 5 %, autocorrelation {phi}");
    }
}

#[test]
fn drift_sees_a_shift_and_edges_that_are_too_wide() {
    let rows = correlated(1, 0.5, 4_000);
    let training = health_of(rows[..3_000].iter().copied(), 0.0, 4.0);
    let shifted = health_of(rows[3_000..].iter().map(|v| v + 1.0), 0.0, 4.0);
    assert!(shifted.drift(&training).unwrap().p_value < 1e-6);
    let calmer = health_of(rows[3_000..].iter().map(|v| v / 5.0), 0.0, 4.0);
    assert!(calmer.drift(&training).unwrap().p_value < 1e-6);
    assert_eq!(Health::default().drift(&training), None);
}

#[test]
fn calibration_counts_episodes_not_the_rows_of_one() {
    let training = health_of(correlated(2, 0.0, 10_000).into_iter(), 0.0, 4.0);
    let mut one_incident = correlated(3, 0.0, 1_000);
    one_incident[500..530].fill(9.0);
    let one = health_of(one_incident.iter().copied(), 0.0, 4.0);
    assert_eq!((one.episodes(), one.alarms()), (1, 30));
    assert!(one.calibration(&training).unwrap() > 0.01);
    let mut many = correlated(3, 0.0, 1_000);
    many.iter_mut().step_by(50).for_each(|value| *value = 9.0);
    let many = health_of(many.into_iter(), 0.0, 4.0);
    assert_eq!(many.episodes(), 20);
    assert!(many.calibration(&training).unwrap() < 1e-6);
}

#[test]
fn log_loss_punishes_edges_that_are_too_wide_and_too_narrow() {
    let rows = correlated(4, 0.0, 2_000);
    let loss = |half: f64| health_of(rows.iter().copied(), 0.0, half).loss().unwrap();
    let right = loss(7.0);
    assert!(right < loss(70.0) && right < loss(1.0), "{right} {} {}", loss(70.0), loss(1.0));
    assert_eq!(log_loss(1.0, &said(1.0, 1.0, 0.0)), None);
    assert_eq!(log_loss(1.0, &Verdict::NONE), None);
}

#[test]
fn a_duel_finds_the_better_one_and_equals_are_equal() {
    let mut rng = SmallRng::seed_from_u64(5);
    let (mut worse, mut equal) = (Duel::default(), Duel::default());
    for _ in 0..2_000 {
        let (a, b) = (noise(&mut rng), noise(&mut rng));
        worse.observe(a + 0.5, b);
        equal.observe(a, b);
    }
    assert!(worse.p_second_not_better().unwrap() < 1e-6);
    assert!((0.01..0.99).contains(&equal.p_second_not_better().unwrap()));
    let mut same = Duel::default();
    (0..2_000).for_each(|_| same.observe(1.0, 1.0));
    assert_eq!(same.p_second_not_better(), Some(0.5));
    assert_eq!(Duel::default().p_second_not_better(), None);
}

#[test]
fn equal_versions_are_seldom_called_better() {
    let mut found = 0;
    for seed in 0..400 {
        let (a, b) = (correlated(seed, 0.5, 1_280), correlated(seed + 1_000, 0.5, 1_280));
        let mut duel = Duel::default();
        a.iter().zip(&b).for_each(|(a, b)| duel.observe(*a, *b));
        found += usize::from(duel.p_second_not_better().unwrap() < 0.05);
    }
    assert!(found <= 40, "{found} of 400 at 5 %");
}

/// Rows of a detector that goes on from `trained`.
fn follow(trained: &Detector, rows: &[f64], at: i64) -> (Health, Vec<Option<f64>>) {
    let (mut detector, mut health, mut trace) = (trained.clone(), Health::default(), Trace::default());
    let losses = rows
        .iter()
        .enumerate()
        .map(|(i, &value)| {
            let verdict = detector.update((at + i as i64) * 60_000_000_000, value);
            health.observe(&mut trace, value, &verdict);
            log_loss(value, &verdict)
        })
        .collect();
    (health, losses)
}

fn train(rows: &[f64], at: i64) -> (Detector, Health) {
    let mut detector = Detector::new(Method::Mad, DetectorOptions::default()).unwrap();
    let (mut health, mut trace) = (Health::default(), Trace::default());
    for (i, &value) in rows.iter().enumerate() {
        let verdict = detector.update((at + i as i64) * 60_000_000_000, value);
        health.observe(&mut trace, value, &verdict);
    }
    (detector, health)
}

/// Advice about the champion `second`, trained on `bad`, when 20 series go on with `rows`.
fn advice(bad: impl Fn(f64) -> f64, later: impl Fn(f64) -> f64) -> Advice {
    let (mut training, mut since, mut duel) = (Health::default(), Health::default(), Duel::default());
    let mut pairs = Vec::new();
    for series in 0..20 {
        let rows: Vec<f64> = correlated(series, 0.3, 1_200).iter().map(|v| 50.0 + v).collect();
        let (first, _) = train(&rows[..500], 0);
        let corrupted: Vec<f64> = rows[500..1_000].iter().map(|&v| bad(v)).collect();
        let mut second = first.clone();
        let mut trace = Trace::default();
        for (i, &value) in corrupted.iter().enumerate() {
            let verdict = second.update((500 + i as i64) * 60_000_000_000, value);
            training.observe(&mut trace, value, &verdict);
        }
        let now: Vec<f64> = rows[1_000..].iter().map(|&v| later(v)).collect();
        let (health, losses) = follow(&second, &now, 1_000);
        let (_, before) = follow(&first, &now, 1_000);
        pairs.extend(losses.into_iter().zip(before));
        // one record for all series, as a model keeps it
        let (mut detector, mut trace) = (second.clone(), Trace::default());
        for (i, &value) in now.iter().enumerate() {
            let verdict = detector.update((1_000 + i as i64) * 60_000_000_000, value);
            since.observe(&mut trace, value, &verdict);
        }
        assert!(health.scored() > 0);
    }
    for (mine, before) in pairs {
        if let (Some(mine), Some(before)) = (mine, before) {
            duel.observe(mine, before);
        }
    }
    champion(Side { since: &since, training: &training }, &duel)
}

#[test]
fn a_champion_trained_on_corrupted_rows_is_rolled_back_and_a_good_one_in_an_incident_is_not() {
    assert_eq!(advice(|v| v * 100.0, |v| v), Advice::RollBack, "a wrong unit while it was trained");
    assert_eq!(advice(|v| v, |v| v), Advice::Keep, "nothing is wrong");
    assert_eq!(advice(|v| v, |v| v + 30.0), Advice::Keep, "an incident that neither version knew");
}

#[test]
fn a_record_survives_being_saved() {
    let health = health_of(correlated(6, 0.2, 1_000).into_iter(), 0.0, 2.0);
    let mut bytes = Vec::new();
    health.save(&mut bytes);
    assert_eq!(Health::load(&bytes).unwrap(), health);
    for length in 0..bytes.len() {
        assert!(Health::load(&bytes[..length]).is_err());
    }
}
