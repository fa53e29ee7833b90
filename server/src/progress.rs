//! A progress bar for long work, on a terminal only.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context as _;
use foretell_engine::verify::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// A bar of bytes with a word for what is being done; it draws nothing unless standard error is a terminal.
pub(crate) fn bar(doing: &str) -> anyhow::Result<ProgressBar> {
    let template = format!("{doing} {{bar:40}} {{percent:>3}} %  {{bytes}} of {{total_bytes}}, {{eta}} left");
    Ok(ProgressBar::new(0).with_style(ProgressStyle::with_template(&template).context("progress bar")?))
}

/// A sign of life with a message, for work whose end is not known; on a terminal only.
pub(crate) fn spinner(doing: &str) -> anyhow::Result<ProgressBar> {
    let template = format!("{{spinner}} {doing} {{msg}}, {{elapsed}}");
    Ok(ProgressBar::new_spinner().with_style(ProgressStyle::with_template(&template).context("progress bar")?))
}

/// Runs `work` with a bar that shows how far it has come.
pub(crate) fn watched<T: Send>(doing: &str, work: impl FnOnce(&Progress) -> T + Send) -> anyhow::Result<T> {
    let bar = bar(doing)?;
    let progress = Arc::new(Progress::default());
    Ok(std::thread::scope(|scope| {
        let (ended, ends) = channel::<()>();
        let (shown, drawn) = (Arc::clone(&progress), bar.clone());
        scope.spawn(move || {
            while ends.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                drawn.set_length(shown.total.load(Ordering::Relaxed));
                drawn.set_position(shown.done.load(Ordering::Relaxed));
            }
            drawn.finish_and_clear();
        });
        let done = work(&progress);
        drop(ended);
        done
    }))
}
