//! Answers as Prometheus writes them: numbers are strings, times are seconds. Everything is written into one buffer in place.
use std::io::Write as _;
use std::ops::Range;

use foretell_engine::LabelSet;
use foretell_query::promql::{Annotations, Answer, Bucket, Found, Histogram, Point, Row};
use serde::Serialize;

/// Warnings, and infos, of the evaluation that an answer carries; the rest is counted.
const ANNOTATIONS_MAX: usize = 10;

/// Text of a sample, of a bucket of a histogram, and of the labels of a series: most are shorter.
const POINT_BYTES: usize = 40;
const BUCKET_BYTES: usize = 48;
const LABELS_BYTES: usize = 256;

/// Texts of instants that are remembered, of so many bytes at most.
const INSTANTS_MAX: usize = 16 << 10;
const INSTANT_BYTES_MAX: usize = 16;

/// Whole numbers below are integers of 64 bits, each of them.
const WHOLE_MAX: f64 = (1i64 << 53) as f64;
/// Sizes of numbers that are not whole for which the JSON library writes no exponent.
const PLAIN: Range<f64> = 1e-4..1e15;

/// Room for the text of an answer beyond what its first series lets expect: one part in so many.
const ROOM_PART: usize = 16;

/// How long the text of `answer` is, unless labels are unusually long.
pub(super) fn size(answer: &Answer) -> usize {
    LABELS_BYTES + rows_of(answer).iter().map(row_size).sum::<usize>()
}

fn row_size(row: &Row) -> usize {
    let buckets = |histogram: &Histogram| histogram.negative.len() + 1 + histogram.positive.len();
    let buckets: usize = row.histograms.iter().map(|(_, histogram)| buckets(histogram)).sum();
    LABELS_BYTES + (row.points.len() + 2 * row.histograms.len()) * POINT_BYTES + buckets * BUCKET_BYTES
}

/// What stands around an answer: the annotations of its evaluation, and warnings of the request.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) annotations: &'a Annotations,
    pub(super) warnings: &'a [&'a str],
}

/// The series of an answer.
pub(super) fn rows_of(answer: &Answer) -> &[Row] {
    match answer {
        Answer::Scalar(_) | Answer::Text(..) => &[],
        Answer::Vector(rows) | Answer::Matrix(rows) => rows,
    }
}

/// Divides the first `rows_max` series of an answer into at most `count` pieces whose texts are about as long.
pub(super) fn pieces(answer: &Answer, rows_max: usize, count: usize) -> Vec<Range<usize>> {
    let rows = &rows_of(answer)[..rows_of(answer).len().min(rows_max)];
    let each = rows.iter().map(row_size).sum::<usize>().div_ceil(count.max(1)).max(1);
    let (mut pieces, mut from, mut size) = (Vec::new(), 0, 0);
    for (i, row) in rows.iter().enumerate() {
        size += row_size(row);
        if size >= each {
            pieces.push(from..i + 1);
            (from, size) = (i + 1, 0);
        }
    }
    if from < rows.len() || pieces.is_empty() {
        pieces.push(from..rows.len());
    }
    pieces
}

/// What series `piece` are in the envelope of a success, which has the first `rows` series: with its beginning and its end if they
/// are the first and the last ones.
pub(super) fn piece(answer: &Answer, piece: Range<usize>, rows: usize, around: Around<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(LABELS_BYTES);
    let (is_first, is_last) = (piece.start == 0, piece.end == rows);
    if is_first {
        out.extend_from_slice(br#"{"status":"success","data":{"resultType":""#);
    }
    match answer {
        Answer::Scalar(point) => {
            out.extend_from_slice(br#"scalar","result":"#);
            write_point(*point, &mut Instants::default(), &mut out);
        }
        Answer::Text(ts_ms, text) => {
            out.extend_from_slice(br#"string","result":["#);
            write_seconds(*ts_ms, &mut out);
            out.push(b',');
            write_text(text, &mut out);
            out.push(b']');
        }
        Answer::Vector(all) => {
            out.extend_from_slice(if is_first { br#"vector","result":["# } else { b"," });
            list(&all[piece], &mut out, |row, instants, out| match (row.points.first(), row.histograms.first()) {
                (_, Some((ts_ms, histogram))) => {
                    out.extend_from_slice(br#","histogram":"#);
                    write_histogram(*ts_ms, histogram, out);
                }
                (Some(point), None) => {
                    out.extend_from_slice(br#","value":"#);
                    write_point(*point, instants, out);
                }
                (None, None) => {}
            });
        }
        Answer::Matrix(all) => {
            out.extend_from_slice(if is_first { br#"matrix","result":["# } else { b"," });
            list(&all[piece], &mut out, |row, instants, out| {
                if let Some((first, others)) = row.points.split_first() {
                    out.extend_from_slice(br#","values":["#);
                    write_point(*first, instants, out);
                    for point in others {
                        out.push(b',');
                        write_point(*point, instants, out);
                    }
                    out.push(b']');
                }
                if !row.histograms.is_empty() {
                    out.extend_from_slice(br#","histograms":["#);
                    join(&row.histograms, out, |(ts_ms, histogram), out| write_histogram(*ts_ms, histogram, out));
                    out.push(b']');
                }
            });
        }
    }
    if !is_last {
        return out;
    }
    if matches!(answer, Answer::Vector(_) | Answer::Matrix(_)) {
        out.push(b']');
    }
    out.push(b'}');
    let Around { annotations, warnings } = around;
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

fn list(rows: &[Row], out: &mut Vec<u8>, values: impl Fn(&Row, &mut Instants, &mut Vec<u8>)) {
    let mut instants = Instants::default();
    let mut write = |row: &Row, out: &mut Vec<u8>| {
        out.extend_from_slice(br#"{"metric":"#);
        write_labels(&row.labels, out);
        instants.next = 0;
        values(row, &mut instants, out);
        out.push(b'}');
    };
    let Some((first, others)) = rows.split_first() else { return };
    let from = out.len();
    write(first, out);
    // As the first one is, so are the others most often: memory that is got but not used, or got again, costs its pages.
    let (written, size) = (out.len() - from, others.iter().map(row_size).sum::<usize>());
    let wanted = size.saturating_mul(written) / row_size(first);
    out.reserve((wanted + wanted / ROOM_PART).min(size));
    for row in others {
        out.push(b',');
        write(row, out);
    }
}

/// Labels as an object.
pub(super) fn write_labels(labels: &LabelSet, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter_bytes().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write_string(value, out);
    }
    out.push(b'}');
}

/// A string of UTF-8. Nearly all are written as they are.
fn write_string(text: &[u8], out: &mut Vec<u8>) {
    // Without a way out in the middle, so that several bytes are looked at at once.
    let is_plain = text.iter().fold(true, |plain, &b| plain & (b >= b' ') & (b != b'"') & (b != b'\\'));
    if is_plain {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        write_text(&String::from_utf8_lossy(text), out);
    }
}

/// Names and values as an object.
pub(super) fn write_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (name, value)) in pairs.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write_text(value, out);
    }
    out.push(b'}');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_json(text, out);
}

/// What the JSON library writes; it needs no memory of its own for numbers and strings.
fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Neither numbers and strings nor a buffer in memory can fail.
    let _ = serde_json::to_writer(out, value);
}

/// The texts of instants: those of one series are most often those of the next one, too.
#[derive(Default)]
struct Instants {
    /// Increasing.
    known: Vec<(i64, InstantText)>,
    /// The first one that may come next.
    next: usize,
}

/// A text, and its length.
type InstantText = ([u8; INSTANT_BYTES_MAX], usize);

impl Instants {
    /// As [`write_seconds`], of instants that increase within a series.
    fn write(&mut self, ts_ms: i64, out: &mut Vec<u8>) {
        if self.next == 0 {
            self.next = self.known.partition_point(|known| known.0 < ts_ms);
        }
        while self.known.get(self.next).is_some_and(|known| known.0 < ts_ms) {
            self.next += 1;
        }
        let from = out.len();
        match self.known.get(self.next) {
            Some((known, (text, len))) if *known == ts_ms => {
                // Of a length that the compiler knows.
                out.extend_from_slice(text);
                out.truncate(from + len);
            }
            other => {
                let is_newest = other.is_none();
                write_seconds(ts_ms, out);
                let text = &out[from..];
                if is_newest && self.known.len() < INSTANTS_MAX && text.len() <= INSTANT_BYTES_MAX {
                    let mut bytes = [0; INSTANT_BYTES_MAX];
                    bytes[..text.len()].copy_from_slice(text);
                    self.known.push((ts_ms, (bytes, text.len())));
                }
            }
        }
    }
}

fn write_point(point: Point, instants: &mut Instants, out: &mut Vec<u8>) {
    out.push(b'[');
    instants.write(point.ts_ms, out);
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
    if ts_ms < 0 {
        out.push(b'-');
    }
    let (seconds, ms) = (ts_ms.unsigned_abs() / 1000, (ts_ms.unsigned_abs() % 1000) as u16);
    write_json(&seconds, out);
    if ms > 0 {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms)]);
    }
}

/// The shortest decimal that reads back as the same bits; with an exponent only for the very small and the very large.
pub(super) fn write_number(value: f64, out: &mut Vec<u8>) {
    let size = value.abs();
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        out.extend_from_slice(exponent(value).as_bytes());
    } else {
        write_decimal(value, out);
    }
}

/// Without an exponent.
fn write_decimal(value: f64, out: &mut Vec<u8>) {
    // The most common, and fewer digits to find; minus zero is another number.
    if value.abs() < WHOLE_MAX && value as i64 as f64 == value && (value != 0.0 || value.is_sign_positive()) {
        write_json(&(value as i64), out);
        return;
    }
    let from = out.len();
    write_json(&value, out);
    if PLAIN.contains(&value.abs()) {
        return;
    }
    let text = &out[from..];
    if text.ends_with(b".0") {
        out.truncate(out.len() - 2);
    } else if text.contains(&b'e') {
        // The library uses exponents for less large and less small numbers than Prometheus does.
        out.truncate(from);
        let _ = write!(out, "{value}");
    }
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
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    const BARE: Around<'_> = Around { annotations: &NONE, warnings: &[] };
    const NONE: Annotations = Annotations { warnings: BTreeSet::new(), infos: BTreeSet::new() };

    /// In one piece.
    fn answer(answer: &Answer, rows_max: usize, around: Around<'_>) -> Vec<u8> {
        let rows = rows_of(answer).len().min(rows_max);
        piece(answer, 0..rows, rows, around)
    }

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
            (1e20, "100000000000000000000"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (1.25e-6, "0.00000125"),
            (0.1 + 0.2, "0.30000000000000004"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_number_without_an_exponent_is_the_shortest_that_reads_back() {
        let mut random = 1u64;
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Exponents of 2 from -19 to 69: from below 1e-6 to above 1e20, with either sign.
            let exponent = 1_023 - 19 + (random >> 20) % 88;
            let value = f64::from_bits((random & (1 << 63)) | exponent << 52 | (random >> 12));
            for value in [value, (value * 100.0).round() / 100.0] {
                let text = number(value);
                assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{text}");
                assert_eq!(text.len(), value.to_string().len(), "{text}");
            }
        }
        // In the middle between two that are as short, the even one, as in Go; Rust prints the other.
        assert_eq!(number(8_709_575_239_742_837.0 / 4.0), "2177393809935709.2");
    }

    #[test]
    fn times_are_seconds_with_their_milliseconds() {
        for (ts_ms, text) in
            [(0, "0"), (1_000, "1"), (1_001, "1.001"), (-1_500, "-1.500"), (1_700_000_000_020, "1700000000.020")]
        {
            let mut out = Vec::new();
            write_seconds(ts_ms, &mut out);
            assert_eq!(String::from_utf8(out).unwrap_or_default(), text);
        }
    }

    #[test]
    fn pieces_are_together_what_is_written_at_once_however_many_there_are() {
        let row = |k: i64| {
            // Some instants of the grid, a few others among them, and some beyond.
            let own = (0..40 + k).filter(|i| (i + k) % (1 + k % 5) == 0).map(|i| i * 1_500 + i64::from(i % 7 == k) * 3);
            let points = own.map(|ts_ms| Point { ts_ms, value: ts_ms as f64 / 7.0 }).collect();
            Row {
                labels: LabelSet::from_pairs([("k", "x".repeat(k as usize).as_str())]).unwrap(),
                points,
                histograms: Vec::new(),
            }
        };
        let answer_of = |rows: Vec<Row>| Answer::Matrix(rows);
        for rows in [0, 1, 2, 30] {
            let matrix = answer_of((0..rows).map(row).collect());
            let whole = answer(&matrix, usize::MAX, BARE);
            let parsed: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            let written: Vec<f64> = parsed["data"]["result"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|row| row["values"].as_array().unwrap())
                .map(|point| point[0].as_f64().unwrap())
                .collect();
            let expect: Vec<f64> =
                rows_of(&matrix).iter().flat_map(|row| &row.points).map(|point| point.ts_ms as f64 / 1e3).collect();
            assert_eq!(written, expect);
            for count in [1, 2, 3, 7, 100] {
                let pieces = pieces(&matrix, usize::MAX, count);
                assert!(pieces.len() <= count.min(rows_of(&matrix).len().max(1)), "{pieces:?}");
                let joined: Vec<u8> =
                    pieces.into_iter().flat_map(|own| piece(&matrix, own, rows as usize, BARE)).collect();
                assert_eq!(text(joined), text(whole.clone()), "{rows} rows, {count} pieces");
            }
        }
        let cut = answer_of((0..9).map(row).collect());
        let joined: Vec<u8> = pieces(&cut, 4, 2).into_iter().flat_map(|own| piece(&cut, own, 4, BARE)).collect();
        assert_eq!(text(joined), text(answer(&cut, 4, BARE)));
    }

    #[test]
    fn a_vector_has_the_envelope_that_grafana_expects() {
        let row = Row {
            labels: LabelSet::from_pairs([("__name__", "up"), ("job", "a\"b")]).unwrap_or_default(),
            points: vec![Point { ts_ms: 1_500, value: 1.0 }],
            histograms: Vec::new(),
        };
        assert_eq!(
            text(answer(&Answer::Vector(vec![row]), 1, BARE)),
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
        let vector = text(answer(&Answer::Vector(vec![row(1)]), usize::MAX, BARE));
        assert!(vector.contains(&format!(r#"{{"metric":{{}},"histogram":{want}}}"#)), "{vector}");
        let matrix = text(answer(&Answer::Matrix(vec![row(2)]), usize::MAX, BARE));
        assert!(matrix.contains(&format!(r#"{{"metric":{{}},"histograms":[{want},{want}]}}"#)), "{matrix}");
    }

    #[test]
    fn ten_annotations_of_a_kind_are_told_and_the_rest_is_counted() {
        let texts = |kind: &str, n: usize| (0..n).map(|i| format!("{kind} {i:02}")).collect();
        let annotations = Annotations { warnings: texts("w", 2), infos: texts("i", 12) };
        let around = Around { annotations: &annotations, warnings: &["cut off"] };
        let answer = answer(&Answer::Matrix(Vec::new()), usize::MAX, around);
        let value: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        assert_eq!(value["warnings"], serde_json::json!(["w 00", "w 01", "cut off"]));
        assert_eq!(value["infos"].as_array().map(Vec::len), Some(11));
        assert_eq!(value["infos"][10], "2 more info annotations omitted");
    }
}
