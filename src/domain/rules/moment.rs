//! Dates as they stand in records and rules, as moments that compare.
//!
//! Accepted is the form of RFC 3339, `2022-04-05T06:12:31.0000000Z`, and what Dataverse and people write besides it: a
//! date alone (midnight UTC), a blank for the `T`, no offset (UTC), no seconds. Anything else is text. Moments compare
//! to the nanosecond; further digits of a fraction are cut off.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};

/// A moment, counted from 1970-01-01T00:00:00Z. Reaches over the years 0000 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(SignedDuration);

impl Moment {
    /// Reads a date or a date-time; `None` when the text has another form, or names no real day or time.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Nothing longer is a date-time, and only the fraction makes it as long as that.
        const LONGEST_BYTES: usize = 64;
        let bytes = text.as_bytes();
        if bytes.len() > LONGEST_BYTES {
            return None;
        }
        let (date, rest) = bytes.split_at_checked(10)?;
        let date = parse_date(date)?;
        let (time, offset_seconds) = match rest {
            [] => (Time::midnight(), 0),
            [b'T' | b't' | b' ', time @ ..] => parse_time(time)?,
            _ => return None,
        };
        // From civil time by hand: a timestamp of the crate ends a day before the year 9999 does, and the last moment
        // of 9999 is what Dataverse writes for "never".
        let since = DateTime::from_parts(date, time).duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
        since.checked_sub(SignedDuration::from_secs(offset_seconds)).map(Self)
    }
}

fn parse_date(bytes: &[u8]) -> Option<Date> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *bytes else { return None };
    let year = i16::from(number(y1, y2)?) * 100 + i16::from(number(y3, y4)?);
    Date::new(year, number(m1, m2)?, number(d1, d2)?).ok()
}

/// The time of day, and how many seconds it is ahead of UTC.
fn parse_time(bytes: &[u8]) -> Option<(Time, i64)> {
    let [h1, h2, b':', m1, m2, rest @ ..] = bytes else { return None };
    let (second, nanosecond, offset) = match rest {
        [b':', s1, s2, b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (fraction, offset) = rest.split_at_checked(digits).filter(|(fraction, _)| !fraction.is_empty())?;
            (number(*s1, *s2)?, nanoseconds(fraction), offset)
        }
        [b':', s1, s2, offset @ ..] => (number(*s1, *s2)?, 0, offset),
        offset => (0, 0, offset),
    };
    // RFC 3339 writes a leap second as 60; clocks that know none repeat 59.
    let second = if second == 60 { 59 } else { second };
    let time = Time::new(number(*h1, *h2)?, number(*m1, *m2)?, second, nanosecond).ok()?;
    Some((time, parse_offset(offset)?))
}

fn parse_offset(bytes: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *bytes {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', h1, h2, b':', m1, m2] => (1, number(h1, h2)?, number(m1, m2)?),
        [b'-', h1, h2, b':', m1, m2] => (-1, number(h1, h2)?, number(m1, m2)?),
        _ => return None,
    };
    let in_range = hours < 24 && minutes < 60;
    in_range.then(|| sign * (i64::from(hours) * 3_600 + i64::from(minutes) * 60))
}

/// The first nine digits of a fraction of a second.
fn nanoseconds(fraction: &[u8]) -> i32 {
    let digits = fraction.iter().map(|byte| i32::from(byte - b'0')).chain(std::iter::repeat(0));
    digits.take(9).fold(0, |nanoseconds, digit| nanoseconds * 10 + digit)
}

fn number(tens: u8, ones: u8) -> Option<i8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| (byte - b'0').cast_signed());
    Some(digit(tens)? * 10 + digit(ones)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_moment_in_every_form() {
        for same in [
            &[
                "2022-04-15",
                "2022-04-15T00:00:00Z",
                "2022-04-15 00:00",
                "2022-04-15t02:00:00+02:00",
                "2022-04-14T23:30:00.000-00:30",
            ] as &[_],
            &["2022-04-05T06:12:31.0000000Z", "2022-04-05T06:12:31", "2022-04-05 06:12:31z"],
            &["2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"],
            &["2022-04-05T06:12:31.1234567891Z", "2022-04-05T06:12:31.1234567899Z"],
        ] {
            for (a, b) in same.iter().zip(same.iter().skip(1)) {
                assert!(Moment::parse(a).is_some(), "{a}");
                assert_eq!(Moment::parse(a), Moment::parse(b), "{a} = {b}");
            }
        }
    }

    #[test]
    fn earlier_is_less() {
        for (earlier, later) in [
            ("0000-01-01", "0000-01-02"),
            ("1969-12-31T23:59:59Z", "1970-01-01"),
            ("2022-04-05T06:12:31Z", "2022-04-05T06:12:31.000000001Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.9999999Z"),
            ("9999-12-31T23:59:59+23:59", "9999-12-31T23:59:59-23:59"),
        ] {
            assert!(Moment::parse(earlier).is_some() && Moment::parse(earlier) < Moment::parse(later), "{earlier}");
        }
    }

    #[test]
    fn other_text_is_no_date() {
        for text in [
            "",
            "2022",
            "2022-04",
            "2022-4-15",
            "15/04/2022",
            "2022-02-30",
            "2022-13-01",
            "2022-04-15T",
            "2022-04-15T24:00:00Z",
            "2022-04-15T10",
            "2022-04-15T10:00:61Z",
            "2022-04-15T10:00:00.Z",
            "2022-04-15T10:00:00+2",
            "2022-04-15T10:00:00+24:00",
            "2022-04-15T10:00:00ZZ",
            " 2022-04-15",
            "2022-04-15 ",
            "+022-04-15",
            "２022-04-15",
            "20220415",
            "INS-2022-000418",
        ] {
            assert_eq!(Moment::parse(text), None, "{text:?}");
        }
        assert_eq!(Moment::parse(&format!("2022-04-15T10:00:00.{}Z", "0".repeat(1_000))), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}", near in "[0-9TtZz:+. -]{0,40}", day in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?[0-9:.Z+-]{0,20}") {
            for text in [text, near, day] {
                let _moment = Moment::parse(&text);
            }
        }
    }
}
