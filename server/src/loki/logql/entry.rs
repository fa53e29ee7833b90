//! A line on its way through the stages of a query: its text, its labels and where each came from, and its error.
use std::borrow::Cow;

/// Labels that parsers may add to a line; further ones are left out.
const PARSED_MAX: usize = 256;

/// Where a label came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The stream.
    Stream,
    /// The line's structured metadata.
    Metadata,
    /// A stage.
    Parsed,
}

#[derive(Debug)]
struct Label<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    origin: Origin,
}

/// A line.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// ns UTC.
    pub(crate) ts: i64,
    /// Its text.
    pub(crate) line: Cow<'a, str>,
    labels: Vec<Label<'a>>,
    parsed: usize,
    /// `__error__` and `__error_details__`.
    error: Option<(Cow<'static, str>, String)>,
}

/// Name of the label that says which stage failed.
pub(super) const ERROR: &str = "__error__";
/// Name of the label that says why.
pub(super) const ERROR_DETAILS: &str = "__error_details__";

impl<'a> Entry<'a> {
    pub(crate) fn new(ts: i64, line: &'a str) -> Self {
        Self { ts, line: Cow::Borrowed(line), labels: Vec::new(), parsed: 0, error: None }
    }

    /// The value of a label; empty for none.
    pub(crate) fn get(&self, name: &str) -> &str {
        match (name, &self.error) {
            (ERROR, error) => error.as_ref().map_or("", |error| &*error.0),
            (ERROR_DETAILS, error) => error.as_ref().map_or("", |error| error.1.as_str()),
            _ => self.find(name).map_or("", |label| &*label.value),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&Label<'a>> {
        self.labels.iter().find(|label| label.name == name)
    }

    /// Gives a label its value.
    pub(crate) fn set(&mut self, name: Cow<'a, str>, value: Cow<'a, str>, origin: Origin) {
        match self.labels.iter_mut().find(|label| label.name == name) {
            Some(label) => (label.value, label.origin) = (value, origin),
            None if origin == Origin::Parsed && self.parsed >= PARSED_MAX => {}
            None => {
                self.parsed += usize::from(origin == Origin::Parsed);
                self.labels.push(Label { name, value, origin });
            }
        }
    }

    /// Adds what a parser found: beside a label of the stream or the metadata it gets another name, as in Loki.
    pub(super) fn extract(&mut self, name: &str, value: &str) {
        let name = sanitized(name);
        if name.is_empty() {
            return;
        }
        let name = match self.find(&name) {
            Some(label) if label.origin != Origin::Parsed => format!("{name}_extracted"),
            _ => name,
        };
        self.set(Cow::Owned(name), Cow::Owned(value.to_owned()), Origin::Parsed);
    }

    pub(super) fn remove(&mut self, name: &str) {
        match (name, &mut self.error) {
            (ERROR, error) => *error = None,
            (ERROR_DETAILS, Some((_, why))) => why.clear(),
            _ => {}
        }
        self.retain(|other, _| other != name);
    }

    /// Keeps the labels for which `keep` of name and value holds.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.labels.retain(|label| keep(&label.name, &label.value));
        self.parsed = self.labels.iter().filter(|label| label.origin == Origin::Parsed).count();
    }

    /// The first error stays.
    pub(super) fn fail(&mut self, what: &'static str, why: impl Into<String>) {
        if self.error.is_none() {
            self.error = Some((Cow::Borrowed(what), why.into()));
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// All labels that are not empty, sorted by name.
    pub(crate) fn labels(&self) -> Vec<(&str, &str, Origin)> {
        let mut labels: Vec<(&str, &str, Origin)> = self
            .labels
            .iter()
            .filter(|label| !label.value.is_empty())
            .map(|label| (&*label.name, &*label.value, label.origin))
            .collect();
        if let Some((what, why)) = &self.error {
            labels.push((ERROR, what, Origin::Parsed));
            if !why.is_empty() {
                labels.push((ERROR_DETAILS, why, Origin::Parsed));
            }
        }
        labels.sort_unstable();
        labels
    }
}

/// A name that labels may have: other characters become `_`.
pub(crate) fn sanitized(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(name.trim().chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
    out
}
