//! Label sets and matchers as Prometheus writes them: `up{job="a", code!~"5.."}`, `{__name__="up"}`, `{"odd.name", "odd-label"="x"}`.
use std::str::Chars;

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// A label, how it is compared, and with what.
pub(super) type Condition = (String, Op, String);

const METRIC_NAME: &str = "__name__";
/// Conditions of one selector.
const CONDITIONS_MAX: usize = 256;

/// Reads conditions at the start of `text`; returns them with what follows. A metric's name is a condition on `__name__`.
///
/// # Errors
/// What was expected.
pub(super) fn parse(text: &str) -> Result<(Vec<Condition>, &str), String> {
    let mut scanner = Scanner { text, at: 0 };
    let mut found = Vec::new();
    scanner.skip_spaces();
    let name = scanner.bare();
    if !name.is_empty() {
        found.push((METRIC_NAME.to_owned(), Op::Equal, name.to_owned()));
        scanner.skip_spaces();
    }
    if scanner.eat('{') {
        scanner.conditions(&mut found)?;
    } else if found.is_empty() {
        return Err("expected a metric's name or {label=\"value\", …}".to_owned());
    }
    Ok((found, &text[scanner.at..]))
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    /// A name without quotes, maybe empty.
    fn bare(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || "={}!~,\"'".contains(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// What stands between braces, the closing one included.
    fn conditions(&mut self, found: &mut Vec<Condition>) -> Result<(), String> {
        loop {
            self.skip_spaces();
            if self.eat('}') {
                return Ok(());
            }
            if found.len() >= CONDITIONS_MAX {
                return Err(format!("more than {CONDITIONS_MAX} labels"));
            }
            let quoted = self.rest().starts_with(['"', '\'']);
            let name = if quoted { self.quoted()? } else { self.bare().to_owned() };
            if name.is_empty() {
                return Err("expected the name of a label or }".to_owned());
            }
            self.skip_spaces();
            match self.operator() {
                Some(op) => {
                    self.skip_spaces();
                    let value = self.quoted()?;
                    found.push((name, op, value));
                }
                None if quoted => found.push((METRIC_NAME.to_owned(), Op::Equal, name)),
                None => return Err(format!("expected =, !=, =~ or !~ after {name}")),
            }
            self.skip_spaces();
            if !self.eat(',') && !self.rest().starts_with('}') {
                return Err("expected , or } after a label".to_owned());
            }
        }
    }

    fn operator(&mut self) -> Option<Op> {
        let operators = [("=~", Op::Regex), ("!~", Op::NotRegex), ("!=", Op::NotEqual), ("=", Op::Equal)];
        let (text, op) = operators.into_iter().find(|(text, _)| self.rest().starts_with(text))?;
        self.at += text.len();
        Some(op)
    }

    /// Text between quotes with the escapes of Go, which Prometheus is written in.
    fn quoted(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or("expected text in quotes")?;
        let mut chars = rest[1..].chars();
        let mut bytes = Vec::new();
        loop {
            match chars.next().ok_or("text in quotes does not end")? {
                c if c == quote => break,
                '\\' => escaped(&mut chars, &mut bytes).ok_or("text in quotes has an unknown escape")?,
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.at = self.text.len() - chars.as_str().len();
        String::from_utf8(bytes).map_err(|_| "a label is not UTF-8".to_owned())
    }
}

/// What follows a backslash.
fn escaped(chars: &mut Chars<'_>, out: &mut Vec<u8>) -> Option<()> {
    let digits = |chars: &mut Chars<'_>, count: usize, radix: u32| {
        (0..count).try_fold(0u32, |value, _| Some(value * radix + chars.next()?.to_digit(radix)?))
    };
    match chars.next()? {
        'a' => out.push(0x07),
        'b' => out.push(0x08),
        'f' => out.push(0x0c),
        'n' => out.push(b'\n'),
        'r' => out.push(b'\r'),
        't' => out.push(b'\t'),
        'v' => out.push(0x0b),
        c @ ('\\' | '"' | '\'') => out.push(c as u8),
        'x' => out.push(u8::try_from(digits(chars, 2, 16)?).ok()?),
        c @ ('u' | 'U') => {
            let point = digits(chars, if c == 'u' { 4 } else { 8 }, 16)?;
            out.extend_from_slice(char::from_u32(point)?.encode_utf8(&mut [0; 4]).as_bytes());
        }
        c @ '0'..='7' => {
            let value = digits(chars, 2, 8)? + c.to_digit(8)? * 64;
            out.push(u8::try_from(value).ok()?);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok((conditions, rest)) => {
                let all: Vec<_> =
                    conditions.iter().map(|(name, op, value)| format!("{name} {op:?} {value:?}")).collect();
                format!("{}|{rest}", all.join(", "))
            }
            Err(error) => error,
        }
    }

    #[test]
    fn every_spelling_of_prometheus_is_read() {
        assert_eq!(shown("up 1 2"), r#"__name__ Equal "up"|1 2"#);
        assert_eq!(shown(r#"up{} 1"#), r#"__name__ Equal "up"| 1"#);
        assert_eq!(shown(r#"{__name__="up", a="b"} 1"#), r#"__name__ Equal "up", a Equal "b"| 1"#);
        assert_eq!(shown(r#"up{a = "b",c!~'d.*',}"#), r#"__name__ Equal "up", a Equal "b", c NotRegex "d.*"|"#);
        assert_eq!(
            shown(r#"{"odd.name","odd-label"!="x",y=~""}"#),
            r#"__name__ Equal "odd.name", odd-label NotEqual "x", y Regex ""|"#
        );
        assert_eq!(
            shown(r#"job:load:avg5m{a="} \"\\\n\t\x41\u00e4\U0001F600\101"} 7"#),
            "__name__ Equal \"job:load:avg5m\", a Equal \"} \\\"\\\\\\n\\tAä😀A\"| 7"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "expected a metric's name"),
            ("{", "expected the name of a label"),
            ("{a}", "expected =, !="),
            ("{a=b}", "text in quotes"),
            (r#"{a="b"#, "does not end"),
            (r#"{a="\q"}"#, "unknown escape"),
            (r#"{a="\xff"}"#, "not UTF-8"),
            (r#"{a="\xf"}"#, "unknown escape"),
            (r#"{a="\ud800"}"#, "unknown escape"),
            (r#"{a="b" c="d"}"#, "expected , or }"),
            (r#"{,}"#, "expected the name of a label"),
        ] {
            assert!(shown(text).contains(expected), "{text}: {}", shown(text));
        }
        let many = format!("{{{}}}", vec!["a=\"b\""; 300].join(","));
        assert!(shown(&many).contains("more than 256"));
    }
}
