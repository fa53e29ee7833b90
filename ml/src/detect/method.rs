//! Names of the methods.
use crate::error::Error;

/// Known methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Chosen on the series' own past.
    Auto,
    /// Robust z-score.
    Mad,
    /// Exponentially weighted mean and variance.
    Ewma,
    /// Seasonal buckets.
    Seasonal,
    /// Cumulative sums.
    Cusum,
    /// Peaks over a threshold, a tail on each side.
    Spot,
    /// Residual of Holt-Winters smoothing.
    HoltWinters,
    /// Saliency after the spectral residual.
    SpectralResidual,
    /// Half-space trees on two successive values.
    HalfSpaceTrees,
    /// Random cut forest.
    Rcf,
    /// Principal components of windows.
    Subspace,
    /// Distance to the nearest window of the past.
    MatrixProfile,
    /// Distance to the nearest patches of the past, as a trained encoder sees them.
    #[cfg(any(test, feature = "patches"))]
    Patches,
}

impl Method {
    /// Every method, in the order of their bytes in a saved state.
    pub const ALL: [Self; 12 + cfg!(any(test, feature = "patches")) as usize] = [
        Self::Auto,
        Self::Mad,
        Self::Ewma,
        Self::Seasonal,
        Self::Cusum,
        Self::Spot,
        Self::HoltWinters,
        Self::SpectralResidual,
        Self::HalfSpaceTrees,
        Self::Rcf,
        Self::Subspace,
        Self::MatrixProfile,
        #[cfg(any(test, feature = "patches"))]
        Self::Patches,
    ];

    /// The name users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mad => "mad",
            Self::Ewma => "ewma",
            Self::Seasonal => "seasonal",
            Self::Cusum => "cusum",
            Self::Spot => "spot",
            Self::HoltWinters => "holt_winters",
            Self::SpectralResidual => "spectral_residual",
            Self::HalfSpaceTrees => "half_space_trees",
            Self::Rcf => "rcf",
            Self::Subspace => "subspace",
            Self::MatrixProfile => "matrix_profile",
            #[cfg(any(test, feature = "patches"))]
            Self::Patches => "patches",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Method {
    type Err = Error;
    /// Case does not matter.
    ///
    /// # Errors
    /// `Invalid`, listing the known methods.
    fn from_str(s: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(s));
        known.ok_or_else(|| Error::unknown_method("anomaly", s, "", Self::ALL.map(Self::name)))
    }
}
