//! What the tests share: a gateway in this process, a raw HTTP/1.1 client, the sample records, a deadline for waiting.

pub(crate) mod connector;
pub(crate) mod described;
pub(crate) mod gateway;
#[path = "../../support/issuer.rs"]
pub(crate) mod issuer;
#[path = "../../servers/postgres.rs"]
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod records;
pub(crate) mod store;
pub(crate) mod tls;

use std::io::Write as _;
use std::time::{Duration, Instant};

/// Waits until `look` finds something, looking again and again, for at most 30 seconds.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited 30 s in vain for {what}");
        std::thread::yield_now();
    }
}

/// Says that something was not tested, past the test runner, which would keep it from whoever looks.
pub(crate) fn skipped(what: &str) {
    let _told = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// The figure of a metric without labels, which is a whole number.
pub(crate) fn metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("{name} is missing in\n{text}"));
    value.strip_suffix(".0").unwrap_or(value).parse().unwrap_or_else(|_| panic!("{name} is {value}"))
}
