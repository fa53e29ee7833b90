//! Small queries: those that take less time than handing them to another thread and back.
//!
//! Whether one is small shows in part only when it is answered: the text, unless it is long, says that there are few terms, no
//! pattern but lists of values, and no subquery, the index that selectors find few series, the account that there are few
//! samples, and the clock the rest: blocks that are not in memory, samples that are in many windows. As soon as one of them says
//! otherwise the evaluation is given up, and the query goes the usual way.
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::{MatchOp, PlainPattern, Snapshot};

use super::annotation::Annotations;
use super::expr::{Expr, Selector};
use super::source::FewSeries;
use super::token::{Kind, tokens};
use super::value::Answer;
use super::{Cancelled, Limits, PromQuery, evaluate_parsed, lately, regex_cost};
use crate::error::Result;

/// Most terms.
const TERMS_MAX: usize = 16;
/// Most series of a selector.
const SERIES_MAX: u64 = 64;
/// Most samples held at once.
const SAMPLES_MAX: usize = 32 << 10;
/// Most samples and steps that are looked at for a selector.
const WORK_MAX: usize = 256 << 10;
/// Most steps.
const STEPS_MAX: i64 = 1000;
/// Longest time; a small one takes well below a millisecond.
pub(crate) const TIME_MAX: Duration = Duration::from_millis(5);

/// Longest text, in bytes and tokens, that is parsed to find out: no tree of it, however deep, needs a large stack.
const TEXT_BYTES_MAX: usize = 1 << 10;
const TOKENS_MAX: usize = 200;
/// Most that the parser may compile for it, see [`regex_cost`].
const COST_MAX: u64 = 1_000;
/// Most values of a list, and longest of them, bytes: the index looks each up, but tries a longer list on every value that it has.
const VALUES_MAX: usize = 100;
const VALUE_BYTES_MAX: usize = 96;

/// The expression of `query`, if it may be small. An error of the text shows on the usual way.
pub(crate) fn plain(query: &PromQuery, limits: &Limits) -> Option<Arc<Expr>> {
    let expr = match lately::kept(&query.text, limits) {
        None if is_cheap(&query.text) => lately::parsed(&query.text, limits, query.instants()).ok(),
        kept => kept,
    };
    expr.filter(|expr| may_be_small(expr, query))
}

/// Whether parsing takes little time and stack.
fn is_cheap(text: &str) -> bool {
    if text.len() > TEXT_BYTES_MAX {
        return false;
    }
    let (mut count, mut cost) = (0, 0u64);
    for token in tokens(text) {
        count += 1;
        if token.kind == Kind::Text {
            cost = cost.saturating_add(regex_cost::cost(token.text));
        }
    }
    count <= TOKENS_MAX && cost <= COST_MAX
}

/// Whether there are few steps, and few terms, all of them plain.
fn may_be_small(expr: &Expr, query: &PromQuery) -> bool {
    let steps = query.step_ms.map_or(1, |step| query.end_ms.saturating_sub(query.start_ms) / step.max(1));
    steps <= STEPS_MAX && is_plain(expr, &mut { TERMS_MAX })
}

/// Evaluates `expr`, which [`plain`] has found for `query`, if it is small. Needs no large stack. `cancelled` is to end it after
/// [`TIME_MAX`].
///
/// # Errors
/// Any when it is not small after all; those of an evaluation.
pub(crate) fn evaluate(
    expr: &Expr,
    query: &PromQuery,
    snapshot: &Snapshot,
    limits: &Limits,
    cancelled: &Cancelled<'_>,
    reserve: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Result<(Answer, Annotations)> {
    let limits = Limits { samples_max: limits.samples_max.min(SAMPLES_MAX), ..limits.clone() };
    let source = FewSeries { snapshot, series_max: SERIES_MAX, samples_max: SAMPLES_MAX, work_max: WORK_MAX };
    evaluate_parsed(expr, query, &source, &limits, cancelled, reserve)
}

/// Whether an expression has no more than `terms` terms, which it takes off, and no pattern or subquery among them.
fn is_plain(expr: &Expr, terms: &mut usize) -> bool {
    if *terms == 0 {
        return false;
    }
    *terms -= 1;
    match expr {
        Expr::Number(_) => true,
        Expr::Selector(selector) | Expr::Range(selector, _) => is_exact(selector),
        // A text may be a pattern.
        Expr::Subquery(_) | Expr::Text(_) => false,
        Expr::Call(_, args) => args.iter().all(|arg| is_plain(arg, terms)),
        Expr::Aggregate(aggregate) => {
            is_plain(&aggregate.expr, terms) && aggregate.param.as_ref().is_none_or(|param| is_plain(param, terms))
        }
        Expr::Binary(binary) => is_plain(&binary.lhs, terms) && is_plain(&binary.rhs, terms),
        Expr::Negate(expr) => is_plain(expr, terms),
    }
}

/// Whether nothing but whole values of labels are asked for.
fn is_exact(selector: &Selector) -> bool {
    let mut matchers = selector.matchers.0.iter().flatten();
    matchers.all(|matcher| match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual | MatchOp::OneOf => true,
        MatchOp::Regex | MatchOp::NotRegex => is_list(&matcher.value),
    })
}

/// Whether a pattern is a short list of whole values, as dashboards make it of a variable: `web-1|web-2`,
/// `10\.0\.0\.(1|2):9100`.
fn is_list(pattern: &str) -> bool {
    let fits =
        |values: &[String]| values.len() <= VALUES_MAX && values.iter().all(|value| value.len() <= VALUE_BYTES_MAX);
    PlainPattern::of(pattern).is_some_and(|plain| plain.more.is_none() && fits(&plain.values))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_engine::{Engine, EngineConfig, LabelSet, WriteBatch};

    use super::super::{evaluate_annotated, parse};
    use super::*;

    /// Seventy series of `m`, a sample each minute of an hour.
    fn write(engine: &Engine) {
        for n in 0..70 {
            let labels = LabelSet::from_pairs([("__name__", "m"), ("n", &n.to_string())]).unwrap();
            let series = engine.resolve(&labels).unwrap();
            let mut batch = WriteBatch::default();
            (0..60).for_each(|i| batch.push(series, i * 60_000_000_000, (i * n) as f64));
            engine.write(batch).unwrap().wait().unwrap();
        }
    }

    fn query(text: &str, minutes: i64, step_ms: Option<i64>) -> PromQuery {
        PromQuery { text: text.into(), start_ms: 600_000, end_ms: minutes * 60_000, step_ms, lookback_ms: 300_000 }
    }

    #[test]
    fn what_is_small_is_answered_as_on_the_usual_way_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = EngineConfig::new(directory.path());
        config.background = false;
        let engine = Engine::open(config).unwrap();
        write(&engine);
        let limits = Limits::default();
        let parsed = |query: &PromQuery| parse::parse(&query.text, &limits).unwrap();
        let small = |query: &PromQuery| {
            let expr = parsed(query);
            let here = || evaluate(&expr, query, &engine.snapshot(), &limits, &|| false, &|_| Ok(())).ok();
            may_be_small(&expr, query).then(here).flatten()
        };
        let (range, instant) = (Some(60_000), None);
        let ask =
            |query: &PromQuery| evaluate_annotated(query, &engine.snapshot(), &limits, &|| false, &|_| Ok(())).unwrap();
        for (text, step_ms) in [
            ("m{n=\"3\"}", instant),
            ("m{n=\"3\"} + on () (m{n=\"4\"} * 2) > bool 1", range),
            ("sum by (n) (rate(m{n=\"5\"}[5m])) or -m{n!=\"6\",n=\"7\"}", range),
            ("1 + 1", instant),
            ("m{n=\"none\"}", range),
            ("m{n=~\"3|4\"} - ignoring (n) group_left () m{n=\"5\"}", range),
        ] {
            let query = query(text, 50, step_ms);
            assert_eq!(format!("{:?}", small(&query).unwrap()), format!("{:?}", ask(&query)), "{text}");
        }
        for (text, step_ms, why) in [
            ("m", instant, "seventy series"),
            ("m{n=~\"3.*\"}", instant, "a pattern"),
            ("label_replace(m{n=\"3\"}, \"a\", \"$1\", \"n\", \"(.*)\")", instant, "a text may be a pattern"),
            ("max_over_time(m{n=\"3\"}[5m:1m])", instant, "a subquery"),
            ("m{n=\"3\"} + on (n) m", range, "seventy series"),
            ("m{n=\"3\"} + 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9", range, "many terms"),
            ("m{n=\"3\"}", Some(1_000), "many steps"),
        ] {
            assert!(small(&query(text, 50, step_ms)).is_none(), "{text}: {why}");
        }
        let long = format!("m{{n=\"3\"}} * {:TEXT_BYTES_MAX$}m{{n=\"8\"}}", "");
        let query = query(&long, 50, range);
        let cancelled = evaluate(&parsed(&query), &query, &engine.snapshot(), &limits, &|| true, &|_| Ok(()));
        assert!(cancelled.is_err());
        assert!(plain(&query, &limits).is_none(), "it is long, and nobody has asked it yet");
        // Other tests share what is kept, and may have it forgotten at any time.
        let is_kept = |_| {
            ask(&query);
            plain(&query, &limits).is_some()
        };
        assert!((0..100).any(is_kept));
        let short = |text: &str| plain(&PromQuery { text: text.into(), ..query.clone() }, &limits).is_some();
        assert!(short("m{n=\"9\"}") && short("m{n=~\"9|10\\\\.(0|1)\"}") && !short("m{n=~\"9.\"}") && !short("m{"));
    }

    #[test]
    fn what_takes_long_to_parse_or_to_look_up_is_not_tried() {
        let pattern = |pattern: &str| format!("m{{n=\"9\",x!~\"{pattern}\"}}");
        assert!(is_cheap(&pattern("a|b{9}")));
        for text in ["(a|b{900}){9}", "a{99999999999999999999}\",y!~\"b"] {
            assert!(!is_cheap(&pattern(text)), "{text}");
        }
        assert!(is_cheap(&"-".repeat(TOKENS_MAX)) && !is_cheap(&"-".repeat(TOKENS_MAX + 1)));
        let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join("|");
        for (list, few) in [
            ("a".to_owned(), true),
            ("web-1|web-2".to_owned(), true),
            (r"10\.0\.0\.(1|2):9100".to_owned(), true),
            (many(VALUES_MAX), true),
            (many(VALUES_MAX + 1), false),
            ("a".repeat(VALUE_BYTES_MAX), true),
            ("a".repeat(VALUE_BYTES_MAX + 1), false),
            (format!("{}(b|c)", "a".repeat(VALUE_BYTES_MAX)), false),
            ("(a|b)(c|d)".to_owned(), false),
            ("a.".to_owned(), false),
            (r"a\d".to_owned(), false),
        ] {
            assert_eq!(is_list(&list), few, "{list}");
        }
    }

    #[test]
    fn no_text_that_is_parsed_here_needs_a_large_stack() {
        let deep = |times: usize, open: &str, close: &str| {
            let (open, close) = (open.repeat(times), close.repeat(times));
            format!("{open}m{{n=\"3\"}}{close}")
        };
        let texts = [deep(190, "-", ""), deep(90, "(", ")"), deep(60, "abs(", ")"), format!("{}1", "1^".repeat(99))];
        assert!(texts.iter().all(|text| is_cheap(text)));
        let parsing = move || {
            let limits = Limits::default();
            texts.iter().filter(|text| parse::parse(text, &limits).is_ok()).count()
        };
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        assert!(thread.spawn(parsing).unwrap().join().unwrap() >= 3);
    }
}
