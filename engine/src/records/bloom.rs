//! A set of keys that may say "yes" wrongly, and "no" never: a split block Bloom filter (Putze, Sanders, Singler 2007, as in
//! Impala and Parquet). Of each key one bit is set in each of the eight 32-bit words of one block, so that a question costs one
//! cache line.
//!
//! ```text
//! filter = block{n}   n > 0      block = u32 LE {8}
//! key    = XXH3-128; its low half chooses the block, its high half eight bits of 32, five bits each from the lowest on
//! ```
use xxhash_rust::xxh3::xxh3_128;

const BLOCK_BYTES: usize = 32;
const WORDS: usize = 8;

/// A key.
pub(super) fn hash(key: &[u8]) -> u128 {
    xxh3_128(key)
}

/// The filter of `keys`, with about `bits_per_key` bits for each.
pub(super) fn build(keys: impl ExactSizeIterator<Item = u128>, bits_per_key: usize) -> Vec<u8> {
    let blocks = (keys.len() * bits_per_key).div_ceil(BLOCK_BYTES * 8).max(1);
    let mut filter = vec![0u8; blocks * BLOCK_BYTES];
    for key in keys {
        let block = &mut filter[block_of(key, blocks)..][..BLOCK_BYTES];
        for (word, bit) in bits_of(key).enumerate() {
            block[word * 4 + bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Whether `key` may be among those of `filter`, whose length is that of whole blocks.
pub(super) fn may_contain(filter: &[u8], key: u128) -> bool {
    let blocks = filter.len() / BLOCK_BYTES;
    let Some(block) = filter.get(block_of(key, blocks)..).and_then(|rest| rest.get(..BLOCK_BYTES)) else { return true };
    bits_of(key).enumerate().all(|(word, bit)| block[word * 4 + bit / 8] & (1 << (bit % 8)) != 0)
}

/// Whether bytes of this length can be a filter.
pub(super) fn is_length(bytes: usize) -> bool {
    bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES)
}

/// Where the block of `key` begins.
fn block_of(key: u128, blocks: usize) -> usize {
    let chosen = (u128::from(key as u64) * blocks as u128) >> 64;
    chosen as usize * BLOCK_BYTES
}

fn bits_of(key: u128) -> impl Iterator<Item = usize> {
    let high = (key >> 64) as u64;
    (0..WORDS).map(move |word| (high >> (5 * word)) as usize & 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others() {
        for (keys, bits, wrong_max) in [(1u32, 10, 40), (300, 10, 400), (20_000, 10, 400), (20_000, 14, 120)] {
            let filter = build((0..keys).map(|key| hash(&key.to_le_bytes())), bits);
            assert!(is_length(filter.len()) && filter.len() <= keys as usize * bits / 8 + BLOCK_BYTES);
            assert!((0..keys).all(|key| may_contain(&filter, hash(&key.to_le_bytes()))));
            let wrong = (1 << 20..(1 << 20) + 10_000u32).filter(|key| may_contain(&filter, hash(&key.to_le_bytes())));
            let wrong = wrong.count();
            assert!(wrong <= wrong_max, "{wrong} of 10,000 with {keys} keys of {bits} bits");
        }
    }
}
