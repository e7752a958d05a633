//! What can be seen from outside: every metric, named once, the spans of requests and deliveries, and the set-up of the
//! log.
//!
//! Labels come from the configuration or from fixed lists, never from a request, so the number of series is bounded by
//! what is configured. What is counted on the way of a record costs an atomic addition or two: its labels were looked up
//! beforehand. What stands somewhere else already (the store's figures, the process's) is read when somebody asks, and
//! from memory or by a few look-ups by key: never by reading a table.

mod deliveries;
mod door;
mod exposition;
mod metrics;
mod moment;
mod process;
pub mod spans;
mod store;

use tracing_subscriber::EnvFilter;

pub use self::door::AcceptOutcome;
pub use self::exposition::{Exposition, negotiated};
pub use self::metrics::Metrics;
pub use self::moment::{Backlog, Connections, IssuerKeys, Moment, SubscriptionBacklog};

use crate::config::settings::{LogFormat, LogSettings};

/// Starts the log on standard error, once per process.
///
/// # Errors
/// When the filter cannot be read, with what is wrong with it.
pub fn start_log(settings: &LogSettings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|fault| format!("the log filter `{}` cannot be read: {fault}", settings.filter))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first log.
    let _started = match settings.format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Human => log.with_target(false).try_init(),
    };
    Ok(())
}

/// Buckets of how long something took that ought to take milliseconds.
fn seconds_histogram() -> prometheus_client::metrics::histogram::Histogram {
    prometheus_client::metrics::histogram::Histogram::new([
        0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0,
    ])
}

#[cfg(test)]
mod tests;
