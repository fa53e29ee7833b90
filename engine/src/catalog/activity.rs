//! Which series of a metric are active and in use, asked and marked by writers under the head's read lock.
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a chunk; 64 series each.
const WORDS: usize = 4;

/// Two bits for each of 256 neighbouring numbers.
#[derive(Debug, Default)]
struct Chunk {
    active: [AtomicU64; WORDS],
    touched: [AtomicU64; WORDS],
}

/// Two bits a series, by its number. Chunks without active series take no memory but a pointer, however many series the
/// metric has had.
#[derive(Debug, Default)]
pub(super) struct Activity {
    chunks: Vec<Option<Box<Chunk>>>,
    /// Chunks that are there.
    present: usize,
}

/// Memory of a chunk with its allocation.
const CHUNK_BYTES: usize = size_of::<Chunk>() + 16;

/// Chunk, word and bit of a number.
fn place(number: u32) -> (usize, usize, u64) {
    let number = number as usize;
    (number / 64 / WORDS, number / 64 % WORDS, 1 << (number % 64))
}

impl Activity {
    /// Makes a series active, and in use.
    pub(super) fn activate(&mut self, number: u32) {
        let (chunk, word, bit) = place(number);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
        }
        self.present += usize::from(self.chunks[chunk].is_none());
        let chunk = self.chunks[chunk].get_or_insert_default();
        *chunk.active[word].get_mut() |= bit;
        *chunk.touched[word].get_mut() |= bit;
    }

    /// Makes a series inactive.
    pub(super) fn deactivate(&mut self, number: u32) {
        let (chunk, word, bit) = place(number);
        if let Some(Some(chunk)) = self.chunks.get_mut(chunk) {
            *chunk.active[word].get_mut() &= !bit;
            *chunk.touched[word].get_mut() &= !bit;
        }
    }

    /// Marks a series as in use if it is active; whether it is.
    pub(super) fn touch(&self, number: u32) -> bool {
        let (chunk, word, bit) = place(number);
        let Some(Some(chunk)) = self.chunks.get(chunk) else { return false };
        if chunk.active[word].load(Ordering::Relaxed) & bit == 0 {
            return false;
        }
        // A plain load first: the bit is nearly always set, and a shared cache line stays shared.
        if chunk.touched[word].load(Ordering::Relaxed) & bit == 0 {
            chunk.touched[word].fetch_or(bit, Ordering::Relaxed);
        }
        true
    }

    /// Whether it is in use.
    pub(super) fn is_touched(&self, number: u32) -> bool {
        let (chunk, word, bit) = place(number);
        matches!(self.chunks.get(chunk), Some(Some(chunk)) if chunk.touched[word].load(Ordering::Relaxed) & bit != 0)
    }

    /// Memory it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * size_of::<Option<Box<Chunk>>>() + self.present * CHUNK_BYTES
    }

    /// Ends a round: what was not in use is no longer active, and nothing is in use.
    pub(super) fn rest(&mut self) {
        for slot in &mut self.chunks {
            let Some(chunk) = slot else { continue };
            let mut any = false;
            for (active, touched) in chunk.active.iter_mut().zip(&mut chunk.touched) {
                *active.get_mut() &= *touched.get_mut();
                *touched.get_mut() = 0;
                any |= *active.get_mut() != 0;
            }
            if !any {
                self.present -= 1;
                *slot = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_touched_since_the_last_round_stays_active() {
        let mut activity = Activity::default();
        for number in [0, 63, 64, 255, 256, 70_000] {
            assert!(!activity.touch(number));
            activity.activate(number);
        }
        activity.rest();
        for number in [63, 256] {
            assert!(!activity.is_touched(number) && activity.touch(number) && activity.is_touched(number));
        }
        activity.rest();
        let active: Vec<u32> = (0..80_000).filter(|&number| activity.touch(number)).collect();
        assert_eq!(active, [63, 256]);
        activity.rest();
        activity.rest();
        assert!(activity.chunks.iter().all(Option::is_none) && activity.present == 0, "memory goes with the series");
    }
}
