//! Entity tags (RFC 9110 §8.8.3) made of a resource's content: they need no counter that would have to be kept, are the
//! same after a restart and in a file, and a resource that went away and came back the same has the same.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The tag of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// Any that exists (`*`).
    Any,
    /// One of these.
    OneOf(Vec<String>),
}

impl Tag {
    /// The tag of a resource, in its quotes.
    pub fn of(resource: &Value) -> String {
        // The members of an object come in the order of their names, so the same content has the same text.
        let digest = Sha256::digest(resource.to_string());
        let shown = digest.iter().take(12).map(|byte| format!("{byte:02x}"));
        format!("\"{}\"", shown.collect::<String>())
    }

    /// Reads `If-Match`. A weak tag never matches, as it must be (RFC 9110 §13.1.1).
    pub fn parse(header: &str) -> Self {
        if header.trim() == "*" {
            return Self::Any;
        }
        Self::OneOf(header.split(',').map(|tag| tag.trim().to_owned()).collect())
    }

    /// Whether the resource is the one that is meant.
    pub fn matches(&self, resource: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(&Self::of(resource)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tag_is_of_the_content() {
        let one = json!({ "name": "a", "capacity": 30 });
        let tag = Tag::of(&one);
        assert!(Tag::parse(&tag).matches(&json!({ "capacity": 30, "name": "a" })));
        assert!(Tag::parse(&format!("\"x\", {tag}")).matches(&one));
        assert!(Tag::parse(" * ").matches(&one));
        assert!(!Tag::parse(&tag).matches(&json!({ "name": "a", "capacity": 31 })));
        assert!(!Tag::parse(&format!("W/{tag}")).matches(&one));
        assert!(!Tag::parse("").matches(&one));
    }
}
