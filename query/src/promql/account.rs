//! What an evaluation holds: samples, and the memory that they and the labels of their series take.
//!
//! Each node of an expression is counted as it is evaluated: what it reads and makes comes on top of what is held, and when it
//! is done, only its value stays. So the count is what is held, not what was ever made.
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
        let one = |series: &SeriesSamples| Self {
            samples: series.values.len(),
            bytes: size_of::<SeriesSamples>()
                + series.labels.own_bytes()
                + (series.ts_ms.capacity() + series.values.capacity()) * size_of::<f64>(),
        };
        series.iter().map(one).fold(Self::histograms(series), Self::and)
    }

    /// What the native histograms of series take.
    pub(crate) fn histograms(series: &[SeriesSamples]) -> Self {
        Self::values(series.iter().map(|series| series.weight() - series.values.len()).sum())
    }

    /// What a value takes.
    fn value(value: &Value) -> Self {
        let column = |column: &Column| {
            let own = Self {
                samples: column.values.len(),
                bytes: size_of::<Column>() + column.labels.own_bytes() + column.values.capacity() * size_of::<f64>(),
            };
            own.and(Self::values(column.weight() - column.values.len()))
        };
        match value {
            Value::Scalar(values) => Self::values(values.len()),
            Value::Vector(columns) => columns.iter().map(column).fold(Self::default(), Self::and),
            Value::Text(_) => Self::default(),
        }
    }

    fn and(self, more: Self) -> Self {
        Self { samples: self.samples.saturating_add(more.samples), bytes: self.bytes.saturating_add(more.bytes) }
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
    held: Held,
    /// Bytes.
    reserved: usize,
}

impl<'a> Account<'a> {
    pub(crate) fn new(samples_max: usize, reserve: &'a Reserve<'a>) -> Self {
        Self { samples_max, reserve, state: Mutex::default() }
    }

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

    /// Of what was made since `before` only the series stay.
    ///
    /// # Errors
    /// As [`Account::add`].
    pub(crate) fn keep_series(&self, before: Held, series: &[SeriesSamples]) -> Result<()> {
        self.set(&mut self.state.lock(), before.and(Held::series(series)))
    }

    /// Of what was made since `before` only the value stays.
    ///
    /// # Errors
    /// As [`Account::add`].
    pub(crate) fn keep_value(&self, before: Held, value: &Value) -> Result<()> {
        self.set(&mut self.state.lock(), before.and(Held::value(value)))
    }

    fn set(&self, state: &mut State, held: Held) -> Result<()> {
        if held.samples > self.samples_max {
            return Err(too_many_samples());
        }
        let reserved = held.bytes.div_ceil(RESERVED_AT_ONCE).saturating_mul(RESERVED_AT_ONCE);
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
        assert!(account.keep_value(before, &value).is_ok());
        assert_eq!((account.held().samples, reserved.load(Ordering::Relaxed)), (10, 1 << 20));
        assert!(account.add(Held::values(1_000_000)).is_err_and(|error| error.message.contains("too many samples")));
        assert!(account.add(Held::read(900_000)).is_err_and(|error| error.message == "no memory"));
        assert_eq!(account.held().samples, 10, "what is refused is not held");
    }
}
