//! Intrusion prevention as the supervisor runs it: for each queue a pump, which outlives this process, and a `network`
//! worker; the rules of the kernel that send packets there; the alerts that come back.
//!
//! Rules are tried first in a worker that is thrown away, in a thread beside the loop. Then the pumps are there, then
//! the kernel's rules, then the workers. When only rules or modes change, the workers that run get them and no packet
//! waits. A worker that ends is started again; meanwhile its pump answers by policy. Switched off, or when the agent
//! stops in good order, the kernel's tables go and the pumps end; when the agent is killed they stay.

mod figures;
mod placing;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use anyhow::{Context, Result};
use sakimori_host::keeper::pump_message::{Count, FromPump, ToPump};
use sakimori_host::queue_packets;
use sakimori_model::policy::{IntrusionPrevention as Settings, KeepPackets};
use sakimori_model::{Order, field};
use sakimori_sys::cgroup::Group;
use sakimori_sys::channel::Channel;
use sakimori_wire::ipc_network::{FromNetwork, NetworkCounters, NetworkRules, NetworkStart, ToNetwork};

use placing::{frame_of, put_in_place, rules_of, try_rules};

use super::packets::PacketWriter;
use super::worker::{self, Backoff, Kind, Process};
use super::{Message, Supervisor, pump};
use crate::config::Config;
use crate::modules::intrusion_prevention::DESCRIPTOR;
use crate::spool::network_stream;

/// Batches of one worker that may be unspooled at a time.
const CREDITS: u32 = 8;

/// What threads tell the loop.
pub enum Told {
    /// Rules were tried and all is in place: a connection to each pump. Or it failed.
    InPlace(u64, Result<(Vec<Channel>, NetworkRules)>),
    /// Other rules were tried.
    Tried(u64, Result<NetworkRules>),
    /// Of a pump.
    Pump(u64, usize, FromPump, Vec<OwnedFd>),
    /// A pump is gone.
    PumpGone(u64),
    /// Of a worker.
    Worker(u64, usize, u64, Box<FromNetwork>),
    /// A worker is gone.
    WorkerGone(u64, usize, u64),
}

/// The module.
pub struct IntrusionPrevention {
    config: Config,
    /// Control groups of workers and of pumps.
    groups: (Option<Group>, Option<Group>),
    to: SyncSender<Message>,
    /// What is in effect, or is being put into effect.
    settings: Option<Settings>,
    /// What is in the kernel may not be what was put there.
    doubtful: bool,
    bundle: u64,
    rules: Option<NetworkRules>,
    lanes: Vec<Lane>,
    /// Counts starts of the whole.
    generation: u64,
    problem: Option<String>,
    backoff: Backoff,
    loaded: (u32, u32, Vec<String>),
    orders: Vec<Order>,
    /// Figures of workers that ended.
    before: NetworkCounters,
    /// Packets of alerted flows on their way to the disk.
    packets: PacketWriter,
    /// Packets by policy and overruns that were told, and when.
    told: (u64, Option<Instant>),
}

/// One queue.
struct Lane {
    pump: Channel,
    worker: Option<Process>,
    /// The worker has the ring.
    judging: bool,
    /// Counts its workers.
    number: u64,
    backoff: Backoff,
    /// Spooled batches whose credit is held back.
    credits: u32,
    counters: NetworkCounters,
    pumped: BTreeMap<Count, u64>,
}

impl IntrusionPrevention {
    /// Touches nothing. `groups`: control groups of the workers, and of the pumps.
    pub fn new(config: &Config, groups: (Option<Group>, Option<Group>), to: SyncSender<Message>) -> Self {
        Self {
            config: config.clone(),
            groups,
            to,
            settings: None,
            doubtful: false,
            bundle: 0,
            rules: None,
            lanes: Vec::new(),
            generation: 0,
            problem: None,
            backoff: Backoff::default(),
            loaded: (0, 0, Vec::new()),
            orders: Vec::new(),
            before: NetworkCounters::default(),
            packets: PacketWriter::new(),
            told: (0, None),
        }
    }

    /// Orders of batches that were spooled since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// The next time that the policy is applied the kernel's rules are put there again: while the agent hung, somebody may
    /// have taken them away to stop all answers.
    pub fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Gives credits back, where the spool has room.
    pub fn credit(&mut self, room: bool) {
        for lane in self.lanes.iter_mut().filter(|_| room) {
            for _ in 0..std::mem::take(&mut lane.credits) {
                lane.send(&ToNetwork::Taken, Vec::new());
            }
        }
    }

    /// When something is to be started again.
    pub fn restart_due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.backoff.due()).chain(self.backoff.due()).min()
    }

    /// The agent ends in good order.
    pub fn leave(&mut self) {
        if self.is_up() {
            self.take_down();
        }
    }

    /// Takes everything away: a module that is off leaves nothing behind.
    fn take_down(&mut self) {
        self.generation += 1;
        self.settings = None;
        self.backoff.clear();
        self.problem = None;
        let table = &self.config.intrusion_prevention.table;
        if let Err(error) = queue_packets::remove(table) {
            tracing::error!(%error, "the queue rules are left");
        }
        for mut lane in std::mem::take(&mut self.lanes) {
            let _ = lane.pump.send(&ToPump::End.encode(), &[]);
            lane.end();
        }
        // Those of a former agent that was killed.
        pump::end_all(&self.config);
    }

    /// Is there something to take away, or was something left by an agent that was killed?
    fn is_up(&self) -> bool {
        self.settings.is_some() || pump::any(&self.config)
    }
}

impl Lane {
    fn send(&self, message: &ToNetwork, files: Vec<OwnedFd>) {
        if let Some(worker) = &self.worker {
            worker.send(message, files);
        }
    }

    fn end(&mut self) -> Option<(String, bool)> {
        self.credits = 0;
        self.judging = false;
        self.worker.take().map(Process::end)
    }
}

impl Supervisor {
    /// The policy or the bundle changed, or the module is to be started again.
    pub(super) fn apply_intrusion_prevention(&mut self) {
        let wanted = self.policy.policy.modules.intrusion_prevention.clone();
        if !(DESCRIPTOR.is_on)(&self.policy.policy) {
            if self.intrusion_prevention.is_up() {
                self.intrusion_prevention.take_down();
            }
            return;
        }
        let number = self.bundles.number();
        let proxies = self.policy.policy.response.trusted_proxies.clone();
        let module = &mut self.intrusion_prevention;
        let doubtful = std::mem::take(&mut module.doubtful);
        let same = module.settings.as_ref() == Some(&wanted) && module.bundle == number && !doubtful;
        let running = !module.lanes.is_empty() && module.problem.is_none();
        // One that does not judge yet is told with its start.
        for lane in module.lanes.iter().filter(|lane| lane.judging) {
            lane.send(&ToNetwork::Proxies(proxies.clone()), Vec::new());
        }
        if same && module.backoff.due().is_none() && module.problem.is_none() {
            return;
        }
        let only_rules =
            running && !doubtful && module.settings.as_ref().is_some_and(|now| frame_of(now) == frame_of(&wanted));
        module.backoff.clear();
        module.settings = Some(wanted.clone());
        module.bundle = number;
        let rules = rules_of(&wanted, self.bundles.current(), self.config.proof.probed_port());
        let start = NetworkStart { rules, ..self.network_start(0) };
        let module = &mut self.intrusion_prevention;
        let (to, config, groups) = (module.to.clone(), module.config.clone(), module.groups.clone());
        if !only_rules {
            module.generation += 1;
            for mut lane in std::mem::take(&mut module.lanes) {
                lane.end();
            }
        }
        let generation = module.generation;
        let begun = std::thread::Builder::new().name("network".into()).spawn(move || {
            let tried = try_rules(&start, groups.0);
            let told = if only_rules {
                Told::Tried(generation, tried.map(|()| start.rules))
            } else {
                let placed = tried.and_then(|()| put_in_place(&config, &wanted, groups.1.as_ref()));
                Told::InPlace(generation, placed.map(|pumps| (pumps, start.rules)))
            };
            let _ = to.send(Message::Network(told));
        });
        if let Err(error) = begun {
            module.problem = Some(format!("cannot start a thread: {error}"));
        }
    }

    fn network_start(&self, lane: usize) -> NetworkStart {
        let stream = network_stream(lane);
        let state = self.spool.stream(&stream);
        NetworkStart {
            agent: self.agent.clone(),
            host_name: self.facts.name.clone(),
            host_id: self.facts.id.clone(),
            stream,
            next_sequence: state.sequence + 1,
            next_event: state.next_event,
            losses: state.losses,
            credits: CREDITS,
            proxies: self.policy.policy.response.trusted_proxies.clone(),
            rules: NetworkRules {
                bundle: 0,
                files: Vec::new(),
                prevent: false,
                overrides: Vec::new(),
                trial: Vec::new(),
                probe: None,
                keep: KeepPackets::default(),
            },
        }
    }

    /// Something of the module.
    pub(super) fn network_told(&mut self, told: Told) -> Result<()> {
        let generation = self.intrusion_prevention.generation;
        match told {
            Told::InPlace(of, placed) if of == generation => self.in_place(placed),
            Told::Tried(of, tried) if of == generation => self.rules_tried(tried),
            Told::Pump(of, lane, message, files) if of == generation => self.of_pump(lane, message, files),
            Told::PumpGone(of) if of == generation => {
                self.network_failed("a pump ended; packets go as the kernel's rule says".into());
            }
            Told::Worker(of, lane, number, message) if of == generation => self.of_worker(lane, number, *message)?,
            Told::WorkerGone(of, lane, number) if of == generation => self.network_worker_gone(lane, number),
            _ => {}
        }
        Ok(())
    }

    fn in_place(&mut self, placed: Result<(Vec<Channel>, NetworkRules)>) {
        let (pumps, rules) = match placed {
            Ok(placed) => placed,
            Err(error) => return self.network_failed(format!("{error:#}")),
        };
        let module = &mut self.intrusion_prevention;
        module.problem = None;
        module.rules = Some(rules);
        let (generation, to) = (module.generation, module.to.clone());
        for (at, pump) in pumps.into_iter().enumerate() {
            let to = to.clone();
            let told = pump::listen(&pump, move |came| {
                let told = match came {
                    Some((message, files)) => Told::Pump(generation, at, message, files),
                    None => Told::PumpGone(generation),
                };
                to.send(Message::Network(told)).is_ok()
            });
            if let Err(error) = told {
                module.problem = Some(format!("cannot listen to a pump: {error}"));
            }
            module.lanes.push(Lane {
                pump,
                worker: None,
                judging: false,
                number: 0,
                backoff: Backoff::default(),
                credits: 0,
                counters: NetworkCounters::default(),
                pumped: BTreeMap::new(),
            });
        }
        for at in 0..self.intrusion_prevention.lanes.len() {
            self.start_network_worker(at);
        }
    }

    /// It cannot go on as a whole; it is tried again later. What the kernel does meanwhile is the policy's.
    fn network_failed(&mut self, reason: String) {
        let module = &mut self.intrusion_prevention;
        if self.stopping.is_some() || module.settings.is_none() {
            return;
        }
        for mut lane in std::mem::take(&mut module.lanes) {
            lane.end();
        }
        module.generation += 1;
        module.problem = Some(reason.clone());
        module.backoff.ended(false);
        self.say("module-failing", format!("intrusion_prevention: {reason}"), |event| {
            event.set(field::SAKIMORI_MODULE, DESCRIPTOR.id);
        });
    }

    fn rules_tried(&mut self, tried: Result<NetworkRules>) {
        match tried {
            // The former rules go on.
            Err(error) => self.say("rules-refused", format!("intrusion_prevention: {error:#}"), |event| {
                event.set(field::SAKIMORI_MODULE, DESCRIPTOR.id);
            }),
            Ok(rules) => {
                let module = &mut self.intrusion_prevention;
                module.rules = Some(rules.clone());
                for lane in &mut module.lanes {
                    if lane.judging {
                        lane.send(&ToNetwork::Rules(rules.clone()), Vec::new());
                    } else {
                        // It is loading the former ones: another in its place.
                        lane.end();
                        lane.number += 1;
                        lane.backoff.ended(true);
                    }
                }
            }
        }
    }

    fn of_pump(&mut self, at: usize, message: FromPump, files: Vec<OwnedFd>) {
        match message {
            FromPump::Attached => {
                let proxies = self.policy.policy.response.trusted_proxies.clone();
                if let Some(lane) = self.intrusion_prevention.lanes.get_mut(at) {
                    lane.send(&ToNetwork::Ring, files);
                    lane.send(&ToNetwork::Proxies(proxies), Vec::new());
                    lane.judging = lane.worker.is_some();
                }
                // What went by policy until now.
                self.intrusion_prevention.ask_numbers();
            }
            // Its worker's own end is told by the worker's channel.
            FromPump::Gone => {
                if let Some(worker) = self.intrusion_prevention.lanes.get(at).and_then(|lane| lane.worker.as_ref()) {
                    worker.kill();
                }
            }
            FromPump::Late => {
                self.say("module-overloaded", "a network worker is silent; it is ended".into(), |event| {
                    event.set(field::SAKIMORI_MODULE, DESCRIPTOR.id);
                });
                if let Some(worker) = self.intrusion_prevention.lanes.get(at).and_then(|lane| lane.worker.as_ref()) {
                    worker.kill();
                }
            }
            FromPump::Number(which, value) => {
                if let Some(lane) = self.intrusion_prevention.lanes.get_mut(at) {
                    lane.pumped.insert(which, value);
                }
                // The last of its numbers: what was told before belongs together.
                if which == Count::Waiting {
                    self.tell_by_policy();
                }
            }
        }
    }

    fn start_network_worker(&mut self, at: usize) {
        if let Err(error) = self.try_start_network_worker(at) {
            self.network_failed(format!("{error:#}"));
        }
    }

    fn try_start_network_worker(&mut self, at: usize) -> Result<()> {
        let mut start = self.network_start(at);
        let module = &mut self.intrusion_prevention;
        start.rules = module.rules.clone().context("there are no rules")?;
        let (generation, to) = (module.generation, module.to.clone());
        let Some(lane) = module.lanes.get_mut(at) else { return Ok(()) };
        lane.number += 1;
        let number = lane.number;
        let process =
            worker::spawn(Kind::Network, module.groups.0.clone())?.run(move |message: Option<FromNetwork>| {
                let told = match message {
                    Some(message) => Told::Worker(generation, at, number, Box::new(message)),
                    None => Told::WorkerGone(generation, at, number),
                };
                to.send(Message::Network(told)).is_ok()
            })?;
        process.send(&ToNetwork::Start(Box::new(start)), Vec::new());
        lane.backoff.clear();
        lane.worker = Some(process);
        Ok(())
    }

    fn network_worker_gone(&mut self, at: usize, number: u64) {
        let module = &mut self.intrusion_prevention;
        let Some(lane) = module.lanes.get_mut(at).filter(|lane| lane.number == number) else { return };
        let Some((reason, healthy)) = lane.end() else { return };
        module.before = module.before.and(std::mem::take(&mut lane.counters));
        if self.stopping.is_some() {
            return;
        }
        lane.backoff.ended(healthy);
        self.say("module-crashed", format!("intrusion_prevention: a network worker ended: {reason}"), |event| {
            event.set(field::SAKIMORI_MODULE, DESCRIPTOR.id);
        });
    }

    fn of_worker(&mut self, at: usize, number: u64, message: FromNetwork) -> Result<()> {
        if self.intrusion_prevention.lanes.get(at).is_none_or(|lane| lane.number != number) {
            return Ok(());
        }
        match message {
            FromNetwork::Ready { bundle, rules, preventing, errors } => {
                let module = &mut self.intrusion_prevention;
                module.loaded = (rules, preventing, errors.clone());
                if let Some(lane) = module.lanes.get(at).filter(|lane| !lane.judging)
                    && lane.pump.send(&ToPump::Attach.encode(), &[]).is_err()
                {
                    tracing::error!("a pump does not listen");
                }
                if at == 0 {
                    for error in errors.into_iter().take(100) {
                        self.say("rule-refused", error, |_| {});
                    }
                    let text = format!("intrusion_prevention: {rules} rules of bundle {bundle}, {preventing} prevent");
                    self.say("network-rules", text, |event| {
                        event.set(field::SAKIMORI_MODULE, DESCRIPTOR.id);
                    });
                }
            }
            FromNetwork::Packets { name, bytes } => {
                let module = &mut self.intrusion_prevention;
                let keep = module.settings.as_ref().map(|settings| settings.keep_packets.bounded());
                if let Some(keep) = keep.filter(KeepPackets::is_on) {
                    module.packets.write(&module.config.packets(), name, bytes, keep);
                }
                if let Some(lane) = module.lanes.get(at) {
                    lane.send(&ToNetwork::PacketsTaken, Vec::new());
                }
            }
            FromNetwork::Probed { dropped } => self.proof.came_by(dropped),
            FromNetwork::Counters(counters) => {
                if let Some(lane) = self.intrusion_prevention.lanes.get_mut(at) {
                    lane.counters = counters;
                }
                self.intrusion_prevention.ask_numbers();
            }
            FromNetwork::Batch { sequence, bytes, mut orders } => {
                let stream = network_stream(at);
                match self.spool_of_worker(&stream, sequence, &bytes, &mut orders) {
                    Ok(()) => {
                        self.intrusion_prevention.orders.append(&mut orders);
                        if let Some(lane) = self.intrusion_prevention.lanes.get_mut(at) {
                            lane.credits += 1;
                        }
                    }
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "alerts of a network worker are not spooled");
                        if let Some(lane) = self.intrusion_prevention.lanes.get(at)
                            && let Some(worker) = &lane.worker
                        {
                            worker.kill();
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What is to be started again is.
    pub(super) fn restart_network(&mut self, now: Instant) {
        if self.intrusion_prevention.backoff.due().is_some_and(|due| due <= now) {
            self.apply_intrusion_prevention();
        }
        let lanes = self.intrusion_prevention.lanes.iter().enumerate();
        let due = lanes.filter(|(_, lane)| lane.backoff.due().is_some_and(|due| due <= now)).map(|(at, _)| at);
        for at in due.collect::<Vec<_>>() {
            self.start_network_worker(at);
        }
    }
}
