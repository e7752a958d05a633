//! Streamgate: under construction.
pub mod config;
pub mod domain;
pub mod forward;
pub mod http;
pub mod routing_queue;
pub mod store;
