//! The door: what callers speak to.

pub mod keys;
