//! The same black-box tests over gateways on PostgreSQL, and what only several gateways on one database can show.
//!
//! Left out is what is about files (`verify`, `recover`, a full disk), and what no store has a part in.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]
#![allow(dead_code, reason = "parts of what the tests share belong to those that are left out")]

mod support;

mod administration;
mod batches;
mod catalogue;
mod citus;
mod command_line;
mod crash;
mod door;
mod gateways;
mod lifecycle;
mod operation;
mod rules;
mod subscriptions;
mod waiting;
