//! The table of processes, as `/proc` has it (proc(5)): number, parent, session, start of each. Parsing is pure.
//!
//! A line of `/proc/PID/stat` is the kernel's, but for the name between the brackets, which the process gave itself and which
//! may hold brackets: the last one ends it, since what follows are numbers.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use sakimori_model::Timestamp;

use super::choose::Facts;

/// Most processes that are read; the kernel's own limit is 4,194,304 and its usual one far below this.
const MAX_PROCESSES: usize = 1 << 18;
/// Longest of the kernel's small files that is read, in bytes.
const MAX_FILE: u64 = 16 << 10;
/// The same of the one with a figure for each interrupt.
const MAX_STAT: u64 = 4 << 20;
/// The same of a process's mounts.
const MAX_MOUNTS: u64 = 4 << 20;
/// Clock ticks in a second, as the kernel counts for programs (`USER_HZ`) on every architecture that we build for.
const TICKS: u64 = 100;
/// Flag of a thread of the kernel (`PF_KTHREAD`).
const KERNEL: u64 = 0x0020_0000;

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// When it began, in clock ticks since the start of the host.
    pub start: u64,
    /// `R`, `S`, `T`, `Z` and so on.
    pub state: u8,
    /// Is it a thread of the kernel's own?
    pub kernel: bool,
    /// Its name, as it gave it itself.
    pub name: String,
}

impl Row {
    /// Number and start: one process for good.
    pub fn id(&self) -> (u32, u64) {
        (self.pid, self.start)
    }

    /// Has it ended, though its parent has not asked how?
    pub fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Is it stopped by a signal?
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// All processes, by their numbers.
pub fn read() -> Vec<Row> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut rows: Vec<Row> = numbers.take(MAX_PROCESSES).filter_map(one).collect();
    rows.sort_by_key(|row| row.pid);
    rows
}

/// One process; `None` where it is gone.
pub fn one(pid: u32) -> Option<Row> {
    parse(&bytes(&format!("/proc/{pid}/stat"))?)
}

/// Reads a line of `/proc/PID/stat`.
pub fn parse(line: &[u8]) -> Option<Row> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(line.get(..open)?).ok()?.trim().parse().ok()?;
    let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // Session and group of a thread of the kernel are 0; of one in another namespace of numbers too.
    let small = |at: usize| u32::try_from(fields.get(at)?.parse::<i64>().ok()?.max(0)).ok();
    Some(Row {
        pid,
        parent: small(1)?,
        group: small(2)?,
        session: small(3)?,
        start: number(19)?,
        state: *fields.first()?.as_bytes().first()?,
        kernel: number(6)? & KERNEL != 0,
        name,
    })
}

/// What is asked of single processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proc;

impl Facts for Proc {
    fn program(&self, pid: u32) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?.display().to_string();
        Some(path.strip_suffix(" (deleted)").map_or(path.clone(), str::to_owned))
    }

    fn user(&self, pid: u32) -> Option<u32> {
        std::fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid())
    }

    fn group(&self, pid: u32) -> Option<String> {
        let text = bytes(&format!("/proc/{pid}/cgroup"))?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn adopts(&self, pid: u32) -> bool {
        if pid == 1 {
            return true;
        }
        // The first of a namespace of numbers: the last of its numbers is 1.
        let Some(text) = bytes(&format!("/proc/{pid}/status")) else { return false };
        let text = String::from_utf8_lossy(&text);
        let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.and_then(|numbers| numbers.split_ascii_whitespace().last()).is_some_and(|last| last == "1")
            || self.program(pid).is_some_and(|program| program.ends_with("/systemd"))
    }

    fn file(&self, pid: u32) -> Option<(u64, u64)> {
        about(&format!("/proc/{pid}/exe")).map(|found| (found.device, found.inode))
    }

    /// In the mount namespace of process 1, which is the host's where the agent's own may be another (a unit with a /tmp of its
    /// own). Other units have such ones too: their root folder is the host's, and the namespace was made by root of the host and
    /// not by a user who may be root in a namespace of his own alone.
    fn at_home(&self, pid: u32) -> bool {
        let space = |who: &str, kind: &str| std::fs::read_link(format!("/proc/{who}/ns/{kind}")).ok();
        let root = |who: &str| about(&format!("/proc/{who}/root")).map(|at| (at.device, at.inode));
        // Who may not look at process 1 sees what it sees itself.
        let host = if space("1", "mnt").is_some() { "1" } else { "self" };
        let pid = pid.to_string();
        let same = |kind: &str| space(&pid, kind).is_some_and(|own| Some(own) == space(host, kind));
        same("mnt") || (same("user") && root(&pid).is_some_and(|own| Some(own) == root(host)))
    }
}

/// What the kernel knows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
}

/// What the kernel knows of a file without asking anybody: a file system that a program serves (FUSE) may never answer.
pub fn about(path: &str) -> Option<About> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS).ok()?;
    let device = makedev(found.stx_dev_major, found.stx_dev_minor);
    Some(About { device, inode: found.stx_ino, size: found.stx_size })
}

/// Is a device, as this process sees it mounted, a file system that a program serves? Who reads from one may wait for ever.
pub fn is_served(pid: u32, device: u64) -> bool {
    let name = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut text = Vec::new();
    let read = std::fs::File::open(format!("/proc/{pid}/mountinfo"));
    let read = read.and_then(|file| file.take(MAX_MOUNTS).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().filter(|line| line.split(' ').nth(2) == Some(&name));
    read.is_err() || lines.any(|line| line.split_once(" - ").is_some_and(|(_, kind)| kind.starts_with("fuse")))
}

/// Numbers of an agent and of all that descends from it.
pub fn family(rows: &[Row], of: u32) -> BTreeSet<u32> {
    let mut family = BTreeSet::from([of]);
    loop {
        let before = family.len();
        family.extend(rows.iter().filter(|row| family.contains(&row.parent)).map(|row| row.pid).collect::<Vec<_>>());
        if family.len() == before {
            return family;
        }
    }
}

/// When the host began; `None` where the kernel does not say.
pub fn host_began() -> Option<Timestamp> {
    let mut text = String::new();
    std::fs::File::open("/proc/stat").ok()?.take(MAX_STAT).read_to_string(&mut text).ok()?;
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(Timestamp::from_secs(seconds.trim().parse().ok()?))
}

/// When that was: so many ticks after the start of the host.
pub fn began(start: u64) -> Option<Timestamp> {
    let micros = i64::try_from(start.saturating_mul(1_000_000 / TICKS)).ok()?;
    Some(Timestamp::from_micros(host_began()?.micros().saturating_add(micros)))
}

/// Which start of the host this is.
pub fn boot() -> String {
    bytes("/proc/sys/kernel/random/boot_id")
        .map(|text| String::from_utf8_lossy(&text).trim().to_owned())
        .unwrap_or_default()
}

fn bytes(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "4711 (a) R (b)) S 12 4711 4700 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 999 1";

    #[test]
    fn a_line_is_read_whatever_the_name() {
        let row = parse(LINE.as_bytes()).unwrap();
        let expected = Row {
            pid: 4711,
            parent: 12,
            group: 4711,
            session: 4700,
            start: 123_456,
            state: b'S',
            kernel: false,
            name: "a) R (b)".into(),
        };
        assert_eq!(row, expected);
        let thread = parse(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0").unwrap();
        assert!(thread.kernel);
        for cut in 0..LINE.len() - 8 {
            let _ = parse(&LINE.as_bytes()[..cut]);
        }
    }

    #[test]
    fn this_process_is_in_the_table() {
        let rows = read();
        let own = rows.iter().find(|row| row.pid == std::process::id()).unwrap();
        assert_eq!(one(own.pid).unwrap().id(), own.id());
        assert!(!own.kernel && family(&rows, own.parent).contains(&own.pid));
        assert_eq!(Proc.program(own.pid), Some(std::env::current_exe().unwrap().display().to_string()));
        assert!(Proc.at_home(own.pid) && Proc.adopts(1) && !Proc.adopts(own.pid));
        let (host, began) = (host_began().unwrap(), began(own.start).unwrap());
        assert!(host < began && began < host.plus_secs(400 * 86_400 * 100));
        assert_eq!(boot().len(), 36);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
