//! `match(text, 'words')`: whether a text has all of the words, in any order and any case.
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use foretell_engine::text::{fold, words};

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
        let wanted: BTreeSet<String> = words(wanted).map(|word| fold(word).into_owned()).collect();
        match text {
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => {
                let has = text.as_ref().map(|text| has_words(text, &wanted, &mut Vec::new()));
                Ok(ColumnarValue::Scalar(ScalarValue::Boolean(has)))
            }
            ColumnarValue::Scalar(other) => Err(Error::internal(format!("match of {}", other.data_type())).into()),
            ColumnarValue::Array(array) => {
                let texts = cast(array, &DataType::Utf8)?;
                let mut seen = Vec::new();
                let has: BooleanArray =
                    texts.as_string::<i32>().iter().map(|text| Some(has_words(text?, &wanted, &mut seen))).collect();
                debug_assert_eq!(has.len(), array.len());
                Ok(ColumnarValue::Array(Arc::new(has) as ArrayRef))
            }
        }
    }
}

/// Whether `text` has all words of `wanted`, which are folded; `seen` is memory to work in.
fn has_words(text: &str, wanted: &BTreeSet<String>, seen: &mut Vec<usize>) -> bool {
    seen.clear();
    if wanted.is_empty() {
        return true;
    }
    for word in words(text) {
        let folded = fold(word);
        if let Some(at) = wanted.iter().position(|wanted| *wanted == *folded)
            && !seen.contains(&at)
        {
            seen.push(at);
            if seen.len() == wanted.len() {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_must_be_there_whole_in_any_order_and_case() {
        let has = |text: &str, wanted: &str| {
            let wanted = words(wanted).map(|word| fold(word).into_owned()).collect();
            has_words(text, &wanted, &mut Vec::new())
        };
        assert!(has("Connection to db-1 REFUSED", "refused, connection"));
        assert!(has("a b", ""));
        assert!(has("x", "x x"));
        assert!(!has("connections refused", "connection"));
        assert!(!has("", "x"));
    }
}
