//! Lines to rows: a sample for each field, a label for each tag.
use super::line::{Line, Lines, Value, unescape};
use crate::naming::Translation;
use crate::remote_write::DecodeError;
use crate::remote_write::fault::Fault;
use crate::remote_write::rows::{Refs, Rows};

/// The field that gives a metric no name of its own: `cpu value=1` is the metric `cpu`.
const VALUE: &str = "value";
/// Fields without a number whose lines are fine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Skipped {
    pub(super) texts: u64,
}

/// What every line of a request is read with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) translation: Translation,
    /// Nanoseconds of a unit of time.
    pub(super) unit_ns: i64,
    pub(super) labels_max: usize,
}

/// Makes rows of the lines of `body`.
///
/// # Errors
/// When the request is too large as a whole; what is wrong with a line is noted in `rows`.
pub(super) fn fill(body: &[u8], reading: Reading, rows: &mut Rows<'_>) -> Result<Skipped, DecodeError> {
    let (mut lines, mut line) = (Lines::new(body), Line::default());
    let mut writer = Writer { reading, refs: Refs::new(), name: String::new(), scratch: String::new() };
    let mut skipped = Skipped::default();
    while let Some(read) = lines.next(&mut line, reading.labels_max.saturating_sub(1)) {
        let fields = line.fields.iter().filter(|field| field.1 != Value::Text).count() as u64;
        let taken = match read {
            Ok(()) => writer.line(&line, lines.number, rows)?,
            Err(what) => Err(Fault::Point(what.to_owned())),
        };
        match taken {
            Ok(()) => skipped.texts += line.fields.len() as u64 - fields,
            Err(fault) => rows.refuse(fault, lines.number, fields, String::new),
        }
    }
    Ok(skipped)
}

struct Writer {
    reading: Reading,
    refs: Refs,
    name: String,
    scratch: String,
}

impl Writer {
    /// Adds a line as a whole, or says what is wrong with it.
    fn line(&mut self, line: &Line<'_>, number: u32, rows: &mut Rows<'_>) -> Result<Result<(), Fault>, DecodeError> {
        let ts = match line.timestamp {
            None => Some(rows.now_ns()),
            Some(units) => units.checked_mul(self.reading.unit_ns),
        };
        let Some(ts) = ts else {
            return Ok(Err(Fault::Point("a timestamp outside the years 1677 to 2262; is precision right?".to_owned())));
        };
        if let Err(fault) = rows.check_ts(ts) {
            return Ok(Err(fault));
        }
        // All names before anything is added.
        let named = std::iter::once(line.measurement)
            .chain(line.tags.iter().flat_map(|tag| [tag.0, tag.1]))
            .chain(line.fields.iter().map(|field| field.0));
        for text in named {
            if std::str::from_utf8(text).is_err() {
                return Ok(Err(Fault::Point("a name or tag value that is not UTF-8".to_owned())));
            }
        }
        self.refs.clear();
        for (key, value) in &line.tags {
            let key = unescape(key);
            self.scratch.clear();
            self.reading.translation.label(&String::from_utf8_lossy(&key), &mut self.scratch);
            rows.label(&mut self.refs, self.scratch.as_bytes(), &unescape(value))?;
        }
        let tags = self.refs.len();
        let measurement = unescape(line.measurement);
        let measurement = String::from_utf8_lossy(&measurement);
        for &(field, value) in &line.fields {
            let Value::Number(value) = value else { continue };
            self.scratch.clear();
            self.scratch.push_str(&measurement);
            let field = unescape(field);
            let field = String::from_utf8_lossy(&field);
            if field != VALUE {
                self.scratch.push('_');
                self.scratch.push_str(&field);
            }
            self.name.clear();
            self.reading.translation.plain_metric(&self.scratch, &mut self.name);
            self.refs.truncate(tags);
            rows.label(&mut self.refs, b"__name__", self.name.as_bytes())?;
            rows.sample(&self.refs, ts, value, number)?;
        }
        Ok(Ok(()))
    }
}
