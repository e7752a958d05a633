//! Black-box tests: a whole gateway on free ports, spoken to over real sockets.
//!
//! One file per row of a record's journey; [`support`] has the gateway, the raw HTTP client and the receivers. Nothing
//! here sleeps: a test waits for a state or for an answer.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod support;

mod administration;
mod administration_commands;
mod batches;
mod catalogue;
mod command_line;
mod connector;
mod connector_commands;
mod crash;
mod deployment;
mod doctor;
mod door;
mod examples;
mod independent;
mod json_texts;
mod lifecycle;
mod log;
mod manifests;
mod migrate_store;
mod nats;
mod observability;
mod operation;
mod proxies;
mod readme;
mod retention;
mod rules;
mod subscriptions;
mod tls;
mod traces;
mod upkeep;
mod waiting;
