//! Words that are values, found by comparing skeletons.
//!
//! | what skeletons differ in | it is a hole once |
//! |---|---|
//! | one word | [`WORDS_MIN`] words stood there ([`SHORT_WORDS_MIN`] where it has but one other word) |
//! | one word, and a value stood there, too | at once |
//! | two or three words ([`Shape`]) | [`GRID_MIN`] skeletons have three words or more in each of the places, in all mixtures |
//! | all that follows `failed: ` and its like | [`WORDS_MIN`] texts stood there |
//!
//! Nothing here runs for a line whose skeleton is known.
use super::cluster::replace;
use super::hash::{self, term};
use super::line::{Kind, SLOT_HASH, Token, VALUE, sum, token_text};
use super::miner::Miner;

/// Different words in one place, with the same text around them, that make the place a hole.
pub const WORDS_MIN: usize = 5;
/// The same for skeletons of two words, which say less.
const SHORT_WORDS_MIN: usize = 12;
/// Words of a skeleton that may become holes.
const PLACES_MAX: usize = 24;
/// Words that a skeleton has if its first may become a hole, too: then there is enough else that says what it is about.
const FIRST_WORDS_MIN: usize = 5;
/// Skeletons that differ in the same two or three words, and words in each of these places, that make them holes.
const GRID_MIN: usize = 6;
const GRID_WORDS_MIN: usize = 3;
/// Skeletons of a shape that are compared.
const SHAPE_MAX: usize = 64;
/// Words before a text of an error.
const TAIL_WORDS_MIN: usize = 3;

/// Skeletons that differ in words only, and the sets of places that are holes together there.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    members: Vec<u32>,
    grids: Vec<Grid>,
}

/// Places, one bit each of those that [`variable`] lists.
type Grid = u32;

/// What of a skeleton a cluster has a hole for.
#[derive(Clone, Copy, Debug)]
enum Fit {
    Place(usize),
    Grid(Grid),
    /// All from this token on.
    Tail(usize),
}

impl Miner {
    /// Puts a slot wherever a hole is known, unless the skeleton itself is known. Returns the id of the outcome.
    pub(super) fn fold(&self, text: &mut Vec<u8>, tokens: &mut Vec<Token>) -> u64 {
        loop {
            let id = hash::finish(sum(tokens), tokens.len());
            if self.by_id.contains_key(&id) {
                return id;
            }
            let Some((fit, _)) = self.fitting(text, tokens) else { return id };
            match fit {
                Fit::Place(place) => put_slot(text, tokens, place, Kind::Slot),
                Fit::Grid(grid) => {
                    for place in places_of(grid, tokens).collect::<Vec<_>>() {
                        put_slot(text, tokens, place, Kind::Slot);
                    }
                }
                Fit::Tail(from) => cut_tail(text, tokens, from, Kind::Slot),
            }
        }
    }

    /// The first cluster with holes that this skeleton fits.
    fn fitting(&self, text: &[u8], tokens: &[Token]) -> Option<(Fit, u32)> {
        let whole = sum(tokens);
        let hole = |id: u64, place: usize| {
            let &at = self.by_id.get(&id)?;
            (self.clusters[at as usize].tokens[place].kind == Kind::Hole).then_some(at)
        };
        let single = places(tokens)
            .find_map(|place| Some((Fit::Place(place), hole(with_slots(whole, tokens, [place].into_iter()), place)?)));
        let grid = || {
            let grids = &self.shapes.get(&shape(tokens))?.grids;
            grids.iter().find_map(|&grid| {
                let &at = self.by_id.get(&with_slots(whole, tokens, places_of(grid, tokens)))?;
                let all = places_of(grid, tokens).any(|p| tokens[p].kind == Kind::Word)
                    && places_of(grid, tokens).all(|p| self.clusters[at as usize].tokens[p].kind == Kind::Hole);
                all.then_some((Fit::Grid(grid), at))
            })
        };
        let tail = || tails(text, tokens).find_map(|(from, id)| Some((Fit::Tail(from), hole(id, from)?)));
        single.or_else(grid).or_else(tail)
    }

    /// Registers a cluster where it has words, and makes the holes that follow from it, and from those.
    pub(super) fn settle(&mut self, at: u32) {
        let mut waiting = vec![at];
        while let Some(at) = waiting.pop() {
            self.meet_words(at);
            let tokens = self.clusters[at as usize].tokens.clone();
            let whole = sum(&tokens);
            if tokens.iter().any(|token| token.kind == Kind::Hole) {
                self.gather(at);
            }
            for place in places(&tokens) {
                let id = with_slots(whole, &tokens, [place].into_iter());
                let least = words_min(&tokens);
                let value_there = least == WORDS_MIN && self.by_id.contains_key(&id);
                if (self.register(id, at, least) || value_there)
                    && let Some(hole) = self.make_hole(id, at, Fit::Place(place))
                {
                    waiting.push(hole);
                }
            }
            let cluster = &self.clusters[at as usize];
            let tails: Vec<_> = tails(&cluster.text, &cluster.tokens).collect();
            for (from, id) in tails {
                if self.register(id, at, WORDS_MIN)
                    && let Some(hole) = self.make_hole(id, at, Fit::Tail(from))
                {
                    waiting.push(hole);
                }
            }
            self.aim(at);
            if self.clusters[at as usize].target.is_none()
                && let Some(hole) = self.join_shape(at)
            {
                waiting.push(hole);
            }
        }
    }

    /// Adds a cluster to those that would be one with a slot somewhere. Returns whether there are enough of them.
    fn register(&mut self, id: u64, at: u32, enough: usize) -> bool {
        let members = self.places.entry(id).or_default();
        if !members.contains(&at) && members.len() < enough {
            members.push(at);
        }
        members.len() >= enough
    }

    /// A cluster with a slot where others are known to have a word: a hole, as words are values there.
    fn meet_words(&mut self, at: u32) {
        let Some(members) = self.places.get(&self.clusters[at as usize].id) else { return };
        let tokens = &self.clusters[at as usize].tokens;
        let words: Vec<usize> = members
            .iter()
            .map(|&member| &self.clusters[member as usize].tokens)
            .filter(|theirs| theirs.len() == tokens.len() && words_min(theirs) == WORDS_MIN)
            .filter_map(|theirs| {
                (0..tokens.len()).find(|&p| theirs[p].kind == Kind::Word && tokens[p].kind != Kind::Word)
            })
            .collect();
        for place in words {
            self.clusters[at as usize].open_hole(place);
        }
    }

    /// Points those at a cluster with holes that are registered for it.
    fn gather(&mut self, at: u32) {
        for member in self.places.get(&self.clusters[at as usize].id).cloned().unwrap_or_default() {
            self.aim(member);
        }
        let tokens = &self.clusters[at as usize].tokens;
        let grid = variable(tokens)
            .enumerate()
            .filter(|&(_, place)| tokens[place].kind == Kind::Hole)
            .fold(0, |grid: Grid, (bit, _)| grid | 1 << bit);
        if grid.count_ones() < 2 {
            return;
        }
        let shape = self.shapes.entry(shape(tokens)).or_default();
        if !shape.grids.contains(&grid) && shape.grids.len() < SHAPE_MAX {
            shape.grids.push(grid);
        }
        for member in shape.members.clone() {
            if self.clusters[member as usize].target.is_none() {
                self.aim(member);
            }
        }
    }

    /// Makes the cluster with the hole `fit` of cluster `like`. Returns it if it is new or has only now become one.
    fn make_hole(&mut self, id: u64, like: u32, fit: Fit) -> Option<u32> {
        if let Some(&at) = self.by_id.get(&id) {
            let opened = match fit {
                Fit::Place(place) | Fit::Tail(place) => self.clusters[at as usize].open_hole(place),
                Fit::Grid(grid) => {
                    let places: Vec<_> = places_of(grid, &self.clusters[like as usize].tokens).collect();
                    places.into_iter().fold(false, |any, place| self.clusters[at as usize].open_hole(place) | any)
                }
            };
            return opened.then_some(at);
        }
        let mut text = self.clusters[like as usize].text.to_vec();
        let mut tokens = self.clusters[like as usize].tokens.to_vec();
        match fit {
            Fit::Place(place) => put_slot(&mut text, &mut tokens, place, Kind::Hole),
            Fit::Grid(grid) => {
                for place in places_of(grid, &self.clusters[like as usize].tokens) {
                    put_slot(&mut text, &mut tokens, place, Kind::Hole);
                }
            }
            Fit::Tail(from) => cut_tail(&mut text, &mut tokens, from, Kind::Hole),
        }
        self.add(id, &text, &tokens, 0)
    }

    /// Points a cluster at the first one with holes that it fits.
    fn aim(&mut self, at: u32) {
        let Some((_, target)) = self.fitting(&self.clusters[at as usize].text, &self.clusters[at as usize].tokens)
        else {
            return;
        };
        let (text, tokens) = (self.clusters[at as usize].text.clone(), self.clusters[at as usize].tokens.clone());
        self.clusters[at as usize].target = Some(target);
        self.clusters[target as usize].observe(&text, &tokens);
    }

    /// Adds a cluster to those of its shape, and makes the holes that follow where words vary in several places.
    fn join_shape(&mut self, at: u32) -> Option<u32> {
        let tokens = self.clusters[at as usize].tokens.clone();
        let words: Vec<usize> = variable(&tokens).collect();
        if words.len() < GRID_WORDS_MIN {
            return None;
        }
        let members = {
            let shape = self.shapes.entry(shape(&tokens)).or_default();
            if shape.members.len() >= SHAPE_MAX || shape.members.contains(&at) {
                return None;
            }
            shape.members.push(at);
            shape.members.clone()
        };
        let alike: Vec<(Grid, u32)> = members
            .into_iter()
            .filter(|&member| self.clusters[member as usize].target.is_none())
            .map(|member| {
                let theirs = &self.clusters[member as usize].tokens;
                let differs = |&(_, &place): &(usize, &usize)| theirs[place].hash != tokens[place].hash;
                (words.iter().enumerate().filter(differs).fold(0, |grid, (bit, _)| grid | 1 << bit), member)
            })
            .collect();
        let few = |grid: Grid| (2..=3).contains(&grid.count_ones()) && 2 * grid.count_ones() as usize <= words.len();
        let mut grids: Vec<Grid> = alike.iter().map(|&(grid, _)| grid).filter(|&grid| few(grid)).collect();
        grids.sort_unstable();
        grids.dedup();
        let found = grids.into_iter().find(|&grid| {
            let members: Vec<u32> = alike.iter().filter(|(other, _)| other & !grid == 0).map(|&(_, at)| at).collect();
            members.len() >= GRID_MIN
                && places_of(grid, &tokens).all(|place| {
                    let mut seen: Vec<u64> =
                        members.iter().map(|&at| self.clusters[at as usize].tokens[place].hash).collect();
                    seen.sort_unstable();
                    seen.dedup();
                    // Words that come in fixed pairs (`from NEW to READY`, `from READY to DONE`) are what lines say.
                    seen.len() >= GRID_WORDS_MIN && members.len() * 2 >= seen.len() * 3
                })
        })?;
        let id = with_slots(sum(&tokens), &tokens, places_of(found, &tokens));
        self.make_hole(id, at, Fit::Grid(found))
    }
}

/// Entries of tables that a skeleton takes.
pub(super) fn entries(text: &[u8], tokens: &[Token]) -> usize {
    places(tokens).count() + tails(text, tokens).count() + 1
}

/// Puts a slot or hole in the place of a word.
fn put_slot(text: &mut Vec<u8>, tokens: &mut [Token], place: usize, kind: Kind) {
    replace(text, tokens, place, VALUE);
    (tokens[place].kind, tokens[place].hash) = (kind, SLOT_HASH);
}

/// Puts a slot or hole in the place of all from token `from` on.
fn cut_tail(text: &mut Vec<u8>, tokens: &mut Vec<Token>, from: usize, kind: Kind) {
    tokens.truncate(from);
    text.truncate(tokens.last().map_or(0, |token| token.end as usize));
    text.extend_from_slice(VALUE);
    tokens.push(Token { end: text.len() as u32, kind, hash: SLOT_HASH });
}

fn words_min(tokens: &[Token]) -> usize {
    let words = tokens.iter().filter(|token| token.kind == Kind::Word).take(3).count();
    if words < 3 { SHORT_WORDS_MIN } else { WORDS_MIN }
}

/// Words that may become holes, or have: none at the start of a short line, where it says what the line is about.
fn variable(tokens: &[Token]) -> impl Iterator<Item = usize> {
    let words = |token: &Token| matches!(token.kind, Kind::Word | Kind::Hole);
    let count = tokens.iter().filter(|t| words(t)).take(FIRST_WORDS_MIN).count();
    let first = usize::from(count < FIRST_WORDS_MIN);
    let enough = count >= 2;
    tokens
        .iter()
        .enumerate()
        .skip(first)
        .filter(move |(_, t)| enough && words(t))
        .map(|(place, _)| place)
        .take(PLACES_MAX)
}

/// Words that may become holes.
fn places(tokens: &[Token]) -> impl Iterator<Item = usize> {
    variable(tokens).filter(|&place| tokens[place].kind == Kind::Word)
}

fn places_of(grid: Grid, tokens: &[Token]) -> impl Iterator<Item = usize> {
    variable(tokens).enumerate().filter(move |(bit, _)| grid >> bit & 1 == 1).map(|(_, place)| place)
}

/// Hash of a skeleton without the words that may become holes.
fn shape(tokens: &[Token]) -> u64 {
    let whole = variable(tokens).fold(sum(tokens), |sum, place| sum.wrapping_sub(term(place, tokens[place].hash)));
    hash::finish(whole, tokens.len())
}

/// The id of a skeleton with slots at `places`.
fn with_slots(whole: u64, tokens: &[Token], places: impl Iterator<Item = usize>) -> u64 {
    let sum = places.fold(whole, |sum, place| {
        sum.wrapping_sub(term(place, tokens[place].hash)).wrapping_add(term(place, SLOT_HASH))
    });
    hash::finish(sum, tokens.len())
}

/// Where the text of an error may begin, and the id of the skeleton with a slot for it.
fn tails(text: &[u8], tokens: &[Token]) -> impl Iterator<Item = (usize, u64)> {
    let (mut words, mut error, mut sum) = (0, false, 0u64);
    let last = tokens.len().saturating_sub(1);
    tokens.iter().enumerate().filter_map(move |(at, token)| {
        sum = sum.wrapping_add(term(at, token.hash));
        match token.kind {
            Kind::Word => {
                words += 1;
                error = error || says_error(token_text(text, tokens, at));
                None
            }
            Kind::Mark if error && words >= TAIL_WORDS_MIN && token_text(text, tokens, at).ends_with(b": ") => {
                let value = at + 1 == last && tokens[last].kind != Kind::Word;
                let id = hash::finish(sum.wrapping_add(term(at + 1, SLOT_HASH)), at + 2);
                (at < last && !value).then_some((at + 1, id))
            }
            _ => None,
        }
    })
}

/// Whether what follows in a line may be the text of an error.
fn says_error(word: &[u8]) -> bool {
    const BEGINS: [&[u8]; 10] =
        [b"fail", b"error", b"unable", b"cannot", b"couldn", b"exception", b"reason", b"caus", b"invalid", b"reject"];
    BEGINS.iter().any(|begin| word.len() >= begin.len() && word[..begin.len()].eq_ignore_ascii_case(begin))
}
