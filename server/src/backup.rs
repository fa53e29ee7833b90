//! `foretell backup` and `foretell restore`.
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use foretell_engine::backup::{self, Backup, Begun};
use foretell_engine::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::progress::{bar, watched};
use crate::serve::say;
use crate::timestamp::rfc3339;
use crate::verify::cannot;

/// Longest line of a server's answer.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// `foretell backup`.
#[derive(Args, Debug)]
#[command(
    after_help = "A backup holds everything acknowledged before it began. DEST may hold many: what one has already is not copied\n\
    again. With --url the server writes, and DEST lies in its storage.backup_dir; with --data-dir this command does, and the\n\
    server must be stopped.\n\
    Exit codes: 0 the backup is there, 2 it is not.\n\n\
    Examples:\n  \
    foretell backup nightly                                       of the server on http://127.0.0.1:8484\n  \
    foretell backup --url http://127.0.0.1:9000 nightly\n  \
    foretell backup --data-dir /var/lib/foretell /mnt/backups     of a stopped store"
)]
pub struct BackupArgs {
    /// Where the backups are: a directory, created if absent
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// The server to back up
    #[arg(long, env = "FORETELL_URL", default_value = "http://127.0.0.1:8484")]
    url: String,
    /// The stopped store to back up
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// `foretell restore`.
#[derive(Args, Debug)]
#[command(after_help = "Every file is compared with its checksum before the new store exists.\n\
    Exit codes: 0 the store is there, 2 it is not.\n\n\
    Examples:\n  \
    foretell restore /mnt/backups --list\n  \
    foretell restore /mnt/backups --data-dir /var/lib/foretell-restored\n  \
    foretell restore /mnt/backups --data-dir ./old --at 20261124T010203Z-00000000000000000042")]
pub struct RestoreArgs {
    /// Where the backups are
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Directory of the new store: empty or absent
    #[arg(long, value_name = "NEW", required_unless_present = "list")]
    data_dir: Option<PathBuf>,
    /// Name of the backup; the newest one without
    #[arg(long, value_name = "NAME")]
    at: Option<String>,
    /// List the backups and exit
    #[arg(long, conflicts_with_all = ["data_dir", "at"])]
    list: bool,
}

/// Now, and as it stands in a backup's name.
pub(crate) fn now() -> (i64, String) {
    let now_ns = SystemClock.now_ns();
    // 2026-11-24T01:02:03.000000000Z -> 20261124T010203Z
    let text: String = rfc3339(now_ns).chars().take_while(|&c| c != '.').filter(|c| !"-:".contains(*c)).collect();
    (now_ns, format!("{text}Z"))
}

/// What is said of a backup that was made, to programs.
pub(crate) fn made_json(made: &backup::Made) -> Value {
    json!({
        "event": "done",
        "name": made.backup.name,
        "created": rfc3339(made.backup.created_ns),
        "lsn": made.backup.lsn.0,
        "files": made.backup.files,
        "bytes": made.backup.bytes,
        "files_copied": made.files_copied,
        "bytes_copied": made.bytes_copied,
    })
}

fn say_made(made: &Value) {
    let text = |key: &str| made[key].as_str().unwrap_or("?").to_owned();
    let number = |key: &str| made[key].as_u64().unwrap_or(0);
    say(&format!(
        "backup {} as of commit {}: {} files of {} bytes, of which {} of {} bytes were copied",
        text("name"),
        number("lsn"),
        number("files"),
        number("bytes"),
        number("files_copied"),
        number("bytes_copied")
    ));
}

impl BackupArgs {
    pub(crate) fn run(&self) -> ExitCode {
        let made = match &self.data_dir {
            Some(data_dir) => self.of_closed(data_dir),
            None => self.of_server(),
        };
        match made {
            Ok(made) => {
                say_made(&made);
                ExitCode::SUCCESS
            }
            Err(error) => cannot(&error),
        }
    }

    fn of_closed(&self, data_dir: &Path) -> anyhow::Result<Value> {
        let (at_ns, label) = now();
        let begun = Begun { at_ns, label: &label };
        let dest = std::path::absolute(&self.dest).context("DEST")?;
        let data_dir = std::path::absolute(data_dir).context("--data-dir")?;
        let made = watched("copying", |progress| backup::backup_closed(&data_dir, &dest, &begun, progress))??;
        Ok(made_json(&made))
    }

    fn of_server(&self) -> anyhow::Result<Value> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let url = format!("{}/api/v1/admin/backup", self.url.trim_end_matches('/'));
        let body = json!({ "path": self.dest.to_string_lossy() }).to_string();
        let response = agent.post(&url).content_type("application/json").send(body).with_context(|| {
            format!("cannot reach the server at {}; is it running? --data-dir backs up a stopped store", self.url)
        })?;
        let refused = !response.status().is_success();
        let mut lines = BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader());
        let bar = bar("copying")?;
        loop {
            let mut line = String::new();
            lines.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).context("the answer broke off")?;
            if line.trim().is_empty() {
                bail!("the answer broke off: the backup may or may not be there; see `foretell restore DEST --list`");
            }
            let event: Value = serde_json::from_str(&line).with_context(|| format!("unexpected answer {line:?}"))?;
            if refused || event["status"] == "error" {
                bail!("{}", event["error"].as_str().unwrap_or("the server refused without a reason"));
            }
            if event["event"] == "done" {
                bar.finish_and_clear();
                return Ok(event);
            }
            bar.set_length(event["bytes_total"].as_u64().unwrap_or(0));
            bar.set_position(event["bytes_done"].as_u64().unwrap_or(0));
        }
    }
}

impl RestoreArgs {
    pub(crate) fn run(&self) -> ExitCode {
        match self.try_run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cannot(&error),
        }
    }

    fn try_run(&self) -> anyhow::Result<()> {
        let Some(data_dir) = &self.data_dir else {
            backup::backups(&self.source)?.iter().for_each(|backup| say(&describe(backup)));
            return Ok(());
        };
        let data_dir = std::path::absolute(data_dir).context("--data-dir")?;
        let restore = |progress: &_| backup::restore(&self.source, self.at.as_deref(), &data_dir, progress);
        let restored = watched("restoring", restore)??;
        say(&format!("restored into {}: {}", data_dir.display(), describe(&restored)));
        Ok(())
    }
}

fn describe(backup: &Backup) -> String {
    let Backup { name, lsn, files, bytes, .. } = backup;
    format!("{name}  commit {}, {files} files, {bytes} bytes", lsn.0)
}
