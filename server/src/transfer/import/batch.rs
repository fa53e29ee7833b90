//! Rows to requests: grouped by series, of bounded size, each acknowledged before the next.
use std::collections::HashMap;

use anyhow::{Context as _, anyhow};

use super::super::columns::Label;
use crate::sender::{Request, Target, Undelivered, encode_labels};

/// Samples of a request.
const SAMPLES_MAX: usize = 10_000;
/// Bytes of the labels of a request.
const LABEL_BYTES_MAX: usize = 2 << 20;
const NS_PER_MS: i64 = 1_000_000;
const METRIC_NAME: &str = "__name__";

/// A row of a file.
pub(super) struct Row<'a> {
    /// Line or number of the row, from 1.
    pub(super) place: u64,
    /// Nanoseconds since 1970.
    pub(super) ts: i64,
    pub(super) value: f64,
    /// The name of its metric, if the file says it and not a label.
    pub(super) metric: Option<&'a str>,
}

/// Series with their samples, waiting to be sent.
#[derive(Default)]
struct Pending {
    /// Encoded labels to the index of their series.
    index: HashMap<Vec<u8>, usize>,
    series: Vec<Series>,
    samples: usize,
    label_bytes: usize,
    places: Option<(u64, u64)>,
}

struct Series {
    labels: Vec<u8>,
    samples: Vec<(i64, f64)>,
}

/// Sends the rows of one file.
pub(super) struct Batcher<'a> {
    target: &'a Target,
    metric: Option<&'a str>,
    pending: Pending,
    request: Request,
    encoded: Vec<u8>,
    sent: u64,
}

impl<'a> Batcher<'a> {
    /// With `metric` for all rows, if the user names it.
    pub(super) fn new(target: &'a Target, metric: Option<&'a str>) -> Self {
        let (pending, request) = (Pending::default(), Request::new());
        Self { target, metric, pending, request, encoded: Vec::new(), sent: 0 }
    }

    pub(super) fn metric_is_named(&self) -> bool {
        self.metric.is_some()
    }

    /// Samples acknowledged.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes a row with its labels, which are left in no particular state. Sends when a request is full.
    ///
    /// # Errors
    /// What is wrong with the row, or why a request was not acknowledged.
    pub(super) fn push<'l>(&mut self, row: &Row<'l>, labels: &mut Vec<Label<'l>>) -> anyhow::Result<()>
    where
        'a: 'l,
    {
        if let Some(metric) = self.metric.or(row.metric) {
            labels.push((METRIC_NAME.into(), metric.into()));
        }
        let ms = sample_ms(row.ts).and_then(|ms| canonical(labels).map(|()| ms)).map_err(|error| anyhow!(error))?;
        self.encoded.clear();
        encode_labels(labels.iter().map(|(name, value)| (&**name, &**value)), &mut self.encoded);
        self.pending.push(&self.encoded, (ms, row.value), row.place);
        if self.pending.samples >= SAMPLES_MAX || self.pending.label_bytes >= LABEL_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends what is pending.
    ///
    /// # Durability
    /// When this returns, the server has acknowledged every row pushed.
    ///
    /// # Errors
    /// Why not, and which rows were in the request.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        // Taken whatever becomes of it: what was refused once is not sent again.
        let pending = std::mem::take(&mut self.pending);
        let Some((first, last)) = pending.places else { return Ok(()) };
        self.request.clear();
        for series in &pending.series {
            self.request.series(&series.labels, series.samples.iter().copied());
        }
        let sent = self.target.post(self.request.body().context("cannot compress a request")?);
        sent.map_err(|error| {
            let hint = match &error {
                Undelivered::Refused { .. } => "; samples of these rows that are valid may be stored",
                _ => "",
            };
            anyhow!("rows {first} to {last}: {error}{hint}")
        })?;
        self.sent += pending.samples as u64;
        Ok(())
    }
}

impl Pending {
    fn push(&mut self, labels: &[u8], sample: (i64, f64), place: u64) {
        let series = match self.index.get(labels) {
            Some(&series) => series,
            None => {
                self.label_bytes += labels.len();
                self.index.insert(labels.to_vec(), self.series.len());
                self.series.push(Series { labels: labels.to_vec(), samples: Vec::new() });
                self.series.len() - 1
            }
        };
        self.series[series].samples.push(sample);
        self.samples += 1;
        self.places = Some((self.places.map_or(place, |(first, _)| first), place));
    }
}

/// Remote write counts milliseconds.
fn sample_ms(ts: i64) -> Result<i64, String> {
    if ts % NS_PER_MS != 0 {
        return Err(format!(
            "ts {} has a part of a millisecond, which remote write cannot carry; round it first",
            crate::timestamp::rfc3339(ts)
        ));
    }
    Ok(ts / NS_PER_MS)
}

/// Sorts labels and drops empty ones, which are none.
fn canonical(labels: &mut Vec<Label<'_>>) -> Result<(), String> {
    labels.sort_unstable();
    if let Some(twice) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("the label {} is there twice", twice[0].0));
    }
    labels.retain(|(_, value)| !value.is_empty());
    match labels.iter().find(|(name, _)| name.is_empty()) {
        Some(_) => Err("a label has no name".to_owned()),
        None if labels.is_empty() => Err("a sample needs a metric or a label".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sorted(labels: &[(&'static str, &'static str)]) -> Result<String, String> {
        let mut labels: Vec<Label<'_>> = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        canonical(&mut labels)?;
        Ok(labels.iter().map(|(name, value)| format!("{name}={value} ")).collect())
    }

    #[test]
    fn labels_are_sorted_and_bad_ones_named() {
        assert_eq!(sorted(&[("b", "2"), ("__name__", "m"), ("c", "")]).unwrap(), "__name__=m b=2 ");
        assert!(sorted(&[("b", "2"), ("b", "")]).unwrap_err().contains("label b is there twice"));
        assert!(sorted(&[("", "2")]).unwrap_err().contains("no name"));
        assert!(sorted(&[("a", "")]).unwrap_err().contains("needs a metric"));
    }

    #[test]
    fn what_remote_write_cannot_carry_is_refused() {
        assert_eq!(sample_ms(-1_000_000), Ok(-1));
        assert!(sample_ms(1).unwrap_err().contains("1970-01-01T00:00:00.000000001Z"));
    }

    #[test]
    fn rows_of_a_series_stay_in_their_order() {
        let mut pending = Pending::default();
        for (place, labels) in [(1, b"x"), (2, b"y"), (3, b"x")] {
            pending.push(labels, (5, place as f64), place);
        }
        assert_eq!((pending.samples, pending.label_bytes, pending.places), (3, 2, Some((1, 3))));
        assert_eq!(pending.series[0].samples, [(5, 1.0), (5, 3.0)], "of equal times the later row wins");
    }
}
