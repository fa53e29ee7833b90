//! Where in its season a time lies.
use crate::Result;
use crate::state::{Put, Reader, malformed};

/// Most parts that a season is cut into: half hours of a week.
const PARTS_MAX: i64 = 336;

/// A season cut into equal parts of at least one step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Phase {
    season: i64,
    /// 1 / `season`: a row costs no division of whole numbers.
    inverse: f64,
    /// How far into a season counted from time 0 some row lies, below `season`.
    origin: i64,
    parts: usize,
}

impl Phase {
    /// Parts of at least `step` ns of a season of `season` ns, both >= 1; `origin` is the time of some row.
    pub(super) fn new(season: i64, step: i64, origin: i64) -> Self {
        let season = season.max(1);
        let parts = (season as f64 / step.max(1) as f64).round().clamp(1.0, PARTS_MAX as f64) as usize;
        Self { season, inverse: 1.0 / season as f64, origin: origin.rem_euclid(season), parts }
    }

    /// How long the season is, ns.
    pub(super) fn length(&self) -> i64 {
        self.season
    }

    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// The part of `ts`. Rows at the origin plus whole steps fall in the middle of theirs, so jitter does not move
    /// them.
    pub(super) fn part(&self, ts: i64) -> usize {
        let n = self.parts;
        let phase = remainder(ts, self.season, self.inverse) - self.origin;
        let phase = if phase < 0 { phase + self.season } else { phase };
        // in whole numbers: rows often lie on the very border of two parts
        let (phase, season, parts) = (phase as u64, self.season as u64, n as u64);
        let part = match season.checked_mul(parts + 2) {
            Some(_) => quotient(phase * parts + season / 2, season, self.inverse) as usize,
            None => ((u128::from(phase) * u128::from(parts) + u128::from(season / 2)) / u128::from(season)) as usize,
        };
        if part < n { part } else { 0 }
    }

    /// Length and origin; the number of parts is that of what is kept for each of them.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.season);
        out.put_i64(self.origin);
    }

    /// Of one part, until [`Phase::of_parts`] says of how many.
    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (season, origin) = (from.i64()?, from.i64()?);
        if season < 1 || !(0..season).contains(&origin) {
            return Err(malformed("the season has no length or an origin outside"));
        }
        Ok(Self { season, inverse: 1.0 / season as f64, origin, parts: 1 })
    }

    /// The same season in `parts` parts.
    pub(super) fn of_parts(self, parts: u32) -> Result<Self> {
        if parts < 1 || i64::from(parts) > PARTS_MAX {
            return Err(malformed("the season has no part or too many"));
        }
        Ok(Self { parts: parts as usize, ..self })
    }
}

/// `ts.rem_euclid(season)`, exactly. The product with the inverse is out by one season at most unless seasons are
/// shorter than any that is ever found, and a product takes a tenth of the time of a division.
fn remainder(ts: i64, season: i64, inverse: f64) -> i64 {
    let seasons = (ts as f64 * inverse).floor() as i64;
    let rest = ts.wrapping_sub(seasons.wrapping_mul(season));
    if (0..season).contains(&rest) { rest } else { ts.rem_euclid(season) }
}

/// `n / season`, exactly, for quotients of a few hundred: the product with the inverse is out by one at most.
fn quotient(n: u64, season: u64, inverse: f64) -> u64 {
    let near = (n as f64 * inverse) as u64;
    match n.checked_sub(near * season) {
        None => near - 1,
        Some(rest) => near + u64::from(rest >= season),
    }
}

#[cfg(test)]
mod tests {
    use super::{quotient, remainder};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_with_the_inverse_give_what_divisions_give(
            ts in prop_oneof![any::<i64>(), -1_000_000i64..1_000_000, (0i64..1 << 40).prop_map(|s| s * 1_000_000)],
            season in prop_oneof![1i64..1000, 1i64..i64::MAX, Just(86_400_000_000_000), Just(3_600_000_000_000)],
            part in 0u64..338,
            off in -1i64..=1,
        ) {
            let inverse = 1.0 / season as f64;
            prop_assert_eq!(remainder(ts, season, inverse), ts.rem_euclid(season));
            let season = season as u64;
            if let Some(border) = season.checked_mul(part + 2).map(|_| (season * part).saturating_add_signed(off)) {
                prop_assert_eq!(quotient(border, season, inverse), border / season);
            }
        }
    }
}
