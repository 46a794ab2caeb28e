//! The `logs` worker: bytes of logs in, batches of events out. It has its own uid, no privileges, no path and
//! no socket but the channel to the supervisor, which hands it open files.
//!
//! One thread, and another while new rules are loaded. It waits for the channel, for the inotify queue on which the
//! supervisor watches the open files, and for pipes; a look every 100 ms is a backstop for file systems that do not
//! notify. What it reads at once
//! becomes one batch: events, the alerts that they cause, and the orders of the playbooks, with the position
//! after them. It sends no more than the supervisor gave credits for and does not read ahead of that, so a full
//! spool stops the reading and nothing else.
//!
//! Detection sees events in the order of batches, and a replay of the spool feeds them in that order with their
//! recorded arrival times, so the state after a restart is the state before it.

mod engine;
mod feed;
mod journal;
pub mod tail;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sakimori_model::{Event, Order, Timestamp, id};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_sys::channel::{Channel, Waited};
use sakimori_sys::sandbox::{self, Sandbox};
use sakimori_wire::batch::{self, BatchHeader, Encoder, Loss};
use sakimori_wire::ipc::{FromLogs, LogsStart, Snapshot, ToLogs};

use engine::{Engine, Made};
use feed::{Feed, Step};
use tail::CHUNK;

/// A look at all files without having been told: what is written over a network or through a mapping is not.
const BACKSTOP: Duration = SECOND;
/// Between two snapshots while there is something new, at least.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(10);
/// As many times as long as a snapshot took comes no other: many open windows must not eat the processor.
const SNAPSHOT_REST: u32 = 50;
/// Without credits for this long the spool may be full of what only a snapshot lets go.
const STARVED: Duration = Duration::from_millis(200);
/// Largest detection state that is kept, packed: it travels in one frame of the channel (16 MiB).
const MAX_STATE: usize = 12 << 20;
/// The same, unpacked.
const MAX_UNPACKED: usize = 512 << 20;
/// Between two reports of figures, and two steps of detection's clock.
const SECOND: Duration = Duration::from_secs(1);

/// Runs until the supervisor says stop or is gone.
///
/// # Errors
/// Where the supervisor sends what is not understood, or a log cannot be read.
pub fn run(channel: Channel) -> Result<()> {
    let confined = sandbox::enter(&Sandbox::LOGS).context("cannot give up what it must not have")?;
    tracing::debug!(landlock = ?confined.landlock, "the logs worker is confined");
    let first = channel.recv().context("cannot read from the supervisor")?.context("the supervisor is gone")?;
    let (bytes, mut descriptors) = first;
    let ToLogs::Start(start) = postcard::from_bytes(&bytes).context("the first message is not understood")? else {
        bail!("the first message is no start");
    };
    Worker::new(*start, channel, descriptors.pop())?.run()
}

struct Worker {
    channel: Channel,
    queue: Option<File>,
    start: LogsStart,
    engine: Engine,
    encoder: Encoder,
    /// Rules that are being loaded, with the number of their bundle.
    loading: Option<(u64, JoinHandle<(Engine, Vec<String>)>)>,
    feeds: BTreeMap<String, Feed>,
    credits: u32,
    live: bool,
    /// Last sequence of each stream that detection has seen.
    covers: BTreeMap<String, u64>,
    /// Alerts that time brought, and their orders, for the next batch.
    late: (Vec<Event>, Vec<Order>),
    snapshot_due: Option<Instant>,
    snapshot_took: Duration,
    /// Since when there are no credits.
    starved: Option<Instant>,
    second_due: Instant,
    look_due: Instant,
    buffer: Vec<u8>,
    clock: SystemClock,
}

impl Worker {
    fn new(mut start: LogsStart, channel: Channel, queue: Option<OwnedFd>) -> Result<Self> {
        let files = std::mem::take(&mut start.files);
        let (engine, errors) = Engine::load(&start, start.bundle, &files);
        let now = Instant::now();
        let worker = Self {
            credits: start.credits,
            queue: queue.map(File::from),
            start,
            feeds: BTreeMap::new(),
            live: false,
            covers: BTreeMap::new(),
            late: (Vec::new(), Vec::new()),
            snapshot_due: None,
            snapshot_took: Duration::ZERO,
            starved: None,
            second_due: now + SECOND,
            look_due: now,
            buffer: vec![0; CHUNK],
            clock: SystemClock,
            channel,
            engine,
            encoder: Encoder::default(),
            loading: None,
        };
        worker.say(&FromLogs::Ready { rules: worker.engine.rules(), errors })?;
        Ok(worker)
    }

    fn run(mut self) -> Result<()> {
        loop {
            let (channel, grown) = self.wait()?;
            if channel && !self.listen()? {
                return Ok(());
            }
            self.swap()?;
            let now = Instant::now();
            if grown || self.look_due <= now {
                self.look_due = now + BACKSTOP;
                for feed in self.feeds.values_mut() {
                    feed.ready |= feed.pipe().is_none();
                }
            }
            if self.live {
                self.read_all()?;
                self.each_second(now)?;
            }
        }
    }

    /// Waits for something to do. True: the channel has a message; a file grew.
    fn wait(&mut self) -> Result<(bool, bool)> {
        let now = Instant::now();
        let mut until = self.look_due.min(self.second_due);
        let may_read = self.live && self.credits > 0;
        if may_read {
            for feed in self.feeds.values().filter(|feed| feed.ready && !feed.held) {
                until = until.min(feed.not_before);
            }
        }
        let patience = Timespec::try_from(until.saturating_duration_since(now)).context("a wait is bounded")?;
        let mut names = Vec::new();
        let mut wanted = vec![PollFd::new(&self.channel, PollFlags::IN)];
        if may_read {
            if let Some(queue) = &self.queue {
                wanted.push(PollFd::new(queue, PollFlags::IN));
            }
            for (name, feed) in &self.feeds {
                if let Some(pipe) = feed.pipe() {
                    names.push(name.clone());
                    wanted.push(PollFd::new(pipe, PollFlags::IN));
                }
            }
        }
        match poll(&mut wanted, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for descriptors"),
        }
        let any = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let mut woken = wanted.iter().map(|one| one.revents().intersects(any));
        let channel = woken.next().unwrap_or(false);
        let grown = may_read && self.queue.is_some() && woken.next().unwrap_or(false);
        let readable: Vec<bool> = woken.collect();
        for (name, is_readable) in names.into_iter().zip(readable) {
            if let Some(feed) = self.feeds.get_mut(&name) {
                feed.ready |= is_readable;
            }
        }
        if grown && let Some(queue) = &self.queue {
            drain(queue);
        }
        Ok((channel, grown))
    }

    /// All messages that are there. False where it is time to end.
    fn listen(&mut self) -> Result<bool> {
        loop {
            match self.channel.recv_timeout(Duration::ZERO).context("cannot read from the supervisor")? {
                Waited::TimedOut => return Ok(true),
                Waited::Closed => return Ok(false),
                Waited::Frame((bytes, descriptors)) => {
                    let message = postcard::from_bytes(&bytes).context("a message is not understood")?;
                    if !self.take(message, descriptors)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn take(&mut self, message: ToLogs, mut descriptors: Vec<OwnedFd>) -> Result<bool> {
        match message {
            ToLogs::Start(_) => bail!("a second start came"),
            ToLogs::Bundle { number, files } => {
                // Programs take seconds to compile; until then the former rules go on. Of two bundles that come
                // close together the later counts.
                let start = LogsStart { bundle: number, ..self.start.clone() };
                let load = move || Engine::load(&start, number, &files);
                self.loading = Some((number, thread::Builder::new().name("rules".into()).spawn(load)?));
            }
            ToLogs::Proxies(proxies) => self.engine.set_proxies(proxies),
            ToLogs::Open { input, files, replace, fresh, next_sequence, next_event, losses } => {
                let feed = self
                    .feeds
                    .entry(input.name.clone())
                    .or_insert_with(|| Feed::new(input.clone(), next_sequence, next_event, Vec::new()));
                feed.losses.extend(losses);
                feed.input = input;
                if files.is_empty() {
                    match descriptors.pop() {
                        Some(pipe) if feed.input.journal.is_some() => feed.take_pipe(pipe),
                        _ => feed.take_files(Vec::new(), replace, fresh),
                    }
                } else {
                    let opened = descriptors.into_iter().map(File::from).zip(files).collect();
                    feed.take_files(opened, replace, fresh);
                }
            }
            ToLogs::Close { name } => {
                self.feeds.remove(&name);
            }
            ToLogs::Restore(snapshot) => {
                let unpacked = unpack(&snapshot.state);
                match unpacked.and_then(|state| self.engine.restore(&state)) {
                    Ok(()) => self.covers = snapshot.covers.into_iter().collect(),
                    Err(reason) => tracing::warn!(reason, "the detection state of before cannot be used"),
                }
            }
            ToLogs::Replay(bytes) => {
                let batch = batch::decode(&bytes).context("a batch of the spool is damaged")?;
                self.engine.replay(&batch);
                self.covers.insert(batch.header.stream, batch.header.sequence);
            }
            ToLogs::Live => {
                self.live = true;
                // The first figures tell that it reads.
                self.second_due = Instant::now();
                self.snapshot_due = Some(Instant::now() + SNAPSHOT_EVERY);
            }
            ToLogs::Taken { .. } => self.credits = self.credits.saturating_add(1).min(self.start.credits),
            ToLogs::Stop => {
                if self.live {
                    self.send_snapshot()?;
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Swaps the rules where new ones are loaded.
    fn swap(&mut self) -> Result<()> {
        let Some((number, thread)) = self.loading.take_if(|(_, thread)| thread.is_finished()) else { return Ok(()) };
        let Ok((mut engine, errors)) = thread.join() else { bail!("loading the rules of bundle {number} failed") };
        // Windows that are open go on where the rules are the same.
        if let Err(reason) = engine.restore(&self.engine.snapshot()) {
            tracing::info!(reason, "open windows of the former rules end here");
        }
        engine.take_over(&mut self.engine);
        self.engine = engine;
        self.start.bundle = number;
        self.say(&FromLogs::Ready { rules: self.engine.rules(), errors })
    }

    /// One batch of each input that has something, round and round, while there are credits.
    fn read_all(&mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            let due: Vec<String> =
                self.feeds.iter().filter(|(_, feed)| feed.is_due(now)).map(|(name, _)| name.clone()).collect();
            if due.is_empty() || self.credits == 0 {
                return Ok(());
            }
            for name in due {
                if self.credits == 0 {
                    return Ok(());
                }
                self.read_one(&name)?;
            }
            // Credits and policies must not wait for the end of a long log.
            if !self.listen_between()? {
                return Ok(());
            }
        }
    }

    /// Takes messages that came meanwhile; false leaves what ends the worker to the main loop.
    fn listen_between(&mut self) -> Result<bool> {
        let mut wanted = [PollFd::new(&self.channel, PollFlags::IN)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut wanted, Some(&none)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(true),
            Ok(_) => Ok(false),
            Err(error) => Err(error).context("cannot wait for the supervisor"),
        }
    }

    /// Reads one batch of an input and sends it.
    fn read_one(&mut self, name: &str) -> Result<()> {
        let Some(feed) = self.feeds.get_mut(name) else { return Ok(()) };
        let now = self.clock.now();
        let sequence = feed.sequence;
        let batch_id = id::batch_id(&self.start.agent, name, sequence);
        let (input, history) = (feed.input.clone(), feed.history);
        let mut maker = self.engine.maker(&mut self.encoder, &input, &batch_id, now, history);
        let mut cursor = None;
        let is_journal = feed.pipe().is_some();
        let step = feed.read(&mut self.buffer, |line| {
            if is_journal {
                match journal::entry(line.bytes) {
                    Ok(entry) => {
                        maker.line(&entry.line, line.offset, line.dropped);
                        cursor = Some(entry.cursor);
                    }
                    Err(()) => maker.line(line.bytes, line.offset, line.dropped),
                }
            } else {
                maker.line(line.bytes, line.offset, line.dropped);
            }
        });
        let step = step.with_context(|| format!("cannot read log input {name}"))?;
        let made = maker.finish();
        if let Some(cursor) = cursor {
            feed.at_cursor(&cursor);
        }
        if step == Step::Cut {
            self.encoder.clear();
            feed.held = true;
            let files = feed.files();
            self.say(&FromLogs::Cut { name: name.to_owned(), files })?;
            return Ok(());
        }
        if made.lines == 0 {
            return Ok(());
        }
        feed.made(made.lines, Instant::now());
        feed.counters.lines += made.lines as u64;
        feed.counters.last = Some(now);
        self.send(name, made)
    }

    /// Sends the batch of an input that is in the encoder, with what time brought.
    fn send(&mut self, name: &str, mut made: Made) -> Result<()> {
        let Some(feed) = self.feeds.get_mut(name) else { return Ok(()) };
        for alert in self.late.0.drain(..) {
            made.alerts += 1;
            made.put(&mut self.encoder, &alert);
        }
        made.orders.append(&mut self.late.1);
        let count = self.encoder.count();
        feed.counters.alerts += made.alerts as u64;
        feed.counters.events += u64::from(count) - made.alerts as u64;
        let position = match feed.position() {
            Some(position) => Some(postcard::to_stdvec(&position)?),
            None => None,
        };
        if made.untold > 0 {
            let now = self.clock.now();
            let (count, cause, place) = (made.untold, "alert_flood".into(), name.to_owned());
            feed.losses.push(Loss { count, cause, place, from: now, to: now });
        }
        let header = BatchHeader {
            id: id::batch_id(&self.start.agent, name, feed.sequence),
            origin: self.start.agent.clone(),
            stream: name.to_owned(),
            sequence: feed.sequence,
            first_event: feed.event,
            count,
            bundle: self.start.bundle,
            losses: std::mem::take(&mut feed.losses),
            position,
        };
        let sequence = feed.sequence;
        feed.sequence += 1;
        feed.event += u64::from(count);
        self.covers.insert(name.to_owned(), sequence);
        self.credits -= 1;
        if self.snapshot_due.is_none() {
            self.snapshot_due = Some(Instant::now() + SNAPSHOT_EVERY.max(self.snapshot_took * SNAPSHOT_REST));
        }
        let packed = made.problem.map_or_else(|| self.encoder.finish(&header), Err);
        let bytes = packed.context("a batch is too large")?;
        let message = FromLogs::Batch { stream: name.to_owned(), sequence, bytes, count, orders: made.orders };
        self.say(&message)
    }

    fn each_second(&mut self, now: Instant) -> Result<()> {
        if self.credits > 0 {
            self.starved = None;
        }
        let starved = self.credits == 0 && now.duration_since(*self.starved.get_or_insert(now)) >= STARVED;
        if self.snapshot_due.is_some_and(|due| due <= now || starved) {
            self.send_snapshot()?;
        }
        if self.second_due > now {
            return Ok(());
        }
        self.second_due = now + SECOND;
        let counters = self.feeds.values().map(|feed| feed.counters.clone()).collect();
        self.say(&FromLogs::Counters(counters))?;
        let time: Timestamp = self.clock.now();
        let (events, orders) = self.engine.advance(time);
        self.late.0.extend(events);
        self.late.1.extend(orders);
        if self.late.0.is_empty() || self.credits == 0 {
            return Ok(());
        }
        let Some(name) = self.feeds.keys().next().cloned() else { return Ok(()) };
        self.send(&name, Made::default())
    }

    fn send_snapshot(&mut self) -> Result<()> {
        self.snapshot_due = None;
        let began = Instant::now();
        let covers = self.covers.iter().map(|(name, sequence)| (name.clone(), *sequence)).collect();
        let mut state = zstd::bulk::compress(&self.engine.snapshot(), 1).context("cannot pack the detection state")?;
        if state.len() > MAX_STATE {
            // Without any snapshot the spool could never let go of a batch, and reading would stop for good.
            tracing::warn!(bytes = state.len(), "too many open windows to keep: a restart begins with none of them");
            state = Vec::new();
        }
        self.snapshot_took = began.elapsed();
        self.say(&FromLogs::Snapshot(Snapshot { covers, state }))
    }

    fn say(&self, message: &FromLogs) -> Result<()> {
        self.channel.send(&postcard::to_stdvec(message)?, &[]).context("the supervisor is gone")
    }
}

/// The state of a snapshot; an empty one is none.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    if packed.is_empty() {
        return Err("it was too large to keep".into());
    }
    zstd::bulk::decompress(packed, MAX_UNPACKED).map_err(|error| format!("it is damaged: {error}"))
}

/// Empties the queue; what it says is known already: something grew.
fn drain(queue: &File) {
    use std::io::Read;
    let mut bytes = [0_u8; 16 * 1024];
    let mut from = queue;
    while matches!(from.read(&mut bytes), Ok(got) if got == bytes.len()) {}
}
