//! `{{.name}}` in a text: the part of Go's templates that `line_format` and `label_format` understand here.
use super::entry::Entry;

/// Longest text that a template may make.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Label(String, Vec<Function>),
    Line(Vec<Function>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Upper,
    Lower,
    Trim,
}

impl Template {
    /// # Errors
    /// What is wrong with `text`, or not supported in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((inside, after)) = after.split_once("}}") else { return Err("'{{' without '}}'".to_owned()) };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(placeholder(inside)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text for `entry`; `None` if it is too long.
    pub(super) fn text(&self, entry: &Entry<'_>) -> Option<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Label(name, functions) => push(&mut out, entry.get(name), functions),
                Part::Line(functions) => push(&mut out, &entry.line, functions),
            }
            if out.len() > TEXT_BYTES_MAX {
                return None;
            }
        }
        Some(out)
    }
}

fn push(out: &mut String, text: &str, functions: &[Function]) {
    if functions.is_empty() {
        return out.push_str(text);
    }
    let apply = |text: String, function: &Function| match function {
        Function::Upper => text.to_uppercase(),
        Function::Lower => text.to_lowercase(),
        Function::Trim => text.trim().to_owned(),
    };
    out.push_str(&functions.iter().fold(text.to_owned(), apply));
}

/// `.name | function`, or `function .name`.
fn placeholder(inside: &str) -> Result<Part, String> {
    let wrong = || {
        format!(
            "{{{{{inside}}}}} is not supported: write {{{{.label}}}} or {{{{__line__}}}}, with | ToUpper, ToLower or trim"
        )
    };
    let mut pieces = inside.split('|').map(str::trim);
    let mut first: Vec<&str> = pieces.next().unwrap_or_default().split_whitespace().collect();
    let what = first.pop().ok_or_else(wrong)?;
    let mut functions = Vec::new();
    for word in first.into_iter().rev().chain(pieces) {
        functions.push(match word {
            "ToUpper" | "upper" => Function::Upper,
            "ToLower" | "lower" => Function::Lower,
            "TrimSpace" | "trim" => Function::Trim,
            _ => return Err(wrong()),
        });
    }
    match what.strip_prefix('.') {
        Some(name) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
            Ok(Part::Label(name.to_owned(), functions))
        }
        None if what == "__line__" => Ok(Part::Line(functions)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::entry::Origin;
    use super::*;

    #[test]
    fn labels_take_their_places() {
        let mut entry = Entry::new(0, "the line");
        entry.set("app".into(), "Shop ".into(), Origin::Stream);
        for (template, text) in [
            ("", ""),
            ("plain }}", "plain }}"),
            ("{{.app}}-{{ .none }}!", "Shop -!"),
            ("{{ .app | ToUpper | trim }}: {{__line__}}", "SHOP: the line"),
            ("{{ lower .app }}", "shop "),
        ] {
            assert_eq!(Template::parse(template).unwrap().text(&entry).unwrap(), text, "{template}");
        }
        for wrong in ["{{", "{{}}", "{{.}}", "{{if .app}}x{{end}}", "{{.a b}}", "{{.app | substr 1 2}}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_text_that_grows_without_end_is_given_up() {
        let line = "x".repeat(200 << 10);
        let entry = Entry::new(0, &line);
        assert!(Template::parse("{{__line__}}").unwrap().text(&entry).is_some());
        assert!(Template::parse("{{__line__}}{{__line__}}").unwrap().text(&entry).is_none());
    }
}
