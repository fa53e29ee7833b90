//! Which calls fail and how, and what is left of unsynced work at a power cut.
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes that a disk writes wholly or not at all.
pub const SECTOR_BYTES: usize = 512;

/// How a failing call fails. Whatever the kind, a failing sync also forgets the bytes it should have written: a later sync
/// that succeeds does not bring them back, as on Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// `EIO`, nothing done.
    #[default]
    Io,
    /// `ENOSPC`, nothing done.
    NoSpace,
    /// `ENOSPC` after half of the bytes of an append; as [`Failure::NoSpace`] for other calls.
    ShortWrite,
}

impl Failure {
    pub(super) fn error(self, what: &str) -> io::Error {
        let kind = if self == Self::Io { io::ErrorKind::Other } else { io::ErrorKind::StorageFull };
        io::Error::new(kind, format!("injected fault: {what}"))
    }
}

/// What survives of unsynced bytes and of directory entries changed since the last sync of their directory. What was
/// synced survives always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    #[default]
    Nothing,
    /// So many unsynced bytes of each file, no entry.
    Prefix(usize),
    /// All entries, no byte: files were renamed before their contents were there.
    Entries,
    /// All bytes and all entries: a killed process rather than a power cut.
    All,
    /// Each file and each entry for itself, drawn from the seed: the unsynced bytes of one file are there, those of
    /// another are not; of two renames the later one is there, the earlier is not.
    Reordered(u64),
    /// As [`Survival::Reordered`], and each unsynced sector of [`SECTOR_BYTES`] of a file that has kept its length holds
    /// what was written, zeros, or rubbish.
    Torn(u64),
}

/// A draw that depends on nothing but seed, file and number.
fn draw(seed: u64, path: &Path, number: u64) -> u64 {
    let mut key = path.to_string_lossy().into_owned().into_bytes();
    key.extend_from_slice(&number.to_le_bytes());
    xxh3_64_with_seed(&key, seed)
}

impl Survival {
    /// Whether the change of an entry since the last sync of its directory survives.
    pub(super) fn keeps_entry(self, path: &Path) -> bool {
        match self {
            Self::Nothing | Self::Prefix(_) => false,
            Self::Entries | Self::All => true,
            Self::Reordered(seed) | Self::Torn(seed) => draw(seed, path, u64::MAX).is_multiple_of(2),
        }
    }

    /// What the disk holds of a file of which `synced` bytes were synced.
    pub(super) fn bytes_of(self, path: &Path, bytes: &[u8], synced: usize) -> Vec<u8> {
        let unsynced = bytes.len() - synced;
        let kept = |len: usize| bytes[..synced + len].to_vec();
        match self {
            Self::Nothing | Self::Entries => kept(0),
            Self::Prefix(len) => kept(len.min(unsynced)),
            Self::All => kept(unsynced),
            Self::Reordered(seed) => match draw(seed, path, 0) % 3 {
                0 => kept(0),
                1 => kept(unsynced),
                _ => kept((draw(seed, path, 1) % (unsynced as u64 + 1)) as usize),
            },
            Self::Torn(seed) => {
                let len = (draw(seed, path, 1) % (unsynced as u64 + 1)) as usize;
                let mut out = kept(if draw(seed, path, 0).is_multiple_of(3) { len } else { unsynced });
                for sector in synced / SECTOR_BYTES..out.len().div_ceil(SECTOR_BYTES) {
                    let from = (sector * SECTOR_BYTES).max(synced);
                    let to = ((sector + 1) * SECTOR_BYTES).min(out.len());
                    tear(&mut out[from..to], draw(seed, path, 2 + sector as u64));
                }
                out
            }
        }
    }
}

/// Leaves a sector as written, zeroes it, or fills it with rubbish.
fn tear(sector: &mut [u8], mut chance: u64) {
    match chance % 4 {
        0 => sector.fill(0),
        1 => {
            for byte in sector {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (chance >> 56) as u8;
            }
        }
        _ => {}
    }
}

/// Which calls fail. Only calls that change something are counted, from 0.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// The call with this number and all later ones fail: a machine that died.
    pub die_at: Option<u64>,
    /// The call with this number fails; those after it work again.
    pub fail_at: Option<u64>,
    /// So many further calls after `fail_at` fail too: a disk that stays full for a while.
    pub fail_more: u64,
    /// How calls fail.
    pub failure: Failure,
    /// Every sync of a file whose path contains this text fails.
    pub fail_sync_of: Option<String>,
    /// What survives at the power cut.
    pub survival: Survival,
}

impl FaultPlan {
    /// The machine dies at call `n`; at the power cut `survival` is left.
    pub fn death(n: u64, survival: Survival) -> Self {
        Self { die_at: Some(n), survival, ..Self::default() }
    }
    /// Call `n` fails.
    pub fn fault(n: u64, failure: Failure) -> Self {
        Self { fail_at: Some(n), failure, ..Self::default() }
    }
    pub(super) fn is_dead(&self, call: u64) -> bool {
        self.die_at.is_some_and(|n| call >= n)
    }
    pub(super) fn fails(&self, call: u64) -> bool {
        self.is_dead(call) || self.fail_at.is_some_and(|n| (n..=n.saturating_add(self.fail_more)).contains(&call))
    }
}

/// The entries that survive: of each name the entry at the last sync of its directory, or the present one where
/// `survival` keeps it.
pub(super) fn entries<T: Clone>(
    survival: Survival,
    live: &BTreeMap<PathBuf, T>,
    durable: &BTreeMap<PathBuf, T>,
) -> BTreeMap<PathBuf, T> {
    let names: BTreeSet<&PathBuf> = live.keys().chain(durable.keys()).collect();
    let of = |path: &PathBuf| if survival.keeps_entry(path) { live.get(path) } else { durable.get(path) };
    names.into_iter().filter_map(|path| Some((path.clone(), of(path)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_every_kind_of_cut() {
        let bytes: Vec<u8> = (0..5000u32).map(|n| n as u8 | 1).collect();
        for seed in 0..200 {
            for survival in [Survival::Reordered(seed), Survival::Torn(seed), Survival::Prefix(seed as usize)] {
                let left = survival.bytes_of(Path::new("/f"), &bytes, 1700);
                assert!(left.len() >= 1700 && left.len() <= bytes.len() && left[..1700] == bytes[..1700]);
            }
        }
    }

    #[test]
    fn torn_sectors_are_torn_at_sector_boundaries() {
        let bytes = vec![7; 4096];
        let left = (0..50).map(|seed| Survival::Torn(seed).bytes_of(Path::new("/f"), &bytes, 0));
        let (mut old, mut new) = (0, 0);
        for sector in left.flat_map(|left| left.chunks_exact(SECTOR_BYTES).map(<[u8]>::to_vec).collect::<Vec<_>>()) {
            let same = sector.iter().filter(|&&byte| byte == 7).count();
            assert!(same == SECTOR_BYTES || same < SECTOR_BYTES / 8, "{same} bytes of a sector as written");
            if same == SECTOR_BYTES { new += 1 } else { old += 1 }
        }
        assert!(old > 50 && new > 50, "{old} torn, {new} whole");
    }
}
