//! The order of rows by series: a radix sort, because comparing rows is most of the work of sorting a memtable.
use crate::types::SeriesId;

/// Bits that one pass sorts by, at most.
const DIGIT_BITS_MAX: u32 = 11;
/// Fewer rows are not worth the passes over the buckets.
const ROWS_MIN: usize = 4096;
/// For more rows no room is kept: a run has half as many, 256k.
const ROWS_KEPT_MAX: usize = 512 << 10;

/// Rows by series; those of one series in the order in which they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Strictly increasing.
    pub(super) series: Vec<SeriesId>,
    /// `series.len() + 1` places in `rows`, the first 0: those of `series[k]` are `offsets[k]..offsets[k + 1]`. Without series one
    /// place.
    pub(super) offsets: Vec<u32>,
    /// When each row came.
    pub(super) rows: Vec<u32>,
}

/// Memory to sort in: sorting is often wanted again soon, and the system gives memory page by page.
#[derive(Debug, Default)]
pub(super) struct Room {
    keys: Vec<u64>,
    sorted: Vec<u64>,
    /// Of an [`Order`], when it is no longer needed.
    pub(super) rows: Vec<u32>,
    /// For a column as it came.
    pub(super) column: Vec<u64>,
}

impl Room {
    /// Gives it back if it was for very many rows. All of it is for as many.
    pub(super) fn shrink(&mut self) {
        if self.rows.capacity() > ROWS_KEPT_MAX {
            *self = Self::default();
        }
    }
}

impl Order {
    /// Of rows whose series stand in `parts`, one part after the other.
    pub(super) fn of(parts: &[&[SeriesId]], room: &mut Room) -> Self {
        let rows = parts.iter().map(|part| part.len()).sum();
        let ids = || parts.iter().copied().flatten().copied();
        let first = ids().next().unwrap_or(SeriesId(0));
        let varying = ids().fold(0u64, |varying, id| varying | (id.0 ^ first.0));
        let Some(packing) = Packing::of(first, varying, rows) else {
            let mut keys: Vec<(SeriesId, u32)> = ids().zip(0..).collect();
            keys.sort_unstable();
            return Self::of_sorted(keys.iter().copied(), rows, std::mem::take(&mut room.rows));
        };
        let Room { keys, sorted, .. } = room;
        keys.clear();
        keys.reserve_exact(rows);
        for part in parts {
            keys.extend((keys.len() as u64..).zip(*part).map(|(row, &id)| packing.pack(id, row)));
        }
        sort(keys, sorted, packing.row_bits, packing.low_bits + packing.high_bits);
        Self::of_sorted(keys.iter().map(|&key| packing.unpack(key)), rows, std::mem::take(&mut room.rows))
    }

    /// Of `keys` in order, `rows` of them; `places` becomes its rows.
    fn of_sorted(keys: impl Iterator<Item = (SeriesId, u32)> + Clone, rows: usize, mut places: Vec<u32>) -> Self {
        let (mut count, mut last) = (0, None);
        for (id, _) in keys.clone() {
            count += usize::from(last != Some(id));
            last = Some(id);
        }
        places.clear();
        places.reserve_exact(rows);
        let mut order =
            Self { series: Vec::with_capacity(count), offsets: Vec::with_capacity(count + 1), rows: places };
        for (id, row) in keys {
            if order.series.last() != Some(&id) {
                order.series.push(id);
                order.offsets.push(order.rows.len() as u32);
            }
            order.rows.push(row);
        }
        order.offsets.push(rows as u32);
        order
    }
}

/// An id and a row in one number: of the metric and of the number in it only the bits from the highest that is not the same
/// in all ids, then the row.
struct Packing {
    /// The other bits of the ids.
    same: u64,
    low_bits: u32,
    high_bits: u32,
    row_bits: u32,
}

fn bits(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl Packing {
    /// `None` when it does not fit.
    fn of(first: SeriesId, varying: u64, rows: usize) -> Option<Self> {
        let (low_bits, high_bits) = (bits(varying & mask(32)), bits(varying >> 32));
        let same = first.0 & !(mask(high_bits) << 32 | mask(low_bits));
        let row_bits = bits(rows as u64);
        (low_bits + high_bits + row_bits < 64).then_some(Self { same, low_bits, high_bits, row_bits })
    }
    fn pack(&self, id: SeriesId, row: u64) -> u64 {
        let id = (id.0 >> 32 & mask(self.high_bits)) << self.low_bits | id.0 & mask(self.low_bits);
        id << self.row_bits | row
    }
    fn unpack(&self, key: u64) -> (SeriesId, u32) {
        let id = key >> self.row_bits;
        let id = self.same | id >> self.low_bits << 32 | id & mask(self.low_bits);
        (SeriesId(id), (key & mask(self.row_bits)) as u32)
    }
}

/// Sorts `keys`, whose lowest `from` bits increase, by those and the `count` bits above them, the highest that are set; `sorted`
/// is room for it.
fn sort(keys: &mut Vec<u64>, sorted: &mut Vec<u64>, from: u32, count: u32) {
    if keys.is_sorted() {
        return;
    }
    if keys.len() < ROWS_MIN {
        keys.sort_unstable();
        return;
    }
    // Passes of about the same size: many buckets are slower than few.
    let digit_bits = count.div_ceil(count.div_ceil(DIGIT_BITS_MAX));
    // What stands in it is overwritten.
    sorted.truncate(keys.len());
    sorted.reserve_exact(keys.len() - sorted.len());
    sorted.resize(keys.len(), 0);
    for shift in (from..from + count).step_by(digit_bits as usize) {
        sort_by_digit(keys, sorted, shift, digit_bits);
        std::mem::swap(keys, sorted);
    }
}

/// Writes `keys` to `sorted` in the order of one digit, and of their places where it is the same.
fn sort_by_digit(keys: &[u64], sorted: &mut [u64], shift: u32, digit_bits: u32) {
    let digit = |key: u64| (key >> shift & mask(digit_bits)) as usize;
    let mut starts = vec![0; 1 << digit_bits];
    keys.iter().for_each(|&key| starts[digit(key)] += 1);
    let mut next = 0;
    for start in &mut starts {
        next += std::mem::replace(start, next);
    }
    for &key in keys {
        let place = &mut starts[digit(key)];
        sorted[*place] = key;
        *place += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expected(ids: &[SeriesId]) -> Order {
        let mut keys: Vec<(SeriesId, u32)> = ids.iter().copied().zip(0..).collect();
        keys.sort_unstable();
        Order::of_sorted(keys.iter().copied(), ids.len(), Vec::new())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_are_in_the_order_of_series_then_of_arrival(
            metrics in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..300], 1..6),
            numbers in 1u32..100_000,
            rows in prop_oneof![0usize..100, ROWS_MIN..3 * ROWS_MIN],
            seed: u64,
        ) {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize
            };
            let mut id = || SeriesId::new(metrics[random() % metrics.len()], random() as u32 % numbers);
            let ids: Vec<SeriesId> = (0..rows).map(|_| id()).collect();
            let parts = ids.split_at(rows / 3);
            let mut room = Room { keys: vec![7; 9], sorted: vec![8; 20_000], rows: vec![9; 3], column: vec![1] };
            let order = Order::of(&[parts.0, &[], parts.1], &mut room);
            prop_assert!(order.rows.iter().map(|&row| ids[row as usize]).is_sorted());
            prop_assert_eq!(order, expected(&ids));
        }
    }

    #[test]
    fn ids_that_differ_in_their_highest_bit_in_all_or_not_at_all_are_sorted_too() {
        let rows = 2 * ROWS_MIN as u64;
        for id in [
            |row: u64| (row % 2) << 63,
            |_: u64| u64::MAX,
            |row: u64| u64::MAX - row,
            |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            |row: u64| (row % 7) << 32 | (rows_reversed(row) % 64),
        ] {
            let ids: Vec<SeriesId> = (0..rows).map(|row| SeriesId(id(row))).collect();
            assert_eq!(Order::of(&[&ids], &mut Room::default()), expected(&ids));
        }
    }

    fn rows_reversed(row: u64) -> u64 {
        u64::from((row as u32).reverse_bits())
    }
}
