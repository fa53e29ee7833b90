use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn detector(method: Method, columns: usize) -> Detector {
    Detector::new(method, columns, DetectorOptions::default()).unwrap()
}

fn run(method: Method, rows: &[Vec<f64>]) -> Vec<Verdict> {
    let mut out = Vec::new();
    detector(method, rows[0].len()).update_many(&rows.concat(), &mut out);
    out
}

fn alarms(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|v| v.score.is_some_and(|s| s > 1.0)).count()
}

/// A verdict down to the bits.
fn bits(v: &Verdict) -> (Option<u64>, Vec<u64>) {
    (v.score.map(f64::to_bits), v.shares.iter().map(|s| s.to_bits()).collect())
}

/// Load and temperature drive all columns, each in a unit of its own, with a little noise of its own.
fn plant(seed: u64, n: usize, columns: usize) -> Vec<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut normal = move || -> f64 { rng.sample(rand_distr::StandardNormal) };
    let (mut load, mut heat) = (0.0, 0.0);
    (0..n)
        .map(|_| {
            load = 0.9 * load + 0.44 * normal();
            heat = 0.95 * heat + 0.31 * normal();
            (0..columns)
                .map(|c| {
                    let lead = if c % 2 == 0 { load } else { heat };
                    let unit = 10f64.powi(c as i32 % 7 - 3);
                    unit * (50.0 + lead + 0.3 * load + 0.2 * normal())
                })
                .collect()
        })
        .collect()
}

fn spread(rows: &[Vec<f64>], column: usize) -> f64 {
    let mean = rows.iter().map(|r| r[column]).sum::<f64>() / rows.len() as f64;
    (rows.iter().map(|r| (r[column] - mean).powi(2)).sum::<f64>() / rows.len() as f64).sqrt()
}

fn worst(shares: &[f64]) -> usize {
    (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap()
}

// ---- names and options

#[test]
fn method_names_parse_in_any_case_and_unknown_ones_list_the_known() {
    for method in Method::ALL {
        assert_eq!(method.name().to_uppercase().parse(), Ok(method));
    }
    let message = "mad".parse::<Method>().unwrap_err().to_string();
    for method in Method::ALL {
        assert!(message.contains(method.name()), "{message}");
    }
}

#[test]
fn no_columns_and_too_many_are_refused() {
    for columns in [0, COLUMNS_MAX + 1] {
        let message = Detector::new(Method::Auto, columns, DetectorOptions::default()).unwrap_err().to_string();
        assert!(message.contains("1 to 256 columns"), "{message}");
    }
}

// ---- what is found

#[test]
fn a_fault_in_one_of_many_columns_is_found_and_blamed_on_it() {
    for method in Method::ALL {
        for column in 0..8 {
            let mut rows = plant(1, 1500, 8);
            let off = 10.0 * spread(&rows, column);
            rows[1400][column] += off;
            let verdict = &run(method, &rows)[1400];
            assert!(verdict.score > Some(1.0), "{method} {column}: {:?}", verdict.score);
            assert_eq!(worst(&verdict.shares), column, "{method}: {:?}", verdict.shares);
            assert!(verdict.shares[column] > 0.5, "{method}: {:?}", verdict.shares);
        }
    }
}

#[test]
fn columns_that_part_are_found_though_each_is_within_its_range() {
    // 0, 2 and 4 move with the load; 2 goes the other way
    let mut rows = plant(2, 2500, 6);
    let mut broken = 0;
    let half = spread(&rows, 2);
    let middle = rows.iter().map(|r| r[2]).sum::<f64>() / rows.len() as f64;
    let original = rows.clone();
    for at in (1300..2500).step_by(40) {
        if (original[at][2] - middle).abs() < 1.2 * half {
            continue;
        }
        rows[at][2] = 2.0 * middle - original[at][2];
        let (least, most) =
            original[..1300].iter().map(|r| r[2]).fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        if rows[at][2] < least || rows[at][2] > most {
            rows[at][2] = original[at][2];
            continue;
        }
        broken += 1;
    }
    for method in [Method::Auto, Method::Pca] {
        let verdicts = run(method, &rows);
        let (mut found, mut blamed) = (0, 0);
        for at in (0..rows.len()).filter(|&at| rows[at] != original[at]) {
            found += usize::from(verdicts[at].score > Some(1.0));
            blamed += usize::from(worst(&verdicts[at].shares) == 2);
        }
        assert!(broken >= 4, "{broken}");
        assert!(found * 10 >= broken * 9, "{method}: {found} of {broken}");
        assert!(blamed * 10 >= broken * 9, "{method}: {blamed} of {broken}");
        assert!(alarms(&verdicts) <= found + 3, "{method}: {}", alarms(&verdicts));
    }
}

#[test]
fn flags_in_a_new_combination_are_found() {
    // two flags that are never up together, and a third that was never up
    let mut rng = StdRng::seed_from_u64(3);
    let mut rows: Vec<Vec<f64>> = (0..1200)
        .map(|_| match rng.random_range(0..3) {
            0 => vec![1.0, 0.0, 0.0],
            1 => vec![0.0, 1.0, 0.0],
            _ => vec![0.0, 0.0, 0.0],
        })
        .collect();
    rows[1000] = vec![1.0, 1.0, 0.0];
    rows[1150] = vec![0.0, 1.0, 1.0];
    let verdicts = run(Method::Nearest, &rows);
    assert_eq!(verdicts[1000].score, Some(f64::INFINITY));
    assert!(verdicts[1150].score > Some(1.0), "{:?}", verdicts[1150]);
    assert_eq!(worst(&verdicts[1150].shares), 2);
    assert_eq!(alarms(&verdicts), 2);
}

#[test]
fn noise_raises_fewer_than_one_alarm_in_a_thousand() {
    for method in Method::ALL {
        let mut count = 0;
        for seed in 0..4 {
            count += alarms(&run(method, &plant(10 + seed, 4000, 6)));
        }
        assert!(count <= 16, "{method}: {count} in 16,000 rows");
    }
}

#[test]
fn rows_of_an_incident_rank_above_calm_ones_and_suspicion_is_no_alarm() {
    let mut rows = plant(4, 2000, 6);
    let off = 1.2 * spread(&rows, 4);
    rows[1500..1600].iter_mut().for_each(|row| row[4] += off);
    let verdicts = run(Method::Auto, &rows);
    let mean = |range: std::ops::Range<usize>| {
        verdicts[range].iter().filter_map(|v| v.score).map(|s| s.min(1.0)).sum::<f64>() / 100.0
    };
    assert!(mean(1500..1600) > 1.5 * mean(1300..1400), "{} {}", mean(1500..1600), mean(1300..1400));
    let calm = rows[..1500].to_vec();
    let suspicion = run(Method::Auto, &calm).iter().filter_map(|v| v.score).filter(|s| *s <= 1.0).fold(0.0, f64::max);
    assert!(suspicion < 1.0);
}

#[test]
fn units_do_not_matter() {
    let rows = plant(5, 1000, 5);
    let other: Vec<Vec<f64>> = rows.iter().map(|r| r.iter().map(|v| v * 1024.0).collect()).collect();
    for method in Method::ALL {
        let (a, b) = (run(method, &rows), run(method, &other));
        assert!(a.iter().zip(&b).all(|(a, b)| bits(a).0.is_some() == bits(b).0.is_some()));
        for (a, b) in a.iter().zip(&b).filter_map(|(a, b)| a.score.zip(b.score)) {
            assert!((a - b).abs() <= 1e-6 * a.max(1.0), "{method}: {a} {b}");
        }
    }
}

// ---- degenerate input

#[test]
fn there_is_no_score_before_the_warm_up() {
    for method in Method::ALL {
        let verdicts = run(method, &plant(6, 300, 3));
        let first = verdicts.iter().position(|v| v.score.is_some());
        assert_eq!(first, Some(WARM_UP as usize), "{method}");
        assert!(verdicts.iter().all(|v| v.shares.len() == if v.score.is_some() { 3 } else { 0 }));
    }
}

#[test]
fn a_constant_past_scores_zero_on_it_and_infinity_off_it() {
    for method in Method::ALL {
        let mut detector = detector(method, 3);
        for _ in 0..300 {
            let score = detector.update(&[5.0, 0.0, -1e300]).score;
            assert!(score.is_none_or(|s| s == 0.0), "{method} {score:?}");
        }
        let off = detector.update(&[5.0, 1e-9, -1e300]);
        assert_eq!((off.score, off.shares), (Some(f64::INFINITY), vec![0.0, 1.0, 0.0]), "{method}");
    }
}

#[test]
fn a_constant_column_that_moves_is_found_beside_noise() {
    for unit in [1e-9, 1.0, 1e9] {
        let mut rows = plant(7, 1000, 3);
        rows.iter_mut().for_each(|row| row.push(unit));
        rows[900][3] += 0.5 * unit;
        let verdict = &run(Method::Pca, &rows)[900];
        assert!(verdict.score > Some(1.0), "{unit} {verdict:?}");
        assert_eq!(worst(&verdict.shares), 3);
    }
}

#[test]
fn a_row_without_values_gets_no_score_and_changes_nothing() {
    for method in Method::ALL {
        let mut with_gaps = detector(method, 3);
        let mut without = with_gaps.clone();
        for row in plant(8, 400, 3) {
            assert_eq!(with_gaps.update(&[f64::NAN; 3]), Verdict::NONE);
            assert_eq!(with_gaps.update(&[1.0]), Verdict::NONE);
            assert_eq!(bits(&with_gaps.update(&row)), bits(&without.update(&row)), "{method}");
        }
    }
}

#[test]
fn missing_cells_are_blamed_for_nothing_and_raise_no_alarm() {
    for method in Method::ALL {
        let mut rows = plant(9, 3000, 6);
        let mut rng = StdRng::seed_from_u64(9);
        for row in &mut rows {
            let column = rng.random_range(0..12);
            if column < 6 {
                row[column] = f64::NAN;
            }
        }
        let verdicts = run(method, &rows);
        assert!(alarms(&verdicts) <= 3, "{method}: {}", alarms(&verdicts));
        for (row, verdict) in rows.iter().zip(&verdicts).filter(|(_, v)| v.score > Some(0.0)) {
            assert!(
                row.iter().zip(&verdict.shares).all(|(v, share)| !v.is_nan() || *share == 0.0),
                "{method} {verdict:?}"
            );
        }
    }
}

#[test]
fn a_column_that_begins_late_is_not_judged_before_it_has_a_past() {
    let mut rows = plant(11, 1500, 4);
    rows[..700].iter_mut().for_each(|row| row[3] = f64::NAN);
    for method in Method::ALL {
        let verdicts = run(method, &rows);
        assert!(alarms(&verdicts[690..720]) == 0, "{method}");
        assert!(verdicts[..700].iter().all(|v| v.score.is_none_or(|s| s == 0.0) || v.shares[3] == 0.0), "{method}");
    }
}

#[test]
fn an_infinite_cell_scores_infinity_and_teaches_nothing() {
    for method in Method::ALL {
        let rows = plant(12, 400, 3);
        let mut with = detector(method, 3);
        let mut without = with.clone();
        for (at, row) in rows.iter().enumerate() {
            let verdict = with.update(&[row[0], f64::NEG_INFINITY, f64::INFINITY]);
            let expect = (at >= WARM_UP as usize).then_some(f64::INFINITY);
            assert_eq!(verdict.score, expect, "{method} {at}");
            assert!(verdict.shares.is_empty() || verdict.shares == [0.0, 0.5, 0.5]);
            assert_eq!(bits(&with.update(row)), bits(&without.update(row)), "{method}");
        }
    }
}

#[test]
fn huge_and_tiny_values_stay_within_the_numbers() {
    let mut rng = StdRng::seed_from_u64(13);
    let wild: Vec<Vec<f64>> = (0..600)
        .map(|_| (0..4).map(|_| rng.random_range(-1.0..1.0) * 10f64.powi(rng.random_range(-308..309))).collect())
        .collect();
    for method in Method::ALL {
        for verdict in run(method, &wild).iter().filter(|v| v.score.is_some()) {
            assert!(verdict.score >= Some(0.0), "{method} {verdict:?}");
            assert!((verdict.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{method} {verdict:?}");
        }
    }
}

// ---- state

#[test]
fn equal_seeds_give_equal_bits_and_others_other_centres() {
    let rows = plant(14, 600, 4);
    let scores = |seed: u64| {
        let mut detector = Detector::new(Method::KMeans, 4, DetectorOptions { seed }).unwrap();
        rows.iter().map(|row| bits(&detector.update(row))).collect::<Vec<_>>()
    };
    assert_eq!(scores(1), scores(1));
    assert_ne!(scores(1), scores(2));
}

#[test]
fn the_state_is_bounded() {
    for method in Method::ALL {
        let mut detector = detector(method, 8);
        let mut sizes = Vec::new();
        for (at, row) in plant(15, 30_000, 8).iter().enumerate() {
            detector.update(row);
            if at % 10_000 == 9_999 {
                let mut bytes = Vec::new();
                detector.save(&mut bytes);
                sizes.push(bytes.len());
            }
        }
        // 1,024 rows of the past, 256 that cover it, 256 that wait
        assert!(sizes.iter().all(|&size| size < 1700 * 8 * 8), "{method}: {sizes:?}");
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let message = Detector::load(&[9]).unwrap_err().to_string();
    assert!(message.contains("version 9"), "{message}");
}

/// A row that is now and then partly or wholly missing, infinite or far out.
fn row() -> impl Strategy<Value = Vec<f64>> {
    let cell = prop_oneof![
        8 => (0..4i32).prop_map(f64::from),
        4 => -1e3..1e3f64,
        1 => Just(f64::NAN),
    ];
    let odd = prop_oneof![20 => Just(None), 1 => Just(Some(f64::INFINITY)), 1 => Just(Some(1e300)), 1 => Just(Some(f64::NAN))];
    (prop::collection::vec(cell, 3), odd).prop_map(|(mut row, odd)| {
        if let Some(odd) = odd {
            row[1] = odd;
        }
        row
    })
}

fn rows() -> impl Strategy<Value = Vec<Vec<f64>>> {
    prop::collection::vec(row(), 300..500)
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(Method::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_split_and_saving_between_give_the_bits_of_one_pass(rows in rows(), method in method(), splits in prop::collection::vec(0..500usize, 3)) {
        let whole = run(method, &rows);
        let mut detector = detector(method, 3);
        let mut parts = Vec::new();
        let mut splits: Vec<usize> = splits.into_iter().map(|at| at.min(rows.len())).chain([0, rows.len()]).collect();
        splits.sort_unstable();
        for pair in splits.windows(2) {
            detector.update_many(&rows[pair[0]..pair[1]].concat(), &mut parts);
            let mut bytes = Vec::new();
            detector.save(&mut bytes);
            detector = Detector::load(&bytes).unwrap();
        }
        prop_assert_eq!(whole.iter().map(bits).collect::<Vec<_>>(), parts.iter().map(bits).collect::<Vec<_>>());
    }

    #[test]
    fn later_rows_change_no_earlier_score(rows in rows(), method in method(), at in 0..500usize) {
        let at = at.min(rows.len());
        let mut changed = rows.clone();
        changed[at..].iter_mut().for_each(|row| row[0] = -7.0 * row[0] + 1.0);
        let (a, b) = (run(method, &rows), run(method, &changed));
        prop_assert_eq!(a[..at].iter().map(bits).collect::<Vec<_>>(), b[..at].iter().map(bits).collect::<Vec<_>>());
    }

    #[test]
    fn scores_are_never_negative_and_shares_sum_to_one(rows in rows(), method in method()) {
        for verdict in run(method, &rows) {
            let Some(score) = verdict.score else { continue };
            prop_assert!(score >= 0.0);
            prop_assert!(verdict.shares.iter().all(|s| *s >= 0.0));
            prop_assert!((verdict.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn damaged_state_is_refused_or_works(rows in rows(), method in method(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut detector = detector(method, 3);
        rows.iter().for_each(|row| drop(detector.update(row)));
        let mut bytes = Vec::new();
        detector.save(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(mut detector) = Detector::load(&bytes) {
            let n = detector.columns();
            rows.iter().for_each(|row| drop(detector.update(&row.iter().copied().cycle().take(n).collect::<Vec<_>>())));
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_work(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(mut detector) = Detector::load(&bytes) {
            detector.update(&vec![1.0; detector.columns()]);
        }
    }
}
