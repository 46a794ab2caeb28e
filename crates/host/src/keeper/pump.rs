//! The pump: a small process that holds one packet queue, so that the kernel is always answered (D11).
//!
//! It is to packets what the keeper is to files, and a process of its own beside it: one queue, one pump, one worker,
//! and each fails alone. It starts before its worker and outlives it; no policy, rules or release touch it. It parses
//! no packet: bytes go from the queue into a ring ([`sakimori_sys::ring`]), words come back, each for one packet that
//! was handed out, once, in order; a worker that breaks that is done with. In order, a packet is answered
//!
//! 1. by the worker;
//! 2. by policy ([`Silence`]) when there is no worker for as long as that says: until then packets wait, and a worker
//!    that is started anew gets them. The one that its predecessor had in hand is not handed out again: it may be what
//!    ended it;
//! 3. by policy when a worker is there and gives no word for too long. The agent is told, and ends it.
//!
//! What does not fit into the ring waits in the kernel's queue, whose own bound follows the same policy.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sakimori_sys::channel::{Channel, Waited};
use sakimori_sys::nfqueue::{Checksum, Options, Queue, Verdict, join};
use sakimori_sys::nft::queue::{Mark, Marks};
use sakimori_sys::pace::{LINGER, Pace};
use sakimori_sys::ring::{BYTES, Giver, Label, Word};

use super::admit;
use super::message::Silence;
use super::pump_message::{COUNTS, Count, FromPump, ToPump};

/// Packets that may wait in the kernel.
pub const LENGTH: u32 = 4_096;
/// Turns after which agent and newcomers are looked for though there were packets all the time.
const GLANCE: u64 = 64;
/// Most readings of the queue before verdicts are looked at again.
const READINGS: usize = 4;
const IDLE: Duration = Duration::from_secs(3_600);

/// What a pump is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Number of its queue.
    pub queue: u16,
    /// Bits of marks by which it tells the rules what to do.
    pub marks: Marks,
    /// Until the agent says something else.
    pub silence: Silence,
}

/// A packet that waits.
struct Pending {
    id: u32,
    mark: u32,
    since: Instant,
    /// By policy, while the worker still has it.
    answered: bool,
}

struct Pump {
    queue: Queue,
    ring: Giver,
    marks: Marks,
    silence: Silence,
    agent: Option<Channel>,
    /// Since when the worker is there, or is not.
    state_since: Instant,
    /// When the worker last gave a word, or had nothing to give one on.
    progress: Instant,
    /// It gives none.
    late: bool,
    /// In the order of the ring.
    pending: VecDeque<Pending>,
    out: Vec<Verdict>,
    counts: BTreeMap<Count, u64>,
    turns: u64,
    /// When packets were read last, and how soon after each other they come.
    read_at: Instant,
    pace: Pace,
    ended: bool,
}

/// Runs until an agent says [`ToPump::End`].
///
/// # Errors
/// The queue cannot be bound (no right, or somebody else reads it), or broke.
pub fn run(listener: &UnixListener, settings: Settings) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let options = Options { length: LENGTH, open: settings.silence.allow };
    let now = Instant::now();
    let mut pump = Pump {
        queue: Queue::bind(settings.queue, options).map_err(io::Error::other)?,
        ring: Giver::new()?,
        marks: settings.marks,
        silence: settings.silence,
        agent: None,
        state_since: now,
        progress: now,
        late: false,
        pending: VecDeque::new(),
        out: Vec::new(),
        counts: BTreeMap::new(),
        turns: 0,
        read_at: now,
        pace: Pace::default(),
        ended: false,
    };
    while !pump.ended {
        pump.turn(listener)?;
    }
    // What waits is answered, so that it is not lost with the queue.
    pump.give_up(usize::MAX);
    pump.send()
}

impl Pump {
    fn turn(&mut self, listener: &UnixListener) -> io::Result<()> {
        self.turns += 1;
        let [someone, packets, told, rung] = match self.linger() {
            Some(packets) => [false, packets, false, false],
            None => {
                let idle = self.ring.sleep();
                let patience = if idle { self.patience() } else { Duration::ZERO };
                let woken = self.wait(listener, patience)?;
                self.ring.awake();
                woken
            }
        };
        self.words();
        if rung && !self.ring.heard() {
            self.worker_gone();
        }
        // What is due goes before what comes, so that verdicts are in the order of their packets.
        self.due();
        if packets {
            self.pace.waited(self.read_at.elapsed());
            self.packets()?;
            self.read_at = Instant::now();
        }
        self.due();
        self.send()?;
        self.ring.ring();
        if told {
            self.listen();
        }
        if someone && let Some((channel, _)) = admit(listener) {
            self.agent = Some(channel);
        }
        Ok(())
    }

    /// Looks for packets and words without going to sleep, while packets come close together or one is being judged.
    /// Gives whether there are packets, or nothing where there is neither.
    fn linger(&self) -> Option<bool> {
        let began = Instant::now();
        let soon = self.pace.is_close() || !self.pending.is_empty();
        while soon && !self.turns.is_multiple_of(GLANCE) && began.elapsed() < LINGER {
            let mut queue = [PollFd::new(&self.queue, PollFlags::IN)];
            let packets = self.has_room() && poll(&mut queue, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
            if packets || self.ring.has_verdict() {
                return Some(packets);
            }
            thread::yield_now();
        }
        None
    }

    fn wait(&self, listener: &UnixListener, patience: Duration) -> io::Result<[bool; 4]> {
        let limit = Timespec::try_from(patience).map_err(io::Error::other)?;
        let queue = if self.has_room() { PollFlags::IN } else { PollFlags::empty() };
        let mut wanted = vec![PollFd::new(listener, PollFlags::IN), PollFd::new(&self.queue, queue)];
        let mut places = [Some(0), Some(1), None, None];
        let agent = self.agent.as_ref().map(AsFd::as_fd);
        for (place, fd) in places.iter_mut().skip(2).zip([agent, self.ring.bell()]) {
            if let Some(fd) = fd {
                *place = Some(wanted.len());
                wanted.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        match poll(&mut wanted, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(places.map(|place| {
            place.and_then(|at| wanted.get(at)).is_some_and(|polled: &PollFd<'_>| !polled.revents().is_empty())
        }))
    }

    /// A reading is only begun where all of it would fit, or nothing of it would be handed out.
    fn has_room(&self) -> bool {
        self.late || !self.hands_out() || self.ring.has_room_for(32)
    }

    /// Do packets that come now wait for a word?
    fn hands_out(&self) -> bool {
        let absent = Duration::from_millis(u64::from(self.silence.absent_ms));
        !self.late && (self.ring.attached() || self.state_since.elapsed() < absent)
    }

    fn count(&mut self, which: Count, more: u64) {
        *self.counts.entry(which).or_default() += more;
    }

    /// Takes packets from the kernel.
    fn packets(&mut self) -> io::Result<()> {
        let hands_out = self.hands_out();
        for _ in 0..READINGS {
            if hands_out && !self.ring.has_room_for(32) {
                return Ok(());
            }
            let now = Instant::now();
            let time = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros());
            let time = i64::try_from(time).unwrap_or(i64::MAX);
            let Self { queue, ring, pending, out, silence, progress, .. } = self;
            let (mut silent, mut cut) = (0, 0);
            if pending.is_empty() {
                *progress = now;
            }
            let read = queue.read(|packet| {
                let label = Label {
                    time,
                    whole: packet.length,
                    protocol: packet.protocol,
                    hook: packet.hook,
                    unchecked: u8::from(packet.checksum == Checksum::Unknown),
                };
                cut += u64::from(usize::try_from(packet.length).is_ok_and(|length| length > packet.payload.len()));
                if hands_out && ring.push(label, packet.payload) {
                    pending.push_back(Pending { id: packet.id, mark: packet.mark, since: now, answered: false });
                } else {
                    silent += 1;
                    join(out, Verdict { up_to: packet.id, accept: silence.allow, mark: None });
                }
            })?;
            self.count(Count::Packets, u64::try_from(read.packets).unwrap_or(0));
            self.count(Count::Silent, silent);
            self.count(Count::Cut, cut);
            self.count(Count::Overruns, u64::from(read.overrun));
            // The worker begins while the next ones are read.
            self.ring.ring();
            if !read.more {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the worker's words.
    fn words(&mut self) {
        loop {
            match self.ring.verdict() {
                Ok(None) => return,
                Ok(Some(word)) => {
                    self.progress = Instant::now();
                    self.late = false;
                    let Some(packet) = self.pending.pop_front() else { continue };
                    if !packet.answered {
                        self.count(Count::Judged, 1);
                        join(&mut self.out, verdict(word, &packet, self.marks));
                    }
                }
                Err(broken) => {
                    tracing::error!(%broken, "the worker is done with");
                    return self.worker_gone();
                }
            }
        }
    }

    fn worker_gone(&mut self) {
        if !self.ring.attached() {
            return;
        }
        self.words_are_over();
        // What it had in hand may be what ended it.
        self.give_up(1);
        self.tell(FromPump::Gone, &[]);
    }

    /// Nobody has a packet in hand any more; those that were answered are let go.
    fn words_are_over(&mut self) {
        self.ring.detach();
        self.state_since = Instant::now();
        self.late = false;
        while self.pending.front().is_some_and(|packet| packet.answered) {
            self.pending.pop_front();
            self.ring.let_go();
        }
    }

    /// Answers so many of the oldest by policy, where no worker has them.
    fn give_up(&mut self, most: usize) {
        for _ in 0..most {
            let Some(packet) = self.pending.pop_front() else { return };
            self.ring.let_go();
            if !packet.answered {
                self.count(Count::Silent, 1);
                join(&mut self.out, Verdict { up_to: packet.id, accept: self.silence.allow, mark: None });
            }
        }
    }

    /// Answers by policy whatever has waited long enough.
    fn due(&mut self) {
        let now = Instant::now();
        if !self.ring.attached() {
            let absent = Duration::from_millis(u64::from(self.silence.absent_ms));
            let since = self.state_since;
            let due = self.pending.iter().take_while(|packet| packet.since.max(since) + absent <= now).count();
            self.give_up(due);
        } else if !self.late && !self.pending.is_empty() && self.progress + self.slow() <= now {
            self.late = true;
            let mut silent = 0;
            for packet in self.pending.iter_mut().filter(|packet| !packet.answered) {
                packet.answered = true;
                silent += 1;
                join(&mut self.out, Verdict { up_to: packet.id, accept: self.silence.allow, mark: None });
            }
            self.count(Count::Silent, silent);
            self.tell(FromPump::Late, &[]);
        }
    }

    fn slow(&self) -> Duration {
        Duration::from_millis(u64::from(self.silence.slow_ms))
    }

    fn patience(&self) -> Duration {
        let Some(oldest) = self.pending.front() else { return IDLE };
        let due = match (self.ring.attached(), self.late) {
            (true, true) => return IDLE,
            (true, false) => self.progress + self.slow(),
            (false, _) => oldest.since.max(self.state_since) + Duration::from_millis(u64::from(self.silence.absent_ms)),
        };
        due.saturating_duration_since(Instant::now())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.queue.answer(&self.out);
        self.out.clear();
        sent
    }

    /// What the agent says.
    fn listen(&mut self) {
        loop {
            let Some(agent) = &self.agent else { return };
            match agent.recv_timeout(Duration::ZERO) {
                Ok(Waited::Frame((body, _))) => match ToPump::decode(&body) {
                    Some(message) => self.message(message),
                    None => return self.agent_gone(),
                },
                Ok(Waited::TimedOut) => return,
                Ok(Waited::Closed) | Err(_) => return self.agent_gone(),
            }
        }
    }

    fn message(&mut self, message: ToPump) {
        match message {
            ToPump::Silence(silence) => {
                self.silence = silence;
                if let Err(error) = self.queue.set_open(silence.allow) {
                    tracing::error!(%error, "the queue's own bound keeps its former policy");
                }
            }
            ToPump::Attach => {
                self.words_are_over();
                match self.ring.attach() {
                    Ok(handed) => {
                        self.state_since = Instant::now();
                        self.progress = self.state_since;
                        let files = [handed.packets.as_fd(), handed.verdicts.as_fd(), handed.bell.as_fd()];
                        self.tell(FromPump::Attached, &files);
                    }
                    Err(error) => {
                        tracing::error!(%error, "no memory for a worker");
                        self.agent_gone();
                    }
                }
            }
            ToPump::Numbers => {
                for which in COUNTS {
                    let waiting = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
                    let value = self.counts.get(&which).copied().unwrap_or(0);
                    self.tell(FromPump::Number(which, if which == Count::Waiting { waiting } else { value }), &[]);
                }
            }
            ToPump::End => self.ended = true,
        }
    }

    fn tell(&mut self, message: FromPump, files: &[std::os::fd::BorrowedFd<'_>]) {
        if let Some(agent) = &self.agent
            && agent.send(&message.encode(), files).is_err()
        {
            self.agent_gone();
        }
    }

    /// The agent is gone; its worker is its child and ends by itself.
    fn agent_gone(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.close();
        }
    }
}

/// What the kernel is told.
fn verdict(word: Word, packet: &Pending, marks: Marks) -> Verdict {
    let marked = |mark| Some(marks.put(packet.mark, mark));
    let (accept, mark) = match word {
        Word::Accept => (true, None),
        Word::Drop => (false, None),
        Word::DropFlow => (true, marked(Mark::DropFlow)),
        Word::Reject => (true, marked(Mark::Reject)),
        Word::Done => (true, marked(Mark::Done)),
        Word::RepliesDone => (true, marked(Mark::RepliesDone)),
        Word::Inspect => (true, marked(Mark::Inspect)),
        Word::RepliesFar => (true, marked(Mark::RepliesFar)),
    };
    Verdict { up_to: packet.id, accept, mark }
}

const _: () = assert!(BYTES >= 64 * sakimori_sys::ring::LONGEST);
