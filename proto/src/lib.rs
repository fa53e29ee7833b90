//! Foretell.
