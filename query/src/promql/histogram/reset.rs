//! Whether a counter started again between two histograms.
use super::arithmetic::{first_beyond, reduced};
use super::{Histogram, ResetHint};

impl Histogram {
    /// Whether it started again after `previous`: said so, or any count fell, or its layout became finer, which a running
    /// counter never does.
    pub(crate) fn is_reset_after(&self, previous: &Self) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count
            || self.is_custom() != previous.is_custom()
            || self.custom != previous.custom
            || self.schema > previous.schema
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let (zero_count, threshold) = previous.zero_count_within(self.zero_threshold);
        threshold != self.zero_threshold
            || self.zero_count < zero_count
            || self.has_lost(&self.positive, &previous.positive, previous.schema)
            || self.has_lost(&self.negative, &previous.negative, previous.schema)
    }

    /// Whether a bucket outside of the zero bucket holds less than before.
    fn has_lost(&self, now: &[(i32, f64)], before: &[(i32, f64)], schema_before: i32) -> bool {
        let before = reduced(before, schema_before, self.schema);
        let (mut now, mut before) = (now, &*before);
        if !self.is_custom() {
            now = &now[first_beyond(now, self.schema, self.zero_threshold)..];
            before = &before[first_beyond(before, self.schema, self.zero_threshold)..];
        }
        let mut now = now.iter().peekable();
        before.iter().any(|&(index, count)| {
            while now.next_if(|bucket| bucket.0 < index).is_some() {}
            match now.peek() {
                Some(bucket) if bucket.0 == index => bucket.1 < count,
                _ => count != 0.0,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i32, positive: &[(i32, f64)]) -> Histogram {
        let count = positive.iter().map(|bucket| bucket.1).sum();
        Histogram { schema, count, positive: positive.to_vec(), ..Histogram::default() }
    }

    #[test]
    fn a_bucket_that_falls_or_vanishes_is_a_reset_even_when_the_count_grows() {
        let before = histogram(0, &[(1, 2.0), (2, 1.0)]);
        assert!(!histogram(0, &[(1, 2.0), (2, 1.0), (3, 1.0)]).is_reset_after(&before));
        assert!(histogram(0, &[(1, 1.0), (2, 5.0)]).is_reset_after(&before));
        assert!(histogram(0, &[(1, 9.0)]).is_reset_after(&before));
    }

    #[test]
    fn a_coarser_schema_is_no_reset_and_a_finer_one_is() {
        let (fine, coarse) = (histogram(1, &[(1, 1.0), (2, 1.0)]), histogram(0, &[(1, 2.0)]));
        assert!(!coarse.is_reset_after(&fine));
        assert!(fine.is_reset_after(&coarse));
    }

    #[test]
    fn a_wider_zero_bucket_takes_up_what_was_in_it() {
        let before = histogram(0, &[(-1, 2.0), (1, 1.0)]);
        let wider = |zero_count| Histogram { zero_threshold: 0.5, zero_count, count: 3.0, ..histogram(0, &[(1, 1.0)]) };
        assert!(!wider(2.0).is_reset_after(&before));
        assert!(wider(1.0).is_reset_after(&before));
    }

    #[test]
    fn a_hint_is_believed() {
        let (small, large) = (histogram(0, &[(1, 1.0)]), histogram(0, &[(1, 2.0)]));
        assert!(Histogram { reset_hint: ResetHint::Reset, ..large.clone() }.is_reset_after(&small));
        assert!(!Histogram { reset_hint: ResetHint::NotReset, ..small }.is_reset_after(&large));
    }
}
