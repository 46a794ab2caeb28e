//! Files as actions of the host: taken, given back, over crashes and with something in the way. The vault is a map.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod testing;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{Mode, Policy, Switch, default_layer};
use sakimori_model::{Action, ActionState, Order, Timestamp};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{HostActions, Which};
use sakimori_respond::ports::{FileVault, Held, PortError, Taking};
use sakimori_respond::wide::Undo;

use testing::Kernel;

/// A disk and a quarantine that outlive the agent.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, &'static str>,
    /// Item, its former place and content.
    items: BTreeMap<String, (String, &'static str)>,
    given_back: Vec<String>,
    faults: Vec<PortError>,
    takes: usize,
}

impl Disk {
    fn with(&self, files: &[&str]) {
        self.0.lock().unwrap().files.extend(files.iter().map(|path| ((*path).to_owned(), "bad")));
    }

    fn files(&self) -> Vec<String> {
        self.0.lock().unwrap().files.keys().cloned().collect()
    }
}

impl FileVault for Disk {
    fn take(&mut self, action: &Action, _: Timestamp) -> Result<Taking, PortError> {
        let mut state = self.0.lock().unwrap();
        state.takes += 1;
        if let Some(fault) = state.faults.pop() {
            return Err(fault);
        }
        let (former, path) = (format!("item-of-{}", action.order.id), action.order.target.to_string());
        if !state.items.contains_key(&former) {
            let Some(content) = state.files.remove(&path) else { return Ok(Taking::Gone("it is gone".into())) };
            state.items.insert(former.clone(), (path, content));
        }
        Ok(Taking::Taken { former, remark: None })
    }

    fn give_back(&mut self, _: &Action, former: &str) -> Result<(), PortError> {
        let mut state = self.0.lock().unwrap();
        let (path, content) = state.items.get(former).cloned().unwrap();
        if state.files.contains_key(&path) {
            return Err(PortError::permanent(format!("{path} exists")));
        }
        state.items.remove(former);
        state.files.insert(path, content);
        Ok(())
    }

    fn held(&mut self, _: &Action, former: &str) -> Held {
        let state = self.0.lock().unwrap();
        match (state.items.contains_key(former), state.given_back.iter().any(|id| id == former)) {
            (true, _) => Held::Here,
            (false, true) => Held::GivenBack,
            (false, false) => Held::Deleted,
        }
    }
}

fn now(second: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + second)
}

fn policy() -> Policy {
    let mut policy: Policy = serde_json::from_value(default_layer().tree.into()).unwrap();
    policy.modules.antimalware.state = Switch::On;
    policy
}

fn open(dir: &Path, disk: &Disk, second: i64) -> HostActions<Kernel> {
    let opened = HostActions::open(dir, "host", &policy(), Surroundings::default(), Kernel::default(), now(second));
    let mut host = opened.unwrap().0.with_vault(Box::new(disk.clone()));
    assert_eq!(host.start(now(second)).unwrap().1, None);
    host
}

fn order(id: &str, path: &str) -> Order {
    Order {
        id: id.into(),
        action: "quarantine_file".into(),
        target: Target::File(path.into()),
        expiry: None,
        cause: Cause { alert: format!("alert-of-{id}"), by: "playbook:quarantine".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: [("sha256".to_owned(), "a".repeat(64))].into(),
        signatures: Vec::new(),
    }
}

fn ids(ids: &[&str]) -> Which {
    Which::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
}

#[test]
fn do_and_undo_is_as_before_and_nothing_ends_by_itself() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    disk.with(&["/a", "/b", "/c"]);
    let before = disk.files();
    let mut host = open(dir.path(), &disk, 0);
    host.submit(vec![order("1", "/a"), order("2", "/b"), order("3", "/gone")], now(0)).unwrap();
    assert_eq!(disk.files(), ["/c"]);
    assert_eq!(host.action("3").unwrap().state, ActionState::NoEffect);
    host.tick(now(100_000_000)).unwrap();
    host.undo(&Which::All, Undo::Person("mio"), now(1)).unwrap();
    assert_eq!(disk.files(), ["/c"], "taking all back means blocks");
    host.undo(&ids(&["1", "2", "3"]), Undo::Person("mio"), now(2)).unwrap();
    assert_eq!(disk.files(), before);
    let ended = host.action("1").unwrap();
    assert_eq!((ended.state, ended.undone_by.as_deref()), (ActionState::Undone, Some("mio")));
}

#[test]
fn a_crash_between_record_and_effect_takes_it_once() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    disk.with(&["/a"]);
    disk.0.lock().unwrap().faults = vec![PortError::transient("the disk is away")];
    let mut host = open(dir.path(), &disk, 0);
    host.submit(vec![order("1", "/a")], now(0)).unwrap();
    assert_eq!(host.action("1").unwrap().state, ActionState::Running);
    drop(host);
    let mut host = open(dir.path(), &disk, 5);
    assert_eq!((host.action("1").unwrap().state, disk.0.lock().unwrap().takes), (ActionState::Done, 2));
    host.submit(vec![order("1", "/a")], now(6)).unwrap();
    assert_eq!(disk.0.lock().unwrap().takes, 2, "the same order again changes nothing");
}

#[test]
fn what_is_in_the_way_is_said_and_the_file_can_go_back_later() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    disk.with(&["/a"]);
    let mut host = open(dir.path(), &disk, 0);
    host.submit(vec![order("1", "/a")], now(0)).unwrap();
    disk.with(&["/a"]);
    host.undo(&ids(&["1"]), Undo::Person("mio"), now(1)).unwrap();
    let still = host.action("1").unwrap();
    assert_eq!(still.state, ActionState::Done);
    assert!(still.reason.as_deref().unwrap().contains("/a exists"), "{still:?}");
    assert_eq!(host.next_tick(), None, "a person makes room first");
    disk.0.lock().unwrap().files.clear();
    host.undo(&ids(&["1"]), Undo::Person("mio"), now(2)).unwrap();
    assert_eq!((host.action("1").unwrap().state, disk.files()), (ActionState::Undone, vec!["/a".to_owned()]));
}

#[test]
fn what_happened_to_an_item_meanwhile_is_seen_at_the_start() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    disk.with(&["/a", "/b", "/c"]);
    let mut host = open(dir.path(), &disk, 0);
    host.submit(vec![order("1", "/a"), order("2", "/b"), order("3", "/c")], now(0)).unwrap();
    drop(host);
    {
        let mut state = disk.0.lock().unwrap();
        state.items.remove("item-of-1");
        state.items.remove("item-of-2");
        state.given_back.push("item-of-2".into());
    }
    let host = open(dir.path(), &disk, 9);
    let state = |id: &str| host.action(id).unwrap().state;
    assert_eq!((state("1"), state("2"), state("3")), (ActionState::Expired, ActionState::Undone, ActionState::Done));
}

#[test]
fn policy_off_or_looking_takes_nothing_and_keeps_what_is_taken() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    disk.with(&["/a", "/b", "/c"]);
    let mut host = open(dir.path(), &disk, 0);
    host.submit(vec![order("1", "/a")], now(0)).unwrap();
    let mut changed = policy();
    changed.modules.antimalware.mode = Mode::Detect;
    host.set_policy(&changed, now(1)).unwrap();
    host.submit(vec![order("2", "/b")], now(1)).unwrap();
    changed.modules.antimalware.state = Switch::Off;
    host.set_policy(&changed, now(2)).unwrap();
    host.submit(vec![order("3", "/c")], now(2)).unwrap();
    assert_eq!(disk.files(), ["/b", "/c"]);
    assert_eq!(host.action("1").unwrap().state, ActionState::Done, "malware does not come back by a switch");
}
