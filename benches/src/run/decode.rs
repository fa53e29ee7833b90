//! `decode`: remote write bodies to columns, on one core: the server's own decoder for 1.0 and 2.0, and prost's for contrast.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use foretell_proto::prometheus::v1::WriteRequest;
use foretell_proto::prometheus::v2;
use foretell_server::remote_write::{DecodeLimits, Decoder, Protocol};
use prost::Message;
use serde_json::json;

use crate::report::Report;
use crate::workload::Kind;
use crate::workload::encode::BodyEncoder;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Samples in a body
    #[arg(long, default_value_t = 2_000)]
    pub samples_per_request: usize,
    /// Seconds for each measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A WriteRequest, not compressed, to decode as well if it is there
    #[arg(long, default_value = "../shared/data/remote_write/write_request.pb.data")]
    pub body: PathBuf,
}

/// A set of compressed bodies.
struct Bodies {
    name: String,
    bodies: Vec<Vec<u8>>,
    raw_bytes: usize,
}

/// Runs it.
///
/// # Errors
/// When a body cannot be decoded, or the two decoders disagree.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let mut report = Report::new(
        "decode",
        json!({"samples_per_request": options.samples_per_request, "seconds": options.seconds, "seed": options.seed}),
    );
    let mut sets = Vec::new();
    for (name, kind) in [("node", Kind::Node), ("tsbs", Kind::Tsbs)] {
        sets.push(generated(name, kind, options)?);
    }
    if options.body.exists() {
        let raw = std::fs::read(&options.body).with_context(|| options.body.display().to_string())?;
        let body = snap::raw::Encoder::new().compress_vec(&raw)?;
        sets.push(Bodies { name: "file".to_owned(), bodies: vec![body], raw_bytes: raw.len() });
    }
    for set in &sets {
        measure(set, Duration::from_secs_f64(options.seconds), &mut report)?;
    }
    report.finish(results)?;
    Ok(())
}

fn generated(name: &str, kind: Kind, options: &Options) -> Result<Bodies> {
    let mut set = Bodies { name: name.to_owned(), bodies: Vec::new(), raw_bytes: 0 };
    let mut fleet = kind.fleet(20_000, options.seed, 1_700_000_000_000);
    let mut encoder = BodyEncoder::default();
    for round in 0..5 {
        let mut failure = None;
        fleet.scrape(round, |labels, ts, value| {
            encoder.push(labels, ts, value);
            if encoder.samples() >= options.samples_per_request {
                set.raw_bytes += encoder.raw().len();
                match encoder.finish() {
                    Ok(body) => set.bodies.push(body.to_vec()),
                    Err(error) => failure = Some(error),
                }
            }
        });
        failure.map_or(Ok(()), Err)?;
    }
    Ok(set)
}

fn measure(set: &Bodies, for_: Duration, report: &mut Report) -> Result<()> {
    let mut decoder = Decoder::new(1, DecodeLimits::default());
    let (samples, seconds) = super::repeated(for_, || {
        let mut samples = 0;
        for body in &set.bodies {
            samples += decoder.decode(Protocol::V1, body)?.ts.len() as u64;
        }
        Ok(samples)
    })?;
    let mut scratch = Vec::new();
    let (unpacked, snappy_seconds) = super::repeated(for_, || {
        let mut bytes = 0;
        for body in &set.bodies {
            scratch.resize(snap::raw::decompress_len(body)?, 0);
            bytes += snap::raw::Decoder::new().decompress(body, &mut scratch)? as u64;
        }
        Ok(bytes)
    })?;
    let (by_prost, prost_seconds) = super::repeated(for_, || {
        let mut samples = 0;
        for body in &set.bodies {
            let raw = snap::raw::Decoder::new().decompress_vec(body)?;
            let request = WriteRequest::decode(&*raw)?;
            samples += request.timeseries.iter().map(|series| series.samples.len() as u64).sum::<u64>();
        }
        Ok(samples)
    })?;
    let once = |decoder: &mut Decoder| -> Result<(u64, u64)> {
        let (mut ours, mut theirs) = (0, 0);
        for body in &set.bodies {
            ours += decoder.decode(Protocol::V1, body)?.ts.len() as u64;
            let request = WriteRequest::decode(&*snap::raw::Decoder::new().decompress_vec(body)?)?;
            theirs += request.timeseries.iter().map(|series| series.samples.len() as u64).sum::<u64>();
        }
        Ok((ours, theirs))
    };
    let (ours, theirs) = once(&mut decoder)?;
    ensure!(ours == theirs, "{}: {ours} samples decoded, {theirs} by prost", set.name);
    let (rate, prost_rate) = (samples as f64 / seconds, by_prost as f64 / prost_seconds);
    let name = &set.name;
    report.figure(&format!("{name}_samples_per_second_core"), rate, "snappy body to columns and series keys");
    report.figure(&format!("{name}_prost_samples_per_second_core"), prost_rate, "the same with the generated types");
    report.figure(&format!("{name}_ratio"), rate / prost_rate, "ours to prost's");
    let raw_bytes_per_sample = set.raw_bytes as f64 / ours as f64;
    let snappy_rate = unpacked as f64 / raw_bytes_per_sample / snappy_seconds;
    report.figure(&format!("{name}_snappy_samples_per_second_core"), snappy_rate, "decompression alone: the ceiling");
    report.figure(&format!("{name}_raw_bytes_per_sample"), raw_bytes_per_sample, "before snappy");
    measure_v2(set, for_, ours, report)
}

/// The same samples in 2.0.
fn measure_v2(set: &Bodies, for_: Duration, expected: u64, report: &mut Report) -> Result<()> {
    let mut raw_bytes = 0;
    let mut bodies = Vec::with_capacity(set.bodies.len());
    for body in &set.bodies {
        let raw = in_v2(&snap::raw::Decoder::new().decompress_vec(body)?)?;
        raw_bytes += raw.len();
        bodies.push(snap::raw::Encoder::new().compress_vec(&raw)?);
    }
    let mut decoder = Decoder::new(1, DecodeLimits::default());
    let mut once = || -> Result<u64> {
        let mut samples = 0;
        for body in &bodies {
            samples += decoder.decode(Protocol::V2, body)?.ts.len() as u64;
        }
        Ok(samples)
    };
    let decoded = once()?;
    ensure!(decoded == expected, "{}: {decoded} samples decoded from 2.0, {expected} from 1.0", set.name);
    let (samples, seconds) = super::repeated(for_, once)?;
    let name = &set.name;
    report.figure(&format!("{name}_v2_samples_per_second_core"), samples as f64 / seconds, "remote write 2.0");
    report.figure(&format!("{name}_v2_raw_bytes_per_sample"), raw_bytes as f64 / decoded as f64, "before snappy");
    Ok(())
}

/// A 1.0 request as a 2.0 request.
fn in_v2(raw: &[u8]) -> Result<Vec<u8>> {
    let mut symbols = vec![String::new()];
    let mut places = HashMap::from([(String::new(), 0u32)]);
    let mut reference = |text: String| {
        *places.entry(text).or_insert_with_key(|text| {
            symbols.push(text.clone());
            symbols.len() as u32 - 1
        })
    };
    let mut timeseries = Vec::new();
    for series in WriteRequest::decode(raw)?.timeseries {
        let labels = series.labels.into_iter().flat_map(|label| [label.name, label.value]);
        let labels_refs = labels.map(&mut reference).collect();
        let samples = series.samples.iter().map(|sample| v2::Sample {
            value: sample.value,
            timestamp: sample.timestamp,
            start_timestamp: 0,
        });
        timeseries.push(v2::TimeSeries { labels_refs, samples: samples.collect(), ..v2::TimeSeries::default() });
    }
    Ok(v2::Request { symbols, timeseries }.encode_to_vec())
}
