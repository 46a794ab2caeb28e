//! Bounds on what floods of alerts make the manager write. Pure: time comes in.
//!
//! Whoever makes alerts from ever new addresses makes playbooks ask for ever new actions, each of which is rows in the
//! tables of actions, ledger, audit log and outbox. So each playbook has, for each kind of action, a bucket of tokens: so
//! many actions at once, then so many a minute. What finds no token is shed: it is counted (`shed` in the control state,
//! [`sakimori_store::control::shed`]) and a span of shedding is told once, when it begins. A host's actions, which its own
//! ledger holds and which are listed here too, have a bucket for each host.
//!
//! Nothing that protects depends on it: a host blocks by its own playbooks and its own bounds, whatever is listed here.

use std::collections::{BTreeMap, HashMap};

use sakimori_model::Timestamp;
use sakimori_model::rule::Severity;
use sakimori_respond::actions::{notify, waf_block};
use sakimori_store::control::shed::{PROJECTION, Shed};

use crate::config::Flood;
use crate::notices::Notice;

/// `event.action` and `rule.id` of the alert that tells of a span.
pub const NOTICE: &str = "actions-shed";
/// A span ends when nothing was shed for so long, in seconds.
const SPAN: i64 = 600;
/// Most buckets; where more are wanted those go that nobody asked for so long, in seconds, and who finds no room shares one.
const MOST_KEYS: usize = 65_536;
const FORGET: i64 = 3_600;

/// Who asks, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Tenant.
    pub tenant: String,
    /// `playbook:<id>`, or an agent.
    pub source: String,
    /// Slug of the action, or [`PROJECTION`].
    pub kind: String,
}

/// So many at once, then so many a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    burst: u32,
    per_minute: u32,
}

impl Rate {
    /// What applies to a kind.
    pub fn of(kind: &str, flood: &Flood) -> Self {
        let (burst, per_minute) = match kind {
            notify::ID => (flood.messages_burst, flood.messages_per_minute),
            PROJECTION => (flood.host_actions_burst, flood.host_actions_per_minute),
            // Of these any number is one call, and their set is bounded by itself.
            waf_block::ID => (flood.actions_burst, flood.addresses_per_minute),
            _ => (flood.actions_burst, flood.actions_per_minute),
        };
        Self { burst: burst.max(1), per_minute }
    }

    /// A full bucket, in millionths of an action.
    fn full(self) -> i64 {
        i64::from(self.burst) * 1_000_000
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Millionths of an action.
    level: i64,
    at: Timestamp,
    /// Beginning and last moment of the span of shedding.
    span: Option<(Timestamp, Timestamp)>,
}

/// All buckets.
#[derive(Debug, Default)]
pub struct Floods(HashMap<Key, Bucket>);

/// What became of one that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There was a token.
    Written,
    /// There was none: it belongs to the span that began then, and is the first of it or not.
    Shed {
        /// Beginning of the span.
        began: Timestamp,
        /// Is it the first?
        first: bool,
    },
}

impl Floods {
    /// Goes on with spans that were open before a start, so that a crash gives nobody a full bucket and nothing is told
    /// again.
    pub fn restore(spans: &[Shed], now: Timestamp) -> Self {
        let at = Timestamp::from_micros;
        let open = spans.iter().filter(|span| now.since(at(span.last)) < SPAN * 1_000_000);
        let bucket = |span: &Shed| Bucket { level: 0, at: at(span.last), span: Some((at(span.began), at(span.last))) };
        let key =
            |span: &Shed| Key { tenant: span.tenant.clone(), source: span.source.clone(), kind: span.kind.clone() };
        Self(open.map(|span| (key(span), bucket(span))).collect())
    }

    /// Is there a token?
    pub fn has_room(&mut self, key: &Key, rate: Rate, now: Timestamp) -> bool {
        self.bucket(key, rate, now).level >= 1_000_000
    }

    /// Takes a token, or sheds.
    pub fn take(&mut self, key: &Key, rate: Rate, now: Timestamp) -> Turn {
        let bucket = self.bucket(key, rate, now);
        if bucket.level >= 1_000_000 {
            bucket.level -= 1_000_000;
            return Turn::Written;
        }
        let open = bucket.span.filter(|(_, last)| now.since(*last) < SPAN * 1_000_000);
        let began = open.map_or(now, |(began, _)| began);
        bucket.span = Some((began, open.map_or(now, |(_, last)| last.max(now))));
        Turn::Shed { began, first: open.is_none() }
    }

    fn bucket(&mut self, key: &Key, rate: Rate, now: Timestamp) -> &mut Bucket {
        if self.0.len() >= MOST_KEYS && !self.0.contains_key(key) {
            self.0.retain(|_, bucket| now.since(bucket.at) < FORGET * 1_000_000);
        }
        let key = match self.0.len() >= MOST_KEYS && !self.0.contains_key(key) {
            true => Key { tenant: key.tenant.clone(), source: String::new(), kind: key.kind.clone() },
            false => key.clone(),
        };
        let bucket = self.0.entry(key).or_insert(Bucket { level: rate.full(), at: now, span: None });
        // A clock that was set back gives nothing and takes nothing.
        let passed = now.since(bucket.at).clamp(0, 86_400 * 1_000_000);
        bucket.level = (bucket.level + passed * i64::from(rate.per_minute) / 60).min(rate.full());
        bucket.at = bucket.at.max(now);
        bucket
    }
}

/// What one call shed and folded, written at its end.
#[derive(Debug, Default)]
pub struct Tally {
    /// Orders that are folded into an action's row, by its id.
    pub folds: BTreeMap<String, i64>,
    shed: BTreeMap<(Key, String, Timestamp), (i64, String)>,
    /// Spans that began.
    begun: Vec<Key>,
}

impl Tally {
    /// One was shed. `target` is a message's channel.
    pub fn shed(&mut self, key: &Key, target: &str, sample: &str, began: Timestamp, first: bool) {
        let channel = if key.kind == notify::ID { target } else { "" };
        let one = self.shed.entry((key.clone(), channel.to_owned(), began)).or_default();
        *one = (one.0 + 1, sample.to_owned());
        if first {
            self.begun.push(key.clone());
        }
    }

    /// How many were shed.
    pub fn count(&self) -> u64 {
        self.shed.values().map(|(count, _)| count.unsigned_abs()).sum()
    }

    /// Rows to be added, of this journal record.
    pub fn rows(&self, position: i64, now: Timestamp) -> impl Iterator<Item = Shed> + '_ {
        self.shed.iter().map(move |((key, target, began), (count, sample))| Shed {
            tenant: key.tenant.clone(),
            source: key.source.clone(),
            kind: key.kind.clone(),
            target: target.clone(),
            began: began.micros(),
            last: now.micros(),
            count: *count,
            sample: sample.clone(),
            position,
            told: 0,
        })
    }

    /// What is to be told of spans that began.
    pub fn notices<'a>(&'a self, flood: &'a Flood) -> impl Iterator<Item = (&'a str, Notice)> + 'a {
        self.begun.iter().map(move |key| (key.tenant.as_str(), notice(key, Rate::of(&key.kind, flood))))
    }
}

fn notice(key: &Key, rate: Rate) -> Notice {
    let Key { source, kind, .. } = key;
    let (burst, per_minute) = (rate.burst, rate.per_minute);
    let (message, remedy) = match kind.as_str() {
        PROJECTION => (
            format!(
                "host {source} does more than is listed here one by one ({burst} at once, then {per_minute} a minute): it \
                 goes on, and each action is in its own ledger and among the events"
            ),
            "see them with sakimori-agent actions list there; take all back with sakimori halt --undo; raise \
             flood.host_actions_burst and flood.host_actions_per_minute for a longer list",
        ),
        notify::ID => (
            format!(
                "{source} asked for more messages than are sent one by one ({burst} at once, then {per_minute} a minute): \
                 one message a minute says how many more there were"
            ),
            "see all with sakimori alerts; raise flood.messages_burst and flood.messages_per_minute for more messages",
        ),
        kind => (
            format!(
                "{source} asked for more {kind} actions than are carried out one by one ({burst} at once, then \
                 {per_minute} a minute): the others are counted and not carried out; hosts go on to block by themselves"
            ),
            match kind {
                waf_block::ID => {
                    "see how many with sakimori actions shed; block whole networks by hand, or raise flood.actions_burst and \
                     flood.addresses_per_minute"
                }
                _ => {
                    "see how many with sakimori actions shed; block whole networks by hand, or raise flood.actions_burst and \
                     flood.actions_per_minute"
                }
            },
        ),
    };
    Notice {
        what: NOTICE.into(),
        title: "More actions were asked for than are written one by one".into(),
        about: format!("{source} {kind}"),
        message,
        remedy: remedy.into(),
        severity: Some(Severity::High),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { burst: 10, per_minute: 60 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn key(source: &str) -> Key {
        Key { tenant: "default".into(), source: source.into(), kind: "waf_block".into() }
    }

    fn written(floods: &mut Floods, key: &Key, count: usize, seconds: i64) -> usize {
        (0..count).filter(|_| floods.take(key, RATE, at(seconds)) == Turn::Written).count()
    }

    #[test]
    fn a_burst_goes_through_then_so_many_a_minute_and_no_other_is_held_up() {
        let mut floods = Floods::default();
        assert_eq!(written(&mut floods, &key("a"), 1_000, 0), 10);
        assert_eq!(written(&mut floods, &key("a"), 1_000, 5), 5);
        assert_eq!(written(&mut floods, &key("b"), 1_000, 5), 10);
        assert_eq!(written(&mut floods, &key("a"), 1_000, 0), 0, "a clock that goes back gives nothing");
        assert_eq!(written(&mut floods, &key("a"), 1_000, 100_000), 10, "and no more than a burst is saved up");
    }

    #[test]
    fn a_span_begins_once_and_another_after_a_rest() {
        let mut floods = Floods::default();
        written(&mut floods, &key("a"), 10, 0);
        let mut firsts = 0;
        for second in 0..SPAN * 3 {
            for _ in 0..5 {
                firsts += i32::from(matches!(floods.take(&key("a"), RATE, at(second)), Turn::Shed { first: true, .. }));
            }
        }
        assert_eq!(firsts, 1, "half an hour of flood is told once");
        let later = SPAN * 5;
        assert_eq!(written(&mut floods, &key("a"), 10, later), 10);
        assert_eq!(floods.take(&key("a"), RATE, at(later)), Turn::Shed { began: at(later), first: true });
    }

    #[test]
    fn a_start_goes_on_with_the_span_and_the_empty_bucket() {
        let mut tally = Tally::default();
        tally.shed(&key("a"), "", "192.0.2.1", at(0), true);
        tally.shed(&key("a"), "", "192.0.2.2", at(0), false);
        let rows: Vec<Shed> = tally.rows(7, at(3)).collect();
        assert_eq!((rows.len(), rows[0].count, rows[0].sample.as_str(), tally.count()), (1, 2, "192.0.2.2", 2));
        assert_eq!(tally.notices(&Flood::default()).count(), 1);
        let mut floods = Floods::restore(&rows, at(4));
        assert_eq!(written(&mut floods, &key("a"), 100, 4), 1, "what a second brings");
        assert_eq!(floods.take(&key("a"), RATE, at(4)), Turn::Shed { began: at(0), first: false });
        let mut floods = Floods::restore(&rows, at(SPAN + 10));
        assert_eq!(written(&mut floods, &key("a"), 100, SPAN + 10), 10, "it is over");
    }

    #[test]
    fn buckets_are_bounded() {
        let mut floods = Floods::default();
        for number in 0..MOST_KEYS + 5_000 {
            floods.take(&key(&number.to_string()), RATE, at(0));
        }
        assert!(floods.0.len() <= MOST_KEYS + 1, "{}", floods.0.len());
        floods.take(&key("after a rest"), RATE, at(FORGET));
        assert_eq!(floods.0.len(), 1, "those that rested made room");
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(steps in prop::collection::vec((0_i64..90, 0_usize..40), 1..60)) {
            let (mut floods, mut now, mut total) = (Floods::default(), 0, 0);
            for (wait, count) in steps {
                now += wait;
                total += written(&mut floods, &key("a"), count, now);
            }
            let most = 10 + now;
            prop_assert!(i64::try_from(total).unwrap() <= most, "{total} in {now} s");
        }
    }
}
