//! Workers as the kernel sees them. This file has its own `main`, since a worker is this program started again.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use sakimori_sys::channel::Channel;
use sakimori_sys::harness;
use sakimori_sys::worker::{Identity, Worker, WorkerSpec, connect, spawn, spawn_tool};

const UID: u32 = 64_101;

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        "role-status" => status(&connect().unwrap()),
        "role-parent" => parent(&connect().unwrap()),
        "role-wait" => {
            let channel = connect().unwrap();
            channel.send(b"ready", &[]).unwrap();
            while channel.recv().unwrap().is_some() {}
        }
        _ => tests(&role),
    }
}

fn tests(filter: &str) {
    let all: &[(&str, fn())] = &[
        ("a_worker_has_few_rights", few_rights),
        ("a_worker_dies_with_its_parent", dies_with_parent),
        ("a_worker_is_killed_and_waited_for", killed),
        ("a_worker_outlives_the_thread_that_asked_for_it", outlives_thread),
        ("a_tool_writes_into_a_pipe_with_few_rights", tool),
        ("root_is_refused", root_refused),
        ("by_hand_is_refused", by_hand),
    ];
    harness::run(filter, all, || Ok(()));
}

/// In a worker: what the kernel says about this process, and what is open.
fn status(channel: &Channel) {
    let mut text = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut open: Vec<u32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|e| e.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    open.sort_unstable();
    text += &format!("open {}\n", open.len());
    text += &format!("cwd {}\n", std::env::current_dir().unwrap().display());
    for (key, _) in std::env::vars() {
        text += &format!("env {key}\n");
    }
    channel.send(text.as_bytes(), &[]).unwrap();
    let (body, descriptors) = channel.recv().unwrap().unwrap();
    assert_eq!(body, b"file");
    let mut content = String::new();
    std::fs::File::from(descriptors.into_iter().next().unwrap()).read_to_string(&mut content).unwrap();
    channel.send(content.as_bytes(), &[]).unwrap();
}

/// In a worker: starts one itself, tells its id and dies without a word.
fn parent(channel: &Channel) {
    let child = spawn(&WorkerSpec::own("child", &["role-wait"], UID, UID)).unwrap();
    child.channel.recv().unwrap().unwrap();
    channel.send(child.pid.to_string().as_bytes(), &[]).unwrap();
    std::process::abort();
}

fn few_rights() {
    let _kept_from_it = std::fs::File::open("/proc/self/exe").unwrap();
    let worker = spawn(&WorkerSpec::own("status", &["role-status"], UID, UID)).unwrap();
    let text = String::from_utf8(worker.channel.recv().unwrap().unwrap().0).unwrap();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {text}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    if rustix::process::geteuid().is_root() {
        assert_eq!(worker.identity, Identity::Own { uid: UID, gid: UID });
        assert_eq!(value("Uid:"), format!("{UID} {UID} {UID} {UID}"));
        assert_eq!(value("Gid:"), format!("{UID} {UID} {UID} {UID}"));
        assert_eq!(value("Groups:"), "");
        assert_eq!(u64::from_str_radix(&value("CapEff:"), 16).unwrap(), 0);
        assert_eq!(u64::from_str_radix(&value("CapPrm:"), 16).unwrap(), 0);
    } else {
        println!("not root: the worker's own user was not tested");
        assert!(matches!(worker.identity, Identity::Shared { .. }));
    }
    assert_eq!(value("NoNewPrivs:"), "1");
    assert_eq!(value("Umask:"), "0077");
    assert_eq!(value("Name:"), "status");
    assert_eq!(value("cwd "), "/");
    // Standard three, the channel, and the folder that it reads.
    assert_eq!(value("open "), "5");
    assert!(!text.contains("env HOME"), "{text}");

    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, b"handed over").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    worker.channel.send(b"file", &[file.as_fd()]).unwrap();
    assert_eq!(worker.channel.recv().unwrap().unwrap().0, b"handed over");
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|text| !text.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

fn gone(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn dies_with_parent() {
    // The parent runs unprivileged itself: it may start workers, as the same user.
    let mut worker = spawn(&WorkerSpec::own("parent", &["role-parent"], UID, UID)).unwrap();
    let child: u32 = String::from_utf8(worker.channel.recv().unwrap().unwrap().0).unwrap().parse().unwrap();
    assert!(!worker.wait().unwrap().success());
    gone(child);
}

fn ready() -> Worker {
    let worker = spawn(&WorkerSpec::own("wait", &["role-wait"], UID, UID)).unwrap();
    assert_eq!(worker.channel.recv().unwrap().unwrap().0, b"ready");
    worker
}

fn killed() {
    let mut worker = ready();
    assert!(worker.try_wait().unwrap().is_none());
    worker.kill().unwrap();
    assert!(!worker.wait().unwrap().success());
    worker.kill().unwrap();
    assert!(worker.channel.recv().unwrap().is_none());
    let other = ready();
    let pid = other.pid;
    drop(other);
    assert!(!alive(pid), "dropping kills");
    let mut last = ready();
    last.channel.close();
    assert!(last.wait().unwrap().success(), "a worker whose channel closes ends by itself");
}

fn outlives_thread() {
    let worker = std::thread::Builder::new().spawn(ready).unwrap().join().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(alive(worker.pid));
}

fn tool() {
    let script = "id -u; id -G; ls /proc/self/fd | wc -l; echo trouble >&2; exit 3";
    let spec = WorkerSpec { program: Some("/bin/sh".into()), ..WorkerSpec::own("tool", &["-c", script], UID, UID) };
    let (mut tool, output) = spawn_tool(&spec).unwrap();
    let mut text = String::new();
    std::fs::File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!(tool.wait().unwrap().code(), Some(3));
    assert_eq!(tool.complaint(), "trouble");
    assert_eq!(tool.complaint(), "");
    if rustix::process::geteuid().is_root() {
        // Standard three and the folder that `ls` reads.
        assert_eq!(text, format!("{UID}\n{UID}\n4\n"));
    }
    // One that complains without end does not stand still.
    let script = "i=0; while [ $i -lt 20000 ]; do echo aaaaaaaaaaaaaaaaaaaa >&2; i=$((i+1)); done; echo done";
    let spec = WorkerSpec { program: Some("/bin/sh".into()), ..WorkerSpec::own("tool", &["-c", script], UID, UID) };
    let (mut tool, output) = spawn_tool(&spec).unwrap();
    let mut text = String::new();
    std::fs::File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!(text, "done\n");
    tool.wait().unwrap();
    assert!(tool.complaint().len() <= 4_096);
}

fn root_refused() {
    let error = spawn(&WorkerSpec::own("root", &["role-wait"], 0, 0)).unwrap_err();
    assert!(error.to_string().contains("never runs as root"), "{error}");
    let none = WorkerSpec { program: Some("/nonexistent/program".into()), ..WorkerSpec::own("none", &[], UID, UID) };
    assert!(spawn(&none).unwrap_err().to_string().contains("cannot start worker none"));
}

fn by_hand() {
    assert!(connect().unwrap_err().to_string().contains("not by hand"));
}
