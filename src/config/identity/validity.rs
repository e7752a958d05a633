//! From when until when a certificate counts. The verifier in the tree knows it and does not tell, so the few bytes are
//! read here: the fifth member of a certificate's body (RFC 5280 §4.1).

use crate::domain::time::Timestamp;

/// From when until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment at which the certificate counts.
    pub not_before: Timestamp,
    /// The last one.
    pub not_after: Timestamp,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// Reads it from a certificate in DER. `None` when it is not where it must be.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let certificate = Element::read(certificate)?.of_type(SEQUENCE)?;
        let mut body = Element::read(certificate)?.of_type(SEQUENCE)?;
        if body.first() == Some(&VERSION) {
            body = Element::read(body)?.rest;
        }
        // The serial number, the signature's algorithm, the issuer.
        for _ in 0..3 {
            body = Element::read(body)?.rest;
        }
        let validity = Element::read(body)?.of_type(SEQUENCE)?;
        let not_before = Element::read(validity)?;
        let not_after = Element::read(not_before.rest)?;
        Some(Self { not_before: not_before.moment()?, not_after: not_after.moment()? })
    }
}

/// One element of DER: its type, what is in it, and what follows.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&tag, bytes) = bytes.split_first()?;
        let (&first, bytes) = bytes.split_first()?;
        let (length, bytes) = match first {
            0..=0x7f => (usize::from(first), bytes),
            // That many bytes of length follow. A certificate is shorter than 16 MiB.
            0x81..=0x83 => {
                let (length, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
                (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), bytes)
            }
            _ => return None,
        };
        let (content, rest) = bytes.split_at_checked(length)?;
        Some(Self { tag, content, rest })
    }

    fn of_type(self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }

    /// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
    fn moment(&self) -> Option<Timestamp> {
        let text = std::str::from_utf8(self.content).ok()?.strip_suffix('Z')?;
        let (year, rest) = match self.tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2)?;
                let year: u16 = year.parse().ok()?;
                // RFC 5280 §4.1.2.5.1: these two digits are of 1950 to 2049.
                (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = text.split_at_checked(4)?;
                (year.parse().ok()?, rest)
            }
            _ => return None,
        };
        if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // "Never" is written as the last second of 9999, which is more than a moment here can be.
        if year == 9_999 {
            return Some(Timestamp::from_millis(i64::MAX));
        }
        let part = |at: usize| rest.get(at..at + 2).unwrap_or_default();
        let text = format!("{year:04}-{}-{}T{}:{}:{}Z", part(0), part(2), part(4), part(6), part(8));
        let moment: jiff::Timestamp = text.parse().ok()?;
        Some(Timestamp::from_millis(moment.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(not_before: (i32, u8, u8), not_after: (i32, u8, u8)) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters");
        let date = |(year, month, day)| rcgen::date_time_ymd(year, month, day);
        (parameters.not_before, parameters.not_after) = (date(not_before), date(not_after));
        let key = rcgen::KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("signed").der().to_vec()
    }

    #[test]
    fn both_ways_to_write_a_moment_are_read() {
        let read = Validity::of(&certificate((1_999, 12, 31), (2_050, 1, 2))).expect("read");
        assert_eq!(read.not_before.to_string(), "1999-12-31T00:00:00.000Z");
        assert_eq!(read.not_after.to_string(), "2050-01-02T00:00:00.000Z");
        let forever = Validity::of(&certificate((2_020, 1, 1), (9_999, 12, 31))).expect("read");
        assert_eq!(forever.not_after.millis(), i64::MAX);
    }

    #[test]
    fn what_is_cut_or_changed_is_never_more_than_unreadable() {
        let whole = certificate((2_020, 1, 1), (2_030, 1, 1));
        for end in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..end]), None, "{end}");
        }
        for at in 0..whole.len().min(200) {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let _whatever_but_a_panic = Validity::of(&changed);
            }
        }
    }
}
