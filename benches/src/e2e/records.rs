//! Native histograms and exemplars, as Prometheus holds them and as Foretell's SQL returns them, in one form that compares.
//!
//! Prometheus keeps the histograms of a chunk in one layout of buckets, empty ones included, and derives their reset hints
//! anew; what it sends is from its log, as scraped. So buckets are compared by index without the empty ones, and hints not
//! at all. Everything else is compared bit by bit, but for the payload of a NaN, which SQL does not show.
use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::{Context, Result, bail};
use foretell_proto::prometheus::v1::histogram::{Count, ZeroCount};
use foretell_proto::prometheus::v1::{self, BucketSpan};
use serde_json::Value;

use crate::http::Client;
use crate::workload::page::Labels;

/// Schema of histograms with custom buckets, whose borders Prometheus sends in 2.0 alone.
pub const CUSTOM_SCHEMA: i32 = -53;
/// Differences that are put into words.
const EXAMPLES_MAX: usize = 10;

/// Asks for everything that a histogram is made of; floats as text, which has all their digits.
const HISTOGRAMS: &str = "SELECT CAST(ts AS BIGINT), metric, labels, is_float, schema, count_int, zero_count_int, \
    CAST(count AS VARCHAR), CAST(zero_count AS VARCHAR), CAST(zero_threshold AS VARCHAR), CAST(sum AS VARCHAR), \
    arrow_cast(custom_values, 'List(Utf8)'), \
    negative_spans, negative_deltas, arrow_cast(negative_counts, 'List(Utf8)'), \
    positive_spans, positive_deltas, arrow_cast(positive_counts, 'List(Utf8)') FROM histograms";
const EXEMPLARS: &str =
    "SELECT CAST(ts AS BIGINT), metric, labels, CAST(value AS VARCHAR), exemplar_labels FROM exemplars";

/// Series and time, ns UTC.
pub type Key = (Labels, i64);

/// A native histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Whether its counts are floats, by their bits.
    pub float: bool,
    /// Resolution.
    pub schema: i32,
    count: u64,
    zero_count: u64,
    zero_threshold: u64,
    sum: u64,
    /// (negative, index) of each bucket that is not empty.
    buckets: BTreeMap<(bool, i32), u64>,
    custom_values: Vec<u64>,
}

/// An exemplar: its series and time, bits of its value, its own labels.
pub type Exemplar = (Key, u64, Labels);

/// Bits of a float, all NaNs alike.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

/// (negative, index) and count of the buckets that are not empty.
fn buckets(
    negative: bool,
    spans: impl Iterator<Item = (i32, u32)>,
    counts: impl Iterator<Item = u64>,
) -> impl Iterator<Item = ((bool, i32), u64)> {
    let mut next = 0i32;
    let indexes = spans.flat_map(move |(offset, length)| {
        let first = next.wrapping_add(offset);
        next = first.wrapping_add(length as i32);
        (0..length as i32).map(move |i| (negative, first.wrapping_add(i)))
    });
    // Bits of 0.0 are 0.
    indexes.zip(counts).filter(|(_, count)| *count != 0)
}

/// Counts from the differences between them.
fn running(deltas: impl Iterator<Item = i64>) -> impl Iterator<Item = u64> {
    deltas.scan(0i64, |count, delta| {
        *count = count.wrapping_add(delta);
        Some(*count as u64)
    })
}

impl Histogram {
    /// As remote read returns it.
    pub fn held(from: &v1::Histogram) -> Self {
        let float = matches!(from.count, Some(Count::CountFloat(_)));
        let side = |negative, spans: &[BucketSpan], deltas: &[i64], counts: &[f64]| {
            let spans = spans.iter().map(|span| (span.offset, span.length));
            let counts: Vec<u64> = match float {
                true => counts.iter().copied().map(bits).collect(),
                false => running(deltas.iter().copied()).collect(),
            };
            buckets(negative, spans, counts.into_iter()).collect::<BTreeMap<_, _>>()
        };
        let mut all = side(true, &from.negative_spans, &from.negative_deltas, &from.negative_counts);
        all.extend(side(false, &from.positive_spans, &from.positive_deltas, &from.positive_counts));
        Self {
            float,
            schema: from.schema,
            count: match from.count {
                Some(Count::CountInt(count)) => count,
                Some(Count::CountFloat(count)) => bits(count),
                None => 0,
            },
            zero_count: match from.zero_count {
                Some(ZeroCount::ZeroCountInt(count)) => count,
                Some(ZeroCount::ZeroCountFloat(count)) => bits(count),
                None => 0,
            },
            zero_threshold: bits(from.zero_threshold),
            sum: bits(from.sum),
            buckets: all,
            custom_values: from.custom_values.iter().copied().map(bits).collect(),
        }
    }

    /// Whether it says where its custom buckets end.
    pub fn has_borders(&self) -> bool {
        !self.custom_values.is_empty()
    }

    /// Whether its custom buckets end there.
    pub fn is_of(&self, borders: &[f64]) -> bool {
        self.custom_values.iter().copied().eq(borders.iter().copied().map(bits))
    }

    /// Forgets where its custom buckets end.
    pub fn forget_borders(&mut self) {
        self.custom_values.clear();
    }

    /// As a row of [`HISTOGRAMS`], from its fourth column on.
    fn stored(row: &[Value]) -> Result<Self> {
        let [float, schema, count_int, zero_count_int, count, zero_count, zero_threshold, sum, custom, sides @ ..] =
            row
        else {
            bail!("{} columns", row.len())
        };
        let float = float.as_bool().context("is_float")?;
        let counted = |integer: &Value, text: &Value| match float {
            true => double(text),
            false => integer.as_u64().context("an integer count"),
        };
        let mut all = BTreeMap::new();
        for (negative, side) in [true, false].into_iter().zip(sides.chunks(3)) {
            let [spans, deltas, counts] = side else { bail!("a side of {} columns", side.len()) };
            let spans = items(spans).iter().map(|span| {
                let number = |name: &str| span[name].as_i64().with_context(|| format!("{name} of a span"));
                Ok((number("offset")? as i32, number("length")? as u32))
            });
            let spans: Vec<(i32, u32)> = spans.collect::<Result<_>>()?;
            let counts: Vec<u64> = match float {
                true => items(counts).iter().map(double).collect::<Result<_>>()?,
                false => {
                    let deltas = items(deltas).iter().map(|delta| delta.as_i64().context("a delta"));
                    running(deltas.collect::<Result<Vec<_>>>()?.into_iter()).collect()
                }
            };
            all.extend(buckets(negative, spans.into_iter(), counts.into_iter()));
        }
        Ok(Self {
            float,
            schema: schema.as_i64().context("schema")? as i32,
            count: counted(count_int, count)?,
            zero_count: counted(zero_count_int, zero_count)?,
            zero_threshold: double(zero_threshold)?,
            sum: double(sum)?,
            buckets: all,
            custom_values: items(custom).iter().map(double).collect::<Result<_>>()?,
        })
    }
}

/// The items of a list; none of NULL.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Bits of a float that was asked for as text.
fn double(value: &Value) -> Result<u64> {
    let text = value.as_str().with_context(|| format!("{value} for a float as text"))?;
    Ok(bits(text.parse::<f64>().with_context(|| text.to_owned())?))
}

fn labels_of(map: &Value) -> Result<Labels> {
    let map = map.as_object().with_context(|| format!("{map} for labels"))?;
    let mut labels: Labels =
        map.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    labels.sort();
    Ok(labels)
}

fn key_of(ts: &Value, metric: &Value, labels: &Value) -> Result<Key> {
    let mut labels = labels_of(labels)?;
    labels.push(("__name__".to_owned(), metric.as_str().context("metric")?.to_owned()));
    labels.sort();
    Ok((labels, ts.as_i64().context("ts")?))
}

/// Every native histogram that a server returns.
///
/// # Errors
/// When it does not answer with such rows.
pub fn stored_histograms(client: &Client, url: &str) -> Result<Vec<(Key, Histogram)>> {
    let one = |row: &Vec<Value>| {
        let [ts, metric, labels, rest @ ..] = row.as_slice() else { bail!("{row:?}") };
        Ok((key_of(ts, metric, labels)?, Histogram::stored(rest).with_context(|| format!("{row:?}"))?))
    };
    client.sql(url, HISTOGRAMS)?.iter().map(one).collect()
}

/// Every exemplar that a server returns.
///
/// # Errors
/// When it does not answer with such rows.
pub fn stored_exemplars(client: &Client, url: &str) -> Result<Vec<(Exemplar, ())>> {
    let one = |row: &Vec<Value>| {
        let [ts, metric, labels, value, own] = row.as_slice() else { bail!("{row:?}") };
        Ok(((key_of(ts, metric, labels)?, double(value)?, labels_of(own)?), ()))
    };
    client.sql(url, EXEMPLARS)?.iter().map(one).collect()
}

/// The exemplars in an answer of `/api/v1/query_exemplars`.
///
/// # Errors
/// When it is none.
pub fn held_exemplars(answer: &Value) -> Result<BTreeMap<Exemplar, ()>> {
    let mut held = BTreeMap::new();
    for series in items(&answer["data"]) {
        let labels = labels_of(&series["seriesLabels"])?;
        for exemplar in items(&series["exemplars"]) {
            let seconds = exemplar["timestamp"].as_f64().context("timestamp")?;
            let ts = (seconds * 1000.0).round() as i64 * 1_000_000;
            held.insert(((labels.clone(), ts), double(&exemplar["value"])?, labels_of(&exemplar["labels"])?), ());
        }
    }
    Ok(held)
}

/// What is not the same in both, in words; nothing when all is, each once.
pub fn differences<K: Ord + Debug, T: PartialEq + Debug>(expected: &BTreeMap<K, T>, actual: &[(K, T)]) -> Vec<String> {
    let mut rest: BTreeMap<&K, &T> = expected.iter().collect();
    let mut found = Vec::new();
    for (key, value) in actual {
        match (rest.remove(key), expected.get(key)) {
            (Some(wanted), _) if wanted == value => {}
            (Some(wanted), _) => found.push(format!("differs: {key:?}: {wanted:?} became {value:?}")),
            (None, Some(_)) => found.push(format!("twice: {key:?}")),
            (None, None) => found.push(format!("extra: {key:?}: {value:?}")),
        }
    }
    found.extend(rest.into_iter().map(|(key, value)| format!("missing: {key:?}: {value:?}")));
    let all = found.len();
    found.truncate(EXAMPLES_MAX);
    if all > found.len() {
        found.push(format!("and {} more", all - EXAMPLES_MAX));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn span(offset: i32, length: u32) -> BucketSpan {
        BucketSpan { offset, length }
    }

    #[test]
    fn empty_buckets_and_the_layout_of_spans_do_not_matter_and_every_count_does() {
        let held = v1::Histogram {
            count: Some(Count::CountInt(9)),
            sum: 4.5,
            positive_spans: vec![span(1, 4)],
            positive_deltas: vec![3, -3, 0, 5],
            negative_spans: vec![span(-2, 1)],
            negative_deltas: vec![1],
            ..v1::Histogram::default()
        };
        let row = json!([
            false, 0, 9, 0, "9.0", "0.0", "0.0", "4.5", null,
            [{"offset": -2, "length": 1}], [1], null,
            [{"offset": 1, "length": 1}, {"offset": 2, "length": 1}], [3, 2], null
        ]);
        let row = row.as_array().unwrap();
        assert_eq!(Histogram::stored(row).unwrap(), Histogram::held(&held));
        for (at, other) in [(2, json!(8)), (7, json!("4.500000000000001")), (13, json!([3, 3])), (1, json!(1))] {
            let mut row = row.clone();
            row[at] = other;
            assert_ne!(Histogram::stored(&row).unwrap(), Histogram::held(&held), "column {at}");
        }
    }

    #[test]
    fn floats_are_compared_by_their_bits() {
        let held = v1::Histogram {
            count: Some(Count::CountFloat(0.1)),
            schema: CUSTOM_SCHEMA,
            sum: f64::from_bits(0x7ff0_0000_0000_0002),
            positive_spans: vec![span(0, 2)],
            positive_counts: vec![0.1, 0.0],
            custom_values: vec![2.5],
            ..v1::Histogram::default()
        };
        let row = json!([
            true, -53, null, null, "0.1", "0.0", "0.0", "NaN", ["2.5"],
            [], null, [], [{"offset": 0, "length": 1}], null, ["0.1"]
        ]);
        assert_eq!(Histogram::stored(row.as_array().unwrap()).unwrap(), Histogram::held(&held));
    }

    #[test]
    fn exemplars_are_read_to_the_millisecond() {
        let answer = json!({"data": [{
            "seriesLabels": {"job": "a", "__name__": "x"},
            "exemplars": [{"labels": {"trace_id": "é"}, "value": "0.1", "timestamp": 1600096945.479}],
        }]});
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let key = (vec![pair("__name__", "x"), pair("job", "a")], 1_600_096_945_479_000_000);
        let expected = BTreeMap::from([((key, 0.1f64.to_bits(), vec![pair("trace_id", "é")]), ())]);
        assert_eq!(held_exemplars(&answer).unwrap(), expected);
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let expected = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        assert!(differences(&expected, &[(3, 'c'), (1, 'a'), (2, 'b')]).is_empty());
        let found = differences(&expected, &[(1, 'a'), (1, 'a'), (2, 'x'), (4, 'd')]);
        let kinds: Vec<&str> = found.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(kinds, ["twice", "differs", "extra", "missing"]);
    }
}
