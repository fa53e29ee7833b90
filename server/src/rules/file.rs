//! Rule files: Prometheus's YAML, checked before anything of it is used.
//!
//! Everything that can be wrong is found at once, each with file, group and rule, so that a file is mended in one go. Names
//! of fields that do not exist are errors, as in Prometheus.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use foretell_query::promql;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::template::Template;
use super::{duration, glob};

/// Largest file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Faults that are told at once.
const FAULTS_MAX: usize = 20;
/// Labels of a rule, annotations of a rule.
const PAIRS_MAX: usize = 64;

/// What files leave open, and how much they may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) interval_ns: i64,
    pub(crate) query_offset_ns: i64,
    pub(crate) groups_max: usize,
    pub(crate) rules_max: usize,
    /// The features of PromQL that are switched on.
    pub(crate) features: promql::Features,
}

/// A group of rules, evaluated together in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupSpec {
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) interval_ns: i64,
    pub(crate) query_offset_ns: i64,
    /// Most series or alerts of a rule; 0: the server's limit only.
    pub(crate) limit: usize,
    pub(crate) rules: Vec<Arc<RuleSpec>>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleSpec {
    /// Of the metric, or of the alert.
    pub(crate) name: String,
    /// The expression as it was written: what is evaluated.
    pub(crate) source: String,
    /// The same in the usual layout, on one line: what is shown.
    pub(crate) expr: String,
    pub(crate) kind: Kind,
}

/// What a rule makes of its expression's answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Samples of a metric.
    Record {
        /// Set on each.
        labels: Vec<(String, String)>,
    },
    /// Alerts.
    Alert(Alerting),
}

/// What an alert rule says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alerting {
    pub(crate) labels: Vec<(String, Template)>,
    pub(crate) annotations: Vec<(String, Template)>,
    pub(crate) hold_ns: i64,
    pub(crate) keep_firing_ns: i64,
}

/// Rule files that cannot be used: what is wrong, one fault a line.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(crate) struct LoadError(pub(crate) Vec<String>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileYaml {
    #[serde(default)]
    groups: Option<Vec<GroupYaml>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupYaml {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    interval: Option<String>,
    #[serde(default)]
    query_offset: Option<String>,
    #[serde(default)]
    limit: Option<i64>,
    #[serde(default)]
    labels: Option<Pairs>,
    #[serde(default)]
    rules: Option<Vec<RuleYaml>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleYaml {
    #[serde(default)]
    record: Option<String>,
    #[serde(default)]
    alert: Option<String>,
    #[serde(default)]
    expr: Option<String>,
    #[serde(default, rename = "for")]
    hold: Option<String>,
    #[serde(default)]
    keep_firing_for: Option<String>,
    #[serde(default)]
    labels: Option<Pairs>,
    #[serde(default)]
    annotations: Option<Pairs>,
}

/// Names and values; a name twice is an error.
#[derive(Clone, Debug, Default)]
struct Pairs(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with values")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value::<Option<String>>()?.unwrap_or_default();
                    if pairs.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("{name:?} stands twice: leave one out")));
                    }
                    pairs.insert(name, value);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Reads and checks all files that `patterns` name.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn load(patterns: &[String], defaults: &Defaults) -> Result<Vec<Arc<GroupSpec>>, LoadError> {
    let mut faults = Vec::new();
    let mut groups = Vec::new();
    for path in glob::files(patterns).map_err(|fault| LoadError(vec![fault]))? {
        match read(&path) {
            Ok(text) => match parse(&path.display().to_string(), &text, defaults) {
                Ok(found) => groups.extend(found.into_iter().map(Arc::new)),
                Err(LoadError(found)) => faults.extend(found),
            },
            Err(fault) => faults.push(fault),
        }
        if faults.len() > FAULTS_MAX {
            break;
        }
    }
    let rules: usize = groups.iter().map(|group| group.rules.len()).sum();
    if groups.len() > defaults.groups_max {
        faults.push(format!(
            "{} groups of rules, at most {} are allowed (rules.groups_max)",
            groups.len(),
            defaults.groups_max
        ));
    }
    if rules > defaults.rules_max {
        faults.push(format!("{rules} rules, at most {} are allowed (rules.rules_max)", defaults.rules_max));
    }
    if faults.is_empty() { Ok(groups) } else { Err(cut(faults)) }
}

/// Not more faults than a person wants to read.
fn cut(mut faults: Vec<String>) -> LoadError {
    let more = faults.len().saturating_sub(FAULTS_MAX);
    faults.truncate(FAULTS_MAX);
    if more > 0 {
        faults.push(format!("and {more} more"));
    }
    LoadError(faults)
}

fn read(path: &Path) -> Result<String, String> {
    let place = path.display();
    let bytes = std::fs::metadata(path).map_err(|error| format!("{place}: cannot be read: {error}"))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{place}: {bytes} bytes, at most {FILE_BYTES_MAX} are allowed: split it"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("{place}: cannot be read: {error}"))
}

/// The groups of the file `path`, whose content is `text`.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn parse(path: &str, text: &str, defaults: &Defaults) -> Result<Vec<GroupSpec>, LoadError> {
    // Without a document there is nothing that the parser would answer.
    let is_empty = text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'));
    let yaml: Option<FileYaml> = if is_empty {
        None
    } else {
        serde_yaml_ng::from_str(text).map_err(|error| LoadError(vec![format!("{path}: {error}")]))?
    };
    let (mut groups, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (i, yaml) in yaml.and_then(|yaml| yaml.groups).unwrap_or_default().into_iter().enumerate() {
        let name = yaml.name.clone().unwrap_or_default();
        let place = match name.as_str() {
            "" => format!("{path}: group {}", i + 1),
            name => format!("{path}: group {name:?}"),
        };
        if name.is_empty() {
            faults.push(format!("{place}: the group has no name: give it one, unique in the file"));
        } else if !names.insert(name) {
            faults.push(format!("{place}: the name is repeated in the same file: rename one of the groups"));
        }
        groups.extend(group(path, yaml, &place, defaults, &mut faults));
    }
    if faults.is_empty() { Ok(groups) } else { Err(cut(faults)) }
}

fn group(path: &str, yaml: GroupYaml, place: &str, defaults: &Defaults, faults: &mut Vec<String>) -> Option<GroupSpec> {
    let before = faults.len();
    let interval_ns = span(yaml.interval.as_deref(), defaults.interval_ns, place, "interval", faults);
    let query_offset_ns = span(yaml.query_offset.as_deref(), defaults.query_offset_ns, place, "query_offset", faults);
    let limit = usize::try_from(yaml.limit.unwrap_or(0)).unwrap_or_else(|_| {
        faults.push(format!("{place}: limit must not be negative: 0 means none"));
        0
    });
    let common = yaml.labels.unwrap_or_default();
    check_names(&common, "label", place, faults);
    let limits = promql::Limits { features: defaults.features, ..promql::Limits::default() };
    let mut rules = Vec::new();
    for (i, yaml) in yaml.rules.unwrap_or_default().into_iter().enumerate() {
        let name = yaml.alert.as_deref().or(yaml.record.as_deref()).unwrap_or_default();
        let place = match name {
            "" => format!("{place}, rule {}", i + 1),
            name => format!("{place}, rule {}, {name:?}", i + 1),
        };
        rules.extend(rule(yaml, &common, &place, &limits, faults).map(Arc::new));
    }
    let interval_ns = if interval_ns == 0 { defaults.interval_ns } else { interval_ns };
    let name = yaml.name.unwrap_or_default();
    let spec = GroupSpec { file: path.to_owned(), name, interval_ns, query_offset_ns, limit, rules };
    (faults.len() == before).then_some(spec)
}

fn rule(
    yaml: RuleYaml,
    common: &Pairs,
    place: &str,
    limits: &promql::Limits,
    faults: &mut Vec<String>,
) -> Option<RuleSpec> {
    let before = faults.len();
    let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    match (set(&yaml.record), set(&yaml.alert)) {
        (true, true) => {
            faults.push(format!("{place}: only one of 'record' and 'alert' must be set: make two rules of it"))
        }
        (false, false) => {
            faults.push(format!(
                "{place}: one of 'record' or 'alert' must be set: the metric to record, or the alert's name"
            ));
        }
        _ => {}
    }
    let expr = match yaml.expr.as_deref().filter(|text| !text.trim().is_empty()) {
        None => {
            faults.push(format!("{place}: field 'expr' must be set in rule: write the PromQL expression"));
            String::new()
        }
        Some(text) => promql::one_line(text, limits).unwrap_or_else(|error| {
            let message = error.message.replacen("invalid parameter \"query\": ", "", 1);
            faults.push(format!("{place}: could not parse expression: {message}"));
            String::new()
        }),
    };
    let own = yaml.labels.clone().unwrap_or_default();
    check_names(&own, "label", place, faults);
    let mut labels = common.0.clone();
    labels.extend(own.0);
    let kind = match yaml.record.clone().filter(|name| !name.is_empty()) {
        Some(_) => record(&yaml, labels, place, faults),
        None => alert(&yaml, labels, place, faults),
    };
    let name = yaml.alert.filter(|name| !name.is_empty()).or(yaml.record).unwrap_or_default();
    let source = yaml.expr.unwrap_or_default();
    (faults.len() == before).then_some(RuleSpec { name, source, expr, kind })
}

fn record(yaml: &RuleYaml, labels: BTreeMap<String, String>, place: &str, faults: &mut Vec<String>) -> Kind {
    let name = yaml.record.as_deref().unwrap_or_default();
    if name.contains(['{', '}']) {
        faults.push(format!("{place}: braces present in the recording rule name; should it be in expr?: {name}"));
    } else if name.contains('\0') {
        faults.push(format!("{place}: invalid recording rule name: {name:?}"));
    }
    for (field, is_set) in [
        ("annotations", yaml.annotations.as_ref().is_some_and(|pairs| !pairs.0.is_empty())),
        ("for", yaml.hold.as_deref().is_some_and(|text| duration::parse(text) != Ok(0))),
        ("keep_firing_for", yaml.keep_firing_for.as_deref().is_some_and(|text| duration::parse(text) != Ok(0))),
    ] {
        if is_set {
            faults.push(format!("{place}: invalid field '{field}' in recording rule: only alerts have it"));
        }
    }
    Kind::Record { labels: labels.into_iter().collect() }
}

fn alert(yaml: &RuleYaml, labels: BTreeMap<String, String>, place: &str, faults: &mut Vec<String>) -> Kind {
    let annotations = yaml.annotations.clone().unwrap_or_default();
    check_names(&annotations, "annotation", place, faults);
    let labels = templates(labels, "label", place, faults);
    let annotations = templates(annotations.0, "annotation", place, faults);
    let hold_ns = span(yaml.hold.as_deref(), 0, place, "for", faults);
    let keep_firing_ns = span(yaml.keep_firing_for.as_deref(), 0, place, "keep_firing_for", faults);
    Kind::Alert(Alerting { labels, annotations, hold_ns, keep_firing_ns })
}

fn templates(
    pairs: BTreeMap<String, String>,
    what: &str,
    place: &str,
    faults: &mut Vec<String>,
) -> Vec<(String, Template)> {
    let mut templates = Vec::with_capacity(pairs.len());
    for (name, source) in pairs {
        match Template::parse(&source) {
            Ok(template) => templates.push((name, template)),
            Err(fault) => faults.push(format!("{place}: {what} {name:?}: error parsing template: {fault}")),
        }
    }
    templates
}

fn span(text: Option<&str>, default_ns: i64, place: &str, field: &str, faults: &mut Vec<String>) -> i64 {
    text.map_or(Ok(default_ns), duration::parse).unwrap_or_else(|fault| {
        faults.push(format!("{place}: {field}: {fault}"));
        default_ns
    })
}

fn check_names(pairs: &Pairs, what: &str, place: &str, faults: &mut Vec<String>) {
    if pairs.0.len() > PAIRS_MAX {
        faults.push(format!("{place}: {} {what}s, at most {PAIRS_MAX} are allowed", pairs.0.len()));
    }
    for name in pairs.0.keys().filter(|name| name.is_empty() || name.contains('\0') || *name == "__name__") {
        faults.push(format!("{place}: invalid {what} name: {name:?}"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            interval_ns: 60_000_000_000,
            query_offset_ns: 0,
            groups_max: 100,
            rules_max: 100,
            features: promql::Features::default(),
        }
    }

    fn faults(text: &str) -> String {
        parse("r.yml", text, &defaults()).unwrap_err().to_string()
    }

    #[test]
    fn an_expression_may_use_the_features_that_are_on() {
        let text = "groups: [{name: a, rules: [{record: r, expr: 'increase(c[5m] anchored) </  end()'}]}]";
        assert!(faults(text).contains("is switched off"), "{}", faults(text));
        let groups = parse("r.yml", text, &Defaults { features: promql::Features::all(), ..defaults() }).unwrap();
        assert_eq!(groups[0].rules[0].expr, "increase(c[5m] anchored) </ end()");
    }

    #[test]
    fn a_file_of_prometheus_is_understood() {
        let text = r#"
# comment
groups:
- name: node
  interval: 30s
  query_offset: 1m
  limit: 10
  labels: {team: infra, severity: low}
  rules:
  - record: job:up:sum
    expr: sum  by(job)(up)
    labels:
      tier: 1
  - alert: Down
    expr: |
      up == 0
    for: 5m
    keep_firing_for: 90s
    labels: &l
      severity: page
    annotations:
      summary: '{{ $labels.instance }} is down'
      text: >-
        folded
        text
- name: defaults
  rules:
  - alert: Other
    expr: "vector(1)"
    labels: *l
"#;
        let groups = parse("r.yml", text, &defaults()).unwrap();
        let [node, defaults] = groups.as_slice() else { panic!("{groups:?}") };
        assert_eq!((node.interval_ns, node.query_offset_ns, node.limit), (30_000_000_000, 60_000_000_000, 10));
        assert_eq!(node.rules[0].expr, "sum by (job) (up)");
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let expected = pairs(&[("severity", "low"), ("team", "infra"), ("tier", "1")]);
        assert_eq!(node.rules[0].kind, Kind::Record { labels: expected });
        let Kind::Alert(alert) = &node.rules[1].kind else { panic!("{node:?}") };
        assert_eq!((alert.hold_ns, alert.keep_firing_ns), (300_000_000_000, 90_000_000_000));
        let sources = |pairs: &[(String, Template)]| -> Vec<String> {
            pairs.iter().map(|(name, template)| format!("{name}={}", template.source())).collect()
        };
        assert_eq!(sources(&alert.labels), ["severity=page", "team=infra"]);
        assert_eq!(sources(&alert.annotations), ["summary={{ $labels.instance }} is down", "text=folded text"]);
        assert_eq!((defaults.interval_ns, defaults.limit), (60_000_000_000, 0));
    }

    #[test]
    fn a_file_without_groups_has_no_rules() {
        for text in ["", "\n", "# nothing\n", "groups:\n", "groups: []\n", "{}\n"] {
            assert!(parse("r.yml", text, &defaults()).unwrap().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn every_fault_names_file_group_and_rule() {
        let rule = |rule: &str| format!("groups:\n- name: g\n  rules:\n  - {{{rule}}}\n");
        for (text, expected) in [
            (
                rule("record: a, alert: b, expr: '1'"),
                "r.yml: group \"g\", rule 1, \"b\": only one of 'record' and 'alert'",
            ),
            (rule("expr: '1'"), "r.yml: group \"g\", rule 1: one of 'record' or 'alert' must be set"),
            (rule("record: a"), "field 'expr' must be set in rule"),
            (rule("record: a, expr: 'sum('"), "could not parse expression: "),
            (rule("record: a, expr: '1', for: 1m"), "invalid field 'for' in recording rule"),
            (rule("record: a, expr: '1', annotations: {b: c}"), "invalid field 'annotations' in recording rule"),
            (rule("record: 'up{a=\"b\"}', expr: '1'"), "braces present in the recording rule name"),
            (rule("alert: a, expr: '1', for: soon"), "for: \"soon\" is not a duration: write whole numbers"),
            (rule("alert: a, expr: '1', labels: {__name__: b}"), "invalid label name: \"__name__\""),
            (
                rule("alert: a, expr: '1', annotations: {b: '{{ $value '}"),
                "annotation \"b\": error parsing template: unclosed action",
            ),
            (rule("alert: a, expression: '1'"), "unknown field `expression`"),
            ("groups:\n- rules: []\n".into(), "r.yml: group 1: the group has no name"),
            ("groups:\n- name: a\n- name: a\n".into(), "r.yml: group \"a\": the name is repeated"),
            ("groups:\n- name: a\n  limit: -1\n".into(), "limit must not be negative"),
            ("groups:\n- name: a\n  interval: 1\n".into(), "interval: \"1\" is not a duration"),
            ("groups: {\n".into(), "r.yml: "),
            ("groups:\n- name: a\n  labels: {b: c, b: d}\n".into(), "\"b\" stands twice"),
        ] {
            let faults = faults(&text);
            assert!(faults.contains(expected), "{text}\n{faults}");
        }
        let both = faults("groups:\n- name: g\n  rules:\n  - {record: a}\n  - {expr: '1'}\n");
        assert!(both.contains("rule 1, \"a\": field 'expr'") && both.contains("rule 2: one of"), "{both}");
    }

    #[test]
    fn aliases_inside_aliases_do_not_explode() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        assert!(parse("r.yml", &text, &defaults()).is_err());
    }
}
