//! Stored records under fuzzing: a damaged one is named and never a panic, and one whose checksum is right survives being
//! read, written and trimmed.

use sha2::{Digest, Sha256};

use super::{Body, Content, Guid, Head, Lane, LaneId, QueueName, ReceiptMask, at_place, decode, trimmed};
use crate::store::Details;
use crate::store::sqlite::block::Block;

const SEQ: i64 = 7;

/// Bytes as the heads and bodies of a block, and as one body with whatever checksum makes it whole.
pub(crate) fn stored_record(bytes: &[u8]) {
    let (Ok(queue), mask) = (QueueName::parse("Default queue"), ReceiptMask::new(&[7; 32])) else { return };
    let guid = |byte: u8| Guid::from_bytes([byte; 16]);
    let lane = Lane { organization: guid(1).into(), work_stream: guid(2).into(), queue };

    let (heads, bodies) = bytes.split_at(bytes.len() / 2);
    let damaged = Block::of_bytes(SEQ, heads.to_vec(), bodies.to_vec());
    for (seq, _) in damaged.heads.iter() {
        let (read, cut) = (decode(&damaged, seq, Some(&lane), &mask), trimmed(damaged.get(seq), seq, Some(&lane)));
        assert!(read.is_err() || cut.is_ok(), "what can be read can be trimmed");
    }

    let head =
        Head { lane: LaneId(1), crc: 0, body_bytes: 0, accepted_at: 1_700_000_000_000, random: [9; 16], key: [8; 16] };
    let Some(content) = Content::of(head, bytes, &lane) else { return };
    assert_eq!(content.to_body(), bytes, "a body is written as it was read");
    let head = Head { crc: at_place(content.checksum(), SEQ), ..head };
    let block = one(&head, bytes);
    let Ok(read) = decode(&block, SEQ, Some(&lane), &mask) else { return };
    let Body::Kept(kept) = content.details else { return };
    let cut = trimmed(block.get(SEQ), SEQ, Some(&lane));
    assert!(matches!(cut, Ok(Some(_))), "{cut:?}");
    let Ok(Some(cut)) = cut else { return };
    assert_eq!(cut.bytes, kept.len() as u64);
    let after = decode(&one(&cut.head, &cut.body), SEQ, Some(&lane), &mask);
    assert!(after.is_ok(), "{after:?}");
    let Ok(after) = after else { return };
    assert_eq!((after.record.receipt, after.record.record_id), (read.record.receipt, read.record.record_id));
    assert_eq!(after.record.trace, read.record.trace);
    let sha256: [u8; 32] = Sha256::digest(kept).into();
    assert!(
        matches!(after.record.details, Details::Trimmed { sha256: it } if it == sha256),
        "{:?}",
        after.record.details
    );
}

fn one(head: &Head, body: &[u8]) -> Block {
    let mut block = Block::starting_at(SEQ);
    block.push(head, body);
    block
}
