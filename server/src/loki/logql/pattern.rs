//! `<ip> - <_> "<method> <path>"`: captures between literal texts.

/// A pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    /// Without a name for `<_>`.
    Capture(Option<String>),
}

impl Pattern {
    /// # Errors
    /// What is wrong with `text`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((name, after)) = capture(rest) {
                if matches!(parts.last(), Some(Part::Capture(_))) {
                    return Err("two captures with no text between them");
                }
                parts.push(Part::Capture((name != "_").then(|| name.to_owned())));
                rest = after;
                continue;
            }
            let end = (1..rest.len()).find(|&at| rest.is_char_boundary(at) && capture(&rest[at..]).is_some());
            let (literal, after) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push(Part::Literal(literal.to_owned()));
            rest = after;
        }
        Ok(Self(parts))
    }

    /// Whether anything has a name.
    pub(super) fn names_something(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Capture(Some(_))))
    }

    /// Calls `take` with the names and texts of captures. A capture whose next literal is missing takes the rest.
    pub(super) fn captures(&self, line: &str, take: &mut dyn FnMut(&str, &str)) {
        let mut rest = line;
        let mut parts = self.0.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                // Only the first part gets here.
                Part::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                    Some(after) => rest = after,
                    None => return,
                },
                Part::Capture(name) => {
                    let (text, after) = match parts.next() {
                        Some(Part::Literal(literal)) => match rest.split_once(literal.as_str()) {
                            Some((text, after)) => (text, Some(after)),
                            None => (rest, None),
                        },
                        _ => (rest, None),
                    };
                    if let Some(name) = name {
                        take(name, text);
                    }
                    match after {
                        Some(after) => rest = after,
                        None => return,
                    }
                }
            }
        }
    }

    /// The same as a pattern of LIKE for the whole line.
    pub(super) fn like(&self) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => super::escaped(text),
            Part::Capture(_) => "%".to_owned(),
        });
        parts.collect()
    }

    /// The same as a regular expression.
    pub(super) fn regex(&self) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => regex::escape(text),
            Part::Capture(_) => ".*".to_owned(),
        });
        super::input::whole_text(&parts.collect::<String>())
    }
}

/// The name of the capture that `text` begins with, and what comes after it.
fn capture(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    let good = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    good.then_some((name, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn captures(pattern: &str, line: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.captures(line, &mut |name, text| found.push((name.to_owned(), text.to_owned())));
        found
    }

    #[test]
    fn captures_are_what_stands_between_the_literals() {
        for (pattern, line, found) in [
            (
                "<ip> - <_> \"<method> <path>\"",
                "10.0.0.1 - bob \"GET /x y\"",
                &[("ip", "10.0.0.1"), ("method", "GET"), ("path", "/x y")][..],
            ),
            ("a <b>", "a c d", &[("b", "c d")]),
            ("a <b>", "x a c", &[]),
            ("<a>, <b>", "one", &[("a", "one")]),
            ("<_> <a> ", "x y z", &[("a", "y")]),
            ("<a>ä<b>", "1ä2", &[("a", "1"), ("b", "2")]),
            ("level=<level> <not a name> <x>", "level=e <not a name> 1", &[("level", "e"), ("x", "1")]),
        ] {
            let found: Vec<_> = found.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            assert_eq!(captures(pattern, line), found, "{pattern}");
        }
        assert!(Pattern::parse("<a><b>").is_err());
        assert!(!Pattern::parse("a <_> b").unwrap().names_something());
        assert_eq!(Pattern::parse("50% <_> <_>.").unwrap().like(), "50\\% % %.");
    }
}
