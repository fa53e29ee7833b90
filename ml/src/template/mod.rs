//! Log templates: what a line says once its values are taken out, streaming, in bounded memory.
//!
//! ```text
//! Invalid user admin from 10.0.0.7   ┐
//! Invalid user guest from 10.0.0.31  ┴─► Invalid user <*> from <*>    id c2…, 2 lines
//! ```
//! Words used here: a **token** is a word, a mark (white space, punctuation) or a slot; a **skeleton** is a line's words
//! and marks with the places of its slots; a **cluster** holds the lines of one skeleton; a **hole** is a slot that took
//! the place of a word because many words stood there. A **template** is a cluster that belongs to no other.
//!
//! Drain (He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree", 2017) walks a tree of first tokens and
//! compares a line with every cluster in a leaf, masking by regular expressions first. Here one scanner (`line.rs`) masks
//! and decides, by looks and surroundings, which tokens may be values; what is left is a key into a hash table, and only a
//! skeleton that was never seen is compared with others, by hashes with one place left out (`miner.rs`). The same rules and
//! the same numbers for every source of logs.
//!
//! Invariants:
//! 1. An id depends on the skeleton alone, not on order, process or what else was learnt; another line of the same skeleton
//!    never changes it. A hole gives its lines the id of the skeleton with the hole, and [`Miner::resolve`] follows.
//! 2. Slots only open, holes only appear: learning goes one way, and states merge.
//! 3. Memory is bounded by [`MinerOptions`], and a line's cost by [`LINE_BYTES_MAX`] and [`TOKENS_MAX`].
//! 4. The same lines in the same order give the same bytes of state.
//!
//! What depends on order: when words vary in two places of a line at once, which of the two places first has
//! [`WORDS_MIN`] words with the same text around them. Streams whose lines vary in one word give the same templates in any
//! order and however they are split.
mod class;
mod hash;
mod line;
mod miner;
mod saved;
#[cfg(test)]
mod tests;

use std::fmt;

pub use line::{LINE_BYTES_MAX, TOKENS_MAX};
pub use miner::{Miner, MinerOptions, WORDS_MIN};

/// Id of a template: a hash of its skeleton, the same in every process. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(pub u64);

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A template and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its id.
    pub id: TemplateId,
    /// Its text, `<*>` where a value stands.
    pub text: String,
    /// Lines.
    pub count: u64,
}
