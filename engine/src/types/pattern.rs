//! Regular expressions that are seen through at a glance: those that dashboards make of the values of a variable.

/// Most values, and most bytes of all of them; a longer list is tried on the values that there are.
const VALUES_MAX: usize = 250;
const BYTES_MAX: usize = 64 << 10;

/// What a plain pattern accepts: one of some values, with anything behind it or nothing.
///
/// `web-1|web-2`, `cpu_(user|system)`, `10\.0\.0\.1:9100`, `web-.*`: alternatives with a group of values each, at most. No such
/// pattern accepts the empty string, and each is a valid expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainPattern {
    /// In the order of the pattern; none is empty, unless only what follows is asked for (`.+`).
    pub values: Vec<String>,
    /// At least so many bytes follow the value, if anything may: 0 for `.*`, 1 for `.+`.
    pub more: Option<usize>,
}

impl PlainPattern {
    /// `None` for a pattern that is not plain, or lists much.
    pub fn of(pattern: &str) -> Option<Self> {
        let tail = [(".*", 0), (".+", 1)].into_iter().find_map(|(end, more)| Some((pattern.strip_suffix(end)?, more)));
        let (body, more) = tail.map_or((pattern, None), |(body, more)| (body, Some(more)));
        // The last of `a\.+` belongs to a literal.
        if body.len() > BYTES_MAX || more.is_some() && body.ends_with('\\') {
            return None;
        }
        if body.is_empty() && more == Some(1) {
            return Some(Self { values: vec![String::new()], more });
        }
        let (mut values, mut bytes, mut alternatives) = (Vec::new(), 0, 0);
        let mut in_group = false;
        let is_between = |c: char| {
            in_group = c == '(' || in_group && c != ')';
            c == '|' && !in_group
        };
        for alternative in body.split(is_between) {
            alternatives += 1;
            let (before, group, behind) = match alternative.split_once('(') {
                None => ("", alternative, ""),
                Some((before, rest)) => {
                    let (group, behind) = rest.split_once(')')?;
                    (before, group, behind)
                }
            };
            let (before, behind) = (literal(before)?, literal(behind)?);
            for inner in group.split('|') {
                let inner = literal(inner).filter(|inner| !inner.is_empty())?;
                let value = [before.as_str(), &inner, &behind].concat();
                bytes += value.len();
                if values.len() == VALUES_MAX || bytes > BYTES_MAX {
                    return None;
                }
                values.push(value);
            }
        }
        // `a|b.*` has anything only behind its last value.
        (more.is_none() || alternatives == 1).then_some(Self { values, more })
    }
}

/// What a text without meaning for a regular expression stands for.
fn literal(text: &str) -> Option<String> {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next() == Some('.') => out.push('.'),
            // Between brackets it would mean something.
            c if c == '-' || !regex_syntax::is_meta_character(c) => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    /// Whether a plain pattern accepts `text`.
    fn accepts(plain: &PlainPattern, text: &str) -> bool {
        plain.values.iter().any(|value| match plain.more {
            None => text == value,
            Some(more) => text.starts_with(value) && text.len() >= value.len() + more,
        })
    }

    /// Compares with the expression, on its values and what is near them.
    fn check(pattern: &str, plain: &PlainPattern) {
        let regex = Regex::new(&format!("^(?s:{pattern})$")).expect("plain patterns are valid");
        let near = plain.values.iter().flat_map(|value| {
            ["", "x", "\n", "|", "."].into_iter().flat_map(move |c| [format!("{value}{c}"), format!("{c}{value}")])
        });
        for text in near.chain(["".into(), "a".into(), "c".into(), pattern.into()]) {
            assert_eq!(accepts(plain, &text), regex.is_match(&text), "{pattern} on {text:?}");
        }
        assert!(!accepts(plain, ""), "{pattern}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_is_found_plain_is_what_the_regular_expression_accepts(
            pattern in r#"([a-c0é]|[|()]|\\\.|\.\*|\.\+|[-.*+?\[\]{}^$\\#&~ /,:@=%!;<>"'`_]){1,9}"#,
        ) {
            if let Some(plain) = PlainPattern::of(&pattern) {
                check(&pattern, &plain);
            }
        }
    }

    #[test]
    fn a_plain_pattern_accepts_what_the_regular_expression_does() {
        let plain = |values: &[&str], more| {
            Some(PlainPattern { values: values.iter().map(ToString::to_string).collect(), more })
        };
        for (pattern, expect) in [
            ("a", plain(&["a"], None)),
            ("web-1|web 2|ärz", plain(&["web-1", "web 2", "ärz"], None)),
            ("cpu_(user|system)", plain(&["cpu_user", "cpu_system"], None)),
            (r"10\.0\.0\.(1|2):9100", plain(&["10.0.0.1:9100", "10.0.0.2:9100"], None)),
            ("web-.*", plain(&["web-"], Some(0))),
            ("(a|b).+", plain(&["a", "b"], Some(1))),
            (".+", plain(&[""], Some(1))),
            (r"a\.b.+", plain(&["a.b"], Some(1))),
            ("a|b.*", None),
            (r"a\.*", None),
            (r"a\\.*", None),
            (".*", None),
            ("", None),
            ("a|", None),
            ("|a", None),
            ("()", None),
            ("a(|b)", None),
            ("(a|b)|c", plain(&["a", "b", "c"], None)),
            (r"9|10\.(0|1)", plain(&["9", "10.0", "10.1"], None)),
            ("a(b)c|d(e|f)", plain(&["abc", "de", "df"], None)),
            ("(a|b)c.*", plain(&["ac", "bc"], Some(0))),
            ("a%/,@=!;\"'<>`_: b", plain(&["a%/,@=!;\"'<>`_: b"], None)),
            ("(a)|b.*", None),
            ("a)|(b", None),
            ("(a)(b)", None),
            ("((a))", None),
            ("a)", None),
            ("(a", None),
            (")a(", None),
            ("a.b", None),
            ("a+", None),
            ("a{2}", None),
            ("[ab]", None),
            (r"a\d", None),
            ("a\\", None),
            ("(?i)a", None),
            ("^a$", None),
            ("a.+.*", None),
        ] {
            let found = PlainPattern::of(pattern);
            assert_eq!(found, expect, "{pattern}");
            let Some(found) = found else { continue };
            check(pattern, &found);
        }
    }

    #[test]
    fn what_lists_much_is_not_plain() {
        let list = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join("|");
        assert!(PlainPattern::of(&list(VALUES_MAX)).is_some() && PlainPattern::of(&list(VALUES_MAX + 1)).is_none());
        let long = format!("{}({})", "a".repeat(1000), list(200));
        assert!(PlainPattern::of(&long).is_none(), "200 values of 1,000 bytes");
        assert!(PlainPattern::of(&"a".repeat(BYTES_MAX + 1)).is_none());
    }
}
