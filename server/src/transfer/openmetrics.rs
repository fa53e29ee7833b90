//! The text that `promtool tsdb dump-openmetrics` writes and `promtool tsdb create-blocks-from openmetrics` reads:
//! `name{label="value",…} VALUE SECONDS.MILLIS`, and `# EOF` at the end.
//!
//! It knows one NaN. Stale markers, which are NaNs of their own and end a series, are left out as promtool does, and counted.
use std::fmt::Write as _;

use foretell_proto::prometheus::STALE_NAN_BITS;

use super::columns::{Columns, Label};

const NS_PER_MS: i64 = 1_000_000;

/// Appends the rows of `columns`; returns how many stale markers were left out.
///
/// # Errors
/// Which row the format cannot hold.
pub(super) fn write(columns: &Columns, out: &mut String) -> Result<u64, String> {
    let mut stale = 0;
    let mut labels = Vec::new();
    for row in 0..columns.rows() {
        let (ts, value) = columns.sample(row)?;
        if value.to_bits() == STALE_NAN_BITS {
            stale += 1;
            continue;
        }
        labels.clear();
        columns.labels(row, &mut labels)?;
        let metric = columns.metric(row).unwrap_or_default();
        series(metric, &labels, out);
        if ts % NS_PER_MS != 0 {
            return Err(format!(
                "a sample of {metric} at {ts} ns has a part of a millisecond, which this text cannot hold"
            ));
        }
        let ms = ts / NS_PER_MS;
        let sign = if ms < 0 { "-" } else { "" };
        let (seconds, millis) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
        out.push(' ');
        number(value, out);
        let _ = writeln!(out, " {sign}{seconds}.{millis:03}");
    }
    Ok(stale)
}

/// The line that says that nothing is missing.
pub(super) const END: &str = "# EOF\n";

fn series(metric: &str, labels: &[Label<'_>], out: &mut String) {
    let plain = is_plain(metric, true);
    if plain {
        out.push_str(metric);
    }
    out.push('{');
    if !plain && !metric.is_empty() {
        quoted(metric, out);
    }
    for (name, value) in labels {
        if !out.ends_with('{') {
            out.push(',');
        }
        if is_plain(name, false) {
            out.push_str(name)
        } else {
            quoted(name, out)
        }
        out.push('=');
        quoted(value, out);
    }
    out.push('}');
}

/// Whether a name needs no quotes.
fn is_plain(name: &str, colons: bool) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || colons && c == ':')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || colons && byte == b':')
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' | '"' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn number(value: f64, out: &mut String) {
    let _ = match value {
        f64::INFINITY => write!(out, "+Inf"),
        f64::NEG_INFINITY => write!(out, "-Inf"),
        // The shortest text that reads back as the same number.
        value => write!(out, "{value:?}"),
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};

    use super::super::layout::Layout;
    use super::*;

    #[test]
    fn lines_are_those_that_promtool_reads() {
        let labels = r#"{"code":"5\"\\\nä","odd-label":"x"}"#;
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("ts", Arc::new(TimestampMillisecondArray::from(vec![1_785_000_000_001, -500, 0, 0]))),
            ("metric", Arc::new(StringArray::from(vec![Some("a:b"), Some("odd.name"), None, Some("gone")]))),
            ("labels", Arc::new(StringArray::from(vec![Some(labels), None, Some("{\"a\":\"b\"}"), None]))),
            ("value", Arc::new(Float64Array::from(vec![1e21, -0.0, f64::INFINITY, f64::from_bits(STALE_NAN_BITS)]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let layout = Layout::of(&["ts", "metric", "labels", "value"], false).unwrap();
        let mut text = String::new();
        let stale = write(&Columns::of(&batch, &layout, None).unwrap(), &mut text).unwrap();
        assert_eq!(stale, 1);
        assert_eq!(
            text,
            "a:b{code=\"5\\\"\\\\\\nä\",\"odd-label\"=\"x\"} 1e21 1785000000.001\n\
             {\"odd.name\"} -0.0 -0.500\n{a=\"b\"} +Inf 0.000\n"
        );
    }
}
