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
/// Largest program that is hashed, in bytes, and most bytes together: an order waits for it.
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
fn roots(aim: &Aim, action: &Action, rows: &[Row], facts: &impl Facts) -> Result<Vec<(u32, u64)>, String> {
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
            let runs = |row: &&Row| facts.program(row.pid).as_ref() == Some(path);
            rows.iter().filter(named).filter(runs).map(Row::id).collect()
        }
        Aim::Content(sum) => {
            let mut sums = Sums::default();
            rows.iter().filter(named).filter(|row| sums.of(row.pid).as_ref() == Some(sum)).map(Row::id).collect()
        }
    };
    if found.is_empty() { Err("no process runs that program".to_owned()) } else { Ok(found) }
}

/// Hashes of the programs that run, each read once.
#[derive(Default)]
struct Sums {
    known: BTreeMap<(u64, u64), Option<String>>,
    read: u64,
}

impl Sums {
    fn of(&mut self, pid: u32) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        // By the kernel's own link, so that a program that was deleted is read too.
        let file = File::open(format!("/proc/{pid}/exe")).ok()?;
        let found = file.metadata().ok()?;
        if let Some(known) = self.known.get(&(found.dev(), found.ino())) {
            return known.clone();
        }
        let fits = found.len() <= MAX_PROGRAM && self.read.saturating_add(found.len()) <= MAX_PROGRAMS;
        let sum = if fits { hash(file.take(MAX_PROGRAM)) } else { None };
        self.read = self.read.saturating_add(found.len());
        self.known.insert((found.dev(), found.ino()), sum.clone());
        sum
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
        let roots = roots(&aim, action, &table::read(), facts)?;
        let until = Instant::now() + PATIENCE;
        Ok(Self { aim, roots, taken: Vec::new(), spared: BTreeMap::new(), refused: BTreeSet::new(), until })
    }

    /// Looks again. Who began to run the program meanwhile is meant too.
    fn look(&mut self, action: &Action, spare: &Spare, facts: &Proc) -> Look {
        let rows = table::read();
        if let Aim::Program(_) = &self.aim
            && let Ok(now) = roots(&self.aim, action, &rows, facts)
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
        None => Applied::NoEffect(Record::of("", &chosen.taken, &chosen.spared).words(what)),
    }
}
