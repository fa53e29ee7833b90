//! `promql-diff`: the same samples in a real Prometheus and in Foretell, the same expressions to both, the same answers.
//!
//! | module | owns |
//! |---|---|
//! | [`data`] | counters, gauges and histograms that restart, go stale, come late and hold strange numbers |
//! | [`native`] | native histograms of all kinds |
//! | [`grammar`] | expressions: every function and operator, and random nesting from a seed |
//! | [`compare`] | when two answers are the same |
pub mod compare;
pub mod data;
pub mod grammar;
mod native;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use foretell_proto::prometheus::v1::Histogram;
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::http::{Client, FORM, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer, Server};
use crate::process::{free_port, scratch_dir};
use crate::report::{Report, print};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// Differences that are printed.
const SHOWN_MAX: usize = 40;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Random expressions beside the fixed ones
    #[arg(long, default_value_t = 2000)]
    pub expressions: usize,
    /// Seed of the random expressions
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Change one answer before comparing: the run must fail
    #[arg(long)]
    pub canary: bool,
}

/// One question: an expression, at an instant or over a range (start, end, step in seconds).
#[derive(Clone, Debug)]
pub struct Question {
    /// PromQL.
    pub expr: String,
    /// Instant, seconds.
    pub at: f64,
    /// Range instead of the instant.
    pub range: Option<(f64, f64, f64)>,
}

impl Question {
    /// The route below `/api/v1/`, and the form to post there.
    pub fn request(&self) -> (&'static str, String) {
        let mut form = vec![("query", self.expr.clone())];
        let route = match self.range {
            None => {
                form.push(("time", self.at.to_string()));
                "query"
            }
            Some((start, end, step)) => {
                form.extend([("start", start.to_string()), ("end", end.to_string()), ("step", step.to_string())]);
                "query_range"
            }
        };
        (route, form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish())
    }
}

/// Who answers.
pub trait Answers {
    /// The body of the answer, success or error.
    ///
    /// # Errors
    /// When there is none.
    fn ask(&self, question: &Question) -> Result<Value>;
}

/// A server with the Prometheus HTTP API.
pub struct Api {
    client: Client,
    url: String,
}

impl Api {
    /// At `url`.
    pub fn new(url: String) -> Self {
        Self { client: Client::default(), url }
    }
}

impl Answers for Api {
    fn ask(&self, question: &Question) -> Result<Value> {
        let (route, form) = question.request();
        let url = format!("{}/api/v1/{route}", self.url);
        let headers = [("content-type", FORM)];
        let (status, answer) = self.client.post(&url, &headers, form.as_bytes())?;
        serde_json::from_slice(&answer).with_context(|| format!("{}: {status}, not JSON", question.expr))
    }
}

/// Runs it.
///
/// # Errors
/// On any difference, and when a part of the set-up does not work.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("promql-diff")?;
    let start = |peer: Peer| -> Result<Server> {
        let own = dir.path().join(peer.name());
        std::fs::create_dir_all(&own)?;
        peer.start(binaries, &own, free_port()?)
    };
    let (prometheus, foretell) = (start(Peer::Prometheus)?, start(Peer::Foretell)?);
    let series = data::series();
    send(&series, &prometheus)?;
    send(&series, &foretell)?;
    let begun = Instant::now();
    let questions = questions(options);
    let mut found = differences(&Api::new(prometheus.url()), &Api::new(foretell.url()), &questions, options.canary)?;
    let mut report = Report::new("promql-diff", json!({"expressions": options.expressions, "seed": options.seed}));
    report.text("prometheus_version", &Peer::Prometheus.version(binaries)?, "");
    report.figure("series", series.len() as f64, "");
    report.figure("questions", questions.len() as f64, "instant and range");
    report.figure("errors_alike", found.errors_alike as f64, "questions that both refuse");
    report.figure("empty_alike", found.empty_alike as f64, "questions that both answer with nothing");
    report.figure("uncertain_alike", found.uncertain_alike as f64, "alike within what truth differs from itself by");
    report.figure("differences", found.texts.len() as f64, "");
    report.figure("seconds", begun.elapsed().as_secs_f64(), "");
    report.print();
    prometheus.stop()?;
    foretell.stop()?;
    let count = found.texts.len();
    found.texts.truncate(SHOWN_MAX);
    found.texts.iter().for_each(|text| print(text));
    ensure!(count == 0, "{count} of {} questions are answered differently", questions.len());
    report.write(results)?;
    Ok(())
}

/// Samples of a request.
const REQUEST_SAMPLES: usize = 2_000;

/// A sample to send.
#[derive(Clone, Copy)]
enum Sample<'a> {
    Value(f64),
    Histogram(&'a Histogram),
}

/// Sends everything in the order of time, as scrapes would, and what goes into one request in the order of labels: Prometheus
/// adds up series of an instant query in the order in which it first saw them, foretell in that of their labels, and a
/// deviation of nearly equal numbers shows in its leading digits which it was.
fn send(series: &[data::Series], to: &Server) -> Result<()> {
    let labels: Vec<Box<[u8]>> = series.iter().map(|series| encode_labels(&series.labels)).collect();
    let mut samples: Vec<(i64, usize, Sample<'_>)> = Vec::new();
    for (i, one) in series.iter().enumerate() {
        samples.extend(one.samples.iter().map(|&(ts_ms, value)| (ts_ms, i, Sample::Value(value))));
        samples.extend(one.histograms.iter().map(|histogram| (histogram.timestamp, i, Sample::Histogram(histogram))));
    }
    samples.sort_by_key(|&(ts_ms, i, _)| (ts_ms, i));
    samples
        .chunks_mut(REQUEST_SAMPLES)
        .for_each(|chunk| chunk.sort_by_key(|&(ts_ms, i, _)| (&series[i].labels, ts_ms)));
    let (mut encoder, mut sender) =
        (BodyEncoder::default(), Sender::connect(to.address, "/api/v1/write", REMOTE_WRITE_HEADERS)?);
    for chunk in samples.chunks(REQUEST_SAMPLES) {
        for &(ts_ms, i, sample) in chunk {
            match sample {
                Sample::Value(value) => encoder.push(&labels[i], ts_ms, value),
                Sample::Histogram(histogram) => encoder.push_histogram(&labels[i], &histogram.encode_to_vec()),
            }
        }
        let (status, text) = sender.post(encoder.finish()?)?;
        ensure!((200..300).contains(&status), "remote write: {status} {text}");
    }
    Ok(())
}

/// The fixed expressions and `options.expressions` random ones, as instant and as range questions.
pub fn questions(options: &Options) -> Vec<Question> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut expressions = grammar::fixed();
    expressions.extend((0..options.expressions).map(|_| grammar::random(&mut random)));
    let mut questions = Vec::with_capacity(expressions.len() * 2);
    for (i, expr) in expressions.into_iter().enumerate() {
        let (at, range) = grammar::times(i, &mut random);
        questions.push(Question { expr: expr.clone(), at, range: None });
        questions.push(Question { expr, at, range: Some(range) });
    }
    questions
}

/// What [`differences`] found.
#[derive(Default)]
pub struct Found {
    /// One text a difference.
    pub texts: Vec<String>,
    /// Questions that both refuse.
    pub errors_alike: usize,
    /// Questions that both answer with nothing.
    pub empty_alike: usize,
    /// Questions to which the truth gives other numbers when it is asked again, and ours is among them.
    pub uncertain_alike: usize,
}

/// How often the truth is asked again before an answer is called different.
const ASKED_AGAIN: usize = 24;
/// Relative difference of the truth from itself that is looked into, at most.
const UNCERTAIN_MAX: f64 = 1e-4;

/// The relative difference, a power of ten, within which answers of the truth to `question` are alike. Prometheus adds up the
/// series of a range query in the order of a hash table, another one each time: a deviation of nearly equal numbers has few
/// digits that do not depend on it.
fn certainty(truth: &dyn Answers, question: &Question, expected: &Value) -> Result<f64> {
    let mut tolerance = compare::TOLERANCE;
    for _ in 0..ASKED_AGAIN {
        let again = truth.ask(question)?;
        while compare::compare_within(tolerance, &question.expr, expected, &again).is_err() {
            tolerance *= 10.0;
            if tolerance > UNCERTAIN_MAX {
                return Ok(compare::TOLERANCE);
            }
        }
    }
    Ok(tolerance)
}

/// Asks both all `questions`.
///
/// # Errors
/// When one does not answer at all.
pub fn differences(truth: &dyn Answers, ours: &dyn Answers, questions: &[Question], canary: bool) -> Result<Found> {
    let mut found = Found::default();
    for (i, question) in questions.iter().enumerate() {
        let (expected, mut actual) = (truth.ask(question)?, ours.ask(question)?);
        if canary && i == questions.len() / 2 {
            actual = json!({"status": "success", "data": {"resultType": "scalar", "result": [0, "canary"]}});
        }
        match compare::compare(&question.expr, &expected, &actual) {
            Err(difference) => {
                let tolerance = certainty(truth, question, &expected)?;
                let is_uncertain = tolerance > compare::TOLERANCE;
                if is_uncertain && compare::compare_within(tolerance, &question.expr, &expected, &actual).is_ok() {
                    found.uncertain_alike += 1;
                } else {
                    found.texts.push(format!("{question:?}\n    {difference}"));
                }
            }
            Ok(compare::Same::Error) => found.errors_alike += 1,
            Ok(compare::Same::Empty) => found.empty_alike += 1,
            Ok(compare::Same::Values) => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Gives its answers in turn.
    struct InTurn(Vec<f64>, Cell<usize>);

    impl Answers for InTurn {
        fn ask(&self, _: &Question) -> Result<Value> {
            let turn = self.1.replace(self.1.get() + 1);
            let value = self.0[turn % self.0.len()].to_string();
            let result = json!([{"metric": {}, "value": [1, value]}]);
            Ok(json!({"status": "success", "data": {"resultType": "vector", "result": result}}))
        }
    }

    #[test]
    fn only_what_the_truth_says_of_itself_is_no_difference() {
        let found = |truth: &[f64], ours: f64| {
            let (truth, ours) = (InTurn(truth.to_vec(), Cell::new(0)), InTurn(vec![ours], Cell::new(0)));
            let question = Question { expr: "x".into(), at: 1.0, range: None };
            let found = differences(&truth, &ours, &[question], false).unwrap();
            (found.texts.len(), found.uncertain_alike)
        };
        assert_eq!(found(&[1.0], 1.0), (0, 0));
        assert_eq!(found(&[1.0], 1.000_001), (1, 0), "always the same");
        assert_eq!(found(&[1.0, 1.000_002, 0.999_999], 1.000_001), (0, 1));
        assert_eq!(found(&[1.0, 1.000_002, 0.999_999], 1.000_1), (1, 0));
        assert_eq!(found(&[1.0, 2.0], 1.5), (1, 0), "no rounding any more");
    }
}
