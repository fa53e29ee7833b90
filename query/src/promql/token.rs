//! Tokens of PromQL with their places: what bounds, rewrites and points into a text needs to know of it.
//!
//! Never fails and never recurses: what is no token is a [`Kind::Unknown`], which the parser will refuse.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or a keyword.
    Name,
    /// A number without unit, underscores between its digits included.
    Number,
    /// A number with units: `1h30m`.
    Duration,
    /// A string with its quotes.
    Text,
    /// An operator, a bracket, a comma.
    Symbol,
    /// Anything else, an unterminated string for one.
    Unknown,
}

/// A token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Where it begins, in bytes.
    pub(crate) at: usize,
}

impl Token<'_> {
    /// Where it ends, in bytes.
    pub(crate) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// Whether it is the operator or bracket `symbol`.
    pub(crate) fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    /// Whether it is one of `names`, in any case.
    pub(crate) fn is_name(&self, names: &[&str]) -> bool {
        self.kind == Kind::Name && names.iter().any(|name| self.text.eq_ignore_ascii_case(name))
    }
}

/// Symbols of two characters.
const PAIRS: [&str; 8] = ["==", "=~", "!=", "!~", ">=", "<=", "</", ">/"];

/// The tokens of `text` in order; spaces and comments are left out.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let (mut at, mut in_brackets) = (0, false);
    std::iter::from_fn(move || {
        at += skipped(&text[at..]);
        let rest = &text[at..];
        let first = rest.chars().next()?;
        let (kind, length) = token(rest, first, in_brackets);
        match first {
            '[' if kind == Kind::Symbol => in_brackets = true,
            ']' if kind == Kind::Symbol => in_brackets = false,
            _ => {}
        }
        let token = Token { kind, text: &rest[..length], at };
        at += length;
        Some(token)
    })
}

/// Length of the spaces and comments that `rest` begins with.
fn skipped(rest: &str) -> usize {
    let mut at = 0;
    loop {
        let after = &rest[at..];
        let spaces = after.len() - after.trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
        let comment = match after[spaces..].strip_prefix('#') {
            Some(comment) => 1 + comment.find(['\n', '\r']).unwrap_or(comment.len()),
            None => 0,
        };
        if spaces + comment == 0 {
            return at;
        }
        at += spaces + comment;
    }
}

/// Kind and length of the token that `rest` begins with. Inside brackets a colon stands between two durations.
fn token(rest: &str, first: char, in_brackets: bool) -> (Kind, usize) {
    let second = rest[first.len_utf8()..].chars().next();
    match first {
        '"' | '\'' | '`' => string(rest, first),
        '0'..='9' => number(rest),
        '.' if second.is_some_and(|c| c.is_ascii_digit()) => number(rest),
        _ if is_word_start(first) || (first == ':' && !in_brackets) => {
            let is_word = |c: char| is_word_start(c) || c.is_ascii_digit() || (c == ':' && !in_brackets);
            (Kind::Name, rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
        }
        _ if PAIRS.iter().any(|pair| rest.starts_with(pair)) => (Kind::Symbol, 2),
        '(' | ')' | '[' | ']' | '{' | '}' | ',' | ':' | '@' | '+' | '-' | '*' | '/' | '%' | '^' | '=' | '<' | '>' => {
            (Kind::Symbol, 1)
        }
        _ => (Kind::Unknown, first.len_utf8()),
    }
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn string(rest: &str, quote: char) -> (Kind, usize) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if c == quote => return (Kind::Text, at + 1),
            _ => {}
        }
    }
    (Kind::Unknown, rest.len())
}

fn number(rest: &str) -> (Kind, usize) {
    let run = |from: usize, is_digit: fn(u8) -> bool| {
        let digits = rest.as_bytes()[from..].iter().take_while(|&&b| is_digit(b) || b == b'_');
        from + digits.count()
    };
    let is_digit = |b: u8| b.is_ascii_digit();
    let mut end = if rest.starts_with("0x") || rest.starts_with("0X") {
        run(2, |b| b.is_ascii_hexdigit())
    } else {
        let mut end = run(0, is_digit);
        if rest[end..].starts_with('.') {
            end = run(end + 1, is_digit);
        }
        let exponent = rest[end..].strip_prefix(['e', 'E']).map(|after| after.trim_start_matches(['+', '-']));
        match exponent {
            Some(digits) if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                run(rest.len() - digits.len(), is_digit)
            }
            _ => end,
        }
    };
    let before = end;
    end += rest[end..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len() - end);
    (if end == before { Kind::Number } else { Kind::Duration }, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).map(|token| token.text).collect()
    }

    #[test]
    fn a_text_is_cut_where_the_parser_cuts_it() {
        assert_eq!(
            texts("sum by(a)(x:y[5m:1m])"),
            ["sum", "by", "(", "a", ")", "(", "x:y", "[", "5m", ":", "1m", "]", ")"]
        );
        assert_eq!(texts("a</2>=-.5e-3 # b\n!=1_0 0xf_f"), ["a", "</", "2", ">=", "-", ".5e-3", "!=", "1_0", "0xf_f"]);
        assert_eq!(texts("{a=~\"x\\\"}\", 'é'!~`\\`}"), ["{", "a", "=~", "\"x\\\"}\"", ",", "'é'", "!~", "`\\`", "}"]);
    }

    #[test]
    fn nothing_makes_it_fail() {
        for text in ["\"open", "é€\u{1}", "5", ".", "1e", "1e+", "0x", "[", "'", "\\", "a\u{a0}b", ""] {
            assert_eq!(tokens(text).last().map_or(0, |last| last.end()), text.len(), "{text:?}");
        }
        assert_eq!(tokens("\"open").next().map(|token| token.kind), Some(Kind::Unknown));
        assert_eq!(tokens("1h30m 5").map(|token| token.kind).collect::<Vec<_>>(), [Kind::Duration, Kind::Number]);
    }
}
