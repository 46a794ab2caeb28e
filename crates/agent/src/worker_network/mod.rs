//! A `network` worker: packets of one queue in, a word on each out, alerts to the supervisor. It has its own uid, no
//! privileges, no path and no socket: packets come through a ring of shared memory from the pump, which also carries
//! the words back, and the channel leads to the supervisor.
//!
//! One thread, and another while new rules are loaded; the former ones judge until then, and the change falls between
//! two packets. Time comes with the packets, from the pump. It gets the ring when its rules are loaded, so that no packet
//! waits for that; one that was only started to try rules never gets it.
//!
//! Alerts wait here for credits of the supervisor, up to [`MOST_WAITING`]; packets are judged on meanwhile, and what
//! cannot be told is counted and becomes a loss of the stream.

mod alert;
mod keeping;
mod rules;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_model::{Event, Order, Timestamp, id};
use sakimori_network::{Alert, Engine, Settings, Verdict, capture::Frame};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_sys::channel::{Channel, Waited};
use sakimori_sys::ring::{Taker, Woken, Word};
use sakimori_sys::sandbox::{self, Sandbox};
use sakimori_wire::batch::{BatchHeader, Encoder, Loss};
use sakimori_wire::ipc_network::{FromNetwork, NetworkCounters, NetworkStart, ToNetwork};

use alert::Teller;
use keeping::Keeping;
use rules::Loaded;

use crate::modules::intrusion_prevention::PROBE_RULE;

/// Memory that it can write to: flows and streams at their bounds, and two sets of rules.
const MEMORY: u64 = 3 << 30;
const DESCRIPTORS: u64 = 64;
/// Alerts that wait to be told.
pub const MOST_WAITING: usize = 5_000;
/// Alerts of one batch.
const BATCH: usize = 500;
/// Packets that are judged before anything else is looked at.
const TOGETHER: usize = 128;
/// Turns after which it looks for messages though there were packets all the time: each look is a system call.
const GLANCE: u64 = 64;
/// Between two reports of figures.
const SECOND: Duration = Duration::from_secs(1);
/// `LINKTYPE_RAW`: the packet begins with its IP header.
const RAW_IP: u32 = 101;

/// Runs until the supervisor says stop, or supervisor or pump is gone.
///
/// # Errors
/// It cannot be confined, or the supervisor sends what is not understood.
pub fn run(channel: Channel) -> Result<()> {
    let sandbox = Sandbox { executable_memory: false, memory: MEMORY, descriptors: DESCRIPTORS };
    let confined = sandbox::enter(&sandbox).context("cannot give up what it must not have")?;
    tracing::debug!(landlock = ?confined.landlock, "a network worker is confined");
    let (bytes, _) = channel.recv().context("cannot read from the supervisor")?.context("the supervisor is gone")?;
    let ToNetwork::Start(start) = postcard::from_bytes(&bytes).context("the first message is not understood")? else {
        bail!("the first message is no start");
    };
    let loaded = rules::load(&start.rules);
    say(&channel, &loaded.ready())?;
    let Some((bytes, files)) = channel.recv().context("cannot read from the supervisor")? else { return Ok(()) };
    match postcard::from_bytes(&bytes).context("a message is not understood")? {
        ToNetwork::Ring => {}
        ToNetwork::Stop => return Ok(()),
        _ => bail!("something else came before the ring"),
    }
    let Ok([packets, verdicts, bell]) = <[OwnedFd; 3]>::try_from(files) else { bail!("the ring is not whole") };
    Worker::new(*start, loaded, channel, [packets, verdicts], bell)?.run()
}

fn say(channel: &Channel, message: &FromNetwork) -> Result<()> {
    channel.send(&postcard::to_stdvec(message)?, &[]).context("the supervisor is gone")
}

struct Worker {
    channel: Channel,
    taker: Taker,
    engine: Engine,
    teller: Teller,
    /// Rules that are being loaded.
    loading: Option<JoinHandle<Loaded>>,
    stream: String,
    agent: String,
    sequence: u64,
    event: u64,
    credits: u32,
    most_credits: u32,
    waiting: VecDeque<(Event, Vec<Order>)>,
    /// The probe's requests that came by and are not told: were they dropped?
    probed: Vec<bool>,
    losses: Vec<Loss>,
    keeping: Keeping,
    untold: u64,
    swaps: u64,
    packets: u64,
    encoder: Encoder,
    told: NetworkCounters,
    second_due: Instant,
    clock: SystemClock,
}

impl Worker {
    fn new(
        mut start: NetworkStart,
        loaded: Loaded,
        channel: Channel,
        [packets, verdicts]: [OwnedFd; 2],
        bell: OwnedFd,
    ) -> Result<Self> {
        let taker = Taker::new(&packets, &verdicts, bell).context("cannot share memory with the pump")?;
        let Loaded { prepared, playbooks, bundle, trial, keep, .. } = loaded;
        let engine = Engine::prepared(Settings::inline(), prepared);
        let keeping = Keeping::new(&start.stream, keep);
        Ok(Self {
            channel,
            taker,
            engine,
            stream: std::mem::take(&mut start.stream),
            agent: start.agent.clone(),
            sequence: start.next_sequence,
            event: start.next_event,
            credits: start.credits,
            most_credits: start.credits,
            losses: std::mem::take(&mut start.losses),
            keeping,
            teller: Teller::new(start, playbooks, bundle, trial),
            loading: None,
            waiting: VecDeque::new(),
            probed: Vec::new(),
            untold: 0,
            swaps: 0,
            packets: 0,
            encoder: Encoder::default(),
            told: NetworkCounters::default(),
            second_due: Instant::now(),
            clock: SystemClock,
        })
    }

    fn run(mut self) -> Result<()> {
        let mut alerts = Vec::new();
        for turn in 0_u64.. {
            let judged = self.judge(&mut alerts);
            // One word is enough, however often somebody asks for the probe's path.
            if let Some(dropped) = self.probed.pop() {
                self.probed.clear();
                say(&self.channel, &FromNetwork::Probed { dropped })?;
            }
            self.send()?;
            if let Some(kept) = self.keeping.due(|| self.clock.now()) {
                say(&self.channel, &kept)?;
            }
            self.swap()?;
            if self.second_due <= Instant::now() {
                self.report()?;
            }
            let mut spoken = turn % GLANCE == 0 || !self.waiting.is_empty();
            if judged < TOGETHER {
                let limit = self.second_due.saturating_duration_since(Instant::now());
                let limit = if self.loading.is_some() { limit.min(Duration::from_millis(10)) } else { limit };
                match self.taker.wait(self.channel.as_fd(), limit).context("cannot wait for packets")? {
                    Woken::Gone => return self.finish(),
                    Woken::Other => spoken = true,
                    Woken::Packets => {}
                }
            }
            if spoken && !self.listen()? {
                return self.finish();
            }
        }
        Ok(())
    }

    /// Judges what is there, up to a number.
    fn judge(&mut self, alerts: &mut Vec<Alert>) -> usize {
        let mut count = 0;
        while count < TOGETHER {
            let Some((label, bytes)) = self.taker.packet() else { break };
            self.packets += 1;
            let frame = Frame {
                time: label.time,
                link: RAW_IP,
                data: bytes,
                cut: usize::try_from(label.whole).is_ok_and(|whole| whole > bytes.len()),
                vouched: label.unchecked == 0,
            };
            let verdict = self.engine.frame(&frame, self.packets, alerts);
            self.keeping.packet(&frame, label.whole, &self.engine);
            self.taker.say(word(verdict));
            count += 1;
            if !alerts.is_empty() {
                // The word first: whoever waits for it need not wait for words to a person.
                self.taker.ring();
                for probe in alerts.iter().filter(|alert| alert.rule.sid == PROBE_RULE) {
                    self.probed.push(probe.blocked);
                }
                self.note(alerts, label.hook);
            }
        }
        if count > 0 {
            self.taker.ring();
        }
        count
    }

    fn note(&mut self, alerts: &mut Vec<Alert>, hook: u8) {
        let now = self.clock.now();
        for alert in alerts.drain(..) {
            if self.waiting.len() >= MOST_WAITING {
                self.untold += 1;
                lose(&mut self.losses, now);
                continue;
            }
            let number = self.event + self.waiting.len() as u64;
            let mut told = self.teller.tell(&alert, hook, number, now);
            self.keeping.alert(&alert, &mut told.0);
            self.waiting.push_back(told);
        }
    }

    /// Sends what waits, as far as there are credits.
    fn send(&mut self) -> Result<()> {
        while self.credits > 0 && !self.waiting.is_empty() {
            let count = self.waiting.len().min(BATCH);
            let mut orders = Vec::new();
            for (event, mut asked) in self.waiting.drain(..count) {
                self.encoder.push(&event).context("an alert is too large")?;
                orders.append(&mut asked);
            }
            let header = BatchHeader {
                id: id::batch_id(&self.agent, &self.stream, self.sequence),
                origin: self.agent.clone(),
                stream: self.stream.clone(),
                sequence: self.sequence,
                first_event: self.event,
                count: u32::try_from(count).unwrap_or(u32::MAX),
                bundle: self.teller.bundle(),
                losses: std::mem::take(&mut self.losses),
                position: None,
            };
            let bytes = self.encoder.finish(&header).context("a batch is too large")?;
            say(&self.channel, &FromNetwork::Batch { sequence: self.sequence, bytes, orders })?;
            self.sequence += 1;
            self.event += count as u64;
            self.credits -= 1;
        }
        Ok(())
    }

    /// All messages that are there. False where it is time to end.
    fn listen(&mut self) -> Result<bool> {
        loop {
            match self.channel.recv_timeout(Duration::ZERO).context("cannot read from the supervisor")? {
                Waited::TimedOut => return Ok(true),
                Waited::Closed => return Ok(false),
                Waited::Frame((bytes, _)) => {
                    match postcard::from_bytes(&bytes).context("a message is not understood")? {
                        ToNetwork::Start(_) | ToNetwork::Ring => bail!("a second start came"),
                        ToNetwork::Rules(rules) => {
                            // Of two changes that come close together the later counts.
                            let load = move || rules::load(&rules);
                            self.loading = Some(thread::Builder::new().name("rules".into()).spawn(load)?);
                        }
                        ToNetwork::Proxies(proxies) => self.teller.set_proxies(proxies),
                        ToNetwork::Taken => self.credits = self.credits.saturating_add(1).min(self.most_credits),
                        ToNetwork::PacketsTaken => self.keeping.taken(),
                        ToNetwork::Stop => return Ok(false),
                    }
                }
            }
        }
    }

    /// Changes the rules where new ones are ready.
    fn swap(&mut self) -> Result<()> {
        let Some(thread) = self.loading.take_if(|thread| thread.is_finished()) else { return Ok(()) };
        let Ok(loaded) = thread.join() else { bail!("loading rules failed") };
        say(&self.channel, &loaded.ready())?;
        let Loaded { prepared, playbooks, bundle, trial, keep, .. } = loaded;
        self.engine.change_rules(prepared);
        self.teller.change(playbooks, bundle, trial);
        self.keeping.change(keep);
        self.swaps += 1;
        Ok(())
    }

    fn report(&mut self) -> Result<()> {
        self.second_due = Instant::now() + SECOND;
        let engine = self.engine.counters();
        let counters = NetworkCounters {
            packets: engine.frames,
            flows: engine.flows,
            alerts: engine.alerts,
            untold: self.untold,
            dropped: engine.dropped,
            encrypted: engine.encrypted,
            bulk: engine.bulk,
            bulk_bytes: engine.bulk_bytes,
            forgotten: engine.flows_pushed_out,
            swaps: self.swaps,
            packets_shed: self.keeping.shed(),
        };
        if counters != self.told {
            self.told = counters;
            say(&self.channel, &FromNetwork::Counters(counters))?;
        }
        Ok(())
    }

    /// What is in hand goes out, where it may.
    fn finish(mut self) -> Result<()> {
        // The supervisor may be gone itself.
        let _ = self.send();
        let _ = self.report();
        Ok(())
    }
}

fn word(verdict: Verdict) -> Word {
    match verdict {
        Verdict::Accept => Word::Accept,
        Verdict::AcceptFlow => Word::Done,
        Verdict::AcceptReplies => Word::RepliesDone,
        Verdict::AcceptFarReplies => Word::RepliesFar,
        Verdict::InspectReplies => Word::Inspect,
        Verdict::Drop => Word::Drop,
        Verdict::DropFlow => Word::DropFlow,
        Verdict::Reject => Word::Reject,
    }
}

fn lose(losses: &mut Vec<Loss>, now: Timestamp) {
    match losses.iter_mut().find(|loss| loss.cause == "too_many_alerts") {
        Some(loss) => (loss.count, loss.to) = (loss.count.saturating_add(1), now),
        None => losses.push(Loss {
            count: 1,
            cause: "too_many_alerts".into(),
            place: "intrusion_prevention".into(),
            from: now,
            to: now,
        }),
    }
}
