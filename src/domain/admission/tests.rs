//! Admission as a pure function: the order of the checks, what each refusal says, the test operation.

use std::collections::BTreeSet;

use super::*;
use crate::domain::access::OrganizationScope;
use crate::domain::catalog::State;
use crate::domain::fixtures::{self, caller};

/// A record that the catalog of the fixtures admits.
fn event() -> RecordCreated {
    RecordCreated::parse(&fixtures::body(1, 1, 1, &fixtures::details(1))).expect("well formed")
}

#[test]
fn checks_run_in_the_order_of_the_codes() {
    // Whatever is wrong later, the first thing that is wrong is told.
    let mut event = event();
    event.entity_set_name = crate::domain::ids::LogicalName::parse("wrong").expect("a name");
    event.relationship_name = crate::domain::ids::LogicalName::parse("wrong").expect("a name");
    let verdicts = examine(&fixtures::catalog(), &caller(), &event);
    let codes: Vec<RefusalCode> = verdicts.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, RefusalCode::ALL);
    let failed: Vec<_> = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Failed(_))).collect();
    assert_eq!(failed.len(), 2, "an examination runs every check that can run");
    match admit(&fixtures::catalog(), &caller(), event) {
        Err(NotAdmitted::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::EntitySetMismatch),
        other => panic!("{other:?}"),
    }
}

#[test]
fn to_a_caller_out_of_scope_the_organization_does_not_exist() {
    let stranger = Caller { organizations: OrganizationScope::Only(BTreeSet::new()), ..caller() };
    match admit(&fixtures::catalog(), &stranger, event()) {
        Err(NotAdmitted::Refused(refusal)) => {
            assert_eq!(refusal.code, RefusalCode::OrganizationUnknown);
            assert_eq!(refusal.expected, None, "what exists for others is not suggested");
        }
        other => panic!("{other:?}"),
    }
    let verdicts = examine(&fixtures::catalog(), &stranger, &event());
    assert!(verdicts.iter().skip(1).all(|(_, verdict)| *verdict == Verdict::NotReached));
}

#[test]
fn the_nearest_configured_value_is_offered_only_when_it_is_near() {
    let names = || ["incident", "lead"].into_iter().map(str::to_owned);
    assert_eq!(nearest("incidents", names()).as_deref(), Some("incident"));
    assert_eq!(nearest("laed", names()).as_deref(), Some("lead"));
    assert_eq!(nearest("opportunity", names()), None);
}

#[test]
fn what_is_admitted_carries_its_route_and_its_generation() {
    let catalog = fixtures::catalog();
    match admit(&catalog, &caller(), event()) {
        Ok(Admission::Record(admitted)) => {
            assert_eq!(admitted.catalog_generation(), catalog.generation());
            assert_eq!(admitted.route().rule, None);
            let organization = catalog.organizations().next().expect("one");
            assert_eq!(admitted.route().queue, organization.queues.default_queue().name);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn states_decide_who_takes_part() {
    assert!(State::Active.is_active());
    assert!(!State::Inactive.is_active());
}
