//! `net`: the network engine without a manager, a queue or root: rules in the Suricata language over a capture file.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use sakimori_network::capture::Capture;
use sakimori_network::{Engine, RuleSet, Settings, eve};
use sakimori_sys::sandbox::{self, Sandbox};
use serde_json::{Value, json};

use super::net_keep;
use crate::output;

/// What is kept while a capture is read: flows and streams at their bounds.
const CONFINED: Sandbox = Sandbox { executable_memory: false, memory: 3 << 30, descriptors: 64 };

#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Judge the packets of a capture file; one ECS event a line
    #[command(after_help = "Examples:\n  sakimori net replay traffic.pcap --rules local.rules\n  \
        sakimori net replay traffic.pcap --rules a.rules b.rules --simulate-ips --json\n  \
        sakimori net replay traffic.pcap --rules all.rules --suricata-yaml /etc/suricata/suricata.yaml \
        --set stream.midstream=true\n  \
        sakimori net replay traffic.pcap --rules all.rules --eve - | jq 'select(.event_type == \"http\")'")]
    Replay(ReplayArgs),
    /// Network rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// The process that writes what `replay --keep-packets` keeps; started by that only
    #[command(hide = true)]
    KeepWriter {
        /// Where to
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Load rules and list each that cannot be, with file, line and reason
    #[command(
        after_help = "Examples:\n  sakimori net rules check local.rules\n  sakimori net rules check content/network"
    )]
    Check {
        /// Rule files, or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        how: Configuration,
    },
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The capture: pcap or pcapng
    file: PathBuf,
    /// Rule files, or folders of them
    #[arg(long, num_args = 1.., value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// As if packets were held until they are judged: drop and reject take effect
    #[arg(long)]
    simulate_ips: bool,
    /// Write alerts, transactions and flows as Suricata's EVE JSON, too; `-`: in the place of what is printed
    #[arg(long, value_name = "FILE|-", conflicts_with = "json")]
    eve: Option<PathBuf>,
    /// Write the packets of each alerted flow into this folder, as the agent keeps them: a pcap file a flow, of at most
    /// 1 MiB and 1,000 packets up to 10 seconds after the alert, at most 60 files an hour of the capture and 256 MiB in
    /// all; the alert's event names the file
    #[arg(long, value_name = "FOLDER")]
    keep_packets: Option<PathBuf>,
    #[command(flatten)]
    how: Configuration,
}

#[derive(Debug, Args)]
pub struct Configuration {
    /// An existing configuration; what has no meaning here is listed
    #[arg(long, value_name = "FILE")]
    suricata_yaml: Option<PathBuf>,
    /// A value that goes over it
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(command: &NetCommand, json: bool) -> Result<ExitCode> {
    match command {
        NetCommand::Replay(replay) => replay_file(replay, json),
        NetCommand::KeepWriter { folder } => net_keep::write(folder),
        NetCommand::Rules(RulesCommand::Check { files, how }) => check(files, how, json),
    }
}

impl Configuration {
    /// The settings. What is named and has no meaning here is told on standard error.
    fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::default();
        let yaml = self.suricata_yaml.as_deref().map(text).transpose()?.unwrap_or_default();
        let pairs: Result<Vec<(String, String)>> = self
            .set
            .iter()
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
                None => bail!("--set takes KEY=VALUE, such as stream.midstream=true; found {pair}"),
            })
            .collect();
        let given = settings.apply_yaml(&yaml, &pairs?)?;
        if !given.unused.is_empty() {
            eprintln!("no meaning here: {}", given.unused.join(", "));
        }
        // Files that it names lie beside it, as their reader has them.
        let beside = self.suricata_yaml.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let named = |file: &Option<String>| file.as_ref().map(|file| text(&beside.join(file)));
        if let Some(found) = named(&given.classification_file) {
            settings.load.classification = found.unwrap_or_else(left_out);
        }
        if let Some(found) = named(&given.threshold_file) {
            settings.load.thresholds = found.unwrap_or_else(left_out);
        }
        Ok(settings)
    }
}

/// A configuration from another machine names files that are not here.
fn left_out(error: anyhow::Error) -> String {
    eprintln!("left out: {error:#}");
    String::new()
}

fn text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files, and in the place of a folder those in it that end in `.rules`, by name.
fn rule_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|file| file.extension().is_some_and(|ending| ending == "rules"));
        found.sort();
        if found.is_empty() {
            bail!("{} holds no file that ends in .rules", path.display());
        }
        files.append(&mut found);
    }
    Ok(files)
}

/// Loads rule files; data sets that they name are looked for beside the first.
fn load(paths: &[PathBuf], settings: &Settings) -> Result<RuleSet> {
    let files = &rule_files(paths)?;
    let texts: Result<Vec<(String, String)>> =
        files.iter().map(|path| Ok((path.display().to_string(), text(path)?))).collect();
    let texts = texts?;
    let named: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let beside = files.first().and_then(|path| path.parent()).unwrap_or(Path::new("")).to_owned();
    let read = |path: &str| text(&beside.join(path)).ok();
    Ok(RuleSet::load(&named, &settings.load, &read))
}

fn check(files: &[PathBuf], how: &Configuration, json: bool) -> Result<ExitCode> {
    let rules = load(files, &how.settings()?)?;
    let refused = rules.refused.len();
    if json {
        let list: Vec<_> =
            rules.refused.iter().map(|one| json!({"file": one.file, "line": one.line, "reason": one.reason})).collect();
        output::json(&json!({"loaded": rules.len(), "refused": list}))?;
    } else {
        for one in &rules.refused {
            output::line(format!("{}:{}: {}", one.file, one.line, one.reason))?;
        }
        let all = rules.len() + refused;
        let share = if all == 0 { 100.0 } else { 100.0 * rules.len() as f64 / all as f64 };
        output::line(format!("{} of {all} rules load ({share:.1} %)", rules.len()))?;
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where EVE JSON goes, a record a line.
struct Eve {
    to: Box<dyn Write>,
    /// Flows that rules said something of.
    alerted: HashSet<u64>,
    lost: u64,
}

impl Eve {
    fn create(path: &Path) -> Result<Self> {
        let to: Box<dyn Write> = match path.to_str() {
            Some("-") => Box::new(std::io::stdout().lock()),
            _ => Box::new(std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        };
        Ok(Self { to: Box::new(BufWriter::new(to)), alerted: HashSet::new(), lost: 0 })
    }

    fn alert(&mut self, event: &Value) -> Result<()> {
        let Some(record) = eve::alert(event) else { return Ok(()) };
        self.alerted.extend(record.get("flow_id").and_then(Value::as_u64));
        Ok(writeln!(self.to, "{record}")?)
    }

    fn records(&mut self, engine: &mut Engine) -> Result<()> {
        let (records, lost) = engine.take_records();
        self.lost += lost;
        for mut record in records {
            let alerted =
                record.get("flow_id").and_then(Value::as_u64).is_some_and(|flow| self.alerted.contains(&flow));
            if let Some(flow) = record.get_mut("flow").and_then(Value::as_object_mut) {
                flow.insert("alerted".into(), alerted.into());
            }
            writeln!(self.to, "{record}")?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        if self.lost > 0 {
            eprintln!("{} transactions and flows are not in the EVE output: too many ended at once", self.lost);
        }
        Ok(self.to.flush()?)
    }
}

fn replay_file(replay: &ReplayArgs, json: bool) -> Result<ExitCode> {
    let mut settings = replay.how.settings()?;
    if replay.simulate_ips {
        settings.prevent();
    }
    let rules = load(&replay.rules, &settings)?;
    for one in &rules.refused {
        eprintln!("{}:{}: not loaded: {}", one.file, one.line, one.reason);
    }
    let shown = replay.file.display();
    let file = File::open(&replay.file).with_context(|| format!("cannot read {shown}"))?;
    let mut eve = replay.eve.as_deref().map(Eve::create).transpose()?;
    let mut keeping = replay.keep_packets.as_deref().map(net_keep::Keeping::begin).transpose()?;
    // An enemy may have written what is in it: from here on this process computes, and prints.
    sandbox::enter(&CONFINED).context("cannot give up what reading a capture does not need")?;
    let mut capture = Capture::open(file).with_context(|| format!("{shown} is no capture"))?;
    let mut engine = Engine::new(settings, Arc::new(rules));
    if eve.is_some() {
        engine.record();
    }
    let quiet = replay.eve.as_deref() == Some(Path::new("-"));
    let mut alerts = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut tell = |engine: &mut Engine,
                    alerts: &mut Vec<sakimori_network::Alert>,
                    keeping: &mut Option<net_keep::Keeping>|
     -> Result<()> {
        for alert in alerts.drain(..) {
            *counts.entry(alert.rule.sid.to_string()).or_default() += 1;
            let mut event = alert.event();
            if let Some(keeping) = keeping {
                keeping.alert(&alert, &mut event);
            }
            let event = serde_json::Value::Object(event.to_json());
            if let Some(eve) = &mut eve {
                eve.alert(&event)?;
            }
            if quiet {
                continue;
            }
            if json {
                output::line(event.to_string())?;
            } else {
                let part = |at: &str| event.pointer(at).map(|value| value.to_string()).unwrap_or_default();
                output::line(format!(
                    "{}  {}  {} → {}  {}",
                    part("/@timestamp").trim_matches('"'),
                    alert.rule.sid,
                    part("/source/ip").trim_matches('"'),
                    part("/destination/ip").trim_matches('"'),
                    alert.rule.msg
                ))?;
            }
        }
        if let Some(eve) = &mut eve {
            eve.records(engine)?;
        }
        Ok(())
    };
    let mut damaged = None;
    let mut number = 0;
    while let Some(frame) = capture.next() {
        match frame {
            Ok(frame) => {
                number += 1;
                engine.frame(&frame, number, &mut alerts);
                if let Some(keeping) = &mut keeping {
                    keeping.packet(&frame, &engine)?;
                }
                tell(&mut engine, &mut alerts, &mut keeping)?;
            }
            // What came before the damage is judged; the end is told.
            Err(error) => {
                damaged = Some(error);
                break;
            }
        }
    }
    engine.finish(&mut alerts);
    tell(&mut engine, &mut alerts, &mut keeping)?;
    let kept = keeping.map(net_keep::Keeping::end).transpose()?;
    if let Some(eve) = eve {
        eve.end()?;
    }
    if !json && !quiet {
        output::line(format!("{number} packets, {} alerts", counts.values().sum::<u64>()))?;
        if let Some(kept) = kept {
            output::line(kept)?;
        }
    }
    match damaged {
        Some(error) => bail!("{shown}: {error}"),
        None => Ok(ExitCode::SUCCESS),
    }
}
