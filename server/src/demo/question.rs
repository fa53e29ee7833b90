//! The question the demo asks, and whether the answer is the truth.
//!
//! The question knows nothing of the fault: it scores every instance by five metrics alike and puts those first that
//! strayed furthest from what their own past let expect.
use foretell_ml::twin::Truth;
use serde_json::Value;

use crate::shell::answer::Answer;

/// The metrics that are scored, with a condition where only part of a metric is. Each is a matter of the instance alone:
/// latency is without the time spent waiting for others.
const METRICS: [(&str, &str); 5] = [
    ("cpu_usage_ratio", ""),
    ("service_self_latency_p99_seconds", ""),
    ("request_errors_ratio", ""),
    ("memory_working_set_bytes", ""),
    ("http_requests_total", " WHERE code = '200'"),
];

/// SQL that lists the most anomalous series since `since`, an SQL expression for a time.
pub(super) fn suspects(since: &str) -> String {
    let scored = METRICS.map(|(metric, condition)| {
        format!(
            "  SELECT ts, '{metric}' AS metric, service, instance,\n         \
             anomaly_score(value, method => 'auto') OVER (PARTITION BY service, instance ORDER BY ts) AS score\n  \
             FROM metrics.\"{metric}\"{condition}"
        )
    });
    format!(
        "WITH scored AS (\n{}\n)\n\
         SELECT metric, service, instance, round(max(score), 2) AS peak_score, count(*) AS anomalous, to_char(min(ts), '%H:%M:%S') AS since\n\
         FROM scored\n\
         WHERE score > 1 AND ts > {since}\n\
         GROUP BY metric, service, instance\n\
         ORDER BY max(score) DESC LIMIT 10",
        scored.join("\n  UNION ALL\n")
    )
}

/// An SQL literal for a time in milliseconds UTC.
pub(super) fn time_literal(ms: i64) -> String {
    format!("to_timestamp_millis({ms})")
}

/// The series of an answer's first row: metric, service, instance.
pub(super) fn first(answer: &Answer) -> Option<(&str, &str, &str)> {
    let text = |index: usize| answer.rows.first()?.get(index).and_then(Value::as_str);
    Some((text(0)?, text(1)?, text(2)?))
}

/// Whether the first row is a series that shows the fault most directly.
pub(super) fn is_found(answer: &Answer, truth: &Truth) -> bool {
    first(answer).is_some_and(|(metric, service, _)| metric == truth.direct.metric && service == truth.direct.service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::answer;

    #[test]
    fn the_question_scores_every_kind_of_direct_series() {
        use foretell_ml::twin::{Fault, FaultKind, ServiceId, Topology};
        let sql = suspects("now() - INTERVAL '30 minutes'");
        for kind in FaultKind::ALL {
            let fault = Fault { kind, service: ServiceId(0), start_ns: 0, duration_ns: 1, magnitude: 1.0 };
            let metric = fault.truth(&Topology::shop()).direct.metric;
            assert!(sql.contains(&format!("FROM metrics.\"{metric}\"")), "{metric} is not asked for");
        }
        assert_eq!(sql.matches("UNION ALL").count(), METRICS.len() - 1);
    }

    #[test]
    fn only_the_first_row_counts() {
        let truth = foretell_ml::twin::Fault::draw(&foretell_ml::twin::Topology::shop(), 1, 0, 1)
            .truth(&foretell_ml::twin::Topology::shop());
        let row = |metric: &str, service: &str| format!("[\"{metric}\",\"{service}\",\"{service}-0\",9.5]");
        let (good, bad) = (row(truth.direct.metric, &truth.root), row(truth.direct.metric, "nobody"));
        let found = |rows: &str| {
            let text = format!("{{\"columns\":[],\"rows\":[{rows}],\"stats\":{{\"elapsed_ms\":1.0}}}}");
            is_found(&answer::read(text.as_bytes(), 10).unwrap(), &truth)
        };
        assert!(found(&good) && found(&format!("{good},{bad}")));
        assert!(!found(&bad) && !found(&format!("{bad},{good}")) && !found(""));
    }
}
