//! Text and actions of a template, and the words of an action.

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// What stands between the braces, without trim marks.
    Action(&'a str),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Name(String),
    /// `.Name`, without the dot; follows its operand without a gap, or stands alone.
    Field(String),
    /// `$name`, with the dollar.
    Variable(String),
    Dot,
    Text(String),
    Int(i64),
    Float(f64),
    Open,
    Close,
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// A word, and whether it follows the one before without a gap.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) glued: bool,
}

/// Splits `source` at its actions; `{{-` and `-}}` take the space beside them away, comments go.
///
/// # Errors
/// An action or comment without its end.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece<'_>>, String> {
    let (mut pieces, mut rest, mut trim) = (Vec::new(), source, false);
    loop {
        let (mut text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        if trim {
            text = text.trim_start();
        }
        let Some(action) = action else {
            pieces.push(Piece::Text(text));
            return Ok(pieces);
        };
        let action = match action.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace)) {
            Some(after) => {
                text = text.trim_end();
                after
            }
            None => action,
        };
        pieces.push(Piece::Text(text));
        let end = end_of(action)?;
        let inside = &action[..end];
        rest = &action[end + 2..];
        let inside = match inside.strip_suffix('-').filter(|rest| rest.ends_with(char::is_whitespace)) {
            Some(before) => {
                trim = true;
                before
            }
            None => {
                trim = false;
                inside
            }
        };
        if !inside.trim().starts_with("/*") {
            pieces.push(Piece::Action(inside));
        }
    }
}

/// Where the closing braces of an action stand, those inside strings and comments not counted.
fn end_of(action: &str) -> Result<usize, String> {
    if action.trim_start().starts_with("/*") {
        let end = action.find("*/").ok_or("unclosed comment")?;
        return action[end..]
            .find("}}")
            .map(|at| end + at)
            .ok_or_else(|| "comment ends before closing delimiter".into());
    }
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in action.char_indices() {
        match quote {
            Some(end) => match c {
                _ if escaped => escaped = false,
                '\\' if end != '`' => escaped = true,
                _ if c == end => quote = None,
                _ => {}
            },
            None if c == '"' || c == '`' || c == '\'' => quote = Some(c),
            None if action[at..].starts_with("}}") => return Ok(at),
            None => {}
        }
    }
    Err("unclosed action".into())
}

/// The words of an action.
///
/// # Errors
/// A character or literal that is none.
pub(super) fn words(action: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest, mut glued) = (Vec::new(), action, false);
    loop {
        let trimmed = rest.trim_start();
        glued &= trimmed.len() == rest.len();
        let Some(first) = trimmed.chars().next() else { return Ok(tokens) };
        let (word, len) = word(trimmed, first)?;
        tokens.push(Token { word, glued });
        glued = true;
        rest = &trimmed[len..];
    }
}

/// The word at the start of `text`, and its bytes.
fn word(text: &str, first: char) -> Result<(Word, usize), String> {
    let name = |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    match first {
        '(' => Ok((Word::Open, 1)),
        ')' => Ok((Word::Close, 1)),
        '|' => Ok((Word::Pipe, 1)),
        ',' => Ok((Word::Comma, 1)),
        ':' if text.starts_with(":=") => Ok((Word::Declare, 2)),
        '=' => Ok((Word::Assign, 1)),
        '"' => quoted(text),
        '\'' => character(text),
        '`' => {
            let end = text[1..].find('`').ok_or("unterminated raw quoted string")?;
            Ok((Word::Text(text[1..=end].to_owned()), end + 2))
        }
        '$' => {
            let len = 1 + name(&text[1..]);
            Ok((Word::Variable(text[..len].to_owned()), len))
        }
        '.' if !text[1..].starts_with(|c: char| c.is_ascii_digit()) => match name(&text[1..]) {
            0 => Ok((Word::Dot, 1)),
            len => Ok((Word::Field(text[1..=len].to_owned()), len + 1)),
        },
        '+' | '-' | '.' | '0'..='9' => number(text),
        c if c.is_alphabetic() || c == '_' => {
            let len = name(text);
            Ok((Word::Name(text[..len].to_owned()), len))
        }
        c => Err(format!("unexpected {c:?} in an action")),
    }
}

fn number(text: &str) -> Result<(Word, usize), String> {
    let mut len = 0;
    let mut before = ' ';
    for c in text.chars() {
        let signed = matches!(c, '+' | '-') && (len == 0 || matches!(before, 'e' | 'E'));
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || signed) {
            break;
        }
        len += c.len_utf8();
        before = c;
    }
    let literal = &text[..len];
    let plain = literal.replace('_', "");
    let (digits, negative) = match plain.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (plain.strip_prefix('+').unwrap_or(&plain), false),
    };
    let whole = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    };
    if let Some(whole) = whole {
        return Ok((Word::Int(if negative { -whole } else { whole }), len));
    }
    match plain.parse::<f64>() {
        Ok(number) if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => Ok((Word::Float(number), len)),
        _ => Err(format!("bad number syntax: {literal:?}")),
    }
}

/// A string in double quotes.
fn quoted(text: &str) -> Result<(Word, usize), String> {
    let (mut out, mut at) = (String::new(), 1);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' => return Ok((Word::Text(out), at + 1)),
            '\n' => break,
            '\\' => {
                let (c, len) = escape(&text[at..])?;
                out.push(c);
                at += len;
            }
            c => {
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    Err("unterminated quoted string".into())
}

/// A character in single quotes is its number.
fn character(text: &str) -> Result<(Word, usize), String> {
    let bad = || "malformed character constant".to_owned();
    let (c, len) = match text[1..].chars().next().ok_or_else(bad)? {
        '\\' => escape(&text[1..])?,
        c => (c, c.len_utf8()),
    };
    if text[1 + len..].starts_with('\'') { Ok((Word::Int(i64::from(u32::from(c))), len + 2)) } else { Err(bad()) }
}

/// The character that a backslash at the start of `text` begins.
fn escape(text: &str) -> Result<(char, usize), String> {
    let bad = || "bad escape in a quoted string".to_owned();
    let hex = |len: usize| {
        let code = text.get(2..2 + len).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        code.and_then(char::from_u32).map(|c| (c, 2 + len)).ok_or_else(bad)
    };
    match text[1..].chars().next().ok_or_else(bad)? {
        'n' => Ok(('\n', 2)),
        't' => Ok(('\t', 2)),
        'r' => Ok(('\r', 2)),
        'a' => Ok(('\u{7}', 2)),
        'b' => Ok(('\u{8}', 2)),
        'f' => Ok(('\u{c}', 2)),
        'v' => Ok(('\u{b}', 2)),
        c @ ('\\' | '"' | '\'') => Ok((c, 2)),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        _ => Err(bad()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn trim_marks_take_space_and_comments_go() {
        use Piece::{Action, Text};
        let got = pieces("a {{- .X -}} b{{/* }} no */}}c{{ \"}}\" }}").unwrap();
        let expected = [Text("a"), Action(" .X "), Text("b"), Text("c"), Action(" \"}}\" "), Text("")];
        assert_eq!(got, expected);
        for bad in ["{{", "a {{ \"}}", "{{/* x }}"] {
            assert!(pieces(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_know_whether_they_touch() {
        let got: Vec<(Word, bool)> = words("printf \"%.2f\" $labels.job .Value|f -1.5 0x10 `r\\`")
            .unwrap()
            .into_iter()
            .map(|t| (t.word, t.glued))
            .collect();
        let name = |text: &str| Word::Name(text.into());
        let expected = [
            (name("printf"), false),
            (Word::Text("%.2f".into()), false),
            (Word::Variable("$labels".into()), false),
            (Word::Field("job".into()), true),
            (Word::Field("Value".into()), false),
            (Word::Pipe, true),
            (name("f"), true),
            (Word::Float(-1.5), false),
            (Word::Int(16), false),
            (Word::Text("r\\".into()), false),
        ];
        assert_eq!(got, expected);
        for bad in ["\"a", "1x", "'ab'", "#", "\"\\q\""] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
