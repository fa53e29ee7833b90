//! What templates compute with, and how Go prints it.
use std::collections::BTreeMap;
use std::sync::Arc;

use super::format;

/// Labels as a template sees them.
pub(crate) type Labels = BTreeMap<String, String>;

/// A series of a query's answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Map(Labels),
    /// Shared: each use of a variable is a copy.
    Samples(Arc<[Sample]>),
    Sample(Sample),
    /// The top: `.Labels`, `.Value` and so on.
    Data,
}

impl Value {
    /// Go's name of the type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Map(_) => "map[string]string",
            Self::Samples(_) => "template.queryResult",
            Self::Sample(_) => "*template.sample",
            Self::Data => "struct",
        }
    }

    /// Whether `if` takes its first branch.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Map(labels) => !labels.is_empty(),
            Self::Samples(samples) => !samples.is_empty(),
            Self::Sample(_) | Self::Data => true,
        }
    }

    /// As `%v` prints it.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Nil => "<no value>".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => format::general(*value, None),
            Self::Text(text) => text.clone(),
            Self::Map(labels) => {
                let pairs: Vec<String> = labels.iter().map(|(name, value)| std::format!("{name}:{value}")).collect();
                std::format!("map[{}]", pairs.join(" "))
            }
            Self::Samples(samples) => {
                let all: Vec<String> = samples.iter().map(|sample| Self::Sample(sample.clone()).print()).collect();
                std::format!("[{}]", all.join(" "))
            }
            Self::Sample(sample) => {
                std::format!(
                    "&{{{} {}}}",
                    Self::Map(sample.labels.clone()).print(),
                    format::general(sample.value, None)
                )
            }
            Self::Data => "{}".to_owned(),
        }
    }
}
