//! Messages of the protocol by the names that their fields have in JSON: (name, number, kind).
//!
//! From the published definitions of opentelemetry-proto 1; a test of `json` reads them with `proto/proto/opentelemetry/`.
use super::json::Kind::{Any64, Base64, Bool, Double, Enum, Fixed64, Hex, List, Message, Sint32, Text, Varint};
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
    Schema(&[("attributes", 1, List(&Message(&KEY_VALUE))), ("droppedAttributesCount", 2, Varint)]);
static SCOPE: Schema = Schema(&[
    ("name", 1, Text),
    ("version", 2, Text),
    ("attributes", 3, List(&Message(&KEY_VALUE))),
    ("droppedAttributesCount", 4, Varint),
]);
static KEY_VALUE: Schema = Schema(&[("key", 1, Text), ("value", 2, Message(&ANY_VALUE))]);
static ANY_VALUE: Schema = Schema(&[
    ("stringValue", 1, Text),
    ("boolValue", 2, Bool),
    ("intValue", 3, Varint),
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
    ("asInt", 6, Any64),
    ("attributes", 7, List(&Message(&KEY_VALUE))),
    ("flags", 8, Varint),
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
    ("flags", 10, Varint),
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
    ("flags", 10, Varint),
    ("exemplars", 11, List(&Message(&EXEMPLAR))),
    ("min", 12, Double),
    ("max", 13, Double),
    ("zeroThreshold", 14, Double),
]);
static BUCKETS: Schema = Schema(&[("offset", 1, Sint32), ("bucketCounts", 2, List(&Varint))]);
static SUMMARY_POINT: Schema = Schema(&[
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("quantileValues", 6, List(&Message(&QUANTILE))),
    ("attributes", 7, List(&Message(&KEY_VALUE))),
    ("flags", 8, Varint),
]);
static QUANTILE: Schema = Schema(&[("quantile", 1, Double), ("value", 2, Double)]);
static EXEMPLAR: Schema = Schema(&[
    ("timeUnixNano", 2, Fixed64),
    ("asDouble", 3, Double),
    ("spanId", 4, Hex),
    ("traceId", 5, Hex),
    ("asInt", 6, Any64),
    ("filteredAttributes", 7, List(&Message(&KEY_VALUE))),
]);
