//! How a detector with a learnt state does on rows that it was not trained on, and what to do about it.
//!
//! | module | answers |
//! |---|---|
//! | [`record`] | what one version said of many rows: alarms, residuals, log loss |
//! | [`drift`] | do residuals lie where they lay in training? With a computed null, as a fixed threshold on a distance between histograms lies |
//! | [`duel`] | which of two versions foretold the same rows better? |
//! | [`rule`] | keep, promote, reject, roll back |
//!
//! All counts are of rows in the order of time, so the same rows give the same advice.
mod drift;
mod duel;
mod record;
mod rule;
#[cfg(test)]
mod tests;

pub use drift::Drift;
pub use duel::Duel;
pub use record::{Health, Trace, log_loss};
pub use rule::{Advice, Side, challenger, champion};
