//! Power cuts at every call of a scripted workload, in every way of losing what was not synced, and again during the
//! recovery. `FORETELL_CRASH_STRIDE=1 FORETELL_CRASH_SEEDS=16` is the full form (`make crashfs`).
use foretell_engine::fs::{FaultPlan, Survival};
use foretell_engine::{Engine, Error, SeriesId, WriteBatch};

use crate::support::{HOUR, Replay, Rows, Store, number, put, rows};

pub(crate) type Batch = Vec<(u32, i64, f64)>;
/// Batches of the script.
pub(crate) const STEPS: u32 = 14;

/// What a run acknowledged, and the one batch that was in flight when it died.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) acknowledged: Vec<Batch>,
    pub(crate) in_flight: Option<Batch>,
}

/// Small enough for every path: a log file for each few commits.
pub(crate) fn store() -> Store {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 200;
    store.config.memtable_run_rows = 5;
    store
}

/// Writes, flushes, restarts and compacts until the end or the first error.
fn work(store: &Store, told: &mut Told) -> foretell_engine::Result<()> {
    let mut engine = store.try_open()?;
    for step in 0..STEPS {
        append(&engine, told, step)?;
        if step % 3 == 2 {
            engine.flush()?;
        }
        if step == 7 {
            drop(engine);
            engine = store.try_open()?;
        }
        if step == 12 {
            engine.compact()?;
        }
    }
    engine.close()
}

/// The write of one step: new and known series, four partitions, overwrites, state.
pub(crate) fn append(engine: &Engine, told: &mut Told, step: u32) -> foretell_engine::Result<()> {
    let new: Batch = (0..3).map(|k| ((step + k) % 5, i64::from(step % 4) * HOUR, f64::from(step * 10 + k))).collect();
    told.in_flight = Some(new.clone());
    let mut batch = WriteBatch { state: vec![put("step", &step.to_string())], ..WriteBatch::default() };
    for &(n, ts, value) in &new {
        batch.push(resolve(engine, n)?, ts, value);
    }
    engine.write(batch)?.wait()?;
    told.acknowledged.push(new);
    told.in_flight = None;
    Ok(())
}

fn resolve(engine: &Engine, n: u32) -> foretell_engine::Result<SeriesId> {
    let number = n.to_string();
    engine.resolve(&crate::support::labels(&[("__name__", "m"), ("n", &number)]))
}

/// What the store must hold: without and with the batch in flight.
pub(crate) fn models(engine: &Engine, told: &Told) -> (Rows, Rows) {
    let model = |batches: &mut dyn Iterator<Item = &Batch>| -> Rows {
        let rows = batches.flatten();
        rows.map(|&(n, ts, value)| ((resolve(engine, n).unwrap(), ts), value.to_bits())).collect()
    };
    (model(&mut told.acknowledged.iter()), model(&mut told.acknowledged.iter().chain(&told.in_flight)))
}

/// Everything acknowledged is there; the batch in flight is there wholly or not at all; the store goes on working.
pub(crate) fn check(store: &Store, told: &Told) {
    let engine = store.try_open().unwrap_or_else(|error| panic!("the store does not open: {error}"));
    let found = rows(&engine.snapshot());
    let (without, with) = models(&engine, told);
    assert!(found == without || found == with, "{found:?} is neither {without:?} nor {with:?}");
    let steps = told.acknowledged.len() + usize::from(found == with && found != without);
    let state = engine.snapshot().state(b"step").map(|value| String::from_utf8(value.to_vec()).unwrap());
    assert_eq!(state, steps.checked_sub(1).map(|step| step.to_string()), "state and samples are one");
    let id = crate::support::series(&engine, 99);
    engine.write(crate::support::batch(&[(id, 0, 1.0)])).unwrap().wait().unwrap();
    engine.flush().unwrap();
    assert_eq!(rows(&engine.snapshot()).len(), found.len() + 1, "one more row after one more write");
}

/// Calls of a whole run, and of an open after it.
pub(crate) fn calls_of_a_whole_run() -> u64 {
    let store = store();
    let mut told = Told::default();
    work(&store, &mut told).unwrap();
    assert_eq!(told.acknowledged.len(), STEPS as usize);
    store.fs.calls()
}

/// The calls to die at: all, or every so-manieth, or the one that a replay asks for.
pub(crate) fn positions(calls: u64, stride: u64) -> impl Iterator<Item = u64> {
    let stride = number("FORETELL_CRASH_STRIDE", stride).max(1);
    let only = std::env::var("FORETELL_CRASH_ONLY").ok().and_then(|n| n.parse::<u64>().ok());
    (0..calls).filter(move |n| only.map_or(n % stride == 0, |only| *n == only))
}

/// Every way of losing what was not synced, with other draws at each position. The short form takes two of them, other ones
/// at each position.
fn survivals(position: u64) -> Vec<Survival> {
    let mut all = vec![Survival::Nothing, Survival::Prefix(13), Survival::Entries, Survival::All];
    let seeds = number("FORETELL_CRASH_SEEDS", 0);
    for seed in 0..seeds.max(1) {
        let seed = seed * 1_000_003 + position;
        all.extend([Survival::Reordered(seed), Survival::Torn(seed)]);
    }
    if seeds > 0 { all } else { vec![all[position as usize % 6], all[(position as usize + 3) % 6]] }
}

fn replay(die_at: u64, rest: String) -> Replay {
    Replay::of("FORETELL_CRASH_ONLY", die_at, &format!("crash # died at call {die_at}, {rest}"))
}

/// A store whose machine died at a call of the script.
fn died(die_at: u64, survival: Survival) -> (Store, Told) {
    let (store, mut told) = (store(), Told::default());
    store.fs.plan(FaultPlan::death(die_at, survival));
    let _died: Result<(), Error> = work(&store, &mut told);
    (store, told)
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    let calls = calls_of_a_whole_run();
    let mut cases = 0;
    for die_at in positions(calls, 1) {
        for survival in survivals(die_at) {
            let _replay = replay(die_at, format!("{survival:?}"));
            let (store, told) = died(die_at, survival);
            store.fs.power_cut();
            check(&store, &told);
            cases += 1;
        }
    }
    println!("{cases} power cuts over {calls} calls");
}

#[test]
fn a_second_power_cut_during_recovery_loses_nothing_either() {
    let calls = calls_of_a_whole_run();
    let mut cases = 0;
    for die_at in positions(calls, 17) {
        for (k, first) in survivals(die_at).into_iter().enumerate() {
            for again in 0.. {
                // The second cut forgets in another way than the first.
                let others = survivals(die_at + again);
                let second = others[(k + again as usize) % others.len()];
                let _replay = replay(die_at, format!("{first:?}, then {again} calls into recovery, {second:?}"));
                let (store, told) = died(die_at, first);
                store.fs.power_cut();
                store.fs.plan(FaultPlan::death(store.fs.calls() + again, second));
                let recovered = store.try_open().is_ok();
                store.fs.power_cut();
                check(&store, &told);
                cases += 1;
                if recovered {
                    break;
                }
            }
        }
    }
    println!("{cases} pairs of power cuts over {calls} calls");
}

#[test]
fn a_power_cut_after_a_kill_loses_nothing_that_the_kill_had_left() {
    // A killed process leaves bytes and entries that only the page cache holds; the next one builds upon them.
    let calls = calls_of_a_whole_run();
    let mut cases = 0;
    for die_at in positions(calls, 19) {
        for again in (0..).step_by(3) {
            for survival in survivals(die_at + again) {
                let _replay = replay(die_at, format!("killed, then a cut {again} calls later, {survival:?}"));
                let (store, mut told) = died(die_at, Survival::All);
                store.fs.kill();
                store.fs.plan(FaultPlan::death(store.fs.calls() + again, survival));
                let on = go_on(&store, &mut told);
                store.fs.power_cut();
                check(&store, &told);
                cases += 1;
                if on.is_ok() {
                    assert!(again > 10, "a run of {again} calls proves little");
                }
            }
            if again > 40 {
                break;
            }
        }
    }
    println!("{cases} power cuts after kills over {calls} calls");
}

/// Opens after a kill, finds what is there, writes and flushes.
fn go_on(store: &Store, told: &mut Told) -> foretell_engine::Result<()> {
    let engine = store.try_open()?;
    let (_, with) = models(&engine, told);
    // What a reader has seen since the kill must not go again.
    if rows(&engine.snapshot()) == with {
        told.acknowledged.extend(told.in_flight.take());
    } else {
        told.in_flight = None;
    }
    append(&engine, told, told.acknowledged.len() as u32)?;
    engine.flush()
}

#[test]
fn with_syncs_at_intervals_a_power_cut_leaves_a_prefix_and_the_store_opens() {
    let calls = {
        let (mut store, mut told) = (store(), Told::default());
        store.config.sync_every_commit = false;
        work(&store, &mut told).unwrap();
        store.fs.calls()
    };
    for die_at in positions(calls, 3) {
        for survival in survivals(die_at) {
            let _replay = replay(die_at, format!("syncs at intervals, {survival:?}"));
            let (mut store, mut told) = (store(), Told::default());
            store.config.sync_every_commit = false;
            store.fs.plan(FaultPlan::death(die_at, survival));
            let _died = work(&store, &mut told);
            store.fs.power_cut();
            let engine = store.try_open().unwrap_or_else(|error| panic!("the store does not open: {error}"));
            let found = rows(&engine.snapshot());
            told.acknowledged.extend(told.in_flight.take());
            let prefixes = (0..=told.acknowledged.len()).map(|n| {
                let acknowledged = told.acknowledged[..n].to_vec();
                models(&engine, &Told { acknowledged, in_flight: None }).0
            });
            assert!(prefixes.into_iter().any(|prefix| prefix == found), "{found:?} is no prefix of what was written");
        }
    }
}

#[test]
fn the_harness_catches_a_log_that_is_not_synced() {
    // The canary: with acknowledgements before the sync, some cut must lose an acknowledged batch.
    let (mut store, mut told) = (store(), Told::default());
    store.config.sync_every_commit = false;
    store.fs.plan(FaultPlan::death(60, Survival::Nothing));
    let _died = work(&store, &mut told);
    store.fs.power_cut();
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&store, &told)));
    assert!(lost.is_err());
}
