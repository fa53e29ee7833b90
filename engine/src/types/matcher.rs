//! Conditions on labels.
use regex::Regex;

use super::PlainPattern;
use crate::error::{Error, Result};

/// How a [`Matcher`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
    /// one of a set of values (the value holds them separated by `\0`): what SQL's `IN` becomes
    OneOf,
}

/// A condition on one label; an absent label counts as the empty string, as in Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Label name.
    pub name: String,
    /// Comparison.
    pub op: MatchOp,
    /// Right-hand side.
    pub value: String,
}

/// A [`Matcher`] made ready to be asked many times.
#[derive(Clone, Debug)]
pub(crate) struct CompiledMatcher {
    /// Label name.
    pub(crate) name: String,
    negated: bool,
    test: Test,
}

/// What a value is compared with.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// Sorted, unique.
    Values(Vec<String>),
    /// Anything longer than the prefix by so many bytes at least, 0 or 1.
    Prefix { prefix: String, more: usize },
    /// Whatever the expression accepts begins with the prefix.
    Regex { regex: Regex, prefix: String },
}

impl Test {
    /// Whether `value` passes, negation aside.
    pub(crate) fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Values(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Self::Prefix { prefix, more } => value.starts_with(prefix) && value.len() >= prefix.len() + more,
            Self::Regex { regex, .. } => regex.is_match(value),
        }
    }

    fn values(mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::Values(values)
    }

    /// An expression anchored at both ends whose `.` matches a line feed, as in Prometheus. Most are seen through without
    /// the automaton, which takes longer to build than a small query to answer.
    fn regex(pattern: &str) -> std::result::Result<Self, regex::Error> {
        if pattern == ".*" {
            return Ok(Self::Prefix { prefix: String::new(), more: 0 });
        }
        match PlainPattern::of(pattern) {
            Some(PlainPattern { values, more: None }) => return Ok(Self::values(values)),
            Some(PlainPattern { mut values, more: Some(more) }) if values.len() == 1 => {
                return Ok(Self::Prefix { prefix: values.swap_remove(0), more });
            }
            _ => {}
        }
        let (values, prefix) = literals(pattern).unwrap_or_default();
        if !values.is_empty() {
            return Ok(Self::values(values));
        }
        Ok(Self::Regex { regex: Regex::new(&format!("^(?s:{pattern})$"))?, prefix })
    }
}

/// All values that `pattern` accepts, if it can be seen that they are few (or none are listed), and how each begins.
fn literals(pattern: &str) -> Option<(Vec<String>, String)> {
    let hir = regex_syntax::parse(&format!("(?s:{pattern})")).ok()?;
    // An assertion inside restricts what literals alone would accept.
    if !hir.properties().look_set().is_empty() {
        return None;
    }
    let found = regex_syntax::hir::literal::Extractor::new().extract(&hir);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let values = match found.literals() {
        Some(all) if found.is_exact() => {
            all.iter().map(|literal| text(literal.as_bytes())).collect::<Option<Vec<_>>>()?
        }
        _ => Vec::new(),
    };
    let common = found.longest_common_prefix().unwrap_or(b"");
    let whole = std::str::from_utf8(common).map_or_else(|e| e.valid_up_to(), str::len);
    Some((values, text(&common[..whole])?))
}

impl Matcher {
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub(crate) fn compile(&self) -> Result<CompiledMatcher> {
        let test = match self.op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Values(vec![self.value.clone()]),
            MatchOp::OneOf => Test::values(self.value.split('\0').map(str::to_owned).collect()),
            MatchOp::Regex | MatchOp::NotRegex => Test::regex(&self.value)
                .map_err(|e| Error::Invalid(format!("regular expression for label {:?}: {e}", self.name)))?,
        };
        Ok(CompiledMatcher {
            name: self.name.clone(),
            negated: matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex),
            test,
        })
    }
}

impl CompiledMatcher {
    /// Whether `value` ("" when the label is absent) satisfies the condition.
    pub(crate) fn matches(&self, value: &str) -> bool {
        self.test.accepts(value) != self.negated
    }
    /// The condition without its negation.
    pub(crate) fn test(&self) -> &Test {
        &self.test
    }
    /// The finite set of values that decides the condition (they satisfy it, or with [`CompiledMatcher::is_negated`]
    /// all others do), `None` when every value has to be asked.
    pub(crate) fn values(&self) -> Option<&[String]> {
        match &self.test {
            Test::Values(values) => Some(values),
            _ => None,
        }
    }
    /// Whether the condition is "not ...".
    pub(crate) fn is_negated(&self) -> bool {
        self.negated
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(op: MatchOp, value: &str, expect: &[(&str, bool)]) {
        let matcher = Matcher { name: "l".into(), op, value: value.into() }.compile().unwrap();
        for &(input, matches) in expect {
            assert_eq!(matcher.matches(input), matches, "{op:?} {value:?} on {input:?}");
        }
    }

    #[test]
    fn each_operator_means_what_prometheus_says() {
        check(MatchOp::Equal, "a", &[("a", true), ("", false), ("ab", false)]);
        check(MatchOp::Equal, "", &[("", true), ("a", false)]);
        check(MatchOp::NotEqual, "a", &[("a", false), ("", true)]);
        check(MatchOp::Regex, "a|b", &[("a", true), ("b", true), ("ab", false), ("", false)]);
        check(MatchOp::Regex, ".*", &[("", true), ("x\ny", true)]);
        check(MatchOp::NotRegex, ".+", &[("", true), ("x", false)]);
        check(MatchOp::Regex, "ab.*", &[("ab", true), ("ab\nc", true), ("a", false), ("xab", false), ("", false)]);
        check(MatchOp::Regex, "ab.+", &[("ab", false), ("abc", true), ("ab\n", true), ("abé", true), ("a", false)]);
        check(MatchOp::Regex, "a.b.*", &[("axb", true), ("a.bc", true), ("ab", false)]);
        check(MatchOp::Regex, r"a\..+", &[("a.b", true), ("a.", false), ("axb", false)]);
        check(MatchOp::Regex, r"a\.*", &[("a", true), ("a..", true), ("ab", false)]);
        check(MatchOp::Regex, "", &[("", true), ("a", false)]);
        check(MatchOp::Regex, "a|b\n?|", &[("a", true), ("b\n", true), ("b", true), ("", true), ("ab", false)]);
        check(MatchOp::Regex, r"a\b.", &[("a-", true), ("ab", false), ("a", false)]);
        check(MatchOp::Regex, "(?i)ab", &[("aB", true), ("AB", true), ("abc", false)]);
        check(MatchOp::Regex, "[a&&b]", &[("a", false), ("", false)]);
        check(MatchOp::OneOf, "a\0b", &[("a", true), ("b", true), ("", false), ("c", false)]);
    }

    #[test]
    fn a_bad_regular_expression_is_invalid() {
        let error = Matcher { name: "l".into(), op: MatchOp::Regex, value: "(".into() }.compile().unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Invalid);
    }

    #[test]
    fn what_an_expression_accepts_narrows_what_is_asked() {
        for (pattern, values, begins) in [
            ("a|bc", &["a", "bc"][..], None),
            ("web-(1|2)", &["web-1", "web-2"], None),
            ("web-.*", &[], Some("web-")),
            ("web-[0-9]+", &[], Some("web-")),
            ("ärz.*", &[], Some("ärz")),
            ("(ä|å).*", &[], Some("")),
            (".*x", &[], Some("")),
            ("^a.*", &[], Some("")),
        ] {
            match Test::regex(pattern).unwrap() {
                Test::Values(found) => assert_eq!(found, values, "{pattern}"),
                Test::Prefix { prefix, .. } | Test::Regex { prefix, .. } => {
                    assert_eq!(Some(&*prefix), begins, "{pattern}")
                }
            }
        }
    }
}
