//! What an evaluation holds: samples, and the memory that they and the labels of their series take.
//!
//! Each node of an expression is counted as it is evaluated: what it reads and makes comes on top of what is held, and when it
//! is done, only its value stays. So the count is what is held, not what was ever made. What several nodes share is counted
//! beside them, once.
use parking_lot::Mutex;

use super::source::{SeriesSamples, too_many_samples};
use super::value::{Column, Value};
use crate::error::Result;

/// Reservations grow and shrink by this.
const RESERVED_AT_ONCE: usize = 1 << 20;
/// A sample as it is read: time, value, and the room that a growing list leaves.
const READ_BYTES: usize = 32;

/// Samples and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) samples: usize,
    pub(crate) bytes: usize,
}

impl Held {
    /// `values` of columns that are about to be made.
    pub(crate) fn values(values: usize) -> Self {
        Self { samples: values, bytes: values.saturating_mul(size_of::<f64>()) }
    }

    /// Samples as they are read.
    pub(crate) fn read(samples: usize) -> Self {
        Self { samples, bytes: samples.saturating_mul(READ_BYTES) }
    }

    /// What series with their samples take.
    pub(crate) fn series(series: &[SeriesSamples]) -> Self {
        Self::copy(series).and(Self::histograms(series))
    }

    /// What a copy of series takes, which has no native histograms of its own.
    pub(crate) fn copy(series: &[SeriesSamples]) -> Self {
        let one = |series: &SeriesSamples| Self {
            samples: series.values.len(),
            bytes: size_of::<SeriesSamples>()
                + series.labels.own_bytes()
                + (series.ts_ms.capacity() + series.values.capacity()) * size_of::<f64>(),
        };
        series.iter().map(one).fold(Self::default(), Self::and)
    }

    /// What the native histograms of series take.
    pub(crate) fn histograms(series: &[SeriesSamples]) -> Self {
        Self::values(series.iter().map(|series| series.weight() - series.values.len()).sum())
    }

    /// What a column takes.
    pub(crate) fn column(column: &Column) -> Self {
        let own = Self {
            samples: column.values.len(),
            bytes: size_of::<Column>() + column.labels.own_bytes() + column.values.capacity() * size_of::<f64>(),
        };
        own.and(Self::values(column.weight() - column.values.len()))
    }

    /// What a value takes.
    pub(crate) fn value(value: &Value) -> Self {
        match value {
            Value::Scalar(values) => Self::values(values.len()),
            Value::Vector(columns) => columns.iter().map(Self::column).fold(Self::default(), Self::and),
            Value::Text(_) => Self::default(),
        }
    }

    fn and(self, more: Self) -> Self {
        Self { samples: self.samples.saturating_add(more.samples), bytes: self.bytes.saturating_add(more.bytes) }
    }

    fn without(self, less: Self) -> Self {
        Self { samples: self.samples.saturating_sub(less.samples), bytes: self.bytes.saturating_sub(less.bytes) }
    }
}

/// Counts one evaluation.
pub(crate) struct Account<'a> {
    samples_max: usize,
    reserve: &'a Reserve<'a>,
    state: Mutex<State>,
}

/// Takes the bytes of a whole evaluation from the memory of all queries, or gives them back.
pub(crate) type Reserve<'a> = dyn Fn(usize) -> Result<()> + Sync + 'a;

#[derive(Default)]
struct State {
    /// By the nodes that are being evaluated, and by values of those that are done.
    held: Held,
    /// Beside them.
    shared: Held,
    /// Bytes.
    reserved: usize,
}

impl<'a> Account<'a> {
    pub(crate) fn new(samples_max: usize, reserve: &'a Reserve<'a>) -> Self {
        Self { samples_max, reserve, state: Mutex::default() }
    }

    /// What nodes hold, without what they share.
    pub(crate) fn held(&self) -> Held {
        self.state.lock().held
    }

    /// Holds `more` on top. Threads that read for the evaluation may do so at once.
    ///
    /// # Errors
    /// `Execution` beyond the most samples; what the reservation answers beyond the memory.
    pub(crate) fn add(&self, more: Held) -> Result<()> {
        let mut state = self.state.lock();
        let held = state.held.and(more);
        self.set(&mut state, held)
    }

    /// What was `read` became `made`.
    ///
    /// # Errors
    /// As [`Account::add`].
    pub(crate) fn turn(&self, read: Held, made: Held) -> Result<()> {
        let mut state = self.state.lock();
        let held = state.held.without(read).and(made);
        self.set(&mut state, held)
    }

    /// Of what was made since `before` only `made` stays.
    ///
    /// # Errors
    /// As [`Account::add`].
    pub(crate) fn keep(&self, before: Held, made: Held) -> Result<()> {
        self.set(&mut self.state.lock(), before.and(made))
    }

    /// The node's `held` stays when the node is done, until [`Account::unshare`].
    pub(crate) fn share(&self, held: Held) {
        let mut state = self.state.lock();
        state.held = state.held.without(held);
        state.shared = state.shared.and(held);
    }

    /// What was shared is the node's again.
    pub(crate) fn unshare(&self, held: Held) {
        let mut state = self.state.lock();
        state.shared = state.shared.without(held);
        state.held = state.held.and(held);
    }

    fn set(&self, state: &mut State, held: Held) -> Result<()> {
        let all = held.and(state.shared);
        if all.samples > self.samples_max {
            return Err(too_many_samples());
        }
        let reserved = all.bytes.div_ceil(RESERVED_AT_ONCE).saturating_mul(RESERVED_AT_ONCE);
        if reserved != state.reserved {
            (self.reserve)(reserved)?;
            state.reserved = reserved;
        }
        state.held = held;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use foretell_engine::LabelSet;

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn only_what_stays_is_held_and_too_much_is_refused() {
        let reserved = AtomicUsize::new(0);
        let reserve = |bytes: usize| {
            if bytes > 8 << 20 {
                return Err(Error::new(ErrorKind::Execution, "no memory"));
            }
            reserved.store(bytes, Ordering::Relaxed);
            Ok(())
        };
        let account = Account::new(1_000_000, &reserve);
        let before = account.held();
        assert!(account.add(Held::values(400_000)).is_ok());
        assert_eq!(reserved.load(Ordering::Relaxed), 4 << 20);
        let value = Value::Vector(vec![Column::floats(LabelSet::default(), vec![0.0; 10])]);
        assert!(account.keep(before, Held::value(&value)).is_ok());
        assert_eq!((account.held().samples, reserved.load(Ordering::Relaxed)), (10, 1 << 20));
        assert!(account.add(Held::values(1_000_000)).is_err_and(|error| error.message.contains("too many samples")));
        assert!(account.add(Held::read(900_000)).is_err_and(|error| error.message == "no memory"));
        assert_eq!(account.held().samples, 10, "what is refused is not held");
    }

    #[test]
    fn samples_that_became_a_column_take_no_memory_and_still_count() {
        let reserved = AtomicUsize::new(0);
        let reserve = |bytes: usize| {
            reserved.store(bytes, Ordering::Relaxed);
            Ok(())
        };
        let account = Account::new(1_000_000, &reserve);
        assert!(account.add(Held::read(900_000)).is_ok());
        assert!(reserved.load(Ordering::Relaxed) > 25 << 20);
        let forgotten = Held { samples: 0, ..Held::read(900_000) };
        assert!(account.turn(forgotten, Held::values(1_000)).is_ok());
        assert_eq!((account.held().samples, reserved.load(Ordering::Relaxed)), (901_000, 1 << 20));
        assert!(account.add(Held::read(100_000)).is_err());
    }

    #[test]
    fn what_is_shared_is_held_once_until_the_last_node_is_done() {
        let reserve = |_: usize| Ok(());
        let account = Account::new(100, &reserve);
        let (before, read) = (account.held(), Held::read(60));
        assert!(account.add(read).is_ok());
        account.share(read);
        assert!(account.keep(before, Held::values(10)).is_ok());
        assert_eq!(account.held().samples, 10);
        assert!(account.add(Held::values(31)).is_err(), "what is shared is held, too");
        account.unshare(read);
        assert!(account.keep(before, Held::values(10)).is_ok() && account.add(Held::values(90)).is_ok());
    }
}
