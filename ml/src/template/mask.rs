//! Texts of words and slots with their numbers as `<*>`.
use super::class;
use super::hash;
use super::line::{SLOT_BYTES_MAX, VALUE};

pub(super) fn has_digit(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit)
}

/// Hash of a word, the same whatever its numbers are: `tty1` and `tty22` are one word.
pub(super) fn word_hash(text: &[u8]) -> u64 {
    if has_digit(text) { hash::bytes(&without_digits(text)) } else { hash::bytes(text) }
}

/// `text` with every row of digits as `<*>`.
fn without_digits(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 8);
    for (at, &byte) in text.iter().enumerate() {
        if !byte.is_ascii_digit() {
            out.push(byte);
        } else if at == 0 || !text[at - 1].is_ascii_digit() {
            out.extend_from_slice(VALUE);
        }
    }
    out
}

/// Whether `form` is `text` with `<*>` for its numbers, or has nothing to do with numbers and is the same.
pub(super) fn is_form_of(form: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut at) = (form, 0);
    while at < text.len() {
        let digits = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let expected = if digits > 0 { VALUE } else { &text[at..=at] };
        let Some(after) = rest.strip_prefix(expected) else { return false };
        (rest, at) = (after, at + digits.max(1));
    }
    rest.is_empty()
}

/// What two texts of one place have in common: the text, the text without its numbers, or nothing. In whatever order
/// texts come, the outcome is the same.
pub(super) fn common(a: &[u8], b: &[u8]) -> Vec<u8> {
    if a == b {
        return a.to_vec();
    }
    let form = without_digits(a);
    if is_form_of(&form, b) { form } else { VALUE.to_vec() }
}

/// `text` with every number in it as `<*>`; numbers in a row (`1445_0020_m_000000`) are one. Returns the length.
pub(super) fn mask(text: &[u8], out: &mut [u8; SLOT_BYTES_MAX * 3]) -> usize {
    let part_of_name = |b: u8| b.is_ascii_alphanumeric() || b >= 128;
    let (mut length, mut at) = (0, 0);
    // Where the last value ends, if only marks and single letters have followed.
    let mut value_end = None;
    while at < text.len() {
        let begin = at;
        while at < text.len() && part_of_name(text[at]) {
            at += 1;
        }
        let part = &text[begin..at];
        let value = part.first().is_some_and(u8::is_ascii_digit) || class::hexadecimal(part);
        if value {
            match value_end {
                Some(end) => length = end,
                None => {
                    // A sign after a mark belongs to the number: `blk_-17`.
                    if length >= 2 && out[length - 1] == b'-' && !part_of_name(out[length - 2]) {
                        length -= 1;
                    }
                    out[length..length + VALUE.len()].copy_from_slice(VALUE);
                    length += VALUE.len();
                }
            }
            value_end = Some(length);
        } else {
            if part.len() > 1 {
                value_end = None;
            }
            out[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        if let Some(&mark) = text.get(at) {
            if !matches!(mark, b'_' | b'-' | b'.') {
                value_end = None;
            }
            out[length] = mark;
            length += 1;
            at += 1;
        }
    }
    length
}
