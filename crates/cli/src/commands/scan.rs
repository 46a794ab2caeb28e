//! `scan`: malware in files, without a manager. Rules are compiled and files judged in sandboxed workers, which are
//! this program started again; the work is `sakimori-scan`'s, this file asks for it and prints what came of it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use sakimori_malware::Limits;
use sakimori_scan::{Control, Exclusions, Options, Report, compile, judge, scan, sources};

use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 nothing found, 1 something found, 2 not everything could be judged.\n\n\
    Examples:\n  sakimori scan /srv/www\n  \
    sakimori scan / --exclude /var/lib/docker --exclude '*.iso' --cpu 25\n  \
    sakimori scan --only-rules my.yar --rules bad.hashes --json upload.zip")]
pub struct ScanArgs {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Further rules: .yar, .yara and .hashes files, or folders of them
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// These rules in place of the built-in ones
    #[arg(long, value_name = "PATH")]
    only_rules: Vec<PathBuf>,
    /// Workers [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: Option<u8>,
    /// Leave out: a name (*.iso), or a path (/var/lib/docker, /home/*/.cache); * ? ** stand for others
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Largest file that is judged, in MiB; larger ones are listed
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    max_size: u64,
    /// Longest time for one file, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
    /// Share of a processor that each worker may take, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    cpu: u8,
    /// No progress on the terminal
    #[arg(long)]
    quiet: bool,
}

/// Which worker this process is to be.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum WorkerName {
    /// Compiles rules and judges files.
    Malware,
    /// Reads what others sent to a way in of the manager.
    Ingest,
    /// Checks the text of rules for the manager.
    Lint,
}

/// Scans; whatever keeps it from scanning is exit code 2, since 1 says that something was found.
pub fn run(args: &ScanArgs, json: bool) -> ExitCode {
    let done = work(args, json);
    let code = done.unwrap_or_else(|error| {
        anstream::eprintln!("{}error:{} {error:#}", output::BAD, output::PLAIN);
        2
    });
    ExitCode::from(code)
}

fn work(args: &ScanArgs, json: bool) -> Result<u8> {
    let mut rules = if args.only_rules.is_empty() { sources::builtin() } else { sources::read(&args.only_rules)? };
    rules.extend(sources::read(&args.rules)?);
    let exclusions = Exclusions::new(&args.exclude)?;
    let spec = judge::spec(&["worker", "malware"]);
    let progress = output::Progress::begin(args.quiet || json);
    let (compiled, errors) = compile(&spec, &rules)?;
    for error in &errors {
        anstream::eprintln!("{}rule:{} {}", output::WARN, output::PLAIN, output::clean(&error.to_string()));
    }
    ensure!(compiled.rules + compiled.sums > 0, "no rule could be loaded");
    let mut report = Report { rule_errors: errors, ..Report::default() };
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let limits = Limits { max_size: args.max_size << 20, seconds: args.timeout };
    let options = Options { spec, limits, jobs, exclusions, cpu_percent: args.cpu, network: true, after: None };
    let mut printed = Ok(());
    report.totals = scan(&args.paths, &compiled, &options, &Control::default(), |outcome, totals| {
        let found = report.add(outcome);
        if let (Some(found), false, Ok(())) = (found, json, &printed) {
            let path = output::clean(&found.path);
            let (rule, title) = (output::clean(&found.detection.rule), output::clean(&found.detection.title));
            printed = output::line(format!("{}{path}{}: {title} ({rule})", output::BAD, output::PLAIN));
        }
        if totals.files % 64 == 0 && !args.quiet && !json && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            let (files, mib) = (totals.files, totals.bytes >> 20);
            progress.say(&format!("{files} files, {mib} MiB, {} found", totals.malicious));
        }
    })?;
    progress.end();
    printed?;
    show(&report, &compiled, json)?;
    Ok(report.exit_code())
}

fn show(report: &Report, compiled: &sakimori_scan::Compiled, json: bool) -> Result<()> {
    if json {
        return output::json(report);
    }
    for disguised in &report.disguised {
        let (path, reason) = (output::clean(&disguised.path), output::clean(&disguised.reason));
        output::line(format!("{}{path}{}: suspicious: {reason}", output::WARN, output::PLAIN))?;
    }
    for missed in report.too_large.iter().chain(&report.failed) {
        let (path, reason) = (output::clean(&missed.path), output::clean(&missed.reason));
        anstream::eprintln!("{}{path}{}: not judged: {reason}", output::WARN, output::PLAIN);
    }
    let totals = &report.totals;
    output::line(format!(
        "{} files, {} MiB with {} rules and {} hashes: {} found, {} not judged",
        totals.files,
        totals.bytes >> 20,
        compiled.rules,
        compiled.sums,
        totals.malicious,
        totals.skipped + totals.unreadable
    ))
}
