//! `match(text, 'words')`: whether a text has all of the words, in any order and any case.
use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use foretell_engine::text::Words;

use crate::error::Error;

/// Its name.
pub(crate) const NAME: &str = "match";

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatchWords {
    signature: Signature,
}

impl Default for MatchWords {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

impl ScalarUDFImpl for MatchWords {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [text, words] if is_text(text) && is_text(words) => Ok(vec![DataType::Utf8, DataType::Utf8]),
            _ => Err(Error::invalid("match takes a text and words: write match(body, 'connection refused')").into()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, ColumnarValue::Scalar(ScalarValue::Utf8(wanted))] = args.args.as_slice() else {
            return Err(
                Error::invalid("match: the words must be a constant: write match(body, 'connection refused')").into()
            );
        };
        let Some(wanted) = wanted else { return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None))) };
        match text {
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => {
                let has = text.as_ref().map(|text| Words::of(wanted).are_in(text, &mut Vec::new()));
                Ok(ColumnarValue::Scalar(ScalarValue::Boolean(has)))
            }
            ColumnarValue::Scalar(other) => Err(Error::internal(format!("match of {}", other.data_type())).into()),
            ColumnarValue::Array(array) => {
                let texts = cast(array, &DataType::Utf8)?;
                let has = with_words(wanted, |words| words.rows(texts.as_string()));
                debug_assert_eq!(has.len(), array.len());
                Ok(ColumnarValue::Array(Arc::new(has) as ArrayRef))
            }
        }
    }
}

/// Calls `what` with the words of `wanted`. A statement asks batch by batch for the same ones, on the same threads, so each
/// thread keeps those it had last.
fn with_words<T>(wanted: &str, what: impl FnOnce(&Words) -> T) -> T {
    thread_local! {
        static LAST: RefCell<Option<(String, Words)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((of, words)) if of == wanted => what(words),
        _ => what(&last.insert((wanted.to_owned(), Words::of(wanted))).1),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, StringArray};

    use super::*;

    #[test]
    fn words_of_the_last_statement_are_not_those_of_the_next() {
        let texts = StringArray::from(vec!["a b", "b"]);
        for (wanted, expected) in
            [("a", [true, false]), ("b", [true, true]), ("a b", [true, false]), ("a", [true, false])]
        {
            assert_eq!(with_words(wanted, |words| words.rows(&texts)), BooleanArray::from(expected.to_vec()));
        }
    }
}
