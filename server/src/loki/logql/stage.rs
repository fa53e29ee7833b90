//! Stages of a pipeline: what is done to each line.
//!
//! | stage | does |
//! |---|---|
//! | `json`, `logfmt`, `pattern`, `regexp` | labels out of the line |
//! | `label op value` | passes lines on |
//! | `line_format`, `label_format` | texts and labels out of labels |
//! | `drop`, `keep`, `decolorize` | less of them |
use std::borrow::Cow;
use std::mem;

use regex::Regex;

use super::entry::{Entry, Origin, sanitized};
use super::filter::{LabelFilter, TextTest};
use super::format::Template;
use super::input::{Input, Parsed};
use super::json::{self, Step};
use super::logfmt;
use super::pattern::Pattern;
use super::selector::Op;

/// A filter of lines, `|= "a" or "b"`.
#[derive(Clone, Debug)]
pub(super) struct LineFilter {
    pub(super) kind: LineOp,
    /// Whether lines go on that have none of the texts.
    pub(super) not: bool,
    /// One of these.
    pub(super) texts: Vec<String>,
    regexes: Vec<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineOp {
    Contains,
    Regex,
    Pattern,
}

impl LineFilter {
    /// `None` if no filter comes next.
    pub(super) fn read(input: &mut Input<'_>) -> Parsed<Option<Self>> {
        let ops = [
            ("|=", LineOp::Contains, false),
            ("!=", LineOp::Contains, true),
            ("|~", LineOp::Regex, false),
            ("!~", LineOp::Regex, true),
            ("|>", LineOp::Pattern, false),
            ("!>", LineOp::Pattern, true),
        ];
        let Some((_, kind, not)) = ops.into_iter().find(|(token, ..)| input.take(token)) else { return Ok(None) };
        let mut filter = Self { kind, not, texts: Vec::new(), regexes: Vec::new() };
        loop {
            input.part()?;
            match kind {
                LineOp::Contains if input.starts_with("ip(") => return input.wrong("ip(…) is not supported"),
                LineOp::Contains => filter.texts.push(input.string()?),
                LineOp::Regex => {
                    let (text, regex) = input.regex(false)?;
                    filter.texts.push(text);
                    filter.regexes.push(regex);
                }
                LineOp::Pattern => {
                    let pattern = pattern(input)?;
                    match Regex::new(&pattern.regex()) {
                        Ok(regex) => filter.regexes.push(regex),
                        Err(error) => return input.wrong(format!("the pattern is too large: {error}")),
                    }
                    filter.texts.push(pattern.like());
                }
            }
            if !input.keyword("or") {
                return Ok(Some(filter));
            }
        }
    }

    fn holds(&self, line: &str) -> bool {
        let found = match self.kind {
            LineOp::Contains => self.texts.iter().any(|text| line.contains(text.as_str())),
            LineOp::Regex | LineOp::Pattern => self.regexes.iter().any(|regex| regex.is_match(line)),
        };
        found != self.not
    }
}

fn pattern(input: &mut Input<'_>) -> Parsed<Pattern> {
    let at = input.at();
    let text = input.string()?;
    Pattern::parse(&text).map_err(|what| super::ParseError { at, what: format!("bad pattern: {what}") })
}

/// A stage.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Line(LineFilter),
    /// All fields, or labels with where they lie.
    Json(Vec<(String, Vec<Step>)>),
    Logfmt {
        strict: bool,
        keep_empty: bool,
        /// Labels with the keys they come from; all keys when empty.
        wanted: Vec<(String, String)>,
    },
    Pattern(Pattern),
    Regexp(Regex),
    Labels(LabelFilter),
    LineFormat(Template),
    LabelFormat(Vec<(String, Source)>),
    Drop(Vec<Named>),
    Keep(Vec<Named>),
    Decolorize,
}

/// What a label is made of.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Label(String),
    Template(Template),
}

/// Labels of a name, or of those only with some value.
#[derive(Clone, Debug)]
pub(super) enum Named {
    Any(String),
    With(TextTest),
}

impl Named {
    fn is(&self, name: &str, value: &str) -> bool {
        match self {
            Self::Any(wanted) => wanted == name,
            Self::With(test) => test.name == name && test.holds(value),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Any(name) => name,
            Self::With(test) => &test.name,
        }
    }
}

impl Stage {
    /// The stage after a `|`.
    pub(super) fn read(input: &mut Input<'_>) -> Parsed<Self> {
        input.part()?;
        let at = input.at();
        match input.peek_name() {
            "json" => {
                input.keyword("json");
                let wanted = wanted(input)?.into_iter().map(|(label, path)| match json::path(&path) {
                    Some(steps) => Ok((label, steps)),
                    None => Err(super::ParseError { at, what: format!("bad path {path:?} of a JSON field") }),
                });
                Ok(Self::Json(wanted.collect::<Parsed<_>>()?))
            }
            "logfmt" => {
                input.keyword("logfmt");
                let (mut strict, mut keep_empty) = (false, false);
                loop {
                    if input.take("--strict") {
                        strict = true;
                    } else if input.take("--keep-empty") {
                        keep_empty = true;
                    } else {
                        break;
                    }
                }
                Ok(Self::Logfmt { strict, keep_empty, wanted: wanted(input)? })
            }
            "pattern" => {
                input.keyword("pattern");
                let pattern = pattern(input)?;
                if !pattern.names_something() {
                    return input.wrong("the pattern captures nothing: write <name>");
                }
                Ok(Self::Pattern(pattern))
            }
            "regexp" => {
                input.keyword("regexp");
                let (_, regex) = input.regex(false)?;
                if regex.capture_names().flatten().next().is_none() {
                    return input.wrong("the expression captures nothing: write (?P<name>…)");
                }
                Ok(Self::Regexp(regex))
            }
            "line_format" => {
                input.keyword("line_format");
                Ok(Self::LineFormat(template(input)?))
            }
            "label_format" => {
                input.keyword("label_format");
                let read = |input: &mut Input<'_>| {
                    let name = input.name()?;
                    input.expect("=")?;
                    let quoted = input.starts_with("\"") || input.starts_with("`");
                    let source =
                        if quoted { Source::Template(template(input)?) } else { Source::Label(input.name()?) };
                    Ok((name, source))
                };
                Ok(Self::LabelFormat(list(input, read)?))
            }
            "drop" => {
                input.keyword("drop");
                Ok(Self::Drop(list(input, named)?))
            }
            "keep" => {
                input.keyword("keep");
                Ok(Self::Keep(list(input, named)?))
            }
            "decolorize" => {
                input.keyword("decolorize");
                Ok(Self::Decolorize)
            }
            "unpack" | "distinct" => input.wrong("this stage is not supported"),
            "" if !input.starts_with("(") => input.wrong(
                "a stage was expected: json, logfmt, pattern, regexp, line_format, label_format, drop, keep, decolorize, \
                 or a comparison of a label",
            ),
            _ => Ok(Self::Labels(LabelFilter::read(input)?)),
        }
    }

    /// Whether it may pass lines over.
    pub(super) fn filters(&self) -> bool {
        matches!(self, Self::Line(_) | Self::Labels(_))
    }

    /// Whether lines after it may have another text.
    pub(super) fn changes_lines(&self) -> bool {
        matches!(self, Self::LineFormat(_) | Self::Decolorize)
    }

    /// Whether `entry` goes on, and how.
    pub(super) fn apply(&self, entry: &mut Entry<'_>) -> bool {
        match self {
            Self::Line(filter) => return filter.holds(&entry.line),
            Self::Labels(filter) => return filter.apply(entry),
            Self::Json(wanted) => with_line(entry, |entry, line| read_json(entry, line, wanted)),
            Self::Logfmt { strict, keep_empty, wanted } => with_line(entry, |entry, line| {
                let well_formed = logfmt::fields(line, &mut |key, value| {
                    let value = value.unwrap_or_default();
                    if value.is_empty() && !keep_empty {
                        return;
                    }
                    if wanted.is_empty() {
                        entry.extract(key, value);
                    }
                    for (label, _) in wanted.iter().filter(|(_, wanted)| wanted == key) {
                        entry.extract(label, value);
                    }
                });
                if *strict && !well_formed {
                    entry.fail("LogfmtParserErr", "logfmt syntax error");
                }
            }),
            Self::Pattern(pattern) => with_line(entry, |entry, line| {
                pattern.captures(line, &mut |name, value| entry.extract(name, value));
            }),
            Self::Regexp(regex) => with_line(entry, |entry, line| {
                let Some(found) = regex.captures(line) else { return };
                for name in regex.capture_names().flatten() {
                    if let Some(value) = found.name(name) {
                        entry.extract(name, value.as_str());
                    }
                }
            }),
            Self::LineFormat(template) => match template.text(entry) {
                Some(text) => entry.line = Cow::Owned(text),
                None => entry.fail("TemplateFormatErr", "the line would be too long"),
            },
            Self::LabelFormat(labels) => {
                for (name, source) in labels {
                    let text = match source {
                        Source::Template(template) => template.text(entry),
                        Source::Label(from) if !entry.has(from) => continue,
                        Source::Label(from) => {
                            let text = entry.get(from).to_owned();
                            entry.remove(from);
                            Some(text)
                        }
                    };
                    match text {
                        Some(text) => entry.set(Cow::Owned(name.clone()), Cow::Owned(text), Origin::Parsed),
                        None => entry.fail("TemplateFormatErr", "the label would be too long"),
                    }
                }
            }
            Self::Drop(labels) => {
                let gone: Vec<&Named> =
                    labels.iter().filter(|named| named.is(named.name(), entry.get(named.name()))).collect();
                for named in gone {
                    entry.remove(named.name());
                }
            }
            Self::Keep(labels) => {
                entry.retain(|name, value| labels.iter().any(|named| named.is(name, value)));
            }
            Self::Decolorize => entry.line = Cow::Owned(without_colours(&entry.line)),
        }
        true
    }
}

/// `read`, with the line taken out of the entry meanwhile.
fn with_line<'a>(entry: &mut Entry<'a>, read: impl FnOnce(&mut Entry<'a>, &str)) {
    let line = mem::take(&mut entry.line);
    read(entry, &line);
    entry.line = line;
}

fn read_json(entry: &mut Entry<'_>, line: &str, wanted: &[(String, Vec<Step>)]) {
    let Some(node) = json::parse(line).filter(json::Node::is_object) else {
        return entry.fail("JSONParserErr", "the line is no JSON object");
    };
    if wanted.is_empty() {
        node.fields(&mut |path, value| entry.extract(&path.join("_"), value));
    }
    for (label, steps) in wanted {
        entry.extract(label, node.at(steps).unwrap_or_default());
    }
}

/// `label="where", label`: nothing, or labels and where their values are.
fn wanted(input: &mut Input<'_>) -> Parsed<Vec<(String, String)>> {
    if input.peek_name().is_empty() {
        return Ok(Vec::new());
    }
    list(input, |input| {
        let name = sanitized(&input.name()?);
        let from = if input.take("=") { input.string()? } else { name.clone() };
        Ok((name, from))
    })
}

fn named(input: &mut Input<'_>) -> Parsed<Named> {
    let name = input.name()?;
    match Op::take(input) {
        Some(op) => TextTest::read(name, op, input).map(Named::With),
        None => Ok(Named::Any(name)),
    }
}

/// One or more, with commas between.
fn list<T>(input: &mut Input<'_>, mut read: impl FnMut(&mut Input<'_>) -> Parsed<T>) -> Parsed<Vec<T>> {
    let mut all = Vec::new();
    loop {
        input.part()?;
        all.push(read(input)?);
        if !input.take(",") {
            return Ok(all);
        }
    }
}

fn template(input: &mut Input<'_>) -> Parsed<Template> {
    let at = input.at();
    let text = input.string()?;
    Template::parse(&text).map_err(|what| super::ParseError { at, what })
}

/// `text` without `ESC [ … letter`.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        let end = after.find(|c: char| !(c.is_ascii_digit() || c == ';'));
        rest = end.map_or("", |end| after.get(end + 1..).unwrap_or(&after[end..]));
    }
    out.push_str(rest);
    out
}
