//! Scans by schedule and by hand, as the supervisor runs them: one at a time, others wait.
//!
//! ```text
//! schedule (`plan`) ─┐
//! control socket ────┼→ waiting → work ⇄ thread (`run`): walk → worker `malware` (own budget, gives way to others)
//! ledger (`ordered`) ─┘            │       └ found → as real-time protection: alert → playbook → order → ledger → vault
//!                                  └ position, figures: `scans.json` (`kept`), events and status (`telling`)
//! ```
//! A pause ends thread and worker and keeps the position; to go on begins a thread after it. The same way a scan goes on
//! after a start of the agent, and with a new rule bundle, each part with the newest. The position is written once what
//! was found before it is durable, so a crash makes files be judged again, and none be left out.

mod kept;
mod ordered;
mod plan;
mod run;
mod telling;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono_tz::Tz;
use sakimori_malware::Limits;
use sakimori_model::Timestamp;
use sakimori_model::policy::Mode;
use sakimori_scan::Control;
use sakimori_wire::scans::{ScanCounts, ScanStatus, ScanTurn, ScansStatus};

use super::antimalware::Hit;
use super::link::Link;
use super::{Message, Supervisor};
use crate::config::Config;
use crate::modules::antimalware::DESCRIPTOR;
use crate::quarantine::GivenBack;
use kept::{Kept, MANUAL, Request, Work};
pub use ordered::Wishes;
use plan::Due;
use run::Run;

/// Most scans that wait.
const MAX_WAITING: usize = 16;
/// Name of who asks for a scan of the policy at its time.
const BY_SCHEDULE: &str = "schedule";
/// How often the position is written.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// A manager that has a newer bundle sends it at once; so long after the connection it would be on its way.
const SETTLED: Duration = Duration::from_secs(3);
/// How long a scan waits for the manager and its newest bundle.
const AWAITED: Duration = Duration::from_secs(60);

/// What the thread tells the loop.
pub enum Told {
    /// A file was found.
    Found(Box<Hit>),
    /// How far it is.
    Progress(u64, Progress),
    /// It ended: stopped before its end or not, or why it could not go on.
    Ended(u64, Progress, Result<bool, String>),
}

/// How far a thread is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    counts: ScanCounts,
    /// Malicious files that a person gave back, and that are let be.
    given_back: u64,
    position: Option<PathBuf>,
}

/// Why a thread was stopped.
enum Why {
    Pause,
    Cancel(String),
    NewRules,
}

struct Thread {
    control: Arc<Control>,
    stop: Option<Why>,
    /// What was done before it.
    before: (ScanCounts, i64),
    began: Instant,
    loading: bool,
}

/// All scans of this host.
pub struct Scans {
    file: PathBuf,
    to: SyncSender<Message>,
    kept: Kept,
    thread: Option<Thread>,
    generation: u64,
    next: Vec<ScanTurn>,
    /// The file was damaged: how.
    problem: Option<String>,
    /// Is there something to write, and by when?
    save_by: Option<Instant>,
    /// The link is up since then.
    connected: Option<Instant>,
    /// The newest bundle is awaited since then.
    awaited: Option<Instant>,
    /// A scan was under way when the agent ended.
    interrupted: bool,
    /// Scans that are over, of which the ledger has not heard.
    over: Vec<ScanStatus>,
}

impl Scans {
    /// Takes along what was under way.
    pub fn load(config: &Config, to: SyncSender<Message>) -> Self {
        let file = config.scans_file();
        let (mut kept, problem) = match Kept::load(&file) {
            Ok(kept) => (kept, None),
            Err(error) => (Kept::default(), Some(format!("{error:#}; what was under way begins anew at its time"))),
        };
        let mut interrupted = false;
        if let Some(work) = kept.work.as_mut().filter(|work| work.paused_since.is_none()) {
            work.continued += 1;
            interrupted = true;
        }
        Self {
            file,
            to,
            kept,
            thread: None,
            generation: 0,
            next: Vec::new(),
            problem,
            save_by: None,
            connected: None,
            awaited: None,
            interrupted,
            over: Vec::new(),
        }
    }

    /// How they stand.
    pub fn status(&self, now: Timestamp) -> ScansStatus {
        ScansStatus {
            now: self
                .kept
                .work
                .as_ref()
                .map(|work| ScanStatus { state: self.state(work).into(), ..self.kept.describe(work, now) }),
            waiting: self.kept.waiting.iter().map(Request::names).collect(),
            next: self.next.clone(),
            last: self.kept.last.clone(),
        }
    }

    fn state(&self, work: &Work) -> &'static str {
        match &self.thread {
            _ if work.paused_since.is_some() => "paused",
            None => "fetching",
            Some(Thread { stop: Some(Why::Pause), .. }) => "pausing",
            Some(Thread { stop: Some(Why::Cancel(_)), .. }) => "stopping",
            Some(Thread { loading: true, .. }) => "loading",
            Some(_) => "scanning",
        }
    }

    /// Stops the thread, for this reason. False where there is none.
    fn stop(&mut self, why: Why) -> bool {
        let Some(thread) = &mut self.thread else { return false };
        // Whoever cancelled is not overruled.
        if !matches!(thread.stop, Some(Why::Cancel(_))) {
            thread.stop = Some(why);
        }
        thread.control.stop();
        true
    }

    fn take(&mut self, progress: Progress) {
        let (Some(work), Some(thread)) = (&mut self.kept.work, &mut self.thread) else { return };
        thread.loading = false;
        let (counts, worked) = thread.before;
        work.counts = counts.and(progress.counts);
        work.worked = worked + i64::try_from(thread.began.elapsed().as_micros()).unwrap_or(i64::MAX / 2);
        if let Some(path) = progress.position {
            work.done_with(&path);
        }
        self.save_by.get_or_insert_with(|| Instant::now() + SAVE_EVERY);
    }

    /// What changed is written as soon as what came before it is durable.
    fn save_soon(&mut self) {
        self.save_by = Some(Instant::now());
    }

    fn save(&mut self) {
        self.save_by = None;
        if let Err(error) = self.kept.save(&self.file) {
            tracing::error!(error = format!("{error:#}"), "how scans stand is not kept");
        }
    }
}

impl Supervisor {
    /// Something of a scan.
    pub(super) fn scan_told(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Found(hit) => self.found(*hit),
            Told::Progress(generation, progress) if generation == self.scans.generation => self.scans.take(progress),
            Told::Ended(generation, progress, outcome) if generation == self.scans.generation => {
                self.scans.take(progress);
                let stop = self.scans.thread.take().and_then(|thread| thread.stop);
                self.scan_ended(stop, outcome);
                self.settle_scans()?;
                return self.report();
            }
            Told::Progress(..) | Told::Ended(..) => {}
        }
        Ok(())
    }

    fn scan_ended(&mut self, stop: Option<Why>, outcome: Result<bool, String>) {
        match (outcome, stop) {
            (Err(reason), _) => self.end_scan("failed", reason),
            (Ok(false), _) => self.end_scan("finished", String::new()),
            (Ok(true), Some(Why::Cancel(reason))) => self.end_scan("cancelled", reason),
            (Ok(true), Some(Why::Pause)) => {
                let now = self.now();
                if let Some(work) = &mut self.scans.kept.work {
                    work.paused_since = Some(now);
                    self.scans.save_soon();
                    self.say_now("scan-paused", "paused; sakimori-agent scan resume lets it go on");
                }
            }
            // It goes on with the newest rules in the next step.
            (Ok(true), Some(Why::NewRules) | None) => {}
        }
    }

    fn end_scan(&mut self, state: &str, detail: String) {
        let now = self.now();
        let Some(mut work) = self.scans.kept.work.take() else { return };
        work.go_on(now);
        let told = ScanStatus {
            state: state.into(),
            detail,
            ended: Some(now),
            seconds_left: None,
            ..self.scans.kept.describe(&work, now)
        };
        if state == "finished" {
            self.scans.kept.remember(&work, now);
        }
        self.say_end(&told);
        self.scans.over.push(told.clone());
        self.scans.kept.last = Some(told);
        self.scans.save_soon();
    }

    /// Says something about the scan at hand.
    fn say_now(&mut self, action: &'static str, what: &str) {
        if let Some(scan) = self.scans.status(self.now()).now {
            let message = format!("scan {}: {what}", scan.name);
            self.say_of(action, &scan, message);
        }
    }

    /// Every second: what is due waits, what waits begins, what was found lies before what is kept.
    pub(super) fn step_scans(&mut self) -> Result<()> {
        if self.stopping.is_some() {
            return Ok(());
        }
        if let Some(problem) = self.scans.problem.take() {
            self.say("scan-state-lost", problem, |_| {});
        }
        if std::mem::take(&mut self.scans.interrupted) {
            let at = self.scans.kept.work.as_ref().and_then(Work::after);
            let place = at.map_or("begins anew".to_owned(), |path| format!("goes on after {}", path.display()));
            self.say_now("scan-continued", &format!("it {place}, since the agent was started again"));
        }
        self.take_wishes();
        self.plan_scans();
        if self.scans.kept.work.is_none()
            && let Some(request) = self.scans.kept.waiting.pop_front()
        {
            let places: Vec<String> = request.paths.iter().map(|path| path.display().to_string()).collect();
            let what = format!("it begins at {}, asked for by {}", places.join(", "), request.by);
            self.scans.kept.work = Some(Work::new(request, self.now()));
            self.scans.save_soon();
            self.say_now("scan-started", &what);
        }
        self.settle_scans()?;
        self.start_scan()
    }

    fn plan_scans(&mut self) {
        if !(DESCRIPTOR.is_on)(&self.policy.policy) {
            self.scans.next.clear();
            self.scans.kept.turns.clear();
            let by_schedule = |request: &Request| request.by == BY_SCHEDULE;
            self.scans.kept.waiting.retain(|request| !by_schedule(request));
            if self.scans.kept.work.as_ref().is_some_and(|work| by_schedule(&work.request)) {
                self.cancel_for("the policy switched antimalware off");
            }
            return;
        }
        let scans = self.policy.policy.modules.antimalware.scans.clone();
        let zone: Tz = self.facts.zone.parse().unwrap_or(Tz::UTC);
        let now = self.now();
        let before = self.scans.kept.turns.clone();
        self.scans.kept.turns.retain(|name, _| scans.iter().any(|scan| scan.name == *name));
        self.scans.next.clear();
        for scan in &scans {
            let mut turn = self.scans.kept.turns.remove(&scan.name);
            let due = plan::look(&mut turn, scan, &self.facts.id, now, zone);
            if let Some(turn) = turn {
                self.scans.kept.turns.insert(scan.name.clone(), turn);
            }
            match due {
                Due::Later(at) => {
                    self.scans.next.extend(at.map(|at| ScanTurn { name: scan.name.clone(), at }));
                }
                Due::Now => {
                    if let Err(reason) = self.ask_for(Request::of(scan, BY_SCHEDULE)) {
                        self.say("scan-skipped", format!("scan {} does not begin: {reason}", scan.name), |_| {});
                    }
                }
                Due::MadeUp(at) => {
                    let text = format!("scan {} was missed and is made up for at {at}", scan.name);
                    self.say("scan-missed", text, |_| {});
                }
                Due::LeftOut(at) => {
                    self.say("scan-missed", format!("scan {} was missed at {at} and is left out", scan.name), |_| {});
                }
            }
        }
        if self.scans.kept.turns != before {
            self.scans.save_soon();
        }
    }

    /// Lets a scan wait for its turn; says what it waits for.
    fn ask_for(&mut self, request: Request) -> Result<String, String> {
        let kept = &mut self.scans.kept;
        let same = |other: &Request| request.name == other.name && other.name != MANUAL;
        if kept.work.as_ref().is_some_and(|work| same(&work.request)) || kept.waiting.iter().any(same) {
            return Err(format!("a scan {} is under way or waits already", request.name));
        }
        if kept.waiting.len() >= MAX_WAITING {
            return Err(format!("{MAX_WAITING} scans wait already; cancel some"));
        }
        let ahead = kept.work.as_ref().map(|work| work.request.name.clone());
        let (names, count) = (request.names(), kept.waiting.len());
        kept.waiting.push_back(request);
        self.scans.save_soon();
        let Some(ahead) = ahead else { return Ok(format!("scan {} ({}) begins", names.name, names.id)) };
        let more = if count > 0 { format!(" and {count} others") } else { String::new() };
        let said = format!("scan {} ({}) waits for the scan {ahead}{more}", names.name, names.id);
        self.say("scan-waits", said.clone(), |_| {});
        Ok(said)
    }

    /// Begins the thread where one is wanted and the newest bundle is there, or was awaited for long enough.
    fn start_scan(&mut self) -> Result<()> {
        let connected = self.link.as_ref().map(Link::is_connected);
        if connected != Some(true) {
            self.scans.connected = None;
        } else if self.scans.connected.is_none() {
            self.scans.connected = Some(Instant::now());
        }
        let wanted = self.scans.kept.work.as_ref().is_some_and(|work| work.paused_since.is_none());
        if !wanted || self.scans.thread.is_some() {
            return Ok(());
        }
        let awaited = *self.scans.awaited.get_or_insert_with(Instant::now);
        let is_newest = match connected {
            None => true,
            Some(_) => self.scans.connected.is_some_and(|since| since.elapsed() >= SETTLED),
        };
        if (!is_newest || self.bundles.on_trial()) && awaited.elapsed() < AWAITED {
            return Ok(());
        }
        self.scans.awaited = None;
        if connected == Some(false) {
            self.say_now("scan-without-manager", "the manager is away; it uses the newest bundle that is here");
        }
        self.run_scan();
        self.report()
    }

    fn run_scan(&mut self) {
        let (number, files) = self.bundles.current();
        let settings = &self.policy.policy.modules.antimalware;
        let is_on = (DESCRIPTOR.is_on)(&self.policy.policy);
        let only_looks = !is_on || settings.mode == Mode::Detect;
        let limits = Limits { max_size: settings.max_size_mib << 20, seconds: settings.max_seconds };
        let Some(work) = &mut self.scans.kept.work else { return };
        if work.bundles.last() != Some(&number) {
            work.bundles.push(number);
        }
        self.scans.generation += 1;
        let control = Arc::new(Control::default());
        let run = Run {
            request: work.request.clone(),
            after: work.after(),
            files,
            limits,
            group: self.budgets.for_scan(work.request.cpu_percent),
            control: Arc::clone(&control),
            only_looks,
            given_back: GivenBack::at(&self.config.given_back()),
            state: self.config.agent.state.clone(),
            to: self.scans.to.clone(),
            generation: self.scans.generation,
        };
        let before = (work.counts, work.worked);
        self.scans.thread = Some(Thread { control, stop: None, before, began: Instant::now(), loading: true });
        self.scans.save_soon();
        if let Err(error) = std::thread::Builder::new().name("scan".into()).spawn(move || run.run()) {
            self.scans.thread = None;
            self.end_scan("failed", format!("cannot start a thread: {error}"));
        }
    }

    fn pause_scan(&mut self) -> Result<String, String> {
        let now = self.now();
        let Some(work) = &mut self.scans.kept.work else { return Err("no scan is under way".into()) };
        let name = work.request.name.clone();
        if work.paused_since.is_some() {
            return Err(format!("scan {name} is paused already"));
        }
        if self.scans.thread.is_none() {
            work.paused_since = Some(now);
            self.scans.save_soon();
            self.say_now("scan-paused", "paused before it began");
        } else {
            self.scans.stop(Why::Pause);
        }
        Ok(format!("scan {name} pauses after the file that it has in hand"))
    }

    fn resume_scan(&mut self) -> Result<String, String> {
        let now = self.now();
        let Some(work) = &mut self.scans.kept.work else { return Err("no scan is under way".into()) };
        let name = work.request.name.clone();
        match &mut self.scans.thread {
            // It ends, and another goes on after it.
            Some(Thread { stop: stop @ Some(Why::Pause), .. }) => *stop = Some(Why::NewRules),
            _ if work.paused_since.is_none() => return Err(format!("scan {name} is not paused")),
            _ => {
                work.go_on(now);
                self.scans.save_soon();
                self.say_now("scan-resumed", "it goes on");
            }
        }
        Ok(format!("scan {name} goes on"))
    }

    fn cancel_scan(&mut self, id: Option<&str>, reason: &str) -> Result<String, String> {
        let at_hand = self.scans.kept.work.as_ref().map(|work| work.request.names());
        match (id, at_hand) {
            (None, None) => Err("no scan is under way".into()),
            (id, Some(names)) if id.is_none_or(|id| id == names.id) => {
                self.cancel_for(reason);
                Ok(format!("scan {} ends", names.name))
            }
            (id, _) => {
                let id = id.unwrap_or_default();
                let waiting = &mut self.scans.kept.waiting;
                let Some(at) = waiting.iter().position(|request| request.id == id) else {
                    return Err(format!("no scan {id} is under way or waits"));
                };
                if let Some(request) = waiting.remove(at) {
                    let (state, detail) = ("cancelled".into(), format!("{reason}, before it began"));
                    let over =
                        ScanStatus { id: request.id, name: request.name, state, detail, ..ScanStatus::default() };
                    self.scans.over.push(over);
                }
                self.scans.save_soon();
                Ok(format!("scan {id} waits no more"))
            }
        }
    }

    fn cancel_for(&mut self, reason: &str) {
        if !self.scans.stop(Why::Cancel(reason.into())) {
            self.end_scan("cancelled", reason.into());
        }
    }

    /// A new bundle is in use: the scan goes on with it from where it is.
    pub(super) fn scan_with_new_rules(&mut self) {
        let used = self.scans.kept.work.as_ref().and_then(|work| work.bundles.last().copied());
        if used.is_some_and(|used| used != self.bundles.number())
            && self.scans.thread.as_ref().is_some_and(|thread| thread.stop.is_none())
        {
            self.scans.stop(Why::NewRules);
        }
    }

    /// Writes how scans stand, once all that was found before is durable.
    pub(super) fn keep_scans(&mut self) -> Result<()> {
        self.settle_scans()?;
        let due = self.scans.save_by.is_some_and(|by| by <= Instant::now());
        if due && self.said.is_empty() && self.waiting.is_empty() && self.spool.try_sync()? {
            self.scans.save();
        }
        Ok(())
    }

    /// The agent ends: what is under way goes on after its next start.
    pub(super) fn leave_scans(&mut self) {
        if let Some(thread) = self.scans.thread.take() {
            thread.control.stop();
        }
        if self.scans.save_by.is_some() && !self.spool.is_dirty() {
            self.scans.save();
        }
    }
}
