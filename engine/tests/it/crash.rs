//! Power cuts at every call of a scripted workload, and again during the recovery.
use foretell_engine::fs::FaultPlan;
use foretell_engine::{Engine, SeriesId, WriteBatch};

use crate::deletes::one_of;
use crate::support::{HOUR, Rows, Store, put, rows, series};

/// A commit of the workload.
#[derive(Clone, Debug)]
enum Act {
    Write(Vec<(u32, i64, f64)>),
    /// Series, first and last instant.
    Delete(u32, i64, i64),
}

/// What a run acknowledged, and the one commit that was in flight when it died.
#[derive(Default)]
struct Told {
    acknowledged: Vec<Act>,
    in_flight: Option<Act>,
}

impl Told {
    fn begin(&mut self, act: Act) {
        self.in_flight = Some(act);
    }
    fn end(&mut self) {
        self.acknowledged.extend(self.in_flight.take());
    }
}

fn store() -> Store {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 200;
    store.config.memtable_run_rows = 5;
    store
}

/// Writes, deletes, flushes and compacts until the end or the first error.
fn work(store: &Store, told: &mut Told) -> foretell_engine::Result<()> {
    let engine = store.try_open()?;
    for step in 0..14u32 {
        let new: Vec<(u32, i64, f64)> =
            (0..3).map(|k| ((step + k) % 5, i64::from(step % 4) * HOUR, f64::from(step * 10 + k))).collect();
        told.begin(Act::Write(new.clone()));
        let mut batch = WriteBatch { state: vec![put("step", &step.to_string())], ..WriteBatch::default() };
        for &(n, ts, value) in &new {
            batch.push(resolve(&engine, n)?, ts, value);
        }
        engine.write(batch)?.wait()?;
        told.end();
        if step % 3 == 2 {
            engine.flush()?;
        }
        // Between two flushes, right after one, and of rows that are only in memory.
        if step % 4 == 1 {
            let (n, end) = (step % 5, i64::from(step % 3) * HOUR);
            told.begin(Act::Delete(n, 0, end));
            engine.delete(&one_of(&[n], 0, end))?;
            told.end();
        }
        if step == 7 {
            engine.compact()?;
        }
        if step == 12 {
            engine.compact()?;
        }
    }
    engine.close()
}

fn resolve(engine: &Engine, n: u32) -> foretell_engine::Result<SeriesId> {
    let number = n.to_string();
    engine.resolve(&crate::support::labels(&[("__name__", "m"), ("n", &number)]))
}

/// Everything acknowledged is there; the batch in flight is there wholly or not at all.
fn check(store: &Store, told: &Told, what: &str) {
    let engine = store.try_open().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = rows(&engine.snapshot());
    let model = |acts: &mut dyn Iterator<Item = &Act>| -> Rows {
        let mut model = Rows::new();
        for act in acts {
            match act {
                Act::Write(rows) => model
                    .extend(rows.iter().map(|&(n, ts, value)| ((resolve(&engine, n).unwrap(), ts), value.to_bits()))),
                &Act::Delete(n, from, to) => {
                    let deleted = resolve(&engine, n).unwrap();
                    model.retain(|&(id, ts), _| id != deleted || ts < from || ts > to);
                }
            }
        }
        model
    };
    let without = model(&mut told.acknowledged.iter());
    let with = model(&mut told.acknowledged.iter().chain(&told.in_flight));
    assert!(found == without || found == with, "{what}: {found:?} is neither {without:?} nor {with:?}");
    let writes = told.acknowledged.iter().filter(|act| matches!(act, Act::Write(_))).count();
    let one_more = matches!(told.in_flight, Some(Act::Write(_))) && found == with && found != without;
    let steps = writes + usize::from(one_more);
    let state = engine.snapshot().state(b"step").map(|value| String::from_utf8(value.to_vec()).unwrap());
    assert_eq!(state, steps.checked_sub(1).map(|step| step.to_string()), "{what}: state and samples are one");
    // The store goes on working.
    let id = series(&engine, 99);
    engine.write(crate::support::batch(&[(id, 0, 1.0)])).unwrap().wait().unwrap();
    engine.flush().unwrap();
    engine.compact().unwrap();
    let mut now = rows(&engine.snapshot());
    assert!(now.remove(&(id, 0)).is_some() && now == found, "{what}: after a flush and a merge");
    assert_eq!(engine.stats().tombstones, 0, "{what}");
}

fn calls_of_a_whole_run() -> u64 {
    let store = store();
    let mut told = Told::default();
    work(&store, &mut told).unwrap();
    assert_eq!(told.acknowledged.len(), 14 + 4);
    store.fs.calls()
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    let calls = calls_of_a_whole_run();
    for keep_unsynced_bytes in [0, 13, usize::MAX / 2] {
        for die_at in 0..calls {
            let store = store();
            let mut told = Told::default();
            store.fs.plan(FaultPlan { die_at: Some(die_at), keep_unsynced_bytes, ..FaultPlan::default() });
            let _died = work(&store, &mut told);
            store.fs.power_cut();
            check(
                &store,
                &told,
                &format!("cut at call {die_at} of {calls}, {keep_unsynced_bytes} unsynced bytes kept"),
            );
        }
    }
}

#[test]
fn a_second_power_cut_during_recovery_loses_nothing_either() {
    let calls = calls_of_a_whole_run();
    for die_at in (0..calls).step_by(5) {
        for again in 0..12 {
            let store = store();
            let mut told = Told::default();
            store.fs.plan(FaultPlan { die_at: Some(die_at), keep_unsynced_bytes: 5, ..FaultPlan::default() });
            let _died = work(&store, &mut told);
            store.fs.power_cut();
            let at = store.fs.calls() + again;
            store.fs.plan(FaultPlan { die_at: Some(at), keep_unsynced_bytes: 1, ..FaultPlan::default() });
            drop(store.try_open());
            store.fs.power_cut();
            check(&store, &told, &format!("cuts at call {die_at} and {again} calls into recovery"));
        }
    }
}

#[test]
fn one_failed_call_never_makes_a_wrong_answer() {
    let calls = calls_of_a_whole_run();
    for fail_at in 0..calls {
        let store = store();
        let mut told = Told::default();
        store.fs.plan(FaultPlan { fail_at: Some(fail_at), ..FaultPlan::default() });
        let _failed = work(&store, &mut told);
        check(&store, &told, &format!("call {fail_at} of {calls} failed"));
    }
}

#[test]
fn the_harness_catches_a_log_that_is_not_synced() {
    // The canary: with acknowledgements before the sync, some cut must lose an acknowledged batch.
    let mut store = store();
    store.config.sync_every_commit = false;
    let mut told = Told::default();
    store.fs.plan(FaultPlan { die_at: Some(40), ..FaultPlan::default() });
    let _died = work(&store, &mut told);
    store.fs.power_cut();
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&store, &told, "canary")));
    assert!(lost.is_err());
}
