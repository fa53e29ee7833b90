//! Skeletons seen so far, and which of them are one template.
//!
//! A line belongs to the cluster of its skeleton. Two things are learnt beyond that:
//! 1. A slot is **open** (`<*>`) once two lines had different texts in it.
//! 2. Where [`WORDS_MIN`] skeletons differ in one word only, that word is a value: a **hole**. The skeleton with the hole
//!    becomes a cluster, and those with the words point to it.
//!
//! Both only ever go one way, so states merge: the result of a merge is that of learning both streams.
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::hash::{self, term};
use super::line::{Kind, Line, SLOT_HASH, Token, VALUE, is_wide, sum, token_text};
use super::{Template, TemplateId};

/// Different words in one place, with the same text around them, that make the place a hole.
pub const WORDS_MIN: usize = 5;
/// Words of a skeleton that may become holes.
const PLACES_MAX: usize = 24;

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

type ByHash<T> = HashMap<u64, T, BuildHasherDefault<Keep>>;

/// Lines with one skeleton.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) id: u64,
    /// Lines that had this skeleton, or were folded into it by its holes.
    pub(super) count: u64,
    pub(super) text: Box<[u8]>,
    pub(super) tokens: Box<[Token]>,
    /// Slots that are not open, and marks with more blanks than another line may have there: what a line can still change.
    unsettled: u32,
    /// The cluster with a hole that this one belongs to.
    target: Option<u32>,
}

/// A streaming miner of log templates: see the module's description.
#[derive(Clone, Debug)]
pub struct Miner {
    options: MinerOptions,
    pub(super) clusters: Vec<Cluster>,
    by_id: ByHash<u32>,
    /// By the id that a skeleton would have with a slot in one word's place: the clusters that have a word there.
    places: ByHash<Vec<u32>>,
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
    fn absorb(&mut self, text: &mut Vec<u8>, tokens: &mut [Token], count: u64) -> TemplateId {
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

    /// Puts a slot in the place of every word where a hole is known. Returns the id of the outcome.
    fn fold(&self, text: &mut Vec<u8>, tokens: &mut [Token]) -> u64 {
        let mut whole = sum(tokens);
        let known_hole = |whole: u64, tokens: &[Token]| {
            places(tokens).find(|&place| {
                let id = with_hole(whole, tokens, place);
                self.by_id.get(&id).is_some_and(|&at| self.clusters[at as usize].tokens[place].kind == Kind::Hole)
            })
        };
        while !self.by_id.contains_key(&hash::finish(whole, tokens.len()))
            && let Some(place) = known_hole(whole, tokens)
        {
            whole = whole.wrapping_sub(term(place, tokens[place].hash)).wrapping_add(term(place, SLOT_HASH));
            replace(text, tokens, place, VALUE);
            (tokens[place].kind, tokens[place].hash) = (Kind::Slot, SLOT_HASH);
        }
        hash::finish(whole, tokens.len())
    }

    /// Keeps a skeleton as it is, and lets it make holes. `None` when there is no room.
    pub(super) fn keep(&mut self, text: &[u8], tokens: &[Token], count: u64) -> Option<u32> {
        let id = hash::finish(sum(tokens), tokens.len());
        let at = match self.by_id.get(&id) {
            Some(&at) => {
                let cluster = &mut self.clusters[at as usize];
                cluster.count = cluster.count.saturating_add(count);
                cluster.observe(text, tokens);
                let had = cluster.holes();
                cluster.take_holes(tokens);
                if cluster.holes() == had {
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

    fn add(&mut self, id: u64, text: &[u8], tokens: &[Token], count: u64) -> Option<u32> {
        let places = places(tokens).count();
        let bytes = text.len() + size_of_val(tokens) + size_of::<Cluster>() + (places + 1) * 64;
        if self.clusters.len() >= self.options.clusters_max || self.bytes + bytes > self.options.bytes_max {
            return None;
        }
        let at = self.clusters.len() as u32;
        let mut cluster = Cluster { id, count, text: text.into(), tokens: tokens.into(), unsettled: 0, target: None };
        cluster.count_unsettled();
        self.clusters.push(cluster);
        self.by_id.insert(id, at);
        self.bytes += bytes;
        Some(at)
    }

    /// Registers a cluster where it has words, and makes the holes that follow from it, and from those.
    fn settle(&mut self, at: u32) {
        let mut waiting = vec![at];
        while let Some(at) = waiting.pop() {
            let tokens = self.clusters[at as usize].tokens.clone();
            let (whole, own) = (sum(&tokens), self.clusters[at as usize].id);
            if self.clusters[at as usize].holes() > 0 {
                for member in self.places.get(&own).cloned().unwrap_or_default() {
                    self.aim(member);
                }
            }
            for place in places(&tokens) {
                let id = with_hole(whole, &tokens, place);
                let members = self.places.entry(id).or_default();
                if !members.contains(&at) && members.len() < WORDS_MIN {
                    members.push(at);
                }
                if members.len() < WORDS_MIN {
                    continue;
                }
                if let Some(hole) = self.make_hole(id, at, place) {
                    waiting.push(hole);
                }
            }
            self.aim(at);
        }
    }

    /// Makes the cluster with a hole at `place` of cluster `like`. Returns it if it is new or has only now become one.
    fn make_hole(&mut self, id: u64, like: u32, place: usize) -> Option<u32> {
        if let Some(&at) = self.by_id.get(&id) {
            let token = &mut self.clusters[at as usize].tokens[place];
            if token.kind == Kind::Hole {
                return None;
            }
            token.kind = Kind::Hole;
            self.clusters[at as usize].count_unsettled();
            return Some(at);
        }
        let mut text = self.clusters[like as usize].text.to_vec();
        let mut tokens = self.clusters[like as usize].tokens.to_vec();
        replace(&mut text, &mut tokens, place, VALUE);
        (tokens[place].kind, tokens[place].hash) = (Kind::Hole, SLOT_HASH);
        let at = self.add(id, &text, &tokens, 0)?;
        for member in self.places.get(&id).cloned().unwrap_or_default() {
            let (text, tokens) =
                (self.clusters[member as usize].text.clone(), self.clusters[member as usize].tokens.clone());
            self.clusters[at as usize].observe(&text, &tokens);
        }
        Some(at)
    }

    /// Points a cluster at the one with the first hole that it fits.
    fn aim(&mut self, at: u32) {
        let cluster = &self.clusters[at as usize];
        let whole = sum(&cluster.tokens);
        let target = places(&cluster.tokens).find_map(|place| {
            let &hole = self.by_id.get(&with_hole(whole, &cluster.tokens, place))?;
            (self.clusters[hole as usize].tokens[place].kind == Kind::Hole).then_some(hole)
        });
        let Some(target) = target else { return };
        let (text, tokens) = (cluster.text.clone(), cluster.tokens.clone());
        self.clusters[at as usize].target = Some(target);
        self.clusters[target as usize].observe(&text, &tokens);
    }

    /// Where the targets of a cluster end. Every step has a word less, so it ends.
    fn end_of(&self, mut at: u32) -> u32 {
        while let Some(next) = self.clusters[at as usize].target {
            at = next;
        }
        at
    }
}

impl Cluster {
    /// Opens the slots that have another text in a line of this skeleton (or of one with words where this has holes).
    fn observe(&mut self, text: &[u8], tokens: &[Token]) {
        for place in 0..self.tokens.len() {
            let (mine, theirs) = (token_text(&self.text, &self.tokens, place), token_text(text, tokens, place));
            match self.tokens[place].kind {
                Kind::Slot if mine != VALUE && mine != theirs => self.rewrite(place, VALUE),
                Kind::Mark if theirs.len() < mine.len() => self.rewrite(place, theirs),
                _ => {}
            }
        }
        self.count_unsettled();
    }

    fn rewrite(&mut self, place: usize, by: &[u8]) {
        let mut text = std::mem::take(&mut self.text).into_vec();
        replace(&mut text, &mut self.tokens, place, by);
        self.text = text.into();
    }

    fn take_holes(&mut self, tokens: &[Token]) {
        for (mine, theirs) in self.tokens.iter_mut().zip(tokens) {
            if theirs.kind == Kind::Hole {
                mine.kind = Kind::Hole;
            }
        }
        self.count_unsettled();
    }

    /// Holes are always open.
    fn count_unsettled(&mut self) {
        self.unsettled = 0;
        for place in 0..self.tokens.len() {
            let text = token_text(&self.text, &self.tokens, place);
            match self.tokens[place].kind {
                Kind::Hole if text != VALUE => self.rewrite(place, VALUE),
                Kind::Slot if text != VALUE => self.unsettled += 1,
                Kind::Mark if is_wide(text) => self.unsettled += 1,
                _ => {}
            }
        }
    }

    fn holes(&self) -> usize {
        self.tokens.iter().filter(|token| token.kind == Kind::Hole).count()
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Words that may become holes: none at the start, where it says what the line is about.
fn places(tokens: &[Token]) -> impl Iterator<Item = usize> {
    let words = |token: &Token| token.kind == Kind::Word;
    let enough = tokens.iter().filter(|t| words(t)).take(3).count() == 3;
    tokens.iter().enumerate().skip(1).filter(move |(_, t)| enough && words(t)).map(|(place, _)| place).take(PLACES_MAX)
}

/// The id of a skeleton with a slot at `place`.
fn with_hole(whole: u64, tokens: &[Token], place: usize) -> u64 {
    let sum = whole.wrapping_sub(term(place, tokens[place].hash)).wrapping_add(term(place, SLOT_HASH));
    hash::finish(sum, tokens.len())
}

/// Gives token `place` another text.
fn replace(text: &mut Vec<u8>, tokens: &mut [Token], place: usize, by: &[u8]) {
    let end = tokens[place].end as usize;
    let begin = place.checked_sub(1).map_or(0, |before| tokens[before].end as usize);
    text.splice(begin..end, by.iter().copied());
    for token in &mut tokens[place..] {
        token.end = (token.end as usize + by.len() + begin - end) as u32;
    }
}
