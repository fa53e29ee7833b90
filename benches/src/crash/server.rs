//! The server under test: started with small sizes that change from start to start, killed, asked, and read when dead.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use foretell_engine::{Engine, EngineConfig, ScanBatch, Selector, SeriesId, TimeRange};
use rand::Rng;
use rand::rngs::SmallRng;

use super::judge::{Answer, Stored};
use super::lane::{Key, Lane, metric};
use crate::http::Client;
use crate::peer::{Binaries, Peer};
use crate::process::Process;

const POLL: Duration = Duration::from_micros(500);
const START_WITHIN: Duration = Duration::from_secs(60);
/// The server's line when it listens, and when the store is open.
const LISTENING: &str = "http listening on http://";
const READY: &str = "ready";
/// Small, so that a few hours of samples are many partitions.
const PARTITION_WIDTH: Duration = Duration::from_secs(20 * 60);

/// Sizes of one start: small, so that flushes and merges happen all the time.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    memtable_bytes: u64,
    wal_segment_bytes: u64,
}

impl Sizes {
    pub(super) fn any(rng: &mut SmallRng) -> Self {
        let pick = |rng: &mut SmallRng, of: &[u64]| of[rng.random_range(0..of.len())];
        Self {
            memtable_bytes: pick(rng, &[16 << 10, 64 << 10, 256 << 10, 4 << 20]),
            wal_segment_bytes: pick(rng, &[4 << 10, 32 << 10, 1 << 20]),
        }
    }

    /// Nothing of what one request brings is flushed, and no log file ends.
    pub(super) fn largest() -> Self {
        Self { memtable_bytes: 16 << 20, wal_segment_bytes: 64 << 20 }
    }
}

/// A data directory and the server on it.
pub(super) struct Store {
    foretell: PathBuf,
    data: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    client: Client,
    process: Option<Process>,
    /// How long the last open took.
    opened_in: Duration,
}

impl Store {
    pub(super) fn new(binaries: &Binaries, dir: &Path) -> Result<Self> {
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

    /// Where the running server listens: at a free port, another one after each start.
    pub(super) fn address(&self) -> SocketAddr {
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
    pub(super) fn start(&mut self, sizes: &Sizes) -> Result<Duration> {
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
    pub(super) fn kill_while_opening(&mut self, sizes: &Sizes, share: f64) -> Result<bool> {
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

    fn tail(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::tail)
    }

    /// SIGKILL, if it runs. What it had logged as an error is an error here.
    pub(super) fn kill(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        let text = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&text);
        let bad = text.lines().find(|line| line.contains(" ERROR ") || line.contains("panicked"));
        bad.map_or(Ok(()), |line| bail!("the server logged: {line}"))
    }

    /// The rows of the series that `lane` has touched, or of all.
    pub(super) fn ask(&self, lane: &Lane, everything: bool) -> Result<Answer> {
        let touched: Vec<String> = lane.touched.iter().map(|n| format!("'{n}'")).collect();
        let wanted = if everything { String::new() } else { format!(" WHERE n IN ({})", touched.join(",")) };
        if !everything && touched.is_empty() {
            return Ok(Answer::new());
        }
        let sql = format!("SELECT n, CAST(ts AS BIGINT), value FROM metrics.\"{}\"{wanted}", metric(lane.number()));
        let url = format!("http://{}/api/v1/sql?format=csv", self.address);
        let (status, body) = self.client.post(&url, &[("content-type", "text/plain")], sql.as_bytes())?;
        let text = std::str::from_utf8(&body)?;
        ensure!(status == 200, "{sql}: {status} {text}; {}", self.tail());
        text.lines().skip(1).map(|line| parse(line).with_context(|| format!("answer {line:?}"))).collect()
    }

    /// The highest number of a file that a flush or a merge wrote.
    pub(super) fn files_written(&self) -> Result<u64> {
        let mut highest = 0;
        for partition in fs::read_dir(self.data.join("partitions"))? {
            for file in fs::read_dir(partition?.path())? {
                let name = file?.file_name().to_string_lossy().into_owned();
                highest = highest.max(name.split('.').next().and_then(|stem| stem.parse().ok()).unwrap_or(0));
            }
        }
        Ok(highest)
    }

    /// Takes `bytes` from the end of the newest log file of a server that does not run.
    pub(super) fn cut_newest_log(&self, bytes: u64) -> Result<()> {
        ensure!(self.process.is_none(), "the server runs");
        let mut logs = Vec::new();
        for file in fs::read_dir(self.data.join("wal"))? {
            logs.push(file?.path());
        }
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
        let newest = logs.into_iter().max().context("no log file")?;
        let file = File::options().write(true).open(&newest)?;
        Ok(file.set_len(file.metadata()?.len().checked_sub(bytes).context("an empty log")?)?)
    }

    /// Everything in the directory of a server that does not run, by lane.
    pub(super) fn read(&self) -> Result<BTreeMap<u32, Answer>> {
        ensure!(self.process.is_none(), "the server runs");
        let engine = Engine::open(EngineConfig { partition_width: PARTITION_WIDTH, ..EngineConfig::new(&self.data) })?;
        let snapshot = engine.snapshot();
        let series = snapshot.select(&Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL })?;
        let ids: Vec<SeriesId> = series.iter().map(|series| series.id).collect();
        let mut names = Vec::with_capacity(series.len());
        for series in &series {
            let of = |name: &str| series.labels.iter().find(|label| label.0 == name).map(|label| label.1);
            let lane = of("__name__").and_then(|metric| metric.strip_prefix("crash_")?.parse::<u32>().ok());
            names.push(lane.zip(of("n").and_then(|n| n.parse::<u32>().ok())).context("a series nobody wrote")?);
        }
        let mut answers: BTreeMap<u32, Answer> = BTreeMap::new();
        let (mut scan, mut batch) = (snapshot.scan(&ids, TimeRange::ALL, true, 65_536)?, ScanBatch::default());
        while scan.next_batch(&mut batch)? {
            let mut row = 0;
            for &(of, rows) in &batch.runs {
                let (lane, n) = names[of as usize];
                let answer = answers.entry(lane).or_default();
                for at in row..row + rows as usize {
                    answer.push(((n, batch.ts[at] / 1_000_000), Stored::Bits(batch.values[at].to_bits())));
                }
                row += rows as usize;
            }
        }
        Ok(answers)
    }
}

/// Series, nanoseconds, value.
fn parse(line: &str) -> Result<(Key, Stored)> {
    let mut fields = line.split(',');
    let mut next = || fields.next().context("a field is missing");
    let (series, ts_ns): (u32, i64) = (next()?.parse()?, next()?.parse()?);
    ensure!(ts_ns % 1_000_000 == 0, "a time between two milliseconds");
    let value: f64 = next()?.parse()?;
    let stored = if value.is_nan() { Stored::AnyNan } else { Stored::Bits(value.to_bits()) };
    Ok(((series, ts_ns / 1_000_000), stored))
}
