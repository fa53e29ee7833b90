//! Servers that hold the same samples, all running at once.
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::http::{Client, FORM, FORM_HEADERS, Sender, Timed};
use crate::peer::{Binaries, Peer, Server};
use crate::process::free_port;
use crate::promql::Question;
use crate::recording::Recording;

/// Longest wait for servers to have nothing to do.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);
/// They have nothing to do when all of them together use less of a core than this for ...
const IDLE_SHARE: f64 = 0.05;
/// ... so long.
const IDLE_FOR: Duration = Duration::from_millis(600);

/// See the module.
pub(super) struct Servers<'a> {
    binaries: &'a Binaries,
    dir: PathBuf,
    peers: &'a [Peer],
    running: Vec<Server>,
    /// One for each, with memory that it keeps: what a client costs beyond that is not the server's.
    senders: Vec<Sender>,
}

impl<'a> Servers<'a> {
    /// Starts each of `peers` with its data below `dir`.
    pub(super) fn start(peers: &'a [Peer], binaries: &'a Binaries, dir: &Path) -> Result<Self> {
        let senders = peers.iter().map(|_| Sender::new(FORM_HEADERS)).collect();
        let mut this = Self { binaries, dir: dir.to_owned(), peers, running: Vec::new(), senders };
        this.start_all()?;
        Ok(this)
    }

    fn start_all(&mut self) -> Result<()> {
        for &peer in self.peers {
            let own = self.dir.join(peer.name());
            std::fs::create_dir_all(&own)?;
            let server = peer.start(self.binaries, &own, free_port()?).with_context(|| peer.name())?;
            self.running.push(server);
        }
        Ok(())
    }

    /// Sends everything to each, one server after the other.
    pub(super) fn load(&self, recordings: &[Recording]) -> Result<()> {
        for (peer, server) in self.peers.iter().zip(&self.running) {
            crate::run::ingest::send(recordings, server.address)
                .map_err(|error| anyhow!("{}: {error:#}; {}", peer.name(), server.process.tail()))?;
        }
        Ok(())
    }

    /// Stops all cleanly, starts them on the same data, and waits until they have done what they do then.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.senders.iter_mut().for_each(Sender::close);
        for (server, peer) in self.running.drain(..).zip(self.peers) {
            server.stop().with_context(|| peer.name())?;
        }
        self.start_all()?;
        self.settle()
    }

    /// Stops all cleanly.
    pub(super) fn stop(mut self) -> Result<()> {
        self.senders.iter_mut().for_each(Sender::close);
        for (server, peer) in self.running.drain(..).zip(self.peers) {
            server.stop().with_context(|| peer.name())?;
        }
        Ok(())
    }

    /// Waits until background work has ended, or the patience.
    fn settle(&self) -> Result<()> {
        let begun = Instant::now();
        let used = || (0..self.running.len()).map(|at| self.cpu_seconds(at)).sum::<Result<f64>>();
        let mut before = used()?;
        while begun.elapsed() < SETTLE_WITHIN {
            thread::sleep(IDLE_FOR);
            let now = used()?;
            if now - before < IDLE_SHARE * IDLE_FOR.as_secs_f64() {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// User and system time of server `at`.
    pub(super) fn cpu_seconds(&self, at: usize) -> Result<f64> {
        Ok(self.running[at].process.usage()?.cpu_seconds)
    }

    /// Asks server `at`; `fresh`: no answer from a cache of answers.
    pub(super) fn ask(&mut self, at: usize, question: &Question, fresh: bool) -> Result<Timed> {
        let (path, form) = request(question, fresh);
        let sender = &mut self.senders[at];
        let answer = sender.turn_to(self.running[at].address, &path).and_then(|()| sender.timed(form.as_bytes()));
        answer.with_context(|| format!("{}: {}", self.peers[at].name(), question.expr))
    }
}

/// The path and the form of a question; `fresh`: no answer from a cache of answers.
fn request(question: &Question, fresh: bool) -> (String, String) {
    let (route, mut form) = question.request();
    if fresh {
        form.push_str("&nocache=1");
    }
    (format!("/api/v1/{route}"), form)
}

/// Asks `server`; `fresh`: no answer from a cache of answers.
pub(in crate::run) fn ask(client: &Client, server: &Server, question: &Question, fresh: bool) -> Result<Timed> {
    let (path, form) = request(question, fresh);
    let url = format!("{}{path}", server.url());
    client.timed(&url, FORM, &form).with_context(|| question.expr.clone())
}
