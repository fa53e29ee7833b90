//! An expression whose types have been checked. Parentheses are gone, names are resolved.
use super::function::Function;
use super::source::Matchers;

/// A PromQL expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// An instant vector selector.
    Selector(Selector),
    /// A range vector selector.
    Range(Selector, i64),
    /// A subquery.
    Subquery(Box<Subquery>),
    /// A function call.
    Call(Function, Vec<Expr>),
    /// An aggregation.
    Aggregate(Box<Aggregate>),
    /// A binary operation.
    Binary(Box<Binary>),
    /// Unary minus.
    Negate(Box<Expr>),
}

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar,
    Vector,
    Matrix,
    Text,
}

/// When a selector or subquery is evaluated, relative to the step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct When {
    /// Milliseconds back.
    pub(crate) offset_ms: i64,
    /// A fixed instant instead of the step.
    pub(crate) at: Option<At>,
    /// What is taken at the borders.
    pub(crate) edges: Edges,
}

/// What a selector takes where its range begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Edges {
    /// The samples inside.
    #[default]
    Exact,
    /// `anchored`: the last sample before the range, too.
    Anchored,
    /// `smoothed`: the value on the line between the samples before and after the border.
    Smoothed,
}

impl Edges {
    /// The modifier.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// `@`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum At {
    Start,
    End,
    Ms(i64),
}

/// Which series, and when.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) matchers: Matchers,
    pub(crate) when: When,
}

/// `expr[range:step]`
#[derive(Clone, Debug)]
pub(crate) struct Subquery {
    pub(crate) expr: Expr,
    pub(crate) range_ms: i64,
    /// `None`: the default.
    pub(crate) step_ms: Option<i64>,
    pub(crate) when: When,
}

/// `op by (labels) (param, expr)`
#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub(crate) op: AggregateOp,
    pub(crate) expr: Expr,
    pub(crate) param: Option<Expr>,
    pub(crate) grouping: Grouping,
}

impl Aggregate {
    /// Whether the answer is the same, up to the sign of a zero, in whatever order stored series come: what is counted or compared,
    /// in one group. (Sums differ in their last bits, groups in their order.)
    pub(crate) fn takes_any_order(&self) -> bool {
        use AggregateOp::{Count, Group, Max, Min};
        let is_stored = match &self.expr {
            Expr::Selector(_) => true,
            Expr::Call(_, args) => args.iter().all(|arg| matches!(arg, Expr::Range(..) | Expr::Number(_))),
            _ => false,
        };
        is_stored && self.grouping.is_of_all() && matches!(self.op, Count | Group | Max | Min)
    }
}

/// Which labels make groups.
#[derive(Clone, Debug)]
pub(crate) struct Grouping {
    pub(crate) without: bool,
    pub(crate) labels: Vec<String>,
}

impl Grouping {
    /// Whether all series are one group, without labels.
    pub(crate) fn is_of_all(&self) -> bool {
        !self.without && self.labels.is_empty()
    }
}

/// Aggregations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
    Topk,
    Bottomk,
    Limitk,
    LimitRatio,
    CountValues,
}

/// `lhs op rhs`
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) op: BinaryOp,
    pub(crate) lhs: Expr,
    pub(crate) rhs: Expr,
    /// A comparison answers 0 or 1 instead of filtering.
    pub(crate) returns_bool: bool,
    pub(crate) matching: Matching,
}

/// How series of two sides find each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matching {
    /// `on`: only `labels` count; else all but them and the name.
    pub(crate) on: bool,
    pub(crate) labels: Vec<String>,
    pub(crate) cardinality: Cardinality,
    /// Labels copied from the "one" side.
    pub(crate) include: Vec<String>,
    /// Value for a left, right side without partner.
    pub(crate) fill: (Option<f64>, Option<f64>),
}

/// Which side may have several series for one of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Unless,
    /// `</`: a native histogram without what is above a threshold.
    TrimUpper,
    /// `>/`: without what is below.
    TrimLower,
}

impl BinaryOp {
    pub(crate) fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual)
    }

    /// How it is written.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    pub(crate) fn is_trim(self) -> bool {
        matches!(self, Self::TrimUpper | Self::TrimLower)
    }

    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl Expr {
    /// The type of the value.
    pub(crate) fn kind(&self) -> Type {
        match self {
            Self::Number(_) => Type::Scalar,
            Self::Text(_) => Type::Text,
            Self::Selector(_) | Self::Aggregate(_) => Type::Vector,
            Self::Range(..) | Self::Subquery(_) => Type::Matrix,
            Self::Call(function, _) => function.returns(),
            Self::Negate(expr) => expr.kind(),
            Self::Binary(binary) => match (binary.lhs.kind(), binary.rhs.kind()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Vector,
            },
        }
    }

    /// Calls `visit` for each selector, those of subqueries among them.
    pub(crate) fn selectors<'a>(&'a self, visit: &mut impl FnMut(&'a Selector)) {
        match self {
            Self::Number(_) | Self::Text(_) => {}
            Self::Selector(selector) | Self::Range(selector, _) => visit(selector),
            Self::Subquery(subquery) => subquery.expr.selectors(visit),
            Self::Call(_, args) => args.iter().for_each(|arg| arg.selectors(visit)),
            Self::Aggregate(aggregate) => {
                aggregate.expr.selectors(visit);
                aggregate.param.iter().for_each(|param| param.selectors(visit));
            }
            Self::Binary(binary) => {
                binary.lhs.selectors(visit);
                binary.rhs.selectors(visit);
            }
            Self::Negate(expr) => expr.selectors(visit),
        }
    }

    /// Whether every step has the same answer.
    pub(crate) fn is_step_invariant(&self) -> bool {
        match self {
            Self::Number(_) | Self::Text(_) => true,
            Self::Selector(selector) | Self::Range(selector, _) => selector.when.at.is_some(),
            Self::Subquery(subquery) => subquery.when.at.is_some(),
            Self::Call(function, args) => !function.reads_step_time(args) && args.iter().all(Self::is_step_invariant),
            Self::Aggregate(aggregate) => {
                aggregate.expr.is_step_invariant() && aggregate.param.as_ref().is_none_or(Self::is_step_invariant)
            }
            Self::Binary(binary) => binary.lhs.is_step_invariant() && binary.rhs.is_step_invariant(),
            Self::Negate(expr) => expr.is_step_invariant(),
        }
    }
}
