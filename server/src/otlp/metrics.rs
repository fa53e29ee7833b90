//! Data points to rows, by the rule of Prometheus 3 (docs/otlp.md).
//!
//! ```text
//!  1 ResourceMetrics { 1 Resource { 1 KeyValue* }
//!                      2 ScopeMetrics { 1 scope  2 Metric { 1 name 2 description 3 unit  5 gauge 7 sum 9 histogram
//!                                                           10 exponential histogram 11 summary }* }* }*
//! ```
//! A message is walked once for what concerns all its parts, wherever that stands, and once for the parts.
mod distribution;

use foretell_query::event::hex;

use super::exponential::Buckets;
use super::wire::{DEPTH_MAX, Field, NoText, fields, key_value, refusal, value_text};
use crate::config::Otlp;
use crate::naming::{Kind, Translation};
use crate::remote_write::DecodeError;
use crate::remote_write::fault::Fault;
use crate::remote_write::rows::{NO_POINT, Refs, Rows};
use crate::remote_write::wire::Malformed;
use crate::sender::encode::put_varint;
use crate::sender::encode_labels;

/// Attributes of a resource that are looked at.
const RESOURCE_ATTRIBUTES_MAX: usize = 1024;
/// Attributes, exemplars and quantiles of a point that are looked at, each.
const PARTS_MAX: usize = 1024;
/// Bit of a point's flags: there is no value, the series has ended.
const NO_VALUE: u64 = 1;
const CUMULATIVE: u64 = 2;
const DELTA: u64 = 1;
/// Types of metrics as remote write numbers them.
const COUNTER: u64 = 1;
const GAUGE: u64 = 2;
const HISTOGRAM: u64 = 3;
const SUMMARY: u64 = 5;

const STALE: f64 = f64::from_bits(foretell_proto::prometheus::STALE_NAN_BITS);

/// The part of the configuration that decides about names and labels.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) translation: Translation,
    pub(super) promoted: Vec<String>,
    /// Labels of a series.
    pub(super) labels_max: usize,
}

impl Mapping {
    pub(super) fn new(otlp: &Otlp, labels_max: usize) -> Self {
        let promoted = otlp.promote_resource_attributes.0.clone();
        Self { translation: otlp.translation, promoted, labels_max }
    }

    fn promotes(&self, key: &[u8]) -> bool {
        self.promoted.iter().any(|promoted| promoted == "*" || promoted.as_bytes() == key)
    }
}

/// Why a walk ends before the end: of a point or a resource, or of the request.
enum Stop {
    Point(Fault),
    Refused(DecodeError),
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<NoText> for Stop {
    fn from(why: NoText) -> Self {
        match why {
            NoText::Malformed(malformed) => Self::Malformed(malformed),
            NoText::TooDeep => {
                let why = format!("an attribute whose lists and maps lie more than {DEPTH_MAX} deep in one another");
                Self::Point(Fault::Point(why))
            }
        }
    }
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Refused(error)
    }
}

/// Makes rows of an encoded `ExportMetricsServiceRequest`.
///
/// # Errors
/// When it is no such message or too large; what is wrong with a point is noted in `rows`.
pub(super) fn fill(body: &[u8], mapping: &Mapping, rows: &mut Rows<'_>) -> Result<(), DecodeError> {
    let mut walk = Walk { mapping, rows, points: 0, scratch: Scratch::default() };
    let walked = fields(body, |number, field| match number {
        1 => walk.resource_metrics(field.bytes()?),
        _ => Ok(()),
    });
    walked.map_err(|stop| match stop {
        Stop::Refused(error) => error,
        Stop::Malformed(malformed) => refusal(malformed),
        // Those are counted where they are found.
        Stop::Point(fault) => DecodeError::Body(fault.to_string()),
    })
}

/// Labels as symbols: (name, value), each name once.
type Labels = Vec<(u32, u32)>;

/// What is kept from point to point for its memory.
#[derive(Default)]
struct Scratch {
    text: String,
    bytes: Vec<u8>,
    refs: Refs,
    labels: Labels,
    counts: Vec<u64>,
    borders: Vec<f64>,
    negative: Buckets,
    positive: Buckets,
}

struct Walk<'r, 'a> {
    mapping: &'r Mapping,
    rows: &'r mut Rows<'a>,
    /// Points so far; the number of the last.
    points: u32,
    scratch: Scratch,
}

/// What of a resource concerns its points.
#[derive(Default)]
struct Resource {
    /// Promoted attributes; `job` and `instance`.
    promoted: Labels,
    identity: Labels,
    /// Labels of `target_info`; empty when there is none.
    info: Labels,
    fault: Option<Fault>,
    /// Time of its last point.
    last_ts: Option<i64>,
}

/// What of a metric concerns its points.
#[derive(Clone, Copy)]
struct Metric<'m> {
    /// As sent, for messages.
    sent: &'m [u8],
    name: &'m str,
    refused: Option<&'m Fault>,
}

/// The parts of a point that all types have.
#[derive(Default)]
struct Point<'a> {
    attributes: Vec<(&'a [u8], &'a [u8])>,
    start: u64,
    time: u64,
    flags: u64,
    exemplars: Vec<&'a [u8]>,
    /// Whether it has more than are looked at.
    more_attributes: bool,
    exemplars_dropped: u64,
}

impl<'a> Point<'a> {
    fn no_value(&self) -> bool {
        self.flags & NO_VALUE != 0
    }

    fn attribute(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        let attribute = key_value(field.bytes()?)?;
        self.more_attributes |= self.attributes.len() >= PARTS_MAX;
        if !self.more_attributes {
            self.attributes.push(attribute);
        }
        Ok(())
    }

    fn exemplar(&mut self, field: Field<'a>) -> Result<(), Malformed> {
        let exemplar = field.bytes()?;
        if self.exemplars.len() < PARTS_MAX {
            self.exemplars.push(exemplar);
        } else {
            self.exemplars_dropped += 1;
        }
        Ok(())
    }
}

impl Walk<'_, '_> {
    fn resource_metrics(&mut self, message: &[u8]) -> Result<(), Stop> {
        let mut attributes = Vec::new();
        let mut over = false;
        fields(message, |number, field| {
            if number == 1 {
                fields(field.bytes()?, |number, field| {
                    if number == 1 {
                        let attribute = key_value(field.bytes()?)?;
                        over |= attributes.len() >= RESOURCE_ATTRIBUTES_MAX;
                        if !over {
                            attributes.push(attribute);
                        }
                    }
                    Ok::<_, Malformed>(())
                })?;
            }
            Ok::<_, Malformed>(())
        })?;
        let mut resource = match self.resource(&mut attributes) {
            Err(Stop::Point(fault)) => Resource { fault: Some(fault), ..Resource::default() },
            read => read?,
        };
        if over {
            let why = format!("a resource of more than {RESOURCE_ATTRIBUTES_MAX} attributes");
            resource.fault = Some(Fault::Point(why));
        }
        fields(message, |number, field| {
            if number == 2 {
                fields(field.bytes()?, |number, field| match number {
                    2 => self.metric(field.bytes()?, &mut resource),
                    _ => Ok(()),
                })?;
            }
            Ok::<_, Stop>(())
        })?;
        self.target_info(&resource)
    }

    /// Labels of a resource.
    fn resource(&mut self, attributes: &mut [(&[u8], &[u8])]) -> Result<Resource, Stop> {
        attributes.sort_by_key(|attribute| attribute.0);
        let mut resource = Resource::default();
        let find = |name: &str| -> Result<Option<Vec<u8>>, NoText> {
            let found = attributes.iter().find(|attribute| attribute.0 == name.as_bytes());
            found
                .map(|(_, value)| {
                    let mut text = Vec::new();
                    value_text(value, &mut text).map(|()| text)
                })
                .transpose()
        };
        if let Some(mut job) = find("service.name")? {
            if let Some(namespace) = find("service.namespace")? {
                job = [&namespace[..], b"/", &job].concat();
            }
            resource.identity.push((self.rows.symbol(b"job")?, self.rows.symbol(&job)?));
        }
        if let Some(instance) = find("service.instance.id")? {
            resource.identity.push((self.rows.symbol(b"instance")?, self.rows.symbol(&instance)?));
        }
        let identifying = |key: &[u8]| matches!(key, b"service.name" | b"service.namespace" | b"service.instance.id");
        for &(key, value) in attributes.iter() {
            if self.mapping.promotes(key) {
                let label = self.attribute(key, value)?;
                self.add(&mut resource.promoted, label)?;
            }
            if !identifying(key) {
                let label = self.attribute(key, value)?;
                self.add(&mut resource.info, label)?;
            }
        }
        if resource.identity.is_empty() {
            resource.info.clear();
        }
        if !resource.info.is_empty() {
            for &label in &resource.identity {
                put(&mut resource.info, label);
            }
        }
        Ok(resource)
    }

    /// An attribute as a label.
    fn attribute(&mut self, key: &[u8], value: &[u8]) -> Result<(u32, u32), Stop> {
        let scratch = &mut self.scratch;
        scratch.text.clear();
        let name = match std::str::from_utf8(key) {
            Ok(key) => {
                self.mapping.translation.label(key, &mut scratch.text);
                self.rows.symbol(scratch.text.as_bytes())?
            }
            // Refused with all that is wrong with labels.
            Err(_) => self.rows.symbol(key)?,
        };
        scratch.bytes.clear();
        value_text(value, &mut scratch.bytes)?;
        Ok((name, self.rows.symbol(&scratch.bytes)?))
    }

    /// Adds a label; the values of two names that became one are joined by a semicolon.
    fn add(&mut self, labels: &mut Labels, (name, value): (u32, u32)) -> Result<(), Stop> {
        if let Some(same) = labels.iter_mut().find(|label| label.0 == name) {
            let joined = [self.rows.text(same.1), b";", self.rows.text(value)].concat();
            same.1 = self.rows.symbol(&joined)?;
        } else {
            labels.push((name, value));
        }
        Ok(())
    }

    /// The series that says what else is known of a resource, at the time of its last point. It is no point itself.
    fn target_info(&mut self, resource: &Resource) -> Result<(), Stop> {
        if let Some(ts) = resource.last_ts
            && !resource.info.is_empty()
        {
            let name = self.rows.symbol(b"target_info")?;
            let name = (self.rows.symbol(b"__name__")?, name);
            encode_refs(&mut self.scratch.refs, &resource.info, None, name);
            self.rows.sample(&self.scratch.refs, ts, 1.0, NO_POINT)?;
        }
        Ok(())
    }

    fn metric(&mut self, message: &[u8], resource: &mut Resource) -> Result<(), Stop> {
        let (mut name, mut description, mut unit): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
        let mut data: Option<(u32, &[u8])> = None;
        fields(message, |number, field| {
            match number {
                1 => name = field.bytes()?,
                2 => description = field.bytes()?,
                3 => unit = field.bytes()?,
                5 | 7 | 9 | 10 | 11 => data = Some((number, field.bytes()?)),
                _ => {}
            }
            Ok::<_, Malformed>(())
        })?;
        let Some((kind, data)) = data else { return Ok(()) };
        let (mut temporality, mut monotonic) = (0, false);
        fields(data, |number, field| {
            match number {
                2 => temporality = field.varint()?,
                3 => monotonic = field.varint()? != 0,
                _ => {}
            }
            Ok::<_, Malformed>(())
        })?;
        let mut fault = resource.fault.clone().or_else(|| fault(name, unit, kind, temporality));
        let (named, described) = match kind {
            5 => (Kind::Gauge, GAUGE),
            7 if monotonic => (Kind::Counter, COUNTER),
            // A sum that may fall is what Prometheus calls a gauge, but its unit "1" is no ratio.
            7 => (Kind::Other, GAUGE),
            11 => (Kind::Other, SUMMARY),
            _ => (Kind::Other, HISTOGRAM),
        };
        let mut translated = String::new();
        if fault.is_none() {
            let (name, unit) = (String::from_utf8_lossy(name), String::from_utf8_lossy(unit));
            self.mapping.translation.metric(&name, &unit, named, &mut translated);
            if translated != name && translated.bytes().all(|byte| byte == b'_') {
                fault =
                    Some(Fault::Point("a metric whose name has no letter or digit that a name may have".to_owned()));
            } else {
                self.rows.describe(translated.as_bytes(), described, description, unit.as_bytes())?;
            }
        }
        let metric = Metric { sent: name, name: &translated, refused: fault.as_ref() };
        fields(data, |number, field| {
            if number != 1 {
                return Ok(());
            }
            let message = field.bytes()?;
            self.points = self.points.saturating_add(1);
            let added = match kind {
                5 | 7 => self.number(message, metric, resource),
                9 => self.histogram(message, metric, resource),
                10 => self.exponential(message, metric, resource),
                _ => self.summary(message, metric, resource),
            };
            let added = match added {
                Err(Stop::Point(fault)) => Err(fault),
                added => added?,
            };
            match added {
                Ok(ts) => resource.last_ts = resource.last_ts.max(Some(ts)),
                Err(fault) => {
                    let place = || format!("metric {:?}", shown(metric.sent));
                    self.rows.refuse(fault, self.points, 1, place);
                }
            }
            Ok::<_, Stop>(())
        })
    }

    /// Checks a point and makes its labels; its time, ns.
    fn begin(
        &mut self,
        point: &mut Point<'_>,
        metric: Metric<'_>,
        resource: &Resource,
    ) -> Result<Result<i64, Fault>, Stop> {
        if let Some(fault) = metric.refused {
            return Ok(Err(fault.clone()));
        }
        let Ok(ts) = i64::try_from(point.time) else {
            return Ok(Err(Fault::Point("a time beyond the year 2262".to_owned())));
        };
        if let Err(fault) = self.rows.check_ts(ts) {
            return Ok(Err(fault));
        }
        let max = self.mapping.labels_max.min(PARTS_MAX);
        if point.more_attributes || point.attributes.len() > max {
            return Ok(Err(Fault::Point(format!("more than {max} attributes (limits.labels_max)"))));
        }
        self.rows.drop_exemplars(point.exemplars_dropped);
        point.attributes.sort_by_key(|attribute| attribute.0);
        let mut labels = std::mem::take(&mut self.scratch.labels);
        labels.clear();
        labels.extend_from_slice(&resource.promoted);
        // A point's own attribute wins over one of its resource.
        let mut own: Labels = Vec::new();
        for &(key, value) in &point.attributes {
            let label = self.attribute(key, value)?;
            self.add(&mut own, label)?;
        }
        for label in own.into_iter().chain(resource.identity.iter().copied()) {
            put(&mut labels, label);
        }
        self.scratch.labels = labels;
        Ok(Ok(ts))
    }

    /// A sample of the series with the scratch's labels and `further`.
    fn sample(&mut self, name: &[u8], further: Option<(u32, u32)>, ts: i64, value: f64) -> Result<(), Stop> {
        let name = (self.rows.symbol(b"__name__")?, self.rows.symbol(name)?);
        let labels = std::mem::take(&mut self.scratch.labels);
        encode_refs(&mut self.scratch.refs, &labels, further, name);
        self.scratch.labels = labels;
        Ok(self.rows.sample(&self.scratch.refs, ts, value, self.points)?)
    }

    fn number(&mut self, message: &[u8], metric: Metric<'_>, resource: &Resource) -> Result<Result<i64, Fault>, Stop> {
        let mut point = Point::default();
        let mut value = None;
        fields(message, |number, field| {
            match number {
                3 => point.time = field.fixed64()?,
                4 => value = Some(field.double()?),
                5 => point.exemplar(field)?,
                6 => value = Some(field.fixed64()? as i64 as f64),
                7 => point.attribute(field)?,
                8 => point.flags = field.varint()?,
                _ => {}
            }
            Ok::<_, Malformed>(())
        })?;
        let ts = match self.begin(&mut point, metric, resource)? {
            Ok(ts) => ts,
            fault => return Ok(fault),
        };
        let value = match value {
            _ if point.no_value() => STALE,
            Some(value) => value,
            None => return Ok(Err(Fault::Point("a data point without a value".to_owned()))),
        };
        self.sample(metric.name.as_bytes(), None, ts, value)?;
        for exemplar in &point.exemplars {
            self.exemplar(exemplar)?;
        }
        Ok(Ok(ts))
    }

    /// Adds an exemplar to the series that was added last, or counts it as dropped.
    fn exemplar(&mut self, message: &[u8]) -> Result<(), Stop> {
        let (time, value) = exemplar_head(message)?;
        let ts = i64::try_from(time).ok().filter(|ts| self.rows.check_ts(*ts).is_ok());
        let Some(ts) = ts else {
            self.rows.drop_exemplars(1);
            return Ok(());
        };
        let mut labels: Vec<(String, String)> = Vec::new();
        let read = fields(message, |number, field| {
            match number {
                4 => labels.push(("span_id".to_owned(), digits(field.bytes()?))),
                5 => labels.push(("trace_id".to_owned(), digits(field.bytes()?))),
                // More than any exemplar may have are refused below.
                7 if labels.len() < 64 => {
                    let (key, value) = key_value(field.bytes()?)?;
                    let (mut name, mut text) = (String::new(), Vec::new());
                    self.mapping.translation.label(&String::from_utf8_lossy(key), &mut name);
                    value_text(value, &mut text)?;
                    labels.push((name, String::from_utf8_lossy(&text).into_owned()));
                }
                _ => {}
            }
            Ok::<_, NoText>(())
        });
        match read {
            Ok(()) => {}
            Err(NoText::TooDeep) => {
                self.rows.drop_exemplars(1);
                return Ok(());
            }
            Err(NoText::Malformed(malformed)) => return Err(malformed.into()),
        }
        labels.retain(|label| !label.1.is_empty());
        labels.sort();
        let mut encoded = Vec::new();
        encode_labels(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())), &mut encoded);
        Ok(self.rows.exemplar(ts, value, &encoded)?)
    }
}

/// Why no point of a metric can be kept.
fn fault(name: &[u8], unit: &[u8], kind: u32, temporality: u64) -> Option<Fault> {
    let why = if name.is_empty() {
        "a metric without a name"
    } else if std::str::from_utf8(name).is_err() || std::str::from_utf8(unit).is_err() {
        "a name or unit that is not UTF-8"
    } else if !matches!(kind, 7 | 9 | 10) || temporality == CUMULATIVE {
        return None;
    } else if temporality == DELTA {
        "delta temporality, which is not stored; have the sender use cumulative \
         (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative) or put the collector's deltatocumulative \
         processor in between"
    } else {
        "no aggregation temporality; it must be cumulative"
    };
    Some(Fault::Point(why.to_owned()))
}

/// Time and value of an exemplar.
fn exemplar_head(message: &[u8]) -> Result<(u64, f64), Malformed> {
    let (mut time, mut value) = (0, 0f64);
    fields(message, |number, field| {
        match number {
            2 => time = field.fixed64()?,
            3 => value = field.double()?,
            6 => value = field.fixed64()? as i64 as f64,
            _ => {}
        }
        Ok::<_, Malformed>(())
    })?;
    Ok((time, value))
}

fn encode_refs(refs: &mut Refs, labels: &[(u32, u32)], further: Option<(u32, u32)>, name: (u32, u32)) {
    refs.clear();
    // What the protocol itself says wins over an attribute of the same name.
    let others = labels.iter().filter(|label| label.0 != name.0 && further.is_none_or(|further| further.0 != label.0));
    for (label, value) in std::iter::once(name).chain(further).chain(others.copied()) {
        put_varint(refs, u64::from(label));
        put_varint(refs, u64::from(value));
    }
}

/// Sets a label, in the place of one of the same name.
fn put(labels: &mut Labels, (name, value): (u32, u32)) {
    match labels.iter_mut().find(|label| label.0 == name) {
        Some(same) => same.1 = value,
        None => labels.push((name, value)),
    }
}

/// Digits of an id, which has 8 or 16 bytes; what is longer is none.
fn digits(id: &[u8]) -> String {
    hex(&id[..id.len().min(32)])
}

fn shown(name: &[u8]) -> String {
    const SHOWN_MAX: usize = 128;
    String::from_utf8_lossy(&name[..name.len().min(SHOWN_MAX)]).into_owned()
}
