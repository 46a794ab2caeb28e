//! A worker process as the supervisor sees it: started by the launcher of `sys`, read by one thread and
//! written to by another, so that the loop never waits for a worker.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_sys::cgroup::Group;
use sakimori_sys::channel::{Channel, Waited};
use sakimori_sys::worker::{Worker, WorkerSpec};
use sakimori_wire::ipc::ToLogs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::spool::Replay;

/// User and group of the `logs` worker.
pub const LOGS_UID: u32 = 64_101;
/// User and group of the `uplink` worker.
pub const UPLINK_UID: u32 = 64_102;
/// User and group of `network` workers.
pub const NETWORK_UID: u32 = 64_105;
/// User of `journalctl`, which reads the journal for the `logs` worker.
pub const JOURNAL_UID: u32 = 64_103;
/// User and group of the `triage` worker.
pub const TRIAGE_UID: u32 = 64_107;
/// First wait before a worker that ended is started again.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// One that ran this long was healthy.
const HEALTHY: Duration = Duration::from_secs(60);

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Parses logs and runs rules.
    Logs,
    /// Speaks to the manager.
    Uplink,
    /// Speaks to it once, with a token.
    Enrol,
    /// Judges packets.
    Network,
    /// Opens and reads what a triage package is made of.
    Gather,
    /// Looks into it, and packs it.
    Triage,
    /// Signs a package with the identity's key.
    Sign,
}

/// A started worker that nobody reads yet.
pub struct Started(Worker);

/// Starts a worker of this program, in a control group where there is one for it.
///
/// # Errors
/// Where the process cannot be made.
pub fn spawn(kind: Kind, group: Option<Group>) -> Result<Started> {
    let (name, uid) = match kind {
        Kind::Logs => ("logs", LOGS_UID),
        Kind::Uplink => ("uplink", UPLINK_UID),
        Kind::Enrol => ("enrol", UPLINK_UID),
        Kind::Network => ("network", NETWORK_UID),
        Kind::Gather => ("gather", 0),
        Kind::Triage => ("triage", TRIAGE_UID),
        Kind::Sign => ("sign", UPLINK_UID),
    };
    let mut spec = WorkerSpec::own(name, &["worker", name], uid, uid);
    spec.network = matches!(kind, Kind::Uplink | Kind::Enrol | Kind::Gather);
    spec.opens = kind == Kind::Gather;
    spec.group = group;
    spec.env.extend(crate::ALLOCATOR_SETTINGS.iter().map(|(name, value)| (name.into(), value.into())));
    Ok(Started(sakimori_sys::worker::spawn(&spec).with_context(|| format!("cannot start the {name} worker"))?))
}

impl Started {
    /// Sends one message and waits for one answer.
    ///
    /// # Errors
    /// Where it ends, is silent for too long, or answers what is not understood.
    pub fn ask<Q: Serialize, A: DeserializeOwned>(&self, question: &Q, patience: Duration) -> Result<A> {
        self.0.channel.send(&postcard::to_stdvec(question)?, &[])?;
        match self.0.channel.recv_timeout(patience)? {
            Waited::Frame((bytes, _)) => Ok(postcard::from_bytes(&bytes)?),
            Waited::Closed => bail!("the worker ended"),
            Waited::TimedOut => bail!("the worker was silent for {} seconds", patience.as_secs()),
        }
    }

    /// Our end of its channel.
    pub fn channel(&self) -> &Channel {
        &self.0.channel
    }

    /// Ends it.
    pub fn end(self) {
        drop(self.0);
    }

    /// Ends it, without waiting for that: the kernel may hold it up for ever.
    pub fn leave(self) {
        let _ = self.0.kill();
        if let Err(error) = std::thread::Builder::new().name("leave".into()).spawn(move || drop(self.0)) {
            tracing::warn!(%error, "nobody waits for the end of a worker that is held up");
        }
    }

    /// Begins reading and writing. `read` gets every message, and `None` at the end.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn run<T, F>(self, read: F) -> Result<Process>
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(Option<T>) -> bool + Send + 'static,
    {
        let worker = self.0;
        let reading = worker.channel.try_clone().context("cannot copy a channel")?;
        std::thread::Builder::new()
            .name(format!("from-{}", worker.name))
            .spawn(move || {
                // A message that is not understood ends the worker: it is not what it was when it was started.
                while let Ok(Some((bytes, _))) = reading.recv() {
                    let Ok(message) = postcard::from_bytes::<T>(&bytes) else { break };
                    if !read(Some(message)) {
                        return;
                    }
                }
                reading.close();
                read(None);
            })
            .context("cannot start a thread")?;
        let (jobs, inbox) = channel();
        let writing = worker.channel.try_clone().context("cannot copy a channel")?;
        std::thread::Builder::new()
            .name(format!("to-{}", worker.name))
            .spawn(move || {
                for job in inbox {
                    if write(&writing, job).is_err() {
                        writing.close();
                        return;
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Process { worker, jobs, began: Instant::now() })
    }
}

enum Job {
    Send(Vec<u8>, Vec<OwnedFd>),
    Replay(Box<Replay>),
}

fn write(channel: &Channel, job: Job) -> Result<()> {
    match job {
        Job::Send(bytes, descriptors) => {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            channel.send(&bytes, &borrowed)?;
        }
        Job::Replay(replay) => {
            for batch in *replay {
                channel.send(&postcard::to_stdvec(&ToLogs::Replay(batch?))?, &[])?;
            }
        }
    }
    Ok(())
}

/// A running worker.
pub struct Process {
    worker: Worker,
    jobs: Sender<Job>,
    began: Instant,
}

impl Process {
    /// Sends a message after all that were sent before; never waits.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: Vec<OwnedFd>) {
        match postcard::to_stdvec(message) {
            Ok(bytes) => {
                let _ = self.jobs.send(Job::Send(bytes, descriptors));
            }
            Err(error) => tracing::error!(%error, "cannot encode a message to a worker"),
        }
    }

    /// Sends what the spool holds, read piece by piece as the worker takes it.
    pub fn replay(&self, replay: Replay) {
        let _ = self.jobs.send(Job::Replay(Box::new(replay)));
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.worker.pid
    }

    /// Lets it end by itself for so long, then as [`Process::end`].
    pub fn end_within(mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while matches!(self.worker.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.end();
    }

    /// Ends it at once and says how it ended.
    pub fn end(mut self) -> (String, bool) {
        let healthy = self.began.elapsed() >= HEALTHY;
        // It may be closing its channel while it ends by itself: its own status says more than our signal.
        let until = Instant::now() + Duration::from_millis(50);
        while matches!(self.worker.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Ok(Some(status)) = self.worker.try_wait() {
            return (status.to_string(), healthy);
        }
        let _ = self.worker.kill();
        let _ = self.worker.wait();
        ("it closed its channel".into(), healthy)
    }

    /// Asks the kernel to end it; its channel closes then.
    pub fn kill(&self) {
        let _ = self.worker.kill();
    }
}

/// When a worker that ended is started again.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    due: Option<Instant>,
    restarts: u64,
}

impl Backoff {
    /// It ended.
    pub fn ended(&mut self, was_healthy: bool) {
        self.failures = if was_healthy { 1 } else { self.failures.saturating_add(1) };
        let wait = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(12)).min(LONGEST_WAIT);
        self.due = Some(Instant::now() + wait);
        self.restarts += 1;
    }

    /// When it is due, where it is.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It was started, or is not wanted.
    pub fn clear(&mut self) {
        self.due = None;
    }

    /// How often it ended.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }
}
