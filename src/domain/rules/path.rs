//! Which column of a record a rule speaks of.

use std::fmt;

/// The way to a value in the record details: a column, or up to four names joined by `/` that lead through nested
/// objects. Names are compared exactly, as JSON has them. A way through a list leads nowhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnPath(Box<str>);

/// Why a text is not a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAColumn {
    /// Nothing before, after or between slashes.
    #[error("has an empty name in it")]
    Empty,
    /// Deeper than [`ColumnPath::MOST_PARTS`].
    #[error("leads through more than {} names", ColumnPath::MOST_PARTS)]
    TooDeep,
    /// Longer than [`ColumnPath::LIMIT_CHARS`].
    #[error("is longer than {} characters", ColumnPath::LIMIT_CHARS)]
    TooLong,
    /// A control character.
    #[error("holds control characters")]
    ControlCharacter,
}

impl ColumnPath {
    /// Most names that a path may lead through.
    pub const MOST_PARTS: usize = 4;
    /// Longest path, in characters.
    pub const LIMIT_CHARS: usize = 200;

    /// Reads a column or a path; blanks around it are dropped.
    pub fn parse(text: &str) -> Result<Self, NotAColumn> {
        let text = text.trim();
        if text.split('/').any(str::is_empty) {
            Err(NotAColumn::Empty)
        } else if text.split('/').count() > Self::MOST_PARTS {
            Err(NotAColumn::TooDeep)
        } else if text.chars().count() > Self::LIMIT_CHARS {
            Err(NotAColumn::TooLong)
        } else if text.chars().any(char::is_control) {
            Err(NotAColumn::ControlCharacter)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The path as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names along the way.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Where the label of this column stands, in the two forms that flows send: the Web API's annotation, and the
    /// Dataverse trigger's column beside it. The first that says something counts.
    pub(super) fn labels(&self) -> [Self; 2] {
        let (above, column) = match self.0.rsplit_once('/') {
            Some((above, column)) => (format!("{above}/"), column),
            None => (String::new(), &*self.0),
        };
        let annotation = format!("{above}{column}@OData.Community.Display.V1.FormattedValue");
        [Self(annotation.into()), Self(format!("{above}_{column}_label").into())]
    }
}

impl fmt::Display for ColumnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ColumnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_paths_are_read() {
        for good in ["title", " _customerid_value ", "a/b/c/d", "x@Microsoft.Dynamics.CRM.lookuplogicalname", "Øst"] {
            assert_eq!(ColumnPath::parse(good).map(|path| path.to_string()).as_deref(), Ok(good.trim()));
        }
        assert_eq!(ColumnPath::parse("  "), Err(NotAColumn::Empty));
        assert_eq!(ColumnPath::parse("a//b"), Err(NotAColumn::Empty));
        assert_eq!(ColumnPath::parse("/a"), Err(NotAColumn::Empty));
        assert_eq!(ColumnPath::parse("a/b/c/d/e"), Err(NotAColumn::TooDeep));
        assert_eq!(ColumnPath::parse(&"a".repeat(201)), Err(NotAColumn::TooLong));
        assert_eq!(ColumnPath::parse("a\u{0}"), Err(NotAColumn::ControlCharacter));
    }

    #[test]
    fn labels_stand_beside_the_column() {
        let labels = ColumnPath::parse("a/prioritycode").expect("a path").labels();
        assert_eq!(
            labels.each_ref().map(ColumnPath::as_str),
            ["a/prioritycode@OData.Community.Display.V1.FormattedValue", "a/_prioritycode_label"]
        );
    }
}
