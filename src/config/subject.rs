//! Subjects of messages to NATS: a template with the names of where a record belongs, each as one safe token.
//!
//! A subject is tokens with dots between them (NATS protocol, "Subject names"). White space, `*`, `>` and control
//! characters may not stand in one that is published to, and a dot in a name would make two tokens of it. So a name is
//! escaped: letters, digits, `-` and `_` stay, every other byte of its UTF-8 becomes `%` and two hexadecimal digits. `%`
//! itself is escaped too, so two names never share a token, and a name can be read back from its token.

use std::fmt;

/// What stands in front where a configuration says nothing else.
pub const DEFAULT_TEMPLATE: &str = "streamgate.{organization}.{work_stream}.{queue}";

/// The longest template, in bytes. With the longest names the subject stays far below what servers take.
const LONGEST_TEMPLATE_BYTES: usize = 256;

/// What a subject is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Organization,
    WorkStream,
    Queue,
}

/// A checked template: every subject made of it can be published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate(Vec<Part>);

/// Where a record belongs, as its subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The organization.
    pub organization: &'a str,
    /// The work stream.
    pub work_stream: &'a str,
    /// The queue within the organization.
    pub queue: &'a str,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotATemplate {
    /// Nothing, or more than anybody needs.
    #[error("must have 1 to {LONGEST_TEMPLATE_BYTES} bytes")]
    Length,
    /// Two dots in a row, or one at an end.
    #[error("has an empty token: no dot at an end, and never two in a row")]
    EmptyToken,
    /// A placeholder is a token by itself, and one of three.
    #[error(
        "has a token `{0}`: {{organization}}, {{work_stream}} and {{queue}} are the placeholders, each a token by itself"
    )]
    Placeholder(String),
    /// What no subject that is published to may hold.
    #[error("has a token `{0}`: letters, digits, `-` and `_` may stand in one")]
    Character(String),
    /// Subjects that begin like this belong to the server.
    #[error("begins with `{0}`, which belongs to the server")]
    Reserved(String),
}

impl SubjectTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`NotATemplate`], which says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NotATemplate> {
        if text.is_empty() || text.len() > LONGEST_TEMPLATE_BYTES {
            return Err(NotATemplate::Length);
        }
        let parts: Vec<Part> = text.split('.').map(part).collect::<Result<_, _>>()?;
        match parts.first() {
            Some(Part::Literal(first)) if is_reserved(first) => Err(NotATemplate::Reserved(first.to_string())),
            Some(_) | None => Ok(Self(parts)),
        }
    }

    /// The subject of a record that belongs there.
    pub fn subject(&self, place: Place<'_>) -> String {
        let tokens = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.to_string(),
            Part::Organization => token(place.organization),
            Part::WorkStream => token(place.work_stream),
            Part::Queue => token(place.queue),
        });
        tokens.collect::<Vec<_>>().join(".")
    }

    /// What covers every subject of the template: a `*` for each placeholder.
    pub fn filter(&self) -> String {
        let tokens = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.as_ref(),
            Part::Organization | Part::WorkStream | Part::Queue => "*",
        });
        tokens.collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.as_ref(),
            Part::Organization => "{organization}",
            Part::WorkStream => "{work_stream}",
            Part::Queue => "{queue}",
        });
        f.write_str(&tokens.collect::<Vec<_>>().join("."))
    }
}

fn part(token: &str) -> Result<Part, NotATemplate> {
    match token {
        "" => Err(NotATemplate::EmptyToken),
        "{organization}" => Ok(Part::Organization),
        "{work_stream}" => Ok(Part::WorkStream),
        "{queue}" => Ok(Part::Queue),
        other if other.contains(['{', '}']) => Err(NotATemplate::Placeholder(shown(other))),
        other if other.bytes().all(is_plain) => Ok(Part::Literal(other.into())),
        other => Err(NotATemplate::Character(shown(other))),
    }
}

fn shown(token: &str) -> String {
    crate::domain::ids::excerpt(token)
}

/// `_INBOX` and the like belong to clients' replies. `$SYS`, `$JS` and `$KV` cannot be written at all: `$` is not plain.
fn is_reserved(first: &str) -> bool {
    first.starts_with("_INBOX") || first.starts_with("_R_")
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// A name as one token. An empty name, which no configuration has, becomes a lone `%`, which no other name does.
fn token(name: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if is_plain(byte) {
            token.push(char::from(byte));
        } else {
            token.push('%');
            let digits = [byte >> 4, byte & 0xf].map(|digit| DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0'));
            token.extend(digits.map(char::from));
        }
    }
    token
}

/// Whether everything that `inner` covers is covered by `outer` as well. Both may have wildcards: `*` for one token,
/// `>` at the end for one or more.
pub fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            (_, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subject(template: &str, [organization, work_stream, queue]: [&str; 3]) -> String {
        SubjectTemplate::parse(template).unwrap().subject(Place { organization, work_stream, queue })
    }

    #[test]
    fn names_become_one_safe_token_each() {
        for (queue, expected) in [
            ("default", "sg.o.w.default"),
            ("Very Urgent", "sg.o.w.Very%20Urgent"),
            ("a.b", "sg.o.w.a%2Eb"),
            ("*", "sg.o.w.%2A"),
            (">", "sg.o.w.%3E"),
            ("50%", "sg.o.w.50%25"),
            ("Müll\r\nPUB x 0", "sg.o.w.M%C3%BCll%0D%0APUB%20x%200"),
            ("", "sg.o.w.%"),
        ] {
            assert_eq!(subject("sg.{organization}.{work_stream}.{queue}", ["o", "w", queue]), expected);
        }
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (text, fault) in [
            ("", NotATemplate::Length),
            ("a..b", NotATemplate::EmptyToken),
            (".a", NotATemplate::EmptyToken),
            ("a.", NotATemplate::EmptyToken),
            ("a.{org}", NotATemplate::Placeholder("{org}".into())),
            ("a.x-{queue}", NotATemplate::Placeholder("x-{queue}".into())),
            ("a.*", NotATemplate::Character("*".into())),
            ("a.>", NotATemplate::Character(">".into())),
            ("$SYS.{queue}", NotATemplate::Character("$SYS".into())),
            ("_INBOX.{queue}", NotATemplate::Reserved("_INBOX".into())),
        ] {
            assert_eq!(SubjectTemplate::parse(text), Err(fault), "{text}");
        }
        assert_eq!(SubjectTemplate::parse(&"a".repeat(257)), Err(NotATemplate::Length));
    }

    #[test]
    fn the_default_reads_back_and_covers_its_subjects() {
        let template = SubjectTemplate::parse(DEFAULT_TEMPLATE).unwrap();
        assert_eq!(template.to_string(), DEFAULT_TEMPLATE);
        assert_eq!(template.filter(), "streamgate.*.*.*");
    }

    #[test]
    fn wildcards_cover_what_the_server_says_they_do() {
        for (outer, inner, covered) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("a.>", "a.*.*", true),
            ("a.*.*", "a.*.*", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("a.*", "a.>", false),
            ("a.b", "a.*", false),
            ("a.b.c", "a.b", false),
        ] {
            assert_eq!(covers(outer, inner), covered, "{outer} {inner}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_one_token_that_the_filter_covers(names in prop::array::uniform3(any::<String>())) {
            let template = SubjectTemplate::parse(DEFAULT_TEMPLATE).unwrap();
            let [organization, work_stream, queue] = &names;
            let subject = template.subject(Place { organization, work_stream, queue });
            prop_assert!(covers(&template.filter(), &subject), "{}", subject);
            prop_assert!(subject.bytes().all(|byte| is_plain(byte) || byte == b'.' || byte == b'%'));
        }

        #[test]
        fn two_names_never_share_a_token(one in any::<String>(), other in any::<String>()) {
            prop_assert_eq!(token(&one) == token(&other), one == other);
        }
    }
}
