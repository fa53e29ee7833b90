//! Integration tests of the workspace as a whole: one binary.
mod architecture;
