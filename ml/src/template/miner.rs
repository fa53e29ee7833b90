//! Skeletons seen so far, and which of them are one template.
//!
//! A line belongs to the cluster of its skeleton. Two things are learnt beyond that:
//! 1. A slot is **open** (`<*>`) once two lines had different texts in it.
//! 2. Where skeletons differ in a few words only, these words are values: **holes** (`holes.rs`). The skeleton with the
//!    holes becomes a cluster, and those with the words point to it.
//!
//! Both only ever go one way, so states merge: the result of a merge is that of learning both streams.
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::cluster::Cluster;
use super::hash;
use super::holes::{self, Shape};
use super::line::{Line, Token, sum};
use super::{Template, TemplateId};

/// Limits of a [`Miner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinerOptions {
    /// Skeletons that are kept. Lines with others still get their template, which is then not learnt from.
    pub clusters_max: usize,
    /// Bytes of their texts and tokens.
    pub bytes_max: usize,
}

impl Default for MinerOptions {
    fn default() -> Self {
        Self { clusters_max: 16_384, bytes_max: 16 << 20 }
    }
}

/// Hashes are keys already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keep(u64);

impl Hasher for Keep {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash::bytes(bytes);
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

pub(super) type ByHash<T> = HashMap<u64, T, BuildHasherDefault<Keep>>;

/// A streaming miner of log templates: see the module's description.
#[derive(Clone, Debug)]
pub struct Miner {
    options: MinerOptions,
    pub(super) clusters: Vec<Cluster>,
    pub(super) by_id: ByHash<u32>,
    /// By the id that a skeleton would have with a slot in place of one word, or of a text of an error: the clusters that have
    /// something else there, as many as it takes to make it a hole.
    pub(super) places: ByHash<Vec<u32>>,
    /// By the hash of a skeleton without the words that may become holes.
    pub(super) shapes: ByHash<Shape>,
    bytes: usize,
    refused: u64,
    line: Line,
}

impl Default for Miner {
    fn default() -> Self {
        Self::new(MinerOptions::default())
    }
}

impl Miner {
    /// An empty miner.
    pub fn new(options: MinerOptions) -> Self {
        Self {
            options,
            clusters: Vec::new(),
            by_id: ByHash::default(),
            places: ByHash::default(),
            shapes: ByHash::default(),
            bytes: 0,
            refused: 0,
            line: Line::default(),
        }
    }

    /// Learns one line and returns its template as far as is known. Cost: one pass over the line and one look-up, unless
    /// its skeleton is new.
    pub fn learn(&mut self, line: &str) -> TemplateId {
        let mut scratch = std::mem::take(&mut self.line);
        scratch.read(line);
        let id = self.absorb(&mut scratch.text, &mut scratch.tokens, 1);
        self.line = scratch;
        id
    }

    /// The template of a line, without learning from it.
    pub fn find(&mut self, line: &str) -> TemplateId {
        let mut scratch = std::mem::take(&mut self.line);
        scratch.read(line);
        let found = self.fold(&mut scratch.text, &mut scratch.tokens);
        let id = self.by_id.get(&found).map_or(found, |&at| self.clusters[self.end_of(at) as usize].id);
        self.line = scratch;
        TemplateId(id)
    }

    /// The template that `id` has become, if it belongs to another by now.
    pub fn resolve(&self, id: TemplateId) -> TemplateId {
        self.by_id.get(&id.0).map_or(id, |&at| TemplateId(self.clusters[self.end_of(at) as usize].id))
    }

    /// Text of a template, `<*>` where a value stands. `None` for an id that is not kept here.
    pub fn text(&self, id: TemplateId) -> Option<String> {
        let &at = self.by_id.get(&id.0)?;
        Some(self.clusters[self.end_of(at) as usize].shown())
    }

    /// Learns a line, and tells its template with its text, also when it cannot be kept.
    pub fn template(&mut self, line: &str) -> (TemplateId, String) {
        let id = self.learn(line);
        match self.text(id) {
            Some(text) => (id, text),
            None => (id, String::from_utf8_lossy(&self.line.text).into_owned()),
        }
    }

    /// The text of a line's template as far as is known, without learning from it.
    pub fn show(&mut self, line: &str) -> String {
        let id = self.find(line);
        self.text(id).unwrap_or_else(|| String::from_utf8_lossy(&self.line.text).into_owned())
    }

    /// Every template, the most frequent first, then by id.
    pub fn templates(&self) -> Vec<Template> {
        let mut counts = vec![0u64; self.clusters.len()];
        for (at, cluster) in self.clusters.iter().enumerate() {
            let end = self.end_of(at as u32) as usize;
            counts[end] = counts[end].saturating_add(cluster.count);
        }
        let mut all: Vec<Template> = self
            .clusters
            .iter()
            .zip(counts)
            .filter(|(cluster, _)| cluster.target.is_none())
            .map(|(cluster, count)| Template { id: TemplateId(cluster.id), text: cluster.shown(), count })
            .collect();
        all.sort_unstable_by(|a, b| b.count.cmp(&a.count).then(a.id.cmp(&b.id)));
        all
    }

    /// Learns what `other` has learnt. Which of the two learns from the other makes no difference to ids and texts.
    pub fn merge(&mut self, other: &Self) {
        // Holes first: what they fold is then folded here as it was there.
        let (holes, rest): (Vec<&Cluster>, Vec<&Cluster>) = other.clusters.iter().partition(|c| c.holes() > 0);
        let mut line = Line::default();
        for cluster in holes.into_iter().chain(rest) {
            line.text.clear();
            line.tokens.clear();
            line.text.extend_from_slice(&cluster.text);
            line.tokens.extend_from_slice(&cluster.tokens);
            self.keep(&line.text, &line.tokens, cluster.count);
        }
        self.refused = self.refused.saturating_add(other.refused);
    }

    /// Skeletons kept.
    pub fn clusters(&self) -> usize {
        self.clusters.len()
    }

    /// Bytes of what is kept, as [`MinerOptions::bytes_max`] counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines whose skeleton could not be kept.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn options(&self) -> MinerOptions {
        self.options
    }

    pub(super) fn set_refused(&mut self, refused: u64) {
        self.refused = refused;
    }

    /// Counts a line where it belongs, and keeps its skeleton if it is new.
    fn absorb(&mut self, text: &mut Vec<u8>, tokens: &mut Vec<Token>, count: u64) -> TemplateId {
        let id = self.fold(text, tokens);
        let at = match self.by_id.get(&id) {
            Some(&at) => {
                let cluster = &mut self.clusters[at as usize];
                cluster.count = cluster.count.saturating_add(count);
                if cluster.unsettled > 0 {
                    cluster.observe(text, tokens);
                }
                Some(at)
            }
            None => self.keep(text, tokens, count),
        };
        at.map_or(TemplateId(id), |at| TemplateId(self.clusters[self.end_of(at) as usize].id))
    }

    /// Keeps a skeleton as it is, and lets it make holes. `None` when there is no room.
    pub(super) fn keep(&mut self, text: &[u8], tokens: &[Token], count: u64) -> Option<u32> {
        let id = hash::finish(sum(tokens), tokens.len());
        let at = match self.by_id.get(&id) {
            Some(&at) => {
                let cluster = &mut self.clusters[at as usize];
                cluster.count = cluster.count.saturating_add(count);
                cluster.observe(text, tokens);
                if !cluster.take_holes(tokens) {
                    return Some(at);
                }
                at
            }
            None => match self.add(id, text, tokens, count) {
                Some(at) => at,
                None => {
                    self.refused = self.refused.saturating_add(count);
                    return None;
                }
            },
        };
        self.settle(at);
        Some(at)
    }

    /// Keeps a skeleton of a saved state, which is complete: nothing follows from it before [`Miner::settle_all`].
    pub(super) fn restore(&mut self, text: &[u8], tokens: &[Token], count: u64) -> Option<u32> {
        let id = hash::finish(sum(tokens), tokens.len());
        match self.by_id.get(&id) {
            Some(&at) => Some(at),
            None => self.add(id, text, tokens, count),
        }
    }

    /// Finds anew which cluster belongs to which.
    pub(super) fn settle_all(&mut self) {
        for at in 0..self.clusters.len() as u32 {
            self.settle(at);
        }
    }

    pub(super) fn add(&mut self, id: u64, text: &[u8], tokens: &[Token], count: u64) -> Option<u32> {
        let entries = holes::entries(text, tokens);
        let bytes = text.len() + size_of_val(tokens) + size_of::<Cluster>() + (entries + 1) * 64;
        if self.clusters.len() >= self.options.clusters_max || self.bytes + bytes > self.options.bytes_max {
            return None;
        }
        let at = self.clusters.len() as u32;
        self.clusters.push(Cluster::new(id, text, tokens, count));
        self.by_id.insert(id, at);
        self.bytes += bytes;
        Some(at)
    }

    /// Where the targets of a cluster end. Every step has a word less, so it ends.
    pub(super) fn end_of(&self, mut at: u32) -> u32 {
        while let Some(next) = self.clusters[at as usize].target {
            at = next;
        }
        at
    }
}
