//! Metadata of metric families as they are stored: type, help and unit, one keyed state entry for each family.
//!
//! Owns the bytes (`docs/format/metadata.md`). Whoever receives metadata writes an entry when it differs from the stored one;
//! `sys.metadata` shows them.
use foretell_engine::Snapshot;

use crate::error::{Error, Result};

/// Every key starts with it; the family's name follows.
const PREFIX: &[u8] = b"metadata/";
const VERSION: u8 = 1;
/// Bytes before the help text: version, type, length of the help text.
const HEAD: usize = 6;

/// Names of the types, by the number that is stored and that the Prometheus protocols use.
const TYPES: [&str; 8] = ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

/// What a metric is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricType(u8);

impl MetricType {
    /// From the number that the Prometheus protocols use; one that is not known yet is the unknown type.
    pub fn from_number(number: u64) -> Self {
        Self(u8::try_from(number).ok().filter(|&n| usize::from(n) < TYPES.len()).unwrap_or(0))
    }

    /// As OpenMetrics spells it, `unknown` included.
    pub fn name(self) -> &'static str {
        TYPES[usize::from(self.0)]
    }

    /// The family that a series of this type belongs to: `x` for the series `x_bucket` of a histogram.
    pub fn family(self, metric: &str) -> &str {
        let suffixes: &[&str] = match self.name() {
            "histogram" => &["_bucket", "_count", "_sum"],
            "gaugehistogram" => &["_bucket", "_gcount", "_gsum"],
            "summary" => &["_count", "_sum"],
            _ => &[],
        };
        let stripped = suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix));
        stripped.filter(|family| !family.is_empty()).unwrap_or(metric)
    }
}

/// What is known about one metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricMetadata {
    /// Type.
    pub kind: MetricType,
    /// Help text.
    pub help: String,
    /// Unit, such as `seconds`.
    pub unit: String,
}

impl MetricMetadata {
    /// The state key of a family.
    pub fn key(family: &str) -> Vec<u8> {
        [PREFIX, family.as_bytes()].concat()
    }

    /// The state value. Equal metadata have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.help.len() + self.unit.len());
        bytes.extend_from_slice(&[VERSION, self.kind.0]);
        bytes.extend_from_slice(&(self.help.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.help.as_bytes());
        bytes.extend_from_slice(self.unit.as_bytes());
        bytes
    }

    /// What [`MetricMetadata::encode`] wrote.
    ///
    /// # Errors
    /// `Internal` when the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let parsed = || {
            let (&[version, kind, a, b, c, d], rest) = bytes.split_first_chunk::<HEAD>()?;
            let (help, unit) = rest.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)?;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            (version == VERSION && usize::from(kind) < TYPES.len()).then_some(Self {
                kind: MetricType(kind),
                help: text(help)?,
                unit: text(unit)?,
            })
        };
        parsed().ok_or_else(|| Error::internal("stored metadata of a metric is damaged"))
    }

    /// What is known about one family.
    ///
    /// # Errors
    /// `Internal` when the entry is damaged.
    pub fn of(snapshot: &Snapshot, family: &str) -> Result<Option<Self>> {
        snapshot.state(&Self::key(family))?.map(|bytes| Self::decode(&bytes)).transpose()
    }

    /// Every family with its metadata, by name.
    ///
    /// # Errors
    /// `Internal` when an entry is damaged.
    pub fn all(snapshot: &Snapshot) -> Result<Vec<(String, Self)>> {
        let entries = snapshot.state_prefix(PREFIX)?.into_iter();
        let entry = |(key, value): (Vec<u8>, std::sync::Arc<[u8]>)| {
            let family = String::from_utf8_lossy(&key[PREFIX.len()..]).into_owned();
            Ok((family, Self::decode(&value)?))
        };
        entries.map(entry).collect()
    }

    /// Number of families with metadata.
    pub fn count(snapshot: &Snapshot) -> usize {
        snapshot.state_keys(PREFIX).len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn metadata_come_back_and_every_truncation_or_flip_is_found_or_changes_only_text() {
        let metadata = MetricMetadata {
            kind: MetricType::from_number(3),
            help: "how long, é".to_owned(),
            unit: "seconds".to_owned(),
        };
        let bytes = metadata.encode();
        assert_eq!(MetricMetadata::decode(&bytes).unwrap(), metadata);
        for len in 0..bytes.len() - metadata.unit.len() {
            assert!(MetricMetadata::decode(&bytes[..len]).is_err(), "{len}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x80;
            assert!(MetricMetadata::decode(&flipped).is_err(), "{at}");
        }
    }

    #[test]
    fn series_of_one_family_have_one_name() {
        let family = |number, metric| MetricType::from_number(number).family(metric).to_owned();
        assert_eq!(family(3, "x_seconds_bucket"), "x_seconds");
        assert_eq!(family(3, "x_seconds_sum"), "x_seconds");
        assert_eq!(family(3, "x_seconds"), "x_seconds", "a native histogram");
        assert_eq!(family(4, "x_gcount"), "x");
        assert_eq!(family(5, "x_count"), "x");
        assert_eq!(family(5, "x_bucket"), "x_bucket");
        assert_eq!(family(1, "x_count"), "x_count");
        assert_eq!(family(3, "_sum"), "_sum");
        assert_eq!(MetricType::from_number(99).name(), "unknown");
    }
}
