//! Exactly once, under SIGKILL and on full disks: lines go through a real agent to a real manager while manager, agent,
//! both of its workers and the keeper are killed again and again with lines in flight, and while the disk of the spool and
//! that of the lake are full for a time; then the lake is counted, by us and by another reader.
//!
//! A kill is placed by sequence: at a line number drawn from the seed, while lines are written that nobody has
//! acknowledged. In flight = lines written less events that the manager has said are durable. Log files are a pausable
//! source, so delivery is exact. The agent's own events are a live one: of those, stored and counted as lost are what was
//! said, which the books show (`events balance`).

mod disk;
mod victims;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::api::{items, wait};
use crate::platform::{Places, Platform, profile, tail};
use disk::Disk;
use victims::{VICTIMS, Victim, all_run, places};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Lines to send; a tenth of them equals another line.
    #[arg(long, default_value_t = 100_000)]
    lines: u64,
    /// How often manager, agent, logs worker, uplink worker and keeper each get SIGKILL.
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// Fill the disk of the spool once and that of the lake once (mounts two file systems in memory for the run).
    #[arg(long)]
    full_disks: bool,
    /// Leave the keeper and its module out, as on a kernel without fanotify permission events.
    #[arg(long)]
    no_keeper: bool,
    /// Seed of the places of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A Python with the package deltalake: another reader that counts the table on disk.
    #[arg(long)]
    python: Option<PathBuf>,
}

const PATIENCE: Duration = Duration::from_secs(600);
/// Sizes of the disks that are filled, in MiB. The manager wants 256 free to take anything.
const SPOOL_DISK: u64 = 64;
const LAKE_DISK: u64 = 512;
const GUARDED_DISK: u64 = 8;
/// How long a kill waits for a flush that it shall hit: a manager that just began, and its agent, need seconds for one.
const FLUSH: Duration = Duration::from_secs(30);
/// Lines that are appended at a time.
const CHUNK: u64 = 250;
/// Kills that are shown one by one.
const MOST_SHOWN: usize = 100;
/// Lines that are written right before a kill, at most.
const BURST: u64 = 300;

/// A kill as it happened.
struct Kill {
    victim: Victim,
    line: u64,
    in_flight: u64,
    flushing: bool,
}

/// Runs it.
///
/// # Errors
/// Anything that is lost, twice, or not as asked for.
pub fn run(options: &Options) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("sakimori-once-").tempdir()?;
    let began = Instant::now();
    println!("{} lines, {} kills each, seed {}, {} build", options.lines, options.kills, options.seed, profile());
    let disks = match options.full_disks {
        true => Some(Disks {
            spool: Disk::mount(&dir.path().join("agent/spool"), SPOOL_DISK)?,
            lake: Disk::mount(&dir.path().join("manager/lake"), LAKE_DISK)?,
        }),
        false => None,
    };
    // What is marked is a whole file system: not that of this machine.
    let guarded = match options.no_keeper {
        true => None,
        false => Some(Disk::mount(&dir.path().join("guarded"), GUARDED_DISK)?),
    };
    let mut platform = start(dir.path(), options)?;
    let kills =
        send(options, &mut platform, &dir.path().join("auth.log"), disks.as_ref()).with_context(|| logs(dir.path()))?;
    report(&kills, options)?;
    settle(options, &platform).with_context(|| logs(dir.path()))?;
    let (events, alerts) = count(options, &platform)?;
    let path = dir.path().join("manager/lake");
    platform.stop()?;
    drop(guarded);
    if let Some(python) = &options.python {
        other_reader(python, &path, events, alerts)?;
    }
    println!("exactly once: {events} events and {alerts} alerts in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

struct Disks {
    spool: Disk,
    lake: Disk,
}

fn logs(dir: &Path) -> String {
    format!("{}\n{}", tail(&dir.join("manager.log")), tail(&dir.join("agent.log")))
}

fn start(dir: &Path, options: &Options) -> Result<Platform> {
    std::fs::write(dir.join("auth.log"), "")?;
    let mut platform =
        Platform::start(dir, Places::loopback()?, "[lake]\nflush_seconds = 1\nleast_free_percent = 0\n", "")?;
    let policy = json!({"modules": {
        "log_inspection": {"sources": [{"name": "auth", "source": "linux/auth", "file": dir.join("auth.log"), "zone": "UTC"}]},
        "block_address": {"state": "off"},
        // A folder of our own is guarded, so that the keeper has something to keep.
        "antimalware": {"state": if options.no_keeper { "off" } else { "on" }, "paths": [dir.join("guarded")]},
    }});
    platform.api.call("PUT", "/api/v1/policies/layers/tenant", Some(json!({"tree": policy})))?;
    platform.enrol()?;
    platform.reading("auth")?;
    wait("the manager's rules are in use", PATIENCE, || {
        platform.api.search("event.action:bundle-applied").is_ok_and(|told| !told.is_empty())
    })?;
    all_run(&platform, !options.no_keeper)?;
    Ok(platform)
}

/// Line number `at`. Every tenth equals the one before it.
fn line(at: u64) -> String {
    let own = if at % 10 == 9 { at - 1 } else { at };
    let (minute, second) = ((own / 6_000) % 60, (own / 100) % 60);
    format!(
        "Nov 25 10:{minute:02}:{second:02} web1 sshd[{}]: Failed password for root from 203.0.{}.{} port {} ssh2\n",
        1_000 + own % 30_000,
        own % 7,
        own % 251,
        1_024 + own % 60_000
    )
}

/// The log, and how much of it is written.
struct Log {
    file: std::fs::File,
    written: u64,
    lines: u64,
}

impl Log {
    fn write(&mut self, count: u64) -> Result<()> {
        let until = (self.written + count).min(self.lines);
        let text: String = (self.written..until).map(line).collect();
        self.file.write_all(text.as_bytes())?;
        self.written = until;
        Ok(())
    }
}

fn send(options: &Options, platform: &mut Platform, path: &Path, disks: Option<&Disks>) -> Result<Vec<Kill>> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut places = places(&mut random, options.kills, options.lines, !options.no_keeper);
    let mut full = disks.map(|disks| {
        let (spool, lake) = (options.lines / 4, options.lines / 2);
        vec![(lake, &disks.lake, "lake"), (spool, &disks.spool, "spool")]
    });
    let file = OpenOptions::new().append(true).open(path)?;
    let mut log = Log { file, written: 0, lines: options.lines };
    let mut kills: Vec<Kill> = Vec::new();
    while log.written < options.lines {
        log.write(CHUNK)?;
        if let Some((_, disk, name)) = full.as_mut().and_then(|full| full.pop_if(|(at, ..)| *at <= log.written)) {
            fill(options, platform, &mut log, disk, name)?;
        }
        while places.first().is_some_and(|(at, _)| *at <= log.written) {
            let (_, victim) = places.remove(0);
            kills.push(kill(options, platform, &mut log, victim, &kills)?);
        }
    }
    if let Some((.., name)) = full.iter().flatten().next() {
        bail!("the log ended before the disk of the {name} was filled: send more lines");
    }
    Ok(kills)
}

/// Lines right before a kill: fewer than lie between two of them, or the log would be written before the last.
fn burst(options: &Options) -> u64 {
    let kills = options.kills.saturating_mul(VICTIMS.len() as u64);
    BURST.min(options.lines / (2 * kills.max(20)))
}

fn kill(options: &Options, platform: &mut Platform, log: &mut Log, victim: Victim, former: &[Kill]) -> Result<Kill> {
    let lake = platform.dir.join("manager/lake");
    let stored = platform.api.count(EVENTS);
    // A few kills must hit a flush: they wait for one, with more lines written meanwhile. Nothing is asked between the
    // flush and the signal, or it would be over.
    let waits = victim == Victim::Manager && former.iter().filter(|kill| kill.flushing).count() < 4;
    let flushing = if waits {
        let end = (log.written + options.lines / 20).min(options.lines);
        let patience = Instant::now();
        loop {
            let found = flushing(&lake);
            if found || patience.elapsed() > FLUSH {
                break found;
            }
            log.write(end.saturating_sub(log.written).min(20))?;
        }
    } else {
        flushing(&lake)
    };
    // Written at the last moment: these cannot have been read, spooled, sent and synced before the signal.
    let before = log.written;
    log.write(burst(options))?;
    victim.kill(platform)?;
    let line = log.written;
    // What was stored during a wait is not known: then only the last lines count.
    let durable = if waits { before } else { stored.unwrap_or(line) };
    let in_flight = line.saturating_sub(durable);
    victim.start_again(platform)?;
    Ok(Kill { victim, line, in_flight, flushing })
}

/// Fills a disk, writes lines on, sees that nothing new is taken and nothing ends by it, and gives the room back.
fn fill(options: &Options, platform: &mut Platform, log: &mut Log, disk: &Disk, name: &str) -> Result<()> {
    let agent = platform.agent.as_ref().map(|agent| agent.pid());
    disk.fill()?;
    let stored = |platform: &Platform| platform.api.count(EVENTS).ok();
    let mut last = stored(platform);
    let began = Instant::now();
    // Full until nothing moves any more: what was on its way has arrived, what is new waits.
    loop {
        log.write(CHUNK.min(options.lines / 100))?;
        disk.fill()?;
        std::thread::sleep(Duration::from_secs(1));
        let now = stored(platform);
        if now.is_some() && now == last && began.elapsed() > Duration::from_secs(5) {
            break;
        }
        if began.elapsed() > PATIENCE {
            bail!("the full disk of the {name} stopped nothing");
        }
        last = now;
    }
    let waiting = log.written.saturating_sub(last.unwrap_or(log.written));
    if waiting == 0 {
        bail!("no line waited while the disk of the {name} was full");
    }
    if platform.agent_status().is_none() || platform.agent.as_ref().map(|agent| agent.pid()) != agent {
        bail!("the agent ended when the disk of the {name} was full");
    }
    println!("  the disk of the {name} was full at line {}: {waiting} lines waited", log.written);
    disk.relieve()?;
    wait(&format!("what waited for the disk of the {name} has arrived"), PATIENCE, || {
        platform.api.count(EVENTS).is_ok_and(|count| count >= log.written)
    })?;
    Ok(())
}

/// Is a flush between its files and its commit? Then a file of rows is newer than the newest entry of the log, and
/// newer than the manager's start: what a killed flush left does not count.
fn flushing(lake: &Path) -> bool {
    let newest = |end: &str| {
        let mut found = None;
        let mut folders = vec![lake.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(end) {
                    found = found.max(entry.metadata().and_then(|data| data.modified()).ok());
                }
            }
        }
        found
    };
    let started = std::fs::metadata(lake.join("../../started")).and_then(|data| data.modified()).ok();
    newest(".parquet").is_some_and(|file| Some(file) > newest(".json") && Some(file) > started)
}

fn report(kills: &[Kill], options: &Options) -> Result<()> {
    for kill in kills.iter().take(MOST_SHOWN) {
        let flush = if kill.flushing { ", during a flush" } else { "" };
        println!("  {:?} killed at line {}: {} lines in flight{flush}", kill.victim, kill.line, kill.in_flight);
    }
    if let Some(more) = kills.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        println!("  … and {more} more");
    }
    for victim in VICTIMS {
        let own: Vec<&Kill> = kills.iter().filter(|kill| kill.victim == victim).collect();
        let flying = own.iter().filter(|kill| kill.in_flight > 0).count();
        println!("  {victim:?}: {} kills, {flying} with lines in flight", own.len());
    }
    let in_flight = kills.iter().filter(|kill| kill.in_flight > 0).count();
    let flushing = kills.iter().filter(|kill| kill.flushing).count();
    println!("  {in_flight} of {} kills with lines in flight, {flushing} during a flush", kills.len());
    if in_flight * 2 < kills.len() {
        bail!("fewer than half of the kills had lines in flight");
    }
    if options.kills >= 10 && flushing < 3 {
        bail!("fewer than three kills were during a flush");
    }
    Ok(())
}

const EVENTS: &str = "sakimori.stream:auth and not event.kind:alert";

fn settle(options: &Options, platform: &Platform) -> Result<()> {
    wait("all lines have arrived", PATIENCE, || platform.api.count(EVENTS).is_ok_and(|count| count >= options.lines))
        .with_context(|| format!("{:?} of {} events", platform.api.count(EVENTS), options.lines))?;
    Ok(())
}

fn count(options: &Options, platform: &Platform) -> Result<(u64, u64)> {
    let events = platform.api.count(EVENTS)?;
    if events != options.lines {
        bail!("{events} events for {} lines", options.lines);
    }
    let sql = "SELECT count(*) AS alerts, count(DISTINCT \"sakimori.alert.id\") AS ids FROM events \
               WHERE \"sakimori.stream\" = 'auth' AND \"sakimori.alert.id\" IS NOT NULL";
    let answer = platform.api.call("POST", "/api/v1/events/sql", Some(json!({"sql": sql})))?;
    let row = answer.pointer("/rows/0").context("no row")?;
    let cell = |at: usize, name: &str| row.get(at).or_else(|| row.get(name)).and_then(Value::as_u64);
    let (alerts, ids) = (cell(0, "alerts").context("no count")?, cell(1, "ids").context("no count")?);
    if alerts != ids {
        bail!("{alerts} alerts with {ids} different ids");
    }
    let books = platform.api.get("/api/v1/events/balance")?;
    for row in items(&books) {
        if row.get("balanced") != Some(&Value::Bool(true)) {
            bail!("the books do not balance: {row}");
        }
    }
    for row in items(&books) {
        let lost = row.get("lost").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let pausable = row.get("stream").is_some_and(|stream| stream == "auth");
        if pausable && !lost.is_empty() {
            bail!("losses of a pausable source are counted: {row}");
        }
        if !lost.is_empty() {
            println!("  of a live source, told and counted: {row}");
        }
    }
    Ok((events, alerts))
}

/// Counts the table on disk with PyPI's deltalake.
fn other_reader(python: &Path, lake: &Path, events: u64, alerts: u64) -> Result<()> {
    let script = "import sys, deltalake\n\
                  t = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table(columns=['sakimori.stream', 'sakimori.alert.id'])\n\
                  s, a = t.column(0).to_pylist(), t.column(1).to_pylist()\n\
                  print(sum(1 for x, y in zip(s, a) if x == 'auth' and y is None), sum(1 for x, y in zip(s, a) if x == 'auth' and y is not None))\n";
    let out = Command::new(python).args(["-c", script]).arg(lake).output()?;
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    if text != format!("{events} {alerts}") {
        bail!("the other reader counts {text}: {}", String::from_utf8_lossy(&out.stderr));
    }
    println!("  another reader (deltalake for Python) counts {text} on disk");
    Ok(())
}
