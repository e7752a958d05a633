//! What stays as it was: fields that the source product locks after creation, and those that are not an organization's
//! own to change.

use super::EditError;
use crate::domain::access::{Caller, OrganizationScope};
use crate::domain::catalog::Organization;

/// Checks what a change would do to an organization.
pub(super) fn check(who: &Caller, before: Option<&Organization>, after: &Organization) -> Result<(), EditError> {
    let Some(before) = before else { return Ok(()) };
    for (id, work_stream) in &before.work_streams {
        let Some(changed) = after.work_streams.get(id) else { continue };
        // Microsoft locks both once a work stream is saved (`msdyn_streamsource`, `msdyn_workdistributionmode`).
        if changed.stream_source != work_stream.stream_source {
            let reason = "what was captured from one source cannot become of another; create another work stream";
            return Err(EditError::Locked { field: "streamSource", reason });
        }
        if changed.distribution_mode != work_stream.distribution_mode {
            let reason = "work that is under way is handed out one way or the other; create another work stream";
            return Err(EditError::Locked { field: "distributionMode", reason });
        }
    }
    check_own_matters(who, before, after)
}

/// What bounds an organization, or names it to others, is for those to change who look after all of them.
fn check_own_matters(who: &Caller, before: &Organization, after: &Organization) -> Result<(), EditError> {
    if who.organizations == OrganizationScope::All {
        return Ok(());
    }
    let matters = [
        ("requestsPerMinute", before.rate_limit.requests_per_minute == after.rate_limit.requests_per_minute),
        ("burst", before.rate_limit.burst == after.rate_limit.burst),
        ("uniqueName", before.unique_name == after.unique_name),
    ];
    match matters.into_iter().find(|(_, same)| !same) {
        None => Ok(()),
        Some((field, _)) => {
            let reason = "only a credential that is bound to all organizations may change it";
            Err(EditError::Locked { field, reason })
        }
    }
}
