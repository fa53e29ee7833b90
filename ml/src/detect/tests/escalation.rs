//! Methods of higher tiers, asked about what the first doubts.
use super::*;
use crate::detect::{Escalation, Step};

fn escalated(steps: &[(Method, f64)]) -> Detector {
    let steps: Vec<Step> = steps.iter().map(|&(method, above)| Step { method, above }).collect();
    let options = DetectorOptions { escalation: Escalation::new(&steps).unwrap(), ..DetectorOptions::default() };
    Detector::new(Method::Ewma, options).unwrap()
}

fn verdicts(detector: &mut Detector, values: &[f64]) -> Vec<Verdict> {
    let mut out = Vec::new();
    detector.update_many(&times(values.len(), SECOND), values, &mut out);
    out
}

#[test]
fn a_doubted_row_is_judged_as_the_higher_method_judges_it_and_others_as_before() {
    let mut values = swinging(800, 700);
    values[500..520].iter_mut().for_each(|v| *v = 0.0);
    let base = run(Method::Ewma, None, SECOND, &values);
    let higher = run(Method::Subspace, None, SECOND, &values);
    let told = verdicts(&mut escalated(&[(Method::Subspace, 0.3)]), &values);
    let mut asked = 0;
    for (row, told) in told.iter().enumerate() {
        if told.tier == 1 {
            asked += 1;
            assert!(base[row].score > Some(0.3));
            assert_eq!(
                (told.score, told.expected, told.hi),
                (higher[row].score, base[row].expected, base[row].hi),
                "row {row}"
            );
        } else {
            assert_eq!(bits(told), bits(&base[row]), "row {row}");
        }
    }
    assert!((20..600).contains(&asked), "{asked}");
}

#[test]
fn the_second_is_asked_about_what_the_first_of_them_doubts() {
    let values = swinging(801, 700);
    let [subspace, patches] = [Method::Subspace, Method::Patches].map(|method| run(method, None, SECOND, &values));
    let told = verdicts(&mut escalated(&[(Method::Subspace, 0.2), (Method::Patches, 0.3)]), &values);
    let (mut first, mut second) = (0, 0);
    for (row, told) in told.iter().enumerate() {
        match told.tier {
            1 => {
                first += 1;
                assert_eq!(told.score, subspace[row].score);
                assert!(told.score <= Some(0.3) || patches[row].score.is_none(), "row {row}");
            }
            2 => {
                second += 1;
                assert!(subspace[row].score > Some(0.3));
                assert_eq!(told.score, patches[row].score, "row {row}");
            }
            _ => {}
        }
    }
    assert!(first > 20 && second > 5, "{first} {second}");
}

#[test]
fn higher_methods_see_no_more_than_a_share_of_the_rows_in_the_long_run() {
    let values = noise(802, 40_000);
    let told = verdicts(&mut escalated(&[(Method::Subspace, 0.0)]), &values);
    let asked = told.iter().filter(|verdict| verdict.tier == 1).count();
    assert!(asked > 100 && asked <= 40_000 / 8 + 2 * 768, "{asked}");
    assert!(told[30_000..].iter().any(|verdict| verdict.tier == 1), "who has saved enough is asked again");
}

#[test]
fn a_saved_detector_goes_on_with_the_same_bits() {
    let values = swinging(803, 1_200);
    for at in [0, 100, 400, 900, 1_100] {
        let mut whole = escalated(&[(Method::Subspace, 0.3), (Method::Patches, 0.5)]);
        verdicts(&mut whole, &values[..at]);
        let bytes = saved(&whole);
        let mut loaded = Detector::load(&bytes).unwrap();
        assert!((0..bytes.len()).all(|length| Detector::load(&bytes[..length]).is_err()));
        for (i, &value) in values.iter().enumerate().skip(at) {
            let ts = i as i64 * SECOND;
            let (a, b) = (whole.update(ts, value), loaded.update(ts, value));
            assert_eq!((bits(&a), a.tier), (bits(&b), b.tier), "row {i} after {at}");
        }
        assert_eq!(saved(&whole), saved(&loaded));
    }
}

#[test]
fn steps_that_cannot_be_are_refused() {
    let step = |above| Step { method: Method::Rcf, above };
    assert!(Escalation::new(&[step(0.5), step(0.8), step(0.9)]).unwrap_err().to_string().contains("at most 2"));
    for above in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(Escalation::new(&[step(above)]).unwrap_err().to_string().contains("score"));
    }
}
