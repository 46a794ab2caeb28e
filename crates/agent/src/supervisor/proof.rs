//! Proof of protection: harmless probes of each module that is on, at the start, once a day, and when asked.
//!
//! | module | probe | proven when |
//! |---|---|---|
//! | `log_inspection` | failed logins of a documentation address in a log of the probe's own | a rule makes an alert whose playbook orders a block |
//! | `block_address` | that block | the address is read back from the kernel, and gone after it is taken back |
//! | `antimalware` | the EICAR test file, written and opened by a process that is nobody special | the open is refused and the file is quarantined |
//! | `intrusion_prevention` | a request for a path of its own over loopback, through the queue | the engine drops it (or, where it only looks, sees it), and a harmless one is answered |
//! | `uplink` | the events of this run | the manager has confirmed them |
//!
//! What a probe causes carries `sakimori.probe` and leads to nothing beyond this host. A probe that fails is an alert of
//! its own, which people are told of. Results outlive a restart.

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sakimori_model::policy::{LogInput, Mode, Switch};
use sakimori_model::{Action, ActionState, Network, Timestamp, Value, field};
use sakimori_wire::status::ProofStatus;

use super::Supervisor;
use super::{Message, actions::Actions};
use crate::config::Config;
use crate::files::write_atomically;
use crate::spool;

/// Name of the input that reads the probe's log.
pub const INPUT: &str = "proof";
/// How long a probe may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// After a start, until the first probe: what it proves has to be up.
const FIRST: Duration = Duration::from_secs(20);
/// After a failure, until it is tried again.
const AGAIN: Duration = Duration::from_secs(900);
/// Failed logins that are written; more than any rule of ours asks for.
const ATTEMPTS: usize = 12;
/// The probe's log begins anew beyond this.
const MOST_LOG: u64 = 64 << 10;
/// Beginning of the test file's name.
const TEST_FILE: &str = ".sakimori-proof-";

/// Results, and the run that is under way.
pub struct Proof {
    file: PathBuf,
    results: BTreeMap<String, ProofStatus>,
    every: Option<Duration>,
    due: Option<Instant>,
    running: Option<Running>,
    runs: i64,
}

/// One run.
struct Running {
    began: Instant,
    at: Timestamp,
    /// Modules whose probe is not answered yet.
    open: BTreeSet<&'static str>,
    address: Network,
    /// The test file, and what the process that opened it saw.
    malware: Option<(PathBuf, Option<Result<bool, String>>)>,
    /// What became of the requests over loopback.
    network: network::Seen,
    /// Sequence of the event that began this run.
    sequence: u64,
}

impl Proof {
    /// Takes the results of former runs along.
    pub fn new(config: &Config, now: Timestamp) -> Self {
        let file = config.agent.state.join("proof.json");
        let results: BTreeMap<String, ProofStatus> =
            std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let hours = config.proof.every_hours;
        let every = (hours > 0).then(|| Duration::from_secs(u64::from(hours) * 3_600));
        // What was proven lately need not be proven again because of a restart.
        let last = results.values().map(|one| one.at).min();
        let past = last.map_or(Duration::MAX, |at| Duration::from_micros(u64::try_from(now.since(at)).unwrap_or(0)));
        let due = every.map(|every| Instant::now() + every.saturating_sub(past).max(FIRST));
        Self { file, results, every, due, running: None, runs: 0 }
    }

    /// What is known, for status.
    pub fn status(&self) -> Vec<ProofStatus> {
        self.results.values().cloned().collect()
    }

    /// A run as soon as the loop comes round.
    pub fn run_now(&mut self) {
        if self.running.is_none() {
            self.due = Some(Instant::now());
        }
    }

    /// Is a run under way, or due?
    pub fn is_running(&self) -> bool {
        self.running.is_some() || self.due.is_some_and(|due| due <= Instant::now())
    }

    /// When it has something to do.
    pub fn due(&self) -> Option<Instant> {
        match &self.running {
            Some(_) => Some(Instant::now() + Duration::from_millis(20)),
            None => self.due,
        }
    }

    /// Is this the test file of the run under way?
    pub fn wrote(&self, path: &str) -> bool {
        let test = self.running.as_ref().and_then(|running| running.malware.as_ref());
        test.is_some_and(|(file, _)| file.as_path() == Path::new(path))
    }

    /// The request over loopback was, or was not, answered.
    pub fn asked(&mut self, answered: Result<bool, String>) {
        if let Some(running) = &mut self.running {
            running.network.answered = Some(answered);
        }
    }

    /// The engine had the request, and dropped it or not.
    pub fn came_by(&mut self, dropped: bool) {
        if let Some(running) = &mut self.running {
            running.network.dropped = Some(dropped);
        }
    }

    /// What the process that opened the test file saw: was it let?
    pub fn tried(&mut self, opened: Result<bool, String>) {
        if let Some((_, seen)) = self.running.as_mut().and_then(|running| running.malware.as_mut()) {
            *seen = Some(opened);
        }
    }
}

/// The input that reads the probe's log.
pub fn input(config: &Config) -> Option<LogInput> {
    (config.proof.every_hours > 0).then(|| LogInput {
        name: INPUT.into(),
        source: "linux/auth".into(),
        file: Some(log(config).display().to_string()),
        journal: None,
        zone: Some("UTC".into()),
        probe: true,
    })
}

fn log(config: &Config) -> PathBuf {
    config.proof_folder().join("auth.log")
}

/// Makes the probe's log, empty where it was long.
///
/// # Errors
/// The disk says no.
pub fn prepare(config: &Config) -> Result<()> {
    let folder = config.proof_folder();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).context("cannot make the probe's folder")?;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log(config));
    let file = file.context("cannot make the probe's log")?;
    if file.metadata()?.len() > MOST_LOG {
        file.set_len(0)?;
    }
    Ok(())
}

impl Supervisor {
    /// Begins a run that is due, and looks at the one under way.
    pub(super) fn step_proof(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.proof.running.is_none() && self.proof.due.is_some_and(|due| due <= now) && self.stopping.is_none() {
            self.begin_proof()?;
        }
        let open = self.proof.running.as_ref().map(|running| running.open.clone()).unwrap_or_default();
        for module in open {
            let found = match module {
                "log_inspection" => self.logs_proven(),
                "block_address" => self.block_proven()?,
                "antimalware" => self.malware_proven()?,
                "intrusion_prevention" => self.network_proven(),
                _ => self.uplink_proven(),
            };
            let late = self.proof.running.as_ref().is_some_and(|running| running.began.elapsed() > PATIENCE);
            match found {
                Some(outcome) => self.answered(module, outcome),
                None if late => {
                    let reason = format!("nothing came of the probe in {} s: {}", PATIENCE.as_secs(), missed(module));
                    self.answered(module, Err(reason));
                }
                None => {}
            }
        }
        if self.proof.running.as_ref().is_some_and(|running| running.open.is_empty()) {
            self.end_proof()?;
        }
        Ok(())
    }

    fn begin_proof(&mut self) -> Result<()> {
        self.proof.due = None;
        self.proof.runs += 1;
        let policy = &self.policy.policy.modules;
        let mut open = BTreeSet::new();
        let logs = policy.log_inspection.state == Switch::On && self.config.proof.every_hours > 0;
        if logs {
            open.insert("log_inspection");
            if policy.block_address.state == Switch::On {
                open.insert("block_address");
            }
        }
        if policy.antimalware.state == Switch::On {
            open.insert("antimalware");
        }
        if policy.intrusion_prevention.state == Switch::On && self.config.proof.probed_port().is_some() {
            open.insert("intrusion_prevention");
        }
        if self.link.is_some() {
            open.insert("uplink");
        }
        // A module that is off is not proven any more; nobody is told of it as if it were.
        self.proof.results.retain(|module, _| open.contains(module.as_str()));
        let at = self.now();
        // Never the address of the run before: rules do not say the same of one address twice in a while.
        let turn = at.micros().div_euclid(1_000_000).wrapping_add(self.proof.runs.wrapping_mul(37));
        let host = u8::try_from(turn.rem_euclid(250)).unwrap_or(0) + 2;
        let address = Network::host(std::net::Ipv4Addr::new(203, 0, 113, host).into());
        let malware = open.contains("antimalware").then(|| self.test_file()).flatten();
        let sequence = self.spool.stream(spool::AGENT_STREAM).sequence + 1;
        self.proof.running = Some(Running {
            began: Instant::now(),
            at,
            open,
            address,
            malware: malware.map(|path| (path, None)),
            network: network::Seen::default(),
            sequence,
        });
        self.say("proof-started", "harmless probes of the modules that are on".into(), |event| {
            event.set(field::SAKIMORI_PROBE, true);
        });
        if logs && let Err(error) = self.write_log(&address, at) {
            self.answered("log_inspection", Err(format!("{error:#}")));
        }
        self.try_malware();
        self.try_network();
        Ok(())
    }

    fn write_log(&self, address: &Network, at: Timestamp) -> Result<()> {
        prepare(&self.config)?;
        let time = at.to_chrono().format("%b %e %H:%M:%S").to_string();
        let line = |number: usize| {
            format!(
                "{time} sakimori-proof sshd[{}]: Failed password for root from {address} port {} ssh2\n",
                4_000 + number,
                40_000 + number
            )
        };
        let mut file = OpenOptions::new().append(true).open(log(&self.config))?;
        file.write_all((0..ATTEMPTS).map(line).collect::<String>().as_bytes())?;
        Ok(())
    }

    /// A new name in the first folder that is protected.
    fn test_file(&self) -> Option<PathBuf> {
        let paths = &self.policy.policy.modules.antimalware.paths;
        let folder = paths.iter().map(PathBuf::from).find(|path| path.is_dir())?;
        Some(folder.join(format!("{TEST_FILE}{:016x}", rand::random::<u64>())))
    }

    /// Has a process that is nobody special write and open the test file. It may wait for a verdict, so in a thread.
    fn try_malware(&self) {
        let test = self.proof.running.as_ref().and_then(|running| running.malware.as_ref());
        let Some(path) = test.map(|(path, _)| path.clone()) else { return };
        let to = self.to.clone();
        let started = std::thread::Builder::new().name("proof".into()).spawn(move || {
            let outcome = try_open(&path);
            let _ = to.send(Message::Tried(outcome));
        });
        if let Err(error) = started {
            tracing::error!(%error, "cannot start a thread for a probe");
        }
    }

    /// The action of this run's address.
    fn probe_block(&self) -> Option<&Action> {
        let running = self.proof.running.as_ref()?;
        self.actions.newest(|action| {
            action.order.probe
                && action.planned_at >= running.at
                && sakimori_respond::wide::network(&action.order) == Some(running.address)
        })
    }

    fn logs_proven(&self) -> Option<Result<String, String>> {
        let action = self.probe_block()?;
        Some(Ok(format!("failed logins in the probe's log were an alert of rule {}", action.order.cause.rule)))
    }

    fn block_proven(&mut self) -> Result<Option<Result<String, String>>> {
        let Some(action) = self.probe_block() else { return Ok(None) };
        let (id, state, reason) = (action.order.id.clone(), action.state, action.reason.clone());
        let Some(address) = self.proof.running.as_ref().map(|running| running.address) else { return Ok(None) };
        let looks = self.policy.policy.modules.block_address.mode == Mode::Detect;
        Ok(match state {
            ActionState::Done => {
                let there = self.actions.in_kernel(&address);
                let events = self.actions.undo_for(vec![id], "the probe is answered", self.now())?;
                self.spool_actions(events)?;
                let gone = self.actions.in_kernel(&address).map(|there| !there);
                Some(match (there, gone) {
                    (Ok(true), Ok(true)) => Ok("a block was read back from the kernel and taken back".to_owned()),
                    (Ok(false), _) => Err("the ledger says blocked, and the kernel does not have it".to_owned()),
                    (_, Ok(false)) => Err("the block was taken back, and the kernel still has it".to_owned()),
                    (Err(error), _) | (_, Err(error)) => Err(error),
                })
            }
            ActionState::NoEffect if looks => Some(Ok(reason.unwrap_or_else(|| "it only looks".to_owned()))),
            state if state.is_final() => {
                Some(Err(format!("the block is {}: {}", state.name(), reason.unwrap_or_default())))
            }
            _ => None,
        })
    }

    fn malware_proven(&mut self) -> Result<Option<Result<String, String>>> {
        let Some(running) = &self.proof.running else { return Ok(None) };
        let Some((path, seen)) = &running.malware else {
            return Ok(Some(Err("none of the paths that the policy protects is a folder of this host".to_owned())));
        };
        let (path, began) = (path.clone(), running.began);
        let looks = self.policy.policy.modules.antimalware.mode == Mode::Detect;
        let opened = match seen {
            None => return Ok(None),
            Some(Err(reason)) => return Ok(Some(Err(reason.clone()))),
            Some(Ok(opened)) => *opened,
        };
        if opened && !looks {
            let _ = std::fs::remove_file(&path);
            return Ok(Some(Err(format!("the test file {} could be opened", path.display()))));
        }
        let target = path.display().to_string();
        let action = self.actions.newest(|action| action.order.probe && action.order.target.to_string() == target);
        let Some(action) = action else { return Ok(None) };
        let milliseconds = began.elapsed().as_millis();
        Ok(match (action.state, action.former.clone(), action.reason.clone()) {
            (ActionState::Done, Some(item), _) => {
                let events = self.actions.delete(&self.config, &item, "the probe", self.now())?;
                self.spool_actions(events)?;
                Some(Ok(format!("the test file was refused and quarantined within {milliseconds} ms")))
            }
            (ActionState::NoEffect, _, reason) if looks => {
                let _ = std::fs::remove_file(&path);
                Some(Ok(reason.unwrap_or_else(|| "it only looks".to_owned())))
            }
            (state, _, reason) if state.is_final() => {
                let _ = std::fs::remove_file(&path);
                let reason = reason.unwrap_or_default();
                Some(Err(format!("the test file was refused, and its quarantine is {}: {reason}", state.name())))
            }
            _ => None,
        })
    }

    fn uplink_proven(&self) -> Option<Result<String, String>> {
        let sequence = self.proof.running.as_ref()?.sequence;
        let confirmed = self.spool.stream(spool::AGENT_STREAM).received >= sequence;
        confirmed.then(|| Ok("the manager has the events of this run".to_owned()))
    }

    fn answered(&mut self, module: &'static str, outcome: Result<String, String>) {
        let Some(running) = &mut self.proof.running else { return };
        if !running.open.remove(module) {
            return;
        }
        let took_ms = u64::try_from(running.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (at, former) = (running.at, self.proof.results.get(module).cloned());
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        let proven = if ok { Some(at) } else { former.and_then(|former| former.proven) };
        let status = ProofStatus { module: module.into(), ok, at, proven, took_ms, detail: detail.clone() };
        self.proof.results.insert(module.into(), status);
        if ok {
            self.say("proof", format!("{module} is proven: {detail}"), |event| {
                event.set(field::SAKIMORI_PROBE, true);
                event.set(field::SAKIMORI_MODULE, module);
                event.set(field::EVENT_OUTCOME, "success");
            });
        } else {
            self.tell_failure(module, &detail, at);
        }
    }

    /// An alert of its own, of which people are told as of any other.
    fn tell_failure(&mut self, module: &'static str, detail: &str, at: Timestamp) {
        let id = sakimori_respond::wide::order_id(
            &at.to_string(),
            "proof-failing",
            &sakimori_model::action::Target::Channel(module.into()),
            &self.agent,
        );
        self.say("proof", format!("{module} is not proven: {detail}"), |event| {
            event.set(field::EVENT_KIND, "alert");
            event.set(field::EVENT_DATASET, "sakimori.alert");
            event.set(field::EVENT_SEVERITY, sakimori_model::rule::Severity::High.number());
            event.set(field::EVENT_OUTCOME, "failure");
            event.set(field::RULE_ID, "proof-failing");
            event.set(field::RULE_NAME, format!("The daily probe of {module} failed"));
            event.set(field::SAKIMORI_MODULE, module);
            event.set(field::SAKIMORI_ALERT_ID, id);
            event.set(field::SAKIMORI_ALERT_STATUS, "open");
            event.set(field::SAKIMORI_ALERT_SCOPE, "host");
            event.set(field::SAKIMORI_ALERT_COUNT, Value::Long(1));
        });
    }

    fn end_proof(&mut self) -> Result<()> {
        self.proof.running = None;
        let failed = self.proof.results.values().any(|one| !one.ok);
        self.proof.due = self.proof.every.map(|every| {
            // Not all hosts at the same moment.
            let spread = every / 20;
            let jitter = spread.mul_f64(rand::random::<f64>());
            Instant::now() + if failed { AGAIN.min(every) } else { every - spread + jitter }
        });
        write_atomically(&self.proof.file, &serde_json::to_vec(&self.proof.results)?, 0o600)?;
        self.report()
    }
}

/// What to look at, where a probe of this module came to nothing.
fn missed(module: &str) -> &'static str {
    match module {
        "log_inspection" => "is the probe's log read, and does the bundle have a rule for ssh guessing?",
        "block_address" => "does a playbook of this host block who guesses passwords?",
        "antimalware" => "does a playbook of this host quarantine what is found?",
        "intrusion_prevention" => "does a worker judge what the kernel queues?",
        _ => "is the manager reached?",
    }
}

impl Actions {
    /// Is this address in the kernel's set now?
    fn in_kernel(&mut self, address: &Network) -> Result<bool, String> {
        self.blocked().map(|all| all.contains(address)).map_err(|error| error.to_string())
    }
}

/// Starts this program as a process that writes and opens the test file: was it let?
fn try_open(path: &Path) -> Result<bool, String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("probe-malware").arg(path).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let out = command.stderr(Stdio::piped()).output().map_err(|error| format!("cannot start the probe: {error}"))?;
    match out.status.code() {
        Some(0) => Ok(true),
        Some(REFUSED) => Ok(false),
        _ => Err(format!("the probe could not write its test file: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// The probe's exit code where the open was refused.
const REFUSED: i32 = 13;

/// Writes the EICAR test file (<https://www.eicar.org>, 68 bytes that harm nobody) and opens it. What
/// `sakimori-agent probe-malware` runs.
///
/// # Errors
/// It cannot be written.
pub fn write_and_open(path: &Path) -> Result<u8> {
    // In pieces, so that no scanner takes this program for the test file.
    let test = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE", "!$H+H*"].concat();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(test.as_bytes())?;
    drop(file);
    Ok(if File::open(path).is_ok() { 0 } else { u8::try_from(REFUSED)? })
}
