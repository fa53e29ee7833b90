//! An expression as it is written, for programs that show or edit it: parentheses are kept, and nothing is resolved.
use foretell_engine::{METRIC_NAME, MatchOp, Matcher};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self as parsed, VectorMatchCardinality};

use super::Limits;
use super::duration_expr::Instants;
use super::expr::{At, BinaryOp, Edges};
use super::parse::{TRIM_LOWER, TRIM_UPPER, edges, matcher, milliseconds, read_checked, when};
use super::rewrite::EDGES;
use super::value::format;
use crate::error::{Error, Result};
use crate::planner;

/// A node of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// `op by (grouping) (param, expr)`
    Aggregation {
        /// `sum`, …
        op: String,
        /// What is aggregated.
        expr: Box<Tree>,
        /// The first argument of those that have two.
        param: Option<Box<Tree>>,
        /// Labels that make groups, or do not.
        grouping: Vec<String>,
        /// Whether `grouping` lists those that do not.
        without: bool,
    },
    /// `lhs op rhs`
    Binary {
        /// `+`, `and`, …
        op: String,
        /// Left side.
        lhs: Box<Tree>,
        /// Right side.
        rhs: Box<Tree>,
        /// How series find each other; only between vectors.
        matching: Option<TreeMatching>,
        /// A comparison that answers 0 or 1.
        returns_bool: bool,
    },
    /// `function(args)`
    Call {
        /// What is called.
        function: TreeFunction,
        /// With what.
        args: Vec<Tree>,
    },
    /// A number: the shortest decimal that reads back as the same bits, without an exponent.
    Number(String),
    /// A string.
    Text(String),
    /// `(expr)`
    Paren(Box<Tree>),
    /// `-expr`
    Negate(Box<Tree>),
    /// A selector of an instant or a range vector.
    Selector(TreeSelector),
    /// `expr[range:step]`
    Subquery {
        /// What is evaluated at each step.
        expr: Box<Tree>,
        /// How far back.
        range_ms: i64,
        /// `None`: the default.
        step_ms: Option<i64>,
        /// When.
        when: TreeWhen,
    },
}

/// How series of two vectors find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeMatching {
    /// `one-to-one`, `many-to-one`, `one-to-many`, `many-to-many`
    pub cardinality: &'static str,
    /// Labels that count, or do not.
    pub labels: Vec<String>,
    /// Whether `labels` lists those that count.
    pub on: bool,
    /// Labels copied from the "one" side.
    pub include: Vec<String>,
}

/// A function's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFunction {
    /// Its name.
    pub name: &'static str,
    /// `vector`, `matrix`, `scalar`, `string`
    pub arg_types: Vec<String>,
    /// How many arguments beyond the required ones it takes; -1: any number.
    pub variadic: i32,
    /// As in `arg_types`.
    pub return_type: String,
}

/// `name{matchers}[range]`
#[derive(Clone, Debug, PartialEq)]
pub struct TreeSelector {
    /// The name before the braces, or nothing.
    pub name: String,
    /// Sets of conditions of which one must hold wholly; the name is the last condition of each.
    pub alternatives: Vec<Vec<TreeMatcher>>,
    /// How far back a range vector looks.
    pub range_ms: Option<i64>,
    /// When.
    pub when: TreeWhen,
    /// `anchored` or `smoothed`.
    pub edges: Option<&'static str>,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeMatcher {
    /// Label.
    pub name: String,
    /// `=`, `!=`, `=~`, `!~`
    pub op: &'static str,
    /// Right side.
    pub value: String,
}

/// `offset` and `@`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeWhen {
    /// Milliseconds back.
    pub offset_ms: i64,
    /// A fixed instant, milliseconds UTC.
    pub at_ms: Option<i64>,
    /// The query's own `start` or `end`.
    pub start_or_end: Option<&'static str>,
}

/// The expression that `text` is, as written.
///
/// # Errors
/// `Invalid` for what is not PromQL, or is too long, too deep or too wide.
pub fn tree(text: &str, limits: &Limits) -> Result<Tree> {
    planner::with_large_stack(|| grown(text, limits))
}

/// As [`tree`], where the stack is large.
fn grown(text: &str, limits: &Limits) -> Result<Tree> {
    convert(&read_checked(text, limits, Instants::default())?.0)
}

/// The conditions of every selector in `text`, each a set of which all must hold.
///
/// # Errors
/// As [`tree`].
pub(crate) fn selectors(text: &str, limits: &Limits) -> Result<Vec<Vec<Matcher>>> {
    planner::with_large_stack(|| {
        let mut found = Vec::new();
        collect(&grown(text, limits)?, &mut found);
        Ok(found)
    })
}

fn collect(tree: &Tree, found: &mut Vec<Vec<Matcher>>) {
    match tree {
        Tree::Aggregation { expr, param, .. } => {
            param.iter().for_each(|param| collect(param, found));
            collect(expr, found);
        }
        Tree::Binary { lhs, rhs, .. } => {
            collect(lhs, found);
            collect(rhs, found);
        }
        Tree::Call { args, .. } => args.iter().for_each(|arg| collect(arg, found)),
        Tree::Paren(expr) | Tree::Negate(expr) | Tree::Subquery { expr, .. } => collect(expr, found),
        Tree::Selector(selector) => {
            let sets = selector.alternatives.iter();
            found.extend(sets.map(|all| all.iter().map(TreeMatcher::matcher).collect()));
        }
        Tree::Number(_) | Tree::Text(_) => {}
    }
}

impl TreeMatcher {
    fn of(matcher: Matcher) -> Self {
        let op = match matcher.op {
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
            _ => "=",
        };
        Self { name: matcher.name, op, value: matcher.value }
    }

    fn matcher(&self) -> Matcher {
        let op = match self.op {
            "!=" => MatchOp::NotEqual,
            "=~" => MatchOp::Regex,
            "!~" => MatchOp::NotRegex,
            _ => MatchOp::Equal,
        };
        Matcher { name: self.name.clone(), op, value: self.value.clone() }
    }
}

fn boxed(expr: &parsed::Expr) -> Result<Box<Tree>> {
    convert(expr).map(Box::new)
}

fn convert(expr: &parsed::Expr) -> Result<Tree> {
    Ok(match expr {
        parsed::Expr::Paren(paren) => Tree::Paren(boxed(&paren.expr)?),
        parsed::Expr::NumberLiteral(number) => Tree::Number(format(number.val)),
        parsed::Expr::StringLiteral(text) => Tree::Text(text.val.clone()),
        parsed::Expr::Unary(unary) => Tree::Negate(boxed(&unary.expr)?),
        parsed::Expr::VectorSelector(of) => Tree::Selector(selector(of, None)?),
        parsed::Expr::MatrixSelector(matrix) => {
            Tree::Selector(selector(&matrix.vs, Some(milliseconds(matrix.range)?))?)
        }
        parsed::Expr::Subquery(subquery) => Tree::Subquery {
            expr: boxed(&subquery.expr)?,
            range_ms: milliseconds(subquery.range)?,
            step_ms: subquery.step.map(milliseconds).transpose()?,
            when: moment(subquery.offset.as_ref(), subquery.at.as_ref())?,
        },
        parsed::Expr::Call(call) => Tree::Call {
            function: TreeFunction {
                name: call.func.name,
                arg_types: call.func.arg_types.iter().map(ToString::to_string).collect(),
                variadic: call.func.variadic,
                return_type: call.func.return_type.to_string(),
            },
            args: call.args.args.iter().map(|arg| convert(arg)).collect::<Result<_>>()?,
        },
        parsed::Expr::Aggregate(aggregate) => {
            let modifier = aggregate.modifier.as_ref();
            Tree::Aggregation {
                op: aggregate.op.to_string(),
                expr: boxed(&aggregate.expr)?,
                param: aggregate.param.as_ref().map(|param| boxed(param)).transpose()?,
                grouping: modifier.map(|modifier| modifier.labels().labels.clone()).unwrap_or_default(),
                without: modifier.is_some_and(|modifier| !modifier.is_include()),
            }
        }
        parsed::Expr::Binary(binary) => Tree::Binary {
            op: match binary.op.id() {
                TRIM_UPPER => BinaryOp::TrimUpper.symbol().to_owned(),
                TRIM_LOWER => BinaryOp::TrimLower.symbol().to_owned(),
                _ => binary.op.to_string(),
            },
            lhs: boxed(&binary.lhs)?,
            rhs: boxed(&binary.rhs)?,
            matching: matching(binary),
            returns_bool: binary.return_bool(),
        },
        parsed::Expr::Extension(_) => return Err(Error::invalid("expression extensions are not supported")),
    })
}

/// How the sides match, if both are vectors.
fn matching(binary: &parsed::BinaryExpr) -> Option<TreeMatching> {
    if binary.lhs.value_type() != ValueType::Vector || binary.rhs.value_type() != ValueType::Vector {
        return None;
    }
    let one_to_one = TreeMatching { cardinality: "one-to-one", labels: Vec::new(), on: false, include: Vec::new() };
    let Some(modifier) = &binary.modifier else { return Some(one_to_one) };
    let (cardinality, include) = match &modifier.card {
        VectorMatchCardinality::OneToOne => ("one-to-one", Vec::new()),
        VectorMatchCardinality::ManyToOne(labels) => ("many-to-one", labels.labels.clone()),
        VectorMatchCardinality::OneToMany(labels) => ("one-to-many", labels.labels.clone()),
        VectorMatchCardinality::ManyToMany => ("many-to-many", Vec::new()),
    };
    let by = modifier.matching.as_ref();
    Some(TreeMatching {
        cardinality,
        labels: by.map(|by| by.labels().labels.clone()).unwrap_or_default(),
        on: by.is_some_and(parsed::LabelModifier::is_include),
        include,
    })
}

fn selector(selector: &parsed::VectorSelector, range_ms: Option<i64>) -> Result<TreeSelector> {
    let named =
        selector.name.as_ref().map(|name| TreeMatcher { name: METRIC_NAME.to_owned(), op: "=", value: name.clone() });
    let all = |matchers: &[promql_parser::label::Matcher]| -> Vec<TreeMatcher> {
        let own = matchers.iter().filter(|one| one.name != EDGES);
        own.map(|one| TreeMatcher::of(matcher(one))).chain(named.clone()).collect()
    };
    let alternatives = if selector.matchers.or_matchers.is_empty() {
        vec![all(&selector.matchers.matchers)]
    } else {
        selector.matchers.or_matchers.iter().map(|matchers| all(matchers)).collect()
    };
    let edges = selector.matchers.matchers.iter().find(|one| one.name == EDGES).map(edges);
    Ok(TreeSelector {
        name: selector.name.clone().unwrap_or_default(),
        alternatives,
        range_ms,
        when: moment(selector.offset.as_ref(), selector.at.as_ref())?,
        edges: edges.map(Edges::word),
    })
}

fn moment(offset: Option<&parsed::Offset>, at: Option<&parsed::AtModifier>) -> Result<TreeWhen> {
    let when = when(offset, at)?;
    let (at_ms, start_or_end) = match when.at {
        None => (None, None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
        Some(At::Ms(ms)) => (Some(ms), None),
    };
    Ok(TreeWhen { offset_ms: when.offset_ms, at_ms, start_or_end })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_selector_of_an_expression_is_found() {
        let text = r#"topk(scalar(k), -(a{x="1"} / on(y) rate(b{z=~"q"}[5m] offset 1m))) > max_over_time(c[1h:])"#;
        let found = selectors(text, &Limits::default()).unwrap();
        let names: Vec<&str> = found.iter().map(|all| all.last().unwrap().value.as_str()).collect();
        assert_eq!(names, ["k", "a", "b", "c"]);
        assert_eq!((found[2][0].name.as_str(), found[2][0].op), ("z", MatchOp::Regex));
        assert!(selectors("1 + time()", &Limits::default()).unwrap().is_empty());
    }

    #[test]
    fn parentheses_and_modifiers_stay_as_written() {
        let parsed = tree("(foo[5m] @ 10.5 offset -1m)", &Limits::default()).unwrap();
        let Tree::Paren(inner) = parsed else { panic!("{parsed:?}") };
        let Tree::Selector(selector) = *inner else { panic!("{inner:?}") };
        assert_eq!(selector.range_ms, Some(300_000));
        assert_eq!(selector.when, TreeWhen { offset_ms: -60_000, at_ms: Some(10_500), start_or_end: None });
        assert_eq!(tree("1e-7", &Limits::default()).unwrap(), Tree::Number("0.0000001".to_owned()));
        assert_eq!(tree("-1_000", &Limits::default()).unwrap(), Tree::Number("-1000".to_owned()));
        assert!(tree("sum(", &Limits::default()).is_err());
    }

    #[test]
    fn newer_syntax_is_part_of_the_tree() {
        let limits = Limits { features: super::super::Features::all(), ..Limits::default() };
        let parsed = tree("rate(foo{a=\"b\"}[5m] anchored) </ 2", &limits).unwrap();
        let Tree::Binary { op, lhs, returns_bool, .. } = parsed else { panic!("{parsed:?}") };
        assert_eq!((op.as_str(), returns_bool), ("</", false));
        let Tree::Call { args, .. } = *lhs else { panic!("{lhs:?}") };
        let [Tree::Selector(selector)] = args.as_slice() else { panic!("{args:?}") };
        assert_eq!((selector.edges, selector.alternatives[0].len()), (Some("anchored"), 2));
    }
}
