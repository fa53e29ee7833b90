//! A real server for benchmarks of what it answers: started on an empty directory, filled by remote write, asked in SQL.
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer};
use crate::process::{Process, Usage, free_port, scratch_dir};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// Samples in a body.
const SAMPLES_PER_REQUEST: usize = 20_000;
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(300);
/// How long merges may go on before anything is asked.
const IDLE_WITHIN: Duration = Duration::from_secs(300);
/// How long a server may be too busy for one body.
const BUSY_WITHIN: Duration = Duration::from_secs(60);
/// The longest statement; what a statement takes is a figure, so the server's deadline is out of the way.
const ANSWER_WITHIN: Duration = Duration::from_secs(1_800);

/// The server under test.
pub(super) struct Store {
    process: Process,
    client: Client,
    address: SocketAddr,
    dir: TempDir,
}

impl Store {
    /// Starts a server.
    pub(super) fn start(what: &str, binaries: &Binaries) -> Result<Self> {
        let dir = scratch_dir(what)?;
        let address: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
        let mut command = Command::new(binaries.path(Peer::Foretell)?);
        command.arg("serve").arg("--data-dir").arg(dir.path().join("data")).arg("--listen-http");
        command.arg(address.to_string()).args(["--listen-grpc", "none", "--listen-pg", "none"]);
        command.args(["--listen-otlp-http", "none"]);
        command.env("FORETELL_QUERY_TIMEOUT", format!("{}s", ANSWER_WITHIN.as_secs()));
        let mut process = Process::start("foretell", &mut command, &dir.path().join("foretell.log"))?;
        let (client, url) = (Client::patient(ANSWER_WITHIN), format!("http://{address}/-/ready"));
        process.wait_until("readiness", READY_WITHIN, || client.is_ok(&url))?;
        Ok(Self { process, client, address, dir })
    }

    /// A folder for files of the run; the server's own lie below it, too.
    pub(super) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A connection that writes.
    pub(super) fn writer(&self) -> Result<Writer> {
        let sender = Sender::connect(self.address, "/api/v1/write", REMOTE_WRITE_HEADERS)?;
        Ok(Writer { sender, encoder: BodyEncoder::default() })
    }

    /// The rows of an answer.
    pub(super) fn rows(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let answer = self.client.sql(&format!("http://{}", self.address), sql);
        answer.with_context(|| self.process.tail())
    }

    /// The rows of an answer, wall time, and the server's CPU time meanwhile.
    pub(super) fn timed(&self, sql: &str) -> Result<(Vec<Vec<Value>>, Duration, f64)> {
        let (begun, before) = (Instant::now(), self.usage()?.cpu_seconds);
        let rows = self.rows(sql)?;
        Ok((rows, begun.elapsed(), self.usage()?.cpu_seconds - before))
    }

    /// CPU time and memory of the server.
    pub(super) fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// Waits until merges are over.
    pub(super) fn wait_idle(&self) -> Result<()> {
        self.process.wait_idle(IDLE_WITHIN)
    }

    /// A clean stop.
    pub(super) fn stop(self) -> Result<()> {
        let status = self.process.stop(STOP_WITHIN)?;
        anyhow::ensure!(status.success(), "the server ended with {status} after SIGTERM");
        Ok(())
    }
}

/// A connection that writes samples, some thousands a body, each body acknowledged before the next.
pub(super) struct Writer {
    sender: Sender,
    encoder: BodyEncoder,
}

impl Writer {
    /// Writes samples of a series: times in ms, and values. The pairs of the labels must be sorted by name.
    pub(super) fn write(
        &mut self,
        labels: &[(&str, &str)],
        samples: impl IntoIterator<Item = (i64, f64)>,
    ) -> Result<()> {
        let labels = encode_labels(labels);
        let mut samples = samples.into_iter().peekable();
        while samples.peek().is_some() {
            let room = SAMPLES_PER_REQUEST - self.encoder.samples();
            self.encoder.push_run(&labels, samples.by_ref().take(room));
            if self.encoder.samples() == SAMPLES_PER_REQUEST {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Sends what is left.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.encoder.samples() == 0 {
            return Ok(());
        }
        let (body, begun) = (self.encoder.finish()?, Instant::now());
        loop {
            match self.sender.post(body)? {
                (200..=299, _) => return Ok(()),
                (429 | 503, _) if begun.elapsed() < BUSY_WITHIN => thread::sleep(Duration::from_millis(20)),
                (status, answer) => bail!("remote write: {status} {answer}"),
            }
        }
    }
}
