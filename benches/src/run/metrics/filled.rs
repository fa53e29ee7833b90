//! A server of ours that takes a load on an empty directory and is stopped cleanly, and the same one started again.
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::peer::{Binaries, Peer, Server};
use crate::process::free_port;
use crate::recording::Recording;
use crate::run::ingest;

/// How long merges may go on after a start before anything is asked.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// Sends everything to a new server with its data below `dir`, and stops it. The CPU seconds from its readiness to its end.
pub(super) fn fill(recordings: &[Recording], binaries: &Binaries, dir: &Path) -> Result<f64> {
    let server = Peer::Foretell.start(binaries, dir, free_port()?)?;
    let before = server.process.usage()?.cpu_seconds;
    ingest::send(recordings, server.address).map_err(|error| anyhow!("{error:#}; {}", server.process.tail()))?;
    Ok(server.stop_measured()? - before)
}

/// Starts the server of that directory again, and waits until it has done what it does then.
pub(super) fn open(binaries: &Binaries, dir: &Path) -> Result<Server> {
    let server = Peer::Foretell.start(binaries, dir, free_port()?)?;
    server.process.wait_idle(QUIET_WITHIN)?;
    Ok(server)
}
