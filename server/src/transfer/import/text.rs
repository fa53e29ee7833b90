//! Rows of CSV, and of what promtool dumps.
//!
//! ```text
//!  promtool tsdb dump               {__name__="up", job="a"} 1 1785000000000         milliseconds
//!  promtool tsdb dump-openmetrics   up{job="a"} 1 1785000000.000                     seconds, and # EOF
//! ```
//! The two are told apart by the point in the time, which the second always has.
use std::io::BufRead;

use anyhow::{Context as _, anyhow, bail};

use super::super::columns::{Label, json_labels};
use super::super::label_text::{self, Op};
use super::super::layout::Layout;
use super::super::time_text::{self, Epoch};
use super::batch::{Batcher, Row};
use super::csv::{Record, Records};
use super::lines::Lines;

/// Sends the rows of a CSV file.
///
/// # Errors
/// With the line.
pub(super) fn read_csv<R: BufRead>(
    lines: Lines<R>,
    epoch: Option<Epoch>,
    batcher: &mut Batcher<'_>,
) -> anyhow::Result<()> {
    let mut records = Records::new(lines);
    let (mut header, mut record) = (Record::default(), Record::default());
    if !records.next(&mut header)? {
        bail!("empty: a CSV file begins with the names of its columns");
    }
    let names: Vec<&str> = header.fields().collect();
    let layout =
        Layout::of(&names, batcher.metric_is_named()).map_err(|error| anyhow!("line {}: {error}", header.line))?;
    while records.next(&mut record)? {
        csv_row(&record, &names, &layout, epoch, batcher).with_context(|| format!("line {}", record.line))?;
    }
    Ok(())
}

fn csv_row(
    record: &Record,
    names: &[&str],
    layout: &Layout,
    epoch: Option<Epoch>,
    batcher: &mut Batcher<'_>,
) -> anyhow::Result<()> {
    if record.len() != names.len() {
        bail!("{} fields, the header has {}", record.len(), names.len());
    }
    let field = |index: usize| record.field(index);
    let mut labels: Vec<Label<'_>> = layout.others.iter().map(|&i| (names[i].into(), field(i).into())).collect();
    if let Some(json) = layout.labels.map(field).filter(|json| !json.is_empty()) {
        json_labels(json, &mut labels).map_err(|error| anyhow!(error))?;
    }
    let ts = time_text::instant(field(layout.ts), epoch).map_err(|error| anyhow!(error))?;
    let value = time_text::value(field(layout.value)).map_err(|error| anyhow!(error))?;
    let metric = layout.metric.map(field).filter(|metric| !metric.is_empty());
    batcher.push(&Row { place: record.line, ts, value, metric }, &mut labels)
}

/// Sends the samples of a dump.
///
/// # Errors
/// With the line.
pub(super) fn read_promtool<R: BufRead>(mut lines: Lines<R>, batcher: &mut Batcher<'_>) -> anyhow::Result<()> {
    let mut raw = Vec::new();
    loop {
        raw.clear();
        if !lines.append(&mut raw)? {
            return Ok(());
        }
        let place = lines.number();
        let line = std::str::from_utf8(&raw).map_err(|_| anyhow!("line {place}: not UTF-8"))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (labels, ts, value) = sample(line).map_err(|error| anyhow!("line {place}: {error}"))?;
        let mut labels = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        batcher.push(&Row { place, ts, value, metric: None }, &mut labels).with_context(|| format!("line {place}"))?;
    }
}

/// Labels, time (ns) and value of a line.
type Sample = (Vec<(String, String)>, i64, f64);

fn sample(line: &str) -> Result<Sample, String> {
    let (conditions, rest) = label_text::parse(line)?;
    let rest = rest.trim_start();
    if rest.starts_with('{') {
        return Err("a native histogram, which cannot be imported; leave it out with promtool's --match".to_owned());
    }
    let mut words = rest.split_ascii_whitespace();
    let (Some(value), Some(time), None) = (words.next(), words.next(), words.next()) else {
        return Err(format!("expected a value and a time after the labels, found {rest:?}"));
    };
    let value = time_text::value(value)?;
    let ms = if time.contains('.') { time_text::seconds_as_ms(time) } else { whole_ms(line, time) };
    let ms = ms.ok_or_else(|| {
        format!("time {time:?} is neither milliseconds, as promtool tsdb dump writes, nor seconds.millis, as dump-openmetrics does")
    })?;
    let ts = ms.checked_mul(1_000_000).ok_or_else(|| format!("time {time} is outside the years 1677 to 2262"))?;
    let labels = conditions.into_iter().map(|(name, op, value)| match op {
        Op::Equal => Ok((name, value)),
        _ => Err(format!("label {name} is compared, not given")),
    });
    Ok((labels.collect::<Result<_, _>>()?, ts, value))
}

/// A time without a point counts milliseconds only where the line is one of `promtool tsdb dump`: elsewhere it would be seconds.
fn whole_ms(line: &str, time: &str) -> Option<i64> {
    line.starts_with('{').then(|| time.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match sample(line) {
            Ok((labels, ts, value)) => {
                let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {ts} {value:?}", labels.join(","))
            }
            Err(error) => error,
        }
    }

    /// Lines as promtool 3.5 writes them.
    #[test]
    fn both_dumps_of_promtool_are_read() {
        for (line, expected) in [
            (
                r#"{__name__="up", instance="127.0.0.1:9100", job="node"} 1 1785000000123"#,
                "__name__=up,instance=127.0.0.1:9100,job=node 1785000000123000000 1.0",
            ),
            (
                r#"{__name__="go_memstats_alloc_bytes_total"} 4.9128e+07 1785000000123"#,
                "__name__=go_memstats_alloc_bytes_total 1785000000123000000 49128000.0",
            ),
            (r#"{__name__="x", q="a \"b\"\n\\ }"} -Inf -5"#, "__name__=x,q=a \"b\"\n\\ } -5000000 -inf"),
            (
                r#"{__name__="a:b", code="5\"\\\nä", "odd-label"="x"} 1e+21 1785000000001"#,
                "__name__=a:b,code=5\"\\\nä,odd-label=x 1785000000001000000 1e21",
            ),
            (
                r#"a:b{code="5\"\\\nä",odd-label="x"} 1e+21 1785000000.001"#,
                "__name__=a:b,code=5\"\\\nä,odd-label=x 1785000000001000000 1e21",
            ),
            (r#"odd.name{x="y"} -0 1785000000.500"#, "__name__=odd.name,x=y 1785000000500000000 -0.0"),
            (r#"{__name__="x"} NaN 0"#, "__name__=x 0 NaN"),
            (r#"{"dotted.name", "dotted.label"="y"} 1 1"#, "__name__=dotted.name,dotted.label=y 1000000 1.0"),
            (
                r#"up{instance="127.0.0.1:9100",job="node"} 1 1785000000.123"#,
                "__name__=up,instance=127.0.0.1:9100,job=node 1785000000123000000 1.0",
            ),
            (r#"up{} +Inf -0.500"#, "__name__=up -500000000 inf"),
            (r#"{job="no name"} 0 0.001"#, "job=no name 1000000 0.0"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        assert_eq!(sample("{a=\"b\"} NaN 0").unwrap().2.to_bits(), 0x7ff8_0000_0000_0001);
    }

    #[test]
    fn other_lines_say_what_is_wrong() {
        for (line, expected) in [
            (r#"{__name__="h"} {count:3, sum:1.5, (0.5,1]:3} 1785000000123"#, "a native histogram"),
            (r#"up{job="a"} 1 1785000000"#, "neither milliseconds"),
            (r#"up{job="a"} 1"#, "a value and a time"),
            (r#"up{job="a"} 1 1.000 # {trace_id="x"} 1"#, "a value and a time"),
            (r#"up{job="a"} one 1.000"#, "not a number"),
            (r#"{job=~"a"} 1 1"#, "compared"),
            (r#"{job="a} 1 1"#, "does not end"),
            (r#"{a="b"} 1 9223372036854775807"#, "outside the years"),
        ] {
            assert!(shown(line).contains(expected), "{line}: {}", shown(line));
        }
    }
}
