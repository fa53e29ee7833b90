//! A real server that does not live long: started with small sizes that change from start to start, killed, and started again.
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::http::Client;
use crate::peer::{Binaries, Peer};
use crate::process::Process;

const POLL: Duration = Duration::from_micros(500);
const START_WITHIN: Duration = Duration::from_secs(60);
/// The server's line when it listens, and when the store is open.
const LISTENING: &str = "http listening on http://";
const READY: &str = "ready";
/// Small, so that a few hours of samples are many partitions.
pub(crate) const PARTITION_WIDTH: Duration = Duration::from_secs(20 * 60);

/// Sizes of one start: small, so that flushes and merges happen all the time.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    memtable_bytes: u64,
    wal_segment_bytes: u64,
}

impl Sizes {
    pub(crate) fn any(rng: &mut SmallRng) -> Self {
        let pick = |rng: &mut SmallRng, of: &[u64]| of[rng.random_range(0..of.len())];
        Self {
            memtable_bytes: pick(rng, &[16 << 10, 64 << 10, 256 << 10, 4 << 20]),
            wal_segment_bytes: pick(rng, &[4 << 10, 32 << 10, 1 << 20]),
        }
    }

    /// Nothing of what one request brings is flushed, and no log file ends.
    pub(crate) fn largest() -> Self {
        Self { memtable_bytes: 16 << 20, wal_segment_bytes: 64 << 20 }
    }
}

/// A data directory and the server on it.
pub(crate) struct Mortal {
    foretell: PathBuf,
    data: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    client: Client,
    process: Option<Process>,
    /// How long the last open took.
    opened_in: Duration,
}

impl Mortal {
    pub(crate) fn new(binaries: &Binaries, dir: &Path) -> Result<Self> {
        Ok(Self {
            foretell: binaries.path(Peer::Foretell)?,
            data: dir.join("data"),
            log: dir.join("foretell.log"),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            client: Client::default(),
            process: None,
            opened_in: Duration::from_millis(20),
        })
    }

    /// For questions to it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where the running server listens: at a free port, another one after each start.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn spawn(&mut self, sizes: &Sizes) -> Result<()> {
        self.kill()?;
        // one log for each process: the last one is what a failure is explained by
        File::create(&self.log)?;
        let mut command = Command::new(&self.foretell);
        command.arg("serve").arg("--data-dir").arg(&self.data).args(["--listen-http", "127.0.0.1:0"]);
        command.args(["--listen-grpc", "none", "--listen-pg", "none", "--listen-otlp-http", "none"]);
        let (memtable, total) = (sizes.memtable_bytes.to_string(), (sizes.memtable_bytes * 8).to_string());
        for (name, value) in [
            ("STORAGE_PARTITION_WIDTH", format!("{}s", PARTITION_WIDTH.as_secs()).as_str()),
            ("STORAGE_MEMTABLE_BYTES_MAX", &memtable),
            ("STORAGE_MEMTABLE_TOTAL_BYTES_MAX", &total),
            ("WAL_SEGMENT_BYTES", &sizes.wal_segment_bytes.to_string()),
            ("QUERY_ROWS_MAX", "1000000000"),
            ("LOG", "info"),
        ] {
            command.env(format!("FORETELL_{name}"), value);
        }
        self.process = Some(Process::start("foretell", &mut command, &self.log)?);
        Ok(())
    }

    /// Starts it and waits until it is ready; how long that took.
    pub(crate) fn start(&mut self, sizes: &Sizes) -> Result<Duration> {
        let begun = Instant::now();
        self.spawn(sizes)?;
        self.listening()?;
        let listening = Instant::now();
        let url = format!("http://{}/-/ready", self.address);
        while !self.client.is_ok(&url) {
            ensure!(listening.elapsed() < START_WITHIN, "not ready within {START_WITHIN:?}: {}", self.tail());
            self.process.as_mut().context("just started")?.refuse_ended("readiness")?;
            thread::sleep(POLL);
        }
        self.opened_in = listening.elapsed();
        Ok(begun.elapsed())
    }

    /// Starts it and kills it after `share` of the time the last open took; whether the open had really not ended.
    pub(crate) fn kill_while_opening(&mut self, sizes: &Sizes, share: f64) -> Result<bool> {
        self.spawn(sizes)?;
        self.listening()?;
        thread::sleep(self.opened_in.mul_f64(share));
        self.kill()?;
        Ok(!self.log_has_line(READY))
    }

    /// Waits until the process says where it listens, without the pace of polling a port.
    fn listening(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some((_, rest)) = text.split_once(LISTENING)
                && let Some((address, _)) = rest.split_once('\n')
            {
                self.address = address.trim().parse().with_context(|| format!("address {address:?}"))?;
                return Ok(());
            }
            ensure!(begun.elapsed() < START_WITHIN, "not listening within {START_WITHIN:?}: {}", self.tail());
            self.process.as_mut().context("just started")?.refuse_ended("listening")?;
            thread::sleep(POLL);
        }
    }

    fn log_has_line(&self, what: &str) -> bool {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .any(|line| line.contains(" INFO ") && line.contains(&format!(": {what} ")))
    }

    /// Its directory, if it does not run.
    pub(crate) fn dead_data(&self) -> Result<&Path> {
        ensure!(self.process.is_none(), "the server runs");
        Ok(&self.data)
    }

    /// Its directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The last lines of its log.
    pub(crate) fn tail(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::tail)
    }

    /// SIGKILL, if it runs. What it had logged as an error is an error here.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        let text = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&text);
        let bad = text.lines().find(|line| line.contains(" ERROR ") || line.contains("panicked"));
        bad.map_or(Ok(()), |line| bail!("the server logged: {line}"))
    }
}
