//! From text to an [`Expr`]. The text is bounded before the parser sees it, because parser and walk are recursive, and newer
//! syntax is put into words that the parser knows.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foretell_engine::{METRIC_NAME, MatchOp, Matcher};
use promql_parser::label as parsed_label;
use promql_parser::parser::{self as parsed, token as parsed_token};

use super::duration_expr::Instants;
use super::expr::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Cardinality, Edges, Expr, Grouping, Matching, Selector, Subquery,
    Type, When,
};
use super::extended;
use super::fault::locate;
use super::function::Function;
use super::pattern;
use super::rewrite::{EDGES, Patterns, Rewritten, WORDS, rewrite};
use super::source::Matchers;
use super::token::{Kind, Token, tokens};
use super::{Limits, direct};
use crate::error::{Error, Result};

/// The expression that `text` is, in a query whose instants are not known yet.
///
/// # Errors
/// `Invalid` for what is not PromQL, or is too long, too deep or too wide.
pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Expr> {
    parse_for(text, limits, Instants::default())
}

/// The expression that `text` is in a query over `instants`.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_for(text: &str, limits: &Limits, instants: Instants) -> Result<Expr> {
    let tokens = admit(text, limits)?;
    match direct::read(&tokens) {
        Some(expr) => Ok(expr),
        None => check(read_tokens(text, &tokens, limits, instants)?).map(|(_, expr)| expr),
    }
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

/// What the parser makes of `text`, and the expression that this is.
///
/// # Errors
/// As [`parse`].
pub(crate) fn read_checked(text: &str, limits: &Limits, instants: Instants) -> Result<(parsed::Expr, Expr)> {
    check(read_tokens(text, &admit(text, limits)?, limits, instants)?)
}

/// What the parser makes of a text, with [`Rewritten::trims`], and the expression that this is.
fn check((mut read, trims): (parsed::Expr, Vec<usize>)) -> Result<(parsed::Expr, Expr)> {
    if !trims.is_empty() {
        mark(&mut read, &trims);
    }
    let expr = convert(&read)?;
    check_edges(&expr)?;
    Ok((read, expr))
}

/// What the parser makes of `text` rewritten, and [`Rewritten::trims`].
///
/// # Errors
/// As [`parse`].
pub(crate) fn read_rewritten(text: &str, limits: &Limits, instants: Instants) -> Result<(parsed::Expr, Vec<usize>)> {
    read_tokens(text, &admit(text, limits)?, limits, instants)
}

/// As [`read_rewritten`], of a text whose tokens are in bounds.
fn read_tokens<'a>(
    text: &'a str,
    tokens: &[Token<'a>],
    limits: &Limits,
    instants: Instants,
) -> Result<(parsed::Expr, Vec<usize>)> {
    let Rewritten { text: rewritten, trims, hides_patterns } =
        rewrite(text, tokens, limits, instants, Patterns::Hidden)?;
    let mut read = run_parser(&rewritten);
    if hides_patterns {
        match &mut read {
            Ok(expr) => show_patterns(expr),
            // What it says must be of the text as it is.
            Err(_) => read = run_parser(&rewrite(text, tokens, limits, instants, Patterns::AsWritten)?.text),
        }
    }
    Ok((read.map_err(|message| locate(text, tokens, &message))?, trims))
}

/// What the parser makes of `text`. It has been seen to panic.
fn run_parser(text: &str) -> std::result::Result<parsed::Expr, String> {
    catch_unwind(AssertUnwindSafe(|| parsed::parse(text)))
        .unwrap_or_else(|_| Err("the expression cannot be parsed".into()))
}

/// Operators of ours in the parser's trees.
pub(crate) const TRIM_UPPER: parsed_token::TokenId = parsed_token::TokenId::MAX - 1;
pub(crate) const TRIM_LOWER: parsed_token::TokenId = parsed_token::TokenId::MAX;

/// What a walk over the parser's tree comes to.
enum Part<'a> {
    Operator(&'a mut parsed::BinaryExpr),
    Selector(&'a mut parsed::VectorSelector),
}

/// Visits operators and selectors in the order of the text.
fn walk(expr: &mut parsed::Expr, visit: &mut dyn FnMut(Part<'_>)) {
    match expr {
        parsed::Expr::Paren(paren) => walk(&mut paren.expr, visit),
        parsed::Expr::Unary(unary) => walk(&mut unary.expr, visit),
        parsed::Expr::Subquery(subquery) => walk(&mut subquery.expr, visit),
        parsed::Expr::Call(call) => call.args.args.iter_mut().for_each(|arg| walk(arg, visit)),
        parsed::Expr::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(|param| walk(param, visit));
            walk(&mut aggregate.expr, visit);
        }
        parsed::Expr::Binary(binary) => {
            walk(&mut binary.lhs, visit);
            visit(Part::Operator(binary));
            walk(&mut binary.rhs, visit);
        }
        parsed::Expr::VectorSelector(selector) => visit(Part::Selector(selector)),
        parsed::Expr::MatrixSelector(matrix) => visit(Part::Selector(&mut matrix.vs)),
        parsed::Expr::NumberLiteral(_) | parsed::Expr::StringLiteral(_) | parsed::Expr::Extension(_) => {}
    }
}

/// Makes trims of those of the operators `<` and `>` that are some.
fn mark(expr: &mut parsed::Expr, trims: &[usize]) {
    let mut seen = 0;
    walk(expr, &mut |part| {
        let Part::Operator(binary) = part else { return };
        let trim = match binary.op.id() {
            parsed_token::T_LSS => TRIM_UPPER,
            parsed_token::T_GTR => TRIM_LOWER,
            _ => return,
        };
        if trims.binary_search(&seen).is_ok() {
            binary.op = parsed_token::TokenType::new(trim);
            binary.modifier.iter_mut().for_each(|modifier| modifier.return_bool = false);
        }
        seen += 1;
    });
}

/// Puts hidden patterns back.
fn show_patterns(expr: &mut parsed::Expr) {
    walk(expr, &mut |part| {
        if let Part::Selector(selector) = part {
            pattern::show(selector);
        }
    });
}

/// The tokens of `text`, once its length, nesting and number of terms are known to be in bounds.
fn admit<'a>(text: &'a str, limits: &Limits) -> Result<Vec<Token<'a>>> {
    if text.len() > limits.text_bytes_max {
        return Err(Error::invalid(format!(
            "the expression has {} bytes, at most {} are allowed",
            text.len(),
            limits.text_bytes_max
        )));
    }
    let tokens: Vec<Token<'_>> = tokens(text).collect();
    let (mut depth, mut terms) = (0usize, 0usize);
    for token in &tokens {
        match token.kind {
            Kind::Symbol if matches!(token.text, "(" | "[" | "{") => {
                depth += 1;
                terms += 1;
            }
            Kind::Symbol if matches!(token.text, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            Kind::Symbol | Kind::Name => terms += 1,
            _ => {}
        }
        if depth > limits.depth_max {
            return Err(Error::invalid(format!("the expression is nested deeper than {}", limits.depth_max)));
        }
        if terms > limits.terms_max {
            return Err(Error::invalid(format!("the expression has more than {} terms", limits.terms_max)));
        }
    }
    Ok(tokens)
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
        parsed_token::T_SUM => Op::Sum,
        parsed_token::T_AVG => Op::Avg,
        parsed_token::T_MIN => Op::Min,
        parsed_token::T_MAX => Op::Max,
        parsed_token::T_COUNT => Op::Count,
        parsed_token::T_GROUP => Op::Group,
        parsed_token::T_STDDEV => Op::Stddev,
        parsed_token::T_STDVAR => Op::Stdvar,
        parsed_token::T_QUANTILE => Op::Quantile,
        parsed_token::T_TOPK => Op::Topk,
        parsed_token::T_BOTTOMK => Op::Bottomk,
        parsed_token::T_LIMITK => Op::Limitk,
        parsed_token::T_LIMIT_RATIO => Op::LimitRatio,
        parsed_token::T_COUNT_VALUES => Op::CountValues,
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
        parsed_token::T_ADD => Op::Add,
        parsed_token::T_SUB => Op::Sub,
        parsed_token::T_MUL => Op::Mul,
        parsed_token::T_DIV => Op::Div,
        parsed_token::T_MOD => Op::Mod,
        parsed_token::T_POW => Op::Pow,
        parsed_token::T_ATAN2 => Op::Atan2,
        parsed_token::T_EQLC => Op::Equal,
        parsed_token::T_NEQ => Op::NotEqual,
        parsed_token::T_LSS => Op::Less,
        parsed_token::T_LTE => Op::LessOrEqual,
        parsed_token::T_GTR => Op::Greater,
        parsed_token::T_GTE => Op::GreaterOrEqual,
        parsed_token::T_LAND => Op::And,
        parsed_token::T_LOR => Op::Or,
        parsed_token::T_LUNLESS => Op::Unless,
        TRIM_UPPER => Op::TrimUpper,
        TRIM_LOWER => Op::TrimLower,
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
    let (lhs, rhs) = (convert(&binary.lhs)?, convert(&binary.rhs)?);
    if matching.fill != (None, None) && (op.is_set() || lhs.kind() != Type::Vector || rhs.kind() != Type::Vector) {
        return Err(Error::invalid(
            "invalid parameter \"query\": filling in missing series is only allowed between vectors, not for set operators",
        ));
    }
    Ok(Expr::Binary(Box::new(Binary { op, lhs, rhs, returns_bool: binary.return_bool(), matching })))
}

fn selector(selector: &parsed::VectorSelector) -> Result<Selector> {
    let named = selector.name.as_ref().map(|name| Matcher {
        name: METRIC_NAME.into(),
        op: MatchOp::Equal,
        value: name.clone(),
    });
    let (edges, own): (Vec<_>, Vec<_>) = selector.matchers.matchers.iter().partition(|matcher| matcher.name == EDGES);
    if named.is_none() && !edges.is_empty() && own.iter().all(|matcher| matcher.is_match("")) {
        return Err(Error::invalid(
            "invalid parameter \"query\": vector selector must contain at least one non-empty matcher",
        ));
    }
    let all = |matchers: &mut dyn Iterator<Item = &parsed_label::Matcher>| -> Vec<Matcher> {
        named.iter().cloned().chain(matchers.map(matcher)).collect()
    };
    let alternatives = &selector.matchers.or_matchers;
    if alternatives.iter().flatten().any(|matcher| matcher.name == EDGES) {
        return Err(Error::invalid("anchored and smoothed cannot be combined with \"or\" between matchers"));
    }
    let matchers = if alternatives.is_empty() {
        vec![all(&mut own.into_iter())]
    } else {
        alternatives.iter().map(|matchers| all(&mut matchers.iter())).collect()
    };
    let mut when = when(selector.offset.as_ref(), selector.at.as_ref())?;
    when.edges = edges.first().map_or(Edges::Exact, |matcher| self::edges(matcher));
    Ok(Selector { matchers: Matchers(matchers), when })
}

/// What a matcher on [`EDGES`] stands for.
pub(super) fn edges(matcher: &parsed_label::Matcher) -> Edges {
    if matcher.value == WORDS[0].1 { Edges::Anchored } else { Edges::Smoothed }
}

/// `anchored` and `smoothed` ranges mean something to some functions only.
fn check_edges(expr: &Expr) -> Result<()> {
    match expr {
        Expr::Range(selector, _) if selector.when.edges != Edges::Exact => {
            let edges = selector.when.edges;
            let functions: Vec<&str> = extended::functions(edges).collect();
            Err(Error::invalid(format!(
                "invalid parameter \"query\": the {} modifier of a range can only be used with {}",
                edges.word(),
                functions.join(", ")
            )))
        }
        Expr::Number(_) | Expr::Text(_) | Expr::Selector(_) | Expr::Range(..) => Ok(()),
        Expr::Call(function, args) => {
            let known = usize::from(extended::range(function.name, args).is_some());
            args.iter().skip(known).try_for_each(check_edges)
        }
        Expr::Subquery(subquery) => check_edges(&subquery.expr),
        Expr::Negate(expr) => check_edges(expr),
        Expr::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.expr]).try_for_each(check_edges),
        Expr::Binary(binary) => [&binary.lhs, &binary.rhs].into_iter().try_for_each(check_edges),
    }
}

pub(super) fn matcher(matcher: &parsed_label::Matcher) -> Matcher {
    let op = match &matcher.op {
        parsed_label::MatchOp::Equal => MatchOp::Equal,
        parsed_label::MatchOp::NotEqual => MatchOp::NotEqual,
        parsed_label::MatchOp::Re(_) => MatchOp::Regex,
        parsed_label::MatchOp::NotRe(_) => MatchOp::NotRegex,
    };
    Matcher { name: matcher.name.clone(), op, value: matcher.value.clone() }
}

pub(super) fn when(offset: Option<&parsed::Offset>, at: Option<&parsed::AtModifier>) -> Result<When> {
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
    Ok(When { offset_ms, at, edges: Edges::Exact })
}

fn since_epoch(time: SystemTime) -> Result<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => milliseconds(after),
        Err(before) => Ok(-milliseconds(before.duration())?),
    }
}

pub(super) fn milliseconds(duration: Duration) -> Result<i64> {
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
    fn faults_of_the_text_are_placed() {
        assert!(error("sum(up))").contains("1:8: parse error: unexpected \")\""));
        assert!(error("1 + nope(up)").contains("1:5: parse error: unknown function"), "{}", error("1 + nope(up)"));
        assert!(error("a + on(b) fill(1) c").contains("switched off"));
    }

    #[test]
    fn fill_and_edges_are_allowed_where_they_mean_something() {
        let limits = Limits { features: super::super::Features::all(), ..Limits::default() };
        for good in
            ["a + fill(1) b", "rate(a[5m] anchored)", "sum(a smoothed)", "a == bool on(x) group_left fill(-1) b"]
        {
            assert!(parse(good, &limits).is_ok(), "{good}");
        }
        for bad in [
            "a and fill(1) b",
            "a + fill(1) 2",
            "sum_over_time(a[5m] anchored)",
            "changes(a[5m] smoothed)",
            "a[5m] anchored",
            "quantile_over_time(1, a[5m] smoothed)",
            "{} anchored",
            "{a=~\".*\"} smoothed",
        ] {
            assert!(parse(bad, &limits).is_err(), "{bad}");
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
