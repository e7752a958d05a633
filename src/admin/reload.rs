//! `POST /admin/v1/reload`: read the configuration again, now, and say what came of it.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::Desk;
use crate::config::{Faults, ReloadOutcome};
use crate::domain::access::{OrganizationScope, Permission};
use crate::http::answer;
use crate::http::problem::{Code, Problem};

/// Concerns every organization, faults of their files included, so the credential must be bound to all of them.
///
/// 200 with the generation in force, or 422 with every fault while the last good configuration stays.
pub(super) async fn reload(request: HttpRequest, desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        outcome: &'static str,
        catalog_generation: u64,
        /// Settings of the process that changed and count only after a restart.
        restart_needed: Vec<String>,
    }
    let visit = desk.door.admit(&request, &[Permission::Admin])?;
    if visit.caller().organizations != OrganizationScope::All {
        return Err(Problem::unauthorized());
    }
    let live = desk.live.clone();
    let reloaded = web::block(move || live.reload())
        .await
        .map_err(|fault| Problem::new(Code::Draining, format!("The reload was cut short: {fault}."), "Try again."))?;
    let catalog_generation = desk.live.current().catalog.generation();
    match reloaded {
        Ok(ReloadOutcome::Unchanged) => {
            let body = Body { outcome: "unchanged", catalog_generation, restart_needed: Vec::new() };
            Ok(answer::json(StatusCode::OK, &body))
        }
        Ok(ReloadOutcome::Applied { generation, restart_needed }) => {
            let body = Body { outcome: "applied", catalog_generation: generation, restart_needed };
            Ok(answer::json(StatusCode::OK, &body))
        }
        Err(faults) => Err(invalid(&faults, catalog_generation)),
    }
}

/// As many faults as fit into a problem; `streamgate check` shows all.
fn invalid(faults: &Faults, catalog_generation: u64) -> Problem {
    const SHOWN: usize = 5;
    let mut detail = faults.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let more = faults.iter().skip(SHOWN).count();
    if more > 0 {
        detail.push_str(&format!("\n… and {more} more"));
    }
    Problem::new(
        Code::ConfigurationInvalid,
        detail,
        "Correct the files; until then the last good configuration stays. `streamgate check` shows every fault.",
    )
    .under(catalog_generation)
}
