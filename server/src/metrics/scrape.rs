//! Values that are read when somebody asks.
use std::sync::atomic::AtomicU64;

use foretell_engine::{EngineStats, MemoryShare, StateSize};
use foretell_query::promql::ResultCacheStats;
use foretell_query::{AlertStats, ContinuousStats, DefaultDetectorStats, ModelStats, TemplateStats};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::process::Usage;

type ShareGauges = Family<[(&'static str, &'static str); 1], Gauge>;

/// Values of one moment.
pub(super) struct Reading {
    pub(super) engine: Option<EngineStats>,
    /// Continuous queries and detectors.
    pub(super) continuous: Vec<ContinuousStats>,
    /// Keyed state of the store.
    pub(super) state: StateSize,
    /// What `log_template` knows.
    pub(super) templates: TemplateStats,
    pub(super) models: ModelStats,
    pub(super) alerts: AlertStats,
    pub(super) default_detector: DefaultDetectorStats,
    pub(super) results: ResultCacheStats,
    /// Notices of alerts that were taken, and attempts that failed.
    pub(super) told: [u64; 2],
    pub(super) in_flight_bytes: usize,
    /// The memory budget, and the shares it is divided into.
    pub(super) memory_bytes: u64,
    pub(super) memory: Vec<MemoryShare>,
    pub(super) process: Usage,
}

impl Reading {
    /// A registry that holds exactly these values.
    pub(super) fn registry(self) -> Registry {
        let mut root = Registry::default();
        let ours = root.sub_registry_with_prefix("foretell");
        let mut gauge = |name: &str, help: &str, value: u64| ours.register(name, help, ConstGauge::new(value as i64));
        gauge("ready", "1 when writes and queries are taken", u64::from(self.engine.is_some()));
        gauge("remote_write_in_flight_bytes", "Bytes of write requests being worked on", self.in_flight_bytes as u64);
        gauge("state_keys", "Keys of stored state, which are in memory", self.state.keys);
        gauge("state_held_bytes", "Stored state in memory: what no flush has written yet", self.state.held_bytes);
        gauge("state_filed_bytes", "Stored state in its file", self.state.filed_bytes);
        gauge("log_templates", "Templates and their forms that log_template knows", self.templates.kept);
        gauge("log_template_bytes", "Memory that they take", self.templates.bytes);
        gauge("result_cache_answers", "Answers to PromQL queries that are kept", self.results.answers);
        gauge("models", "Models there are", self.models.models);
        gauge("model_versions", "Versions of models that are kept", self.models.versions);
        gauge("alerts", "Alerts that were created by statements", self.alerts.alerts);
        gauge("alerts_pending", "Alerts that wait for their FOR", self.alerts.pending);
        gauge("alerts_firing", "Alerts that fire", self.alerts.firing);
        gauge(
            "alert_lag_commits",
            "Commits that an alert of a detector has not looked at yet, the most",
            self.alerts.lag,
        );
        gauge("default_detector", "1 when there is a default detector", u64::from(self.default_detector.on));
        gauge(
            "default_detector_lag_commits",
            "Commits that the default detector has not looked at yet",
            self.default_detector.lag,
        );
        gauge("default_detector_series", "Series it watches", self.default_detector.series);
        gauge("default_detector_state_bytes", "Memory of their states", self.default_detector.bytes);
        gauge("alert_notices", "Notices that nobody has taken yet", self.alerts.notices);
        gauge("model_bytes", "Bytes of the detectors of their versions", self.models.bytes);
        if let Some(engine) = &self.engine {
            gauge("engine_lsn", "Newest durable and visible commit", engine.lsn.0);
            gauge("engine_wal_bytes", "Bytes of write-ahead log on disk", engine.wal_bytes);
            gauge("engine_active_series", "Series held in memory", engine.active_series);
            gauge("engine_series", "Series ever known", engine.series);
            gauge("engine_index_bytes", "Memory of the index of the series held in memory", engine.index_bytes);
            gauge("engine_partitions", "Time partitions", engine.partitions);
            gauge("engine_memtable_bytes", "Bytes in memtables", engine.memtable_bytes);
            gauge("engine_segments", "Live segments", engine.segments);
            gauge("engine_segment_bytes", "Bytes of live segments", engine.segment_bytes);
            gauge("engine_tombstones", "Deletes that hide rows still on disk or in memory", engine.tombstones);
            gauge("engine_segment_rows", "Rows in live segments", engine.segment_rows);
            gauge("engine_record_segments", "Live segments of records", engine.record_segments);
            gauge("engine_record_segment_bytes", "Bytes of live segments of records", engine.record_segment_bytes);
            gauge("engine_record_segment_rows", "Rows in live segments of records", engine.record_segment_rows);
            gauge("disk_free_bytes", "Bytes that can still be written to the disk", engine.disk_free_bytes);
            gauge("disk_reserve_bytes", "Writes are refused when fewer bytes are free", engine.disk_reserve_bytes);
            gauge(
                "engine_poisoned",
                "1 after a final fault: writes are refused until a restart",
                u64::from(engine.poisoned),
            );
        }
        ours.register("memory_budget_bytes", "Memory the process may use", ConstGauge::new(self.memory_bytes as i64));
        let (shares, used) = (ShareGauges::default(), ShareGauges::default());
        for share in self.memory {
            shares.get_or_create(&[("share", share.name)]).set(share.max_bytes as i64);
            used.get_or_create(&[("share", share.name)]).set(share.used_bytes as i64);
        }
        ours.register("memory_share_bytes", "Memory a share of the budget may use", shares);
        ours.register("memory_used_bytes", "Memory a share of the budget uses", used);
        continuous(ours, &self.continuous);
        let mut counter = |name: &str, help: &str, value: u64| ours.register(name, help, ConstCounter::new(value));
        counter("result_cache_whole", "PromQL queries answered from the result cache", self.results.whole);
        counter(
            "result_cache_part",
            "PromQL queries some of whose steps came from the result cache",
            self.results.part,
        );
        counter("result_cache_none", "PromQL queries for which the result cache had nothing", self.results.none);
        counter("log_template_lines_refused", "Lines without room to learn from", self.templates.refused);
        counter("model_rows", "Rows that models were shown", self.models.rows);
        counter("model_anomalies", "Anomalies that their champions found", self.models.anomalies);
        counter("model_trainings", "Versions of models that were trained", self.models.trained);
        counter("model_promotions", "Versions that became champions", self.models.promoted);
        counter("model_rollbacks", "Champions that made way for the one before", self.models.rolled_back);
        counter(
            "default_detector_samples",
            "Samples that the default detector looked at",
            self.default_detector.looked,
        );
        counter("default_detector_anomalous", "Those that are anomalous", self.default_detector.anomalous);
        counter("default_detector_late", "Samples that came too late to be looked at", self.default_detector.late);
        counter(
            "default_detector_lost",
            "Commits that the log no longer had, and bits that could not be stored",
            self.default_detector.lost,
        );
        counter(
            "default_detector_series_refused",
            "Series that were too many to be watched",
            self.default_detector.refused,
        );
        counter("alert_evaluations", "Looks at what alerts watch", self.alerts.evaluations);
        counter("alert_evaluation_failures", "Those that failed, see sys.alerts", self.alerts.failures);
        counter("alert_fired", "Alerts that began to fire", self.alerts.fired);
        counter("alert_resolved", "Alerts that ended", self.alerts.resolved);
        counter("alert_notices_taken", "Notices that were taken", self.told[0]);
        counter("alert_notices_failed", "Notices that were not taken, each attempt counted", self.told[1]);
        counter("alert_notices_given_up", "Notices that were given up, see sys.notifications", self.alerts.given_up);
        counter("alert_notices_silenced", "Notices that nobody is told of, because of a silence", self.alerts.silenced);
        counter("model_failures", "Models that could not be shown their rows, see sys.models", self.models.failures);
        if let Some(engine) = &self.engine {
            counter("engine_samples_written", "Samples committed", engine.samples_written);
            counter("engine_records_written", "Records committed", engine.records_written);
            counter("engine_batches_written", "Batches committed", engine.batches_written);
            counter("engine_wal_syncs", "fdatasync calls of the write-ahead log", engine.wal_syncs);
            counter("engine_wal_bytes_written", "Bytes appended to the write-ahead log", engine.wal_bytes_written);
            counter("engine_flushes", "Memtables flushed to segments", engine.flushes);
            counter("engine_compactions", "Compactions", engine.compactions);
            counter("engine_compaction_read_bytes", "Segment bytes read by compactions", engine.compaction_bytes_read);
            counter(
                "engine_compaction_written_bytes",
                "Segment bytes written by them",
                engine.compaction_bytes_written,
            );
            counter("engine_rollups", "Rollups made", engine.rollups);
            counter("engine_rollup_written_bytes", "Bytes written for them", engine.rollup_bytes_written);
            counter("engine_deletes", "Deletes committed", engine.deletes);
            counter(
                "engine_partitions_dropped",
                "Time partitions dropped because the retention no longer keeps them",
                engine.partitions_dropped,
            );
            counter("engine_rows_deleted", "Deleted rows left out by flushes and merges", engine.rows_deleted);
        }
        let process = root.sub_registry_with_prefix("process");
        process.register(
            "resident_memory_bytes",
            "Resident memory size",
            ConstGauge::new(self.process.resident_bytes as i64),
        );
        process.register(
            "virtual_memory_bytes",
            "Virtual memory size",
            ConstGauge::new(self.process.virtual_bytes as i64),
        );
        process.register("open_fds", "Open file descriptors", ConstGauge::new(self.process.open_fds as i64));
        process.register("threads", "Threads", ConstGauge::new(self.process.threads as i64));
        process.register("cpu_seconds", "User and system CPU time", ConstCounter::new(self.process.cpu_seconds));
        root
    }
}

type PerQuery<M> = Family<[(&'static str, String); 2], M>;

/// Continuous queries and detectors, each by its name.
fn continuous(ours: &mut Registry, all: &[ContinuousStats]) {
    if all.is_empty() {
        return;
    }
    let labels = |stats: &ContinuousStats| [("name", stats.name.clone()), ("kind", stats.kind.to_owned())];
    type Value = fn(&ContinuousStats) -> u64;
    let gauges: [(&str, &str, Value); 3] = [
        ("lag_commits", "Commits it has not worked through yet", |stats| stats.lag),
        ("keys", "Series or groups whose state is in memory", |stats| stats.keys),
        ("state_bytes", "Stored state", |stats| stats.state_bytes),
    ];
    for (name, help, value) in gauges {
        let family = PerQuery::<Gauge>::default();
        for stats in all {
            family.get_or_create(&labels(stats)).set(i64::try_from(value(stats)).unwrap_or(i64::MAX));
        }
        ours.register(format!("continuous_query_{name}"), help, family);
    }
    let counters: [(&str, &str, Value); 5] = [
        ("rows_in", "Rows read from the feed", |stats| stats.rows_in),
        ("rows_out", "Rows written", |stats| stats.rows_out),
        ("late_rows", "Rows out of order", |stats| stats.late),
        ("recomputed", "Keys in buckets, or series, computed from storage for them", |stats| stats.recomputed),
        ("dropped_rows", "Rows that came too late to count", |stats| stats.dropped),
    ];
    for (name, help, value) in counters {
        let family = PerQuery::<Counter>::default();
        for stats in all {
            family.get_or_create(&labels(stats)).inc_by(value(stats));
        }
        ours.register(format!("continuous_query_{name}"), help, family);
    }
    let busy = PerQuery::<Counter<f64, AtomicU64>>::default();
    for stats in all {
        busy.get_or_create(&labels(stats)).inc_by(stats.busy_seconds);
    }
    ours.register("continuous_query_busy_seconds", "Time that its steps took", busy);
}
