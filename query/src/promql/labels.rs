//! Label sets of results, made from those of the operands.
use foretell_engine::{LabelSet, METRIC_NAME};

use crate::error::{Error, Result};

/// A label that no stored series brings into an evaluation. Where names are removed at the end, every series carries it while
/// it is evaluated: it says whether the name is to go.
const NAME_FATE: &str = "\u{1}name";
const STAYS: &str = "stays";
const GOES: &str = "goes";

/// Without the metric's name, now or at the end.
pub(crate) fn without_name(labels: &LabelSet) -> LabelSet {
    match labels.get(NAME_FATE) {
        None => labels.without(METRIC_NAME),
        Some(GOES) => labels.clone(),
        Some(_) => with(labels, &[(NAME_FATE, GOES)]).unwrap_or_default(),
    }
}

/// The labels of a stored series whose name is removed at once: without the one that would say something of its name.
pub(crate) fn stored(labels: LabelSet) -> LabelSet {
    // In the order of their names, in which this one comes before all usual ones.
    let has_fate = labels.iter().map(|(name, _)| name).take_while(|name| *name <= NAME_FATE).any(is_name_fate);
    if has_fate { labels.filtered(|name| !is_name_fate(name)) } else { labels }
}

/// The labels of a stored series whose name is removed at the end, if at all.
///
/// # Errors
/// None in practice: the labels were good before.
pub(crate) fn named_for_good(labels: &LabelSet) -> Result<LabelSet> {
    with(labels, &[(NAME_FATE, STAYS)])
}

/// The labels as they are answered.
pub(crate) fn shown(labels: &LabelSet) -> LabelSet {
    match labels.get(NAME_FATE) {
        None => labels.clone(),
        fate => labels.filtered(|name| name != NAME_FATE && (fate != Some(GOES) || name != METRIC_NAME)),
    }
}

/// Whether `name` says what becomes of the metric's name: no label of a result may be called so.
pub(crate) fn is_name_fate(name: &str) -> bool {
    name == NAME_FATE
}

/// Whether `name` is the metric's name, or says what becomes of it.
pub(crate) fn is_name(name: &str) -> bool {
    name == METRIC_NAME || name == NAME_FATE
}

/// With `pairs` set over those of `labels`; an empty value removes. A name that is set stays.
pub(crate) fn with<'a>(labels: &'a LabelSet, pairs: &[(&'a str, &'a str)]) -> Result<LabelSet> {
    let renamed = pairs.iter().any(|(name, _)| *name == METRIC_NAME) && labels.get(NAME_FATE).is_some();
    let fate = renamed.then_some((NAME_FATE, STAYS));
    let set = pairs.iter().copied().chain(fate);
    let kept = labels.iter().filter(|(name, _)| set.clone().all(|(set, _)| set != *name));
    LabelSet::from_pairs(kept.chain(set.clone())).map_err(|error| Error::from_engine(&error))
}

/// Only what `on` (or all but `ignoring` and the name) leaves.
pub(crate) fn signature(labels: &LabelSet, on: bool, names: &[String]) -> LabelSet {
    if on {
        labels.filtered(|name| contains(names, name))
    } else {
        labels.filtered(|name| !is_name(name) && !contains(names, name))
    }
}

/// Whether `name` is one of `names`.
pub(crate) fn contains(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_goes_at_the_end_is_there_until_then() {
        let stored = LabelSet::from_pairs([(METRIC_NAME, "m"), ("a", "1")]).unwrap();
        assert_eq!(without_name(&stored).to_promql(), "{a=\"1\"}");
        let late = without_name(&named_for_good(&stored).unwrap());
        assert_eq!((late.metric_name(), shown(&late).to_promql()), ("m", "{a=\"1\"}".to_owned()));
        let renamed = with(&late, &[(METRIC_NAME, "n")]).unwrap();
        assert_eq!(shown(&renamed).to_promql(), "{__name__=\"n\",a=\"1\"}");
        assert_eq!(shown(&named_for_good(&stored).unwrap()), stored);
        assert_eq!(signature(&late, false, &[]).to_promql(), "{a=\"1\"}");
    }

    #[test]
    fn a_stored_label_says_nothing_of_the_name() {
        for fate in [STAYS, GOES, "x"] {
            let labels =
                LabelSet::from_pairs([("\u{1}", "y"), (NAME_FATE, fate), (METRIC_NAME, "m"), ("a", "1")]).unwrap();
            let at_once = without_name(&stored(labels.clone()));
            assert_eq!(at_once, LabelSet::from_pairs([("\u{1}", "y"), ("a", "1")]).unwrap());
            let at_the_end = named_for_good(&labels).unwrap();
            assert_eq!(shown(&at_the_end).metric_name(), "m");
            assert_eq!(shown(&without_name(&at_the_end)), at_once);
        }
    }
}
