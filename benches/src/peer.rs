//! How to start each server that is measured.
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::http::Client;
use crate::process::Process;

/// Longest start, replay of the log included.
const START_WITHIN: Duration = Duration::from_secs(120);
/// Longest clean stop.
const STOP_WITHIN: Duration = Duration::from_secs(300);

/// A server that takes remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// Ours.
    Foretell,
    /// VictoriaMetrics, single node.
    #[value(name = "victoriametrics", alias = "victoria-metrics")]
    VictoriaMetrics,
    /// Prometheus with its remote write receiver.
    Prometheus,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The `foretell` binary.
    pub foretell: PathBuf,
    /// Folder into which `peers.sh` has unpacked the others.
    pub peers: Option<PathBuf>,
}

impl Binaries {
    /// The binary of a peer.
    ///
    /// # Errors
    /// When it is not there, with what to do.
    pub fn path(&self, peer: Peer) -> Result<PathBuf> {
        let path = match peer {
            Peer::Foretell => self.foretell.clone(),
            Peer::VictoriaMetrics => self.unpacked("victoria-metrics")?,
            Peer::Prometheus => self.unpacked("prometheus")?,
        };
        ensure!(path.exists(), "{} is missing: build it with `cargo build --release --bin foretell`", path.display());
        Ok(path)
    }

    /// A program of an unpacked package.
    ///
    /// # Errors
    /// When it is not there, with what to do.
    pub fn unpacked(&self, program: &str) -> Result<PathBuf> {
        let peers =
            self.peers.as_ref().context("say where the peers are: --peers DIR, filled by benches/peers.sh DIR")?;
        let path = peers.join("usr/bin").join(program);
        ensure!(path.exists(), "{} is missing: unpack it with benches/peers.sh {}", path.display(), peers.display());
        Ok(path)
    }
}

/// A running server.
pub struct Server {
    /// Its process.
    pub process: Process,
    /// Where it listens for HTTP.
    pub address: SocketAddr,
    /// From start to ready.
    pub started_in: Duration,
}

impl Peer {
    /// Name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foretell => "foretell",
            Self::VictoriaMetrics => "victoriametrics",
            Self::Prometheus => "prometheus",
        }
    }

    /// The package's version, or what the binary says of itself.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn version(self, binaries: &Binaries) -> Result<String> {
        let package = match self {
            Self::Foretell => None,
            Self::VictoriaMetrics => Some("victoria-metrics"),
            Self::Prometheus => Some("prometheus"),
        };
        if let (Some(peers), Some(package)) = (&binaries.peers, package)
            && let Ok(version) = fs::read_to_string(peers.join("versions").join(package))
        {
            return Ok(version.trim().to_owned());
        }
        let argument = if self == Self::Foretell { "version" } else { "--version" };
        let output = Command::new(binaries.path(self)?).arg(argument).output()?;
        let text = String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout })
            .into_owned();
        // what follows in parentheses is who built it where
        let line = text.lines().next().unwrap_or_default();
        Ok(line.split(" (").next().unwrap_or_default().trim().to_owned())
    }

    /// Starts it with its data in `dir/data` and waits until it takes writes.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(self, binaries: &Binaries, dir: &Path, port: u16) -> Result<Server> {
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let data = dir.join("data");
        fs::create_dir_all(&data)?;
        let mut command = Command::new(binaries.path(self)?);
        let ready = match self {
            Self::Foretell => {
                command.arg("serve").arg("--data-dir").arg(&data).arg("--listen-http").arg(address.to_string());
                command.args(["--listen-grpc", "none", "--listen-pg", "none", "--listen-otlp-http", "none"]);
                "/-/ready"
            }
            Self::VictoriaMetrics => {
                command.arg(format!("-storageDataPath={}", data.display())).arg(format!("-httpListenAddr={address}"));
                command.args(["-retentionPeriod=100y", "-loggerLevel=ERROR"]);
                "/health"
            }
            Self::Prometheus => {
                let config = dir.join("prometheus.yml");
                fs::write(&config, "global: {}\n")?;
                command.arg(format!("--config.file={}", config.display()));
                command.arg(format!("--storage.tsdb.path={}", data.display()));
                command.arg(format!("--web.listen-address={address}"));
                command.args([
                    "--web.enable-remote-write-receiver",
                    "--enable-feature=native-histograms,promql-experimental-functions",
                    "--storage.tsdb.retention.time=100y",
                    "--enable-feature=promql-experimental-functions",
                    "--log.level=error",
                ]);
                "/-/ready"
            }
        };
        let begun = Instant::now();
        let mut process = Process::start(self.name(), &mut command, &dir.join(format!("{}.log", self.name())))?;
        let (client, url) = (Client::default(), format!("http://{address}{ready}"));
        process.wait_until("readiness", START_WITHIN, || client.is_ok(&url))?;
        Ok(Server { process, address, started_in: begun.elapsed() })
    }
}

impl Server {
    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A clean stop, and how long it took.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub fn stop(self) -> Result<Duration> {
        let begun = Instant::now();
        self.stop_measured()?;
        Ok(begun.elapsed())
    }

    /// A clean stop, and the user and system time of the server's life, seconds.
    ///
    /// # Errors
    /// As [`Server::stop`].
    pub fn stop_measured(self) -> Result<f64> {
        let (status, cpu_seconds) = self.process.stop_measured(STOP_WITHIN)?;
        if !status.success() {
            bail!("ended with {status} after SIGTERM");
        }
        Ok(cpu_seconds)
    }
}
