//! Seeded simulation: random operations (deletes and dropped partitions too), sizes, clock jumps, kills, power cuts and faults, against a
//! `BTreeMap`. The same seed is the same run, to the last call. At the end everything is flushed and merged, and
//! [`verify_with`] finds nothing. `FORETELL_SIM_SEEDS=10000` is the full form (`make sim`).
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foretell_engine::fs::{Failure, FaultPlan, Survival};
use foretell_engine::verify::{Progress, verify_with};
use foretell_engine::{Engine, Error, SeriesId, Snapshot, TimeRange, WriteBatch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::deletes::one_of;
use crate::records::{mirror, mirrored};
use crate::support::{HOUR, Replay, Store, all, labels, scan, seeds, side_by_side};

const OPERATIONS: u32 = 70;
const SERIES: u32 = 23;
const KEYS: u32 = 5;

/// Samples by series number and time; state by key.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
struct Contents {
    rows: BTreeMap<(u32, i64), u64>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A commit, in which what it deletes goes before what it writes, or a drop.
#[derive(Clone, Debug, Default)]
struct Change {
    /// What is before this is dropped.
    drops_before: Option<i64>,
    /// Numbers of series, and when.
    deletes: Option<(Vec<u32>, TimeRange)>,
    rows: Vec<(u32, i64, f64)>,
    state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Contents {
    fn with(&self, change: &Change) -> Self {
        let mut next = self.clone();
        if let Some(before) = change.drops_before {
            next.rows.retain(|&(_, ts), _| ts >= before);
        }
        if let Some((series, range)) = &change.deletes {
            next.rows.retain(|(n, ts), _| !series.contains(n) || !range.contains(*ts));
        }
        next.rows.extend(change.rows.iter().map(|&(n, ts, value)| ((n, ts), value.to_bits())));
        for (key, value) in &change.state {
            match value {
                Some(value) => drop(next.state.insert(key.clone(), value.clone())),
                None => drop(next.state.remove(key)),
            }
        }
        next
    }
}

/// What a new snapshot holds, with the series told by their labels.
fn contents(snapshot: &Snapshot) -> Contents {
    let series = snapshot.select(&all()).unwrap();
    let distinct: std::collections::BTreeSet<_> = series.iter().map(|series| &series.labels).collect();
    assert_eq!(distinct.len(), series.len(), "a series under two ids");
    contents_of(snapshot)
}

/// What a snapshot holds, which may know a dropped series and its successor.
fn contents_of(snapshot: &Snapshot) -> Contents {
    let mut numbers: BTreeMap<SeriesId, u32> = BTreeMap::new();
    for series in snapshot.select(&all()).unwrap() {
        let n = series.labels.iter().find(|label| label.0 == "n").unwrap().1.parse().unwrap();
        assert!(numbers.insert(series.id, n).is_none(), "an id twice");
    }
    let ids: Vec<SeriesId> = numbers.keys().copied().collect();
    let rows = scan(snapshot, &ids, TimeRange::ALL).unwrap();
    assert_eq!(mirrored(snapshot).unwrap(), rows, "records and samples are one");
    Contents {
        rows: rows.into_iter().map(|((id, ts), bits)| ((numbers[&id], ts), bits)).collect(),
        state: snapshot.state_prefix(b"").unwrap().into_iter().map(|(key, value)| (key, value.to_vec())).collect(),
    }
}

struct Simulation {
    rng: StdRng,
    store: Store,
    engine: Option<Engine>,
    /// Acknowledged.
    model: Contents,
    /// Sent and not acknowledged when a fault came.
    in_flight: Option<Change>,
    held: Vec<(Snapshot, Contents)>,
    /// Everything that happened.
    trace: DefaultHasher,
    /// The canary: this acknowledged commit is left out of the store.
    drop_commit: Option<u64>,
    commits: u64,
    /// Rows that rollups have answered for.
    rolled_up: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut simulation = Self {
            rng: StdRng::seed_from_u64(seed),
            store: Store::new(),
            engine: None,
            model: Contents::default(),
            in_flight: None,
            held: Vec::new(),
            trace: DefaultHasher::new(),
            drop_commit: None,
            commits: 0,
            rolled_up: 0,
        };
        simulation.resize();
        simulation.open();
        simulation
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Other sizes, as an operator may choose at any start.
    fn resize(&mut self) {
        let rng = &mut self.rng;
        let config = &mut self.store.config;
        config.memtable_run_rows = rng.random_range(1..60);
        config.wal_segment_bytes = rng.random_range(1..4000);
        config.memtable_bytes_max = rng.random_range(1000..200_000);
        config.memtable_total_bytes_max = rng.random_range(1..5) * config.memtable_bytes_max;
        config.feed_bytes_max = rng.random_range(1..20_000);
        let widths: &[u64] = [&[][..], &[3600], &[300, 1800]][config.memtable_bytes_max % 3];
        config.rollup_widths = widths.iter().map(|&seconds| std::time::Duration::from_secs(seconds)).collect();
    }

    /// Opens without faults and compares: what was acknowledged is there, what was in flight wholly or not at all.
    fn open(&mut self) {
        let engine = self.store.try_open().unwrap_or_else(|error| panic!("the store does not open: {error}"));
        let found = contents(&engine.snapshot());
        if let Some(change) = self.in_flight.take() {
            let with = self.model.with(&change);
            if found == with {
                self.model = with;
            }
        }
        assert_eq!(found, self.model, "after an open");
        self.sum_up(&engine);
        self.engine = Some(engine);
    }

    /// Its trace, and how many rows rollups answered for.
    fn run(mut self, operations: u32) -> (u64, u64) {
        for number in 0..operations {
            let what = self.step();
            // After a final fault the store is opened again.
            if self.engine().stats().poisoned || self.in_flight.is_some() {
                self.crash();
            }
            let found = contents(&self.engine().snapshot());
            assert_eq!(found, self.model, "after operation {number}, {what}");
            (number, what, found, self.store.fs.calls(), self.engine().stats().lsn.0).hash(&mut self.trace);
        }
        for (snapshot, then) in &self.held {
            assert_eq!(&contents_of(snapshot), then, "a held snapshot changed");
        }
        self.end_well();
        (self.trace.finish(), self.rolled_up)
    }

    /// Without faults: flushed, merged, stopped, read whole.
    fn end_well(&mut self) {
        self.store.fs.plan(FaultPlan::default());
        self.held.clear();
        let engine = self.engine.take().unwrap();
        engine.flush().unwrap();
        engine.compact().unwrap();
        assert_eq!(contents(&engine.snapshot()), self.model, "after a flush and a merge at the end");
        assert_eq!(engine.stats().tombstones, 0, "deletes are carried out");
        self.sum_up(&engine);
        engine.close().unwrap();
        drop(engine);
        let fs: Arc<dyn foretell_engine::fs::Fs> = Arc::new(self.store.fs.clone());
        let report = verify_with(Path::new("/store"), &fs, &Progress::default()).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }

    /// Sums over rollups, where there are some, are those of the rows.
    fn sum_up(&mut self, engine: &Engine) {
        let snapshot = engine.snapshot();
        let series: Vec<SeriesId> = snapshot.select(&all()).unwrap().iter().map(|series| series.id).collect();
        let statistics = foretell_engine::Statistics { sum: false, sketch: true, ..crate::aggregate::ALL };
        let (range, step_ns) = (TimeRange::ALL, Some(HOUR));
        let aggregate = foretell_engine::Aggregate { series: &series, groups: &[], range, step_ns, statistics };
        self.rolled_up += crate::aggregate::compare(&snapshot, &aggregate, 100, "sums").rolled_up;
    }

    fn step(&mut self) -> &'static str {
        match self.rng.random_range(0..100) {
            0..44 => self.write(),
            44..50 => self.delete(),
            50..60 => self.with_faults(|engine| drop(engine.flush()), "flush"),
            60..64 => self.with_faults(|engine| drop(engine.compact()), "compact"),
            64..66 => self.drop_partitions(),
            66..72 => {
                let seconds = self.rng.random_range(-3600..4 * 3600);
                self.store.clock.advance(seconds * 1_000_000_000);
                "clock jump"
            }
            72..77 => self.restart(true),
            77..82 => self.restart(false),
            82..92 => {
                self.plan();
                "fault to come"
            }
            92..96 => self.hold(),
            _ => {
                self.crash();
                "crash"
            }
        }
    }

    /// A fault a few calls ahead: one call fails, or the machine dies.
    fn plan(&mut self) {
        let at = self.store.fs.calls() + self.rng.random_range(0..12);
        let failure = [Failure::Io, Failure::NoSpace, Failure::ShortWrite][self.rng.random_range(0..3)];
        let fail_more = self.rng.random_range(0..3);
        let plan = FaultPlan { fail_more, ..FaultPlan::fault(at, failure) };
        let die_at = self.rng.random_bool(0.5).then_some(at);
        self.store.fs.plan(FaultPlan { die_at, ..plan });
    }

    fn write(&mut self) -> &'static str {
        let rng = &mut self.rng;
        let mut change = Change::default();
        for _ in 0..rng.random_range(0..30) {
            let hour = rng.random_range(-2..6) * HOUR;
            let ts = hour + rng.random_range(0..40) * (HOUR / 40) - rng.random_range(0..2);
            change.rows.push((rng.random_range(0..SERIES), ts, f64::from_bits(rng.random())));
        }
        for _ in 0..rng.random_range(0..3) {
            let value = rng.random_bool(0.7).then(|| vec![rng.random(); rng.random_range(0..9)]);
            change.state.push((rng.random_range(0..KEYS).to_string().into_bytes(), value));
        }
        self.commits += 1;
        let engine = self.engine.as_ref().unwrap();
        let mut batch = WriteBatch { state: change.state.clone(), ..WriteBatch::default() };
        for &(n, ts, value) in &change.rows {
            let metric = format!("m{}", n % 4);
            let id = engine.resolve(&labels(&[("__name__", &metric), ("n", &n.to_string())])).unwrap();
            batch.push(id, ts, value);
        }
        if self.drop_commit == Some(self.commits) {
            self.model = self.model.with(&change);
            return "write that the canary keeps back";
        }
        let samples = batch.series.iter().zip(&batch.ts).zip(&batch.values);
        let samples: Vec<_> = samples.map(|((&id, &ts), &value)| (id, ts, value)).collect();
        batch.records.push(mirror(&samples));
        let written = engine.write(batch).map(|handle| handle.wait());
        match written {
            Ok(committed) => {
                self.settle(change, committed.map(drop), ["write", "write without room", "write that failed"])
            }
            Err(_) => "write that was refused",
        }
    }

    fn delete(&mut self) -> &'static str {
        let rng = &mut self.rng;
        let series: Vec<u32> = (0..rng.random_range(1..6)).map(|_| rng.random_range(0..SERIES)).collect();
        let start = rng.random_range(-3..6) * HOUR + rng.random_range(0..40) * (HOUR / 40);
        let end = start + rng.random_range(0..3) * HOUR + rng.random_range(0..2);
        let deleted = self.engine().delete(&one_of(&series, start, end));
        let change = Change { deletes: Some((series, TimeRange { start, end })), ..Change::default() };
        self.settle(change, deleted.map(drop), ["delete", "delete without room", "delete that failed"])
    }

    fn drop_partitions(&mut self) -> &'static str {
        // Rows in memory would stay.
        if self.engine().flush().is_err() {
            return "drop after a flush that failed";
        }
        let before = self.rng.random_range(-2..5) * HOUR;
        let dropped = self.engine().drop_before(before);
        let change = Change { drops_before: Some(before), ..Change::default() };
        self.settle(change, dropped.map(drop), ["drop", "drop without room", "drop that failed"])
    }

    /// Takes note of how a commit ended: done, nothing done, unknown.
    fn settle(&mut self, change: Change, ended: Result<(), Error>, names: [&'static str; 3]) -> &'static str {
        match ended {
            Ok(()) => {
                self.model = self.model.with(&change);
                names[0]
            }
            Err(Error::DiskFull { .. } | Error::Limit(_)) => names[1],
            Err(_) => {
                self.in_flight = Some(change);
                names[2]
            }
        }
    }

    fn with_faults(&mut self, work: impl Fn(&Engine), what: &'static str) -> &'static str {
        work(self.engine());
        what
    }

    /// A clean stop, or none, and an open with other sizes.
    fn restart(&mut self, clean: bool) -> &'static str {
        let closed = !clean || self.engine().close().is_ok();
        self.held.clear();
        self.engine = None;
        if !closed {
            self.crash();
            return "stop that failed";
        }
        self.store.fs.kill();
        self.resize();
        self.open();
        if clean { "restart" } else { "end without a stop" }
    }

    /// A kill or a power cut, and perhaps one more while the store is being opened.
    fn crash(&mut self) {
        self.held.clear();
        // What is queued is decided before the power goes: the engine ends first, on a file system that takes nothing more.
        let survival = self.survival();
        self.store.fs.plan(FaultPlan::death(0, survival));
        self.engine = None;
        self.end(survival);
        self.resize();
        if self.rng.random_bool(0.4) {
            let survival = self.survival();
            let at = self.store.fs.calls() + self.rng.random_range(0..25);
            self.store.fs.plan(FaultPlan::death(at, survival));
            drop(self.store.try_open());
            self.end(survival);
        }
        self.open();
    }

    fn end(&mut self, survival: Survival) {
        if survival == Survival::All {
            self.store.fs.kill();
        } else {
            self.store.fs.power_cut();
        }
    }

    fn survival(&mut self) -> Survival {
        let seed = self.rng.random();
        match self.rng.random_range(0..6) {
            0 => Survival::Nothing,
            1 => Survival::Prefix(self.rng.random_range(0..100)),
            2 => Survival::Entries,
            3 => Survival::All,
            4 => Survival::Reordered(seed),
            _ => Survival::Torn(seed),
        }
    }

    fn hold(&mut self) -> &'static str {
        if self.held.len() < 4 {
            self.held.push((self.engine().snapshot(), self.model.clone()));
        }
        "hold"
    }
}

#[test]
fn random_lives_of_a_store_read_as_the_model() {
    let seeds = seeds("FORETELL_SIM_SEED", "FORETELL_SIM_SEEDS", 200);
    let rolled_up = AtomicU64::new(0);
    let count = side_by_side(seeds, |seed| {
        let _replay = Replay::of("FORETELL_SIM_SEED", seed, "sim::random_lives");
        rolled_up.fetch_add(Simulation::new(seed).run(OPERATIONS).1, Ordering::Relaxed);
        1
    });
    let rolled_up = rolled_up.into_inner();
    println!("{count} seeds of {OPERATIONS} operations, rollups answered for {rolled_up} rows");
    assert!(count < 100 || rolled_up > 0, "no rollup ever answered: nothing is proven of them");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 77] {
        let traces = [(); 2].map(|()| Simulation::new(seed).run(OPERATIONS));
        assert_eq!(traces[0], traces[1], "seed {seed}");
    }
    assert_ne!(Simulation::new(1).run(5), Simulation::new(2).run(5));
}

#[test]
fn the_harness_catches_a_commit_that_never_reached_the_store() {
    let mut simulation = Simulation::new(5);
    simulation.drop_commit = Some(4);
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.run(OPERATIONS)));
    assert!(lost.is_err());
}
