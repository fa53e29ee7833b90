//! Statements of our own, which DataFusion does not know: read token by token.
use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::duration;
use crate::error::{Error, Result};
use crate::table::sys::{batch, texts};

/// Longest name of an object or of a table that it writes, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// The tokens of `sql` without white space, if it begins with one of `verbs`. Text that does not tokenize is left to the
/// planner, whose error says why.
pub(crate) fn tokens(sql: &str, verbs: &[&str]) -> Option<Vec<TokenWithSpan>> {
    // Most statements are SELECTs: decide on the first word before tokenizing everything.
    let first: String = sql.trim_start().chars().take(9).collect::<String>().to_ascii_lowercase();
    let comment = first.starts_with("--") || first.starts_with("/*");
    if !comment && !verbs.iter().any(|verb| first.starts_with(verb)) {
        return None;
    }
    let mut tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().ok()?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    Some(tokens)
}

/// What happens when an object of the name exists that is to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// An error.
    Refused,
    /// Nothing.
    Kept,
    /// It makes way.
    Replaced,
}

impl Existing {
    /// What there is to say, if nothing has to be done about `kind` `name` that exists; `same` when it is as the statement says.
    ///
    /// # Errors
    /// `Invalid` when it must not exist.
    pub(crate) fn settled(self, kind: &str, name: &str, same: bool) -> Result<Option<String>> {
        match self {
            Self::Replaced if same => Ok(Some(format!("{kind} {name} is unchanged"))),
            Self::Replaced => Ok(None),
            Self::Kept => Ok(Some(format!("{kind} {name} exists"))),
            Self::Refused => Err(Error::invalid(format!(
                "{kind} {name} exists: drop it first, choose another name, or write OR REPLACE"
            ))),
        }
    }
}

/// What a definition says, by name: two with the same properties are the same.
pub(crate) type Properties = Vec<(&'static str, String)>;

/// What `EXPLAIN CREATE` answers: a row for each property that would change, or one that says `create` or `unchanged`.
///
/// # Errors
/// `Internal`.
pub(crate) fn preview(kind: &str, name: &str, is: Option<&Properties>, becomes: &Properties) -> Result<RecordBatch> {
    let differ =
        is.map(|is| is.iter().zip(becomes).filter(|(is, becomes)| is != becomes).map(Some).collect::<Vec<_>>());
    let (change, rows) = match differ {
        None => ("create", vec![None]),
        Some(rows) if rows.is_empty() => ("unchanged", vec![None]),
        Some(rows) => ("replace", rows),
    };
    let all = |text: &str| texts(rows.iter().map(|_| Some(text.to_owned())));
    let rows = batch(vec![
        ("kind", all(kind)),
        ("name", all(name)),
        ("change", all(change)),
        ("property", texts(rows.iter().map(|row| row.map(|(is, _)| is.0.to_owned())))),
        ("is", texts(rows.iter().map(|row| row.map(|(is, _)| is.1.clone())))),
        ("becomes", texts(rows.iter().map(|row| row.map(|(_, becomes)| becomes.1.clone())))),
    ]);
    rows.map_err(Error::from_datafusion)
}

/// How a statement about objects begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// Its first word.
    pub(crate) verb: &'static str,
    /// Whether it is `EXPLAIN CREATE`: what it would change.
    pub(crate) preview: bool,
    /// Whether `OR REPLACE` follows `CREATE`.
    pub(crate) replace: bool,
}

impl Opening {
    /// Reads it, if it is one of `verbs`.
    pub(crate) fn read(cursor: &mut Cursor<'_>, verbs: &[&'static str]) -> Option<Self> {
        let verb = verbs.iter().find(|verb| cursor.word(verb))?;
        let preview = *verb == "explain" && cursor.word("create");
        let creates = preview || *verb == "create";
        let replace = creates && cursor.word("or") && cursor.word("replace");
        Some(Self { verb: if preview { "create" } else { verb }, preview, replace })
    }
}

/// Reads a statement from its beginning.
pub(crate) struct Cursor<'a> {
    sql: &'a str,
    tokens: &'a [TokenWithSpan],
    next: usize,
}

impl<'a> Cursor<'a> {
    /// `tokens` are of `sql`.
    pub(crate) fn new(sql: &'a str, tokens: &'a [TokenWithSpan]) -> Self {
        Self { sql, tokens, next: 0 }
    }

    /// The next token.
    pub(crate) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next).map(|token| &token.token)
    }
    /// Consumes the next token.
    pub(crate) fn take(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.next).map(|token| &token.token);
        self.next += 1;
        token
    }
    /// Consumes the next token if it is this unquoted word.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }
    /// Consumes this word.
    pub(crate) fn expect(&mut self, word: &str) -> Result<()> {
        if self.word(word) { Ok(()) } else { Err(expected(&word.to_ascii_uppercase(), self.peek())) }
    }
    /// `IF EXISTS`
    pub(crate) fn if_exists(&mut self) -> Result<bool> {
        let found = self.word("if");
        if found {
            self.expect("exists")?;
        }
        Ok(found)
    }
    /// `IF NOT EXISTS`
    pub(crate) fn if_not_exists(&mut self) -> Result<bool> {
        let found = self.word("if");
        if found {
            self.expect("not")?;
            self.expect("exists")?;
        }
        Ok(found)
    }
    /// `IF NOT EXISTS` after `CREATE`, or after `CREATE OR REPLACE` (`replace`).
    pub(crate) fn existing(&mut self, replace: bool) -> Result<Existing> {
        match (replace, self.if_not_exists()?) {
            (true, true) => Err(Error::invalid("write OR REPLACE or IF NOT EXISTS, not both")),
            (true, false) => Ok(Existing::Replaced),
            (false, true) => Ok(Existing::Kept),
            (false, false) => Ok(Existing::Refused),
        }
    }
    /// The name of an object: lower case unless quoted.
    pub(crate) fn name(&mut self, what: &str) -> Result<String> {
        let name = self.column(what)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '-');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(legal) {
            return Err(Error::invalid(format!(
                "name \"{name}\" must have 1 to {NAME_BYTES_MAX} characters out of letters, digits and _ : . -"
            )));
        }
        if self.peek() == Some(&Token::Period) {
            return Err(Error::invalid("names of objects and of their tables have no schema: write one name"));
        }
        Ok(name)
    }
    /// Nothing but semicolons is left.
    pub(crate) fn end(&mut self) -> Result<()> {
        while self.peek() == Some(&Token::SemiColon) {
            self.next += 1;
        }
        match self.peek() {
            None | Some(Token::EOF) => Ok(()),
            other => Err(expected("the end of the statement", other)),
        }
    }

    /// As [`Cursor::end`]; the error names what might have stood there.
    pub(crate) fn end_or(&mut self, what: &str) -> Result<()> {
        match self.peek() {
            None | Some(Token::EOF | Token::SemiColon) => self.end(),
            other => Err(expected(&format!("{what} or the end of the statement"), other)),
        }
    }

    /// The whole statement, without a semicolon.
    pub(crate) fn statement(&self) -> &'a str {
        self.sql.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
    }

    /// The value of a quoted text.
    pub(crate) fn text(&mut self, what: &str) -> Result<&'a str> {
        match self.take() {
            Some(Token::SingleQuotedString(text)) => Ok(text),
            other => Err(expected(what, other)),
        }
    }

    /// A length of time in quotes, ns.
    pub(crate) fn duration(&mut self, after: &str) -> Result<i64> {
        duration::parse(self.text(&format!("a duration such as '30s' after {after}"))?)
    }

    /// A whole number.
    pub(crate) fn number(&mut self, what: &str) -> Result<u64> {
        match self.take() {
            Some(token @ Token::Number(digits, _)) => digits.parse().map_err(|_| expected(what, Some(token))),
            other => Err(expected(what, other)),
        }
    }

    /// A number without a sign, as it is written.
    pub(crate) fn decimal(&mut self, what: &str) -> Result<&'a str> {
        match self.take() {
            Some(Token::Number(digits, _)) if digits.parse::<f64>().is_ok() => Ok(digits),
            other => Err(expected(what, other)),
        }
    }

    /// Names in brackets, at least one.
    pub(crate) fn names(&mut self, what: &str) -> Result<Vec<String>> {
        self.list(|cursor| cursor.column(what))
    }

    /// The name of a column: any text.
    pub(crate) fn column(&mut self, what: &str) -> Result<String> {
        match self.take() {
            Some(Token::Word(word)) if word.quote_style.is_some() => Ok(word.value.clone()),
            Some(Token::Word(word)) => Ok(word.value.to_lowercase()),
            Some(Token::DoubleQuotedString(text)) => Ok(text.clone()),
            other => Err(expected(what, other)),
        }
    }

    /// Things in brackets with commas between them, at least one.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.punctuation(&Token::LParen)?;
        let mut items = vec![item(self)?];
        while self.peek() == Some(&Token::Comma) {
            self.next += 1;
            items.push(item(self)?);
        }
        self.punctuation(&Token::RParen)?;
        Ok(items)
    }

    /// What stands before the first of `words` outside of brackets, or before the end, byte for byte.
    pub(crate) fn until(&mut self, words: &[&str], what: &str) -> Result<&'a str> {
        let (start, mut open) = (self.next, 0usize);
        while let Some(token) = self.peek() {
            match token {
                Token::LParen => open += 1,
                Token::RParen => open = open.saturating_sub(1),
                Token::SemiColon | Token::EOF => break,
                Token::Word(word)
                    if open == 0
                        && word.quote_style.is_none()
                        && words.iter().any(|end| word.value.eq_ignore_ascii_case(end)) =>
                {
                    break;
                }
                _ => {}
            }
            self.next += 1;
        }
        if self.next == start {
            return Err(expected(what, self.peek()));
        }
        let from = byte_offset(self.sql, self.tokens[start].span.start);
        let to = byte_offset(self.sql, self.tokens[self.next - 1].span.end);
        Ok(self.sql[from..to].trim())
    }

    /// Consumes this token.
    pub(crate) fn punctuation(&mut self, token: &Token) -> Result<()> {
        if self.peek() == Some(token) {
            self.next += 1;
            return Ok(());
        }
        Err(expected(&token.to_string(), self.peek()))
    }

    /// What stands between brackets, byte for byte.
    pub(crate) fn bracketed(&mut self, what: &str) -> Result<&'a str> {
        if self.peek() != Some(&Token::LParen) {
            return Err(expected(what, self.peek()));
        }
        let start = self.next;
        let mut open = 0usize;
        while let Some(token) = self.take() {
            match token {
                Token::LParen => open += 1,
                Token::RParen => open -= 1,
                _ => {}
            }
            if open == 0 {
                let from = byte_offset(self.sql, self.tokens[start].span.end);
                let to = byte_offset(self.sql, self.tokens[self.next - 1].span.start);
                return Ok(self.sql[from..to].trim());
            }
        }
        Err(expected(")", None))
    }

    /// Everything that is left, without a semicolon.
    pub(crate) fn rest(&mut self, what: &str) -> Result<&'a str> {
        let Some(start) = self.tokens.get(self.next) else { return Err(expected(what, None)) };
        let mut rest = self.sql[byte_offset(self.sql, start.span.start)..].trim_end();
        while let Some(shorter) = rest.strip_suffix(';') {
            rest = shorter.trim_end();
        }
        Ok(rest)
    }
}

/// The error of a token that is not what stands there.
pub(crate) fn expected(what: &str, found: Option<&Token>) -> Error {
    match found {
        Some(token) => Error::invalid(format!("expected {what}, found {token}")),
        None => Error::invalid(format!("expected {what}, found the end of the statement")),
    }
}

/// Where a location of the tokenizer (lines and characters from 1) lies in `sql`.
fn byte_offset(sql: &str, location: Location) -> usize {
    let (mut line, mut column) = (1, 1);
    for (offset, c) in sql.char_indices() {
        if (line, column) == (location.line, location.column) {
            return offset;
        }
        if c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    sql.len()
}
