//! What is wrong with an expression, and where.
use super::token::{Kind, Token};
use crate::error::Error;

/// A fault at a byte of the text.
#[derive(Debug)]
pub(crate) struct Fault {
    at: usize,
    message: String,
}

impl Fault {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// `token`, or the end of the text, stands where it must not.
    pub(crate) fn unexpected(token: Option<&Token<'_>>, text: &str, context: &str) -> Self {
        let what = token.map_or_else(|| "end of input".to_owned(), |token| format!("{:?}", shortened(token.text)));
        Self::new(token.map_or(text.len(), |token| token.at), format!("unexpected {what} {context}").trim_end())
    }

    /// As the user sees it: line and column, both from 1, as Prometheus counts them.
    pub(crate) fn error(self, text: &str) -> Error {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
        Error::invalid(format!("invalid parameter \"query\": {line}:{column}: parse error: {}", self.message))
    }
}

/// The parser has refused `text` with `message`, which does not say where: finds the token that cannot stand where it does,
/// or the name that the message speaks of.
pub(crate) fn locate(text: &str, tokens: &[Token<'_>], message: &str) -> Error {
    let mut reader = Reader { tokens, at: 0 };
    if reader.expression().is_err() || reader.at < tokens.len() {
        return Fault::unexpected(tokens.get(reader.at), text, "").error(text);
    }
    let name = message.split('\'').nth(1);
    let named = tokens.iter().find(|token| token.kind == Kind::Name && Some(token.text) == name);
    match named {
        Some(token) => Fault::new(token.at, message).error(text),
        None => Error::invalid(format!("invalid parameter \"query\": parse error: {message}")),
    }
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(30).map_or(text, |(end, _)| &text[..end])
}

/// Reads an expression without making anything of it; `at` stays at the first token that cannot be read.
struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
}

/// Nothing can be read here.
struct Stuck;

const OPERATORS: [&str; 14] = ["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">=", "</", ">/"];
const WORD_OPERATORS: [&str; 4] = ["and", "or", "unless", "atan2"];
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

impl Reader<'_> {
    fn is(&self, symbol: &str) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.is(symbol))
    }

    fn is_name(&self, names: &[&str]) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.is_name(names))
    }

    fn kind(&self) -> Option<Kind> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    fn take(&mut self, symbol: &str) -> Result<(), Stuck> {
        if !self.is(symbol) {
            return Err(Stuck);
        }
        self.at += 1;
        Ok(())
    }

    fn expression(&mut self) -> Result<(), Stuck> {
        loop {
            while self.is("-") || self.is("+") {
                self.at += 1;
            }
            self.operand()?;
            let is_operator = OPERATORS.iter().any(|operator| self.is(operator)) || self.is_name(&WORD_OPERATORS);
            if !is_operator {
                return Ok(());
            }
            self.at += 1;
            while self.is_name(&["bool"]) || self.is_name(&LISTS) || self.is_name(&["fill", "fill_left", "fill_right"])
            {
                self.at += 1;
                if self.is("(") && !self.tokens[self.at - 1].is_name(&["bool"]) {
                    self.group("(", ")")?;
                }
            }
        }
    }

    fn operand(&mut self) -> Result<(), Stuck> {
        match self.kind() {
            Some(Kind::Number | Kind::Duration | Kind::Text) => self.at += 1,
            Some(Kind::Name) => {
                self.at += 1;
                let is_aggregate = self.is_name(&LISTS);
                if is_aggregate {
                    self.at += 1;
                    self.group("(", ")")?;
                }
                if self.is("(") {
                    self.arguments()?;
                    if self.is_name(&LISTS[..2]) {
                        self.at += 1;
                        self.group("(", ")")?;
                    }
                } else if self.is("{") {
                    self.group("{", "}")?;
                }
            }
            Some(Kind::Symbol) if self.is("(") => {
                self.at += 1;
                self.expression()?;
                self.take(")")?;
            }
            Some(Kind::Symbol) if self.is("{") => self.group("{", "}")?,
            _ => return Err(Stuck),
        }
        self.modifiers()
    }

    fn arguments(&mut self) -> Result<(), Stuck> {
        self.take("(")?;
        while !self.is(")") {
            self.expression()?;
            if !self.is(")") {
                self.take(",")?;
            }
        }
        self.take(")")
    }

    fn modifiers(&mut self) -> Result<(), Stuck> {
        loop {
            if self.is("[") {
                self.group("[", "]")?;
            } else if self.is("@") || self.is_name(&["offset"]) {
                self.at += 1;
                while self.is("-") || self.is("+") {
                    self.at += 1;
                }
                if self.is("(") {
                    self.group("(", ")")?;
                } else {
                    self.kind().ok_or(Stuck)?;
                    self.at += 1;
                    if self.is("(") {
                        self.group("(", ")")?;
                    }
                }
            } else if self.is_name(&["anchored", "smoothed"]) {
                self.at += 1;
            } else {
                return Ok(());
            }
        }
    }

    /// Everything up to the bracket that closes.
    fn group(&mut self, open: &str, close: &str) -> Result<(), Stuck> {
        self.take(open)?;
        let mut depth = 1usize;
        while depth > 0 {
            let token = self.tokens.get(self.at).filter(|token| token.kind != Kind::Unknown).ok_or(Stuck)?;
            depth = if token.is(open) {
                depth + 1
            } else if token.is(close) {
                depth - 1
            } else {
                depth
            };
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    fn place(text: &str, message: &str) -> String {
        let tokens: Vec<Token<'_>> = tokens(text).collect();
        locate(text, &tokens, message).message.replace("invalid parameter \"query\": ", "")
    }

    #[test]
    fn a_fault_names_line_and_column() {
        assert_eq!(place("sum(up))", "?"), "1:8: parse error: unexpected \")\"");
        assert_eq!(place("sum(up", "?"), "1:7: parse error: unexpected end of input");
        assert_eq!(place("a +\n  * b", "?"), "2:3: parse error: unexpected \"*\"");
        assert_eq!(place("foo bar", "?"), "1:5: parse error: unexpected \"bar\"");
        assert_eq!(place("1 + nope(x)", "unknown function with name 'nope'"), {
            "1:5: parse error: unknown function with name 'nope'"
        });
    }

    #[test]
    fn what_is_right_is_read_to_its_end() {
        for text in [
            "sum by (a) (rate(x{b=\"c\"}[5m:1m] offset -1h @ end())) / on(d) group_left(e) fill(0) -{f=~\"g\"} ^ 2",
            "topk without (a) (3, x @ 5 anchored) unless (y or z) == bool 1",
            "count(x) by (le,)",
        ] {
            assert_eq!(place(text, "the parser's own words"), "parse error: the parser's own words", "{text}");
        }
    }
}
