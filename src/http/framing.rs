//! Where requests begin and end in a connection's bytes, followed beside the parser.
//!
//! The parser has no bound on two parts of a chunked body that carry nothing: what may follow `;` in a chunk's size line
//! (an extension), and trailer fields. It reads and drops them for as long as they come. And it cuts a `#` off a request
//! line before anybody sees it. Both are bounded here.
//!
//! This is no second opinion on what a request is. What is over a bound is made unreadable, in place, so that the parser
//! itself refuses it, in its turn among pipelined requests and with the answer that it has for everything malformed. Where
//! a head is one that the parser will not take, or takes in another way than this does, nothing is followed any more, and
//! nothing is changed.

/// Longest size line of a chunk, in bytes: the size, an extension, and the line's end.
pub const MAX_CHUNK_LINE_BYTES: usize = 1_024;
/// All trailer fields together, in bytes.
pub const MAX_TRAILER_BYTES: usize = 8 * 1_024;

/// The start of a header line that is kept: enough for the two fields that matter, with their values.
const KEPT_BYTES: usize = 64;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The request line, or the empty lines that may come before it (RFC 9112 §2.2).
    RequestLine,
    Fields,
    Body {
        left: u64,
    },
    ChunkLine,
    ChunkData {
        left: u64,
    },
    /// The line end behind a chunk's data.
    ChunkEnd {
        left: u8,
    },
    Trailers,
    /// A bound was passed: these bytes (of two) are still to be made unreadable.
    Spoiling {
        left: u8,
    },
    Lost,
}

/// How long the body is, as far as the head has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    None,
    Bytes(u64),
    Chunked,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Framing {
    part: Part,
    length: Length,
    /// The start of the line at hand.
    line: Vec<u8>,
    /// Bytes of the line at hand, its end counted.
    line_bytes: usize,
    request_line_bytes: usize,
    trailer_bytes: usize,
    fragment: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            part: Part::RequestLine,
            length: Length::None,
            line: Vec::with_capacity(KEPT_BYTES),
            line_bytes: 0,
            request_line_bytes: 0,
            trailer_bytes: 0,
            fragment: false,
        }
    }
}

impl Framing {
    /// Bytes of the latest request line, as far as it has come.
    pub const fn request_line_bytes(&self) -> usize {
        self.request_line_bytes
    }

    /// Whether the latest request line holds a `#`.
    pub const fn has_fragment(&self) -> bool {
        self.fragment
    }

    /// Whether a head has begun and not ended.
    pub const fn is_inside_a_head(&self) -> bool {
        matches!(self.part, Part::Fields) || (matches!(self.part, Part::RequestLine) && self.line_bytes > 0)
    }

    /// Follows what has arrived, and makes unreadable what is over a bound.
    pub fn advance(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match self.part {
                Part::Lost => return,
                Part::Body { left } => self.skip(bytes.len(), left, |left| Part::Body { left }, Part::RequestLine),
                Part::ChunkData { left } => {
                    self.skip(bytes.len(), left, |left| Part::ChunkData { left }, Part::ChunkEnd { left: 2 })
                }
                Part::ChunkEnd { left: 0 } => {
                    self.part = Part::ChunkLine;
                    0
                }
                Part::ChunkEnd { left } => {
                    self.part = Part::ChunkEnd { left: left - 1 };
                    1
                }
                Part::Spoiling { left } => {
                    // A line end that is none: no part of a chunked body may hold it.
                    if let Some(byte) = bytes.first_mut() {
                        *byte = if left == 2 { b'\r' } else { 0 };
                    }
                    self.part = if left == 2 { Part::Spoiling { left: 1 } } else { Part::Lost };
                    1
                }
                Part::RequestLine | Part::Fields | Part::ChunkLine | Part::Trailers => self.line(bytes),
            };
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
    }

    /// Passes over bytes of a body. Answers how many.
    fn skip(&mut self, there: usize, left: u64, still: fn(u64) -> Part, then: Part) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        let left = left - taken as u64;
        self.part = if left == 0 { then } else { still(left) };
        taken
    }

    /// Takes what there is of the line at hand. Answers how many bytes that is.
    fn line(&mut self, bytes: &mut [u8]) -> usize {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let allowed = if self.part == Part::ChunkLine {
            MAX_CHUNK_LINE_BYTES.saturating_sub(self.line_bytes)
        } else if self.part == Part::Trailers {
            MAX_TRAILER_BYTES.saturating_sub(self.trailer_bytes)
        } else {
            usize::MAX
        };
        let taken = end.map_or(bytes.len(), |end| end + 1);
        if taken > allowed {
            self.part = Part::Spoiling { left: 2 };
            return allowed;
        }
        let piece = bytes.get_mut(..taken).unwrap_or_default();
        if self.part == Part::RequestLine {
            self.request_line(piece);
        } else if self.part == Part::Trailers {
            self.trailer_bytes += taken;
        }
        self.line_bytes += taken;
        let room = KEPT_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(piece.get(..room.min(taken)).unwrap_or_default());
        if end.is_some() {
            self.part = self.after_line();
            self.line.clear();
            self.line_bytes = 0;
        }
        taken
    }

    /// A piece of a request line: counted, and without a fragment.
    fn request_line(&mut self, piece: &mut [u8]) {
        if self.line_bytes == 0 {
            self.request_line_bytes = 0;
            self.fragment = false;
        }
        self.request_line_bytes += piece.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).count();
        for byte in piece.iter_mut().filter(|byte| **byte == b'#') {
            // No request line may hold it, so the parser refuses the line.
            *byte = 0;
            self.fragment = true;
        }
    }

    /// What comes after the line at hand, which is whole.
    fn after_line(&mut self) -> Part {
        let is_whole = self.line_bytes <= KEPT_BYTES;
        let is_empty = is_whole && matches!(self.line.as_slice(), b"\r\n" | b"\n");
        match self.part {
            Part::RequestLine if is_empty => Part::RequestLine,
            Part::RequestLine => {
                self.length = Length::None;
                Part::Fields
            }
            Part::Fields if is_empty => match self.length {
                Length::None | Length::Bytes(0) => Part::RequestLine,
                Length::Bytes(left) => Part::Body { left },
                Length::Chunked => Part::ChunkLine,
            },
            Part::Fields => self.after_field(is_whole),
            Part::ChunkLine => match chunk_bytes(&self.line) {
                Some(0) => {
                    self.trailer_bytes = 0;
                    Part::Trailers
                }
                Some(left) => Part::ChunkData { left },
                None => Part::Lost,
            },
            // Only CR and LF together end a trailer line for the parser.
            Part::Trailers if is_empty && self.line.len() == 2 => Part::RequestLine,
            Part::Trailers => Part::Trailers,
            Part::Body { .. } | Part::ChunkData { .. } | Part::ChunkEnd { .. } | Part::Spoiling { .. } | Part::Lost => {
                self.part
            }
        }
    }

    /// What comes after a header line: more of them. Whatever the parser will refuse is not followed.
    fn after_field(&mut self, is_whole: bool) -> Part {
        let colon = self.line.iter().position(|&byte| byte == b':');
        let Some((name, value)) = colon.and_then(|at| Some((self.line.get(..at)?, self.line.get(at + 1..)?))) else {
            return if is_whole { Part::Lost } else { Part::Fields };
        };
        let length = if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.trim_ascii();
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
            number.map(Length::Bytes)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            value.trim_ascii().eq_ignore_ascii_case(b"chunked").then_some(Length::Chunked)
        } else {
            return Part::Fields;
        };
        match length {
            Some(length) if is_whole && self.length == Length::None => {
                self.length = length;
                Part::Fields
            }
            Some(_) | None => Part::Lost,
        }
    }
}

/// The size that a chunk's size line begins with.
fn chunk_bytes(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let digits = std::str::from_utf8(line.get(..end)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is left of these bytes when they arrive in pieces of this size.
    fn followed(bytes: &[u8], piece: usize) -> (Vec<u8>, Framing) {
        let mut framing = Framing::default();
        let mut bytes = bytes.to_vec();
        for piece in bytes.chunks_mut(piece) {
            framing.advance(piece);
        }
        (bytes, framing)
    }

    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn ordinary_requests_are_left_as_they_are_however_they_arrive() {
        let pipelined = format!(
            "\r\nPOST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n#\n\r\n#GET /b HTTP/1.1\r\nX: #\r\n\r\n{HEAD}3;x=y\r\n#\r\n\r\n1\r\na\r\n0\r\nT: #1\r\n\r\nGET /c HTTP/1.1\n\nGET /d HTTP/1.1\r\n"
        );
        for piece in 1..pipelined.len() {
            let (bytes, framing) = followed(pipelined.as_bytes(), piece);
            assert_eq!(String::from_utf8_lossy(&bytes), pipelined, "in pieces of {piece}");
            assert_eq!(framing.part, Part::Fields, "in pieces of {piece}");
            assert_eq!(framing.request_line_bytes(), "GET /d HTTP/1.1".len());
        }
    }

    #[test]
    fn between_requests_there_is_no_head() {
        let request = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        for (bytes, is_inside) in [
            (request.to_owned(), false),
            (format!("{request}\r\n"), false),
            (format!("{request}G"), true),
            (format!("{request}GET / HTTP/1.1\r\n"), true),
            (format!("{request}GET / HTTP/1.1\r\n\r\n"), false),
            (format!("{HEAD}0\r\n\r\n"), false),
            (String::new(), false),
        ] {
            assert_eq!(followed(bytes.as_bytes(), 1).1.is_inside_a_head(), is_inside, "{bytes:?}");
        }
    }

    #[test]
    fn fragments_do_not_reach_the_parser() {
        let (bytes, framing) = followed(b"GET /a HTTP/1.1\r\n\r\n\r\nGET /a#b HTTP/1.1\r\n", 3);
        assert_eq!(bytes, b"GET /a HTTP/1.1\r\n\r\n\r\nGET /a\0b HTTP/1.1\r\n");
        assert!(framing.has_fragment() && framing.is_inside_a_head());
    }

    #[test]
    fn long_size_lines_and_trailers_are_spoilt() {
        for piece in [1, 2, 7, 1_000, 100_000] {
            let fits = format!("{HEAD}1;{}\r\na\r\n", "x".repeat(MAX_CHUNK_LINE_BYTES - 4));
            assert_eq!(followed(fits.as_bytes(), piece).0, fits.as_bytes());
            let long = format!("{HEAD}1;{}\r\na\r\n", "x".repeat(MAX_CHUNK_LINE_BYTES - 3));
            let (bytes, framing) = followed(long.as_bytes(), piece);
            let at = HEAD.len() + MAX_CHUNK_LINE_BYTES;
            assert_eq!(&bytes[at - 1..at + 2], b"\r\r\0", "in pieces of {piece}");
            assert_eq!(framing.part, Part::Lost);

            let trailers = format!("{HEAD}0\r\n{}", "T: 12345\r\n".repeat(MAX_TRAILER_BYTES / 10 + 1));
            let (bytes, framing) = followed(trailers.as_bytes(), piece);
            let at = HEAD.len() + 3 + MAX_TRAILER_BYTES;
            assert_eq!(&bytes[at..at + 2], b"\r\0", "in pieces of {piece}");
            assert_eq!(framing.part, Part::Lost);
        }
    }

    #[test]
    fn what_the_parser_refuses_is_not_followed() {
        for head in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: +1",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Nonsense",
        ] {
            let whole = format!("POST / HTTP/1.1\r\n{head}\r\n\r\n##");
            let (bytes, framing) = followed(whole.as_bytes(), 5);
            assert_eq!((bytes.as_slice(), framing.part), (whole.as_bytes(), Part::Lost), "{head}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..40) {
            let whole = [HEAD.as_bytes(), &bytes].concat();
            prop_assert_eq!(followed(&whole, piece).0, followed(&whole, whole.len()).0);
        }
    }
}
