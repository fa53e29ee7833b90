//! The strings of a remote write 2.0 request: where each lies in the body, and its hash, once.
//!
//! A series names its labels by references into this table. Its key is a hash over the hashes of the symbols it refers to:
//! the same labels give the same key whatever places they have in the table of another request, and no label is looked at.
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::metadata::Text;
use super::wire::{Cursor, Malformed};

/// What is wrong with a reference to no symbol.
pub(crate) const BEYOND: &str = "reference beyond the end of the symbols";
/// Sets the seed of series keys apart from that of symbols and of 1.0's keys.
pub(crate) const SERIES_DOMAIN: u64 = 0x5f32_5f73_6569_7265;
/// Symbol hashes that are hashed at once; longer label sets are folded, so that nothing grows with them.
const FOLD: usize = 64;
/// Bytes of a hash.
const HASH: usize = size_of::<u128>();
/// Tables above this many symbols are given back rather than kept for the next request.
const RETAINED_MAX: usize = 256 << 10;

/// The symbol table of one request.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    spans: Vec<(u32, u32)>,
    hashes: Vec<u128>,
}

impl Symbols {
    /// Adds the symbol at `start..end` of `body`.
    pub(crate) fn push(&mut self, body: &[u8], start: usize, end: usize, seed: u64) {
        self.spans.push((start as u32, end as u32));
        self.hashes.push(xxh3_128_with_seed(&body[start..end], seed));
    }

    /// Number of symbols.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.hashes.clear();
    }

    pub(crate) fn shrink(&mut self) {
        if self.spans.capacity() > RETAINED_MAX {
            *self = Self::default();
        }
    }

    /// Where symbol `reference` lies.
    pub(crate) fn span(&self, reference: u64) -> Option<(u32, u32)> {
        self.spans.get(usize::try_from(reference).ok()?).copied()
    }

    /// The seeded hash of symbol `reference`.
    pub(crate) fn hash(&self, reference: u64) -> Option<u128> {
        self.hashes.get(usize::try_from(reference).ok()?).copied()
    }

    /// Both.
    pub(crate) fn text(&self, reference: u64) -> Option<Text> {
        Some(Text { span: self.span(reference)?, hash: self.hash(reference)? })
    }

    /// The key of the series whose packed references are `refs`.
    ///
    /// # Errors
    /// When a reference lies outside the table, or one of a pair is missing.
    pub(crate) fn key(&self, refs: &[u8], seed: u64) -> Result<u128, Malformed> {
        let mut hashes = [0u8; FOLD * HASH];
        let (mut filled, mut count) = (0, 0usize);
        let mut cursor = Cursor::new(refs);
        while !cursor.is_at_end() {
            let at = cursor;
            let reference = cursor.varint()?;
            let hash = self.hash(reference).ok_or_else(|| at.malformed(BEYOND))?;
            if filled == FOLD * HASH {
                let folded = xxh3_128_with_seed(&hashes, seed);
                hashes[..HASH].copy_from_slice(&folded.to_le_bytes());
                filled = HASH;
            }
            hashes[filled..filled + HASH].copy_from_slice(&hash.to_le_bytes());
            filled += HASH;
            count += 1;
        }
        if count % 2 != 0 {
            return Err(cursor.malformed("odd number of label references"));
        }
        Ok(xxh3_128_with_seed(&hashes[..filled], seed))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table(symbols: &[&str]) -> Symbols {
        let body = symbols.concat();
        let (mut table, mut at) = (Symbols::default(), 0);
        for symbol in symbols {
            table.push(body.as_bytes(), at, at + symbol.len(), 7);
            at += symbol.len();
        }
        table
    }

    #[test]
    fn a_key_depends_on_the_strings_and_not_on_their_places() {
        let one = table(&["", "a", "1", "b", "2"]).key(&[1, 2, 3, 4], 7).unwrap();
        assert_eq!(table(&["", "x", "2", "b", "1", "a"]).key(&[5, 4, 3, 2], 7).unwrap(), one);
        assert_ne!(table(&["", "a", "1", "b", "2"]).key(&[1, 4, 3, 2], 7).unwrap(), one);
        assert_ne!(table(&["", "a1", "", "b", "2"]).key(&[1, 2, 3, 4], 7).unwrap(), one);
        assert_ne!(table(&["", "a", "1", "b", "2"]).key(&[1, 2], 7).unwrap(), one);
    }

    #[test]
    fn long_label_sets_are_folded_without_losing_a_label() {
        let table = table(&["", "a", "b", "c"]);
        let refs = |n: usize| -> Vec<u8> { (0..n).map(|i| (i % 3) as u8 + 1).collect() };
        let mut keys: Vec<u128> = (0..600).step_by(2).map(|n| table.key(&refs(n), 7).unwrap()).collect();
        for at in [0, 63, 64, 127, 128, 599] {
            let mut changed = refs(600);
            changed[at] = 0;
            keys.push(table.key(&changed, 7).unwrap());
        }
        keys.push(table.key(&refs(600), 7).unwrap());
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn references_must_be_inside_and_in_pairs() {
        let table = table(&["", "a"]);
        assert_eq!(table.key(&[1, 2], 7).unwrap_err().what, "reference beyond the end of the symbols");
        assert_eq!(table.key(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 7).unwrap_err().offset, 1);
        assert_eq!(table.key(&[1, 1, 1], 7).unwrap_err().what, "odd number of label references");
        assert_eq!(table.key(&[1, 0x80], 7).unwrap_err().what, "truncated varint");
    }
}
