//! Child processes: started with their output in a file, measured through `/proc`, and ended on every way out.
//!
//! Every child stands in a registry until it has been waited for; [`end_all_on_signal`] kills what stands there when the
//! benchmark itself is interrupted, and dropping a [`Process`] kills it on errors and panics. Nothing else is ever signalled.
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static SCRATCH: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Clock ticks in a second of `/proc/PID/stat`: part of Linux's ABI.
const TICKS_PER_SECOND: f64 = 100.0;
/// CPU time that an idle process may use in a second.
const IDLE_CPU_SECONDS_MAX: f64 = 0.05;

fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

fn running() -> MutexGuard<'static, Vec<u32>> {
    locked(&RUNNING)
}

/// A directory that goes with the run, also when the run is interrupted.
///
/// # Errors
/// When it cannot be created.
pub fn scratch_dir(what: &str) -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix(&format!("foretell-{what}-")).tempdir()?;
    locked(&SCRATCH).push(dir.path().to_owned());
    Ok(dir)
}

/// Sends a signal by name to one process that this crate has started.
fn signal(pid: u32, name: &str) {
    // the shell's own kill: always there, and no unsafe code here
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
}

/// On SIGINT, SIGTERM or SIGHUP kills the children, removes the scratch directories and exits with 130.
///
/// # Errors
/// When the thread that waits for them cannot be started.
pub fn end_all_on_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal as listen};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let listen = |kind| listen(kind).ok();
            let (Some(mut int), Some(mut term), Some(mut hup)) =
                (listen(SignalKind::interrupt()), listen(SignalKind::terminate()), listen(SignalKind::hangup()))
            else {
                return;
            };
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
            for &pid in running().iter() {
                signal(pid, "KILL");
            }
            for dir in locked(&SCRATCH).iter() {
                let _ = fs::remove_dir_all(dir);
            }
            std::process::exit(130);
        });
    })?;
    Ok(())
}

/// Runs a program to its end: what it printed. It ends with the benchmark, as every child.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let id = child.id();
    running().push(id);
    let output = child.wait_with_output();
    running().retain(|&pid| pid != id);
    Ok(output?)
}

/// A running child.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: bool,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Usage {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Resident memory now, bytes.
    pub rss_bytes: u64,
    /// Most resident memory ever, bytes.
    pub rss_peak_bytes: u64,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = appended(log)?;
        Self::spawn(name, command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out), log)
    }

    /// Starts `command` with its errors appended to `log`, and what is said to it and what it says in pipes.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn converse(name: &str, command: &mut Command, log: &Path) -> Result<(Self, ChildStdin, ChildStdout)> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(appended(log)?);
        let mut this = Self::spawn(name, command, log)?;
        let input = this.child.stdin.take().with_context(|| format!("{name} has no input"))?;
        let output = this.child.stdout.take().with_context(|| format!("{name} has no output"))?;
        Ok((this, input, output))
    }

    fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        running().push(child.id());
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: false })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time and memory so far.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn usage(&self) -> Result<Usage> {
        let usage = usage_of(&self.id().to_string());
        usage.with_context(|| format!("{} is gone: {}", self.name, self.tail()))
    }

    /// The last lines of its output, for error messages.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        format!("last output:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// Fails when it has ended, before `what`.
    ///
    /// # Errors
    /// With its last output.
    pub fn refuse_ended(&mut self, what: &str) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.forget();
            bail!("{} ended with {status} before {what}; {}", self.name, self.tail());
        }
        Ok(())
    }

    /// Waits until `ready` answers `true`, asking every few milliseconds.
    ///
    /// # Errors
    /// When the process ends or the time is over.
    pub fn wait_until(&mut self, what: &str, within: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        while !ready() {
            self.refuse_ended(what)?;
            ensure!(Instant::now() < deadline, "{}: no {what} within {within:?}; {}", self.name, self.tail());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until it has used next to no CPU for a second, as a server does whose merges are over; at most so long.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn wait_idle(&self, within: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let before = self.usage()?.cpu_seconds;
            thread::sleep(Duration::from_secs(1));
            if self.usage()?.cpu_seconds - before < IDLE_CPU_SECONDS_MAX || begun.elapsed() > within {
                return Ok(());
            }
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it has not ended in time; it is killed then.
    pub fn stop(self, within: Duration) -> Result<ExitStatus> {
        Ok(self.stop_measured(within)?.0)
    }

    /// As [`Process::stop`], and the user and system time of its life, seconds; of the last milliseconds some may be missing.
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn stop_measured(mut self, within: Duration) -> Result<(ExitStatus, f64)> {
        signal(self.id(), "TERM");
        let (deadline, mut cpu_seconds) = (Instant::now() + within, 0.0);
        loop {
            // A child that has ended has its times until it has been waited for.
            cpu_seconds = self.usage().map_or(cpu_seconds, |usage| usage.cpu_seconds);
            if let Some(status) = self.child.try_wait()? {
                self.forget();
                return Ok((status, cpu_seconds));
            }
            ensure!(Instant::now() < deadline, "{} did not end within {within:?}; {}", self.name, self.tail());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGKILL and waits.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.ended = true;
        let id = self.child.id();
        running().retain(|&pid| pid != id);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.forget();
        }
    }
}

/// `log`, to be written at its end.
fn appended(log: &Path) -> Result<File> {
    File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())
}

/// CPU time and memory of this process.
///
/// # Errors
/// Without `/proc`.
pub fn own_usage() -> Result<Usage> {
    usage_of("self")
}

/// CPU time of this thread: what a busy machine takes from it does not count.
///
/// # Errors
/// Without `/proc`.
pub fn thread_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = stat.split(' ').next().and_then(|n| n.parse().ok()).context("no time in /proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(ns))
}

fn usage_of(pid: &str) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // the second field is a name in parentheses that may hold spaces; utime and stime are fields 14 and 15
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat without a name")?;
    let ticks = |i: usize| fields.split_whitespace().nth(i).and_then(|n| n.parse::<f64>().ok());
    let (user, system) = (ticks(11).context("no utime")?, ticks(12).context("no stime")?);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(Usage {
        cpu_seconds: (user + system) / TICKS_PER_SECOND,
        rss_bytes: kib("VmRSS:") * 1024,
        rss_peak_bytes: kib("VmHWM:") * 1024,
    })
}

/// A loopback port that nobody listens on just now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Bytes of the files below `dir`, by the name of its entries.
///
/// # Errors
/// When a directory cannot be read.
pub fn disk_usage(dir: &Path) -> Result<Vec<(String, u64)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let bytes = tree_bytes(&entry.path())?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    entries.sort();
    Ok(entries)
}

fn tree_bytes(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| tree_bytes(&entry?.path())).sum()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};

    use super::*;

    #[test]
    fn a_dropped_process_is_ended_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start("sleep", Command::new("sleep").arg("60"), &dir.path().join("log")).unwrap();
        let id = process.id();
        assert!(running().contains(&id));
        assert!(process.usage().unwrap().rss_bytes > 0);
        drop(process);
        assert!(!running().contains(&id));
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_stopped_process_tells_what_cpu_it_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // Its own work, not that of a child; the trap lets it end with success.
        command.args(["-c", "trap 'exit 0' TERM; while :; do :; done"]);
        let process = Process::start("sh", &mut command, &dir.path().join("log")).unwrap();
        while process.usage().unwrap().cpu_seconds < 0.1 {
            thread::sleep(Duration::from_millis(5));
        }
        let (status, cpu_seconds) = process.stop_measured(Duration::from_secs(20)).unwrap();
        assert!(status.success() && cpu_seconds >= 0.1, "{status}, {cpu_seconds}");
    }

    #[test]
    fn one_may_talk_with_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let (process, mut input, output) =
            Process::converse("cat", &mut Command::new("cat"), &dir.path().join("log")).unwrap();
        input.write_all(b"hello\n").unwrap();
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "hello\n");
        drop(process);
    }

    #[test]
    fn an_early_end_is_an_error_with_the_last_output() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let mut process =
            Process::start("sh", command.args(["-c", "echo no luck; exit 3"]), &dir.path().join("log")).unwrap();
        let error = process.wait_until("answer", Duration::from_secs(20), || false).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no luck"), "{error}");
    }

    #[test]
    fn disk_usage_counts_whole_trees() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c"), [0; 10]).unwrap();
        fs::write(dir.path().join("d"), [0; 3]).unwrap();
        assert_eq!(disk_usage(dir.path()).unwrap(), [("a".to_owned(), 10), ("d".to_owned(), 3)]);
    }
}
