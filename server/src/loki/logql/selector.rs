//! `{app="shop", host!~"a|b"}`: which streams.
use datafusion::common::ScalarValue;
use foretell_query::event::SERVICE_LABEL;

use super::input::{Input, Parsed, whole_text};

/// Loki gives every stream this label; here a stream has a service, which comes from the same labels.
pub(crate) const SERVICE_NAME: &str = "service_name";

/// How two texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl Op {
    /// `=`, `!=`, `=~`, `!~`.
    pub(super) fn take(input: &mut Input<'_>) -> Option<Self> {
        if input.take("=~") {
            Some(Self::Regex)
        } else if input.take("!~") {
            Some(Self::NotRegex)
        } else if input.take("!=") {
            Some(Self::NotEqual)
        } else if input.starts_with("==") {
            None
        } else if input.take("=") {
            Some(Self::Equal)
        } else {
            None
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Matcher {
    name: String,
    op: Op,
    value: String,
}

/// Which streams are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector(Vec<Matcher>);

impl Selector {
    pub(super) fn read(input: &mut Input<'_>) -> Parsed<Self> {
        input.expect("{")?;
        let mut matchers = Vec::new();
        while !input.take("}") {
            input.part()?;
            let name = input.name()?;
            let Some(op) = Op::take(input) else { return input.wrong("one of = != =~ !~ was expected") };
            let value = match op {
                Op::Equal | Op::NotEqual => input.string()?,
                Op::Regex | Op::NotRegex => input.regex(true)?.0,
            };
            matchers.push(Matcher { name, op, value });
            if !input.take(",") && !input.starts_with("}") {
                return input.wrong("neither ',' nor '}'");
            }
        }
        Ok(Self(matchers))
    }

    /// As Loki has it: a query does not read every stream there is, by mistake. A label that is not there is an empty text,
    /// so an expression that takes one selects them all.
    pub(super) fn picks(&self) -> bool {
        let picks = |m: &Matcher| match m.op {
            Op::Equal => !m.value.is_empty(),
            Op::Regex => !takes_nothing(&m.value),
            Op::NotEqual | Op::NotRegex => false,
        };
        self.0.iter().any(picks)
    }

    /// Names of the labels that it compares.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(|matcher| matcher.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The conditions on rows of `logs`, each with `param` of its value.
    pub(super) fn conditions(&self, param: &mut dyn FnMut(String) -> String) -> Vec<String> {
        let condition = |Matcher { name, op, value }: &Matcher| {
            let label = if name == SERVICE_NAME { "service".to_owned() } else { format!("resource['{name}']") };
            match (op, value.is_empty()) {
                (Op::Equal, true) => format!("{label} IS NULL"),
                (Op::NotEqual, true) => format!("{label} IS NOT NULL"),
                (Op::Equal, false) => format!("{label} = {}", param(value.clone())),
                (Op::NotEqual, false) => format!("({label} IS NULL OR {label} <> {})", param(value.clone())),
                // A label that is not there is an empty text, as an expression that takes none for one has to see it.
                (Op::Regex, _) if takes_nothing(value) => {
                    format!("({label} IS NULL OR {label} ~ {})", param(whole_text(value)))
                }
                (Op::NotRegex, _) if !takes_nothing(value) => {
                    format!("({label} IS NULL OR {label} !~ {})", param(whole_text(value)))
                }
                (Op::Regex, _) => format!("{label} ~ {}", param(whole_text(value))),
                (Op::NotRegex, _) => format!("{label} !~ {}", param(whole_text(value))),
            }
        };
        self.0.iter().map(condition).collect()
    }

    /// As the index is asked; `None` for all streams.
    pub(crate) fn index_text(&self) -> Option<String> {
        let matchers = self.0.iter().map(|Matcher { name, op, value }| {
            let name = if name == SERVICE_NAME { SERVICE_LABEL } else { name };
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            // The index is asked in PromQL, where a name with points or colons is quoted.
            let name = if name.contains(['.', ':']) { quoted(name) } else { name.to_owned() };
            format!("{name}{}{}", op.text(), quoted(value))
        });
        let matchers: Vec<String> = matchers.collect();
        (!matchers.is_empty()).then(|| format!("{{{}}}", matchers.join(",")))
    }
}

/// Whether a regular expression, which has been looked at, matches the empty text.
fn takes_nothing(pattern: &str) -> bool {
    regex::Regex::new(&whole_text(pattern)).is_ok_and(|regex| regex.is_match(""))
}

/// The condition on rows of `logs` for a time within `$1` and `$2`, the end not included.
pub(crate) const WITHIN: &str = "ts >= $1 AND ts < $2";

/// A time as a parameter of a statement.
pub(crate) fn time(ns: i64) -> ScalarValue {
    ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into()))
}
