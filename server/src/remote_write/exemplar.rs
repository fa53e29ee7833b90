//! Exemplars of a request as columns: value, time and the labels of the trace that stands for a sample.
use super::labels::WireLabels;

/// Labels of an exemplar.
const LABELS_MAX: usize = 32;
/// Bytes of the labels of an exemplar; senders keep to 128 characters.
const LABEL_BYTES_MAX: usize = 1 << 10;

/// The exemplars of one request, column by column.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    /// Index of each one's series among those of the request.
    pub(crate) series: Vec<u32>,
    /// Nanoseconds UTC.
    pub(crate) ts: Vec<i64>,
    /// Exact bits.
    pub(crate) values: Vec<f64>,
    /// Where the labels of each one end.
    ends: Vec<u32>,
    /// Where name and value of each label end in `text`.
    labels: Vec<(u32, u32)>,
    text: String,
}

impl Exemplars {
    /// Number of exemplars.
    pub(crate) fn len(&self) -> usize {
        self.ts.len()
    }

    /// Bytes that it holds, about: what a request of short references may blow up to.
    pub(crate) fn weight(&self) -> usize {
        self.text.len() + self.labels.len() * size_of::<(u32, u32)>() + self.len() * 24
    }

    /// Adds one.
    ///
    /// # Errors
    /// What is wrong with its labels.
    pub(crate) fn push(
        &mut self,
        series: u32,
        ts: i64,
        value: f64,
        labels: WireLabels<'_>,
    ) -> Result<(), &'static str> {
        let (labels_before, text_before) = (self.labels.len(), self.text.len());
        let pushed = self.push_labels(labels, labels_before, text_before);
        if pushed.is_err() {
            self.labels.truncate(labels_before);
            self.text.truncate(text_before);
            return pushed;
        }
        self.ends.push(self.labels.len() as u32);
        self.series.push(series);
        self.ts.push(ts);
        self.values.push(value);
        Ok(())
    }

    fn push_labels(&mut self, labels: WireLabels<'_>, before: usize, text_before: usize) -> Result<(), &'static str> {
        for pair in labels.pairs() {
            let (name, value) = pair.map_err(|_| "its labels are malformed")?;
            let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "a label of it is not UTF-8");
            let (name, value) = (text(name)?, text(value)?);
            if name.is_empty() {
                return Err("a label of it has no name");
            }
            let bytes = self.text.len() - text_before + name.len() + value.len();
            if bytes > LABEL_BYTES_MAX || self.labels.len() - before >= LABELS_MAX {
                return Err("its labels have more than 1 KiB or are more than 32");
            }
            self.text.push_str(name);
            let name_end = self.text.len() as u32;
            self.text.push_str(value);
            self.labels.push((name_end, self.text.len() as u32));
        }
        Ok(())
    }

    /// (name, value) of each label of exemplar `row`.
    pub(crate) fn labels_of(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        let end = self.ends[row] as usize;
        (start..end).map(|label| {
            let from = label.checked_sub(1).map_or(0, |before| self.labels[before].1 as usize);
            let (name_end, value_end) = self.labels[label];
            (&self.text[from..name_end as usize], &self.text[name_end as usize..value_end as usize])
        })
    }

    /// Drops every exemplar from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.series.truncate(rows);
        self.ts.truncate(rows);
        self.values.truncate(rows);
        self.ends.truncate(rows);
        self.labels.truncate(self.ends.last().map_or(0, |&end| end as usize));
        self.text.truncate(self.labels.last().map_or(0, |label| label.1 as usize));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn label(name: &[u8], value: &[u8]) -> Vec<u8> {
        let inner = [&[0x0a, name.len() as u8][..], name, &[0x12, value.len() as u8], value].concat();
        [&[0x0a, inner.len() as u8][..], &inner].concat()
    }

    #[test]
    fn labels_come_back_and_bad_ones_leave_nothing_behind() {
        let mut exemplars = Exemplars::default();
        let first = [label(b"trace_id", "é1".as_bytes()), label(b"span", b"")].concat();
        exemplars.push(0, 1, 1.5, WireLabels::fields(&first)).unwrap();
        let bad = [label(b"a", b"b"), label(b"c", b"\xff")].concat();
        assert_eq!(exemplars.push(0, 1, 1.5, WireLabels::fields(&bad)), Err("a label of it is not UTF-8"));
        assert!(exemplars.push(0, 1, 1.5, WireLabels::fields(&label(b"", b"x"))).is_err());
        assert!(exemplars.push(0, 1, 1.5, WireLabels::fields(&[0x0a, 9])).is_err());
        let many = label(b"n", &[b'v'; 100]).repeat(11);
        assert!(exemplars.push(0, 1, 1.5, WireLabels::fields(&many)).is_err());
        exemplars.push(2, 3, 2.5, WireLabels::fields(&[])).unwrap();
        exemplars.push(2, 4, 3.5, WireLabels::fields(&label(b"t", b"u"))).unwrap();
        let all = |exemplars: &Exemplars| -> Vec<Vec<(String, String)>> {
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            (0..exemplars.len()).map(|row| exemplars.labels_of(row).map(owned).collect()).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [vec![pair("trace_id", "é1"), pair("span", "")], vec![], vec![pair("t", "u")]];
        assert_eq!(all(&exemplars), expected);
        exemplars.truncate(1);
        assert_eq!(all(&exemplars), expected[..1]);
        assert_eq!(exemplars.text.len(), 15);
    }
}
