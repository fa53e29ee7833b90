//! Conditions on labels.
use regex::Regex;

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
#[derive(Clone, Debug)]
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

#[derive(Clone, Debug)]
enum Test {
    /// Sorted, unique.
    Values(Vec<String>),
    Regex(Regex),
}

impl Matcher {
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub(crate) fn compile(&self) -> Result<CompiledMatcher> {
        let test = match self.op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Values(vec![self.value.clone()]),
            MatchOp::OneOf => {
                let mut values: Vec<String> = self.value.split('\0').map(str::to_owned).collect();
                values.sort_unstable();
                values.dedup();
                Test::Values(values)
            }
            // Prometheus anchors and lets `.` match a line feed.
            MatchOp::Regex | MatchOp::NotRegex => Test::Regex(
                Regex::new(&format!("^(?s:{})$", self.value))
                    .map_err(|e| Error::Invalid(format!("regular expression for label {:?}: {e}", self.name)))?,
            ),
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
        let found = match &self.test {
            Test::Values(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Test::Regex(regex) => regex.is_match(value),
        };
        found != self.negated
    }
    /// The finite set of values that decides the condition (they satisfy it, or with [`CompiledMatcher::is_negated`]
    /// all others do), `None` when every value has to be asked.
    pub(crate) fn values(&self) -> Option<&[String]> {
        match &self.test {
            Test::Values(values) => Some(values),
            Test::Regex(_) => None,
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
        check(MatchOp::OneOf, "a\0b", &[("a", true), ("b", true), ("", false), ("c", false)]);
    }

    #[test]
    fn a_bad_regular_expression_is_invalid() {
        let error = Matcher { name: "l".into(), op: MatchOp::Regex, value: "(".into() }.compile().unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Invalid);
    }
}
