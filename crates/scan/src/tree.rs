//! A scan of paths: one walk, several workers, each fed and read by a thread of its own.
//!
//! Results come to the caller's thread as they are ready. A pause holds new files back; a share of the processors is
//! kept by resting after work in proportion to what the work took, file by file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sakimori_malware::{Kind, Limits, Verdict};
use sakimori_sys::worker::WorkerSpec;

use crate::exclude::Exclusions;
use crate::judge::{Compiled, Judge, JudgeError};
use crate::walk::{Step, Walk};

/// Files that wait between the walk and the workers: open descriptors.
const AHEAD: usize = 32;
/// Most workers.
pub const MAX_JOBS: usize = 64;
/// How often a paused scan looks whether it may go on.
const LOOK: Duration = Duration::from_millis(50);
/// Longest rest at once: a share is kept over seconds, not minutes.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// How to scan.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to start a worker.
    pub spec: WorkerSpec,
    /// Bounds of each scan.
    pub limits: Limits,
    /// Workers, 1 to [`MAX_JOBS`].
    pub jobs: usize,
    /// What is left out.
    pub exclusions: Exclusions,
    /// Share of one processor's time that each worker may take, in percent; 100 is all of it.
    pub cpu_percent: u8,
}

/// Pause and stop, from another thread.
#[derive(Debug, Default)]
pub struct Control {
    paused: AtomicBool,
    stopped: AtomicBool,
}

impl Control {
    /// Holds new files back, or lets them go on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Ends the scan after the files in hand.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// May the next file go? Waits while paused.
    fn go_on(&self) -> bool {
        while self.paused.load(Ordering::Acquire) && !self.stopped.load(Ordering::Acquire) {
            std::thread::sleep(LOOK);
        }
        !self.stopped.load(Ordering::Acquire)
    }
}

/// What came of one file.
#[derive(Debug)]
pub enum Outcome {
    /// A verdict, and what the file is, where that is told apart.
    Judged(PathBuf, Verdict, Option<Kind>),
    /// It could not be opened, or its folder not read.
    Unreadable(PathBuf, std::io::Error),
}

/// What came of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Files with a verdict.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files that a rule matched.
    pub malicious: u64,
    /// Files that were skipped.
    pub skipped: u64,
    /// Files and folders that could not be read.
    pub unreadable: u64,
    /// Workers that had to be started again.
    pub restarts: u64,
    /// It was stopped before its end.
    pub stopped: bool,
}

enum Report {
    Outcome(Outcome, u64),
    Ended { restarts: u64, error: Option<JudgeError> },
}

/// Scans paths; `each` gets every file as it is done, with the totals so far.
///
/// # Errors
/// No worker starts, or one that ended cannot be replaced.
pub fn scan(
    paths: &[PathBuf],
    compiled: &Compiled,
    options: &Options,
    control: &Control,
    mut each: impl FnMut(&Outcome, &Totals),
) -> Result<Totals, JudgeError> {
    let jobs = options.jobs.clamp(1, MAX_JOBS);
    let (files, waiting) = mpsc::sync_channel(AHEAD);
    let waiting = Mutex::new(waiting);
    let (reports, inbox) = mpsc::channel();
    let mut totals = Totals::default();
    let mut failure = None;
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (waiting, reports) = (&waiting, reports.clone());
            scope.spawn(move || {
                let ended = feed(waiting, compiled, options, &reports);
                if ended.1.is_some() {
                    control.stop();
                }
                let _ = reports.send(Report::Ended { restarts: ended.0, error: ended.1 });
                // The walk must not wait for a thread that is gone.
                if control.stopped.load(Ordering::Acquire) {
                    while take(waiting).is_some() {}
                }
            });
        }
        scope.spawn({
            let reports = reports.clone();
            move || walk(paths, options, control, files, &reports)
        });
        drop(reports);
        for report in inbox {
            match report {
                Report::Outcome(outcome, bytes) => {
                    totals.add(&outcome, bytes);
                    each(&outcome, &totals);
                }
                Report::Ended { restarts, error } => {
                    totals.restarts += restarts;
                    failure = failure.take().or(error);
                }
            }
        }
    });
    totals.stopped = control.stopped.load(Ordering::Acquire);
    match failure {
        Some(error) => Err(error),
        None => Ok(totals),
    }
}

impl Totals {
    fn add(&mut self, outcome: &Outcome, bytes: u64) {
        self.bytes += bytes;
        match outcome {
            Outcome::Unreadable(..) => self.unreadable += 1,
            Outcome::Judged(_, verdict, _) => {
                self.files += 1;
                match verdict {
                    Verdict::Clean => {}
                    Verdict::Malicious(_) => self.malicious += 1,
                    Verdict::Skipped(_) => self.skipped += 1,
                }
            }
        }
    }
}

type Opened = (PathBuf, std::fs::File);

fn walk(paths: &[PathBuf], options: &Options, control: &Control, files: SyncSender<Opened>, reports: &Sender<Report>) {
    for step in Walk::new(paths, &options.exclusions) {
        if !control.go_on() {
            return;
        }
        let sent = match step {
            Step::File(path, file) => files.send((path, file)).is_ok(),
            Step::Unreadable(path, error) => reports.send(Report::Outcome(Outcome::Unreadable(path, error), 0)).is_ok(),
        };
        if !sent {
            return;
        }
    }
}

/// The next file, one thread at a time.
fn take(waiting: &Mutex<Receiver<Opened>>) -> Option<Opened> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The next file if one is there.
fn take_ready(waiting: &Mutex<Receiver<Opened>>) -> Option<Opened> {
    // Another thread holds the lock while it waits: then nothing is there.
    waiting.try_lock().ok()?.try_recv().ok()
}

/// Keeps one worker busy; gives how often it was started again, and why it could not be.
fn feed(
    waiting: &Mutex<Receiver<Opened>>,
    compiled: &Compiled,
    options: &Options,
    reports: &Sender<Report>,
) -> (u64, Option<JudgeError>) {
    let mut judge = match Judge::start(options.spec.clone(), compiled, options.limits) {
        Ok(judge) => judge,
        Err(error) => return (0, Some(error)),
    };
    let throttled = options.cpu_percent < 100;
    let mut paths = std::collections::VecDeque::new();
    loop {
        while judge.has_room() && !(throttled && judge.in_hand() > 0) {
            let next = if judge.in_hand() == 0 { take(waiting) } else { take_ready(waiting) };
            let Some((path, file)) = next else { break };
            judge.hand(file);
            paths.push_back(path);
        }
        let began = Instant::now();
        match judge.collect() {
            Ok(None) => return (judge.restarts(), None),
            Ok(Some(judged)) => {
                let path = paths.pop_front().unwrap_or_default();
                let outcome = Outcome::Judged(path, judged.verdict, judged.kind);
                if reports.send(Report::Outcome(outcome, judged.bytes)).is_err() {
                    return (judge.restarts(), None);
                }
            }
            Err(error) => return (judge.restarts(), Some(error)),
        }
        if throttled {
            let share = f64::from(options.cpu_percent.max(1));
            std::thread::sleep(began.elapsed().mul_f64((100.0 - share) / share).min(LONGEST_REST));
        }
    }
}
