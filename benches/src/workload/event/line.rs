//! Log lines: sixteen templates of the kinds that Loghub has, and access logs in JSON, of up to fifty services.
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::otlp::{Requests, Value, put_attribute, put_bytes, put_fixed, put_number};
use super::{Events, hex, id};

/// A word of few lines.
pub const RARE: &str = "zeppelin7731";
/// A word of one line in about twenty.
pub const COMMON: &str = "refused";

/// Names of services.
pub fn services(count: usize) -> Vec<String> {
    (0..count.clamp(1, 50)).map(|number| format!("service-{number:02}")).collect()
}

/// What the lines have in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Lines with [`RARE`].
    pub rare: u64,
    /// Lines with [`COMMON`].
    pub common: u64,
}

/// Lines of one sender.
pub struct Lines {
    random: SmallRng,
    services: Vec<String>,
    ts: i64,
    step_ns: i64,
    row: u64,
    rows: u64,
    known: Known,
}

impl Lines {
    /// `rows` lines from `start_ms` on, `step_ns` apart.
    pub fn new(seed: u64, rows: u64, services: Vec<String>, start_ms: i64, step_ns: i64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self { random, services, ts: start_ms * 1_000_000, step_ns, row: 0, rows, known: Known::default() }
    }

    /// What the lines up to now had in them.
    pub fn known(&self) -> Known {
        self.known
    }

    /// Severity number, its name, and the text.
    fn text(&mut self, service: usize) -> (u64, &'static str, String) {
        let random = &mut self.random;
        let kind = random.random_range(0..20);
        let (a, b, c) =
            (random.random_range(0..256), random.random_range(0..65_536), random.random_range(0..4_000_000));
        let ms = random.random_range(1..900);
        match kind {
            0 => (9, "INFO", format!("Received block blk_{c}{b} of size 67108864 from /10.250.{a}.{}", b % 256)),
            1 => (9, "INFO", format!("PacketResponder {} for block blk_{c}{b} terminating", a % 4)),
            2 => {
                (9, "INFO", format!("BLOCK* NameSystem.addStoredBlock: blockMap updated: 10.251.{a}.{}:50010", b % 256))
            }
            3 => (13, "WARN", format!("Connection refused: 10.0.{a}.{}:{b} after {ms} ms, retry {}", b % 256, a % 5)),
            4 => (9, "INFO", format!("Task 'attempt_{c}_m_{b:06}_0' done.")),
            5 => (
                17,
                "ERROR",
                format!("Failed password for invalid user admin from 173.234.{a}.{} port {b} ssh2", b % 256),
            ),
            6 => (9, "INFO", format!("workerEnv.init() ok /etc/httpd/conf/workers{}.properties", a % 9)),
            7 => (17, "ERROR", format!("mod_jk child workerEnv in error state {}", a % 10)),
            8 => (9, "INFO", format!("Found block rdd_{a}_{b} locally")),
            9 => (
                9,
                "INFO",
                format!("Finished task {a}.0 in stage {}.0 (TID {c}). {b} bytes result sent to driver", a % 40),
            ),
            10 => (5, "DEBUG", format!("cache hit for key user:{c}, {ms} us")),
            11 => (9, "INFO", format!("order {c} of user {b} placed, {} items, total {ms}.{:02}", a % 12 + 1, a % 100)),
            12 => (13, "WARN", format!("slow query took {ms} ms: SELECT * FROM orders WHERE id = {c}")),
            13 => (17, "ERROR", format!("payment {c} declined: card expired, gateway code {}", a % 30)),
            14 => (9, "INFO", format!("instruction cache parity error corrected at 0x{c:08x}")),
            15 => (5, "DEBUG", format!("heartbeat from worker-{a} seq={c} lag={ms}ms")),
            _ => {
                let status = if a < 8 {
                    500
                } else if a < 20 {
                    404
                } else {
                    200
                };
                let line = json!({
                    "method": if a % 5 == 0 { "POST" } else { "GET" }, "path": format!("/api/v1/orders/{c}"),
                    "status": status, "bytes": b, "ms": ms, "remote": format!("192.168.{a}.{}", service % 256),
                    "agent": "Mozilla/5.0 (X11; Linux x86_64)",
                });
                (if status == 500 { 17 } else { 9 }, if status == 500 { "ERROR" } else { "INFO" }, line.to_string())
            }
        }
    }
}

impl Events for Lines {
    fn next(&mut self, requests: &mut Requests, json: &mut String) -> bool {
        if self.row == self.rows {
            return false;
        }
        let service = self.random.random_range(0..self.services.len());
        let (number, severity, mut body) = self.text(service);
        // three needles of each sender, wherever that is in its rows
        if [self.rows / 7, self.rows / 2, self.rows * 5 / 6].contains(&self.row) {
            body.push(' ');
            body.push_str(RARE);
            self.known.rare += 1;
        }
        self.known.common += u64::from(body.contains(COMMON));
        self.ts += self.random.random_range(1..self.step_ns * 2);
        self.row += 1;
        let (thread, pod) = (self.random.random_range(0..64i64), self.random.random_range(0..4));
        let pod = format!("{}-{pod}", self.services[service]);
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        let traced = self.random.random_range(0..4) == 0;
        if traced {
            id(&mut self.random, &mut trace);
            id(&mut self.random, &mut span);
        }
        let mut row = Vec::with_capacity(256);
        put_fixed(&mut row, 1, self.ts as u64);
        put_number(&mut row, 2, number);
        put_bytes(&mut row, 3, severity.as_bytes());
        let mut any = Vec::with_capacity(body.len() + 4);
        put_bytes(&mut any, 1, body.as_bytes());
        put_bytes(&mut row, 5, &any);
        put_attribute(&mut row, 6, "thread.id", Value::Integer(thread));
        put_attribute(&mut row, 6, "k8s.pod.name", Value::Text(&pod));
        if traced {
            put_bytes(&mut row, 9, &trace);
            put_bytes(&mut row, 10, &span);
        }
        requests.push(service, &row);
        let mut line = json!({
            "ts": self.ts, "service": self.services[service], "host": format!("node-{:02}", service % 12), "severity": severity,
            "body": body, "attributes": {"thread.id": thread.to_string(), "k8s.pod.name": pod},
        });
        if traced {
            line["trace_id"] = hex(&trace).into();
            line["span_id"] = hex(&span).into();
        }
        json.push_str(&line.to_string());
        json.push('\n');
        true
    }

    fn path(&self) -> &'static str {
        "/v1/logs"
    }

    fn due_ms(&self) -> i64 {
        self.ts / 1_000_000
    }
}
