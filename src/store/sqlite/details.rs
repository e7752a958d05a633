//! A record's details in format 2, where they were a column of their own: a blob was the details, a text the SHA-256 of
//! those that were trimmed, in hex.

use rusqlite::types::{FromSqlError, FromSqlResult, ValueRef};

use crate::store::record_format::Body;

impl<'a> Body<'a> {
    /// Reads the column of format 2.
    pub(super) fn in_column(value: ValueRef<'a>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Blob(details) => Ok(Self::Kept(details)),
            ValueRef::Text(hex) => sha256_in(hex).map(Self::Trimmed).ok_or(FromSqlError::InvalidType),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Err(FromSqlError::InvalidType),
        }
    }
}

/// Reads 64 lower-case hex digits.
fn sha256_in(hex: &[u8]) -> Option<[u8; 32]> {
    let digit = |at: usize| match hex.get(at) {
        Some(digit @ b'0'..=b'9') => Some(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Some(digit - b'a' + 10),
        Some(_) | None => None,
    };
    let mut sha256 = [0; 32];
    for (at, byte) in sha256.iter_mut().enumerate() {
        *byte = (digit(2 * at)? << 4) | digit(2 * at + 1)?;
    }
    (hex.len() == 64).then_some(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_and_nothing_else_does() {
        let sha256 = std::array::from_fn(|at| u8::try_from(at * 7 % 256).unwrap());
        let text: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sha256_in(text.as_bytes()), Some(sha256));
        for wrong in ["", &text[1..], &format!("{text}0"), &text.to_uppercase(), &text.replace('0', "g")] {
            assert_eq!(sha256_in(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
