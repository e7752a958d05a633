//! A value from a record, and how it compares with a value from a rule.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::value::RawValue;

use super::condition::Operator;
use super::literal::{Literal, TextLiteral, fold};

/// What an operand holds in one record.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Absent, null, an empty text or an empty list.
    Empty,
    /// Text.
    Text(TextValue<'a>),
    /// A number in JSON's notation.
    Number(&'a str),
    /// `true` or `false`.
    Boolean(bool),
    /// A list, unread.
    List(&'a str),
    /// Something that compares with nothing: an object.
    Other(&'a str),
}

/// A text as it is and as it compares.
#[derive(Debug)]
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
            Some(b'[') => Self::List(raw),
            Some(b'-' | b'0'..=b'9') => Self::Number(raw),
            Some(_) => Self::Other(raw),
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
            (Self::Number(number), Literal::Number(literal)) => literal.order(number) == Some(Ordering::Equal),
            (Self::Boolean(boolean), Literal::Boolean(literal)) => boolean == literal,
            _ => false,
        }
    }

    /// How the two compare, where they are of one type that has an order.
    fn order(&self, literal: &Literal) -> Option<Ordering> {
        match (self, literal) {
            (Self::Text(text), Literal::Text(literal)) => literal.order(text.folded()),
            (Self::Number(number), Literal::Number(literal)) => literal.order(number),
            _ => None,
        }
    }

    fn contains(&self, values: &[Literal]) -> bool {
        let Self::List(list) = self else {
            return self.text_satisfies(values, |text, part| text.contains(part));
        };
        let elements = serde_json::from_str::<Vec<&RawValue>>(list).unwrap_or_default();
        elements.into_iter().any(|element| {
            let element = Value::of_json(element.get());
            values.iter().any(|literal| element.equals(literal))
        })
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
            Self::Number(raw) | Self::List(raw) | Self::Other(raw) => Some(shortened(raw).into_owned()),
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

fn is_empty_list(raw: &str) -> bool {
    raw.bytes().skip(1).find(|byte| !byte.is_ascii_whitespace()) == Some(b']')
}
