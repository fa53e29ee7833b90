//! Relation arguments: `forecast(TABLE t, …)`, also spelled `forecast('t', …)` and `forecast('SELECT …', …)`.
//!
//! All spellings become a subquery, `forecast((SELECT * FROM t), …)`, while the statement is still a list of tokens. So
//! what stands inside a string is bounded, counted and checked like the rest of the statement.
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};

use super::table_form::{TableForm, table_form};
use crate::error::{Error, Result};

/// Most strings inside one another.
const NESTED_MAX: usize = 4;

/// Makes subqueries of the relation arguments among the tokens of a statement, white space left out.
///
/// # Errors
/// `Invalid` for text that is neither a name nor a query, and for strings that are nested too deeply.
pub(crate) fn expand(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let mut out = Vec::with_capacity(tokens.len());
    splice(tokens, 0, &mut out)?;
    Ok(out)
}

fn splice(tokens: Vec<TokenWithSpan>, nested: usize, out: &mut Vec<TokenWithSpan>) -> Result<()> {
    // Of each open bracket the function it belongs to, and how many of its relations are still to come.
    let mut open: Vec<Option<(&'static TableForm, usize)>> = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let begins = match token.token {
            Token::LParen => {
                let form = out.last().and_then(|before| called(&before.token));
                open.push(form.map(|form| (form, form.relations)));
                true
            }
            Token::LBracket | Token::LBrace => {
                open.push(None);
                false
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                open.pop();
                false
            }
            Token::Comma => true,
            _ => false,
        };
        out.push(token);
        let Some(Some((form, left))) = open.last_mut().filter(|_| begins) else { continue };
        let Some(fewer) = left.checked_sub(1) else { continue };
        *left = fewer;
        if let Some(argument) = rest.next_if(|next| text(&next.token).is_some() || is_table(&next.token)) {
            match text(&argument.token) {
                Some(text) => subquery(form, &read(form, text)?, argument.span, nested, out)?,
                None => {
                    let is_part = |next: &TokenWithSpan| matches!(next.token, Token::Word(_) | Token::Period);
                    let mut name = Vec::new();
                    while let Some(part) = rest.next_if(is_part) {
                        name.push(part.token);
                    }
                    subquery(form, &name, argument.span, nested, out)?;
                }
            }
        }
    }
    Ok(())
}

/// The function that a word names.
fn called(token: &Token) -> Option<&'static TableForm> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => table_form(&word.value),
        _ => None,
    }
}

fn text(token: &Token) -> Option<&str> {
    match token {
        Token::SingleQuotedString(text) => Some(text),
        Token::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

fn is_table(token: &Token) -> bool {
    is_word(token, Keyword::TABLE)
}

fn is_word(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.keyword == keyword)
}

/// The tokens of a relation given as text.
fn read(form: &TableForm, text: &str) -> Result<Vec<Token>> {
    let mut tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize()
        .map_err(|error| Error::invalid(format!("{}: cannot read the relation: {error}", form.name)))?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_) | Token::EOF));
    while tokens.last().is_some_and(|token| *token == Token::SemiColon) {
        tokens.pop();
    }
    Ok(tokens)
}

/// Appends `(SELECT …)` for a name or a query, which must end where its text ends.
fn subquery(
    form: &TableForm,
    relation: &[Token],
    span: Span,
    nested: usize,
    out: &mut Vec<TokenWithSpan>,
) -> Result<()> {
    let wrap = |token: Token| TokenWithSpan::new(token, span);
    let is_query = relation.first().is_some_and(|t| is_word(t, Keyword::SELECT) || is_word(t, Keyword::WITH));
    let is_name = relation.len() % 2 == 1
        && relation.iter().enumerate().all(|(i, token)| match token {
            Token::Word(_) => i % 2 == 0,
            Token::Period => i % 2 == 1,
            _ => false,
        });
    if is_query && is_whole(relation) {
        if nested == NESTED_MAX {
            return Err(Error::invalid(format!(
                "{}: more than {NESTED_MAX} relations inside one another: use WITH",
                form.name
            )));
        }
        out.push(wrap(Token::LParen));
        splice(relation.iter().cloned().map(wrap).collect(), nested + 1, out)?;
    } else if is_name {
        out.push(wrap(Token::LParen));
        out.extend([Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")].map(wrap));
        out.extend(relation.iter().cloned().map(wrap));
    } else {
        return Err(Error::invalid(format!(
            "{}: the relation must be the name of a table or a SELECT: write {}",
            form.name, form.example
        )));
    }
    out.push(wrap(Token::RParen));
    Ok(())
}

/// Whether every bracket that is opened is closed, and no statement ends in between.
fn is_whole(tokens: &[Token]) -> bool {
    let mut open = 0usize;
    for token in tokens {
        match token {
            Token::LParen => open += 1,
            Token::RParen => match open.checked_sub(1) {
                Some(left) => open = left,
                None => return false,
            },
            Token::SemiColon => return false,
            _ => {}
        }
    }
    open == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(sql: &str, expect: &str) {
        let mut tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
        let got = match expand(tokens) {
            Ok(tokens) => tokens.iter().map(|t| t.token.to_string()).collect::<Vec<_>>().join(" "),
            Err(error) => error.message,
        };
        assert!(got.contains(expect), "{got}");
    }

    #[test]
    fn all_spellings_become_a_subquery() {
        let name = "forecast ( ( SELECT * FROM metrics . \"a.b\" ) , horizon => 5 )";
        check("FROM forecast(TABLE metrics.\"a.b\", horizon => 5)", name);
        check("FROM forecast('metrics.\"a.b\"', horizon => 5)", name);
        let query = "Forecast ( ( SELECT ts , value FROM m WHERE host = 'a' ) , horizon => 5 )";
        check("FROM Forecast('SELECT ts, value FROM m WHERE host = ''a'';', horizon => 5)", query);
        check("FROM Forecast($$SELECT ts, value FROM m WHERE host = 'a'$$, horizon => 5)", query);
        check("FROM forecast((SELECT 1), horizon => 5)", "forecast ( ( SELECT 1 ) , horizon => 5 )");
    }

    #[test]
    fn a_function_of_two_relations_has_both_expanded() {
        check(
            "FROM explain_change(TABLE a.b, 'SELECT * FROM c WHERE x = ''y''', dims => ['d', 'e'])",
            "explain_change ( ( SELECT * FROM a . b ) , ( SELECT * FROM c WHERE x = 'y' ) , dims => [ 'd' , 'e' ] )",
        );
        check(
            "FROM explain_change((SELECT f('x', y)), TABLE c, dims => ['d'])",
            "explain_change ( ( SELECT f ( 'x' , y ) ) , ( SELECT * FROM c ) , dims => [ 'd' ] )",
        );
        check("FROM forecast(TABLE a, 'b')", "forecast ( ( SELECT * FROM a ) , 'b' )");
    }

    #[test]
    fn other_functions_keep_their_strings() {
        check("SELECT time_bucket('5m', ts), \"forecast\"('t')", "time_bucket ( '5m' , ts ) , \"forecast\" ( 't' )");
        check("SELECT forecast(ts, value, '6h')", "forecast ( ts , value , '6h' )");
    }

    #[test]
    fn what_is_no_relation_is_refused_with_an_example() {
        for text in ["", "a.", "a b", "1", "DROP TABLE t", "SELECT 1) , (SELECT 2", "SELECT (1", "SELECT 1; SELECT 2"] {
            check(&format!("FROM forecast('{text}', horizon => 5)"), "or a SELECT: write SELECT * FROM forecast(TABLE");
        }
        check("FROM forecast(TABLE, horizon => 5)", "must be the name of a table");
        check("FROM forecast('SELECT ''', horizon => 5)", "cannot read the relation");
    }

    #[test]
    fn relations_inside_one_another_are_bounded() {
        let nest = |levels: usize| {
            (0..levels).fold("t".to_owned(), |inner, _| {
                format!("SELECT * FROM forecast('{}', horizon => 5)", inner.replace('\'', "''"))
            })
        };
        check(&nest(NESTED_MAX + 1), "forecast ( ( SELECT * FROM t ) ,");
        check(&nest(NESTED_MAX + 2), "more than 4 relations inside one another");
    }
}
