//! What is asked of both, and when two answers are the same.
use anyhow::{Result, ensure};
use serde_json::Value;

/// Two numbers are the same when they differ by no more than this share of the larger.
const TOLERANCE: f64 = 1e-9;

/// One question, in the SQL of both. The answer has a row for each bucket, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) note: &'static str,
    /// For Foretell's SQL route.
    pub(super) ours: &'static str,
    /// For DuckDB: a view for each metric, and `samples` over all of them. Buckets as whole numbers cost it less than its
    /// own `time_bucket`; a column `t` of nanoseconds comes back as an instant.
    pub(super) theirs: &'static str,
}

/// All questions.
pub(super) const QUESTIONS: [Question; 4] = [
    Question {
        name: "minute",
        note: "average and maximum of one metric by minute",
        ours: "SELECT time_bucket('1m', ts) AS t, avg(value), max(value) FROM metrics.cpu_usage_user GROUP BY 1 ORDER BY 1",
        theirs: "SELECT epoch_ns(ts) // 60000000000 * 60000000000 AS t, avg(value), max(value) FROM cpu_usage_user \
                 GROUP BY 1 ORDER BY 1",
    },
    Question {
        name: "host_hour",
        note: "average and maximum of one metric by host and hour",
        ours: "SELECT hostname, time_bucket('1h', ts) AS t, avg(value), max(value) FROM metrics.cpu_usage_user \
               GROUP BY 1, 2 ORDER BY 1, 2",
        theirs: "SELECT hostname, epoch_ns(ts) // 3600000000000 * 3600000000000 AS t, avg(value), max(value) \
                 FROM cpu_usage_user GROUP BY 1, 2 ORDER BY 1, 2",
    },
    Question {
        name: "all_five_minutes",
        note: "number and sum of all samples by five minutes",
        ours: "SELECT time_bucket('5m', ts) AS t, count(*), sum(value) FROM samples GROUP BY 1 ORDER BY 1",
        theirs: "SELECT epoch_ns(ts) // 300000000000 * 300000000000 AS t, count(*), sum(value) FROM samples \
                 GROUP BY 1 ORDER BY 1",
    },
    Question {
        name: "one_host",
        note: "average, minimum and maximum of one series by minute",
        ours: "SELECT time_bucket('1m', ts) AS t, avg(value), min(value), max(value) FROM metrics.cpu_usage_user \
               WHERE hostname = 'host_7' GROUP BY 1 ORDER BY 1",
        theirs: "SELECT epoch_ns(ts) // 60000000000 * 60000000000 AS t, avg(value), min(value), max(value) \
                 FROM cpu_usage_user WHERE hostname = 'host_7' GROUP BY 1 ORDER BY 1",
    },
];

/// Fails at the first row that differs, and when there is none.
///
/// # Errors
/// With both rows.
pub(super) fn compare(ours: &[Vec<Value>], theirs: &[Vec<Value>]) -> Result<()> {
    ensure!(!ours.is_empty(), "no rows are answered");
    ensure!(ours.len() == theirs.len(), "{} rows, {} are DuckDB's", ours.len(), theirs.len());
    for (at, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let same = our.len() == their.len() && our.iter().zip(their).all(|(a, b)| same(a, b));
        ensure!(same, "row {at} is {}, DuckDB's {}", Value::from(our.clone()), Value::from(their.clone()));
    }
    Ok(())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(rows: Value) -> Vec<Vec<Value>> {
        serde_json::from_value(rows).unwrap()
    }

    #[test]
    fn numbers_may_differ_in_the_tenth_digit_and_all_else_not_at_all() {
        let ours = rows(json!([["host_1", "2026-01-01T00:00:00.000000000Z", 50.0, 3], ["host_2", "b", 0.0, 0]]));
        let theirs = |value: f64, count: u64, name: &str| {
            rows(json!([[name, "2026-01-01T00:00:00.000000000Z", value, count], ["host_2", "b", 0, 0.0]]))
        };
        compare(&ours, &theirs(50.000_000_001, 3, "host_1")).unwrap();
        assert!(compare(&ours, &theirs(50.000_001, 3, "host_1")).is_err());
        assert!(compare(&ours, &theirs(50.0, 4, "host_1")).is_err());
        assert!(compare(&ours, &theirs(50.0, 3, "host_3")).is_err());
    }

    #[test]
    fn answers_have_the_same_rows_and_not_none() {
        let (one, none) = (rows(json!([[1, 2]])), rows(json!([])));
        assert!(compare(&none, &none).is_err() && compare(&one, &none).is_err() && compare(&none, &one).is_err());
        assert!(compare(&one, &rows(json!([[1]]))).is_err());
        let error = compare(&one, &rows(json!([[1, 3]]))).unwrap_err().to_string();
        assert_eq!(error, "row 0 is [1,2], DuckDB's [1,3]");
    }
}
