//! The shape of a JSON text that already parsed: how deep, how many members, how long its keys, are its escapes real
//! characters.
//!
//! Details are kept byte for byte and never mapped to a tree, so nothing else would notice a depth bomb or a lone
//! surrogate in them. This is one pass over bytes, without recursion and without allocation.

/// Deepest nesting accepted, the body's own object included.
pub const MAX_DEPTH: usize = 32;
/// Most object members accepted in one body, all levels together.
pub const MAX_MEMBERS: usize = 2_000;
/// Longest key accepted, in bytes as written.
pub const MAX_KEY_BYTES: usize = 1_024;

/// What is wrong with the shape of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadShape {
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More members than [`MAX_MEMBERS`].
    #[error("has more than {MAX_MEMBERS} members")]
    TooManyMembers,
    /// A key longer than [`MAX_KEY_BYTES`].
    #[error("has a key longer than {MAX_KEY_BYTES} bytes")]
    KeyTooLong,
    /// `\ud800` without its other half: no character, so no receiver could read it (RFC 8259 §8.2).
    #[error("has half of a surrogate pair (`\\ud800` to `\\udfff` alone), which is no character")]
    LoneSurrogate,
}

/// Checks the shape of `text`, which must be a well-formed JSON text; `outer_depth` levels already surround it.
pub fn check_shape(text: &str, outer_depth: usize) -> Result<(), BadShape> {
    let bytes = text.as_bytes();
    let (mut depth, mut members, mut at) = (outer_depth, 0_usize, 0_usize);
    // The string that ended last; when a colon follows, it was a key.
    let mut last_string_bytes = 0_usize;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(BadShape::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' => {
                members += 1;
                if members > MAX_MEMBERS {
                    return Err(BadShape::TooManyMembers);
                }
                if last_string_bytes > MAX_KEY_BYTES {
                    return Err(BadShape::KeyTooLong);
                }
            }
            b'"' => {
                let end = end_of_string(bytes, at + 1)?;
                last_string_bytes = end - at - 1;
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The position of the quote that closes the string whose content starts at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, BadShape> {
    // A high surrogate that still waits for its low half.
    let mut pending_high = false;
    while let Some(&byte) = bytes.get(at) {
        let unit = match (byte, bytes.get(at + 1)) {
            (b'\\', Some(b'u')) => Some(hex_unit(bytes, at + 2)),
            _ => None,
        };
        match unit {
            Some(0xd800..=0xdbff) if !pending_high => pending_high = true,
            Some(0xdc00..=0xdfff) if pending_high => pending_high = false,
            Some(0xd800..=0xdfff) => return Err(BadShape::LoneSurrogate),
            Some(_) | None if pending_high => return Err(BadShape::LoneSurrogate),
            Some(_) | None => {}
        }
        at += match (byte, unit) {
            (b'"', _) => return Ok(at),
            (_, Some(_)) => 6,
            (b'\\', None) => 2,
            (_, None) => 1,
        };
    }
    Ok(bytes.len())
}

/// The UTF-16 unit written as four hex digits at `at`.
fn hex_unit(bytes: &[u8], at: usize) -> u16 {
    let digits = bytes.get(at..at + 4).unwrap_or_default();
    digits.iter().fold(0, |unit, &digit| {
        let value = char::from(digit).to_digit(16).unwrap_or(0);
        (unit << 4) | u16::try_from(value).unwrap_or(0)
    })
}

/// The JSON type of a well-formed value, by its first byte, in words for a message.
pub fn type_name(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) | None => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(depth: usize) -> String {
        format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn depth_counts_what_surrounds() {
        assert_eq!(check_shape(&nested(32), 0), Ok(()));
        assert_eq!(check_shape(&nested(33), 0), Err(BadShape::TooDeep));
        assert_eq!(check_shape(&nested(31), 1), Ok(()));
        assert_eq!(check_shape(&nested(32), 1), Err(BadShape::TooDeep));
        assert_eq!(check_shape(r#"{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}"#, 0), Ok(()));
    }

    #[test]
    fn members_and_keys_are_bounded() {
        let members = |count: usize| {
            let inner: Vec<String> = (0..count).map(|n| format!("\"k{n}\":{n}")).collect();
            format!("{{{}}}", inner.join(","))
        };
        assert_eq!(check_shape(&members(2_000), 0), Ok(()));
        assert_eq!(check_shape(&members(2_001), 0), Err(BadShape::TooManyMembers));
        assert_eq!(check_shape(&format!("{{\"{}\":1}}", "k".repeat(1_024)), 0), Ok(()));
        assert_eq!(check_shape(&format!("{{\"{}\":1}}", "k".repeat(1_025)), 0), Err(BadShape::KeyTooLong));
        assert_eq!(check_shape(&format!("{{\"k\":\"{}\"}}", "v".repeat(5_000)), 0), Ok(()));
    }

    #[test]
    fn surrogates_come_in_pairs() {
        assert_eq!(check_shape(r#""\ud83d\ude00""#, 0), Ok(()));
        assert_eq!(check_shape(r#""\\ud800""#, 0), Ok(()));
        for lone in [r#""\ud800""#, r#""\ude00""#, r#""\ud800x""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#""\uD800A""#]
        {
            assert_eq!(check_shape(lone, 0), Err(BadShape::LoneSurrogate), "{lone}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_scanned_without_panic(text in "\\PC{0,200}") {
            let _verdict = check_shape(&text, 0);
        }

        #[test]
        fn whatever_serde_json_writes_is_well_shaped(text in "\\PC{0,80}") {
            let written = serde_json::json!({ "key": text }).to_string();
            prop_assert_eq!(check_shape(&written, 0), Ok(()));
        }
    }
}
