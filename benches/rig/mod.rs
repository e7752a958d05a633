//! What the benchmarks measure with: gateways in processes of their own, loads, the machine's own figures, prefilled data
//! directories, and charts.
//!
//! `benches/throughput/main.rs` and `benches/growth/main.rs` are built on it. Nothing here knows how the engine keeps
//! records: it talks to the real binary over HTTP, and fills stores through the intake.

#![allow(dead_code, reason = "each benchmark uses another part of it")]

pub(crate) mod contestant;
pub(crate) mod figures;
pub(crate) mod fill;
pub(crate) mod generator;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod place;
pub(crate) mod records;
pub(crate) mod svg;
