//! Native histograms of test cases: from text, and into a store.
//!
//! `{{schema:0 count:4 sum:5 z_bucket:1 z_bucket_w:0.5 offset:1 buckets:[1 2] n_offset:0 n_buckets:[1] custom_values:[5 10]
//! counter_reset_hint:gauge}}`; what is left out is zero or empty.
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Float64Builder, Int32Array, Int32Builder, Int64Array, Int64Builder,
    ListBuilder, RecordBatch, StructBuilder, UInt32Builder, UInt64Array,
};
use foretell_engine::{Records, SeriesId};
use foretell_query::native;
use foretell_query::promql::{Histogram, ResetHint};

/// The histogram inside of `{{` and `}}`.
pub(super) fn parse(text: &str) -> Histogram {
    let inner = text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    let mut rest = inner.unwrap_or_else(|| panic!("no histogram: {text:?}")).trim();
    let mut histogram = Histogram::default();
    let (mut offset, mut n_offset) = (0, 0);
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (name, after) = rest.split_once(':').unwrap_or_else(|| panic!("no value: {rest:?}"));
        let end = if after.starts_with('[') { after.find(']').map(|at| at + 1) } else { after.find(' ') };
        let (value, after) = after.split_at(end.unwrap_or(after.len()));
        let numbers = || -> Vec<f64> {
            value.trim_matches(['[', ']']).split_whitespace().map(|number| number.parse().unwrap()).collect()
        };
        match name {
            "schema" => histogram.schema = value.parse().unwrap(),
            "count" => histogram.count = value.parse().unwrap(),
            "sum" => histogram.sum = value.parse().unwrap(),
            "z_bucket" => histogram.zero_count = value.parse().unwrap(),
            "z_bucket_w" => histogram.zero_threshold = value.parse().unwrap(),
            "offset" => offset = value.parse().unwrap(),
            "n_offset" => n_offset = value.parse().unwrap(),
            "buckets" => positive = numbers(),
            "n_buckets" => negative = numbers(),
            "custom_values" => histogram.custom = numbers().into(),
            "counter_reset_hint" => {
                histogram.reset_hint = match value {
                    "gauge" => ResetHint::Gauge,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    _ => ResetHint::Unknown,
                }
            }
            other => panic!("unknown part of a histogram: {other:?}"),
        }
        rest = after.trim();
    }
    let indexed = |offset: i32, counts: Vec<f64>| (offset..).zip(counts).collect();
    histogram.positive = indexed(offset, positive);
    histogram.negative = indexed(n_offset, negative);
    histogram
}

/// `start` and `times` times `step`, which has the same layout.
pub(super) fn plus(start: &Histogram, step: &Histogram, times: f64) -> Histogram {
    let side = |start: &[(i32, f64)], step: &[(i32, f64)]| {
        let mut buckets: BTreeMap<i32, f64> = start.iter().copied().collect();
        step.iter().for_each(|&(index, count)| *buckets.entry(index).or_default() += times * count);
        buckets.into_iter().collect()
    };
    Histogram {
        count: start.count + times * step.count,
        sum: start.sum + times * step.sum,
        zero_count: start.zero_count + times * step.zero_count,
        positive: side(&start.positive, &step.positive),
        negative: side(&start.negative, &step.negative),
        ..start.clone()
    }
}

/// Whether two histograms are the same but for rounding and empty buckets.
pub(super) fn same(a: &Histogram, b: &Histogram, near: impl Fn(f64, f64) -> bool) -> bool {
    let side = |a: &[(i32, f64)], b: &[(i32, f64)]| {
        let populated = |side: &[(i32, f64)]| -> Vec<(i32, f64)> {
            side.iter().copied().filter(|bucket| !near(1.0 + bucket.1, 1.0)).collect()
        };
        let (a, b) = (populated(a), populated(b));
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
    };
    a.schema == b.schema
        && a.custom == b.custom
        && near(a.count, b.count)
        && near(a.sum, b.sum)
        && near(1.0 + a.zero_count, 1.0 + b.zero_count)
        && near(a.zero_threshold, b.zero_threshold)
        && side(&a.positive, &b.positive)
        && side(&a.negative, &b.negative)
}

/// As the server writes them: with integers where all counts are whole, else with floats.
pub(super) fn records(rows: &[(SeriesId, i64, Histogram)]) -> Records {
    let float = |h: &Histogram| {
        let whole = |count: f64| count >= 0.0 && count.fract() == 0.0;
        let buckets = h.positive.iter().chain(&h.negative).map(|bucket| bucket.1);
        !buckets.chain([h.count, h.zero_count]).all(whole)
    };
    let histograms = || rows.iter().map(|(_, _, histogram)| histogram);
    let count = |h: &Histogram, count: f64| if float(h) { count.to_bits() } else { count as u64 };
    let hint = |h: &Histogram| match h.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    let mut sides: Vec<ArrayRef> = Vec::new();
    let negative = |h: &Histogram| h.negative.clone();
    let positive = |h: &Histogram| h.positive.clone();
    for side in [&negative as &dyn Fn(&Histogram) -> _, &positive] {
        let (mut spans, mut deltas, mut counts) = (
            ListBuilder::new(StructBuilder::new(
                native::span_fields(),
                vec![Box::new(Int32Builder::new()), Box::new(UInt32Builder::new())],
            )),
            ListBuilder::new(Int64Builder::new()),
            ListBuilder::new(Float64Builder::new()),
        );
        for histogram in histograms() {
            let (mut next, mut before) = (0, 0);
            for &(index, count) in side(histogram).iter() {
                // A span for each bucket is as good as longer ones.
                let span = spans.values();
                span.field_builder::<Int32Builder>(0).unwrap().append_value(index - next);
                span.field_builder::<UInt32Builder>(1).unwrap().append_value(1);
                span.append(true);
                next = index + 1;
                if float(histogram) {
                    counts.values().append_value(count);
                } else {
                    deltas.values().append_value(count as i64 - before);
                    before = count as i64;
                }
            }
            spans.append(true);
            deltas.append(!float(histogram));
            counts.append(float(histogram));
        }
        sides.push(Arc::new(spans.finish()));
        sides.push(Arc::new(deltas.finish()));
        sides.push(Arc::new(counts.finish()));
    }
    let mut custom = ListBuilder::new(Float64Builder::new());
    for histogram in histograms() {
        custom.values().append_slice(&histogram.custom);
        custom.append(histogram.schema == native::CUSTOM_SCHEMA);
    }
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(histograms().map(|h| h.schema))),
        Arc::new(Int32Array::from_iter_values(histograms().map(hint))),
        Arc::new(BooleanArray::from_iter(histograms().map(|h| Some(float(h))))),
        Arc::new(UInt64Array::from_iter_values(histograms().map(|h| count(h, h.count)))),
        Arc::new(UInt64Array::from_iter_values(histograms().map(|h| count(h, h.zero_count)))),
        Arc::new(Float64Array::from_iter_values(histograms().map(|h| h.zero_threshold))),
        Arc::new(Float64Array::from_iter_values(histograms().map(|h| h.sum))),
    ];
    columns.extend(sides);
    columns.push(Arc::new(custom.finish()));
    columns.push(Arc::new(Int64Array::from(vec![None; rows.len()])));
    Records {
        table: native::histogram_table().unwrap(),
        series: rows.iter().map(|row| row.0).collect(),
        ts: rows.iter().map(|row| row.1).collect(),
        columns: RecordBatch::try_new(native::histogram_schema(), columns).unwrap(),
    }
}
