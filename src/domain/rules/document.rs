//! Rules as a document: the keys under which TOML and JSON write them. What is written here, the configuration's check
//! reads back to an equal rule.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::condition::{Comparand, Condition, Test};
use super::literal::{Literal, WrittenNumber};
use super::{Rule, RuleSet};

impl Serialize for RuleSet {
    /// The list of rules.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rules())
    }
}

impl Serialize for Rule {
    /// `name`, `queue`, `state`, and `when` where there is a condition.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &*self.name)?;
        map.serialize_entry("queue", &self.queue.name)?;
        map.serialize_entry("state", &self.state)?;
        if let Some(when) = &self.when {
            map.serialize_entry("when", when)?;
        }
        map.end()
    }
}

impl Serialize for Condition {
    /// `{ all = […] }`, `{ any = […] }`, or the comparison.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, conditions) = match self {
            Self::All(conditions) => ("all", conditions),
            Self::Any(conditions) => ("any", conditions),
            Self::Test(test) => return test.serialize(serializer),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, conditions)?;
        map.end()
    }
}

impl Serialize for Test {
    /// `{ column = "prioritycode", operator = "equals", value = 1 }`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.operand.key(), self.operand.name())?;
        map.serialize_entry("operator", self.operator.name())?;
        match &self.value {
            Comparand::Nothing => {}
            Comparand::One(literal) => map.serialize_entry("value", literal)?,
            Comparand::List(literals) => map.serialize_entry("value", literals)?,
        }
        map.end()
    }
}

impl Serialize for Literal {
    /// Text, a number, or a boolean. Dates are text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text.as_str()),
            Self::Number(number) => match number.written() {
                WrittenNumber::Signed(whole) => serializer.serialize_i64(whole),
                WrittenNumber::Unsigned(whole) => serializer.serialize_u64(whole),
                WrittenNumber::Float(float) => serializer.serialize_f64(float),
            },
            Self::Boolean(boolean) => serializer.serialize_bool(*boolean),
        }
    }
}
