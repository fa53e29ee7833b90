//! Prometheus's data through `promtool tsdb dump` and `foretell import` into another foretell: every sample must be there.
//! The dump is text and has one NaN, so stale markers become ordinary NaNs, as the documentation says.
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use foretell_proto::prometheus::STALE_NAN_BITS;

use super::compare::{Comparison, Store, compare};
use crate::peer::{Binaries, Peer};
use crate::process::free_port;

/// The NaN that Prometheus reads from text.
const TEXT_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Dumps the directory `data` of a stopped Prometheus that held `expected`, imports the dump, and compares.
///
/// # Errors
/// When promtool or the import fails.
pub fn check(binaries: &Binaries, data: &Path, dir: &Path, expected: &Store) -> Result<Comparison> {
    let dump = dir.join("prometheus.dump");
    let mut promtool = Command::new(binaries.unpacked("promtool")?);
    promtool.args(["tsdb", "dump"]).arg(data).stdout(File::create(&dump)?);
    let status = promtool.status().context("cannot run promtool")?;
    ensure!(status.success(), "promtool tsdb dump ended with {status}");
    leave_out_histograms(&dump)?;
    let dir = dir.join("imported");
    fs::create_dir_all(&dir)?;
    let server = Peer::Foretell.start(binaries, &dir, free_port()?)?;
    let mut import = Command::new(binaries.path(Peer::Foretell)?);
    import.args(["import", "--format", "promtool", "--url", &server.url()]).arg(&dump);
    let output = import.output()?;
    ensure!(output.status.success(), "foretell import: {}", String::from_utf8_lossy(&output.stderr));
    server.stop()?;
    Ok(compare(&as_text(expected), &super::read_store(&dir.join("data"))?))
}

/// Native histograms cannot be imported: their lines, which have braces where others have a value, go from the dump.
fn leave_out_histograms(dump: &Path) -> Result<()> {
    let text = fs::read_to_string(dump)?;
    let samples: String = text.lines().filter(|line| !line.contains("} {")).map(|line| format!("{line}\n")).collect();
    Ok(fs::write(dump, samples)?)
}

/// What text can say of `store`.
fn as_text(store: &Store) -> Store {
    let mut store = store.clone();
    let samples = store.series.values_mut().flatten();
    samples.filter(|sample| sample.1 == STALE_NAN_BITS).for_each(|sample| sample.1 = TEXT_NAN_BITS);
    store
}
