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
use super::value::{Column, is_absent, refuse_same_labels};
use super::window::{Found, Window, slide, slide_mixed};
use crate::error::{Error, Result};

/// Series with samples, and where their windows end.
pub(crate) struct Ranges<'a> {
    /// Samples outside of all windows may be among them.
    pub(crate) series: Arc<Vec<SeriesSamples>>,
    pub(crate) ends: Ends,
    pub(crate) range_ms: i64,
    pub(super) grid: Grid,
    pub(super) cancelled: &'a Cancelled<'a>,
    pub(super) account: &'a Account<'a>,
}

impl Ranges<'_> {
    /// A column for each series: `answer` of the floats of the window at each step; `native` says what is made of windows
    /// with histograms, and those that it makes are counted. Names are dropped unless `keep_name`.
    ///
    /// # Errors
    /// `Execution` when two series have the same labels without their names, or histograms are too many.
    pub(crate) fn columns(
        &self,
        keep_name: bool,
        native: Native,
        notes: &Notes,
        answer: impl Fn(&Window<'_>) -> Option<f64> + Sync,
    ) -> Result<Vec<Column>> {
        self.try_columns(keep_name, native, notes, |window| Ok(answer(window)))
    }

    /// As [`Ranges::columns`], where `answer` may fail.
    ///
    /// # Errors
    /// The first one of the first series; as [`Ranges::columns`].
    pub(crate) fn try_columns(
        &self,
        keep_name: bool,
        native: Native,
        notes: &Notes,
        answer: impl Fn(&Window<'_>) -> Result<Option<f64>> + Sync,
    ) -> Result<Vec<Column>> {
        let go_on = || if (self.cancelled)() { Err(cancelled()) } else { Ok(()) };
        let column = |series: &SeriesSamples| {
            let pace = Visits { pace: Pace::new(&go_on), refused: OnceCell::new() };
            let answer = |window: &Window<'_>| pace.step(window.len(), || answer(window)).flatten();
            let now_ms = |step: usize| self.grid.at(step);
            let name = series.labels.metric_name();
            let labels = if keep_name { series.labels.clone() } else { without_name(&series.labels) };
            let column = if series.histograms.is_empty() {
                let samples = (series.ts_ms.as_slice(), series.values.as_slice());
                Column::floats(labels, slide(samples, self.ends, self.range_ms, now_ms, answer))
            } else {
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
            if native.needs_counter(name) && column.values.iter().any(|&value| !is_absent(value)) {
                notes.add(&Note::MaybeNotCounter(name.to_owned()));
            }
            Ok(column)
        };
        let visits = weight(&self.series).saturating_mul(self.ends.visits(self.range_ms));
        let work = self.series.len().saturating_mul(self.ends.steps).saturating_add(visits);
        let mut columns = parallel::map(&self.series, work, go_on, column)?;
        columns.retain(|column| !column.is_empty());
        if !keep_name {
            refuse_same_labels(&columns)?;
        }
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
