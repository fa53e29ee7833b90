//! `match(text, 'words')`: whether a text has all of the words, in any order and any case.
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use foretell_engine::text::{fold, is_part_of_word, words};
use regex::bytes::{Regex, RegexBuilder};

use crate::error::Error;

/// Its name.
pub(crate) const NAME: &str = "match";
/// Longest word that is looked for by a pattern.
const PATTERN_BYTES_MAX: usize = 1024;

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

/// Words to look for.
struct Words {
    folded: BTreeSet<String>,
    /// Finds each of them in ASCII, where no other letters have their small forms; `None` if one cannot be there or is long.
    patterns: Option<Vec<Regex>>,
}

impl Words {
    fn of(wanted: &str) -> Self {
        let folded: BTreeSet<String> = words(wanted).map(|word| fold(word).into_owned()).collect();
        let pattern = |word: &String| {
            // Letters, digits and underscores mean themselves.
            let mut builder = RegexBuilder::new(word);
            let ascii = word.is_ascii() && word.len() <= PATTERN_BYTES_MAX;
            ascii.then(|| builder.case_insensitive(true).unicode(false).build().ok()).flatten()
        };
        let patterns = folded.iter().map(pattern).collect();
        Self { folded, patterns }
    }

    /// Of each text whether it has all words; NULL of NULL.
    fn rows(&self, texts: &StringArray) -> BooleanArray {
        let (offsets, values) = (texts.value_offsets(), texts.value_data());
        let range = offsets[0] as usize..offsets[texts.len()] as usize;
        let ascii = values.get(range).is_some_and(<[u8]>::is_ascii);
        match &self.patterns {
            Some(patterns) if ascii => {
                let all = BooleanBuffer::new_set(texts.len());
                let has = patterns.iter().fold(all, |has, pattern| &has & &rows_with(pattern, offsets, values));
                BooleanArray::new(has, texts.nulls().cloned())
            }
            _ => {
                let mut seen = Vec::new();
                texts.iter().map(|text| Some(self.are_in(text?, &mut seen))).collect()
            }
        }
    }

    /// Whether `text` has all of them; `seen` is memory to work in.
    fn are_in(&self, text: &str, seen: &mut Vec<usize>) -> bool {
        seen.clear();
        if self.folded.is_empty() {
            return true;
        }
        for word in words(text) {
            let folded = fold(word);
            if let Some(at) = self.folded.iter().position(|wanted| *wanted == *folded)
                && !seen.contains(&at)
            {
                seen.push(at);
                if seen.len() == self.folded.len() {
                    return true;
                }
            }
        }
        false
    }
}

/// The rows of ASCII texts, one behind the other in `values`, in which `word` stands as a word: one search through all of them,
/// which is many times faster than taking each apart.
fn rows_with(word: &Regex, offsets: &[i32], values: &[u8]) -> BooleanBuffer {
    let rows = offsets.len() - 1;
    let mut has = BooleanBufferBuilder::new(rows);
    has.append_n(rows, false);
    let (mut row, end) = (0, offsets[rows] as usize);
    let mut at = offsets[0] as usize;
    while let Some(found) = word.find_at(&values[..end], at) {
        while offsets[row + 1] as usize <= found.start() {
            row += 1;
        }
        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
        let is_part = |byte: u8| is_part_of_word(char::from(byte));
        let begins = found.start() == from || !is_part(values[found.start() - 1]);
        let ends = found.end() == to || (found.end() < to && !is_part(values[found.end()]));
        if begins && ends {
            has.set_bit(row, true);
            at = to;
        } else {
            // Another one that begins within this one would have a letter of it before it.
            at = found.start() + 1;
        }
    }
    has.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_must_be_there_whole_in_any_order_and_case() {
        let has = |text: &str, wanted: &str| Words::of(wanted).are_in(text, &mut Vec::new());
        assert!(has("Connection to db-1 REFUSED", "refused, connection"));
        assert!(has("a b", ""));
        assert!(has("x", "x x"));
        assert!(!has("connections refused", "connection"));
        assert!(!has("", "x"));
    }

    #[test]
    fn a_search_through_all_texts_finds_the_rows_that_each_text_by_itself_gives() {
        let texts = [
            Some("refused"),
            Some(""),
            None,
            Some("REFUSED refuse"),
            Some("re"),
            Some("fused"),
            Some("xrefused refused_"),
            Some("unrefused, Refused"),
            Some("a-refused-b ok"),
            Some("refusedrefused"),
            Some("ok"),
            Some("aaa aa a"),
            Some("(ok)"),
        ];
        let ascii = StringArray::from(texts.to_vec());
        let others: Vec<_> = texts.into_iter().chain([Some("\u{212a}ok \u{e9}t\u{e9} o\u{212a}"), None]).collect();
        let others = StringArray::from(others);
        for wanted in ["refused", "aa", "ok", "ok refused", "a", "", "\u{c9}t\u{e9}", "k", "refuse refused"] {
            let words = Words::of(wanted);
            for texts in [&ascii, &others, &ascii.slice(3, 7), &ascii.slice(2, 1), &ascii.slice(0, 0)] {
                let one = |text: Option<&str>| text.map(|text| words.are_in(text, &mut Vec::new()));
                let expected: BooleanArray = texts.iter().map(one).collect();
                assert_eq!(words.rows(texts), expected, "{wanted:?} in {texts:?}");
                assert_eq!(with_words(wanted, |words| words.rows(texts)), expected);
            }
        }
    }
}
