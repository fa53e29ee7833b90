//! Messages to a client, the buffer in which they wait to be sent, and what found no room in it.
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::super::lines::{CATEGORIZE, Kept, Labels, labels_json};
use crate::app::App;

/// Bytes of the messages that wait to be sent, about.
pub(super) const BUFFER_BYTES: usize = 512 << 10;
/// Lines, and bytes of them, about, of a message; a line that is longer has its own.
const MESSAGE_LINES: usize = 100;
const MESSAGE_BYTES: usize = 64 << 10;
/// Lines that were dropped of which a client is told between two messages; all are counted.
const TOLD_MAX: usize = 100;

/// A message on its way.
pub(super) struct Parcel {
    pub(super) text: String,
    pub(super) lines: u64,
    /// Its part of the buffer.
    _room: OwnedSemaphorePermit,
}

pub(super) type Parcels = mpsc::UnboundedReceiver<Parcel>;

/// Lines that a client does not get.
#[derive(Default)]
pub(super) struct Dropped {
    pub(super) count: u64,
    entries: Vec<Value>,
}

impl Dropped {
    pub(super) fn add(&mut self, line: Kept, categorized: bool) {
        self.count += 1;
        if self.entries.len() < TOLD_MAX {
            let timestamp = line.ts.to_string();
            let (labels, _) = line.shown(categorized);
            self.entries.push(json!({ "timestamp": timestamp, "labels": labels_json(labels) }));
        }
    }
}

/// Where lines go.
pub(super) struct Outlet {
    app: Arc<App>,
    categorized: bool,
    room: Arc<Semaphore>,
    out: mpsc::UnboundedSender<Parcel>,
    /// Not told yet.
    dropped: Vec<Value>,
}

impl Outlet {
    pub(super) fn new(app: Arc<App>, categorized: bool) -> (Self, Parcels) {
        let (out, parcels) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(BUFFER_BYTES));
        (Self { app, categorized, room, out, dropped: Vec::new() }, parcels)
    }

    /// Whether the client must still be told of lines that it did not get.
    pub(super) fn owes(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Counts lines that were dropped, and tells of them with the next message.
    pub(super) fn drop_lines(&mut self, dropped: Dropped) {
        self.app.metrics.loki_tail_lines_dropped(dropped.count);
        let room = TOLD_MAX.saturating_sub(self.dropped.len());
        self.dropped.extend(dropped.entries.into_iter().take(room));
    }

    /// Puts `lines` in the buffer in their order. Those without room are dropped, after `until`, or never.
    pub(super) async fn put(&mut self, lines: Vec<Kept>, until: Option<Instant>) {
        let mut lines = lines.into_iter().peekable();
        while lines.peek().is_some() || self.owes() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while some.len() < MESSAGE_LINES
                && let Some(line) = lines.next_if(|line| some.is_empty() || bytes + line.bytes() <= MESSAGE_BYTES)
            {
                bytes += line.bytes();
                some.push(line);
            }
            if !self.put_message(some, bytes, until).await && lines.peek().is_none() {
                // What is owed is tried again with what comes next.
                return;
            }
        }
    }

    /// `false` when there is no room.
    async fn put_message(&mut self, lines: Vec<Kept>, bytes: usize, until: Option<Instant>) -> bool {
        let bytes = u32::try_from(bytes.clamp(1, BUFFER_BYTES)).unwrap_or(1);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        let room = match until {
            // Room that is there is taken at any time.
            Some(until) => timeout_at(until, room).await.ok().and_then(Result::ok),
            None => room.await.ok(),
        };
        let Some(room) = room else {
            let mut dropped = Dropped::default();
            lines.into_iter().for_each(|line| dropped.add(line, self.categorized));
            self.drop_lines(dropped);
            return false;
        };
        let count = lines.len() as u64;
        let text = message(lines, std::mem::take(&mut self.dropped), self.categorized);
        // Without a receiver the client is gone, and this task is about to end.
        let _ = self.out.send(Parcel { text, lines: count, _room: room });
        true
    }
}

/// As Loki writes it. Lines that follow one another and have the same labels are one stream: their order is what matters.
fn message(lines: Vec<Kept>, dropped: Vec<Value>, categorized: bool) -> String {
    let mut streams: Vec<(Labels, Vec<Value>)> = Vec::new();
    for line in lines {
        let (labels, value) = line.shown(categorized);
        match streams.last_mut() {
            Some((last, values)) if *last == labels => values.push(value),
            _ => streams.push((labels, vec![value])),
        }
    }
    let streams =
        streams.into_iter().map(|(labels, values)| json!({ "stream": labels_json(labels), "values": values }));
    let mut message = json!({ "streams": streams.collect::<Vec<_>>() });
    if !dropped.is_empty() {
        message["dropped_entries"] = dropped.into();
    }
    if categorized {
        message["encodingFlags"] = json!([CATEGORIZE]);
    }
    message.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::super::super::logql::Origin;
    use super::*;

    fn line(ts: i64, app: &str) -> Kept {
        let labels = vec![
            ("app".to_owned(), app.to_owned(), Origin::Stream),
            ("user".to_owned(), "u".to_owned(), Origin::Metadata),
        ];
        Kept { ts, line: format!("line {ts}"), labels }
    }

    #[test]
    fn a_message_keeps_the_order_of_lines_and_says_what_was_dropped() {
        let lines = || vec![line(1, "a"), line(2, "a"), line(2, "b"), line(3, "a")];
        let text = message(lines(), Vec::new(), false);
        let (a, b) = (json!({ "app": "a", "user": "u" }), json!({ "app": "b", "user": "u" }));
        let expected = json!({ "streams": [
            { "stream": a, "values": [["1", "line 1"], ["2", "line 2"]] },
            { "stream": b, "values": [["2", "line 2"]] },
            { "stream": a, "values": [["3", "line 3"]] },
        ] });
        assert_eq!(text, expected.to_string());
        let mut dropped = Dropped::default();
        (0..300).for_each(|ts| dropped.add(line(ts, "a"), true));
        assert_eq!((dropped.count, dropped.entries.len()), (300, TOLD_MAX));
        dropped.entries.truncate(1);
        let text = message(vec![line(9, "b")], dropped.entries, true);
        let expected = json!({
            "streams": [{ "stream": { "app": "b" }, "values": [["9", "line 9", { "structuredMetadata": { "user": "u" } }]] }],
            "dropped_entries": [{ "timestamp": "0", "labels": { "app": "a" } }],
            "encodingFlags": ["categorize-labels"],
        });
        assert_eq!(text, expected.to_string());
    }
}
