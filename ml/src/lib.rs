//! Machine learning of Foretell: pure maths on slices and plain structs.
//!
//! Architecture invariants: no I/O, no clocks, no Arrow; same data, seed and version give the same bits.
pub mod change;
pub mod contrast;
pub mod correlate;
pub mod decompose;
pub mod detect;
pub mod error;
pub mod forecast;
mod grid;
pub mod health;
mod multiple;
pub mod season;
pub mod shape;
mod spectrum;
mod state;
pub mod template;
pub mod twin;

pub use error::{Error, Result};
