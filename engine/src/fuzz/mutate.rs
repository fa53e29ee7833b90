//! Mutations, and the checksums of files put right again, so that what lies behind them is reached.
use rand::Rng;
use rand::rngs::SmallRng;

use crate::format::crc32c;

/// Longest input.
const BYTES_MAX: usize = 64 << 10;
/// Bytes at which lengths and counts go wrong.
const EDGES: [&[u8]; 8] = [
    &[0],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    &[0xff; 8],
    &[0, 0, 0, 0x80],
];

/// One to six changes; pieces may come from `other`.
pub(super) fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut SmallRng) {
    for _ in 0..rng.random_range(1..=6) {
        let len = input.len();
        let at = rng.random_range(0..=len);
        match rng.random_range(0..8) {
            0 if at < len => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < len => input[at] = rng.random(),
            2 => input.truncate(at),
            3 => {
                let edge = EDGES[rng.random_range(0..EDGES.len())];
                let to = (at + edge.len()).min(len);
                drop(input.splice(at..to, edge.iter().copied()));
            }
            4 => {
                let edge = EDGES[rng.random_range(0..EDGES.len())];
                drop(input.splice(at..at, edge.iter().copied()));
            }
            5 => drop(input.drain(at..(at + rng.random_range(0..9)).min(len))),
            6 => {
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..64)).min(other.len());
                drop(input.splice(at..at, other[from..to].iter().copied()));
            }
            _ => {
                let to = (at + rng.random_range(0..64)).min(len);
                let copy = input[at..to].to_vec();
                input.extend_from_slice(&copy);
            }
        }
        input.truncate(BYTES_MAX);
    }
}

fn put(out: &mut [u8], at: usize, crc: u32) {
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&crc.to_le_bytes());
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
}

/// docs/format/manifest.md: a header of 24 bytes, then edits: length, checksum, number, payload.
pub(super) fn with_manifest_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() >= 24 {
        let crc = crc32c(&out[..20]);
        put(&mut out, 20, crc);
    }
    let mut at = 24;
    while at + 16 <= out.len() {
        let end = at + 16 + u32_at(&out, at);
        let Some(payload) = out.get(at + 16..end) else { break };
        let covered = crc32c::crc32c_append(crc32c(&out[at..at + 4]), &out[at + 8..at + 16]);
        let crc = crc32c::crc32c_append(covered, payload);
        put(&mut out, at + 4, crc);
        at = end;
    }
    out
}

/// docs/format/wal.md: a header of 24 bytes, then records: length, checksum, kind, position, payload.
pub(super) fn with_log_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() >= 24 {
        let crc = crc32c(&out[..20]);
        put(&mut out, 20, crc);
    }
    let mut at = 24;
    while at + 17 <= out.len() {
        let end = at + 17 + u32_at(&out, at);
        let Some(rest) = out.get(at + 8..end) else { break };
        let crc = crc32c::crc32c_append(crc32c(&out[at..at + 4]), rest);
        put(&mut out, at + 4, crc);
        at = end;
    }
    out
}

/// A header of 32 bytes whose last four are the checksum of the rest.
pub(super) fn with_envelope_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() >= 32 {
        let crc = crc32c::crc32c_append(crc32c(&out[..28]), &out[32..]);
        put(&mut out, 28, crc);
    }
    out
}

/// docs/format/state-file.md: a trailer of 36 bytes, whose second number is the length of the values; the checksum is of index and
/// trailer.
pub(super) fn with_state_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let Some(trailer) = out.len().checked_sub(36) else { return out };
    let values = u64::from_le_bytes(out[trailer + 8..trailer + 16].try_into().unwrap());
    let index = usize::try_from(values).ok().and_then(|values| values.checked_add(12));
    if let Some(index) = index.filter(|index| *index <= trailer) {
        let at = out.len() - 4;
        let crc = crc32c(&out[index..at]);
        put(&mut out, at, crc);
    }
    out
}

/// docs/format/segment.md: header of 24 bytes; at the end footer, its length, its checksum, version, zeros, magic.
pub(super) fn with_segment_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() < 64 {
        return out;
    }
    let crc = crc32c(&out[..20]);
    put(&mut out, 20, crc);
    let trailer = out.len() - crate::format::frame::TRAILER_BYTES;
    let Some(footer) = trailer.checked_sub(u32_at(&out, trailer)).filter(|at| *at >= 24) else { return out };
    let crc = crc32c(&out[footer..trailer]);
    put(&mut out, trailer + 4, crc);
    out
}
