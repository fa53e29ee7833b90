//! One rule by which names of other protocols become names of metrics and labels: that of Prometheus 3 for OTLP.
//!
//! The four strategies are those of Prometheus's `otlp.translation_strategy`; docs/otlp.md has the rule with examples. Names that
//! need no change are the usual case and cost one look at each byte.
use serde::{Deserialize, Serialize};

/// How names are translated.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum Translation {
    /// What PromQL would have to quote becomes `_`; units and types are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// What PromQL would have to quote becomes `_`; nothing is appended.
    UnderscoreEscapingWithoutSuffixes,
    /// Characters stay; units and types are appended.
    NoUTF8EscapingWithSuffixes,
    /// Nothing is changed.
    NoTranslation,
}

/// What of a metric's type has a part in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gauge,
    /// A monotonic sum.
    Counter,
    Other,
}

/// Units that have a name: UCUM code and word.
const UNITS: [(&str, &str); 27] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
    ("KHz", "kilohertz"),
];
/// Units after a slash.
const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

impl Translation {
    fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    fn suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUTF8EscapingWithSuffixes)
    }

    /// The name of a metric, appended to `out`. `unit` is a UCUM code.
    pub(crate) fn metric(self, name: &str, unit: &str, kind: Kind, out: &mut String) {
        match (self.escapes(), self.suffixes()) {
            (_, false) => self.plain_metric(name, out),
            (true, true) => normalized(name, unit, kind, out),
            (false, true) => suffixed(name, unit, kind, out),
        }
    }

    /// The name of a metric to which nothing is appended in any strategy.
    pub(crate) fn plain_metric(self, name: &str, out: &mut String) {
        if !self.escapes() {
            out.push_str(name);
            return;
        }
        let start = out.len();
        for part in name.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '_')) {
            if part.is_empty() {
                continue;
            }
            if out.len() > start {
                out.push('_');
            }
            out.push_str(part);
        }
        guard_digit(out, start);
    }

    /// The name of a label, appended to `out`.
    pub(crate) fn label(self, name: &str, out: &mut String) {
        if !self.escapes() {
            out.push_str(name);
            return;
        }
        let single = name.starts_with(|c: char| !c.is_ascii_alphanumeric()) && !name.starts_with("__");
        if single || name.starts_with(|c: char| c.is_ascii_digit()) {
            out.push_str("key");
            if !single {
                out.push('_');
            }
        }
        out.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
    }
}

/// A name must not begin with a digit.
fn guard_digit(out: &mut String, start: usize) {
    if out[start..].starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(start, '_');
    }
}

/// The words of a unit: before the slash, and after it.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |text: &str, known: &[(&str, &'static str)]| {
        let text = text.trim();
        // What stands in braces is an annotation, not a unit.
        if text.contains(['{', '}']) {
            return String::new();
        }
        known.iter().find(|(code, _)| *code == text).map_or_else(|| clean(text), |(_, word)| (*word).to_owned())
    };
    (word(main, &UNITS), word(per, &PER_UNITS))
}

/// Letters, digits and colons of a unit, joined by underscores.
fn clean(unit: &str) -> String {
    let parts = unit.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("_")
}

/// Words of letters, digits and colons, joined by underscores, with the words of unit and type at the end.
fn normalized(name: &str, unit: &str, kind: Kind, out: &mut String) {
    let mut words: Vec<&str> =
        name.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).filter(|word| !word.is_empty()).collect();
    let (main, per) = unit_words(unit);
    let main_is_new = !main.is_empty() && !words.contains(&main.as_str());
    let per_is_new = !per.is_empty() && !words.contains(&per.as_str());
    if main_is_new {
        words.push(&main);
    }
    if per_is_new {
        words.extend(["per", per.as_str()]);
    }
    if let Some(last) = last_word(unit, kind) {
        words.retain(|word| *word != last);
        words.push(last);
    }
    let start = out.len();
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            out.push('_');
        }
        out.push_str(word);
    }
    guard_digit(out, start);
}

/// The name with the words of unit and type at its end, unless it ends with them.
fn suffixed(name: &str, unit: &str, kind: Kind, out: &mut String) {
    let (main, per) = unit_words(unit);
    let last = last_word(unit, kind);
    let mut name = last.map_or(name, |last| without(name, last));
    let per = if per.is_empty() { per } else { format!("per_{per}") };
    if !per.is_empty() {
        name = without(name, &per);
    }
    out.push_str(without(name, &main));
    for word in [main.as_str(), per.as_str(), last.unwrap_or_default()].into_iter().filter(|word| !word.is_empty()) {
        out.push('_');
        out.push_str(word);
    }
}

/// The front of `name` when it ends with `word` after a character that is no letter or digit.
fn without<'a>(name: &'a str, word: &str) -> &'a str {
    let front = if word.is_empty() { None } else { name.strip_suffix(word) };
    let front = front.and_then(|front| front.strip_suffix(|c: char| !c.is_ascii_alphanumeric()));
    front.filter(|front| !front.is_empty()).unwrap_or(name)
}

/// What the type says at the end of a name.
fn last_word(unit: &str, kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Counter => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Translation::{
        NoTranslation, NoUTF8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
    };
    use super::*;

    fn metric(translation: Translation, name: &str, unit: &str, kind: Kind) -> String {
        let mut out = String::new();
        translation.metric(name, unit, kind, &mut out);
        out
    }

    #[test]
    fn units_and_types_are_appended_once() {
        for (name, unit, kind, expected) in [
            ("http.server.duration", "ms", Kind::Other, "http_server_duration_milliseconds"),
            ("http.server.duration.seconds", "s", Kind::Other, "http_server_duration_seconds"),
            ("requests", "", Kind::Counter, "requests_total"),
            ("requests_total", "1", Kind::Counter, "requests_total"),
            ("total.requests", "{request}", Kind::Counter, "requests_total"),
            ("system.network.io", "By", Kind::Counter, "system_network_io_bytes_total"),
            ("system.disk.io", "By/s", Kind::Gauge, "system_disk_io_bytes_per_second"),
            ("speed", "m/s", Kind::Gauge, "speed_meters_per_second"),
            ("cpu.utilization", "1", Kind::Gauge, "cpu_utilization_ratio"),
            ("cpu.utilization", "1", Kind::Other, "cpu_utilization"),
            ("queue.size", "{items}/s", Kind::Gauge, "queue_size_per_second"),
            ("odd", "foo.bar", Kind::Gauge, "odd_foo_bar"),
            ("1st.metric", "", Kind::Gauge, "_1st_metric"),
            ("a__b--c", "", Kind::Gauge, "a_b_c"),
            ("größe", "", Kind::Gauge, "gr_e"),
            ("ns:name", "", Kind::Gauge, "ns:name"),
        ] {
            assert_eq!(metric(UnderscoreEscapingWithSuffixes, name, unit, kind), expected, "{name} {unit}");
        }
    }

    #[test]
    fn the_other_strategies() {
        let name = "http.request-size";
        assert_eq!(metric(UnderscoreEscapingWithoutSuffixes, name, "By", Kind::Counter), "http_request_size");
        assert_eq!(metric(UnderscoreEscapingWithoutSuffixes, "a__b", "By", Kind::Counter), "a__b");
        assert_eq!(metric(NoUTF8EscapingWithSuffixes, name, "By", Kind::Counter), "http.request-size_bytes_total");
        assert_eq!(metric(NoUTF8EscapingWithSuffixes, "a.bytes.total", "By", Kind::Counter), "a_bytes_total");
        assert_eq!(metric(NoUTF8EscapingWithSuffixes, "größe", "By/s", Kind::Gauge), "größe_bytes_per_second");
        assert_eq!(metric(NoTranslation, name, "By", Kind::Counter), name);
    }

    #[test]
    fn labels_keep_their_length() {
        let label = |translation: Translation, name: &str| {
            let mut out = String::new();
            translation.label(name, &mut out);
            out
        };
        for (name, expected) in [
            ("service.name", "service_name"),
            ("a..b", "a__b"),
            ("1a", "key_1a"),
            ("_private", "key_private"),
            (".dot", "key_dot"),
            ("__reserved", "__reserved"),
            ("plain", "plain"),
        ] {
            assert_eq!(label(UnderscoreEscapingWithSuffixes, name), expected);
        }
        assert_eq!(label(NoTranslation, "service.name"), "service.name");
    }
}
