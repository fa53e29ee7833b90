//! Statements about continuous queries, recognised on tokens before DataFusion sees the text.
//!
//! ```text
//!  CREATE CONTINUOUS QUERY [IF NOT EXISTS] name INTO table [WATERMARK '30s'] AS SELECT …
//!  SHOW CONTINUOUS QUERIES
//!  DESCRIBE CONTINUOUS QUERY name        (or DESC)
//!  DROP CONTINUOUS QUERY [IF EXISTS] name
//! ```
//! Names fold to lower case unless quoted, as table names do.
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::definition::{Definition, NAME_BYTES_MAX};
use crate::duration;
use crate::error::{Error, Result};

/// How far behind the newest sample windows stay open when the statement does not say.
const WATERMARK_NS_DEFAULT: i64 = 300_000_000_000;

/// A statement about continuous queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectStatement {
    /// `CREATE CONTINUOUS QUERY`
    Create {
        /// What to create.
        definition: Definition,
        /// Whether an existing query of the same name is fine.
        if_not_exists: bool,
    },
    /// `SHOW CONTINUOUS QUERIES`
    Show,
    /// `DESCRIBE CONTINUOUS QUERY`
    Describe {
        /// Name.
        name: String,
    },
    /// `DROP CONTINUOUS QUERY`
    Drop {
        /// Name.
        name: String,
        /// Whether a missing query is fine.
        if_exists: bool,
    },
}

/// The statement in `sql` if it is one about continuous queries; `None` leaves the text to the SQL planner.
pub(crate) fn parse(sql: &str) -> Option<Result<ObjectStatement>> {
    // Most statements are SELECTs: decide on the first word before tokenizing everything.
    let first: String = sql.trim_start().chars().take(9).collect::<String>().to_ascii_lowercase();
    let comment = first.starts_with("--") || first.starts_with("/*");
    if !comment && !["create", "show", "desc", "drop"].iter().any(|word| first.starts_with(word)) {
        return None;
    }
    // Text that does not tokenize gets the planner's error.
    let tokens: Vec<TokenWithSpan> = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .ok()?
        .into_iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .collect();
    let mut cursor = Cursor { sql, tokens: &tokens, next: 0 };
    let verb = ["create", "show", "describe", "desc", "drop"].into_iter().find(|verb| cursor.word(verb))?;
    if !cursor.word("continuous") {
        return None;
    }
    Some(match verb {
        "create" => cursor.create(),
        "show" => cursor.show(),
        "drop" => cursor.drop(),
        _ => cursor.describe(),
    })
}

struct Cursor<'a> {
    sql: &'a str,
    tokens: &'a [TokenWithSpan],
    next: usize,
}

impl Cursor<'_> {
    fn create(mut self) -> Result<ObjectStatement> {
        self.expect("query")?;
        let if_not_exists = self.word("if");
        if if_not_exists {
            self.expect("not")?;
            self.expect("exists")?;
        }
        let name = self.name("a name for the continuous query")?;
        self.expect("into")?;
        let target = self.name("a table to write to")?;
        let mut watermark_ns = WATERMARK_NS_DEFAULT;
        if self.word("watermark") {
            watermark_ns = match self.take() {
                Some(Token::SingleQuotedString(text)) => duration::parse(text)?,
                other => return Err(expected("a duration such as '30s' after WATERMARK", other)),
            };
        }
        self.expect("as")?;
        let Some(start) = self.tokens.get(self.next) else { return Err(expected("SELECT …", None)) };
        let mut sql = self.sql[byte_offset(self.sql, start.span.start)..].trim_end();
        while let Some(shorter) = sql.strip_suffix(';') {
            sql = shorter.trim_end();
        }
        Ok(ObjectStatement::Create {
            definition: Definition { name, target, sql: sql.to_owned(), watermark_ns },
            if_not_exists,
        })
    }

    fn show(mut self) -> Result<ObjectStatement> {
        self.expect("queries")?;
        self.end()?;
        Ok(ObjectStatement::Show)
    }

    fn describe(mut self) -> Result<ObjectStatement> {
        self.expect("query")?;
        let name = self.name("the name of a continuous query")?;
        self.end()?;
        Ok(ObjectStatement::Describe { name })
    }

    fn drop(mut self) -> Result<ObjectStatement> {
        self.expect("query")?;
        let if_exists = self.word("if");
        if if_exists {
            self.expect("exists")?;
        }
        let name = self.name("the name of a continuous query")?;
        self.end()?;
        Ok(ObjectStatement::Drop { name, if_exists })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|token| &token.token)
    }
    fn take(&mut self) -> Option<&Token> {
        let token = self.tokens.get(self.next).map(|token| &token.token);
        self.next += 1;
        token
    }
    /// Consumes the next token if it is this unquoted word.
    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }
    fn expect(&mut self, word: &str) -> Result<()> {
        if self.word(word) { Ok(()) } else { Err(expected(&word.to_ascii_uppercase(), self.peek())) }
    }
    fn name(&mut self, what: &str) -> Result<String> {
        let name = match self.take() {
            Some(Token::Word(word)) if word.quote_style.is_some() => word.value.clone(),
            Some(Token::Word(word)) => word.value.to_lowercase(),
            Some(Token::DoubleQuotedString(text)) => text.clone(),
            other => return Err(expected(what, other)),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '-');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(legal) {
            return Err(Error::invalid(format!(
                "name \"{name}\" must have 1 to {NAME_BYTES_MAX} characters out of letters, digits and _ : . -"
            )));
        }
        if self.peek() == Some(&Token::Period) {
            return Err(Error::invalid(
                "names of continuous queries and of their tables have no schema: write one name",
            ));
        }
        Ok(name)
    }
    fn end(&mut self) -> Result<()> {
        while self.peek() == Some(&Token::SemiColon) {
            self.next += 1;
        }
        match self.peek() {
            None | Some(Token::EOF) => Ok(()),
            other => Err(expected("the end of the statement", other)),
        }
    }
}

fn expected(what: &str, found: Option<&Token>) -> Error {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn create(sql: &str) -> (Definition, bool) {
        match parse(sql).unwrap().unwrap() {
            ObjectStatement::Create { definition, if_not_exists } => (definition, if_not_exists),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn create_keeps_the_select_byte_for_byte() {
        let (definition, if_not_exists) =
            create("-- größe\ncreate Continuous QUERY Cpu_1m INTO \"Cpu\" watermark '1m30s'\nAS\n SELECT 'ä',\n 2 ; ");
        assert_eq!(
            definition,
            Definition {
                name: "cpu_1m".into(),
                target: "Cpu".into(),
                sql: "SELECT 'ä',\n 2".into(),
                watermark_ns: 90_000_000_000
            }
        );
        assert!(!if_not_exists);
        let (definition, if_not_exists) = create("CREATE CONTINUOUS QUERY IF NOT EXISTS q INTO t AS SELECT 1");
        assert_eq!((definition.watermark_ns, if_not_exists), (WATERMARK_NS_DEFAULT, true));
    }

    #[test]
    fn show_describe_and_drop_are_recognised_in_any_case() {
        assert_eq!(parse(" show continuous queries;").unwrap().unwrap(), ObjectStatement::Show);
        assert_eq!(
            parse("DESC CONTINUOUS QUERY \"Q\"").unwrap().unwrap(),
            ObjectStatement::Describe { name: "Q".into() }
        );
        assert_eq!(
            parse("/* x */ drop continuous query if exists Q").unwrap().unwrap(),
            ObjectStatement::Drop { name: "q".into(), if_exists: true }
        );
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in [
            "SELECT 1",
            "SHOW TABLES",
            "create table continuous (a int)",
            "DROP TABLE t",
            "select 'create continuous query'",
            "",
            "create 'unterminated",
        ] {
            assert!(parse(sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn wrong_statements_say_what_was_expected() {
        for (sql, message) in [
            ("CREATE CONTINUOUS VIEW v AS SELECT 1", "expected QUERY, found VIEW"),
            ("CREATE CONTINUOUS QUERY q AS SELECT 1", "expected INTO, found AS"),
            ("CREATE CONTINUOUS QUERY q INTO t", "expected AS, found the end of the statement"),
            ("CREATE CONTINUOUS QUERY q INTO t AS", "expected SELECT …, found the end of the statement"),
            (
                "CREATE CONTINUOUS QUERY q INTO s.t AS SELECT 1",
                "names of continuous queries and of their tables have no schema: write one name",
            ),
            (
                "CREATE CONTINUOUS QUERY q INTO t WATERMARK 30 AS SELECT 1",
                "expected a duration such as '30s' after WATERMARK, found 30",
            ),
            (
                "CREATE CONTINUOUS QUERY q INTO t WATERMARK '30 parsecs' AS SELECT 1",
                "'30 parsecs' is not a duration: write numbers with units ns, us, ms, s, m, h, d, w or y, for example '90s' or '1h30m'",
            ),
            ("SHOW CONTINUOUS QUERIES now", "expected the end of the statement, found now"),
            (
                "DROP CONTINUOUS QUERY \"a b\"",
                "name \"a b\" must have 1 to 128 characters out of letters, digits and _ : . -",
            ),
        ] {
            assert_eq!(parse(sql).unwrap().unwrap_err().message, message, "{sql}");
        }
    }
}
