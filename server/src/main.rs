//! `foretell`: wiring only.
fn main() {}
