//! Trees of processes, ended and frozen for real: every process here was started by the test that touches it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sakimori_host::processes::choose::Spare;
use sakimori_host::processes::freeze::Freezing;
use sakimori_host::processes::kill::Killer;
use sakimori_host::processes::table;
use sakimori_model::action::Cause;
use sakimori_model::policy::{Policy, default_layer, merge};
use sakimori_model::{Action, Order, Timestamp};
use sakimori_respond::actions::process::{name, target};
use sakimori_respond::actions::{freeze_processes, kill_tree};
use sakimori_respond::ports::{Applied, HostEffect};
use sakimori_respond::wide;
use sakimori_sys::harness;

/// A far moment: nothing here was ordered before the host began.
fn now() -> Timestamp {
    Timestamp::from_secs(4_000_000_000)
}

/// No agent runs here: the processes are the test's own children.
fn nobody() -> Spare {
    Spare { own: u32::MAX, ..Spare::default() }
}

/// One test at a time: what one leaves behind is in the control group of all, and so it is kin of what another ends.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn killer() -> Killer {
    Killer::sparing(nobody())
}

/// A process group of the test's own, ended with it whatever happens.
struct Tree(Child);

impl Tree {
    fn of(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.process_group(0).spawn().unwrap())
    }

    fn name(&self) -> String {
        let row = table::one(self.0.id()).unwrap();
        name(row.pid, row.start)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

fn action(kind: &str, of: &str, id: &str) -> Action {
    let order = Order {
        id: id.into(),
        action: kind.into(),
        target: target(of),
        expiry: None,
        cause: Cause { by: "test".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: Default::default(),
        signatures: Vec::new(),
    };
    wide::plan(order, "host", now(), &freeze_processes::LIMITS)
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes with this word in their command lines that have not ended.
fn alive(word: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|one| one == word.as_bytes())
    };
    table::read().iter().filter(|row| !row.has_ended()).map(|row| row.pid).filter(has).collect()
}

/// A word that only this test's processes have: how long they sleep.
fn word(number: u32) -> String {
    format!("{}.{number}", 100_000 + std::process::id())
}

fn done(applied: Applied) -> (String, String) {
    let Applied::Done { former, remark } = applied else { panic!("{applied:?}") };
    (former.unwrap(), remark.unwrap())
}

/// A script that counts in a file, by processes that come and go.
fn counting(file: &Path) -> String {
    let file = file.display();
    format!("i=0; while :; do i=$((i+1)); echo $i > {file}.new; mv {file}.new {file}; sleep 0.01; done")
}

fn count(file: &Path) -> u64 {
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_tree_that_forks_while_it_is_ended_is_ended_whole() {
    let _alone = alone();
    let word = word(1);
    let tree = Tree::of(&format!("i=0; while [ $i -lt 3000 ]; do sleep {word} & i=$((i+1)); done; sleep {word}"));
    wait("it forks", || alive(&word).len() >= 30);
    let (former, remark) = done(killer().apply(&action(kill_tree::ID, &tree.name(), "a"), None).unwrap());
    assert_eq!(alive(&word), [0; 0], "{remark}");
    let record: serde_json::Value = serde_json::from_str(&former).unwrap();
    assert!(record["count"].as_u64().unwrap() >= 30 && remark.starts_with("ended "), "{remark}");
    let listed = record["processes"].as_array().unwrap();
    assert!(listed.len() <= 64 && former.len() <= 64 << 10);
    assert_eq!(listed[0]["pid"], tree.0.id());
    assert!(listed[0]["program"].as_str().unwrap().starts_with('/') && listed[0]["started"].is_string());
}

#[test]
fn what_left_its_parents_is_found_in_the_session_or_the_control_group() {
    let _alone = alone();
    let word = word(2);
    // A session of its own, in which somebody is left behind by a parent that ends.
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", &format!("(sh -c 'sleep {word} & echo' &); sleep {word}")]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait("both sleep, one of them adopted", || {
        let pids = alive(&word);
        let rows: Vec<_> = pids.iter().filter_map(|pid| table::one(*pid)).filter(|row| row.name == "sleep").collect();
        let adopted = |row: &table::Row| {
            row.pid != child.id() && table::one(row.parent).is_none_or(|parent| parent.session != row.session)
        };
        rows.len() == 2 && rows.iter().any(adopted)
    });
    let row = table::one(child.id()).unwrap();
    done(killer().apply(&action(kill_tree::ID, &name(row.pid, row.start), "a"), None).unwrap());
    child.wait().unwrap();
    assert_eq!(alive(&word), [0; 0]);
    // A daemon: a session of its own begun by one that ended. Only the control group is left of where it came from.
    let Some(root) = unified().filter(|_| harness::root()) else {
        harness::needs(false, "control groups of version 2 that can be written to");
        return;
    };
    let group = root.join(format!("skm-daemon-{}", std::process::id()));
    fs::create_dir(&group).unwrap();
    let ready = group.join("cgroup.procs");
    let tree =
        Tree::of(&format!("echo $$ > {}; setsid sh -c 'setsid sleep {word} & echo' ; sleep {word}", ready.display()));
    wait("the daemon and its root sleep", || {
        alive(&word).iter().filter_map(|pid| table::one(*pid)).filter(|row| row.name == "sleep").count() == 2
    });
    let daemon =
        alive(&word).into_iter().filter_map(table::one).find(|row| row.session == row.pid && row.name == "sleep");
    assert!(daemon.is_some_and(|daemon| daemon.parent != tree.0.id()), "it is nobody's child");
    let (_, remark) = done(killer().apply(&action(kill_tree::ID, &tree.name(), "a"), None).unwrap());
    assert_eq!(alive(&word), [0; 0], "{remark}");
    drop(tree);
    wait("the group is empty", || fs::remove_dir(&group).is_ok());
}

/// The root of the hierarchy of version 2, where there is one that can be written to.
fn unified() -> Option<std::path::PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let root = std::path::PathBuf::from(line.split(' ').nth(4)?);
    rustix::fs::access(&root, rustix::fs::Access::WRITE_OK).ok().map(|()| root)
}

#[test]
fn a_number_that_was_used_again_and_who_is_spared_are_not_touched() {
    let _alone = alone();
    let word = word(3);
    let tree = Tree::of(&format!("exec sleep {word}"));
    wait("it sleeps", || alive(&word).len() == 1);
    let row = table::one(tree.0.id()).unwrap();
    let mut killer = killer();
    for other in [row.start + 1, row.start - 1] {
        let Applied::NoEffect(why) = killer.apply(&action(kill_tree::ID, &name(row.pid, other), "a"), None).unwrap()
        else {
            panic!("it was touched")
        };
        assert!(why.contains("another one has its number"), "{why}");
    }
    // Ordered before the host began, when the number was another's.
    let old = Action { planned_at: Timestamp::from_secs(1), ..action(kill_tree::ID, &tree.name(), "a") };
    assert!(matches!(killer.apply(&old, None).unwrap(), Applied::NoEffect(_)));
    let mut dry = action(kill_tree::ID, &tree.name(), "a");
    dry.order.inputs.insert("dry_run".into(), "true".into());
    let Applied::NoEffect(would) = killer.apply(&dry, None).unwrap() else { panic!("it was touched") };
    assert!(would.starts_with(&format!("would end 1 process: {} sleep", row.pid)), "{would}");
    let program = fs::read_link(format!("/proc/{}/exe", row.pid)).unwrap().display().to_string();
    let mut policy: Policy = merge(&[default_layer()]).unwrap().policy;
    policy.response.never_kill = vec![program.clone()];
    killer.set_policy(&policy);
    let Applied::Refused(why) = killer.apply(&action(kill_tree::ID, &tree.name(), "a"), None).unwrap() else {
        panic!("it was touched")
    };
    assert!(why.contains("never_kill"), "{why}");
    let mut killer = Killer::new();
    let own = table::one(std::process::id()).unwrap();
    let ours = action(kill_tree::ID, &name(own.pid, own.start), "a");
    assert!(matches!(killer.apply(&ours, None).unwrap(), Applied::Refused(why) if why.contains("agent's own")));
    assert_eq!(alive(&word), [row.pid], "it lives");
}

#[test]
fn a_program_is_named_by_its_path_or_its_content() {
    let _alone = alone();
    // A copy of its own, so that nobody else's processes are meant.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("mi ner");
    let own = [fs::read("/bin/sleep").unwrap(), word(4).into_bytes()].concat();
    harness::program(&program, &own).unwrap();
    let out = Command::new("sha256sum").arg(&program).output().unwrap();
    let sum = String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap().trim_start_matches('\\').to_owned();
    for named in [program.display().to_string(), format!("sha256:{sum}")] {
        let start = || Command::new(&program).arg0("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let mut children = [start(), start()];
        let runs = |child: &Child| fs::read_link(format!("/proc/{}/exe", child.id())).is_ok_and(|path| path == program);
        wait("both run", || children.iter().all(runs));
        let (former, _) = done(killer().apply(&action(kill_tree::ID, &named, "a"), None).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&former).unwrap()["count"], 2, "{named}: {former}");
        for child in &mut children {
            assert!(!child.wait().unwrap().success());
        }
        let again = killer().apply(&action(kill_tree::ID, &named, "a"), None).unwrap();
        assert!(matches!(again, Applied::NoEffect(_)), "{again:?}");
    }
}

/// Freezes a tree that counts and lets it go on, with a second effect in between as after a crash of the first.
fn stands_still(new: impl Fn(&Path) -> Freezing, how: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (file, beside, notes) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("notes"));
    let (tree, _other) = (Tree::of(&counting(&file)), Tree::of(&counting(&beside)));
    wait("both count", || count(&file) > 3 && count(&beside) > 3);
    let place = fs::read_to_string(format!("/proc/{}/cgroup", tree.0.id())).unwrap();
    let action = action(freeze_processes::ID, &tree.name(), "one");
    let (former, remark) = done(new(&notes).apply(&action, None).unwrap());
    assert!(
        former.contains(&format!("\"how\":\"{how}\"")) && remark.starts_with(&format!("by {how}: froze ")),
        "{remark}"
    );
    assert!(!remark.contains("wait in the kernel"), "{remark}");
    let still = count(&file);
    let while_the_other_counts = || {
        let from = count(&beside);
        wait("the other counts", || count(&beside) > from + 20);
        assert_eq!(count(&file), still, "it does nothing");
    };
    while_the_other_counts();
    // The agent was killed before it had a record: the same again.
    done(new(&notes).apply(&action, None).unwrap());
    while_the_other_counts();
    // A second action over the same; the first is taken back.
    let second = self::action(freeze_processes::ID, &tree.name(), "two");
    done(new(&notes).apply(&second, None).unwrap());
    let remark = new(&notes).undo(&action).unwrap();
    assert!(remark.is_some_and(|remark| remark.contains("stay frozen by another")));
    while_the_other_counts();
    // Those that come and go may have ended before they stood still.
    let remark = new(&notes).undo(&second).unwrap().unwrap_or_default();
    assert!(!remark.contains("stay frozen") && !remark.contains("control group"), "{remark}");
    wait("it counts again", || count(&file) > still + 3);
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", tree.0.id())).unwrap(), place, "where it was");
    assert_eq!(fs::read_dir(&notes).unwrap().count(), 0, "nothing is left");
    assert_eq!(new(&notes).undo(&action).unwrap(), None, "once more is nothing");
}

#[test]
fn a_frozen_tree_stands_still_and_goes_on_where_it_was() {
    let _alone = alone();
    if harness::root() && harness::needs(unified().is_some(), "control groups of version 2 that can be written to") {
        stands_still(|notes| Freezing::new(notes).sparing(nobody()), "control group");
        let left = fs::read_dir(unified().unwrap()).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("sakimori-frozen-"));
        assert_eq!(
            left.filter(|entry| fs::read_to_string(entry.path().join("cgroup.procs")).unwrap().is_empty()).count(),
            0
        );
    }
}

#[test]
fn without_a_freezer_it_is_stopped_by_signals() {
    let _alone = alone();
    stands_still(|notes| Freezing::by_signals(notes).sparing(nobody()), "SIGSTOP");
}

#[test]
fn who_was_stopped_before_stays_so() {
    let _alone = alone();
    let (folder, word) = (tempfile::tempdir().unwrap(), word(5));
    let tree = Tree::of(&format!("sleep {word} & sleep {word}"));
    wait("both sleep", || alive(&word).len() >= 2);
    let child = alive(&word).into_iter().find(|pid| *pid != tree.0.id()).unwrap();
    let stopped = |pid: u32| table::one(pid).is_some_and(|row| row.is_stopped());
    let number = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::STOP).unwrap();
    wait("somebody stopped it", || stopped(child));
    let mut freezing = Freezing::by_signals(folder.path()).sparing(nobody());
    let action = action(freeze_processes::ID, &tree.name(), "a");
    done(freezing.apply(&action, None).unwrap());
    assert!(stopped(tree.0.id()) && stopped(child));
    freezing.undo(&action).unwrap();
    wait("the others go on", || !stopped(tree.0.id()));
    assert!(stopped(child), "that was not ours");
    // Ended meanwhile is no trouble.
    done(freezing.apply(&action, None).unwrap());
    drop(tree);
    assert!(freezing.undo(&action).unwrap().unwrap().contains("had ended meanwhile"));
}
