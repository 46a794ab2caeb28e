//! Exactly once, under SIGKILL: lines go through a real agent to a real manager while both are killed again and
//! again with lines in flight; then the lake is counted, by us and by another reader.
//!
//! A kill is placed by sequence: at a line number drawn from the seed, while lines are written that nobody has
//! acknowledged. In flight = lines written less events that the manager has said are durable.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::api::{items, wait};
use crate::platform::{Places, Platform, profile, tail};

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Lines to send; a tenth of them equals another line.
    #[arg(long, default_value_t = 100_000)]
    lines: u64,
    /// How often manager and agent each get SIGKILL.
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// Seed of the places of the kills.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A Python with the package deltalake: another reader that counts the table on disk.
    #[arg(long)]
    python: Option<PathBuf>,
}

const PATIENCE: Duration = Duration::from_secs(600);
/// Lines that are appended at a time.
const CHUNK: u64 = 250;
/// Lines that are written right before a kill, at most.
const BURST: u64 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Manager,
    Agent,
}

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
    let mut platform = start(dir.path())?;
    let kills = send(options, &mut platform, &dir.path().join("auth.log")).with_context(|| logs(dir.path()))?;
    report(&kills, options)?;
    settle(options, &platform).with_context(|| logs(dir.path()))?;
    let (events, alerts) = count(options, &platform)?;
    platform.stop()?;
    if let Some(python) = &options.python {
        other_reader(python, &dir.path().join("manager/lake"), events, alerts)?;
    }
    println!("exactly once: {events} events and {alerts} alerts in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn logs(dir: &Path) -> String {
    format!("{}\n{}", tail(&dir.join("manager.log")), tail(&dir.join("agent.log")))
}

fn start(dir: &Path) -> Result<Platform> {
    std::fs::write(dir.join("auth.log"), "")?;
    let mut platform =
        Platform::start(dir, Places::loopback()?, "[lake]\nflush_seconds = 1\nleast_free_percent = 0\n", "")?;
    let policy = json!({"modules": {
        "log_inspection": {"sources": [{"name": "auth", "source": "linux/auth", "file": dir.join("auth.log"), "zone": "UTC"}]},
        "block_address": {"state": "off"},
    }});
    platform.api.call("PUT", "/api/v1/policies/layers/tenant", Some(json!({"tree": policy})))?;
    platform.enrol()?;
    platform.reading("auth")?;
    wait("the manager's rules are in use", PATIENCE, || {
        platform.api.search("event.action:bundle-applied").is_ok_and(|told| !told.is_empty())
    })?;
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

fn send(options: &Options, platform: &mut Platform, path: &Path) -> Result<Vec<Kill>> {
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut places: Vec<(u64, Victim)> = Vec::new();
    for _ in 0..options.kills {
        // Not at the very end, where nothing is in flight any more.
        places.push((random.random_range(1..options.lines * 2 / 3), Victim::Manager));
        places.push((random.random_range(1..options.lines * 2 / 3), Victim::Agent));
    }
    places.sort_by_key(|place| place.0);
    let lake = platform.dir.join("manager/lake");
    let mut log = OpenOptions::new().append(true).open(path)?;
    let mut kills: Vec<Kill> = Vec::new();
    let mut written = 0;
    while written < options.lines {
        let until = (written + CHUNK).min(options.lines);
        let text: String = (written..until).map(line).collect();
        log.write_all(text.as_bytes())?;
        written = until;
        while let Some((at, victim)) = places.first().copied()
            && at <= written
        {
            places.remove(0);
            // A few kills must hit a flush: they wait for one, with more lines written meanwhile.
            let want_flush = kills.iter().filter(|kill| kill.flushing).count() < 4 && victim == Victim::Manager;
            if want_flush {
                let end = (written + options.lines / 20).min(options.lines);
                let patience = Instant::now();
                while patience.elapsed() < Duration::from_secs(5) && !flushing(&lake) {
                    if written < end {
                        let next = (written + 20).min(end);
                        let text: String = (written..next).map(line).collect();
                        log.write_all(text.as_bytes())?;
                        written = next;
                    }
                }
            }
            let stored = platform.api.count(EVENTS);
            let flushing = flushing(&lake);
            // Written at the last moment: these cannot have been read, spooled, sent and synced before the signal.
            let next = (written + BURST.min(options.lines / 40)).min(options.lines);
            let text: String = (written..next).map(line).collect();
            log.write_all(text.as_bytes())?;
            written = next;
            match victim {
                Victim::Manager => {
                    if let Some(manager) = platform.manager.take() {
                        manager.kill()?;
                    }
                }
                Victim::Agent => {
                    if let Some(agent) = platform.agent.take() {
                        agent.kill()?;
                    }
                }
            }
            kills.push(Kill {
                victim,
                line: written,
                in_flight: stored.map_or(0, |stored| written.saturating_sub(stored)),
                flushing,
            });
            match victim {
                Victim::Manager => platform.start_manager()?,
                Victim::Agent => platform.start_agent()?,
            }
        }
    }
    Ok(kills)
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
    for kill in kills {
        let flush = if kill.flushing { ", during a flush" } else { "" };
        println!("  {:?} killed at line {}: {} lines in flight{flush}", kill.victim, kill.line, kill.in_flight);
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
    let lost: usize = items(&books).iter().filter_map(|row| row.get("lost")?.as_array().map(Vec::len)).sum();
    if lost > 0 {
        bail!("losses are counted: {books}");
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
