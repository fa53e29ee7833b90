use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const MINUTE: i64 = 60_000_000_000;

type Rows = (Vec<i64>, Vec<f64>);

fn borrowed(series: &[Rows]) -> Vec<(&[i64], &[f64])> {
    series.iter().map(|(ts, values)| (ts.as_slice(), values.as_slice())).collect()
}

fn clustered(series: &[Rows], clusters: Option<usize>) -> Vec<usize> {
    let places = cluster_series(&borrowed(series), clusters).unwrap();
    places.into_iter().map(|place| place.map_or(0, |place| place.cluster)).collect()
}

/// 200 minutes of a shape, at some scale and level, with noise.
fn series(shape: fn(f64) -> f64, seed: u64) -> Rows {
    let mut rng = StdRng::seed_from_u64(seed);
    let (scale, level, shift) = (rng.random_range(0.5..50.0), rng.random_range(-9.0..9.0), rng.random_range(0.0..9.0));
    let noise = rand_distr::Normal::new(0.0, 0.2).unwrap();
    let value = |i: i64, rng: &mut StdRng| level + scale * (shape(i as f64 + shift) + rng.sample(noise));
    ((0..200).map(|i| i * MINUTE).collect(), (0..200).map(|i| value(i, &mut rng)).collect())
}

fn wave(x: f64) -> f64 {
    (x / 8.0).sin()
}

fn saw(x: f64) -> f64 {
    (x / 25.0).fract() * 2.0
}

fn step(x: f64) -> f64 {
    if x > 120.0 { 3.0 } else { 0.0 }
}

/// Nine waves, six saws and five steps, mixed.
fn three_shapes() -> (Vec<Rows>, Vec<usize>) {
    let kinds: Vec<usize> = (0..20).map(|i| [1, 2, 1, 3, 1, 2, 3][i % 7]).collect();
    let shapes: [fn(f64) -> f64; 3] = [wave, saw, step];
    (kinds.iter().enumerate().map(|(i, &kind)| series(shapes[kind - 1], i as u64)).collect(), kinds)
}

#[test]
fn series_of_one_shape_are_one_cluster_at_any_scale_and_shift() {
    let (series, kinds) = three_shapes();
    assert_eq!(clustered(&series, Some(3)), kinds);
    assert_eq!(clustered(&series, None), kinds, "three are found");
}

#[test]
fn each_cluster_has_one_centre_at_distance_zero() {
    let (series, _) = three_shapes();
    for k in 1..=6 {
        let places: Vec<Place> = cluster_series(&borrowed(&series), Some(k)).unwrap().into_iter().flatten().collect();
        let mut centres: Vec<usize> = places.iter().filter(|p| p.is_medoid).map(|p| p.cluster).collect();
        centres.sort_unstable();
        assert_eq!(centres, (1..=k).collect::<Vec<_>>());
        assert!(places.iter().all(|p| (0.0..=2.0).contains(&p.distance) && (!p.is_medoid || p.distance == 0.0)));
    }
}

#[test]
fn noise_is_one_cluster() {
    let noise: Vec<Rows> = (0..30).map(|seed| series(|_| 0.0, seed)).collect();
    assert_eq!(clustered(&noise, None), vec![1; 30]);
}

#[test]
fn order_of_rows_and_gaps_do_not_matter() {
    let (mut series, kinds) = three_shapes();
    for (i, (ts, values)) in series.iter_mut().enumerate() {
        let mut rows: Vec<(i64, f64)> = ts.iter().copied().zip(values.iter().copied()).collect();
        rows.retain(|row| (row.0 / MINUTE) as usize % 7 != i % 7);
        rows.reverse();
        rows.push((55 * MINUTE, f64::NAN));
        (*ts, *values) = rows.into_iter().unzip();
    }
    assert_eq!(clustered(&series, Some(3)), kinds);
}

#[test]
fn constants_are_alike_and_short_series_have_no_place() {
    let ts: Vec<i64> = (0..50).map(|i| i * MINUTE).collect();
    let mut series: Vec<Rows> = vec![(ts.clone(), vec![5.0; 50]), (ts.clone(), vec![0.0; 50])];
    series.extend((0..3).map(|i| (ts.clone(), (0..50).map(|t| f64::from((t * (i + 1)) % 7)).collect())));
    series.push((ts[..2].to_vec(), vec![1.0, 2.0]));
    series.push((Vec::new(), Vec::new()));
    let places = clustered(&series, Some(2));
    assert_eq!(places[0], places[1]);
    assert_eq!(places[5..], [0, 0]);
    assert_eq!(clustered(&series[5..], None), [0, 0]);
    assert_eq!(clustered(&[], None), Vec::<usize>::new());
    assert_eq!(clustered(&series[..1], None), [1]);
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let (series, _) = three_shapes();
    for k in [0, 21, CLUSTERS_MAX + 1] {
        assert!(cluster_series(&borrowed(&series), Some(k)).unwrap_err().to_string().contains("ask for 1 to 20"));
    }
    let many: Vec<(&[i64], &[f64])> = vec![(&[], &[]); SERIES_MAX + 1];
    assert!(cluster_series(&many, None).unwrap_err().to_string().contains("at most 2000"));
}

proptest! {
    #[test]
    fn no_input_panics(
        series in prop::collection::vec(prop::collection::vec((any::<i64>(), any::<f64>()), 0..12), 0..8),
        k in prop::option::of(0usize..5),
    ) {
        let series: Vec<Rows> = series.into_iter().map(|rows| rows.into_iter().unzip()).collect();
        if let Ok(places) = cluster_series(&borrowed(&series), k) {
            prop_assert_eq!(places.len(), series.len());
            prop_assert!(places.iter().flatten().all(|p| (0.0..=2.0).contains(&p.distance) && p.cluster >= 1));
        }
    }
}
