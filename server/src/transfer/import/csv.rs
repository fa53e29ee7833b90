//! Records of a CSV file (RFC 4180): fields in quotes may hold commas, quotes (doubled) and line feeds.
use std::io::BufRead;

use anyhow::{anyhow, bail};

use super::lines::Lines;

/// Fields of a record.
const FIELDS_MAX: usize = 4_096;

/// One record.
#[derive(Debug, Default)]
pub(super) struct Record {
    text: String,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
    /// The line it begins on.
    pub(super) line: u64,
}

impl Record {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn field(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.field(index))
    }
}

/// The records of a file. Empty lines are none.
pub(super) struct Records<R> {
    lines: Lines<R>,
    raw: Vec<u8>,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(lines: Lines<R>) -> Self {
        Self { lines, raw: Vec::new() }
    }

    /// Replaces `record` with the next one; `false` at the end of the file.
    ///
    /// # Errors
    /// With the line.
    pub(super) fn next(&mut self, record: &mut Record) -> anyhow::Result<bool> {
        loop {
            self.raw.clear();
            if !self.lines.append(&mut self.raw)? {
                return Ok(false);
            }
            record.line = self.lines.number();
            if record.line == 1 && self.raw.starts_with(b"\xef\xbb\xbf") {
                self.raw.drain(..3);
            }
            // A record goes on as long as a quote is open.
            let (mut looked_at, mut place) = (0, Place::Start);
            loop {
                place = self.raw[looked_at..].iter().fold(place, |place, byte| place.after(*byte));
                looked_at = self.raw.len();
                if place != Place::Quoted {
                    break;
                }
                if !self.lines.append(&mut self.raw)? {
                    bail!("line {}: text in quotes does not end", record.line);
                }
            }
            let raw = self.raw.strip_suffix(b"\n").unwrap_or(&self.raw);
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            if !raw.is_empty() {
                let text = std::str::from_utf8(raw).map_err(|_| anyhow!("line {}: not UTF-8", record.line))?;
                split(text, record).map_err(|error| anyhow!("line {}: {error}", record.line))?;
                return Ok(true);
            }
        }
    }
}

/// Where in a record one is. What is quoted wrongly ends with its line, so that it does not take the next records with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before a field.
    Start,
    /// In a field without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// Behind a quote in quotes: it ends the field, or is the first of two.
    Quote,
    /// Behind a quote that should not be there.
    Wrong,
}

impl Place {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Start | Self::Quote, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Plain, b'"') => Self::Wrong,
            (Self::Start | Self::Plain | Self::Quote, b',') => Self::Start,
            (Self::Quote, b'\r' | b'\n') => Self::Quote,
            (Self::Start, _) => Self::Plain,
            (Self::Quote, _) => Self::Wrong,
            (place, _) => place,
        }
    }
}

fn split(raw: &str, record: &mut Record) -> Result<(), String> {
    record.text.clear();
    record.ends.clear();
    let mut rest = raw;
    loop {
        rest = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted, &mut record.text)?,
            None => {
                let end = rest.find([',', '"']).unwrap_or(rest.len());
                record.text.push_str(&rest[..end]);
                &rest[end..]
            }
        };
        record.ends.push(record.text.len());
        if record.ends.len() > FIELDS_MAX {
            return Err(format!("more than {FIELDS_MAX} fields"));
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(()),
            None => return Err("a quote inside a field: put the field in quotes and double it".to_owned()),
        }
    }
}

/// Appends a field up to its closing quote; returns what follows.
fn unquote<'a>(mut rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    loop {
        let (before, after) = rest.split_once('"').ok_or("text in quotes does not end")?;
        out.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                out.push('"');
                rest = more;
            }
            None => return Ok(after),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
        let mut records = Records::new(Lines::new(text.as_bytes()));
        let (mut record, mut all) = (Record::default(), Vec::new());
        while records.next(&mut record).map_err(|error| error.to_string())? {
            all.push((record.line, record.fields().map(str::to_owned).collect()));
        }
        Ok(all)
    }

    #[test]
    fn fields_are_split_as_rfc_4180_says() {
        let text = "\u{feff}a,b,c\r\n1,,\n\n\"x,\"\"y\"\"\nz\",\"\",ä\nlast,\"\n\n\",";
        let record = |line, fields: [&str; 3]| (line, fields.map(str::to_owned).to_vec());
        assert_eq!(
            read(text).unwrap(),
            [
                record(1, ["a", "b", "c"]),
                record(2, ["1", "", ""]),
                record(4, ["x,\"y\"\nz", "", "ä"]),
                record(6, ["last", "\n\n", ""]),
            ]
        );
    }

    #[test]
    fn a_record_that_is_quoted_wrongly_ends_with_its_line() {
        let mut records = Records::new(Lines::new(&b"a,b\n1,{\"x\": \"\n2,\"y\"z\"\n3,\"w\"\n"[..]));
        let mut record = Record::default();
        assert!(records.next(&mut record).unwrap());
        for line in ["line 2: a quote inside", "line 3: a quote inside"] {
            assert!(records.next(&mut record).unwrap_err().to_string().contains(line));
        }
        assert!(records.next(&mut record).unwrap());
        assert_eq!((record.line, record.field(1)), (4, "w"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            ("a\n\"b", "line 2: text in quotes does not end"),
            ("a\nb\"c\"", "line 2: a quote inside"),
            ("a\n\"b\"c", "line 2: a quote inside"),
            (",".repeat(5_000).as_str(), "line 1: more than 4096"),
        ] {
            assert!(read(text).unwrap_err().contains(expected), "{text}");
        }
        let mut bad = Records::new(Lines::new(&b"a\n\xff\n"[..]));
        let mut record = Record::default();
        assert!(bad.next(&mut record).unwrap());
        assert!(bad.next(&mut record).unwrap_err().to_string().contains("line 2: not UTF-8"));
    }
}
