//! Values over all steps of a grid, and answers.
use foretell_engine::LabelSet;
use hashbrown::HashMap;

use crate::error::{Error, ErrorKind, Result};

/// Bits of the stale marker of Prometheus; in a column: no value at this step.
pub(crate) const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// No value at this step.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_BITS);

/// Whether `value` is no value.
pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// The value of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// One number a step.
    Scalar(Vec<f64>),
    /// Series with a value at some steps.
    Vector(Vec<Column>),
    /// A string.
    Text(String),
}

/// One series of a vector: `values[i]` is its value at step `i`, or [`ABSENT`].
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) labels: LabelSet,
    pub(crate) values: Vec<f64>,
}

impl Column {
    /// Whether no step has a value.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.iter().all(|&value| is_absent(value))
    }
}

/// Columns put together by label set; two values at one step are an error.
#[derive(Default)]
pub(crate) struct Columns {
    index: HashMap<LabelSet, usize>,
    columns: Vec<Column>,
}

impl Columns {
    /// Adds what `values` holds to the column of `labels`.
    ///
    /// # Errors
    /// `Execution` when both hold a value at one step.
    pub(crate) fn add(&mut self, labels: LabelSet, values: Vec<f64>) -> Result<()> {
        let Some(&at) = self.index.get(&labels) else {
            self.index.insert(labels.clone(), self.columns.len());
            self.columns.push(Column { labels, values });
            return Ok(());
        };
        for (old, new) in self.columns[at].values.iter_mut().zip(values) {
            if !is_absent(new) {
                if !is_absent(*old) {
                    return Err(same_labels());
                }
                *old = new;
            }
        }
        Ok(())
    }

    /// The columns that have a value, in the order in which they were first added.
    pub(crate) fn finish(self) -> Vec<Column> {
        self.columns.into_iter().filter(|column| !column.is_empty()).collect()
    }
}

/// Two series of a result have the same labels.
pub(crate) fn same_labels() -> Error {
    Error::new(ErrorKind::Execution, "vector cannot contain metrics with the same labelset")
}

/// Refuses two columns with the same labels, whatever their steps.
pub(crate) fn refuse_same_labels(columns: &[Column]) -> Result<()> {
    let mut seen = hashbrown::HashSet::with_capacity(columns.len());
    if columns.iter().all(|column| seen.insert(&column.labels)) { Ok(()) } else { Err(same_labels()) }
}

/// A sample of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Milliseconds UTC.
    pub ts_ms: i64,
    /// Value.
    pub value: f64,
}

/// A series of an answer, oldest sample first.
#[derive(Clone, Debug)]
pub struct Row {
    /// Labels.
    pub labels: LabelSet,
    /// Samples.
    pub points: Vec<Point>,
}

/// The answer to a query.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A number at an instant.
    Scalar(Point),
    /// A string at an instant.
    Text(i64, String),
    /// One sample a series, in the order of the evaluation.
    Vector(Vec<Row>),
    /// Samples of series, sorted by labels.
    Matrix(Vec<Row>),
}

/// `value` as Prometheus writes it: the shortest decimal that reads back as the same bits, never with an exponent.
pub(crate) fn format(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}
