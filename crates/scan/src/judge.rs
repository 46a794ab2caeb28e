//! One worker as its parent sees it.
//!
//! [`compile`] starts a worker, has it compile rules into memory, seals that and ends the worker. A [`Judge`] is a
//! worker with those rules: files are handed over up to [`WINDOW`] ahead, so that it never waits for its parent, and
//! answers come in the same order. Small files go several in one message, since a message costs more than their
//! judgement. When the worker ends or is silent for too long, a new one gets what it had in hand, one by one; a file that
//! was alone in its message then is told as skipped.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use sakimori_malware::{Kind, Limits, RuleError, Verdict};
use sakimori_sys::channel::Waited;
use sakimori_sys::memory;
use sakimori_sys::worker::{Identity, Worker, WorkerError, WorkerSpec, spawn};

use crate::message::{FromWorker, Judgement, Sources, ToWorker};
use crate::worker::failed;

/// User and group of malware workers.
pub const UID: u32 = 64_104;
/// Most files of one message.
pub const TOGETHER: usize = 8;
/// Most files in hand of one worker: it judges one message while the next lies ready.
pub const WINDOW: usize = 2 * TOGETHER;
/// How long a worker may take to start, and to load its rules.
const START: Duration = Duration::from_secs(60);
/// How long it may take to compile rules.
const COMPILE: Duration = Duration::from_secs(600);
/// What a scan may take beyond its own limit: reading from a slow disk.
const SLACK: Duration = Duration::from_secs(30);

/// Why there is no judge.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The worker does not start.
    #[error(transparent)]
    Start(#[from] WorkerError),
    /// It does not do what it was asked for.
    #[error("the malware worker {attempt}: {reason}")]
    Failed {
        /// What was attempted.
        attempt: &'static str,
        /// What came back.
        reason: String,
    },
}

/// Rules that are ready to be handed to workers.
#[derive(Debug)]
pub struct Compiled {
    memory: File,
    /// YARA rules in it.
    pub rules: u64,
    /// Sums in it.
    pub sums: u64,
}

/// How to start a malware worker of this program: `args` lead its `main` to [`crate::worker::run`].
pub fn spec(args: &[&str]) -> WorkerSpec {
    WorkerSpec { network: false, ..WorkerSpec::own("malware", args, UID, UID) }
}

/// Compiles rules in a worker of their own; gives what could not be loaded beside it.
///
/// # Errors
/// The worker does not start, or fails as a whole.
pub fn compile(spec: &WorkerSpec, sources: &Sources) -> Result<(Compiled, Vec<RuleError>), JudgeError> {
    const ATTEMPT: &str = "could not compile the rules";
    let wrong = |error: &dyn std::fmt::Display| JudgeError::Failed { attempt: ATTEMPT, reason: error.to_string() };
    let (worker, _) = start(spec)?;
    let text = postcard::to_stdvec(sources).map_err(|error| wrong(&error))?;
    let text = memory::sealed("rules", &text).map_err(|error| wrong(&error))?;
    let out = memory::empty("compiled rules").map_err(|error| wrong(&error))?;
    tell(&worker, &ToWorker::Compile, &[&text, &out]).map_err(|error| wrong(&error))?;
    match answer(&worker, COMPILE).map_err(|error| wrong(&error))? {
        FromWorker::Compiled { rules, sums, errors } => {
            // Ended first: what still holds the memory to write keeps it from being sealed.
            drop(worker);
            memory::seal(&out).map_err(|error| wrong(&error))?;
            Ok((Compiled { memory: out, rules, sums }, errors))
        }
        FromWorker::Refused(reason) => Err(wrong(&reason)),
        _ => Err(wrong(&"it answered something else")),
    }
}

/// A worker with rules.
pub struct Judge<'c> {
    spec: WorkerSpec,
    compiled: &'c Compiled,
    limits: Limits,
    worker: Worker,
    landlock: String,
    in_hand: VecDeque<(u64, File)>,
    /// How many of them went in each message, oldest first.
    messages: VecDeque<usize>,
    /// What it said and nobody collected.
    said: VecDeque<Judgement>,
    next: u64,
    restarts: u64,
}

/// What was said of a file.
#[derive(Debug)]
pub struct Judged {
    /// The number that [`Judge::hand`] gave.
    pub id: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// What it is, where that is told apart.
    pub kind: Option<Kind>,
    /// The file that was judged.
    pub file: Option<File>,
}

impl<'c> Judge<'c> {
    /// Starts it with these rules.
    ///
    /// # Errors
    /// It does not start or refuses the rules.
    pub fn start(spec: WorkerSpec, compiled: &'c Compiled, limits: Limits) -> Result<Self, JudgeError> {
        let (worker, landlock) = begin(&spec, compiled, limits)?;
        Ok(Self {
            spec,
            compiled,
            limits,
            worker,
            landlock,
            in_hand: VecDeque::new(),
            messages: VecDeque::new(),
            said: VecDeque::new(),
            next: 0,
            restarts: 0,
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.worker.pid
    }

    /// Who it runs as.
    pub fn identity(&self) -> Identity {
        self.worker.identity
    }

    /// What of Landlock holds: `full`, `partly`, `none`.
    pub fn landlock(&self) -> &str {
        &self.landlock
    }

    /// How often it had to be started again.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Files that it has in hand.
    pub fn in_hand(&self) -> usize {
        self.in_hand.len()
    }

    /// Can it take one more file?
    pub fn has_room(&self) -> bool {
        self.in_hand.len() < WINDOW
    }

    /// Is there a verdict that need not be waited for?
    pub fn has_said(&self) -> bool {
        !self.said.is_empty()
    }

    /// Hands a file over and gives its number.
    pub fn hand(&mut self, file: File) -> u64 {
        self.hand_all(vec![file])
    }

    /// Hands files over in one message, at most [`TOGETHER`]; gives the number of the first, the others follow.
    pub fn hand_all(&mut self, files: Vec<File>) -> u64 {
        let first = self.next;
        // A worker that is gone is seen, and answered for, in `collect`.
        let _ = tell(&self.worker, &ToWorker::Scan(first), &files.iter().collect::<Vec<_>>());
        self.messages.push_back(files.len());
        for file in files {
            self.in_hand.push_back((self.next, file));
            self.next += 1;
        }
        first
    }

    /// Waits for the next verdict, in the order in which files were handed over; `None` where none is in hand.
    ///
    /// # Errors
    /// The worker ended and no new one starts. What was in hand stays so.
    pub fn collect(&mut self) -> Result<Option<Judged>, JudgeError> {
        while !self.in_hand.is_empty() {
            if let Some(said) = self.said.pop_front() {
                return Ok(self.judged(said));
            }
            let together = self.messages.front().copied().unwrap_or(1);
            let reason = match self.listen(together) {
                Ok(all) => {
                    self.messages.pop_front();
                    self.said.extend(all);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            self.restart()?;
            // One that was alone is what it ended at; of several, none is known to be.
            let judged = (together == 1)
                .then(|| self.judged(Judgement { bytes: 0, verdict: failed(&reason), kind: None }))
                .flatten();
            self.messages = self.in_hand.iter().map(|_| 1).collect();
            for (id, file) in &self.in_hand {
                let _ = tell(&self.worker, &ToWorker::Scan(*id), &[file]);
            }
            if judged.is_some() {
                return Ok(judged);
            }
        }
        Ok(None)
    }

    fn judged(&mut self, said: Judgement) -> Option<Judged> {
        let (id, file) = self.in_hand.pop_front()?;
        let Judgement { bytes, verdict, kind } = said;
        Some(Judged { id, bytes, verdict, kind, file: Some(file) })
    }

    /// The verdicts on the files of the oldest message.
    fn listen(&self, together: usize) -> io::Result<Vec<Judgement>> {
        let first = self.in_hand.front().map(|(id, _)| *id);
        let files = u64::try_from(together).unwrap_or(1);
        let patience = Duration::from_secs(self.limits.seconds.saturating_mul(files)).saturating_add(SLACK);
        match answer(&self.worker, patience)? {
            FromWorker::Judged { first: number, all } if Some(number) == first && all.len() == together => Ok(all),
            _ => Err(io::Error::other("the worker answered something else")),
        }
    }

    /// Judges one file now, with nothing else in hand.
    ///
    /// # Errors
    /// As [`Judge::collect`].
    pub fn judge(&mut self, file: File) -> Result<Judged, JudgeError> {
        let id = self.hand(file);
        loop {
            match self.collect()? {
                Some(judged) if judged.id == id => return Ok(judged),
                Some(_) => {}
                None => {
                    return Ok(Judged {
                        id,
                        bytes: 0,
                        verdict: failed("its verdict was lost"),
                        kind: None,
                        file: None,
                    });
                }
            }
        }
    }

    fn restart(&mut self) -> Result<(), JudgeError> {
        let (worker, landlock) = begin(&self.spec, self.compiled, self.limits)?;
        tracing::warn!(old = self.worker.pid, new = worker.pid, "a malware worker was started again");
        self.worker = worker;
        self.landlock = landlock;
        self.restarts += 1;
        Ok(())
    }
}

/// Starts a worker and waits until it is confined.
fn start(spec: &WorkerSpec) -> Result<(Worker, String), JudgeError> {
    let worker = spawn(spec)?;
    match answer(&worker, START) {
        Ok(FromWorker::Ready { landlock }) => Ok((worker, landlock)),
        Ok(_) => Err(JudgeError::Failed { attempt: "did not start", reason: "it said something else".into() }),
        Err(error) => Err(JudgeError::Failed { attempt: "did not start", reason: error.to_string() }),
    }
}

fn begin(spec: &WorkerSpec, compiled: &Compiled, limits: Limits) -> Result<(Worker, String), JudgeError> {
    const ATTEMPT: &str = "could not load the rules";
    let (worker, landlock) = start(spec)?;
    let told = tell(&worker, &ToWorker::Load(limits), &[&compiled.memory]).and_then(|()| answer(&worker, START));
    let reason = match told {
        Ok(FromWorker::Loaded { .. }) => return Ok((worker, landlock)),
        Ok(FromWorker::Refused(reason)) => reason,
        Ok(_) => "it answered something else".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(JudgeError::Failed { attempt: ATTEMPT, reason })
}

fn tell(worker: &Worker, message: &ToWorker, files: &[&File]) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let descriptors: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    worker.channel.send(&body, &descriptors)
}

fn answer(worker: &Worker, patience: Duration) -> io::Result<FromWorker> {
    let ended = || io::Error::other("the worker ended");
    let waited = worker.channel.recv_timeout(patience).map_err(|error| match error.kind() {
        // It ended with something of ours unread.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ended(),
        _ => error,
    })?;
    match waited {
        // A worker that was taken over may send descriptors; they are closed here.
        Waited::Frame((body, _)) => {
            postcard::from_bytes(&body).map_err(|_| io::Error::other("the worker's answer cannot be read"))
        }
        Waited::Closed => Err(ended()),
        Waited::TimedOut => Err(io::Error::other(format!("the worker was silent for {} s", patience.as_secs()))),
    }
}
