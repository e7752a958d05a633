//! What is done to a data directory while no gateway runs on it: verifying, recovering, copying it into a database.

pub use crate::store::copying::{Copied, CopyError, copy as copy_store};
pub use crate::store::sqlite::recover::{Losses, Recovery, plan as plan_recovery, recover};
pub use crate::store::sqlite::verify::report::{Counts, Finding, Report, Severity};
pub use crate::store::sqlite::verify::{Options, Progress, verify};
