//! What processes take: memory as the kernel shares it out among those that map it, and processor time, of a process
//! and all that it started.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Ticks in a second (`CLK_TCK` of Linux on every architecture that we run on).
const TICKS: f64 = 100.0;

/// Memory in bytes and processor time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processes.
    pub processes: usize,
    /// Resident memory, shared pages shared out (`Pss` of proc_pid_smaps(5)).
    pub shared_out: u64,
    /// Of that, what belongs to no file.
    pub anonymous: u64,
    /// Processor seconds of those that live, and of children that they waited for.
    pub seconds: f64,
}

/// What these take together; one that is gone counts nothing.
pub fn of(pids: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for pid in pids {
        let Some(one) = of_one(*pid) else { continue };
        sum.processes += 1;
        sum.shared_out += one.shared_out;
        sum.anonymous += one.anonymous;
        sum.seconds += one.seconds;
    }
    sum
}

fn of_one(pid: u32) -> Option<Usage> {
    let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let value = |name: &str| -> u64 {
        let line = memory.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    // utime, stime, cutime, cstime.
    let ticks: u64 = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Usage {
        processes: 1,
        shared_out: value("Pss:"),
        anonymous: value("Pss_Anon:"),
        seconds: ticks as f64 / TICKS,
    })
}

/// A process, all that it started, and all whose command line or whose parents' names this text.
pub fn tree(root: u32, named: Option<&str>) -> Vec<u32> {
    let mut parents = BTreeMap::new();
    let mut found = vec![root];
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parents.insert(pid, parent.unwrap_or(0));
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != root && named.is_some_and(|text| String::from_utf8_lossy(&line).contains(text)) {
            found.push(pid);
        }
    }
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid);
        let new: Vec<u32> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        at += 1;
    }
    found
}

/// Runs a program to its end and gives its output: its processor time with that of all it waited for, its wall time,
/// and the most memory that it and its children were seen to take at once (looked at every 50 ms).
///
/// # Errors
/// It cannot be started, or ended with a code that `fine` does not know.
pub fn run(command: &mut Command, fine: &[i32]) -> Result<(Vec<u8>, Usage, Duration)> {
    let before = waited_for()?;
    let began = Instant::now();
    let out = tempfile::NamedTempFile::new()?;
    let program = format!("{:?}", command.get_program());
    command.stdin(Stdio::null()).stdout(out.reopen()?).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let mut most = Usage::default();
    let ended = loop {
        let now = of(&tree(child.id(), None));
        most.shared_out = most.shared_out.max(now.shared_out);
        most.anonymous = most.anonymous.max(now.anonymous);
        most.processes = most.processes.max(now.processes);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        thread::sleep(Duration::from_millis(50));
    };
    anyhow::ensure!(ended.code().is_some_and(|code| fine.contains(&code)), "{program} ended with {ended}");
    most.seconds = waited_for()? - before;
    Ok((fs::read(out.path())?, most, began.elapsed()))
}

/// Processor seconds of children that have ended (`cutime` and `cstime` of proc_pid_stat(5)).
///
/// # Errors
/// No `/proc`.
pub fn waited_for() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
