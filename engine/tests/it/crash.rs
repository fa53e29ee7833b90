//! Power cuts at every call of a scripted workload, and again during the recovery.
use foretell_engine::fs::FaultPlan;
use foretell_engine::{Engine, SeriesId, WriteBatch};

use crate::support::{HOUR, Rows, Store, put, rows, series};

/// What a run acknowledged, and the one batch that was in flight when it died.
#[derive(Default)]
struct Told {
    acknowledged: Vec<Vec<(u32, i64, f64)>>,
    in_flight: Option<Vec<(u32, i64, f64)>>,
}

fn store() -> Store {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 200;
    store.config.memtable_run_rows = 5;
    store
}

/// Writes, flushes and compacts until the end or the first error.
fn work(store: &Store, told: &mut Told) -> foretell_engine::Result<()> {
    let engine = store.try_open()?;
    for step in 0..14u32 {
        let new: Vec<(u32, i64, f64)> =
            (0..3).map(|k| ((step + k) % 5, i64::from(step % 4) * HOUR, f64::from(step * 10 + k))).collect();
        told.in_flight = Some(new.clone());
        let mut batch = WriteBatch { state: vec![put("step", &step.to_string())], ..WriteBatch::default() };
        for &(n, ts, value) in &new {
            batch.push(resolve(&engine, n)?, ts, value);
        }
        let samples = batch.series.iter().zip(&batch.ts).zip(&batch.values);
        let samples: Vec<_> = samples.map(|((&id, &ts), &value)| (id, ts, value)).collect();
        batch.records.push(crate::records::mirror(&samples));
        engine.write(batch)?.wait()?;
        told.acknowledged.push(new);
        told.in_flight = None;
        if step % 3 == 2 {
            engine.flush()?;
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
    let model = |batches: &mut dyn Iterator<Item = &Vec<(u32, i64, f64)>>| -> Rows {
        let rows = batches.flatten();
        rows.map(|&(n, ts, value)| ((resolve(&engine, n).unwrap(), ts), value.to_bits())).collect()
    };
    let without = model(&mut told.acknowledged.iter());
    let with = model(&mut told.acknowledged.iter().chain(&told.in_flight));
    assert!(found == without || found == with, "{what}: {found:?} is neither {without:?} nor {with:?}");
    assert_eq!(crate::records::mirrored(&engine.snapshot()).unwrap(), found, "{what}: records and samples are one");
    let steps = told.acknowledged.len() + usize::from(found == with && found != without);
    let state = engine.snapshot().state(b"step").map(|value| String::from_utf8(value.to_vec()).unwrap());
    assert_eq!(state, steps.checked_sub(1).map(|step| step.to_string()), "{what}: state and samples are one");
    // The store goes on working.
    let id = series(&engine, 99);
    engine.write(crate::support::batch(&[(id, 0, 1.0)])).unwrap().wait().unwrap();
    engine.flush().unwrap();
    assert_eq!(rows(&engine.snapshot()).len(), found.len() + 1, "{what}");
}

fn calls_of_a_whole_run() -> u64 {
    let store = store();
    let mut told = Told::default();
    work(&store, &mut told).unwrap();
    assert_eq!(told.acknowledged.len(), 14);
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
