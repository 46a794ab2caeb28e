//! The keeper: a small process that holds the fanotify group, so that the kernel is always answered (D11).
//!
//! It starts before the agent and outlives it: no new policy, rules or release touch it. It parses nothing: records of
//! a fixed size come from the kernel and from the agent, files are handed on as descriptors. After the first mark it
//! opens no file, since a listener that opens one under its own mark waits for itself. In order, each question is
//! answered
//!
//! 1. at once, for processes of ours ([`ToKeeper::Exempt`], which ends with the connection) and for itself;
//! 2. at once, if the file is no regular one, is empty, or is known to be clean: then nobody may have it open or
//!    mapped to write, which is asked every time ([`cache`]);
//! 3. by the agent, which gets the file;
//! 4. by policy ([`Silence`]), when there is no agent for as long as that says, or it is silent for too long.
//!
//! What was written and closed is judged soon, not at once: whoever opens it meanwhile asks for himself, and files that are
//! handed on together cost far fewer changes between processes ([`GATHER`]).
//!
//! Whoever opens a file to write makes the keeper forget it, and no verdict of a time with a writer is remembered. So
//! an open that begins after the last write always waits for a verdict on what was written, by whatever means.
//!
//! The kernel answers "allow" for what waits when the last holder of the group dies: the group is held by nobody else.

pub mod cache;
pub mod message;
pub mod pump;
pub mod pump_message;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sakimori_sys::channel::{Channel, Waited};
use sakimori_sys::fanotify::{Cover, Event, Group, What, has_writer, raise_descriptor_limit};

use cache::{Cache, Stamp};
use message::{COUNTS, Count, FromKeeper, Question, Silence, ToKeeper};

/// Most questions that wait here, each with a descriptor; the rest wait in the kernel.
pub const MAX_WAITING: usize = 8_192;
/// Most questions that the agent has in hand.
const MAX_ASKED: usize = 256;
/// Most files that are always allowed.
const MAX_KEPT: usize = 1_024;
/// An agent that does not read for this long is no agent.
const SEND: Duration = Duration::from_millis(500);
/// How long a file that was written may lie, so that it goes to the agent together with others.
const GATHER: Duration = Duration::from_millis(10);
/// So many do not lie.
const GATHERED: usize = 64;
/// Longest sleep without anything to do.
const IDLE: Duration = Duration::from_secs(3_600);

/// A question that waits.
struct Waiting {
    file: OwnedFd,
    stamp: Option<Stamp>,
    question: Question,
    pid: i32,
    since: Instant,
    /// The agent has it.
    asked: bool,
    /// Somebody opened it to write since.
    dirty: bool,
}

struct Keeper {
    group: Group,
    agent: Option<Channel>,
    /// Since when the agent is there, or is not.
    state_since: Instant,
    silence: Silence,
    /// The agent itself, from its first moment on, and what it says.
    exempt: BTreeSet<i32>,
    agent_pid: i32,
    /// Events about what was written were lost, and the agent was not told yet.
    lost: bool,
    ended: bool,
    cache: Cache,
    kept: BTreeMap<cache::Identity, Stamp>,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    asked: usize,
    counts: BTreeMap<Count, u64>,
}

/// Runs until an agent says [`ToKeeper::End`]: takes one agent at a time from the listener, a new one in place of the
/// old.
///
/// # Errors
/// The group cannot be made: no right, or a kernel without permission events. Or the listener broke.
pub fn run(listener: &UnixListener, silence: Silence) -> io::Result<()> {
    raise_descriptor_limit(4 * u64::try_from(MAX_WAITING).unwrap_or(u64::MAX));
    listener.set_nonblocking(true)?;
    let mut keeper = Keeper {
        group: Group::new()?,
        agent: None,
        state_since: Instant::now(),
        silence,
        exempt: BTreeSet::new(),
        agent_pid: 0,
        lost: false,
        ended: false,
        cache: Cache::default(),
        kept: BTreeMap::new(),
        waiting: BTreeMap::new(),
        next: 1,
        asked: 0,
        counts: BTreeMap::new(),
    };
    while !keeper.ended {
        keeper.turn(listener)?;
    }
    Ok(())
}

/// Takes who knocks, and its process id, if it is of the same user as this process: root, where it matters.
fn admit(listener: &UnixListener) -> Option<(Channel, i32)> {
    let (stream, _) = listener.accept().ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    if peer.uid != rustix::process::geteuid() {
        return None;
    }
    let channel = Channel::new(OwnedFd::from(stream));
    channel.set_send_timeout(Some(SEND)).ok()?;
    Some((channel, peer.pid.as_raw_nonzero().get()))
}

impl Keeper {
    fn turn(&mut self, listener: &UnixListener) -> io::Result<()> {
        let limit = Timespec::try_from(self.sleep()).map_err(io::Error::other)?;
        let full = self.waiting.len() >= MAX_WAITING;
        let mut ready = [false; 3];
        {
            let group = if full { PollFlags::empty() } else { PollFlags::IN };
            let mut wanted = vec![PollFd::new(listener, PollFlags::IN), PollFd::new(&self.group, group)];
            if let Some(agent) = &self.agent {
                wanted.push(PollFd::new(agent, PollFlags::IN));
            }
            match poll(&mut wanted, Some(&limit)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for (ready, polled) in ready.iter_mut().zip(&wanted) {
                *ready = !polled.revents().is_empty();
            }
        }
        let [someone, asked, told] = ready;
        if told {
            self.listen();
        }
        if someone {
            self.accept(listener);
        }
        if asked && !full {
            let batch = self.group.read()?;
            self.lost |= batch.overflow;
            batch.events.into_iter().for_each(|event| self.event(event));
        }
        if self.lost && self.agent.is_some() {
            self.lost = false;
            self.tell(FromKeeper::Lost);
        }
        self.ask();
        self.answer_due();
        Ok(())
    }

    fn count(&mut self, which: Count) {
        *self.counts.entry(which).or_default() += 1;
    }

    /// What the kernel asks or tells.
    fn event(&mut self, event: Event) {
        let Event { what, pid, file } = event;
        let question = match what {
            What::Open => Question::Open,
            What::Execute => Question::Execute,
            What::Written => Question::Written,
        };
        let waits = question != Question::Written;
        let own = u32::try_from(pid).is_ok_and(|pid| pid == std::process::id());
        let ours = own || self.exempt.contains(&pid) || (self.agent.is_some() && pid == self.agent_pid);
        let stamp = Stamp::of(&file).ok();
        // Unknown counts as written to: what cannot be told apart is judged.
        let written = has_writer(file.as_fd()).unwrap_or(true);
        if let Some(stamp) = stamp.filter(|_| written || !waits) {
            self.cache.drop_file(&stamp.identity);
            self.kept.remove(&stamp.identity);
            for other in self.waiting.values_mut().filter(|other| other.dirty_with(&stamp)) {
                other.dirty = true;
            }
        }
        if waits {
            self.count(Count::Asked);
        }
        let known = stamp.is_some_and(|stamp| {
            let kept = self.kept.get(&stamp.identity) == Some(&stamp);
            !stamp.regular || stamp.size == 0 || (!written && (kept || self.cache.knows(&stamp)))
        });
        if ours || known {
            if waits {
                self.count(if ours { Count::Exempt } else { Count::Known });
                self.answer(&file, true);
            }
            return;
        }
        if !waits && (self.agent.is_none() || self.waiting.len() >= MAX_WAITING / 2) {
            // Nobody waits for it, and whoever opens it will.
            self.lost = true;
            return;
        }
        let id = self.next;
        self.next += 1;
        let since = Instant::now();
        self.waiting.insert(id, Waiting { file, stamp, question, pid, since, asked: false, dirty: written });
    }

    /// Hands questions to the agent, oldest first, as far as it may have them in hand.
    fn ask(&mut self) {
        if self.agent.is_none() || self.asked >= MAX_ASKED || self.asked == self.waiting.len() {
            return;
        }
        let room = MAX_ASKED - self.asked;
        let now = Instant::now();
        let many = self.waiting.len() - self.asked >= GATHERED;
        let due = |one: &Waiting| many || one.question != Question::Written || one.since + GATHER <= now;
        let wanted = self.waiting.iter().filter(|(_, one)| !one.asked && due(one));
        let ids: Vec<u64> = wanted.map(|(id, _)| *id).take(room).collect();
        for id in ids {
            let Some(agent) = self.agent.clone() else { return };
            let Some(one) = self.waiting.get_mut(&id) else { continue };
            // Somebody may have opened it, and waited for the verdict.
            if one.question == Question::Written
                && let Ok(stamp) = Stamp::of(&one.file)
                && !has_writer(one.file.as_fd()).unwrap_or(true)
                && self.cache.knows(&stamp)
            {
                self.waiting.remove(&id);
                continue;
            }
            let message = FromKeeper::Ask { id, question: one.question, pid: one.pid };
            if agent.send(&message.encode(), &[one.file.as_fd()]).is_err() {
                return self.hear_out();
            }
            one.asked = true;
            self.asked += 1;
        }
    }

    /// What the agent says.
    fn listen(&mut self) {
        loop {
            let Some(agent) = &self.agent else { return };
            match agent.recv_timeout(Duration::ZERO) {
                Ok(Waited::Frame((body, files))) => match ToKeeper::decode(&body) {
                    Some(message) => self.message(message, files.into_iter().next()),
                    None => return self.gone(),
                },
                Ok(Waited::TimedOut) => return,
                Ok(Waited::Closed) | Err(_) => return self.gone(),
            }
        }
    }

    fn message(&mut self, message: ToKeeper, file: Option<OwnedFd>) {
        match message {
            ToKeeper::Silence(silence) => self.silence = silence,
            ToKeeper::Mark | ToKeeper::Unmark => {
                let Some(place) = file else { return self.gone() };
                let changed = match message {
                    ToKeeper::Mark => self.group.mark(place.as_fd(), Cover::FileSystem),
                    _ => self.group.unmark(place.as_fd(), Cover::FileSystem),
                };
                let error = changed.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1));
                self.tell(FromKeeper::Done(error));
            }
            ToKeeper::Exempt(pids) => self.exempt = pids.into_iter().collect(),
            ToKeeper::Forget => {
                self.cache.clear();
                // Verdicts that are on their way are of the old rules.
                self.waiting.values_mut().for_each(|one| one.dirty = true);
            }
            ToKeeper::Keep => {
                if let Some(stamp) = file.and_then(|file| Stamp::of(&file).ok())
                    && self.kept.len() < MAX_KEPT
                {
                    self.kept.insert(stamp.identity, stamp);
                }
            }
            ToKeeper::End => self.ended = true,
            ToKeeper::Answer { id, allow, remember } => self.answered(id, allow, remember),
            ToKeeper::Numbers => {
                for which in COUNTS {
                    let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
                    let value = self.counts.get(&which).copied().unwrap_or(0);
                    let value = if which == Count::Waiting { waiting } else { value };
                    self.tell(FromKeeper::Number(which, value));
                }
            }
        }
    }

    fn answered(&mut self, id: u64, allow: bool, remember: bool) {
        let Some(one) = self.waiting.remove(&id) else { return };
        self.asked = self.asked.saturating_sub(usize::from(one.asked));
        if one.question != Question::Written {
            self.count(Count::Judged);
            self.answer(&one.file, allow);
        }
        if allow && remember && !one.dirty {
            let unwritten = !has_writer(one.file.as_fd()).unwrap_or(true);
            if let (Some(before), Ok(now), true) = (one.stamp, Stamp::of(&one.file), unwritten)
                && before == now
            {
                self.cache.remember(now);
            }
        }
    }

    fn answer(&self, file: &OwnedFd, allow: bool) {
        // A failure leaves nothing to be done here: the kernel has its answer or its process is gone.
        let _ = self.group.answer(file.as_fd(), allow);
    }

    fn tell(&mut self, message: FromKeeper) {
        let Some(agent) = &self.agent else { return };
        if agent.send(&message.encode(), &[]).is_err() {
            self.hear_out();
        }
    }

    /// Nothing can be told to it any more; of what it said before it left, an end counts.
    fn hear_out(&mut self) {
        while let Some(agent) = &self.agent {
            match agent.recv_timeout(Duration::ZERO) {
                Ok(Waited::Frame((body, _))) => self.ended |= matches!(ToKeeper::decode(&body), Some(ToKeeper::End)),
                _ => self.gone(),
            }
        }
    }

    /// A new agent takes the place of the old one and gets every question that waits.
    fn accept(&mut self, listener: &UnixListener) {
        let Some((channel, pid)) = admit(listener) else { return };
        self.gone();
        self.agent = Some(channel);
        self.agent_pid = pid;
        self.state_since = Instant::now();
    }

    /// The agent is gone: its processes are strangers again, its questions wait for the next one or for the policy.
    fn gone(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.close();
        }
        self.exempt.clear();
        self.state_since = Instant::now();
        self.asked = 0;
        self.waiting.retain(|_, one| one.question != Question::Written);
        self.waiting.values_mut().for_each(|one| one.asked = false);
    }

    /// Until when one that waits since then may wait. Later ones never end earlier.
    fn deadline(&self, since: Instant) -> Instant {
        let patience = if self.agent.is_some() { self.silence.slow_ms } else { self.silence.absent_ms };
        since.max(self.state_since) + Duration::from_millis(u64::from(patience))
    }

    fn sleep(&self) -> Duration {
        let first = self.waiting.values().next().map(|one| self.deadline(one.since));
        let lies = self.agent.is_some() && self.asked < MAX_ASKED;
        let lies = lies.then(|| self.waiting.values().find(|one| !one.asked)).flatten().map(|one| one.since + GATHER);
        let next = first.into_iter().chain(lies).min();
        next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()))
    }

    /// Answers by policy whatever has waited long enough.
    fn answer_due(&mut self) {
        let now = Instant::now();
        while let Some((&id, one)) = self.waiting.first_key_value() {
            if self.deadline(one.since) > now {
                return;
            }
            let Some(one) = self.waiting.remove(&id) else { return };
            self.asked = self.asked.saturating_sub(usize::from(one.asked));
            if one.question != Question::Written {
                self.count(Count::Silent);
                self.answer(&one.file, self.silence.allow);
            }
        }
    }
}

impl Waiting {
    fn dirty_with(&self, stamp: &Stamp) -> bool {
        self.stamp.is_some_and(|own| own.identity == stamp.identity)
    }
}
