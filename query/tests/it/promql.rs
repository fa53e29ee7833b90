//! Runs `tests/promql/*.test`, written in the language of Prometheus's own tests:
//!
//! ```text
//! clear
//! load 1m
//!   requests{job="a"} 0+10x5 _ stale 7x2       from 0 up by 10 five more times, nothing, a stale marker, 7 three times
//! eval instant at 5m sum(requests)
//!   {} 50
//! eval range from 0 to 2m step 1m requests
//!   requests{job="a"} 0 10 20
//! eval instant at 5m foo bar
//!   expect fail 1:5: parse error
//! enable promql-duration-expr
//! ```
//! `expect fail` may name a part of the error, `enable` the features that are on from there. `expect ordered` makes the order of
//! an instant vector count. `{{…}}` is a native histogram ([`literal`]), with arithmetic and repetition as for numbers. `expect
//! warn`, `info`, `no_warn`, `no_info` ask for annotations, a text after the first two for one that contains it. Half of what is
//! loaded is flushed to segments.
mod literal;
mod many;

use std::path::PathBuf;
use std::sync::Arc;

use foretell_engine::{Engine, LabelSet, WriteBatch};
use foretell_query::QueryLimits;
use foretell_query::promql::{
    Annotations, Answer, Features, Histogram, Limits, PromQuery, evaluate, evaluate_annotated,
};
use tokio::runtime::Runtime;

use crate::store::Store;

/// A sample of a case.
#[derive(Clone, Debug)]
enum Sample {
    Value(f64),
    Histogram(Histogram),
}

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
const LOOKBACK_MS: i64 = 300_000;

fn run(file: &str) {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/promql").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut store = Store::empty(QueryLimits::default());
    let mut lines = text.lines().enumerate().peekable();
    let mut limits = Limits::default();
    let mut evaluated = 0;
    while let Some((number, line)) = lines.next() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = Vec::new();
        while let Some((_, next)) = lines.next_if(|(_, next)| next.starts_with([' ', '\t'])) {
            block.push(next.trim());
        }
        let at = format!("{file}:{}: {line}", number + 1);
        if line == "clear" {
            store = Store::empty(QueryLimits::default());
        } else if let Some(names) = line.strip_prefix("enable") {
            limits.features = Features::named(names.split_whitespace()).unwrap();
        } else if let Some(step) = line.strip_prefix("load ") {
            load(&store.engine, duration_ms(step), &block);
        } else if let Some(rest) = line.strip_prefix("eval instant at ") {
            let (at_ms, expr) = rest.split_once(' ').unwrap();
            let at_ms = duration_ms(at_ms);
            check(&runtime, &store, &limits, expr, (at_ms, at_ms), None, &block, &at);
            evaluated += 1;
        } else if let Some(rest) = line.strip_prefix("eval range from ") {
            let words: Vec<&str> = rest.splitn(6, ' ').collect();
            let [start, "to", end, "step", step, expr] = words.as_slice() else { panic!("{at}") };
            let step_ms = Some(duration_ms(step));
            check(&runtime, &store, &limits, expr, (duration_ms(start), duration_ms(end)), step_ms, &block, &at);
            evaluated += 1;
        } else {
            panic!("{at}: neither clear nor enable nor load nor eval");
        }
    }
    assert!(evaluated > 0, "{file} evaluates nothing");
}

fn load(engine: &Engine, step_ms: i64, block: &[&str]) {
    let mut halves = [WriteBatch::default(), WriteBatch::default()];
    let mut histograms = [Vec::new(), Vec::new()];
    for line in block {
        let (labels, samples) = series(line);
        let id = engine.resolve(&labels).unwrap();
        let middle = samples.len() / 2;
        for (i, sample) in samples.into_iter().enumerate() {
            let ts = i as i64 * step_ms * 1_000_000;
            let half = usize::from(i > middle);
            match sample {
                Some(Sample::Value(value)) => halves[half].push(id, ts, value),
                Some(Sample::Histogram(histogram)) => histograms[half].push((id, ts, histogram)),
                None => {}
            }
        }
    }
    for (half, histograms) in halves.iter_mut().zip(&histograms).filter(|(_, histograms)| !histograms.is_empty()) {
        half.records.push(Arc::new(literal::records(histograms)));
    }
    let [first, second] = halves;
    engine.write(first).unwrap().wait().unwrap();
    engine.flush().unwrap();
    engine.write(second).unwrap().wait().unwrap();
}

/// `name{a="b"} 1+1x3 _ stale {{count:1 sum:2}}x3`
fn series(line: &str) -> (LabelSet, Vec<Option<Sample>>) {
    // The labels end before the first sample, which may be a histogram.
    let end = match (line.find('{'), line.find(' ')) {
        (Some(brace), space) if space.is_none_or(|space| brace < space) => {
            line.find("} ").map_or(line.len(), |at| at + 1)
        }
        (_, space) => space.unwrap(),
    };
    let (name, values) = line.split_at(end);
    (labels(name), tokens(values).iter().flat_map(|token| sequence(token)).collect())
}

/// Split at spaces outside of histograms.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut inside = false;
    for word in text.split_whitespace() {
        match tokens.last_mut() {
            Some(token) if inside => {
                token.push(' ');
                token.push_str(word);
            }
            _ => tokens.push(word.to_owned()),
        }
        if let Some(token) = tokens.last() {
            inside = token.matches("{{").count() > token.matches("}}").count();
        }
    }
    tokens
}

fn labels(text: &str) -> LabelSet {
    let (name, inner) = text.split_once('{').map_or((text, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
    let mut pairs: Vec<(&str, &str)> = if name.is_empty() { Vec::new() } else { vec![("__name__", name)] };
    for pair in inner.split("\",").filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once("=\"").unwrap();
        pairs.push((name.trim(), value.trim_end_matches('"')));
    }
    LabelSet::from_pairs(pairs).unwrap()
}

/// `3`, `3x2`, `0+10x5`, `5-1x5`, `_`, `_x3`, `stale`, `{{…}}`, `{{…}}x2`, `{{…}}+{{…}}x5`
fn sequence(token: &str) -> Vec<Option<Sample>> {
    if token.starts_with("{{") {
        return histograms(token);
    }
    let (head, times) = token.split_once('x').map_or((token, 0), |(head, times)| (head, times.parse().unwrap()));
    let single = match head {
        "_" => return vec![None; usize::max(times, 1)],
        "stale" => Some(STALE),
        number => number.parse().ok(),
    };
    if let Some(value) = single {
        return vec![Some(Sample::Value(value)); times + 1];
    }
    let sign = head.rfind(['+', '-']).filter(|&at| at > 0).unwrap_or_else(|| panic!("bad value {token:?}"));
    let (start, step): (f64, f64) = (head[..sign].parse().unwrap(), head[sign..].parse().unwrap());
    (0..=times).map(|i| Some(Sample::Value(start + step * i as f64))).collect()
}

fn histograms(token: &str) -> Vec<Option<Sample>> {
    let end = token.rfind("}}").unwrap() + 2;
    let times: usize = token[end..].strip_prefix('x').map_or(0, |times| times.parse().unwrap());
    let first_end = token.find("}}").unwrap() + 2;
    let start = literal::parse(&token[..first_end]);
    let (sign, step) = match &token[first_end..end] {
        "" => (0.0, Histogram::default()),
        step => (if step.starts_with('-') { -1.0 } else { 1.0 }, literal::parse(&step[1..])),
    };
    (0..=times).map(|i| Some(Sample::Histogram(literal::plus(&start, &step, sign * i as f64)))).collect()
}

fn duration_ms(text: &str) -> i64 {
    let unit = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..unit].parse().unwrap();
    let scale = match &text[unit..] {
        "" | "s" => 1e3,
        "ms" => 1.0,
        "m" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        other => panic!("unknown unit {other:?}"),
    };
    (number * scale) as i64
}

#[expect(clippy::too_many_arguments, reason = "what a case consists of")]
fn check(
    runtime: &Runtime,
    store: &Store,
    limits: &Limits,
    expr: &str,
    (start_ms, end_ms): (i64, i64),
    step_ms: Option<i64>,
    block: &[&str],
    at: &str,
) {
    let query = PromQuery { text: expr.into(), start_ms, end_ms, step_ms, lookback_ms: LOOKBACK_MS };
    let answer = evaluate_annotated(&query, &store.engine.snapshot(), limits, &|| false, &|_| Ok(()));
    // The second time it may be answered another way, see `promql::small`. A database has the features it was opened with.
    for _ in 0..if limits.features == Features::default() { 2 } else { 0 } {
        let asked = runtime.block_on(store.database.promql_annotated(query.clone(), None, false));
        let asked = asked.map(|asked| (asked.answer, asked.annotations));
        assert_eq!(format!("{asked:?}"), format!("{answer:?}"), "{at}");
    }
    if let Some(part) = block.iter().find_map(|line| line.strip_prefix("expect fail")) {
        let error = match answer {
            Ok(answer) => panic!("{at}: expected a failure, got {answer:?}"),
            Err(error) => error,
        };
        assert!(error.message.contains(part.trim()), "{at}: {}", error.message);
        return;
    }
    let ordered = block.contains(&"expect ordered");
    let lines: Vec<&str> = block.iter().copied().filter(|line| !line.starts_with("expect")).collect();
    let (answer, annotations) = answer.unwrap_or_else(|error| panic!("{at}: {error}"));
    block.iter().filter_map(|line| line.strip_prefix("expect ")).for_each(|line| told(&annotations, line, at));
    if let Answer::Scalar(point) = &answer {
        let want: f64 = lines.first().unwrap_or_else(|| panic!("{at}: no expectation")).parse().unwrap();
        assert!(near(point.value, want), "{at}: expected {want}, got {}", point.value);
        return;
    }
    let (Answer::Vector(rows) | Answer::Matrix(rows)) = answer else { panic!("{at}: {answer:?}") };
    let step = step_ms.unwrap_or(1);
    let mut got: Vec<(LabelSet, Vec<Option<Sample>>)> = Vec::new();
    for row in rows {
        let points = row.points.iter().map(|point| (point.ts_ms, Sample::Value(point.value)));
        let histograms = row.histograms.iter().map(|(ts_ms, h)| (*ts_ms, Sample::Histogram(Histogram::clone(h))));
        let mut samples: Vec<Option<Sample>> = Vec::new();
        for (ts_ms, sample) in points.chain(histograms) {
            let index = ((ts_ms - start_ms) / step) as usize;
            samples.resize(samples.len().max(index + 1), None);
            samples[index] = Some(sample);
        }
        got.push((row.labels, samples));
    }
    let mut want: Vec<(LabelSet, Vec<Option<Sample>>)> = lines.iter().map(|line| series(line)).collect();
    for (_, samples) in &mut want {
        samples.truncate(samples.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
    }
    if !ordered {
        got.sort_by(|a, b| a.0.cmp(&b.0));
        want.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let same = |(a, b): (&Option<Sample>, &Option<Sample>)| match (a, b) {
        (Some(Sample::Value(a)), Some(Sample::Value(b))) => near(*a, *b),
        (Some(Sample::Histogram(a)), Some(Sample::Histogram(b))) => literal::same(a, b, near),
        (a, b) => a.is_none() && b.is_none(),
    };
    let equal = got.len() == want.len()
        && got.iter().zip(&want).all(|(a, b)| a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(same));
    assert!(equal, "{at}:\n expected {want:?}\n got      {got:?}");
}

/// Checks `warn …`, `info …`, `no_warn`, `no_info`.
fn told(annotations: &Annotations, expected: &str, at: &str) {
    let (kind, text) = expected.split_once(' ').unwrap_or((expected, ""));
    let (texts, wanted) = match kind {
        "warn" => (&annotations.warnings, true),
        "info" => (&annotations.infos, true),
        "no_warn" => (&annotations.warnings, false),
        "no_info" => (&annotations.infos, false),
        "ordered" => return,
        other => panic!("{at}: unknown expectation {other:?}"),
    };
    let found = texts.iter().any(|found| found.contains(text));
    assert_eq!(found, wanted, "{at}: expected {expected}, got {annotations:?}");
}

fn near(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[test]
fn selectors() {
    run("selectors.test");
}

#[test]
fn functions() {
    run("functions.test");
}

#[test]
fn operators() {
    run("operators.test");
}

/// What Prometheus 3.5 does not know yet.
#[test]
fn newer() {
    run("newer.test");
}

#[test]
fn histograms_of_both_kinds() {
    run("histograms.test");
}

#[test]
fn a_wrong_histogram_and_a_missing_annotation_are_caught() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = Store::empty(QueryLimits::default());
    load(&store.engine, 60_000, &["h {{count:2 sum:3 buckets:[1 1]}}x3"]);
    let caught = |block: &[&str]| {
        let check = || check(&runtime, &store, &Limits::default(), "h", (120_000, 120_000), None, block, "canary");
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err()
    };
    assert!(!caught(&["h {{count:2 sum:3 buckets:[1 1]}}", "expect no_info"]));
    assert!(caught(&["h {{count:2 sum:3 buckets:[1 2]}}"]));
    assert!(caught(&["h {{count:2 sum:3 buckets:[1 1]}}", "expect info"]));
}

#[test]
fn a_wrong_expectation_is_caught() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = Store::empty(QueryLimits::default());
    load(&store.engine, 60_000, &["m 1 2 3"]);
    check(&runtime, &store, &Limits::default(), "m", (120_000, 120_000), None, &["m 3"], "canary");
    let check = || check(&runtime, &store, &Limits::default(), "m", (120_000, 120_000), None, &["m 4"], "canary");
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err());
}

#[test]
fn an_evaluation_ends_when_it_is_cancelled_or_holds_too_much() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = Store::empty(QueryLimits::default());
    load(&store.engine, 60_000, &["m 0+1x1000"]);
    let ask = |limits: &Limits, cancelled: bool| {
        let query = PromQuery {
            text: "sum(m) + 1".into(),
            start_ms: 0,
            end_ms: 6_000_000,
            step_ms: Some(1000),
            lookback_ms: LOOKBACK_MS,
        };
        evaluate(&query, &store.engine.snapshot(), limits, &|| cancelled).map(|_| ()).unwrap_err().message
    };
    assert!(ask(&Limits::default(), true).contains("cancelled"));
    assert!(ask(&Limits { samples_max: 50, ..Limits::default() }, false).contains("too many samples"));
    assert!(ask(&Limits { points_max: 5, ..Limits::default() }, false).contains("maximum resolution"));
}

#[test]
fn what_is_held_is_counted_and_not_what_was_ever_made() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let store = Store::empty(QueryLimits::default());
    load(&store.engine, 60_000, &["m 0+1x100"]);
    let ask = |text: &str, samples_max: usize| {
        let query = PromQuery {
            text: text.into(),
            start_ms: 0,
            end_ms: 6_000_000,
            step_ms: Some(60_000),
            lookback_ms: LOOKBACK_MS,
        };
        evaluate(&query, &store.engine.snapshot(), &Limits { samples_max, ..Limits::default() }, &|| false)
    };
    // 101 samples become 101 values again and again; two or three lists of them exist at a time.
    let long = format!("m{}", " + 0".repeat(200));
    assert!(ask(&long, 700).is_ok());
    assert!(ask("m + (m + (m + (m + (m + (m + (m + m))))))", 700).is_err(), "these are all held at once");
    // Refused before anything is made: a step a millisecond of thirty years, each with as many.
    for text in ["sum_over_time(vector(1)[30y:1ms])", "max_over_time(max_over_time(m[1y:1s])[1y:1s])"] {
        let error = ask(text, 50_000_000).unwrap_err();
        assert!(error.message.contains("too many samples"), "{text}: {}", error.message);
    }
    // A label for each value at each step.
    let error = ask("count_values(\"v\", m)", 5_000).unwrap_err();
    assert!(error.message.contains("too many samples"), "{}", error.message);
}
