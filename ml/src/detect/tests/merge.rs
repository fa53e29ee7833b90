//! Sums of states.
use super::*;

/// The most rows that the later state may have seen.
fn kept(method: Method) -> usize {
    match method {
        Method::Ewma | Method::Cusum | Method::Spot => 16,
        Method::Mad => 47,
        Method::SpectralResidual => 57,
        _ => 256,
    }
}

fn learn(detector: &mut Detector, rows: &[(i64, f64)]) {
    for &(ts, value) in rows {
        detector.update(ts, value);
    }
}

#[test]
fn what_has_seen_more_rows_than_it_keeps_merges_into_a_fresh_state_only() {
    let values = noise(3_000, 300);
    let ts = times(300, SECOND);
    for method in Method::ALL {
        let fresh = Detector::new(method, DetectorOptions::default()).unwrap();
        for (rows, fits) in [(kept(method), true), (kept(method) + 1, false)] {
            let mut later = fresh.clone();
            later.update_many(&ts[..rows], &values[..rows], &mut Vec::new());
            let mut earlier = fresh.clone();
            assert_eq!(earlier.merge(&later), Ok(()));
            assert_eq!(saved(&earlier), saved(&later));
            earlier = fresh.clone();
            earlier.update(0, 1.0);
            let before = earlier.clone();
            let merged = earlier.merge(&later);
            assert_eq!(merged.is_ok(), fits, "{method}: {rows} rows, {merged:?}");
            assert_eq!(earlier == before, !fits);
        }
    }
}

#[test]
fn states_of_unlike_options_have_no_sum() {
    let of =
        |method, season_ns| Detector::new(method, DetectorOptions { season_ns, ..DetectorOptions::default() }).unwrap();
    assert!(of(Method::Mad, None).merge(&of(Method::Ewma, None)).is_err());
    assert!(of(Method::Auto, None).merge(&of(Method::Auto, Some(HOUR))).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The first rows, and those that follow, as one pass over both; also when the later state was saved in between.
    #[test]
    fn a_sum_is_one_pass_over_both(
        before in rows(), after in rows(), method in method(), season_ns in season(),
    ) {
        let fresh = Detector::new(method, DetectorOptions { season_ns, ..DetectorOptions::default() }).unwrap();
        let after = &after[..after.len().min(kept(method))];
        let (mut earlier, mut later) = (fresh.clone(), fresh.clone());
        learn(&mut earlier, &before);
        learn(&mut later, after);
        let mut whole = earlier.clone();
        learn(&mut whole, after);
        earlier.merge(&Detector::load(&saved(&later)).unwrap()).unwrap();
        prop_assert_eq!(saved(&earlier), saved(&whole));
    }
}
