//! Decoded pages of timelines: those of one scan, and those that all scans of the process share.
//!
//! A page holds the timestamps of many series: next to the values they are few, and a small query would take as long for the
//! timestamps as for the values.
use std::sync::{Arc, LazyLock};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::codec::{SequencesDecoder, Timelines, Unpacker};
use crate::error::Result;
use crate::format::Reader;

use super::Segment;

/// Timestamps that a scan keeps: 16 MiB.
const ROWS_MAX: usize = 2 << 20;
/// Timestamps that are kept for all scans: 8 MiB.
const SHARED_ROWS_MAX: usize = 1 << 20;
/// What a page costs besides its timestamps, as if it were timestamps.
const PAGE_ROWS: usize = 64;

/// Number of the segment, and of the page in it.
type Key = (u64, u32);

/// Pages are kept while there is room. Scans go over the same pages again for each metric, so that giving up the oldest would give
/// up each just before it is needed: a random one goes.
#[derive(Default)]
struct Pages {
    pages: HashMap<Key, Arc<Timelines>>,
    keys: Vec<Key>,
    rows: usize,
    random: u32,
}

/// What scans share. Segments that are gone leave their pages to be given up.
static SHARED: LazyLock<Mutex<Pages>> = LazyLock::new(Mutex::default);

/// The pages of one scan.
#[derive(Default)]
pub(super) struct PageCache {
    own: Pages,
    /// Whether it takes pages from others and leaves them its own. A check does not, which reads what is in the file, and no merge.
    shares: bool,
}

impl PageCache {
    /// One that shares.
    pub(super) fn sharing() -> Self {
        Self { shares: true, ..Self::default() }
    }

    /// Page `index` of `segment`, checksum compared.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(super) fn get(
        &mut self,
        unpacker: &mut Unpacker,
        sequences: &mut SequencesDecoder,
        segment: &Segment,
        index: usize,
    ) -> Result<Arc<Timelines>> {
        let key = (segment.number(), index as u32);
        if let Some(page) = self.own.pages.get(&key) {
            return Ok(Arc::clone(page));
        }
        let known = if self.shares { SHARED.lock().pages.get(&key).cloned() } else { None };
        let page = match known {
            Some(page) => page,
            None => {
                let page = Arc::new(decode(unpacker, sequences, segment, index)?);
                if self.shares {
                    SHARED.lock().insert(key, &page, SHARED_ROWS_MAX);
                }
                page
            }
        };
        self.own.insert(key, &page, ROWS_MAX);
        Ok(page)
    }

    /// Memory of the pages.
    pub(super) fn bytes(&self) -> usize {
        self.own.rows * size_of::<i64>()
    }
}

fn decode(
    unpacker: &mut Unpacker,
    sequences: &mut SequencesDecoder,
    segment: &Segment,
    index: usize,
) -> Result<Timelines> {
    let bytes = segment.page_bytes(index)?;
    let entry = &segment.pages()[index];
    let mut input = Reader::new(bytes, segment.path(), entry.offset);
    let page = Timelines::decode(unpacker, sequences, &mut input, entry.timelines as usize)?;
    input.finish()?;
    Ok(page)
}

/// Whether what all scans share has room for much more.
pub(super) fn has_room() -> bool {
    SHARED.lock().rows < SHARED_ROWS_MAX / 4 * 3
}

impl Pages {
    fn insert(&mut self, key: Key, page: &Arc<Timelines>, rows_max: usize) {
        if self.pages.insert(key, Arc::clone(page)).is_some() {
            return;
        }
        self.rows += page.rows() + PAGE_ROWS;
        self.keys.push(key);
        while self.rows > rows_max && self.keys.len() > 1 {
            self.evict();
        }
    }

    fn evict(&mut self) {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let victim = self.keys.swap_remove((self.random >> 16) as usize % self.keys.len());
        self.rows -= self.pages.remove(&victim).map_or(0, |page| page.rows() + PAGE_ROWS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Effort, Packer, TimelinesEncoder};

    #[test]
    fn pages_stay_while_there_is_room() {
        let (mut encoder, mut bytes) = (TimelinesEncoder::default(), Vec::new());
        encoder.push(&(0..8000).collect::<Vec<i64>>());
        encoder.finish(&mut Packer::new(Effort::Quick).unwrap(), &mut bytes);
        let mut scratch = (Unpacker::default(), SequencesDecoder::default());
        let mut input = Reader::new(&bytes, std::path::Path::new("page"), 0);
        let page = Arc::new(Timelines::decode(&mut scratch.0, &mut scratch.1, &mut input, 1).unwrap());
        let mut pages = Pages::default();
        for n in 0..1000 {
            pages.insert((n, 0), &page, 100_000);
            pages.insert((n, 0), &page, 100_000);
            assert_eq!(pages.keys.len(), (n as usize + 1).min(100_000 / (8000 + PAGE_ROWS)));
            assert_eq!((pages.rows, pages.pages.len()), (pages.keys.len() * (8000 + PAGE_ROWS), pages.keys.len()));
        }
    }
}
