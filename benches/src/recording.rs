//! Request bodies written to a file before the clock starts: during the run a sender only reads and sends.
//!
//! A record is `u32 samples, i64 due ms of its round, u32 length, body`, little-endian.
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};

use crate::workload::Fleet;
use crate::workload::encode::BodyEncoder;
use crate::workload::event::Events;
use crate::workload::event::otlp::Requests;

/// What was recorded for one sender.
#[derive(Clone, Debug)]
pub struct Recording {
    path: PathBuf,
    /// Samples, or rows, in all its bodies.
    pub samples: u64,
    /// Bodies.
    pub requests: u64,
    /// Bytes of the bodies as they are sent.
    pub bytes: u64,
}

/// One body.
#[derive(Debug, Default)]
pub struct Record {
    /// Samples in it.
    pub samples: u32,
    /// Due time of its scrapes, ms.
    pub due_ms: i64,
    /// The compressed request body.
    pub body: Vec<u8>,
}

/// Records `rounds` scrapes of `fleet`, divided among `senders`, in bodies of at most `samples_per_request`.
///
/// # Errors
/// When a file cannot be written.
pub fn record(
    fleet: Fleet,
    rounds: u64,
    senders: usize,
    samples_per_request: usize,
    dir: &Path,
) -> Result<Vec<Recording>> {
    thread::scope(|scope| {
        let parts: Vec<_> = fleet
            .split(senders)
            .into_iter()
            .enumerate()
            .map(|(i, fleet)| {
                let path = dir.join(format!("sender-{i}.bodies"));
                scope.spawn(move || record_one(fleet, rounds, samples_per_request, path))
            })
            .collect();
        parts.into_iter().map(|part| part.join().map_err(|_| anyhow::anyhow!("a recording thread panicked"))?).collect()
    })
}

fn record_one(mut fleet: Fleet, rounds: u64, samples_per_request: usize, path: PathBuf) -> Result<Recording> {
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut encoder = BodyEncoder::default();
    let mut recording = Recording { path, samples: 0, requests: 0, bytes: 0 };
    for round in 0..rounds {
        let due_ms = fleet.round_start_ms(round);
        let mut failure = None;
        fleet.scrape(round, |labels, ts, value| {
            encoder.push(labels, ts, value);
            if encoder.samples() >= samples_per_request {
                failure = failure.take().or(recording.append(&mut out, &mut encoder, due_ms).err());
            }
        });
        if encoder.samples() > 0 {
            failure = failure.or(recording.append(&mut out, &mut encoder, due_ms).err());
        }
        failure.map_or(Ok(()), Err)?;
    }
    out.flush()?;
    Ok(recording)
}

/// Records the rows of `events`, of `services`, in bodies of about `rows_per_request` at `path`; `json` takes each row as a line.
///
/// # Errors
/// When a file cannot be written.
pub fn record_events(
    events: &mut dyn Events,
    services: &[String],
    rows_per_request: usize,
    path: PathBuf,
    json: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Recording> {
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut recording = Recording { path, samples: 0, requests: 0, bytes: 0 };
    let (mut requests, mut lines) = (Requests::new(services), String::new());
    loop {
        let more = events.next(&mut requests, &mut lines);
        if requests.rows() >= rows_per_request || (!more && requests.rows() > 0) {
            let rows = requests.rows() as u32;
            recording.append_body(&mut out, rows, events.due_ms(), &requests.finish())?;
            json(&lines)?;
            lines.clear();
        }
        if !more {
            out.flush()?;
            return Ok(recording);
        }
    }
}

impl Recording {
    fn append(&mut self, out: &mut impl Write, encoder: &mut BodyEncoder, due_ms: i64) -> Result<()> {
        let samples = encoder.samples() as u32;
        self.append_body(out, samples, due_ms, encoder.finish()?)
    }

    fn append_body(&mut self, out: &mut impl Write, samples: u32, due_ms: i64, body: &[u8]) -> Result<()> {
        out.write_all(&samples.to_le_bytes())?;
        out.write_all(&due_ms.to_le_bytes())?;
        out.write_all(&(body.len() as u32).to_le_bytes())?;
        out.write_all(body)?;
        self.samples += u64::from(samples);
        self.requests += 1;
        self.bytes += body.len() as u64;
        Ok(())
    }

    /// Reads it from the start.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn replay(&self) -> Result<Replay> {
        Ok(Replay { file: BufReader::with_capacity(1 << 20, File::open(&self.path)?) })
    }
}

/// Bodies in order.
pub struct Replay {
    file: BufReader<File>,
}

impl Replay {
    /// Replaces `record` with the next one; `false` at the end.
    ///
    /// # Errors
    /// When the file is cut short.
    pub fn next_into(&mut self, record: &mut Record) -> Result<bool> {
        let mut head = [0; 16];
        match self.file.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        record.samples = u32_at(0);
        record.due_ms = i64::from(u32_at(4)) | (i64::from(u32_at(8) as i32) << 32);
        record.body.resize(u32_at(12) as usize, 0);
        self.file.read_exact(&mut record.body)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Kind;

    #[test]
    fn a_recording_replays_every_sample_in_time_order() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Kind::Tsbs.fleet(300, 1, 1_700_000_000_000);
        let recordings = record(fleet, 5, 2, 64, dir.path()).unwrap();
        let mut total = 0;
        for recording in &recordings {
            let (mut replay, mut record, mut due_ms, mut samples) =
                (recording.replay().unwrap(), Record::default(), 0, 0);
            while replay.next_into(&mut record).unwrap() {
                assert!(record.due_ms >= due_ms && record.samples <= 64);
                due_ms = record.due_ms;
                samples += u64::from(record.samples);
            }
            assert_eq!(samples, recording.samples);
            total += samples;
        }
        assert_eq!(total, 1_500);
    }
}
