//! JSON from people, whose numbers arrive as they were written. JSON's usual reading rounds what has too many digits, and
//! a rule would then compare with another number than the one that stands there.

use serde_json::Value;

use super::printable;
use crate::domain::rules::literal::Literal;

/// Reads JSON.
///
/// # Errors
/// What is wrong with it, to be put behind a name: no JSON, or a number that would be rounded.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let value = serde_json::from_str(text).map_err(|fault| format!("is not JSON: {fault}"))?;
    match numbers(text).find_map(|number| Literal::number(number).err().map(|fault| (number, fault))) {
        None => Ok(value),
        Some((number, fault)) => Err(format!("`{}` {fault}; in quotes it is text", printable(number))),
    }
}

/// The numbers in a text that is JSON.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
            let (_, from) = rest.split_at(start);
            if let Some(string) = from.strip_prefix('"') {
                rest = after_string(string);
                continue;
            }
            let end = from.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(from.len());
            let (number, after) = from.split_at(end);
            rest = after;
            return Some(number);
        }
    })
}

/// What follows a string whose opening quote is behind us.
fn after_string(text: &str) -> &str {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            // Whatever is escaped does not close it.
            '\\' => drop(chars.next()),
            '"' => return text.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_kept_exactly_or_refused() {
        let kept =
            r#"{"a\"1e999": [1, -2.50, 98.60000000000001, 18446744073709551615], "b": "0.12345678901234567890"}"#;
        assert_eq!(parse(kept).ok(), serde_json::from_str(kept).ok());
        assert_eq!(parse("1e3"), Ok(json!(1e3)));
        for rounded in
            ["18446744073709551616", r#"["\\", 0.12345678901234567890]"#, r#"{"a":{"b":-9223372036854775809}}"#]
        {
            assert!(parse(rounded).expect_err(rounded).contains("digits"), "{rounded}");
        }
        assert!(parse("{").expect_err("no JSON").starts_with("is not JSON"));
    }
}
