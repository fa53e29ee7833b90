//! The server's own metrics: counters kept here, gauges read from the engine and the kernel at each scrape.
mod process;
mod rules;
mod scrape;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use foretell_engine::{MemoryShare, StateSize};
use foretell_query::promql::ResultCacheStats;
use foretell_query::{AlertStats, DefaultDetectorStats, ModelStats, TemplateStats};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::app::{App, Phase};
use crate::remote_write::DecodeError;
use crate::remote_write::fault::Report;

type Labels<const N: usize> = [(&'static str, String); N];
type Durations<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Upper bounds of durations, seconds.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

/// Counters of one kind of records that senders write.
struct Stored {
    stored: Counter,
    dropped: Counter,
}

impl Stored {
    fn register(root: &mut Registry, name: &str, what: &str) -> Self {
        let this = Self { stored: Counter::default(), dropped: Counter::default() };
        root.register(format!("remote_write_{name}"), format!("{what} acknowledged as durable"), this.stored.clone());
        root.register(format!("remote_write_{name}_dropped"), format!("{what} refused"), this.dropped.clone());
        this
    }

    fn count(&self, stored: u64, dropped: u64) {
        self.stored.inc_by(stored);
        self.dropped.inc_by(dropped);
    }
}

/// Counters of Loki push.
struct Loki {
    requests: Family<Labels<2>, Counter>,
    seconds: Histogram,
    lines: Counter,
    dropped: Family<Labels<1>, Counter>,
    wire_bytes: Counter,
    decoded_bytes: Counter,
    refused: Family<Labels<1>, Counter>,
    tails: Gauge,
    tail_lines: Counter,
    tail_lines_dropped: Counter,
}

impl Loki {
    fn register(root: &mut Registry) -> Self {
        let this = Self {
            requests: Family::default(),
            seconds: durations(),
            lines: Counter::default(),
            dropped: Family::default(),
            wire_bytes: Counter::default(),
            decoded_bytes: Counter::default(),
            refused: Family::default(),
            tails: Gauge::default(),
            tail_lines: Counter::default(),
            tail_lines_dropped: Counter::default(),
        };
        root.register("loki_push_requests", "Loki push requests by form and status", this.requests.clone());
        root.register("loki_push_duration_seconds", "Time from request to durable answer", this.seconds.clone());
        root.register("loki_push_lines", "Log lines acknowledged as durable", this.lines.clone());
        root.register(
            "loki_push_lines_dropped",
            "Log lines refused, by the first fault of their request",
            this.dropped.clone(),
        );
        root.register("loki_push_wire_bytes", "Bytes received", this.wire_bytes.clone());
        root.register("loki_push_decoded_bytes", "Decompressed bytes", this.decoded_bytes.clone());
        root.register("loki_push_decode_errors", "Requests refused as a whole, by cause", this.refused.clone());
        root.register("loki_tails", "Clients that are told of log lines as they come", this.tails.clone());
        root.register("loki_tail_lines", "Log lines sent to such clients", this.tail_lines.clone());
        root.register(
            "loki_tail_lines_dropped",
            "Log lines not sent to such clients because they were too slow",
            this.tail_lines_dropped.clone(),
        );
        this
    }
}

/// Counters of the server.
pub(crate) struct Metrics {
    registry: Registry,
    http_requests: Family<Labels<3>, Counter>,
    http_seconds: Durations<1>,
    subscriptions: Gauge,
    subscription_rows: Counter,
    write_requests: Family<Labels<2>, Counter>,
    write_seconds: Histogram,
    write_samples: Counter,
    write_dropped: Family<Labels<1>, Counter>,
    write_exemplars: Stored,
    write_histograms: Stored,
    write_metadata: Counter,
    write_metadata_ignored: Counter,
    write_wire_bytes: Counter,
    write_decoded_bytes: Counter,
    decode_errors: Family<Labels<1>, Counter>,
    loki: Loki,
    push_requests: Family<Labels<3>, Counter>,
    push_seconds: Durations<1>,
    push_samples: Family<Labels<1>, Counter>,
    push_histograms: Family<Labels<1>, Counter>,
    push_rows: Family<Labels<1>, Counter>,
    push_exemplars: Family<Labels<1>, Counter>,
    push_refused: Family<Labels<2>, Counter>,
    push_bytes: Family<Labels<2>, Counter>,
    influx_texts: Counter,
    queries: Family<Labels<1>, Counter>,
    query_seconds: Histogram,
    backups: Family<Labels<1>, Counter>,
    backup_timestamp: Gauge,
    backup_bytes: Gauge,
    backup_copied_bytes: Gauge,
    rule_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut root = Registry::with_prefix("foretell");
        let http_requests = Family::<Labels<3>, Counter>::default();
        root.register("http_requests", "HTTP requests by route, method and status", http_requests.clone());
        let http_seconds: Durations<1> = Family::new_with_constructor(durations);
        root.register("http_request_duration_seconds", "Time to the head of the answer by route", http_seconds.clone());
        let subscriptions = Gauge::default();
        root.register("subscriptions", "Clients that have subscribed to rows", subscriptions.clone());
        let subscription_rows = Counter::default();
        root.register("subscription_rows", "Rows sent to such clients", subscription_rows.clone());
        let write_requests = Family::<Labels<2>, Counter>::default();
        root.register(
            "remote_write_requests",
            "Remote write requests by protocol version and status",
            write_requests.clone(),
        );
        let write_seconds = durations();
        root.register("remote_write_duration_seconds", "Time from request to durable answer", write_seconds.clone());
        let write_samples = Counter::default();
        root.register("remote_write_samples", "Samples acknowledged as durable", write_samples.clone());
        let write_dropped = Family::<Labels<1>, Counter>::default();
        root.register(
            "remote_write_samples_dropped",
            "Samples refused, by the first fault of their request",
            write_dropped.clone(),
        );
        let write_exemplars = Stored::register(&mut root, "exemplars", "Exemplars");
        let write_histograms = Stored::register(&mut root, "histograms", "Native histograms");
        let write_metadata = Counter::default();
        root.register("remote_write_metadata", "New or changed metadata of metrics stored", write_metadata.clone());
        let write_metadata_ignored = Counter::default();
        root.register(
            "remote_write_metadata_ignored",
            "Metadata of metrics above a limit, not stored",
            write_metadata_ignored.clone(),
        );
        let write_wire_bytes = Counter::default();
        root.register("remote_write_wire_bytes", "Compressed bytes received", write_wire_bytes.clone());
        let write_decoded_bytes = Counter::default();
        root.register("remote_write_decoded_bytes", "Decompressed bytes", write_decoded_bytes.clone());
        let decode_errors = Family::<Labels<1>, Counter>::default();
        root.register("remote_write_decode_errors", "Requests refused as a whole, by cause", decode_errors.clone());
        let loki = Loki::register(&mut root);
        let push_requests = Family::<Labels<3>, Counter>::default();
        let help = "OTLP and InfluxDB requests by protocol, transport and status";
        root.register("ingest_requests", help, push_requests.clone());
        let push_seconds: Durations<1> = Family::new_with_constructor(durations);
        root.register(
            "ingest_duration_seconds",
            "Time from such a request to its durable answer",
            push_seconds.clone(),
        );
        let push_samples = Family::<Labels<1>, Counter>::default();
        root.register("ingest_samples", "Samples of such requests acknowledged as durable", push_samples.clone());
        let push_histograms = Family::<Labels<1>, Counter>::default();
        root.register("ingest_histograms", "Native histograms, in the same way", push_histograms.clone());
        let push_rows = Family::<Labels<1>, Counter>::default();
        root.register(
            "ingest_rows",
            "Log records and spans of such requests acknowledged as durable",
            push_rows.clone(),
        );
        let push_exemplars = Family::<Labels<1>, Counter>::default();
        root.register("ingest_exemplars", "Exemplars, in the same way", push_exemplars.clone());
        let push_refused = Family::<Labels<2>, Counter>::default();
        let help = "Lines, data points, log records and spans refused, by the first fault of their request";
        root.register("ingest_points_refused", help, push_refused.clone());
        let push_bytes = Family::<Labels<2>, Counter>::default();
        root.register("ingest_bytes", "Bytes received, as on the wire and decompressed", push_bytes.clone());
        let influx_texts = Counter::default();
        let help = "Fields of InfluxDB lines that have a text, which is no sample";
        root.register("influx_text_fields_skipped", help, influx_texts.clone());
        let queries = Family::<Labels<1>, Counter>::default();
        root.register("queries", "SQL statements by outcome", queries.clone());
        let query_seconds = durations();
        root.register("query_duration_seconds", "Time from statement to its last row", query_seconds.clone());
        let backups = Family::<Labels<1>, Counter>::default();
        root.register("backups", "Backups of the running store by outcome", backups.clone());
        let backup_timestamp = Gauge::default();
        root.register(
            "backup_last_success_timestamp_seconds",
            "When the last backup that succeeded began, 0 for none since the start",
            backup_timestamp.clone(),
        );
        let backup_bytes = Gauge::default();
        root.register("backup_last_bytes", "Bytes of that backup", backup_bytes.clone());
        let backup_copied_bytes = Gauge::default();
        root.register("backup_last_copied_bytes", "Bytes it did not share", backup_copied_bytes.clone());
        let rule_seconds = durations();
        root.register("rule_evaluation_duration_seconds", "Time of the evaluation of a rule", rule_seconds.clone());
        Self {
            registry: root,
            http_requests,
            http_seconds,
            subscriptions,
            subscription_rows,
            write_requests,
            write_seconds,
            write_samples,
            write_dropped,
            write_exemplars,
            write_histograms,
            write_metadata,
            write_metadata_ignored,
            write_wire_bytes,
            write_decoded_bytes,
            decode_errors,
            loki,
            push_requests,
            push_seconds,
            push_samples,
            push_histograms,
            push_rows,
            push_exemplars,
            push_refused,
            push_bytes,
            influx_texts,
            queries,
            query_seconds,
            backups,
            backup_timestamp,
            backup_bytes,
            backup_copied_bytes,
            rule_seconds,
        }
    }

    pub(crate) fn http_request(&self, route: &str, method: &Method, status: StatusCode, elapsed: Duration) {
        // Methods are the client's to invent: only known ones may become label values.
        let method = match method.as_str() {
            known @ ("GET" | "POST" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
            _ => "other",
        };
        let labels =
            [("route", route.to_owned()), ("method", method.to_owned()), ("status", status.as_str().to_owned())];
        self.http_requests.get_or_create(&labels).inc();
        self.http_seconds.get_or_create(&[("route", route.to_owned())]).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn remote_write_request(&self, version: &str, status: StatusCode, elapsed: Duration) {
        let labels = [("protocol", version.to_owned()), ("status", status.as_str().to_owned())];
        self.write_requests.get_or_create(&labels).inc();
        self.write_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn remote_write_bytes(&self, wire: usize, decoded: usize) {
        self.write_wire_bytes.inc_by(wire as u64);
        self.write_decoded_bytes.inc_by(decoded as u64);
    }

    pub(crate) fn ingested(&self, report: &Report) {
        self.write_samples.inc_by(report.samples_stored);
        self.write_exemplars.count(report.exemplars_stored, report.faults.exemplars_dropped);
        self.write_histograms.count(report.histograms_stored, report.faults.histograms_dropped);
        self.write_metadata.inc_by(report.metadata_stored);
        self.write_metadata_ignored.inc_by(report.metadata_ignored);
        if let Some(fault) = report.faults.first() {
            let reason = [("reason", fault.reason().to_owned())];
            self.write_dropped.get_or_create(&reason).inc_by(report.faults.samples_dropped);
        }
    }

    pub(crate) fn loki_push(&self, form: &str, status: StatusCode, elapsed: Duration) {
        let labels = [("form", form.to_owned()), ("status", status.as_str().to_owned())];
        self.loki.requests.get_or_create(&labels).inc();
        self.loki.seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn loki_bytes(&self, wire: usize, decoded: usize) {
        self.loki.wire_bytes.inc_by(wire as u64);
        self.loki.decoded_bytes.inc_by(decoded as u64);
    }

    pub(crate) fn loki_ingested(&self, report: &crate::loki::ingest::Report) {
        self.loki.lines.inc_by(report.stored);
        if let Some(fault) = &report.fault {
            self.loki.dropped.get_or_create(&[("reason", fault.reason().to_owned())]).inc_by(report.dropped);
        }
    }

    pub(crate) fn loki_refused(&self, cause: &str) {
        self.loki.refused.get_or_create(&[("cause", cause.to_owned())]).inc();
    }

    /// How many clients are told of lines as they come.
    pub(crate) fn loki_tails(&self) -> Gauge {
        self.loki.tails.clone()
    }

    pub(crate) fn loki_tail_lines(&self, sent: u64) {
        self.loki.tail_lines.inc_by(sent);
    }

    pub(crate) fn loki_tail_lines_dropped(&self, dropped: u64) {
        self.loki.tail_lines_dropped.inc_by(dropped);
    }

    /// How many clients have subscribed.
    pub(crate) fn subscriptions(&self) -> Gauge {
        self.subscriptions.clone()
    }

    pub(crate) fn subscription_rows(&self, sent: u64) {
        self.subscription_rows.inc_by(sent);
    }

    /// A request of OTLP or the line protocol; `status` is that of its transport.
    pub(crate) fn push_request(&self, protocol: &str, transport: &str, status: &str, elapsed: Duration) {
        let protocol = ("protocol", protocol.to_owned());
        let labels = [protocol.clone(), ("transport", transport.to_owned()), ("status", status.to_owned())];
        self.push_requests.get_or_create(&labels).inc();
        self.push_seconds.get_or_create(&[protocol]).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn push_bytes(&self, protocol: &str, wire: usize, decoded: usize) {
        for (stage, bytes) in [("wire", wire), ("decoded", decoded)] {
            let labels = [("protocol", protocol.to_owned()), ("stage", stage.to_owned())];
            self.push_bytes.get_or_create(&labels).inc_by(bytes as u64);
        }
    }

    /// What became of such a request.
    pub(crate) fn pushed(&self, protocol: &str, report: &Report) {
        let labels = [("protocol", protocol.to_owned())];
        self.push_samples.get_or_create(&labels).inc_by(report.samples_stored);
        self.push_histograms.get_or_create(&labels).inc_by(report.histograms_stored);
        self.push_exemplars.get_or_create(&labels).inc_by(report.exemplars_stored);
        self.write_metadata.inc_by(report.metadata_stored);
        self.write_metadata_ignored.inc_by(report.metadata_ignored);
        if let Some(fault) = report.faults.first() {
            let labels = [("protocol", protocol.to_owned()), ("reason", fault.reason().to_owned())];
            self.push_refused.get_or_create(&labels).inc_by(report.points_dropped);
        }
    }

    /// What became of the log records or spans of such a request; `reason` is that of its first fault.
    pub(crate) fn pushed_rows(&self, protocol: &str, stored: u64, rejected: u64, reason: Option<&str>) {
        self.push_rows.get_or_create(&[("protocol", protocol.to_owned())]).inc_by(stored);
        if let Some(reason) = reason {
            let labels = [("protocol", protocol.to_owned()), ("reason", reason.to_owned())];
            self.push_refused.get_or_create(&labels).inc_by(rejected);
        }
    }

    /// Counts fields that have a text.
    pub(crate) fn influx_texts(&self) -> Counter {
        self.influx_texts.clone()
    }

    pub(crate) fn decode_error(&self, error: &DecodeError) {
        let cause = match error {
            DecodeError::TooLarge(_) => "too_large",
            DecodeError::Snappy(_) => "snappy",
            DecodeError::Body(_) => "body",
            DecodeError::Malformed { .. } => "protobuf",
        };
        self.decode_errors.get_or_create(&[("cause", cause.to_owned())]).inc();
    }

    pub(crate) fn backup_made(&self, made: &foretell_engine::backup::Made) {
        self.backups.get_or_create(&[("outcome", "ok".to_owned())]).inc();
        self.backup_timestamp.set(made.backup.created_ns / 1_000_000_000);
        self.backup_bytes.set(made.backup.bytes as i64);
        self.backup_copied_bytes.set(made.bytes_copied as i64);
    }

    pub(crate) fn backup_failed(&self) {
        self.backups.get_or_create(&[("outcome", "error".to_owned())]).inc();
    }

    /// What the evaluations of rules observe.
    pub(crate) fn rule_seconds(&self) -> Histogram {
        self.rule_seconds.clone()
    }

    /// Starts timing a statement.
    pub(crate) fn query_timer(&self) -> QueryTimer {
        QueryTimer {
            queries: self.queries.clone(),
            seconds: self.query_seconds.clone(),
            started: Instant::now(),
            outcome: None,
        }
    }

    /// OpenMetrics text of everything.
    pub(crate) async fn encode(&self, app: &Arc<App>) -> Result<String, std::fmt::Error> {
        use prometheus_client::encoding::text::{encode_eof, encode_registry};
        let mut text = String::with_capacity(16 << 10);
        encode_registry(&mut text, &self.registry)?;
        let in_flight_bytes = app.in_flight_bytes();
        let max_bytes = app.config.limits.in_flight_bytes_max.0;
        let mut memory = vec![MemoryShare { name: "in_flight", used_bytes: in_flight_bytes as u64, max_bytes }];
        let (mut engine, mut continuous) = (None, Vec::new());
        let mut state = StateSize::default();
        let mut results = ResultCacheStats::default();
        let (mut templates, mut models) = (TemplateStats::default(), ModelStats::default());
        let (mut alerts, mut default_detector) = (AlertStats::default(), DefaultDetectorStats::default());
        if let Phase::Ready(store) = app.phase() {
            engine = Some(store.engine.stats());
            continuous = store.database.continuous_stats();
            templates = store.database.log_templates();
            models = store.database.models();
            alerts = store.database.alert_stats();
            default_detector = store.database.default_detector_stats();
            memory.extend(store.engine.memory());
            let (used_bytes, max_bytes) =
                (store.database.memory_used_bytes() as u64, app.config.query.memory_bytes_max.0);
            memory.push(MemoryShare { name: "query", used_bytes, max_bytes });
            let (used_bytes, max_bytes) = store.database.continuous_memory_bytes();
            memory.push(MemoryShare { name: "continuous", used_bytes: used_bytes as u64, max_bytes: max_bytes as u64 });
            results = store.database.result_cache_stats();
            let max_bytes = app.config.query.result_cache_bytes_max.0;
            memory.push(MemoryShare { name: "result_cache", used_bytes: results.bytes, max_bytes });
            state = store.engine.snapshot().state_size(b"");
        }
        let told = [&app.told.taken, &app.told.failed].map(|counter| counter.load(Ordering::Relaxed));
        let memory_bytes = app.config.memory.0;
        let process = process::Usage::read();
        let now = scrape::Reading {
            engine,
            continuous,
            state,
            templates,
            models,
            alerts,
            default_detector,
            results,
            told,
            in_flight_bytes,
            memory_bytes,
            memory,
            process,
        };
        encode_registry(&mut text, &now.registry())?;
        encode_registry(&mut text, &rules::registry(&app.rules))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Counts a statement once, whichever way it ends; dropped without an outcome, the client has gone away.
pub(crate) struct QueryTimer {
    queries: Family<Labels<1>, Counter>,
    seconds: Histogram,
    started: Instant,
    outcome: Option<&'static str>,
}

impl QueryTimer {
    pub(crate) fn finish(mut self, outcome: &'static str) {
        self.outcome = Some(outcome);
    }
}

impl Drop for QueryTimer {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or("abandoned");
        self.queries.get_or_create(&[("outcome", outcome.to_owned())]).inc();
        self.seconds.observe(self.started.elapsed().as_secs_f64());
    }
}
