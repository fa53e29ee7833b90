//! The benchmarks. Each takes its parameters, prints a table and writes one JSON file.
pub mod abuse;
pub mod accuracy;
pub mod alerting;
pub mod churn;
pub mod continuous;
pub mod decode;
pub mod default_detector;
pub mod detect;
pub mod events;
pub mod ingest;
pub mod metrics;
pub mod outage;
pub mod promql;
pub mod recovery;
pub mod rollup;
pub mod scan;
pub mod score;
pub mod scorer;
pub mod size;
mod store;
pub mod templates;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use foretell_engine::{Engine, EngineConfig, LabelSet, SeriesId, WriteBatch};

use crate::process::{own_usage, thread_cpu};
use crate::workload::Fleet;
use crate::workload::encode::decode_labels;

/// Milliseconds since the epoch, now.
///
/// # Errors
/// When the clock stands before 1970.
pub fn now_ms() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64)
}

/// Start of data that covers the last `hours`, at a full minute.
///
/// # Errors
/// As [`now_ms`].
pub fn start_ms(hours: f64) -> Result<i64> {
    Ok((now_ms()? - (hours * 3_600_000.0) as i64 - 60_000) / 60_000 * 60_000)
}

/// Wall and CPU time of `work` in this process.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration, f64)> {
    let (begun, cpu) = (Instant::now(), own_usage()?.cpu_seconds);
    let done = work()?;
    Ok((done, begun.elapsed(), own_usage()?.cpu_seconds - cpu))
}

/// Runs `work` again and again for about `for_` of this thread's CPU time; returns (units done, CPU seconds) with units as
/// `work` counts them.
fn repeated(for_: Duration, mut work: impl FnMut() -> Result<u64>) -> Result<(u64, f64)> {
    work()?;
    let (begun, mut units) = (thread_cpu()?, 0);
    loop {
        units += work()?;
        let spent = thread_cpu()? - begun;
        if spent >= for_ {
            return Ok((units, spent.as_secs_f64()));
        }
    }
}

/// A store in `dir` that holds `rounds` scrapes of `fleet`, flushed and compacted.
fn filled_engine(dir: &Path, mut fleet: Fleet, rounds: u64) -> Result<(Engine, u64)> {
    let engine = Engine::open(EngineConfig::new(dir))?;
    let mut filler = Filler::default();
    for round in 0..rounds {
        filler.write(&engine, &mut fleet, round)?;
    }
    engine.flush()?;
    engine.compact()?;
    Ok((engine, filler.rows))
}

/// Writes scrapes into an engine, and remembers which series is which.
#[derive(Default)]
struct Filler {
    ids: HashMap<Box<[u8]>, SeriesId>,
    rows: u64,
}

impl Filler {
    /// Writes one scrape of every target of `fleet`.
    fn write(&mut self, engine: &Engine, fleet: &mut Fleet, round: u64) -> Result<()> {
        let mut batch = WriteBatch::default();
        let mut failure = None;
        fleet.scrape(round, |labels, ts_ms, value| {
            let id = match self.ids.get(labels) {
                Some(&id) => id,
                None => match resolve(engine, labels) {
                    Ok(id) => *self.ids.entry(labels.into()).or_insert(id),
                    Err(error) => {
                        failure = Some(error);
                        return;
                    }
                },
            };
            batch.push(id, ts_ms * 1_000_000, value);
        });
        failure.map_or(Ok(()), Err)?;
        self.rows += batch.len() as u64;
        engine.write(batch)?.wait()?;
        Ok(())
    }

    /// Writes one more sample of some series.
    fn write_one(&mut self, engine: &Engine, ts: i64) -> Result<()> {
        let Some((labels, _)) = self.ids.iter().next() else { return Ok(()) };
        let mut batch = WriteBatch::default();
        batch.push(resolve(engine, labels)?, ts, 1.0);
        self.rows += 1;
        engine.write(batch)?.wait()?;
        Ok(())
    }
}

fn resolve(engine: &Engine, labels: &[u8]) -> Result<SeriesId> {
    Ok(engine.resolve(&label_set(labels)?)?)
}

fn label_set(labels: &[u8]) -> Result<LabelSet> {
    let pairs = decode_labels(labels)?;
    Ok(LabelSet::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))?)
}
