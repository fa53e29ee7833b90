//! Models: detectors that are learnt from the rows of a query, kept in versions, watched, and taken back when they are bad.
//!
//! ```text
//!  CREATE / RETRAIN ── query ─> training ─> version n ──────┐
//!                                                           v
//!  journal: which version scores from when on <── rule <── watch <── new rows, once a second
//!     │                                                     │
//!     v                                                     v
//!  model_scores('m'), model_score(…) OVER                sys.anomalies <── LABEL ANOMALY ──> boundary in the journal
//! ```
//! | module | owns |
//! |---|---|
//! | [`statement`] | CREATE, RETRAIN, ALTER, SHOW, DESCRIBE, DROP, LABEL |
//! | [`definition`] | what is stored, and under which keys |
//! | [`training`] | from rows to the detectors of a version |
//! | [`lane`] | one series under the eyes of champion, fallback and challenger |
//! | [`watch`] | a model at work, and what the rule says of it |
//! | [`rows`] | the statements that ask for a model's rows, and what becomes of them |
//! | [`run`] | the statements, over a database |
//! | [`follow`] | the steps of watching, over a database |
//! | [`judge`], [`score`] | a model as judge of any rows: for detectors, and as a window function |
//! | [`form`] | `model_scores('m')` as a subquery |
//! | [`list`] | `sys.models`, `sys.model_versions`, `sys.model_health`, `sys.anomalies` |
//!
//! Invariants: a version never changes; the journal only grows at its end, by phases that begin after every row that was
//! watched; so the score of a row is given once and stays.
pub(crate) mod definition;
mod follow;
pub(crate) mod form;
pub(crate) mod judge;
mod lane;
pub(crate) mod list;
mod rows;
mod run;
pub(crate) mod score;
pub(crate) mod statement;
mod training;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foretell_engine::{Engine, Snapshot, WriteBatch};
use parking_lot::RwLock;

use crate::error::{Error, ErrorKind, Result};
use definition::{
    ANOMALIES, Anomaly, DEFINITIONS, Definition, Journal, Version, anomaly_key, definition_key, detectors_of,
    detectors_prefix, journal_key, version_key, versions_prefix,
};
use watch::{Records, Watch};

/// Models there may be.
const MODELS_MAX: usize = 64;
/// Versions of a model that are kept; of rows that older ones judged there is no score any more.
const VERSIONS_KEPT: usize = 4;
/// Anomalies that are kept, the newest.
const ANOMALIES_KEPT: usize = 100_000;
/// Phases of a journal that are kept, the newest.
const PHASES_KEPT: usize = 256;
/// Keys of state in one record.
const RECORD_KEYS: usize = 4_096;

/// Every model of a store.
pub(crate) struct Models {
    engine: Engine,
    models: RwLock<BTreeMap<String, Arc<Model>>>,
    /// One CREATE, RETRAIN, DROP or LABEL at a time.
    changing: tokio::sync::Mutex<()>,
    next_anomaly: AtomicU64,
    counts: Counts,
}

/// What has been done since the start.
#[derive(Debug, Default)]
struct Counts {
    rows: AtomicU64,
    anomalies: AtomicU64,
    trained: AtomicU64,
    promoted: AtomicU64,
    rolled_back: AtomicU64,
    failures: AtomicU64,
}

/// Numbers about models, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelStats {
    /// Models there are.
    pub models: u64,
    /// Versions of them that are kept.
    pub versions: u64,
    /// Bytes of their detectors.
    pub bytes: u64,
    /// Rows that were watched since the start.
    pub rows: u64,
    /// Anomalies that were stored since the start.
    pub anomalies: u64,
    /// Versions that were trained since the start.
    pub trained: u64,
    /// Promotions since the start.
    pub promoted: u64,
    /// Rollbacks since the start.
    pub rolled_back: u64,
    /// Steps that failed since the start.
    pub failures: u64,
}

/// One model.
struct Model {
    definition: Definition,
    known: RwLock<Known>,
    /// Whoever holds it is the only one who watches rows or adds to the journal.
    watch: tokio::sync::Mutex<Option<Watch>>,
}

/// What is known of a model, as others see it.
#[derive(Clone, Default)]
struct Known {
    versions: BTreeMap<u32, Version>,
    journal: Arc<Journal>,
    records: Records,
    error: Option<String>,
    /// The newest commit that was looked at.
    seen: u64,
}

impl Models {
    /// The models of a store.
    ///
    /// # Errors
    /// `Internal` when what is stored of them is damaged.
    pub(crate) fn open(engine: Engine) -> Result<Self> {
        let snapshot = engine.snapshot();
        let mut models = BTreeMap::new();
        for (_, bytes) in snapshot.state_prefix(DEFINITIONS)? {
            let definition = Definition::decode(&bytes)?;
            let known = Known::stored(&snapshot, &definition.name)?;
            models.insert(definition.name.clone(), Arc::new(Model::new(definition, known)));
        }
        let newest = match snapshot.state_keys(ANOMALIES).last() {
            Some(newest) => snapshot.state(newest)?.map(|bytes| Anomaly::decode(&bytes)).transpose()?,
            None => None,
        };
        let next_anomaly = AtomicU64::new(newest.map_or(1, |anomaly| anomaly.id + 1));
        let (changing, counts) = Default::default();
        Ok(Self { engine, models: RwLock::new(models), changing, next_anomaly, counts })
    }

    fn all(&self) -> Vec<Arc<Model>> {
        self.models.read().values().cloned().collect()
    }

    fn find(&self, name: &str) -> Result<Arc<Model>> {
        let models = self.models.read();
        models.get(name).cloned().ok_or_else(|| missing(name, models.keys().map(String::as_str)))
    }

    /// Numbers of now.
    pub(crate) fn stats(&self) -> ModelStats {
        let mut stats = ModelStats::default();
        for model in self.all() {
            let known = model.known.read();
            stats.models += 1;
            stats.versions += known.versions.len() as u64;
            stats.bytes += known.versions.values().map(|version| version.bytes).sum::<u64>();
        }
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { rows, anomalies, trained, promoted, rolled_back, failures } = &self.counts;
        (stats.rows, stats.anomalies, stats.trained) = (read(rows), read(anomalies), read(trained));
        (stats.promoted, stats.rolled_back, stats.failures) = (read(promoted), read(rolled_back), read(failures));
        stats
    }

    /// Writes state and waits until it is on stable storage.
    fn write(&self, state: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<()> {
        let written = self.engine.write(WriteBatch { state, ..WriteBatch::default() }).and_then(|handle| handle.wait());
        written.map(drop).map_err(|error| Error::from_engine(&error))
    }

    /// Deletes every key under `prefix`.
    fn clear(&self, prefix: &[u8]) -> Result<()> {
        let keys: Vec<_> = self.engine.snapshot().state_keys(prefix).into_iter().map(|key| (key, None)).collect();
        keys.chunks(RECORD_KEYS).try_for_each(|keys| self.write(keys.to_vec()))
    }

    /// Stores a version: its detectors first, then that it is there together with `journal`, and `definition` when it is new.
    fn store_version(
        &self,
        name: &str,
        version: &Version,
        detectors: Vec<(Vec<u8>, Vec<u8>)>,
        journal: &Journal,
        definition: Option<&Definition>,
    ) -> Result<()> {
        let prefix = detectors_of(name, version.number);
        // left by a kill before the version was there
        self.clear(&prefix)?;
        for some in detectors.chunks(RECORD_KEYS) {
            let place = |(key, state): &(Vec<u8>, Vec<u8>)| ([&prefix[..], key].concat(), Some(state.clone()));
            self.write(some.iter().map(place).collect())?;
        }
        let mut state = vec![
            (version_key(name, version.number), Some(version.encode())),
            (journal_key(name), Some(journal.encode())),
        ];
        state.extend(definition.map(|definition| (definition_key(name), Some(definition.encode()))));
        self.write(state)
    }

    /// Deletes everything stored of a model but its anomalies.
    fn delete(&self, name: &str) -> Result<()> {
        // without its definition it is gone, whatever happens then
        self.write(vec![(definition_key(name), None), (journal_key(name), None)])?;
        self.clear(&versions_prefix(name))?;
        self.clear(&detectors_prefix(name))
    }

    /// Gives anomalies their ids; the second list is of those that are too old to be kept.
    fn number(&self, anomalies: &mut [Anomaly], snapshot: &Snapshot) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut state = Vec::with_capacity(anomalies.len());
        for anomaly in anomalies.iter_mut() {
            anomaly.id = self.next_anomaly.fetch_add(1, Ordering::Relaxed);
            state.push((anomaly_key(anomaly.id), Some(anomaly.encode())));
        }
        let oldest = self.next_anomaly.load(Ordering::Relaxed).saturating_sub(ANOMALIES_KEPT as u64);
        if !anomalies.is_empty() && snapshot.has_state(&anomaly_key(oldest.saturating_sub(1))) {
            let kept = anomaly_key(oldest);
            let old = snapshot.state_keys(ANOMALIES).into_iter();
            state.extend(old.take_while(|key| *key < kept).map(|key| (key, None)));
        }
        state
    }
}

impl Model {
    fn new(definition: Definition, known: Known) -> Self {
        Self { definition, known: RwLock::new(known), watch: tokio::sync::Mutex::new(None) }
    }
}

impl Known {
    fn stored(snapshot: &Snapshot, name: &str) -> Result<Self> {
        let mut versions = BTreeMap::new();
        for (_, bytes) in snapshot.state_prefix(&versions_prefix(name))? {
            let version = Version::decode(&bytes)?;
            versions.insert(version.number, version);
        }
        let journal = snapshot.state(&journal_key(name))?.map(|bytes| Journal::decode(&bytes)).transpose()?;
        Ok(Self { versions, journal: Arc::new(journal.unwrap_or_default()), ..Self::default() })
    }

    /// The numbers of versions that nothing needs any more, oldest first, and the journal without them.
    fn outdated(&self, journal: &Journal) -> (Vec<u32>, Journal) {
        let excess = self.versions.len().saturating_sub(VERSIONS_KEPT);
        let needed = journal.phases.last().map(|phase| phase.roles()).unwrap_or_default();
        let old: Vec<u32> =
            self.versions.keys().copied().filter(|version| !needed.contains(&Some(*version))).take(excess).collect();
        let journal = journal.without(&old, PHASES_KEPT);
        (old, journal)
    }
}

fn missing<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.take(10).collect();
    let known = if known.is_empty() { "there is none yet".to_owned() } else { known.join(", ") };
    Error::new(ErrorKind::NotFound, format!("there is no model {name}: SHOW MODELS lists all ({known})"))
}

/// An error that says whose it is.
fn of_model(name: &str, error: Error) -> Error {
    Error::new(error.kind, format!("model {name}: {}", error.message))
}

impl Counts {
    fn add(count: &AtomicU64, n: u64) {
        count.fetch_add(n, Ordering::Relaxed);
    }
}
