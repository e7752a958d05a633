//! The name of one request, in its answer and in its log line.

use std::fmt;

/// 64 random bits as 16 hex digits: enough to find one request in a log.
#[derive(Debug, Clone)]
pub struct RequestId(String);

impl RequestId {
    /// A fresh one.
    pub fn new() -> Self {
        let mut bits = [0; 8];
        // Without random bits the ID is zero: a worse name, not a worse answer.
        if getrandom::fill(&mut bits).is_err() {
            bits = [0; 8];
        }
        Self(format!("{:016x}", u64::from_be_bytes(bits)))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
