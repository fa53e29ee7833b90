//! The method of a detector with what it has learnt.
use super::auto::Auto;
use super::cusum::Cusum;
use super::ewma::{self, Ewma};
use super::half_space_trees::HalfSpaceTrees;
use super::holt_winters::HoltWinters;
use super::mad::Mad;
use super::matrix_profile::MatrixProfile;
use super::outlook::Judgement;
#[cfg(any(test, feature = "patches"))]
use super::patches::Patches;
use super::rcf::Rcf;
use super::seasonal_method::SeasonalMethod;
use super::spectral_residual::SpectralResidual;
use super::spot::Spot;
use super::subspace::Subspace;
use super::{Method, Verdict};
use crate::Result;
use crate::state::Reader;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Model {
    Auto(Auto),
    Mad(Box<Mad>),
    Ewma(Ewma),
    Seasonal(Box<SeasonalMethod>),
    Cusum(Box<Cusum>),
    Spot(Box<Spot>),
    HoltWinters(Box<HoltWinters>),
    SpectralResidual(Box<SpectralResidual>),
    HalfSpaceTrees(Box<HalfSpaceTrees>),
    Rcf(Box<Rcf>),
    Subspace(Box<Subspace>),
    MatrixProfile(Box<MatrixProfile>),
    #[cfg(any(test, feature = "patches"))]
    Patches(Box<Patches>),
}

impl Model {
    /// One that has seen nothing.
    pub(super) fn new(method: Method) -> Self {
        match method {
            Method::Auto => Self::Auto(Auto::new()),
            Method::Mad => Self::Mad(Box::default()),
            Method::Ewma => Self::Ewma(Ewma::new(ewma::SLOW)),
            Method::Seasonal => Self::Seasonal(Box::default()),
            Method::Cusum => Self::Cusum(Box::new(Cusum::new())),
            Method::Spot => Self::Spot(Box::new(Spot::new())),
            Method::HoltWinters => Self::HoltWinters(Box::new(HoltWinters::new())),
            Method::SpectralResidual => Self::SpectralResidual(Box::new(SpectralResidual::new())),
            Method::HalfSpaceTrees => Self::HalfSpaceTrees(Box::new(HalfSpaceTrees::new())),
            Method::Rcf => Self::Rcf(Box::new(Rcf::new())),
            Method::Subspace => Self::Subspace(Box::new(Subspace::new())),
            Method::MatrixProfile => Self::MatrixProfile(Box::new(MatrixProfile::new())),
            #[cfg(any(test, feature = "patches"))]
            Method::Patches => Self::Patches(Box::new(Patches::new())),
        }
    }

    pub(super) fn method(&self) -> Method {
        match self {
            Self::Auto(_) => Method::Auto,
            Self::Mad(_) => Method::Mad,
            Self::Ewma(_) => Method::Ewma,
            Self::Seasonal(_) => Method::Seasonal,
            Self::Cusum(_) => Method::Cusum,
            Self::Spot(_) => Method::Spot,
            Self::HoltWinters(_) => Method::HoltWinters,
            Self::SpectralResidual(_) => Method::SpectralResidual,
            Self::HalfSpaceTrees(_) => Method::HalfSpaceTrees,
            Self::Rcf(_) => Method::Rcf,
            Self::Subspace(_) => Method::Subspace,
            Self::MatrixProfile(_) => Method::MatrixProfile,
            #[cfg(any(test, feature = "patches"))]
            Self::Patches(_) => Method::Patches,
        }
    }

    /// Judges a finite `value` at `ts`, then learns it.
    pub(super) fn observe(&mut self, season_ns: Option<i64>, ts: i64, value: f64) -> Verdict {
        let judgement = match self {
            Self::Auto(auto) => return auto.update(season_ns, ts, value),
            Self::Mad(mad) => mad.observe(value),
            Self::Ewma(ewma) => ewma.observe(value),
            Self::Seasonal(seasonal) => seasonal.observe(season_ns, ts, value),
            Self::Cusum(cusum) => return cusum.observe(value),
            Self::Spot(spot) => return spot.observe(value),
            Self::HoltWinters(smoothing) => smoothing.observe(season_ns, ts, value),
            Self::SpectralResidual(residual) => return residual.observe(value),
            Self::HalfSpaceTrees(trees) => return trees.observe(value),
            Self::Rcf(forest) => return forest.observe(value),
            Self::Subspace(subspace) => return subspace.observe(value),
            Self::MatrixProfile(profile) => return profile.observe(value),
            #[cfg(any(test, feature = "patches"))]
            Self::Patches(patches) => return patches.observe(value),
        };
        judgement.map_or(Verdict::NONE, Judgement::verdict)
    }

    /// All values so far, in their order, of a method that has them at hand and does not look at the time.
    pub(super) fn values(&self) -> Option<Vec<f64>> {
        match self {
            Self::Mad(mad) => mad.values(),
            Self::SpectralResidual(residual) => residual.values(),
            _ => None,
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        match self {
            Self::Auto(model) => model.save(out),
            Self::Mad(model) => model.save(out),
            Self::Ewma(model) => model.save(out),
            Self::Seasonal(model) => model.save(out),
            Self::Cusum(model) => model.save(out),
            Self::Spot(model) => model.save(out),
            Self::HoltWinters(model) => model.save(out),
            Self::SpectralResidual(model) => model.save(out),
            Self::HalfSpaceTrees(model) => model.save(out),
            Self::Rcf(model) => model.save(out),
            Self::Subspace(model) => model.save(out),
            Self::MatrixProfile(model) => model.save(out),
            #[cfg(any(test, feature = "patches"))]
            Self::Patches(model) => model.save(out),
        }
    }

    pub(super) fn load(method: Method, from: &mut Reader<'_>) -> Result<Self> {
        Ok(match method {
            Method::Auto => Self::Auto(Auto::load(from)?),
            Method::Mad => Self::Mad(Box::new(Mad::load(from)?)),
            Method::Ewma => Self::Ewma(Ewma::load(from)?),
            Method::Seasonal => Self::Seasonal(Box::new(SeasonalMethod::load(from)?)),
            Method::Cusum => Self::Cusum(Box::new(Cusum::load(from)?)),
            Method::Spot => Self::Spot(Box::new(Spot::load(from)?)),
            Method::HoltWinters => Self::HoltWinters(Box::new(HoltWinters::load(from)?)),
            Method::SpectralResidual => Self::SpectralResidual(Box::new(SpectralResidual::load(from)?)),
            Method::HalfSpaceTrees => Self::HalfSpaceTrees(Box::new(HalfSpaceTrees::load(from)?)),
            Method::Rcf => Self::Rcf(Box::new(Rcf::load(from)?)),
            Method::Subspace => Self::Subspace(Box::new(Subspace::load(from)?)),
            Method::MatrixProfile => Self::MatrixProfile(Box::new(MatrixProfile::load(from)?)),
            #[cfg(any(test, feature = "patches"))]
            Method::Patches => Self::Patches(Box::new(Patches::load(from)?)),
        })
    }
}
