//! Decoded pages of timelines, for one scan.
use std::sync::Arc;

use hashbrown::HashMap;

use crate::codec::{SequencesDecoder, Timelines, Unpacker};
use crate::error::Result;
use crate::format::Reader;

use super::Segment;

/// Timestamps that are kept: 16 MiB.
const ROWS_MAX: usize = 2 << 20;
/// What a page costs besides its timestamps, as if it were timestamps.
const PAGE_ROWS: usize = 64;

/// A page is decoded when a series first needs it, and kept while there is room. Scans go over the same pages again for
/// each metric, so that giving up the oldest would give up each just before it is needed: a random one goes.
#[derive(Default)]
pub(super) struct PageCache {
    pages: HashMap<(u64, u32), Arc<Timelines>>,
    keys: Vec<(u64, u32)>,
    rows: usize,
    random: u32,
    sequences: SequencesDecoder,
}

impl PageCache {
    /// Page `index` of `segment`, checksum compared.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(super) fn get(&mut self, unpacker: &mut Unpacker, segment: &Segment, index: usize) -> Result<Arc<Timelines>> {
        let key = (segment.number(), index as u32);
        if let Some(page) = self.pages.get(&key) {
            return Ok(Arc::clone(page));
        }
        let bytes = segment.page_bytes(index)?;
        let entry = &segment.pages()[index];
        let mut input = Reader::new(bytes, segment.path(), entry.offset);
        let page = Timelines::decode(unpacker, &mut self.sequences, &mut input, entry.timelines as usize)?;
        input.finish()?;
        let page = Arc::new(page);
        self.rows += page.rows() + PAGE_ROWS;
        self.pages.insert(key, Arc::clone(&page));
        self.keys.push(key);
        while self.rows > ROWS_MAX && self.keys.len() > 1 {
            self.evict();
        }
        Ok(page)
    }

    /// Memory of the pages.
    pub(super) fn bytes(&self) -> usize {
        self.rows * size_of::<i64>()
    }

    fn evict(&mut self) {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let victim = self.keys.swap_remove((self.random >> 16) as usize % self.keys.len());
        self.rows -= self.pages.remove(&victim).map_or(0, |page| page.rows() + PAGE_ROWS);
    }
}
