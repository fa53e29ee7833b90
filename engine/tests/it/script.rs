//! A scripted life of a store that reaches every path: writes, overwrites, deletes, flushes, merges, restarts. What it was
//! told is kept, and what the store must then hold.
use foretell_engine::{Engine, Result, SeriesId, WriteBatch};

use crate::deletes::one_of;
use crate::records::{Events, events, happened, mirror, mirrored};
use crate::support::{HOUR, Rows, Store, batch, labels, number, put, rows, series};

/// Steps of the script, a write each.
pub(crate) const STEPS: u32 = 14;
/// Steps that delete, too.
pub(crate) const DELETES: u32 = 4;

/// A commit.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Number of the series, time, value.
    Write(Vec<(u32, i64, f64)>),
    /// Number of the series, first and last instant.
    Delete(u32, i64, i64),
}

/// What a run acknowledged, and the one commit that was in flight when it died.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) acknowledged: Vec<Act>,
    pub(crate) in_flight: Option<Act>,
}

impl Told {
    fn begin(&mut self, act: Act) {
        self.in_flight = Some(act);
    }
    /// What was in flight is acknowledged.
    pub(crate) fn end(&mut self) {
        self.acknowledged.extend(self.in_flight.take());
    }
    /// Writes acknowledged.
    pub(crate) fn writes(&self) -> u32 {
        self.acknowledged.iter().filter(|act| matches!(act, Act::Write(_))).count() as u32
    }
}

/// Small enough for every path: a log file for each few commits.
pub(crate) fn store() -> Store {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 200;
    store.config.memtable_run_rows = 5;
    store
}

/// Writes, deletes, flushes, merges and restarts until the end or the first error.
pub(crate) fn work(store: &Store, told: &mut Told) -> Result<()> {
    let mut engine = store.try_open()?;
    for step in 0..STEPS {
        append(&engine, told, step)?;
        if step % 3 == 2 {
            engine.flush()?;
        }
        delete(&engine, told, step)?;
        if step == 7 {
            engine.compact()?;
            drop(engine);
            engine = store.try_open()?;
        }
        if step == 12 {
            engine.compact()?;
        }
    }
    engine.close()
}

/// The write of one step: new and known series, four partitions, overwrites, records that say the same, state.
pub(crate) fn append(engine: &Engine, told: &mut Told, step: u32) -> Result<()> {
    let new: Vec<_> = (0..3).map(|k| ((step + k) % 5, i64::from(step % 4) * HOUR, f64::from(step * 10 + k))).collect();
    told.begin(Act::Write(new.clone()));
    let mut batch = WriteBatch { state: vec![put("step", &step.to_string())], ..WriteBatch::default() };
    for &(n, ts, value) in &new {
        batch.push(resolve(engine, n)?, ts, value);
    }
    let samples = batch.series.iter().zip(&batch.ts).zip(&batch.values);
    let samples: Vec<_> = samples.map(|((&id, &ts), &value)| (id, ts, value)).collect();
    batch.records.push(mirror(&samples));
    // Sent twice, these are there once.
    batch.records.extend([events(&samples), events(&samples)]);
    engine.write(batch)?.wait()?;
    told.end();
    Ok(())
}

/// The delete of every fourth step: between two flushes, right after one, and of rows that are only in memory.
pub(crate) fn delete(engine: &Engine, told: &mut Told, step: u32) -> Result<()> {
    if step % 4 == 1 {
        let (n, end) = (step % 5, i64::from(step % 3) * HOUR);
        told.begin(Act::Delete(n, 0, end));
        engine.delete(&one_of(&[n], 0, end))?;
        told.end();
    }
    Ok(())
}

fn resolve(engine: &Engine, n: u32) -> Result<SeriesId> {
    engine.resolve(&labels(&[("__name__", "m"), ("n", &n.to_string())]))
}

/// What the store must hold: without and with the commit in flight.
pub(crate) fn models(engine: &Engine, told: &Told) -> (Rows, Rows) {
    let model = |acts: &mut dyn Iterator<Item = &Act>| -> Rows {
        let mut model = Rows::new();
        for act in acts {
            match act {
                Act::Write(rows) => model
                    .extend(rows.iter().map(|&(n, ts, value)| ((resolve(engine, n).unwrap(), ts), value.to_bits()))),
                &Act::Delete(n, from, to) => {
                    let deleted = resolve(engine, n).unwrap();
                    model.retain(|&(id, ts), _| id != deleted || ts < from || ts > to);
                }
            }
        }
        model
    };
    (model(&mut told.acknowledged.iter()), model(&mut told.acknowledged.iter().chain(&told.in_flight)))
}

/// The events that the store must hold: without or with the commit in flight.
fn events_of(engine: &Engine, told: &Told, with_flight: bool) -> Events {
    let mut model = Events::new();
    for act in told.acknowledged.iter().chain(told.in_flight.iter().filter(|_| with_flight)) {
        match act {
            Act::Write(rows) => {
                model.extend(rows.iter().map(|&(n, ts, value)| (resolve(engine, n).unwrap(), ts, value.to_bits())));
            }
            &Act::Delete(n, from, to) => {
                let deleted = resolve(engine, n).unwrap();
                model.retain(|&(id, ts, _)| id != deleted || ts < from || ts > to);
            }
        }
    }
    model
}

/// Everything acknowledged is there; the commit in flight is there wholly or not at all; the store goes on working, and
/// answers the same after a flush and a merge.
pub(crate) fn check(store: &Store, told: &Told) {
    let engine = store.try_open().unwrap_or_else(|error| panic!("the store does not open: {error}"));
    let found = rows(&engine.snapshot());
    let (without, with) = models(&engine, told);
    assert!(found == without || found == with, "{found:?} is neither {without:?} nor {with:?}");
    assert_eq!(mirrored(&engine.snapshot()).unwrap(), found, "records and samples are one");
    let events = events_of(&engine, told, found != without);
    assert_eq!(happened(&engine.snapshot()), events, "events and samples are one");
    let one_more = matches!(told.in_flight, Some(Act::Write(_))) && found == with && found != without;
    let steps = told.writes() + u32::from(one_more);
    let state = engine.snapshot().state(b"step").unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap());
    assert_eq!(state, steps.checked_sub(1).map(|step| step.to_string()), "state and samples are one");
    let id = series(&engine, 99);
    engine.write(batch(&[(id, 0, 1.0)])).unwrap().wait().unwrap();
    engine.flush().unwrap();
    engine.compact().unwrap();
    let mut now = rows(&engine.snapshot());
    assert!(now.remove(&(id, 0)).is_some() && now == found, "after a flush and a merge");
    assert_eq!(mirrored(&engine.snapshot()).unwrap(), found, "records after a flush and a merge");
    assert_eq!(happened(&engine.snapshot()), events, "events after a flush and a merge");
    assert_eq!(engine.stats().tombstones, 0, "deletes are carried out");
}

/// Calls of a whole run.
pub(crate) fn calls_of_a_whole_run() -> u64 {
    let (store, mut told) = (store(), Told::default());
    work(&store, &mut told).unwrap();
    assert_eq!(told.acknowledged.len() as u32, STEPS + DELETES);
    store.fs.calls()
}

/// The calls to fail or die at: all, or every so-manieth, or the one that a replay asks for.
pub(crate) fn positions(calls: u64, stride: u64) -> impl Iterator<Item = u64> {
    let stride = number("FORETELL_CRASH_STRIDE", stride).max(1);
    let only = std::env::var("FORETELL_CRASH_ONLY").ok().and_then(|n| n.parse::<u64>().ok());
    (0..calls).filter(move |n| only.map_or(n % stride == 0, |only| *n == only))
}
