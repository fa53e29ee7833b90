//! `| json`: the fields of a line that is a JSON object. Numbers stay as they are written.
use std::borrow::Cow;

/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// A value and the text it was read from.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(super) raw: &'a str,
    pub(super) kind: Kind<'a>,
}

#[derive(Debug)]
pub(super) enum Kind<'a> {
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    Array(Vec<Node<'a>>),
    Text(Cow<'a, str>),
    /// A number or a truth value.
    Plain,
    Null,
}

/// A step from a value to one within it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Field(String),
    Index(usize),
}

/// The value that `text` is; `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<Node<'_>> {
    let mut scan = Scan { text, at: 0 };
    let node = scan.value(0)?;
    scan.skip();
    (scan.at == text.len()).then_some(node)
}

impl Node<'_> {
    /// Calls `take` with the path and the value of each text, number and truth value within objects. Arrays are passed over.
    pub(crate) fn fields(&self, take: &mut dyn FnMut(&[&str], &str)) {
        self.walk(&mut Vec::new(), take);
    }

    fn walk<'n>(&'n self, path: &mut Vec<&'n str>, take: &mut dyn FnMut(&[&str], &str)) {
        match &self.kind {
            Kind::Object(fields) => {
                for (name, node) in fields {
                    path.push(name);
                    node.walk(path, take);
                    path.pop();
                }
            }
            Kind::Text(text) if !path.is_empty() => take(path, text),
            Kind::Plain if !path.is_empty() => take(path, self.raw),
            _ => {}
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.kind, Kind::Object(_))
    }

    /// The text of what `steps` lead to; objects and arrays as they are written.
    pub(super) fn at(&self, steps: &[Step]) -> Option<&str> {
        let mut node = self;
        for step in steps {
            node = match (step, &node.kind) {
                (Step::Field(name), Kind::Object(fields)) => &fields.iter().find(|(other, _)| other == name)?.1,
                (Step::Index(index), Kind::Array(items)) => items.get(*index)?,
                _ => return None,
            };
        }
        match &node.kind {
            Kind::Text(text) => Some(text),
            Kind::Null => None,
            _ => Some(node.raw),
        }
    }
}

/// `request.headers["User-Agent"]`, `servers[0]`; `None` for what is no path.
pub(super) fn path(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (step, after) = if inside.starts_with('"') {
                let (name, after) = super::super::labels::string(inside)?;
                (Step::Field(name.into_owned()), after)
            } else {
                let end = inside.find(']')?;
                (Step::Index(inside[..end].parse().ok()?), &inside[end..])
            };
            steps.push(step);
            rest = after.strip_prefix(']')?;
            continue;
        }
        if !steps.is_empty() {
            rest = rest.strip_prefix('.')?;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        steps.push(Step::Field(rest[..end].to_owned()));
        rest = &rest[end..];
    }
    (!steps.is_empty()).then_some(steps)
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn skip(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn value(&mut self, depth: usize) -> Option<Node<'a>> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.skip();
        let from = self.at;
        let kind = match self.peek()? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => Kind::Text(self.string()?),
            _ => self.word()?,
        };
        Some(Node { raw: &self.text[from..self.at], kind })
    }

    fn object(&mut self, depth: usize) -> Option<Kind<'a>> {
        self.at += 1;
        let mut fields = Vec::new();
        self.skip();
        if self.take(b'}') {
            return Some(Kind::Object(fields));
        }
        loop {
            self.skip();
            let name = self.string()?;
            self.skip();
            if !self.take(b':') {
                return None;
            }
            fields.push((name, self.value(depth + 1)?));
            self.skip();
            if self.take(b'}') {
                return Some(Kind::Object(fields));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Kind<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip();
        if self.take(b']') {
            return Some(Kind::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip();
            if self.take(b']') {
                return Some(Kind::Array(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let from = self.at;
        if !self.take(b'"') {
            return None;
        }
        let mut escaped = false;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        // An escape takes two bytes, of which the second may begin a longer character: that is no JSON.
        let quoted = self.text.get(from..self.at)?;
        if escaped {
            return serde_json::from_str::<String>(quoted).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
    }

    fn word(&mut self) -> Option<Kind<'a>> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        match word {
            "null" => Some(Kind::Null),
            "true" | "false" => Some(Kind::Plain),
            _ => {
                let digits = word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                    && !word.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'));
                (digits && word.parse::<f64>().is_ok()).then_some(Kind::Plain)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        parse(text).unwrap().fields(&mut |path, value| found.push((path.join("."), value.to_owned())));
        found
    }

    #[test]
    fn fields_are_found_by_path_and_numbers_stay_as_they_are_written() {
        let text =
            r#" {"a": 1.50, "b": {"c": "x\"y\u00e4", "d": [1, {"e": 2}], "f": null}, "g": true, "h": {}, "i": 1e3} "#;
        let expected = [("a", "1.50"), ("b.c", "x\"yä"), ("g", "true"), ("i", "1e3")];
        assert_eq!(fields(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let node = parse(text).unwrap();
        for (at, found) in [
            ("b.c", Some("x\"yä")),
            ("b.d", Some(r#"[1, {"e": 2}]"#)),
            ("b.d[1].e", Some("2")),
            (r#"["b"]["d"][0]"#, Some("1")),
            ("b.f", None),
            ("b.d[2]", None),
            ("a.x", None),
        ] {
            assert_eq!(node.at(&path(at).unwrap()), found, "{at}");
        }
        for wrong in ["", ".", "a.", "a[", "a[x]", "a]b[", "[\"a]"] {
            assert!(path(wrong).is_none_or(|steps| node.at(&steps).is_none()), "{wrong}");
        }
    }

    #[test]
    fn the_same_is_json_as_for_serde() {
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        for text in [
            "{}",
            "[]",
            "1",
            "-1.5e-3",
            "\"a\"",
            "null",
            "{\"a\":[1,2,{\"b\":\"\\n\"}]}",
            &deep,
            "{\"ä\":\"ö\"}",
            "",
            "{",
            "}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "\"a",
            "\"\\",
            "\"\\ä\"",
            "tru",
            "{a:1}",
            "{} x",
            "+1",
            "inf",
        ] {
            let expected = serde_json::from_str::<serde_json::Value>(text);
            assert_eq!(parse(text).is_some(), expected.is_ok(), "{text}");
            let (Some(node), Ok(serde_json::Value::Object(object))) = (parse(text), expected) else { continue };
            for (name, value) in object {
                let found = node.at(&[Step::Field(name)]).unwrap();
                assert_eq!(
                    value.as_str().map_or_else(|| serde_json::from_str(found).unwrap(), serde_json::Value::from),
                    value
                );
            }
        }
        assert!(parse(&"[".repeat(100_000)).is_none());
    }
}
