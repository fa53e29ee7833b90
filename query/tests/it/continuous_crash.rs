//! Power cuts at every call to the file system while a query works: what was acknowledged and what a sender sends again is
//! in the rows once.
use std::sync::Arc;

use foretell_engine::fs::{FaultFs, FaultPlan, Survival};

use crate::continuous_fixture::{Lives, SECOND, START, Sample, difference};

const QUERIES: [(&str, &str); 3] = [
    (
        "counts",
        "SELECT time_bucket('1m', ts) AS ts, host, count(*) AS n, sum(value) AS total FROM metrics.\"m\" GROUP BY 1, 2",
    ),
    (
        "scores",
        "SELECT ts, host, value, anomaly_score(value, method => 'ewma') OVER (PARTITION BY host ORDER BY ts) AS score FROM metrics.\"m\"",
    ),
    ("chained", "SELECT time_bucket('2m', ts) AS ts, sum(n) AS n, max(total) AS total FROM counts_out GROUP BY 1"),
];

fn batch(number: i64) -> Vec<Sample> {
    let slots = number * 5..number * 5 + 5;
    let late = (number % 3 == 2).then_some((number * 5 - 7, 11.0));
    slots
        .map(|slot| (slot, (slot * 7 % 13) as f64))
        .chain(late)
        .flat_map(|(slot, value)| ["a", "b"].map(|host| (vec![("host", host)], START + slot * 10 * SECOND, value)))
        .collect()
}

/// Writes batches until the machine dies; answers the first batch that was not acknowledged.
fn work(lives: &Lives, from: i64, to: i64) -> i64 {
    for number in from..to {
        if lives.try_write("m", &batch(number)).is_err() {
            return number;
        }
        if number % 2 == 1 && lives.try_drain().is_err() {
            return number + 1;
        }
    }
    to
}

#[test]
fn a_power_cut_at_any_call_loses_and_doubles_nothing() {
    // Calls of a whole run, to know how far there is to go.
    let calls = {
        let fs = FaultFs::new();
        let lives = Lives::on(Arc::new(fs.clone()));
        prepare(&lives);
        let before = fs.calls();
        assert_eq!(work(&lives, 1, 12), 12);
        fs.calls() - before
    };
    let stride = std::env::var("FORETELL_CRASH_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let mut died = 0;
    for die_after in (0..calls).step_by(stride) {
        let fs = FaultFs::new();
        let mut lives = Lives::on(Arc::new(fs.clone()));
        prepare(&lives);
        fs.plan(FaultPlan {
            die_at: Some(fs.calls() + die_after),
            survival: Survival::Prefix((die_after % 40) as usize),
            ..FaultPlan::default()
        });
        let next = work(&lives, 1, 12);
        died += u32::from(next < 12);
        lives.kill_and(|| fs.power_cut());
        // The sender repeats what was not acknowledged, then goes on.
        assert_eq!(work(&lives, next, 14), 14, "after dying at call {die_after}");
        lives.drain();
        for (name, select) in QUERIES {
            let difference = difference(&lives.table(&format!("SELECT * FROM {name}_out")), &lives.table(select), &[]);
            assert_eq!(difference, None, "{name}, after dying at call {die_after}");
        }
    }
    assert!(died > 0, "no run died: the test would prove nothing");
}

fn prepare(lives: &Lives) {
    lives.write("m", &batch(0));
    for (name, select) in QUERIES {
        lives.run(&format!("CREATE CONTINUOUS QUERY {name} INTO {name}_out WATERMARK '1m' AS {select}"));
    }
    lives.drain();
}
