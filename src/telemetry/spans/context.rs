//! What names a span to others: W3C Trace Context's `traceparent`, `00-<32 hex>-<16 hex>-<2 hex>`.

/// The trace, the span in it, and whether it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

const SAMPLED: u8 = 1;

impl SpanContext {
    /// Reads a `traceparent`; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace, span, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
        if parts.next().is_some() || version.len() != 2 || version == "ff" || !is_hex(version) || flags.len() != 2 {
            return None;
        }
        let [flags] = bytes(flags)?;
        let (trace_id, span_id) = (bytes(trace)?, bytes(span)?);
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id, flags })
    }

    /// The first span of a new trace, sampled; `None` where the operating system gives no random bits.
    pub(super) fn root() -> Option<Self> {
        let mut trace_id = [0; 16];
        getrandom::fill(&mut trace_id).ok()?;
        Self { trace_id, span_id: [0; 8], flags: SAMPLED }.child()
    }

    /// Another span of the same trace.
    pub(super) fn child(&self) -> Option<Self> {
        let mut span_id = [0; 8];
        getrandom::fill(&mut span_id).ok()?;
        // All zeros means "none".
        (span_id != [0; 8]).then_some(Self { span_id, ..*self })
    }

    /// Whether somebody is to see it.
    pub const fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace.
    pub const fn trace_id(&self) -> &[u8; 16] {
        &self.trace_id
    }

    /// The span.
    pub const fn span_id(&self) -> &[u8; 8] {
        &self.span_id
    }

    /// The trace in hex, as logs have it.
    pub fn trace_id_text(&self) -> String {
        hex(&self.trace_id)
    }

    /// So many of the last bits of the trace ID.
    pub(super) fn low_bits(&self, bits: u32) -> u64 {
        let low = u128::from_be_bytes(self.trace_id) & ((1 << bits) - 1);
        u64::try_from(low).unwrap_or(u64::MAX)
    }

    /// The `traceparent`.
    pub fn to_traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace_id), hex(&self.span_id), self.flags & SAMPLED)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 || !is_hex(text) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_traceparent_is_one() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = SpanContext::parse(text).unwrap();
        assert!(context.sampled() && !SpanContext::parse(&text.replace("-01", "-00")).unwrap().sampled());
        assert_eq!(context.to_traceparent(), text);
        assert_eq!(context.trace_id_text(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(SpanContext::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            if let Some(context) = SpanContext::parse(&text) {
                prop_assert_eq!(SpanContext::parse(&context.to_traceparent()).map(|it| it.trace_id), Some(context.trace_id));
            }
        }
    }
}
