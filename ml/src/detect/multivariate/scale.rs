//! Columns on one scale: distances from the usual value in spreads, so that no unit outweighs another.
use crate::Result;
use crate::state::{Put, Reader};

/// Spreads below this share of the magnitude are rounding, not information.
const ROUNDING: f64 = 4.0 * f64::EPSILON;
/// A column that was constant says nothing of how far is far: leaving its value counts as this many spreads.
const OFF_CONSTANT: f64 = 2.0;
/// No cell is further off than this many spreads, so that squares stay finite.
const SPREADS_MAX: f64 = 1e6;

/// Usual value and standard deviation of each column of the past; a column without values in it is not judged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    columns: Vec<Usual>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Usual {
    Unknown,
    Constant(f64),
    Around { mean: f64, spread: f64 },
}

impl Scale {
    /// Of `rows`, each `columns` long; NaN is no value.
    pub(super) fn of(rows: &[Vec<f64>], columns: usize) -> Self {
        Self { columns: (0..columns).map(|column| Usual::of(rows.iter().map(|row| row[column]))).collect() }
    }

    /// `row` in spreads; NaN where a cell or the past of its column has no value.
    pub(super) fn apply(&self, row: &[f64]) -> Vec<f64> {
        self.columns.iter().zip(row).map(|(usual, &value)| usual.spreads(value)).collect()
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for usual in &self.columns {
            match *usual {
                Usual::Unknown => out.put_u8(0),
                Usual::Constant(value) => {
                    out.put_u8(1);
                    out.put_f64(value);
                }
                Usual::Around { mean, spread } => {
                    out.put_u8(2);
                    out.put_f64(mean);
                    out.put_f64(spread);
                }
            }
        }
    }

    pub(super) fn load(from: &mut Reader<'_>, columns: usize) -> Result<Self> {
        let usual = |from: &mut Reader<'_>| {
            Ok(match from.u8()? {
                0 => Usual::Unknown,
                1 => Usual::Constant(from.finite()?),
                _ => Usual::Around { mean: from.finite()?, spread: from.positive()?.max(f64::MIN_POSITIVE) },
            })
        };
        Ok(Self { columns: (0..columns).map(|_| usual(from)).collect::<Result<_>>()? })
    }
}

impl Usual {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let present = values.filter(|value| !value.is_nan());
        let Some(first) = present.clone().next() else { return Self::Unknown };
        // the mean and the mean square by running sums, which do not overflow where the sum of all would
        let (mut n, mut mean) = (0.0, 0.0);
        for value in present.clone() {
            n += 1.0;
            mean += (value - mean) / n;
        }
        let magnitude = present.clone().fold(0.0f64, |most, value| most.max(value.abs()));
        // the squares of shares of the magnitude do not overflow
        let square = present.map(|value| ((value - mean) / magnitude).powi(2)).sum::<f64>() / n;
        let spread = square.sqrt() * magnitude;
        if spread.is_finite() && mean.is_finite() && spread > ROUNDING * magnitude {
            Self::Around { mean, spread }
        } else {
            Self::Constant(first)
        }
    }

    fn spreads(self, value: f64) -> f64 {
        match self {
            Self::Unknown => f64::NAN,
            Self::Constant(_) if value.is_nan() => f64::NAN,
            Self::Constant(usual) if (value - usual).abs() <= ROUNDING * usual.abs().max(value.abs()) => 0.0,
            Self::Constant(usual) => OFF_CONSTANT.copysign(value - usual),
            Self::Around { mean, spread } => ((value - mean) / spread).clamp(-SPREADS_MAX, SPREADS_MAX),
        }
    }
}
