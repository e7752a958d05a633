//! What the tests of the routing queues and of the forwarder share: sample records and configuration, a store in
//! memory, and a receiver that misbehaves.

pub(crate) mod fake_store;
pub(crate) mod fault_server;
pub(crate) mod samples;

/// Installs the TLS provider as `main` does; a client cannot be made without.
pub(crate) fn install_tls_provider() {
    // The second of two calls fails, which is as good.
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
