//! What a routing queue of kind `nats` needs to know before it publishes: subjects, and whether a stream keeps its promise.
//!
//! The publisher itself is not here yet, and no configuration reaches this folder. Both parts are without I/O: [`subject`]
//! makes a subject from where a record belongs, [`stream`] compares a stream's settings with what a delivery relies on.

pub mod stream;
pub mod subject;
