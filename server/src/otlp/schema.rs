//! Messages of the protocol by the names that their fields have in JSON: (name, number, kind).
//!
//! From the published definitions of opentelemetry-proto 1; tests of `json` read them with `proto/proto/opentelemetry/`. The flags
//! of records, spans and links are left out: nothing reads them.
use super::json::Kind::{
    Base64, Bool, Double, Enum, Fixed64, Hex, Int64, List, Message, Sfixed64, Sint32, Text, Uint32, Uint64,
};
use super::json::Schema;

const TEMPORALITIES: &[&str] =
    &["AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"];

/// `ExportMetricsServiceRequest`.
pub(super) static METRICS_REQUEST: Schema = Schema(&[("resourceMetrics", 1, List(&Message(&RESOURCE_METRICS)))]);

static RESOURCE_METRICS: Schema = Schema(&[
    ("resource", 1, Message(&RESOURCE)),
    ("scopeMetrics", 2, List(&Message(&SCOPE_METRICS))),
    ("schemaUrl", 3, Text),
]);
static RESOURCE: Schema =
    Schema(&[("attributes", 1, List(&Message(&KEY_VALUE))), ("droppedAttributesCount", 2, Uint32)]);
static SCOPE: Schema = Schema(&[
    ("name", 1, Text),
    ("version", 2, Text),
    ("attributes", 3, List(&Message(&KEY_VALUE))),
    ("droppedAttributesCount", 4, Uint32),
]);
static KEY_VALUE: Schema = Schema(&[("key", 1, Text), ("value", 2, Message(&ANY_VALUE))]);
static ANY_VALUE: Schema = Schema(&[
    ("stringValue", 1, Text),
    ("boolValue", 2, Bool),
    ("intValue", 3, Int64),
    ("doubleValue", 4, Double),
    ("arrayValue", 5, Message(&ARRAY_VALUE)),
    ("kvlistValue", 6, Message(&KEY_VALUE_LIST)),
    ("bytesValue", 7, Base64),
]);
static ARRAY_VALUE: Schema = Schema(&[("values", 1, List(&Message(&ANY_VALUE)))]);
static KEY_VALUE_LIST: Schema = Schema(&[("values", 1, List(&Message(&KEY_VALUE)))]);

static SCOPE_METRICS: Schema =
    Schema(&[("scope", 1, Message(&SCOPE)), ("metrics", 2, List(&Message(&METRIC))), ("schemaUrl", 3, Text)]);
static METRIC: Schema = Schema(&[
    ("name", 1, Text),
    ("description", 2, Text),
    ("unit", 3, Text),
    ("gauge", 5, Message(&GAUGE)),
    ("sum", 7, Message(&SUM)),
    ("histogram", 9, Message(&HISTOGRAM)),
    ("exponentialHistogram", 10, Message(&EXPONENTIAL)),
    ("summary", 11, Message(&SUMMARY)),
    ("metadata", 12, List(&Message(&KEY_VALUE))),
]);
static GAUGE: Schema = Schema(&[("dataPoints", 1, List(&Message(&NUMBER)))]);
static SUM: Schema = Schema(&[
    ("dataPoints", 1, List(&Message(&NUMBER))),
    ("aggregationTemporality", 2, Enum(TEMPORALITIES)),
    ("isMonotonic", 3, Bool),
]);
static HISTOGRAM: Schema =
    Schema(&[("dataPoints", 1, List(&Message(&HISTOGRAM_POINT))), ("aggregationTemporality", 2, Enum(TEMPORALITIES))]);
static EXPONENTIAL: Schema = Schema(&[
    ("dataPoints", 1, List(&Message(&EXPONENTIAL_POINT))),
    ("aggregationTemporality", 2, Enum(TEMPORALITIES)),
]);
static SUMMARY: Schema = Schema(&[("dataPoints", 1, List(&Message(&SUMMARY_POINT)))]);
static NUMBER: Schema = Schema(&[
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("asDouble", 4, Double),
    ("exemplars", 5, List(&Message(&EXEMPLAR))),
    ("asInt", 6, Sfixed64),
    ("attributes", 7, List(&Message(&KEY_VALUE))),
    ("flags", 8, Uint32),
]);
static HISTOGRAM_POINT: Schema = Schema(&[
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("bucketCounts", 6, List(&Fixed64)),
    ("explicitBounds", 7, List(&Double)),
    ("exemplars", 8, List(&Message(&EXEMPLAR))),
    ("attributes", 9, List(&Message(&KEY_VALUE))),
    ("flags", 10, Uint32),
    ("min", 11, Double),
    ("max", 12, Double),
]);
static EXPONENTIAL_POINT: Schema = Schema(&[
    ("attributes", 1, List(&Message(&KEY_VALUE))),
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("scale", 6, Sint32),
    ("zeroCount", 7, Fixed64),
    ("positive", 8, Message(&BUCKETS)),
    ("negative", 9, Message(&BUCKETS)),
    ("flags", 10, Uint32),
    ("exemplars", 11, List(&Message(&EXEMPLAR))),
    ("min", 12, Double),
    ("max", 13, Double),
    ("zeroThreshold", 14, Double),
]);
static BUCKETS: Schema = Schema(&[("offset", 1, Sint32), ("bucketCounts", 2, List(&Uint64))]);
static SUMMARY_POINT: Schema = Schema(&[
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("quantileValues", 6, List(&Message(&QUANTILE))),
    ("attributes", 7, List(&Message(&KEY_VALUE))),
    ("flags", 8, Uint32),
]);
static QUANTILE: Schema = Schema(&[("quantile", 1, Double), ("value", 2, Double)]);
static EXEMPLAR: Schema = Schema(&[
    ("timeUnixNano", 2, Fixed64),
    ("asDouble", 3, Double),
    ("spanId", 4, Hex),
    ("traceId", 5, Hex),
    ("asInt", 6, Sfixed64),
    ("filteredAttributes", 7, List(&Message(&KEY_VALUE))),
]);

const SEVERITIES: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];
const SPAN_KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUS_CODES: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

/// `ExportLogsServiceRequest`.
pub(super) static LOGS_REQUEST: Schema = Schema(&[("resourceLogs", 1, List(&Message(&RESOURCE_LOGS)))]);

static RESOURCE_LOGS: Schema = Schema(&[
    ("resource", 1, Message(&RESOURCE)),
    ("scopeLogs", 2, List(&Message(&SCOPE_LOGS))),
    ("schemaUrl", 3, Text),
]);
static SCOPE_LOGS: Schema =
    Schema(&[("scope", 1, Message(&SCOPE)), ("logRecords", 2, List(&Message(&LOG_RECORD))), ("schemaUrl", 3, Text)]);
static LOG_RECORD: Schema = Schema(&[
    ("timeUnixNano", 1, Fixed64),
    ("severityNumber", 2, Enum(SEVERITIES)),
    ("severityText", 3, Text),
    ("body", 5, Message(&ANY_VALUE)),
    ("attributes", 6, List(&Message(&KEY_VALUE))),
    ("droppedAttributesCount", 7, Uint32),
    ("traceId", 9, Hex),
    ("spanId", 10, Hex),
    ("observedTimeUnixNano", 11, Fixed64),
    ("eventName", 12, Text),
]);

/// `ExportTraceServiceRequest`.
pub(super) static TRACES_REQUEST: Schema = Schema(&[("resourceSpans", 1, List(&Message(&RESOURCE_SPANS)))]);

static RESOURCE_SPANS: Schema = Schema(&[
    ("resource", 1, Message(&RESOURCE)),
    ("scopeSpans", 2, List(&Message(&SCOPE_SPANS))),
    ("schemaUrl", 3, Text),
]);
static SCOPE_SPANS: Schema =
    Schema(&[("scope", 1, Message(&SCOPE)), ("spans", 2, List(&Message(&SPAN))), ("schemaUrl", 3, Text)]);
static SPAN: Schema = Schema(&[
    ("traceId", 1, Hex),
    ("spanId", 2, Hex),
    ("traceState", 3, Text),
    ("parentSpanId", 4, Hex),
    ("name", 5, Text),
    ("kind", 6, Enum(SPAN_KINDS)),
    ("startTimeUnixNano", 7, Fixed64),
    ("endTimeUnixNano", 8, Fixed64),
    ("attributes", 9, List(&Message(&KEY_VALUE))),
    ("droppedAttributesCount", 10, Uint32),
    ("events", 11, List(&Message(&EVENT))),
    ("droppedEventsCount", 12, Uint32),
    ("links", 13, List(&Message(&LINK))),
    ("droppedLinksCount", 14, Uint32),
    ("status", 15, Message(&STATUS)),
]);
static EVENT: Schema = Schema(&[
    ("timeUnixNano", 1, Fixed64),
    ("name", 2, Text),
    ("attributes", 3, List(&Message(&KEY_VALUE))),
    ("droppedAttributesCount", 4, Uint32),
]);
static LINK: Schema = Schema(&[
    ("traceId", 1, Hex),
    ("spanId", 2, Hex),
    ("traceState", 3, Text),
    ("attributes", 4, List(&Message(&KEY_VALUE))),
    ("droppedAttributesCount", 5, Uint32),
]);
static STATUS: Schema = Schema(&[("message", 2, Text), ("code", 3, Enum(STATUS_CODES))]);
