//! Logs become batches exactly once, whatever happens to the files, the worker or the agent.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;

use std::fs;

use host::{Host, expected, is_root, numbered};
use sakimori_model::field;

const NO_BLOCKS: &str = "[policy.modules.block_address]\nstate = \"off\"";

fn wait_for_lines(host: &mut Host, stream: &str, count: usize) {
    host.wait(&format!("{count} lines of {stream}"), |host| host.lines(stream).len() >= count);
}

#[test]
fn lines_are_followed_and_what_is_absent_appears_later() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(NO_BLOCKS);
    host.append("auth.log", numbered(0, 5));
    host.start();
    wait_for_lines(&mut host, "auth", 5);
    host.wait("absent is said", |host| host.said("input-absent") >= 1);
    let status = host.status().unwrap();
    let web = status.inputs.iter().find(|input| input.name == "web").unwrap();
    assert_eq!(web.state, "absent");
    host.append("web.log", numbered(0, 3));
    wait_for_lines(&mut host, "web", 3);
    host.append("auth.log", "Jan  2 03:04:05 web1 app[1]: li");
    host.append("auth.log", "ne 5\n");
    wait_for_lines(&mut host, "auth", 6);
    assert_eq!(host.lines("auth"), expected(0, 6));
    assert_eq!(host.said("input-appeared"), 1);
    let events = host.events("auth");
    assert_eq!(events[0].str(field::HOST_NAME), Some("web1"));
    assert!(events[0].str(field::AGENT_ID).is_some());
    host.stop();
}

#[test]
fn a_sigkill_loses_and_doubles_nothing() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(NO_BLOCKS);
    host.append("auth.log", numbered(0, 20_000));
    let mut last = 0;
    for round in 0..4_u32 {
        host.start();
        host.append("auth.log", numbered(20_000 + round * 500, 20_500 + round * 500));
        // Somewhere in the middle of reading: as soon as there is more than at the last kill.
        host.wait("progress", |host| host.lines("auth").len() > last);
        host.kill();
        last = host.lines("auth").len();
    }
    host.start();
    wait_for_lines(&mut host, "auth", 22_000);
    host.stop();
    assert_eq!(host.lines("auth"), expected(0, 22_000));
}

#[test]
fn rotation_by_rename_while_running_and_while_down() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(NO_BLOCKS);
    host.append("auth.log", numbered(0, 10));
    host.start();
    wait_for_lines(&mut host, "auth", 10);
    fs::rename(host.path("auth.log"), host.path("auth.log.1")).unwrap();
    // The writer still has the old file for a moment.
    host.append("auth.log.1", numbered(10, 12));
    wait_for_lines(&mut host, "auth", 12);
    host.append("auth.log", numbered(12, 20));
    wait_for_lines(&mut host, "auth", 20);
    host.append("auth.log.1", numbered(20, 21));
    wait_for_lines(&mut host, "auth", 21);
    host.kill();
    host.append("auth.log", numbered(21, 30));
    fs::rename(host.path("auth.log.1"), host.path("auth.log.3")).unwrap();
    fs::rename(host.path("auth.log"), host.path("auth.log.2")).unwrap();
    host.append("auth.log.1", numbered(30, 40));
    host.append("auth.log", numbered(40, 50));
    host.start();
    wait_for_lines(&mut host, "auth", 50);
    host.stop();
    assert_eq!(host.lines("auth"), expected(0, 50));
    assert_eq!(host.said("input-lost"), 0);
}

#[test]
fn copytruncate_while_running_and_while_down() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(NO_BLOCKS);
    host.append("auth.log", numbered(0, 10));
    host.start();
    wait_for_lines(&mut host, "auth", 10);
    let cut = |host: &Host| {
        fs::copy(host.path("auth.log"), host.path("auth.log.1")).unwrap();
        fs::OpenOptions::new().write(true).truncate(true).open(host.path("auth.log")).unwrap();
    };
    cut(&host);
    host.append("auth.log", numbered(10, 15));
    wait_for_lines(&mut host, "auth", 15);
    host.kill();
    host.append("auth.log", numbered(15, 20));
    fs::rename(host.path("auth.log.1"), host.path("auth.log.2")).unwrap();
    cut(&host);
    host.append("auth.log", numbered(20, 40));
    host.start();
    wait_for_lines(&mut host, "auth", 40);
    assert_eq!(host.lines("auth"), expected(0, 40));
    // A cut with no copy: what was not read is lost, which is said; the new lines come.
    host.kill();
    fs::write(host.path("auth.log"), "x\n").unwrap();
    host.start();
    wait_for_lines(&mut host, "auth", 41);
    host.wait("the loss is said", |host| host.said("input-lost") == 1);
    host.stop();
    assert!(host.batches().iter().any(|batch| batch.header.losses.iter().any(|loss| loss.cause == "truncated")));
}

#[test]
fn a_worker_that_is_killed_is_started_again_and_said() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(NO_BLOCKS);
    host.append("auth.log", numbered(0, 10));
    host.start();
    wait_for_lines(&mut host, "auth", 10);
    let worker = host.worker("logs").unwrap();
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.lines().any(|line| line.starts_with("Uid:\t64101\t64101")), "{status}");
    assert!(status.lines().any(|line| line == "NoNewPrivs:\t1"), "{status}");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(worker as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    host.append("auth.log", numbered(10, 20));
    wait_for_lines(&mut host, "auth", 20);
    assert_eq!(host.lines("auth"), expected(0, 20));
    host.wait("the crash is said", |host| host.said("module-crashed") == 1);
    assert_eq!(host.status().unwrap().modules[0].restarts, 1);
    host.stop();
}

#[test]
fn hostile_lines_are_events_and_nothing_stops() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(NO_BLOCKS);
    host.start();
    let mut text = vec![b'A'; 10 << 20];
    text.push(b'\n');
    text.extend_from_slice(b"\xff\xfe\x00\x01 garbage \x80\n\n{\"a\": [[[[[\n");
    text.extend_from_slice(numbered(0, 1).as_bytes());
    host.append("auth.log", &text);
    host.wait("the last line", |host| host.lines("auth").last().is_some_and(|line| line.ends_with("line 0")));
    let events = host.events("auth");
    let longest = events.iter().filter_map(|event| event.str(field::EVENT_ORIGINAL)).map(str::len).max().unwrap();
    assert!((1_000_000..=1024 * 1024).contains(&longest), "{longest}");
    assert_eq!(host.said("module-crashed"), 0);
    host.stop();
}

#[test]
fn a_module_that_is_off_has_no_process() {
    if !is_root() {
        return;
    }
    let mut host = Host::new("");
    // The sources stay written; the switch decides.
    let text = fs::read_to_string(host.path("agent.toml")).unwrap();
    let text = text.replace("[[policy.modules.log_inspection.sources]]", "[[unused]]");
    let (head, _) = text.split_once("[[unused]]").unwrap();
    fs::write(
        host.path("agent.toml"),
        format!(
            "{head}[policy.modules.log_inspection]\nstate = \"off\"\n[policy.modules.block_address]\nstate = \"off\"\n"
        ),
    )
    .unwrap();
    host.append("auth.log", numbered(0, 10));
    host.start();
    assert_eq!(host.worker("logs"), None);
    assert_eq!(host.worker("uplink"), None);
    let status = host.status().unwrap();
    assert!(status.modules.iter().all(|module| module.state == "off"));
    assert!(status.inputs.is_empty());
    host.stop();
    assert!(host.lines("auth").is_empty());
}
