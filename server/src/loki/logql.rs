//! LogQL: selectors of streams and filters of lines, as a statement over the table `logs`.
//!
//! ```text
//! query    = selector filter*
//! selector = { name op "value", … }       op: =  !=  =~  !~    a label that a stream lacks is ""
//! filter   = op "text" (or "text")*       op: |=  !=  |~  !~
//! ```
//! Strings are quoted as Go quotes them. What else LogQL has (parsers, label filters, formats, metric queries) is refused.
use datafusion::common::ScalarValue;
use regex::RegexBuilder;

use super::labels;

/// Longest query.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Matchers, and texts of filters, of a query.
const PARTS_MAX: usize = 64;
/// A regular expression, compiled.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// What lines a query wants.
#[derive(Clone, Debug, PartialEq)]
pub struct LogQuery {
    matchers: Vec<Matcher>,
    filters: Vec<Filter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

#[derive(Clone, Debug, PartialEq)]
struct Matcher {
    name: String,
    op: Op,
    value: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    op: Op,
    /// One of these.
    texts: Vec<String>,
}

/// Why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error at byte {at}: {what}")]
pub struct ParseError {
    /// Where, in bytes from the start.
    pub at: usize,
    /// What is wrong there.
    pub what: String,
}

impl LogQuery {
    /// Reads `text`.
    ///
    /// # Errors
    /// With the place, for what is no query or is not supported.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("the query has {} bytes, the limit is {TEXT_BYTES_MAX}: shorten it", text.len());
            return Err(ParseError { at: TEXT_BYTES_MAX, what });
        }
        let mut input = Input { text, rest: text.trim_start(), parts: 0 };
        let matchers = input.selector()?;
        let mut filters = Vec::new();
        while !input.rest.is_empty() {
            filters.push(input.filter()?);
        }
        // As Loki has it: not every stream there is, by mistake.
        let picks = |m: &Matcher| m.op == Op::Equal && !m.value.is_empty() || m.op == Op::Regex && m.value != ".*";
        if !matchers.iter().any(picks) {
            let what = "name at least one label with = or =~ and a value that is not empty: write {app=\"shop\"}";
            return Err(ParseError { at: 0, what: what.to_owned() });
        }
        Ok(Self { matchers, filters })
    }

    /// The conditions on rows of `logs`, with values for their parameters after those in `params`.
    pub fn conditions(&self, params: &mut Vec<ScalarValue>) -> String {
        let mut param = |value: String| {
            params.push(ScalarValue::Utf8(Some(value)));
            format!("${}", params.len())
        };
        let matchers = self.matchers.iter().map(|Matcher { name, op, value }| {
            let label = format!("resource['{name}']");
            let whole = || format!("^(?s:{value})$");
            match (op, value.is_empty()) {
                (Op::Equal, true) => format!("{label} IS NULL"),
                (Op::NotEqual, true) => format!("{label} IS NOT NULL"),
                (Op::Equal, false) => format!("{label} = {}", param(value.clone())),
                (Op::NotEqual, false) => format!("({label} IS NULL OR {label} <> {})", param(value.clone())),
                (Op::Regex, _) => format!("coalesce({label}, '') ~ {}", param(whole())),
                (Op::NotRegex, _) => format!("coalesce({label}, '') !~ {}", param(whole())),
            }
        });
        let mut conditions: Vec<String> = matchers.collect();
        for Filter { op, texts } in &self.filters {
            let each: Vec<String> = texts
                .iter()
                .map(|text| match op {
                    Op::Equal | Op::NotEqual => format!("body LIKE {}", param(format!("%{}%", escaped(text)))),
                    Op::Regex | Op::NotRegex => format!("body ~ {}", param(text.clone())),
                })
                .collect();
            let any = format!("({})", each.join(" OR "));
            conditions.push(match op {
                Op::Equal | Op::Regex => any,
                Op::NotEqual | Op::NotRegex => format!("(body IS NULL OR NOT {any})"),
            });
        }
        conditions.join(" AND ")
    }
}

/// A text that stands for itself in a LIKE pattern.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// What is left of a query.
struct Input<'a> {
    text: &'a str,
    rest: &'a str,
    parts: usize,
}

impl Input<'_> {
    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { at: self.text.len() - self.rest.len(), what: what.into() })
    }

    /// Takes `token` and the space after it, if it comes next.
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn part(&mut self) -> Result<(), ParseError> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return self.wrong(format!("more than {PARTS_MAX} matchers and filters"));
        }
        Ok(())
    }

    /// The text that `op` compares with.
    fn operand(&mut self, op: Op) -> Result<String, ParseError> {
        let Some((value, rest)) = labels::string(self.rest) else {
            return self.wrong("a quoted string was expected");
        };
        if matches!(op, Op::Regex | Op::NotRegex)
            && let Err(error) = RegexBuilder::new(&value).size_limit(REGEX_BYTES_MAX).build()
        {
            return self.wrong(format!("bad regular expression: {error}"));
        }
        self.rest = rest.trim_start();
        Ok(value.into_owned())
    }

    fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        if !self.take("{") {
            return self.wrong(
                "only log queries are supported, which begin with a selector: write {app=\"shop\"} |= \"text\"",
            );
        }
        let mut matchers = Vec::new();
        while !self.take("}") {
            self.part()?;
            let end = self.rest.find(|c: char| !labels::is_part_of_name(c)).unwrap_or(self.rest.len());
            if end == 0 {
                return self.wrong("the name of a label was expected");
            }
            let name = self.rest[..end].to_owned();
            self.rest = self.rest[end..].trim_start();
            let op = if self.take("=~") {
                Op::Regex
            } else if self.take("!~") {
                Op::NotRegex
            } else if self.take("!=") {
                Op::NotEqual
            } else if self.take("=") {
                Op::Equal
            } else {
                return self.wrong("one of = != =~ !~ was expected");
            };
            matchers.push(Matcher { name, op, value: self.operand(op)? });
            if !self.take(",") && !self.rest.starts_with('}') {
                return self.wrong("neither ',' nor '}'");
            }
        }
        Ok(matchers)
    }

    fn filter(&mut self) -> Result<Filter, ParseError> {
        let op = if self.take("|=") {
            Op::Equal
        } else if self.take("|~") {
            Op::Regex
        } else if self.take("!=") {
            Op::NotEqual
        } else if self.take("!~") {
            Op::NotRegex
        } else {
            return self.wrong("after the selector only line filters are supported: |= != |~ !~ and a quoted string");
        };
        let mut texts = Vec::new();
        loop {
            self.part()?;
            texts.push(self.operand(op)?);
            if !self.take("or") {
                return Ok(Filter { op, texts });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn conditions(text: &str) -> (String, Vec<String>) {
        let mut params = vec![ScalarValue::Null];
        let sql = LogQuery::parse(text).unwrap().conditions(&mut params);
        (sql, params[1..].iter().map(ToString::to_string).collect())
    }

    #[test]
    fn selectors_and_line_filters_become_conditions() {
        let (sql, params) =
            conditions(r#" {app="shop", host!="a" , zone=~"x|y",} |= "50%" != `a\b` or "c_d" |~ "e.f" "#);
        assert_eq!(
            sql,
            "resource['app'] = $2 AND (resource['host'] IS NULL OR resource['host'] <> $3) AND \
             coalesce(resource['zone'], '') ~ $4 AND (body LIKE $5) AND \
             (body IS NULL OR NOT (body LIKE $6 OR body LIKE $7)) AND (body ~ $8)"
        );
        assert_eq!(params, ["shop", "a", "^(?s:x|y)$", r"%50\%%", r"%a\\b%", r"%c\_d%", "e.f"]);
        let (sql, params) = conditions(r#"{app="a",b="",c!="",d!~"e"}"#);
        assert_eq!(
            sql,
            "resource['app'] = $2 AND resource['b'] IS NULL AND resource['c'] IS NOT NULL AND \
             coalesce(resource['d'], '') !~ $3"
        );
        assert_eq!(params, ["a", "^(?s:e)$"]);
    }

    #[test]
    fn what_is_no_query_or_not_supported_says_where() {
        for (text, at) in [
            ("", 0),
            ("app", 0),
            ("rate({app=\"x\"}[5m])", 0),
            ("{", 1),
            ("{app}", 4),
            ("{app=x}", 5),
            ("{app=\"x\" b=\"y\"}", 9),
            ("{app=\"x'] OR 1=1 --\"} |", 22),
            ("{app'=\"x\"}", 4),
            ("{app=\"x\"} | json", 10),
            ("{app=\"x\"} |= x", 13),
            ("{app=\"x\"} |~ \"(\"", 13),
            ("{app=~\"(\"}", 6),
            ("{app=\"x\"} |= \"a\" or", 19),
            ("{}", 0),
            ("{app=\"\"}", 0),
            ("{app!=\"x\"}", 0),
            ("{app=~\".*\"}", 0),
        ] {
            let error = LogQuery::parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
        }
        let many = format!("{{app=\"x\"}}{}", " |= \"y\"".repeat(64));
        assert!(LogQuery::parse(&many).unwrap_err().what.contains("more than 64"));
        assert!(LogQuery::parse(&"{".repeat(20_000)).unwrap_err().what.contains("shorten"));
    }
}
