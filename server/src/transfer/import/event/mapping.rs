//! Which column is what: rules of the user, then names.
//!
//! A column called as a field is that field, unless a rule says otherwise; a column that no rule reads is an attribute.
use std::borrow::Cow;
use std::collections::HashMap;

use foretell_query::event::Signal;
use serde_json::{Map, Value};

use super::cell::{Cell, Kind};
use super::parts::{Pairs, Parts};
use super::row::{Row, column_of};
use super::rule::{Rule, Target, fields};
use super::time::Times;

/// What rows of a file mean.
#[derive(Debug)]
pub(in super::super) struct Mapping {
    signal: Signal,
    rules: Vec<Rule>,
    times: Times,
    types: HashMap<String, Kind>,
    drop: Vec<String>,
    null: Vec<String>,
}

impl Mapping {
    pub(super) fn new(signal: Signal, times: Times, drop: Vec<String>, null: Vec<String>) -> Self {
        Self { signal, rules: Vec::new(), times, types: HashMap::new(), drop, null }
    }

    pub(in super::super) fn signal(&self) -> Signal {
        self.signal
    }

    pub(super) fn times(&self) -> &Times {
        &self.times
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When there is one for the same target.
    pub(super) fn add(&mut self, rule: Rule) -> Result<(), String> {
        if self.rules.iter().any(|other| other.target == rule.target) {
            return Err("another rule says what this is".to_owned());
        }
        self.rules.push(rule);
        Ok(())
    }

    /// Adds `KEY=TYPE`.
    ///
    /// # Errors
    /// When it is not that.
    pub(super) fn add_type(&mut self, text: &str) -> Result<(), String> {
        let (key, name) = text.rsplit_once('=').ok_or("expected KEY=TYPE")?;
        let kind = Kind::named(name).ok_or("types are int, double, bool, json and text")?;
        self.types.insert(key.to_owned(), kind);
        Ok(())
    }

    /// Checks that a file with the columns `names` has all that rules read.
    ///
    /// # Errors
    /// Which one is not there, or there twice.
    pub(super) fn check(&self, names: &[&str]) -> Result<(), String> {
        if let Some((_, twice)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(format!("the column {twice:?} is there twice"));
        }
        let exists = |name: &str| names.contains(&name);
        let read = self.rules.iter().flat_map(Rule::paths).chain(self.drop.iter().map(String::as_str));
        for path in read {
            if column_of(path, exists).is_none() {
                let shown: Vec<&str> = names.iter().copied().take(20).collect();
                return Err(format!("there is no column {path}; the columns are {}", shown.join(", ")));
            }
        }
        Ok(())
    }

    /// The line or span that `row` is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parts<'r>(&'r self, row: &'r Row<'_>) -> Result<Parts<'r>, String> {
        let mut parts = Parts::new(self.signal);
        let is_null = |cell: &Cell<'_>| self.is_null(cell);
        let (mut attributes, mut used): (Pairs<'r>, Vec<&str>) = Default::default();
        for rule in &self.rules {
            let value = rule.value(row, is_null);
            used.extend(rule.paths().into_iter().filter_map(|path| column_of(path, |name| row.get(name).is_some())));
            match &rule.target {
                Target::Field(field) => {
                    let at = fields(self.signal).iter().position(|known| known == field);
                    parts.set(at.unwrap_or(usize::MAX), value);
                }
                Target::Attribute(key) => attributes.push((key.into(), value)),
                Target::Resource(key) => parts.resource.push((key.into(), value)),
            }
        }
        for (at, &field) in fields(self.signal).iter().enumerate() {
            if self.rules.iter().any(|rule| rule.target == Target::Field(field)) {
                continue;
            }
            if let Some(cell) = row.get(field) {
                used.push(field);
                if !is_null(cell) {
                    parts.set(at, cell.borrowed());
                }
            }
        }
        let source = object("resource", parts.get("resource"))?;
        parts.resource.extend(source.into_iter().map(|(key, value)| (Cow::Owned(key), Cell::of_json(value))));
        let types = object("attribute_types", parts.get("attribute_types"))?;
        let map = object("attributes", parts.get("attributes"))?;
        attributes.extend(map.into_iter().map(|(key, value)| (Cow::Owned(key), Cell::of_json(value))));
        let rest =
            row.fields.iter().filter(|(name, _)| !used.contains(&&**name) && !self.drop.iter().any(|d| d == name));
        attributes.extend(rest.map(|(name, cell)| (Cow::Borrowed(&**name), cell.borrowed())));
        for (key, cell) in attributes {
            if is_null(&cell) {
                continue;
            }
            let stored = types.get(&*key).and_then(Value::as_str).and_then(Kind::named);
            let typed = match self.types.get(&*key).copied().or(stored) {
                Some(kind) => cell.typed(kind).map_err(|error| format!("attribute {key}: {error}"))?,
                None => cell,
            };
            parts.attributes.push((key, typed));
        }
        parts.resource.retain(|(_, cell)| !is_null(cell));
        Ok(parts)
    }

    fn is_null(&self, cell: &Cell<'_>) -> bool {
        match cell {
            Cell::Null => true,
            Cell::Text(text) => self.null.iter().any(|null| *null == **text),
            _ => false,
        }
    }
}

/// A map: NULL has no entries.
fn object(field: &str, cell: &Cell<'_>) -> Result<Map<String, Value>, String> {
    if cell.is_null() {
        return Ok(Map::new());
    }
    match cell.json() {
        Some(Value::Object(object)) => Ok(object),
        _ => Err(format!("{field} {:?} is not an object such as {{\"key\":\"a\"}}", cell.shown().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{constant, mapped};
    use super::*;

    fn mapping(signal: Signal, rules: &[&str]) -> Mapping {
        let mut mapping = Mapping::new(signal, Times::default(), vec!["EventId".into()], vec!["root".into()]);
        rules.iter().for_each(|rule| mapping.add(mapped(signal, rule).unwrap()).unwrap());
        mapping
    }

    fn shown(pairs: &Pairs<'_>) -> String {
        pairs.iter().map(|(key, cell)| format!("{key}={} ", cell.shown().unwrap_or_default())).collect()
    }

    #[test]
    fn columns_without_a_rule_are_fields_by_name_or_attributes() {
        let mut mapping = mapping(Signal::Logs, &["body=Content", "resource.host=Node", "attributes.who=Log.user"]);
        mapping.add(constant(Signal::Logs, "service=shop").unwrap()).unwrap();
        mapping.add_type("Pid=int").unwrap();
        let texts = [
            ("severity", "WARN"),
            ("Content", "disk full"),
            ("Node", "n1"),
            ("Log", r#"{"user":"u","rest":1}"#),
            ("Pid", "12"),
            ("Level", "W"),
            ("EventId", "E1"),
            ("parent", "root"),
        ];
        let row = Row { fields: texts.iter().map(|(name, text)| ((*name).into(), Cell::text(text))).collect() };
        let parts = mapping.parts(&row).unwrap();
        assert_eq!(parts.get("body"), &Cell::text("disk full"));
        assert_eq!(parts.get("severity"), &Cell::text("WARN"));
        assert_eq!(parts.get("service"), &Cell::text("shop"));
        assert_eq!(shown(&parts.resource), "host=n1 ");
        assert_eq!(shown(&parts.attributes), "who=u Pid=12 Level=W ", "null, dropped and mapped columns are left out");
        assert_eq!(parts.attributes[1].1, Cell::Integer(12));
    }

    #[test]
    fn maps_and_types_of_an_export_come_back() {
        let mapping = mapping(Signal::Spans, &[]);
        let fields = vec![
            ("attributes".into(), Cell::text(r#"{"code":"200","ok":"true","x":"7"}"#)),
            ("attribute_types".into(), Cell::text(r#"{"code":"integer","ok":"boolean"}"#)),
        ];
        let row = Row { fields };
        let parts = mapping.parts(&row).unwrap();
        let values: Vec<&Cell<'_>> = parts.attributes.iter().map(|pair| &pair.1).collect();
        assert_eq!(values, [&Cell::Integer(200), &Cell::Boolean(true), &Cell::text("7")]);
        let bad = Row { fields: vec![("attributes".into(), Cell::text("no object"))] };
        assert!(mapping.parts(&bad).unwrap_err().contains("not an object"));
    }

    #[test]
    fn a_file_must_have_what_rules_read() {
        let mapping = mapping(Signal::Logs, &["body=Log.log", "ts={Date}{Time}"]);
        assert!(mapping.check(&["Log", "Date", "Time", "EventId"]).is_ok());
        assert!(mapping.check(&["Log", "Date", "EventId"]).unwrap_err().contains("no column Time"));
        assert!(mapping.check(&["Log", "Log"]).unwrap_err().contains("twice"));
        let mut twice = mapping;
        assert!(twice.add(mapped(Signal::Logs, "body=x").unwrap()).is_err());
    }
}
