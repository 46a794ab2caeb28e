//! The `logs` worker as the supervisor sees it: started with rules, detection state and the batches that the
//! state does not cover; fed with opened files; its batches spooled and credited.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use anyhow::Result;
use sakimori_model::policy::Policy;
use sakimori_model::{Order, field};
use sakimori_sys::cgroup::Group;
use sakimori_wire::ipc::{FromLogs, LogsStart, Snapshot, ToLogs};
use sakimori_wire::status::{InputStatus, ModuleStatus, RulesStatus};

use super::bundles::Files;
use super::inputs::{Input, Inputs, MAX_INPUTS, Seen};
use super::proof;
use super::saver::Saver;
use super::watch::{Folders, growth_queue};
use super::worker::{self, Backoff, Kind, Process};
use super::{Message, Supervisor};
use crate::config::Config;
use crate::modules::log_inspection::DESCRIPTOR;
use crate::spool::{Replay, Spool, is_own};

/// Batches that may be unspooled at a time.
pub const CREDITS: u32 = 8;

/// Worker, inputs and what is owed to them.
pub struct Logs {
    /// Control group of the worker and of `journalctl`.
    group: Option<Group>,
    process: Option<Process>,
    generation: u64,
    backoff: Backoff,
    inputs: Inputs,
    queue: Option<OwnedFd>,
    folders: Folders,
    saver: Saver,
    /// Orders of batches that are spooled.
    orders: Vec<Order>,
    /// Spooled batches whose credit is held back.
    credits: Vec<(String, u64)>,
    waiting: bool,
    /// Has the worker its rules and its state of before, and reads?
    live: bool,
    /// Are rules on their way to it that it has not answered?
    loading: bool,
    rules: u32,
    errors: Vec<String>,
    problem: Option<String>,
    to: SyncSender<Message>,
}

impl Logs {
    /// Nothing is started yet.
    ///
    /// # Errors
    /// Where its threads cannot be started.
    pub fn new(config: &Config, group: Option<Group>, to: SyncSender<Message>) -> Result<Self> {
        Ok(Self {
            group,
            process: None,
            generation: 0,
            backoff: Backoff::default(),
            inputs: BTreeMap::new(),
            queue: None,
            folders: Folders::start(to.clone())?,
            saver: Saver::start(&config.agent.state, to.clone())?,
            orders: Vec::new(),
            credits: Vec::new(),
            waiting: false,
            live: false,
            loading: false,
            rules: 0,
            errors: Vec::new(),
            problem: None,
            to,
        })
    }

    /// Sends a message, where the worker runs.
    pub fn send(&self, message: &ToLogs) {
        if let Some(process) = &self.process {
            process.send(message, Vec::new());
        }
    }

    /// Sends rules; until the worker answers, the former ones go on.
    pub fn send_rules(&mut self, message: &ToLogs) {
        self.loading = self.process.is_some();
        self.send(message);
    }

    /// Does the worker read, with the rules that it was sent last?
    pub fn is_settled(&self) -> bool {
        self.live && !self.loading
    }

    /// Orders of batches that were spooled since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Gives credits back, where the spool has room.
    pub fn credit(&mut self, room: bool) {
        self.waiting = !room;
        if !room {
            return;
        }
        for (stream, sequence) in std::mem::take(&mut self.credits) {
            self.send(&ToLogs::Taken { stream, sequence });
        }
    }

    /// Does the worker run?
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// When the worker is started again.
    pub fn restart_due(&self) -> Option<Instant> {
        self.backoff.due()
    }

    /// Says stop: the worker sends a last snapshot and ends. One that still loads its rules has nothing to save, and is
    /// not waited for.
    pub fn stop(&mut self) {
        self.backoff.clear();
        if self.live {
            self.send(&ToLogs::Stop);
        } else {
            self.kill();
        }
    }

    /// Ends the worker at once.
    pub fn kill(&self) {
        if let Some(process) = &self.process {
            process.kill();
        }
    }

    /// The worker ended: how, unless that was wanted.
    pub fn gone(&mut self, generation: u64, stopping: bool) -> Option<String> {
        if generation != self.generation {
            return None;
        }
        let (reason, healthy) = self.process.take()?.end();
        self.forget();
        if stopping {
            return None;
        }
        self.backoff.ended(healthy);
        self.problem = Some(reason.clone());
        Some(reason)
    }

    fn forget(&mut self) {
        self.credits.clear();
        self.queue = None;
        self.live = false;
        self.loading = false;
        for input in self.inputs.values_mut() {
            input.forget();
        }
    }

    /// State of the module.
    pub fn status(&self, policy: &Policy) -> ModuleStatus {
        let (state, detail) = match (&self.problem, (DESCRIPTOR.is_on)(policy)) {
            (_, false) => ("off", String::new()),
            (Some(problem), true) => ("failing", problem.clone()),
            (None, true) => (
                "on",
                match self.errors.first() {
                    None => format!("{} rules", self.rules),
                    Some(first) => {
                        format!("{} rules; {} did not load, the first: {first}", self.rules, self.errors.len())
                    }
                },
            ),
        };
        let rules = (state == "on").then(|| RulesStatus::new(self.rules, &self.errors));
        ModuleStatus { id: DESCRIPTOR.id.into(), state: state.into(), detail, restarts: self.backoff.restarts(), rules }
    }

    /// State of the inputs.
    pub fn input_status(&self, spool: &Spool) -> Vec<InputStatus> {
        self.inputs.values().map(|input| input.status(spool, self.live, self.waiting)).collect()
    }
}

impl Supervisor {
    /// The policy changed, or the agent starts.
    pub(super) fn apply_logs(&mut self) -> Result<()> {
        let wanted = &self.policy.policy.modules.log_inspection;
        if !(DESCRIPTOR.is_on)(&self.policy.policy) {
            self.logs.inputs.clear();
            self.logs.backoff.clear();
            if let Some(process) = self.logs.process.take() {
                self.logs.generation += 1;
                process.send(&ToLogs::Stop, Vec::new());
                process.end();
                self.logs.forget();
            }
            return Ok(());
        }
        let mut inputs = Inputs::new();
        let own = proof::input(&self.config);
        if own.is_some() {
            proof::prepare(&self.config)?;
        }
        let wanted = wanted.sources.iter().filter(|input| !is_own(&input.name) && input.name != proof::INPUT);
        for input in wanted.take(MAX_INPUTS).chain(&own) {
            let kept = self.logs.inputs.remove(&input.name).filter(|old| old.input == *input);
            inputs
                .insert(input.name.clone(), kept.unwrap_or_else(|| Input::new(input.clone(), self.logs.group.clone())));
        }
        let gone: Vec<String> = self.logs.inputs.keys().cloned().collect();
        for name in gone {
            self.logs.send(&ToLogs::Close { name });
        }
        self.logs.inputs = inputs;
        let proxies = self.policy.policy.response.trusted_proxies.clone();
        if self.logs.process.is_some() {
            self.logs.send(&ToLogs::Proxies(proxies));
            self.look_at_inputs()
        } else {
            self.start_logs()
        }
    }

    /// What a worker is told first.
    pub(super) fn logs_start(&self, content: (u64, Files)) -> LogsStart {
        LogsStart {
            agent: self.agent.clone(),
            host_name: self.facts.name.clone(),
            host_id: self.facts.id.clone(),
            zone: self.facts.zone.clone(),
            bundle: content.0,
            files: content.1,
            proxies: self.policy.policy.response.trusted_proxies.clone(),
            credits: CREDITS,
            history_seconds: self.config.log_inspection.history_seconds,
        }
    }

    /// Starts the worker; where that fails it is tried again later.
    pub(super) fn start_logs(&mut self) -> Result<()> {
        self.logs.backoff.clear();
        if let Err(error) = self.try_start_logs() {
            self.logs.problem = Some(format!("{error:#}"));
            self.logs.backoff.ended(false);
            tracing::error!(error = format!("{error:#}"), "cannot start the logs worker");
        }
        Ok(())
    }

    fn try_start_logs(&mut self) -> Result<()> {
        let queue = growth_queue()?;
        self.logs.generation += 1;
        let (generation, to) = (self.logs.generation, self.logs.to.clone());
        let process = worker::spawn(Kind::Logs, self.logs.group.clone())?.run(move |message: Option<FromLogs>| {
            let message = match message {
                Some(message) => Message::Logs(generation, message),
                None => Message::LogsGone(generation),
            };
            to.send(message).is_ok()
        })?;
        tracing::debug!(pid = process.pid(), "the logs worker runs");
        let snapshot = self.logs.saver.load().filter(|snapshot| self.fits(snapshot));
        let covers = snapshot.as_ref().map(|snapshot| snapshot.covers.clone()).unwrap_or_default();
        let start = self.logs_start(self.bundles.current());
        process.send(&ToLogs::Start(Box::new(start)), vec![queue.try_clone()?]);
        if let Some(snapshot) = snapshot {
            process.send(&ToLogs::Restore(snapshot), Vec::new());
        }
        process.replay(Replay::new(&self.spool, &covers));
        process.send(&ToLogs::Live, Vec::new());
        self.logs.process = Some(process);
        self.logs.queue = Some(queue);
        self.look_at_inputs()
    }

    /// Does a snapshot belong to this spool? One that covers more than was ever spooled does not.
    fn fits(&self, snapshot: &Snapshot) -> bool {
        let fits = snapshot.covers.iter().all(|(name, sequence)| self.spool.stream(name).sequence >= *sequence);
        if !fits {
            tracing::warn!("the detection snapshot is of another spool and is left out");
            self.logs.saver.forget();
        }
        fits
    }

    /// Looks at every input: what appeared, what was rotated.
    pub(super) fn look_at_inputs(&mut self) -> Result<()> {
        self.logs.folders.looked();
        let now = self.now();
        let mut seen = Vec::new();
        let Logs { inputs, queue: Some(queue), process: Some(process), folders, .. } = &mut self.logs else {
            return Ok(());
        };
        for (name, input) in inputs.iter_mut() {
            if let Some(path) = input.path() {
                folders.watch(&path);
            }
            let stream = self.spool.stream(name);
            if let Some((message, descriptors)) = input.look(&stream, queue, now, &mut seen) {
                process.send(&message, descriptors);
            }
        }
        self.tell_seen(seen);
        Ok(())
    }

    fn tell_seen(&mut self, seen: Vec<Seen>) {
        for one in seen {
            match one {
                Seen::Appeared(name) => self.say("input-appeared", format!("log input {name} is read"), |event| {
                    event.set(field::SAKIMORI_STREAM, name);
                }),
                Seen::Absent(name, reason) => {
                    self.say("input-absent", format!("log input {name} is absent: {reason}"), |event| {
                        event.set(field::SAKIMORI_STREAM, name);
                    });
                }
                Seen::Lost(name, cause) => {
                    let text = format!("log input {name}: the rest of a former file is not there any more ({cause})");
                    self.say("input-lost", text, |event| {
                        event.set(field::SAKIMORI_STREAM, name);
                        event.set(field::SAKIMORI_LOSS_CAUSE, cause);
                    });
                }
            }
        }
    }

    /// A message of the worker.
    pub(super) fn on_logs(&mut self, generation: u64, message: FromLogs) -> Result<()> {
        if generation != self.logs.generation {
            return Ok(());
        }
        match message {
            FromLogs::Ready { rules, errors } => {
                self.logs.problem = None;
                self.logs.loading = false;
                self.logs.rules = rules;
                for error in errors.iter().take(100) {
                    self.say("rule-refused", error.clone(), |_| {});
                }
                self.logs.errors = errors;
                Ok(())
            }
            FromLogs::Batch { stream, sequence, bytes, count: _, orders } => {
                self.take_batch(stream, sequence, &bytes, orders)
            }
            FromLogs::Cut { name, files } => {
                let now = self.now();
                let stream = self.spool.stream(&name);
                let mut seen = Vec::new();
                let Logs { inputs, queue: Some(queue), process: Some(process), .. } = &mut self.logs else {
                    return Ok(());
                };
                let found = inputs.get_mut(&name).and_then(|input| input.cut(&files, &stream, queue, now, &mut seen));
                if let Some((message, descriptors)) = found {
                    process.send(&message, descriptors);
                }
                self.tell_seen(seen);
                Ok(())
            }
            FromLogs::Snapshot(snapshot) => {
                // Never ahead of what is durable: what it covers will not be read again.
                if self.spool.try_sync()? && self.fits(&snapshot) {
                    self.logs.saver.save(snapshot);
                }
                Ok(())
            }
            FromLogs::Counters(counters) => {
                self.logs.live = true;
                for one in counters {
                    if let Some(input) = self.logs.inputs.get_mut(&one.name) {
                        input.count(one);
                    }
                }
                Ok(())
            }
        }
    }

    fn take_batch(&mut self, stream: String, sequence: u64, bytes: &[u8], mut orders: Vec<Order>) -> Result<()> {
        if !self.logs.inputs.contains_key(&stream) {
            // Closed by a policy while the batch was on its way; its position stays where it was.
            self.logs.credits.push((stream, sequence));
            return Ok(());
        }
        match self.spool_of_worker(&stream, sequence, bytes, &mut orders) {
            Ok(()) => {
                self.logs.orders.append(&mut orders);
                self.logs.credits.push((stream, sequence));
            }
            Err(error) => {
                // Nothing of it is kept; a new worker reads the lines again.
                tracing::error!(error = format!("{error:#}"), "a batch of the logs worker is not spooled");
                self.logs.kill();
                self.logs.generation += 1;
                if let Some(process) = self.logs.process.take() {
                    process.end();
                }
                self.logs.forget();
                self.logs.backoff.ended(false);
                self.logs.problem = Some(format!("{error:#}"));
                self.say("module-crashed", format!("log_inspection: {error:#}"), |event| {
                    event.set(field::SAKIMORI_MODULE, "log_inspection");
                });
            }
        }
        Ok(())
    }
}
