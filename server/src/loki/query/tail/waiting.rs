//! Lines that have come and wait, as `delay_for` says, until older ones may have come too.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foretell_query::Memory;

use super::super::lines::Kept;

/// Memory of lines that wait; beyond it the oldest wait no longer.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// By time, and then by when they came.
pub(super) struct Waiting {
    delay: Duration,
    lines: BTreeMap<(i64, u64), (Instant, Kept)>,
    number: u64,
    bytes: usize,
    memory: Memory,
}

impl Waiting {
    pub(super) fn new(delay: Duration, memory: Memory) -> Self {
        Self { delay, lines: BTreeMap::new(), number: 0, bytes: 0, memory }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes lines that have come `now`.
    pub(super) fn add(&mut self, lines: Vec<Kept>, now: Instant) {
        for line in lines {
            self.bytes += line.bytes();
            self.lines.insert((line.ts, self.number), (now, line));
            self.number += 1;
        }
    }

    /// The lines that have waited long enough, in the order of time: since they happened, as `now_ns` has it, or, where their
    /// clock is ahead of ours, since they came.
    pub(super) fn due(&mut self, now_ns: i64, now: Instant) -> Vec<Kept> {
        let delay_ns = i64::try_from(self.delay.as_nanos()).unwrap_or(i64::MAX);
        let before_ns = now_ns.saturating_sub(delay_ns);
        let waited = |came: Instant| now.saturating_duration_since(came) >= self.delay;
        let due = self.lines.extract_if(.., |&(ts, _), (came, _)| ts <= before_ns || waited(*came));
        let mut due: Vec<Kept> = due.map(|(_, (_, line))| line).collect();
        self.bytes -= due.iter().map(Kept::bytes).sum::<usize>();
        while self.bytes > WAITING_BYTES_MAX || self.memory.resize(self.bytes).is_err() {
            let Some((_, (_, line))) = self.lines.pop_first() else { break };
            self.bytes -= line.bytes();
            due.push(line);
        }
        due.sort_by_key(|line| line.ts);
        due
    }
}
