//! Processes of this host: which are meant by an order, and what is done to them.
//!
//! - [`table`]: what the kernel says of each (`/proc`, proc(5))
//! - [`choose`]: who is meant, who descends from them, and who is spared; pure
//! - [`signal`]: signals that hit one process and no other that has its number
//! - [`kill`]: `kill_tree`
//! - [`freeze`]: `freeze_processes`
//!
//! Of what a process wrote about itself nothing is parsed: its name and the path of its program are copied for the record, with
//! a bound and without control characters.

pub mod choose;
pub mod freeze;
pub mod kill;
pub mod signal;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sakimori_model::{Action, Timestamp};
use sakimori_respond::actions::process::Aim;
use sakimori_respond::ports::Applied;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use choose::{Facts, Spare};
use table::{Proc, Row};

/// How long one act may take until all that is meant stands still.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most rounds of reading the table for it.
const MAX_ROUNDS: usize = 200;
/// Most processes that a record names; the number of the rest is told.
const MAX_LISTED: usize = 64;
/// Longest name or path in a record, in bytes.
const MAX_TEXT: usize = 256;
/// Largest program that is hashed, in bytes, and most bytes together: an order waits for it. What is not read is told.
const MAX_PROGRAM: u64 = 256 << 20;
const MAX_PROGRAMS: u64 = 2 << 30;

/// One process, as a record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since the start of the host.
    pub start: u64,
    /// When that was.
    pub started: Option<Timestamp>,
    /// Its name, as it gave it itself.
    pub name: String,
    /// The program that it runs.
    pub program: String,
    /// Number of its user.
    pub user: Option<u32>,
}

/// What a record says of those that were ended or frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// By which means.
    pub how: String,
    /// How many in all.
    pub count: usize,
    /// The first of them, the root first.
    pub processes: Vec<Seen>,
    /// Those that descend from them and were spared, and why.
    pub spared: Vec<String>,
}

impl Record {
    /// Of these.
    fn of(how: &str, seen: &[Seen], spared: &BTreeMap<u32, String>) -> Self {
        let spared = spared.iter().take(MAX_LISTED).map(|(pid, why)| format!("{pid}: {why}")).collect();
        let processes = seen.iter().take(MAX_LISTED).cloned().collect();
        Self { how: how.to_owned(), count: seen.len(), processes, spared }
    }

    fn json(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// In words: `ended 3 processes: 4711 miner (/tmp/miner), …`.
    fn words(&self, done: &str) -> String {
        const IN_WORDS: usize = 8;
        let one = |seen: &Seen| format!("{} {} ({})", seen.pid, seen.name, seen.program);
        let list: Vec<String> = self.processes.iter().take(IN_WORDS).map(one).collect();
        let more = self.count.saturating_sub(IN_WORDS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let spared = match self.spared.as_slice() {
            [] => String::new(),
            spared => format!("; spared {}", spared.join(", ")),
        };
        let plural = if self.count == 1 { "process" } else { "processes" };
        let mut text = format!("{done} {} {plural}: {}{more}{spared}", self.count, list.join(", "));
        text.truncate(text.floor_char_boundary(4_000));
        text
    }
}

/// A process for the record; read while it lives.
fn seen(row: &Row, facts: &impl Facts) -> Seen {
    Seen {
        pid: row.pid,
        start: row.start,
        started: table::began(row.start),
        name: bounded(&row.name),
        program: bounded(&facts.program(row.pid).unwrap_or_default()),
        user: facts.user(row.pid),
    }
}

fn bounded(text: &str) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// Those that an order names, and why there is none; sorted by number.
/// The text says what could not be looked at.
fn roots(
    aim: &Aim,
    action: &Action,
    rows: &[Row],
    facts: &impl Facts,
) -> Result<(Vec<(u32, u64)>, Option<String>), String> {
    let mut unread = None;
    let named = |row: &&Row| !row.kernel;
    let found: Vec<(u32, u64)> = match aim {
        Aim::One { pid, start } => {
            if table::host_began().is_some_and(|began| action.planned_at.plus_secs(1) < began) {
                return Err("the host was started anew since then".to_owned());
            }
            match rows.iter().find(|row| row.pid == *pid) {
                None => return Err(format!("process {pid} has ended")),
                Some(row) if row.start != *start => {
                    return Err(format!("process {pid} has ended; another one has its number now, and is not touched"));
                }
                Some(row) => vec![(row.pid, row.start)],
            }
        }
        Aim::Program(path) => {
            let runs = |row: &&Row| facts.program_here(row.pid).as_ref() == Some(path);
            rows.iter().filter(named).filter(runs).map(Row::id).collect()
        }
        Aim::Content(sum) => {
            let mut sums = Sums::default();
            let found =
                rows.iter().filter(named).filter(|row| sums.of(row.pid).as_ref() == Some(sum)).map(Row::id).collect();
            unread = sums.unread();
            found
        }
    };
    match unread {
        _ if !found.is_empty() => Ok((found, unread)),
        None => Err("no process runs that program".to_owned()),
        Some(unread) => Err(format!("no process runs that program, as far as was read: {unread}")),
    }
}

/// Hashes of the programs that run, each read once.
struct Sums {
    known: BTreeMap<(u64, u64), Option<String>>,
    /// Most bytes of one, and those that are left for all.
    most: u64,
    left: u64,
    unread: usize,
}

impl Default for Sums {
    fn default() -> Self {
        Self { known: BTreeMap::new(), most: MAX_PROGRAM, left: MAX_PROGRAMS, unread: 0 }
    }
}

impl Sums {
    fn of(&mut self, pid: u32) -> Option<String> {
        // By the kernel's own link, so that a program that was deleted is read too.
        let path = format!("/proc/{pid}/exe");
        let found = table::about(&path)?;
        if let Some(known) = self.known.get(&(found.device, found.inode)) {
            return known.clone();
        }
        let size = found.size;
        let sum = if size <= self.most && size <= self.left && !table::is_served(pid, found.device) {
            self.left -= size;
            File::open(path).ok().and_then(|file| hash(file.take(size)))
        } else {
            self.unread += 1;
            None
        };
        self.known.insert((found.device, found.inode), sum.clone());
        sum
    }

    /// What was left out, where something was.
    fn unread(&self) -> Option<String> {
        let mib = |bytes: u64| bytes >> 20;
        (self.unread > 0).then(|| {
            let (most, all) = (mib(MAX_PROGRAM), mib(MAX_PROGRAMS));
            let why =
                format!("larger than {most} MiB or {all} MiB together, or on a file system that a program serves");
            format!("{} programs were not read: {why}", self.unread)
        })
    }
}

fn hash(mut file: impl Read) -> Option<String> {
    let (mut sum, mut piece) = (Sha256::new(), vec![0_u8; 256 << 10]);
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(hex::encode(sum.finalize())),
            size => sum.update(piece.get(..size)?),
        }
    }
}

/// What one act has chosen so far.
struct Chosen {
    aim: Aim,
    roots: Vec<(u32, u64)>,
    /// All that were taken, the roots first; those that ended stay, since what descends from them is theirs.
    taken: Vec<Seen>,
    spared: BTreeMap<u32, String>,
    /// What could not be looked at.
    unread: Option<String>,
    /// Those that the kernel lets nobody like us touch; they are among the spared.
    refused: BTreeSet<(u32, u64)>,
    until: Instant,
}

/// What one more look at the table found.
struct Look {
    /// Taken from now on.
    fresh: Vec<Row>,
    /// Of all that were taken, those that live.
    alive: Vec<Row>,
}

impl Chosen {
    /// Begins with what an order names. The error says why nothing is there.
    fn begin(aim: Aim, action: &Action, facts: &Proc) -> Result<Self, String> {
        let (roots, unread) = roots(&aim, action, &table::read(), facts)?;
        let until = Instant::now() + PATIENCE;
        let (taken, spared, refused) = Default::default();
        Ok(Self { aim, roots, taken, spared, unread, refused, until })
    }

    /// Looks again. Who began to run the program meanwhile is meant too.
    fn look(&mut self, action: &Action, spare: &Spare, facts: &Proc) -> Look {
        let rows = table::read();
        if let Aim::Program(_) = &self.aim
            && let Ok((now, _)) = roots(&self.aim, action, &rows, facts)
        {
            self.roots.extend(now.into_iter().filter(|one| !self.roots.contains(one)).collect::<Vec<_>>());
        }
        let known: Vec<(u32, u64)> = self.taken.iter().map(|one| (one.pid, one.start)).collect();
        let choice = choose::choose(&rows, facts, &self.roots, &known, spare);
        self.spared.extend(choice.spared);
        let known: BTreeSet<(u32, u64)> = known.into_iter().collect();
        let mut taken = choice.taken;
        taken.retain(|row| !self.refused.contains(&row.id()));
        let fresh: Vec<Row> = taken.iter().filter(|row| !known.contains(&row.id())).cloned().collect();
        self.taken.extend(fresh.iter().map(|row| seen(row, facts)));
        Look { fresh, alive: taken.into_iter().filter(|row| !row.has_ended()).collect() }
    }

    /// Sends a signal; who cannot be sent one counts as spared from now on.
    fn send(&mut self, to: (u32, u64), signal: Signal) {
        if let Err(error) = signal::send(to, signal) {
            self.refuse(to, &error);
        }
    }

    /// The kernel lets us not touch this one.
    fn refuse(&mut self, one: (u32, u64), error: &std::io::Error) {
        self.spared.insert(one.0, format!("the kernel does not let the agent touch it: {error}"));
        self.taken.retain(|seen| (seen.pid, seen.start) != one);
        self.refused.insert(one);
    }

    /// What is said of those that were taken, and of what could not be looked at.
    fn words(&self, record: &Record, done: &str) -> String {
        let unread = self.unread.as_ref().map(|unread| format!("; {unread}")).unwrap_or_default();
        record.words(done) + &unread
    }

    /// Is there time for another round?
    fn has_time(&self) -> bool {
        Instant::now() < self.until
    }

    /// Why nothing of it may be touched, where all that was named is spared.
    fn refusal(&self) -> Option<String> {
        let why = self.roots.iter().find_map(|(pid, _)| self.spared.get(pid).map(|why| format!("{pid}: {why}")))?;
        self.taken.is_empty().then_some(why)
    }
}

/// What is told where nothing was done: why not, or what would be.
fn told(chosen: &Chosen, what: &str) -> Applied {
    match chosen.refusal() {
        Some(why) => Applied::Refused(format!("never touched: process {why}")),
        None if chosen.taken.is_empty() => Applied::NoEffect("all of it has ended".to_owned()),
        None => Applied::NoEffect(chosen.words(&Record::of("", &chosen.taken, &chosen.spared), what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_to_be_hashed_is_told() {
        let own = std::process::id();
        let mut sums = Sums::default();
        assert!(sums.of(own).is_some() && sums.unread().is_none());
        for (most, left) in [(10, MAX_PROGRAMS), (MAX_PROGRAM, 10)] {
            let mut sums = Sums { most, left, ..Sums::default() };
            assert_eq!((sums.of(own), sums.of(own)), (None, None));
            assert!(sums.unread().unwrap().starts_with("1 programs were not read"));
        }
    }
}
