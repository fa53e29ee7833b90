//! LogQL: selectors of streams, filters of lines, pipelines, metric queries.
//!
//! ```text
//! query    = selector part*  |  metric
//! selector = { name op "value", … }       op: =  !=  =~  !~    a label that a stream lacks is ""
//! part     = op "text" (or "text")*       op: |=  !=  |~  !~  |>  !>
//!          | "|" stage
//! ```
//! | module | owns |
//! |---|---|
//! | `input` | what is left of a query, and its small pieces |
//! | `selector` | `{app="shop"}`, as a statement over the table `logs` |
//! | `stage` | what is done to each line |
//! | `filter` | `status >= 500 and level="error"` |
//! | `json`, `logfmt`, `pattern` | fields of lines |
//! | `format` | texts with labels in them |
//! | `entry` | a line on its way through the stages |
//! | `metric` | the tree of a metric query |
//! | `window` | lines and values within the ranges of a metric query |
//! | `eval` | what is calculated with the results |
//! | `unit` | durations and sizes |
//!
//! Strings are quoted as Go quotes them. Selectors, and filters of lines before anything changes these, are conditions of the
//! statement, so that the index and the filters of words are used; the rest is done to the rows that come. What else LogQL
//! has is refused with the place.
mod entry;
pub(crate) mod eval;
mod filter;
mod format;
mod input;
pub(crate) mod json;
pub(crate) mod logfmt;
pub(crate) mod metric;
mod pattern;
mod selector;
mod stage;
mod unit;
pub(crate) mod window;

use datafusion::common::ScalarValue;

pub(crate) use entry::{Entry, Origin, sanitized};
pub(crate) use input::ParseError;
use input::{Input, Parsed};
use metric::{Expr, Range, Unwrap};
pub(crate) use selector::{SERVICE_NAME, Selector, WITHIN, time};
use stage::{LineFilter, LineOp, Stage};
pub(crate) use unit::{bytes, duration_ns};

/// A query.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    /// Lines.
    Lines(LogQuery),
    /// Numbers.
    Metric(Expr),
}

/// What lines a query wants.
#[derive(Clone, Debug)]
pub(crate) struct LogQuery {
    selector: Selector,
    /// Filters of lines as they are stored.
    filters: Vec<LineFilter>,
    stages: Vec<Stage>,
    unwrap: Option<Unwrap>,
}

impl Query {
    /// Reads `text`.
    ///
    /// # Errors
    /// With the place, for what is no query or is not supported.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let mut input = Input::new(text)?;
        let query = if input.starts_with("{") {
            Self::Lines(LogQuery::read(&mut input, false)?.0)
        } else {
            Self::Metric(Expr::read(&mut input)?)
        };
        if !input.is_empty() {
            return input.wrong(match query {
                Self::Lines(_) => {
                    "a filter of lines or a stage was expected: |= != |~ !~ |> !> and a quoted string, or |"
                }
                Self::Metric(_) => "an operator or the end was expected",
            });
        }
        Ok(query)
    }
}

impl LogQuery {
    /// Reads `text`, a selector with what follows it.
    ///
    /// # Errors
    /// As [`Query::parse`]; for a metric query.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        match Query::parse(text)? {
            Query::Lines(query) => Ok(query),
            Query::Metric(_) => {
                let what = "a metric query, where a selector was expected: write {app=\"shop\"}";
                Err(ParseError { at: 0, what: what.to_owned() })
            }
        }
    }

    /// Every line of the streams of `selector`, which may be all of them.
    pub(crate) fn all_of(selector: Selector) -> Self {
        Self { selector, filters: Vec::new(), stages: Vec::new(), unwrap: None }
    }

    /// Reads a selector and what follows it; for a metric query with a range among that.
    fn read(input: &mut Input<'_>, metric: bool) -> Parsed<(Self, Option<Range>)> {
        let at = input.at();
        let mut query = Self::all_of(Selector::read(input)?);
        let (mut range, mut changed) = (None, false);
        loop {
            if metric && range.is_none() && input.starts_with("[") {
                range = Some(Range::read(input)?);
            } else if let Some(filter) = LineFilter::read(input)? {
                if changed {
                    query.stages.push(Stage::Line(filter));
                } else {
                    query.filters.push(filter);
                }
            } else if input.take("|") {
                if metric && query.unwrap.is_none() && input.keyword("unwrap") {
                    query.unwrap = Some(Unwrap::read(input)?);
                } else if let Some(unwrap) = &mut query.unwrap {
                    unwrap.after(input)?;
                } else {
                    let stage = Stage::read(input)?;
                    changed |= stage.changes_lines();
                    query.stages.push(stage);
                }
            } else {
                break;
            }
        }
        if !query.selector.picks() {
            let what = "name at least one label with = or =~ and a value that cannot be empty: write {app=\"shop\"}";
            return Err(ParseError { at, what: what.to_owned() });
        }
        Ok((query, range))
    }

    /// Its selector.
    pub(crate) fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Whether lines that fulfil [`LogQuery::conditions`] may yet be passed over.
    pub(crate) fn filters_rows(&self) -> bool {
        self.stages.iter().any(Stage::filters)
    }

    /// Whether `entry` is wanted, and as what.
    pub(crate) fn apply(&self, entry: &mut Entry<'_>) -> bool {
        self.stages.iter().all(|stage| stage.apply(entry))
    }

    /// The conditions on rows of `logs`, with values for their parameters after those in `params`; `true` for none.
    pub(crate) fn conditions(&self, params: &mut Vec<ScalarValue>) -> String {
        let mut param = |value: String| {
            params.push(ScalarValue::Utf8(Some(value)));
            format!("${}", params.len())
        };
        let mut conditions = self.selector.conditions(&mut param);
        for LineFilter { kind, not, texts, .. } in &self.filters {
            let each: Vec<String> = texts
                .iter()
                .map(|text| match kind {
                    LineOp::Contains => format!("body LIKE {}", param(format!("%{}%", escaped(text)))),
                    LineOp::Regex => format!("body ~ {}", param(text.clone())),
                    LineOp::Pattern => format!("body LIKE {}", param(text.clone())),
                })
                .collect();
            let any = format!("({})", each.join(" OR "));
            conditions.push(if *not { format!("(body IS NULL OR NOT {any})") } else { any });
        }
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
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
            conditions(r#" {app="shop", host!="a" , zone=~"x|y",} |= "50%" != `a\b` or "c_d" |~ "e.f" # a comment"#);
        assert_eq!(
            sql,
            "resource['app'] = $2 AND (resource['host'] IS NULL OR resource['host'] <> $3) AND \
             resource['zone'] ~ $4 AND (body LIKE $5) AND \
             (body IS NULL OR NOT (body LIKE $6 OR body LIKE $7)) AND (body ~ $8)"
        );
        assert_eq!(params, ["shop", "a", "^(?s:x|y)$", r"%50\%%", r"%a\\b%", r"%c\_d%", "e.f"]);
        let (sql, params) = conditions(r#"{app="a",b="",c!="",d!~"e",f=~"g*",service_name!~"h?"} |> "i <_> 1%""#);
        assert_eq!(
            sql,
            "resource['app'] = $2 AND resource['b'] IS NULL AND resource['c'] IS NOT NULL AND \
             (resource['d'] IS NULL OR resource['d'] !~ $3) AND (resource['f'] IS NULL OR resource['f'] ~ $4) AND \
             service !~ $5 AND (body LIKE $6)"
        );
        assert_eq!(params, ["a", "^(?s:e)$", "^(?s:g*)$", "^(?s:h?)$", r"i % 1\%"]);
    }

    #[test]
    fn filters_of_lines_are_conditions_only_until_a_stage_changes_the_lines() {
        let text = r#"{a="b"} | json |= "c" | line_format "{{.d}}" |= "e""#;
        assert_eq!(conditions(text).0, "resource['a'] = $2 AND (body LIKE $3)");
        let query = LogQuery::parse(text).unwrap();
        assert!(query.filters_rows());
        let mut entry = Entry::new(0, r#"{"d":"one"}"#);
        assert!(query.apply(&mut entry));
        assert_eq!(entry.line, "one");
        assert!(!query.apply(&mut Entry::new(0, r#"{"d":"x","f":"e"}"#)));
    }

    /// The labels of a line of a stream with `app="shop"` and metadata `level="info"`, after these stages; `None` if it is
    /// passed over.
    fn staged(stages: &str, line: &str) -> Option<(String, String)> {
        let query = LogQuery::parse(&format!("{{app=\"shop\"}} {stages}")).unwrap();
        let mut entry = Entry::new(0, line);
        entry.set("app".into(), "shop".into(), Origin::Stream);
        entry.set("level".into(), "info".into(), Origin::Metadata);
        if !query.apply(&mut entry) {
            return None;
        }
        let labels: Vec<String> = entry.labels().iter().map(|(name, value, _)| format!("{name}={value}")).collect();
        Some((labels.join(" "), entry.line.into_owned()))
    }

    #[test]
    fn stages_do_to_lines_what_loki_says() {
        let json = r#"{"level":"error","status":500,"took":"1.5s","size":"2KB","a":{"b":"c"},"1x":true,"none":null}"#;
        for (stages, line, labels) in [
            ("", json, Some("app=shop level=info")),
            (
                "| json",
                json,
                Some("_1x=true a_b=c app=shop level=info level_extracted=error size=2KB status=500 took=1.5s"),
            ),
            (r#"| json x="a.b", status"#, json, Some("app=shop level=info status=500 x=c")),
            ("| logfmt", "a=1 b=\"x y\" c= flag", Some("a=1 app=shop b=x y level=info")),
            ("| logfmt --keep-empty b, z=\"c\"", "a=1 b=\"x y\" c=", Some("app=shop b=x y level=info")),
            ("| pattern \"<ip> <_> <path>\"", "1.2 - /x y", Some("app=shop ip=1.2 level=info path=/x y")),
            ("| regexp \"(?P<n>\\\\d+)\"", "x 12 y 3", Some("app=shop level=info n=12")),
            ("| regexp \"(?P<n>\\\\d+)\"", "x", Some("app=shop level=info")),
            ("| json | status >= 500 and level=\"info\"", json, Some("*")),
            ("| json | status > 500 or took > 1s", json, Some("*")),
            ("| json | status > 500 or took > 2s", json, None),
            ("| json | size = 2KB, took <= 1500ms", json, Some("*")),
            ("| json | (size > 2KB or status == 500) and took != 1s", json, Some("*")),
            ("| json | level_extracted =~ \"err.*|warn\" | a_b !~ \"c.+\"", json, Some("*")),
            ("| json | absent > 1", json, None),
            ("| json | absent = \"\"", json, Some("*")),
            (
                "| json | a_b > 1 | drop __error_details__, size, took, status, level_extracted, _1x",
                json,
                Some("__error__=LabelFilterErr a_b=c app=shop level=info"),
            ),
            ("| json | a_b > 1 | __error__ = \"\"", json, None),
            ("| json | drop __error_details__", "no json", Some("__error__=JSONParserErr app=shop level=info")),
            ("| json | drop __error__", "no json", Some("app=shop level=info")),
            ("| json | __error__ = \"\"", "no json", None),
            (
                "| json | status >= 500 | drop __error_details__",
                "no json",
                Some("__error__=JSONParserErr app=shop level=info"),
            ),
            (
                "| logfmt --strict | drop __error_details__",
                "a=\"",
                Some("__error__=LogfmtParserErr app=shop level=info"),
            ),
            ("| json | keep app, status", json, Some("app=shop status=500")),
            ("| drop level=\"info\"", json, Some("app=shop")),
            ("| drop level=\"warn\"", json, Some("app=shop level=info")),
            ("| label_format x=level, y=\"{{.app}}!\"", json, Some("app=shop x=info y=shop!")),
        ] {
            let found = staged(stages, line);
            match labels {
                Some("*") => assert!(found.is_some(), "{stages}"),
                labels => assert_eq!(found.as_ref().map(|(labels, _)| labels.as_str()), labels, "{stages}"),
            }
        }
        let coloured = "{\"status\":\"\\u001b[31m5\"}";
        let found = staged("| json | line_format \"{{.status}}: {{__line__}}\" | decolorize", coloured);
        assert_eq!(found.map(|(_, line)| line), Some(format!("5: {coloured}")));
    }

    #[test]
    fn what_is_no_query_or_not_supported_says_where() {
        for (text, at) in [
            ("", 0),
            ("app", 0),
            ("{", 1),
            ("{app}", 4),
            ("{app=x}", 5),
            ("{app=\"x\" b=\"y\"}", 9),
            ("{app=\"x'] OR 1=1 --\"} |", 23),
            ("{app'=\"x\"}", 4),
            ("{app=\"x\"} json", 10),
            ("{app=\"x\"} | unpack", 12),
            ("{app=\"x\"} | unwrap y", 19),
            ("{app=\"x\"} |= x", 13),
            ("{app=\"x\"} |~ \"(\"", 13),
            ("{app=\"x\"} |= ip(\"1.2.3.4\")", 13),
            ("{app=~\"(\"}", 6),
            ("{app=\"x\"} |= \"a\" or", 19),
            ("{app=\"x\"} | a > \"b\"", 16),
            ("{app=\"x\"} | a > b", 16),
            ("{app=\"x\"} | pattern \"<a><b>\"", 20),
            ("{app=\"x\"} | line_format \"{{if .a}}\"", 24),
            ("{}", 0),
            ("{app=\"\"}", 0),
            ("{app!=\"x\"}", 0),
            ("{app=~\".*\"}", 0),
            ("{app=~\"\"}", 0),
            ("{app=~\"x*|y\"}", 0),
            ("{app=~\"a)|(b\"}", 6),
            ("{app=\"x\"} | y=~\"a)|(b\"", 15),
            ("rate({app=\"x\"})", 14),
            ("rate({app=\"x\"}[0s])", 17),
            ("rate({app=\"x\"}[5])", 15),
            ("rate({}[5m])", 5),
            ("sum_over_time({app=\"x\"}[5m])", 0),
            ("count_over_time({app=\"x\"} | unwrap a [5m])", 0),
            ("sum by app (rate({app=\"x\"}[5m]))", 7),
            ("topk(0, rate({app=\"x\"}[5m]))", 6),
            ("1 + ", 4),
            ("1 1", 2),
            ("vector(1) + on (a) vector(1)", 12),
            ("histogram_quantile(1)", 0),
        ] {
            let error = Query::parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
        }
        let many = format!("{{app=\"x\"}}{}", " |= \"y\"".repeat(64));
        assert!(Query::parse(&many).unwrap_err().what.contains("more than 64"));
        assert!(Query::parse(&"{".repeat(20_000)).unwrap_err().what.contains("shorten"));
        assert!(Query::parse(&"(".repeat(10_000)).unwrap_err().what.contains("deep"));
        let reads = ["rate({a=\"b\"}[1m])"; 9].join(" + ");
        assert!(Query::parse(&reads).unwrap_err().what.contains("the limit is 8"));
    }
}
