//! The life of an action as pure functions: what may happen next, and the change that says so.
//!
//! The host's ledger and the manager's rows are driven by the same functions. None of them reads a clock, and
//! none of them changes an action: each returns the [`Change`] to be written first and applied then.

use sakimori_model::action::{Cause, Target};
use sakimori_model::ledger::Change;
use sakimori_model::{Action, ActionState, Network, Order, Timestamp};

use crate::actions::{self, isolate_host, scan_paths};

/// How long an action of one kind lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds until it ends by itself, unless the order says when.
    pub expiry_seconds: u64,
    /// Seconds from its beginning that fresh evidence may prolong it to.
    pub expiry_most_seconds: u64,
    /// Seconds after an undo by hand in which it is not repeated on the same target.
    pub grace_seconds: u64,
}

impl From<&sakimori_model::policy::BlockAddress> for Limits {
    fn from(policy: &sakimori_model::policy::BlockAddress) -> Self {
        Self {
            expiry_seconds: policy.expiry_seconds,
            expiry_most_seconds: policy.expiry_most_seconds,
            grace_seconds: policy.grace_seconds,
        }
    }
}

/// A planned action for an order. Its end lies between now and the most that the limits allow.
pub fn plan(order: Order, place: &str, now: Timestamp, limits: &Limits) -> Action {
    let most = later(now, limits.expiry_most_seconds.max(1));
    let end = order.expiry.unwrap_or_else(|| later(now, limits.expiry_seconds)).min(most);
    Action {
        order,
        place: place.to_owned(),
        state: ActionState::Planned,
        reason: None,
        former: None,
        planned_at: now,
        done_at: None,
        ended_at: None,
        expires_at: Some(end),
        expires_at_most: Some(most),
        prolonged: 0,
        grace_until: None,
        undone_by: None,
        confirm_by: None,
    }
}

/// A change to this state that says nothing else.
pub fn to(action: &str, state: ActionState) -> Change {
    Change {
        action: action.to_owned(),
        state,
        reason: None,
        former: None,
        expires_at: None,
        grace_until: None,
        by: None,
        confirmed: false,
    }
}

/// A change to this state with its reason.
pub fn because(action: &str, state: ActionState, reason: impl Into<String>) -> Change {
    Change { reason: Some(reason.into()), ..to(action, state) }
}

/// Fresh evidence asks for a later end. `None` where the action has that end already, or may not go further.
pub fn prolong(action: &Action, wanted: Timestamp) -> Option<Change> {
    let end = action.expires_at_most.map_or(wanted, |most| wanted.min(most));
    (action.state == ActionState::Done && action.expires_at.is_some_and(|now| end > now))
        .then(|| Change { expires_at: Some(end), ..to(&action.order.id, ActionState::Done) })
}

/// Who takes an action back before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo<'a> {
    /// A person, by name. Followed by the grace time.
    Person(&'a str),
    /// A change of policy (module off, address now allowed); the text says which. No grace time.
    Policy(&'a str),
}

/// The first half of taking an action back: written before the effect. `None` where there is nothing to take
/// back: it has no effect any more, or never had one that can be taken back (a message, a scan that is over).
pub fn undo(action: &Action, by: Undo<'_>, now: Timestamp, limits: &Limits) -> Option<Change> {
    let ends = action.order.action == scan_paths::ID;
    let state = match action.state {
        ActionState::Running if ends => ActionState::Undoing,
        ActionState::Running | ActionState::Done if can_be_undone(&action.order) => ActionState::Undoing,
        ActionState::Approved => ActionState::Undone,
        _ => return None,
    };
    let mut change = to(&action.order.id, state);
    match by {
        Undo::Person(name) => {
            change.by = Some(name.to_owned());
            change.grace_until = Some(later(now, limits.grace_seconds));
        }
        Undo::Policy(text) => {
            change.by = Some("policy".to_owned());
            change.reason = Some(text.to_owned());
        }
    }
    Some(change)
}

/// Who took back what was given up, since it failed or all answers were stopped before it was done.
const FAILURE: &str = "failure";
const STOP: &str = "stop";

/// Nothing comes of an action that runs, but a part of it may be in effect: the first half of taking that back. It ends as
/// failed, or as refused where all answers were `stopped`, once nothing of it is left.
pub fn withdraw(action: &Action, stopped: bool, why: impl Into<String>) -> Change {
    let by = if stopped { STOP } else { FAILURE };
    Change { by: Some(by.to_owned()), ..because(&action.order.id, ActionState::Undoing, why) }
}

/// Can what this order does be taken back, once it is done? An action that is not known here can.
pub fn can_be_undone(order: &Order) -> bool {
    actions::find(&order.action).is_none_or(|known| known.undo.is_some())
}

/// Will nothing more happen to it? Its state is final, or it is done and cannot be taken back.
pub fn is_finished(action: &Action) -> bool {
    action.state.is_final() || (action.state == ActionState::Done && !can_be_undone(&action.order))
}

/// The change once the effect is gone: expired where its time is up and nobody took it back, failed or refused where nothing
/// came of it ([`withdraw`]), else undone.
pub fn undone(action: &Action, now: Timestamp) -> Option<Change> {
    match action.state {
        ActionState::Undoing if action.undone_by.is_none() && is_over(action, now) => {
            Some(to(&action.order.id, ActionState::Expired))
        }
        ActionState::Undoing => Some(to(
            &action.order.id,
            match action.undone_by.as_deref() {
                Some(FAILURE) => ActionState::Failed,
                Some(STOP) => ActionState::Refused,
                _ => ActionState::Undone,
            },
        )),
        ActionState::Done if action.confirm_by.is_some_and(|by| by <= now) => {
            Some(because(&action.order.id, ActionState::Expired, "taken back by itself: nothing confirmed it in time"))
        }
        ActionState::Done if is_over(action, now) => Some(to(&action.order.id, ActionState::Expired)),
        _ => None,
    }
}

/// Is its time up?
pub fn is_over(action: &Action, now: Timestamp) -> bool {
    action.end().is_some_and(|end| end <= now)
}

/// How long a provisional action waits for its confirmation, in seconds.
pub const CONFIRM_SECONDS: u64 = 120;

/// Could carrying this order out lock people out of the host? Then it is provisional until it is confirmed.
pub fn needs_confirmation(order: &Order) -> bool {
    match &order.target {
        Target::Network(network) => !network.is_host(),
        Target::Setting(_) => true,
        Target::Resource(_) => order.action == isolate_host::ID,
        Target::Channel(_) | Target::File(_) => false,
    }
}

/// A provisional action stays: who confirmed it, and by which checks. `None` where there is nothing to confirm.
pub fn confirm(action: &Action, by: &str, checks: &str, now: Timestamp) -> Option<Change> {
    let waits = action.state == ActionState::Done && action.confirm_by.is_some_and(|end| end > now);
    waits.then(|| Change {
        confirmed: true,
        ..because(&action.order.id, ActionState::Done, format!("confirmed by {by}: {checks}"))
    })
}

/// Is it in effect, or about to be?
pub fn is_live(state: ActionState) -> bool {
    matches!(state, ActionState::Approved | ActionState::Running | ActionState::Done)
}

/// What a reconciler has to do with an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Judge it: approve, refuse or find it without effect.
    Judge,
    /// Write that it is running, then carry it out (again, after a crash).
    Run,
    /// Take the effect back (again, after a crash), then write [`undone`].
    TakeBack,
    /// Nothing before this moment.
    Wait(Timestamp),
    /// Nothing any more.
    Nothing,
}

/// What to do with an action now.
pub fn next(action: &Action, now: Timestamp) -> Next {
    match action.state {
        ActionState::Planned => Next::Judge,
        ActionState::Approved | ActionState::Running => Next::Run,
        ActionState::Undoing => Next::TakeBack,
        ActionState::Done => match action.end() {
            Some(end) if end <= now => Next::TakeBack,
            Some(end) => Next::Wait(end),
            None => Next::Nothing,
        },
        _ => Next::Nothing,
    }
}

/// Most tries before an action is given up.
pub const TRIES: u32 = 8;
/// Longest wait between two tries, in seconds.
const LONGEST_WAIT: u64 = 300;

/// When to try again after the `failures`-th failure (from 1): 1, 2, 4, … seconds, or later where the other side
/// asked for it. `None` where the tries are used up.
pub fn retry_at(failures: u32, now: Timestamp, asked: Option<u64>) -> Option<Timestamp> {
    (failures < TRIES).then(|| wait(failures, now, asked))
}

/// As [`retry_at`], for what must never be given up: taking back an effect.
pub fn retry_always_at(failures: u32, now: Timestamp) -> Timestamp {
    wait(failures, now, None)
}

fn wait(failures: u32, now: Timestamp, asked: Option<u64>) -> Timestamp {
    let wait = 1_u64.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
    later(now, wait.max(asked.unwrap_or(0).min(3600)))
}

/// The id of an automatic action: of (alert, action, target, place), so that a replay finds it there.
pub fn order_id(alert: &str, action: &str, target: &Target, place: &str) -> String {
    use sha2::{Digest, Sha256};
    // An action that is called otherwise now keeps its ids: what was asked for before an update is not asked for again.
    let action = actions::FORMER.iter().find(|(_, now)| *now == action).map_or(action, |(former, _)| former);
    let mut digest = Sha256::new();
    for part in [alert, action, &target.to_string(), place] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize().get(..16).unwrap_or_default())
}

/// The network that an order acts on, where it acts on one.
pub fn network(order: &Order) -> Option<Network> {
    match &order.target {
        Target::Network(network) => Some(*network),
        Target::Channel(_) | Target::File(_) | Target::Setting(_) | Target::Resource(_) => None,
    }
}

/// Does it take a file away? (A scan only reads.)
pub fn is_of_file(order: &Order) -> bool {
    matches!(order.target, Target::File(_)) && order.action != scan_paths::ID
}

/// Does it change something on a host that is put back later, through a [`crate::ports::HostEffect`]?
pub fn is_lasting(order: &Order) -> bool {
    actions::LASTING.contains(&order.action.as_str())
}

/// Was it ordered by a person rather than by an alert?
pub fn by_hand(cause: &Cause) -> bool {
    cause.alert.is_empty()
}

/// A moment this many seconds later.
pub(crate) fn later(now: Timestamp, seconds: u64) -> Timestamp {
    now.plus_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{address, now, order};

    const LIMITS: Limits = Limits { expiry_seconds: 60, expiry_most_seconds: 100, grace_seconds: 30 };

    fn done() -> Action {
        let mut action = plan(order("a", "192.0.2.1"), "host", now(0), &LIMITS);
        for state in [ActionState::Approved, ActionState::Running, ActionState::Done] {
            assert!(action.apply(&to("a", state), now(0)));
        }
        action
    }

    #[test]
    fn every_action_has_an_end_and_a_latest_end() {
        let action = plan(order("a", "192.0.2.1"), "host", now(0), &LIMITS);
        assert_eq!((action.expires_at, action.expires_at_most), (Some(now(60)), Some(now(100))));
        let mut long = order("b", "192.0.2.1");
        long.expiry = Some(now(1_000_000));
        assert_eq!(plan(long, "host", now(0), &LIMITS).expires_at, Some(now(100)));
    }

    #[test]
    fn prolonging_stops_at_the_most_and_never_shortens() {
        let mut action = done();
        assert_eq!(prolong(&action, now(50)), None);
        let change = prolong(&action, now(500)).unwrap();
        assert_eq!(change.expires_at, Some(now(100)));
        assert!(action.apply(&change, now(10)));
        assert_eq!((action.prolonged, prolong(&action, now(500))), (1, None));
    }

    #[test]
    fn a_person_s_undo_has_a_grace_time_and_a_policy_s_has_none() {
        let mut action = done();
        let change = undo(&action, Undo::Person("mio"), now(5), &LIMITS).unwrap();
        assert_eq!((change.state, change.grace_until), (ActionState::Undoing, Some(now(35))));
        assert!(action.apply(&change, now(5)));
        assert_eq!(undone(&action, now(1000)).unwrap().state, ActionState::Undone, "a person was first");
        assert_eq!(undo(&done(), Undo::Policy("off"), now(5), &LIMITS).unwrap().grace_until, None);
        assert_eq!(undo(&action, Undo::Person("mio"), now(6), &LIMITS), None);
    }

    #[test]
    fn time_runs_out() {
        let action = done();
        assert_eq!(next(&action, now(59)), Next::Wait(now(60)));
        assert_eq!(undone(&action, now(59)), None);
        assert_eq!(next(&action, now(60)), Next::TakeBack);
        assert_eq!(undone(&action, now(60)).unwrap().state, ActionState::Expired);
    }

    #[test]
    fn a_provisional_action_ends_at_its_deadline_unless_it_is_confirmed() {
        let mut action = done();
        action.confirm_by = Some(now(20));
        assert_eq!(next(&action, now(19)), Next::Wait(now(20)));
        assert_eq!(next(&action, now(20)), Next::TakeBack);
        let ended = undone(&action, now(20)).unwrap();
        assert_eq!(ended.state, ActionState::Expired);
        assert!(ended.reason.unwrap().contains("nothing confirmed it"));
        assert_eq!(confirm(&action, "ann", "x", now(20)), None, "too late");
        let change = confirm(&action, "ann", "the manager answers", now(19)).unwrap();
        assert!(action.apply(&change, now(19)));
        assert_eq!((action.confirm_by, action.undone_by.as_deref(), action.prolonged), (None, None, 0));
        assert_eq!(next(&action, now(20)), Next::Wait(now(60)), "its own end again");
        assert_eq!(confirm(&action, "ann", "x", now(20)), None, "it is");
        assert!(needs_confirmation(&order("a", "192.0.2.0/31")) && !needs_confirmation(&order("a", "192.0.2.1")));
    }

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> =
            (1..=TRIES).map(|n| retry_at(n, now(0), None).map(|at| at.since(now(0)) / 1_000_000)).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), Some(16), Some(32), Some(64), None]);
        assert_eq!(retry_at(1, now(0), Some(30)), Some(now(30)));
        assert_eq!(retry_always_at(1000, now(0)), now(300));
    }

    #[test]
    fn ids_are_the_same_for_the_same_and_different_for_others() {
        let id = order_id("alert", "block_address", &address("192.0.2.1"), "host");
        assert_eq!(id, order_id("alert", "block_address", &address("192.0.2.1"), "host"));
        assert_ne!(id, order_id("alertb", "lock_address", &address("192.0.2.1"), "host"));
        assert_ne!(id, order_id("alert", "block_address", &address("192.0.2.1"), "other"));
        assert_eq!(id.len(), 32);
        let message = |action| order_id("alert", action, &Target::Channel("ops".into()), "manager");
        assert_eq!(message("notify"), message("notify_webhook"), "the same message after an update");
    }
}
