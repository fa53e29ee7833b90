//! Which metrics have rollups, and of which widths.
use std::time::Duration;

use crate::config::EngineConfig;
use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::types::{CompiledMatcher, METRIC_NAME, MatchOp, Matcher, SeriesId};

/// Widths of buckets that a store may have at once.
pub(super) const WIDTHS_MAX: usize = 4;
/// A narrower bucket would hold hardly more than a row.
const WIDTH_MIN: Duration = Duration::from_secs(1);

/// What is configured.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Widths of buckets, ns, increasing.
    pub(crate) widths: Vec<i64>,
    metrics: CompiledMatcher,
}

impl Rules {
    /// What `config` asks for; `None` when that is nothing.
    ///
    /// # Errors
    /// `Invalid` for too many widths, one that is too narrow or wider than a partition, or a bad expression.
    pub(crate) fn of(config: &EngineConfig) -> Result<Option<Self>> {
        let (name, op) = (METRIC_NAME.to_owned(), MatchOp::Regex);
        let metrics = Matcher { name, op, value: config.rollup_metrics.clone() }.compile()?;
        let mut widths = Vec::with_capacity(config.rollup_widths.len());
        for &width in &config.rollup_widths {
            if width < WIDTH_MIN || width > config.partition_width {
                return Err(Error::Invalid(format!(
                    "a rollup of {width:?} is not possible; choose one from {WIDTH_MIN:?} to the width of a partition"
                )));
            }
            widths.push(i64::try_from(width.as_nanos()).unwrap_or(i64::MAX));
        }
        widths.sort_unstable();
        widths.dedup();
        if widths.len() > WIDTHS_MAX {
            return Err(Error::Invalid(format!(
                "{} widths of rollups are too many; choose at most {WIDTHS_MAX}",
                widths.len()
            )));
        }
        Ok((!widths.is_empty()).then_some(Self { widths, metrics }))
    }

    /// Whether the metric `name` has rollups.
    pub(crate) fn concern(&self, name: &str) -> bool {
        self.metrics.matches(name)
    }
}

/// The metrics that `segment` has series of, by their ordinals, increasing.
pub(crate) fn metrics_of(segment: &Segment) -> Vec<u32> {
    let (mut metrics, mut from) = (Vec::new(), SeriesId(0));
    while let Some(id) = segment.series().iter_from(from).next() {
        metrics.push(id.metric());
        let Some(next) = id.metric().checked_add(1) else { break };
        from = SeriesId::new(next, 0);
    }
    metrics
}
