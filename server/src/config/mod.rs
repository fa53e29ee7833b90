//! Configuration: flag > environment (`FORETELL_*`) > file (TOML) > default.
//!
//! The structures here *are* the file format; docs/operations.md lists them. An unknown key is an error that names the
//! nearest known one, whether it stands in the file or in the environment.
mod budget;
mod list;
mod load;
mod machine;
mod print;
mod rules;
mod unit;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use foretell_engine::EngineConfig;
use foretell_query::QueryLimits;
use foretell_query::event::Signal;
use foretell_query::promql::Features;
use serde::{Deserialize, Serialize};

pub(crate) use budget::{CONNECTION_BYTES, DECODED_AT_ONCE};
pub use list::List;
pub(crate) use load::file_path;
pub use load::{Flags, Loaded, load};
pub use rules::{Alerting, Rules};
pub use unit::{ByteSize, Span, parse_span};

pub use crate::naming::Translation;
use crate::remote_write::DecodeLimits;
use crate::remote_write::labels::LabelLimits;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the store.
    pub data_dir: Option<PathBuf>,
    /// HTTP: `host:port` or `none`.
    pub listen_http: String,
    /// gRPC: `host:port` or `none`.
    pub listen_grpc: String,
    /// PostgreSQL wire: only `none` so far.
    pub listen_pg: String,
    /// OTLP/HTTP beside the HTTP port: `host:port` or `none`.
    pub listen_otlp_http: String,
    /// How long a stop waits for work in flight.
    pub shutdown_timeout: Span,
    /// Memory of the whole process. What it is divided into has keys of its own (docs/limits.md).
    pub memory: ByteSize,
    /// What senders may do.
    pub limits: Limits,
    /// What queries may do.
    pub query: Query,
    /// What of PromQL is switched on.
    pub promql: Promql,
    /// Built-in continuous queries.
    pub continuous: Continuous,
    /// How OpenTelemetry's data becomes series.
    pub otlp: Otlp,
    /// The engine's sizes.
    pub storage: Storage,
    /// What is summed up beforehand.
    pub rollup: Rollup,
    /// How long data is kept.
    pub retention: Retention,
    /// Durability.
    pub wal: Wal,
    /// Patterns of Prometheus rule files; below the directory of the configuration file if there is one.
    pub rule_files: List,
    /// How rules are evaluated.
    pub rules: Rules,
    /// Where alerts go.
    pub alerting: Alerting,
}

/// `[limits]`: what senders may do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Compressed bytes of a write request.
    pub wire_bytes_max: ByteSize,
    /// Decompressed bytes of a write request.
    pub decoded_bytes_max: ByteSize,
    /// Decompressed bytes per compressed byte.
    pub ratio_max: usize,
    /// Bytes of write requests being worked on, all together.
    pub in_flight_bytes_max: ByteSize,
    /// Samples of a write request.
    pub samples_per_request_max: usize,
    /// Symbols of a remote write 2.0 request.
    pub symbols_per_request_max: usize,
    /// Labels of a series.
    pub labels_max: usize,
    /// Bytes of a label name.
    pub label_name_bytes_max: usize,
    /// Bytes of a label value.
    pub label_value_bytes_max: usize,
    /// How far ahead of the clock a timestamp may be.
    pub future_max: Span,
    /// Active series; only *new* series are refused above it.
    pub active_series_max: usize,
    /// Open connections.
    pub connections_max: usize,
    /// HTTP/2 streams of a connection.
    pub streams_max: u32,
    /// How long a client may take to send a request's headers.
    pub header_timeout: Span,
    /// How long a client may take to send a request's body.
    pub body_timeout: Span,
    /// How long a client may leave an answer unread.
    pub write_stall_timeout: Span,
}

/// `[query]`: what queries may do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Default and largest deadline.
    pub timeout: Span,
    /// Queries running at once.
    pub concurrency: usize,
    /// Queries waiting for a place.
    pub queue_max: usize,
    /// Memory of all queries together.
    pub memory_bytes_max: ByteSize,
    /// Memory of answers to PromQL queries that are kept for the next who ask; 0: none are.
    pub result_cache_bytes_max: ByteSize,
    /// Rows of an answer.
    pub rows_max: usize,
    /// Bytes of SQL text.
    pub sql_bytes_max: ByteSize,
    /// Operands of one boolean or arithmetic chain.
    pub terms_max: usize,
    /// Nesting.
    pub depth_max: usize,
    /// Samples that a PromQL query may hold at once.
    pub max_samples: usize,
}

/// `[promql]`: what of the language is switched on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Promql {
    /// Features, under the names that Prometheus's `--enable-feature` has for them.
    pub enable: List,
}

/// `[continuous]`: continuous queries.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Continuous {
    /// Names of built-in ones that are switched on.
    pub enable: List,
    /// Memory of the detectors of all of them; at most an eighth of `memory`.
    pub detector_bytes_max: ByteSize,
}

/// `[otlp]`: how OpenTelemetry's data becomes series.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// How names become names of metrics and labels; lines of InfluxDB follow it too.
    pub translation: Translation,
    /// Attributes of resources that become labels of their series; `*` means all.
    pub promote_resource_attributes: List,
}

/// Attributes of resources that tell series apart where people look for them.
const PROMOTED: [&str; 19] = [
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
];

/// `[storage]`: the engine's sizes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Width of a time partition.
    pub partition_width: Span,
    /// A memtable is sealed at this size ...
    pub memtable_bytes_max: ByteSize,
    /// ... or at this age.
    pub memtable_age_max: Span,
    /// Writers are refused when all memtables together reach this.
    pub memtable_total_bytes_max: ByteSize,
    /// Bytes of recent commits kept in memory for continuous queries.
    pub feed_bytes_max: ByteSize,
    /// Backups of the running server go below this directory; without one it makes none.
    pub backup_dir: Option<PathBuf>,
    /// Writes are refused when less of the disk is free. Not set: 1 %, at least 64 MiB, at most an eighth of the disk.
    pub disk_reserve: Option<ByteSize>,
    /// Memory of the index of active series; only *new* series are refused above it.
    pub index_bytes_max: ByteSize,
    /// Memory of the cache from names on the wire to series.
    pub key_cache_bytes_max: ByteSize,
    /// Memory of the catalogue's own store.
    pub catalogue_bytes_max: ByteSize,
    /// Memory of batches that wait for the write-ahead log.
    pub commit_queue_bytes_max: ByteSize,
    /// Memory in which a flush, and a merge, look for timestamps that series share.
    pub timeline_bytes_max: ByteSize,
}

/// `[rollup]`: what merges sum up beforehand, for queries of long ranges.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rollup {
    /// Widths of the buckets, for example `["5m", "1h"]`; none when empty.
    pub widths: List,
    /// The metrics: a regular expression, anchored at both ends.
    pub metrics: String,
}

/// `[retention]`: how long data is kept. Without either it is kept for ever.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Samples older than this are refused, and a time partition is dropped when all of it is older.
    pub age: Option<Span>,
    /// When all segments together are larger, the oldest time partitions are dropped; the newest never.
    pub bytes: Option<ByteSize>,
    /// Log lines older than this are refused, and deleted when all of their time partition is older.
    pub logs: Option<Span>,
    /// The same for spans.
    pub spans: Option<Span>,
}

/// `[wal]`: durability.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wal {
    /// When an acknowledgement is given.
    pub sync: WalSync,
    /// A segment is closed at this size.
    pub segment_bytes: ByteSize,
    /// How long a commit may wait for company.
    pub group_commit_window: Span,
    /// Bytes of WAL that slow consumers may hold back.
    pub retained_bytes_max: ByteSize,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WalSync {
    /// After `fdatasync`.
    Commit,
    /// Before it: a crash of the machine loses the tail.
    Interval,
}

impl Default for Config {
    fn default() -> Self {
        let engine = EngineConfig::new("");
        let query = QueryLimits::default();
        let decode = DecodeLimits::default();
        let labels = LabelLimits::default();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            data_dir: None,
            listen_http: "127.0.0.1:8484".to_owned(),
            listen_grpc: "127.0.0.1:4317".to_owned(),
            listen_pg: NONE.to_owned(),
            listen_otlp_http: "127.0.0.1:4318".to_owned(),
            shutdown_timeout: Span(Duration::from_secs(30)),
            memory: ByteSize(budget::default_memory(
                machine::Machine::read(),
                (decode.wire_bytes_max + decode.decoded_bytes_max) as u64,
            )),
            limits: Limits {
                wire_bytes_max: ByteSize::from(decode.wire_bytes_max),
                decoded_bytes_max: ByteSize::from(decode.decoded_bytes_max),
                ratio_max: decode.ratio_max,
                in_flight_bytes_max: ByteSize(256 << 20),
                samples_per_request_max: decode.samples_max,
                symbols_per_request_max: decode.symbols_max,
                labels_max: labels.labels_max,
                label_name_bytes_max: labels.name_bytes_max,
                label_value_bytes_max: labels.value_bytes_max,
                future_max: Span(Duration::from_secs(24 * 3600)),
                active_series_max: engine.active_series_max,
                connections_max: 1024,
                streams_max: 128,
                header_timeout: Span(Duration::from_secs(60)),
                body_timeout: Span(Duration::from_secs(60)),
                write_stall_timeout: Span(Duration::from_secs(60)),
            },
            query: Query {
                timeout: Span(query.timeout),
                concurrency: cores,
                queue_max: query.queue_max,
                memory_bytes_max: ByteSize::from(query.memory_bytes_max),
                result_cache_bytes_max: ByteSize::from(query.result_cache_bytes_max),
                rows_max: query.rows_max,
                sql_bytes_max: ByteSize::from(query.sql_bytes_max),
                terms_max: query.terms_max,
                depth_max: query.depth_max,
                max_samples: query.samples_max,
            },
            promql: Promql { enable: List::default() },
            continuous: Continuous {
                enable: List::default(),
                detector_bytes_max: ByteSize::from(query.continuous_bytes_max),
            },
            otlp: Otlp {
                translation: Translation::default(),
                promote_resource_attributes: List(PROMOTED.map(str::to_owned).to_vec()),
            },
            storage: Storage {
                partition_width: Span(engine.partition_width),
                memtable_bytes_max: ByteSize::from(engine.memtable_bytes_max),
                memtable_age_max: Span(engine.memtable_age_max),
                memtable_total_bytes_max: ByteSize::from(engine.memtable_total_bytes_max),
                feed_bytes_max: ByteSize::from(engine.feed_bytes_max),
                backup_dir: None,
                disk_reserve: engine.disk_reserve_bytes.map(ByteSize),
                index_bytes_max: ByteSize::from(engine.index_bytes_max),
                key_cache_bytes_max: ByteSize::from(engine.key_cache_bytes_max),
                catalogue_bytes_max: ByteSize::from(engine.catalogue_bytes_max),
                commit_queue_bytes_max: ByteSize::from(engine.commit_queue_bytes_max),
                timeline_bytes_max: ByteSize::from(engine.timeline_bytes_max),
            },
            rollup: Rollup { widths: List::default(), metrics: engine.rollup_metrics },
            retention: Retention { age: None, bytes: None, logs: None, spans: None },
            wal: Wal {
                sync: WalSync::Commit,
                segment_bytes: ByteSize(engine.wal_segment_bytes),
                group_commit_window: Span(engine.group_commit_window),
                retained_bytes_max: ByteSize(engine.wal_retained_bytes_max),
            },
            rule_files: List::default(),
            rules: Rules::default(),
            alerting: Alerting::default(),
        }
    }
}

/// Switches a listener off.
const NONE: &str = "none";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl Rollup {
    /// The widths of buckets.
    ///
    /// # Errors
    /// When one is no time span.
    fn widths(&self) -> Result<Vec<Duration>, ConfigError> {
        let parsed = self.widths.0.iter().map(|text| {
            let error =
                || ConfigError(format!("rollup.widths: {text:?} is no time span; write for example [\"5m\", \"1h\"]"));
            parse_span(text).filter(|width| !width.is_zero()).ok_or_else(error)
        });
        parsed.collect()
    }
}

impl Config {
    fn check_rollups(&self) -> Result<(), ConfigError> {
        let mut engine = EngineConfig::new("");
        engine.partition_width = self.storage.partition_width.0;
        engine.rollup_widths = self.rollup.widths()?;
        engine.rollup_metrics.clone_from(&self.rollup.metrics);
        engine.check_rollups().map_err(|error| ConfigError(format!("[rollup]: {error}")))
    }

    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// The first value that cannot be used and what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.listen_pg != NONE {
            return Err(ConfigError(format!(
                "--listen-pg {}: the PostgreSQL wire protocol is not built yet, so only `none` is accepted",
                self.listen_pg
            )));
        }
        self.http_addr()?;
        self.grpc_addr()?;
        self.otlp_http_addr()?;
        self.check_rollups()?;
        if let (Some(backups), Some(store)) = (&self.storage.backup_dir, &self.data_dir) {
            let inside = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
            if inside(backups).starts_with(inside(store)) {
                return Err(ConfigError(format!(
                    "storage.backup_dir {} lies inside the store {}; keep backups elsewhere, best on another disk",
                    backups.display(),
                    store.display()
                )));
            }
        }
        self.promql_features()?;
        crate::red::check(self.continuous.enable.0.iter().map(String::as_str))
            .map_err(|error| ConfigError(format!("continuous.enable: {error}")))?;
        let positive: [(&str, u64); 19] = [
            ("limits.wire_bytes_max", self.limits.wire_bytes_max.0),
            ("limits.decoded_bytes_max", self.limits.decoded_bytes_max.0),
            ("limits.ratio_max", self.limits.ratio_max as u64),
            ("limits.in_flight_bytes_max", self.limits.in_flight_bytes_max.0),
            ("limits.samples_per_request_max", self.limits.samples_per_request_max as u64),
            ("limits.symbols_per_request_max", self.limits.symbols_per_request_max as u64),
            ("limits.labels_max", self.limits.labels_max as u64),
            ("limits.connections_max", self.limits.connections_max as u64),
            ("limits.streams_max", u64::from(self.limits.streams_max)),
            ("query.concurrency", self.query.concurrency as u64),
            ("query.max_samples", self.query.max_samples as u64),
            ("query.memory_bytes_max", self.query.memory_bytes_max.0),
            ("storage.memtable_bytes_max", self.storage.memtable_bytes_max.0),
            ("storage.partition_width", self.storage.partition_width.0.as_nanos() as u64),
            ("retention.age", self.retention.age.map_or(1, |age| age.0.as_nanos() as u64)),
            ("retention.bytes", self.retention.bytes.map_or(1, |bytes| bytes.0)),
            ("retention.logs", self.retention.logs.map_or(1, |age| age.0.as_nanos() as u64)),
            ("retention.spans", self.retention.spans.map_or(1, |age| age.0.as_nanos() as u64)),
            ("wal.segment_bytes", self.wal.segment_bytes.0),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError(format!("{key} must be more than 0")));
        }
        for (key, value) in [
            ("limits.wire_bytes_max", self.limits.wire_bytes_max),
            ("limits.decoded_bytes_max", self.limits.decoded_bytes_max),
            ("limits.in_flight_bytes_max", self.limits.in_flight_bytes_max),
        ] {
            // Offsets inside a request and reservations in flight are 32-bit.
            if value.0 > u64::from(u32::MAX) {
                return Err(ConfigError(format!("{key} = {value} is above the largest possible value, 4GiB - 1")));
            }
        }
        if self.limits.in_flight_bytes_max.0 < self.limits.wire_bytes_max.0 + self.limits.decoded_bytes_max.0 {
            return Err(ConfigError(
                "limits.in_flight_bytes_max must be at least limits.wire_bytes_max + limits.decoded_bytes_max, \
                 or the largest request can never be taken"
                    .to_owned(),
            ));
        }
        self.rules.check()?;
        self.alerting.check()?;
        budget::check(self)
    }

    /// Where to listen for HTTP; `None` when switched off.
    ///
    /// # Errors
    /// When the address cannot be resolved or is reachable from other machines.
    pub fn http_addr(&self) -> Result<Option<SocketAddr>, ConfigError> {
        listen_addr("--listen-http", &self.listen_http, 8484)
    }

    /// Where to listen for gRPC, as [`Config::http_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn grpc_addr(&self) -> Result<Option<SocketAddr>, ConfigError> {
        listen_addr("--listen-grpc", &self.listen_grpc, 4317)
    }

    /// Where to listen for OTLP over HTTP beside the HTTP port, as [`Config::http_addr`].
    ///
    /// # Errors
    /// As there.
    pub fn otlp_http_addr(&self) -> Result<Option<SocketAddr>, ConfigError> {
        listen_addr("--listen-otlp-http", &self.listen_otlp_http, 4318)
    }

    /// The directory of the store.
    ///
    /// # Errors
    /// When none is configured.
    pub fn data_dir(&self) -> Result<&PathBuf, ConfigError> {
        self.data_dir.as_ref().filter(|dir| !dir.as_os_str().is_empty()).ok_or_else(|| {
            ConfigError("no data directory; give --data-dir DIR, FORETELL_DATA_DIR or data_dir in the file".to_owned())
        })
    }

    /// The engine's part.
    ///
    /// # Errors
    /// As [`Config::data_dir`].
    pub fn engine(&self) -> Result<EngineConfig, ConfigError> {
        let mut engine = EngineConfig::new(self.data_dir()?);
        engine.partition_width = self.storage.partition_width.0;
        engine.memtable_bytes_max = self.storage.memtable_bytes_max.as_usize();
        engine.memtable_total_bytes_max = self.storage.memtable_total_bytes_max.as_usize();
        engine.memtable_age_max = self.storage.memtable_age_max.0;
        engine.wal_segment_bytes = self.wal.segment_bytes.0;
        engine.group_commit_window = self.wal.group_commit_window.0;
        engine.sync_every_commit = self.wal.sync == WalSync::Commit;
        engine.active_series_max = self.limits.active_series_max;
        engine.wal_retained_bytes_max = self.wal.retained_bytes_max.0;
        engine.feed_bytes_max = self.storage.feed_bytes_max.as_usize();
        engine.retention_age = self.retention.age.map(|age| age.0);
        engine.retention_bytes = self.retention.bytes.map(|bytes| bytes.0);
        let own = [(Signal::Logs, self.retention.logs), (Signal::Spans, self.retention.spans)];
        let own = own.into_iter().filter_map(|(signal, age)| Some((signal.stream_name().to_owned(), age?.0)));
        engine.retention_of = own.collect();
        engine.rollup_widths = self.rollup.widths()?;
        engine.rollup_metrics.clone_from(&self.rollup.metrics);
        engine.disk_reserve_bytes = self.storage.disk_reserve.map(|bytes| bytes.0);
        engine.index_bytes_max = self.storage.index_bytes_max.as_usize();
        engine.key_cache_bytes_max = self.storage.key_cache_bytes_max.as_usize();
        engine.catalogue_bytes_max = self.storage.catalogue_bytes_max.as_usize();
        engine.commit_queue_bytes_max = self.storage.commit_queue_bytes_max.as_usize();
        engine.timeline_bytes_max = self.storage.timeline_bytes_max.as_usize();
        Ok(engine)
    }

    /// The database's part.
    pub fn query_limits(&self) -> QueryLimits {
        // No `..default()`: a limit that is added must become configurable.
        QueryLimits {
            sql_bytes_max: self.query.sql_bytes_max.as_usize(),
            terms_max: self.query.terms_max,
            depth_max: self.query.depth_max,
            timeout: self.query.timeout.0,
            concurrency: self.query.concurrency,
            queue_max: self.query.queue_max,
            memory_bytes_max: self.query.memory_bytes_max.as_usize(),
            continuous_bytes_max: self.continuous.detector_bytes_max.0.min(self.memory.0 / 8) as usize,
            result_cache_bytes_max: self.query.result_cache_bytes_max.as_usize(),
            rows_max: self.query.rows_max,
            samples_max: self.query.max_samples,
            spread_small: false,
            // Validated before.
            promql_features: self.promql_features().unwrap_or_default(),
        }
    }

    /// The features of PromQL that are switched on.
    ///
    /// # Errors
    /// An unknown name, with the known ones.
    pub fn promql_features(&self) -> Result<Features, ConfigError> {
        Features::named(self.promql.enable.0.iter().map(String::as_str))
            .map_err(|error| ConfigError(format!("promql.enable: {}", error.message)))
    }

    /// The decoder's part.
    pub fn decode_limits(&self) -> DecodeLimits {
        DecodeLimits {
            wire_bytes_max: self.limits.wire_bytes_max.as_usize(),
            decoded_bytes_max: self.limits.decoded_bytes_max.as_usize(),
            ratio_max: self.limits.ratio_max,
            samples_max: self.limits.samples_per_request_max,
            symbols_max: self.limits.symbols_per_request_max,
        }
    }

    /// What a series' labels may be.
    pub fn label_limits(&self) -> LabelLimits {
        LabelLimits {
            labels_max: self.limits.labels_max,
            name_bytes_max: self.limits.label_name_bytes_max,
            value_bytes_max: self.limits.label_value_bytes_max,
            new_bytes_max: self.limits.decoded_bytes_max.as_usize(),
        }
    }
}

/// The address that `flag` has as `text`; `None` when switched off. `port` is for the example in a message.
fn listen_addr(flag: &str, text: &str, port: u16) -> Result<Option<SocketAddr>, ConfigError> {
    if text == NONE {
        return Ok(None);
    }
    let addresses: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| {
            ConfigError(format!("{flag} {text}: {error}; write HOST:PORT, for example 127.0.0.1:{port}, or none"))
        })?
        .collect();
    if let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback()) {
        return Err(ConfigError(format!(
            "{flag} {text}: refusing to listen on {}, which other machines can reach: authentication is not built yet; \
             use 127.0.0.1:{} and put a reverse proxy that authenticates in front of it",
            open.ip(),
            open.port()
        )));
    }
    match addresses.first() {
        Some(address) => Ok(Some(*address)),
        None => Err(ConfigError(format!("{flag} {text}: resolves to no address"))),
    }
}
