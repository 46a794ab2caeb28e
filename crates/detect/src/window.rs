//! The open window of one group of one correlation: what has contributed and not yet led to an alert.
//!
//! Time is that of the events. Entries are kept by time, so an event that comes late still finds its place. Only
//! what is near the newest entry or near the one that just came is kept ("near": the timespan and the lateness
//! that is allowed). So when a clock is put back, what comes then forms a window of its own beside the one that
//! lies in the future, and nothing has to be told that a clock was changed.
//!
//! Bounds: a window holds twice what its condition can need, never more.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Microseconds.
    pub time: i64,
    /// Which of the correlation's rules it comes from.
    pub slot: u32,
    /// A hash of the id, so that others are told apart without a look at their text.
    mark: u32,
    /// Id of the event that contributed.
    id: Arc<str>,
    /// What most entries do not have; there may be a million of them.
    more: Option<Box<More>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct More {
    /// The value that is counted.
    value: Option<Box<str>>,
    /// Ids of further events, where another correlation contributed.
    ids: Vec<Arc<str>>,
}

/// A group's window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub entries: VecDeque<Entry>,
    /// The last alert was of this moment.
    pub fired: Option<i64>,
    /// When something was last added, by the clock of whoever received it.
    pub touched: i64,
}

/// How a window is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Microseconds that a window spans.
    pub span: i64,
    /// Microseconds by which an event may come late.
    pub lateness: i64,
    /// Most entries.
    pub most: usize,
    /// Which entries are held.
    pub hold: Hold,
}

/// Which entries a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Each.
    All,
    /// For each value its latest.
    Values,
    /// For each rule its latest.
    Rules,
    /// Of a run of one rule its latest: an order of steps needs no more, and who repeats a step pushes none out.
    Runs,
}

impl Entry {
    /// What the event of the last of these ids contributes; `None` without an id.
    pub(crate) fn new(time: i64, slot: u32, value: Option<Box<str>>, ids: &[Arc<str>]) -> Option<Self> {
        let (id, others) = ids.split_last()?;
        // FNV-1a. Equal marks only cost a comparison.
        let mark = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let is_more = value.is_some() || !others.is_empty();
        let more = is_more.then(|| Box::new(More { value, ids: others.to_vec() }));
        Some(Self { time, slot, mark, id: id.clone(), more })
    }

    /// The value that is counted.
    pub(crate) fn value(&self) -> Option<&str> {
        self.more.as_ref()?.value.as_deref()
    }

    /// Ids of what contributed, oldest first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.more.iter().flat_map(|more| &more.ids).chain([&self.id])
    }

    fn is_same(&self, other: &Self) -> bool {
        self.mark == other.mark && self.id == other.id
    }
}

impl Window {
    /// Adds an entry. `false` where it added nothing: the same event or the same value is there already.
    pub(crate) fn add(&mut self, entry: Entry, shape: &Shape) -> bool {
        let former = match shape.hold {
            Hold::Values => self.entries.iter().position(|other| other.value() == entry.value()),
            Hold::Rules => self.entries.iter().position(|other| other.slot == entry.slot),
            Hold::All | Hold::Runs => None,
        };
        if let Some(at) = former {
            if self.entries.get(at).is_some_and(|other| other.time > entry.time || other.is_same(&entry)) {
                return false;
            }
            self.entries.remove(at);
        } else if self
            .entries
            .iter()
            .rev()
            .take(4)
            .any(|other| other.time == entry.time && other.slot == entry.slot && other.is_same(&entry))
        {
            return false;
        }
        let time = entry.time;
        let place = self.entries.iter().rposition(|other| other.time <= time).map_or(0, |at| at + 1);
        match place.checked_sub(1).and_then(|at| self.entries.get_mut(at)) {
            Some(before) if shape.hold == Hold::Runs && before.slot == entry.slot => *before = entry,
            _ => self.entries.insert(place, entry),
        }
        let keep = shape.span.saturating_add(shape.lateness);
        let newest = self.entries.back().map_or(time, |last| last.time);
        let near = |one: i64, other: i64| one.saturating_sub(other).saturating_abs() <= keep;
        if self.entries.front().is_some_and(|first| !near(first.time, newest)) {
            self.entries.retain(|other| near(other.time, newest) || near(other.time, time));
        }
        while self.entries.len() > shape.most {
            // The oldest goes, but not what stands with the one that just came.
            let beside = |other: &Entry| other.time.saturating_sub(time).saturating_abs() <= shape.span;
            let place = self.entries.iter().position(|other| !beside(other)).unwrap_or(0);
            self.entries.remove(place);
        }
        true
    }

    /// The entries from one moment to another, both included.
    pub(crate) fn between(&self, from: i64, to: i64) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| (from..=to).contains(&entry.time))
    }

    /// Takes the entries from one moment to another out.
    pub(crate) fn take(&mut self, from: i64, to: i64) -> Vec<Entry> {
        let (taken, left) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry: &Entry| (from..=to).contains(&entry.time));
        self.entries = left;
        let taken: VecDeque<Entry> = taken;
        taken.into()
    }

    /// Is it still quiet after the last alert?
    pub(crate) fn is_quiet(&self, time: i64, span: i64) -> bool {
        self.fired.is_some_and(|fired| time.saturating_sub(fired).saturating_abs() < span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { span: 100, lateness: 10, most: 8, hold: Hold::All };

    fn entry(time: i64, id: u32) -> Entry {
        Entry::new(time, 0, None, &[id.to_string().into()]).unwrap()
    }

    fn times(window: &Window) -> Vec<i64> {
        window.entries.iter().map(|entry| entry.time).collect()
    }

    #[test]
    fn late_events_find_their_place() {
        let mut window = Window::default();
        for (id, time) in [50, 60, 55, 52].into_iter().enumerate() {
            assert!(window.add(entry(time, u32::try_from(id).unwrap()), &SHAPE));
        }
        assert_eq!(times(&window), [50, 52, 55, 60]);
        assert!(!window.add(entry(52, 3), &SHAPE), "the same event does not count twice");
    }

    #[test]
    fn what_is_out_of_reach_goes() {
        let mut window = Window::default();
        for (id, time) in [0, 50, 105, 111].into_iter().enumerate() {
            window.add(entry(time, u32::try_from(id).unwrap()), &SHAPE);
        }
        assert_eq!(times(&window), [50, 105, 111]);
    }

    #[test]
    fn a_clock_that_is_put_back_opens_a_window_of_its_own() {
        let mut window = Window::default();
        for (id, time) in [10_000, 10_001, 100, 101, 102].into_iter().enumerate() {
            window.add(entry(time, u32::try_from(id).unwrap()), &SHAPE);
        }
        assert_eq!(times(&window), [100, 101, 102, 10_000, 10_001]);
        window.add(entry(10_050, 9), &SHAPE);
        assert_eq!(times(&window), [10_000, 10_001, 10_050]);
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let mut window = Window::default();
        for id in 0..1000 {
            window.add(entry(i64::from(id % 7), id), &SHAPE);
            assert!(window.entries.len() <= SHAPE.most);
        }
        assert_eq!(times(&window), [6; 8], "the oldest went");
    }

    #[test]
    fn values_are_held_once_with_their_latest_time() {
        let shape = Shape { hold: Hold::Values, ..SHAPE };
        let mut window = Window::default();
        for (id, (time, value)) in [(1, "a"), (2, "b"), (3, "a"), (2, "a")].into_iter().enumerate() {
            let entry = Entry::new(time, 0, Some(value.into()), &[id.to_string().into()]).unwrap();
            window.add(entry, &shape);
        }
        assert_eq!(times(&window), [2, 3]);
    }

    #[test]
    fn who_repeats_one_step_pushes_no_other_out() {
        for hold in [Hold::Rules, Hold::Runs] {
            let shape = Shape { hold, ..SHAPE };
            let mut window = Window::default();
            for id in 0..50_u32 {
                let slot = u32::from(id > 0);
                window.add(Entry { slot, ..entry(i64::from(id), id) }, &shape);
            }
            assert_eq!(times(&window), [0, 49], "{hold:?}");
        }
    }
}
