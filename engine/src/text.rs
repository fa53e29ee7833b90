//! Words of a text: what a search for text compares, and what filters of record segments hold.
//!
//! A word is a longest run of letters, digits (of any script) and `_`. Words are compared without case, by their lower-case
//! form; where a word ends does not depend on case.
use std::borrow::Cow;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        let found: Vec<_> = words("GET /api/v1/user_id=42: Ärger, 5.3ms; \u{4f60}\u{597d}!").map(fold).collect();
        assert_eq!(found, ["get", "api", "v1", "user_id", "42", "ärger", "5", "3ms", "\u{4f60}\u{597d}"]);
        assert_eq!(words(" -- ... ").count(), 0);
    }
}
