//! The rules, and nothing but the rules.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no async, no HTTP. The modules read in the
//! order of a record's journey: [`ids`] and [`json`] give the words, [`access`] says who asks, [`record`] is what a
//! flow posts, [`catalog`] is what an operator configured, [`admission`] brings the two together, [`refusal`] says why
//! not, [`routing`] says which queue, by the [`rules`].
//!
//! Invariant: this module imports only itself (and plain data crates). `tests/tidy.rs` holds it to that.

pub mod access;
pub mod admission;
pub mod catalog;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod ids;
pub mod json;
pub mod record;
pub mod refusal;
pub mod routing;
pub mod rules;
pub mod time;
