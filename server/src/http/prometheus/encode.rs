//! Answers as Prometheus writes them: numbers are strings, times are seconds.
use foretell_engine::LabelSet;
use foretell_query::promql::{Annotations, Answer, Bucket, Found, Histogram, Point, Row};
use serde::Serialize;

/// Warnings, and infos, of the evaluation that an answer carries; the rest is counted.
const ANNOTATIONS_MAX: usize = 10;

/// The envelope of a success: with the annotations of the evaluation, and `warnings` of the request.
pub(super) fn answer(answer: &Answer, annotations: &Annotations, warnings: &[&str]) -> Vec<u8> {
    let mut out = br#"{"status":"success","data":{"resultType":""#.to_vec();
    match answer {
        Answer::Scalar(point) => {
            out.extend_from_slice(br#"scalar","result":"#);
            write_point(*point, &mut out);
        }
        Answer::Text(ts_ms, text) => {
            out.extend_from_slice(br#"string","result":["#);
            write_seconds(*ts_ms, &mut out);
            out.push(b',');
            write_text(text, &mut out);
            out.push(b']');
        }
        Answer::Vector(rows) => {
            out.extend_from_slice(br#"vector","result":["#);
            list(rows, &mut out, |row, out| match (row.points.first(), row.histograms.first()) {
                (_, Some((ts_ms, histogram))) => {
                    out.extend_from_slice(br#","histogram":"#);
                    write_histogram(*ts_ms, histogram, out);
                }
                (Some(point), None) => {
                    out.extend_from_slice(br#","value":"#);
                    write_point(*point, out);
                }
                (None, None) => {}
            });
            out.push(b']');
        }
        Answer::Matrix(rows) => {
            out.extend_from_slice(br#"matrix","result":["#);
            list(rows, &mut out, |row, out| {
                if !row.points.is_empty() {
                    out.extend_from_slice(br#","values":["#);
                    join(&row.points, out, |point, out| write_point(*point, out));
                    out.push(b']');
                }
                if !row.histograms.is_empty() {
                    out.extend_from_slice(br#","histograms":["#);
                    join(&row.histograms, out, |(ts_ms, histogram), out| write_histogram(*ts_ms, histogram, out));
                    out.push(b']');
                }
            });
            out.push(b']');
        }
    }
    out.push(b'}');
    let mut all = limited(annotations.warnings.iter(), "warning");
    all.extend(warnings.iter().map(|&text| text.to_owned()));
    finish(out, &all, &limited(annotations.infos.iter(), "info"))
}

/// The first of them, and how many more there are.
fn limited<'a>(texts: impl ExactSizeIterator<Item = &'a String>, kind: &str) -> Vec<String> {
    let more = texts.len().saturating_sub(ANNOTATIONS_MAX);
    let mut some: Vec<String> = texts.take(ANNOTATIONS_MAX).cloned().collect();
    if more > 0 {
        some.push(format!("{more} more {kind} annotations omitted"));
    }
    some
}

/// The envelope of names, values or label sets.
pub(super) fn found(found: &Found, warnings: &[&str]) -> Vec<u8> {
    let mut out = br#"{"status":"success","data":["#.to_vec();
    match found {
        Found::Texts(texts) => join(texts, &mut out, |text, out| write_text(text, out)),
        Found::Series(series) => join(series, &mut out, write_labels),
    }
    out.push(b']');
    finish(out, warnings, &[])
}

fn finish<T: Serialize>(mut out: Vec<u8>, warnings: &[T], infos: &[String]) -> Vec<u8> {
    if !warnings.is_empty() {
        out.extend_from_slice(br#","warnings":"#);
        out.extend_from_slice(serde_json::json!(warnings).to_string().as_bytes());
    }
    if !infos.is_empty() {
        out.extend_from_slice(br#","infos":"#);
        out.extend_from_slice(serde_json::json!(infos).to_string().as_bytes());
    }
    out.push(b'}');
    out
}

pub(super) fn join<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out);
    }
}

fn list(rows: &[Row], out: &mut Vec<u8>, values: impl Fn(&Row, &mut Vec<u8>)) {
    join(rows, out, |row, out| {
        out.extend_from_slice(br#"{"metric":"#);
        write_labels(&row.labels, out);
        values(row, out);
        out.push(b'}');
    });
}

/// Labels as an object.
pub(super) fn write_labels(labels: &LabelSet, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write_text(value, out);
    }
    out.push(b'}');
}

pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

fn write_point(point: Point, out: &mut Vec<u8>) {
    out.push(b'[');
    write_seconds(point.ts_ms, out);
    out.extend_from_slice(b",\"");
    write_number(point.value, out);
    out.extend_from_slice(b"\"]");
}

/// `[seconds, {"count":"…","sum":"…","buckets":[[borders, "lo", "hi", "count"], …]}]`, without empty buckets.
fn write_histogram(ts_ms: i64, histogram: &Histogram, out: &mut Vec<u8>) {
    out.push(b'[');
    write_seconds(ts_ms, out);
    out.extend_from_slice(br#",{"count":""#);
    write_number(histogram.count, out);
    out.extend_from_slice(br#"","sum":""#);
    write_number(histogram.sum, out);
    out.push(b'"');
    let buckets: Vec<Bucket> = histogram.buckets().filter(|bucket| bucket.count != 0.0).collect();
    if !buckets.is_empty() {
        out.extend_from_slice(br#","buckets":["#);
        join(&buckets, out, write_bucket);
        out.push(b']');
    }
    out.extend_from_slice(b"}]");
}

fn write_bucket(bucket: &Bucket, out: &mut Vec<u8>) {
    let borders: &[u8] = match (bucket.lower_inclusive, bucket.upper_inclusive) {
        (false, true) => b"0",
        (true, false) => b"1",
        (false, false) => b"2",
        (true, true) => b"3",
    };
    out.push(b'[');
    out.extend_from_slice(borders);
    for number in [bucket.lower, bucket.upper, bucket.count] {
        out.extend_from_slice(b",\"");
        write_number(number, out);
        out.push(b'"');
    }
    out.push(b']');
}

pub(super) fn write_seconds(ts_ms: i64, out: &mut Vec<u8>) {
    let (sign, ms) = (if ts_ms < 0 { "-" } else { "" }, ts_ms.unsigned_abs());
    let text = match ms % 1000 {
        0 => format!("{sign}{}", ms / 1000),
        fraction => format!("{sign}{}.{fraction:03}", ms / 1000),
    };
    out.extend_from_slice(text.as_bytes());
}

/// The shortest decimal that reads back as the same bits; with an exponent only for the very small and the very large.
pub(super) fn write_number(value: f64, out: &mut Vec<u8>) {
    let size = value.abs();
    let text = if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        exponent(value)
    } else {
        value.to_string()
    };
    out.extend_from_slice(text.as_bytes());
}

/// `1.5e-07`: a sign and at least two digits in the exponent.
pub(super) fn exponent(value: f64) -> String {
    let text = format!("{value:e}");
    let Some((mantissa, power)) = text.split_once('e') else { return text };
    let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn number(value: f64) -> String {
        let mut out = Vec::new();
        write_number(value, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn numbers_are_written_as_prometheus_writes_them() {
        let cases = [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (123_456_789_012.0, "123456789012"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (0.0, "0"),
            (-0.0, "-0"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_vector_has_the_envelope_that_grafana_expects() {
        let row = Row {
            labels: LabelSet::from_pairs([("__name__", "up"), ("job", "a\"b")]).unwrap_or_default(),
            points: vec![Point { ts_ms: 1_500, value: 1.0 }],
            histograms: Vec::new(),
        };
        assert_eq!(
            text(answer(&Answer::Vector(vec![row]), &Annotations::default(), &[])),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[1.500,"1"]}]}}"#
        );
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap_or_default()
    }

    #[test]
    fn a_native_histogram_has_count_sum_and_populated_buckets() {
        let histogram = Histogram {
            count: 4.0,
            sum: 2.5,
            zero_threshold: 0.001,
            zero_count: 1.0,
            negative: vec![(0, 1.0)],
            positive: vec![(0, 2.0), (1, 0.0)],
            ..Histogram::default()
        };
        let row = |at: usize| Row {
            labels: LabelSet::default(),
            points: Vec::new(),
            histograms: vec![(1000, Arc::new(histogram.clone())); at],
        };
        let want = r#"[1,{"count":"4","sum":"2.5","buckets":[[1,"-1","-0.5","1"],[3,"-0.001","0.001","1"],[0,"0.5","1","2"]]}]"#;
        let vector = text(answer(&Answer::Vector(vec![row(1)]), &Annotations::default(), &[]));
        assert!(vector.contains(&format!(r#"{{"metric":{{}},"histogram":{want}}}"#)), "{vector}");
        let matrix = text(answer(&Answer::Matrix(vec![row(2)]), &Annotations::default(), &[]));
        assert!(matrix.contains(&format!(r#"{{"metric":{{}},"histograms":[{want},{want}]}}"#)), "{matrix}");
    }

    #[test]
    fn ten_annotations_of_a_kind_are_told_and_the_rest_is_counted() {
        let texts = |kind: &str, n: usize| (0..n).map(|i| format!("{kind} {i:02}")).collect();
        let annotations = Annotations { warnings: texts("w", 2), infos: texts("i", 12) };
        let answer = answer(&Answer::Matrix(Vec::new()), &annotations, &["cut off"]);
        let value: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        assert_eq!(value["warnings"], serde_json::json!(["w 00", "w 01", "cut off"]));
        assert_eq!(value["infos"].as_array().map(Vec::len), Some(11));
        assert_eq!(value["infos"][10], "2 more info annotations omitted");
    }
}
