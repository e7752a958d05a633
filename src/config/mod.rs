//! The configuration: files in, checked settings out, all faults at once with file, line and hint.
//!
//! `streamgate.toml` describes the process, the files under `organizations/` describe what it routes. Everything that
//! can change while the gateway runs is in one [`Effective`] value, swapped as a whole: a request that took one sees
//! one whole configuration, never a torn or an empty one. A change that does not check leaves the last good one alone.
//!
//! The types in [`settings`] are plain data that the other rooms read; how they came from TOML is known only here. The
//! way of a file, in reading order: `sources` finds it, `source` reads and parses it, `raw` takes typed values from it
//! (`keys` says which there are), `check` turns them into settings, `fault` tells what is wrong, `load` brings it all
//! together. What comes as JSON is read as strictly ([`strict`]). [`live`] holds what is effective, [`watch`] notices changes
//! of the files, and [`keeper`] is asked for what is stored, which other gateways may change.

mod check;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod identity;
mod json;
pub mod keeper;
mod keys;
pub mod live;
mod load;
mod raw;
mod restart;
mod routing_queue;
mod secret;
pub mod settings;
mod source;
mod sources;
pub mod stored;
pub mod strict;
pub mod subject;
pub mod submission;
pub mod view;
pub mod watch;
mod webhook_secret;

pub use check::database_at;
pub use fault::{Fault, Faults};
pub use json::{camel_case, snake_case};
pub use live::{Live, ReloadOutcome, ReloadStatus};
pub use load::{Config, DEFAULT_PATH, EXAMPLE_ORGANIZATION, MANUAL, Origin, Overrides, load, load_with_stored};
pub use settings::{Effective, Process};

#[cfg(test)]
mod tests;
