//! Figures, not checks: `cargo test … -- --ignored --nocapture continuous_speed`.
use std::time::Instant;

use foretell_engine::{LabelSet, SeriesId, WriteBatch};

use crate::continuous_fixture::{Lives, SECOND, START};

const SERIES: usize = 10_000;
const SCRAPES: i64 = 100;

#[test]
#[ignore = "prints figures"]
fn rows_per_second_of_both_kinds() {
    for (name, select) in [
        (
            "buckets",
            "SELECT time_bucket('1m', ts) AS ts, job, count(*) AS n, avg(value) AS mean FROM metrics.\"m\" GROUP BY 1, 2",
        ),
        (
            "buckets of each series",
            "SELECT time_bucket('1m', ts) AS ts, job, instance, max(value) AS m FROM metrics.\"m\" GROUP BY 1, 2, 3",
        ),
        (
            "scores",
            "SELECT ts, job, instance, anomaly_score(value, method => 'ewma') OVER (PARTITION BY job, instance ORDER BY ts) AS score FROM metrics.\"m\"",
        ),
    ] {
        let lives = Lives::new();
        let ids: Vec<SeriesId> = (0..SERIES)
            .map(|i| {
                let (job, instance) = (format!("job{}", i % 20), format!("host{i}"));
                lives
                    .engine()
                    .resolve(
                        &LabelSet::from_pairs([("__name__", "m"), ("job", &job), ("instance", &instance)]).unwrap(),
                    )
                    .unwrap()
            })
            .collect();
        let scrape = |number: i64| {
            let mut batch = WriteBatch::default();
            for (i, &id) in ids.iter().enumerate() {
                batch.push(id, START + number * 15 * SECOND, (number * 31 + i as i64) as f64 % 17.0);
            }
            lives.engine().write(batch).unwrap().wait().unwrap();
        };
        scrape(0);
        lives.run(&format!("CREATE CONTINUOUS QUERY q INTO q_out AS {select}"));
        lives.drain();
        scrape(1);
        lives.drain();
        let wal = lives.engine().stats().wal_bytes_written;
        let started = Instant::now();
        for number in 2..SCRAPES {
            scrape(number);
            if number % 4 == 0 {
                lives.drain();
            }
        }
        lives.drain();
        let (rows, seconds) = (SERIES as f64 * (SCRAPES - 2) as f64, started.elapsed().as_secs_f64());
        let wal = (lives.engine().stats().wal_bytes_written - wal) as f64 / rows;
        println!(
            "{name}: {:.0} rows/s, {wal:.1} B of log a row (source included), recomputed {}",
            rows / seconds,
            lives.status("recomputed")
        );
    }
}
