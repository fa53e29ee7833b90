//! A log without gaps from one with damage: what cannot be read becomes empty commits.

use hashbrown::HashMap;

use crate::catalog::read_series_file;
use crate::error::Result;
use crate::fs::Fs;
use crate::layout::Layout;
use crate::types::Lsn;
use crate::verify::Survey;
use crate::wal::{FilledLog, LogFile, Lost};

use super::Loss;

/// What rebuilding the log comes to.
#[derive(Default)]
pub(super) struct Rebuilt {
    pub(super) steps: Vec<String>,
    pub(super) losses: Vec<Loss>,
}

/// Builds the log of `survey` anew, file by file; `emit` gets each file whose contents change.
pub(super) fn rebuild(
    fs: &dyn Fs,
    layout: &Layout,
    survey: &Survey,
    mut emit: impl FnMut(&LogFile) -> Result<()>,
) -> Result<Rebuilt> {
    let flushed = survey.stored.contents.flushed;
    let mut defined = HashMap::new();
    for file in survey.series_files.iter().filter(|file| file.sound) {
        defined.extend(read_series_file(fs, &file.path)?);
    }
    let mut rebuilt = Rebuilt::default();
    let (mut steps, mut losses) = (Vec::new(), Vec::new());
    let mut log = FilledLog::new(fs, layout.wal(), flushed, defined);
    log.build(
        |file| {
            steps.push(format!("write {} anew, with what can be read of it", file.path.display()));
            emit(file)
        },
        |lost| losses.extend(loss(lost, flushed)),
    )?;
    rebuilt.steps = steps;
    rebuilt.losses = losses;
    Ok(rebuilt)
}

/// Commits that were flushed are in segments: nothing of them is lost.
fn loss(lost: Lost, flushed: Lsn) -> Option<Loss> {
    match lost {
        Lost::Commits { last, .. } if last <= flushed.0 => None,
        Lost::Commits { path, first, last } => {
            let first = first.max(flushed.0 + 1);
            Some(Loss::of(&path, format!("commits {first} to {last} of the log, with the series they define")))
        }
        Lost::Rows { path, lsn, rows } => {
            let what = format!("samples of commit {lsn} whose series' labels are lost");
            Some(Loss { rows: Some(rows), ..Loss::of(&path, what) })
        }
        Lost::End { path, after } => {
            Some(Loss::of(&path, format!("commits after {after}, if there were any: the end of the log is missing")))
        }
    }
}
