//! Comparing the catalogue with the series files that it is derived from.
use croaring::Bitmap;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::types::{LabelSet, METRIC_NAME, SeriesId};

use super::Catalogue;
use super::partition::Table;

/// Series asked for at a time.
const SERIES_AT_ONCE: usize = 4096;

/// What the series files say of a metric.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpectedMetric {
    name: String,
    series_count: u32,
    label_names: std::collections::BTreeSet<String>,
}

/// Metrics by ordinal.
pub(crate) type ExpectedMetrics = HashMap<u32, ExpectedMetric>;

/// Adds a series to what is expected of its metric.
pub(crate) fn expect(metrics: &mut ExpectedMetrics, id: SeriesId, labels: &LabelSet) {
    let metric = metrics.entry(id.metric()).or_default();
    metric.series_count = metric.series_count.max(id.number().saturating_add(1));
    if metric.name.is_empty() {
        labels.metric_name().clone_into(&mut metric.name);
    }
    for (name, _) in labels.iter().filter(|pair| pair.0 != METRIC_NAME) {
        if !metric.label_names.contains(name) {
            metric.label_names.insert(name.to_owned());
        }
    }
}

/// Posting lists by key.
type Lists = HashMap<Vec<u8>, Bitmap>;

impl Catalogue {
    /// Compares everything about the series of `partition`, in local order, with its index, and calls `found` for each
    /// difference. Ordinals beyond them are of series files that the catalogue has yet to be caught up with.
    ///
    /// # Errors
    /// `Catalogue` or `Corruption` when it cannot be read on.
    pub(crate) fn check_partition(
        &self,
        (partition, index): (i64, u64),
        series: &[(SeriesId, LabelSet)],
        mut found: impl FnMut(Error),
    ) -> Result<()> {
        for chunk in series.chunks(SERIES_AT_ONCE) {
            let ids: Vec<SeriesId> = chunk.iter().map(|pair| pair.0).collect();
            for ((id, labels), known) in chunk.iter().zip(self.labels_of(&ids)?) {
                if known.as_ref() != Some(labels) {
                    found(self.corrupt(&format!("series {} to be {labels:?}", id.0), format!("{known:?}")));
                }
                let known = self.id_of(labels)?;
                if known != Some(*id) {
                    found(self.corrupt(&format!("{labels:?} to be series {}", id.0), format!("{known:?}")));
                }
            }
        }
        let ids = self.ordinals(index)?;
        for (ordinal, (id, _)) in series.iter().enumerate() {
            if ids.get(ordinal) != Some(id) {
                let expected = format!("series {} as number {ordinal} of partition {partition}", id.0);
                found(self.corrupt(&expected, format!("{:?}", ids.get(ordinal))));
            }
        }
        self.check_postings((partition, index), series, found)
    }

    fn check_postings(
        &self,
        (partition, index): (i64, u64),
        series: &[(SeriesId, LabelSet)],
        mut found: impl FnMut(Error),
    ) -> Result<()> {
        let (mut values, mut names, mut members) = (Lists::new(), Lists::new(), Lists::new());
        for (ordinal, (id, labels)) in (0u32..).zip(series) {
            for (name, value) in labels.iter() {
                values.entry([name.as_bytes(), b"\0", value.as_bytes()].concat()).or_default().add(ordinal);
                names.entry(name.as_bytes().to_vec()).or_default().add(ordinal);
            }
            members.entry(id.metric().to_be_bytes().to_vec()).or_default().add(id.number());
        }
        let count = series.len() as u32;
        let indexed = |mut got: Bitmap| {
            got.remove_range(count..);
            got
        };
        let value = |term: &[u8]| format!("{:?}", String::from_utf8_lossy(term).replacen('\0', "=", 1));
        let name = |name: &[u8]| format!("label {:?}", String::from_utf8_lossy(name));
        let metric = |key: &[u8]| format!("metric {}", key.iter().fold(0u32, |n, &byte| n << 8 | u32::from(byte)));
        for (table, expected, text) in [
            (Table::Values, values, &value as &dyn Fn(&[u8]) -> String),
            (Table::Names, names, &name),
            (Table::Members, members, &metric),
        ] {
            let same = |wanted: &Bitmap, got: Bitmap| match table {
                // Numbers of series that are yet to be caught up with may be anywhere.
                Table::Members => wanted.is_subset(&got),
                _ => *wanted == indexed(got),
            };
            let text = |key: &[u8]| format!("{} in partition {partition}", text(key));
            self.compare(index, table, expected, same, text, &mut found)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        index: u64,
        table: Table,
        mut expected: Lists,
        same: impl Fn(&Bitmap, Bitmap) -> bool,
        text: impl Fn(&[u8]) -> String,
        found: &mut impl FnMut(Error),
    ) -> Result<()> {
        self.posting_lists(index, table, |key, got| {
            let (wanted, count) = (expected.remove(key).unwrap_or_default(), got.cardinality());
            if !same(&wanted, got) {
                let expected = format!("{} series with {}", wanted.cardinality(), text(key));
                found(self.corrupt(&expected, format!("{count}, or others")));
            }
            Ok(())
        })?;
        for (key, wanted) in expected {
            let expected = format!("{} series with {}", wanted.cardinality(), text(&key));
            found(self.corrupt(&expected, "no postings"));
        }
        Ok(())
    }

    /// Compares the metrics with those of the series files.
    ///
    /// # Errors
    /// As [`Catalogue::check_partition`].
    pub(crate) fn check_metrics(&self, mut expected: ExpectedMetrics, mut found: impl FnMut(Error)) -> Result<()> {
        for (ordinal, metric) in self.metrics()? {
            let Some(wanted) = expected.remove(&ordinal) else { continue };
            let names = wanted.label_names.iter().all(|name| metric.label_names.contains(name));
            if metric.name != wanted.name || metric.series_count < wanted.series_count || !names {
                found(self.corrupt(&format!("metric {ordinal} to be {wanted:?}"), format!("{metric:?}")));
            }
        }
        for (ordinal, wanted) in expected {
            found(self.corrupt(&format!("metric {ordinal}, {:?}", wanted.name), "no such metric"));
        }
        Ok(())
    }
}
