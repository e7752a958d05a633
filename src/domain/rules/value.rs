//! A value from a record, and how it compares with a value from a rule.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::condition::Operator;
use super::decimal::Decimal;
use super::literal::{Literal, TextLiteral, fold};

/// How far into a text or a list `contains` looks, in bytes. Without a bound the rules of one organization could keep a
/// worker busy for seconds, at the expense of all others.
pub(super) const LOOKED_INTO_BYTES: usize = 64 * 1024;

/// What an operand holds in one record.
pub(super) enum Value<'a> {
    /// Absent, null, an empty text or an empty list.
    Empty,
    /// Text.
    Text(TextValue<'a>),
    /// A number, as it is written and taken apart: it may be long, and many rules may ask for it.
    Number(&'a str, Decimal<'a>),
    /// `true` or `false`.
    Boolean(bool),
    /// A list, unread.
    List(&'a str),
    /// Something that compares with nothing: an object, or a list that is too long.
    Other(&'a str),
}

/// A text as it is and as it compares.
pub(super) struct TextValue<'a> {
    plain: Cow<'a, str>,
    /// `None` where it is the same.
    folded: Option<String>,
}

impl<'a> TextValue<'a> {
    fn new(plain: Cow<'a, str>) -> Self {
        let folded = match fold(&plain) {
            Cow::Borrowed(_) => None,
            Cow::Owned(folded) => Some(folded),
        };
        Self { plain, folded }
    }

    fn folded(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.plain)
    }
}

impl<'a> Value<'a> {
    /// A text that stands by itself.
    pub(super) fn text(plain: Cow<'a, str>) -> Self {
        if plain.is_empty() { Self::Empty } else { Self::Text(TextValue::new(plain)) }
    }

    /// The value that this JSON text writes.
    pub(super) fn of_json(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            None | Some(b'n') => Self::Empty,
            Some(b'"') => match serde_json::from_str::<crate::domain::record::Text<'a>>(raw) {
                Ok(text) => Self::text(text.0),
                Err(_) => Self::Other(raw),
            },
            Some(b't') => Self::Boolean(true),
            Some(b'f') => Self::Boolean(false),
            Some(b'[') if is_empty_list(raw) => Self::Empty,
            Some(b'[') if raw.len() <= LOOKED_INTO_BYTES => Self::List(raw),
            Some(b'[') => Self::Other(raw),
            Some(_) => Decimal::parse(raw).map_or(Self::Other(raw), |number| Self::Number(raw, number)),
        }
    }

    /// Whether the comparison holds. Where there are several values, one of them is enough; a negative operator is the
    /// negation of its twin with all of them.
    pub(super) fn satisfies(&self, operator: Operator, values: &[Literal]) -> bool {
        let ordered =
            |accepted: fn(Ordering) -> bool| values.iter().any(|literal| self.order(literal).is_some_and(accepted));
        match operator {
            Operator::Equals | Operator::IsOneOf => values.iter().any(|literal| self.equals(literal)),
            Operator::NotEquals => !self.satisfies(Operator::Equals, values),
            Operator::IsNotOneOf => !self.satisfies(Operator::IsOneOf, values),
            Operator::Contains => self.contains(values),
            Operator::DoesNotContain => !self.satisfies(Operator::Contains, values),
            Operator::BeginsWith => self.text_satisfies(values, |text, part| text.starts_with(part)),
            Operator::EndsWith => self.text_satisfies(values, |text, part| text.ends_with(part)),
            Operator::GreaterThan => ordered(Ordering::is_gt),
            Operator::GreaterOrEqual => ordered(Ordering::is_ge),
            Operator::LessThan => ordered(Ordering::is_lt),
            Operator::LessOrEqual => ordered(Ordering::is_le),
            Operator::IsEmpty => matches!(self, Self::Empty),
            Operator::IsNotEmpty => !self.satisfies(Operator::IsEmpty, values),
        }
    }

    fn equals(&self, literal: &Literal) -> bool {
        match (self, literal) {
            (Self::Text(text), Literal::Text(literal)) => literal.equals(text.folded()),
            (Self::Number(_, number), Literal::Number(literal)) => literal.order(number) == Some(Ordering::Equal),
            (Self::Boolean(boolean), Literal::Boolean(literal)) => boolean == literal,
            _ => false,
        }
    }

    /// How the two compare, where they are of one type that has an order.
    fn order(&self, literal: &Literal) -> Option<Ordering> {
        match (self, literal) {
            (Self::Text(text), Literal::Text(literal)) => literal.order(text.folded()),
            (Self::Number(_, number), Literal::Number(literal)) => literal.order(number),
            _ => None,
        }
    }

    fn contains(&self, values: &[Literal]) -> bool {
        let Self::List(list) = self else {
            return self.text_satisfies(values, |text, part| {
                let looked_into = text.floor_char_boundary(LOOKED_INTO_BYTES);
                text.get(..looked_into).unwrap_or(text).contains(part)
            });
        };
        any_element(list, |element| values.iter().any(|literal| element.equals(literal)))
    }

    fn text_satisfies(&self, values: &[Literal], holds: impl Fn(&str, &str) -> bool) -> bool {
        let Self::Text(text) = self else { return false };
        let part = |literal: &TextLiteral| holds(text.folded(), literal.folded());
        values.iter().any(|literal| matches!(literal, Literal::Text(literal) if part(literal)))
    }

    /// The value as JSON text, shortened; `None` when it is empty.
    pub(super) fn shown(&self) -> Option<String> {
        match self {
            Self::Empty => None,
            // A text always serializes; should one ever not, its trace is empty and not a panic.
            Self::Text(text) => Some(serde_json::to_string(&shortened(&text.plain)).unwrap_or_default()),
            Self::Number(raw, _) | Self::List(raw) | Self::Other(raw) => Some(shortened(raw).into_owned()),
            Self::Boolean(boolean) => Some(boolean.to_string()),
        }
    }
}

/// The start of a text, with `…` where something was cut off.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    const SHOWN_CHARS: usize = 100;
    match text.char_indices().nth(SHOWN_CHARS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
    }
}

/// Whether an element of the list in this JSON text meets this. One at a time: a list can be far longer as values than it
/// is as text.
fn any_element(list: &str, meets: impl FnMut(&Value<'_>) -> bool) -> bool {
    struct Elements<F>(F);
    impl<'de, F: FnMut(&Value<'_>) -> bool> Visitor<'de> for Elements<F> {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<bool, A::Error> {
            let mut met = false;
            while let Some(element) = sequence.next_element::<&RawValue>()? {
                met = met || (self.0)(&Value::of_json(element.get()));
            }
            Ok(met)
        }
    }
    // It is a part of a text that parsed.
    serde_json::Deserializer::from_str(list).deserialize_seq(Elements(meets)).unwrap_or(false)
}

fn is_empty_list(raw: &str) -> bool {
    raw.bytes().skip(1).find(|byte| !byte.is_ascii_whitespace()) == Some(b']')
}
