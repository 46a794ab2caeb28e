//! Isolations and locked users against a host that is a map: looked at, done, kept, ended, taken back, over crashes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{Mode, Policy, Switch, default_layer, merge};
use sakimori_model::rule::Scope;
use sakimori_model::{Action, ActionState, Event, Network, Order, Timestamp, field};
use sakimori_respond::actions::{isolate_host, lock_user};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{HostActions, Which};
use sakimori_respond::mandate::{Authority, Mandate};
use sakimori_respond::playbook::{Playbook, Setting};
use sakimori_respond::ports::{AddressBlocker, Applied, BlockEntry, HostEffect, Look, PortError};
use sakimori_respond::wide::{CONFIRM_SECONDS, TRIES, Undo};

/// What is changed on the host, by target, with the time that it was given. It outlives the agent.
#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    changed: BTreeMap<String, Option<u64>>,
    /// What the next looks, applications and undos answer.
    looks: Vec<Look>,
    faults: Vec<PortError>,
    /// The same, of undos alone.
    stuck: Vec<PortError>,
    /// What the next verifications find missing.
    missing: Vec<String>,
    calls: Vec<&'static str>,
    halted: Option<String>,
}

impl World {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn holds(&self) -> Vec<String> {
        self.lock().changed.keys().cloned().collect()
    }

    fn left(&self, target: &str) -> Option<u64> {
        self.lock().changed.get(target).copied().flatten()
    }
}

impl AddressBlocker for World {
    fn block(&mut self, _entries: &[BlockEntry]) -> Result<(), PortError> {
        Ok(())
    }

    fn unblock(&mut self, _networks: &[Network]) -> Result<(), PortError> {
        Ok(())
    }

    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        Ok(Vec::new())
    }

    fn halted(&mut self) -> Option<String> {
        self.lock().halted.clone()
    }
}

impl HostEffect for World {
    fn look(&mut self, action: &Action) -> Result<Look, PortError> {
        let mut state = self.lock();
        state.calls.push("look");
        assert_eq!(action.state, ActionState::Planned, "before anything is written");
        Ok(state.looks.pop().unwrap_or(Look::Ready { former: "before".into(), would: vec!["change it".into()] }))
    }

    fn apply(&mut self, action: &Action, left_ms: Option<u64>) -> Result<Applied, PortError> {
        let mut state = self.lock();
        state.calls.push("apply");
        assert_eq!(action.former.as_deref(), Some("before"), "what was there is written before the effect");
        // Even a failure may have done a part of it.
        state.changed.insert(action.order.target.to_string(), left_ms);
        if let Some(missing) = state.missing.pop() {
            return Err(PortError::transient(format!("it did not take effect: {missing}")));
        }
        state.faults.pop().map_or(Ok(Applied::Done { former: None, remark: Some("a remark".into()) }), Err)
    }

    fn undo(&mut self, action: &Action) -> Result<Option<String>, PortError> {
        let mut state = self.lock();
        state.calls.push("undo");
        if let Some(fault) = state.stuck.pop().or_else(|| state.faults.pop()) {
            return Err(fault);
        }
        state.changed.remove(&action.order.target.to_string());
        Ok(None)
    }

    fn keep(&mut self, live: &[(&Action, Option<u64>)]) -> Result<(), PortError> {
        let mut state = self.lock();
        state.calls.push("keep");
        state.changed = live.iter().map(|(action, left)| (action.order.target.to_string(), *left)).collect();
        Ok(())
    }
}

fn now(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn policy() -> Policy {
    let mut policy = merge(&[default_layer()]).unwrap().policy;
    policy.response.isolate_host.expiry_seconds = 1_000;
    policy.response.isolate_host.expiry_most_seconds = 5_000;
    policy.response.lock_user.never_lock = vec!["breakglass".into()];
    policy
}

/// A host whose isolations change one world and whose locks another.
struct Host {
    actions: HostActions<World>,
    isolated: World,
    locked: World,
}

impl Host {
    fn open(dir: &Path, isolated: &World, locked: &World, at: Timestamp) -> Self {
        let opened =
            HostActions::open(dir, "agent-1", &policy(), Surroundings::default(), isolated.clone(), at).unwrap().0;
        let actions = opened
            .with_effect(isolate_host::ID, Box::new(isolated.clone()))
            .with_effect(lock_user::ID, Box::new(locked.clone()));
        Self { actions, isolated: isolated.clone(), locked: locked.clone() }
    }

    fn order(&mut self, order: Order, at: Timestamp) -> (ActionState, String) {
        let id = order.id.clone();
        self.actions.submit_as(vec![order], Authority::Root, at).unwrap();
        self.state(&id)
    }

    fn state(&self, id: &str) -> (ActionState, String) {
        let action = self.actions.action(id).unwrap();
        (action.state, action.reason.clone().unwrap_or_default())
    }
}

fn order(id: &str, action: &str, kind: &str, name: &str) -> Order {
    Order {
        id: id.into(),
        action: action.into(),
        target: Target::resource(kind, name),
        expiry: None,
        cause: Cause { alert: format!("alert-{id}"), ..Cause::default() },
        via: None,
        probe: false,
        inputs: BTreeMap::new(),
        signatures: Vec::new(),
    }
}

fn isolate(id: &str) -> Order {
    order(id, isolate_host::ID, isolate_host::KIND, "this")
}

fn lock(id: &str, user: &str) -> Order {
    order(id, lock_user::ID, lock_user::KIND, user)
}

fn by_hand(mut order: Order) -> Order {
    order.cause.alert.clear();
    order
}

fn host(dir: &tempfile::TempDir) -> Host {
    Host::open(dir.path(), &World::default(), &World::default(), now(0))
}

#[test]
fn an_isolation_is_provisional_until_it_is_confirmed_and_then_has_its_own_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    assert_eq!(host.order(isolate("i"), now(0)), (ActionState::Done, "a remark".into()));
    let provisional = CONFIRM_SECONDS * 1_000;
    assert_eq!(host.isolated.left("host/this"), Some(provisional), "the kernel's time is the deadline's");
    assert_eq!(host.actions.provisional().count(), 1);
    assert!(host.actions.confirm("i", "the manager", "it answers", now(20)).unwrap().0);
    assert_eq!(host.isolated.left("host/this"), Some(980_000), "and the whole time after it");
    assert_eq!(host.actions.tick(now(999)).unwrap().len(), 0);
    let ended = host.actions.tick(now(1_000)).unwrap();
    assert_eq!((ended.len(), host.state("i").0), (1, ActionState::Expired));
    assert!(host.isolated.holds().is_empty());
}

#[test]
fn one_that_nothing_confirms_is_taken_back_unless_the_policy_lets_it_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.order(isolate("i"), now(0));
    let deadline = now(i64::try_from(CONFIRM_SECONDS).unwrap());
    host.actions.tick(deadline).unwrap();
    let (state, reason) = host.state("i");
    assert!(state == ActionState::Expired && reason.contains("nothing confirmed it"), "{state:?} {reason}");
    assert!(host.isolated.holds().is_empty());
    let mut policy = policy();
    policy.response.isolate_host.stay = true;
    host.actions.set_policy(&policy, deadline).unwrap();
    host.order(isolate("j"), deadline);
    assert_eq!(host.actions.provisional().count(), 0);
    assert_eq!(host.isolated.left("host/this"), Some(1_000_000));
}

#[test]
fn a_crash_between_record_and_effect_is_gone_on_with_and_a_restart_of_the_host_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let (isolated, locked) = (World::default(), World::default());
    let mut host = Host::open(dir.path(), &isolated, &locked, now(0));
    // The effect fails for now: the record says running, with what was there.
    isolated.lock().faults = vec![PortError::transient("busy")];
    assert_eq!(host.order(isolate("i"), now(0)).0, ActionState::Running);
    drop(host);
    isolated.lock().changed.clear();
    let mut host = Host::open(dir.path(), &isolated, &locked, now(5));
    assert_eq!(host.actions.start(now(5)).unwrap().1, None);
    assert_eq!((host.state("i").0, isolated.holds().len()), (ActionState::Done, 1));
    assert_eq!(isolated.lock().calls.iter().filter(|call| **call == "look").count(), 1, "it looked once");
    // The machine was off: nothing is in the kernel, and less time is left.
    drop(host);
    isolated.lock().changed.clear();
    let mut host = Host::open(dir.path(), &isolated, &locked, now(65));
    host.actions.start(now(65)).unwrap();
    assert_eq!(isolated.left("host/this"), Some(55_000));
    // What no action of the ledger is goes.
    isolated.lock().changed.insert("host/other".into(), None);
    host.actions.start(now(66)).unwrap();
    assert_eq!(isolated.holds(), ["host/this"]);
    // Its end passed while the agent did not run.
    drop(host);
    let mut host = Host::open(dir.path(), &isolated, &locked, now(9_000));
    host.actions.start(now(9_000)).unwrap();
    assert_eq!((host.state("i").0, isolated.holds().len()), (ActionState::Expired, 0));
}

#[test]
fn what_is_not_verified_is_tried_again_and_given_up_with_nothing_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.locked.lock().missing = vec!["a process still runs".into(); 2];
    assert_eq!(host.order(lock("l", "mallory"), now(0)).0, ActionState::Running);
    for at in [1, 3] {
        host.actions.tick(now(at)).unwrap();
    }
    assert_eq!(host.state("l").0, ActionState::Done, "the third time");
    host.locked.lock().missing = vec!["still".into(); 100];
    host.order(lock("m", "eve"), now(10));
    (0..TRIES).for_each(|tick| drop(host.actions.tick(now(100 + i64::from(tick) * 400)).unwrap()));
    let (state, reason) = host.state("m");
    assert!(state == ActionState::Failed && reason.contains("did not take effect: still"), "{state:?} {reason}");
    assert_eq!(host.locked.holds(), ["user/mallory"], "what the failed one left is taken away");
}

#[test]
fn what_is_given_up_is_over_only_when_nothing_of_it_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (isolated, locked) = (World::default(), World::default());
    let mut host = Host::open(dir.path(), &isolated, &locked, now(0));
    locked.lock().faults = vec![PortError::permanent("no such table")];
    locked.lock().stuck = vec![PortError::transient("somebody writes it"); 3];
    let (state, reason) = host.order(lock("l", "mallory"), now(0));
    assert_eq!((state, reason.as_str()), (ActionState::Undoing, "no such table"), "told, and not over");
    assert_eq!(locked.holds(), ["user/mallory"]);
    assert_eq!(host.actions.next_tick(), Some(now(1)), "with a wait that grows");
    host.actions.tick(now(1)).unwrap();
    assert_eq!(host.actions.next_tick(), Some(now(3)));
    // A crash changes nothing of it.
    drop(host);
    let mut host = Host::open(dir.path(), &isolated, &locked, now(2));
    host.actions.start(now(2)).unwrap();
    assert_eq!(host.state("l").0, ActionState::Undoing);
    let told = host.actions.tick(now(3)).unwrap();
    assert_eq!((told.len(), host.state("l")), (1, (ActionState::Failed, "no such table".into())));
    assert!(locked.holds().is_empty());
    // The same where all answers are stopped before a second try.
    isolated.lock().faults = vec![PortError::transient("busy")];
    isolated.lock().stuck = vec![PortError::transient("the kernel is busy")];
    host.order(isolate("i"), now(10));
    isolated.lock().halted = Some("stopped by ann".into());
    host.actions.tick(now(11)).unwrap();
    assert_eq!((host.state("i").0, isolated.holds().len()), (ActionState::Undoing, 1));
    host.actions.tick(now(12)).unwrap();
    assert_eq!((host.state("i"), isolated.holds().len()), ((ActionState::Refused, "stopped by ann".into()), 0));
}

#[test]
fn a_start_makes_isolations_good_before_it_does_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let (isolated, locked) = (World::default(), World::default());
    let mut host = Host::open(dir.path(), &isolated, &locked, now(0));
    host.order(isolate("i"), now(0));
    locked.lock().faults = vec![PortError::transient("busy")];
    host.order(lock("l", "mallory"), now(0));
    drop(host);
    isolated.lock().changed.clear();
    isolated.lock().calls.clear();
    let mut host = Host::open(dir.path(), &isolated, &isolated, now(5));
    host.actions.start(now(5)).unwrap();
    let calls = isolated.lock().calls.clone();
    assert_eq!((calls.first(), calls.contains(&"apply")), (Some(&"keep"), true), "{calls:?}");
}

#[test]
fn a_locked_user_stays_locked_is_taken_back_by_name_and_left_alone_after_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    assert_eq!(host.order(lock("l", "mallory"), now(0)).0, ActionState::Done);
    let action = host.actions.action("l").unwrap();
    assert_eq!((action.end(), action.former.as_deref()), (None, Some("before")));
    assert_eq!(host.actions.undo(&Which::All, Undo::Person("ann"), now(1)).unwrap().len(), 0, "all means what ends");
    // The undo cannot be done for a while, and is never given up.
    host.locked.lock().faults = vec![PortError::permanent("the table is damaged"); 12];
    host.actions.undo(&Which::Ids(vec!["l".into()]), Undo::Person("ann"), now(2)).unwrap();
    assert_eq!(host.state("l").0, ActionState::Undoing);
    (0..20).for_each(|tick| drop(host.actions.tick(now(1_000 + tick * 400)).unwrap()));
    assert_eq!((host.state("l").0, host.locked.holds().len()), (ActionState::Undone, 0));
    let (state, reason) = host.order(lock("m", "mallory"), now(3));
    assert!(state == ActionState::Refused && reason.contains("a person took it back"), "{reason}");
    assert_eq!(host.order(by_hand(lock("n", "mallory")), now(4)).0, ActionState::Done, "a person may");
    let events = host.actions.submit(vec![lock("o", "eve")], now(5)).unwrap();
    assert_eq!(events.events().next().unwrap().str(field::USER_NAME), Some("eve"));
}

#[test]
fn a_second_order_for_the_same_prolongs_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    host.order(isolate("i"), now(0));
    host.actions.confirm("i", "ann", "", now(1)).unwrap();
    for mut wrong in [isolate("w"), order("x", isolate_host::ID, isolate_host::KIND, "agent-2")] {
        wrong.inputs.insert("allow".into(), "[\"0.0.0.0/0\"]".into());
        assert_eq!(host.order(wrong, now(1)).0, ActionState::Refused);
        assert_eq!(host.isolated.left("host/this"), Some(999_000), "what is wrong prolongs nothing");
    }
    let mut longer = order("j", isolate_host::ID, isolate_host::KIND, "agent-1");
    longer.expiry = Some(now(4_000));
    let (state, reason) = host.order(longer, now(2));
    assert!(state == ActionState::NoEffect && reason.contains("by action i"), "{reason}");
    assert_eq!(host.isolated.left("host/this"), Some(3_998_000), "a host has one isolation, by whatever name");
    assert_eq!(host.actions.undo(&Which::All, Undo::Person("ann"), now(3)).unwrap().len(), 1);
    assert!(host.isolated.holds().is_empty());
}

#[test]
fn stop_mandate_look_and_policy_have_their_say_and_blocks_that_go_leave_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    let refused = |host: &mut Host, order: Order, authority, why: &str| {
        let id = order.id.clone();
        host.actions.submit_as(vec![order], authority, now(0)).unwrap();
        let (state, reason) = host.state(&id);
        assert!(state == ActionState::Refused && reason.contains(why), "{state:?} {reason}");
    };
    for (nth, authority) in [Authority::Rules, Authority::Manager { operators: 0 }].into_iter().enumerate() {
        refused(&mut host, isolate(&format!("i{nth}")), authority, "mandate does not name the action isolate_host");
        refused(&mut host, lock(&format!("l{nth}"), "m"), authority, "mandate does not name the action lock_user");
    }
    let mut mandate = Mandate::default();
    mandate.alone.rules.push(isolate_host::ID.into());
    mandate.alone.longest_seconds = 300;
    host.actions.set_mandate(mandate, now(0)).unwrap();
    host.locked.lock().looks = vec![Look::Refused("never locked: m is root".into())];
    refused(&mut host, lock("root", "m"), Authority::Root, "is root");
    refused(&mut host, lock("glass", "breakglass"), Authority::Root, "never locked");
    refused(&mut host, order("other", isolate_host::ID, "host", "agent-2"), Authority::Root, "this host is agent-1");
    host.isolated.lock().halted = Some("stopped by ann".into());
    refused(&mut host, isolate("halted"), Authority::Root, "stopped by ann");
    host.isolated.lock().halted = None;
    assert!(host.isolated.holds().is_empty() && host.locked.holds().is_empty());
    host.actions.submit_as(vec![isolate("i")], Authority::Rules, now(0)).unwrap();
    assert_eq!(host.actions.action("i").unwrap().expires_at, Some(now(300)), "no longer than the mandate says");
    host.order(lock("l", "mallory"), now(0));
    // Blocks that are switched off are none of its business; its own mode is, and who is named later.
    let mut policy = policy();
    policy.modules.block_address.state = Switch::Off;
    host.actions.set_policy(&policy, now(1)).unwrap();
    assert_eq!((host.isolated.holds().len(), host.locked.holds().len()), (1, 1));
    policy.response.isolate_host.mode = Mode::Detect;
    policy.response.lock_user.never_lock.push("mallory".into());
    host.actions.set_policy(&policy, now(2)).unwrap();
    assert_eq!((host.isolated.holds().len(), host.locked.holds().len()), (0, 0));
    let (state, reason) = host.order(isolate("d"), now(3));
    assert!(state == ActionState::NoEffect && reason.contains("would cut"), "{reason}");
}

#[test]
fn what_follows_from_a_probe_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    for mut order in [isolate("i"), lock("l", "mallory")] {
        order.probe = true;
        assert_eq!(host.order(order, now(0)).0, ActionState::NoEffect);
    }
    assert!(host.isolated.lock().calls.is_empty() && host.locked.lock().calls.is_empty());
}

#[test]
fn playbooks_order_both_and_name_whom() {
    let text = "id: contain\ntitle: { en: Contain }\ntrigger: { alert: { scope: host } }\nsteps:\n  \
                - { action: isolate_host, target: '\"this\"', expiry: 4h, inputs: { allow: '[\"192.0.2.7\"]' } }\n  \
                - { action: lock_user, target: event.user.name, inputs: { end_sessions: \"true\" } }\n";
    let playbook = Playbook::parse("contain.yml", text).unwrap();
    let mut event = Event::new();
    event.set(field::USER_NAME, "mallory".to_owned());
    let setting = Setting { place: "agent-1", now: now(0), scope: Scope::Host };
    let orders = playbook.evaluate(&event, "alert-1", &setting);
    assert_eq!(orders.len(), 2, "{:?}", playbook.dry_run(&event, "alert-1", &setting));
    assert_eq!(isolate_host::read(&orders[0]).unwrap().len(), 1);
    assert_eq!((orders[0].expiry, lock_user::read(&orders[1])), (Some(now(4 * 3_600)), Ok(("mallory", true))));
    let lasts = text.replace("inputs: { end_sessions: \"true\" }", "expiry: 1h");
    assert!(Playbook::parse("contain.yml", &lasts).unwrap_err().reason.contains("does not expire"));
    event.set(field::USER_NAME, "mal:lory".to_owned());
    let odd = playbook.evaluate(&event, "alert-1", &setting);
    assert!(odd.iter().all(|order| order.action == isolate_host::ID || lock_user::read(order).is_err()));
}

#[test]
fn a_stop_right_before_the_effect_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let (isolated, locked) = (World::default(), World::default());
    let mut host = Host::open(dir.path(), &isolated, &locked, now(0));
    isolated.lock().faults = vec![PortError::transient("busy")];
    host.order(isolate("i"), now(0));
    isolated.lock().halted = Some("stopped by ann".into());
    host.actions.tick(now(1)).unwrap();
    assert_eq!((host.state("i").0, isolated.holds().len()), (ActionState::Refused, 0), "what the first try left goes");
}

#[test]
fn what_somebody_takes_away_is_looked_after() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = host(&dir);
    assert!(host.actions.watch(now(0)).is_none() && host.isolated.lock().calls.is_empty(), "nothing to look after");
    host.order(isolate("i"), now(0));
    host.isolated.lock().changed.clear();
    assert_eq!(host.actions.watch(now(10)), None);
    assert_eq!(host.isolated.left("host/this"), Some(110_000));
    host.actions.renew_isolations(now(11)).unwrap();
    assert_eq!(host.isolated.left("host/this"), Some(109_000), "and made anew where what may pass is something else");
}
