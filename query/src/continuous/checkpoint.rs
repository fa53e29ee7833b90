//! The state of a series' detectors after a row, as stored bytes.
use std::sync::Arc;

use foretell_ml::detect::Detector;

use super::codec::{Decoder, Encoder};
use crate::error::{Error, Result};

const VERSION: u8 = 1;

/// Detectors that have seen every row up to and including `ts`.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) ts: i64,
    /// What is stored: version, `ts`, number of detectors, each one's saved state.
    pub(super) bytes: Arc<[u8]>,
}

impl Checkpoint {
    pub(super) fn take(ts: i64, detectors: &[Detector]) -> Self {
        let mut out = Encoder::new(VERSION);
        out.signed(ts).unsigned(detectors.len() as u64);
        let mut state = Vec::new();
        for detector in detectors {
            state.clear();
            detector.save(&mut state);
            out.bytes(&state);
        }
        Self { ts, bytes: out.finish().into() }
    }

    /// From stored bytes.
    ///
    /// # Errors
    /// `Internal` when they are damaged.
    pub(super) fn stored(bytes: Arc<[u8]>) -> Result<Self> {
        let ts = Decoder::new("detector state", &bytes, VERSION)?.signed()?;
        Ok(Self { ts, bytes })
    }

    /// The detectors as they were.
    ///
    /// # Errors
    /// `Internal` when the bytes are damaged.
    pub(super) fn load(&self) -> Result<Vec<Detector>> {
        let mut from = Decoder::new("detector state", &self.bytes, VERSION)?;
        from.signed()?;
        let detectors = (0..from.count()?)
            .map(|_| {
                Detector::load(from.bytes()?)
                    .map_err(|e| Error::internal(format!("stored detector state is damaged: {e}")))
            })
            .collect::<Result<_>>()?;
        from.end()?;
        Ok(detectors)
    }
}
