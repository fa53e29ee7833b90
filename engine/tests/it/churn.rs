//! A tenth of the series is replaced every ten minutes for a day. `bench churn` is the same at full size.
use std::time::Duration;

use foretell_engine::{Engine, Error, Selector, SeriesId, TimeRange, WriteBatch};

use crate::support::{HOUR, Store, all, labels};

const MINUTE: i64 = HOUR / 60;
const ALIVE: u32 = 400;
const PERIODS: u32 = 144;

fn pod(engine: &Engine, place: u32, generation: u32) -> Result<SeriesId, Error> {
    let (name, place, generation) = (format!("m{}", place % 7), place.to_string(), generation.to_string());
    engine.resolve(&labels(&[("__name__", &name), ("job", "x"), ("place", &place), ("pod", &generation)]))
}

#[test]
fn a_day_of_churn_leaves_memory_and_index_bounded() {
    let mut store = Store::new();
    store.config.partition_width = Duration::from_secs(6 * 3600);
    store.config.active_series_max = 3 * ALIVE as usize;
    let engine = store.open();
    let mut ids: Vec<SeriesId> = (0..ALIVE).map(|place| pod(&engine, place, 0).unwrap()).collect();
    let mut created = u64::from(ALIVE);
    for period in 0..PERIODS {
        let now = i64::from(period) * 10 * MINUTE;
        store.clock.advance(10 * MINUTE);
        for place in (0..ALIVE).filter(|place| period > 0 && (place + period) % 10 == 0) {
            ids[place as usize] = pod(&engine, place, period).unwrap();
            created += 1;
        }
        let mut batch = WriteBatch::default();
        ids.iter().for_each(|&id| batch.push(id, now, 1.0));
        engine.write(batch).unwrap().wait().unwrap();
        if period % 3 == 2 {
            engine.flush().unwrap();
        }
        let stats = engine.stats();
        assert_eq!(stats.series, created);
        // Two hours of churn and what is alive: a series goes between one and two hours after its last sample.
        assert!(stats.active_series <= u64::from(ALIVE) * 23 / 10, "{} active after {period}", stats.active_series);
    }
    let hours = |from: i64, to: i64| TimeRange { start: from * HOUR, end: to * HOUR - 1 };
    let count = |range| engine.snapshot().select(&Selector { range, ..all() }).unwrap().len() as u64;
    let (of_all, active) = (count(TimeRange::ALL), engine.stats().active_series);
    assert_eq!(of_all, created);
    // Six hours: those alive at the start, and a tenth for each ten minutes. Active ones may be among the answer.
    let partition = u64::from(ALIVE) + 36 * u64::from(ALIVE) / 10;
    assert!(count(hours(0, 6)) <= partition + active, "only partitions in range are asked");
    assert_eq!(engine.snapshot().cardinality().unwrap().series, created);
    engine.drop_before(18 * HOUR).unwrap();
    assert!(count(TimeRange::ALL) <= partition + active);
    assert_eq!(engine.snapshot().cardinality().unwrap().series, count(TimeRange::ALL));
    assert_eq!(engine.snapshot().label_values("job", &all(), 10).unwrap(), ["x"]);
}

#[test]
fn the_limit_of_active_series_refuses_new_ones_until_others_were_forgotten() {
    let mut store = Store::new();
    store.config.active_series_max = 10;
    let engine = store.open();
    let first: Vec<SeriesId> = (0..10).map(|place| pod(&engine, place, 0).unwrap()).collect();
    assert!(matches!(pod(&engine, 10, 0), Err(Error::Limit(_))));
    assert_eq!(pod(&engine, 3, 0).unwrap(), first[3], "known series go on");
    for round in 0..2 {
        store.clock.advance(2 * HOUR);
        let mut batch = WriteBatch::default();
        first[..4].iter().for_each(|&id| batch.push(id, round, 1.0));
        engine.write(batch).unwrap().wait().unwrap();
        engine.flush().unwrap();
    }
    assert_eq!(engine.stats().active_series, 4);
    for place in 10..16 {
        pod(&engine, place, 0).unwrap();
    }
    assert!(matches!(pod(&engine, 16, 0), Err(Error::Limit(_))));
    assert_eq!((engine.stats().active_series, engine.stats().series), (10, 16));
}
