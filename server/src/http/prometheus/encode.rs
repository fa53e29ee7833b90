//! Answers as Prometheus writes them: numbers are strings, times are seconds.
use foretell_engine::LabelSet;
use foretell_query::promql::{Answer, Found, Point, Row};

/// The envelope of a success.
pub(super) fn answer(answer: &Answer, warnings: &[&str]) -> Vec<u8> {
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
            list(rows, &mut out, |row, out| {
                out.extend_from_slice(br#","value":"#);
                write_point(row.points[0], out);
            });
            out.push(b']');
        }
        Answer::Matrix(rows) => {
            out.extend_from_slice(br#"matrix","result":["#);
            list(rows, &mut out, |row, out| {
                out.extend_from_slice(br#","values":["#);
                join(&row.points, out, |point, out| write_point(*point, out));
                out.push(b']');
            });
            out.push(b']');
        }
    }
    out.push(b'}');
    finish(out, warnings)
}

/// The envelope of names, values or label sets.
pub(super) fn found(found: &Found, warnings: &[&str]) -> Vec<u8> {
    let mut out = br#"{"status":"success","data":["#.to_vec();
    match found {
        Found::Texts(texts) => join(texts, &mut out, |text, out| write_text(text, out)),
        Found::Series(series) => join(series, &mut out, write_labels),
    }
    out.push(b']');
    finish(out, warnings)
}

fn finish(mut out: Vec<u8>, warnings: &[&str]) -> Vec<u8> {
    if !warnings.is_empty() {
        out.extend_from_slice(br#","warnings":"#);
        out.extend_from_slice(serde_json::json!(warnings).to_string().as_bytes());
    }
    out.push(b'}');
    out
}

fn join<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
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
fn write_labels(labels: &LabelSet, out: &mut Vec<u8>) {
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

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

fn write_point(point: Point, out: &mut Vec<u8>) {
    out.push(b'[');
    write_seconds(point.ts_ms, out);
    out.extend_from_slice(b",\"");
    write_number(point.value, out);
    out.extend_from_slice(b"\"]");
}

fn write_seconds(ts_ms: i64, out: &mut Vec<u8>) {
    let (sign, ms) = (if ts_ms < 0 { "-" } else { "" }, ts_ms.unsigned_abs());
    let text = match ms % 1000 {
        0 => format!("{sign}{}", ms / 1000),
        fraction => format!("{sign}{}.{fraction:03}", ms / 1000),
    };
    out.extend_from_slice(text.as_bytes());
}

/// The shortest decimal that reads back as the same bits; with an exponent only for the very small and the very large.
fn write_number(value: f64, out: &mut Vec<u8>) {
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
        };
        assert_eq!(
            String::from_utf8(answer(&Answer::Vector(vec![row]), &[])).unwrap_or_default(),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[1.500,"1"]}]}}"#
        );
    }
}
