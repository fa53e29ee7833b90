//! Where answers are kept: those asked for longest ago go first.
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::super::PromQuery;
use super::super::annotation::Annotations;
use super::super::value::{Answer, Point, Row};
use super::reads::Reads;

/// An answer that takes more than this part of all is not kept: it would drive out many.
const LARGEST_PART: usize = 2;
/// When there is no more room, so much of all is given up at once.
const GIVEN_UP_PART: usize = 8;
/// What an answer takes beside its rows and texts, and a row beside its labels and samples.
const ANSWER_BYTES: usize = 512;
const ROW_BYTES: usize = size_of::<Row>() + 32;
/// What an answer adds to its text, a sample, and a row beside its samples and the bytes of its labels, add to the text.
const TEXT_BYTES: usize = 256;
const POINT_TEXT_BYTES: usize = 40;
const ROW_TEXT_BYTES: usize = 128;

/// What a query asks, whatever its bounds. Ranges must have the same instants, as far as they have both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    text: Box<str>,
    /// The step, and where the instants lie within it.
    step: Option<(i64, i64)>,
    lookback_ms: i64,
}

impl Key {
    pub(super) fn of(query: &PromQuery) -> Self {
        let step =
            query.step_ms.map(|step_ms| (step_ms, query.start_ms.checked_rem_euclid(step_ms).unwrap_or_default()));
        Self { text: query.text.as_str().into(), step, lookback_ms: query.lookback_ms }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// First and last instant.
    pub(super) instants: (i64, i64),
    pub(super) answer: Arc<Answer>,
    pub(super) annotations: Annotations,
    pub(super) text: KeptText,
    /// What the snapshot had seen that gave it.
    pub(super) changes: u64,
    pub(super) reads: Reads,
}

impl Kept {
    /// Memory that it takes, about.
    fn bytes(&self, key: &Key) -> usize {
        let texts = self.annotations.warnings.iter().chain(&self.annotations.infos);
        let (own, texts) = (ANSWER_BYTES + key.text.len(), texts.map(|text| text.len() + 64).sum::<usize>());
        own + texts + bytes_of(&self.answer) + self.text.bytes_max
    }
}

/// Memory of the rows of an answer, about.
pub(super) fn bytes_of(answer: &Answer) -> usize {
    rows_of(answer).iter().map(row_bytes).sum()
}

fn rows_of(answer: &Answer) -> &[Row] {
    match answer {
        Answer::Vector(rows) | Answer::Matrix(rows) => rows,
        Answer::Scalar(_) | Answer::Text(..) => &[],
    }
}

/// How long the text of a row is, about.
fn text_bytes(row: &Row) -> usize {
    let numbers = row.histograms.iter().map(|(_, histogram)| histogram.weight());
    let samples = row.points.len() + numbers.sum::<usize>();
    ROW_TEXT_BYTES + row.labels.as_bytes().len() + samples * POINT_TEXT_BYTES
}

fn row_bytes(row: &Row) -> usize {
    let histograms = row.histograms.iter().map(|(_, histogram)| 16 + 8 * histogram.weight());
    ROW_BYTES + row.labels.as_bytes().len() + row.points.len() * size_of::<Point>() + histograms.sum::<usize>()
}

/// An answer as it was written out, once somebody has. Its memory is counted from the beginning.
#[derive(Clone, Debug, Default)]
pub struct KeptText {
    text: Arc<OnceLock<Arc<[Bytes]>>>,
    bytes_max: usize,
}

impl KeptText {
    /// Of `answer`.
    pub(super) fn of(answer: &Answer) -> Self {
        let bytes_max = TEXT_BYTES + rows_of(answer).iter().map(text_bytes).sum::<usize>();
        Self { text: Arc::default(), bytes_max }
    }

    /// The pieces that are kept.
    pub fn get(&self) -> Option<Arc<[Bytes]>> {
        self.text.get().cloned()
    }

    /// Keeps the pieces of a text, unless it is larger than such texts are, or one is there.
    pub fn put(&self, pieces: &Arc<[Bytes]>) {
        if pieces.iter().map(Bytes::len).sum::<usize>() <= self.bytes_max {
            let _ = self.text.set(Arc::clone(pieces));
        }
    }
}

#[derive(Debug)]
struct Place {
    kept: Arc<Kept>,
    bytes: usize,
    /// When it was asked for last, in the order of all requests.
    asked: u64,
}

#[derive(Debug, Default)]
struct Places {
    of: HashMap<Key, Place>,
    bytes: usize,
    asked: u64,
}

/// Answers by what they answer.
#[derive(Debug)]
pub(super) struct Shelf {
    places: Mutex<Places>,
    bytes_max: usize,
}

impl Shelf {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { places: Mutex::default(), bytes_max }
    }

    /// Answers, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let places = self.places.lock();
        (places.of.len(), places.bytes)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Kept>> {
        let mut places = self.places.lock();
        places.asked += 1;
        let asked = places.asked;
        let place = places.of.get_mut(key)?;
        place.asked = asked;
        Some(Arc::clone(&place.kept))
    }

    /// Puts an answer in the place of the one of the same key, unless that one is of later changes.
    pub(super) fn put(&self, key: Key, kept: Kept) {
        let bytes = kept.bytes(&key);
        // Dropped after the lock: large answers take long to drop.
        let mut gone = Vec::new();
        let mut places = self.places.lock();
        if places.of.get(&key).is_some_and(|place| place.kept.changes > kept.changes) {
            return;
        }
        gone.extend(places.take(&key));
        if bytes <= self.bytes_max / LARGEST_PART {
            if places.bytes + bytes > self.bytes_max {
                places.give_up(self.bytes_max / GIVEN_UP_PART + bytes, &mut gone);
            }
            places.bytes += bytes;
            places.asked += 1;
            let asked = places.asked;
            places.of.insert(key, Place { kept: Arc::new(kept), bytes, asked });
        }
        drop(places);
    }
}

impl Places {
    fn take(&mut self, key: &Key) -> Option<Place> {
        let place = self.of.remove(key)?;
        self.bytes -= place.bytes;
        Some(place)
    }

    /// Gives up `bytes`, of those asked for longest ago.
    fn give_up(&mut self, bytes: usize, gone: &mut Vec<Place>) {
        let mut oldest: Vec<(u64, usize)> = self.of.values().map(|place| (place.asked, place.bytes)).collect();
        oldest.sort_unstable();
        let (mut given_up, mut newest) = (0, 0);
        for (asked, of_it) in oldest {
            if given_up >= bytes {
                break;
            }
            (given_up, newest) = (given_up + of_it, asked);
        }
        gone.extend(self.of.extract_if(|_, place| place.asked <= newest).map(|(_, place)| place));
        self.bytes -= given_up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> PromQuery {
        PromQuery { text: text.into(), start_ms: 7, end_ms: 1_000, step_ms: Some(10), lookback_ms: 5 }
    }

    fn kept(points: usize, changes: u64) -> Kept {
        let points = vec![Point { ts_ms: 0, value: 0.0 }; points];
        let row = Row { labels: foretell_engine::LabelSet::default(), points, histograms: Vec::new() };
        Kept {
            instants: (0, 0),
            answer: Arc::new(Answer::Matrix(vec![row])),
            annotations: Annotations::default(),
            text: KeptText::default(),
            changes,
            reads: Reads { ahead_ms: 0, cuts: true, joins: true },
        }
    }

    #[test]
    fn a_key_is_text_step_phase_and_lookback() {
        let key = Key::of(&query("m"));
        assert_eq!(key, Key::of(&PromQuery { start_ms: -13, end_ms: 5, ..query("m") }));
        assert_ne!(key, Key::of(&query("n")));
        for other in [
            PromQuery { start_ms: 8, ..query("m") },
            PromQuery { step_ms: Some(20), ..query("m") },
            PromQuery { step_ms: None, ..query("m") },
            PromQuery { lookback_ms: 6, ..query("m") },
        ] {
            assert_ne!(key, Key::of(&other), "{other:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_what_was_asked_for_longest_ago_goes_first() {
        let shelf = Shelf::new(100_000);
        let key = |n: usize| Key::of(&query(&format!("m{n}")));
        for n in 0..1_000 {
            shelf.put(key(n), kept(100, 1));
            assert!(shelf.get(&key(0)).is_some(), "asked for all the time, after {n}");
            let (answers, bytes) = shelf.size();
            let truth: usize = shelf.places.lock().of.values().map(|place| place.bytes).sum();
            assert!(bytes <= 100_000 && bytes == truth && answers <= n + 1);
        }
        assert!(shelf.get(&key(1)).is_none() && shelf.get(&key(999)).is_some());
        shelf.put(key(999), kept(4_000, 1));
        assert!(shelf.get(&key(999)).is_none(), "more than its part: the old one is gone, too");
        let none = Shelf::new(0);
        none.put(key(1), kept(0, 1));
        assert_eq!(none.size(), (0, 0));
    }

    #[test]
    fn an_answer_of_later_changes_stays() {
        let shelf = Shelf::new(100_000);
        let key = || Key::of(&query("m"));
        let changes = || shelf.get(&key()).map(|kept| kept.changes);
        shelf.put(key(), kept(1, 5));
        shelf.put(key(), kept(1, 4));
        assert_eq!(changes(), Some(5));
        shelf.put(key(), kept(1, 6));
        assert_eq!(changes(), Some(6));
    }
}
