//! The parameters of a search for traces.
use std::collections::BTreeMap;

use datafusion::common::ScalarValue;

/// Traces of an answer, unless the request says how many.
const TRACES: usize = 20;
/// Most traces of an answer.
const TRACES_MAX: usize = 1_500;
/// Tags of a search.
const TAGS_MAX: usize = 32;

/// What traces are wanted: those that have a span of which all this is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Of the service.
    pub service: Option<String>,
    /// Name of the span.
    pub operation: Option<String>,
    /// Attributes of the span or of its source, as texts.
    pub tags: BTreeMap<String, String>,
    /// First and last start, ns UTC.
    pub start: Option<i64>,
    /// See `start`.
    pub end: Option<i64>,
    /// Shortest and longest duration, ns.
    pub duration_min: Option<i64>,
    /// See `duration_min`.
    pub duration_max: Option<i64>,
    /// At most so many traces, the newest.
    pub limit: usize,
}

impl Search {
    /// From the parameters of a request.
    ///
    /// # Errors
    /// A sentence that names the parameter.
    pub fn of(params: &[(String, String)]) -> Result<Self, String> {
        let mut search = Self { limit: TRACES, ..Self::default() };
        for (name, value) in params.iter().filter(|(_, value)| !value.is_empty()) {
            let wrong = |why: &str| format!("invalid parameter {name:?}: {value:?} {why}");
            match name.as_str() {
                "service" => search.service = Some(value.clone()),
                "operation" => search.operation = Some(value.clone()),
                "start" | "end" => {
                    let ns = value.parse::<i64>().ok().and_then(|us| us.checked_mul(1_000));
                    let ns = Some(ns.ok_or_else(|| wrong("is no number of microseconds"))?);
                    *(if name == "start" { &mut search.start } else { &mut search.end }) = ns;
                }
                "minDuration" | "maxDuration" => {
                    let ns = Some(duration(value).ok_or_else(|| wrong("is no duration: write 1.2s, 100ms or 500us"))?);
                    *(if name == "minDuration" { &mut search.duration_min } else { &mut search.duration_max }) = ns;
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=TRACES_MAX).contains(limit));
                    search.limit = limit.ok_or_else(|| wrong(&format!("is not from 1 to {TRACES_MAX}")))?;
                }
                "tags" => search.tags.extend(tags(value).ok_or_else(|| wrong("is no JSON object of texts"))?),
                "tag" => {
                    let (key, value) = value.split_once(':').ok_or_else(|| wrong("is not key:value"))?;
                    search.tags.insert(key.to_owned(), value.to_owned());
                }
                _ => {}
            }
        }
        if search.tags.len() > TAGS_MAX {
            return Err(format!("more than {TAGS_MAX} tags"));
        }
        Ok(search)
    }

    /// The statement that finds the ids of the traces, the newest first, with the values of its parameters.
    pub fn statement(&self) -> (String, Vec<ScalarValue>) {
        let mut params = Vec::new();
        let mut param = |value: ScalarValue| {
            params.push(value);
            format!("${}", params.len())
        };
        let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
        let time = |ns| ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into()));
        let mut conditions = vec!["trace_id IS NOT NULL".to_owned()];
        conditions.extend(self.service.iter().map(|service| format!("service = {}", param(text(service)))));
        conditions.extend(self.operation.iter().map(|name| format!("name = {}", param(text(name)))));
        conditions.extend(self.start.map(|ns| format!("ts >= {}", param(time(ns)))));
        conditions.extend(self.end.map(|ns| format!("ts <= {}", param(time(ns)))));
        let nanos = |ns| ScalarValue::Int64(Some(ns));
        conditions.extend(self.duration_min.map(|ns| format!("duration >= {}", param(nanos(ns)))));
        conditions.extend(self.duration_max.map(|ns| format!("duration <= {}", param(nanos(ns)))));
        for (key, value) in &self.tags {
            conditions.push(match (key.as_str(), value.as_str()) {
                ("error", "true") => "status = 'error'".to_owned(),
                ("error", "false") => "(status IS NULL OR status <> 'error')".to_owned(),
                ("span.kind", kind) => format!("kind = {}", param(text(kind))),
                (key, value) => {
                    let (key, value) = (key.replace('\'', "''"), param(text(value)));
                    format!("(attributes['{key}'] = {value} OR resource['{key}'] = {value})")
                }
            });
        }
        let sql = format!(
            "SELECT trace_id FROM spans WHERE {} GROUP BY trace_id ORDER BY max(ts) DESC, trace_id LIMIT {}",
            conditions.join(" AND "),
            self.limit
        );
        (sql, params)
    }
}

/// Nanoseconds of a duration as Go writes them: `1h2m3.5s`, `100ms`, `500us`, `500µs`, `7ns`.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&at| at > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        let (unit, ns) = UNITS.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        total += number * ns;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty() && total < 9.2e18).then_some(total.round() as i64)
}

/// The pairs of a JSON object; what is no text is shown as JSON shows it.
fn tags(text: &str) -> Option<Vec<(String, String)>> {
    let tags: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let shown = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(bit) => Some(bit.to_string()),
        _ => None,
    };
    tags.into_iter().map(|(key, value)| Some((key, shown(value)?))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn search(query: &str) -> Result<Search, String> {
        Search::of(&form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>())
    }

    #[test]
    fn parameters_become_a_statement() {
        let found =
            search("service=a&operation=&limit=5&start=7&minDuration=1.5ms&tags=%7B%22http.code%22%3A500%7D&x=y");
        let (sql, params) = found.unwrap().statement();
        assert_eq!(
            sql,
            "SELECT trace_id FROM spans WHERE trace_id IS NOT NULL AND service = $1 AND ts >= $2 AND duration >= $3 AND \
             (attributes['http.code'] = $4 OR resource['http.code'] = $4) GROUP BY trace_id \
             ORDER BY max(ts) DESC, trace_id LIMIT 5"
        );
        assert_eq!(params[0], ScalarValue::Utf8(Some("a".into())));
        assert_eq!(params[1], ScalarValue::TimestampNanosecond(Some(7_000), Some("UTC".into())));
        assert_eq!(
            (&params[2], &params[3]),
            (&ScalarValue::Int64(Some(1_500_000)), &ScalarValue::Utf8(Some("500".into())))
        );
        let (sql, _) = search("tag=error:true&tag=span.kind:client&tag=a'b:c").unwrap().statement();
        assert!(
            sql.contains("status = 'error'") && sql.contains("kind = $") && sql.contains("attributes['a''b']"),
            "{sql}"
        );
    }

    #[test]
    fn wrong_parameters_are_named() {
        for query in [
            "start=soon",
            "end=9223372036854775807",
            "minDuration=5",
            "maxDuration=ms",
            "limit=0",
            "limit=1501",
            "tags=x",
            "tags=%7B%22a%22%3A%5B%5D%7D",
            "tag=a",
        ] {
            let name = query.split('=').next().unwrap();
            assert!(search(query).unwrap_err().contains(&format!("{name:?}")), "{query}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, ns) in
            [("1h2m3.5s", 3_723_500_000_000), ("100ms", 100_000_000), ("7ns", 7), ("2µs", 2_000), ("3us", 3_000)]
        {
            assert_eq!(duration(text), Some(ns), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1x", "1..2s", "99999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
