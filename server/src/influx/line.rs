//! The grammar of a line: `measurement[,tag=value]* field=value[,field=value]* [timestamp]`.
//!
//! ```text
//!  a backslash keeps a comma, a space or, in keys and values, an equals sign from ending what it stands in
//!  values: 1  1.5e3  1i  1u  t f true false  "text, in which \" and \\ are escaped and lines may end"
//!  lines that begin with # are comments
//! ```
//! Nothing is copied: parts are slices with their escapes, which [`unescape`] takes out.
use std::borrow::Cow;

/// Fields of a line.
const FIELDS_MAX: usize = 16 << 10;

/// What a field has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// A number; true and false are 1 and 0.
    Number(f64),
    /// No sample.
    Text,
}

/// The parts of a line; kept from line to line for their memory.
#[derive(Debug, Default)]
pub(super) struct Line<'a> {
    pub(super) measurement: &'a [u8],
    pub(super) tags: Vec<(&'a [u8], &'a [u8])>,
    pub(super) fields: Vec<(&'a [u8], Value)>,
    /// In the unit of the request.
    pub(super) timestamp: Option<i64>,
}

/// Reads the lines of a body.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Number of the line that was read last; the first is 1. A text may have several.
    pub(super) number: u32,
    next_number: u32,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, number: 0, next_number: 1 }
    }

    /// The next line that is not empty or a comment into `line`; `None` at the end. `line` has at most `tags_max` tags.
    ///
    /// # Errors
    /// What is wrong with it; the next call reads the line after it.
    pub(super) fn next(&mut self, line: &mut Line<'a>, tags_max: usize) -> Option<Result<(), &'static str>> {
        loop {
            self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\0'));
            match self.peek()? {
                b'\n' => self.end_line(),
                b'#' => self.skip_line(),
                _ => break,
            }
        }
        self.number = self.next_number;
        let read = self.read(line, tags_max);
        if read.is_err() {
            self.skip_line();
        }
        Some(read)
    }

    fn read(&mut self, line: &mut Line<'a>, tags_max: usize) -> Result<(), &'static str> {
        line.tags.clear();
        line.fields.clear();
        line.timestamp = None;
        line.measurement = self.part(b",", true);
        if line.measurement.is_empty() {
            return Err("no measurement; a line is: measurement,tag=value field=value timestamp");
        }
        while self.take(b',') {
            let key = self.part(b",=", true);
            if key.is_empty() {
                return Err("a tag without a name");
            }
            if !self.take(b'=') {
                return Err("a tag without a value");
            }
            let value = self.part(b",=", true);
            if self.peek() == Some(b'=') {
                return Err("a tag with two equals signs; write \\= for one that belongs to it");
            }
            if value.is_empty() {
                return Err("a tag without a value");
            }
            if line.tags.len() >= tags_max {
                return Err("more tags than a series may have labels (limits.labels_max)");
            }
            line.tags.push((key, value));
        }
        if !self.take(b' ') {
            return Err("no fields; a line is: measurement,tag=value field=value timestamp");
        }
        self.skip(|byte| byte == b' ');
        loop {
            let key = self.part(b",=", true);
            if key.is_empty() {
                return Err("a field without a name");
            }
            if !self.take(b'=') {
                return Err("a field without a value");
            }
            let value = self.value()?;
            if line.fields.len() >= FIELDS_MAX {
                return Err("more than 16384 fields; write several lines");
            }
            line.fields.push((key, value));
            if !self.take(b',') {
                break;
            }
        }
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        if !matches!(self.peek(), None | Some(b'\n')) {
            let timestamp = self.part(b" \t\r", false);
            line.timestamp = Some(parsed(timestamp).ok_or("a timestamp that is no whole number of 64 bits")?);
            self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        }
        match self.peek() {
            None => Ok(()),
            Some(b'\n') => {
                self.end_line();
                Ok(())
            }
            Some(_) => Err("something after the timestamp"),
        }
    }

    /// Bytes up to one of `ends`, the end of the line or, if `spaces` end it, a space; none of them after a backslash.
    fn part(&mut self, ends: &[u8], spaces: bool) -> &'a [u8] {
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => break,
                b' ' if spaces => break,
                b'\\' if !matches!(self.bytes.get(self.at + 1), None | Some(b'\n')) => self.at += 2,
                byte if ends.contains(&byte) => break,
                _ => self.at += 1,
            }
        }
        &self.bytes[start..self.at]
    }

    fn value(&mut self) -> Result<Value, &'static str> {
        if self.take(b'"') {
            return self.text();
        }
        let raw = self.part(b",\r\t", true);
        let number = |digits: &[u8]| -> Option<f64> {
            // Words for what is no number are not numbers here.
            let plain = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
            let value = if digits.iter().all(plain) { parsed::<f64>(digits) } else { None };
            value.filter(|value| value.is_finite())
        };
        let value = match raw {
            b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(1.0),
            b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(0.0),
            [digits @ .., b'i'] => parsed::<i64>(digits).map(|value| value as f64),
            [digits @ .., b'u'] => parsed::<u64>(digits).map(|value| value as f64),
            _ => number(raw),
        };
        value.map(Value::Number).ok_or(
            "a field value that is neither a number (1, 1.5, 1i, 1u), nor true or false, nor a text in double quotes",
        )
    }

    /// Steps over a text after its opening quote.
    fn text(&mut self) -> Result<Value, &'static str> {
        let opened = (self.at, self.next_number);
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(Value::Text);
                }
                b'\\' if !matches!(self.bytes.get(self.at + 1), None | Some(b'\n')) => self.at += 2,
                b'\n' => self.end_line(),
                _ => self.at += 1,
            }
        }
        // The quote may be the mistake: what follows it are lines.
        (self.at, self.next_number) = opened;
        Err("a text without its closing quote")
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn skip(&mut self, what: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&what) {
            self.at += 1;
        }
    }

    fn end_line(&mut self) {
        self.at += 1;
        self.next_number = self.next_number.saturating_add(1);
    }

    fn skip_line(&mut self) {
        self.skip(|byte| byte != b'\n');
        if self.peek().is_some() {
            self.end_line();
        }
    }
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `raw` without the backslashes that protect something.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut plain = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let protects = byte == b'\\' && matches!(bytes.peek(), Some(b',' | b'=' | b' '));
        if let Some(protected) = protects.then(|| bytes.next()).flatten() {
            plain.push(protected);
        } else {
            plain.push(byte);
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Each line's number and its parts as text, or what is wrong.
    fn lines(body: &str) -> Vec<(u32, Result<String, &'static str>)> {
        let (mut lines, mut line) = (Lines::new(body.as_bytes()), Line::default());
        let mut out = Vec::new();
        while let Some(read) = lines.next(&mut line, 3) {
            let text = |raw: &[u8]| String::from_utf8(unescape(raw).into_owned()).unwrap();
            let shown = read.map(|()| {
                let tags: Vec<_> =
                    line.tags.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect();
                let fields: Vec<_> =
                    line.fields.iter().map(|(key, value)| format!("{}={value:?}", text(key))).collect();
                format!("{}|{}|{}|{:?}", text(line.measurement), tags.join(","), fields.join(","), line.timestamp)
            });
            out.push((lines.number, shown));
        }
        out
    }

    fn good(body: &str) -> String {
        let lines = lines(body);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].1.clone().unwrap()
    }

    #[test]
    fn parts_of_a_line() {
        assert_eq!(good("m v=1"), "m||v=Number(1.0)|None");
        assert_eq!(good("m,a=b,c=d v=1,w=-2.5e-3 -7"), "m|a=b,c=d|v=Number(1.0),w=Number(-0.0025)|Some(-7)");
        assert_eq!(
            good("m a=1i,b=2u,c=t,d=FALSE,e=\"x\" 1\r\n"),
            "m||a=Number(1.0),b=Number(2.0),c=Number(1.0),d=Number(0.0),e=Text|Some(1)"
        );
        assert_eq!(good(r"my\ m\,x,t\ 1=a\=b v\=1=2"), "my m,x|t 1=a=b|v=1=Number(2.0)|None");
        assert_eq!(good(r"m,path=C:\dir v=1"), r"m|path=C:\dir|v=Number(1.0)|None");
        assert_eq!(good("m=1,a=b v=1"), "m=1|a=b|v=Number(1.0)|None");
        assert_eq!(good("m s=\"a, b=c \\\" d\\\\\",v=1 5"), "m||s=Text,v=Number(1.0)|Some(5)");
        assert_eq!(good("\n# comment, with = all\n  m v=1  9  \n\n"), "m||v=Number(1.0)|Some(9)");
    }

    #[test]
    fn a_bad_line_is_numbered_and_the_others_are_read() {
        let body = "m v=1\nm\n# c\nm v=\"two\nlines\" 1\nm v=x\nm,a v=1\nm,a=1,b=2,c=3,d=4 v=1\nm v=1 1 1\n,a=b v=1\nm v=1.\nm v=nan\nm v=1e999\nm v=9223372036854775808i\nm v=1 1.5\nm v=\"open\nm v=2";
        let read = lines(body);
        let numbers: Vec<_> = read.iter().filter(|line| line.1.is_ok()).map(|line| line.0).collect();
        assert_eq!(numbers, [1, 4, 11, 17]);
        let wrong: Vec<_> =
            read.iter().filter_map(|line| Some((line.0, line.1.as_ref().err()?.split(';').next()?))).collect();
        let value =
            "a field value that is neither a number (1, 1.5, 1i, 1u), nor true or false, nor a text in double quotes";
        assert_eq!(
            wrong,
            [
                (2, "no fields"),
                (6, value),
                (7, "a tag without a value"),
                (8, "more tags than a series may have labels (limits.labels_max)"),
                (9, "something after the timestamp"),
                (10, "no measurement"),
                (12, value),
                (13, value),
                (14, value),
                (15, "a timestamp that is no whole number of 64 bits"),
                (16, "a text without its closing quote"),
            ]
        );
    }
}
