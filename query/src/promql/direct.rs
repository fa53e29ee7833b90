//! What most panels and alerts ask, read straight from its tokens: a selector, a function of it, an aggregation of that, and one
//! number that it is compared or calculated with.
//!
//! The parser's tables, its tree and the walk over it are more than the evaluation of a small question takes, a quarter of one that
//! is asked after a while. Whatever is not certainly read as the parser would is left to it, errors among it.
//!
//! ```text
//! expression  = operand [operator number]
//! operand     = ( expression ) | aggregation | call | selector
//! aggregation = op [grouping] ( expression ) | op ( expression ) [grouping]
//! call        = function ( selector[duration] ) | function ( expression )
//! selector    = name [{ matchers }] | { matchers }
//! ```
use foretell_engine::{METRIC_NAME, MatchOp, Matcher, PlainPattern};

use super::duration_expr::{SECONDS_MAX, duration_ms};
use super::expr::{Aggregate, AggregateOp, Binary, BinaryOp, Expr, Grouping, Matching, Selector, Type, When};
use super::function::Function;
use super::pattern;
use super::source::Matchers;
use super::token::{Kind, Token};

/// Names that mean something else to the parser, in lower case.
const KEYWORDS: [&str; 37] = [
    "anchored",
    "and",
    "atan2",
    "avg",
    "bool",
    "bottomk",
    "by",
    "count",
    "count_values",
    "end",
    "fill",
    "fill_left",
    "fill_right",
    "group",
    "group_left",
    "group_right",
    "ignoring",
    "inf",
    "limit_ratio",
    "limitk",
    "max",
    "min",
    "nan",
    "offset",
    "on",
    "or",
    "quantile",
    "range",
    "smoothed",
    "start",
    "stddev",
    "stdvar",
    "step",
    "sum",
    "topk",
    "unless",
    "without",
];

/// The expression that `tokens`, which are in bounds, are; `None` leaves them to the parser.
pub(super) fn read(tokens: &[Token<'_>]) -> Option<Expr> {
    let mut reader = Reader { rest: tokens };
    let expr = reader.expression()?;
    (reader.rest.is_empty() && expr.kind() == Type::Vector).then_some(expr)
}

struct Reader<'a, 't> {
    rest: &'t [Token<'a>],
}

impl<'a> Reader<'a, '_> {
    /// The next token, if it is of `kind`.
    fn next(&mut self, kind: Kind) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = if first.kind == kind { rest } else { return None };
        Some(first.text)
    }

    /// Passes the next token, if it is `symbol`.
    fn pass(&mut self, symbol: &str) -> Option<()> {
        self.is_next(symbol).then(|| self.rest = &self.rest[1..])
    }

    fn is_next(&self, symbol: &str) -> bool {
        self.rest.first().is_some_and(|token| token.is(symbol))
    }

    fn expression(&mut self) -> Option<Expr> {
        let lhs = self.operand()?;
        if self.rest.is_empty() || self.is_next(")") {
            return Some(lhs);
        }
        let op = operator(self.next(Kind::Symbol)?)?;
        let rhs = Expr::Number(number(self.next(Kind::Number)?)?);
        if lhs.kind() != Type::Vector {
            return None;
        }
        Some(Expr::Binary(Box::new(Binary { op, lhs, rhs, returns_bool: false, matching: Matching::default() })))
    }

    fn operand(&mut self) -> Option<Expr> {
        if self.pass("(").is_some() {
            return self.closed();
        }
        let name = match self.rest.first()? {
            name if name.kind == Kind::Name => name.text,
            _ => return self.selector().map(Expr::Selector),
        };
        if let Some(op) = aggregation(name) {
            self.rest = &self.rest[1..];
            return self.aggregation(op);
        }
        if !self.rest.get(1).is_some_and(|after| after.is("(")) {
            return self.selector().map(Expr::Selector);
        }
        let function = Function::named(name)?;
        self.rest = &self.rest[2..];
        let arg = if function.takes_range() {
            let range = Expr::Range(self.selector()?, self.range()?);
            self.pass(")").map(|()| range)
        } else {
            function.maps().then(|| self.closed()).flatten()
        };
        Some(Expr::Call(function, vec![arg?]))
    }

    /// A vector behind which a parenthesis is closed.
    fn closed(&mut self) -> Option<Expr> {
        let expr = self.expression()?;
        self.pass(")")?;
        Some(expr).filter(|expr| expr.kind() == Type::Vector)
    }

    fn aggregation(&mut self, op: AggregateOp) -> Option<Expr> {
        let mut grouping = self.grouping()?;
        self.pass("(")?;
        let expr = self.closed()?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let grouping = grouping.unwrap_or(Grouping { without: false, labels: Vec::new() });
        Some(Expr::Aggregate(Box::new(Aggregate { op, expr, param: None, grouping })))
    }

    /// The grouping that follows, if one does.
    #[allow(clippy::option_option)]
    fn grouping(&mut self) -> Option<Option<Grouping>> {
        let without = match self.rest.first() {
            Some(token) if token.kind == Kind::Name && token.text == "by" => false,
            Some(token) if token.kind == Kind::Name && token.text == "without" => true,
            _ => return Some(None),
        };
        self.rest = &self.rest[1..];
        self.pass("(")?;
        let mut labels = Vec::new();
        while self.pass(")").is_none() {
            if !labels.is_empty() {
                self.pass(",")?;
            }
            labels.push(self.label()?);
        }
        Some(Some(Grouping { without, labels }))
    }

    fn label(&mut self) -> Option<String> {
        let name = self.next(Kind::Name)?;
        (!is_keyword(name) && !name.contains(':')).then(|| name.to_owned())
    }

    fn selector(&mut self) -> Option<Selector> {
        let matches = |name: &str, op, value: String| Matcher { name: name.to_owned(), op, value };
        let mut matchers = Vec::new();
        if !self.is_next("{") {
            let name = self.next(Kind::Name).filter(|name| !is_keyword(name))?;
            matchers.push(matches(METRIC_NAME, MatchOp::Equal, name.to_owned()));
        }
        let is_named = !matchers.is_empty();
        if self.pass("{").is_some() {
            let mut is_first = true;
            while self.pass("}").is_none() {
                if !is_first {
                    self.pass(",")?;
                }
                is_first = false;
                let name = self.label().filter(|name| !is_named || name != METRIC_NAME)?;
                let op = self.next(Kind::Symbol)?;
                let value = literal(self.next(Kind::Text)?)?;
                let op = match op {
                    "=" => MatchOp::Equal,
                    "!=" => MatchOp::NotEqual,
                    "=~" => PlainPattern::of(&value).map(|_| MatchOp::Regex)?,
                    "!~" => PlainPattern::of(&value).map(|_| MatchOp::NotRegex)?,
                    _ => return None,
                };
                matchers.push(matches(&name, op, value));
            }
        }
        // Of the others one must not match series without the label.
        let narrows = |matcher: &Matcher| match matcher.op {
            MatchOp::Equal => !matcher.value.is_empty(),
            MatchOp::Regex => {
                PlainPattern::of(&matcher.value).is_some_and(|plain| !plain.values.contains(&String::new()))
            }
            _ => false,
        };
        let matchers = (is_named || matchers.iter().any(narrows)).then(|| Matchers(vec![matchers]))?;
        Some(Selector { matchers, when: When::default() })
    }

    /// Milliseconds of a range.
    fn range(&mut self) -> Option<i64> {
        self.pass("[")?;
        let text = self.next(Kind::Duration)?;
        self.pass("]")?;
        let ms = duration_ms(text).ok().filter(|&ms| ms > 0 && ms as f64 / 1000.0 <= SECONDS_MAX)?;
        i64::try_from(ms).ok()
    }
}

/// A number of decimal digits; to the parser, a zero before them means others.
fn number(text: &str) -> Option<f64> {
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_octal = text.starts_with('0') && text.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if is_decimal && !is_octal { text.parse().ok() } else { None }
}

/// What a string without escapes but those of backslashes is.
fn literal(text: &str) -> Option<String> {
    let inner = text.get(1..text.len() - 1).filter(|_| !text.starts_with('`'))?;
    pattern::unescaped(inner).filter(|inner| !inner.contains('\n'))
}

fn is_keyword(name: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name))
}

fn aggregation(name: &str) -> Option<AggregateOp> {
    Some(match name {
        "sum" => AggregateOp::Sum,
        "avg" => AggregateOp::Avg,
        "min" => AggregateOp::Min,
        "max" => AggregateOp::Max,
        "count" => AggregateOp::Count,
        "group" => AggregateOp::Group,
        _ => return None,
    })
}

fn operator(symbol: &str) -> Option<BinaryOp> {
    use BinaryOp as Op;
    let all = [
        Op::Add,
        Op::Sub,
        Op::Mul,
        Op::Div,
        Op::Mod,
        Op::Pow,
        Op::Equal,
        Op::NotEqual,
        Op::Less,
        Op::LessOrEqual,
        Op::Greater,
        Op::GreaterOrEqual,
    ];
    all.into_iter().find(|op| op.symbol() == symbol)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::super::Limits;
    use super::super::duration_expr::Instants;
    use super::super::parse::read_checked;
    use super::super::token::tokens;
    use super::*;

    fn here(text: &str) -> Option<String> {
        let tokens: Vec<Token<'_>> = tokens(text).collect();
        read(&tokens).map(|expr| format!("{expr:?}"))
    }

    /// What the parser makes of it.
    fn there(text: &str) -> Option<String> {
        let read = read_checked(text, &Limits::default(), Instants::default());
        read.ok().map(|(_, expr)| format!("{expr:?}"))
    }

    #[test]
    fn what_most_panels_ask_is_read_here_as_the_parser_reads_it() {
        for text in [
            "up",
            "job:x:rate5m{}",
            "{__name__=\"up\"}",
            "node_load1{instance=\"10.0.0.0:9100\", job!='node'}",
            "rate(a{b=~\"c|d\",e!~\"f.+\"}[5m])",
            "rate(x[1h30m])",
            "rate(x[292y])",
            "max(max_over_time(cpu{host=\"h\"}[1m]))",
            "sum by (a, b) (increase(x[1h])) > 5",
            "(sum(irate(x[30s])) without (c)) / 1.5",
            "avg without () (abs(x{y=\"\"}))",
            "count(up == 1)",
            "{a=\"b\",c=~\"d\\\\.e|f\"} <= .5",
            "max by (__name__) ({__name__=~\"a_(b|c)\",d=~\"e|f\"})",
            "{a=~\"b.+\",c!~\"d\"}",
            "ceil(group by (a) (x)) != 0",
        ] {
            assert_eq!(here(text), Some(there(text).expect(text)), "{text}");
        }
    }

    #[test]
    fn what_the_parser_may_read_otherwise_is_left_to_it() {
        for text in [
            "sum",
            "sum(x[5m])",
            "rate(x)",
            "rate(x[0s])",
            "rate(x[293y])",
            "rate(x[16000w])",
            "rate(x[30m1h])",
            "rate(x[5])",
            "abs(x[5m])",
            "up offset 5m",
            "up @ 5",
            "x[5m]",
            "max_over_time(x[5m:1m])",
            "topk(3, x)",
            "x > bool 1",
            "x > 1 > 2",
            "x + y",
            "1 + 1",
            "-x",
            "x{a=\"\\n\"}",
            "x{a=`b`}",
            "x{a=~\"b.\"}",
            "x{__name__=\"y\"}",
            "{a=\"\"}",
            "{a=~\".*\"}",
            "{a=~\"b|\"}",
            "{a!=\"b\"}",
            "{a!~\"b\"}",
            "{}",
            "x{by=\"y\"}",
            "x{a=\"b\",}",
            "x{,}",
            "offset",
            "Inf",
            "sum by (a",
            "sum(x",
            "x)",
            "",
            "x 5",
            "sum by (a) (x) by (b)",
            "x anchored",
            "x > 0x1f",
            "x > 1_0",
            "x > 1e3",
            "x > 010",
            "x > 08.5",
            "x{\"quoted\"}",
            "nope(x)",
            "time()",
        ] {
            assert_eq!(here(text), None, "{text}");
        }
    }

    #[test]
    fn every_function_and_keyword_is_read_as_the_parser_reads_it() {
        let names = Function::names().chain(KEYWORDS).chain(["x", "stdvar", "SUM", "By", "NaN"]);
        for name in names {
            for text in [
                format!("{name}(x[5m])"),
                format!("{name}(x)"),
                name.to_owned(),
                format!("x{{{name}=\"y\"}}"),
                format!("sum by ({name}) (x)"),
                format!("{name}{{a=\"b\"}}"),
                format!("sum {name} (a) (x)"),
            ] {
                let read = here(&text);
                assert!(read.is_none() || read == there(&text), "{text}");
            }
        }
    }

    #[test]
    fn whatever_is_read_here_the_parser_reads_likewise() {
        const PIECES: [&str; 60] = [
            "x",
            "y:z",
            "sum",
            "max",
            "by",
            "without",
            "on",
            "rate",
            "max_over_time",
            "abs",
            "ln",
            "time",
            "topk",
            "(",
            "(",
            "(",
            ")",
            ")",
            ")",
            "{",
            "}",
            "[",
            "]",
            "[5m]",
            "[1y]",
            "[0s]",
            "[999999w]",
            "[1h30m]",
            ",",
            "=",
            "!=",
            "=~",
            "!~",
            "==",
            ">",
            "<=",
            "+",
            "^",
            "1",
            "0.5",
            "1e3",
            ".",
            "1.2.3",
            "\"a\"",
            "'b'",
            "\"a|b\"",
            "\"a.*\"",
            "\"a.\"",
            "\"\"",
            "\"\\\\.\"",
            "`c`",
            "a",
            "__name__",
            "{a=\"b\"}",
            "{a=~\"b|c\",d!=\"\"}",
            "{a=\"\"}",
            "by (a)",
            "without ()",
            "offset",
            "#x\n",
        ];
        let mut random = SmallRng::seed_from_u64(8);
        let mut read_here = 0;
        for _ in 0..60_000 {
            let count = random.random_range(1..9);
            let pieces = (0..count).map(|_| PIECES[random.random_range(0..PIECES.len())]);
            let text = pieces.collect::<Vec<_>>().join([" ", ""][random.random_range(0..2)]);
            if let Some(read) = here(&text) {
                read_here += 1;
                assert_eq!(Some(read), there(&text), "{text}");
            }
        }
        assert!(read_here > 1_000, "{read_here}");
    }
}
