//! Label sets of results, made from those of the operands.
use foretell_engine::{LabelSet, METRIC_NAME};

use crate::error::{Error, Result};

/// Without the metric's name.
pub(crate) fn without_name(labels: &LabelSet) -> LabelSet {
    labels.filtered(|name| name != METRIC_NAME)
}

/// With `pairs` set over those of `labels`; an empty value removes.
pub(crate) fn with<'a>(labels: &'a LabelSet, pairs: &[(&'a str, &'a str)]) -> Result<LabelSet> {
    let kept = labels.iter().filter(|(name, _)| pairs.iter().all(|(set, _)| set != name));
    LabelSet::from_pairs(kept.chain(pairs.iter().copied())).map_err(|error| Error::from_engine(&error))
}

/// Only what `on` (or all but `ignoring` and the name) leaves.
pub(crate) fn signature(labels: &LabelSet, on: bool, names: &[String]) -> LabelSet {
    if on {
        labels.filtered(|name| contains(names, name))
    } else {
        labels.filtered(|name| name != METRIC_NAME && !contains(names, name))
    }
}

/// Whether `name` is one of `names`.
pub(crate) fn contains(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other == name)
}
