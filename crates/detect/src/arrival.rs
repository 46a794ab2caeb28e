//! What comes in as one message (a queue's, a webhook's, a datagram) becomes events.
//!
//! ```text
//! message → envelopes of SNS opened → list of records → each finds its log source → split → event
//! ```
//!
//! - A record's *occurrence* is a hash of the fields that its source names (`occurrence` in `source.yaml`): the same finding
//!   in the same state, whichever way and however often it comes. Where they are missing it is the message's own id.
//! - What it *says* is a hash of the fields that `says` names: a finding that comes again with a later time says the same.
//! - What nobody can read becomes a *dead letter*: an event of its own, with the reason and the bytes. Nothing is dropped.
//!
//! Pure and bounded: a message makes at most [`MAX_RECORDS`] records and [`MAX_WRITTEN`] bytes of them; what is beyond becomes
//! one dead letter that says so.

use std::collections::BTreeMap;

use sakimori_model::{Event, Timestamp, field};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::error::ContentError;
use crate::normalise::{LineContext, Normaliser};
use crate::sns::{Envelope, Kind};
use crate::source::{Framing, LogSource};

/// Most records of one message.
pub const MAX_RECORDS: usize = 1_000;
/// Most bytes of the records of one message: a split record carries what surrounds its list.
pub const MAX_WRITTEN: usize = 8 << 20;
/// Most envelopes around a message.
const MAX_ENVELOPES: usize = 3;
/// Most bytes of a dead letter that are kept.
pub const MAX_DEAD: usize = 64 << 10;
/// `event.dataset` of dead letters.
pub const DEAD: &str = "sakimori.dead_letter";

/// Names an occurrence, or what one says.
pub type Key = [u8; 16];

/// A record of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which of the log sources it is of, by its place among those that were given.
    pub source: usize,
    /// What its program reads.
    pub line: Vec<u8>,
    /// Names it.
    pub occurrence: Key,
    /// What it says, where its source tells.
    pub says: Option<Key>,
}

/// What a message holds, one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A record.
    Record(Record),
    /// What nobody can read: why, its beginning, and what names it.
    Dead(String, Vec<u8>, Key),
}

/// Log sources that are ready to make events.
pub struct Opener {
    sources: Vec<LogSource>,
    normalisers: Vec<Normaliser>,
}

impl Opener {
    /// Compiles the programs of these log sources, by id; of all that recognise something by themselves where none is named.
    pub fn load(files: &BTreeMap<String, Vec<u8>>, ids: &[String]) -> (Self, Vec<ContentError>) {
        let (all, mut errors) = LogSource::load_all(files);
        let missing = ids.iter().filter(|id| !all.iter().any(|source| source.id == **id));
        errors.extend(missing.map(|id| ContentError::new("logs", 1, format!("the bundle has no log source {id}"))));
        let wanted = |source: &LogSource| match ids {
            [] => !source.recognise.fields.is_empty() || !source.recognise.literals.is_empty(),
            ids => ids.contains(&source.id),
        };
        let mut opener = Self { sources: Vec::new(), normalisers: Vec::new() };
        for source in all.into_iter().filter(wanted) {
            match Normaliser::new(&source) {
                Ok(normaliser) => {
                    opener.sources.push(source);
                    opener.normalisers.push(normaliser);
                }
                Err(error) => errors.push(error),
            }
        }
        (opener, errors)
    }

    /// How many log sources it has.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The events of a message, whose transport calls it `id` (empty where it has no name).
    pub fn events(&mut self, body: &[u8], id: &str, context: &LineContext<'_>, out: &mut Vec<Event>) {
        for arrived in open(body, id, &self.sources) {
            let mut event = match arrived {
                Arrived::Dead(reason, original, occurrence) => {
                    dead_letter(&reason, &original, &occurrence, context.received_at)
                }
                Arrived::Record(record) => {
                    let Some(normaliser) = self.normalisers.get_mut(record.source) else { continue };
                    let mut event = normaliser.parse(&record.line, context);
                    event.set(field::SAKIMORI_OCCURRENCE, hex::encode(record.occurrence));
                    if let Some(says) = record.says {
                        event.set(field::SAKIMORI_SAYS, hex::encode(says));
                    }
                    event
                }
            };
            event.remove(field::SAKIMORI_REPEATED);
            out.push(event);
        }
    }
}

/// The event of what nobody could read.
pub fn dead_letter(reason: &str, original: &[u8], occurrence: &Key, received: Timestamp) -> Event {
    let kept = original.get(..MAX_DEAD).unwrap_or(original);
    let mut event = Event::new();
    event.set(field::TIMESTAMP, received);
    event.set(field::EVENT_CREATED, received);
    event.set(field::EVENT_KIND, "pipeline_error");
    event.set(field::EVENT_MODULE, "sakimori");
    event.set(field::EVENT_DATASET, DEAD);
    event.set(field::EVENT_ORIGINAL, String::from_utf8_lossy(kept).into_owned());
    event.set(field::ERROR_MESSAGE, reason.to_owned());
    event.set(field::SAKIMORI_OCCURRENCE, hex::encode(occurrence));
    event.push(field::TAGS, "_dead_letter");
    if kept.len() < original.len() {
        event.push(field::TAGS, "_original_cut");
        event.set_path("sakimori.original_bytes", original.len().into());
    }
    event
}

/// The key of these parts; each is taken with its length, so that no two lists have one key.
pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(digest.finalize()) {
        *to = from;
    }
    key
}

/// What a message holds.
pub fn open(body: &[u8], id: &str, sources: &[LogSource]) -> Vec<Arrived> {
    let own = key([b"body", body]);
    let id = if id.is_empty() { hex::encode(own) } else { id.to_owned() };
    match parse(body) {
        Some(json) => of_json(json, id, sources),
        None => of_lines(body, &id, sources),
    }
}

fn parse(bytes: &[u8]) -> Option<Json> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if !matches!(first, b'{' | b'[') {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

/// Lines of text, each of the source that recognises it.
fn of_lines(body: &[u8], id: &str, sources: &[LogSource]) -> Vec<Arrived> {
    let mut out = Vec::new();
    let lines = body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for (at, line) in lines.filter(|line| !line.is_empty()).enumerate() {
        let occurrence = key([b"line", id.as_bytes(), at.to_string().as_bytes()]);
        if at >= MAX_RECORDS {
            out.push(Arrived::Dead(too_many(), line.to_vec(), occurrence));
            break;
        }
        let text = |source: &&LogSource| source.framing != Framing::Json;
        let only = || match sources {
            [one] if text(&one) && one.recognise == Default::default() => Some(0),
            _ => None,
        };
        let found = sources.iter().position(|source| text(&source) && source.recognises(line)).or_else(only);
        out.push(match found {
            Some(source) => Arrived::Record(Record { source, line: line.to_vec(), occurrence, says: None }),
            None => Arrived::Dead(UNKNOWN.into(), line.to_vec(), occurrence),
        });
    }
    out
}

const UNKNOWN: &str = "no log source recognises this; name one in `sources` of the way in";

fn too_many() -> String {
    format!("a message holds at most {MAX_RECORDS} records and {MAX_WRITTEN} bytes of them; the rest was left out")
}

fn of_json(mut json: Json, mut id: String, sources: &[LogSource]) -> Vec<Arrived> {
    for _ in 0..MAX_ENVELOPES {
        let Some(envelope) = envelope(&json) else { break };
        id = envelope.message_id;
        match parse(envelope.message.as_bytes()) {
            Some(inner) => json = inner,
            None => return of_lines(envelope.message.as_bytes(), &id, sources),
        }
    }
    let mut found = Found { id, written: 0, out: Vec::new(), full: false };
    let all = match json {
        Json::Array(list) => list,
        one => vec![one],
    };
    for mut one in all {
        // An element may be a record that was written as text.
        if let Json::String(text) = &one
            && let Some(inner) = parse(text.as_bytes())
        {
            one = inner;
        }
        let only = || match sources {
            [one] if one.framing == Framing::Json && one.recognise == Default::default() => Some(0),
            _ => None,
        };
        match sources.iter().position(|source| source.recognises_record(&one)).or_else(only) {
            Some(at) => found.split(one, at, sources.get(at)),
            None => found.dead(UNKNOWN, &one),
        }
    }
    found.out
}

/// The envelope that this is, where it is one.
fn envelope(json: &Json) -> Option<Envelope> {
    let object = json.as_object()?;
    if !["Type", "MessageId", "TopicArn", "Message"].iter().all(|name| object.get(*name).is_some_and(Json::is_string)) {
        return None;
    }
    let envelope: Envelope = serde_json::from_value(json.clone()).ok()?;
    (envelope.kind == Kind::Notification).then_some(envelope)
}

/// What was found so far.
struct Found {
    id: String,
    written: usize,
    out: Vec<Arrived>,
    full: bool,
}

impl Found {
    fn dead(&mut self, reason: &str, json: &Json) {
        if self.full {
            return;
        }
        self.full = self.out.len() >= MAX_RECORDS || self.written >= MAX_WRITTEN;
        let reason = if self.full { too_many() } else { reason.to_owned() };
        let original = json.to_string().into_bytes();
        self.written += original.len();
        let at = self.out.len().to_string();
        let occurrence = key([b"dead", self.id.as_bytes(), at.as_bytes(), &original]);
        self.out.push(Arrived::Dead(reason, original, occurrence));
    }

    /// Each element of the first list that there is stands once in the list's place.
    fn split(&mut self, mut json: Json, at: usize, source: Option<&LogSource>) {
        let Some(source) = source else { return };
        let list = source.records.iter().find_map(|path| match reach(&mut json, path)? {
            Json::Array(list) => Some((path.as_str(), std::mem::take(list))),
            _ => None,
        });
        let Some((path, list)) = list else { return self.record(&json, at, source) };
        for element in list {
            if self.full {
                return;
            }
            if let Some(place) = reach(&mut json, path) {
                *place = element;
            }
            self.record(&json, at, source);
        }
    }

    fn record(&mut self, json: &Json, at: usize, source: &LogSource) {
        if self.out.len() >= MAX_RECORDS || self.written >= MAX_WRITTEN {
            return self.dead("", json);
        }
        let line = json.to_string().into_bytes();
        self.written += line.len();
        let index = self.out.len().to_string();
        let named = named(b"occurrence", json, source, &source.occurrence, true);
        let occurrence = named.unwrap_or_else(|| key([b"message", self.id.as_bytes(), index.as_bytes()]));
        let says = named_any(json, source);
        self.out.push(Arrived::Record(Record { source: at, line, occurrence, says }));
    }
}

fn named_any(json: &Json, source: &LogSource) -> Option<Key> {
    named(b"says", json, source, &source.says, false)
}

/// The key of these fields: none where there is none of them, or where all are needed and one is missing.
fn named(what: &[u8], json: &Json, source: &LogSource, paths: &[String], all: bool) -> Option<Key> {
    let values: Vec<Option<String>> = paths.iter().map(|path| text_at(json, path)).collect();
    if values.iter().all(Option::is_none) || all && values.iter().any(Option::is_none) {
        return None;
    }
    let mut parts = vec![what, source.id.as_bytes()];
    for value in &values {
        parts.push(if value.is_some() { b"1" } else { b"0" });
        parts.push(value.as_deref().unwrap_or_default().as_bytes());
    }
    Some(key(parts))
}

/// What lies at a dotted path; a number names an element of a list.
pub(crate) fn at<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(json, |place, name| match place {
        Json::Object(map) => map.get(name),
        Json::Array(list) => list.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

fn reach<'a>(json: &'a mut Json, path: &str) -> Option<&'a mut Json> {
    path.split('.').try_fold(json, |place, name| place.as_object_mut()?.get_mut(name))
}

/// As text; nothing where it is absent or null.
pub(crate) fn text_at(json: &Json, path: &str) -> Option<String> {
    match at(json, path)? {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
#[path = "arrival_tests.rs"]
mod tests;
