//! The classes of queries, over the data of a fleet.
use crate::promql::Question;
use crate::workload::tsbs::host_above;
use crate::workload::{Fleet, Kind};

/// What `high-cpu` asks for, percent.
const HIGH_CPU: f64 = 90.0;

/// Queries of one kind, by one example.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Workload and name.
    pub(super) name: String,
    pub(super) question: Question,
}

/// The classes of `kind`, over the first `hours` of a new `fleet` of it.
pub(super) fn classes(kind: Kind, fleet: &Fleet, hours: f64) -> Vec<Class> {
    let rounds = fleet.rounds(hours);
    let end_s = fleet.round_start_ms(rounds) as f64 / 1e3;
    let (workload, classes) = match kind {
        Kind::Node => ("node", node(hours)),
        Kind::Churn => ("churn", node(hours)),
        Kind::Tsbs => ("tsbs", tsbs(hours, host_above(fleet, rounds, HIGH_CPU))),
    };
    let class = |(name, expr, range): Example| Class {
        name: format!("{workload}/{name}"),
        question: Question { expr, at: end_s, range: range.map(|(seconds, step)| (end_s - seconds, end_s, step)) },
    };
    classes.into_iter().map(class).collect()
}

/// Name, expression, and seconds and step of a range that ends with the data; without them: at that instant.
type Example = (&'static str, String, Option<(f64, f64)>);

/// What dashboards over node exporters ask.
fn node(hours: f64) -> Vec<Example> {
    let all = hours * 3600.0;
    let minutely = |seconds: f64| Some((seconds, 60.0));
    let one = "instance=\"10.0.0.0:9100\"";
    vec![
        ("instant-one-series", format!("node_load1{{{one}}}"), None),
        ("instant-sum-rate", "sum by (mode) (rate(node_cpu_seconds_total[5m]))".into(), None),
        // The four largest counts differ enough for the answer to be one answer.
        ("instant-topk-all-names", "topk(4, count by (__name__) ({__name__=~\".+\"}))".into(), None),
        (
            "instant-subquery",
            "max_over_time(sum by (instance) (rate(node_cpu_seconds_total{mode!=\"idle\"}[5m]))[30m:1m])".into(),
            None,
        ),
        // As far back again as there is data, as a dashboard that shows more than there is.
        ("range-avg", "avg by (mode) (node_cpu_seconds_total)".into(), minutely(2.0 * all)),
        ("range-sum-rate", "sum by (instance) (rate(node_network_receive_bytes_total[5m]))".into(), minutely(all)),
        ("range-ratio", "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes".into(), minutely(all)),
        ("range-one-instance", format!("rate(node_cpu_seconds_total{{{one}}}[5m])"), Some((all, 15.0))),
        ("range-quantile", "quantile_over_time(0.95, node_load1[30m])".into(), Some((all, 300.0))),
    ]
}

/// The questions of the Time Series Benchmark Suite, devops, that PromQL can ask; `busy` is a host that once was busy.
fn tsbs(hours: f64, busy: usize) -> Vec<Example> {
    let (all, hour) = (hours * 3600.0, hours.min(1.0) * 3600.0);
    let minutely = |seconds: f64| Some((seconds, 60.0));
    let eight = "hostname=~\"host_0|host_1|host_2|host_3|host_4|host_5|host_6|host_7\"";
    vec![
        ("single-groupby-1-1-1", "max(max_over_time(cpu_usage_user{hostname=\"host_0\"}[1m]))".into(), minutely(hour)),
        ("single-groupby-1-8-1", format!("max(max_over_time(cpu_usage_user{{{eight}}}[1m]))"), minutely(hour)),
        (
            "single-groupby-5-8-1",
            format!("max by (__name__) ({{__name__=~\"cpu_usage_(user|system|idle|nice|iowait)\",{eight}}})"),
            minutely(hour),
        ),
        ("cpu-max-all-8", format!("max by (__name__) ({{__name__=~\"cpu_usage_.+\",{eight}}})"), minutely(all)),
        ("double-groupby-1", "avg by (hostname) (avg_over_time(cpu_usage_user[1h]))".into(), Some((2.0 * all, 3600.0))),
        (
            "high-cpu-1",
            format!("max_over_time(cpu_usage_user{{hostname=\"host_{busy}\"}}[1m]) > {HIGH_CPU}"),
            minutely(2.0 * all),
        ),
        ("high-cpu-all", format!("max_over_time(cpu_usage_user[1m]) > {HIGH_CPU}"), minutely(2.0 * all)),
        ("groupby-orderby-limit", "max(max_over_time(cpu_usage_user[1m]))".into(), minutely(300.0)),
        ("lastpoint", "{__name__=~\"cpu_usage_.+\"}".into(), None),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_ranges_end_with_the_data() {
        let classes = |kind: Kind| classes(kind, &kind.fleet(1_000, 1, 0), 2.0);
        let all: Vec<Class> = [Kind::Node, Kind::Tsbs].into_iter().flat_map(classes).collect();
        let names: std::collections::BTreeSet<&str> = all.iter().map(|class| class.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        for class in &all {
            assert!(class.question.range.is_none_or(|(start, end, step)| start < end && end == 7_200.0 && step > 0.0));
        }
    }
}
