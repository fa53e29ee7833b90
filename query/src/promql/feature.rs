//! Features of PromQL that must be switched on, under the names that Prometheus has for them.
use crate::error::{Error, Result};

/// A feature that changes what is accepted or what an expression means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Arithmetic in durations: `foo[5m * 2]`.
    DurationExpressions,
    /// `anchored` and `smoothed`.
    ExtendedRanges,
    /// `fill`, `fill_left`, `fill_right`.
    FillModifiers,
    /// Metric names stay until the end of the evaluation.
    DelayedNameRemoval,
}

/// Names of features that are always on, accepted so that a list from Prometheus can be used unchanged.
const ALWAYS_ON: [&str; 3] = ["promql-at-modifier", "promql-experimental-functions", "promql-negative-offset"];

impl Feature {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::DurationExpressions, Self::ExtendedRanges, Self::FillModifiers, Self::DelayedNameRemoval];

    /// What `--enable-feature` of Prometheus calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DurationExpressions => "promql-duration-expr",
            Self::ExtendedRanges => "promql-extended-range-selectors",
            Self::FillModifiers => "promql-binop-fill-modifiers",
            Self::DelayedNameRemoval => "promql-delayed-name-removal",
        }
    }
}

/// The features that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features([bool; Feature::ALL.len()]);

impl Features {
    /// Every feature.
    pub fn all() -> Self {
        Self([true; Feature::ALL.len()])
    }

    /// Those called `names`, as `--enable-feature` of Prometheus takes them.
    ///
    /// # Errors
    /// `Invalid` for an unknown name, with the known ones.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut features = Self::default();
        for name in names {
            match Feature::ALL.into_iter().find(|feature| feature.name() == name) {
                Some(feature) => features.0[feature as usize] = true,
                None if ALWAYS_ON.contains(&name) => {}
                None => {
                    let known: Vec<&str> = Feature::ALL.into_iter().map(Feature::name).chain(ALWAYS_ON).collect();
                    return Err(Error::invalid(format!(
                        "unknown PromQL feature {name:?}: known are {}",
                        known.join(", ")
                    )));
                }
            }
        }
        Ok(features)
    }

    /// Whether `feature` is on.
    pub(crate) fn has(self, feature: Feature) -> bool {
        self.0[feature as usize]
    }

    /// # Errors
    /// `Invalid` when `feature` is off: `what` needs it.
    pub(crate) fn need(self, feature: Feature, what: &str) -> Result<()> {
        if self.has(feature) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{what} is switched off: add {:?} to promql.enable in the configuration",
            feature.name()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_the_names_of_prometheus() {
        let names = Feature::ALL.map(Feature::name);
        assert_eq!(Features::named(names).ok(), Some(Features::all()));
        assert_eq!(Features::named(["promql-experimental-functions"]).ok(), Some(Features::default()));
        let error = Features::named(["promql-nonsense"]).map_err(|error| error.message);
        assert!(error.is_err_and(|message| message.contains("known are promql-duration-expr")));
        assert!(Features::default().need(Feature::FillModifiers, "fill").is_err());
    }
}
