//! The processes of a user, ended one by one.
//!
//! Each is opened as a pidfd and looked at again before it is signalled, so a number that was given to another process
//! meanwhile hits nobody else. They get SIGKILL at once: what a stolen account runs must not use the time that a politer
//! signal leaves. Processes that start others while they are being ended are found by the next pass.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Most processes that one call ends.
pub const MOST: usize = 16_384;
/// How long they may take to end: one that waits for a disk ends when that answers.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two passes over the processes.
const PAUSE: Duration = Duration::from_millis(5);

/// Ends the processes of a user. Gives how many were signalled, and how many are left. Of root, and of this process's own
/// user, none is.
pub fn end(uid: u32) -> (usize, usize) {
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return (0, 0);
    }
    let until = Instant::now() + PATIENCE;
    let mut ended = BTreeSet::new();
    loop {
        let there = of(uid);
        if there.is_empty() || ended.len() >= MOST || Instant::now() >= until {
            return (ended.len(), there.len());
        }
        for pid in there.into_iter().take(MOST - ended.len()) {
            let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            // It is gone, or is another's by now.
            let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { continue };
            if belongs(Path::new(&format!("/proc/{pid}/status")), uid)
                && pidfd_send_signal(&handle, Signal::KILL).is_ok()
            {
                ended.insert(pid);
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Processes of a user that still run.
pub fn left(uid: u32) -> usize {
    of(uid).len()
}

fn of(uid: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        belongs(&entry.path().join("status"), uid).then_some(pid)
    };
    entries.flatten().filter_map(pid).collect()
}

/// Is one of a process's user ids this one, and does it still run?
fn belongs(status: &Path, uid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(status) else { return false };
    let after = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    // One that is dead and waits for its parent runs no more.
    let runs = !after("State:").trim_start().starts_with(['Z', 'X']);
    runs && after("Uid:").split_ascii_whitespace().any(|one| one.parse() == Ok(uid))
}
