//! What a rule compares with, as it was written and as it compares.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::decimal::Decimal;
use super::moment::Moment;
use crate::domain::ids::Guid;

/// A value in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// Text, which may also be a GUID or a date.
    Text(TextLiteral),
    /// A number.
    Number(NumberLiteral),
    /// `true` or `false`.
    Boolean(bool),
}

impl Literal {
    /// A text as a value; `None` when it is empty or longer than [`TextLiteral::LIMIT_CHARS`].
    pub fn text(text: &str) -> Option<Self> {
        TextLiteral::new(text).map(Self::Text)
    }

    /// A number as a value, from JSON's notation.
    pub fn number(text: &str) -> Result<Self, NotANumber> {
        NumberLiteral::parse(text).map(Self::Number)
    }

    /// Whether values can be less or greater than this: numbers and dates can.
    pub const fn is_ordered(&self) -> bool {
        match self {
            Self::Text(text) => text.moment.is_some(),
            Self::Number(_) => true,
            Self::Boolean(_) => false,
        }
    }
}

/// A text in a rule, with everything about it that comparing needs.
#[derive(Clone, PartialEq, Eq)]
pub struct TextLiteral {
    text: Box<str>,
    folded: Box<str>,
    guid: Option<Guid>,
    moment: Option<Moment>,
}

impl std::fmt::Debug for TextLiteral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.text, f)
    }
}

impl TextLiteral {
    /// Longest text in a rule, in characters.
    pub const LIMIT_CHARS: usize = 1_000;

    fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.chars().count() <= Self::LIMIT_CHARS;
        fits.then(|| Self {
            text: text.into(),
            folded: fold(text).into(),
            guid: Guid::parse(text).ok(),
            moment: Moment::parse(text),
        })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text as it compares.
    pub(super) fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether a folded text equals this: as text, as a GUID in any form, or as a date.
    pub(super) fn equals(&self, folded: &str) -> bool {
        folded == &*self.folded
            || self.guid.is_some_and(|guid| Guid::parse(folded) == Ok(guid))
            || self.moment.is_some_and(|moment| Moment::parse(folded) == Some(moment))
    }

    /// How a folded text compares with this, when both are dates.
    pub(super) fn order(&self, folded: &str) -> Option<Ordering> {
        self.moment.and_then(|moment| Some(Moment::parse(folded)?.cmp(&moment)))
    }
}

/// A number in a rule. It is kept in a form that JSON and TOML can both write exactly: a whole number from -2^63 to
/// 2^64-1, or what a binary number of 64 bits prints as, which is any number of up to 15 digits.
#[derive(Clone, PartialEq, Eq)]
pub struct NumberLiteral(Box<str>);

impl std::fmt::Debug for NumberLiteral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a number that a rule can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotANumber {
    /// No number at all.
    #[error("is not a number")]
    Syntax,
    /// It could not be written down again exactly.
    #[error("has more digits than can be kept, or is too large or too small")]
    Inexact,
}

impl NumberLiteral {
    fn parse(text: &str) -> Result<Self, NotANumber> {
        let given = Decimal::parse(text).ok_or(NotANumber::Syntax)?;
        let kept_whole = i128::from(i64::MIN)..=i128::from(u64::MAX);
        if let Some(whole) = given.whole_number().filter(|whole| kept_whole.contains(whole)) {
            return Ok(Self(whole.to_string().into()));
        }
        let printed = text.parse::<f64>().ok().filter(|float| float.is_finite()).map(|float| format!("{float:e}"));
        let exact = printed.filter(|printed| {
            Decimal::parse(printed).is_some_and(|printed| printed.compare(&given) == Ordering::Equal)
        });
        exact.map(|printed| Self(printed.into())).ok_or(NotANumber::Inexact)
    }

    /// How a number compares with this.
    pub(super) fn order(&self, number: &Decimal<'_>) -> Option<Ordering> {
        Decimal::parse(&self.0).map(|own| number.compare(&own))
    }

    /// The number as a number of the language it is written in: whole where it is whole.
    pub(super) fn written(&self) -> WrittenNumber {
        match (self.0.parse(), self.0.parse(), self.0.parse()) {
            (Ok(whole), ..) => WrittenNumber::Signed(whole),
            (_, Ok(whole), _) => WrittenNumber::Unsigned(whole),
            (_, _, float) => WrittenNumber::Float(float.unwrap_or_default()),
        }
    }
}

/// A [`NumberLiteral`] for a serializer.
pub(super) enum WrittenNumber {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

/// Text as it compares: in lower case, character by character, so that a part of a text folds to a part of the folded
/// text.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        return Cow::Owned(text.chars().flat_map(char::to_lowercase).collect());
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_kept_exactly_or_refused() {
        for (given, kept) in [
            ("3", "3"),
            ("3.0", "3"),
            ("1.5E3", "1500"),
            ("-0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("98.60000000000001", "9.860000000000001e1"),
            ("0.1", "1e-1"),
            ("1E30", "1e30"),
        ] {
            let number = NumberLiteral::parse(given).expect(given);
            assert_eq!(&*number.0, kept);
            let given = Decimal::parse(given).expect("a number");
            assert_eq!(number.order(&given), Some(Ordering::Equal), "{kept}");
        }
        let inexact =
            ["18446744073709551616", "98.600000000000010000000001", "1E400", "1E-400", "922337203685477.5807"];
        for text in inexact {
            assert_eq!(NumberLiteral::parse(text), Err(NotANumber::Inexact), "{text}");
        }
        for text in ["", "inf", "nan", "1_000", "0x10", "high"] {
            assert_eq!(NumberLiteral::parse(text), Err(NotANumber::Syntax), "{text}");
        }
    }

    #[test]
    fn text_is_bounded() {
        assert_eq!(Literal::text(""), None);
        assert!(Literal::text(&"ø".repeat(1_000)).is_some());
        assert_eq!(Literal::text(&"ø".repeat(1_001)), None);
    }

    proptest! {
        #[test]
        fn every_double_is_kept(float in any::<f64>().prop_filter("finite", |float| float.is_finite())) {
            let number = NumberLiteral::parse(&format!("{float:e}")).expect("kept");
            let printed = format!("{float}");
            prop_assert_eq!(number.order(&Decimal::parse(&printed).expect("a number")), Some(Ordering::Equal));
        }

        #[test]
        fn folding_keeps_parts(before in "\\PC{0,10}", part in "\\PC{0,10}", after in "\\PC{0,10}") {
            let whole = format!("{before}{part}{after}");
            prop_assert!(fold(&whole).contains(&*fold(&part)));
            let folded = fold(&whole);
            prop_assert_eq!(&fold(&folded), &folded);
        }
    }
}
