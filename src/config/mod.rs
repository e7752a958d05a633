//! The configuration: files in, checked settings out, all faults at once with file, line and hint.
//!
//! `streamgate.toml` describes the process, the files under `organizations/` describe what it routes. Everything that
//! can change while the gateway runs is in one [`Effective`] value, swapped as a whole: a request that took one sees
//! one whole configuration, never a torn or an empty one. A change that does not check leaves the last good one alone.
//!
//! The types in [`settings`] are plain data that the other rooms read; how they came from TOML is known only here.

pub mod settings;

pub use settings::{Effective, Process};
