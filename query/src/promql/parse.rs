//! From text to an [`Expr`]. The text is bounded before the parser sees it, because parser and walk are recursive.
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foretell_engine::{METRIC_NAME, MatchOp, Matcher};
use promql_parser::label as parsed_label;
use promql_parser::parser::{self as parsed, token};

use super::Limits;
use super::expr::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, Expr, Grouping, Matching, Selector, Subquery, Type, When,
};
use super::function::Function;
use super::source::Matchers;
use crate::error::{Error, Result};

/// The expression that `text` is.
///
/// # Errors
/// `Invalid` for what is not PromQL, or is too long, too deep or too wide.
pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Expr> {
    convert(&read(text, limits)?)
}

/// The parser's tree of a text within the limits.
fn read(text: &str, limits: &Limits) -> Result<parsed::Expr> {
    admit(text, limits)?;
    let text = without_digit_groups(text);
    catch_unwind(AssertUnwindSafe(|| parsed::parse(&text)))
        .unwrap_or_else(|_| Err("the expression cannot be parsed".into()))
        .map_err(|message| Error::invalid(format!("invalid parameter \"query\": {message}")))
}

/// The conditions of a series selector, such as `up{job="a"}`.
///
/// # Errors
/// `Invalid` for anything else.
pub(crate) fn parse_selector(text: &str, limits: &Limits) -> Result<Matchers> {
    match parse(text, limits)? {
        Expr::Selector(Selector { matchers, when }) if when == When::default() => Ok(matchers),
        _ => Err(Error::invalid(format!("invalid parameter \"match[]\": {text:?} is no series selector"))),
    }
}

/// `text` in the usual layout.
///
/// # Errors
/// `Invalid` for what is not PromQL.
pub(crate) fn format(text: &str, limits: &Limits) -> Result<String> {
    let expr = read(text, limits)?;
    convert(&expr)?;
    Ok(expr.prettify())
}

/// Bounds length, nesting and number of terms without recursion.
fn admit(text: &str, limits: &Limits) -> Result<()> {
    if text.len() > limits.text_bytes_max {
        return Err(Error::invalid(format!(
            "the expression has {} bytes, at most {} are allowed",
            text.len(),
            limits.text_bytes_max
        )));
    }
    let (mut depth, mut terms, mut quote, mut escaped, mut run_of_signs) = (0usize, 0usize, None, false, 0usize);
    for c in text.chars() {
        if let Some(end) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' if end != '`' => escaped = true,
                _ if c == end => quote = None,
                _ => {}
            }
            continue;
        }
        run_of_signs = if matches!(c, '-' | '+') || c.is_whitespace() { run_of_signs + 1 } else { 0 };
        match c {
            '"' | '\'' | '`' => quote = Some(c),
            '(' | '[' | '{' => {
                depth += 1;
                terms += 1;
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '^' | ',' | '<' | '>' | '=' | '!' => terms += 1,
            _ if c.is_whitespace() => terms += usize::from(run_of_signs == 1),
            _ => {}
        }
        if depth > limits.depth_max {
            return Err(Error::invalid(format!("the expression is nested deeper than {}", limits.depth_max)));
        }
        if terms > limits.terms_max {
            return Err(Error::invalid(format!("the expression has more than {} terms", limits.terms_max)));
        }
    }
    Ok(())
}

/// `1_000` becomes `1000`, which the parser knows: an underscore between the digits of a number goes.
fn without_digit_groups(text: &str) -> Cow<'_, str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.');
    let (mut out, mut quote, mut escaped) = (String::with_capacity(text.len()), None, false);
    let (mut before, mut in_number) = (' ', false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if let Some(end) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' if end != '`' => escaped = true,
                _ if c == end => quote = None,
                _ => {}
            }
        } else {
            match c {
                '"' | '\'' | '`' => quote = Some(c),
                _ if !is_word(before) => in_number = c.is_ascii_digit(),
                '_' if in_number && before.is_ascii_hexdigit() && rest.peek().is_some_and(char::is_ascii_hexdigit) => {
                    continue;
                }
                _ => {}
            }
        }
        out.push(c);
        before = c;
    }
    if out.len() == text.len() { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

fn convert(expr: &parsed::Expr) -> Result<Expr> {
    Ok(match expr {
        parsed::Expr::Paren(paren) => convert(&paren.expr)?,
        parsed::Expr::NumberLiteral(number) => Expr::Number(number.val),
        parsed::Expr::StringLiteral(text) => Expr::Text(text.val.clone()),
        parsed::Expr::Unary(unary) => Expr::Negate(Box::new(convert(&unary.expr)?)),
        parsed::Expr::VectorSelector(selector) => Expr::Selector(self::selector(selector)?),
        parsed::Expr::MatrixSelector(matrix) => Expr::Range(selector(&matrix.vs)?, milliseconds(matrix.range)?),
        parsed::Expr::Subquery(subquery) => Expr::Subquery(Box::new(Subquery {
            expr: convert(&subquery.expr)?,
            range_ms: milliseconds(subquery.range)?,
            step_ms: subquery.step.map(milliseconds).transpose()?,
            when: when(subquery.offset.as_ref(), subquery.at.as_ref())?,
        })),
        parsed::Expr::Call(call) => self::call(call)?,
        parsed::Expr::Aggregate(aggregate) => self::aggregate(aggregate)?,
        parsed::Expr::Binary(binary) => self::binary(binary)?,
        parsed::Expr::Extension(_) => return Err(Error::invalid("expression extensions are not supported")),
    })
}

fn call(call: &parsed::Call) -> Result<Expr> {
    let name = call.func.name;
    let function = Function::named(name)
        .ok_or_else(|| Error::invalid(format!("function {name:?} is not supported by this version")))?;
    let args = call.args.args.iter().map(|arg| convert(arg)).collect::<Result<Vec<_>>>()?;
    function.check(&args)?;
    Ok(Expr::Call(function, args))
}

fn aggregate(aggregate: &parsed::AggregateExpr) -> Result<Expr> {
    use AggregateOp as Op;
    let op = match aggregate.op.id() {
        token::T_SUM => Op::Sum,
        token::T_AVG => Op::Avg,
        token::T_MIN => Op::Min,
        token::T_MAX => Op::Max,
        token::T_COUNT => Op::Count,
        token::T_GROUP => Op::Group,
        token::T_STDDEV => Op::Stddev,
        token::T_STDVAR => Op::Stdvar,
        token::T_QUANTILE => Op::Quantile,
        token::T_TOPK => Op::Topk,
        token::T_BOTTOMK => Op::Bottomk,
        token::T_LIMITK => Op::Limitk,
        token::T_LIMIT_RATIO => Op::LimitRatio,
        token::T_COUNT_VALUES => Op::CountValues,
        _ => return Err(Error::invalid(format!("unknown aggregation {}", aggregate.op))),
    };
    let grouping = match &aggregate.modifier {
        None => Grouping { without: false, labels: Vec::new() },
        Some(modifier) => Grouping { without: !modifier.is_include(), labels: modifier.labels().labels.clone() },
    };
    let param = aggregate.param.as_ref().map(|param| convert(param)).transpose()?;
    let expect = if op == Op::CountValues { Type::Text } else { Type::Scalar };
    if let Some(param) = &param
        && param.kind() != expect
    {
        return Err(Error::invalid("the parameter of an aggregation has the wrong type"));
    }
    Ok(Expr::Aggregate(Box::new(Aggregate { op, expr: convert(&aggregate.expr)?, param, grouping })))
}

fn binary(binary: &parsed::BinaryExpr) -> Result<Expr> {
    use BinaryOp as Op;
    let op = match binary.op.id() {
        token::T_ADD => Op::Add,
        token::T_SUB => Op::Sub,
        token::T_MUL => Op::Mul,
        token::T_DIV => Op::Div,
        token::T_MOD => Op::Mod,
        token::T_POW => Op::Pow,
        token::T_ATAN2 => Op::Atan2,
        token::T_EQLC => Op::Equal,
        token::T_NEQ => Op::NotEqual,
        token::T_LSS => Op::Less,
        token::T_LTE => Op::LessOrEqual,
        token::T_GTR => Op::Greater,
        token::T_GTE => Op::GreaterOrEqual,
        token::T_LAND => Op::And,
        token::T_LOR => Op::Or,
        token::T_LUNLESS => Op::Unless,
        _ => return Err(Error::invalid(format!("operator {} is not supported by this version", binary.op))),
    };
    let mut matching = Matching::default();
    if let Some(modifier) = &binary.modifier {
        if let Some(labels) = &modifier.matching {
            matching.on = labels.is_include();
            matching.labels.clone_from(&labels.labels().labels);
        }
        let (cardinality, include) = match &modifier.card {
            parsed::VectorMatchCardinality::ManyToOne(labels) => (Cardinality::ManyToOne, labels.labels.clone()),
            parsed::VectorMatchCardinality::OneToMany(labels) => (Cardinality::OneToMany, labels.labels.clone()),
            _ => (Cardinality::OneToOne, Vec::new()),
        };
        matching.cardinality = cardinality;
        matching.include = include;
        matching.fill = (modifier.fill_values.lhs, modifier.fill_values.rhs);
    }
    Ok(Expr::Binary(Box::new(Binary {
        op,
        lhs: convert(&binary.lhs)?,
        rhs: convert(&binary.rhs)?,
        returns_bool: binary.return_bool(),
        matching,
    })))
}

fn selector(selector: &parsed::VectorSelector) -> Result<Selector> {
    let named = selector.name.as_ref().map(|name| Matcher {
        name: METRIC_NAME.into(),
        op: MatchOp::Equal,
        value: name.clone(),
    });
    let all = |matchers: &[parsed_label::Matcher]| -> Vec<Matcher> {
        named.iter().cloned().chain(matchers.iter().map(matcher)).collect()
    };
    let matchers = if selector.matchers.or_matchers.is_empty() {
        vec![all(&selector.matchers.matchers)]
    } else {
        selector.matchers.or_matchers.iter().map(|matchers| all(matchers)).collect()
    };
    Ok(Selector { matchers: Matchers(matchers), when: when(selector.offset.as_ref(), selector.at.as_ref())? })
}

fn matcher(matcher: &parsed_label::Matcher) -> Matcher {
    let op = match &matcher.op {
        parsed_label::MatchOp::Equal => MatchOp::Equal,
        parsed_label::MatchOp::NotEqual => MatchOp::NotEqual,
        parsed_label::MatchOp::Re(_) => MatchOp::Regex,
        parsed_label::MatchOp::NotRe(_) => MatchOp::NotRegex,
    };
    Matcher { name: matcher.name.clone(), op, value: matcher.value.clone() }
}

fn when(offset: Option<&parsed::Offset>, at: Option<&parsed::AtModifier>) -> Result<When> {
    let offset_ms = match offset {
        None => 0,
        Some(parsed::Offset::Pos(by)) => milliseconds(*by)?,
        Some(parsed::Offset::Neg(by)) => -milliseconds(*by)?,
    };
    let at = match at {
        None => None,
        Some(parsed::AtModifier::Start) => Some(At::Start),
        Some(parsed::AtModifier::End) => Some(At::End),
        Some(parsed::AtModifier::At(time)) => Some(At::Ms(since_epoch(*time)?)),
    };
    Ok(When { offset_ms, at })
}

fn since_epoch(time: SystemTime) -> Result<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => milliseconds(after),
        Err(before) => Ok(-milliseconds(before.duration())?),
    }
}

fn milliseconds(duration: Duration) -> Result<i64> {
    i64::try_from(duration.as_millis())
        .ok()
        .filter(|ms| *ms < i64::MAX / 4)
        .ok_or_else(|| Error::invalid("duration out of range"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, &Limits::default()).unwrap_err().message
    }

    #[test]
    fn hostile_texts_are_refused_before_they_are_parsed() {
        assert!(error(&"(".repeat(101)).contains("nested deeper"));
        assert!(error(&vec!["1"; 5000].join("+")).contains("more than"));
        assert!(error(&vec!["a"; 3000].join(" or ")).contains("more than"));
        assert!(error(&"x".repeat(70_000)).contains("bytes"));
        assert!(error(&"-".repeat(5000)).contains("more than"));
    }

    #[test]
    fn brackets_inside_strings_do_not_count() {
        assert!(parse(&format!("up{{a=\"{}\"}}", "(".repeat(200)), &Limits::default()).is_ok());
    }

    #[test]
    fn underscores_group_digits_of_numbers_only() {
        for (text, plain) in
            [("1_000 + a_1", "1000 + a_1"), ("\"1_0\"", "\"1_0\""), ("0xff_ff", "0xffff"), ("m1_2", "m1_2")]
        {
            assert_eq!(without_digit_groups(text), plain);
        }
    }

    #[test]
    fn types_of_arguments_are_checked() {
        for bad in
            ["rate(up)", "abs(up[5m])", "sum(up[5m])", "1 and 2", "up[5m] + 1", "-\"a\"", "{a=~\".*\"}", "topk(up, up)"]
        {
            assert!(parse(bad, &Limits::default()).is_err(), "{bad}");
        }
    }
}
