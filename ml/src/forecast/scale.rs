//! The scale that a series is forecast on: its values, or the logarithms of positive ones, on which what grows or
//! swings by a share of its level does so by a constant.

/// A scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// The values.
    Plain,
    /// Their logarithms.
    Logs,
}

impl Scale {
    /// Logarithms, if there are any.
    pub(super) fn logs_of(values: &[f64]) -> Option<Self> {
        values.iter().all(|v| *v > 0.0).then_some(Self::Logs)
    }

    pub(super) fn to(self, value: f64) -> f64 {
        match self {
            Self::Plain => value,
            Self::Logs => value.max(f64::MIN_POSITIVE).ln(),
        }
    }

    pub(super) fn all_to(self, values: &[f64]) -> Vec<f64> {
        values.iter().map(|v| self.to(*v)).collect()
    }

    pub(super) fn back(self, value: f64) -> f64 {
        match self {
            Self::Plain => value,
            Self::Logs => value.exp(),
        }
    }
}
