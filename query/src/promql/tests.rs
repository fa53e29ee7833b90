//! Small cases over samples in memory; the language as a whole is in `query/tests/promql`.
use foretell_engine::{LabelSet, METRIC_NAME, MatchOp};

use super::{Admit, Answer, Limits, Matchers, PromQuery, SampleSource, SeriesSamples, evaluate};
use crate::error::Result;

struct Memory(Vec<SeriesSamples>);

impl SampleSource for Memory {
    fn select(&self, matchers: &Matchers, after_ms: i64, through_ms: i64, _: &Admit<'_>) -> Result<Vec<SeriesSamples>> {
        let of = |series: &SeriesSamples| {
            let keep = |ts: &i64| *ts > after_ms && *ts <= through_ms;
            let pairs = series.ts_ms.iter().zip(&series.values).filter(|(ts, _)| keep(ts));
            let (ts_ms, values) = pairs.map(|(&ts, &value)| (ts, value)).unzip();
            SeriesSamples { labels: series.labels.clone(), ts_ms, values, ..SeriesSamples::default() }
        };
        let equal = |series: &SeriesSamples| {
            matchers.0[0].iter().all(|m| {
                let value = series.labels.get(&m.name).unwrap_or("");
                (m.op == MatchOp::Equal) == (value == m.value)
            })
        };
        Ok(self.0.iter().filter(|s| equal(s)).map(of).collect())
    }
}

fn memory() -> Memory {
    let series = |job: &str, step: f64| SeriesSamples {
        labels: LabelSet::from_pairs([(METRIC_NAME, "m"), ("job", job)]).unwrap(),
        ts_ms: (0..=10).map(|i| i * 10_000).collect(),
        values: (0..=10).map(|i| f64::from(i) * step).collect(),
        ..SeriesSamples::default()
    };
    Memory(vec![series("a", 1.0), series("b", 2.0)])
}

fn instant(text: &str, at_ms: i64) -> Result<Answer> {
    let query = PromQuery { text: text.into(), start_ms: at_ms, end_ms: at_ms, step_ms: None, lookback_ms: 300_000 };
    evaluate(&query, &memory(), &Limits::default(), &|| false)
}

/// Labels and value of each series at 100 s.
fn check(text: &str, expect: &[(&str, f64)]) {
    let Answer::Vector(rows) = instant(text, 100_000).unwrap() else { panic!("{text}: not a vector") };
    let mut rows: Vec<(String, f64)> = rows.iter().map(|r| (r.labels.to_promql(), r.points[0].value)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let expect: Vec<(String, f64)> = expect.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect();
    assert_eq!(rows, expect, "{text}");
}

#[test]
fn selectors_functions_and_operators() {
    check("m{job=\"a\"}", &[("{__name__=\"m\",job=\"a\"}", 10.0)]);
    check("m offset 20s", &[("{__name__=\"m\",job=\"a\"}", 8.0), ("{__name__=\"m\",job=\"b\"}", 16.0)]);
    check("m @ 50", &[("{__name__=\"m\",job=\"a\"}", 5.0), ("{__name__=\"m\",job=\"b\"}", 10.0)]);
    check("sum(m)", &[("{}", 30.0)]);
    check("sum by (job) (rate(m[1m]))", &[("{job=\"a\"}", 0.1), ("{job=\"b\"}", 0.2)]);
    check("m + m", &[("{job=\"a\"}", 20.0), ("{job=\"b\"}", 40.0)]);
    check("m > 15", &[("{__name__=\"m\",job=\"b\"}", 20.0)]);
    check("m and m{job=\"a\"}", &[("{__name__=\"m\",job=\"a\"}", 10.0)]);
    check("topk(1, m)", &[("{__name__=\"m\",job=\"b\"}", 20.0)]);
    check("max_over_time(sum(m)[30s:10s])", &[("{}", 30.0)]);
    check("absent(nothing{job=\"x\"})", &[("{job=\"x\"}", 1.0)]);
    check(
        "label_replace(m{job=\"a\"}, \"x\", \"<$1>\", \"job\", \"(.*)\")",
        &[("{__name__=\"m\",job=\"a\",x=\"<a>\"}", 10.0)],
    );
}

#[test]
fn two_results_with_the_same_labels_are_an_error() {
    for bad in ["m + ignoring(job) m", "label_replace(m, \"job\", \"c\", \"job\", \".*\")", "m * on() m"] {
        assert!(instant(bad, 100_000).is_err(), "{bad}");
    }
}

#[test]
fn a_range_query_answers_each_step_where_there_is_a_value() {
    let query = PromQuery {
        text: "sum(m)".into(),
        start_ms: -20_000,
        end_ms: 40_000,
        step_ms: Some(20_000),
        lookback_ms: 300_000,
    };
    let Answer::Matrix(rows) = evaluate(&query, &memory(), &Limits::default(), &|| false).unwrap() else { panic!() };
    let points: Vec<(i64, f64)> = rows[0].points.iter().map(|p| (p.ts_ms, p.value)).collect();
    assert_eq!(points, [(0, 0.0), (20_000, 6.0), (40_000, 12.0)]);
}

#[test]
fn long_operators_ask_whether_anybody_still_waits() {
    use super::aggregate::{Upkeep, evaluate as aggregate};
    use super::annotation::Notes;
    use super::expr::Expr;
    use super::parallel::WORK_AT_ONCE;
    use super::value::{Column, Value};
    use crate::error::{Error, ErrorKind};

    // More than is done between two questions: of one step, which one thread does, or of one series.
    let column = |steps: usize| Column::floats(LabelSet::default(), vec![1.0; steps]);
    let long = WORK_AT_ONCE + 1;
    let refuse = || -> Result<()> { Err(Error::new(ErrorKind::Cancelled, "enough")) };
    let notes = Notes::default();
    let upkeep = Upkeep { notes: &notes, go_on: &refuse, count: &|_| Ok(()) };
    for (text, param, series, steps) in [
        ("sum(m)", None, long, 1),
        ("quantile(0.5, m)", Some(Value::Scalar(vec![0.5])), long, 1),
        ("topk(3, m)", Some(Value::Scalar(vec![3.0; long])), 1, long),
        ("count_values(\"v\", m)", Some(Value::Text("v".into())), 1, long),
    ] {
        let Expr::Aggregate(of) = super::parse::parse(text, &Limits::default()).unwrap() else { panic!("{text}") };
        let input = (0..series).map(|_| column(steps)).collect();
        let error = aggregate(&of, param, input, steps, &upkeep).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cancelled, "{text}");
    }
}

#[test]
fn a_tree_is_made_on_a_stack_of_its_own() {
    let depth = Limits::default().depth_max - 10;
    let text = format!("{}m{}", "(".repeat(depth), ")".repeat(depth));
    let on_little = std::thread::Builder::new().stack_size(128 << 10);
    let thread = on_little.spawn(move || super::tree(&text, &Limits::default()).map(std::mem::forget));
    thread.unwrap().join().unwrap().unwrap();
}

#[test]
fn texts_that_become_labels_are_counted() {
    use std::cell::Cell;

    use super::aggregate::{Upkeep, evaluate as aggregate};
    use super::annotation::Notes;
    use super::expr::Expr;
    use super::value::{Column, Value};

    let counted = Cell::new(0);
    let count = |values: usize| -> Result<()> {
        counted.update(|before| before + values);
        Ok(())
    };
    let notes = Notes::default();
    let upkeep = Upkeep { notes: &notes, go_on: &|| Ok(()), count: &count };
    let text = "count_values(\"v\", m)";
    let Expr::Aggregate(of) = super::parse::parse(text, &Limits::default()).unwrap() else { panic!("{text}") };
    // The first text has 309 digits, the second is known already.
    let input = vec![Column::floats(LabelSet::default(), vec![1e308; 2])];
    let made = aggregate(&of, Some(Value::Text("v".into())), input, 2, &upkeep).unwrap();
    assert_eq!(made[0].labels.get("v").map(str::len), Some(309));
    assert_eq!(counted.get(), 2 + 3 * 309 / 8);
}
