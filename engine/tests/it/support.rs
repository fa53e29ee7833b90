//! A store in memory, and short ways to ask it.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foretell_engine::clock::{Clock, ManualClock};
use foretell_engine::fs::{FaultFs, FaultPlan, Fs, OsFs, Survival};
use foretell_engine::{
    Engine, EngineConfig, LabelSet, Lsn, Result, ScanBatch, Selector, SeriesId, Snapshot, TimeRange, WriteBatch,
};

pub(crate) const HOUR: i64 = 3_600_000_000_000;

/// Everything a snapshot holds: (series, time) -> bits of the value.
pub(crate) type Rows = BTreeMap<(SeriesId, i64), u64>;

pub(crate) struct Store {
    pub(crate) fs: FaultFs,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: EngineConfig,
}

impl Store {
    /// Small limits, so that little data reaches every path; no background threads.
    pub(crate) fn new() -> Self {
        let mut config = EngineConfig::new("/store");
        config.background = false;
        config.partition_width = Duration::from_secs(3600);
        config.memtable_run_rows = 40;
        config.group_commit_window = Duration::ZERO;
        Self { fs: FaultFs::new(), clock: Arc::new(ManualClock::new(0)), config }
    }
    /// A copy as it is now, with what of it is synced. It must not be open.
    pub(crate) fn twin(&self) -> Self {
        let clock = Arc::new(ManualClock::new(self.clock.now_ns()));
        Self { fs: self.fs.twin(), clock, config: self.config.clone() }
    }
    /// A copy as a power cut leaves it.
    pub(crate) fn cut(&self, survival: Survival) -> Self {
        let store = self.twin();
        store.fs.plan(FaultPlan { survival, ..FaultPlan::default() });
        store.fs.power_cut();
        store
    }
    pub(crate) fn try_open(&self) -> Result<Engine> {
        let (fs, clock) = (self.fs.clone(), Arc::clone(&self.clock));
        Engine::open_with(self.config.clone(), Arc::new(fs), clock)
    }
    pub(crate) fn open(&self) -> Engine {
        self.try_open().unwrap()
    }
    /// Paths of the log files, oldest first.
    pub(crate) fn wal(&self) -> Vec<std::path::PathBuf> {
        let dir = Path::new("/store/wal");
        self.fs.list(dir).unwrap().into_iter().map(|name| dir.join(name)).collect()
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::from_pairs(pairs.iter().copied()).unwrap()
}

/// The `n`-th test series.
pub(crate) fn series(engine: &Engine, n: u32) -> SeriesId {
    let number = n.to_string();
    let name = format!("m{}", n % 3);
    engine.resolve(&labels(&[("__name__", &name), ("n", &number), ("job", "test")])).unwrap()
}

pub(crate) fn batch(rows: &[(SeriesId, i64, f64)]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    rows.iter().for_each(|&(id, ts, value)| batch.push(id, ts, value));
    batch
}

pub(crate) fn write(engine: &Engine, rows: &[(SeriesId, i64, f64)]) -> Lsn {
    engine.write(batch(rows)).unwrap().wait().unwrap()
}

/// Lets so much time pass that no series is active any more.
pub(crate) fn forget_idle(store: &Store, engine: &Engine) {
    for _ in 0..2 {
        store.clock.advance(2 * HOUR);
        engine.write(WriteBatch::default()).unwrap().wait().unwrap();
        engine.flush().unwrap();
    }
    assert_eq!(engine.stats().active_series, 0);
}

pub(crate) fn put(key: &str, value: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.into(), Some(value.into()))
}

pub(crate) fn all() -> Selector {
    Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL }
}

/// Rows of `ids` in `range`.
pub(crate) fn scan(snapshot: &Snapshot, ids: &[SeriesId], range: TimeRange) -> Result<Rows> {
    let mut scan = snapshot.scan(ids, range, true, 17)?;
    let (mut rows, mut batch) = (Rows::new(), ScanBatch::default());
    while scan.next_batch(&mut batch)? {
        let mut at = 0;
        for &(index, n) in &batch.runs {
            for row in at..at + n as usize {
                let key = (ids[index as usize], batch.ts[row]);
                assert!(rows.last_key_value().is_none_or(|(last, _)| *last < key), "rows in order, each once");
                rows.insert(key, batch.values[row].to_bits());
            }
            at += n as usize;
        }
        assert_eq!(at, batch.ts.len());
    }
    Ok(rows)
}

/// Every row a selector can find.
pub(crate) fn rows(snapshot: &Snapshot) -> Rows {
    let ids: Vec<SeriesId> = snapshot.select(&all()).unwrap().iter().map(|series| series.id).collect();
    scan(snapshot, &ids, TimeRange::ALL).unwrap()
}

/// Every series as text, by id.
pub(crate) fn names(snapshot: &Snapshot) -> Vec<(SeriesId, String)> {
    snapshot.select(&all()).unwrap().into_iter().map(|series| (series.id, format!("{:?}", series.labels))).collect()
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// The one seed that the variable `only` names, or 0 up to the number in `count`.
pub(crate) fn seeds(only: &str, count: &str, default: u64) -> std::ops::Range<u64> {
    match std::env::var(only) {
        Ok(_) => number(only, 0)..number(only, 0) + 1,
        Err(_) => 0..number(count, default),
    }
}

/// Cases at once: the cores of a small machine.
const THREADS: usize = 2;

/// Does `work`, which answers how many cases it was, for each of `items`, several at a time, until one fails. All cases.
pub(crate) fn side_by_side<T: Send>(items: impl Iterator<Item = T> + Send, work: impl Fn(T) -> u64 + Sync) -> u64 {
    struct Watch<'a>(&'a AtomicBool);
    impl Drop for Watch<'_> {
        fn drop(&mut self) {
            self.0.fetch_or(std::thread::panicking(), Ordering::Relaxed);
        }
    }
    let (items, failed, cases) = (Mutex::new(items), AtomicBool::new(false), AtomicU64::new(0));
    let next = || items.lock().unwrap().next().filter(|_| !failed.load(Ordering::Relaxed));
    let worker = || {
        let _watch = Watch(&failed);
        while let Some(item) = next() {
            cases.fetch_add(work(item), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(worker))));
    cases.into_inner()
}

/// A directory for a store on the real file system: in memory, where the machine has room for it there, because what is in it
/// is not tested for what a disk does.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let roomy = OsFs.space(memory).is_ok_and(|space| space.free > 1 << 30);
    let dir = roomy.then(|| tempfile::tempdir_in(memory).ok()).flatten();
    dir.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// Says how to repeat a case, if the test fails while it is alive.
pub(crate) struct Replay(String);

impl Replay {
    pub(crate) fn of(variable: &str, value: u64, what: &str) -> Self {
        Self(format!("replay: {variable}={value} cargo test --release --locked --workspace --test engine {what}"))
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}
