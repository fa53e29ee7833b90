//! Exponential histograms as native ones: the message that remote write has for them.
//!
//! ```text
//!  OTLP: base 2^(2^-scale), bucket i is (base^i, base^(i+1)]        native: bucket i is (base^(i-1), base^i]
//! ```
//! So an index grows by one. Native histograms have schemas -4 to 8: finer ones are merged by halves, coarser ones refused.
use super::wire::{Field, varints};
use crate::remote_write::wire::Malformed;
use crate::sender::encode::{put_bytes, put_varint};

const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;
/// Buckets of one sign.
const BUCKETS_MAX: usize = 64 << 10;
/// Of a histogram that says none: what Prometheus has then.
const ZERO_THRESHOLD: f64 = 1e-128;

/// The buckets of one sign.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    pub(super) offset: i32,
    counts: Vec<u64>,
    over: bool,
}

impl Buckets {
    pub(super) fn clear(&mut self) {
        self.offset = 0;
        self.over = false;
        self.counts.clear();
    }

    /// Adds counts, packed or not.
    pub(super) fn read(&mut self, field: Field<'_>) -> Result<(), Malformed> {
        varints(field, |count| {
            if self.counts.len() < BUCKETS_MAX {
                self.counts.push(count);
            } else {
                self.over = true;
            }
        })
    }

    /// (index, count) of the first to the last filled native bucket, `shift` halvings coarser.
    fn native(&self, shift: u32, out: &mut Vec<u64>) -> i64 {
        out.clear();
        let filled = |count: &u64| *count > 0;
        let Some(first) = self.counts.iter().position(filled) else { return 0 };
        let last = self.counts.iter().rposition(filled).unwrap_or(first);
        let index = |i: usize| (i64::from(self.offset) + i as i64) >> shift.min(63);
        let start = index(first);
        for (i, &count) in self.counts.iter().enumerate().take(last + 1).skip(first) {
            let at = (index(i) - start) as usize;
            if out.len() <= at {
                out.resize(at + 1, 0);
            }
            out[at] = out[at].saturating_add(count);
        }
        start + 1
    }
}

/// The parts of an exponential histogram that are not buckets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) ts_ms: i64,
    pub(super) start_ms: i64,
}

/// Writes the native histogram to `out`.
///
/// # Errors
/// What cannot be expressed.
pub(super) fn encode(
    head: &Head,
    negative: &Buckets,
    positive: &Buckets,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    if head.scale < SCHEMA_MIN {
        return Err("an exponential histogram of a scale below -4");
    }
    if negative.over || positive.over {
        return Err("an exponential histogram of more than 65536 buckets");
    }
    let shift = head.scale.saturating_sub(SCHEMA_MAX).max(0) as u32;
    let zigzag = |value: i64| ((value << 1) ^ (value >> 63)) as u64;
    let double = |out: &mut Vec<u8>, number: u8, value: f64| {
        out.push(number << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    };
    let varint = |out: &mut Vec<u8>, number: u8, value: u64| {
        put_varint(out, u64::from(number) << 3);
        put_varint(out, value);
    };
    out.clear();
    varint(out, 1, head.count);
    double(out, 3, head.sum);
    varint(out, 4, zigzag(i64::from(head.scale.min(SCHEMA_MAX))));
    double(out, 5, if head.zero_threshold > 0.0 { head.zero_threshold } else { ZERO_THRESHOLD });
    varint(out, 6, head.zero_count);
    let (mut counts, mut part) = (Vec::new(), Vec::new());
    for (buckets, spans, deltas) in [(negative, 8u8, 9u8), (positive, 11, 12)] {
        let start = buckets.native(shift, &mut counts);
        if counts.is_empty() {
            continue;
        }
        part.clear();
        varint(&mut part, 1, zigzag(start));
        varint(&mut part, 2, counts.len() as u64);
        put_bytes(out, spans << 3 | 2, &part);
        part.clear();
        let mut before = 0i64;
        for &count in &counts {
            let count = i64::try_from(count).map_err(|_| "a bucket of more than 2^63 observations")?;
            put_varint(&mut part, zigzag(count - before));
            before = count;
        }
        put_bytes(out, deltas << 3 | 2, &part);
    }
    varint(out, 15, head.ts_ms as u64);
    varint(out, 17, head.start_ms as u64);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_proto::prometheus::v2::Histogram;
    use prost::Message as _;

    use super::*;

    fn buckets(offset: i32, counts: &[u64]) -> Buckets {
        Buckets { offset, counts: counts.to_vec(), over: false }
    }

    fn native(scale: i32, positive: &Buckets) -> Histogram {
        let mut out = Vec::new();
        let head = Head { count: 6, sum: 2.5, scale, zero_count: 1, ts_ms: 7, start_ms: 5, ..Head::default() };
        encode(&head, &Buckets::default(), positive, &mut out).unwrap();
        Histogram::decode(&*out).unwrap()
    }

    #[test]
    fn indexes_grow_by_one_and_zeros_at_the_ends_go() {
        let histogram = native(3, &buckets(-3, &[0, 2, 0, 3, 0]));
        let spans: Vec<_> = histogram.positive_spans.iter().map(|span| (span.offset, span.length)).collect();
        assert_eq!((spans, histogram.positive_deltas), (vec![(-1, 3)], vec![2, -2, 3]));
        assert_eq!((histogram.schema, histogram.sum, histogram.timestamp, histogram.start_timestamp), (3, 2.5, 7, 5));
        assert!(histogram.negative_spans.is_empty());
    }

    #[test]
    fn finer_scales_are_merged_by_halves() {
        // Buckets -3 to 2 of scale 10 are -1 (-3, -2, -1) and 0 (0, 1, 2) of scale 8.
        let histogram = native(10, &buckets(-3, &[1, 2, 3, 4, 5, 6]));
        let spans: Vec<_> = histogram.positive_spans.iter().map(|span| (span.offset, span.length)).collect();
        assert_eq!((histogram.schema, spans, histogram.positive_deltas), (8, vec![(0, 2)], vec![6, 9]));
        let head = Head { scale: -5, ..Head::default() };
        assert!(encode(&head, &Buckets::default(), &Buckets::default(), &mut Vec::new()).is_err());
    }
}
