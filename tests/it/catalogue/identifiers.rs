//! Group G: GUIDs and names in every spelling.

use super::{Case, post, run};
use crate::support::gateway::TestGateway;
use crate::support::records::{nth_incident, record_id};

/// The cases of this group.
pub(crate) fn cases() -> Vec<Case> {
    let id = record_id(1);
    // The record's own details name another spelling of the same ID, so only the property changes.
    let spelt = |n: usize, spelling: &dyn Fn(&str) -> String| {
        let id = record_id(n);
        nth_incident(n).replacen(&format!("\"recordId\":\"{id}\""), &format!("\"recordId\":\"{}\"", spelling(&id)), 1)
    };
    let named = |from: &str, to: &str| nth_incident(1).replacen(from, to, 1);
    let logical = |to: &str| named("\"entityLogicalName\":\"incident\"", &format!("\"entityLogicalName\":\"{to}\""));
    let upper_in_braces: &dyn Fn(&str) -> String = &|id| format!("{{{}}}", id.to_uppercase());
    vec![
        post("G62 {UPPER}", &[202], spelt(62, upper_in_braces)),
        post("G63 32 digits", &[202], spelt(63, &|id| id.replace('-', ""))),
        post("G64 %7b…%7d", &[202], spelt(64, &|id| format!("%7b{id}%7D"))),
        post("G65 blanks", &[202], spelt(65, &|id| format!("  {id} "))),
        post("G66 35 characters", &[400], spelt(1, &|id| id[1..].to_owned())),
        post("G66 37 characters", &[400], spelt(1, &|id| format!("{id}0"))),
        post("G67 g", &[400], spelt(1, &|id| id.replacen('5', "g", 1))),
        post("G68 full-width digit", &[400], spelt(1, &|id| id.replacen('5', "\u{ff15}", 1))),
        post("G69 Cyrillic a", &[400], spelt(1, &|id| id.replacen('a', "\u{430}", 1))),
        post("G70 zero-width space", &[400], spelt(1, &|id| id.replacen('-', "\u{200b}-", 1))),
        post("G71 NUL", &[400], spelt(1, &|id| format!("{id}\\u0000"))),
        post("G71 NUL in a name", &[400], logical("incident\\u0000")),
        post("G72 newline", &[400], spelt(1, &|id| format!("{id}\\n"))),
        post(
            "G73 zeros",
            &[404],
            named(super::super::support::records::ORGANIZATION_ID, "00000000-0000-0000-0000-000000000000"),
        ),
        post("G74 urn", &[400], spelt(1, &|id| format!("urn:uuid:{id}"))),
        post("G75 ../", &[400], logical("../incident")),
        post("G76 SQL", &[400], logical("' OR 1=1--")),
        post("G77 %00", &[400], logical("incident%00")),
        post("G78 Kelvin sign", &[400], logical("tas\u{212a}")),
        post("G78 dotless i", &[400], logical("\u{131}ncident")),
        post("G79 129 characters", &[400], logical(&"a".repeat(129))),
        post("G80 set name", &[404], named("\"incidents\"", "\"incidentes\"")),
        post("G81 relationship", &[404], named("incident_msdyn_ocliveworkitems", "incident_other")),
        post(
            "G82 another record",
            &[400],
            named(&format!("\"incidentid\":\"{id}\""), &format!("\"incidentid\":\"{}\"", record_id(2))),
        ),
        post("G83 *", &[400], logical("*")),
        post("G83 >", &[400], logical(">")),
        post("G83 .", &[400], logical("a.b")),
        post("G83 blank", &[400], logical("a b")),
        post("I283 line end in a name", &[400], logical("incident\\r\\nX-Evil: 1")),
    ]
}

#[test]
fn g_guids_and_identifiers() {
    run(&TestGateway::start(), &cases());
}
