//! How long a destination asked to wait: the `Retry-After` header of a 429 or a 503 (RFC 9110 §10.2.3).
//!
//! It is a stranger's number, so it is bounded: nobody makes the gateway hammer, and nobody parks a record for a year.

use std::time::{Duration, SystemTime};

/// The shortest pause that a header can ask for.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause that a header can ask for.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads seconds or an HTTP date, clamped to [`SHORTEST`]..=[`LONGEST`]. Anything else, negative numbers and fractions
/// included, is `None`: as good as no header.
pub fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    let asked = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds still mean "very long".
        value.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(asked.clamp(SHORTEST, LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(value: &str) -> Option<u64> {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        parse(value, now).map(|pause| pause.as_secs())
    }

    #[test]
    fn seconds_are_clamped() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 7 "), Some(7));
        assert_eq!(seconds("0"), Some(1));
        assert_eq!(seconds("1000000000"), Some(86_400));
        assert_eq!(seconds("99999999999999999999999999"), Some(86_400));
    }

    #[test]
    fn dates_count_from_now() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(1));
        assert_eq!(seconds("Sat, 06 Nov 2094 08:49:37 GMT"), Some(86_400));
    }

    #[test]
    fn garbage_is_no_header() {
        for garbage in ["", " ", "-1", "+5", "1.5", "soon", "1e3", "0x10", "Sun, 99 Nov 1994 08:50:37 GMT", "５"] {
            assert_eq!(seconds(garbage), None, "{garbage:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_bounded(text in "\\PC{0,40}") {
            if let Some(pause) = parse(&text, SystemTime::UNIX_EPOCH) {
                prop_assert!((SHORTEST..=LONGEST).contains(&pause));
            }
        }
    }
}
