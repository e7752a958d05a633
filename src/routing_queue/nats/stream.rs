//! Whether a JetStream stream keeps what it acknowledges, as far as its settings say.
//!
//! Nothing here changes a stream: somebody made it as it is, perhaps for others too. What does not fit is told, with what
//! follows from it and what would mend it.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};

use crate::config::settings::NatsSettings;
use crate::config::subject::covers;
use crate::routing_queue::event::FRAME_BYTES;

/// What deliveries rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Covers every subject that is published to.
    pub filter: String,
    /// Copies of the stream, at least.
    pub replicas: usize,
    /// The largest message, in bytes, headers included.
    pub largest_message_bytes: usize,
    /// The longest time between the first try of a record and a repeat that the server should still recognize.
    pub retry_span: Duration,
}

/// What the headers of a message take, about.
const HEADER_BYTES: usize = 512;

impl Wanted {
    /// What deliveries to this destination rely on.
    pub fn of(settings: &NatsSettings) -> Self {
        Self {
            filter: settings.subject.filter(),
            replicas: settings.replicas,
            largest_message_bytes: settings.max_body_bytes + FRAME_BYTES + HEADER_BYTES,
            retry_span: settings.retry_span,
        }
    }
}

/// The stream to make, where one is to be made: it forgets nothing by itself, and refuses when it cannot take more.
pub fn to_make(settings: &NatsSettings) -> Option<Config> {
    let new = settings.create?;
    Some(Config {
        name: settings.stream.to_string(),
        subjects: vec![settings.subject.filter()],
        retention: if new.work_queue { RetentionPolicy::WorkQueue } else { RetentionPolicy::Limits },
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        duplicate_window: new.duplicate_window,
        // No limits: `0` would be taken for one by some servers.
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        max_consumers: -1,
        description: Some("Records that Streamgate has accepted, as CloudEvents".to_owned()),
        ..Config::default()
    })
}

/// How much a mismatch matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Records could be lost after their acknowledgement, or are never taken: nothing is to be published.
    Refuse,
    /// Some records are never taken; publishing goes on.
    Risk,
    /// Something to know; publishing goes on.
    Tell,
}

/// One setting that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// How much it matters.
    pub weight: Weight,
    /// What is, and what follows from it.
    pub found: String,
    /// What to do.
    pub mend: String,
}

/// Everything about the stream that does not fit, the worst first.
pub fn mismatches(stream: &Config, wanted: &Wanted) -> Vec<Mismatch> {
    let mut found: Vec<Mismatch> =
        [writable(stream), covering(stream, wanted), sized(stream, wanted), copies(stream, wanted)]
            .into_iter()
            .chain([keeping(stream), discarding(stream), window(stream, wanted)])
            .flatten()
            .collect();
    found.sort_by_key(|mismatch| mismatch.weight);
    found
}

fn refuse(found: String, mend: impl Into<String>) -> Option<Mismatch> {
    Some(Mismatch { weight: Weight::Refuse, found, mend: mend.into() })
}

fn risk(found: String, mend: impl Into<String>) -> Option<Mismatch> {
    Some(Mismatch { weight: Weight::Risk, found, mend: mend.into() })
}

fn tell(found: String, mend: impl Into<String>) -> Option<Mismatch> {
    Some(Mismatch { weight: Weight::Tell, found, mend: mend.into() })
}

fn writable(stream: &Config) -> Option<Mismatch> {
    let name = &stream.name;
    if stream.no_ack {
        return refuse(format!("stream `{name}` acknowledges nothing (`no_ack`)"), "switch `no_ack` off");
    }
    if stream.sealed {
        return refuse(format!("stream `{name}` is sealed and takes nothing"), "name another stream");
    }
    stream.mirror.as_ref()?;
    refuse(format!("stream `{name}` is a mirror and takes nothing from publishers"), "name the stream that it mirrors")
}

fn covering(stream: &Config, Wanted { filter, .. }: &Wanted) -> Option<Mismatch> {
    if stream.subjects.iter().any(|subject| covers(subject, filter)) {
        return None;
    }
    let (name, subjects) = (&stream.name, stream.subjects.join(", "));
    refuse(
        format!("stream `{name}` takes `{subjects}`, which leaves out `{filter}`"),
        "add it to the stream's subjects",
    )
}

fn sized(stream: &Config, Wanted { largest_message_bytes, .. }: &Wanted) -> Option<Mismatch> {
    // Zero and less mean that the stream sets no limit.
    let most = usize::try_from(stream.max_message_size).ok().filter(|most| *most > 0)?;
    if most >= *largest_message_bytes {
        return None;
    }
    let name = &stream.name;
    let found = format!(
        "stream `{name}` takes messages of {most} bytes; a record may need {largest_message_bytes}, and is a dead letter then"
    );
    risk(found, "raise the stream's `max_msg_size`, or lower `limits.max_body_bytes`")
}

/// The largest message that the server takes, against what a record may need.
pub fn payload(max_payload: usize, Wanted { largest_message_bytes, .. }: &Wanted) -> Option<Mismatch> {
    if max_payload >= *largest_message_bytes {
        return None;
    }
    let found = format!(
        "the server takes messages of {max_payload} bytes; a record may need {largest_message_bytes}, and is a dead letter then"
    );
    risk(found, "raise the server's `max_payload`, or lower `limits.max_body_bytes`")
}

fn copies(stream: &Config, Wanted { replicas, .. }: &Wanted) -> Option<Mismatch> {
    let (name, has) = (&stream.name, stream.num_replicas.max(1));
    if stream.storage != StorageType::File {
        return refuse(format!("stream `{name}` is kept in memory: a restart loses it"), "use file storage");
    }
    if stream.persist_mode == Some(PersistenceMode::Async) {
        return refuse(
            format!(
                "stream `{name}` acknowledges before it has written (`persist_mode`): a crash loses what it acknowledged"
            ),
            "make a stream with the default `persist_mode`: it cannot be changed",
        );
    }
    if has >= *replicas {
        return None;
    }
    refuse(format!("stream `{name}` has {has} replicas, not {replicas}"), "raise its replicas, or ask for fewer")
}

fn keeping(stream: &Config) -> Option<Mismatch> {
    let name = &stream.name;
    match stream.retention {
        RetentionPolicy::Interest => refuse(
            format!("stream `{name}` keeps by interest: what arrives while there is no consumer is gone"),
            "use the retention `limits` or `workqueue`",
        ),
        RetentionPolicy::Limits | RetentionPolicy::WorkQueue if stream.max_age.is_zero() => None,
        RetentionPolicy::Limits | RetentionPolicy::WorkQueue => tell(
            format!("stream `{name}` forgets messages after {:?}, read or not", stream.max_age),
            "make sure that consumers are never behind for so long",
        ),
    }
}

fn discarding(stream: &Config) -> Option<Mismatch> {
    if stream.max_messages_per_subject > 0 && !(stream.discard == DiscardPolicy::New && stream.discard_new_per_subject)
    {
        // The policy alone does not cover this limit, and all records of a queue have one subject.
        return refuse(
            format!(
                "stream `{}` keeps so many messages of a subject, and forgets the oldest, read or not",
                stream.name
            ),
            "take `max_msgs_per_subject` away, or set the discard policy `new` and `discard_new_per_subject`",
        );
    }
    let limited = [stream.max_messages, stream.max_bytes].iter().any(|most| *most > 0);
    match stream.discard {
        DiscardPolicy::Old if limited => refuse(
            format!("stream `{}` is limited and makes room by forgetting the oldest, read or not", stream.name),
            "use the discard policy `new`: then a full stream refuses, and records wait here",
        ),
        DiscardPolicy::Old | DiscardPolicy::New => None,
    }
}

fn window(stream: &Config, Wanted { retry_span, .. }: &Wanted) -> Option<Mismatch> {
    // Zero is the server's default.
    let window = if stream.duplicate_window.is_zero() { Duration::from_secs(120) } else { stream.duplicate_window };
    if window >= *retry_span {
        return None;
    }
    tell(
        format!("stream `{}` recognizes repeats for {window:?}; one may come as late as {retry_span:?}", stream.name),
        "consumers tell repeats by the event's `id`; a longer `duplicate_window` costs the server memory",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            filter: "streamgate.*.*.*".into(),
            replicas: 3,
            largest_message_bytes: 1 << 20,
            retry_span: Duration::from_secs(3_600),
        }
    }

    fn fitting() -> Config {
        Config {
            name: "RECORDS".into(),
            subjects: vec!["streamgate.>".into()],
            num_replicas: 3,
            discard: DiscardPolicy::New,
            duplicate_window: Duration::from_secs(3_600),
            ..Config::default()
        }
    }

    #[test]
    fn a_stream_that_fits_is_not_talked_about() {
        assert_eq!(mismatches(&fitting(), &wanted()), []);
        let refusing = Config { max_messages_per_subject: 9, discard_new_per_subject: true, ..fitting() };
        assert_eq!(mismatches(&refusing, &wanted()), []);
    }

    #[test]
    fn each_setting_that_does_not_fit_is_told() {
        use Weight::{Refuse, Risk, Tell};
        let cases: [(Weight, &str, Config); 12] = [
            (Refuse, "acknowledges nothing", Config { no_ack: true, ..fitting() }),
            (Refuse, "is sealed", Config { sealed: true, ..fitting() }),
            (Refuse, "leaves out", Config { subjects: vec!["streamgate.*".into()], ..fitting() }),
            (Risk, "takes messages of 1024 bytes", Config { max_message_size: 1_024, ..fitting() }),
            (Refuse, "kept in memory", Config { storage: StorageType::Memory, ..fitting() }),
            (Refuse, "has 1 replicas", Config { num_replicas: 1, ..fitting() }),
            (Refuse, "by interest", Config { retention: RetentionPolicy::Interest, ..fitting() }),
            (Refuse, "forgetting the oldest", Config { discard: DiscardPolicy::Old, max_bytes: 1, ..fitting() }),
            (Refuse, "of a subject", Config { max_messages_per_subject: 1, ..fitting() }),
            (
                Refuse,
                "of a subject",
                Config {
                    max_messages_per_subject: 1,
                    discard: DiscardPolicy::Old,
                    discard_new_per_subject: true,
                    ..fitting()
                },
            ),
            (Refuse, "before it has written", Config { persist_mode: Some(PersistenceMode::Async), ..fitting() }),
            (Tell, "recognizes repeats for 120s", Config { duplicate_window: Duration::ZERO, ..fitting() }),
        ];
        for (weight, text, stream) in cases {
            let found = mismatches(&stream, &wanted());
            let [only] = found.as_slice() else { panic!("{text}: {found:?}") };
            assert!(only.weight == weight && only.found.contains(text) && !only.mend.is_empty(), "{only:?}");
        }
    }

    #[test]
    fn a_server_s_own_limit_is_told() {
        assert_eq!(payload(1 << 20, &wanted()), None);
        let told = payload((1 << 20) - 1, &wanted()).unwrap();
        assert!(told.weight == Weight::Risk && told.found.contains("1048575"), "{told:?}");
    }

    #[test]
    fn the_worst_comes_first() {
        let stream = Config { max_age: Duration::from_secs(60), num_replicas: 1, ..fitting() };
        let weights: Vec<_> = mismatches(&stream, &wanted()).iter().map(|mismatch| mismatch.weight).collect();
        assert_eq!(weights, [Weight::Refuse, Weight::Tell]);
    }
}
