//! The state of a series' detectors after a row, as stored bytes.
use std::sync::Arc;

use super::scoring::State;
use crate::codec::{Decoder, Encoder};
use crate::error::Result;

/// Moves with the version of a detector's state.
const VERSION: u8 = 3;

/// What is known of a series after every row up to and including `ts`.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) ts: i64,
    /// What is stored: version, `ts`, number of calls, what each has saved.
    pub(super) bytes: Arc<[u8]>,
}

impl Checkpoint {
    pub(super) fn take(ts: i64, states: &[State]) -> Self {
        let mut out = Encoder::new(VERSION);
        out.signed(ts).unsigned(states.len() as u64);
        for state in states {
            out.bytes(&state.save());
        }
        Self { ts, bytes: out.finish().into() }
    }

    /// From stored bytes; `None` for those of an earlier build, whose detectors this one cannot go on with.
    ///
    /// # Errors
    /// `Internal` when they are damaged.
    pub(super) fn stored(bytes: Arc<[u8]>) -> Result<Option<Self>> {
        if bytes.first().is_some_and(|&version| version < VERSION) {
            return Ok(None);
        }
        let ts = Decoder::new("detector state of a continuous query", &bytes, VERSION)?.signed()?;
        Ok(Some(Self { ts, bytes }))
    }

    /// What each call has saved.
    ///
    /// # Errors
    /// `Internal` when the bytes are damaged.
    pub(super) fn saved(&self) -> Result<Vec<&[u8]>> {
        let mut from = Decoder::new("detector state of a continuous query", &self.bytes, VERSION)?;
        from.signed()?;
        let saved = (0..from.count()?).map(|_| from.bytes()).collect::<Result<_>>()?;
        from.end()?;
        Ok(saved)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use foretell_ml::detect::{Detector, DetectorOptions, Method};

    #[test]
    fn a_checkpoint_of_an_earlier_build_is_none_and_damage_is_an_error() {
        let mut detector = Detector::new(Method::Ewma, DetectorOptions::default()).unwrap();
        detector.update(5, 1.0);
        let mut saved = Vec::new();
        detector.save(&mut saved);
        let taken = Checkpoint::take(5, &[State::Detector(detector)]);
        let stored = Checkpoint::stored(Arc::clone(&taken.bytes)).unwrap().unwrap();
        assert_eq!((stored.ts, stored.saved().unwrap()), (5, vec![saved.as_slice()]));
        let with_version = |version: u8| {
            let mut bytes = taken.bytes.to_vec();
            bytes[0] = version;
            Checkpoint::stored(bytes.into())
        };
        assert!(with_version(VERSION - 1).unwrap().is_none());
        assert!(with_version(VERSION + 1).is_err());
        assert!(Checkpoint::stored(Arc::from([])).is_err());
    }
}
