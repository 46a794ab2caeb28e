//! Budgets of the agent's workers, as the kernel holds them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;

use std::path::PathBuf;

use host::{Host, is_root};
use sakimori_sys::harness::needs;
use sakimori_wire::status::BudgetStatus;

const BUDGETS: &str = "control groups that may be written";

fn budget(host: &Host, name: &str) -> Option<BudgetStatus> {
    host.status()?.budgets.into_iter().find(|budget| budget.name == name)
}

/// Groups of this agent below the mounted hierarchies.
fn groups(pid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy() == format!("sakimori-agent-{pid}") {
                    found.push(entry.path());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_worker_above_its_memory_is_ended_told_and_started_again() {
    if !is_root() {
        return;
    }
    // Less than the rules need: it is ended while it loads them.
    let mut host = Host::new("[budget]\nlogs_memory_mib = 3\n");
    host.append("auth.log", "");
    host.start();
    let whole = budget(&host, "agent").unwrap();
    if !needs(whole.problem.is_empty(), BUDGETS) {
        return;
    }
    assert_eq!(whole.memory_most_bytes, 2 << 30);
    host.wait("the worker was ended at its limit, more than once", |host| {
        budget(host, "logs").is_some_and(|logs| logs.memory_kills >= 2)
    });
    host.wait("that is told", |host| host.said("memory-limit-reached") >= 1 && host.said("module-crashed") >= 1);
    let module = host.status().unwrap().modules.into_iter().find(|module| module.id == "log_inspection").unwrap();
    assert!(module.restarts >= 2, "{module:?}");
    let pid = host.pid();
    assert!(!groups(pid).is_empty());
    host.stop();
    assert_eq!(groups(pid), Vec::<PathBuf>::new(), "nothing is left of the groups");
}

#[test]
fn each_worker_lives_in_its_group_and_what_it_uses_is_shown() {
    if !is_root() {
        return;
    }
    let mut host = Host::new("");
    host.append("auth.log", "");
    host.start();
    if !needs(budget(&host, "agent").unwrap().problem.is_empty(), BUDGETS) {
        return;
    }
    host.wait("the worker uses memory", |host| budget(host, "logs").is_some_and(|logs| logs.memory_bytes > 1 << 20));
    let (agent, worker) = (host.pid(), host.worker("logs").unwrap());
    let own = std::fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap();
    assert!(own.contains(&format!("/sakimori-agent-{agent}/agent/logs")), "{own}");
    let text = String::from_utf8(host.command(&["status"]).output().unwrap().stdout).unwrap();
    assert!(text.contains("budget  logs") && text.contains("of 1024 MiB"), "{text}");
    let doctor = String::from_utf8(host.command(&["doctor"]).output().unwrap().stdout).unwrap();
    assert!(doctor.contains("the kernel can hold the budget of each worker"), "{doctor}");
    // Killed, it leaves its groups; the next agent takes them away.
    host.kill();
    assert!(!groups(agent).is_empty());
    host.start();
    host.wait("the groups of the killed one are gone", |_| groups(agent).is_empty());
    host.stop();
}
