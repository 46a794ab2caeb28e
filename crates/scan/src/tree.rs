//! A scan of paths: one walk, several workers, each fed and read by a thread of its own.
//!
//! Results come to the caller's thread as they are ready. A pause holds new files back; a share of the processors is
//! kept by resting after work in proportion to what the work took, file by file.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sakimori_malware::{Kind, Limits, Verdict};
use sakimori_sys::worker::WorkerSpec;

use crate::exclude::Exclusions;
use crate::judge::{Compiled, Judge, JudgeError, TOGETHER, WINDOW};
use crate::walk::{Step, Walk, Why};

/// Bundles of files that wait between the walk and the workers: open descriptors, [`TOGETHER`] of each.
const AHEAD: usize = 8;
/// Files are bundled up to this many bytes: a large one goes with few others, so that no worker waits for another.
const BUNDLE: u64 = 1 << 20;
/// Most files in hand of a worker that gives way to others: a scan that is stopped waits for them.
const IDLE_WINDOW: usize = 2;
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
    /// File systems of other hosts too, where none of their own paths is named?
    pub network: bool,
    /// Go on after this file: what a former scan of the same paths was done with. Verdicts come in the order of the walk
    /// where there is one worker.
    pub after: Option<PathBuf>,
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
    /// A verdict.
    Judged {
        /// Where the file was.
        path: PathBuf,
        /// It.
        verdict: Verdict,
        /// What the file is, where that is told apart.
        kind: Option<Kind>,
        /// The file that was judged, where it is malicious.
        file: Option<File>,
    },
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
    /// Files and folders that were left out, as they were told to be.
    pub excluded: u64,
    /// File systems that were left out: those without files, and those of other hosts.
    pub elsewhere: u64,
    /// Workers that had to be started again.
    pub restarts: u64,
    /// It was stopped before its end.
    pub stopped: bool,
}

enum Report {
    Outcome(Outcome, u64),
    Passed(Why),
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
    let (reports, inbox) = mpsc::sync_channel(AHEAD);
    let mut totals = Totals::default();
    let mut failure = None;
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (waiting, reports) = (&waiting, reports.clone());
            scope.spawn(move || {
                let ended = feed(waiting, compiled, options, control, &reports);
                if ended.1.is_some() {
                    control.stop();
                }
                let _ = reports.send(vec![Report::Ended { restarts: ended.0, error: ended.1 }]);
                // The walk must not wait for a thread that is gone.
                if control.stopped.load(Ordering::Acquire) {
                    while take(waiting).is_some() {}
                }
            });
        }
        scope.spawn(move || walk(paths, options, control, files));
        drop(reports);
        for report in inbox.into_iter().flatten() {
            match report {
                Report::Outcome(outcome, bytes) => {
                    totals.add(&outcome, bytes);
                    each(&outcome, &totals);
                }
                Report::Passed(Why::Excluded) => totals.excluded += 1,
                Report::Passed(Why::FileSystem) => totals.elsewhere += 1,
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
            Outcome::Judged { verdict, .. } => {
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

/// What the walk came upon, in its order.
#[derive(Default)]
struct Met {
    files: Vec<(PathBuf, File)>,
    others: Vec<Report>,
}

impl Met {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.others.is_empty()
    }
}

/// Files of one message: one where a scan gives way to others, so that it can rest or stop after each.
fn together(options: &Options) -> usize {
    if options.spec.idle || options.cpu_percent < 100 { 1 } else { TOGETHER }
}

fn walk(paths: &[PathBuf], options: &Options, control: &Control, files: SyncSender<Met>) {
    if options.spec.idle
        && let Err(error) = sakimori_sys::idle::this_thread()
    {
        tracing::debug!(%error, "reading folders does not give way to others");
    }
    let most = together(options);
    let (mut met, mut bytes) = (Met::default(), 0_u64);
    for step in Walk::new(paths, &options.exclusions, options.network, options.after.as_deref()) {
        if !control.go_on() {
            return;
        }
        match step {
            Step::File(path, file) => {
                bytes = bytes.saturating_add(file.metadata().map_or(0, |data| data.len()));
                met.files.push((path, file));
            }
            Step::Passed(_, why) => met.others.push(Report::Passed(why)),
            Step::Unreadable(path, error) => met.others.push(Report::Outcome(Outcome::Unreadable(path, error), 0)),
        }
        if met.files.len() >= most || bytes >= BUNDLE || met.others.len() >= TOGETHER {
            bytes = 0;
            if files.send(std::mem::take(&mut met)).is_err() {
                return;
            }
        }
    }
    if !met.is_empty() {
        let _ = files.send(met);
    }
}

/// The next files, one thread at a time.
fn take(waiting: &Mutex<Receiver<Met>>) -> Option<Met> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The next files if some are there.
fn take_ready(waiting: &Mutex<Receiver<Met>>) -> Option<Met> {
    // Another thread holds the lock while it waits: then nothing is there.
    waiting.try_lock().ok()?.try_recv().ok()
}

/// Keeps one worker busy; gives how often it was started again, and why it could not be.
fn feed(
    waiting: &Mutex<Receiver<Met>>,
    compiled: &Compiled,
    options: &Options,
    control: &Control,
    reports: &SyncSender<Vec<Report>>,
) -> (u64, Option<JudgeError>) {
    let mut judge = match Judge::start(options.spec.clone(), compiled, options.limits) {
        Ok(judge) => judge,
        Err(error) => return (0, Some(error)),
    };
    let throttled = options.cpu_percent < 100;
    let window = if options.spec.idle { IDLE_WINDOW } else { WINDOW };
    let most = together(options);
    let mut paths = std::collections::VecDeque::new();
    loop {
        while control.go_on() && judge.in_hand() + most <= window && !(throttled && judge.in_hand() > 0) {
            let next = if judge.in_hand() == 0 { take(waiting) } else { take_ready(waiting) };
            let Some(met) = next else { break };
            if !met.others.is_empty() && reports.send(met.others).is_err() {
                return (judge.restarts(), None);
            }
            if !met.files.is_empty() {
                let (of, files): (Vec<_>, Vec<_>) = met.files.into_iter().unzip();
                judge.hand_all(files);
                paths.extend(of);
            }
        }
        let began = Instant::now();
        let mut done = Vec::new();
        loop {
            match judge.collect() {
                Ok(None) => return (judge.restarts(), None),
                Ok(Some(judged)) => {
                    let path = paths.pop_front().unwrap_or_default();
                    let file = judged.file.filter(|_| matches!(judged.verdict, Verdict::Malicious(_)));
                    let outcome = Outcome::Judged { path, verdict: judged.verdict, kind: judged.kind, file };
                    done.push(Report::Outcome(outcome, judged.bytes));
                }
                Err(error) => {
                    let _ = reports.send(done);
                    return (judge.restarts(), Some(error));
                }
            }
            if !judge.has_said() {
                break;
            }
        }
        if reports.send(done).is_err() {
            return (judge.restarts(), None);
        }
        if throttled {
            let share = f64::from(options.cpu_percent.max(1));
            std::thread::sleep(began.elapsed().mul_f64((100.0 - share) / share).min(LONGEST_REST));
        }
    }
}
