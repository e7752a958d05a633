//! The operation's inputs as pure functions: every accepted form, every refusal that needs no configuration.

use proptest::prelude::*;

use super::*;

const ORGANIZATION: &str = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10";
const WORK_STREAM: &str = "7c2e9d54-41a8-ea11-a812-000d3a579c31";
const RECORD: &str = "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5";

/// A body with these details, as raw JSON.
fn body(details: &str) -> String {
    format!(
        r#"{{"organizationId":"{ORGANIZATION}","workStreamId":"{WORK_STREAM}","entityLogicalName":"incident","entitySetName":"incidents","recordId":"{RECORD}","relationshipName":"incident_msdyn_ocliveworkitems","recordDetails":{details}}}"#
    )
}

fn parse(text: &str) -> Result<RecordCreated, Malformed> {
    RecordCreated::parse(text.as_bytes())
}

fn kept(text: &str) -> String {
    let event = parse(text).expect("accepted");
    event.details.as_ref().and_then(RecordDetails::as_text).unwrap_or_default().to_owned()
}

#[test]
fn details_stay_the_bytes_they_were() {
    for details in [
        r#"{"reading":98.60000000000001,"RowVersion":18446744073709551615,"z":1,"a":2,"a":3}"#,
        r#"{ "spaced" : [ 1 , 2.50 ] , "neg":-0 }"#,
        r#"{"escaped":"\u00d8st \/ \ud83d\ude00"}"#,
        "{\"rtl\":\"\u{202e}\",\"line\":\"\\u2028\"}",
    ] {
        assert_eq!(kept(&body(details)), details);
    }
    let huge = format!(r#"{{"n":{}}}"#, "9".repeat(400));
    assert_eq!(kept(&body(&huge)), huge);
}

#[test]
fn a_string_that_holds_an_object_is_read_once() {
    let inner = r#"{"leadid":"x","budget":12500.5,"quote":"a \"b\""}"#;
    let string = serde_json::to_string(inner).expect("a string");
    assert_eq!(kept(&body(&string)), inner);

    let twice = serde_json::to_string(&string).expect("a string");
    let fault = parse(&body(&twice)).expect_err("refused");
    assert_eq!(fault.property, Some(Property::RecordDetails));
    assert!(fault.message.contains("holds a string"), "{fault}");
}

#[test]
fn pascal_case_and_the_old_work_stream_name_are_accepted() {
    let pascal = body(r#"{"a":1}"#)
        .replace("organizationId", "OrganizationId")
        .replace("workStreamId", "liveWorkStreamId")
        .replace("entityLogicalName", "EntityLogicalName")
        .replace("recordDetails", "RecordDetails");
    assert_eq!(parse(&pascal), parse(&body(r#"{"a":1}"#)));
}

#[test]
fn a_property_given_twice_under_any_name_is_refused() {
    for (first, again) in [
        ("organizationId", "organizationId"),
        ("organizationId", "OrganizationId"),
        ("organizationId", "\\u006frganizationId"),
        ("workStreamId", "liveWorkStreamId"),
        ("workStreamId", "LiveWorkStreamId"),
    ] {
        let twice = body("{}").replacen('{', &format!(r#"{{"{again}":null,"#), 1);
        let fault = parse(&twice).expect_err("refused");
        assert_eq!(fault.property.map(Property::name), Some(first), "{again}");
        assert!(fault.message.contains("more than once"), "{fault}");
    }
}

#[test]
fn every_fault_names_its_property() {
    let cases = [
        (body("{}").replace(ORGANIZATION, "urn:uuid:x"), Property::OrganizationId),
        (body("{}").replace(&format!("\"{WORK_STREAM}\""), "7"), Property::WorkStreamId),
        (body("{}").replace("\"incident\"", "\"' OR 1=1--\""), Property::EntityLogicalName),
        (body("{}").replace("\"incidents\"", "null"), Property::EntitySetName),
        (body("{}").replace(RECORD, "5e1f0c9a"), Property::RecordId),
        (body("{}").replace("_ocliveworkitems", "\\u0000"), Property::RelationshipName),
        (body("[]"), Property::RecordDetails),
        (body("1"), Property::RecordDetails),
        (body("true"), Property::RecordDetails),
        (body(r#""{broken""#), Property::RecordDetails),
        (body(r#""[1]""#), Property::RecordDetails),
    ];
    for (text, property) in cases {
        let fault = parse(&text).expect_err(&text);
        assert_eq!(fault.property, Some(property), "{fault}");
        assert!(fault.message.contains(property.name()), "{fault}");
    }
}

/// What admission asks of the details of a real record.
fn check(text: &str) -> Result<(), Malformed> {
    parse(text).expect("well formed").details_of_record().map(|_| ())
}

#[test]
fn the_record_and_its_details_must_agree_where_the_details_say() {
    let other = "11111111-1111-1111-1111-111111111111";
    for key in ["incidentid", "ItemInternalId"] {
        let fault = check(&body(&format!(r#"{{"{key}":"{other}"}}"#))).expect_err("refused");
        assert_eq!(fault.property, Some(Property::RecordId));
        assert!(fault.message.contains(other) && fault.message.contains(key), "{fault}");
        assert_eq!(check(&body(&format!(r#"{{"{key}":"{{{}}}"}}"#, RECORD.to_uppercase()))), Ok(()));
        assert_eq!(check(&body(&format!(r#"{{"{key}":"not a guid"}}"#))), Ok(()));
        assert_eq!(check(&body(&format!(r#"{{"{key}":7}}"#))), Ok(()));
    }
}

#[test]
fn absent_details_are_told_from_present_ones() {
    for details in ["null", r#""""#, r#""  ""#] {
        assert_eq!(parse(&body(details)).map(|event| event.details), Ok(None), "{details}");
        assert_eq!(check(&body(details)).expect_err("refused").property, Some(Property::RecordDetails));
    }
    let without = body("{}").replace(r#","recordDetails":{}"#, "");
    for empty in [body("{ }"), without] {
        assert_eq!(check(&empty).expect_err("refused").property, Some(Property::RecordDetails), "{empty}");
    }
    assert_eq!(check(&body(r#"{"a":1}"#)), Ok(()));
}

#[test]
fn the_relationship_defaults_to_microsofts_rule() {
    for absent in [r#""relationshipName":null,"#, r#""relationshipName":" ","#, ""] {
        let text = body("{}").replace(r#""relationshipName":"incident_msdyn_ocliveworkitems","#, absent);
        assert_eq!(parse(&text).expect("accepted").relationship_name.as_str(), "incident_msdyn_ocliveworkitems");
    }
}

#[test]
fn bodies_that_are_no_object_are_refused_as_a_whole() {
    for text in [
        "",
        "   ",
        "null",
        "[]",
        "\"s\"",
        "1",
        "true",
        "{",
        "{}x",
        "{}{}",
        "\u{feff}{}",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":NaN}",
    ] {
        let fault = parse(text).expect_err(text);
        assert_eq!(fault.property, None, "{text}: {fault}");
    }
    let positional = format!(r#"["{ORGANIZATION}","{WORK_STREAM}","incident","incidents","{RECORD}","r",{{}}]"#);
    assert!(parse(&positional).expect_err("refused").message.contains("must be a JSON object"));
    assert!(RecordCreated::parse(b"{\"a\":\"\xff\"}").expect_err("refused").message.contains("UTF-8"));
}

#[test]
fn depth_hidden_in_a_string_counts_like_depth_in_the_open() {
    let open = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let hidden = |levels: usize| serde_json::to_string(&open(levels)).expect("a string");
    assert!(parse(&body(&open(31))).is_ok());
    assert!(parse(&body(&open(32))).is_err());
    assert!(parse(&body(&hidden(31))).is_ok());
    assert!(parse(&body(&hidden(32))).is_err());
    assert!(parse(&body(&open(60_000))).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _outcome = RecordCreated::parse(&bytes);
    }

    #[test]
    fn any_details_value_is_read_without_panic(details in "\\PC{0,120}") {
        let _outcome = RecordCreated::parse(body(&details).as_bytes());
    }
}
