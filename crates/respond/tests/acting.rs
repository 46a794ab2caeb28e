//! Actions of the host that are neither blocks nor about files: done, taken back, tried again, over crashes, within the mandate.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod testing;

use std::path::Path;
use std::sync::{Arc, Mutex};

use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{Policy, Switch, default_layer, merge};
use sakimori_model::{Action, ActionState, Order, Timestamp};
use sakimori_respond::actions::{collect_triage, freeze_processes, kill_tree, process};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{HostActions, Report, Which};
use sakimori_respond::mandate::{Authority, Mandate};
use sakimori_respond::ports::{Applied, HostEffect, PortError};
use sakimori_respond::wide::Undo;

use testing::Kernel;

/// Notes what it is told, and answers what the test wants next.
#[derive(Clone, Default)]
struct Hand {
    inner: Arc<Mutex<(Vec<String>, Vec<Result<Applied, PortError>>)>>,
    /// Does it take longer than a loop may wait?
    slow: bool,
}

impl Hand {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().0)
    }

    fn next(&self, outcome: Result<Applied, PortError>) {
        self.inner.lock().unwrap().1.push(outcome);
    }
}

impl HostEffect for Hand {
    fn set_policy(&mut self, policy: &Policy) {
        self.inner.lock().unwrap().0.push(format!("policy {:?}", policy.response.never_kill));
    }

    fn aside(&self) -> Option<Box<dyn HostEffect>> {
        self.slow.then(|| Box::new(self.clone()) as Box<dyn HostEffect>)
    }

    fn apply(&mut self, action: &Action, _: Option<u64>) -> Result<Applied, PortError> {
        let mut inner = self.inner.lock().unwrap();
        inner.0.push(format!("do {}", action.order.id));
        inner.1.pop().unwrap_or(Ok(Applied::Done { former: Some("{}".into()), remark: Some("well".into()) }))
    }

    fn undo(&mut self, action: &Action) -> Result<Option<String>, PortError> {
        self.inner.lock().unwrap().0.push(format!("undo {}", action.order.id));
        Ok(Some("2 had ended".into()))
    }
}

struct World {
    dir: tempfile::TempDir,
    hand: Hand,
    halt: Kernel,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn policy() -> Policy {
    merge(&[default_layer()]).unwrap().policy
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), hand: Hand::default(), halt: Kernel::default() }
    }

    fn open(&self, now: Timestamp) -> HostActions<Kernel> {
        let dir: &Path = self.dir.path();
        let (host, _) =
            HostActions::open(dir, "host", &policy(), Surroundings::default(), self.halt.clone(), now).unwrap();
        [kill_tree::ID, freeze_processes::ID, collect_triage::ID]
            .into_iter()
            .fold(host, |host, id| host.with_effect(id, Box::new(self.hand.clone())))
    }
}

fn order(id: &str, action: &str, alert: &str) -> Order {
    let target = match action {
        collect_triage::ID => Target::resource(collect_triage::KIND, "web1"),
        _ => process::target("4711@99"),
    };
    Order {
        id: id.into(),
        action: action.into(),
        target,
        expiry: None,
        cause: Cause { alert: alert.into(), by: "ann".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: Default::default(),
        signatures: Vec::new(),
    }
}

fn state(host: &HostActions<Kernel>, id: &str) -> (ActionState, String) {
    let action = host.action(id).unwrap();
    (action.state, action.reason.clone().unwrap_or_default())
}

/// Runs what was handed out.
fn ran(host: &mut HostActions<Kernel>, halted: Option<&str>) -> Vec<Report> {
    host.take_jobs().into_iter().map(|job| job.run(|| halted.map(str::to_owned))).collect()
}

fn reported(host: &mut HostActions<Kernel>, reports: Vec<Report>, now: Timestamp) {
    reports.into_iter().for_each(|report| drop(host.reported(report, now).unwrap()));
}

fn by_root(host: &mut HostActions<Kernel>, order: Order, now: Timestamp) {
    host.submit_as(vec![order], Authority::Root, now).unwrap();
}

#[test]
fn a_kill_is_for_good_and_needs_the_mandate() {
    let world = World::new();
    let mut host = world.open(at(0));
    host.submit(vec![order("rules", kill_tree::ID, "alert")], at(0)).unwrap();
    host.submit_as(vec![order("manager", kill_tree::ID, "")], Authority::Manager { operators: 0 }, at(0)).unwrap();
    for id in ["rules", "manager"] {
        let (state, why) = state(&host, id);
        assert!(state == ActionState::Refused && why.contains("mandate"), "{why}");
    }
    assert_eq!(world.hand.told(), [""; 0]);
    by_root(&mut host, order("root", kill_tree::ID, ""), at(0));
    assert_eq!(state(&host, "root"), (ActionState::Done, "well".into()));
    let done = host.action("root").unwrap().clone();
    assert_eq!((done.former.as_deref(), done.expires_at), (Some("{}"), None));
    host.undo(&Which::Ids(vec!["root".into()]), Undo::Person("ann"), at(1)).unwrap();
    host.undo(&Which::All, Undo::Person("ann"), at(1)).unwrap();
    assert_eq!(state(&host, "root").0, ActionState::Done, "nobody gives a process back");
    // The same order is the same; another one about the same process is another one: it may have been started anew.
    by_root(&mut host, order("root", kill_tree::ID, ""), at(2));
    assert_eq!(world.hand.told(), ["do root"]);
    let mut mandate = Mandate::default();
    mandate.alone.rules.push(kill_tree::ID.into());
    host.set_mandate(mandate, at(3)).unwrap();
    host.submit(vec![order("again", kill_tree::ID, "alert")], at(3)).unwrap();
    assert_eq!(world.hand.told(), ["do again"]);
}

#[test]
fn a_freeze_ends_by_its_time_by_hand_and_with_everything() {
    let world = World::new();
    let mut host = world.open(at(0));
    by_root(&mut host, order("time", freeze_processes::ID, ""), at(0));
    assert_eq!(host.action("time").unwrap().expires_at, Some(at(3_600)));
    // An alert about the same is evidence: it lasts longer, up to what it may.
    let mut mandate = Mandate::default();
    mandate.alone.rules.push(freeze_processes::ID.into());
    host.set_mandate(mandate, at(1)).unwrap();
    let mut more = order("more", freeze_processes::ID, "alert");
    more.expiry = Some(at(7_200));
    host.submit(vec![more], at(1)).unwrap();
    let (outcome, why) = state(&host, "more");
    assert!(outcome == ActionState::NoEffect && why.contains("time"), "{why}");
    assert_eq!(host.action("time").unwrap().expires_at, Some(at(7_200)));
    host.tick(at(7_199)).unwrap();
    assert_eq!(world.hand.told(), ["do time"]);
    host.tick(at(7_200)).unwrap();
    assert_eq!(state(&host, "time"), (ActionState::Expired, "2 had ended".into()));
    assert_eq!(world.hand.told(), ["undo time"]);
    // By hand; then an alert leaves it alone for a while, and a person does not.
    by_root(&mut host, order("hand", freeze_processes::ID, ""), at(8_000));
    host.undo(&Which::Ids(vec!["hand".into()]), Undo::Person("ann"), at(8_001)).unwrap();
    host.submit(vec![order("alert", freeze_processes::ID, "alert")], at(8_002)).unwrap();
    let (outcome, why) = state(&host, "alert");
    assert!(outcome == ActionState::Refused && why.contains("a person took it back"), "{why}");
    by_root(&mut host, order("person", freeze_processes::ID, ""), at(8_003));
    assert_eq!(state(&host, "person").0, ActionState::Done);
    // Blocks have their own switch.
    let mut off = policy();
    off.modules.block_address.state = Switch::Off;
    off.response.never_kill = vec!["/usr/bin/db".into()];
    host.set_policy(&off, at(8_004)).unwrap();
    assert_eq!(state(&host, "person").0, ActionState::Done);
    assert!(world.hand.told().contains(&"policy [\"/usr/bin/db\"]".to_owned()));
    host.undo(&Which::All, Undo::Policy("all is stopped"), at(8_005)).unwrap();
    assert_eq!(state(&host, "person").0, ActionState::Undone);
}

#[test]
fn a_crash_a_failure_and_a_stop() {
    let world = World::new();
    let mut host = world.open(at(0));
    world.hand.next(Err(PortError::transient("the disk")));
    by_root(&mut host, order("again", freeze_processes::ID, ""), at(0));
    assert_eq!(state(&host, "again").0, ActionState::Running);
    // Killed here: the next one does it again.
    drop(host);
    let mut host = world.open(at(1));
    host.start(at(1)).unwrap();
    assert_eq!((state(&host, "again").0, world.hand.told()), (ActionState::Done, vec!["do again".into(); 2]));
    // Given up: what was done of it is put back.
    world.hand.next(Err(PortError::permanent("no")));
    by_root(&mut host, order("never", freeze_processes::ID, ""), at(2));
    assert_eq!(
        (state(&host, "never").0, world.hand.told()),
        (ActionState::Failed, vec!["do never".into(), "undo never".into()])
    );
    // A stop that comes before the effect of what a crash left.
    world.hand.next(Err(PortError::transient("the disk")));
    by_root(&mut host, order("late", freeze_processes::ID, ""), at(3));
    *world.halt.halted.lock().unwrap() = Some("all answers are stopped".into());
    drop(host);
    let mut host = world.open(at(4));
    host.start(at(4)).unwrap();
    assert_eq!(state(&host, "late"), (ActionState::Refused, "all answers are stopped; 2 had ended".into()));
    assert_eq!(world.hand.told(), ["do late", "undo late"]);
    by_root(&mut host, order("stopped", kill_tree::ID, ""), at(5));
    assert_eq!(state(&host, "stopped").0, ActionState::Refused);
    // What is in effect can be taken back all the same.
    host.undo(&Which::Ids(vec!["again".into()]), Undo::Person("ann"), at(6)).unwrap();
    assert_eq!(state(&host, "again").0, ActionState::Undone);
}

#[test]
fn a_package_is_over_when_it_is_told_and_only_some_wait() {
    let mut world = World::new();
    world.hand.slow = true;
    let mut host = world.open(at(0));
    for number in 0..=collect_triage::MOST_LIVE {
        let id = format!("t{number}");
        host.submit_as(vec![order(&id, collect_triage::ID, "")], Authority::Manager { operators: 0 }, at(0)).unwrap();
    }
    let last = format!("t{}", collect_triage::MOST_LIVE);
    assert_eq!((state(&host, "t0").0, state(&host, &last).0), (ActionState::Running, ActionState::Refused));
    assert!(world.hand.told().is_empty() && host.is_out("t0"), "nothing is done on the caller's time");
    assert_eq!(host.next_tick(), None, "nor waited for");
    host.submit(vec![order("same", collect_triage::ID, "alert")], at(1)).unwrap();
    assert_eq!(state(&host, "same").0, ActionState::NoEffect, "one is under way");
    world.hand.next(Err(PortError::permanent("no room")));
    world.hand.next(Ok(Applied::Done { former: Some("{\"package\":\"x\"}".into()), remark: Some("package x".into()) }));
    let mut reports = ran(&mut host, None);
    reports.truncate(2);
    reported(&mut host, reports, at(2));
    assert_eq!(state(&host, "t0"), (ActionState::Done, "package x".into()));
    assert_eq!(state(&host, "t1"), (ActionState::Failed, "no room".into()));
    // What runs at a crash is begun again.
    drop(host);
    let mut host = world.open(at(4));
    host.start(at(4)).unwrap();
    assert_eq!(ran(&mut host, None).len(), collect_triage::MOST_LIVE - 2);
}

#[test]
fn what_is_done_elsewhere_is_tried_again_taken_back_in_order_and_stopped() {
    let mut world = World::new();
    world.hand.slow = true;
    let mut host = world.open(at(0));
    // It fails, and is tried again with a wait that grows.
    by_root(&mut host, order("a", freeze_processes::ID, ""), at(0));
    for (now, next) in [(0, 1), (1, 3)] {
        world.hand.next(Err(PortError::transient("busy")));
        let reports = ran(&mut host, None);
        reported(&mut host, reports, at(now));
        assert_eq!((host.next_tick(), host.is_out("a")), (Some(at(next)), false));
        host.tick(at(next)).unwrap();
        host.tick(at(next)).unwrap();
    }
    let reports = ran(&mut host, None);
    assert_eq!(reports.len(), 1, "it is handed out once");
    // Taken back while it is being done: the report of that changes nothing.
    host.undo(&Which::Ids(vec!["a".into()]), Undo::Person("ann"), at(4)).unwrap();
    reported(&mut host, reports, at(4));
    assert_eq!(state(&host, "a").0, ActionState::Undoing);
    let reports = ran(&mut host, None);
    reported(&mut host, reports, at(5));
    assert_eq!((state(&host, "a").0, world.hand.told().pop()), (ActionState::Undone, Some("undo a".into())));
    // Stopped while it waited for its thread.
    by_root(&mut host, order("b", freeze_processes::ID, ""), at(6));
    let reports = ran(&mut host, Some("all answers are stopped"));
    reported(&mut host, reports, at(6));
    let reports = ran(&mut host, Some("all answers are stopped"));
    reported(&mut host, reports, at(6));
    assert_eq!(state(&host, "b"), (ActionState::Refused, "all answers are stopped; 2 had ended".into()));
    assert_eq!(world.hand.told(), ["undo b"]);
    // At its end it is being taken back, and nothing prolongs it.
    by_root(&mut host, order("c", freeze_processes::ID, ""), at(10));
    let reports = ran(&mut host, None);
    reported(&mut host, reports, at(10));
    host.tick(at(10 + 3_600)).unwrap();
    assert_eq!(state(&host, "c").0, ActionState::Undoing);
    let reports = ran(&mut host, None);
    reported(&mut host, reports, at(10 + 3_600));
    assert_eq!(state(&host, "c").0, ActionState::Expired);
}

#[test]
fn a_host_without_hands_says_so() {
    let world = World::new();
    let (mut host, _) =
        HostActions::open(world.dir.path(), "host", &policy(), Surroundings::default(), world.halt.clone(), at(0))
            .unwrap();
    by_root(&mut host, order("a", kill_tree::ID, ""), at(0));
    assert_eq!(state(&host, "a").0, ActionState::NoEffect);
}

/// An effect with a defect, whose undo is sound.
struct Defect;

impl HostEffect for Defect {
    fn aside(&self) -> Option<Box<dyn HostEffect>> {
        Some(Box::new(Self))
    }

    fn apply(&mut self, _: &Action, _: Option<u64>) -> Result<Applied, PortError> {
        panic!("the defect that this test is about")
    }

    fn undo(&mut self, _: &Action) -> Result<Option<String>, PortError> {
        Ok(None)
    }
}

#[test]
fn a_defect_of_an_effect_is_a_failure_that_is_taken_back() {
    let world = World::new();
    let mut host = world.open(at(0)).with_effect(freeze_processes::ID, Box::new(Defect));
    by_root(&mut host, order("frozen", freeze_processes::ID, ""), at(0));
    let reports = ran(&mut host, None);
    reported(&mut host, reports, at(1));
    assert_eq!(state(&host, "frozen").0, ActionState::Undoing, "what may be left of it is put back first");
    let reports = ran(&mut host, None);
    reported(&mut host, reports, at(2));
    let (end, why) = state(&host, "frozen");
    assert!(end == ActionState::Failed && why.contains("defect"), "{end:?} {why}");
    assert!(!host.is_out("frozen") && host.take_jobs().is_empty());
}
