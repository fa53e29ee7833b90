//! A value of a row, whatever file it is from.
use std::borrow::Cow;

use serde_json::Value;

use crate::timestamp::rfc3339;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// Nanoseconds since 1970.
    Time(i64),
    /// An array or an object.
    Json(Value),
}

/// What an attribute may be declared to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Double,
    Boolean,
    Json,
}

impl Kind {
    /// By the names that `--type` and exports have for it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "text" => Self::Text,
            "int" | "integer" => Self::Integer,
            "double" => Self::Double,
            "bool" | "boolean" => Self::Boolean,
            "json" => Self::Json,
            _ => return None,
        })
    }
}

impl<'a> Cell<'a> {
    /// A text that is borrowed.
    pub(super) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// Of JSON.
    pub(super) fn of_json(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(bit) => Self::Boolean(bit),
            Value::String(text) => Self::Text(Cow::Owned(text)),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Self::Integer(integer),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            nested => Self::Json(nested),
        }
    }

    /// The same without a copy of a text.
    pub(super) fn borrowed(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Text(text) => Cell::text(text),
            Self::Integer(integer) => Cell::Integer(*integer),
            Self::Double(double) => Cell::Double(*double),
            Self::Boolean(bit) => Cell::Boolean(*bit),
            Self::Time(ns) => Cell::Time(*ns),
            Self::Json(value) => Cell::Json(value.clone()),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// As text; `None` when there is no value.
    pub(super) fn shown(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Text(text) => Cow::Borrowed(&**text),
            Self::Integer(integer) => Cow::Owned(integer.to_string()),
            Self::Double(double) => Cow::Owned(double.to_string()),
            Self::Boolean(bit) => Cow::Owned(bit.to_string()),
            Self::Time(ns) => Cow::Owned(rfc3339(*ns)),
            Self::Json(value) => Cow::Owned(value.to_string()),
        })
    }

    /// As JSON: an object or array, or text that is one. `None` for other things.
    pub(super) fn json(&self) -> Option<Value> {
        match self {
            Self::Json(value) => Some(value.clone()),
            Self::Text(text) if text.trim_start().starts_with(['{', '[']) => serde_json::from_str(text).ok(),
            _ => None,
        }
    }

    /// What lies at `path`, keys with points between them, of JSON.
    pub(super) fn inside(&self, path: &str) -> Cell<'static> {
        let Some(mut value) = self.json() else { return Cell::Null };
        let mut rest = path;
        loop {
            let Value::Object(object) = &mut value else { return Cell::Null };
            if let Some(found) = object.remove(rest) {
                return Cell::of_json(found);
            }
            let Some((first, after)) = rest.split_once('.') else { return Cell::Null };
            let Some(found) = object.remove(first) else { return Cell::Null };
            (value, rest) = (found, after);
        }
    }

    /// As a value of `kind`.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn typed(self, kind: Kind) -> Result<Self, String> {
        let Self::Text(text) = &self else { return Ok(self) };
        let typed = match kind {
            Kind::Text => return Ok(self),
            Kind::Integer => text.trim().parse().ok().map(Self::Integer),
            Kind::Double => text.trim().parse().ok().map(Self::Double),
            Kind::Boolean => text.trim().parse().ok().map(Self::Boolean),
            Kind::Json => serde_json::from_str(text).ok().map(Self::of_json),
        };
        typed.ok_or_else(|| format!("{text:?} is not of the type that it is said to be"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_types_of_its_values() {
        let cell = |json: &str| Cell::of_json(serde_json::from_str(json).unwrap());
        assert_eq!(cell("7"), Cell::Integer(7));
        assert_eq!(cell("-9223372036854775808"), Cell::Integer(i64::MIN));
        assert_eq!(cell("7.0"), Cell::Double(7.0));
        assert_eq!(cell("18446744073709551615"), Cell::Double(18_446_744_073_709_551_615.0));
        assert_eq!(cell("true"), Cell::Boolean(true));
        assert_eq!(cell("null"), Cell::Null);
        assert_eq!(cell("[1]").shown().unwrap(), "[1]");
    }

    #[test]
    fn values_inside_of_json_are_found_also_where_keys_have_points() {
        let cell = Cell::text(r#"{"a.b":1,"a":{"c":{"d":"x"}},"l":[1]}"#);
        assert_eq!(cell.inside("a.b"), Cell::Integer(1));
        assert_eq!(cell.inside("a.c.d"), Cell::Text("x".into()));
        for nothing in ["a.d", "b", "a.c.d.e", "l.0", ""] {
            assert_eq!(cell.inside(nothing), Cell::Null, "{nothing}");
        }
        assert_eq!(Cell::text("no JSON").inside("a"), Cell::Null);
    }

    #[test]
    fn declared_types_are_kept_to() {
        assert_eq!(Cell::text(" 7").typed(Kind::Integer), Ok(Cell::Integer(7)));
        assert_eq!(Cell::text("false").typed(Kind::Boolean), Ok(Cell::Boolean(false)));
        assert_eq!(Cell::text("7").typed(Kind::Text), Ok(Cell::text("7")));
        assert_eq!(Cell::Integer(7).typed(Kind::Double), Ok(Cell::Integer(7)), "what has a type keeps it");
        assert!(Cell::text("seven").typed(Kind::Integer).unwrap_err().contains("seven"));
    }
}
