//! Decimal numbers as they are written, compared exactly.
//!
//! A column may hold a 64-bit version, `98.60000000000001`, or `1E400`; none of them survives a detour over a binary
//! floating-point number. So nothing is converted: two texts are compared digit by digit. That takes time in proportion
//! to their lengths, whatever their exponents say, and no memory.

use std::cmp::Ordering;

/// A number in JSON's notation (a leading `+` is accepted too), taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// The significant digits: `whole`, then `fraction`, without zeros at either end. Both are empty for zero.
    whole: &'a str,
    fraction: &'a str,
    /// Where the point stands before the exponent moves it: the value is `0.digits × 10^(point + exponent)`.
    point: i128,
    exponent: Exponent<'a>,
}

/// The power of ten at the end of a number: of any length, so it is not made an integer either.
#[derive(Debug, Clone, Copy)]
struct Exponent<'a> {
    negative: bool,
    /// Without leading zeros.
    digits: &'a str,
}

impl<'a> Decimal<'a> {
    /// Takes a number apart; `None` when it is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (negative, rest) = signed(text);
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (rest.get(..at)?, Some(rest.get(at + 1..)?)),
            None => (rest, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let (exponent_negative, exponent) = exponent.map_or((false, None), |text| {
            let (negative, digits) = signed(text);
            (negative, Some(digits))
        });
        if [Some(whole), fraction, exponent].into_iter().flatten().any(|part| !is_digits(part)) {
            return None;
        }
        let fraction = fraction.unwrap_or_default();
        let exponent = exponent.unwrap_or_default().trim_start_matches('0');
        Some(Self::normal(whole, fraction, negative, Exponent { negative: exponent_negative, digits: exponent }))
    }

    fn normal(whole: &'a str, fraction: &'a str, negative: bool, exponent: Exponent<'a>) -> Self {
        let whole = whole.trim_start_matches('0');
        let significant = if whole.is_empty() { fraction.trim_start_matches('0') } else { fraction };
        // Either digits before the point, or zeros after it.
        let point = whole.len() as i128 - (fraction.len() - significant.len()) as i128;
        let fraction = significant.trim_end_matches('0');
        let whole = if fraction.is_empty() { whole.trim_end_matches('0') } else { whole };
        Self { negative, whole, fraction, point, exponent }
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    /// How the two values compare.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self.signum(), other.signum()) {
            (1, 1) => self.compare_size(other),
            (-1, -1) => other.compare_size(self),
            (own, others) => own.cmp(&others),
        }
    }

    fn signum(&self) -> i8 {
        match (self.is_zero(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    /// Compares two that are not zero, without their signs.
    fn compare_size(&self, other: &Self) -> Ordering {
        let places = self.exponent.minus(&other.exponent) + self.point - other.point;
        let digits = |number: &Self| number.whole.bytes().chain(number.fraction.bytes());
        places.cmp(&0).then_with(|| digits(self).cmp(digits(other)))
    }

    /// The value as a whole number, if it is one of at most 20 digits.
    pub(super) fn whole_number(&self) -> Option<i128> {
        const MOST_DIGITS: usize = 20;
        if self.is_zero() {
            return Some(0);
        }
        let exponent: i128 = match self.exponent.digits {
            "" => 0,
            digits if digits.len() <= MOST_DIGITS => digits.parse().ok()?,
            _ => return None,
        };
        let places = self.point + if self.exponent.negative { -exponent } else { exponent };
        let places = usize::try_from(places).ok().filter(|places| *places <= MOST_DIGITS)?;
        let digits = format!("{}{}", self.whole, self.fraction);
        if digits.len() > places {
            return None;
        }
        let size: i128 = format!("{digits:0<places$}").parse().ok()?;
        Some(if self.negative { -size } else { size })
    }
}

impl Exponent<'_> {
    /// This exponent less the other, exactly up to 10^30 in either direction and no more than that beyond it. Places
    /// in a text of a few gigabytes cannot make up for such a difference.
    fn minus(&self, other: &Self) -> i128 {
        const FAR: i128 = 10_i128.pow(30);
        let length = self.digits.len().max(other.digits.len());
        let mut difference = 0_i128;
        for place in (0..length).rev() {
            difference = difference * 10 + self.digit(place) - other.digit(place);
            if difference.abs() > FAR {
                // The places that follow add less than they would have to take back.
                return difference.signum() * FAR;
            }
        }
        difference
    }

    /// The digit at a place counted from the end, with the exponent's sign.
    fn digit(&self, place: usize) -> i128 {
        let at = self.digits.len().checked_sub(place + 1);
        let digit = at.and_then(|at| self.digits.as_bytes().get(at)).map_or(0, |byte| i128::from(byte - b'0'));
        if self.negative { -digit } else { digit }
    }
}

fn signed(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compared(a: &str, b: &str) -> Ordering {
        let read = |text| Decimal::parse(text).unwrap_or_else(|| panic!("{text}"));
        let order = read(a).compare(&read(b));
        assert_eq!(read(b).compare(&read(a)), order.reverse(), "{a} and {b}");
        order
    }

    #[test]
    fn numbers_that_a_binary_one_would_confuse_are_told_apart() {
        for (less, more) in [
            ("18446744073709551614", "18446744073709551615"),
            ("18446744073709551615", "18446744073709551616"),
            ("98.6", "98.60000000000001"),
            ("98.60000000000001", "98.600000000000010000000000000000000001"),
            ("1E400", "1.0000000000000000000000000000000000000001E400"),
            ("1E999999999", "1E1000000000"),
            ("-1E400", "-1E-400"),
            ("-2", "-1"),
            ("-1", "0"),
            ("0", "1E-999999999999999999999999999999999999999999"),
            ("1E-1000000000000000000000000000000000000000000", "1E-999999999999999999999999999999999999999999"),
            ("9E9999999999999999999999999999999999999999", "1E10000000000000000000000000000000000000000"),
            ("99E99999999999999999999999999999999999999998", "1E100000000000000000000000000000000000000000"),
        ] {
            assert_eq!(compared(less, more), Ordering::Less, "{less} < {more}");
        }
    }

    #[test]
    fn the_same_number_written_differently_is_the_same_number() {
        for same in [
            &["0", "-0", "0.000", "0E99999999999999999999999999999999999999999999", "-0.0e-1"] as &[_],
            &["1500", "1.5E3", "1.50e+03", "15E2", "0.0015E6", "1500000e-3", "+1500.0"],
            &["-0.001", "-1E-3", "-0.1e-2", "-100E-5"],
            &[
                "1E100000000000000000000000000000000000000000",
                "10E99999999999999999999999999999999999999999",
                "0.1E100000000000000000000000000000000000000001",
            ],
        ] {
            for (a, b) in same.iter().zip(same.iter().skip(1)) {
                assert_eq!(compared(a, b), Ordering::Equal, "{a} = {b}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in
            ["", "-", "+", ".", "1.", ".5", "1e", "1e+", "0x10", "1_000", "inf", "nan", "1 ", "--1", "1.2.3", "١"]
        {
            assert!(Decimal::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn whole_numbers_are_recognized_however_they_are_written() {
        let whole = |text| Decimal::parse(text).and_then(|number| number.whole_number());
        assert_eq!(whole("1.5E3"), Some(1_500));
        assert_eq!(whole("-9223372036854775808"), Some(i128::from(i64::MIN)));
        assert_eq!(whole("18446744073709551615.000"), Some(i128::from(u64::MAX)));
        assert_eq!(whole("-0E999999999"), Some(0));
        for other in ["1.5", "1E21", "1E-1", "1E999999999999999999999999", "123456789012345678901"] {
            assert_eq!(whole(other), None, "{other}");
        }
    }

    /// `mantissa × 10^shift`, written with the point anywhere and the exponent to match.
    fn written(mantissa: i64, shift: i32, point: usize) -> String {
        let digits = mantissa.unsigned_abs().to_string();
        let sign = if mantissa < 0 { "-" } else { "" };
        let point = point % digits.len();
        let (whole, fraction) = digits.split_at(digits.len() - point);
        let exponent = shift + i32::try_from(point).expect("small");
        if point == 0 { format!("{sign}{whole}E{exponent}") } else { format!("{sign}{whole}.{fraction}e{exponent}") }
    }

    proptest! {
        #[test]
        fn agrees_with_whole_numbers(a in any::<i64>(), b in any::<i64>(), small in -9_i64..9) {
            prop_assert_eq!(compared(&a.to_string(), &b.to_string()), a.cmp(&b));
            prop_assert_eq!(compared(&a.to_string(), &a.saturating_add(small).to_string()), a.cmp(&a.saturating_add(small)));
        }

        #[test]
        fn agrees_with_scaled_whole_numbers(
            a in -99_999_i64..99_999, b in -99_999_i64..99_999,
            (a_shift, b_shift) in (-6_i32..6, -6_i32..6), (a_point, b_point) in (0_usize..9, 0_usize..9),
        ) {
            let scaled = |n: i64, shift: i32| i128::from(n) * 10_i128.pow(u32::try_from(shift + 6).expect("positive"));
            let order = compared(&written(a, a_shift, a_point), &written(b, b_shift, b_point));
            prop_assert_eq!(order, scaled(a, a_shift).cmp(&scaled(b, b_shift)));
        }

        #[test]
        fn any_text_is_read_without_panic(a in "[-+0-9.eE]{0,40}", b in "\\PC{0,20}") {
            let read = (Decimal::parse(&a), Decimal::parse(&b), Decimal::parse("1E5"));
            if let (Some(a), _, Some(c)) = read {
                prop_assert_eq!(a.compare(&c), c.compare(&a).reverse());
                let _whole = a.whole_number();
            }
        }
    }
}
