//! `| logfmt`: `key=value key="quoted value" flag`.
#[cfg(test)]
use std::borrow::Cow;

use super::super::labels;

/// Calls `take` with each key and its value, if it has one. Answers whether all of `text` is such pairs; what is none is
/// passed over up to the next space.
pub(crate) fn fields(text: &str, take: &mut dyn FnMut(&str, Option<&str>)) -> bool {
    let mut rest = text.trim_start();
    let mut well_formed = true;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix('=').filter(|_| !key.is_empty()) else {
            if after.is_empty() || after.starts_with(char::is_whitespace) {
                take(key, None);
                rest = after.trim_start();
            } else {
                well_formed = false;
                rest = past_word(after);
            }
            continue;
        };
        if value.starts_with('"') {
            match labels::string(value) {
                Some((text, after)) if after.is_empty() || after.starts_with(char::is_whitespace) => {
                    take(key, Some(&text));
                    rest = after.trim_start();
                }
                _ => {
                    well_formed = false;
                    rest = past_word(value);
                }
            }
            continue;
        }
        let end = value.find(char::is_whitespace).unwrap_or(value.len());
        let (value, after) = value.split_at(end);
        if value.contains(['"', '=']) {
            well_formed = false;
        } else {
            take(key, Some(value));
        }
        rest = after.trim_start();
    }
    well_formed
}

fn past_word(text: &str) -> &str {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    text[end..].trim_start()
}

/// Text of a value, as a line of such pairs has it.
#[cfg(test)]
pub(super) fn quoted(value: &str) -> Cow<'_, str> {
    let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '"' || c == '=' || c == '\\');
    if plain { Cow::Borrowed(value) } else { Cow::Owned(serde_json::Value::from(value).to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(text: &str) -> (Vec<(String, String)>, bool) {
        let mut found = Vec::new();
        let well_formed = fields(text, &mut |key, value| {
            found.push((key.to_owned(), value.unwrap_or("-").to_owned()));
        });
        (found, well_formed)
    }

    #[test]
    fn what_was_written_is_read() {
        let pairs = [("a", "1"), ("msg", "two words \"quoted\" = ä"), ("path", "/x?y"), ("empty", ""), ("t", "a\tb")];
        let line: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
        let expected = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        assert_eq!(fields_of(&line.join(" ")), (expected, true));
    }

    #[test]
    fn what_is_no_pair_is_passed_over_and_said() {
        for (text, found, well_formed) in [
            ("", &[][..], true),
            ("flag a=1", &[("flag", "-"), ("a", "1")][..], true),
            ("=x a=1", &[("a", "1")][..], false),
            ("a=\"open b=1", &[("b", "1")][..], false),
            ("a=b=c d=1", &[("d", "1")][..], false),
            ("a= b=1", &[("a", ""), ("b", "1")][..], true),
            ("x\"y\" b=1", &[("b", "1")][..], false),
        ] {
            let found = found.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(fields_of(text), (found, well_formed), "{text}");
        }
    }
}
