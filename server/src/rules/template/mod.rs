//! Templates of labels and annotations: the part of Go's `text/template` that alert rules use, with the functions of
//! Prometheus. Expanding is a pure function of data; a template that calls `query` says which answer it needs, and is
//! expanded again with it.
//!
//! | module | owns |
//! |---|---|
//! | [`lex`] | text, actions and words |
//! | [`parse`] | nodes, pipelines, operands |
//! | [`eval`] | running them |
//! | [`function`] | functions |
//! | [`format`] | numbers and `printf` as Go writes them |
//! | [`value`] | what templates compute with |
mod eval;
mod format;
mod function;
mod lex;
mod parse;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use self::function::url as url_query;
use self::parse::Node;
pub(crate) use self::value::{Labels, Sample};

/// Longest source.
const SOURCE_BYTES_MAX: usize = 64 << 10;
/// Longest text, the whole or what is computed on the way.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Variables that every template has.
const VARIABLES: [&str; 4] = ["$labels", "$externalLabels", "$externalURL", "$value"];

/// A text with actions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    source: String,
    nodes: Vec<Node>,
    /// A function it calls that does not exist.
    unknown: Option<String>,
}

/// What a template is expanded with.
#[derive(Clone, Debug)]
pub(crate) struct Data<'a> {
    /// Name of the alert, for messages.
    pub(crate) name: &'a str,
    pub(crate) labels: &'a Labels,
    pub(crate) external_labels: &'a Labels,
    pub(crate) external_url: &'a str,
    pub(crate) value: f64,
    /// Instant of the evaluation.
    pub(crate) now_ms: i64,
    /// Different queries that the templates of a rule may ask in one evaluation.
    pub(crate) queries_max: usize,
    /// Answers to the queries that templates of this evaluation have asked for, or why there are none.
    pub(crate) answers: &'a Answers,
}

/// Answers by query.
pub(crate) type Answers = BTreeMap<String, Result<Arc<[Sample]>, String>>;

/// Why there is no text yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It cannot be made: the text that stands in its place.
    Failed(String),
    /// The answer to this query is needed.
    Needs(String),
}

impl Template {
    /// # Errors
    /// What is wrong with `source`. A function that does not exist is no error here: it is one of each text.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(format!("{} bytes, at most {SOURCE_BYTES_MAX} are allowed", source.len()));
        }
        let nodes = parse::parse(source, &VARIABLES)?;
        let unknown = parse::functions(&nodes).into_iter().find(|name| !function::exists(name)).map(str::to_owned);
        Ok(Self { source: source.to_owned(), nodes, unknown })
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The text that it makes of `data`.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(crate) fn expand(&self, data: &Data<'_>) -> Result<String, Fault> {
        let failed = |doing: &str, message: &str| {
            let name = data.name;
            Fault::Failed(format!(
                "<error expanding template: error {doing} template __alert_{name}: template: __alert_{name}:1: {message}>"
            ))
        };
        if let Some(unknown) = &self.unknown {
            return Err(failed("parsing", &format!("function {unknown:?} not defined")));
        }
        eval::run(&self.nodes, data).map_err(|fault| match fault {
            Fault::Failed(message) => failed("executing", &message),
            Fault::Needs(query) => Fault::Needs(query),
        })
    }
}
