//! The server of the demo: the same binary in a child process, with a directory of its own.
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;

use super::stop::Stop;

const LISTEN_DEFAULT: &str = "127.0.0.1:8484";
const LISTEN_FREE: &str = "127.0.0.1:0";
/// How the server announces its address on standard output.
const ANNOUNCEMENT: &str = "foretell: http listening on ";
/// A server that is not ready by then has a problem.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A server that does not stop by then is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Lines of the server's log that are kept for an explanation.
const LOG_LINES_MAX: usize = 20;

/// A running server; stopped when dropped.
pub(super) struct Server {
    child: Child,
    url: String,
    log: Log,
    directory: Directory,
}

/// The last lines of the server's log.
type Log = Arc<Mutex<VecDeque<String>>>;

impl Server {
    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready, with the last lines of its log.
    pub(super) fn start(data_dir: Option<PathBuf>, listen: Option<&str>, stop: &Stop) -> anyhow::Result<Self> {
        let directory = Directory::new(data_dir)?;
        let program = std::env::current_exe().context("cannot find the program that is running")?;
        let listen = listen.unwrap_or_else(|| free_or(LISTEN_DEFAULT, LISTEN_FREE));
        let mut command = Command::new(program);
        command.arg("serve").arg("--data-dir").arg(&directory.path).args([
            "--listen-http",
            listen,
            "--listen-otlp-http",
            "none",
            "--listen-grpc",
            "none",
        ]);
        // Settings of the user's own server are not for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FORETELL_")) {
            command.env_remove(name);
        }
        command.env("FORETELL_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the demo, which then stops the server in order.
        command.process_group(0);
        let mut child = command.spawn().context("cannot start the server")?;
        let (announce, announced) = sync_channel(1);
        let log = Log::default();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut server = Self { child, url: String::new(), log: Arc::clone(&log), directory };
        follow("demo-server-out", stdout, move |line| tell(&announce, &line))?;
        follow("demo-server-log", stderr, move |line| remember(&log, line))?;
        server.url = server.announced(&announced, stop)?;
        server.wait_until_ready(stop)?;
        Ok(server)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.directory.path
    }

    /// What the server logged last, to be put after an error; nothing when it was silent.
    pub(super) fn last_words(&self) -> String {
        let log = self.log.lock();
        let lines: String = log.iter().map(|line| format!("\n  {line}")).collect();
        if lines.is_empty() { lines } else { format!("; it said:{lines}") }
    }

    /// Asks the server to end, and waits for it.
    ///
    /// # Errors
    /// When it did not end in order.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn announced(&mut self, announced: &Receiver<String>, stop: &Stop) -> anyhow::Result<String> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match announced.recv_timeout(POLL) {
                Ok(url) => return Ok(url),
                Err(RecvTimeoutError::Timeout) => self.check(deadline, stop)?,
                // It closed its output: it is ending, and the next check says so.
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(POLL);
                    self.check(deadline, stop)?;
                }
            }
        }
    }

    fn wait_until_ready(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build().new_agent();
        while agent.get(format!("{}/-/ready", self.url)).call().is_err() {
            self.check(deadline, stop)?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// An error when there is no use in waiting any longer.
    fn check(&mut self, deadline: Instant, stop: &Stop) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().context("cannot watch the server")? {
            // Its log is complete once its thread has read it; the thread ends soon after the process.
            std::thread::sleep(POLL);
            bail!("the server ended with {status} before it was ready{}", self.last_words());
        }
        if stop.is_asked() {
            bail!("stopped before the server was ready");
        }
        if Instant::now() >= deadline {
            bail!("the server was not ready after {} s{}", READY_WITHIN.as_secs(), self.last_words());
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait().context("cannot watch the server")?.is_none() {
            terminate(self.child.id())?;
        }
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            match self.child.try_wait().context("cannot watch the server")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server ended with {status}{}", self.last_words()),
                None if Instant::now() >= deadline => {
                    self.child.kill().and_then(|()| self.child.wait()).context("cannot kill the server")?;
                    bail!("the server did not stop within {} s and was killed", STOP_WITHIN.as_secs());
                }
                None => std::thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end; elsewhere an error is on its way already.
        let _ = self.end();
    }
}

/// `first` if it can be listened on, else `second`.
fn free_or(first: &'static str, second: &'static str) -> &'static str {
    if TcpListener::bind(first).is_ok() { first } else { second }
}

/// SIGTERM. The standard library can only kill; a shell can ask, and needs no unsafe code here.
fn terminate(id: u32) -> anyhow::Result<()> {
    let status = Command::new("/bin/sh").args(["-c", "kill -TERM \"$0\"", &id.to_string()]).status();
    if !status.context("cannot ask the server to stop")?.success() {
        bail!("cannot ask the server to stop");
    }
    Ok(())
}

/// Reads lines on a thread of its own, so that the server never waits for us.
fn follow(
    name: &str,
    from: Option<impl Read + Send + 'static>,
    each: impl Fn(String) + Send + 'static,
) -> anyhow::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let read = move || BufReader::new(from).lines().map_while(Result::ok).for_each(each);
    std::thread::Builder::new().name(name.to_owned()).spawn(read).context("cannot follow the server's output")?;
    Ok(())
}

fn tell(announce: &SyncSender<String>, line: &str) {
    if let Some(url) = line.strip_prefix(ANNOUNCEMENT) {
        // Only the first announcement is waited for.
        let _ = announce.try_send(url.trim().to_owned());
    }
}

fn remember(log: &Log, line: String) {
    let mut log = log.lock();
    if log.len() == LOG_LINES_MAX {
        log.pop_front();
    }
    log.push_back(line);
}

/// The server's directory; a temporary one is removed with this value.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn new(path: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(path) = path {
            let used = std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some());
            if used {
                bail!("{} is not empty; the demo wants a directory of its own: name a new one", path.display());
            }
            return Ok(Self { path, temporary: false });
        }
        let path = std::env::temp_dir().join(format!("foretell-demo-{}", std::process::id()));
        let created = std::fs::DirBuilder::new().mode(0o700).create(&path);
        created.with_context(|| format!("cannot create the directory {}; --data-dir names another", path.display()))?;
        Ok(Self { path, temporary: true })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing can be done about what cannot be removed.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_goes_with_its_value() {
        let directory = Directory::new(None).unwrap();
        let path = directory.path.clone();
        assert!(path.is_dir());
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_in_use_is_refused_and_left_alone() {
        let used = tempfile::tempdir().unwrap();
        std::fs::create_dir(used.path().join("something")).unwrap();
        let refused = Directory::new(Some(used.path().to_owned()));
        assert!(refused.is_err_and(|error| error.to_string().contains("not empty")));
        assert!(used.path().join("something").exists());
    }

    #[test]
    fn a_taken_port_gives_a_free_one() {
        let taken = TcpListener::bind(LISTEN_DEFAULT);
        // Either we hold it or somebody else does.
        assert_eq!(free_or(LISTEN_DEFAULT, LISTEN_FREE), LISTEN_FREE);
        drop(taken);
    }

    #[test]
    fn only_the_last_lines_of_the_log_are_kept() {
        let log = Log::default();
        (0..100).for_each(|line| remember(&log, line.to_string()));
        assert_eq!(log.lock().len(), LOG_LINES_MAX);
        assert_eq!(log.lock().back().map(String::as_str), Some("99"));
    }
}
