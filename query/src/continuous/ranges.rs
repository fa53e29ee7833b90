//! A set of instants as disjoint half-open ranges: which buckets have to be computed again.
use std::collections::BTreeMap;

/// Disjoint, non-touching ranges `[start, end)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet(BTreeMap<i64, i64>);

impl RangeSet {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(super) fn contains(&self, instant: i64) -> bool {
        self.0.range(..=instant).next_back().is_some_and(|(_, &end)| instant < end)
    }
    /// Adds `[start, end)`, joining what it touches.
    pub(super) fn insert(&mut self, start: i64, end: i64) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        if let Some((&before, &before_end)) = self.0.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&inside, &inside_end)) = self.0.range(start..=end).next() {
            end = end.max(inside_end);
            self.0.remove(&inside);
        }
        self.0.insert(start, end);
    }
    /// At most `ranges_max` ranges that cover the same instants, closing the narrowest gaps.
    pub(super) fn coarsen(&mut self, ranges_max: usize) {
        let excess = self.0.len().saturating_sub(ranges_max.max(1));
        if excess == 0 {
            return;
        }
        let mut gaps: Vec<(u64, i64)> = self
            .0
            .iter()
            .zip(self.0.iter().skip(1))
            .map(|((_, &end), (&next, _))| (next.abs_diff(end), next))
            .collect();
        gaps.sort_unstable();
        for &(_, next) in &gaps[..excess] {
            let Some(end) = self.0.remove(&next) else { continue };
            if let Some((_, before_end)) = self.0.range_mut(..next).next_back() {
                *before_end = end;
            }
        }
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().map(|(&start, &end)| (start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_what_a_plain_set_holds(inserts in prop::collection::vec((0i64..200, 0i64..12), 0..40), ranges_max in 1usize..6) {
            let mut set = RangeSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (start, length) in inserts {
                set.insert(start, start + length);
                model.extend(start..start + length);
            }
            for instant in -1..220 {
                prop_assert_eq!(set.contains(instant), model.contains(&instant));
            }
            let mut previous = None;
            for (start, end) in set.iter() {
                prop_assert!(start < end && previous.is_none_or(|p| p < start));
                previous = Some(end);
            }
            set.coarsen(ranges_max);
            prop_assert!(set.iter().count() <= ranges_max);
            for instant in model {
                prop_assert!(set.contains(instant));
            }
        }
    }
}
