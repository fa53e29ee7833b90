//! A selector as a test of label sets, for what is not stored as series.
use foretell_engine::{LabelSet, MatchOp, Matcher};
use regex::Regex;

use super::Limits;
use super::parse::parse_selector;
use crate::error::{Error, Result};
use crate::planner;

/// A regular expression that matches whole values, as Prometheus has them.
pub(crate) fn anchored(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?s:{pattern})$"))
}

/// Sets of conditions, of which one must hold wholly.
#[derive(Clone, Debug)]
pub struct LabelFilter(Vec<Vec<(Matcher, Option<Regex>)>>);

impl LabelFilter {
    /// From a selector such as `{severity="page"}`.
    ///
    /// # Errors
    /// `Invalid` for anything else, and for a bad regular expression.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self> {
        planner::with_large_stack(|| parse_selector(text, limits)).and_then(|matchers| Self::of(matchers.0))
    }

    /// From sets of conditions.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub(crate) fn of(sets: Vec<Vec<Matcher>>) -> Result<Self> {
        let compile = |matcher: Matcher| -> Result<(Matcher, Option<Regex>)> {
            let regex = match matcher.op {
                MatchOp::Regex | MatchOp::NotRegex => {
                    Some(anchored(&matcher.value).map_err(|error| Error::invalid(error.to_string()))?)
                }
                MatchOp::Equal | MatchOp::NotEqual | MatchOp::OneOf => None,
            };
            Ok((matcher, regex))
        };
        let sets = sets.into_iter().map(|set| set.into_iter().map(compile).collect());
        sets.collect::<Result<_>>().map(Self)
    }

    /// Whether `labels` satisfy it; a label they lack counts as empty.
    pub fn matches(&self, labels: &LabelSet) -> bool {
        let holds = |(matcher, regex): &(Matcher, Option<Regex>)| {
            let value = labels.get(&matcher.name).unwrap_or("");
            let same = regex.as_ref().map_or_else(|| value == matcher.value, |regex| regex.is_match(value));
            same != matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex)
        };
        self.0.iter().any(|set| set.iter().all(holds))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_a_test_of_label_sets() {
        let labels = LabelSet::from_pairs([("severity", "page"), ("team", "infra")]).unwrap();
        for (text, holds) in [
            (r#"{severity="page"}"#, true),
            (r#"{severity="page",team!="infra"}"#, false),
            (r#"{severity=~"p.*"}"#, true),
            (r#"{severity=~"p"}"#, false),
            (r#"{team="infra",severity!~"warn|info"}"#, true),
            (r#"{severity!="",absent=""}"#, true),
        ] {
            assert_eq!(LabelFilter::parse(text, &Limits::default()).unwrap().matches(&labels), holds, "{text}");
        }
        for bad in ["rate(a[5m])".to_owned(), format!("{}a", "-".repeat(4000))] {
            assert!(LabelFilter::parse(&bad, &Limits::default()).is_err());
        }
    }
}
