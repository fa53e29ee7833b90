//! The order of rows by series: a radix sort, because comparing rows is most of the work of sorting a memtable.

/// Bits of an id that one pass sorts by.
const DIGIT_BITS: u32 = 11;
const BUCKETS: usize = 1 << DIGIT_BITS;
/// Fewer rows are not worth the passes over the buckets.
const ROWS_MIN: usize = 4096;

/// A row: the id of its series, and when it came.
pub(super) type Key = (u64, u32);

/// Sorts `keys`, which stand in the order in which they came, by series; those of one series stay in that order.
pub(super) fn sort_by_series(keys: &mut Vec<Key>) {
    if keys.is_sorted() {
        return;
    }
    if keys.len() < ROWS_MIN {
        // All are distinct, so that an unstable sort is enough.
        keys.sort_unstable();
        return;
    }
    let first = keys[0].0;
    let varying = keys.iter().fold(0u64, |varying, key| varying | (key.0 ^ first));
    let mut sorted = vec![(0, 0); keys.len()];
    // From the lowest bits up, over those that are the same in all ids.
    let mut shift = 0;
    while let Some(rest) = varying.checked_shr(shift).filter(|&rest| rest != 0) {
        shift += rest.trailing_zeros();
        sort_by_digit(keys, &mut sorted, shift);
        std::mem::swap(keys, &mut sorted);
        shift += DIGIT_BITS;
    }
}

/// Writes `keys` to `sorted` in the order of one digit, and of arrival where it is the same.
fn sort_by_digit(keys: &[Key], sorted: &mut [Key], shift: u32) {
    let digit = |key: &Key| (key.0 >> shift) as usize % BUCKETS;
    let mut starts = vec![0; BUCKETS];
    keys.iter().for_each(|key| starts[digit(key)] += 1);
    let mut next = 0;
    for start in &mut starts {
        next += std::mem::replace(start, next);
    }
    for key in keys {
        let place = &mut starts[digit(key)];
        sorted[*place] = *key;
        *place += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_are_in_the_order_of_series_then_of_arrival(
            metrics in prop::collection::vec(any::<u32>(), 1..6),
            numbers in 1u32..100_000,
            rows in prop_oneof![0usize..100, ROWS_MIN..3 * ROWS_MIN],
            seed: u64,
        ) {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize
            };
            let mut id = || (u64::from(metrics[random() % metrics.len()]) << 32) | (random() as u64 % u64::from(numbers));
            let mut keys: Vec<Key> = (0..rows as u32).map(|row| (id(), row)).collect();
            let mut expected = keys.clone();
            expected.sort_unstable();
            sort_by_series(&mut keys);
            prop_assert_eq!(keys, expected);
        }
    }

    #[test]
    fn ids_that_differ_in_their_highest_bit_or_not_at_all_are_sorted_too() {
        let rows = 2 * ROWS_MIN as u32;
        for id in
            [|row: u32| u64::from(row.is_multiple_of(2)) << 63, |_: u32| u64::MAX, |row: u32| u64::MAX - u64::from(row)]
        {
            let mut keys: Vec<Key> = (0..rows).map(|row| (id(row), row)).collect();
            let mut expected = keys.clone();
            expected.sort_unstable();
            sort_by_series(&mut keys);
            assert_eq!(keys, expected);
        }
    }
}
