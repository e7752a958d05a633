//! Streamgate: under construction.
pub mod config;
pub mod domain;
pub mod forward;
pub mod routing_queue;
pub mod store;
