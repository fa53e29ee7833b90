//! zstd frames without matches: each byte is a Huffman code and nothing else is looked for (RFC 8878, 3.1.1.3 and 4.2).
//!
//! Bytes of residuals are noise of few symbols. A match in them is by chance, costs more bits than the codes of the bytes that it
//! covers, and is slow to decode. zstd's encoder leaves matches away only where it leaves codes away too; any zstd decoder reads
//! these frames.
//!
//! ```text
//! frame = magic   window   block header   literals header   code lengths   3 lengths of streams   streams {4}   no matches
//! ```
//! A short frame has one stream, and no lengths of streams.
use std::array::from_fn;

/// Longest code that the format knows.
const LENGTH_MAX: u32 = 11;
/// Largest byte: lengths of codes are written plainly, which the format knows for so many.
const SYMBOL_MAX: usize = 128;
const SYMBOLS: usize = SYMBOL_MAX + 1;
/// Longest input: one block of a frame.
const BYTES_MAX: usize = 128 << 10;
/// Shorter inputs have one stream.
const FOUR_STREAMS_MIN: usize = 256;
const STREAMS: usize = 4;

/// Magic number, and a descriptor that says: no size, no checksum, no dictionary.
const FRAME: [u8; 5] = [0x28, 0xb5, 0x2f, 0xfd, 0];
/// Smallest window that the format knows, as a power of two.
const WINDOW_LOG_MIN: u32 = 10;
const BLOCK_HEADER_BYTES: usize = 3;
const JUMP_TABLE_BYTES: usize = 6;

/// The code of the bytes that it was shown last.
#[derive(Default)]
pub(super) struct Huffman {
    /// Of each byte its code, and the length of that shifted by 16; the length is 0 of bytes that do not occur.
    codes: Vec<u32>,
    /// Bytes that occur, rarest first, with their counts.
    leaves: Vec<(u32, u8)>,
    /// Bytes of each stream, its end mark included.
    streams: [usize; STREAMS],
    longest: u32,
    /// How many bytes it was shown, and bits of their codes.
    bytes: usize,
    bits: usize,
}

impl Huffman {
    /// Finds the code of `bytes`: the length of their frame; `None` where no frame of this kind is for them.
    pub(super) fn fit(&mut self, bytes: &[u8]) -> Option<usize> {
        if !(2..=BYTES_MAX).contains(&bytes.len()) {
            return None;
        }
        let parts = parts(bytes);
        let counts = counts_of(parts);
        let count = |symbol: usize| counts.iter().map(|own| own[symbol]).sum::<u32>();
        if (SYMBOLS..256).any(|symbol| count(symbol) > 0) {
            return None;
        }
        self.leaves.clear();
        self.leaves.extend((0..SYMBOLS).map(|symbol| (count(symbol), symbol as u8)).filter(|&(count, _)| count > 0));
        if self.leaves.len() < 2 {
            return None;
        }
        self.leaves.sort_unstable();
        self.find_codes();
        let bits_of = |(&code, count): (&u32, u32)| (code >> 16) as usize * count as usize;
        let bits = counts.map(|own| self.codes.iter().zip(own).map(bits_of).sum::<usize>());
        (self.bytes, self.bits) = (bytes.len(), bits.iter().sum());
        self.streams = bits.map(|bits| bits / 8 + 1);
        if bytes.len() < FOUR_STREAMS_MIN {
            self.streams[1..].fill(0);
        }
        Some(FRAME.len() + 1 + BLOCK_HEADER_BYTES + self.block_bytes(bytes.len()))
    }

    /// Bits of a code, on average.
    pub(super) fn bits_each(&self) -> usize {
        self.bits / self.bytes.max(1)
    }

    /// Appends the frame of `bytes`, which are those that were shown last.
    pub(super) fn write(&self, bytes: &[u8], out: &mut Vec<u8>) {
        debug_assert_eq!(bytes.len(), self.bytes, "the code is of other bytes");
        out.extend_from_slice(&FRAME);
        let window_log = bytes.len().next_power_of_two().ilog2().max(WINDOW_LOG_MIN);
        out.push(((window_log - WINDOW_LOG_MIN) << 3) as u8);
        // The last block, of type "compressed".
        let block = 1 | 2 << 1 | (self.block_bytes(bytes.len()) as u32) << 3;
        out.extend_from_slice(&block.to_le_bytes()[..BLOCK_HEADER_BYTES]);
        let (header, header_bytes) = self.literals_header(bytes.len());
        out.extend_from_slice(&header.to_le_bytes()[..header_bytes]);
        self.write_lengths(out);
        if bytes.len() >= FOUR_STREAMS_MIN {
            self.streams[..STREAMS - 1].iter().for_each(|&len| out.extend_from_slice(&(len as u16).to_le_bytes()));
        }
        let codes = from_fn(|symbol| self.codes.get(symbol).copied().unwrap_or(0));
        for (part, len) in parts(bytes).into_iter().zip(self.streams) {
            if len > 0 {
                write_stream(&codes, part, len, out);
            }
        }
        // Sequences, none.
        out.push(0);
    }

    /// Bytes of the block after its header.
    fn block_bytes(&self, bytes: usize) -> usize {
        self.literals_header(bytes).1 + self.literals_bytes(bytes) + 1
    }

    /// Bytes of the literals after their header.
    fn literals_bytes(&self, bytes: usize) -> usize {
        let table = if bytes < FOUR_STREAMS_MIN { 0 } else { JUMP_TABLE_BYTES };
        1 + self.symbol_max().div_ceil(2) + table + self.streams.iter().sum::<usize>()
    }

    /// The literals' header and how many bytes it has: type "compressed", format, length decoded and encoded.
    fn literals_header(&self, bytes: usize) -> (u64, usize) {
        let encoded = self.literals_bytes(bytes);
        let (format, width, header_bytes) = match bytes.max(encoded) {
            _ if bytes < FOUR_STREAMS_MIN => (0, 10, 3),
            0..0x400 => (1, 10, 3),
            0x400..0x4000 => (2, 14, 4),
            _ => (3, 18, 5),
        };
        (2 | format << 2 | (bytes as u64) << 4 | (encoded as u64) << (4 + width), header_bytes)
    }

    /// The largest byte that occurs; the length of its code follows from the others.
    fn symbol_max(&self) -> usize {
        self.codes.len() - 1
    }

    /// Fills `codes` and `longest` from `leaves`.
    fn find_codes(&mut self) {
        let symbol_max = self.leaves.iter().map(|&(_, symbol)| symbol).max().unwrap_or(0);
        self.codes.clear();
        self.codes.resize(usize::from(symbol_max) + 1, 0);
        let mut lengths = lengths_of(&self.leaves);
        while lengths[0] > LENGTH_MAX {
            // Flatter until it fits; equal counts need eight bits.
            self.leaves.iter_mut().for_each(|(count, _)| *count = count.div_ceil(2));
            lengths = lengths_of(&self.leaves);
        }
        self.longest = lengths[0];
        let mut of_length = [0; LENGTH_MAX as usize + 1];
        for (&(_, symbol), &length) in self.leaves.iter().zip(&lengths) {
            self.codes[usize::from(symbol)] = length << 16;
            of_length[length as usize] += 1;
        }
        // The longest codes come first, those of one length in the order of their bytes.
        let mut next = [0; LENGTH_MAX as usize + 1];
        let mut code = 0;
        for length in (1..=self.longest as usize).rev() {
            next[length] = code;
            code = (code + of_length[length]) >> 1;
        }
        for code in &mut self.codes {
            let length = (*code >> 16) as usize;
            if length > 0 {
                *code |= next[length];
                next[length] += 1;
            }
        }
    }

    /// Lengths of all codes but the last, as weights of four bits: a longer code weighs less, what does not occur nothing.
    fn write_lengths(&self, out: &mut Vec<u8>) {
        let weights = &self.codes[..self.symbol_max()];
        let weight = |code: &u32| match code >> 16 {
            0 => 0,
            length => (self.longest + 1 - length) as u8,
        };
        out.push(127 + weights.len() as u8);
        out.extend(weights.chunks(2).map(|two| weight(&two[0]) << 4 | two.get(1).map_or(0, weight)));
    }
}

/// Appends the codes of `bytes`, the last first, and a mark behind them: `len` bytes.
fn write_stream(codes: &[u32; 256], bytes: &[u8], len: usize, out: &mut Vec<u8>) {
    let from = out.len();
    // Whole words are written, of which the last goes beyond.
    out.resize(from + len + 8, 0);
    let (mut room, mut bits, mut held) = (&mut out[from..], 0u64, 0u32);
    for some in bytes.rchunks(4) {
        for &b in some.iter().rev() {
            let code = codes[usize::from(b)];
            bits |= u64::from(code & 0xffff).wrapping_shl(held);
            held = held.wrapping_add(code >> 16);
        }
        // At most 7 bits and those of four codes are held: 51.
        room[..8].copy_from_slice(&bits.to_le_bytes());
        room = &mut room[(held / 8) as usize..];
        bits = bits.wrapping_shr(held & !7);
        held &= 7;
    }
    room[0] = (bits | 1 << held) as u8;
    out.truncate(from + len);
}

/// What stands in each stream: all of them of a length but the last.
fn parts(bytes: &[u8]) -> [&[u8]; STREAMS] {
    let each = if bytes.len() < FOUR_STREAMS_MIN { bytes.len() } else { bytes.len().div_ceil(STREAMS) };
    from_fn(|k| &bytes[(k * each).min(bytes.len())..((k + 1) * each).min(bytes.len())])
}

/// How often each byte occurs in each part.
fn counts_of(parts: [&[u8]; STREAMS]) -> [[u32; 256]; STREAMS] {
    let mut counts = [[0; 256]; STREAMS];
    // All parts at once, so that equal neighbours do not wait for each other.
    let together = parts[STREAMS - 1].len();
    let heads = parts.map(|part| &part[..together]);
    for i in 0..together {
        for (own, head) in counts.iter_mut().zip(heads) {
            own[usize::from(head[i])] += 1;
        }
    }
    for (own, part) in counts.iter_mut().zip(parts) {
        part[together..].iter().for_each(|&b| own[usize::from(b)] += 1);
    }
    counts
}

/// Lengths of the codes of at least two leaves, rarest first, of whatever length: Huffman's tree, made of two queues.
fn lengths_of(leaves: &[(u32, u8)]) -> [u32; SYMBOLS] {
    let count = leaves.len();
    let root = 2 * count - 2;
    let mut weights = [0u32; 2 * SYMBOLS];
    let mut parents = [0usize; 2 * SYMBOLS];
    weights.iter_mut().zip(leaves).for_each(|(weight, leaf)| *weight = leaf.0);
    let (mut leaf, mut inner) = (0, count);
    for made in count..=root {
        for _ in 0..2 {
            let is_leaf = leaf < count && (inner == made || weights[leaf] <= weights[inner]);
            let next = if is_leaf { &mut leaf } else { &mut inner };
            weights[made] += weights[*next];
            parents[*next] = made;
            *next += 1;
        }
    }
    // A node is made after what is below it.
    let mut depths = [0; 2 * SYMBOLS];
    for node in (0..root).rev() {
        depths[node] = depths[parents[node]] + 1;
    }
    from_fn(|k| if k < count { depths[k] } else { 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn frame(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut huffman = Huffman::default();
        let len = huffman.fit(bytes)?;
        let mut out = vec![7];
        huffman.write(bytes, &mut out);
        assert_eq!(out.len(), 1 + len, "the length is known before");
        Some(out.split_off(1))
    }

    fn come_back(bytes: &[u8]) -> usize {
        let frame = frame(bytes).unwrap();
        let read = zstd::bulk::decompress(&frame, bytes.len()).unwrap();
        assert!(read == bytes, "{} bytes come back as others", bytes.len());
        frame.len()
    }

    /// Bytes below `symbols`, most of them small: each is followed by the next larger one in one of `ratio` cases.
    fn skewed(n: usize, symbols: usize, ratio: f64, seed: u64) -> Vec<u8> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut byte = || {
            let mut symbol = 0;
            while symbol + 1 < symbols && rng.random::<f64>() < 1.0 / ratio {
                symbol += 1;
            }
            symbol as u8
        };
        let mut bytes: Vec<u8> = (0..n).map(|_| byte()).collect();
        // At least two.
        (bytes[0], bytes[n - 1]) = (0, symbols as u8 - 1);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn zstd_reads_the_frame_of_skewed_bytes(
            n in prop_oneof![2usize..600, 600usize..20_000], symbols in 2usize..=129, ratio in 1.001f64..4.0, seed: u64,
        ) {
            come_back(&skewed(n, symbols, ratio, seed));
            // The largest byte is the most frequent one.
            let turned: Vec<u8> = skewed(n, symbols, ratio, seed).iter().map(|b| symbols as u8 - 1 - b).collect();
            come_back(&turned);
        }

        #[test]
        fn zstd_reads_the_frame_of_any_bytes_up_to_any_largest(
            mut bytes in prop::collection::vec(any::<u8>(), 2..3_000), symbols in 2u8..=129, shift in 0u8..128,
        ) {
            bytes.iter_mut().for_each(|b| *b = (*b % symbols).saturating_add(shift).min(SYMBOL_MAX as u8));
            if bytes.iter().any(|b| *b != bytes[0]) {
                come_back(&bytes);
            }
        }
    }

    #[test]
    fn every_border_of_a_length_is_read_again() {
        for n in
            [2, 3, 5, 255, 256, 257, 258, 259, 1_023, 1_024, 1_025, 16_383, 16_384, 16_385, BYTES_MAX - 1, BYTES_MAX]
        {
            for symbols in [2, 7, 129] {
                come_back(&skewed(n, symbols, 1.5, n as u64));
                let mut level: Vec<u8> = (0..n).map(|i| (i * 37 % symbols) as u8).collect();
                come_back(&level);
                // Each part has other bytes.
                level.sort_unstable();
                come_back(&level);
            }
        }
        come_back(&[0, 1]);
        come_back(&[3, 7, 7]);
        // One stream of nothing but the longest codes.
        let rare: Vec<u8> = (0..BYTES_MAX).map(|i| if i < BYTES_MAX / 4 { 1 + (i % 128) as u8 } else { 0 }).collect();
        come_back(&rare);
    }

    #[test]
    fn one_code_after_another_is_found_in_the_same_memory() {
        let mut huffman = Huffman::default();
        for (n, symbols) in [(9_000, 129), (40, 2), (9_000, 3), (300, 100), (8_192, 5)] {
            let bytes = skewed(n, symbols, 1.3, 5);
            let len = huffman.fit(&bytes).unwrap();
            let mut out = Vec::new();
            huffman.write(&bytes, &mut out);
            assert_eq!((out.len(), zstd::bulk::decompress(&out, n).unwrap()), (len, bytes));
        }
    }

    #[test]
    fn codes_that_would_be_too_long_are_shortened() {
        // Counts of Fibonacci's numbers make the deepest tree.
        let (mut bytes, mut two) = (Vec::new(), (1usize, 1usize));
        for symbol in 0..22u8 {
            bytes.resize(bytes.len() + two.0, symbol);
            two = (two.1, two.0 + two.1);
        }
        let mut huffman = Huffman::default();
        huffman.fit(&bytes).unwrap();
        assert_eq!(huffman.longest, LENGTH_MAX);
        come_back(&bytes);
    }

    #[test]
    fn equal_bytes_large_bytes_and_long_inputs_have_no_such_frame() {
        assert!(frame(&[]).is_none() && frame(&[1]).is_none() && frame(&[9; 500]).is_none());
        assert!(frame(&[1, 129]).is_none() && frame(&[1, 128]).is_some());
        assert!(frame(&vec![1; BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn noise_takes_hardly_more_than_its_entropy_and_less_than_with_matches() {
        let bytes = skewed(8_192, 30, 1.7, 3);
        let counts = counts_of([&bytes, &[], &[], &[]])[0].map(f64::from);
        let n = bytes.len() as f64;
        let entropy = counts.iter().filter(|&&c| c > 0.0).map(|c| -c * (c / n).log2()).sum::<f64>() / 8.0;
        let (own, with_matches) = (come_back(&bytes), zstd::bulk::compress(&bytes, 1).unwrap().len());
        assert!((own as f64) < entropy * 1.04 + 90.0, "{own} bytes, entropy {entropy}");
        assert!(own < with_matches, "{own} bytes, {with_matches} with matches");
    }
}
