//! Values over all steps of a grid, and answers.
use std::sync::Arc;

use foretell_engine::LabelSet;
use hashbrown::HashMap;

use super::histogram::Histogram;
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
#[derive(Clone, Debug, Default)]
pub struct Column {
    pub(crate) labels: LabelSet,
    pub(crate) values: Vec<f64>,
    /// Native histograms by step, if there are any; where one stands, `values` has nothing.
    pub(crate) histograms: Option<Vec<Option<Arc<Histogram>>>>,
}

/// What a column holds at one step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sample<'a> {
    Value(f64),
    Histogram(&'a Arc<Histogram>),
}

impl Column {
    /// Without histograms.
    pub(crate) fn floats(labels: LabelSet, values: Vec<f64>) -> Self {
        Self { labels, values, histograms: None }
    }

    /// With nothing at any of `steps` steps.
    pub(crate) fn blank(labels: LabelSet, steps: usize) -> Self {
        Self::floats(labels, vec![ABSENT; steps])
    }

    /// The same samples under other labels.
    pub(crate) fn named(self, labels: LabelSet) -> Self {
        Self { labels, ..self }
    }

    /// Whether no step has a value or a histogram.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.iter().all(|&value| is_absent(value)) && !self.has_histograms()
    }

    /// Whether there is a histogram at some step.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.as_ref().is_some_and(|all| all.iter().any(Option::is_some))
    }

    /// The histogram at `step`.
    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?[step].as_ref()
    }

    /// Whether there is a value or a histogram at `step`.
    pub(crate) fn has(&self, step: usize) -> bool {
        !is_absent(self.values[step]) || self.histogram(step).is_some()
    }

    /// What there is at `step`.
    pub(crate) fn sample(&self, step: usize) -> Option<Sample<'_>> {
        match self.histogram(step) {
            Some(histogram) => Some(Sample::Histogram(histogram)),
            None if is_absent(self.values[step]) => None,
            None => Some(Sample::Value(self.values[step])),
        }
    }

    /// Puts a histogram at `step`.
    pub(crate) fn put(&mut self, step: usize, histogram: Arc<Histogram>) {
        self.values[step] = ABSENT;
        let steps = self.values.len();
        self.histograms.get_or_insert_with(|| vec![None; steps])[step] = Some(histogram);
    }

    /// Leaves nothing at `step`.
    pub(crate) fn clear(&mut self, step: usize) {
        self.values[step] = ABSENT;
        if let Some(histograms) = &mut self.histograms {
            histograms[step] = None;
        }
    }

    /// Puts at `step` what `from` has there.
    pub(crate) fn copy_step(&mut self, from: &Self, step: usize) {
        self.clear(step);
        self.values[step] = from.values[step];
        if let Some(histogram) = from.histogram(step) {
            self.put(step, Arc::clone(histogram));
        }
    }

    /// Puts the steps of `more` behind its own.
    pub(crate) fn append(&mut self, more: Self) {
        if self.histograms.is_some() || more.histograms.is_some() {
            let none = |steps: usize| vec![None; steps];
            let histograms = more.histograms.unwrap_or_else(|| none(more.values.len()));
            self.histograms.get_or_insert_with(|| none(self.values.len())).extend(histograms);
        }
        self.values.extend(more.values);
    }

    /// Values and histograms that it holds, about.
    pub(crate) fn weight(&self) -> usize {
        let histograms = self.histograms.iter().flatten().flatten().map(|histogram| histogram.weight());
        self.values.len() + histograms.sum::<usize>()
    }
}

/// Columns put together by label set; two samples at one step are an error.
#[derive(Default)]
pub(crate) struct Columns {
    index: HashMap<LabelSet, usize>,
    columns: Vec<Column>,
}

impl Columns {
    /// Adds what `column` holds to the column of its labels.
    ///
    /// # Errors
    /// `Execution` when both hold a sample at one step.
    pub(crate) fn add(&mut self, column: Column) -> Result<()> {
        let Some(&at) = self.index.get(&column.labels) else {
            self.index.insert(column.labels.clone(), self.columns.len());
            self.columns.push(column);
            return Ok(());
        };
        let old = &mut self.columns[at];
        if old.histograms.is_some() || column.histograms.is_some() {
            for step in (0..column.values.len()).filter(|&step| column.has(step)) {
                if old.has(step) {
                    return Err(same_labels());
                }
                old.copy_step(&column, step);
            }
            return Ok(());
        }
        for (old, new) in old.values.iter_mut().zip(column.values) {
            if !is_absent(new) {
                if !is_absent(*old) {
                    return Err(same_labels());
                }
                *old = new;
            }
        }
        Ok(())
    }

    /// The columns that have a sample, in the order in which they were first added.
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
    /// Samples that are numbers.
    pub points: Vec<Point>,
    /// Samples that are native histograms, and when (milliseconds UTC). A row of an instant vector has either one of these
    /// or one point.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

impl Row {
    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.histograms.is_empty()
    }
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
