//! A log line or a span before it is bytes: the values of its fields, attributes and source.
use std::borrow::Cow;

use foretell_query::event::Signal;

use super::cell::Cell;
use super::rule::fields;

static NULL: Cell<'static> = Cell::Null;

/// Keys and values.
pub(super) type Pairs<'r> = Vec<(Cow<'r, str>, Cell<'r>)>;

/// One line or span.
#[derive(Debug)]
pub(super) struct Parts<'r> {
    signal: Signal,
    /// In the order of [`fields`].
    fixed: Vec<Cell<'r>>,
    pub(super) attributes: Pairs<'r>,
    pub(super) resource: Pairs<'r>,
}

impl<'r> Parts<'r> {
    /// With nothing in it.
    pub(super) fn new(signal: Signal) -> Self {
        let fixed = fields(signal).iter().map(|_| Cell::Null).collect();
        Self { signal, fixed, attributes: Vec::new(), resource: Vec::new() }
    }

    /// The value of a field; NULL where it has none.
    pub(super) fn get(&self, field: &str) -> &Cell<'r> {
        let at = fields(self.signal).iter().position(|known| *known == field);
        at.and_then(|at| self.fixed.get(at)).unwrap_or(&NULL)
    }

    /// Gives field number `at` a value.
    pub(super) fn set(&mut self, at: usize, cell: Cell<'r>) {
        if let Some(field) = self.fixed.get_mut(at) {
            *field = cell;
        }
    }
}
