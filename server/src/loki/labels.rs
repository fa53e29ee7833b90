//! `{name="value", …}`: the labels of a stream in the protobuf form, values quoted as Go quotes strings.
use std::borrow::Cow;

use super::push::{Budget, PushError};

/// The pairs of `text` in the order in which they stand.
///
/// # Errors
/// `Malformed`, saying where; `TooLarge`.
pub fn parse<'a>(text: &'a str, budget: &mut Budget) -> Result<Vec<(Cow<'a, str>, Cow<'a, str>)>, PushError> {
    let malformed = |rest: &str, what: &str| {
        let at = text.len() - rest.len();
        let shown: String = text.chars().take(200).collect();
        PushError::Malformed(format!("cannot read the labels {shown:?}: {what} at byte {at}; write {{name=\"value\"}}"))
    };
    let inside = text.trim().strip_prefix('{').ok_or_else(|| malformed(text, "no '{'"))?;
    let mut rest = inside.trim_start();
    let mut pairs = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix('}') {
            return match end.trim_start() {
                "" => Ok(pairs),
                _ => Err(malformed(end, "text after '}'")),
            };
        }
        budget.take()?;
        let name_end = rest.find(|c: char| !is_part_of_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_end);
        if name.is_empty() {
            return Err(malformed(rest, "no name"));
        }
        let after = after.trim_start().strip_prefix('=').ok_or_else(|| malformed(after, "no '='"))?.trim_start();
        let (value, after) = string(after).ok_or_else(|| malformed(after, "no quoted value"))?;
        pairs.push((Cow::Borrowed(name), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if rest.starts_with('}') => {}
            None => return Err(malformed(rest, "neither ',' nor '}'")),
        }
    }
}

/// Whether names of labels may have `c`.
pub(super) fn is_part_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_:.".contains(c)
}

/// The string literal that `text` begins with, and what comes after it.
pub(super) fn string(text: &str) -> Option<(Cow<'_, str>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (value, rest) = raw.split_once('`')?;
        return Some((Cow::Borrowed(value), rest));
    }
    let text = text.strip_prefix('"')?;
    let plain = text.find(['"', '\\'])?;
    if text[plain..].starts_with('"') {
        return Some((Cow::Borrowed(&text[..plain]), &text[plain + 1..]));
    }
    // Escapes may stand for single bytes of a character.
    let mut value = text.as_bytes()[..plain].to_vec();
    let mut chars = text[plain..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = &text[plain + at + 1..];
                return Some((Cow::Owned(String::from_utf8(value).ok()?), rest));
            }
            '\\' => {
                let escaped = chars.next()?.1;
                let mut digits = |count: usize, radix: u32, first: Option<char>| {
                    let mut number = first.map_or(Some(0), |c| c.to_digit(radix))?;
                    for _ in 0..count {
                        number = number.checked_mul(radix)?.checked_add(chars.next()?.1.to_digit(radix)?)?;
                    }
                    Some(number)
                };
                let plain = match escaped {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' | '"' | '\'' => escaped as u8,
                    'x' => u8::try_from(digits(2, 16, None)?).ok()?,
                    '0'..='7' => u8::try_from(digits(2, 8, Some(escaped))?).ok()?,
                    'u' | 'U' => {
                        let c = char::from_u32(digits(if escaped == 'u' { 4 } else { 8 }, 16, None)?)?;
                        value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        continue;
                    }
                    _ => return None,
                };
                value.push(plain);
            }
            c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, PushError> {
        let pairs = parse(text, &mut Budget::new(10))?;
        Ok(pairs.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    #[test]
    fn labels_are_read_as_clients_write_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parsed("{}").unwrap(), []);
        assert_eq!(parsed(r#"{app="shop"}"#).unwrap(), [pair("app", "shop")]);
        assert_eq!(parsed("{ app = \"shop\" , path=`C:\\x`, }").unwrap(), [pair("app", "shop"), pair("path", "C:\\x")]);
        assert_eq!(
            parsed(r#"{a="q\"\\\n\tä\x41\102\u00e4\U0001F600\xc3\xa4,}",b=""}"#).unwrap(),
            [pair("a", "q\"\\\n\täABä\u{1f600}ä,}"), pair("b", "")]
        );
    }

    #[test]
    fn what_is_no_label_set_says_where() {
        for (text, at) in [
            ("", 0),
            ("app=\"x\"", 0),
            ("{app}", 4),
            ("{app=x}", 5),
            ("{=\"x\"}", 1),
            ("{app=\"x\" b=\"y\"}", 9),
            ("{app=\"x\"", 8),
            ("{app=\"x}", 5),
            ("{app=\"\\q\"}", 5),
            ("{app=\"\\xff\"}", 5),
            ("{app=\"\\777\"}", 5),
            ("{app=\"x\"} y", 9),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(&format!("at byte {at};")), "{text}: {error}");
        }
        let many: Vec<String> = (0..11).map(|i| format!("l{i}=\"\"")).collect();
        assert!(matches!(parsed(&format!("{{{}}}", many.join(","))), Err(PushError::TooLarge(_))));
    }
}
