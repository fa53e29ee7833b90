//! Each call to the file system fails once, or for a while, in each way: a clean error, no wrong answer, a final fault where
//! the log or the manifest is no longer known, and a store that opens again.
use std::collections::BTreeSet;
use std::sync::Mutex;

use foretell_engine::fs::{Failure, FaultPlan, Survival};
use foretell_engine::{Engine, Error, ErrorKind, Result};

use crate::script::{DELETES, STEPS, Told, append, calls_of_a_whole_run, check, delete, models, positions, store};
use crate::support::{Replay, Store, batch, number, rows, series, side_by_side};

const FAILURES: [Failure; 3] = [Failure::Io, Failure::NoSpace, Failure::ShortWrite];
/// A disk that was full has room again after so many tries.
const TRIES_MAX: u32 = 20;

/// Does `commit`, again as long as there is no room for it: nothing of it has happened then.
fn insist(told: &mut Told, mut commit: impl FnMut(&mut Told) -> Result<()>) -> Result<()> {
    for _ in 0..TRIES_MAX {
        match commit(told) {
            Err(Error::DiskFull { .. }) => told.in_flight = None,
            other => return other,
        }
    }
    panic!("there is room, and still the disk is called full")
}

/// The script, which goes on after a flush or a compaction that failed, until a write fails. With the engine, if it is open.
fn persist(store: &Store, told: &mut Told) -> (Option<Engine>, Vec<Error>) {
    let mut errors = Vec::new();
    let mut engine = match store.try_open() {
        Ok(engine) => engine,
        Err(error) => return (None, vec![error]),
    };
    for step in 0..STEPS {
        let written = insist(told, |told| append(&engine, told, step));
        if written.is_ok() && step % 3 == 2 {
            errors.extend(engine.flush().err());
        }
        if let Err(error) = written.and_then(|()| insist(told, |told| delete(&engine, told, step))) {
            errors.push(error);
            return (Some(engine), errors);
        }
        if step == 7 {
            errors.extend(engine.compact().err());
            if engine.stats().poisoned {
                return (Some(engine), errors);
            }
            drop(engine);
            engine = match store.try_open() {
                Ok(engine) => engine,
                Err(error) => {
                    errors.push(error);
                    return (None, errors);
                }
            };
        }
        if step == 12 {
            errors.extend(engine.compact().err());
        }
    }
    errors.extend(engine.flush().err());
    (Some(engine), errors)
}

/// Calls after which nobody knows what the log or the manifest holds: a sync that failed, and an append that failed and
/// could not be undone.
fn is_final(struck: &str, failure: Failure, fail_more: u64) -> bool {
    let file = struck.ends_with(".wal") || struck.ends_with("MANIFEST");
    let undone = failure != Failure::Io && fail_more == 0;
    file && (struck.contains("sync of") || (struck.contains("append of") && !undone))
}

fn examine(fail_at: u64, failure: Failure, fail_more: u64) -> Option<String> {
    let (store, mut told) = (store(), Told::default());
    store.fs.plan(FaultPlan { fail_more, ..FaultPlan::fault(fail_at, failure) });
    let (engine, errors) = persist(&store, &mut told);
    let struck = store.fs.struck();
    store.fs.plan(FaultPlan::default());
    for error in &errors {
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Unavailable), "{error} is not a clean error");
        assert!(error.to_string().len() > 20, "{error} says too little");
    }
    if let Some(engine) = engine {
        let (without, _) = models(&engine, &told);
        assert_eq!(rows(&engine.snapshot()), without, "reads go on, and no unacknowledged row is visible");
        let poisoned = engine.stats().poisoned;
        let must_be = struck.as_deref().is_some_and(|struck| is_final(struck, failure, fail_more));
        assert!(poisoned || !must_be, "not final: {struck:?}");
        if poisoned {
            let refused = engine.write(batch(&[(series(&engine, 1), 1, 1.0)])).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unavailable);
            assert_eq!(engine.flush().unwrap_err().kind(), ErrorKind::Unavailable, "a flush after a final fault");
        } else if told.in_flight.is_none() {
            let acts = (STEPS + DELETES) as usize;
            assert_eq!(told.acknowledged.len(), acts, "a fault that is not final ends no write: {errors:?}");
        }
    }
    // The process ends with the engine. What was in the page cache stays, or goes with a power cut.
    if fail_at.is_multiple_of(2) {
        store.fs.power_cut();
    } else {
        store.fs.kill();
    }
    check(&store, &told);
    struck
}

#[test]
fn any_failing_call_is_a_clean_error_and_the_store_opens_again() {
    let calls = calls_of_a_whole_run();
    let struck = Mutex::new((BTreeSet::new(), 0u64));
    side_by_side(positions(calls, 1), |fail_at| {
        for (k, failure) in FAILURES.into_iter().enumerate() {
            // The short form fails each call in each way, for one of these times.
            let times: [u64; 3] = [0, 1, 6];
            let all = number("FORETELL_CRASH_SEEDS", 0) > 0;
            let times = if all { &times[..] } else { &times[(fail_at as usize + k) % 3..][..1] };
            for &fail_more in times {
                let _replay = Replay::of(
                    "FORETELL_CRASH_SEEDS=1 FORETELL_CRASH_ONLY",
                    fail_at,
                    &format!("faults:: # {failure:?} at call {fail_at} and {fail_more} more"),
                );
                if let Some(call) = examine(fail_at, failure, fail_more) {
                    let (_, call) = call.split_once(", ").unwrap();
                    let mut struck = struck.lock().unwrap();
                    struck.0.insert(call.to_owned());
                    struck.1 = struck.1.max(fail_at);
                }
            }
        }
        FAILURES.len() as u64
    });
    let (struck, last) = struck.into_inner().unwrap();
    println!("{} failing calls, {} kinds: {struck:?}", last + 1, struck.len());
    if std::env::var_os("FORETELL_CRASH_ONLY").is_none() {
        for call in ["append of", "sync of", "create of", "rename of", "remove of", "create_dir of", "sync_dir of"] {
            assert!(struck.iter().any(|struck| struck.starts_with(call)), "no {call} failed: {struck:?}");
        }
    }
}

#[test]
fn a_sync_that_failed_once_is_not_repaired_by_one_that_succeeds() {
    // The canary of the file system itself: bytes that a failed sync has given up are not on the disk, whatever follows.
    use foretell_engine::fs::{FaultFs, Fs};
    let (fs, path) = (FaultFs::new(), std::path::Path::new("/f"));
    fs.create_dir(std::path::Path::new("/")).unwrap();
    let mut file = fs.create(path).unwrap();
    fs.sync_dir(std::path::Path::new("/")).unwrap();
    file.append(b"lost").unwrap();
    fs.plan(FaultPlan::fault(fs.calls(), Failure::Io));
    file.sync().unwrap_err();
    file.append(b"kept").unwrap();
    file.sync().unwrap();
    assert_eq!(&*fs.map(path).unwrap(), b"lostkept", "readers see the page cache");
    fs.plan(FaultPlan { survival: Survival::All, ..FaultPlan::default() });
    fs.power_cut();
    assert_eq!(&*fs.map(path).unwrap(), b"\xdb\xdb\xdb\xdbkept");
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again_before_it_is_believed() {
    // The log's sync fails, the process ends, the next one finds the record in the page cache and answers with it. A power
    // cut later must not take it away again, nor leave a hole that stops the open.
    let (store, mut told) = (store(), Told::default());
    let engine = store.open();
    append(&engine, &mut told, 0).unwrap();
    store.fs.plan(FaultPlan { fail_sync_of: Some(".wal".into()), ..FaultPlan::default() });
    append(&engine, &mut told, 1).unwrap_err();
    drop(engine);
    store.fs.kill();
    let engine = store.open();
    let (_, with) = models(&engine, &told);
    assert_eq!(rows(&engine.snapshot()), with);
    told.end();
    append(&engine, &mut told, 2).unwrap();
    drop(engine);
    store.fs.power_cut();
    check(&store, &told);
}
