//! A row of a file: names and cells.
use std::borrow::Cow;

use super::cell::Cell;

/// One row. A name occurs once.
#[derive(Debug, Default)]
pub(super) struct Row<'a> {
    pub(super) fields: Vec<(Cow<'a, str>, Cell<'a>)>,
}

impl Row<'_> {
    /// The column called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Cell<'_>> {
        self.fields.iter().find(|field| field.0 == name).map(|field| &field.1)
    }

    /// What `path` names: a column, or a value inside of a column's JSON. NULL when there is nothing.
    pub(super) fn find(&self, path: &str) -> Cell<'_> {
        if let Some(cell) = self.get(path) {
            return cell.borrowed();
        }
        let mut points = path.match_indices('.').map(|(at, _)| at);
        points.find_map(|at| Some(self.get(&path[..at])?.inside(&path[at + 1..]))).unwrap_or(Cell::Null)
    }
}

/// The name of the column that `path` reads, where `exists` says which there are.
pub(super) fn column_of(path: &str, exists: impl Fn(&str) -> bool) -> Option<&str> {
    if exists(path) {
        return Some(path);
    }
    path.match_indices('.').map(|(at, _)| &path[..at]).find(|&column| exists(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_column_or_a_value_inside_of_one() {
        let fields = vec![("a".into(), Cell::text(r#"{"b":{"c":5}}"#)), ("a.x".into(), Cell::Integer(1))];
        let row = Row { fields };
        assert_eq!(row.find("a.b.c"), Cell::Integer(5));
        assert_eq!(row.find("a.x"), Cell::Integer(1), "a column that has the whole name comes first");
        assert_eq!(row.find("b"), Cell::Null);
        assert_eq!(column_of("a.b.c", |name| row.get(name).is_some()), Some("a"));
        assert_eq!(column_of("b.c", |name| row.get(name).is_some()), None);
    }
}
