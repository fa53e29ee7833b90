//! Words of a text: what a search for text compares, and what filters of record segments hold.
//!
//! A word is a longest run of letters, digits (of any script) and `_`. Words are compared without case, by their lower-case
//! form; where a word ends does not depend on case.
use std::borrow::Cow;
use std::collections::BTreeSet;

use arrow::array::{Array, BooleanArray, BooleanBufferBuilder, StringArray};
use arrow::buffer::BooleanBuffer;
use regex::bytes::{Regex, RegexBuilder};

/// Longest word that is looked for by a pattern.
const PATTERN_BYTES_MAX: usize = 1024;

/// The words of `text` in order, as they stand there.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_part_of_word(c)).filter(|word| !word.is_empty())
}

/// Whether `c` can be part of a word.
pub fn is_part_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || (!c.is_ascii() && c.is_alphanumeric())
}

/// The form in which words are compared.
pub fn fold(word: &str) -> Cow<'_, str> {
    if word.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(word.to_lowercase())
    }
}

/// Words that a text must have: all of them, in any order and any case.
#[derive(Clone, Debug)]
pub struct Words {
    folded: BTreeSet<String>,
    /// Finds each of them in ASCII, where no other letters have their small forms; `None` if one cannot be there or is long.
    patterns: Option<Vec<Regex>>,
}

impl Words {
    /// Those of a text. Every text has the words of one without any.
    pub fn of(wanted: &str) -> Self {
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

    /// In the form in which they are compared.
    pub fn folded(&self) -> &BTreeSet<String> {
        &self.folded
    }

    /// Of each text whether it has all words; NULL of NULL.
    pub fn rows(&self, texts: &StringArray) -> BooleanArray {
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
    pub fn are_in(&self, text: &str, seen: &mut Vec<usize>) -> bool {
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
    fn words_are_runs_of_letters_digits_and_underscores() {
        let found: Vec<_> = words("GET /api/v1/user_id=42: Ärger, 5.3ms; \u{4f60}\u{597d}!").map(fold).collect();
        assert_eq!(found, ["get", "api", "v1", "user_id", "42", "ärger", "5", "3ms", "\u{4f60}\u{597d}"]);
        assert_eq!(words(" -- ... ").count(), 0);
    }

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
            }
        }
    }
}
