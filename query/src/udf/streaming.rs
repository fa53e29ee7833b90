//! Window functions that go along with their input: they answer batch by batch, while DataFusion asks row by row.
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Float64Type;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::PartitionEvaluator;

use crate::error::Error;

/// What is known of one partition of a window. A row's answer depends on no later row.
pub(crate) trait Streaming: fmt::Debug + Send + 'static {
    /// Answers for rows `from..` of the arguments, each of which is asked once and in order.
    fn answer(&mut self, arguments: &[ArrayRef], from: usize) -> Result<ArrayRef>;
}

/// Asks a [`Streaming`] function for one partition.
#[derive(Debug)]
pub(crate) struct Evaluator<S> {
    function: S,
    /// Answers for rows that DataFusion has not asked for yet.
    ready: VecDeque<ScalarValue>,
}

impl<S: Streaming> Evaluator<S> {
    pub(crate) fn new(function: S) -> Self {
        Self { function, ready: VecDeque::new() }
    }
}

impl<S: Streaming> PartitionEvaluator for Evaluator<S> {
    fn is_causal(&self) -> bool {
        true
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn evaluate(&mut self, arguments: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        if self.ready.is_empty() {
            let answers = self.function.answer(arguments, range.start)?;
            match answers.as_primitive_opt::<Float64Type>() {
                Some(scores) => self.ready.extend(scores.iter().map(ScalarValue::Float64)),
                None => {
                    for row in 0..answers.len() {
                        self.ready.push_back(ScalarValue::try_from_array(&answers, row)?);
                    }
                }
            }
        }
        self.ready
            .pop_front()
            .ok_or_else(|| Error::internal("a window function was asked for a row that it was not given").into())
    }

    fn evaluate_all(&mut self, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let answers = self.function.answer(arguments, 0)?;
        debug_assert_eq!(answers.len(), rows);
        Ok(answers)
    }
}
