//! Metadata of metrics on their way from a request to the store: only what has changed is written.
//!
//! A 2.0 sender describes every series in every request, so the usual case must cost next to nothing: the walk makes a hash of
//! each description and keeps one entry for each different one of a request; what was stored last is remembered by that hash.
//! Only a description that is not remembered is put together and compared with the store.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use foretell_engine::{Engine, Lsn, Snapshot};
use foretell_query::{MetricMetadata, MetricType};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::request::DecodedRequest;

/// Different descriptions of a request; those beyond are ignored.
pub(crate) const ENTRIES_MAX: usize = 65_536;
/// Families whose metadata is stored; those beyond are ignored.
const FAMILIES_MAX: usize = 50_000;
/// Hashes remembered; then they are forgotten, and what comes is compared with the store again.
const REMEMBERED_MAX: usize = 4 * FAMILIES_MAX;
/// Bytes of a family's name; a longer one is ignored.
const NAME_BYTES_MAX: usize = 4 << 10;
/// Bytes of a help text; the rest is cut off.
const HELP_BYTES_MAX: usize = 1 << 10;
/// Bytes of a unit; the rest is cut off.
const UNIT_BYTES_MAX: usize = 256;

/// Hashes are their own hash.
#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

type ByHash<V> = HashMap<u128, V, BuildHasherDefault<Identity>>;

/// A string of the body.
pub(crate) type Span = (u32, u32);

/// A name or text, where it lies and its seeded hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text {
    pub(crate) span: Span,
    pub(crate) hash: u128,
}

/// One description, as sent.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Hash of the metric's name.
    name_hash: u128,
    /// Hash of everything.
    hash: u128,
    kind: u64,
    name: Span,
    help: Span,
    unit: Span,
}

/// The different descriptions of one request.
#[derive(Debug, Default)]
pub(crate) struct Descriptions {
    entries: Vec<Entry>,
    seen: HashSet<u128, BuildHasherDefault<Identity>>,
    ignored: u64,
}

impl Descriptions {
    /// Adds a description unless the request had it already.
    pub(crate) fn push(&mut self, name: Text, kind: u64, help: Text, unit: Text, seed: u64) {
        let mut bytes = [0u8; 56];
        bytes[..16].copy_from_slice(&name.hash.to_le_bytes());
        bytes[16..32].copy_from_slice(&help.hash.to_le_bytes());
        bytes[32..48].copy_from_slice(&unit.hash.to_le_bytes());
        bytes[48..].copy_from_slice(&kind.to_le_bytes());
        let hash = xxh3_128_with_seed(&bytes, seed);
        if self.entries.len() >= ENTRIES_MAX {
            self.ignored += u64::from(!self.seen.contains(&hash));
        } else if self.seen.insert(hash) {
            let (name_hash, name) = (name.hash, name.span);
            self.entries.push(Entry { name_hash, hash, kind, name, help: help.span, unit: unit.span });
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.seen.clear();
        self.ignored = 0;
    }

    pub(crate) fn shrink(&mut self) {
        if self.entries.capacity() > ENTRIES_MAX / 8 {
            *self = Self::default();
        }
    }
}

/// What a request changes in the stored metadata.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// For the batch.
    pub(crate) state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// To be remembered once the batch is durable: hash of the name, hash of everything.
    pub(crate) hashes: Vec<(u128, u128)>,
    /// Descriptions above a limit.
    pub(crate) ignored: u64,
}

/// What was stored last, for all workers of one engine.
#[derive(Debug, Default)]
pub(crate) struct MetadataCache(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// By hash of the name: hash of the description that was stored last, and when.
    last: ByHash<(u128, Lsn)>,
    /// Families in the store; `None` until they were counted.
    families: Option<usize>,
}

impl MetadataCache {
    /// What of `request` differs from the store.
    pub(crate) fn changes(&self, engine: &Engine, request: &DecodedRequest) -> Changes {
        let mut changes = Changes { ignored: request.descriptions.ignored, ..Changes::default() };
        let unknown: Vec<Entry> = {
            let remembered = self.0.lock();
            let changed =
                |entry: &&Entry| remembered.last.get(&entry.name_hash).is_none_or(|last| last.0 != entry.hash);
            request.descriptions.entries.iter().filter(changed).copied().collect()
        };
        if unknown.is_empty() {
            return changes;
        }
        let snapshot = engine.snapshot();
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut stored = Vec::new();
        for entry in unknown {
            let Some((family, metadata)) = request.description(&entry) else {
                changes.ignored += 1;
                continue;
            };
            let (key, value) = (MetricMetadata::key(&family), metadata.encode());
            let hashes = (entry.name_hash, entry.hash);
            if !state.contains_key(&key) {
                match snapshot.state(&key) {
                    Ok(Some(current)) if *current == *value => {
                        stored.push(hashes);
                        continue;
                    }
                    Ok(None) if !self.admit_family(&snapshot) => {
                        changes.ignored += 1;
                        continue;
                    }
                    // One that is damaged is written again.
                    _ => {}
                }
            }
            changes.hashes.push(hashes);
            state.insert(key, value);
        }
        // Of several descriptions of one family in one request the last one is stored, so none may be taken for stored before.
        if state.is_empty() {
            self.remember(&stored, snapshot.lsn());
        }
        changes.state = state.into_iter().map(|(key, value)| (key, Some(value))).collect();
        changes
    }

    /// Whether there is room for one more family; counts it.
    fn admit_family(&self, snapshot: &Snapshot) -> bool {
        let mut remembered = self.0.lock();
        let families = remembered.families.get_or_insert_with(|| MetricMetadata::count(snapshot));
        *families += usize::from(*families < FAMILIES_MAX);
        *families < FAMILIES_MAX
    }

    /// Notes what commit `lsn` has made durable.
    pub(crate) fn remember(&self, hashes: &[(u128, u128)], lsn: Lsn) {
        let mut remembered = self.0.lock();
        if remembered.last.len() + hashes.len() > REMEMBERED_MAX {
            remembered.last.clear();
        }
        for &(name, hash) in hashes {
            let last = remembered.last.entry(name).or_insert((hash, lsn));
            if last.1 <= lsn {
                *last = (hash, lsn);
            }
        }
    }
}

impl DecodedRequest {
    /// The family and its metadata, within the limits; `None` for a name that no metric can have.
    fn description(&self, entry: &Entry) -> Option<(String, MetricMetadata)> {
        let text = |span: Span| &self.body[span.0 as usize..span.1 as usize];
        let name = std::str::from_utf8(text(entry.name)).ok()?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let kind = MetricType::from_number(entry.kind);
        let name = if self.by_reference { kind.family(name) } else { name };
        let metadata = MetricMetadata {
            kind,
            help: cut(text(entry.help), HELP_BYTES_MAX)?,
            unit: cut(text(entry.unit), UNIT_BYTES_MAX)?,
        };
        Some((name.to_owned(), metadata))
    }
}

/// The front of a text, whole characters only; `None` when it is not UTF-8.
fn cut(text: &[u8], bytes_max: usize) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    Some(text[..text.floor_char_boundary(bytes_max)].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Text {
        Text { span: (0, 0), hash: xxh3_128_with_seed(text.as_bytes(), 1) }
    }

    #[test]
    fn a_request_keeps_each_different_description_once() {
        let mut descriptions = Descriptions::default();
        for (name, kind, help) in
            [("a", 1, "x"), ("b", 1, "x"), ("a", 1, "x"), ("a", 2, "x"), ("a", 1, "y"), ("a", 1, "x")]
        {
            descriptions.push(text(name), kind, text(help), text(""), 1);
        }
        assert_eq!(descriptions.entries.len(), 4);
        descriptions.clear();
        descriptions.push(text("a"), 1, text("x"), text(""), 1);
        assert_eq!(descriptions.entries.len(), 1);
    }

    #[test]
    fn an_older_commit_does_not_replace_what_a_newer_one_stored() {
        let cache = MetadataCache::default();
        cache.remember(&[(1, 10)], Lsn(5));
        cache.remember(&[(1, 11)], Lsn(4));
        assert_eq!(cache.0.lock().last.get(&1), Some(&(10, Lsn(5))));
        cache.remember(&[(1, 11)], Lsn(6));
        assert_eq!(cache.0.lock().last.get(&1), Some(&(11, Lsn(6))));
    }

    #[test]
    fn long_help_is_cut_between_characters() {
        let long = "é".repeat(HELP_BYTES_MAX);
        assert_eq!(cut(long.as_bytes(), 5).as_deref(), Some("éé"));
        assert_eq!(cut(b"\xff", 5), None);
    }
}
