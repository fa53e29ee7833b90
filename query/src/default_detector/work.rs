//! The default detector at work: reads commits, looks at their samples, stores bits, and now and then its states.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use foretell_engine::{Engine, ErrorKind as EngineErrorKind, Lsn, Matcher, Snapshot, WriteBatch};

use super::Counts;
use super::bits::Found;
use super::stored::{CONSUMER, Place, State, WRITTEN, written};
use super::watched::Watched;
use crate::error::{Error, Result};

/// Samples of the feed that are read at once.
const FEED_ROWS: usize = 256 << 10;
/// States are stored after this time ..
const STORE_EVERY: Duration = Duration::from_secs(300);
/// .. or after so many samples, and so many for each series: reading them again after a restart takes seconds.
const STORE_SAMPLES: u64 = 16 << 20;
const STORE_SAMPLES_A_SERIES: u64 = 64;
/// Series that have no sample for an hour or two are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Series of a stored piece, and pieces of a record.
const PIECE_SERIES: usize = 2048;
const PIECES_AT_ONCE: usize = 16;
/// Attempts to store bits before they are given up.
const ATTEMPTS_MAX: u32 = 60;

/// See the module.
pub(super) struct Work {
    engine: Engine,
    matchers: Vec<Matcher>,
    counts: Arc<Counts>,
    watched: Watched,
    /// Commits up to here were looked at.
    position: Lsn,
    /// Bits of commits up to here are stored.
    written: Lsn,
    /// Bits that are to be stored.
    found: Found,
    attempts: u32,
    place: Place,
    stored_at: Instant,
    looked_when_stored: u64,
    forgot_at: Instant,
}

impl Work {
    /// One that begins after `position`.
    pub(super) fn new(engine: Engine, matchers: Vec<Matcher>, position: Lsn, counts: Arc<Counts>) -> Self {
        let now = Instant::now();
        Self {
            engine,
            matchers,
            counts,
            watched: Watched::default(),
            position,
            written: position,
            found: Found::default(),
            attempts: 0,
            place: Place { turn: 0, position },
            stored_at: now,
            looked_when_stored: 0,
            forgot_at: now,
        }
    }

    /// One that goes on from what is stored.
    ///
    /// # Errors
    /// `Internal` when that is damaged.
    pub(super) fn restore(
        engine: Engine,
        matchers: Vec<Matcher>,
        snapshot: &Snapshot,
        counts: Arc<Counts>,
    ) -> Result<Self> {
        let place = Place::stored(snapshot)?;
        let mut watched = Watched::default();
        for key in place.pieces(snapshot) {
            let Some(piece) = snapshot.state(&key)? else { continue };
            if !watched.take(&piece)? {
                tracing::warn!("the states of the default detector are of another version: it begins anew");
                watched = Watched::default();
                break;
            }
        }
        engine.retain_wal(CONSUMER, Some(place.position));
        let work = Self::new(engine, matchers, place.position, counts);
        let work = Self { watched, written: written(snapshot)?, place, ..work };
        work.count();
        Ok(work)
    }

    /// Looks at all commits up to now.
    ///
    /// # Errors
    /// Why it cannot; it can be tried again.
    pub(super) fn step(&mut self) -> Result<()> {
        let begun = Instant::now();
        let stepped = self.look();
        let busy_ns = begun.elapsed().as_nanos() as u64;
        self.counts.busy_ns.fetch_add(busy_ns, Ordering::Relaxed);
        self.count();
        stepped
    }

    fn look(&mut self) -> Result<()> {
        self.put_bits()?;
        let through = self.engine.snapshot().lsn();
        while self.position < through {
            let commits = match self.engine.read_commits(self.position, through, FEED_ROWS) {
                Ok(commits) => commits,
                Err(error) if error.kind() == EngineErrorKind::Limit => {
                    let (from, gone) = (self.position.0, through.0 - self.position.0);
                    tracing::warn!(from, gone, "the log that the default detector has not read is gone");
                    self.counts.lost.fetch_add(gone, Ordering::Relaxed);
                    self.position = through;
                    break;
                }
                Err(error) => return Err(Error::from_engine(&error)),
            };
            if commits.is_empty() {
                break;
            }
            let (engine, mut made) = (&self.engine, None);
            let mut snapshot = || made.get_or_insert_with(|| engine.snapshot()).clone();
            for commit in &commits {
                let before = self.found.len();
                self.watched.look(commit, &self.matchers, &mut snapshot, &mut self.found)?;
                self.position = commit.lsn;
                if commit.lsn <= self.written {
                    // Stored before the process ended.
                    self.found.truncate(before);
                }
            }
            self.put_bits()?;
            self.store_when_due()?;
        }
        self.store_when_due()
    }

    /// Stores the bits that were found.
    fn put_bits(&mut self) -> Result<()> {
        if self.found.len() == 0 {
            return Ok(());
        }
        let records = vec![Arc::new(self.found.records()?)];
        let state = vec![(WRITTEN.to_vec(), Some(self.position.0.to_be_bytes().to_vec()))];
        match self.write(WriteBatch { records, state, ..WriteBatch::default() }) {
            Ok(_) => {
                self.counts.anomalous.fetch_add(self.found.len() as u64, Ordering::Relaxed);
                self.written = self.position;
            }
            Err(error) if self.attempts < ATTEMPTS_MAX => {
                self.attempts += 1;
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%error, bits = self.found.len(), "bits of the default detector are given up");
                self.counts.lost.fetch_add(self.found.len() as u64, Ordering::Relaxed);
            }
        }
        self.attempts = 0;
        self.found.clear();
        Ok(())
    }

    fn store_when_due(&mut self) -> Result<()> {
        let samples = STORE_SAMPLES.max(STORE_SAMPLES_A_SERIES * self.watched.len() as u64);
        let due = self.stored_at.elapsed() >= STORE_EVERY || self.watched.looked - self.looked_when_stored >= samples;
        if due && self.position > self.place.position { self.store() } else { Ok(()) }
    }

    /// Stores the states when nobody writes any more: the record that does so is the last one, and the log need not be kept for it.
    ///
    /// # Errors
    /// As [`Work::store`].
    pub(super) fn end(&mut self) -> Result<()> {
        self.store()?;
        let last = Place { position: Lsn(self.place.position.0 + 2), ..self.place };
        if self.engine.snapshot().lsn().0 + 1 != last.position.0 {
            return Ok(());
        }
        let own = self.write(WriteBatch { state: vec![last.kept()], ..WriteBatch::default() })?;
        if own == last.position {
            self.place = last;
            self.engine.retain_wal(CONSUMER, Some(own));
        } else {
            self.write(WriteBatch { state: vec![self.place.kept()], ..WriteBatch::default() })?;
        }
        Ok(())
    }

    /// Stores the states.
    ///
    /// # Errors
    /// As the engine: then those that were stored before are valid.
    fn store(&mut self) -> Result<()> {
        self.put_bits()?;
        if self.forgot_at.elapsed() >= FORGET_EVERY {
            self.watched.forget_idle();
            self.forgot_at = Instant::now();
        }
        let mut place = self.place.next(self.position);
        let (mut pieces, mut together) = (0, State::new());
        for bytes in self.watched.pieces(PIECE_SERIES) {
            together.push((place.piece(pieces), Some(bytes)));
            pieces += 1;
            if together.len() == PIECES_AT_ONCE {
                self.write_states(std::mem::take(&mut together), &mut place)?;
            }
        }
        if !together.is_empty() {
            self.write_states(together, &mut place)?;
        }
        let state = place.made_valid(&self.engine.snapshot(), pieces);
        self.write(WriteBatch { state, ..WriteBatch::default() })?;
        self.position = self.position.max(place.position);
        self.engine.retain_wal(CONSUMER, Some(place.position));
        self.place = place;
        (self.stored_at, self.looked_when_stored) = (Instant::now(), self.watched.looked);
        Ok(())
    }

    /// Writes pieces of states. A commit of ours that nobody else's lies before has nothing to be looked at: the log need not wait.
    fn write_states(&self, state: State, place: &mut Place) -> Result<()> {
        let lsn = self.write(WriteBatch { state, ..WriteBatch::default() })?;
        if lsn.0 == place.position.0 + 1 {
            place.position = lsn;
        }
        Ok(())
    }

    fn write(&self, batch: WriteBatch) -> Result<Lsn> {
        let written = self.engine.write(batch).and_then(|handle| handle.wait());
        written.map_err(|error| Error::from_engine(&error))
    }

    /// Lets others see where it is.
    fn count(&self) {
        let Counts { looked, late, series, refused, bytes, position, .. } = &*self.counts;
        looked.store(self.watched.looked, Ordering::Relaxed);
        late.store(self.watched.late, Ordering::Relaxed);
        series.store(self.watched.len() as u64, Ordering::Relaxed);
        refused.store(self.watched.refused, Ordering::Relaxed);
        bytes.store(self.watched.bytes() as u64, Ordering::Relaxed);
        position.store(self.position.0, Ordering::Relaxed);
    }
}
