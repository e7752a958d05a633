//! What JetStream answers to a message that was published: an acknowledgement, or an error with a code
//! (`server/errors.json` of the NATS server lists them).

use serde::Deserialize;

use crate::domain::ids::excerpt;
use crate::routing_queue::Taken;

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The stream has it.
    Taken(Taken),
    /// It passes by itself within moments: publish it again.
    Again(String),
    /// Whoever runs the stream has to do something.
    Down(String),
    /// This message will never be taken.
    Never(String),
}

/// No leader for the moment, a repeat whose first is still on its way to the replicas, too much at once.
const AGAIN: [u64; 4] = [10_008, 10_009, 10_158, 10_167];
/// The message, or its header, is larger than what the stream takes.
const TOO_LARGE: [u64; 2] = [10_054, 10_097];

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<RawError>,
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Reads an answer; `stream` is the one whose acknowledgement counts.
pub(super) fn read(payload: &[u8], stream: &str) -> Answer {
    let Ok(raw) = serde_json::from_slice::<Raw>(payload) else {
        let begins = String::from_utf8_lossy(payload.get(..payload.len().min(64)).unwrap_or_default());
        return Answer::Down(format!("what answers is no JetStream: {}", excerpt(&begins)));
    };
    if let Some(RawError { err_code, description }) = raw.error {
        let reason = format!("the stream answered {} (error {err_code})", excerpt(&description));
        return match err_code {
            code if AGAIN.contains(&code) => Answer::Again(reason),
            code if TOO_LARGE.contains(&code) => Answer::Never(reason),
            _ => Answer::Down(reason),
        };
    }
    // An acknowledgement names the stream and the place in it; anything else is none.
    match (raw.stream == stream, raw.seq) {
        (true, 1..) => Answer::Taken(if raw.duplicate { Taken::Before } else { Taken::Now }),
        (true, 0) => Answer::Down("the answer is no acknowledgement: it names no sequence number".to_owned()),
        (false, _) if raw.stream.is_empty() => Answer::Down("the answer is no acknowledgement of a stream".to_owned()),
        (false, _) => Answer::Down(format!("acknowledged by the stream `{}`, not `{stream}`", excerpt(&raw.stream))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_acknowledgement_of_the_stream_counts() {
        let down = |answer: &Answer| matches!(answer, Answer::Down(_));
        assert_eq!(read(br#"{"stream":"S","seq":7}"#, "S"), Answer::Taken(Taken::Now));
        assert_eq!(
            read(br#"{"stream":"S","domain":"hub","seq":7,"duplicate":true}"#, "S"),
            Answer::Taken(Taken::Before)
        );
        for other in [
            br#"{"stream":"OTHER","seq":7}"#.as_slice(),
            br#"{"stream":"S","seq":0}"#,
            br#"{"stream":"S"}"#,
            b"{}",
            b"[]",
            b"",
            b"+OK",
            br#"{"stream":"S","seq":-1}"#,
        ] {
            assert!(down(&read(other, "S")), "{other:?}");
        }
    }

    #[test]
    fn an_error_says_whether_to_try_again() {
        let of = |code: u64| {
            let text =
                format!(r#"{{"error":{{"code":400,"err_code":{code},"description":"why\n"}},"stream":"S","seq":1}}"#);
            read(text.as_bytes(), "S")
        };
        assert!(matches!(of(10_054), Answer::Never(reason) if reason.contains("10054")));
        assert!(matches!(of(10_158), Answer::Again(_)));
        assert!(matches!(of(10_077), Answer::Down(_)), "a full stream");
        assert!(matches!(of(10_060), Answer::Down(_)), "another stream than expected");
        let Answer::Down(reason) = of(1) else { panic!() };
        assert!(!reason.contains('\n'), "{reason}");
    }
}
