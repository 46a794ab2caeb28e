//! A batch of events in its framing.
//!
//! Field numbers are interned in one build only, so a batch carries its own table of field names (D4): any
//! version reads any other's batch. A name that this build does not know becomes part of the event's rest;
//! a value whose type has changed is coerced or kept in the rest.
//!
//! ```text
//! magic "SKB1" | header length u32 | header (postcard) | body length u32 (as it was) | body (zstd)
//! body = names: count, (length, bytes)…  events: count, event…
//! event = slots: count, (name number, value)…  rest: length, JSON bytes
//! value = tag u8, payload   counts, lengths and numbers are LEB128
//! ```

use sakimori_model::catalog;
use sakimori_model::{Event, FieldId, Timestamp, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::MAX_BATCH;

mod value;

use value::{Cursor, put_bytes, put_number, put_value};

const MAGIC: &[u8; 4] = b"SKB1";
/// Largest body before compression: a small message must not grow into all memory.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Most events of a batch.
pub const MAX_EVENTS: usize = 100_000;
const MAX_HEADER: usize = 256 * 1024;
const LEVEL: i32 = 1;

/// Who sent a batch and where it stands in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// `model::id::batch_id(origin, stream, sequence)`, or the sender's own.
    pub id: String,
    /// The agent's id, or `manager`.
    pub origin: String,
    /// Which of the origin's streams: the input's name, `actions`, `agent`.
    pub stream: String,
    /// From 1, without gaps in its stream.
    pub sequence: u64,
    /// Number of its first event in the stream, from 0: the books.
    pub first_event: u64,
    /// Events in it.
    pub count: u32,
    /// Number of the rule bundle that judged its events; 0 where none did.
    pub bundle: u64,
    /// What was lost before it, since the batch before.
    pub losses: Vec<Loss>,
    /// Where its source goes on after it, for the reader of that source alone.
    pub position: Option<Vec<u8>>,
}

/// Something that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// How many events or lines; bytes where lines could not be counted.
    pub count: u64,
    /// Why: `rotated_away`, `truncated`, `spool_full`, …
    pub cause: String,
    /// Where: module and input.
    pub place: String,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
}

/// A batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Who and where.
    pub header: BatchHeader,
    /// What.
    pub events: Vec<Event>,
}

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    /// Not this format.
    #[error("not an event batch")]
    Magic,
    /// It ends too early or has something left over.
    #[error("event batch is cut off or damaged at {0}")]
    Damaged(&'static str),
    /// Larger than allowed.
    #[error("event batch is larger than allowed: {0}")]
    TooLarge(&'static str),
}

impl Batch {
    /// Id of the event at this place.
    pub fn event_id(&self, index: usize) -> sakimori_model::id::EventId {
        sakimori_model::id::EventId { batch: self.header.id.clone(), index: u32::try_from(index).unwrap_or(u32::MAX) }
    }
}

/// Encodes a batch. `header.count` is set from the events.
///
/// # Errors
/// `TooLarge` where a peer would refuse it.
pub fn encode(batch: &Batch) -> Result<Vec<u8>, BatchError> {
    let mut encoder = Encoder::default();
    for event in &batch.events {
        encoder.push(event)?;
    }
    encoder.finish(&batch.header)
}

/// Encodes a batch event by event, so that no event needs to be kept for it. [`Encoder::finish`] leaves it empty
/// for the next batch, with the memory that it has.
#[derive(Default)]
pub struct Encoder {
    events: Vec<u8>,
    count: u32,
    names: Vec<&'static str>,
    /// By field: its number in `names` and one, 0 where it has none yet.
    numbers: Vec<u16>,
    body: Vec<u8>,
    packer: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("count", &self.count).field("bytes", &self.events.len()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Events in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the events in it, before they are packed; a peer takes no more than 64 MiB.
    pub fn bytes(&self) -> usize {
        self.events.len()
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts an event at the end.
    ///
    /// # Errors
    /// `TooLarge` where a peer would refuse the batch; it is then as it was.
    pub fn push(&mut self, event: &Event) -> Result<(), BatchError> {
        if self.count as usize >= MAX_EVENTS {
            return Err(BatchError::TooLarge("events"));
        }
        let before = self.events.len();
        let out = &mut self.events;
        put_number(out, event.slots().len() as u64);
        for (field, value) in event.slots() {
            if self.numbers.len() <= field.index() {
                self.numbers.resize(field.index() + 1, 0);
            }
            if let Some(number) = self.numbers.get_mut(field.index()) {
                if *number == 0 {
                    self.names.push(field.name());
                    *number = u16::try_from(self.names.len()).map_err(|_| BatchError::TooLarge("names"))?;
                }
                put_number(out, u64::from(*number) - 1);
            }
            put_value(out, value);
        }
        if event.rest().is_empty() {
            put_number(out, 0);
        } else {
            let rest = serde_json::to_vec(event.rest()).map_err(|_| BatchError::Damaged("rest"))?;
            put_bytes(out, &rest);
        }
        if self.events.len() > MAX_BODY {
            self.events.truncate(before);
            return Err(BatchError::TooLarge("body"));
        }
        self.count += 1;
        Ok(())
    }

    /// The batch with this header, whose `count` is set. Empties the encoder, also where it fails.
    ///
    /// # Errors
    /// `TooLarge` where a peer would refuse it.
    pub fn finish(&mut self, header: &BatchHeader) -> Result<Vec<u8>, BatchError> {
        let packed = self.pack(header);
        self.clear();
        packed
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.events.clear();
        self.names.clear();
        self.numbers.fill(0);
        self.count = 0;
    }

    fn pack(&mut self, header: &BatchHeader) -> Result<Vec<u8>, BatchError> {
        let header = BatchHeader { count: self.count, ..header.clone() };
        let header = postcard::to_stdvec(&header).map_err(|_| BatchError::Damaged("header"))?;
        if header.len() > MAX_HEADER {
            return Err(BatchError::TooLarge("header"));
        }
        self.body.clear();
        put_number(&mut self.body, self.names.len() as u64);
        for name in &self.names {
            put_bytes(&mut self.body, name.as_bytes());
        }
        put_number(&mut self.body, u64::from(self.count));
        self.body.extend_from_slice(&self.events);
        if self.body.len() > MAX_BODY {
            return Err(BatchError::TooLarge("body"));
        }
        if self.packer.is_none() {
            self.packer = Some(zstd::bulk::Compressor::new(LEVEL).map_err(|_| BatchError::Damaged("body"))?);
        }
        let packer = self.packer.as_mut().ok_or(BatchError::Damaged("body"))?;
        let packed = packer.compress(&self.body).map_err(|_| BatchError::Damaged("body"))?;
        let mut out = Vec::with_capacity(12 + header.len() + packed.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&length(header.len())?);
        out.extend_from_slice(&header);
        out.extend_from_slice(&length(self.body.len())?);
        out.extend_from_slice(&packed);
        if out.len() > MAX_BATCH {
            return Err(BatchError::TooLarge("batch"));
        }
        Ok(out)
    }
}

/// Reads the header alone, without unpacking the events.
///
/// # Errors
/// See [`BatchError`].
pub fn peek(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    split(bytes).map(|(header, _, _)| header)
}

/// Decodes a batch. Bounded in memory by its own limits whatever the bytes say; never panics.
///
/// # Errors
/// See [`BatchError`].
pub fn decode(bytes: &[u8]) -> Result<Batch, BatchError> {
    let (header, body_len, packed) = split(bytes)?;
    let body = zstd::bulk::decompress(packed, body_len).map_err(|_| BatchError::Damaged("body"))?;
    if body.len() != body_len {
        return Err(BatchError::Damaged("body length"));
    }
    let mut at = Cursor { left: &body };
    let name_count = at.count("names")?;
    let mut names = Vec::new();
    for _ in 0..name_count {
        let name = at.text("name")?;
        names.push((catalog::lookup(name), name));
    }
    let count = at.count("events")?;
    if count > MAX_EVENTS || count != header.count as usize {
        return Err(BatchError::Damaged("event count"));
    }
    let mut events = Vec::with_capacity(count.min(body_len / 2 + 1));
    for _ in 0..count {
        events.push(decode_event(&mut at, &names)?);
    }
    if !at.left.is_empty() {
        return Err(BatchError::Damaged("end"));
    }
    Ok(Batch { header, events })
}

fn decode_event(at: &mut Cursor<'_>, names: &[(Option<FieldId>, &str)]) -> Result<Event, BatchError> {
    let slots = at.count("slots")?;
    let mut event = Event::new();
    let mut unknown: Vec<(&str, Value)> = Vec::new();
    for _ in 0..slots {
        let number = usize::try_from(at.number()?).map_err(|_| BatchError::Damaged("field"))?;
        let (field, name) = names.get(number).ok_or(BatchError::Damaged("field"))?;
        let value = at.value(0)?;
        match field {
            Some(field) => event.set(*field, value),
            None => unknown.push((name, value)),
        }
    }
    let rest = at.bytes("rest")?;
    if !rest.is_empty() {
        let Ok(Json::Object(rest)) = serde_json::from_slice::<Json>(rest) else {
            return Err(BatchError::Damaged("rest"));
        };
        merge_rest(&mut event, rest);
    }
    for (name, value) in unknown {
        event.set_path(name, value.to_json());
    }
    Ok(event)
}

/// The rest as it came, except that what a newer build of ours knows as a field becomes one (D5).
fn merge_rest(event: &mut Event, rest: Map<String, Json>) {
    if event.rest().is_empty() {
        event.set_rest(rest);
        return;
    }
    for (name, value) in rest {
        event.set_path(&name, value);
    }
}

fn split(bytes: &[u8]) -> Result<(BatchHeader, usize, &[u8]), BatchError> {
    if bytes.len() > MAX_BATCH {
        return Err(BatchError::TooLarge("batch"));
    }
    let left = bytes.strip_prefix(MAGIC).ok_or(BatchError::Magic)?;
    let (header_len, left) = fixed(left)?;
    if header_len > MAX_HEADER {
        return Err(BatchError::TooLarge("header"));
    }
    let (header, left) = left.split_at_checked(header_len).ok_or(BatchError::Damaged("header"))?;
    let header: BatchHeader = postcard::from_bytes(header).map_err(|_| BatchError::Damaged("header"))?;
    let (body_len, packed) = fixed(left)?;
    if body_len > MAX_BODY {
        return Err(BatchError::TooLarge("body"));
    }
    Ok((header, body_len, packed))
}

fn fixed(bytes: &[u8]) -> Result<(usize, &[u8]), BatchError> {
    let (number, left) = bytes.split_first_chunk::<4>().ok_or(BatchError::Damaged("length"))?;
    Ok((u32::from_le_bytes(*number) as usize, left))
}

fn length(len: usize) -> Result<[u8; 4], BatchError> {
    u32::try_from(len).map(u32::to_le_bytes).map_err(|_| BatchError::TooLarge("length"))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use proptest::prelude::*;
    use sakimori_model::field;
    use serde_json::json;

    fn sample(count: usize) -> Batch {
        let events = (0..count)
            .map(|number| {
                let mut event = Event::new();
                event.set(field::SOURCE_IP, "2001:db8::7".parse::<IpAddr>().expect("address"));
                event.set(field::SOURCE_PORT, number as i64);
                event.set(field::MESSAGE, format!("line {number}"));
                event.set(field::TIMESTAMP, Timestamp::from_secs(1_700_000_000));
                event.push(field::RELATED_USER, "root".to_owned());
                event.push(field::RELATED_USER, "admin".to_owned());
                event.set_path("acme.audit", json!({"deep": [1, 2.5, null]}));
                event
            })
            .collect();
        let header = BatchHeader {
            id: "agent:auth:3".into(),
            origin: "agent".into(),
            stream: "auth".into(),
            sequence: 3,
            count: count as u32,
            losses: vec![Loss {
                count: 2,
                cause: "truncated".into(),
                place: "log_inspection/auth".into(),
                from: Timestamp::from_secs(1),
                to: Timestamp::from_secs(2),
            }],
            ..BatchHeader::default()
        };
        Batch { header, events }
    }

    #[test]
    fn round_trip() {
        let batch = sample(50);
        let bytes = encode(&batch).expect("small");
        assert_eq!(peek(&bytes), Ok(batch.header.clone()));
        assert_eq!(decode(&bytes), Ok(batch));
    }

    #[test]
    fn an_encoder_is_used_again() {
        let mut encoder = Encoder::default();
        for count in [50, 3, 0, 7] {
            let batch = sample(count);
            for event in &batch.events {
                encoder.push(event).expect("small");
            }
            assert_eq!(encoder.count() as usize, count);
            let bytes = encoder.finish(&batch.header).expect("small");
            assert!(encoder.is_empty());
            assert_eq!(bytes, encode(&batch).expect("small"));
            assert_eq!(decode(&bytes), Ok(batch));
        }
    }

    #[test]
    fn what_is_too_large_for_a_batch_leaves_the_rest_of_it() {
        let mut encoder = Encoder::default();
        let batch = sample(2);
        for event in &batch.events {
            encoder.push(event).expect("small");
        }
        let mut giant = Event::new();
        giant.set(field::MESSAGE, "x".repeat(MAX_BODY));
        assert_eq!(encoder.push(&giant), Err(BatchError::TooLarge("body")));
        assert_eq!(decode(&encoder.finish(&batch.header).expect("small")), Ok(batch));
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = encode(&sample(3)).expect("small");
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_bomb_does_not_unpack() {
        let bytes = encode(&sample(1)).expect("small");
        let header_len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        let mut bomb = bytes[..8 + header_len].to_vec();
        bomb.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&bomb), Err(BatchError::TooLarge("body")));
        bomb.truncate(8 + header_len);
        bomb.extend_from_slice(&100_u32.to_le_bytes());
        bomb.extend_from_slice(&zstd::bulk::compress(&vec![0; 1 << 20], 1).expect("compresses"));
        assert_eq!(decode(&bomb), Err(BatchError::Damaged("body")));
    }

    #[test]
    fn a_field_of_another_version_goes_into_the_rest() {
        let mut body = Vec::new();
        put_number(&mut body, 1);
        put_bytes(&mut body, b"sakimori.from_the_future");
        put_number(&mut body, 1);
        put_number(&mut body, 1);
        put_number(&mut body, 0);
        put_value(&mut body, &Value::Long(7));
        put_number(&mut body, 0);
        let header = postcard::to_stdvec(&BatchHeader { count: 1, ..BatchHeader::default() }).expect("header");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&zstd::bulk::compress(&body, 1).expect("compresses"));
        let batch = decode(&bytes).expect("valid");
        assert_eq!(batch.events[0].rest_at("sakimori.from_the_future"), Some(&json!(7)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
            let _ = decode(&bytes);
            bytes = encode(&sample(2)).expect("small");
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] ^= value;
            }
            let _ = decode(&bytes);
        }
    }
}
