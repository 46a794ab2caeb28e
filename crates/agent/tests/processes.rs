//! Processes ended and frozen by the real agent: by hand, by the manager within the mandate, over a crash, until the end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use host::{Host, is_root};
use manager::Manager;
use sakimori_host::processes::table;
use sakimori_model::Order;
use sakimori_model::action::Cause;
use sakimori_respond::actions::process::{name, target};
use serde_json::Value;

const OFF: &str = "[policy.modules.block_address]\nstate = \"off\"\n";

/// A process group of the test's own, ended with it whatever happens.
struct Tree(Child);

impl Tree {
    /// Counts in a file, by processes that come and go.
    fn counting(file: &Path) -> Self {
        let file = file.display();
        Self::of(&format!("i=0; while :; do i=$((i+1)); echo $i > {file}.new; mv {file}.new {file}; sleep 0.01; done"))
    }

    fn of(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.process_group(0).spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn name(&self) -> String {
        let row = table::one(self.0.id()).unwrap();
        name(row.pid, row.start)
    }

    fn groups(&self) -> String {
        fs::read_to_string(format!("/proc/{}/cgroup", self.0.id())).unwrap()
    }

    fn lives(&self) -> bool {
        table::one(self.0.id()).is_some_and(|row| !row.has_ended())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

fn count(file: &Path) -> u64 {
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// An action by hand, as it stands afterwards.
fn act(host: &Host, args: &[&str]) -> Value {
    let all: Vec<&str> = ["act"].iter().chain(args).copied().collect();
    host.json(&all)[0].clone()
}

fn stored(host: &Host, id: &str) -> Value {
    let all = host.json(&["actions", "list", "--all"]);
    all.as_array().unwrap().iter().find(|one| one["order"]["id"] == id).cloned().unwrap_or_default()
}

#[test]
fn a_tree_is_ended_by_hand_and_what_it_was_is_in_the_record() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(OFF);
    let file = host.path("count");
    let mut tree = Tree::counting(&file);
    host.start();
    host.wait("it counts", |_| count(&file) > 3);
    let dry = act(&host, &["kill_tree", &tree.pid(), "--dry-run"]);
    assert_eq!(dry["state"], "no_effect", "{dry}");
    assert!(dry["reason"].as_str().unwrap().starts_with("would end ") && tree.lives(), "{dry}");
    let (pid, start) = table::one(tree.0.id()).unwrap().id();
    let other = act(&host, &["kill_tree", &name(pid, start + 1)]);
    assert!(other["state"] == "no_effect" && tree.lives(), "a number that was used again: {other}");
    let ours = act(&host, &["kill_tree", &host.pid().to_string()]);
    assert!(ours["state"] == "refused" && ours["reason"].as_str().unwrap().contains("agent's own"), "{ours}");
    assert_eq!(act(&host, &["kill_tree", "1@1"])["state"], "refused");
    // A stop holds, for this as for all.
    assert!(host.command(&["halt"]).output().unwrap().status.success());
    let halted = act(&host, &["kill_tree", &tree.pid()]);
    assert!(halted["state"] == "refused" && tree.lives(), "{halted}");
    assert!(host.command(&["resume"]).output().unwrap().status.success());
    let ended = act(&host, &["kill_tree", &tree.pid()]);
    assert_eq!(ended["state"], "done", "{ended}");
    assert!(!tree.lives());
    tree.0.wait().unwrap();
    let record: Value = serde_json::from_str(ended["former"].as_str().unwrap()).unwrap();
    assert_eq!((&record["processes"][0]["pid"], &record["processes"][0]["user"]), (&pid.into(), &0.into()));
    // It is in the event, for the manager; and nobody can take it back.
    let id = ended["order"]["id"].as_str().unwrap().to_owned();
    host.wait("it is told", |host| {
        host.events("actions").iter().any(|event| {
            let json = serde_json::to_string(&event.to_json()).unwrap();
            json.contains(&id) && json.contains("\"done\"") && json.contains("ended ")
        })
    });
    let undone = host.json(&["actions", "undo", &id]);
    assert_eq!(undone["count"], 0, "{undone}");
    host.stop();
}

#[test]
fn the_manager_ends_processes_where_the_mandate_says_so() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = (Manager::start(), Host::new(OFF));
    let path = host.path("mandate.toml");
    fs::write(&path, "").unwrap();
    let text = fs::read_to_string(host.path("agent.toml")).unwrap();
    let text = text.replacen("[agent]", &format!("[agent]\nmandate = \"{}\"", path.display()), 1);
    fs::write(host.path("agent.toml"), text).unwrap();
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    let tree = Tree::of("exec sleep 600");
    let order = |id: &str| Order {
        id: id.into(),
        action: "kill_tree".into(),
        target: target(&tree.name()),
        expiry: None,
        cause: Cause { by: "ann".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: Default::default(),
        signatures: Vec::new(),
    };
    manager.send(manager.order(&order("kill-1"), &[]));
    host.wait("it is answered", |_| manager.replies().iter().any(|reply| reply.id == "kill-1" && !reply.accepted));
    assert!(stored(&host, "kill-1")["reason"].as_str().unwrap().contains("mandate does not name the action"));
    assert!(tree.lives());
    fs::write(&path, "[alone]\nactions = [\"kill_tree\"]\n").unwrap();
    host.wait("the mandate is read", |host| host.said("mandate-applied") == 1);
    manager.send(manager.order(&order("kill-2"), &[]));
    host.wait("it is ended", |_| !tree.lives());
    host.wait("the manager hears of it", |_| manager.states("kill-2").last().is_some_and(|state| state == "done"));
    host.stop();
}

#[test]
fn a_frozen_tree_stands_still_over_a_crash_and_goes_on_after_the_undo() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(OFF);
    let (file, beside) = (host.path("count"), host.path("beside"));
    let (tree, _other) = (Tree::counting(&file), Tree::counting(&beside));
    host.start();
    host.wait("both count", |_| count(&file) > 3 && count(&beside) > 3);
    let place = tree.groups();
    let frozen = act(&host, &["freeze_processes", &tree.pid(), "--seconds", "3600"]);
    assert_eq!(frozen["state"], "done", "{frozen}");
    let id = frozen["order"]["id"].as_str().unwrap().to_owned();
    let still = count(&file);
    let stands = |host: &mut Host| {
        let from = count(&beside);
        host.wait("the other counts", |_| count(&beside) > from + 20);
        assert_eq!(count(&file), still, "it does nothing");
    };
    stands(&mut host);
    host.kill();
    stands(&mut host);
    host.start();
    stands(&mut host);
    assert_eq!(stored(&host, &id)["state"], "done");
    assert_eq!(host.json(&["actions", "undo", &id])["count"], 1);
    host.wait("it goes on", |_| count(&file) > still + 3);
    assert_eq!((stored(&host, &id)["state"].as_str(), tree.groups()), (Some("undone"), place));
    assert_eq!(fs::read_dir(host.state().join("frozen")).unwrap().count(), 0);
    host.stop();
}

#[test]
fn a_frozen_tree_goes_on_at_its_end_and_when_all_is_taken_back() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(OFF);
    let file = host.path("count");
    let tree = Tree::counting(&file);
    host.start();
    host.wait("it counts", |_| count(&file) > 3);
    let frozen = act(&host, &["freeze_processes", &tree.pid(), "--seconds", "1"]);
    assert_eq!(frozen["state"], "done", "{frozen}");
    let (id, still) = (frozen["order"]["id"].as_str().unwrap().to_owned(), count(&file));
    host.wait("it goes on by itself", |_| count(&file) > still + 3);
    host.wait("it is told so", |host| stored(host, &id)["state"] == "expired");
    // The end comes while no agent runs: the next one lets it go on.
    let frozen = act(&host, &["freeze_processes", &tree.pid(), "--seconds", "1"]);
    let (id, still) = (frozen["order"]["id"].as_str().unwrap().to_owned(), count(&file));
    host.kill();
    host.start();
    host.wait("it goes on after the start", |_| count(&file) > still + 3);
    host.wait("it is told so", |host| stored(host, &id)["state"] == "expired");
    // Everything is stopped and taken back.
    act(&host, &["freeze_processes", &tree.pid()]);
    let still = count(&file);
    assert!(host.command(&["halt", "--undo"]).output().unwrap().status.success());
    host.wait("it goes on after the stop", |_| count(&file) > still + 3);
    assert!(host.command(&["resume"]).output().unwrap().status.success());
    // The agent leaves the host.
    act(&host, &["freeze_processes", &tree.pid()]);
    let still = count(&file);
    assert!(host.command(&["uninstall"]).output().unwrap().status.success());
    host.wait("it goes on without an agent", |_| count(&file) > still + 3);
}
