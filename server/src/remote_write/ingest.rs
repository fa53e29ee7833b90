//! Keys to series ids, columns to one batch.
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::{Engine, Error as EngineError, Lsn, Records, SeriesId, WriteBatch};
use parking_lot::Mutex;

use super::decode::{DecodeError, DecodeLimits, Decoder, Protocol};
use super::fault::{Fault, Report};
use super::labels::{self, LabelLimits};
use super::metadata::MetadataCache;
use super::records::{self, Resolved};
use super::request::DecodedRequest;
use super::rows::Rows;

/// Why nothing of a request could be stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The request.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A request on its way to a commit.
#[derive(Debug)]
pub struct Prepared {
    /// What to commit.
    pub batch: WriteBatch,
    /// What is in it, and what had to be left out.
    pub report: Report,
    /// Descriptions that the commit makes durable.
    pub(crate) described: Vec<(u128, u128)>,
}

/// A decoder with the scratch that resolving needs.
#[derive(Debug)]
pub struct Worker {
    decoder: Decoder,
    labels: LabelLimits,
    metadata: Arc<MetadataCache>,
    ids: Vec<SeriesId>,
}

impl Worker {
    /// A worker; `seed` must be the same for all workers of one engine.
    pub fn new(seed: u64, limits: DecodeLimits, labels: LabelLimits) -> Self {
        Self::sharing(Arc::default(), seed, limits, labels)
    }

    /// A worker that shares what is known about stored metadata with others of the same engine.
    fn sharing(metadata: Arc<MetadataCache>, seed: u64, limits: DecodeLimits, labels: LabelLimits) -> Self {
        Self { decoder: Decoder::new(seed, limits), labels, metadata, ids: Vec::new() }
    }

    /// Decodes `snappy_body` and resolves its series: a batch to commit and what had to be left out of it.
    ///
    /// # Errors
    /// When the engine has no room, which is asked first, when the request is malformed, or the engine cannot resolve now:
    /// nothing may be acknowledged.
    pub fn batch(
        &mut self,
        engine: &Engine,
        protocol: Protocol,
        snappy_body: &[u8],
        ts_ms_max: i64,
    ) -> Result<Prepared, IngestError> {
        engine.ensure_room()?;
        self.decoder.accept_from_ms(oldest_accepted_ms(engine));
        self.decoder.accept_until_ms(ts_ms_max);
        self.decoder.decode(protocol, snappy_body)?;
        self.prepare(engine)
    }

    /// As [`Worker::batch`], of the rows that `fill` makes of something else. `point` is what its sender calls its points.
    ///
    /// # Errors
    /// As [`Worker::batch`], or those of `fill`.
    pub(crate) fn rows(
        &mut self,
        engine: &Engine,
        now_ns: i64,
        future_max: Duration,
        point: &'static str,
        fill: impl FnOnce(&mut Rows<'_>) -> Result<(), DecodeError>,
    ) -> Result<Prepared, IngestError> {
        engine.ensure_room()?;
        let latest = now_ns.saturating_add(i64::try_from(future_max.as_nanos()).unwrap_or(i64::MAX));
        fill(&mut self.decoder.rows(engine.oldest_accepted_ns()..=latest, now_ns, point))?;
        self.prepare(engine)
    }

    /// The batch of what was decoded last.
    fn prepare(&mut self, engine: &Engine) -> Result<Prepared, IngestError> {
        let request = self.decoder.request();
        let (mut batch, mut report) = resolve(engine, request, &self.labels, &mut self.ids)?;
        let changes = self.metadata.changes(engine, request);
        batch.state = changes.state;
        report.metadata_stored = batch.state.len() as u64;
        report.metadata_ignored = changes.ignored;
        Ok(Prepared { batch, report, described: changes.hashes })
    }
}

/// The first whole millisecond that the retention keeps.
fn oldest_accepted_ms(engine: &Engine) -> i64 {
    let ns = engine.oldest_accepted_ns();
    ns.div_euclid(1_000_000) + i64::from(ns.rem_euclid(1_000_000) > 0)
}

/// Unknown series that are decoded and resolved at a time: what they hold meanwhile is bounded, whatever the request.
const NEW_AT_ONCE: usize = 1024;

/// Resolves the series of `request` and moves its columns into a batch, without the series that were refused.
///
/// # Errors
/// When the engine cannot resolve now.
pub fn resolve(
    engine: &Engine,
    request: &mut DecodedRequest,
    limits: &LabelLimits,
    ids: &mut Vec<SeriesId>,
) -> Result<(WriteBatch, Report), EngineError> {
    let unknown = engine.lookup(&request.keys, ids);
    let (mut limited, mut refused, mut new_bytes) = (false, Vec::new(), 0);
    for part in unknown.chunks(NEW_AT_ONCE) {
        for (i, fault) in resolve_new(engine, request, part, limits, &mut new_bytes, ids)? {
            limited |= matches!(fault, Fault::SeriesLimit(_) | Fault::NewLabelBytes(_));
            if request.faults.first().is_none() {
                let place = format!("{}series {}", request.origins.place(i), labels::render(request.labels(i)));
                request.faults.note(fault, || place);
            }
            refused.push(i);
        }
    }
    let mut batch = request.take_columns();
    if !refused.is_empty() {
        request.origins.refuse(&refused);
        request.faults.samples_dropped += drop_runs(&mut batch, &mut request.runs, &refused);
    }
    batch.series.reserve_exact(batch.ts.len());
    for (&id, &run) in ids.iter().zip(&request.runs) {
        batch.series.extend(std::iter::repeat_n(id, run as usize));
    }
    let resolved = Resolved { ids, refused: &refused };
    let histograms = records::histograms(&request.histograms, resolved)?;
    let exemplars = records::exemplars(&request.exemplars, resolved)?;
    let rows = |records: &Option<Records>| records.as_ref().map_or(0, Records::len) as u64;
    let (histograms_stored, exemplars_stored) = (rows(&histograms), rows(&exemplars));
    request.faults.histograms_dropped += request.histograms.len() as u64 - histograms_stored;
    request.faults.exemplars_dropped += request.exemplars.len() as u64 - exemplars_stored;
    batch.records = histograms.into_iter().chain(exemplars).map(Arc::new).collect();
    let report = Report {
        samples_stored: batch.len() as u64,
        histograms_stored,
        exemplars_stored,
        points_dropped: request.origins.dropped,
        pointless_stored: request.origins.pointless(&request.runs),
        point: request.origins.word,
        faults: std::mem::take(&mut request.faults),
        limited,
        ..Report::default()
    };
    Ok((batch, report))
}

/// Sets the `ids` of the series `unknown`, whose keys the engine does not know; adds the bytes of their labels to `new_bytes`. Returns
/// what is wrong with the others, in order.
fn resolve_new(
    engine: &Engine,
    request: &DecodedRequest,
    unknown: &[usize],
    limits: &LabelLimits,
    new_bytes: &mut usize,
    ids: &mut [SeriesId],
) -> Result<Vec<(usize, Fault)>, EngineError> {
    let (mut places, mut series) = (Vec::with_capacity(unknown.len()), Vec::with_capacity(unknown.len()));
    let mut faults = Vec::new();
    for &i in unknown {
        match labels::decode(request.labels(i), limits) {
            Ok(labels) => {
                *new_bytes = new_bytes.saturating_add(labels.as_bytes().len());
                if *new_bytes > limits.new_bytes_max {
                    faults.push((i, Fault::NewLabelBytes(limits.new_bytes_max)));
                } else {
                    places.push(i);
                    series.push((request.keys[i], labels));
                }
            }
            Err(fault) => faults.push((i, Fault::Labels(fault))),
        }
    }
    for (i, id) in places.into_iter().zip(engine.resolve_keyed(&series)) {
        match id {
            Ok(id) => ids[i] = id,
            Err(EngineError::Invalid(why)) => faults.push((i, Fault::Labels(labels::LabelFault::Refused(why)))),
            Err(EngineError::Limit(why)) => faults.push((i, Fault::SeriesLimit(why))),
            Err(error) => return Err(error),
        }
    }
    faults.sort_unstable_by_key(|pair| pair.0);
    Ok(faults)
}

/// Closes the gaps that the rows of `refused` series leave; their runs become 0. Returns how many rows went.
fn drop_runs(batch: &mut WriteBatch, runs: &mut [u32], refused: &[usize]) -> u64 {
    let mut refused = refused.iter().copied().peekable();
    let (mut from, mut to) = (0, 0);
    for (i, run) in runs.iter_mut().enumerate() {
        let rows = *run as usize;
        if refused.next_if_eq(&i).is_some() {
            *run = 0;
        } else {
            batch.ts.copy_within(from..from + rows, to);
            batch.values.copy_within(from..from + rows, to);
            to += rows;
        }
        from += rows;
    }
    batch.ts.truncate(to);
    batch.values.truncate(to);
    (from - to) as u64
}

/// Workers between requests; bounded, so that a burst does not pin its buffers for ever.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    idle: Mutex<Vec<Worker>>,
    idle_max: usize,
    seed: u64,
    limits: DecodeLimits,
    labels: LabelLimits,
    metadata: Arc<MetadataCache>,
}

impl WorkerPool {
    pub(crate) fn new(seed: u64, limits: DecodeLimits, labels: LabelLimits) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { idle: Mutex::new(Vec::new()), idle_max: 2 * cores, seed, limits, labels, metadata: Arc::default() }
    }

    pub(crate) fn limits(&self) -> &DecodeLimits {
        &self.limits
    }

    /// Notes that commit `lsn` has made these descriptions durable.
    pub(crate) fn described(&self, hashes: &[(u128, u128)], lsn: Lsn) {
        if !hashes.is_empty() {
            self.metadata.remember(hashes, lsn);
        }
    }

    /// Runs `work` with a worker from the pool.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        let idle = self.idle.lock().pop();
        let mut worker = idle.unwrap_or_else(|| {
            Worker::sharing(Arc::clone(&self.metadata), self.seed, self.limits.clone(), self.labels.clone())
        });
        let answer = work(&mut worker);
        worker.decoder.shrink();
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max {
            idle.push(worker);
        }
        answer
    }
}

#[cfg(test)]
#[path = "ingest/tests.rs"]
mod tests;
