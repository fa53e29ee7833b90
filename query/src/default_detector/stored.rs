//! What is stored of the default detector: what it watches, the states of its series in pieces, how far they have seen.
//!
//! States are stored in two places that take turns: the record that makes the new ones valid also deletes the old ones.
use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::{Lsn, Matcher, Snapshot};

use crate::codec::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::planner;
use crate::promql;
use crate::statement::Properties;

/// The name under which it holds back the log.
pub(super) const CONSUMER: &str = "default detector";
const VERSION: u8 = 1;
const DEFINITION: &[u8] = b"default-detector/definition";
const PLACE: &[u8] = b"default-detector/place";
/// Through which commit bits are stored.
pub(super) const WRITTEN: &[u8] = b"default-detector/written";
const SERIES: &[u8] = b"default-detector/series/";

/// Changes of keyed state.
pub(super) type State = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What it watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// A selector of PromQL.
    pub(super) matcher: String,
    /// When it was created, ns UTC.
    pub(super) since_ns: i64,
}

impl Definition {
    /// One that is created now.
    ///
    /// # Errors
    /// `Invalid` when `matcher` is no selector.
    pub(super) fn new(matcher: String, limits: &promql::Limits) -> Result<Self> {
        let definition = Self { matcher, since_ns: SystemClock.now_ns() };
        definition.matchers(limits)?;
        Ok(definition)
    }

    /// Its conditions.
    ///
    /// # Errors
    /// `Invalid` when it is no selector.
    pub(super) fn matchers(&self, limits: &promql::Limits) -> Result<Vec<Matcher>> {
        let parsed = planner::with_large_stack(|| promql::parse_selector(&self.matcher, limits));
        let wrong = || Error::invalid(format!("{:?} is no series selector such as {{job=\"node\"}}", self.matcher));
        let mut sets = parsed.map_err(|error| Error::invalid(format!("{}: {}", wrong().message, error.message)))?.0;
        match (sets.pop(), sets.is_empty()) {
            (Some(matchers), true) => Ok(matchers),
            _ => Err(Error::invalid(format!("{:?} has alternatives (or): write a regular expression", self.matcher))),
        }
    }

    /// By name.
    pub(super) fn properties(&self) -> Properties {
        vec![("watches", self.matcher.clone())]
    }

    /// That of a store, if it has one.
    ///
    /// # Errors
    /// `Internal` when it is damaged.
    pub(super) fn stored(snapshot: &Snapshot) -> Result<Option<Self>> {
        let Some(bytes) = snapshot.state(DEFINITION)? else { return Ok(None) };
        let mut from = Decoder::new("default detector", &bytes, VERSION)?;
        let definition = Self { matcher: from.text()?.to_owned(), since_ns: from.signed()? };
        from.end()?;
        Ok(Some(definition))
    }

    /// Stores it; it begins after `position`.
    pub(super) fn stored_at(&self, position: Lsn) -> State {
        let mut out = Encoder::new(VERSION);
        out.text(&self.matcher).signed(self.since_ns);
        let place = Place { turn: 0, position };
        vec![
            (DEFINITION.to_vec(), Some(out.finish())),
            place.kept(),
            (WRITTEN.to_vec(), Some(position.0.to_be_bytes().to_vec())),
        ]
    }
}

/// Where the valid states are, and what they have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) turn: u8,
    pub(super) position: Lsn,
}

impl Place {
    fn encode(self) -> Vec<u8> {
        let mut out = Encoder::new(VERSION);
        out.unsigned(u64::from(self.turn)).unsigned(self.position.0);
        out.finish()
    }

    /// That of a store.
    ///
    /// # Errors
    /// `Internal` when it is missing or damaged.
    pub(super) fn stored(snapshot: &Snapshot) -> Result<Self> {
        let bytes = snapshot.state(PLACE)?.ok_or_else(|| Error::internal("the default detector has no place"))?;
        let mut from = Decoder::new("place of the default detector", &bytes, VERSION)?;
        let place = Self { turn: (from.unsigned()? % 2) as u8, position: Lsn(from.unsigned()?) };
        from.end()?;
        Ok(place)
    }

    /// Keeps it.
    pub(super) fn kept(self) -> (Vec<u8>, Option<Vec<u8>>) {
        (PLACE.to_vec(), Some(self.encode()))
    }

    /// Where the next states are stored.
    pub(super) fn next(self, position: Lsn) -> Self {
        Self { turn: 1 - self.turn, position }
    }

    /// The key of a piece of the states.
    pub(super) fn piece(self, number: u32) -> Vec<u8> {
        [SERIES, &[self.turn], number.to_be_bytes().as_slice()].concat()
    }

    /// The keys of the pieces that are stored here.
    pub(super) fn pieces(self, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        snapshot.state_keys(&[SERIES, &[self.turn]].concat())
    }

    /// Makes what is stored here, `pieces` of them, the valid states.
    pub(super) fn made_valid(self, snapshot: &Snapshot, pieces: u32) -> State {
        let surplus = self.pieces(snapshot).into_iter().filter(|key| *key >= self.piece(pieces));
        let old = Self { turn: 1 - self.turn, ..self }.pieces(snapshot);
        let mut state: State = surplus.chain(old).map(|key| (key, None)).collect();
        state.push(self.kept());
        state
    }
}

/// Through which commit bits are stored.
///
/// # Errors
/// When what is stored is damaged.
pub(super) fn written(snapshot: &Snapshot) -> Result<Lsn> {
    let bytes = snapshot.state(WRITTEN)?;
    Ok(Lsn(bytes.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?))).unwrap_or(0)))
}

/// Deletes the states.
pub(super) fn forgotten(snapshot: &Snapshot) -> State {
    snapshot.state_keys(SERIES).into_iter().map(|key| (key, None)).collect()
}

/// Deletes everything but the bits.
pub(super) fn all_forgotten(snapshot: &Snapshot) -> State {
    let mut state = forgotten(snapshot);
    state.extend([DEFINITION, PLACE, WRITTEN].map(|key| (key.to_vec(), None)));
    state
}
