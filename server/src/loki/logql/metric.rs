//! Metric queries: `sum by (level) (rate({app="shop"} | json [5m])) > 0.5`.
use super::entry::{Entry, sanitized};
use super::input::{Input, Parsed};
use super::stage::Stage;
use super::{LogQuery, ParseError, unit};

/// Reads of lines of one query.
const READS_MAX: usize = 8;

/// A metric query.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// A number.
    Number(f64),
    /// A number as a vector without labels.
    Vector(f64),
    /// Lines within ranges.
    Range(Box<RangeAggregation>),
    /// Series put together.
    Aggregate {
        op: AggregateOp,
        /// Of `topk` and `bottomk`.
        parameter: usize,
        grouping: Grouping,
        of: Box<Self>,
    },
    /// Two results.
    Binary {
        op: BinaryOp,
        /// Comparisons answer 0 and 1.
        yields_bool: bool,
        left: Box<Self>,
        right: Box<Self>,
    },
}

/// A function of the lines within a range.
#[derive(Clone, Debug)]
pub(crate) struct RangeAggregation {
    pub(crate) op: RangeOp,
    pub(crate) query: LogQuery,
    pub(crate) range: Range,
    /// Which quantile.
    pub(crate) parameter: f64,
    /// Labels that the result has.
    pub(crate) grouping: Grouping,
}

/// `[5m] offset 1h`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) ns: i64,
    pub(crate) offset_ns: i64,
}

impl Range {
    pub(super) fn read(input: &mut Input<'_>) -> Parsed<Self> {
        input.expect("[")?;
        let ns = input.duration()?;
        if ns <= 0 {
            return input.wrong("a range that is not longer than nothing");
        }
        input.expect("]")?;
        let offset_ns = if input.keyword("offset") { input.duration()? } else { 0 };
        Ok(Self { ns, offset_ns })
    }
}

/// What a range becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeOp {
    Count,
    Rate,
    Bytes,
    BytesRate,
    Sum,
    Avg,
    Min,
    Max,
    First,
    Last,
    Stddev,
    Stdvar,
    Quantile,
}

impl RangeOp {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "count_over_time" => Self::Count,
            "rate" => Self::Rate,
            "bytes_over_time" => Self::Bytes,
            "bytes_rate" => Self::BytesRate,
            "sum_over_time" => Self::Sum,
            "avg_over_time" => Self::Avg,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "first_over_time" => Self::First,
            "last_over_time" => Self::Last,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "quantile_over_time" => Self::Quantile,
            _ => return None,
        })
    }

    /// Whether it counts lines or bytes: then sums of its results are its result for all lines together.
    pub(crate) fn counts(self) -> bool {
        matches!(self, Self::Count | Self::Rate | Self::Bytes | Self::BytesRate)
    }
}

/// What series become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
}

impl AggregateOp {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "sum" => Self::Sum,
            "avg" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            "count" => Self::Count,
            "stddev" => Self::Stddev,
            "stdvar" => Self::Stdvar,
            "topk" => Self::TopK,
            "bottomk" => Self::BottomK,
            _ => return None,
        })
    }
}

/// Which labels are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

impl Grouping {
    /// All labels are kept.
    pub(crate) fn all() -> Self {
        Self::Without(Vec::new())
    }

    pub(crate) fn keeps(&self, name: &str) -> bool {
        match self {
            Self::By(names) => names.iter().any(|other| other == name),
            Self::Without(names) => !names.iter().any(|other| other == name),
        }
    }

    fn read(input: &mut Input<'_>) -> Parsed<Option<Self>> {
        let by = input.keyword("by");
        if !by && !input.keyword("without") {
            return Ok(None);
        }
        input.expect("(")?;
        let mut names = Vec::new();
        while !input.take(")") {
            input.part()?;
            names.push(input.name()?);
            if !input.take(",") && !input.starts_with(")") {
                return input.wrong("neither ',' nor ')'");
            }
        }
        Ok(Some(if by { Self::By(names) } else { Self::Without(names) }))
    }
}

/// Operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Or,
    And,
    Unless,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

impl BinaryOp {
    /// The operator that comes next, if it binds as strongly as `least` at least, and how strongly it binds.
    fn take(input: &mut Input<'_>, least: u8) -> Option<(Self, u8)> {
        let words = [("or", Self::Or, 1), ("and", Self::And, 2), ("unless", Self::Unless, 2)];
        let signs = [
            ("==", Self::Equal, 3),
            ("!=", Self::NotEqual, 3),
            ("<=", Self::LessEqual, 3),
            (">=", Self::GreaterEqual, 3),
            ("<", Self::Less, 3),
            (">", Self::Greater, 3),
            ("+", Self::Add, 4),
            ("-", Self::Subtract, 4),
            ("*", Self::Multiply, 5),
            ("/", Self::Divide, 5),
            ("%", Self::Modulo, 5),
            ("^", Self::Power, 6),
        ];
        let word = words.into_iter().find(|(token, _, binds)| *binds >= least && input.keyword(token));
        let found = word.or_else(|| signs.into_iter().find(|(token, _, binds)| *binds >= least && input.take(token)));
        found.map(|(_, op, binds)| (op, binds))
    }

    pub(crate) fn compares(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// Whether it is about the presence of series.
    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
}

impl Expr {
    pub(super) fn read(input: &mut Input<'_>) -> Parsed<Self> {
        let at = input.at();
        let expr = Self::operators(input, 1)?;
        let mut reads = Vec::new();
        expr.reads(&mut reads);
        if reads.len() > READS_MAX {
            let what = format!("it reads lines {} times, the limit is {READS_MAX}", reads.len());
            return Err(ParseError { at, what });
        }
        Ok(expr)
    }

    /// Adds the reads of lines in it, from the left.
    pub(crate) fn reads<'e>(&'e self, to: &mut Vec<&'e RangeAggregation>) {
        match self {
            Self::Number(_) | Self::Vector(_) => {}
            Self::Range(of) => to.push(of),
            Self::Aggregate { of, .. } => of.reads(to),
            Self::Binary { left, right, .. } => {
                left.reads(to);
                right.reads(to);
            }
        }
    }

    /// Whether `sum` of it may be had by counting all lines of a group together; then it does so.
    fn grouped(self, op: AggregateOp, grouping: &Grouping) -> Self {
        match self {
            Self::Range(mut of) if op == AggregateOp::Sum && of.op.counts() && of.grouping == Grouping::all() => {
                of.grouping = grouping.clone();
                Self::Range(of)
            }
            other => other,
        }
    }

    fn operators(input: &mut Input<'_>, least: u8) -> Parsed<Self> {
        let mut left = input.nested(Self::primary)?;
        while let Some((op, binds)) = BinaryOp::take(input, least) {
            input.part()?;
            let yields_bool = op.compares() && input.keyword("bool");
            if matches!(input.peek_name(), "on" | "ignoring" | "group_left" | "group_right") {
                return input.wrong("on, ignoring and group_… are not supported: series match by all their labels");
            }
            // Powers are taken from the right.
            let least = if op == BinaryOp::Power { binds } else { binds + 1 };
            let right = input.nested(|input| Self::operators(input, least))?;
            left = Self::Binary { op, yields_bool, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    fn primary(input: &mut Input<'_>) -> Parsed<Self> {
        input.part()?;
        if input.take("(") {
            let inside = input.nested(|input| Self::operators(input, 1))?;
            input.expect(")")?;
            return Ok(inside);
        }
        let word = input.peek_name();
        if word.starts_with(|c: char| c.is_ascii_digit()) || ["+", "-", "."].iter().any(|sign| input.starts_with(sign))
        {
            return input.number().map(Self::Number);
        }
        if word == "vector" {
            input.keyword(word);
            input.expect("(")?;
            let number = input.number()?;
            input.expect(")")?;
            return Ok(Self::Vector(number));
        }
        if let Some(op) = RangeOp::of(word) {
            let at = input.at();
            input.keyword(word);
            return Self::range(input, op, at);
        }
        let Some(op) = AggregateOp::of(word) else {
            return input.wrong(
                "a selector, a function of lines, an aggregation, vector() or a number was expected: write {app=\"shop\"} or \
                 count_over_time({app=\"shop\"}[5m])",
            );
        };
        input.keyword(word);
        let before = Grouping::read(input)?;
        input.expect("(")?;
        let mut parameter = 0;
        if matches!(op, AggregateOp::TopK | AggregateOp::BottomK) {
            let number = input.number()?;
            if !(1.0..1e6).contains(&number) {
                return input.wrong("a number from 1 was expected");
            }
            parameter = number as usize;
            input.expect(",")?;
        }
        let of = input.nested(|input| Self::operators(input, 1))?;
        input.expect(")")?;
        let after = if before.is_none() { Grouping::read(input)? } else { None };
        let grouping = before.or(after).unwrap_or_else(|| Grouping::By(Vec::new()));
        let of = Box::new(of.grouped(op, &grouping));
        Ok(Self::Aggregate { op, parameter, grouping, of })
    }

    fn range(input: &mut Input<'_>, op: RangeOp, at: usize) -> Parsed<Self> {
        input.expect("(")?;
        let mut parameter = 0.0;
        if op == RangeOp::Quantile {
            parameter = input.number()?;
            input.expect(",")?;
        }
        let (query, range) = LogQuery::read(input, true)?;
        let Some(range) = range else { return input.wrong("a range was expected, like [5m]") };
        input.expect(")")?;
        let wrong = |what: &str| Err(ParseError { at, what: what.to_owned() });
        match (&query.unwrap, op) {
            (Some(_), RangeOp::Count | RangeOp::Bytes | RangeOp::BytesRate) => {
                return wrong("this function counts lines or their bytes: it takes no unwrap");
            }
            (None, op) if !op.counts() => return wrong("this function needs values of a label: add | unwrap label"),
            _ => {}
        }
        let grouping = Grouping::read(input)?.unwrap_or_else(Grouping::all);
        let grouped = grouping != Grouping::all();
        if grouped && (op.counts() || matches!(op, RangeOp::Sum)) {
            return wrong("this function takes no by or without: write sum by (…) (…)");
        }
        Ok(Self::Range(Box::new(RangeAggregation { op, query, range, parameter, grouping })))
    }
}

/// `| unwrap duration(took) | __error__=""`
#[derive(Clone, Debug)]
pub(super) struct Unwrap {
    label: String,
    conversion: Conversion,
    stages: Vec<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conversion {
    Number,
    Seconds,
    Bytes,
}

impl Unwrap {
    pub(super) fn read(input: &mut Input<'_>) -> Parsed<Self> {
        let name = input.name()?;
        let conversion = match name.as_str() {
            _ if !input.starts_with("(") => {
                return Ok(Self { label: sanitized(&name), conversion: Conversion::Number, stages: Vec::new() });
            }
            "duration" | "duration_seconds" => Conversion::Seconds,
            "bytes" => Conversion::Bytes,
            _ => return input.wrong("only duration(…), duration_seconds(…) and bytes(…) turn labels into numbers"),
        };
        input.expect("(")?;
        let label = input.name()?;
        input.expect(")")?;
        Ok(Self { label, conversion, stages: Vec::new() })
    }

    /// A filter of labels after it.
    pub(super) fn after(&mut self, input: &mut Input<'_>) -> Parsed<()> {
        let at = input.at();
        match Stage::read(input)? {
            stage @ Stage::Labels(_) => {
                self.stages.push(stage);
                Ok(())
            }
            _ => Err(ParseError { at, what: "after unwrap only comparisons of labels are possible".to_owned() }),
        }
    }

    fn number(&self, text: &str) -> Option<f64> {
        match self.conversion {
            Conversion::Number => text.parse().ok(),
            Conversion::Seconds => unit::duration_ns(text).map(|ns| ns as f64 / 1e9),
            Conversion::Bytes => unit::bytes(text),
        }
    }
}

impl LogQuery {
    /// The value of a line; `None` if it is not wanted or has no such label.
    pub(crate) fn value(&self, entry: &mut Entry<'_>) -> Option<f64> {
        if !self.apply(entry) {
            return None;
        }
        let Some(unwrap) = &self.unwrap else { return Some(1.0) };
        if !entry.has(&unwrap.label) {
            return None;
        }
        let text = entry.get(&unwrap.label).to_owned();
        let number = unwrap.number(&text);
        if number.is_none() {
            entry.fail("SampleExtractionErr", format!("{} is no number", unwrap.label));
        } else {
            entry.remove(&unwrap.label);
        }
        let wanted = unwrap.stages.iter().all(|stage| stage.apply(entry));
        wanted.then(|| number.unwrap_or_default())
    }

    /// Whether values are asked for, not lines.
    pub(crate) fn unwraps(&self) -> bool {
        self.unwrap.is_some()
    }
}
