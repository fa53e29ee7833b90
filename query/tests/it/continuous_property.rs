//! The contract of continuous queries: whatever the order of arrival, with repeated and overwriting rows, and with kills
//! between any two steps, the rows written are those of the plain SELECT over the stored data.
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::continuous_fixture::{Lives, SECOND, START, Sample, difference};

/// Queries under test: name, columns whose rounding depends on the order of the sum, SELECT. Some read what those before them write.
const QUERIES: [(&str, &[&str], &str); 15] = [
    (
        "by_job",
        &["sd", "mean"],
        "SELECT time_bucket('1m', ts) AS ts, job, count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high, \
         avg(value) AS mean, stddev(value) AS sd, sum(value) / count(*) AS ratio, max(value) > 50 AS hot \
         FROM metrics.\"m\" GROUP BY 1, 2",
    ),
    (
        "filtered",
        &[],
        "SELECT instance, time_bucket('90s', ts) AS ts, job, count(*) AS n, last(value, ts) AS newest, first(value, ts) AS oldest, \
         approx_percentile(value, 0.5) AS middle, count(DISTINCT value) AS kinds \
         FROM metrics.\"m\" WHERE value < 60 AND instance <> 'c' GROUP BY 1, 2, 3",
    ),
    (
        "total",
        &[],
        "SELECT date_trunc('minute', ts) AS ts, sum(value) FILTER (WHERE value > 30) AS value FROM metrics.\"m\" GROUP BY 1",
    ),
    (
        "scores",
        &[],
        "SELECT ts, job, instance, value, anomaly_score(value, method => 'ewma') OVER (PARTITION BY job, instance ORDER BY ts) AS score \
         FROM metrics.\"m\" WHERE value < 90",
    ),
    (
        "bands",
        &[],
        "SELECT ts, instance, value * 2 AS twice, anomaly(value, method => 'mad') OVER (PARTITION BY instance ORDER BY ts)['hi'] AS hi, \
         anomaly_score(value) OVER (PARTITION BY instance ORDER BY ts) AS score FROM metrics.\"m\" WHERE job = 'web'",
    ),
    (
        "alone",
        &[],
        "SELECT ts, anomaly_score(value, method => 'mad') OVER (ORDER BY ts) AS score FROM metrics.\"m\" WHERE instance = 'c' AND job = 'db'",
    ),
    (
        "rows",
        &[],
        "SELECT ts, instance, job, value * 8 AS bits, value > 44 AS high FROM metrics.\"m\" WHERE value < 60",
    ),
    (
        "by_job_5m",
        &["mean"],
        "SELECT time_bucket('5m', ts) AS ts, job, sum(n) AS n, max(high) AS high, avg(mean) AS mean, count(*) AS minutes \
         FROM by_job_out WHERE n > 2 GROUP BY 1, 2",
    ),
    (
        "all_5m",
        &[],
        "SELECT time_bucket('10m', ts) AS ts, sum(n) AS n, min(high) AS low, max(minutes) AS most FROM by_job_5m_out GROUP BY 1",
    ),
    (
        "job_scores",
        &[],
        "SELECT ts, job, n, anomaly_score(total, method => 'ewma') OVER (PARTITION BY job ORDER BY ts) AS score FROM by_job_out WHERE hot",
    ),
    (
        "by_team",
        &[],
        "SELECT time_bucket('1m', m.ts) AS ts, o.team, m.job, count(*) AS n, sum(m.value * o.weight) AS load FROM metrics.\"m\" m JOIN (VALUES \
         ('a', 'shop', 2), ('c', 'shop', 1), ('n1', 'search', 4), (NULL, 'nobody', 1)) AS o(instance, team, weight) ON m.instance = o.instance \
         WHERE o.weight < 4 OR m.job = 'web' GROUP BY 1, 2, 3",
    ),
    (
        "known",
        &[],
        "WITH o(job, instance, most, kind) AS (VALUES ('web', 'a', 50.5, 'big'), ('db', 'a', 20, NULL), ('web', 'n2', 10, 'new')) \
         SELECT m.ts, m.job, m.instance, o.kind, o.most, m.value > o.most AS over, anomaly_score(m.value, method => 'ewma') OVER (PARTITION BY \
         m.job, m.instance ORDER BY m.ts) AS score FROM metrics.\"m\" m LEFT JOIN o ON m.job = o.job AND o.instance = m.instance",
    ),
    (
        "shops",
        &[],
        "SELECT time_bucket('3m', ts) AS ts, upper(w.job) || '!' AS job, sum(n) AS n FROM (VALUES ('web')) AS o(job) JOIN by_job_out w ON o.job = w.job \
         GROUP BY 1, 2",
    ),
    (
        "plain",
        &[],
        "SELECT ts, o.team, j.kind, m.value FROM metrics.\"m\" m JOIN (VALUES ('a', 'shop'), ('b', 'search')) AS o(instance, team) ON m.instance = o.instance \
         LEFT JOIN (VALUES ('shop', 'retail')) AS j(team, kind) ON m.job = j.team WHERE m.job = 'web'",
    ),
    ("widths", &[], "SELECT ts, job, high - low AS width FROM by_job_out WHERE n > 3"),
];

/// The same, written when windows close: name, SELECT, how its rows are bounded by the newest row of the source.
const CLOSED: [(&str, &str, &str); 4] = [
    (
        "closed_minutes",
        "SELECT time_bucket('1m', ts) AS ts, job, count(*) AS n, max(value) AS high FROM metrics.\"m\" GROUP BY 1, 2",
        "ts < (SELECT time_bucket('1m', max(ts) - INTERVAL '3 minutes') FROM metrics.\"m\")",
    ),
    (
        "closed_scores",
        "SELECT ts, job, instance, anomaly_score(value, method => 'mad') OVER (PARTITION BY job, instance ORDER BY ts) AS score \
         FROM metrics.\"m\" WHERE value < 90",
        "ts <= (SELECT max(ts) - INTERVAL '3 minutes' FROM metrics.\"m\")",
    ),
    (
        "closed_rows",
        "SELECT ts, instance, job, value AS v FROM metrics.\"m\" WHERE job = 'web'",
        "ts <= (SELECT max(ts) - INTERVAL '3 minutes' FROM metrics.\"m\")",
    ),
    (
        "closed_chain",
        "SELECT ts, job, anomaly_score(n, method => 'ewma') OVER (PARTITION BY job ORDER BY ts) AS score FROM by_job_out",
        "ts <= (SELECT max(ts) - INTERVAL '3 minutes' FROM by_job_out)",
    ),
];

const SERIES: [(&str, &str); 5] = [("web", "a"), ("web", "b"), ("web", "c"), ("db", "a"), ("db", "c")];

/// Instances that come up later.
const NEW: [&str; 8] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"];

fn sample((series, slot, value): (usize, i64, u32)) -> Sample {
    let (job, instance) = SERIES[series];
    (vec![("job", job), ("instance", instance)], START + slot * 10 * SECOND, f64::from(value))
}

#[derive(Clone, Debug)]
enum Step {
    /// Rows in order: the next `rows` slots of each series.
    Forward {
        rows: i64,
        seed: u32,
    },
    /// Rows anywhere: series, slot, value.
    Anywhere(Vec<(usize, i64, u32)>),
    /// A row of a series that may be new, a little before or after the newest.
    Churn {
        name: usize,
        offset: i64,
    },
    /// The last batch again, as a sender does that saw no answer.
    Repeat,
    Drain,
    Flush,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1i64..20, any::<u32>()).prop_map(|(rows, seed)| Step::Forward { rows, seed }),
        3 => prop::collection::vec((0..SERIES.len(), 0i64..200, 0u32..100), 1..12).prop_map(Step::Anywhere),
        2 => (0..NEW.len(), -3i64..3).prop_map(|(name, offset)| Step::Churn { name, offset }),
        1 => Just(Step::Repeat),
        3 => Just(Step::Drain),
        1 => Just(Step::Flush),
        2 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 4..28)
}

/// The batches of a run: what each step writes.
fn rows_of(step: &Step, next: &mut i64, last: &mut Vec<Sample>) -> Option<Vec<Sample>> {
    let rows = match step {
        Step::Forward { rows, seed } => {
            let slots = *next..*next + rows;
            *next += rows;
            // Noise with rare jumps, without a generator's state to carry along.
            let value = |series: usize, slot: i64| {
                let hash = (slot as u32 ^ seed.rotate_left(series as u32 * 5)).wrapping_mul(2_654_435_761) >> 16;
                if hash.is_multiple_of(41) { 95 } else { 40 + hash % 13 }
            };
            slots
                .flat_map(|slot| (0..SERIES.len()).map(move |series| (series, slot)))
                .map(|(s, t)| sample((s, t, value(s, t))))
                .collect()
        }
        Step::Anywhere(rows) => rows.iter().copied().map(sample).collect(),
        Step::Churn { name, offset } => {
            vec![(vec![("job", "web"), ("instance", NEW[*name])], START + (*next + offset) * 10 * SECOND, 45.0)]
        }
        Step::Repeat => last.clone(),
        _ => return None,
    };
    last.clone_from(&rows);
    Some(rows)
}

fn check(steps: &[Step], created_after: usize, memory: usize) -> Result<(), TestCaseError> {
    let mut lives = Lives::frugal(memory);
    lives.write("m", &SERIES.iter().enumerate().map(|(series, _)| sample((series, 0, 50))).collect::<Vec<_>>());
    let (mut next, mut last) = (1, Vec::new());
    for (at, step) in steps.iter().chain([&Step::Drain]).enumerate() {
        if at == created_after.min(steps.len()) {
            for (name, _, select) in QUERIES {
                lives.run(&format!("CREATE CONTINUOUS QUERY {name} INTO {name}_out WATERMARK '3m' AS {select}"));
            }
            for (name, select, _) in CLOSED {
                let options = "EMIT ON WINDOW CLOSE WATERMARK '3m'";
                lives.run(&format!("CREATE CONTINUOUS QUERY {name} INTO {name}_out {options} AS {select}"));
            }
        }
        match step {
            Step::Drain => lives.drain(),
            Step::Flush => lives.engine().flush().unwrap(),
            Step::Kill => lives.kill(),
            other => {
                if let Some(rows) = rows_of(other, &mut next, &mut last).filter(|rows| !rows.is_empty()) {
                    lives.write("m", &rows);
                }
            }
        }
        if matches!(step, Step::Drain) && at >= created_after.min(steps.len()) {
            for (name, inexact, select) in QUERIES {
                let got = lives.table(&format!("SELECT * FROM {name}_out"));
                let expected = lives.table(select);
                if let Some(difference) = difference(&got, &expected, inexact) {
                    return Err(TestCaseError::fail(format!("after step {at}, {name}: {difference}")));
                }
                let reads_samples = select.contains("metrics.");
                assert!(!expected.is_empty() || !reads_samples, "{name} answers nothing: the test would prove nothing");
            }
            for (name, select, bound) in CLOSED {
                let got = lives.table(&format!("SELECT * FROM {name}_out"));
                let expected = lives.table(&format!("SELECT * FROM ({select}) WHERE {bound}"));
                if let Some(difference) = difference(&got, &expected, &[]) {
                    return Err(TestCaseError::fail(format!("after step {at}, {name}: {difference}")));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn any_order_with_kills_gives_the_rows_of_the_plain_select() {
    let cases = std::env::var("FORETELL_CONTINUOUS_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let config = Config { cases, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    // Memory for all detectors, for some, for none.
    let memory = prop_oneof![Just(1usize << 20), Just(20 << 10), Just(0)];
    let input = (steps(), 0usize..8, memory);
    if let Err(error) = runner.run(&input, |(steps, created_after, memory)| check(&steps, created_after, memory)) {
        panic!("{error}");
    }
}

/// Enough rows in order that checkpoints move and windows close, then one row far back.
#[test]
fn a_row_far_behind_every_checkpoint_is_exact() {
    let forward = |seed| Step::Forward { rows: 60, seed };
    let steps = [
        forward(1),
        Step::Drain,
        forward(2),
        Step::Drain,
        Step::Kill,
        forward(3),
        Step::Drain,
        Step::Anywhere(vec![(0, 5, 20), (3, 100, 95), (4, 181, 99), (4, 182, 1)]),
        Step::Drain,
        Step::Kill,
        Step::Anywhere(vec![(0, 170, 99), (1, 170, 10)]),
        Step::Kill,
        Step::Drain,
    ];
    check(&steps, 1, 1 << 20).unwrap();
}
