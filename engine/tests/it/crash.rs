//! Power cuts at every call of a scripted life, in every way of losing what was not synced, and again during the recovery.
//! `FORETELL_CRASH_STRIDE=1 FORETELL_CRASH_SEEDS=8` is the full form (`make crashfs`).
use foretell_engine::Error;
use foretell_engine::fs::{FaultPlan, Survival};

use crate::script::{Told, append, calls_of_a_whole_run, check, models, positions, store, work};
use crate::support::{Replay, Store, number, rows, side_by_side};

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
    let seeds = number("FORETELL_CRASH_SEEDS", 0).max(1);
    let variables = format!("FORETELL_CRASH_SEEDS={seeds} FORETELL_CRASH_ONLY");
    Replay::of(&variables, die_at, &format!("crash:: # died at call {die_at}, {rest}"))
}

/// A store with these syncs whose machine died at a call of the script, before anything is lost by it.
fn died(die_at: u64, sync_every_commit: bool) -> (Store, Told) {
    let (mut store, mut told) = (store(), Told::default());
    store.config.sync_every_commit = sync_every_commit;
    store.fs.plan(FaultPlan::death(die_at, Survival::Nothing));
    let _died: Result<(), Error> = work(&store, &mut told);
    (store, told)
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    let calls = calls_of_a_whole_run();
    let cases = side_by_side(positions(calls, 1), |die_at| {
        let ((dead, told), survivals) = (died(die_at, true), survivals(die_at));
        for &survival in &survivals {
            let _replay = replay(die_at, format!("{survival:?}"));
            check(&dead.cut(survival), &told);
        }
        survivals.len() as u64
    });
    println!("{cases} power cuts over {calls} calls");
}

#[test]
fn a_second_power_cut_during_recovery_loses_nothing_either() {
    let calls = calls_of_a_whole_run();
    let cases = side_by_side(positions(calls, 17), |die_at| {
        let ((dead, told), mut cases) = (died(die_at, true), 0);
        for (k, first) in survivals(die_at).into_iter().enumerate() {
            let left = dead.cut(first);
            for again in 0.. {
                // The second cut forgets in another way than the first.
                let others = survivals(die_at + again);
                let second = others[(k + again as usize) % others.len()];
                let _replay = replay(die_at, format!("{first:?}, then {again} calls into recovery, {second:?}"));
                let store = left.twin();
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
        cases
    });
    println!("{cases} pairs of power cuts over {calls} calls");
}

#[test]
fn a_power_cut_after_a_kill_loses_nothing_that_the_kill_had_left() {
    // A killed process leaves bytes and entries that only the page cache holds; the next one builds upon them.
    let calls = calls_of_a_whole_run();
    let cases = side_by_side(positions(calls, 19), |die_at| {
        let ((killed, told), mut cases) = (died(die_at, true), 0);
        killed.fs.kill();
        for again in (0..).step_by(3) {
            for survival in survivals(die_at + again) {
                let _replay = replay(die_at, format!("killed, then a cut {again} calls later, {survival:?}"));
                let (store, mut told) = (killed.twin(), told.clone());
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
        cases
    });
    println!("{cases} power cuts after kills over {calls} calls");
}

/// Opens after a kill, finds what is there, writes and flushes.
fn go_on(store: &Store, told: &mut Told) -> foretell_engine::Result<()> {
    let engine = store.try_open()?;
    let (_, with) = models(&engine, told);
    // What a reader has seen since the kill must not go again.
    if rows(&engine.snapshot()) == with {
        told.end();
    } else {
        told.in_flight = None;
    }
    append(&engine, told, told.writes())?;
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
    side_by_side(positions(calls, 3), |die_at| {
        let ((dead, mut told), survivals) = (died(die_at, false), survivals(die_at));
        told.end();
        for &survival in &survivals {
            let _replay = replay(die_at, format!("syncs at intervals, {survival:?}"));
            let store = dead.cut(survival);
            let engine = store.try_open().unwrap_or_else(|error| panic!("the store does not open: {error}"));
            let found = rows(&engine.snapshot());
            let prefixes = (0..=told.acknowledged.len()).map(|n| {
                let acknowledged = told.acknowledged[..n].to_vec();
                models(&engine, &Told { acknowledged, in_flight: None }).0
            });
            assert!(prefixes.into_iter().any(|prefix| prefix == found), "{found:?} is no prefix of what was written");
        }
        survivals.len() as u64
    });
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
