//! Making a damaged, closed store whole again, with everything that can still be read.
//!
//! ```text
//!  survey (see verify) ──> plan: what is kept, what is lost ──> new segments, series files, log files
//!                                     │                         MANIFEST (published: from here on it is so)
//!                                     └ nothing is written      originals to damaged/, catalogue rebuilt, survey again
//!                                       for a dry run
//! ```
//! Nothing is deleted: what was proved bad is moved to `damaged/` in the store, under the name it had. Nothing that was
//! acknowledged is given up without [`Options::accept_loss`], and the losses are named before. An interrupted repair
//! changes no answer and can be done again.
mod definitions;
mod execute;
mod log;
mod plan;
mod readable;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::fs::{Fs, OsFs};
use crate::types::{LabelSet, TimeRange};
use crate::verify::{Progress, Report, store_at, survey};

/// How far a repair may go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Give up what cannot be read.
    pub accept_loss: bool,
    /// Width of a time partition, for a store whose manifest is lost and whose width is not a day.
    pub partition_width: Option<Duration>,
}

/// Something that was acknowledged and cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where it was.
    pub path: PathBuf,
    /// What it is.
    pub what: String,
    /// Samples or records, if that is known.
    pub rows: Option<u64>,
    /// Series concerned, if that is known.
    pub series: Option<u64>,
    /// Labels of the first of them.
    pub labels: Vec<LabelSet>,
    /// When they are of, if that is known.
    pub range: Option<TimeRange>,
}

/// What a repair found and did.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// The store before.
    pub before: Report,
    /// What is to be done, or was done.
    pub steps: Vec<String>,
    /// What cannot be kept.
    pub losses: Vec<Loss>,
    /// The store afterwards; `None` when nothing was done.
    pub after: Option<Report>,
}

impl Repair {
    /// Whether the store is whole now.
    pub fn is_whole(&self) -> bool {
        self.after.as_ref().unwrap_or(&self.before).is_clean()
    }
}

/// Repairs the closed store in `data_dir`.
///
/// # Durability
/// When this returns, what was done is on stable storage.
///
/// # Errors
/// `Unavailable` when a server holds the store, `Invalid` when there is none or its partition width must be given, `Io`
/// when files cannot be written. Losses that are not accepted are no error: nothing is done then.
pub fn repair(data_dir: &Path, options: Options, progress: &Progress) -> Result<Repair> {
    repair_with(data_dir, &(Arc::new(OsFs) as Arc<dyn Fs>), options, progress)
}

/// As [`repair`], on other files than the machine's.
///
/// # Errors
/// As [`repair`].
pub fn repair_with(data_dir: &Path, fs: &Arc<dyn Fs>, options: Options, progress: &Progress) -> Result<Repair> {
    let layout = store_at(&**fs, data_dir)?;
    let _lock = fs.lock(&layout.lock())?;
    let width_ns = options.partition_width.and_then(|width| i64::try_from(width.as_nanos()).ok());
    let mut found = survey(&**fs, &layout, width_ns, progress)?;
    if let Some(error) = found.width_unknown.take() {
        return Err(error);
    }
    let mut repair = Repair { before: found.report.clone(), ..Repair::default() };
    if found.report.is_clean() {
        return Ok(repair);
    }
    let plan = plan::plan(&**fs, &layout, &found)?;
    repair.steps.clone_from(&plan.steps);
    repair.losses.clone_from(&plan.losses);
    if options.dry_run || (!plan.losses.is_empty() && !options.accept_loss) {
        return Ok(repair);
    }
    execute::execute(&**fs, &layout, &found, &plan)?;
    repair.after = Some(survey(&**fs, &layout, width_ns, &Progress::default())?.report);
    Ok(repair)
}
