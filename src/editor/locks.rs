//! What stays as it was: fields that the source product locks after creation, those that are not an organization's own to
//! change, and what the configuration files need.

use serde_json::Value;

use super::EditError;
use crate::config::Effective;
use crate::config::stored::Document;
use crate::domain::access::{Caller, OrganizationScope};
use crate::domain::catalog::{Organization, RoutingQueueName};

/// Largest document of an organization, in bytes of JSON: as large as a file, so that it can become one.
const LARGEST_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;

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
    if who.organizations == OrganizationScope::All {
        return Ok(());
    }
    if before.rate_limit != after.rate_limit {
        let requests_per_minute = before.rate_limit.requests_per_minute != after.rate_limit.requests_per_minute;
        let field = if requests_per_minute { "requestsPerMinute" } else { "burst" };
        return Err(EditError::Locked { field, reason: FOR_ALL });
    }
    Ok(())
}

const FOR_ALL: &str = "only a credential that is bound to all organizations may change it";

/// Checks what a document asks for before anything is said about it: a fault could tell an organization's administrator of
/// other organizations, and of destinations that are not its own.
pub(super) fn check_document(
    who: &Caller,
    before: Option<&Organization>,
    document: &Document,
) -> Result<(), EditError> {
    let (OrganizationScope::Only(_), Some(before)) = (&who.organizations, before) else { return Ok(()) };
    let own = document.get("organization");
    let unique_name = own.and_then(|own| own.get("uniqueName")).and_then(Value::as_str);
    if unique_name != Some(&*before.unique_name) {
        return Err(EditError::Locked { field: "uniqueName", reason: FOR_ALL });
    }
    let used = |name: &str| {
        name == RoutingQueueName::pull().as_str()
            || before.routing_queue.as_str() == name
            || before
                .work_streams
                .values()
                .any(|stream| stream.routing_queue.as_ref().is_some_and(|used| used.as_str() == name))
    };
    let streams = document.get("workStreams").and_then(Value::as_array).into_iter().flatten();
    let mut named = own.into_iter().chain(streams).filter_map(|resource| resource.get("routingQueue")?.as_str());
    if named.any(|name| !used(name)) {
        let reason =
            "only a credential that is bound to all organizations may send records where none of this one go yet";
        return Err(EditError::Locked { field: "routingQueue", reason });
    }
    Ok(())
}

/// A file may name the organization by its unique name: another one would leave files that have a fault.
pub(super) fn check_bound(
    effective: &Effective,
    before: Option<&Organization>,
    after: &Organization,
) -> Result<(), EditError> {
    let Some(before) = before.filter(|before| !before.unique_name.eq_ignore_ascii_case(&after.unique_name)) else {
        return Ok(());
    };
    match super::documents::bound_to(effective, &before.id) {
        None => Ok(()),
        Some(credential) => Err(EditError::InUse(format!(
            "The credential `{credential}` in the configuration files is bound to the organization, maybe by this name."
        ))),
    }
}

/// What cannot be a file any more cannot be moved, exported and restored.
pub(super) fn check_size(document: &Document) -> Result<(), EditError> {
    let bytes = serde_json::to_vec(document).map_or(usize::MAX, |json| json.len());
    if bytes <= LARGEST_DOCUMENT_BYTES {
        return Ok(());
    }
    let detail = format!("The organization's document would have {bytes} bytes, more than {LARGEST_DOCUMENT_BYTES}.");
    Err(EditError::TooLarge(detail))
}
