//! Reading a real `systemd-journald`, started alone in a journal namespace of the test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sakimori_host::journald::{Followed, Follower, JournalSpec, follow};
use sakimori_sys::harness;

const UID: u32 = 64_101;

/// A journald of its own, ended and removed with the test.
struct Journald {
    name: String,
    process: Child,
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let mut folders = vec![PathBuf::from(format!("/run/systemd/journal.{}", self.name))];
        for base in ["/run/log/journal", "/var/log/journal"] {
            let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
            folders.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| path.extension().is_some_and(|extension| extension == self.name.as_str())),
            );
        }
        folders.iter().for_each(|folder| drop(std::fs::remove_dir_all(folder)));
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A journald, or the reason why the test is skipped.
fn journald(test: &str) -> Option<Journald> {
    let program = ["/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"];
    let program = program.iter().find(|path| Path::new(path).exists());
    let machine = std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim().len() == 32);
    if !harness::needs(program.is_some(), "systemd-journald")
        || !harness::root()
        || !harness::needs(machine, "/etc/machine-id")
    {
        return None;
    }
    let program = program?;
    let name = format!("sktest{}{test}", std::process::id());
    std::fs::create_dir_all(format!("/run/systemd/journal.{name}")).unwrap();
    std::fs::create_dir_all("/run/log/journal").unwrap();
    let process = Command::new(program).arg(&name).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let journald = Journald { name, process };
    wait_for("journald listens", || socket(&journald).exists());
    Some(journald)
}

fn socket(journald: &Journald) -> PathBuf {
    format!("/run/systemd/journal.{}/socket", journald.name).into()
}

/// Writes an entry by journald's native protocol.
fn write(journald: &Journald, identifier: &str, message: &str) {
    let entry = format!("SYSLOG_IDENTIFIER={identifier}\nPRIORITY=6\nMESSAGE={message}\n");
    UnixDatagram::unbound().unwrap().send_to(entry.as_bytes(), socket(journald)).unwrap();
}

fn spec(journald: &Journald) -> JournalSpec {
    JournalSpec {
        matches: vec!["SYSLOG_IDENTIFIER=sshd".into(), "+".into(), "SYSLOG_IDENTIFIER=sudo".into()],
        namespace: Some(journald.name.clone()),
        from_start: true,
        uid: UID,
        ..JournalSpec::default()
    }
}

fn start(spec: &JournalSpec) -> (Follower, Receiver<serde_json::Value>) {
    let mut follower = match follow(spec).unwrap() {
        Followed::Running(follower) => follower,
        Followed::Absent(reason) => panic!("{reason}"),
    };
    let pipe = follower.take_pipe().unwrap();
    let (sender, receiver) = channel();
    let reader = std::thread::Builder::new().spawn(move || {
        for line in BufReader::new(std::fs::File::from(pipe)).lines() {
            let entry = serde_json::from_str(&line.unwrap()).unwrap();
            if sender.send(entry).is_err() {
                return;
            }
        }
    });
    drop(reader.unwrap());
    (follower, receiver)
}

fn next(entries: &Receiver<serde_json::Value>, follower: &mut Follower) -> (String, String) {
    match entries.recv_timeout(Duration::from_secs(30)) {
        Ok(entry) => (entry["MESSAGE"].as_str().unwrap().to_owned(), entry["__CURSOR"].as_str().unwrap().to_owned()),
        Err(error) => panic!("{error}: {:?}", follower.ended()),
    }
}

#[test]
fn entries_come_as_they_are_written_and_go_on_behind_a_cursor() {
    let Some(journald) = journald("a") else { return };
    write(&journald, "sshd", "before");
    write(&journald, "cron", "not wanted");
    let (mut follower, entries) = start(&spec(&journald));
    assert_eq!(next(&entries, &mut follower).0, "before");
    write(&journald, "cron", "not wanted");
    write(&journald, "sudo", &"long ".repeat(2_000));
    let (message, cursor) = next(&entries, &mut follower);
    assert_eq!(message.len(), 10_000, "a long message is not left off");
    drop(follower);
    for n in 0..30 {
        write(&journald, "sshd", &format!("meanwhile {n}"));
    }
    let (mut follower, entries) = start(&JournalSpec { cursor: Some(cursor), ..spec(&journald) });
    for n in 0..30 {
        assert_eq!(next(&entries, &mut follower).0, format!("meanwhile {n}"));
    }
    write(&journald, "sshd", "live");
    assert_eq!(next(&entries, &mut follower).0, "live");
    assert!(follower.ended().unwrap().is_none());
}

#[test]
fn without_a_cursor_it_may_begin_now() {
    let Some(journald) = journald("b") else { return };
    write(&journald, "sshd", "history");
    let (mut history, all) = start(&spec(&journald));
    assert_eq!(next(&all, &mut history).0, "history");
    let (mut follower, entries) = start(&JournalSpec { from_start: false, ..spec(&journald) });
    // It follows once it has an entry: those written before that moment are none of its own.
    let deadline = Instant::now() + Duration::from_secs(30);
    let first = loop {
        write(&journald, "sshd", "now");
        if let Ok(entry) = entries.recv_timeout(Duration::from_millis(100)) {
            break entry["MESSAGE"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "{:?}", follower.ended());
    };
    assert_eq!(first, "now");
}

#[test]
fn a_program_that_ends_says_why() {
    let Some(journald) = journald("c") else { return };
    let (mut follower, _entries) = start(&JournalSpec { cursor: Some("nonsense".into()), ..spec(&journald) });
    let mut last = None;
    wait_for("it ends", || {
        last = follower.ended().unwrap();
        last.is_some()
    });
    let (status, words) = last.unwrap();
    assert!(!status.success());
    assert!(words.contains("cursor"), "{words}");
}

#[test]
fn a_host_without_journald_is_a_state() {
    let spec = JournalSpec { namespace: Some("skabsent".into()), uid: UID, ..JournalSpec::default() };
    assert!(matches!(follow(&spec).unwrap(), Followed::Absent(reason) if !reason.is_empty()));
}
