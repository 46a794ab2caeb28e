//! The thread of a scan: rules compiled in a worker, the paths walked, files judged in a worker that gives way to all
//! others. It is told to the loop in the order in which it happened: what was found comes before the position that lies
//! after it.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_malware::{Limits, Skip, Verdict, kind};
use sakimori_model::policy::Found;
use sakimori_scan::{Control, Exclusions, Options, Outcome, Totals, compile, judge, scan};
use sakimori_sys::cgroup::Group;
use sakimori_sys::worker::WorkerSpec;
use sakimori_wire::scans::ScanCounts;

use super::kept::Request;
use super::{Progress, Told};
use crate::halt;
use crate::quarantine::GivenBack;
use crate::supervisor::Message;
use crate::supervisor::antimalware::{self, Hit, How};
use crate::supervisor::bundles::Files;

/// How often the loop is told how far it is.
const TELL: Duration = Duration::from_millis(500);
/// Most files of a scan of which it is told, each by itself, that they are not what their names say.
const MAX_DISGUISED: u64 = 100;

/// What the thread has.
pub struct Run {
    pub request: Request,
    /// Go on after this file.
    pub after: Option<PathBuf>,
    pub files: Files,
    pub limits: Limits,
    /// Control group of the worker, and whether the kernel holds the limit of processor time by it.
    pub group: (Option<Group>, bool),
    pub control: Arc<Control>,
    /// Only say what is found?
    pub only_looks: bool,
    pub given_back: GivenBack,
    /// The agent's own folder, whose files hold rules and what attackers wrote into logs.
    pub state: PathBuf,
    pub to: SyncSender<Message>,
    pub generation: u64,
}

impl Run {
    /// Scans to the end or until it is stopped, and tells the loop.
    pub fn run(self) {
        let mut progress = Progress::default();
        let outcome = self.scan(&mut progress).map_err(|error| format!("{error:#}"));
        let _ = self.to.send(Message::Scan(Told::Ended(self.generation, progress, outcome)));
    }

    /// True where it was stopped before its end.
    fn scan(&self, progress: &mut Progress) -> Result<bool> {
        let spec = WorkerSpec { group: self.group.0.clone(), idle: true, ..judge::spec(&["worker", "malware"]) };
        let rules: Files = self.files.iter().filter(|(path, _)| path.starts_with("malware/")).cloned().collect();
        let (compiled, errors) = compile(&spec, &rules)?;
        if compiled.rules + compiled.sums == 0 {
            let first = errors.first().map_or("there are none".into(), ToString::to_string);
            bail!("no rule for malware could be loaded: {first}");
        }
        self.tell(progress);
        let options = Options {
            spec,
            limits: self.limits,
            // One: verdicts come in the order of the walk then, so that a path is a position.
            jobs: 1,
            exclusions: self.exclusions()?,
            cpu_percent: if self.group.1 { 100 } else { u8::try_from(self.request.cpu_percent).unwrap_or(100) },
            network: self.request.network,
            after: self.after.clone(),
        };
        let mut told = Instant::now();
        // Here and not in the loop: a file system that does not answer holds this thread alone. Links in the paths
        // themselves are followed now, and no others.
        let resolve = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let paths: Vec<PathBuf> = self.request.paths.iter().map(resolve).collect();
        let totals = scan(&paths, &compiled, &options, &self.control, |outcome, totals| {
            self.one(outcome, totals, progress);
            if told.elapsed() >= TELL {
                told = Instant::now();
                self.tell(progress);
            }
        })?;
        count(&totals, &mut progress.counts);
        Ok(totals.stopped)
    }

    fn exclusions(&self) -> Result<Exclusions> {
        let own = self.state.display().to_string();
        let patterns: Vec<String> = self.request.exclude.paths.iter().cloned().chain([own]).collect();
        let exclusions = Exclusions::new(&patterns).context("what the scan leaves out")?;
        Ok(exclusions.with_extensions(&self.request.exclude.extensions))
    }

    fn one(&self, outcome: &Outcome, totals: &Totals, progress: &mut Progress) {
        count(totals, &mut progress.counts);
        let Outcome::Judged { path, verdict, kind, file } = outcome else { return };
        match verdict {
            Verdict::Malicious(detection) => {
                let now = file.as_ref().map_or_else(|| path.clone(), |file| path_of(file.as_raw_fd(), path));
                if self.given_back.has(&detection.sha256, &now) {
                    progress.given_back += 1;
                } else if let Some(file) = file.as_ref().and_then(|file| file.try_clone().ok()) {
                    let Request { id, name, action, .. } = &self.request;
                    let report_only = *action == Found::Report;
                    let hit = Hit {
                        how: How::Scan { id: id.clone(), name: name.clone(), report_only },
                        path: now.display().to_string(),
                        file,
                        detection: detection.clone(),
                        only_looks: self.only_looks || report_only || halt::read(&self.state).is_some(),
                    };
                    let _ = self.to.send(Message::Scan(Told::Found(Box::new(hit))));
                }
                progress.counts.found = totals.malicious.saturating_sub(progress.given_back);
            }
            Verdict::Skipped(Skip::TooLarge { .. }) => progress.counts.too_large += 1,
            Verdict::Skipped(why) => {
                tracing::info!(path = %path.display(), %why, "a file was not judged");
                progress.counts.failed += 1;
            }
            Verdict::Clean => {
                let path = path.display().to_string();
                if let Some(kind) = kind.filter(|kind| kind::belies(&path, *kind)) {
                    progress.counts.disguised += 1;
                    if progress.counts.disguised <= MAX_DISGUISED {
                        let told = antimalware::Told::Disguised(path, kind);
                        let _ = self.to.send(Message::Antimalware(told));
                    }
                }
            }
        }
        progress.position = Some(path.clone());
    }

    fn tell(&self, progress: &Progress) {
        let _ = self.to.send(Message::Scan(Told::Progress(self.generation, progress.clone())));
    }
}

/// What the engine's totals say.
fn count(totals: &Totals, counts: &mut ScanCounts) {
    counts.files = totals.files;
    counts.bytes = totals.bytes;
    counts.unreadable = totals.unreadable;
    counts.excluded = totals.excluded;
    counts.elsewhere = totals.elsewhere;
}

/// Where the file is now; it may have been renamed since it was opened.
fn path_of(descriptor: i32, path: &Path) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap_or_else(|_| path.to_owned())
}
