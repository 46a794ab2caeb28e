//! `sakimori-agent scan`: begin a scan, see how it stands, pause it, let it go on, end it. The running agent does the work.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use sakimori_wire::ipc::{Answer, Ask};
use sakimori_wire::scans::{ScanAsk, ScanStatus, ScansStatus};

use crate::control;
use crate::show::{BAD, GOOD, PLAIN, WARN};

/// How often progress is asked for.
const FOLLOW: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum ScanCommand {
    /// Begin a scan of paths, or one that the policy names
    #[command(
        after_help = "One scan runs at a time, another waits for it. With --follow: exit code 0 nothing found, 1 \
        something found, 2 not everything could be judged, or it did not run to its end.\n\nExamples:\n  \
        sakimori-agent scan start /srv/www --follow\n  \
        sakimori-agent scan start / --exclude /var/lib/docker --exclude '*.iso' --cpu 10\n  \
        sakimori-agent scan start --name nightly"
    )]
    Start(Start),
    /// Show the scan under way, those that wait, the next ones and the last one
    #[command(after_help = "Examples:\n  sakimori-agent scan status --follow\n  \
        sakimori-agent scan status --json | jq .now.counts")]
    Status {
        /// Show progress until it ends
        #[arg(long)]
        follow: bool,
    },
    /// Stop for now: its worker ends, the place is kept, also when the agent or the host is started again
    Pause,
    /// Let a paused scan go on where it was, with the newest rules
    Resume,
    /// End the scan under way, or one that waits
    Cancel {
        /// Its id, as `status` shows it [default: the one under way]
        id: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct Start {
    /// Files and folders
    #[arg(required_unless_present = "name", conflicts_with = "name", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A scan of the policy (modules.antimalware.scans)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Leave out: a name (*.iso), or a path (/var/lib/docker, /home/*/.cache); * ? ** stand for others
    #[arg(long, value_name = "PATTERN", conflicts_with = "name")]
    exclude: Vec<String>,
    /// Share of a processor that it may take, in percent [default: 25]
    #[arg(long, value_name = "PERCENT", conflicts_with = "name", value_parser = clap::value_parser!(u32).range(1..=100))]
    cpu: Option<u32>,
    /// Say what is found, and leave it where it is
    #[arg(long, conflicts_with = "name")]
    report_only: bool,
    /// Show progress until it ends
    #[arg(long)]
    follow: bool,
}

/// Runs a command; `by` is who asks.
///
/// # Errors
/// No agent runs, or it says no.
pub fn run(socket: &Path, command: ScanCommand, by: String, json: bool) -> Result<ExitCode> {
    let (ask, follow, shows) = match command {
        ScanCommand::Start(start) => {
            let follow = start.follow;
            (begin(start, by)?, follow, false)
        }
        ScanCommand::Status { follow } => (ScanAsk::Status, follow, true),
        ScanCommand::Pause => (ScanAsk::Pause, false, false),
        ScanCommand::Resume => (ScanAsk::Resume, false, false),
        ScanCommand::Cancel { id } => (ScanAsk::Cancel { id }, false, false),
    };
    let before = if follow && !shows { ids(&asked(socket, ScanAsk::Status)?.0) } else { Vec::new() };
    let (scans, said) = asked(socket, ask)?;
    if follow {
        // The one that this command began, or the one under way.
        let id = ids(&scans).into_iter().rev().find(|id| !before.contains(id));
        let Some(id) = id.filter(|_| !shows).or_else(|| scans.now.as_ref().map(|scan| scan.id.clone())) else {
            show(&scans, json)?;
            return Ok(ExitCode::SUCCESS);
        };
        return follow_it(socket, &id, json);
    }
    if shows || json {
        show(&scans, json)?;
    } else {
        writeln!(anstream::stdout().lock(), "{said}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn begin(start: Start, by: String) -> Result<ScanAsk> {
    let whole = |path: &PathBuf| -> Result<String> {
        let path = std::fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
        path.into_os_string().into_string().ok().context("a path that is no UTF-8 is scanned with the folder over it")
    };
    let paths = start.paths.iter().map(whole).collect::<Result<_>>()?;
    let (name, exclude, cpu_percent, report_only) = (start.name, start.exclude, start.cpu, start.report_only);
    Ok(ScanAsk::Start { name, paths, exclude, cpu_percent, report_only, by })
}

fn asked(socket: &Path, ask: ScanAsk) -> Result<(ScansStatus, String)> {
    match control::ask(socket, &Ask::Scan(ask))? {
        Answer::Scans { scans, said } => Ok((*scans, said)),
        _ => bail!("the agent answered something else"),
    }
}

/// Ids of all that are under way, wait or are over, in the order of their turns.
fn ids(scans: &ScansStatus) -> Vec<String> {
    let past = scans.last.iter().chain(&scans.now).map(|scan| scan.id.clone());
    past.chain(scans.waiting.iter().map(|scan| scan.id.clone())).collect()
}

fn follow_it(socket: &Path, id: &str, json: bool) -> Result<ExitCode> {
    let live = std::io::stderr().is_terminal();
    let mut shown = String::new();
    loop {
        let (scans, _) = asked(socket, ScanAsk::Status)?;
        if let Some(last) = scans.last.as_ref().filter(|last| last.id == id) {
            if live {
                anstream::eprint!("\r\x1b[K");
            }
            if json {
                writeln!(anstream::stdout().lock(), "{}", serde_json::to_string_pretty(last)?)?;
            } else {
                writeln!(anstream::stdout().lock(), "{}", ended(last))?;
            }
            return Ok(ExitCode::from(code(last)));
        }
        let waits = scans.waiting.iter().any(|scan| scan.id == id);
        let line = match scans.now.as_ref().filter(|now| now.id == id) {
            Some(now) => progress(now),
            None if waits => "it waits for another scan".to_owned(),
            None => bail!("the scan {id} is not there any more"),
        };
        if live {
            let short: String = line.chars().take(160).collect();
            anstream::eprint!("\r\x1b[K{short}");
        } else if line != shown {
            anstream::eprintln!("{line}");
        }
        shown = line;
        std::thread::sleep(FOLLOW);
    }
}

/// As `sakimori scan`: 0, 1 found, 2 not sure.
fn code(scan: &ScanStatus) -> u8 {
    if scan.counts.found > 0 {
        1
    } else if scan.state != "finished" || scan.counts.failed + scan.counts.unreadable > 0 {
        2
    } else {
        0
    }
}

fn show(scans: &ScansStatus, json: bool) -> Result<()> {
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(scans)?)?;
        return Ok(());
    }
    match &scans.now {
        None => writeln!(out, "no scan is under way")?,
        Some(now) => writeln!(out, "now     {}  {}", now.id, progress(now))?,
    }
    for waiting in &scans.waiting {
        writeln!(out, "waits   {}  {}", waiting.id, waiting.name)?;
    }
    for turn in &scans.next {
        writeln!(out, "next    {}  {}", turn.at, turn.name)?;
    }
    if let Some(last) = &scans.last {
        writeln!(out, "last    {}", ended(last))?;
    }
    Ok(())
}

/// How a scan stands, in one line.
pub fn progress(scan: &ScanStatus) -> String {
    let counts = &scan.counts;
    let style = if scan.state == "paused" { WARN } else { GOOD };
    let of = |all: u64| if all > 0 { format!(" of about {all}") } else { String::new() };
    let mut text = format!(
        "{} {style}{}{PLAIN}: {}{} files, {} MiB",
        clean(&scan.name),
        scan.state,
        counts.files,
        of(scan.expected_files),
        counts.bytes >> 20
    );
    if let Some(tenths) = (counts.bytes * 10 / 1_000_000).checked_div(scan.worked_seconds) {
        text += &format!(", {}.{} MB/s", tenths / 10, tenths % 10);
    }
    if counts.found > 0 {
        text += &format!(", {BAD}{} found{PLAIN}", counts.found);
    }
    if let Some(left) = scan.seconds_left {
        text += &format!(", {} left", span(left));
    }
    if !scan.path.is_empty() {
        text += &format!(", after {}", clean(&scan.path));
    }
    text
}

fn ended(scan: &ScanStatus) -> String {
    let counts = &scan.counts;
    let style = match (counts.found, scan.state.as_str()) {
        (0, "finished") => GOOD,
        (0, _) => WARN,
        _ => BAD,
    };
    let bundles: Vec<String> = scan.bundles.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{} {style}{}{PLAIN}: {} files, {} MiB, {} found, {} too large, {} not judged, {} left out, {} other file \
        systems; rule bundle {}; {}",
        clean(&scan.name),
        scan.state,
        counts.files,
        counts.bytes >> 20,
        counts.found,
        counts.too_large,
        counts.failed + counts.unreadable,
        counts.excluded,
        counts.elsewhere,
        bundles.join(", then "),
        span(scan.worked_seconds),
    );
    if scan.paused_seconds > 0 {
        text += &format!(" and {} of pauses", span(scan.paused_seconds));
    }
    if !scan.detail.is_empty() {
        text += &format!("; {}", clean(&scan.detail));
    }
    text
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// Names of files are what attackers make of them.
fn clean(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '·' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_wire::scans::ScanCounts;

    #[test]
    fn one_line_says_how_far_how_fast_and_how_long() {
        let scan = ScanStatus {
            name: "nightly".into(),
            state: "scanning".into(),
            counts: ScanCounts { files: 10, bytes: 30_000_000, ..ScanCounts::default() },
            worked_seconds: 20,
            expected_files: 40,
            seconds_left: Some(60),
            path: "/srv/a\u{1b}[2Jb".into(),
            ..ScanStatus::default()
        };
        let text = anstream::adapter::strip_str(&progress(&scan)).to_string();
        assert_eq!(text, "nightly scanning: 10 of about 40 files, 28 MiB, 1.5 MB/s, 60 s left, after /srv/a·[2Jb");
        assert!(!progress(&ScanStatus::default()).contains("MB/s"), "no time, no speed");
    }

    #[test]
    fn the_exit_code_says_clean_found_or_not_sure() {
        let scan = |state: &str, found, unreadable| ScanStatus {
            state: state.into(),
            counts: ScanCounts { found, unreadable, ..ScanCounts::default() },
            ..ScanStatus::default()
        };
        let codes = [("finished", 0, 0), ("finished", 1, 1), ("finished", 0, 1), ("cancelled", 0, 0)];
        assert_eq!(codes.map(|(state, found, unreadable)| code(&scan(state, found, unreadable))), [0, 1, 2, 2]);
    }
}
