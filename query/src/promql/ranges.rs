//! Series with a window at each step: what range functions are given.
use std::cell::OnceCell;
use std::sync::Arc;

use super::Cancelled;
use super::account::{Account, Held};
use super::annotation::{Note, Notes};
use super::eval::cancelled;
use super::function::Native;
use super::grid::{Ends, Grid};
use super::labels::without_name;
use super::parallel::{self, Pace};
use super::source::SeriesSamples;
use super::value::{Column, is_absent};
use super::window::{Found, Window, slide, slide_mixed};
use crate::error::{Error, Result};

/// Where windows end, and how long they are.
pub(crate) struct Windows<'a> {
    pub(crate) ends: Ends,
    pub(crate) range_ms: i64,
    pub(super) grid: Grid,
    pub(super) cancelled: &'a Cancelled<'a>,
    pub(super) account: &'a Account<'a>,
}

/// What a function makes of windows, besides a number of the floats of each.
#[derive(Clone, Copy)]
pub(crate) struct Making<'a> {
    /// Whether the name stays.
    pub(crate) keep_name: bool,
    /// What is made of windows with histograms.
    pub(crate) native: Native,
    /// Whether the number may be an error. Of several that of the first series, by its labels, is told.
    pub(crate) may_fail: bool,
    pub(crate) notes: &'a Notes,
}

impl Windows<'_> {
    /// The column of a series: `answer` of the floats of the window at each step. Histograms that are made are counted.
    ///
    /// # Errors
    /// The first one of `answer`; `Execution` when histograms are too many.
    pub(crate) fn column(
        &self,
        series: &SeriesSamples,
        Making { keep_name, native, notes, .. }: Making<'_>,
        answer: impl Fn(&Window<'_>) -> Result<Option<f64>>,
    ) -> Result<Column> {
        let go_on = || self.go_on();
        let pace = Visits { pace: Pace::new(&go_on), refused: OnceCell::new() };
        let answer = |window: &Window<'_>| pace.step(window.len(), || answer(window)).flatten();
        let now_ms = |step: usize| self.grid.at(step);
        let labels = if keep_name { series.labels.clone() } else { without_name(&series.labels) };
        let column = if series.histograms.is_empty() {
            let samples = (series.ts_ms.as_slice(), series.values.as_slice());
            Column::floats(labels, slide(samples, self.ends, self.range_ms, now_ms, answer))
        } else {
            let name = series.labels.metric_name();
            let slid = slide_mixed(series, self.ends, self.range_ms, now_ms, |window| {
                let work = window.histograms.iter().map(|(_, histogram)| histogram.weight()).sum();
                pace.step(work, || {
                    let found = native.answer(window, name, notes, &answer);
                    if let Some(Found::Histogram(made)) = &found {
                        self.account.add(Held::values(made.weight()))?;
                    }
                    Ok(found)
                })
                .flatten()
            });
            slid.named(labels)
        };
        if let Some(refused) = pace.refused.into_inner() {
            return Err(refused);
        }
        let name = series.labels.metric_name();
        if native.needs_counter(name) && column.values.iter().any(|&value| !is_absent(value)) {
            notes.add(&Note::MaybeNotCounter(name.to_owned()));
        }
        Ok(column)
    }

    fn go_on(&self) -> Result<()> {
        if (self.cancelled)() { Err(cancelled()) } else { Ok(()) }
    }
}

/// Series with samples, and their windows.
pub(crate) struct Ranges<'a> {
    /// Samples outside of all windows may be among them.
    pub(crate) series: Arc<Vec<SeriesSamples>>,
    pub(crate) windows: Windows<'a>,
}

impl Ranges<'_> {
    /// The columns of all series, see [`Windows::column`]; the empty ones are left out.
    ///
    /// # Errors
    /// Those of the columns.
    pub(crate) fn columns(
        &self,
        making: Making<'_>,
        answer: impl Fn(&Window<'_>) -> Result<Option<f64>> + Sync,
    ) -> Result<Vec<Column>> {
        let Self { series, windows } = self;
        let visits = weight(series).saturating_mul(windows.ends.visits(windows.range_ms));
        let work = series.len().saturating_mul(windows.ends.steps).saturating_add(visits);
        let column = |series: &SeriesSamples| windows.column(series, making, &answer);
        let mut columns = parallel::map(series, work, || windows.go_on(), column)?;
        columns.retain(|column| !column.is_empty());
        Ok(columns)
    }
}

/// The windows of one series, which end with the first error.
struct Visits<'a> {
    pace: Pace<'a>,
    refused: OnceCell<Error>,
}

impl Visits<'_> {
    /// What `answer` makes of the next window, which means so much `work`; nothing after an error.
    fn step<T>(&self, work: usize, answer: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.refused.get().is_some() {
            return None;
        }
        match self.pace.spend(work).and_then(|()| answer()) {
            Ok(answer) => Some(answer),
            Err(error) => {
                let _ = self.refused.set(error);
                None
            }
        }
    }
}

/// Numbers that series hold, about.
pub(super) fn weight(series: &[SeriesSamples]) -> usize {
    series.iter().map(SeriesSamples::weight).sum()
}
