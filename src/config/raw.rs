//! Reads typed values from a TOML table and goes on after each fault, so that all of them are told at once.
//!
//! A table is opened with the keys that it may have; anything else in it is a fault right away. Every value comes with
//! its place, for the checks that follow. Where a value is wrong the fault is noted and the caller gets `None`, as if
//! it had not been set: what is built from it is never used.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::meant;
use super::keys::Keys;
use super::source::Place;
use crate::domain::ids::excerpt;

/// A value and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a, T> {
    pub(super) value: T,
    pub(super) at: Place<'a>,
}

impl<'a> Field<'a, &'a str> {
    /// The value as something checked; what is wrong with it becomes a fault that quotes it.
    pub(super) fn parsed<T, E: Display>(self, key: &str, parse: impl FnOnce(&'a str) -> Result<T, E>) -> Option<T> {
        match parse(self.value) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.at.fault(format!("`{key}`: `{}` {fault}", excerpt(self.value)));
                None
            }
        }
    }
}

/// A single value of any type. Dates are told apart from text only by how they were written.
#[derive(Debug, Clone)]
pub(super) enum Scalar<'a> {
    /// Text.
    Text(&'a str),
    /// A date or a date-time of TOML's own, as text.
    Date(String),
    /// A number, in JSON's notation unless it is none there.
    Number(String),
    /// `true` or `false`.
    Boolean(bool),
}

/// A table of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    table: &'a DeTable<'a>,
    /// Where its header stands.
    pub(super) at: Place<'a>,
    keys: Keys,
}

impl<'a> Table<'a> {
    /// Opens a table; keys that it may not have become faults.
    pub(super) fn open(table: &'a DeTable<'a>, at: Place<'a>, keys: Keys) -> Self {
        for (key, _) in table.iter() {
            let word = key.get_ref().as_ref();
            // Looking for what was meant takes a while, and would be for nothing.
            if !keys.keys.contains(&word) && !at.report().is_full() {
                let at = at.moved_to(key.span().start);
                let message = format!("unknown key `{}` in {}", excerpt(&at.key(word)), keys.table);
                at.hinted(message, meant(word, keys.keys));
            }
        }
        Self { table, at, keys }
    }

    /// Where this key's value stands, or the table's header when it is not set.
    pub(super) fn place_of(&self, key: &str) -> Place<'a> {
        self.get(key).map_or(self.at, |value| self.at.moved_to(value.span().start))
    }

    /// Whether the key is set, to whatever.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the table has only keys that it may have.
    pub(super) fn is_known_throughout(&self) -> bool {
        self.table.iter().all(|(key, _)| self.keys.keys.contains(&key.get_ref().as_ref()))
    }

    /// Whether the key is set to a string.
    pub(super) fn is_string(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.get_ref().is_str())
    }

    /// Notes a fault when the key is not set.
    pub(super) fn require(&self, key: &str) {
        if !self.has(key) {
            self.at.fault(format!("`{key}` is missing in {}", self.keys.table));
        }
    }

    /// A string.
    pub(super) fn string(&self, key: &str) -> Option<Field<'a, &'a str>> {
        let value = self.get(key)?;
        self.text(key, value, "a string")
    }

    /// A string that must be there.
    pub(super) fn required_string(&self, key: &str) -> Option<Field<'a, &'a str>> {
        self.require(key);
        self.string(key)
    }

    /// A string that reads as something checked.
    pub(super) fn parsed<T, E: Display>(&self, key: &str, parse: impl FnOnce(&'a str) -> Result<T, E>) -> Option<T> {
        self.string(key)?.parsed(key, parse)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        chosen(key, self.string(key)?, choices)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(key, value, "true or false");
        }
        boolean
    }

    /// A whole number within a range.
    pub(super) fn integer<T>(&self, key: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let value = self.get(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let number =
            i128::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|read| T::try_from(read).ok());
        let within = number.filter(|number| range.contains(number));
        if within.is_none() {
            self.out_of_range(key, &integer.to_string(), range.start(), range.end());
        }
        within
    }

    /// A span of time, given in `unit`; fractions are allowed.
    pub(super) fn duration(&self, key: &str, unit: Duration, range: RangeInclusive<f64>) -> Option<Duration> {
        self.number(key, range).map(|number| unit.mul_f64(number))
    }

    /// A number within a range; fractions are allowed.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Float(float) => float.as_str().to_owned(),
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.wrong_type(key, value, "a number");
                return None;
            }
        };
        let within = text.parse::<f64>().ok().filter(|number| range.contains(number));
        if within.is_none() {
            self.out_of_range(key, &text, range.start(), range.end());
        }
        within
    }

    /// A moment: an RFC 3339 string, or TOML's own date-time.
    pub(super) fn moment_text(&self, key: &str) -> Option<Field<'a, String>> {
        let value = self.get(key)?;
        let at = self.at.moved_to(value.span().start);
        if let DeValue::Datetime(moment) = value.get_ref() {
            return Some(Field { value: moment.to_string(), at });
        }
        let text = self.text(key, value, "a moment such as \"2027-01-31T00:00:00Z\"")?;
        Some(Field { value: text.value.to_owned(), at })
    }

    /// Text, a number, a date, or true or false.
    pub(super) fn scalar(&self, key: &str) -> Option<Field<'a, Scalar<'a>>> {
        let value = self.get(key)?;
        self.as_scalar(key, value, "text, a number, a date, or true or false")
    }

    /// A list of such values.
    pub(super) fn scalars(&self, key: &str) -> Option<Vec<Field<'a, Scalar<'a>>>> {
        const EXPECTED: &str = "a list of texts, numbers, dates, or true or false";
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, EXPECTED);
            return None;
        };
        Some(array.iter().filter_map(|element| self.as_scalar(key, element, EXPECTED)).collect())
    }

    /// Whether the key is set to a list.
    pub(super) fn is_list(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &str) -> Option<Vec<Field<'a, &'a str>>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of strings");
            return None;
        };
        Some(array.iter().filter_map(|element| self.text(key, element, "a list of strings")).collect())
    }

    /// Whether the key is set to a list with nothing in it.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.get(key).and_then(|value| value.get_ref().as_array()).is_some_and(|array| array.is_empty())
    }

    /// A list of strings that must be there and must not be empty.
    pub(super) fn some_strings(&self, key: &str) -> Vec<Field<'a, &'a str>> {
        self.require(key);
        if self.is_empty_list(key) {
            self.place_of(key).fault(format!("`{key}` is empty"));
        }
        self.strings(key).unwrap_or_default()
    }

    /// A table in this one.
    pub(super) fn table(&self, key: &str, keys: Keys) -> Option<Self> {
        let value = self.get(key)?;
        self.as_table(key, value, keys)
    }

    /// A list of tables in this one.
    pub(super) fn tables(&self, key: &str, keys: Keys) -> Vec<Self> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let message = format!("`{key}` must be a list of tables, not {}", type_of(value.get_ref()));
            self.at.moved_to(value.span().start).hinted(message, format!("write {}", keys.table));
            return Vec::new();
        };
        array.iter().filter_map(|element| self.as_table(key, element, keys)).collect()
    }

    /// Tables in this one that people name as they like.
    pub(super) fn named_tables(&self, key: &str, keys: Keys) -> Vec<(Field<'a, &'a str>, Self)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table of tables");
            return Vec::new();
        };
        let named = table.iter().filter_map(|(name, value)| {
            let at = self.at.moved_to(name.span().start);
            Some((Field { value: name.get_ref().as_ref(), at }, self.as_table(name.get_ref(), value, keys)?))
        });
        named.collect()
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(self.keys.keys.contains(&key), "`{key}` is not declared for {}", self.keys.table);
        self.table.get(key)
    }

    fn text(&self, key: &str, value: &'a Spanned<DeValue<'a>>, expected: &str) -> Option<Field<'a, &'a str>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Field { value: text, at: self.at.moved_to(value.span().start) }),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.wrong_type(key, value, expected);
                None
            }
        }
    }

    fn as_scalar(&self, key: &str, value: &'a Spanned<DeValue<'a>>, expected: &str) -> Option<Field<'a, Scalar<'a>>> {
        let scalar = match value.get_ref() {
            DeValue::String(text) => Scalar::Text(text),
            // In tens, whatever the base it was written in; too long for that, it stays as it is.
            DeValue::Integer(integer) => {
                let read = i128::from_str_radix(integer.as_str(), integer.radix());
                Scalar::Number(read.map_or_else(|_| integer.to_string(), |read| read.to_string()))
            }
            DeValue::Float(float) => Scalar::Number(float.as_str().to_owned()),
            DeValue::Boolean(boolean) => Scalar::Boolean(*boolean),
            DeValue::Datetime(moment) if moment.date.is_some() => Scalar::Date(moment.to_string()),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.wrong_type(key, value, expected);
                return None;
            }
        };
        Some(Field { value: scalar, at: self.at.moved_to(value.span().start) })
    }

    fn as_table(&self, key: &str, value: &'a Spanned<DeValue<'a>>, keys: Keys) -> Option<Self> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let message = format!("`{}` must be a table, not {}", excerpt(key), type_of(value.get_ref()));
            self.at.moved_to(value.span().start).hinted(message, format!("write {}", keys.table));
        }
        table.map(|table| Self::open(table, self.at.moved_to(value.span().start), keys))
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let message = format!("`{key}` must be {expected}, not {}", type_of(value.get_ref()));
        self.at.moved_to(value.span().start).fault(message);
    }

    fn out_of_range(&self, key: &str, given: &str, least: &dyn Display, most: &dyn Display) {
        let message = format!("`{key}` must be between {least} and {most}, not {}", excerpt(given));
        self.place_of(key).fault(message);
    }
}

/// The choice of this word; a word that is none becomes a fault.
pub(super) fn chosen<T: Copy>(key: &str, word: Field<'_, &str>, choices: &[(&str, T)]) -> Option<T> {
    let choice = choices.iter().find(|(name, _)| *name == word.value).map(|(_, choice)| *choice);
    if choice.is_none() {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        word.at.hinted(format!("`{key}` cannot be `{}`", excerpt(word.value)), meant(word.value, &names));
    }
    choice
}

const fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(moment) if moment.date.is_none() => "a time of day",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
