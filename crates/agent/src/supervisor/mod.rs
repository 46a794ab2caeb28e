//! The supervisor: root, one loop, and threads that feed it (D16). It starts the workers and opens files for
//! them, keeps the spool, carries out blocks through the action ledger, and applies policy and bundles. It
//! parses nothing that an enemy wrote: log lines are bytes that it never reads, events pass through it as
//! encoded batches, and what the workers ask for is typed and judged by the guard.
//!
//! ```text
//!  readers of both workers ─┐
//!  control socket, signals ─┼─ messages → loop: handle all that is there, then once: fsync the spool,
//!  watched folders, trials ─┘               submit orders (ledger, netlink), credit the worker, feed the uplink
//! ```
//! Whatever came together shares one fsync of the spool and one of the ledger. The order is fixed: a batch is
//! durable before its orders reach the ledger, the ledger before the kernel, and only what is durable goes to
//! the manager.

pub mod actions;
pub mod antimalware;
mod aside;
mod ask;
mod blocker;
mod budgets;
mod bundles;
mod confirm;
mod enrolment;
mod farewell;
pub mod find;
pub mod heads;
mod inputs;
pub mod intrusion_prevention;
mod lasting;
mod link;
mod logs;
mod outliving;
mod packets;
mod policy;
mod power;
pub mod proof;
pub mod pump;
mod ready;
mod saver;
mod scans;
mod spooling;
mod telling;
pub mod triage;
mod vault;
mod watch;
pub mod worker;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_model::{Event, Order, Timestamp, field};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_wire::ipc::{Answer, Ask, Farewell, FromLogs, FromUplink};

use crate::config::Config;
use crate::host_facts::HostFacts;
use crate::spool::{self, Spool, SpoolOptions};
use actions::Actions;
use antimalware::Antimalware;
use aside::{Aside, Asked};
use budgets::{Budgets, Of};
use bundles::Bundles;
use enrolment::{ByToken, Identity};
use intrusion_prevention::IntrusionPrevention;
use link::Link;
use logs::Logs;
use proof::Proof;
use scans::Scans;

/// How long appended batches may wait for their fsync where nothing hurries.
const SYNC_WAIT: Duration = Duration::from_millis(20);
/// The same, where the disk had no room.
const SYNC_AGAIN: Duration = Duration::from_millis(500);
/// Between two reports of the state to the manager.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at what surrounds the host, and at inputs that the watched folders did not tell of.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Messages that may wait for the loop; then their senders wait, so that no worker can fill the memory.
const MAX_WAITING: usize = 64;
/// Most orders of one batch, and most that wait for room on the disk.
const MAX_ORDERS: usize = 10_000;
/// Most messages that share one fsync.
const MAX_TOGETHER: usize = 256;

/// What an agent lacks that an ordinary user runs.
const LIMITED: &str = "it runs without root: logs are read as far as this user may, workers share this user and its network, \
    and each module says what it lacks";

/// What reaches the loop.
pub enum Message {
    /// Of the `logs` worker that was started as this number.
    Logs(u64, FromLogs),
    /// Its channel closed.
    LogsGone(u64),
    /// Of the `uplink` worker.
    Uplink(u64, FromUplink),
    /// Its channel closed.
    UplinkGone(u64),
    /// Something happened in a folder with logs.
    Folder,
    /// A question on the control socket.
    Ask {
        /// It.
        ask: Ask,
        /// Where the answer goes.
        reply: Sender<Answer>,
    },
    /// A detection snapshot is durable, and covers these.
    SnapshotKept(Vec<(String, u64)>),
    /// A bundle was tried: it is in use from now on, or refused.
    BundleTried(Result<(), String>),
    /// What the process saw that opened the probe's test file: was it let?
    Tried(Result<bool, String>),
    /// What the probe of intrusion prevention came to: was its request answered?
    Asked(Result<bool, String>),
    /// The checks after these provisional actions.
    Checked(Vec<String>, confirm::Round),
    /// Something of real-time malware protection.
    Antimalware(antimalware::Told),
    /// The token file did not enrol this host: why.
    EnrolFailed(String),
    /// End in good order, and tell the manager so.
    Stop(Farewell),
    /// Something of intrusion prevention.
    Network(intrusion_prevention::Told),
    /// Something of a scan.
    Scan(scans::Told),
    /// An action that was carried out beside the loop is over.
    Acted(sakimori_respond::host::Report),
}

/// The running agent.
pub struct Supervisor {
    config: Config,
    agent: String,
    facts: HostFacts,
    spool: Spool,
    actions: Actions,
    aside: Aside,
    /// Those at the control socket who wait for what comes of an action.
    asked: Vec<Asked>,
    policy: policy::InEffect,
    power: power::Power,
    checks: confirm::Checks,
    heads: heads::Heads,
    /// Was it told that the manager saw more of the ledger than there is?
    cut_told: bool,
    /// A switch of a setting ended: what applies is to be computed anew.
    setting_ended: bool,
    bundles: Bundles,
    logs: Logs,
    link: Option<Link>,
    antimalware: Antimalware,
    proof: Proof,
    budgets: Budgets,
    told_full: bool,
    /// Orders that wait for their batch to be durable.
    waiting: Vec<Order>,
    intrusion_prevention: IntrusionPrevention,
    scans: Scans,
    /// Events about the agent that are not spooled yet.
    said: Vec<Event>,
    clock: SystemClock,
    sync_due: Option<Instant>,
    status_due: Instant,
    look_due: Instant,
    stopping: Option<Instant>,
    farewell: Farewell,
    by_token: ByToken,
    /// By which fact the identity on disk is another machine's.
    copied: Option<&'static str>,
    /// Begin anew after the end, with the new identity.
    anew: bool,
    from: Receiver<Message>,
    to: SyncSender<Message>,
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Where it cannot begin, or its disk fails.
pub fn run(config: Config) -> Result<()> {
    let mut supervisor = Supervisor::open(config)?;
    crate::control::listen(&supervisor.config.control_socket(), supervisor.to.clone())?;
    farewell::on_signal(supervisor.to.clone())?;
    supervisor.begin()?;
    let outcome = supervisor.turn();
    let _ = std::fs::remove_file(supervisor.config.control_socket());
    if outcome.is_ok() && supervisor.anew {
        return Err(crate::begin_anew(&[])).context("cannot begin anew with the new identity; start the agent again");
    }
    outcome
}

impl Supervisor {
    fn open(config: Config) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let state = &config.agent.state;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)
            .with_context(|| format!("cannot make {}", state.display()))?;
        let clock = SystemClock;
        let identity = Identity::load(&config)?;
        let spool_dir = identity.spool_folder(&config);
        let Identity { enrolled, copied } = identity;
        let facts = HostFacts::read(config.agent.host_name.as_deref());
        let agent = match &enrolled {
            Some(enrolled) => enrolled.agent_id.clone(),
            None => policy::own_id(state)?,
        };
        let spool = Spool::open(SpoolOptions {
            dir: spool_dir,
            origin: agent.clone(),
            most_bytes: config.spool.most_bytes,
            fetched: enrolled.is_some(),
        })?;
        let mut policy = policy::InEffect::load(&config)?;
        let power = power::Power::open(state, &config.agent.mandate, &agent, enrolled.as_ref())?;
        policy.apply(power.mandate(), |_| false, false);
        let bundles = Bundles::open(state, enrolled.as_ref())?;
        let actions = Actions::open(&config, (&agent, enrolled.as_ref()), &policy.policy, clock.now())?;
        let halted = crate::halt::read(state).is_some();
        policy.apply(power.mandate(), |module| actions.is_reverted(module), halted);
        let heads = heads::Heads::load(state);
        let (to, from) = sync_channel(MAX_WAITING);
        let budgets = Budgets::open(&config.budget);
        let by_token = ByToken::new(enrolled.is_none());
        let logs = Logs::new(&config, budgets.group(Of::Logs), to.clone())?;
        let group = budgets.group(Of::Uplink);
        let link = enrolled.map(|enrolled| Link::new(&config, &enrolled, &facts, &spool, group, to.clone()));
        let antimalware = Antimalware::new(&config, (budgets.group(Of::Malware), budgets.keeper()), to.clone());
        let now = Instant::now();
        Ok(Self {
            agent,
            facts,
            spool,
            actions,
            aside: Aside::new(&config.agent.state, to.clone()),
            asked: Vec::new(),
            policy,
            power,
            checks: confirm::Checks::default(),
            heads,
            cut_told: false,
            setting_ended: false,
            bundles,
            logs,
            link,
            antimalware,
            proof: Proof::new(&config, clock.now()),
            intrusion_prevention: IntrusionPrevention::new(
                &config,
                (budgets.group(Of::Network), budgets.keeper()),
                to.clone(),
            ),
            scans: Scans::load(&config, to.clone()),
            budgets,
            told_full: false,
            waiting: Vec::new(),
            said: Vec::new(),
            clock,
            sync_due: None,
            status_due: now,
            look_due: now,
            stopping: None,
            farewell: Farewell::Stopped,
            by_token,
            copied,
            anew: false,
            from,
            to,
            config,
        })
    }

    /// What a start does once: the kernel as the ledger says, orders that a crash kept from the ledger, workers.
    fn begin(&mut self) -> Result<()> {
        let now = self.clock.now();
        // Before all else: nothing may open a host that is isolated, not even the time that a start takes.
        self.actions.hold(now);
        self.say("agent-start", format!("sakimori-agent {} starts", env!("CARGO_PKG_VERSION")), |_| {});
        if let Some(fact) = self.copied {
            let remedy = "a group's token in the token file, or sakimori-agent enroll TOKEN, gives it one of its own";
            let text = format!("the identity on this disk is of another machine ({fact} differs) and is not used");
            self.say("identity-copied", format!("{text}; {remedy}"), |_| {});
        }
        if !rustix::process::geteuid().is_root() {
            self.say("agent-limited", LIMITED.to_owned(), |_| {});
        }
        if let Some(strange) = self.spool.take_strange() {
            self.say("orders-not-understood", strange, |_| {});
        }
        self.begin_power()?;
        let pending = self.spool.take_pending_orders(now);
        let position = self.spool.stream(spool::ACTIONS_STREAM).position;
        let (events, problem) = self.actions.begin(pending, position.as_deref(), now)?;
        self.spool_actions(events)?;
        if let Some(problem) = problem {
            self.say("module-failing", format!("block_address: {problem}"), |event| {
                event.set(field::SAKIMORI_MODULE, "block_address");
            });
        }
        if let Some(problem) = self.policy.problem.take() {
            self.say("policy-refused", problem, |_| {});
        }
        self.apply_logs()?;
        self.apply_antimalware();
        self.apply_intrusion_prevention();
        self.tell_versions();
        self.after()?;
        if let Some(link) = &mut self.link {
            link.start()?;
        }
        Ok(())
    }

    /// The loop.
    fn turn(&mut self) -> Result<()> {
        loop {
            match self.from.recv_timeout(self.patience()) {
                Ok(message) => self.handle(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("all threads of the agent ended"),
            }
            for _ in 0..MAX_TOGETHER {
                let Ok(message) = self.from.try_recv() else { break };
                self.handle(message)?;
            }
            self.timers()?;
            self.after()?;
            if let Some(until) = self.stopping
                && (!self.logs.is_running() || Instant::now() >= until)
            {
                return self.finish();
            }
        }
    }

    fn patience(&self) -> Duration {
        let now = Instant::now();
        let mut until = self.status_due.min(self.look_due);
        let link = self.link.as_ref().and_then(Link::restart_due);
        let antimalware = self.antimalware.restart_due();
        let proof = self.proof.due();
        let network = self.intrusion_prevention.restart_due();
        let logs = self.logs.restart_due().filter(|_| !self.spool.is_disk_full());
        for due in [self.sync_due, logs, link, antimalware, network, proof, self.stopping].into_iter().flatten() {
            until = until.min(due);
        }
        let mut wait = until.saturating_duration_since(now);
        if let Some(at) = self.actions.next_tick() {
            let micros = u64::try_from(at.since(self.clock.now())).unwrap_or(0);
            wait = wait.min(Duration::from_micros(micros.max(1_000)));
        }
        wait
    }

    fn handle(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Logs(generation, message) => self.on_logs(generation, message),
            Message::LogsGone(generation) => {
                if let Some(reason) = self.logs.gone(generation, self.stopping.is_some()) {
                    self.say("module-crashed", format!("log_inspection: the logs worker ended: {reason}"), |event| {
                        event.set(field::SAKIMORI_MODULE, "log_inspection");
                    });
                }
                Ok(())
            }
            Message::Uplink(generation, message) => self.on_uplink(generation, message),
            Message::UplinkGone(generation) => {
                let stopping = self.stopping.is_some();
                if let Some(reason) = self.link.as_mut().and_then(|link| link.gone(generation, stopping)) {
                    self.say("module-crashed", format!("the uplink worker ended: {reason}"), |event| {
                        event.set(field::SAKIMORI_MODULE, "uplink");
                    });
                }
                Ok(())
            }
            Message::Antimalware(told) => self.antimalware_told(told),
            Message::Tried(opened) => {
                self.proof.tried(opened);
                Ok(())
            }
            Message::Asked(answered) => {
                self.proof.asked(answered);
                Ok(())
            }
            Message::Network(told) => self.network_told(told),
            Message::Scan(told) => self.scan_told(told),
            Message::Acted(report) => self.acted(report),
            Message::Folder => self.look_at_inputs(),
            Message::Ask { ask, reply } => self.answer(ask, &reply),
            Message::SnapshotKept(covers) => self.spool.covered(&covers),
            Message::BundleTried(outcome) => self.bundle_tried(outcome),
            Message::EnrolFailed(reason) => {
                self.enrol_failed(&reason);
                Ok(())
            }
            Message::Checked(ids, round) => {
                self.checked(ids, round);
                Ok(())
            }
            Message::Stop(farewell) => {
                if self.stopping.is_none() {
                    self.farewell = farewell;
                    self.say("agent-stop", format!("sakimori-agent {} stops", env!("CARGO_PKG_VERSION")), |_| {});
                    self.stopping = Some(Instant::now() + Duration::from_secs(10));
                    self.logs.stop();
                }
                Ok(())
            }
        }
    }

    fn timers(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.stopping.is_none() {
            // On a full disk its batches could not be kept: the lines wait in their files.
            if self.logs.restart_due().is_some_and(|due| due <= now) && !self.spool.is_disk_full() {
                self.start_logs()?;
            }
            if self.antimalware.restart_due().is_some_and(|due| due <= now) {
                self.apply_antimalware();
            }
            self.restart_network(now);
            if let Some(link) = &mut self.link
                && link.restart_due().is_some_and(|due| due <= now)
            {
                link.start()?;
            }
        }
        if self.look_due <= now {
            self.look_due = now + LOOK_EVERY;
            self.look_at_halt()?;
            self.look_at_mandate()?;
            self.look_at_provisional()?;
            let events = self.actions.look(self.clock.now())?;
            self.spool_actions(events)?;
            self.look_at_inputs()?;
            self.look_at_budgets();
            self.look_at_disk()?;
            self.step_scans()?;
            if self.stopping.is_none() {
                self.look_at_identity()?;
            }
        }
        let events = self.actions.tick(self.clock.now())?;
        self.spool_actions(events)?;
        self.step_proof()?;
        if std::mem::take(&mut self.setting_ended) {
            self.apply_policy()?;
        }
        if self.status_due <= now {
            self.status_due = now + STATUS_EVERY;
            self.report()?;
        }
        Ok(())
    }

    /// Once for all that was handled together.
    fn after(&mut self) -> Result<()> {
        if !self.said.is_empty() {
            let said = std::mem::take(&mut self.said);
            if let Err(error) = self.spool.append_own(spool::AGENT_STREAM, said, None) {
                tracing::error!(error = format!("{error:#}"), "events about the agent are not spooled");
            }
        }
        self.waiting.append(&mut self.logs.take_orders());
        self.waiting.append(&mut self.antimalware.take_orders());
        self.waiting.append(&mut self.intrusion_prevention.take_orders());
        self.waiting.truncate(MAX_ORDERS);
        // They wait where the disk has no room: the ledger could not take them either.
        if !self.waiting.is_empty() && self.spool.try_sync()? {
            let orders = std::mem::take(&mut self.waiting);
            let events = self.actions.submit(orders, self.clock.now())?;
            self.spool_actions(events)?;
        }
        self.hand_out()?;
        self.answer_asked();
        self.keep_scans()?;
        let room = self.spool.has_room();
        self.logs.credit(room);
        self.intrusion_prevention.credit(room);
        let now = Instant::now();
        if self.spool.is_dirty() {
            let due = *self.sync_due.get_or_insert(now + SYNC_WAIT);
            if due <= now && !self.spool.try_sync()? {
                self.sync_due = Some(now + SYNC_AGAIN);
            }
        }
        if !self.spool.is_dirty() {
            self.sync_due = None;
        }
        if let Some(link) = &mut self.link {
            link.pump(&self.spool)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.after()?;
        if let Err(error) = self.spool.keep() {
            tracing::error!(error = format!("{error:#}"), "what is not on disk is read again after the next start");
        }
        if let Some(link) = &mut self.link {
            link.pump(&self.spool)?;
            link.stop(self.farewell);
        }
        self.logs.kill();
        self.antimalware.leave();
        self.leave_scans();
        self.intrusion_prevention.leave();
        self.budgets.close();
        tracing::info!("stopped; blocks stay in the kernel until their time is up");
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
