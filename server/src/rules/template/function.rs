//! Functions: Go's, and those that Prometheus adds.
use std::fmt::Write as _;
use std::sync::Arc;

use regex::RegexBuilder;

use super::format::{self, general};
use super::value::{Sample, Value};
use super::{Data, Fault, TEXT_BYTES_MAX};
use crate::rules::duration;
use crate::timestamp::rfc3339;

/// Largest compiled regular expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// All functions.
const NAMES: [&str; 42] = [
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "print",
    "printf",
    "println",
    "html",
    "urlquery",
    "urlQueryEscape",
    "query",
    "first",
    "label",
    "value",
    "strvalue",
    "sortByLabel",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "title",
    "toUpper",
    "toLower",
    "match",
    "reReplaceAll",
    "stripPort",
    "stripDomain",
    "safeHtml",
    "graphLink",
    "tableLink",
    "parseDuration",
    "externalURL",
    "pathPrefix",
    "now",
];

/// Whether there is a function of this name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls `name`.
///
/// # Errors
/// Wrong arguments, or the query whose answer is needed first.
pub(super) fn call(name: &str, args: Vec<Value>, data: &Data<'_>) -> Result<Value, Fault> {
    if name == "query" {
        let [Value::Text(text)] = args.as_slice() else {
            return Err(Fault::Failed("query takes one string: the expression".into()));
        };
        return match data.answers.get(text) {
            Some(Ok(samples)) => Ok(Value::Samples(Arc::clone(samples))),
            Some(Err(message)) => Err(Fault::Failed(format!("error calling query: {message}"))),
            None if data.answers.len() >= data.queries_max => {
                let max = data.queries_max;
                Err(Fault::Failed(format!("error calling query: more than {max} queries (rules.queries_max)")))
            }
            None => Err(Fault::Needs(text.clone())),
        };
    }
    let computed = compute(name, &args, data).and_then(|value| match value {
        Value::Text(text) if text.len() > TEXT_BYTES_MAX => Err(too_long()),
        value => Ok(value),
    });
    computed.map_err(|message| Fault::Failed(format!("error calling {name}: {message}")))
}

fn compute(name: &str, args: &[Value], data: &Data<'_>) -> Result<Value, String> {
    match name {
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, args),
        "print" => Ok(Value::Text(print(args))),
        "println" => Ok(Value::Text(args.iter().map(Value::print).collect::<Vec<_>>().join(" ") + "\n")),
        "printf" => match args {
            [Value::Text(pattern), rest @ ..] => Ok(Value::Text(format::printf(pattern, rest))),
            _ => Err("the first argument is the format, a string".into()),
        },
        "html" => Ok(Value::Text(html(&print(args)))),
        "urlquery" => Ok(Value::Text(url(&print(args)))),
        _ => match args {
            [] => none(name, data),
            [one] => unary(name, one),
            [first, second] => binary(name, first, second),
            [Value::Text(pattern), Value::Text(with), Value::Text(text)] if name == "reReplaceAll" => {
                Ok(Value::Text(replace_all(&regex(pattern)?, text, with)?))
            }
            _ => Err(wrong_count(name, args.len())),
        },
    }
}

fn wrong_count(name: &str, got: usize) -> String {
    let wanted = match name {
        "now" | "externalURL" | "pathPrefix" => 0,
        "index" | "label" | "sortByLabel" | "match" => 2,
        "reReplaceAll" => 3,
        _ => 1,
    };
    if wanted == got {
        "wrong types of arguments".to_owned()
    } else {
        format!("wrong number of args: want {wanted} got {got}")
    }
}

fn none(name: &str, data: &Data<'_>) -> Result<Value, String> {
    match name {
        "now" => Ok(Value::Float(data.now_ms as f64 / 1000.0)),
        "externalURL" => Ok(Value::Text(data.external_url.to_owned())),
        "pathPrefix" => {
            let path = data.external_url.splitn(4, '/').nth(3).unwrap_or_default().trim_end_matches('/');
            Ok(Value::Text(if path.is_empty() { String::new() } else { format!("/{path}") }))
        }
        _ => Err(wrong_count(name, 0)),
    }
}

fn unary(name: &str, arg: &Value) -> Result<Value, String> {
    let text = || match arg {
        Value::Text(text) => Ok(text.as_str()),
        other => Err(format!("wrong type for value; expected string; got {}", other.kind())),
    };
    let sample = || match arg {
        Value::Sample(sample) => Ok(sample),
        other => Err(format!("wrong type for value; expected *template.sample; got {}", other.kind())),
    };
    Ok(match name {
        "not" => Value::Bool(!arg.is_true()),
        "len" => match arg {
            Value::Text(text) => Value::Int(text.len() as i64),
            Value::Map(labels) => Value::Int(labels.len() as i64),
            Value::Samples(samples) => Value::Int(samples.len() as i64),
            other => return Err(format!("len of type {}", other.kind())),
        },
        "index" => arg.clone(),
        "first" => match arg {
            Value::Samples(samples) => {
                Value::Sample(samples.first().cloned().ok_or("first() called on vector with no elements")?)
            }
            other => return Err(format!("wrong type for value; expected template.queryResult; got {}", other.kind())),
        },
        "value" => Value::Float(sample()?.value),
        "strvalue" => Value::Text(sample()?.labels.get("__value__").cloned().unwrap_or_default()),
        "humanize" => Value::Text(humanize(number(arg)?)),
        "humanize1024" => Value::Text(humanize_1024(number(arg)?)),
        "humanizeDuration" => Value::Text(humanize_duration(number(arg)?)),
        "humanizePercentage" => Value::Text(format!("{}%", general(number(arg)? * 100.0, Some(4)))),
        "humanizeTimestamp" => Value::Text(humanize_timestamp(number(arg)?)?),
        "title" => Value::Text(title(text()?)),
        "toUpper" => Value::Text(text()?.to_uppercase()),
        "toLower" => Value::Text(text()?.to_lowercase()),
        "safeHtml" => Value::Text(text()?.to_owned()),
        "urlQueryEscape" => Value::Text(url(text()?)),
        "stripPort" => Value::Text(strip_port(text()?).to_owned()),
        "stripDomain" => Value::Text(strip_domain(text()?)),
        "graphLink" => Value::Text(link(text()?, 0)),
        "tableLink" => Value::Text(link(text()?, 1)),
        "parseDuration" => Value::Float(duration::parse(text()?)? as f64 / 1e9),
        _ => return Err(wrong_count(name, 1)),
    })
}

fn binary(name: &str, first: &Value, second: &Value) -> Result<Value, String> {
    match (name, first, second) {
        ("index", Value::Map(labels), Value::Text(key)) => {
            Ok(Value::Text(labels.get(key).cloned().unwrap_or_default()))
        }
        ("index", Value::Samples(samples), Value::Int(at)) => {
            let sample = usize::try_from(*at).ok().and_then(|at| samples.get(at));
            sample.cloned().map(Value::Sample).ok_or_else(|| format!("index out of range: {at}"))
        }
        ("label", Value::Text(name), Value::Sample(sample)) => {
            Ok(Value::Text(sample.labels.get(name).cloned().unwrap_or_default()))
        }
        ("sortByLabel", Value::Text(name), Value::Samples(samples)) => {
            let mut samples: Vec<Sample> = samples.to_vec();
            samples.sort_by(|a, b| a.labels.get(name).cmp(&b.labels.get(name)));
            Ok(Value::Samples(samples.into()))
        }
        ("match", Value::Text(pattern), Value::Text(text)) => Ok(Value::Bool(regex(pattern)?.is_match(text))),
        _ => Err(wrong_count(name, 2)),
    }
}

/// As Prometheus converts what its functions take.
fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::Int(number) => Ok(*number as f64),
        Value::Text(text) => text.parse().map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
        other => Err(format!("can't convert {} to float", other.kind())),
    }
}

fn compare(name: &str, args: &[Value]) -> Result<Value, String> {
    let [first, rest @ ..] = args else { return Err("missing argument for comparison".into()) };
    if rest.is_empty() || (name != "eq" && rest.len() > 1) {
        return Err("wrong number of args for comparison".into());
    }
    let equal = |second: &Value| match (first, second) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        _ => Err("incompatible types for comparison".to_owned()),
    };
    let truth = match name {
        "eq" => {
            let mut any = false;
            for second in rest {
                any |= equal(second)?;
            }
            any
        }
        "ne" => !equal(&rest[0])?,
        _ => {
            let order = match (first, &rest[0]) {
                (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
                (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
                (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
                _ => return Err("incompatible types for comparison".into()),
            };
            order.is_some_and(|order| match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            })
        }
    };
    Ok(Value::Bool(truth))
}

/// A space between two that are both no strings.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if i > 0 && !is_text(arg) && !is_text(&args[i - 1]) {
            out.push(' ');
        }
        out.push_str(&arg.print());
    }
    out
}

fn regex(pattern: &str) -> Result<regex::Regex, String> {
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| error.to_string())
}

fn too_long() -> String {
    format!("the text is longer than {TEXT_BYTES_MAX} bytes")
}

/// `text` with `with`, its groups filled in, for each match: given up as soon as it is too long.
fn replace_all(pattern: &regex::Regex, text: &str, with: &str) -> Result<String, String> {
    let (mut out, mut done) = (String::new(), 0);
    for found in pattern.captures_iter(text) {
        let whole = found.get_match();
        out.push_str(&text[done..whole.start()]);
        found.expand(with, &mut out);
        done = whole.end();
        if out.len() > TEXT_BYTES_MAX {
            return Err(too_long());
        }
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Divides by `step` until less than it is left.
fn scale(mut value: f64, step: f64, units: &[&'static str]) -> (f64, &'static str) {
    let mut unit = "";
    for next in units {
        if value.abs() < step {
            break;
        }
        unit = next;
        value /= step;
    }
    (value, unit)
}

/// Multiplies by 1000 until there is a digit before the point.
fn scale_up(mut value: f64) -> (f64, &'static str) {
    let mut unit = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        unit = next;
        value *= 1000.0;
    }
    (value, unit)
}

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value, Some(4));
    }
    let (value, unit) = if value.abs() >= 1.0 {
        scale(value, 1000.0, &["k", "M", "G", "T", "P", "E", "Z", "Y"])
    } else {
        scale_up(value)
    };
    format!("{}{unit}", general(value, Some(4)))
}

fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return general(value, Some(4));
    }
    let (value, unit) = scale(value, 1024.0, &["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"]);
    format!("{}{unit}", general(value, Some(4)))
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value, Some(4));
    }
    if value == 0.0 {
        return format!("{}s", general(value, Some(4)));
    }
    if value.abs() < 1.0 {
        let (value, unit) = scale_up(value);
        return format!("{}{unit}s", general(value, Some(4)));
    }
    let (sign, value) = (if value < 0.0 { "-" } else { "" }, value.abs());
    let whole = value as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", general(value, Some(4)))
    }
}

/// `2015-07-01 04:26:42.051 +0000 UTC`
fn humanize_timestamp(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Ok(general(value, Some(4)));
    }
    let ns = value * 1e9;
    if !(-9.223_372_036_854_775e18..9.223_372_036_854_775e18).contains(&ns) {
        return Err(format!("{} cannot be represented as a nanoseconds timestamp", general(value, None)));
    }
    let ms = (ns as i64).div_euclid(1_000_000);
    let text = rfc3339(ms * 1_000_000);
    let text = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.').replacen('T', " ", 1);
    Ok(format!("{text} +0000 UTC"))
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let starts =
            if before.is_ascii() { !(before.is_ascii_alphanumeric() || before == '_') } else { before.is_whitespace() };
        if starts {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        before = c;
    }
    out
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// As a value in the query of a URL.
pub(crate) fn url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// Where Prometheus's page shows `expr`: as a graph (tab 0) or a table (1).
fn link(expr: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", url(expr))
}

fn strip_port(host_port: &str) -> &str {
    match host_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').unwrap_or(host_port),
            None if host.contains(':') => host_port,
            None => host,
        },
        _ => host_port,
    }
}

fn strip_domain(host_port: &str) -> String {
    let host = strip_port(host_port);
    let port = if host.len() == host_port.len() { "" } else { host_port.rsplit(':').next().unwrap_or_default() };
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host_port.to_owned();
    }
    let name = host.split('.').next().unwrap_or_default();
    if port.is_empty() { name.to_owned() } else { format!("{name}:{port}") }
}
