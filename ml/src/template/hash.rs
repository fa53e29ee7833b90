//! Hashes of tokens and skeletons. They are part of what users keep (a template's id), so they never change.

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0xd6e8_feb8_6659_fd93;
const POSITION: u64 = 0xa076_1d64_78bd_642f;
const TERM: u64 = 0xe703_7ed1_a0b4_28db;

/// Both halves of the product, so that every bit of either factor reaches every bit of the result.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product as u64) ^ ((product >> 64) as u64)
}

/// Of a token's bytes.
pub(super) fn bytes(text: &[u8]) -> u64 {
    let mut hash = SEED ^ text.len() as u64;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), MIX);
    }
    let mut last = 0u64;
    for &byte in rest {
        last = last << 8 | u64::from(byte);
    }
    fold(hash ^ last, TERM)
}

/// What the token with this hash at this place adds to the sum of its skeleton. Sums, because a skeleton that differs in
/// one place is then one subtraction and one addition away.
pub(super) fn term(place: usize, token: u64) -> u64 {
    fold(token ^ (place as u64 + 1).wrapping_mul(POSITION), TERM)
}

/// The id of the skeleton with this sum.
pub(super) fn finish(sum: u64, tokens: usize) -> u64 {
    fold(sum ^ SEED, MIX ^ tokens as u64)
}
