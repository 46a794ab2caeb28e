//! Scans as actions of the host: they run until their report comes, over crashes too, and are ended by an undo.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod testing;

use std::path::Path;
use std::sync::{Arc, Mutex};

use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{Policy, Switch, default_layer};
use sakimori_model::{Action, ActionState, Order, Timestamp};
use sakimori_respond::actions::scan_paths::{MOST_LIVE, MOST_PER_MINUTE};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{HostActions, Which};
use sakimori_respond::mandate::{Authority, Mandate};
use sakimori_respond::ports::{PathScanner, PortError};
use sakimori_respond::wide::Undo;

use testing::Kernel;

/// Notes what it is told, and outlives the host.
#[derive(Clone, Default)]
struct Scanner(Arc<Mutex<Vec<String>>>);

impl Scanner {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl PathScanner for Scanner {
    fn begin(&mut self, action: &Action) -> Result<(), PortError> {
        if action.order.target.to_string() == "/full" {
            return Err(PortError::permanent("16 scans wait already"));
        }
        self.0.lock().unwrap().push(format!("begin {}", action.order.id));
        Ok(())
    }

    fn end(&mut self, action: &str) {
        self.0.lock().unwrap().push(format!("end {action}"));
    }
}

fn now(second: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + second)
}

fn policy(state: Switch) -> Policy {
    let mut policy: Policy = serde_json::from_value(default_layer().tree.into()).unwrap();
    policy.modules.antimalware.state = state;
    policy
}

fn open(dir: &Path, scanner: &Scanner, second: i64) -> HostActions<Kernel> {
    let (on, around) = (policy(Switch::On), Surroundings::default());
    let opened = HostActions::open(dir, "host", &on, around, Kernel::default(), now(second)).unwrap().0;
    let mut host = opened.with_scanner(Box::new(scanner.clone()));
    assert_eq!(host.start(now(second)).unwrap().1, None);
    host
}

fn order(id: &str, path: &str) -> Order {
    Order {
        id: id.into(),
        action: "scan_paths".into(),
        target: Target::File(path.into()),
        expiry: None,
        cause: Cause { alert: format!("alert-of-{id}"), by: "playbook:look".into(), ..Cause::default() },
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

#[test]
fn a_scan_runs_until_its_report_comes_and_nothing_is_left_to_take_back() {
    let (dir, scanner) = (tempfile::tempdir().unwrap(), Scanner::default());
    let mut host = open(dir.path(), &scanner, 0);
    host.submit(vec![order("a", "/srv")], now(0)).unwrap();
    assert_eq!((state(&host, "a").0, scanner.told()), (ActionState::Running, vec!["begin a".to_owned()]));
    host.submit(vec![order("a", "/srv")], now(1)).unwrap();
    host.tick(now(500)).unwrap();
    assert!(scanner.told().is_empty(), "it runs already, however long");
    assert!(host.scanned("other", true, "x", now(501)).unwrap().is_empty(), "a scan that no action asked for");
    let told = host.scanned("a", true, "finished: 3 files, 1 found", now(501)).unwrap();
    assert_eq!(told.len(), 1, "the manager hears of it");
    assert_eq!(state(&host, "a"), (ActionState::Done, "finished: 3 files, 1 found".to_owned()));
    let undone = host.undo(&Which::Ids(vec!["a".into()]), Undo::Person("ann"), now(502)).unwrap();
    assert!(undone.is_empty() && scanner.told().is_empty(), "what was read stays read");
    // Long after, its record goes like all that is over.
    host.tick(now(40 * 86_400)).unwrap();
    assert!(host.action("a").is_none());
}

#[test]
fn a_crash_begins_what_ran_again_and_an_undo_ends_it() {
    let (dir, scanner) = (tempfile::tempdir().unwrap(), Scanner::default());
    let mut host = open(dir.path(), &scanner, 0);
    host.submit(vec![order("a", "/srv"), order("b", "/opt")], now(0)).unwrap();
    scanner.told();
    drop(host);
    let mut host = open(dir.path(), &scanner, 10);
    let mut told = scanner.told();
    told.sort();
    assert_eq!(told, ["begin a", "begin b"]);
    host.undo(&Which::Ids(vec!["b".into()]), Undo::Person("ann"), now(11)).unwrap();
    assert_eq!((state(&host, "b").0, scanner.told()), (ActionState::Undone, vec!["end b".to_owned()]));
    assert!(host.scanned("b", false, "cancelled", now(12)).unwrap().is_empty(), "it is over already");
    host.scanned("a", false, "failed: no rules", now(12)).unwrap();
    assert_eq!(state(&host, "a"), (ActionState::Failed, "failed: no rules".to_owned()));
    drop(host);
    open(dir.path(), &scanner, 20);
    assert!(scanner.told().is_empty(), "nothing runs any more");
}

#[test]
fn policy_mandate_and_a_stop_are_asked_first() {
    let (dir, scanner) = (tempfile::tempdir().unwrap(), Scanner::default());
    let mut host = open(dir.path(), &scanner, 0);
    let alone = Authority::Manager { operators: 0 };
    let submit = |host: &mut HostActions<Kernel>, id: &str, path: &str| {
        host.submit_as(vec![order(id, path)], alone, now(1)).unwrap();
        state(host, id)
    };
    assert_eq!(submit(&mut host, "shape", "srv").0, ActionState::Refused);
    assert_eq!(submit(&mut host, "full", "/full").0, ActionState::Failed);
    host.set_mandate(Mandate::nothing(), now(1)).unwrap();
    let (said, why) = submit(&mut host, "mandate", "/srv");
    assert!(said == ActionState::Refused && why.contains("does not name the action scan_paths"), "{why}");
    host.set_mandate(Mandate::default(), now(1)).unwrap();
    host.set_policy(&policy(Switch::Off), now(1)).unwrap();
    assert_eq!(submit(&mut host, "off", "/srv").0, ActionState::NoEffect);
    host.set_policy(&policy(Switch::On), now(1)).unwrap();
    *host.blocker().halted.lock().unwrap() = Some("all answers are stopped".into());
    assert_eq!(submit(&mut host, "stopped", "/srv").0, ActionState::Refused);
    *host.blocker().halted.lock().unwrap() = None;
    assert!(scanner.told().is_empty());
    assert_eq!(submit(&mut host, "fine", "/srv").0, ActionState::Running);
}

#[test]
fn a_flood_of_alerts_begins_few_scans_and_the_same_only_once() {
    let (dir, scanner) = (tempfile::tempdir().unwrap(), Scanner::default());
    let mut host = open(dir.path(), &scanner, 0);
    host.submit(vec![order("a", "/srv"), order("b", "/srv")], now(0)).unwrap();
    let (said, why) = state(&host, "b");
    assert!(said == ActionState::NoEffect && why.contains("by action a"), "{why}");
    host.scanned("a", true, "x", now(1)).unwrap();
    let many: Vec<Order> = (0..1_000).map(|n| order(&format!("n{n}"), &format!("/srv/{n}"))).collect();
    host.submit(many, now(2)).unwrap();
    let running = |host: &HostActions<Kernel>| {
        host.actions()
            .filter(|action| action.state == ActionState::Running)
            .map(|action| action.order.id.clone())
            .collect()
    };
    let live: Vec<String> = running(&host);
    assert_eq!(live.len(), MOST_LIVE);
    // As fast as they end, no more begin in a minute than that.
    let mut begun = MOST_LIVE + 1;
    for (n, id) in live.into_iter().chain((0..100).map(|n| format!("m{n}"))).enumerate() {
        host.scanned(&id, true, "x", now(3)).unwrap();
        host.submit(vec![order(&format!("m{n}"), &format!("/opt/{n}"))], now(3)).unwrap();
        begun += usize::from(state(&host, &format!("m{n}")).0 == ActionState::Running);
    }
    assert_eq!(begun, MOST_PER_MINUTE as usize);
    let by_hand = Order { cause: Cause { by: "ann".into(), ..Cause::default() }, ..order("p", "/srv") };
    host.submit(vec![by_hand], now(3)).unwrap();
    assert_eq!(state(&host, "p").0, ActionState::Running, "a person is not held up");
}
