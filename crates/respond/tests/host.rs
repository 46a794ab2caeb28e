//! The host's actions against a kernel that is a map with timeouts: do, undo, expire, crash, and start again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::Policy;
use sakimori_model::{ActionState, Network, Order, Timestamp, field};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{Changes, HostActions, Which};
use sakimori_respond::ports::{AddressBlocker, BlockEntry, PortError};
use sakimori_respond::wide::Undo;

/// A kernel: targets and when each falls out. It outlives the agent.
#[derive(Clone, Default)]
struct Kernel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Timestamp,
    set: BTreeMap<Network, Timestamp>,
    calls: usize,
    /// What the next calls answer.
    faults: Vec<PortError>,
    /// Who stopped all answers.
    halted: Option<String>,
}

impl Kernel {
    fn at(&self, now: Timestamp) {
        let mut state = self.0.lock().unwrap();
        state.now = now;
        state.set.retain(|_, end| *end > now);
    }

    fn holds(&self) -> Vec<String> {
        self.0.lock().unwrap().set.keys().map(ToString::to_string).collect()
    }

    fn end(&self, network: &str) -> Option<Timestamp> {
        self.0.lock().unwrap().set.get(&network.parse().unwrap()).copied()
    }

    fn fail(&self, error: PortError, times: usize) {
        self.0.lock().unwrap().faults = vec![error; times];
    }
}

impl State {
    fn fault(&mut self) -> Result<(), PortError> {
        self.calls += 1;
        self.faults.pop().map_or(Ok(()), Err)
    }
}

impl AddressBlocker for Kernel {
    fn block(&mut self, entries: &[BlockEntry]) -> Result<(), PortError> {
        let mut state = self.0.lock().unwrap();
        state.fault()?;
        if entries.iter().any(|entry| entry.network.to_string() == "192.0.2.66") {
            return Err(PortError::permanent("add element: the kernel does not like this one"));
        }
        for entry in entries {
            assert!(entry.timeout_ms > 0);
            let end = state.now.plus_micros(i64::try_from(entry.timeout_ms).unwrap() * 1000);
            state.set.insert(entry.network, end);
        }
        Ok(())
    }

    fn unblock(&mut self, networks: &[Network]) -> Result<(), PortError> {
        let mut state = self.0.lock().unwrap();
        state.fault()?;
        for network in networks {
            state.set.remove(network);
        }
        Ok(())
    }

    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        let mut state = self.0.lock().unwrap();
        state.fault()?;
        let now = state.now;
        let left = |end: &Timestamp| u64::try_from(end.since(now) / 1000).unwrap();
        Ok(state.set.iter().map(|(network, end)| BlockEntry { network: *network, timeout_ms: left(end) }).collect())
    }

    fn halted(&mut self) -> Option<String> {
        self.0.lock().unwrap().halted.clone()
    }
}

fn halted(kernel: &Kernel, by: Option<&str>) {
    kernel.0.lock().unwrap().halted = by.map(str::to_owned);
}

fn now(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn policy() -> Policy {
    serde_json::from_value(serde_json::json!({
        "modules": {
            "log_inspection": {"state": "on", "sources": []},
            "block_address": {
                "state": "on", "mode": "prevent", "expiry_seconds": 60, "expiry_most_seconds": 150,
                "grace_seconds": 100, "most_per_minute": 1_000_000, "most": 1_000_000
            }
        },
        "response": {"allow": ["198.51.100.0/28"], "trusted_proxies": ["203.0.113.80"]}
    }))
    .unwrap()
}

fn surroundings() -> Surroundings {
    Surroundings { own: vec!["192.0.2.250".parse().unwrap()], ..Surroundings::default() }
}

fn open(dir: &Path, kernel: &Kernel, at: Timestamp) -> HostActions<Kernel> {
    kernel.at(at);
    HostActions::open(dir, "agent-1", &policy(), surroundings(), kernel.clone(), at).unwrap().0
}

fn order(id: &str, target: &str) -> Order {
    Order {
        id: id.to_owned(),
        action: "block_address".to_owned(),
        target: Target::Network(target.parse().unwrap()),
        expiry: None,
        cause: Cause { alert: format!("alert-{id}"), ..Cause::default() },
        via: None,
        probe: false,
        inputs: BTreeMap::new(),
        signatures: Vec::new(),
    }
}

fn states(changes: &Changes) -> Vec<(String, ActionState)> {
    changes.actions().iter().map(|action| (action.order.id.clone(), action.state)).collect()
}

fn reason(host: &HostActions<Kernel>, id: &str) -> (ActionState, String) {
    let action = host.action(id).unwrap();
    (action.state, action.reason.clone().unwrap_or_default())
}

#[test]
fn a_block_is_made_told_and_expires() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    let changes = host.submit(vec![order("a", "192.0.2.1"), order("b", "2001:db8::/64")], now(0)).unwrap();
    assert_eq!(states(&changes), [("a".to_owned(), ActionState::Done), ("b".to_owned(), ActionState::Done)]);
    assert_eq!(kernel.holds(), ["192.0.2.1", "2001:db8::/64"]);
    assert_eq!(kernel.end("192.0.2.1"), Some(now(60)));
    let event = changes.into_iter().next().unwrap();
    assert_eq!(event.str(field::SAKIMORI_ACTION_STATE), Some("done"));
    assert!(host.submit(vec![order("a", "192.0.2.1")], now(1)).unwrap().is_empty(), "the same order changes nothing");
    assert_eq!(host.next_tick(), Some(now(60)));
    assert!(host.tick(now(59)).unwrap().is_empty());
    kernel.at(now(59));
    let changes = host.tick(now(60)).unwrap();
    assert!(changes.actions().iter().all(|action| action.state == ActionState::Expired), "{changes:?}");
    assert_eq!((changes.len(), kernel.holds().len(), host.live()), (2, 0, 0));
}

#[test]
fn fresh_evidence_prolongs_up_to_the_most() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    host.submit(vec![order("a", "192.0.2.1")], now(0)).unwrap();
    kernel.at(now(50));
    let changes = host.submit(vec![order("b", "192.0.2.1")], now(50)).unwrap();
    assert_eq!(states(&changes), [("a".to_owned(), ActionState::Done), ("b".to_owned(), ActionState::NoEffect)]);
    assert!(reason(&host, "b").1.starts_with("already blocked by action a, until "));
    assert_eq!(kernel.end("192.0.2.1"), Some(now(110)));
    for at in [100, 140, 149] {
        kernel.at(now(at));
        host.submit(vec![order(&format!("c{at}"), "192.0.2.1")], now(at)).unwrap();
    }
    assert_eq!(kernel.end("192.0.2.1"), Some(now(150)), "no further than the most");
    assert_eq!(host.action("a").unwrap().prolonged, 2);
}

#[test]
fn what_a_person_undoes_is_left_alone_for_the_grace_time() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    host.submit(vec![order("a", "192.0.2.1")], now(0)).unwrap();
    let changes = host.undo(&Which::Ids(vec!["a".into(), "nobody".into()]), Undo::Person("mio"), now(5)).unwrap();
    assert_eq!(states(&changes), [("a".to_owned(), ActionState::Undone)]);
    assert_eq!(host.action("a").unwrap().undone_by.as_deref(), Some("mio"));
    assert!(kernel.holds().is_empty());
    drop(host);
    let mut host = open(dir.path(), &kernel, now(6));
    host.submit(vec![order("b", "192.0.2.1"), order("c", "192.0.2.0/28")], now(104)).unwrap();
    for id in ["b", "c"] {
        let (state, reason) = reason(&host, id);
        assert_eq!(state, ActionState::Refused);
        assert!(reason.starts_with("a person unblocked 192.0.2.1"), "{reason}");
    }
    let mut by_hand = order("h", "192.0.2.1");
    by_hand.cause.alert.clear();
    host.submit(vec![by_hand], now(104)).unwrap();
    assert_eq!(host.action("h").unwrap().state, ActionState::Done, "a person may block it again");
    host.undo(&Which::All, Undo::Policy("test"), now(104)).unwrap();
    host.submit(vec![order("d", "192.0.2.1")], now(105)).unwrap();
    assert_eq!(host.action("d").unwrap().state, ActionState::Done, "the grace time is over");
}

#[test]
fn a_target_stays_until_the_last_action_on_it_ends() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    let mut by_hand = order("h", "192.0.2.1");
    by_hand.cause.alert.clear();
    by_hand.expiry = Some(now(120));
    host.submit(vec![order("a", "192.0.2.1"), by_hand], now(0)).unwrap();
    assert_eq!(kernel.end("192.0.2.1"), Some(now(120)));
    kernel.at(now(60));
    host.tick(now(60)).unwrap();
    assert_eq!(host.action("a").unwrap().state, ActionState::Expired);
    assert_eq!(kernel.end("192.0.2.1"), Some(now(120)));
    host.undo(&Which::Ids(vec!["h".into()]), Undo::Person("mio"), now(61)).unwrap();
    assert!(kernel.holds().is_empty());
}

#[test]
fn detect_mode_off_rate_and_most_are_respected_with_words() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    host.submit(vec![order("a", "192.0.2.1")], now(0)).unwrap();
    let mut other = policy();
    other.modules.block_address.mode = sakimori_model::policy::Mode::Detect;
    let changes = host.set_policy(&other, now(1)).unwrap();
    assert_eq!(states(&changes), [("a".to_owned(), ActionState::Undone)]);
    host.submit(vec![order("b", "192.0.2.2")], now(1)).unwrap();
    assert_eq!(reason(&host, "b"), (ActionState::NoEffect, "detect mode: would block 192.0.2.2".to_owned()));
    other.modules.block_address.state = sakimori_model::policy::Switch::Off;
    host.set_policy(&other, now(1)).unwrap();
    host.submit(vec![order("c", "192.0.2.2")], now(1)).unwrap();
    assert_eq!(reason(&host, "c").0, ActionState::NoEffect);
    let mut other = policy();
    other.modules.block_address.most_per_minute = 3;
    other.modules.block_address.most = 4;
    host.set_policy(&other, now(100)).unwrap();
    let orders = |from: u8| (from..from + 4).map(|n| order(&format!("o{n}"), &format!("192.0.2.{n}"))).collect();
    host.submit(orders(10), now(100)).unwrap();
    assert_eq!(reason(&host, "o13"), (ActionState::Refused, "the most new blocks a minute, 3, were made".to_owned()));
    drop(host);
    let mut host =
        HostActions::open(dir.path(), "agent-1", &other, surroundings(), kernel.clone(), now(101)).unwrap().0;
    host.submit(orders(20), now(101)).unwrap();
    assert_eq!(reason(&host, "o20").0, ActionState::Refused, "a restart does not forget the minute");
    let mut long = orders(30) as Vec<Order>;
    long.truncate(2);
    kernel.at(now(165));
    host.submit(long, now(159)).unwrap();
    host.submit(orders(40), now(159)).unwrap();
    assert!(reason(&host, "o40").1.starts_with("the most"), "{:?}", reason(&host, "o40"));
}

#[test]
fn a_new_allow_list_and_new_surroundings_win_over_blocks() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    host.submit((1..=3).map(|n| order(&format!("o{n}"), &format!("192.0.2.{n}"))).collect(), now(0)).unwrap();
    let mut other = policy();
    other.response.allow.push("192.0.2.1".parse().unwrap());
    host.set_policy(&other, now(1)).unwrap();
    let around = Surroundings { ssh_peers: vec!["192.0.2.2".parse().unwrap()], ..surroundings() };
    let changes = host.set_surroundings(around, now(2)).unwrap();
    assert_eq!(states(&changes), [("o2".to_owned(), ActionState::Undone)]);
    assert!(reason(&host, "o2").1.contains("ssh session"));
    assert_eq!(kernel.holds(), ["192.0.2.3"]);
}

#[test]
fn a_failing_kernel_is_tried_again_and_one_bad_entry_fails_alone() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    kernel.fail(PortError::transient("add elements: netlink is busy"), 1);
    let changes = host.submit(vec![order("a", "192.0.2.1")], now(0)).unwrap();
    assert_eq!(states(&changes), [("a".to_owned(), ActionState::Running)]);
    assert_eq!(host.next_tick(), Some(now(1)));
    assert_eq!(states(&host.tick(now(1)).unwrap()), [("a".to_owned(), ActionState::Done)]);
    let orders = (60..70).map(|n| order(&format!("o{n}"), &format!("192.0.2.{n}"))).collect();
    let changes = host.submit(orders, now(2)).unwrap();
    assert_eq!(changes.actions().iter().filter(|action| action.state == ActionState::Done).count(), 9);
    assert_eq!(reason(&host, "o66").0, ActionState::Failed);
    kernel.fail(PortError::transient("busy"), 1000);
    host.undo(&Which::Ids(vec!["a".into()]), Undo::Person("mio"), now(3)).unwrap();
    assert_eq!(host.action("a").unwrap().state, ActionState::Undoing);
    let mut long = order("z", "192.0.2.200");
    long.expiry = Some(now(150));
    host.submit(vec![long], now(3)).unwrap();
    for at in 4..140 {
        host.tick(now(at)).unwrap();
    }
    assert_eq!(reason(&host, "z"), (ActionState::Failed, "busy".to_owned()));
    kernel.fail(PortError::transient("busy"), 0);
    for at in 140..500 {
        host.tick(now(at)).unwrap();
    }
    assert_eq!(host.action("a").unwrap().state, ActionState::Undone, "taking back is never given up");
}

#[test]
fn a_start_makes_the_kernel_agree_with_the_ledger() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    host.submit(vec![order("a", "192.0.2.1"), order("b", "192.0.2.2")], now(0)).unwrap();
    // A crash while one was being blocked: the record is there, the effect is not.
    kernel.fail(PortError::transient("killed"), 1);
    host.submit(vec![order("c", "192.0.2.3")], now(10)).unwrap();
    drop(host);
    kernel.at(now(20));
    {
        let mut state = kernel.0.lock().unwrap();
        state.set.remove(&"192.0.2.1".parse().unwrap());
        state.set.insert("192.0.2.99".parse().unwrap(), now(1000));
    }
    let mut host = open(dir.path(), &kernel, now(20));
    let (changes, failure) = host.start(now(20)).unwrap();
    assert_eq!(failure, None);
    assert_eq!(states(&changes), [("c".to_owned(), ActionState::Done)]);
    assert_eq!(kernel.holds(), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    assert_eq!(kernel.end("192.0.2.1"), Some(now(60)), "with the time that was left");
    assert!(host.start(now(20)).unwrap().0.is_empty(), "a second start changes nothing");
    drop(host);
    let mut host = open(dir.path(), &kernel, now(10_000));
    assert_eq!(host.start(now(10_000)).unwrap().0.len(), 3, "expired meanwhile");
    assert_eq!(host.stop(now(10_000)).unwrap().len(), 0);
    assert!(kernel.holds().is_empty());
}

#[test]
fn thousands_are_blocked_and_undone_each_as_its_own_action() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    let orders = (0..5000_u32).map(|n| order(&format!("o{n}"), &std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string()));
    assert_eq!(host.submit(orders.collect(), now(0)).unwrap().len(), 5000);
    assert_eq!((kernel.holds().len(), host.live()), (5000, 5000));
    let calls = kernel.0.lock().unwrap().calls;
    let changes = host.undo(&Which::All, Undo::Person("mio"), now(1)).unwrap();
    assert_eq!(kernel.0.lock().unwrap().calls, calls + 1, "one call for all");
    assert_eq!(
        changes.into_iter().filter(|event| event.str(field::SAKIMORI_ACTION_STATE) == Some("undone")).count(),
        5000
    );
    assert!(kernel.holds().is_empty());
    drop(host);
    let host = open(dir.path(), &kernel, now(2));
    assert!(host.actions().all(|action| action.state == ActionState::Undone) && host.actions().count() == 5000);
}

#[test]
fn while_all_answers_are_stopped_nothing_begins_and_taking_back_goes_on() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    host.submit(vec![order("a", "192.0.2.1"), order("b", "192.0.2.2")], now(0)).unwrap();
    // One that was written and not carried out when the stop came.
    kernel.fail(PortError::transient("killed"), 1);
    host.submit(vec![order("c", "192.0.2.3")], now(1)).unwrap();
    halted(&kernel, Some("all answers are stopped by ann"));
    host.submit(vec![order("d", "192.0.2.4")], now(2)).unwrap();
    host.tick(now(2)).unwrap();
    for id in ["c", "d"] {
        assert_eq!(reason(&host, id), (ActionState::Refused, "all answers are stopped by ann".to_owned()), "{id}");
    }
    assert_eq!(kernel.holds(), ["192.0.2.1", "192.0.2.2"], "what is in effect stays");
    host.undo(&Which::Ids(vec!["a".into()]), Undo::Person("mio"), now(3)).unwrap();
    // A table that was taken away whole is not put back.
    kernel.0.lock().unwrap().set.clear();
    drop(host);
    let mut host = open(dir.path(), &kernel, now(4));
    host.start(now(4)).unwrap();
    assert!(kernel.holds().is_empty());
    halted(&kernel, None);
    host.start(now(5)).unwrap();
    assert_eq!(kernel.holds(), ["192.0.2.2"], "answers go on, and the kernel agrees with the ledger again");
}

#[test]
fn a_network_is_taken_back_by_the_clock_unless_it_is_confirmed() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut long = policy();
    long.modules.block_address.expiry_seconds = 1_000;
    long.modules.block_address.expiry_most_seconds = 1_000;
    let again = |at: i64| {
        kernel.at(now(at));
        HostActions::open(dir.path(), "agent-1", &long, surroundings(), kernel.clone(), now(at)).unwrap().0
    };
    let mut host = again(0);
    host.submit(vec![order("a", "192.0.2.0/25"), order("b", "198.18.0.0/24"), order("c", "192.0.2.1")], now(0))
        .unwrap();
    assert_eq!(kernel.end("192.0.2.0/25"), Some(now(120)), "the kernel itself ends it");
    assert_eq!(kernel.end("192.0.2.1"), Some(now(1_000)), "one address locks nobody out");
    assert_eq!(host.provisional().count(), 2);
    // The deadline is durable.
    drop(host);
    let mut host = again(50);
    host.start(now(50)).unwrap();
    assert_eq!(host.provisional().count(), 2);
    kernel.at(now(60));
    let (confirmed, _) = host.confirm("b", "manager", "port 22 accepts", now(60)).unwrap();
    assert!(confirmed && !host.confirm("c", "manager", "x", now(60)).unwrap().0);
    assert_eq!(kernel.end("198.18.0.0/24"), Some(now(1_000)), "its own end again");
    assert_eq!(reason(&host, "b").1, "confirmed by manager: port 22 accepts");
    kernel.at(now(121));
    host.tick(now(121)).unwrap();
    assert_eq!(reason(&host, "a").0, ActionState::Expired);
    assert!(reason(&host, "a").1.contains("nothing confirmed it"), "{:?}", reason(&host, "a"));
    assert_eq!(kernel.holds(), ["192.0.2.1", "198.18.0.0/24"]);
    assert!(!host.confirm("a", "ann", "x", now(122)).unwrap().0, "too late");
}

#[test]
fn a_setting_is_begun_confirmed_reverted_and_replaced() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
    let mut host = open(dir.path(), &kernel, now(0));
    let switch = |number| sakimori_respond::actions::prevent_mode::order("antimalware", number, "agent-1");
    let (one, two) = (switch(1), switch(2));
    assert_eq!(host.begin_setting(one.clone(), now(0)).unwrap().len(), 1);
    assert_eq!(host.next_tick(), Some(now(120)));
    assert!(host.begin_setting(one.clone(), now(1)).unwrap().is_empty(), "the same policy again");
    drop(host);
    let mut host = open(dir.path(), &kernel, now(130));
    assert_eq!(states(&host.start(now(130)).unwrap().0), [(one.id.clone(), ActionState::Expired)]);
    host.begin_setting(two.clone(), now(131)).unwrap();
    assert!(host.confirm(&two.id, "ann", "x", now(140)).unwrap().0);
    host.tick(now(10_000)).unwrap();
    assert_eq!(reason(&host, &two.id).0, ActionState::Done, "confirmed it stays");
    host.end_setting(&two.target, now(10_001)).unwrap();
    assert_eq!(reason(&host, &two.id).0, ActionState::Undone);
    assert!(kernel.holds().is_empty(), "a setting is none of the kernel's");
}

#[derive(Clone, Debug)]
enum Move {
    Submit(u8, u8, bool),
    Undo(u8),
    Tick(u8),
    Crash,
    Fault(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0_u8..40, 0_u8..8, any::<bool>()).prop_map(|(id, target, hand)| Move::Submit(id, target, hand)),
        2 => (0_u8..40).prop_map(Move::Undo),
        2 => (0_u8..90).prop_map(Move::Tick),
        1 => Just(Move::Crash),
        1 => (0_u8..3).prop_map(Move::Fault),
    ];
    prop::collection::vec(one, 1..40)
}

const TARGETS: [&str; 8] = [
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.0/24",
    "2001:db8::1",
    "127.0.0.1",
    "198.51.100.3",
    "203.0.113.80",
    "192.0.2.250",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Promise 1: do, undo = before, whatever happens in between; and what is protected is never blocked.
    #[test]
    fn do_undo_is_before(moves in moves()) {
        let (dir, kernel) = (tempfile::tempdir().unwrap(), Kernel::default());
        let mut clock = 0_i64;
        let mut host = open(dir.path(), &kernel, now(clock));
        for step in moves {
            clock += 1;
            kernel.at(now(clock));
            match step {
                Move::Submit(id, target, hand) => {
                    let mut order = order(&format!("o{id}"), TARGETS[usize::from(target)]);
                    if hand {
                        order.cause.alert.clear();
                    }
                    host.submit(vec![order], now(clock)).unwrap();
                }
                Move::Undo(id) => {
                    host.undo(&Which::Ids(vec![format!("o{id}")]), Undo::Person("mio"), now(clock)).unwrap();
                }
                Move::Tick(seconds) => {
                    clock += i64::from(seconds);
                    kernel.at(now(clock));
                    host.tick(now(clock)).unwrap();
                }
                Move::Crash => {
                    drop(host);
                    host = open(dir.path(), &kernel, now(clock));
                    host.start(now(clock)).unwrap();
                }
                Move::Fault(times) => kernel.fail(PortError::transient("busy"), usize::from(times)),
            }
            for held in kernel.holds() {
                prop_assert!(["192.0.2.1", "192.0.2.2", "2001:db8::1"].contains(&held.as_str()), "{}", held);
                prop_assert!(host.actions().any(|action| action.order.target.to_string() == held && !action.state.is_final()));
            }
        }
        kernel.fail(PortError::transient("busy"), 0);
        host.start(now(clock)).unwrap();
        for action in host.actions() {
            let target = action.order.target.to_string();
            prop_assert_eq!(action.state == ActionState::Done && !kernel.holds().contains(&target), false);
        }
        host.undo(&Which::All, Undo::Person("mio"), now(clock)).unwrap();
        prop_assert!(kernel.holds().is_empty());
        prop_assert!(host.actions().all(|action| action.state.is_final()));
        prop_assert_eq!(host.live(), 0);
    }
}
