//! What is done to a store beside the gateways: verifying and recovering a data directory that none runs on, copying it
//! into a database, verifying a database and bringing it up to date.

pub use crate::store::copying::{Copied, CopyError, copy as copy_store};
pub use crate::store::postgres::facts::{Facts as DatabaseFacts, look_at as look_at_database};
pub use crate::store::postgres::migrate;
pub use crate::store::postgres::verify::verify as verify_database;
pub use crate::store::sqlite::recover::{Losses, Recovery, plan as plan_recovery, recover};
pub use crate::store::sqlite::verify::verify;
pub use crate::store::verification::{Counts, Finding, Options, Progress, Report, Severity};
