//! A mergeable sketch of values, from which quantiles are estimated.
//!
//! ```text
//!  magnitude of a value, as bits:  eeeeeeeeeee mmmmmm|mmmm…        bin = its 17 leading bits, by sign; zero has its own
//!                                  exponent    1/64 octave
//! ```
//! At level 0 a bin is a 64th of an octave wide, so that its middle is at most 1/128 from each of its values. When there are
//! more than [`BINS_MAX`] bins, neighbours become one and the level rises: the error doubles. A sketch is a function of the
//! values in it alone, whatever order they came in and however it was merged: its level is the smallest at which the bins fit.
//! Scheme of DDSketch (Masson, Rim, Lee 2019) with the uniform collapse of UDDSketch (Epicoco et al. 2020), with bins cut from
//! the bits, so that all machines agree.
use crate::error::Result;
use crate::format::{Reader, put_varint, put_zigzag};

/// Bins of a sketch at most.
pub(crate) const BINS_MAX: usize = 1024;
/// Bits of the magnitude that a bin of level 0 leaves out.
const SHIFT: u32 = 46;
/// At this level each sign has one bin.
const LEVEL_MAX: u8 = 17;
/// Infinity, as bits.
const INFINITE: u64 = 0x7ff << 52;

/// How many values lie where. NaN is not a value here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    level: u8,
    /// Number of a bin, negative for negative values, and how many values it has; increasing.
    bins: Vec<(i32, u64)>,
}

impl Sketch {
    /// Adds a value; NaN is left out.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let bin = bin_of(value, self.level);
        match self.bins.binary_search_by_key(&bin, |pair| pair.0) {
            Ok(at) => self.bins[at].1 += 1,
            Err(at) => {
                self.bins.insert(at, (bin, 1));
                self.fit();
            }
        }
    }

    /// Adds everything that is in `other`.
    pub fn merge(&mut self, other: &Self) {
        while self.level < other.level {
            self.coarsen();
        }
        let mut coarser = None;
        if other.level < self.level {
            let other = coarser.insert(other.clone());
            while other.level < self.level {
                other.coarsen();
            }
        }
        let other = &coarser.as_ref().unwrap_or(other).bins;
        let own = std::mem::take(&mut self.bins);
        self.bins.reserve(own.len().max(other.len()));
        let (mut a, mut b) = (own.iter().copied().peekable(), other.iter().copied().peekable());
        while let Some(next) = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 > y.0 => b.next(),
            (Some(_), _) => a.next(),
            (None, _) => b.next(),
        } {
            match self.bins.last_mut() {
                Some(last) if last.0 == next.0 => last.1 += next.1,
                _ => self.bins.push(next),
            }
        }
        self.fit();
    }

    /// Values in it.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|pair| pair.1).sum()
    }

    /// About the value below or at which a share `q` of the values lie (0 to 1): the middle of the bin of the value of rank
    /// ⌈`q` · count⌉, at least 1. `None` without a value.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut passed = 0;
        let bin = self.bins.iter().find(|pair| {
            passed += pair.1;
            passed >= rank
        })?;
        Some(middle(bin.0, self.level))
    }

    /// How far an estimate is from the value of that rank at most, relative to it: 1/128, and more only if the values
    /// span so much that the bins did not suffice. (Values below 2.3e-308 are not so exact,
    /// nor are infinite ones once this is above 1/2.)
    pub fn relative_error(&self) -> f64 {
        let octaves = f64::from(self.level) - 6.0;
        // Within an octave bins are equally wide; above, they are that many octaves.
        if octaves <= 0.0 { octaves.exp2() / 2.0 } else { (octaves.exp2().exp2() - 1.0) / 2.0 }
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bins.capacity() * size_of::<(i32, u64)>()
    }

    fn fit(&mut self) {
        while self.bins.len() > BINS_MAX {
            self.coarsen();
        }
    }

    /// Makes two bins one.
    fn coarsen(&mut self) {
        self.level += 1;
        self.bins.iter_mut().for_each(|pair| pair.0 = pair.0.signum() * ((pair.0.abs() + 1) / 2));
        self.bins.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
    }

    /// Appends level, number of bins, and of each zigzag(bin - previous bin) and its values.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.level);
        put_varint(out, self.bins.len() as u64);
        let mut before = 0;
        for &(bin, count) in &self.bins {
            put_zigzag(out, i64::from(bin) - before);
            put_varint(out, count);
            before = bin.into();
        }
    }

    /// Inverse of [`Sketch::encode`], of a sketch of `count` values.
    pub(super) fn decode(input: &mut Reader<'_>, count: u64) -> Result<Self> {
        let at = input.clone();
        let level = input.u8()?;
        let bins = input.count(2)?;
        if level > LEVEL_MAX || bins > BINS_MAX {
            return Err(at.corrupt(format!("a sketch of at most {BINS_MAX} bins"), format!("{bins} of level {level}")));
        }
        let mut this = Self { level, bins: Vec::with_capacity(bins) };
        let (mut before, mut found) = (0i64, 0u64);
        let bin_max = (INFINITE >> SHIFT >> level) + 1;
        for _ in 0..bins {
            let at = input.clone();
            let bin = before.wrapping_add(input.zigzag()?);
            let values = input.varint()?;
            let rises = this.bins.is_empty() || bin > before;
            if !rises || bin.unsigned_abs() > bin_max || values == 0 {
                return Err(at.corrupt("bins in order with values", format!("bin {bin} of {values} values")));
            }
            this.bins.push((bin as i32, values));
            (before, found) = (bin, found.saturating_add(values));
        }
        if found != count {
            return Err(at.corrupt(format!("a sketch of {count} values"), format!("one of {found}")));
        }
        Ok(this)
    }
}

/// The bin of a value that is not NaN.
fn bin_of(value: f64, level: u8) -> i32 {
    if value == 0.0 {
        return 0;
    }
    let bin = (value.abs().to_bits() >> SHIFT >> level) as i32 + 1;
    if value < 0.0 { -bin } else { bin }
}

/// The middle of a bin.
fn middle(bin: i32, level: u8) -> f64 {
    if bin == 0 {
        return 0.0;
    }
    let number = u64::from(bin.unsigned_abs());
    let (low, high) = ((number - 1) << level << SHIFT, number << level << SHIFT);
    let low = f64::from_bits(low.min(INFINITE));
    let high = if high > INFINITE { f64::INFINITY } else { f64::from_bits(high) };
    let middle = if low.is_infinite() { low } else { low + (high.min(f64::MAX) - low) / 2.0 };
    if bin < 0 { -middle } else { middle }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|&value| sketch.add(value));
        sketch
    }

    fn exact(values: &[f64], q: f64) -> f64 {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1]
    }

    fn assert_near(values: &[f64], q: f64) {
        let sketch = of(values);
        let (got, expected) = (sketch.quantile(q).unwrap(), exact(values, q));
        let far = (got - expected).abs() > expected.abs() * sketch.relative_error() * (1.0 + 1e-9);
        assert!(got == expected || !far, "{got} for {expected} at {q}, level {}", sketch.level);
    }

    #[test]
    fn quantiles_of_latencies_are_within_a_128th() {
        let values: Vec<f64> = (1..=5000).map(|i| 0.001 * f64::from(i) * f64::from(i % 17 + 1)).collect();
        assert_eq!(of(&values).relative_error(), 1.0 / 128.0);
        for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_near(&values, q);
        }
    }

    #[test]
    fn zeros_signs_and_infinities_have_their_place() {
        let values = [f64::NEG_INFINITY, -3.0, -0.0, 0.0, 3.0, f64::INFINITY, f64::NAN];
        let sketch = of(&values);
        assert_eq!((sketch.count(), sketch.bins.len()), (6, 5));
        assert_eq!(sketch.quantile(0.0), Some(f64::NEG_INFINITY));
        assert_eq!(sketch.quantile(0.6), Some(0.0));
        assert_eq!(sketch.quantile(1.0), Some(f64::INFINITY));
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn values_of_all_magnitudes_keep_the_bins_few_and_the_promised_error() {
        let values: Vec<f64> =
            (0..20_000).map(|i| 10f64.powf(f64::from(i % 500) - 250.0) * f64::from(i % 97 + 1)).collect();
        let sketch = of(&values);
        assert!(sketch.bins.len() <= BINS_MAX && sketch.level > 0);
        for q in [0.001, 0.3, 0.5, 0.7, 0.999] {
            assert_near(&values, q);
        }
    }

    #[test]
    fn bytes_of_another_count_or_out_of_order_are_damage() {
        let mut bytes = Vec::new();
        of(&[1.0, 2.0]).encode(&mut bytes);
        let decode = |bytes: &[u8], count| Sketch::decode(&mut Reader::new(bytes, Path::new("f"), 0), count);
        assert!(decode(&bytes, 2).is_ok() && decode(&bytes, 3).is_err());
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at], 2).is_err());
        }
        bytes[0] = 18;
        assert!(decode(&bytes, 2).is_err());
    }

    proptest! {
        #[test]
        fn a_sketch_is_the_same_however_it_came_about(
            values in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..3000),
            cuts in prop::collection::vec(0usize..3000, 0..5),
        ) {
            let whole = of(&values);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(values.len())).chain([0, values.len()]).collect();
            cuts.sort_unstable();
            let mut merged = Sketch::default();
            // From the last piece on, so that the order is another one.
            for piece in cuts.windows(2).rev() {
                merged.merge(&of(&values[piece[0]..piece[1]]));
            }
            prop_assert_eq!(&merged, &whole);
            let mut bytes = Vec::new();
            whole.encode(&mut bytes);
            let decoded = Sketch::decode(&mut Reader::new(&bytes, Path::new("f"), 0), whole.count()).unwrap();
            prop_assert_eq!(decoded, whole);
        }
    }
}
