//! Which filters on events let whole groups of a file be passed over, and for what.
//!
//! A hint follows from its filter and need not be equal to it: DataFusion applies the filter to what comes.
use std::fmt;

use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use foretell_engine::text::{Words, is_part_of_word, words};
use foretell_engine::{Hint, RowFilter};

use super::pushdown::{strip_label, text};
use crate::event::attributes::{Kind, REST};
use crate::event::{SPAN_ID_BYTES, TRACE_ID_BYTES, from_hex, hex};
use crate::udf::match_words;

/// Columns that hold text as it is shown.
const TEXTS: [&str; 7] = ["body", "severity", "scope", "name", "kind", "status", "status_message"];
/// Columns that hold bytes which are shown as digits.
const IDS: [&str; 3] = ["trace_id", "span_id", "parent_span_id"];
/// Columns that hold integers as they are shown.
const INTEGERS: [&str; 2] = ["duration", "severity_number"];

/// What `filter` lets be passed over, if anything; `stored` are the columns of the engine's table.
pub(super) fn hint_of(filter: &Expr, stored: &Schema) -> Option<Hint> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some(Hint::Any(vec![hint_of(left, stored)?, hint_of(right, stored)?]))
        }
        // One of two that both hold is hint enough.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            hint_of(left, stored).or_else(|| hint_of(right, stored))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, literal) = sides(left, *op, right)?;
            comparison(&Place::of(column)?, op, literal, stored)
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let place = Place::of(expr)?;
            let each = list.iter().map(|item| comparison(&place, Operator::Eq, item, stored));
            Some(Hint::Any(each.collect::<Option<_>>()?))
        }
        Expr::Between(between) if !between.negated => {
            let place = Place::of(&between.expr)?;
            let low = integer(&between.low)?;
            Some(Hint::Within { column: place.integer()?, low, high: integer(&between.high)? })
        }
        Expr::IsNotNull(inner) => present(Place::of(inner)?, stored),
        Expr::Like(like) => of_like(like, stored),
        Expr::ScalarFunction(call) if call.name() == match_words::NAME => {
            let [column, literal] = call.args.as_slice() else { return None };
            Place::of(column)?.with_words(words(&text(literal)??).map(str::to_owned).collect(), None, stored)
        }
        _ => None,
    }
}

/// A filter that the engine answers exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exact {
    /// A column of texts, and the words that they have.
    Words(String, String),
    /// A column of texts, and the one that is looked for.
    Text(String, String),
    /// A column of ids, and the one that is looked for.
    Id(String, Vec<u8>),
}

impl Exact {
    /// For the engine.
    pub(super) fn filter(&self) -> RowFilter {
        match self {
            Self::Words(column, text) => RowFilter::Words { column: column.clone(), words: Words::of(text).into() },
            Self::Text(column, text) => RowFilter::Value { column: column.clone(), value: text.clone().into_bytes() },
            Self::Id(column, id) => RowFilter::Value { column: column.clone(), value: id.clone() },
        }
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(column, words) => write!(f, "{column} has {words:?}"),
            Self::Text(column, text) => write!(f, "{column} is {text:?}"),
            Self::Id(column, id) => write!(f, "{column} is {}", hex(id)),
        }
    }
}

/// What `filter` is, if the engine answers it exactly.
pub(super) fn exact_of(filter: &Expr) -> Option<Exact> {
    match filter {
        Expr::ScalarFunction(call) => match call.args.as_slice() {
            [column, literal] if call.name() == match_words::NAME => match Place::of(column)? {
                Place::Column(name) if TEXTS.contains(&name) => Some(Exact::Words(name.to_owned(), text(literal)??)),
                _ => None,
            },
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (column, _, literal) = sides(left, Operator::Eq, right)?;
            let (Place::Column(name), value) = (Place::of(column)?, text(literal)??) else { return None };
            if TEXTS.contains(&name) {
                return Some(Exact::Text(name.to_owned(), value));
            }
            Some(Exact::Id(name.to_owned(), id_of(name, &value)?))
        }
        _ => None,
    }
}

/// A comparison with its literal, if it has one, on the right.
fn sides<'a>(left: &'a Expr, op: Operator, right: &'a Expr) -> Option<(&'a Expr, Operator, &'a Expr)> {
    match strip_label(left) {
        Expr::Literal(..) => Some((right, op.swap()?, left)),
        _ => Some((left, op, right)),
    }
}

/// The bytes of an id that the column `name` may have; `None` for another spelling than the one it is shown in.
fn id_of(name: &str, value: &str) -> Option<Vec<u8>> {
    match name {
        "trace_id" => Some(from_hex::<TRACE_ID_BYTES>(value)?.to_vec()),
        name if IDS.contains(&name) => Some(from_hex::<SPAN_ID_BYTES>(value)?.to_vec()),
        _ => None,
    }
}

fn of_like(like: &Like, stored: &Schema) -> Option<Hint> {
    if like.negated || like.case_insensitive || like.escape_char.is_some() {
        return None;
    }
    let pattern = text(&like.pattern)??;
    Place::of(&like.expr)?.with_words(words_of_like(&pattern), None, stored)
}

/// The words that every text has which a LIKE pattern fits: those that stand whole in it.
fn words_of_like(pattern: &str) -> Vec<String> {
    let (mut found, mut word) = (Vec::new(), String::new());
    // Whether the word being read has more of itself before or after it, for all we know.
    let (mut open, mut chars) = (false, pattern.chars());
    let mut close = |word: &mut String, open: bool| {
        if !open && !word.is_empty() {
            found.push(word.clone());
        }
        word.clear();
    };
    while let Some(c) = chars.next() {
        let c = match c {
            '%' | '_' => {
                word.clear();
                open = true;
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if is_part_of_word(c) {
            word.push(c);
        } else {
            close(&mut word, open);
            open = false;
        }
    }
    close(&mut word, open);
    found
}

/// What a filter is about.
#[derive(Clone, Copy)]
enum Place<'a> {
    Column(&'a str),
    Attribute(&'a str),
}

impl<'a> Place<'a> {
    fn of(expr: &'a Expr) -> Option<Self> {
        match strip_label(expr) {
            Expr::Column(column) => Some(Self::Column(&column.name)),
            expr => attribute(expr).map(Self::Attribute),
        }
    }

    fn integer(&self) -> Option<String> {
        match self {
            Self::Column(name) if INTEGERS.contains(name) => Some((*name).to_owned()),
            _ => None,
        }
    }

    /// The hint that a text has all of `words`; of an attribute, that it may be `equal` to a whole text.
    fn with_words(&self, words: Vec<String>, equal: Option<&str>, stored: &Schema) -> Option<Hint> {
        let column = |column: String| match words.is_empty() {
            true => Hint::Present { column },
            false => Hint::Words { column, words: words.clone() },
        };
        match self {
            Self::Column(name) if TEXTS.contains(name) => Some(column((*name).to_owned())),
            Self::Column(_) => None,
            Self::Attribute(key) => Some(any_of(key, stored, |kind, name| match (kind, equal) {
                (kind, _) if kind.is_text() => Some(column(name)),
                (Kind::Integer, Some(equal)) => {
                    equal.parse().ok().map(|number| Hint::Within { column: name, low: number, high: number })
                }
                _ => Some(Hint::Present { column: name }),
            })),
        }
    }
}

/// The hint that the key is in one of its columns or in the map of the rest.
fn any_of(key: &str, stored: &Schema, each: impl Fn(Kind, String) -> Option<Hint>) -> Hint {
    let mut hints = Vec::new();
    for kind in Kind::ALL {
        let name = kind.column(key);
        if stored.index_of(&name).is_ok() {
            hints.extend(each(kind, name));
        }
    }
    hints.push(Hint::Value { column: REST.to_owned(), value: key.as_bytes().to_vec() });
    Hint::Any(hints)
}

fn present(place: Place<'_>, stored: &Schema) -> Option<Hint> {
    match place {
        Place::Column(name) if TEXTS.contains(&name) || INTEGERS.contains(&name) || IDS.contains(&name) => {
            Some(Hint::Present { column: name.to_owned() })
        }
        Place::Column(_) => None,
        Place::Attribute(key) => Some(any_of(key, stored, |_, column| Some(Hint::Present { column }))),
    }
}

fn comparison(place: &Place<'_>, op: Operator, literal: &Expr, stored: &Schema) -> Option<Hint> {
    if let Some(column) = place.integer() {
        let value = integer(literal)?;
        let (low, high) = match op {
            Operator::Eq => (value, value),
            Operator::Gt | Operator::GtEq => (value, i64::MAX),
            Operator::Lt | Operator::LtEq => (i64::MIN, value),
            _ => return None,
        };
        return Some(Hint::Within { column, low, high });
    }
    if op != Operator::Eq {
        return None;
    }
    let value = text(literal)??;
    match *place {
        Place::Column(name) if IDS.contains(&name) => {
            Some(Hint::Value { column: name.to_owned(), value: id_of(name, &value)? })
        }
        place => place.with_words(words(&value).map(str::to_owned).collect(), Some(&value), stored),
    }
}

/// The key of `attributes['key']`, in the form that the planner gives it.
pub(crate) fn attribute(expr: &Expr) -> Option<&str> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match call.args.as_slice() {
        [Expr::Column(map), Expr::Literal(ScalarValue::Utf8(Some(key)), _)]
            if call.name() == "get_field" && map.name == REST =>
        {
            Some(key)
        }
        _ => None,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(*value),
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => Some(i64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::logical_expr::ScalarUDF;
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn words_of_a_like_pattern_are_those_that_stand_whole() {
        for (pattern, expected) in [
            ("%error%", vec![]),
            ("% error %", vec!["error"]),
            ("error: disk % is full", vec!["error", "disk", "is", "full"]),
            ("%rror: disk%", vec![]),
            ("GET /api/%", vec!["GET", "api"]),
            (r"user\_id=5", vec!["user_id", "5"]),
            ("a_b", vec![]),
            ("x y_", vec!["x"]),
            ("_x y", vec!["y"]),
            ("", vec![]),
        ] {
            assert_eq!(words_of_like(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn filters_become_hints_or_nothing() {
        let stored = Schema::new(vec![Field::new("attr/i/code", DataType::Int64, true)]);
        let hint = |expr: Expr| hint_of(&expr, &stored);
        let column = |name: &str| name.to_owned();
        let id = "000102030405060708090a0b0c0d0e0f";
        let value = Hint::Value { column: column("trace_id"), value: (0..16).collect() };
        assert_eq!(hint(col("trace_id").eq(lit(id))), Some(value.clone()));
        assert_eq!(
            hint(lit(id).eq(col("trace_id")).or(col("body").like(lit("%x%")))),
            Some(Hint::Any(vec![value, Hint::Present { column: column("body") }]))
        );
        assert_eq!(hint(col("trace_id").eq(lit("no id"))), None);
        let within = |low, high| Some(Hint::Within { column: column("duration"), low, high });
        assert_eq!(hint(col("duration").gt(lit(5i64))), within(5, i64::MAX));
        assert_eq!(hint(lit(5i64).gt(col("duration"))), within(i64::MIN, 5));
        assert_eq!(hint(col("duration").between(lit(1i64), lit(2i64))), within(1, 2));
        assert_eq!(hint(col("duration").not_eq(lit(5i64))), None);
        let words = Hint::Words { column: column("body"), words: vec!["disk".into(), "full".into()] };
        assert_eq!(hint(col("body").eq(lit("disk full!"))), Some(words.clone()));
        assert_eq!(hint(col("body").like(lit("disk full")).and(col("duration").not_eq(lit(5i64)))), Some(words));
        assert_eq!(hint(col("body").not_like(lit("x"))), None);
        assert_eq!(hint(col("body").ilike(lit("x"))), None);
        assert_eq!(hint(col("service").eq(lit("x"))), None, "the index knows");
        assert_eq!(hint(col("attributes").is_not_null()), None, "the column of that name holds only the rest");
        let search = |column: &str| {
            let function = ScalarUDF::from(match_words::MatchWords::default());
            function.call(vec![col(column), lit("disk full")])
        };
        let words = Exact::Words(column("body"), column("disk full"));
        assert_eq!(exact_of(&search("body")), Some(words));
        assert_eq!(exact_of(&search("trace_id")), None);
        assert_eq!(exact_of(&search("body").is_true()), None);
        let exact = Exact::Id(column("trace_id"), (0..16).collect());
        assert_eq!(exact_of(&lit(id).eq(col("trace_id"))), Some(exact));
        assert_eq!(exact_of(&col("trace_id").eq(lit(id.to_uppercase()))), None, "another text");
        assert_eq!(exact_of(&col("trace_id").not_eq(lit(id))), None);
        assert_eq!(exact_of(&col("span_id").eq(lit(id))), None, "too long");
        assert_eq!(exact_of(&col("body").eq(lit(id))), Some(Exact::Text(column("body"), column(id))));
        assert_eq!(exact_of(&col("service").eq(lit(id))), None);
        assert_eq!(hint(col("body").is_not_null()), Some(Hint::Present { column: column("body") }));
    }
}
