//! Spans: requests to a shop, each a tree of calls, eleven attributes a span.
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::otlp::{Requests, Value, put_attribute, put_bytes, put_fixed, put_number};
use super::{Events, hex, id};

/// Callers and whom they call.
const CALLS: [(&str, &[usize]); 10] = [
    ("gateway", &[1, 2, 3]),
    ("catalogue", &[6, 7]),
    ("cart", &[6]),
    ("checkout", &[2, 4, 5]),
    ("payment", &[8]),
    ("shipping", &[9, 7]),
    ("cache", &[]),
    ("database", &[]),
    ("bank", &[]),
    ("carrier", &[]),
];
/// Users; a search for one finds few spans.
const USERS: u64 = 1_000_000;
/// The user that is searched for.
pub const USER: &str = "u-needle";

/// Names of services.
pub fn services() -> Vec<String> {
    CALLS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// What the spans have in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Spans of [`USER`].
    pub of_user: u64,
    /// Spans with an error.
    pub errors: u64,
    /// A trace, and how many spans it has.
    pub trace: [u8; 16],
    /// See `trace`.
    pub trace_spans: u64,
}

/// Traces of one sender.
pub struct Traces {
    random: SmallRng,
    ts: i64,
    step_ns: i64,
    spans: u64,
    spans_max: u64,
    traces: u64,
    known: Known,
}

/// A span that is to be made.
struct Call {
    service: usize,
    parent: Option<[u8; 8]>,
    start: i64,
    room: i64,
}

impl Traces {
    /// Traces from `start_ms` on, about `step_ns` apart, until there are `spans_max` spans.
    pub fn new(seed: u64, spans_max: u64, start_ms: i64, step_ns: i64) -> Self {
        let (random, known) = (SmallRng::seed_from_u64(seed), Known::default());
        Self { random, ts: start_ms * 1_000_000, step_ns, spans: 0, spans_max, traces: 0, known }
    }

    /// What the spans up to now had in them.
    pub fn known(&self) -> Known {
        self.known
    }

    /// Spans made.
    pub fn spans(&self) -> u64 {
        self.spans
    }
}

impl Events for Traces {
    fn next(&mut self, requests: &mut Requests, json: &mut String) -> bool {
        if self.spans >= self.spans_max {
            return false;
        }
        self.ts += self.random.random_range(1..self.step_ns * 2);
        self.traces += 1;
        let mut trace = [0; 16];
        id(&mut self.random, &mut trace);
        let needle = self.traces % 100_000 == 77;
        let user = if needle { USER.to_owned() } else { format!("u-{}", self.random.random_range(0..USERS)) };
        let room = self.random.random_range(2_000_000..400_000_000);
        let mut open = vec![Call { service: 0, parent: None, start: self.ts, room }];
        let before = self.spans;
        while let Some(call) = open.pop() {
            let mut own = [0; 8];
            id(&mut self.random, &mut own);
            let (name, callees) = CALLS[call.service];
            let mut start = call.start;
            for &callee in callees {
                let part = call.room / (callees.len() as i64 + 1);
                // most calls are made, and each within its caller
                if part > 1_000 && self.random.random_range(0..10) < 7 {
                    start += self.random.random_range(0..part / 2 + 1);
                    open.push(Call { service: callee, parent: Some(own), start, room: part / 2 });
                }
            }
            let error = self.random.random_range(0..50) == 0;
            let (status, item) = (if error { 500 } else { 200 }, self.random.random_range(0..5_000));
            let operation = format!("{name}/op-{}", item % 6);
            let version = format!("1.{}.0", call.service);
            let path = format!("/{name}/items/{item}");
            let attributes = [
                ("http.request.method", Value::Text(if item % 4 == 0 { "POST" } else { "GET" })),
                ("http.response.status_code", Value::Integer(status)),
                ("url.path", Value::Text(&path)),
                ("http.route", Value::Text("/{service}/items/{id}")),
                ("server.port", Value::Integer(8_080)),
                ("network.protocol.version", Value::Text("1.1")),
                ("user.id", Value::Text(&user)),
                ("item.id", Value::Integer(item)),
                ("thread.id", Value::Integer(item % 64)),
                ("deployment.version", Value::Text(&version)),
                ("region", Value::Text(if self.traces.is_multiple_of(3) { "eu" } else { "us" })),
            ];
            let mut row = Vec::with_capacity(512);
            put_bytes(&mut row, 1, &trace);
            put_bytes(&mut row, 2, &own);
            if let Some(parent) = &call.parent {
                put_bytes(&mut row, 4, parent);
            }
            put_bytes(&mut row, 5, operation.as_bytes());
            put_number(&mut row, 6, if call.parent.is_some() { 3 } else { 2 });
            put_fixed(&mut row, 7, call.start as u64);
            put_fixed(&mut row, 8, (call.start + call.room) as u64);
            let mut shown = serde_json::Map::new();
            for (key, value) in attributes {
                put_attribute(&mut row, 9, key, value);
                let text = match value {
                    Value::Text(text) => text.to_owned(),
                    Value::Integer(integer) => integer.to_string(),
                };
                shown.insert(key.to_owned(), text.into());
            }
            if error {
                put_bytes(&mut row, 15, &[3 << 3, 2]);
            }
            requests.push(call.service, &row);
            let line = json!({
                "ts": call.start, "duration": call.room, "trace_id": hex(&trace), "span_id": hex(&own),
                "parent_span_id": call.parent.map(|parent| hex(&parent)), "service": name, "name": operation,
                "kind": if call.parent.is_some() { "client" } else { "server" }, "status": if error { "error" } else { "" },
                "attributes": shown,
            });
            json.push_str(&line.to_string());
            json.push('\n');
            self.spans += 1;
            self.known.errors += u64::from(error);
            self.known.of_user += u64::from(needle);
        }
        // a trace about the middle is the one that is asked for
        if before <= self.spans_max / 2 && self.spans > self.spans_max / 2 {
            (self.known.trace, self.known.trace_spans) = (trace, self.spans - before);
        }
        true
    }

    fn path(&self) -> &'static str {
        "/v1/traces"
    }

    fn due_ms(&self) -> i64 {
        self.ts / 1_000_000
    }
}
