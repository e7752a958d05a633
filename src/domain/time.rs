//! A moment in time as the store and the events carry it: milliseconds since 1970, UTC. Reading the clock is the
//! business of the callers; the rules only compare.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment: whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `millis` milliseconds after 1970-01-01T00:00:00Z.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The wall clock, now. A clock before 1970 reads as 1970; the far future is capped at the year 9999.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment plus `duration`, capped rather than wrapped.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment less `duration`, capped rather than wrapped.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX).min(LATEST_PRINTABLE_MILLIS))
    }
}

/// 9999-12-30T22:00:00Z: the last moment that the RFC 3339 printer can show.
const LATEST_PRINTABLE_MILLIS: i64 = 253_402_207_200_000;

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, with milliseconds: `2026-11-23T18:07:29.123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.clamp(0, LATEST_PRINTABLE_MILLIS);
        match jiff::Timestamp::from_millisecond(shown) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => write!(f, "{shown}ms"),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_rfc_3339_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_549_964_467_000).to_string(), "2019-02-12T09:41:07.000Z");
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(-5).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::from_millis(i64::MAX).after(Duration::MAX).millis(), i64::MAX);
        assert_eq!(Timestamp::from_millis(i64::MIN).before(Duration::MAX).millis(), i64::MIN);
        assert_eq!(Timestamp::from_millis(0).since(Timestamp::from_millis(10)), Duration::ZERO);
    }
}
