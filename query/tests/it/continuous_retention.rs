//! Continuous queries and partitions that are dropped before the query has read what was in them.
use std::sync::Arc;

use foretell_engine::clock::ManualClock;
use foretell_engine::fs::OsFs;
use foretell_engine::{Engine, WriteBatch};

use crate::continuous_fixture::{Lives, SECOND, START, Sample, difference};

const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

const QUERIES: [&str; 2] = [
    "SELECT time_bucket('1m', ts) AS ts, host, count(*) AS n, sum(value) AS total FROM metrics.\"m\" GROUP BY 1, 2",
    "SELECT ts, host, value, anomaly_score(value, method => 'ewma') OVER (PARTITION BY host ORDER BY ts) AS score FROM metrics.\"m\"",
];

fn host(host: &'static str, at: i64, value: f64) -> Sample {
    (vec![("host", host)], START + at, value)
}

/// Flushes, and lets so much time pass that no series is active.
fn rest(engine: &Engine, clock: &ManualClock) {
    engine.flush().unwrap();
    for _ in 0..2 {
        clock.advance(2 * HOUR);
        engine.write(WriteBatch::default()).unwrap().wait().unwrap();
        engine.flush().unwrap();
    }
    assert_eq!(engine.stats().active_series, 0);
}

#[test]
fn a_query_that_was_away_passes_over_what_was_dropped_meanwhile() {
    for select in QUERIES {
        let clock = Arc::new(ManualClock::new(START));
        let mut lives = Lives::with(Arc::new(OsFs), Arc::<ManualClock>::clone(&clock));
        lives.write("m", &[host("old", 0, 1.0), host("stays", 0, 2.0)]);
        lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '1m' AS {select}"));
        lives.drain();
        let read = Arc::clone(&clock);
        lives.reopen_database(move |engine| {
            let write = |host: &str, ts: i64| {
                let labels = foretell_engine::LabelSet::from_pairs([("__name__", "m"), ("host", host)]).unwrap();
                let mut batch = WriteBatch::default();
                batch.push(engine.resolve(&labels).unwrap(), START + ts, 3.0);
                engine.write(batch).unwrap().wait().unwrap();
            };
            // Rows that the query has not read, of series that are nowhere else and of one that lives on.
            write("old", 60 * SECOND);
            write("unseen", 60 * SECOND);
            write("stays", 60 * SECOND);
            write("stays", 20 * DAY);
            rest(engine, &read);
            assert!(engine.drop_before(START + 10 * DAY).unwrap() > 0);
        });
        lives.write("m", &[host("old", 20 * DAY, 4.0), host("stays", 20 * DAY + SECOND, 5.0)]);
        lives.drain();
        assert_eq!(lives.status("last_error"), "NULL");
        let rows = |sql: &str| lives.table(&format!("SELECT * FROM ({sql}) WHERE ts >= '2026-01-11T00:00:00Z'"));
        assert_eq!(difference(&rows("SELECT * FROM q_out"), &rows(select), &[]), None, "{select}");
        assert!(!rows(select).is_empty());
    }
}

#[test]
fn a_query_goes_on_when_all_series_of_its_metric_were_dropped() {
    for select in QUERIES {
        let clock = Arc::new(ManualClock::new(START));
        let mut lives = Lives::with(Arc::new(OsFs), Arc::<ManualClock>::clone(&clock));
        lives.write("m", &[host("a", 0, 1.0)]);
        lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out WATERMARK '1m' AS {select}"));
        lives.drain();
        let quiet = Arc::clone(&clock);
        lives.reopen_database(move |engine| {
            rest(engine, &quiet);
            assert!(engine.drop_before(START + 10 * DAY).unwrap() > 0);
        });
        lives.drain();
        lives.write("m", &[host("a", 20 * DAY, 4.0)]);
        lives.drain();
        assert_eq!(difference(&lives.table("SELECT * FROM q_out"), &lives.table(select), &[]), None, "{select}");
    }
}
