//! What came by a way in already: occurrences that were taken, and what findings said.
//!
//! A queue delivers again what it does not know to be taken, SNS posts again what it got no answer for, and who has seen a
//! signed request may send it once more. So each event of a way names its occurrence (`sakimori.occurrence`), and the ingest
//! task, which alone decides what goes into the journal, takes each once. A finding that comes with a later time but says
//! what it said is taken and marked (`sakimori.repeated`), and no rule judges it again.
//!
//! The memory is as durable as the events: what is in the journal is read again at a start, and what a flush takes out of the
//! journal is written by the transaction that claims the flush. It is bounded for each way, the oldest go first, and how many
//! went is counted.

use std::collections::{HashMap, HashSet, VecDeque};

use sakimori_model::{Event, Timestamp, field};
use sakimori_store::control::occurrences::Occurrence;

/// Most of one way.
pub const MOST: usize = 65_536;
/// How long they are kept: longer than SQS keeps a message.
pub const KEEP_SECONDS: i64 = 21 * 86_400;

/// Begins the origin of batches that came by a way.
pub const ORIGIN: &str = "way:";
/// Stream of their events.
pub const STREAM: &str = "records";

/// Hexadecimal digits as bytes, before them what kind of name it is.
type Name = [u8; 17];

/// All ways' memories.
#[derive(Default)]
pub struct Occurrences {
    ways: HashMap<(String, String), Way>,
    fresh: Vec<Occurrence>,
    forgotten: u64,
}

#[derive(Default)]
struct Way {
    known: HashSet<Name>,
    order: VecDeque<Name>,
}

impl Way {
    /// True where it is new; the second value says whether the oldest had to go.
    fn note(&mut self, name: Name) -> (bool, bool) {
        if !self.known.insert(name) {
            return (false, false);
        }
        self.order.push_back(name);
        if self.order.len() <= MOST {
            return (true, false);
        }
        if let Some(oldest) = self.order.pop_front() {
            self.known.remove(&oldest);
        }
        (true, true)
    }
}

fn name(kind: u8, text: &str) -> Option<Name> {
    let mut name = Name::default();
    let (first, rest) = name.split_first_mut()?;
    *first = kind;
    hex::decode_to_slice(text, rest).ok()?;
    Some(name)
}

/// Names of an event: its occurrence, and what it says.
fn names(event: &Event) -> (Option<Name>, Option<Name>) {
    let of = |kind, id| event.str(id).and_then(|text| name(kind, text));
    (of(b'o', field::SAKIMORI_OCCURRENCE), of(b's', field::SAKIMORI_SAYS))
}

impl Occurrences {
    /// As control state has them, oldest first.
    pub fn restore(rows: impl IntoIterator<Item = Occurrence>) -> Self {
        let mut all = Self::default();
        for row in rows {
            let mut bytes = Name::default();
            if hex::decode_to_slice(&row.name, &mut bytes).is_ok() {
                all.ways.entry((row.tenant, row.way)).or_default().note(bytes);
            }
        }
        all
    }

    /// Keeps of these events those whose occurrence is new, and marks those that say what was said. Nothing is noted yet.
    pub fn sift(&self, tenant: &str, way: &str, events: &mut Vec<Event>) {
        let known = self.ways.get(&(tenant.to_owned(), way.to_owned()));
        let mut here = HashSet::new();
        let mut fresh = |name: Name| !known.is_some_and(|way| way.known.contains(&name)) && here.insert(name);
        events.retain_mut(|event| {
            event.remove(field::SAKIMORI_REPEATED);
            let (occurrence, says) = names(event);
            if occurrence.is_some_and(|occurrence| !fresh(occurrence)) {
                return false;
            }
            if says.is_some_and(|says| !fresh(says)) {
                event.set(field::SAKIMORI_REPEATED, true);
            }
            true
        });
    }

    /// Notes events that lie in the journal.
    pub fn note(&mut self, tenant: &str, way: &str, events: &[Event], at: Timestamp) {
        let memory = self.ways.entry((tenant.to_owned(), way.to_owned())).or_default();
        for event in events {
            let (occurrence, says) = names(event);
            for name in [occurrence, says].into_iter().flatten() {
                let (new, went) = memory.note(name);
                self.forgotten += u64::from(went);
                if new {
                    self.fresh.push(Occurrence {
                        tenant: tenant.to_owned(),
                        way: way.to_owned(),
                        name: hex::encode(name),
                        seen: at.micros(),
                    });
                }
            }
        }
    }

    /// What was noted since this was asked last, to be written with the claim of a flush.
    pub fn take_fresh(&mut self) -> Vec<Occurrence> {
        std::mem::take(&mut self.fresh)
    }

    /// How many had to be forgotten before their time.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(occurrence: u64, says: Option<u64>) -> Event {
        let mut event = Event::new();
        event.set(field::SAKIMORI_OCCURRENCE, format!("{occurrence:032x}"));
        if let Some(says) = says {
            event.set(field::SAKIMORI_SAYS, format!("{says:032x}"));
        }
        event
    }

    fn take(all: &mut Occurrences, mut events: Vec<Event>) -> Vec<Event> {
        all.sift("t", "way:q", &mut events);
        all.note("t", "way:q", &events, Timestamp::from_secs(1));
        events
    }

    #[test]
    fn an_occurrence_is_taken_once_and_a_finding_that_says_the_same_is_marked() {
        let mut all = Occurrences::default();
        let taken = take(&mut all, vec![event(1, Some(9)), event(1, Some(9)), event(2, Some(9)), event(3, Some(8))]);
        let repeated = |event: &Event| event.bool(field::SAKIMORI_REPEATED);
        assert_eq!(taken.iter().map(repeated).collect::<Vec<_>>(), [None, Some(true), None]);
        assert!(take(&mut all, vec![event(1, Some(9)), event(2, None)]).is_empty());
        // Another way, another tenant: others' occurrences.
        let mut other = vec![event(1, None)];
        all.sift("t", "way:other", &mut other);
        assert_eq!(other.len(), 1);
        // What was not journalled is not noted.
        let mut lost = vec![event(7, None)];
        all.sift("t", "way:q", &mut lost);
        assert_eq!(take(&mut all, vec![event(7, None)]).len(), 1);
        let mut again = Occurrences::restore(all.take_fresh());
        assert!(take(&mut again, vec![event(1, None), event(3, None), event(7, None)]).is_empty());
        assert_eq!(take(&mut again, vec![event(5, Some(9))]).first().and_then(repeated), Some(true));
        assert!(all.take_fresh().is_empty());
    }

    #[test]
    fn the_memory_is_bounded_and_says_what_it_forgot() {
        let mut all = Occurrences::default();
        let most = MOST as u64;
        take(&mut all, (0..most + 10).map(|n| event(n, None)).collect());
        assert_eq!(all.forgotten(), 10);
        assert_eq!(take(&mut all, vec![event(0, None), event(most, None)]).len(), 1, "the oldest went");
    }

    #[test]
    fn an_event_without_a_name_is_taken() {
        let mut all = Occurrences::default();
        let mut odd = Event::new();
        odd.set(field::SAKIMORI_OCCURRENCE, "no hexadecimal digits");
        assert_eq!(take(&mut all, vec![odd.clone(), odd]).len(), 2);
    }
}
