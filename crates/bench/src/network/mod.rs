//! The network engine beside Suricata on the same captures with the same rules: megabytes and packets a processor
//! second, and the most memory.
//!
//! Both run as programs of their own, one thread each, in turn. What a side needs before the first packet (reading its
//! rules) is measured on a capture of one packet and taken off; the table has it as a column of its own. Suricata writes
//! alerts and nothing else, as we do.

mod corpus;
mod rules;
mod traffic;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::platform::{binary, profile};
use crate::usage::{median, waited_for};

/// Options.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sakimori-bench network\n  sakimori-bench network --rules 0,5000 --rounds 3 --json\n  \
    sakimori-bench network --captures FOLDER    # captures found there, merged and repeated"
)]
pub struct Options {
    /// Mebibytes of the capture that is made: HTTP, DNS and TLS, mixed
    #[arg(long, default_value_t = 512)]
    mebibytes: u64,
    /// A folder with captures to be merged and repeated to 200 MB, in place of what is made
    #[arg(long, value_name = "FOLDER")]
    captures: Option<PathBuf>,
    /// How many rules, one run for each number
    #[arg(long, value_delimiter = ',', default_values_t = [0, 5_000, 40_000])]
    rules: Vec<usize>,
    /// Rounds; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keep the capture and the rules there
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Figures as JSON
    #[arg(long)]
    json: bool,
}

/// So many rules as a text.
pub fn rules(count: usize) -> String {
    rules::text(count)
}

/// A capture on disk.
struct Capture {
    path: PathBuf,
    bytes: u64,
    packets: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Suricata,
}

/// What one run used.
#[derive(Clone, Copy, Default)]
struct Used {
    /// Processor seconds.
    seconds: f64,
    /// Most resident bytes.
    memory: u64,
    alerts: u64,
}

/// Runs it.
///
/// # Errors
/// A side that fails.
pub fn run(options: &Options) -> Result<()> {
    let place = tempfile::Builder::new().prefix("sakimori-network-").tempdir()?;
    let dir = options.keep.as_deref().unwrap_or(place.path());
    fs::create_dir_all(dir)?;
    let capture = dir.join("traffic.pcap");
    let (bytes, packets) = match &options.captures {
        Some(folder) => corpus::write(folder, &capture)?,
        None => traffic::write(&capture, options.mebibytes << 20)?,
    };
    let capture = Capture { path: capture, bytes, packets };
    let one = dir.join("one.pcap");
    fs::write(&one, beginning(&capture.path)?)?;
    let mut sides = vec![Side::Ours];
    if Command::new("suricata").arg("-V").output().is_ok_and(|out| out.status.success()) {
        sides.push(Side::Suricata);
    } else {
        eprintln!("suricata is not installed: not measured (Debian: apt-get install -t bookworm-backports suricata)");
    }
    if !options.json {
        println!(
            "{} MB in {} packets, {} build of sakimori, medians of {} rounds; per processor second",
            capture.bytes / 1_000_000,
            capture.packets,
            profile(),
            options.rounds
        );
        println!(
            "{:>7}  {:<9} {:>8} {:>8} {:>10} {:>9} {:>9}",
            "rules", "", "MB/s", "kpps", "memory MiB", "load s", "alerts"
        );
    }
    let mut figures = Vec::new();
    for count in &options.rules {
        let list = dir.join(format!("{count}.rules"));
        fs::write(&list, rules::text(*count))?;
        let mut rates = Vec::new();
        for side in &sides {
            let mut loads = Vec::new();
            let mut runs = Vec::new();
            for _ in 0..options.rounds {
                loads.push(side.run(&one, &list, dir)?);
                runs.push(side.run(&capture.path, &list, dir)?);
            }
            let load = median(loads.iter().map(|used| used.seconds).collect());
            let seconds = median(runs.iter().map(|used| used.seconds).collect()) - load;
            let memory = runs.iter().map(|used| used.memory).max().unwrap_or(0) >> 20;
            let alerts = runs.last().map_or(0, |used| used.alerts);
            let (megabytes, kpps) = (capture.bytes as f64 / 1e6 / seconds, capture.packets as f64 / 1e3 / seconds);
            rates.push(megabytes);
            if options.json {
                figures.push(json!({
                    "rules": count, "side": side.name(), "megabytes_per_second": megabytes, "kpps": kpps,
                    "memory_mib": memory, "load_seconds": load, "alerts": alerts,
                }));
            } else {
                println!(
                    "{count:>7}  {:<9} {megabytes:>8.0} {kpps:>8.0} {memory:>10} {load:>9.2} {alerts:>9}",
                    side.name()
                );
            }
        }
        if let ([ours, theirs], false) = (rates.as_slice(), options.json) {
            println!("{count:>7}  {:<9} {:>8.2}", "ratio", ours / theirs);
        }
    }
    if options.json {
        println!("{}", json!({"bytes": capture.bytes, "packets": capture.packets, "figures": figures}));
    }
    Ok(())
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "sakimori",
            Self::Suricata => "suricata",
        }
    }

    fn run(self, capture: &Path, rules: &Path, dir: &Path) -> Result<Used> {
        let out = dir.join("alerts");
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(binary("sakimori")?);
                command.args(["net", "replay"]).arg(capture).arg("--rules").arg(rules);
                command.stdout(fs::File::create(&out)?);
                command
            }
            Self::Suricata => {
                let logs = dir.join("suricata");
                let _ = fs::remove_dir_all(&logs);
                fs::create_dir_all(&logs)?;
                let mut command = Command::new("suricata");
                command.arg("-r").arg(capture).arg("-S").arg(rules).arg("-l").arg(&logs);
                command.args(["--runmode", "single", "-c", "/etc/suricata/suricata.yaml"]);
                for set in ["outputs.1.eve-log.enabled=no", "outputs.7.stats.enabled=no", "stats.enabled=no"] {
                    command.args(["--set", set]);
                }
                command.stdout(Stdio::null());
                command
            }
        };
        let used = used_by(command.stdin(Stdio::null()).stderr(Stdio::piped()))?;
        let alerts = match self {
            Self::Ours => lines(&out)?.saturating_sub(1),
            Self::Suricata => lines(&dir.join("suricata/fast.log")).unwrap_or(0),
        };
        Ok(Used { alerts, ..used })
    }
}

/// A capture's head and first packet.
fn beginning(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; traffic::HEAD.len() + 16];
    let mut file = fs::File::open(path)?;
    file.read_exact(&mut bytes)?;
    let length = bytes.last_chunk::<8>().and_then(|lengths| lengths.first_chunk::<4>().copied());
    let mut packet = vec![0; u32::from_le_bytes(length.context("a capture has a packet")?) as usize];
    file.read_exact(&mut packet)?;
    bytes.extend(packet);
    Ok(bytes)
}

fn lines(path: &Path) -> Result<u64> {
    Ok(fs::read(path)?.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// Runs a program to its end. Its processor time is what this process has waited for since; its memory is looked at as
/// long as it runs, of which the highest mark that the kernel keeps counts.
fn used_by(command: &mut Command) -> Result<Used> {
    let before = waited_for()?;
    let program = format!("{:?}", command.get_program());
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut errors = child.stderr.take();
    let reader = thread::Builder::new().name("errors".into()).spawn(move || {
        let mut text = String::new();
        let _ = errors.as_mut().map(|errors| errors.read_to_string(&mut text));
        text
    })?;
    let mut memory = 0;
    let ended = loop {
        let mark = fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        memory = memory.max(mark.unwrap_or(0) << 10);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = reader.join().unwrap_or_default();
    if !ended.success() {
        bail!("{program}: {}", text.lines().rev().take(5).collect::<Vec<_>>().join(" | "));
    }
    Ok(Used { seconds: waited_for()? - before, memory, alerts: 0 })
}
