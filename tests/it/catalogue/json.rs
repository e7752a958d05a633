//! Groups J (JSON), D (depth, size, count) and U (Unicode and bytes).

use super::{Case, post, run};
use crate::support::gateway::TestGateway;
use crate::support::records::{incident, nth_incident, record_id};

/// An incident with a record ID of its own and these raw details.
fn with_details(n: usize, details: &str) -> String {
    incident(&record_id(n), details)
}

/// The n-th incident with one text replaced.
fn changed(n: usize, from: &str, to: &str) -> String {
    let body = nth_incident(n);
    assert!(body.contains(from), "{from} is not in the body");
    body.replacen(from, to, 1)
}

fn syntax() -> Vec<Case> {
    let good = nth_incident(1);
    let positional = r#"["0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10","7c2e9d54-41a8-ea11-a812-000d3a579c31","incident","incidents","5e1f0c9a-7b2d-ea11-a810-000000000001","incident_msdyn_ocliveworkitems",{"a":1}]"#;
    let in_string = |text: &str| serde_json::to_string(text).expect("a string");
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let details = r#""recordDetails":{"#;
    vec![
        post("J1 empty", &[400], ""),
        post("J2 blanks", &[400], "   \r\n"),
        post("J3 null", &[400], "null"),
        post("J4 array", &[400], "[]"),
        post("J5 positional array", &[400], positional),
        post("J6 string", &[400], "\"str\""),
        post("J7 number", &[400], "1"),
        post("J8 true", &[400], "true"),
        post("J9 truncated", &[400], &good[..good.len() - 1]),
        post("J10 trailing text", &[400], format!("{good}x")),
        post("J11 two objects", &[400], format!("{good}{good}")),
        post("J12 trailing CRLF", &[202], format!("{}\r\n", nth_incident(12))),
        post("J13 BOM", &[400], format!("\u{feff}{good}")),
        post("J14 UTF-16", &[400], utf16),
        post("J15 single quotes", &[400], good.replace('"', "'")),
        post("J16 comment", &[400], format!("/* c */{good}")),
        post("J17 trailing comma", &[400], format!("{},}}", &good[..good.len() - 1])),
        post("J18 unquoted key", &[400], changed(1, "\"organizationId\"", "organizationId")),
        post("J19 NaN", &[400], with_details(1, r#"{"a":NaN}"#)),
        post("J20 Infinity", &[400], with_details(1, r#"{"a":Infinity}"#)),
        post("J21 number in a typed field", &[400], changed(1, "\"incident\"", "1e999")),
        post("J22 400 digits", &[202], with_details(22, &format!(r#"{{"a":{}}}"#, "9".repeat(400)))),
        post("J23 20 digits", &[202], with_details(23, r#"{"a":18446744073709551615,"b":98.60000000000001}"#)),
        post("J24 -0", &[202], with_details(24, r#"{"a":-0}"#)),
        post("J25 01", &[400], with_details(1, r#"{"a":01}"#)),
        post("J26 .5", &[400], with_details(1, r#"{"a":.5}"#)),
        post("J27 1.", &[400], with_details(1, r#"{"a":1.}"#)),
        post("J28 0x1", &[400], with_details(1, r#"{"a":0x1}"#)),
        post("J29 integer in a typed field", &[400], changed(1, "\"incidents\"", "9223372036854775808")),
        post("J30 duplicate key", &[400], changed(1, "{", r#"{"recordId":"x","#)),
        post("J31 duplicate by escape", &[400], changed(1, "{", r#"{"\u006frganizationId":"x","#)),
        post("J32 duplicate in details", &[202], with_details(32, r#"{"a":1,"a":2}"#)),
        post("J33 duplicate by case", &[400], changed(1, "{", r#"{"OrganizationId":"x","#)),
        post("J34 unknown key", &[202], nth_incident(34).replacen('{', r#"{"unknown":[1],"#, 1)),
        post("J35 prototype keys", &[202], nth_incident(35).replacen('{', r#"{"__proto__":{},"constructor":1,"#, 1)),
        post("J36 null", &[400], changed(1, "\"incidents\"", "null")),
        post("J37 number for string", &[400], changed(1, "\"incident\"", "7")),
        post("J38 object for string", &[400], changed(1, "\"incident\"", "{}")),
        post("J39 1 MiB ID", &[400], changed(1, &record_id(1), &"a".repeat(1_048_000))),
        post("J40 details array", &[400], with_details(1, "[]")),
        post("J41 details number", &[400], with_details(1, "5")),
        post("J42 details string", &[202], with_details(42, &in_string(r#"{"a":1}"#))),
        post("J43 details string in string", &[400], with_details(1, &in_string(&in_string(r#"{"a":1}"#)))),
        post("J44 details broken string", &[400], with_details(1, &in_string("{broken"))),
        post("J45 details missing", &[400], changed(1, &format!(",{details}"), r#","x":{"#)),
        post("J45 details null", &[400], with_details(1, "null")),
        post("J45 details empty", &[400], with_details(1, "{}")),
    ]
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

/// A body of exactly this many bytes.
fn sized(n: usize, bytes: usize) -> String {
    let empty = with_details(n, r#"{"a":""}"#).len();
    with_details(n, &format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - empty)))
}

fn chunked(body: &str) -> Vec<u8> {
    let head = format!(
        "POST /api/v1/records HTTP/1.1\r\nHost: gateway.test\r\nX-Api-Key: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        crate::support::gateway::KEY
    );
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
}

fn colliding_keys() -> String {
    let members: Vec<String> = (0..1_900).map(|n| format!(r#""{:0>64}":0"#, n)).collect();
    format!("{{{}}}", members.join(","))
}

fn depth_size_count() -> Vec<Case> {
    const MIB: usize = 1_048_576;
    let in_string = |text: &str| serde_json::to_string(text).expect("a string");
    let members: Vec<String> = (0..60_000).map(|n| format!(r#""k{n}":0"#)).collect();
    let declared_huge = format!(
        "POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Api-Key: {}\r\nContent-Type: application/json\r\nContent-Length: 9223372036854775807\r\n\r\n",
        crate::support::gateway::KEY
    );
    vec![
        post("D46 depth 32", &[202], with_details(46, &nested(31))),
        post("D47 depth 33", &[400], with_details(1, &nested(32))),
        post("D48 depth 127", &[400], with_details(1, &nested(126))),
        post("D49 depth 128", &[400], with_details(1, &nested(127))),
        post("D50 60,000 brackets", &[400], "[".repeat(60_000)),
        post("D51 5,000 objects", &[400], r#"{"a":"#.repeat(5_000)),
        post("D51 5,000 objects inside", &[400], with_details(1, &nested(5_000))),
        post("D52 depth in a string", &[400], with_details(1, &in_string(&nested(32)))),
        post("D53 1 MiB", &[202], sized(53, MIB)),
        post("D54 1 MiB + 1", &[413], sized(1, MIB + 1)),
        Case { id: "D55 1 MiB + 1, chunked", bytes: chunked(&sized(1, MIB + 1)), expected: &[413] },
        Case { id: "D56 declared 2^63", bytes: declared_huge.into_bytes(), expected: &[413] },
        post("D57 60,000 members", &[400], with_details(1, &format!("{{{}}}", members.join(",")))),
        post("D58 long key", &[400], with_details(1, &format!(r#"{{"{}":1}}"#, "k".repeat(100_000)))),
        post("D59 blanks around nothing", &[400], format!("{}{{}}", " ".repeat(MIB - 2))),
        post("D60 escapes", &[202], with_details(60, &format!(r#"{{"a":"{}"}}"#, "\\u0041".repeat(150_000)))),
        post("D61 many similar keys", &[202], with_details(61, &colliding_keys())),
    ]
}

fn unicode_and_bytes() -> Vec<Case> {
    let bytes_inside = |inside: &[u8]| {
        let body = with_details(1, r#"{"a":"@"}"#).into_bytes();
        let at = body.iter().position(|&byte| byte == b'@').expect("the mark");
        [&body[..at], inside, &body[at + 1..]].concat()
    };
    vec![
        post("U84 lone surrogate", &[400], with_details(1, r#"{"a":"\ud800"}"#)),
        post("U85 raw surrogate", &[400], bytes_inside(b"\xed\xa0\x80")),
        post("U86 overlong", &[400], bytes_inside(b"\xc0\xaf")),
        post("U87 FF", &[400], bytes_inside(b"\xff")),
        post("U88 truncated", &[400], bytes_inside(b"\xf0\x9f\x98")),
        post("U89 NUL", &[400], bytes_inside(b"\x00")),
        post("U90 line feed", &[400], bytes_inside(b"\n")),
        post("U91 \\x41", &[400], with_details(1, r#"{"a":"\x41"}"#)),
        post("U92 right-to-left override", &[202], with_details(92, "{\"a\":\"\u{202e}\"}")),
        post("U93 line separator", &[202], with_details(93, "{\"a\":\"\u{2028}\"}")),
        post("U94 combining marks", &[202], with_details(94, &format!("{{\"a\":\"e{}\"}}", "\u{301}".repeat(100_000)))),
        post("U95 noncharacter", &[202], with_details(95, "{\"a\":\"\u{ffff}\"}")),
        post("U96 not ASCII", &[400], nth_incident(1).replacen("\"incident\"", "\"incide\u{301}nt\"", 1)),
    ]
}

/// The cases of these groups.
pub(crate) fn cases() -> Vec<Case> {
    [syntax(), depth_size_count(), unicode_and_bytes()].concat()
}

#[test]
fn j_d_u_bodies() {
    run(&TestGateway::start(), &cases());
}
