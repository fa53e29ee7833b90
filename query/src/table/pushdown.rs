//! Which filters the engine answers, exactly as SQL would.
//!
//! SQL and the engine differ about a label that a series lacks: SQL says NULL, and a comparison with NULL never holds;
//! the engine says "". Hence `label != 'x'` becomes two matchers, `!= "x"` and `!= ""`, and `label = ''` selects nothing.
//!
//! Invariant: [`convert`] returns conditions only when all of them together are equivalent to the filter, so that
//! DataFusion may drop it. Anything else stays with DataFusion.
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use foretell_engine::{MatchOp, Matcher, TimeRange};

use arrow::datatypes::{DataType, TimeUnit};

use crate::udf::not_unique;

#[cfg(test)]
mod tests;

/// What a set of filters asks of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// Time, both ends inside; empty when `start > end`.
    pub(crate) range: TimeRange,
    /// All must hold.
    pub(crate) matchers: Vec<Matcher>,
    /// Nothing can match.
    pub(crate) never: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { range: TimeRange::ALL, matchers: Vec::new(), never: false }
    }
}

impl Conditions {
    /// Both must hold.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.range =
            TimeRange { start: self.range.start.max(other.range.start), end: self.range.end.min(other.range.end) };
        self.matchers.extend(other.matchers);
        self.never |= other.never || self.range.start > self.range.end;
        self
    }

    fn never() -> Self {
        Self { never: true, ..Self::default() }
    }

    fn time(start: i64, end: i64) -> Self {
        Self { range: TimeRange { start, end }, never: start > end, ..Self::default() }
    }

    fn label(name: &str, op: MatchOp, value: &str) -> Self {
        Self { matchers: vec![Matcher { name: name.to_owned(), op, value: value.to_owned() }], ..Self::default() }
    }

    fn present(name: &str) -> Self {
        Self::label(name, MatchOp::NotEqual, "")
    }
}

/// How a table shows time and labels.
pub(crate) trait Shape {
    /// Whether `expr` is the time column.
    fn is_time(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Column(column) if column.name == "ts")
    }
    /// The label that `expr` shows, if it shows one: NULL exactly where a series lacks it.
    fn label(&self, expr: &Expr) -> Option<String>;
}

/// The engine conditions equivalent to `filter`, if there are any.
pub(crate) fn convert(filter: &Expr, shape: &dyn Shape) -> Option<Conditions> {
    match filter {
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Some(Conditions::default()),
        Expr::Literal(ScalarValue::Boolean(_) | ScalarValue::Null, _) => Some(Conditions::never()),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Some(convert(left, shape)?.and(convert(right, shape)?))
        }
        Expr::BinaryExpr(BinaryExpr { left: _, op: Operator::Or, right: _ }) => one_of(filter, shape),
        Expr::BinaryExpr(binary) => comparison(binary, shape),
        Expr::Between(between) if !between.negated && shape.is_time(strip(&between.expr)) => {
            Some(Conditions::time(nanos(&between.low)?, nanos(&between.high)?))
        }
        Expr::InList(InList { negated: false, .. }) => one_of(filter, shape),
        Expr::InList(list) => not_in(list, shape),
        Expr::IsNull(inner) => Some(Conditions::label(&shape.label(strip_label(inner))?, MatchOp::Equal, "")),
        Expr::IsNotNull(inner) if shape.is_time(inner) => Some(Conditions::default()),
        Expr::IsNotNull(inner) => Some(Conditions::present(&shape.label(strip_label(inner))?)),
        Expr::Like(like) => matches_like(like, shape),
        _ => None,
    }
}

fn comparison(binary: &BinaryExpr, shape: &dyn Shape) -> Option<Conditions> {
    let (column, op, literal) = if matches!(strip(&binary.left), Expr::Literal(..)) {
        (&binary.right, binary.op.swap()?, &binary.left)
    } else {
        (&binary.left, binary.op, &binary.right)
    };
    if shape.is_time(strip(column)) {
        return time_comparison(op, nanos(literal)?);
    }
    let name = shape.label(strip_label(column))?;
    let value = text(literal)?;
    let Some(value) = value else {
        // A comparison with NULL never holds, except the two that are about NULL.
        return match op {
            Operator::IsNotDistinctFrom => Some(Conditions::label(&name, MatchOp::Equal, "")),
            Operator::IsDistinctFrom => Some(Conditions::present(&name)),
            Operator::Eq | Operator::NotEq => Some(Conditions::never()),
            _ => None,
        };
    };
    match op {
        // No series has an empty label.
        Operator::Eq | Operator::IsNotDistinctFrom if value.is_empty() => Some(Conditions::never()),
        Operator::Eq | Operator::IsNotDistinctFrom => Some(Conditions::label(&name, MatchOp::Equal, &value)),
        Operator::NotEq if value.is_empty() => Some(Conditions::present(&name)),
        Operator::NotEq => Some(Conditions::label(&name, MatchOp::NotEqual, &value).and(Conditions::present(&name))),
        Operator::IsDistinctFrom if value.is_empty() => Some(Conditions::default()),
        Operator::IsDistinctFrom => Some(Conditions::label(&name, MatchOp::NotEqual, &value)),
        Operator::RegexMatch => Some(regex(&name, MatchOp::Regex, &anywhere(&value)?)),
        Operator::RegexNotMatch => Some(regex(&name, MatchOp::NotRegex, &anywhere(&value)?)),
        Operator::LikeMatch => Some(regex(&name, MatchOp::Regex, &like_regex(&value))),
        Operator::NotLikeMatch => Some(regex(&name, MatchOp::NotRegex, &like_regex(&value))),
        _ => None,
    }
}

fn time_comparison(op: Operator, at: i64) -> Option<Conditions> {
    Some(match op {
        Operator::Eq | Operator::IsNotDistinctFrom => Conditions::time(at, at),
        Operator::Gt => at.checked_add(1).map_or_else(Conditions::never, |start| Conditions::time(start, i64::MAX)),
        Operator::GtEq => Conditions::time(at, i64::MAX),
        Operator::Lt => at.checked_sub(1).map_or_else(Conditions::never, |end| Conditions::time(i64::MIN, end)),
        Operator::LtEq => Conditions::time(i64::MIN, at),
        _ => return None,
    })
}

/// `label IN (…)` and the chains of `OR` that DataFusion makes of short lists.
fn one_of(filter: &Expr, shape: &dyn Shape) -> Option<Conditions> {
    let mut name = None;
    let mut values = Vec::new();
    collect_values(filter, shape, &mut name, &mut values)?;
    let name = name?;
    values.retain(|v| !v.is_empty());
    values.sort_unstable();
    values.dedup();
    match values.as_slice() {
        [] => Some(Conditions::never()),
        [value] => Some(Conditions::label(&name, MatchOp::Equal, value)),
        // `\0` separates the values, so that it cannot be part of one.
        values if values.iter().any(|v| v.contains('\0')) => None,
        values => Some(Conditions::label(&name, MatchOp::OneOf, &values.join("\0"))),
    }
}

fn collect_values(filter: &Expr, shape: &dyn Shape, name: &mut Option<String>, values: &mut Vec<String>) -> Option<()> {
    let mut same_label = |label: String| match name {
        Some(name) => (*name == label).then_some(()),
        None => {
            *name = Some(label);
            Some(())
        }
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            collect_values(left, shape, name, values)?;
            collect_values(right, shape, name, values)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (column, literal) =
                if matches!(strip(left), Expr::Literal(..)) { (right, left) } else { (left, right) };
            same_label(shape.label(strip_label(column))?)?;
            values.extend(text(literal)?);
            Some(())
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            same_label(shape.label(strip_label(expr))?)?;
            for item in list {
                values.extend(text(item)?);
            }
            Some(())
        }
        _ => None,
    }
}

fn not_in(list: &InList, shape: &dyn Shape) -> Option<Conditions> {
    let name = shape.label(strip_label(&list.expr))?;
    let mut conditions = Conditions::present(&name);
    for item in &list.list {
        match text(item)? {
            // `x NOT IN (…, NULL)` never holds.
            None => conditions = conditions.and(Conditions::never()),
            Some(value) if value.is_empty() => {}
            Some(value) => conditions = conditions.and(Conditions::label(&name, MatchOp::NotEqual, &value)),
        }
    }
    Some(conditions)
}

fn matches_like(like: &Like, shape: &dyn Shape) -> Option<Conditions> {
    if like.case_insensitive || like.escape_char.is_some() {
        return None;
    }
    let name = shape.label(strip_label(&like.expr))?;
    let Some(pattern) = text(&like.pattern)? else { return Some(Conditions::never()) };
    let op = if like.negated { MatchOp::NotRegex } else { MatchOp::Regex };
    Some(regex(&name, op, &like_regex(&pattern)))
}

fn regex(name: &str, op: MatchOp, pattern: &str) -> Conditions {
    Conditions::label(name, op, pattern).and(Conditions::present(name))
}

/// SQL's `~` finds the pattern anywhere; the engine's matchers are anchored. A pattern with flags for the whole text
/// stays with DataFusion only if it does not parse inside a group.
fn anywhere(pattern: &str) -> Option<String> {
    // A verbose-mode comment would swallow the closing parenthesis.
    if pattern.contains('#') {
        return None;
    }
    Some(format!("(?s:.*)(?:{pattern})(?s:.*)"))
}

/// An anchored regular expression for a LIKE pattern: `%` any text, `_` any character, `\` escapes.
fn like_regex(pattern: &str) -> String {
    let mut regex = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => regex.push_str("(?s:.*)"),
            '_' => regex.push_str("(?s:.)"),
            '\\' => escape(chars.next().unwrap_or('\\'), &mut regex),
            c => escape(c, &mut regex),
        }
    }
    regex
}

fn escape(c: char, regex: &mut String) {
    if r"\.+*?()|[]{}^$#&-~".contains(c) {
        regex.push('\\');
    }
    regex.push(c);
}

/// Without aliases and casts that change no instant.
fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => strip(&alias.expr),
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            strip(&cast.expr)
        }
        other => other,
    }
}

/// Without aliases, casts between kinds of text, and what keeps a label from being taken for unique.
pub(super) fn strip_label(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => strip_label(&alias.expr),
        Expr::Cast(cast) if is_text(cast.field.data_type()) => strip_label(&cast.expr),
        other => not_unique::argument(other).map_or(other, strip_label),
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// The instant a literal names; DataFusion has coerced it to the column's unit by now.
fn nanos(expr: &Expr) -> Option<i64> {
    match strip(expr) {
        Expr::Literal(ScalarValue::TimestampNanosecond(Some(ns), _), _) => Some(*ns),
        _ => None,
    }
}

/// The text of a literal: `Some(None)` for NULL.
pub(super) fn text(expr: &Expr) -> Option<Option<String>> {
    let Expr::Literal(value, _) = strip_label(expr) else { return None };
    fn of(value: &ScalarValue) -> Option<Option<String>> {
        match value {
            ScalarValue::Utf8(v) | ScalarValue::LargeUtf8(v) | ScalarValue::Utf8View(v) => Some(v.clone()),
            ScalarValue::Dictionary(_, inner) => of(inner),
            ScalarValue::Null => Some(None),
            _ => None,
        }
    }
    of(value)
}
