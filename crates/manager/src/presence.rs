//! Agents that are away: what is said of each, and when that changes.
//!
//! ```text
//! connected ── its stream ends ──▶ away ── silent_after ──▶ silent      an event: nobody said that it would go
//!     │                              └─── retire_after ──▶ retired     of a group whose hosts come and go
//!     └─ goodbye: the host stops, or the agent is uninstalled ──▶ retired;  it was stopped ──▶ stopped, an event
//! ```
//! A hello ends all of it. Each change is an entry of the audit log and with it an event of the lake.

use std::collections::HashMap;
use std::sync::Mutex;

use sakimori_model::Timestamp;
use sakimori_model::policy::Presence as Settings;
use sakimori_store::control::agents::Agent;
use sakimori_store::control::audit;

/// It is connected again after it was silent, stopped or retired.
pub const BACK: &str = "agents:back";
/// It fell silent.
pub const SILENT: &str = "agents:silent";
/// It was stopped, and said so.
pub const STOPPED: &str = "agents:stopped";
/// Its host went away, as hosts of its group do, or said so.
pub const RETIRED: &str = "agents:retired";
/// It was taken off its host, and said so.
pub const UNINSTALLED: &str = "agents:uninstalled";
/// Another machine came with its identity, and was refused.
pub const COPIED: &str = "agents:copied";

/// An entry about a copy of one agent is written once in so many seconds; the copy tries all the time.
const NEWS: i64 = 3_600;
/// Agents of which that is remembered.
const MOST_NEWS: usize = 4_096;

/// What is known of an agent that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It said nothing and is not heard of.
    Silent,
    /// It was stopped.
    Stopped,
    /// It is not expected back.
    Retired,
}

impl Presence {
    /// As the control state and the API have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Stopped => "stopped",
            Self::Retired => "retired",
        }
    }
}

/// The state that the API shows.
pub fn shown(agent: &Agent, connected: bool) -> String {
    match (agent.revoked, connected, agent.presence.as_str()) {
        (Some(_), _, _) => "revoked",
        (None, true, _) => "connected",
        (None, false, "") => "away",
        (None, false, presence) => presence,
    }
    .to_owned()
}

/// What an agent that is not connected becomes now, if anything. `since`: the manager listens since then; what was
/// not heard before says nothing.
pub fn judge(agent: &Agent, settings: &Settings, since: Timestamp, now: Timestamp) -> Option<Presence> {
    let heard = agent.last_seen.unwrap_or(agent.enrolled).max(since);
    let gone = |seconds: u64| now.since(heard) >= i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    if settings.retire_after_seconds > 0 {
        let due = agent.presence != Presence::Retired.name() && gone(settings.retire_after_seconds);
        return due.then_some(Presence::Retired);
    }
    // One that was never there yet is waited for.
    let due = agent.presence.is_empty() && agent.last_seen.is_some() && gone(settings.silent_after_seconds);
    due.then_some(Presence::Silent)
}

/// The audit entry of a change.
pub fn entry<'a>(agent: &'a Agent, action: &'a str, time: Timestamp) -> audit::Entry<'a> {
    audit::Entry {
        tenant: &agent.tenant,
        time,
        actor: "system",
        action,
        target: &agent.id,
        before: None,
        after: None,
        address: "",
        request: "",
    }
}

/// Of which agents a copy was told lately.
#[derive(Debug, Default)]
pub struct Copies(Mutex<HashMap<String, Timestamp>>);

impl Copies {
    /// Is this worth an entry? Remembers that it was asked.
    pub fn is_news(&self, agent: &str, now: Timestamp) -> bool {
        let Ok(mut told) = self.0.lock() else { return false };
        told.retain(|_, at| now.since(*at) < NEWS * 1_000_000);
        if told.contains_key(agent) || told.len() >= MOST_NEWS {
            return false;
        }
        told.insert(agent.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(presence: &str, last_seen: Option<i64>) -> Agent {
        Agent {
            tenant: "default".into(),
            id: "a".into(),
            name: "web1".into(),
            tags: Vec::new(),
            host: "{}".into(),
            versions: "{}".into(),
            status: "{}".into(),
            enrolled: Timestamp::from_secs(1),
            last_seen: last_seen.map(Timestamp::from_secs),
            serial: "1".into(),
            revoked: None,
            token: String::new(),
            machine: "{}".into(),
            presence: presence.into(),
            presence_since: None,
        }
    }

    fn after(presence: &str, last_seen: Option<i64>, retire: u64, since: i64, now: i64) -> Option<Presence> {
        let settings = Settings { silent_after_seconds: 30, retire_after_seconds: retire };
        judge(&agent(presence, last_seen), &settings, Timestamp::from_secs(since), Timestamp::from_secs(now))
    }

    #[test]
    fn silence_is_told_once_and_a_group_that_comes_and_goes_retires_instead() {
        assert_eq!(after("", Some(100), 0, 0, 129), None);
        assert_eq!(after("", Some(100), 0, 0, 130), Some(Presence::Silent));
        assert_eq!(after("silent", Some(100), 0, 0, 9_999), None, "known already");
        assert_eq!(after("stopped", Some(100), 0, 0, 9_999), None, "it said so");
        assert_eq!(after("", None, 0, 0, 9_999), None, "it was enrolled and never came");
        assert_eq!(after("", Some(100), 60, 0, 159), None, "no alarm before it retires");
        for presence in ["", "silent", "stopped"] {
            assert_eq!(after(presence, Some(100), 60, 0, 160), Some(Presence::Retired), "{presence}");
        }
        assert_eq!(after("retired", Some(100), 60, 0, 9_999), None);
    }

    #[test]
    fn what_was_not_heard_while_the_manager_was_away_says_nothing() {
        assert_eq!(after("", Some(100), 0, 1_000, 1_029), None);
        assert_eq!(after("", Some(100), 0, 1_000, 1_030), Some(Presence::Silent));
    }

    #[test]
    fn a_copy_is_told_once_an_hour_and_what_is_remembered_is_bounded() {
        let (copies, at) = (Copies::default(), Timestamp::from_secs);
        assert!(copies.is_news("a", at(1)) && copies.is_news("b", at(1)));
        assert!(!copies.is_news("a", at(3_600)));
        assert!(copies.is_news("a", at(3_601)));
        for number in 0..MOST_NEWS + 10 {
            copies.is_news(&number.to_string(), at(4_000));
        }
        assert_eq!(copies.0.lock().unwrap().len(), MOST_NEWS);
    }
}
