//! Copies of a host's disk, images, and how an agent goes: the real agent, and a manager that is played by this test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use host::{Host, is_root, numbered};
use manager::Manager;
use sakimori_wire::agent::goodbye::Reason;

const NO_BLOCKS: &str = "[policy.modules.block_address]\nstate = \"off\"";
const ORIGINAL: &str = "11111111111111111111111111111111";
const COPY: &str = "22222222222222222222222222222222";

fn agent_id(host: &Host) -> String {
    let enrolled: serde_json::Value =
        serde_json::from_slice(&fs::read(host.state().join("agent.json")).unwrap()).unwrap();
    enrolled["agent_id"].as_str().unwrap().to_owned()
}

fn token_file(host: &Host, token: &str) {
    let path = host.path("enrolment.token");
    fs::write(&path, token).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What copies a disk: all that the agent keeps, as it is.
fn copy_of(original: &Host) -> Host {
    let copy = Host::new(NO_BLOCKS);
    let status = std::process::Command::new("cp").arg("-a").args([original.state(), copy.path("")]).status().unwrap();
    assert!(status.success());
    copy
}

#[test]
fn an_image_enrols_itself_at_its_first_boot_and_a_copy_takes_an_identity_of_its_own() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let mut original = Host::new(NO_BLOCKS);
    original.on_machine(ORIGINAL);
    token_file(&original, &manager.token("group-web"));
    original.append("auth.log", numbered(0, 3));
    original.start();
    original.wait("it enrolled itself and is connected", |_| manager.hellos() == 1);
    assert_eq!(agent_id(&original), "agent-1");
    original.wait("its lines are there", |_| manager.lines("auth").len() == 3);
    original.stop();
    // Lines that the original has not sent yet, and that its copy must not send in its place.
    original.append("auth.log", numbered(3, 5));

    let mut copy = copy_of(&original);
    copy.on_machine(COPY);
    token_file(&copy, &manager.token("group-web"));
    copy.append("auth.log", numbered(0, 1));
    copy.start();
    copy.wait("it has an identity of its own", |copy| agent_id(copy) == "agent-2");
    copy.wait("it is connected by it", |_| manager.hellos() == 2);
    copy.wait("it tells what it is", |copy| copy.status().is_some_and(|status| status.agent == "agent-2"));
    assert_ne!(
        fs::read(copy.state().join("identity/key.pem")).unwrap(),
        fs::read(original.state().join("identity/key.pem")).unwrap(),
        "no key is shared"
    );
    assert!(!copy.state().join("spool.copy").exists(), "what it noted without a name is gone");
    copy.stop();

    original.start();
    original.wait("the original goes on as itself", |_| manager.hellos() == 3);
    assert_eq!(agent_id(&original), "agent-1");
    original.stop();
    assert_eq!(manager.enrolled(), 2);
}

#[test]
fn a_copy_without_a_token_says_so_and_never_speaks_as_its_original() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let mut original = Host::new(NO_BLOCKS);
    original.on_machine(ORIGINAL);
    let out = original.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let mut copy = copy_of(&original);
    copy.on_machine(COPY);
    copy.start();
    copy.wait("it works without a manager", |copy| copy.status().is_some_and(|status| status.agent != "agent-1"));
    let doctor = copy.json(&["doctor"]);
    let finding = doctor.as_array().unwrap().iter().find(|one| one["id"] == "agent/enrolment").unwrap();
    assert!(finding["found"].as_str().unwrap().contains("machine-id differs"), "{finding}");
    assert_eq!(manager.hellos(), 0, "it did not use the identity");
    assert!(copy.state().join("identity/key.pem").exists(), "nothing is destroyed: the disk may have moved");

    // A person enrols it; the agent that runs takes the new identity by itself.
    let pid = copy.pid();
    let out = copy.command(&["enroll", &manager.token("secret-2")]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    copy.wait("it is connected by its own identity", |_| manager.hellos() == 1);
    copy.wait("it tells what it is", |copy| copy.status().is_some_and(|status| status.agent == "agent-2"));
    assert_eq!(copy.pid(), pid, "the same process, which whoever supervises it still knows");
    copy.stop();
}

#[test]
fn a_used_token_in_an_image_is_told_once_and_the_agent_protects_without() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let mut first = Host::new(NO_BLOCKS);
    let out = first.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let mut host = Host::new(NO_BLOCKS);
    token_file(&host, &manager.token("secret-1"));
    host.append("auth.log", numbered(0, 2));
    host.start();
    host.wait("it is told", |host| host.said("enrolment-failed") == 1);
    host.wait("it reads on", |host| host.lines("auth").len() == 2);
    assert_eq!(manager.hellos(), 0);
    host.stop();
    first.start();
    first.wait("connected", |_| manager.hellos() == 1);
    first.stop();
    assert_eq!(manager.goodbyes(), [Reason::Stopped]);
}

#[test]
fn an_agent_that_is_uninstalled_says_goodbye_for_good() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let mut host = Host::new(NO_BLOCKS);
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    let out = host.command(&["uninstall", "--purge"]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    assert_eq!(manager.goodbyes(), [Reason::Uninstalled]);
    assert!(!host.state().exists());
}
