use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Counts rows of text, of which `""` is none.
fn counted(dims: usize, rows: &[(Vec<String>, bool)]) -> Contrast {
    let mut contrast = Contrast::new(dims).unwrap();
    for chunk in rows.chunks(1_000) {
        for (values, selected) in chunk {
            let codes: Vec<u32> = values
                .iter()
                .enumerate()
                .map(|(dim, value)| contrast.code(dim, (!value.is_empty()).then_some(value.as_str())))
                .collect();
            contrast.count(&codes, *selected);
        }
        contrast.settle();
    }
    contrast
}

fn text(value: &(usize, Option<String>)) -> String {
    format!("{}={}", value.0, value.1.as_deref().unwrap_or("NULL"))
}

fn told(difference: &Difference) -> String {
    let and = difference.and.as_ref().map(|second| format!(" {}", text(second))).unwrap_or_default();
    format!("{}{and}", text(&difference.value))
}

/// Rows of version, region and host, of which `fault` picks the selected ones.
fn requests(n: usize, fault: impl Fn(&[String], &mut StdRng) -> bool) -> Vec<(Vec<String>, bool)> {
    let mut rng = StdRng::seed_from_u64(7);
    (0..n)
        .map(|_| {
            let values = vec![
                format!("v{}", rng.random_range(1..=3)),
                ["eu", "us", "ap", ""][rng.random_range(0..4)].to_owned(),
                format!("h{}", rng.random_range(0..40)),
            ];
            let selected = fault(&values, &mut rng);
            (values, selected)
        })
        .collect()
}

#[test]
fn the_value_behind_a_fault_comes_first() {
    let rows = requests(20_000, |v, rng| v[0] == "v2" && rng.random_bool(0.3));
    let found = counted(3, &rows).differences();
    assert_eq!(told(&found[0]), "0=v2");
    assert!(found[0].p_value < 1e-10 && found[0].lift > 3.0 && found[0].shares[0] == 1.0, "{:?}", found[0]);
    assert!(
        found.iter().all(|d| d.and.is_none()),
        "no pair says more: {:?}",
        found.iter().map(told).collect::<Vec<_>>()
    );
    let others = found.iter().filter(|d| d.value.0 != 0);
    assert!(others.clone().count() == 44 && others.clone().all(|d| d.p_value > 0.01 && d.score < 0.02));
}

#[test]
fn a_fault_of_a_pair_is_told_as_a_pair() {
    let rows = requests(20_000, |v, rng| rng.random_bool(if v[0] == "v2" && v[1] == "eu" { 0.5 } else { 0.002 }));
    let found = counted(3, &rows).differences();
    assert_eq!(told(&found[0]), "0=v2 1=eu");
    assert!(found[0].p_value < 1e-10 && found[0].score > found[1].score * 1.5, "{:?}", &found[..2]);
}

#[test]
fn rows_without_a_value_are_a_value() {
    let rows = requests(5_000, |v, _| v[1].is_empty());
    let found = counted(3, &rows).differences();
    assert_eq!(told(&found[0]), "1=NULL");
    assert_eq!((found[0].rows[1], found[0].lift), (0, f64::INFINITY));
}

#[test]
fn sets_that_do_not_differ_have_no_small_p_value() {
    let false_finds: usize = (0..40)
        .map(|seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let rows = requests(2_000, |_, _| false);
            let rows: Vec<_> = rows.into_iter().map(|(v, _)| (v, rng.random_bool(0.3))).collect();
            usize::from(counted(3, &rows).differences().iter().any(|d| d.p_value < 0.05))
        })
        .sum();
    assert!(false_finds <= 5, "{false_finds} of 40");
}

#[test]
fn many_values_take_bounded_memory_and_frequent_ones_keep_their_counts() {
    let mut rng = StdRng::seed_from_u64(3);
    let rows: Vec<(Vec<String>, bool)> = (0..120_000)
        .map(|i| {
            let selected = i % 4 == 0;
            let host = if selected && rng.random_bool(0.4) { "bad" } else { "good" };
            (vec![format!("trace{i}"), host.to_owned(), format!("{}", i % 3)], selected)
        })
        .collect();
    let mut contrast = counted(3, &rows);
    assert!(contrast.size() < 60 << 20, "{}", contrast.size());
    let exact = rows.iter().filter(|row| row.0[1] == "bad").count() as u64;
    let found = contrast.differences();
    assert_eq!((told(&found[0]), found[0].rows), ("1=bad".to_owned(), [exact, 0]));
    assert!(found.len() <= DIFFERENCES_MAX);
}

#[test]
fn parts_add_up_to_the_whole_in_any_order() {
    let rows = requests(9_000, |v, rng| v[0] == "v3" && rng.random_bool(0.5));
    let whole = counted(3, &rows).differences();
    let saved: Vec<Vec<u8>> = rows
        .chunks(2_500)
        .map(|part| {
            let mut bytes = Vec::new();
            counted(3, part).save(&mut bytes);
            bytes
        })
        .collect();
    let key = |d: &Difference| (told(d), d.rows, d.score.to_bits(), d.p_value.to_bits());
    for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
        let mut merged = Contrast::new(3).unwrap();
        for part in order {
            merged.merge(&saved[part]).unwrap();
        }
        let got: Vec<_> = merged.differences().iter().map(key).collect();
        let expect: Vec<_> = whole.iter().map(key).collect();
        assert_eq!(got, expect);
    }
}

#[test]
fn an_empty_side_has_nothing_to_tell() {
    assert_eq!(Contrast::new(2).unwrap().differences(), []);
    let rows = requests(100, |_, _| true);
    assert_eq!(counted(3, &rows).differences(), []);
    assert!(Contrast::new(0).is_err() && Contrast::new(DIMS_MAX + 1).is_err());
}

#[test]
fn long_values_are_cut_between_characters() {
    let long = "ä".repeat(VALUE_BYTES_MAX);
    let rows = vec![(vec![long.clone()], true), (vec![format!("{long}x")], true), (vec!["b".to_owned()], false)];
    let found = counted(1, &rows).differences();
    let first = found.iter().find(|d| d.rows == [2, 0]).unwrap();
    assert_eq!(first.value.1.as_deref(), Some(&long[..VALUE_BYTES_MAX]));
}

proptest! {
    #[test]
    fn shares_scores_and_p_values_stay_in_their_bounds(
        rows in prop::collection::vec(((0u8..4, 0u8..3), any::<bool>()), 0..200)
    ) {
        let rows: Vec<_> = rows.into_iter().map(|((a, b), s)| (vec![format!("{a}"), format!("{b}")], s)).collect();
        let selected = rows.iter().filter(|row| row.1).count() as u64;
        for d in counted(2, &rows).differences() {
            prop_assert!(d.shares.iter().chain([&d.score, &d.p_value]).all(|v| (0.0..=1.0).contains(v)), "{d:?}");
            prop_assert!(d.lift >= 0.0 && d.rows[0] <= selected && d.rows[1] <= rows.len() as u64 - selected);
        }
    }

    #[test]
    fn no_saved_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut contrast = Contrast::new(2).unwrap();
        let _ = contrast.merge(&bytes);
        contrast.differences();
    }
}
