//! When a rule matches: comparisons, joined by `all` and `any`.

use super::literal::Literal;
use super::path::ColumnPath;
use crate::domain::catalog::ContextVariableKind;

/// What a rule asks of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Every one of these holds.
    All(Vec<Self>),
    /// At least one of these holds.
    Any(Vec<Self>),
    /// This comparison holds.
    Test(Test),
}

impl Condition {
    /// Most groups within groups.
    pub const MOST_LEVELS: usize = 8;

    /// Calls `visit` with every comparison, from left to right.
    pub fn each_test<'a>(&'a self, visit: &mut impl FnMut(&'a Test)) {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                for condition in conditions {
                    condition.each_test(visit);
                }
            }
            Self::Test(test) => visit(test),
        }
    }

    /// How many comparisons it makes at most.
    pub fn tests(&self) -> usize {
        match self {
            Self::All(conditions) | Self::Any(conditions) => conditions.iter().map(Self::tests).sum(),
            Self::Test(_) => 1,
        }
    }

    pub(super) fn each_test_mut(&mut self, visit: &mut impl FnMut(&mut Test)) {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                for condition in conditions {
                    condition.each_test_mut(visit);
                }
            }
            Self::Test(test) => visit(test),
        }
    }
}

/// One comparison.
#[derive(Debug, Clone)]
pub struct Test {
    /// What is compared.
    pub operand: Operand,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: Comparand,
    /// Where the rule set keeps the operand; it says so when the rule becomes part of it.
    pub(super) seat: usize,
}

impl Test {
    /// A comparison.
    pub const fn new(operand: Operand, operator: Operator, value: Comparand) -> Self {
        Self { operand, operator, value, seat: usize::MAX }
    }
}

impl PartialEq for Test {
    fn eq(&self, other: &Self) -> bool {
        (&self.operand, self.operator, &self.value) == (&other.operand, other.operator, &other.value)
    }
}

impl Eq for Test {}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operand {
    /// The value of a column in the record details.
    Column(ColumnPath),
    /// The label that people see for the value of a choice or lookup column.
    Label(ColumnPath),
    /// The record's own identity.
    Record(RecordProperty),
    /// A context variable of the work stream, by name.
    Variable(Box<str>),
}

impl Operand {
    /// The key that names this kind of operand in a document.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Column(_) => "column",
            Self::Label(_) => "label",
            Self::Record(_) => "record",
            Self::Variable(_) => "variable",
        }
    }

    /// What the key is set to.
    pub fn name(&self) -> &str {
        match self {
            Self::Column(path) | Self::Label(path) => path.as_str(),
            Self::Record(property) => property.name(),
            Self::Variable(name) => name,
        }
    }
}

/// A part of the record's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordProperty {
    /// Which kind of record.
    EntityLogicalName,
    /// The name of the kind's collection.
    EntitySetName,
    /// The record's primary key.
    RecordId,
    /// The relationship between the record and its work items.
    RelationshipName,
}

impl RecordProperty {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 4] = [Self::EntityLogicalName, Self::EntitySetName, Self::RecordId, Self::RelationshipName];

    /// The name that contract and rules use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EntityLogicalName => "entityLogicalName",
            Self::EntitySetName => "entitySetName",
            Self::RecordId => "recordId",
            Self::RelationshipName => "relationshipName",
        }
    }
}

/// How a comparison compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The same.
    Equals,
    /// Not [`Operator::Equals`].
    NotEquals,
    /// A part of the text; one element of the list.
    Contains,
    /// Not [`Operator::Contains`].
    DoesNotContain,
    /// The first part of the text.
    BeginsWith,
    /// The last part of the text.
    EndsWith,
    /// The same as one of a list.
    IsOneOf,
    /// Not [`Operator::IsOneOf`].
    IsNotOneOf,
    /// A greater number or a later date.
    GreaterThan,
    /// That, or the same.
    GreaterOrEqual,
    /// A lesser number or an earlier date.
    LessThan,
    /// That, or the same.
    LessOrEqual,
    /// Absent, null, an empty text or an empty list.
    IsEmpty,
    /// Not [`Operator::IsEmpty`].
    IsNotEmpty,
}

/// What an operator wants to be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// No value.
    Nothing,
    /// One value.
    One,
    /// A list of values.
    List,
}

/// Why a value cannot stand with its operator or its operand. Completes "the value …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Clash {
    /// The operator looks for text.
    #[error("must be text for this operator")]
    NotText,
    /// Nothing is greater or less than the value.
    #[error("must be a number or a date for this operator")]
    NotOrdered,
    /// The operand is text.
    #[error("must be text, as what it is compared with always is")]
    OperandIsText,
    /// The operand is a number.
    #[error("must be a number, as what it is compared with always is")]
    OperandIsNumber,
}

impl Operator {
    /// All of them, in the order in which messages list them.
    pub const ALL: [Self; 14] = [
        Self::Equals,
        Self::NotEquals,
        Self::Contains,
        Self::DoesNotContain,
        Self::BeginsWith,
        Self::EndsWith,
        Self::IsOneOf,
        Self::IsNotOneOf,
        Self::GreaterThan,
        Self::GreaterOrEqual,
        Self::LessThan,
        Self::LessOrEqual,
        Self::IsEmpty,
        Self::IsNotEmpty,
    ];

    /// The name that documents use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equals => "equals",
            Self::NotEquals => "not-equals",
            Self::Contains => "contains",
            Self::DoesNotContain => "does-not-contain",
            Self::BeginsWith => "begins-with",
            Self::EndsWith => "ends-with",
            Self::IsOneOf => "is-one-of",
            Self::IsNotOneOf => "is-not-one-of",
            Self::GreaterThan => "greater-than",
            Self::GreaterOrEqual => "greater-or-equal",
            Self::LessThan => "less-than",
            Self::LessOrEqual => "less-or-equal",
            Self::IsEmpty => "is-empty",
            Self::IsNotEmpty => "is-not-empty",
        }
    }

    /// What stands beside it.
    pub const fn wants(self) -> Wants {
        match self {
            Self::IsEmpty | Self::IsNotEmpty => Wants::Nothing,
            Self::IsOneOf | Self::IsNotOneOf => Wants::List,
            Self::Equals
            | Self::NotEquals
            | Self::Contains
            | Self::DoesNotContain
            | Self::BeginsWith
            | Self::EndsWith
            | Self::GreaterThan
            | Self::GreaterOrEqual
            | Self::LessThan
            | Self::LessOrEqual => Wants::One,
        }
    }

    /// Whether this value makes sense with this operator and an operand that always holds this kind of value; a column
    /// may hold any, which is `None`.
    ///
    /// # Errors
    /// The first clash.
    pub fn check(self, value: &Literal, holds: Option<ContextVariableKind>) -> Result<(), Clash> {
        let is_text = matches!(value, Literal::Text(_));
        let of_operator = match self {
            Self::Contains | Self::DoesNotContain | Self::BeginsWith | Self::EndsWith if !is_text => {
                Err(Clash::NotText)
            }
            Self::GreaterThan | Self::GreaterOrEqual | Self::LessThan | Self::LessOrEqual if !value.is_ordered() => {
                Err(Clash::NotOrdered)
            }
            Self::Equals
            | Self::NotEquals
            | Self::Contains
            | Self::DoesNotContain
            | Self::BeginsWith
            | Self::EndsWith
            | Self::IsOneOf
            | Self::IsNotOneOf
            | Self::GreaterThan
            | Self::GreaterOrEqual
            | Self::LessThan
            | Self::LessOrEqual
            | Self::IsEmpty
            | Self::IsNotEmpty => Ok(()),
        };
        of_operator?;
        match holds {
            Some(ContextVariableKind::Text) if !is_text => Err(Clash::OperandIsText),
            Some(ContextVariableKind::Number) if !matches!(value, Literal::Number(_)) => Err(Clash::OperandIsNumber),
            Some(_) | None => Ok(()),
        }
    }
}

/// What a comparison compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparand {
    /// Nothing, for operators that take no value.
    Nothing,
    /// One value.
    One(Literal),
    /// Any of these values.
    List(Vec<Literal>),
}

impl Comparand {
    /// Most values in one list.
    pub const MOST_VALUES: usize = 500;

    /// The values, however many.
    pub fn literals(&self) -> &[Literal] {
        match self {
            Self::Nothing => &[],
            Self::One(literal) => std::slice::from_ref(literal),
            Self::List(literals) => literals,
        }
    }
}
