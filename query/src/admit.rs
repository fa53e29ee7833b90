//! Admission: bounds the shape of a statement before anything recursive sees it.
//!
//! DataFusion 55 overflows the stack, and so ends the process, on operator chains that fit into a few kilobytes of text.
//! This module therefore walks the *tokens*, which takes no recursion and linear time, and bounds
//!
//! | what | bound | why |
//! |---|---|---|
//! | bytes of text | `sql_bytes_max` | everything below is linear in it |
//! | parentheses, brackets, `CASE`, runs of `NOT` or signs | `depth_max` | depth of the syntax tree |
//! | operators on one path from the root of an expression to a leaf | `terms_max` | `1+1+…` and `OR` chains are as deep as they are long |
//! | operators of a whole statement | 8 × `terms_max` | simplification passes are superlinear |
//! | items of one list | `terms_max` | same |
//! | joins and set operations | [`RELATIONS_MAX`] | each is a level of the plan |
//! | uses of `WITH` names, expanded | [`CTE_USES_MAX`] | each use copies the plan: a chain of doublings is exponential |
//!
//! Relations given as text (`forecast('SELECT …', …)`) are tokens like the others by then. It never plans and never looks at names
//! other than those of `WITH` and of the functions that take relations.
use std::collections::HashMap;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::error::{Error, Result};
use crate::limits::QueryLimits;
use crate::udf::relation;

#[cfg(test)]
mod tests;

/// Most tables, joins and set operations in one statement.
pub(crate) const RELATIONS_MAX: usize = 128;
/// Most copies of `WITH` bodies in one statement.
pub(crate) const CTE_USES_MAX: u64 = 1_024;

/// A statement whose shape is bounded.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// Its tokens, without a trailing semicolon.
    pub(crate) tokens: Vec<TokenWithSpan>,
    /// Its first words in upper case (at most four), for dispatch.
    pub(crate) words: Vec<String>,
}

/// Checks `sql` against `limits`.
///
/// # Errors
/// `Invalid`, naming the limit, for text that cannot be tokenised, has more than one statement or is out of bounds.
pub(crate) fn admit(sql: &str, limits: &QueryLimits) -> Result<Admitted> {
    if sql.len() > limits.sql_bytes_max {
        return Err(Error::invalid(format!(
            "the statement has {} bytes, the limit is {}: shorten it",
            sql.len(),
            limits.sql_bytes_max
        )));
    }
    let mut tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|e| Error::invalid(format!("cannot read the statement: {e}")))?;
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
    while tokens.last().is_some_and(|t| t.token == Token::SemiColon) {
        tokens.pop();
    }
    if tokens.is_empty() {
        return Err(Error::invalid("the statement is empty: write one SQL statement"));
    }
    let tokens = relation::expand(tokens)?;
    let mut walk = Walk::new(limits);
    for (at, token) in tokens.iter().enumerate() {
        walk.token(&tokens, at, &token.token)?;
    }
    let words = tokens
        .iter()
        .map_while(|t| match &t.token {
            Token::Word(w) if w.quote_style.is_none() => Some(w.value.to_uppercase()),
            _ => None,
        })
        .take(4)
        .collect();
    Ok(Admitted { tokens, words })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Round,
    Square,
    Case,
}

/// One open bracket.
struct Level {
    bracket: Bracket,
    /// Operators of the chain being read.
    chain: usize,
    /// Longest path of operators inside brackets that belong to this chain.
    inner: usize,
    /// Longest path of the chains already closed.
    longest: usize,
    items: usize,
    /// The word just before the bracket, and the one before the bracket that closed last on this level.
    opener: Option<usize>,
    last_closed_opener: Option<usize>,
    /// Name and expanded uses of the `WITH` body this bracket holds.
    cte: Option<(String, u64)>,
}

impl Level {
    fn new(bracket: Bracket) -> Self {
        Self { bracket, chain: 0, inner: 0, longest: 0, items: 1, opener: None, last_closed_opener: None, cte: None }
    }
    fn close_chain(&mut self) {
        self.longest = self.longest.max(self.chain + self.inner);
        self.chain = 0;
        self.inner = 0;
    }
}

struct Walk<'a> {
    limits: &'a QueryLimits,
    levels: Vec<Level>,
    operators: usize,
    relations: usize,
    explains: usize,
    /// Consecutive prefix operators, and consecutive `.name` parts.
    signs: usize,
    dots: usize,
    previous_is_operator: bool,
    ctes: HashMap<String, u64>,
    cte_uses: u64,
}

impl<'a> Walk<'a> {
    fn new(limits: &'a QueryLimits) -> Self {
        Self {
            limits,
            levels: vec![Level::new(Bracket::Round)],
            operators: 0,
            relations: 0,
            explains: 0,
            signs: 0,
            dots: 0,
            previous_is_operator: false,
            ctes: HashMap::new(),
            cte_uses: 0,
        }
    }

    fn token(&mut self, tokens: &[TokenWithSpan], at: usize, token: &Token) -> Result<()> {
        let mut operator = false;
        let mut sign = false;
        match token {
            Token::LParen | Token::LBrace => self.open(tokens, at, Bracket::Round)?,
            Token::LBracket => {
                self.operator()?;
                self.open(tokens, at, Bracket::Square)?;
            }
            Token::RParen | Token::RBrace | Token::RBracket => self.close(false)?,
            Token::Comma => self.comma()?,
            Token::SemiColon => {
                return Err(Error::invalid("more than one statement: send them one at a time"));
            }
            Token::Word(word) if word.quote_style.is_none() => {
                (operator, sign) = self.word(tokens, at, word.keyword)?;
                self.cte_use(&word.value.to_lowercase())?;
            }
            Token::Word(word) => self.cte_use(&word.value)?,
            Token::Period => {
                self.dots += 1;
                if self.dots > self.limits.depth_max {
                    return Err(self.too_deep("name parts"));
                }
            }
            token if is_operand(token) => {}
            token => {
                operator = true;
                sign = matches!(token, Token::Plus | Token::Minus | Token::Tilde | Token::ExclamationMark);
            }
        }
        if operator {
            self.operator()?;
        }
        self.signs = if sign { self.signs + 1 } else { 0 };
        if self.signs > self.limits.depth_max {
            return Err(self.too_deep("NOTs or signs in a row"));
        }
        if !matches!(token, Token::Period | Token::Word(_)) {
            self.dots = 0;
        }
        self.previous_is_operator = operator;
        Ok(())
    }

    /// (counts as an operator, counts as a sign)
    fn word(&mut self, tokens: &[TokenWithSpan], at: usize, keyword: Keyword) -> Result<(bool, bool)> {
        match keyword {
            Keyword::NOT => return Ok((true, true)),
            Keyword::EXPLAIN => {
                self.explains += 1;
                if self.explains > 1 {
                    return Err(Error::invalid("EXPLAIN of EXPLAIN: write it once"));
                }
            }
            Keyword::CASE => self.open(tokens, at, Bracket::Case)?,
            Keyword::END if self.levels.last().is_some_and(|l| l.bracket == Bracket::Case) => self.close(true)?,
            Keyword::AND
            | Keyword::OR
            | Keyword::XOR
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::DIV
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::TIME
            | Keyword::ZONE
            | Keyword::OVERLAPS
            | Keyword::OPERATOR => return Ok((true, false)),
            // `IS DISTINCT FROM` is an operator; the other FROMs begin a clause.
            Keyword::FROM if at > 0 && is_keyword(&tokens[at - 1].token, Keyword::DISTINCT) => return Ok((true, false)),
            Keyword::FROM
            | Keyword::JOIN
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::MINUS => {
                self.relations += 1;
                if self.relations > RELATIONS_MAX {
                    return Err(Error::invalid(format!(
                        "more than {RELATIONS_MAX} tables, joins and set operations in one statement: split it"
                    )));
                }
                self.clause();
            }
            Keyword::SELECT
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::QUALIFY
            | Keyword::ON
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE
                // After an operator the word can only be somebody's column name: the chain goes on.
                if !self.previous_is_operator =>
            {
                self.clause();
            }
            _ => {}
        }
        Ok((false, false))
    }

    fn clause(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.close_chain();
            level.items = 1;
        }
    }

    fn operator(&mut self) -> Result<()> {
        self.operators += 1;
        if self.operators > self.limits.terms_max * 8 {
            return Err(Error::invalid(format!(
                "more than {} operators in one statement: split it, or use IN (…) for lists of values",
                self.limits.terms_max * 8
            )));
        }
        if let Some(level) = self.levels.last_mut() {
            level.chain += 1;
        }
        self.check_chain()
    }

    fn check_chain(&self) -> Result<()> {
        match self.levels.last() {
            // n operators chain n + 1 terms.
            Some(level) if level.chain + level.inner >= self.limits.terms_max => Err(Error::invalid(format!(
                "more than {} terms in one chain of operators: split it, or use IN (…) for lists of values",
                self.limits.terms_max
            ))),
            _ => Ok(()),
        }
    }

    fn comma(&mut self) -> Result<()> {
        let items_max = self.limits.terms_max;
        if let Some(level) = self.levels.last_mut() {
            level.close_chain();
            level.items += 1;
            if level.items > items_max {
                return Err(Error::invalid(format!("a list of more than {items_max} items: split it")));
            }
        }
        Ok(())
    }

    fn open(&mut self, tokens: &[TokenWithSpan], at: usize, bracket: Bracket) -> Result<()> {
        if self.levels.len() > self.limits.depth_max {
            return Err(self.too_deep("levels of nesting"));
        }
        let mut level = Level::new(bracket);
        level.opener = at.checked_sub(1);
        level.cte = self.cte_name(tokens, at).map(|name| (name, 1));
        self.levels.push(level);
        Ok(())
    }

    /// Closes the innermost bracket; a round or square one also ends a `CASE` that was left open inside it.
    fn close(&mut self, case: bool) -> Result<()> {
        while self.levels.len() > 1 {
            let Some(mut level) = self.levels.pop() else { break };
            level.close_chain();
            if let Some((name, uses)) = level.cte {
                self.ctes.insert(name, uses);
            }
            if let Some(parent) = self.levels.last_mut() {
                parent.inner = parent.inner.max(level.longest + 1);
                parent.last_closed_opener = level.opener;
            }
            self.check_chain()?;
            if case || level.bracket != Bracket::Case {
                break;
            }
        }
        Ok(())
    }

    /// The name that the bracket at `at` defines, if it is the body of a `WITH` item: `name [(columns)] AS [[NOT] MATERIALIZED] (`.
    fn cte_name(&self, tokens: &[TokenWithSpan], at: usize) -> Option<String> {
        let mut before = at.checked_sub(1)?;
        while matches!(&tokens[before].token, Token::Word(w) if matches!(w.keyword, Keyword::NOT | Keyword::MATERIALIZED))
        {
            before = before.checked_sub(1)?;
        }
        if !is_keyword(&tokens[before].token, Keyword::AS) {
            return None;
        }
        let name = match &tokens[before.checked_sub(1)?].token {
            Token::RParen => self.levels.last()?.last_closed_opener?,
            _ => before - 1,
        };
        match &tokens[name].token {
            Token::Word(w) if w.quote_style.is_none() => Some(w.value.to_lowercase()),
            Token::Word(w) => Some(w.value.clone()),
            _ => None,
        }
    }

    fn cte_use(&mut self, word: &str) -> Result<()> {
        let Some(&uses) = self.ctes.get(word) else { return Ok(()) };
        self.cte_uses = self.cte_uses.saturating_add(uses);
        for level in &mut self.levels {
            if let Some((_, total)) = &mut level.cte {
                *total = total.saturating_add(uses);
            }
        }
        if self.cte_uses > CTE_USES_MAX {
            return Err(Error::invalid(format!(
                "the names of WITH expand to more than {CTE_USES_MAX} copies: use each fewer times"
            )));
        }
        Ok(())
    }

    fn too_deep(&self, what: &str) -> Error {
        Error::invalid(format!("more than {} {what}: flatten the statement", self.limits.depth_max))
    }
}

fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.keyword == keyword)
}

/// Literals, placeholders and punctuation that joins nothing.
fn is_operand(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::RArrow
            | Token::Assignment
            | Token::Colon
    )
}
