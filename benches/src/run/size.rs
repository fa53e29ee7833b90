//! `size`: where the bytes of a stored sample are, after the flushes and after everything is merged.
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use foretell_engine::{Engine, EngineConfig, SegmentInfo};
use serde_json::json;

use super::{Filler, timed};
use crate::process::scratch_dir;
use crate::report::{Report, print};
use crate::workload::Kind;

/// Midnight, so that a day of data is one partition and every run stores the same bytes.
const START_MS: i64 = 1_699_920_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is stored
    #[arg(long, value_enum, default_value = "node")]
    pub workload: Kind,
    /// Series at a time
    #[arg(long, default_value_t = 10_000)]
    pub series: usize,
    /// Hours of data, at most 24
    #[arg(long, default_value_t = 6.0)]
    pub hours: f64,
    /// Minutes of data in a flush; a memtable lives for 30 unless it is full before
    #[arg(long, default_value_t = 30.0)]
    pub flush_minutes: f64,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What a store showed, flushed and merged.
pub(super) struct Measured {
    series: usize,
    samples: u64,
    /// Key, value and note, in the order in which they are reported.
    figures: Vec<(String, f64, String)>,
}

/// Runs it.
///
/// # Errors
/// When the store loses a row, or its files cannot be read.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let measured = measure(options)?;
    let mut report = Report::new(
        &format!("size-{}", serde_json::to_value(options.workload)?.as_str().unwrap_or_default()),
        json!({
            "workload": serde_json::to_value(options.workload)?, "series": measured.series, "hours": options.hours,
            "flush_minutes": options.flush_minutes, "seed": options.seed, "samples": measured.samples,
        }),
    );
    measured.describe("", &mut report);
    report.finish(results)?;
    Ok(())
}

/// Fills a store, and weighs it after the flushes and after the major merge.
///
/// # Errors
/// As [`run`].
pub(super) fn measure(options: &Options) -> Result<Measured> {
    ensure!(options.hours > 0.0 && options.hours <= 24.0, "a store of more than 0 and at most 24 hours can be weighed");
    let dir = scratch_dir("size")?;
    let mut fleet = options.workload.fleet(options.series, options.seed, START_MS);
    let (rounds, series) = (fleet.rounds(options.hours), fleet.series());
    let flush_rounds = fleet.rounds(options.flush_minutes / 60.0);
    print(&format!("storing {rounds} scrapes of {series} series, a flush each {flush_rounds}"));
    let config = EngineConfig { background: false, ..EngineConfig::new(dir.path()) };
    let engine = Engine::open(config.clone())?;
    let (mut filler, mut flush_cpu) = (Filler::default(), 0.0);
    for round in 0..rounds {
        filler.write(&engine, &mut fleet, round)?;
        if (round + 1) % flush_rounds == 0 || round + 1 == rounds {
            flush_cpu += timed(|| Ok(engine.flush()?))?.2;
        }
    }
    let rows = filler.rows;
    let mut measured = Measured { series, samples: rows, figures: Vec::new() };
    let segments = engine.snapshot().segments();
    engine.close()?;
    measured.weigh("flushed", dir.path(), &segments, rows)?;
    measured.add("flush_samples_per_cpu_second", rows as f64 / flush_cpu, "rows by the CPU time of the flushes");

    // A sample of the next day closes the partition: its segments are then merged to the last.
    let engine = Engine::open(config)?;
    filler.write_one(&engine, START_MS * 1_000_000 + DAY_NS)?;
    engine.flush()?;
    let (summary, _, cpu) = timed(|| Ok(engine.compact()?))?;
    let segments = engine.snapshot().segments();
    engine.close()?;
    measured.weigh("merged", dir.path(), &segments, rows + 1)?;
    measured.add("merge_samples_per_cpu_second", summary.rows as f64 / cpu, "rows written by the CPU time of merges");
    Ok(measured)
}

impl Measured {
    /// Adds all figures, their names beginning with `prefix`.
    pub(super) fn describe(&self, prefix: &str, report: &mut Report) {
        for (key, value, note) in &self.figures {
            report.figure(&format!("{prefix}{key}"), *value, note);
        }
    }

    fn add(&mut self, key: &str, value: f64, note: &str) {
        self.figures.push((key.to_owned(), value, note.to_owned()));
    }

    /// Adds the shares of a stopped store's directory.
    fn weigh(&mut self, state: &str, dir: &Path, segments: &[SegmentInfo], rows: u64) -> Result<()> {
        ensure!(segments.iter().map(|s| s.rows).sum::<u64>() == rows, "{rows} rows stored, not those of {segments:?}");
        let mut entries: BTreeMap<String, u64> = BTreeMap::new();
        add_files(dir, None, &mut entries)?;
        let total: u64 = entries.values().sum();
        let in_segments = entries.remove("segment").unwrap_or(0);
        let of = |f: fn(&SegmentInfo) -> u64| segments.iter().map(f).sum::<u64>();
        ensure!(of(|s| s.bytes) == in_segments, "{in_segments} bytes of segments on disk, not those of {segments:?}");
        let mut figure = |key: &str, bytes: u64, note: &str| {
            let key = if key.is_empty() { String::new() } else { format!("/{key}") };
            self.add(&format!("{state}_bytes_per_sample{key}"), bytes as f64 / rows as f64, note);
        };
        figure("", total, &format!("the whole directory of a stopped store, {} segments", segments.len()));
        figure("values", of(|s| s.value_bytes), "");
        figure("timestamps", of(|s| s.ts_bytes), "");
        figure("series_ids", of(|s| s.series_bytes), "which series a segment holds");
        figure("zone_maps", of(|s| s.rest_bytes), "and all else of a segment's header and footer");
        for (entry, bytes) in &entries {
            let note = match entry.as_str() {
                "series" => "label sets, once for a partition",
                "catalogue" => "label sets and postings, can be rebuilt",
                _ => "",
            };
            figure(entry, *bytes, note);
        }
        Ok(())
    }
}

/// Sums the files below `dir`: those of partitions by extension, all others by their entry of the store's directory.
fn add_files(dir: &Path, entry: Option<&str>, entries: &mut BTreeMap<String, u64>) -> Result<()> {
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        let entry = entry.unwrap_or(&name);
        if file.file_type()?.is_dir() {
            add_files(&file.path(), Some(entry), entries)?;
            continue;
        }
        let extension = file.path().extension().map(|e| e.to_string_lossy().into_owned());
        let key = extension.filter(|_| entry == "partitions").unwrap_or_else(|| entry.to_owned());
        *entries.entry(key).or_default() += file.metadata()?.len();
    }
    Ok(())
}
