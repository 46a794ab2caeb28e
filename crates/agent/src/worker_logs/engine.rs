//! What the worker does with a line: the log source's program makes an event of it, the host-scope rules judge
//! it, and the playbooks of this host say what an alert leads to. All of it comes from one bundle.
//!
//! What does not load is said and left out; the rest works. A log input whose source the bundle does not have is
//! still read: its lines become plain events. A program is kept compiled from its source's first line on; a host has
//! logs of a few of the sources that there are.
//!
//! An alert that was spooled already is not said again: the ids of alerts in replayed batches are remembered.

use std::collections::{BTreeMap, HashSet};

use sakimori_detect::{Detector, LineContext, LogSource, Normaliser, Options, Place, Tz};
use sakimori_model::id::EventId;
use sakimori_model::policy::LogInput;
use sakimori_model::rule::Scope;
use sakimori_model::{Event, Network, Order, Timestamp, field};
use sakimori_respond::playbook::{self, Playbook, Setting};
use sakimori_wire::batch::{Batch, BatchError, Encoder};
use sakimori_wire::ipc::LogsStart;

/// On a host there is one tenant: the manager says which.
const TENANT: &str = "host";
/// Alerts of replayed batches that are remembered.
const MAX_REMEMBERED: usize = 100_000;
/// Errors that are told.
const MAX_ERRORS: usize = 200;
/// Most alerts of one batch, and most bytes of it up to which alerts are told: lines that match every rule there is must
/// not make a batch that nobody takes, since the same lines would be read again and again.
pub const MAX_ALERTS: usize = 10_000;
const ALERT_BYTES: usize = 24 << 20;

/// What one read became, beside the events that it put into the encoder, each followed by the alerts that it
/// causes.
#[derive(Debug, Default)]
pub struct Made {
    /// Lines that were read.
    pub lines: usize,
    /// Alerts among the events.
    pub alerts: usize,
    /// Alerts that had no room; they are counted as lost.
    pub untold: u64,
    /// What the alerts ask for.
    pub orders: Vec<Order>,
    /// What no longer fits into one batch; a read is bounded so that it always does.
    pub problem: Option<BatchError>,
}

/// Who speaks.
struct Who {
    agent: String,
    host_name: String,
    host_id: String,
    zone: Tz,
    proxies: Vec<Network>,
    history_seconds: u64,
    bundle: u64,
}

/// A log source, and its program once a line of it came.
struct Source {
    written: LogSource,
    program: Option<Normaliser>,
}

/// Rules and their state.
pub struct Engine {
    who: Who,
    sources: BTreeMap<String, Source>,
    detector: Detector,
    rules: u32,
    playbooks: Vec<Playbook>,
    remembered: HashSet<String>,
}

/// Makes one batch of lines. An event goes into the encoder as soon as it is judged, while it is near: a batch of
/// events in memory costs more than all that is done with them.
pub struct Maker<'a> {
    engine: &'a mut Engine,
    encoder: &'a mut Encoder,
    input: &'a LogInput,
    zone: Tz,
    id: EventId,
    now: Timestamp,
    history: u64,
    made: Made,
    found: Vec<Event>,
}

/// Is this event an alert of the engine?
fn is_alert(event: &Event) -> bool {
    event.get(field::SAKIMORI_ALERT_ID).is_some()
}

impl Source {
    /// None only where it did not compile when it was loaded either.
    fn program(&mut self) -> Option<&mut Normaliser> {
        if self.program.is_none() {
            self.program = Normaliser::new(&self.written).ok();
        }
        self.program.as_mut()
    }
}

impl Engine {
    /// Loads a bundle; the second value is what of it did not load.
    pub fn load(start: &LogsStart, bundle: u64, files: &[(String, Vec<u8>)]) -> (Self, Vec<String>) {
        let files: BTreeMap<String, Vec<u8>> = files.iter().cloned().collect();
        // What is wrong with a source is told by the detector's loading too.
        let (written, _) = LogSource::load_all(&files);
        let mut sources = BTreeMap::new();
        let mut unusable = Vec::new();
        // First: what lasts takes the room that these programs leave.
        for written in written {
            match Normaliser::new(&written) {
                Ok(_) => drop(sources.insert(written.id.clone(), Source { written, program: None })),
                Err(error) => unusable.push(error.to_string()),
            }
        }
        let options = Options { place: Place::Agent, bundle: Some(bundle), ..Options::default() };
        let (detector, wrong) = Detector::from_files(&files, options);
        let mut errors: Vec<String> = wrong.iter().map(ToString::to_string).chain(unusable).collect();
        let contents = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let (playbooks, wrong) = playbook::load(contents, Scope::Host);
        errors.extend(wrong);
        errors.truncate(MAX_ERRORS);
        let engine = Self {
            who: Who {
                agent: start.agent.clone(),
                host_name: start.host_name.clone(),
                host_id: start.host_id.clone(),
                zone: start.zone.parse().unwrap_or(Tz::UTC),
                proxies: start.proxies.clone(),
                history_seconds: start.history_seconds,
                bundle,
            },
            sources,
            rules: u32::try_from(detector.rules().count()).unwrap_or(u32::MAX),
            detector,
            playbooks,
            remembered: HashSet::new(),
        };
        (engine, errors)
    }

    /// Loaded rules.
    pub fn rules(&self) -> u32 {
        self.rules
    }

    /// Takes a snapshot's state.
    ///
    /// # Errors
    /// Where it is of another engine or of other rules.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.detector.restore(state).map_err(|error| error.to_string())
    }

    /// State of all windows.
    pub fn snapshot(&self) -> Vec<u8> {
        self.detector.snapshot()
    }

    /// Takes what outlives a change of rules from the engine before.
    pub fn take_over(&mut self, former: &mut Self) {
        self.remembered = std::mem::take(&mut former.remembered);
        self.who.proxies = std::mem::take(&mut former.who.proxies);
    }

    /// Proxies whose X-Forwarded-For is believed.
    pub fn set_proxies(&mut self, proxies: Vec<Network>) {
        self.who.proxies = proxies;
    }

    /// Feeds a batch of the spool, and says nothing.
    pub fn replay(&mut self, batch: &Batch) {
        let mut silent = Vec::new();
        for (index, event) in batch.events.iter().enumerate() {
            if is_alert(event) {
                if let Some(id) = event.str(field::SAKIMORI_ALERT_ID)
                    && self.remembered.len() < MAX_REMEMBERED
                {
                    self.remembered.insert(id.to_owned());
                }
                continue;
            }
            let arrival = event.date(field::EVENT_CREATED).or(event.timestamp()).unwrap_or_default();
            self.detector.feed(event, &batch.event_id(index), arrival, TENANT, &mut silent);
            silent.clear();
        }
    }

    /// Begins a batch of an input. `history`: what lies before this offset was there before the input was read
    /// for the first time.
    pub fn maker<'a>(
        &'a mut self,
        encoder: &'a mut Encoder,
        input: &'a LogInput,
        batch: &str,
        now: Timestamp,
        history: u64,
    ) -> Maker<'a> {
        Maker {
            zone: input.zone.as_deref().and_then(|zone| zone.parse().ok()).unwrap_or(self.who.zone),
            engine: self,
            encoder,
            input,
            id: EventId { batch: batch.to_owned(), index: 0 },
            now,
            history,
            made: Made::default(),
            found: Vec::new(),
        }
    }

    /// What time brings: alerts that no event causes.
    pub fn advance(&mut self, now: Timestamp) -> (Vec<Event>, Vec<Order>) {
        let mut alerts = Vec::new();
        self.detector.advance(now, &mut alerts);
        let (mut events, mut orders) = (Vec::new(), Vec::new());
        for alert in alerts {
            events.extend(self.take_alert(alert, now, false, &mut orders));
        }
        (events, orders)
    }

    /// The alert as it is told, and what it asks for; none where it was told before.
    fn take_alert(
        &mut self,
        mut alert: Event,
        now: Timestamp,
        is_history: bool,
        orders: &mut Vec<Order>,
    ) -> Option<Event> {
        let id = alert.str(field::SAKIMORI_ALERT_ID)?.to_owned();
        if self.remembered.contains(&id) {
            return None;
        }
        self.who.mark(&mut alert);
        self.who.sign(&mut alert);
        if !is_history {
            let setting = Setting { place: &self.who.agent, now, scope: Scope::Host };
            for playbook in &self.playbooks {
                orders.extend(playbook.evaluate(&alert, &id, &setting));
            }
        }
        Some(alert)
    }
}

impl Who {
    /// What every event of this engine carries, without a copy of a text.
    fn mark(&self, event: &mut Event) {
        event.set(field::ECS_VERSION, "8.17.0");
        event.set(field::AGENT_TYPE, "sakimori");
        event.set(field::AGENT_VERSION, env!("CARGO_PKG_VERSION"));
        event.set(field::SAKIMORI_DETECT_BUNDLE, i64::try_from(self.bundle).unwrap_or(i64::MAX));
    }

    /// Who this is; a log source's program says it already.
    fn sign(&self, event: &mut Event) {
        event.set(field::AGENT_ID, self.agent.clone());
        event.set(field::HOST_NAME, self.host_name.clone());
        event.set(field::HOST_ID, self.host_id.clone());
    }

    /// A line whose source nobody knows.
    fn plain(&self, line: &[u8], context: &LineContext<'_>, source: &str) -> Event {
        let mut event = Event::new();
        event.set(field::TIMESTAMP, context.received_at);
        event.set(field::EVENT_CREATED, context.received_at);
        event.set(field::EVENT_KIND, "event");
        event.set(field::EVENT_ORIGINAL, String::from_utf8_lossy(line).into_owned());
        event.set(field::SAKIMORI_SOURCE, source.to_owned());
        event.set(field::ERROR_MESSAGE, format!("the rule bundle has no log source {source}"));
        event.push(field::TAGS, "_no_source");
        if let Some(file) = context.file {
            event.set(field::LOG_FILE_PATH, file.to_owned());
        }
        if context.probe {
            event.set(field::SAKIMORI_PROBE, true);
        }
        self.sign(&mut event);
        event
    }
}

impl Made {
    /// Puts an event into the encoder.
    pub fn put(&mut self, encoder: &mut Encoder, event: &Event) {
        if let Err(problem) = encoder.push(event) {
            self.problem.get_or_insert(problem);
        }
    }
}

impl Maker<'_> {
    /// Takes a line. `dropped` bytes of it were left out by its reader.
    pub fn line(&mut self, line: &[u8], offset: u64, dropped: u64) {
        let engine = &mut *self.engine;
        let who = &engine.who;
        let context = LineContext {
            received_at: self.now,
            zone: self.zone,
            host_name: &who.host_name,
            host_id: &who.host_id,
            agent_id: &who.agent,
            file: self.input.file.as_deref(),
            offset: self.input.file.is_some().then_some(offset),
            probe: self.input.probe,
            dropped,
            trusted_proxies: &who.proxies,
        };
        let mut event = match engine.sources.get_mut(&self.input.source).and_then(Source::program) {
            Some(program) => program.parse(line, &context),
            None => who.plain(line, &context, &self.input.source),
        };
        who.mark(&mut event);
        self.made.lines += 1;
        self.id.index = self.encoder.count();
        engine.detector.feed(&event, &self.id, self.now, TENANT, &mut self.found);
        let is_history = offset < self.history
            && who.history_seconds > 0
            && event.timestamp().is_some_and(|time| {
                self.now.since(time) > i64::try_from(who.history_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
            });
        self.made.put(self.encoder, &event);
        for alert in self.found.drain(..) {
            if self.made.alerts >= MAX_ALERTS || self.encoder.bytes() >= ALERT_BYTES {
                self.made.untold += 1;
                continue;
            }
            if let Some(alert) = engine.take_alert(alert, self.now, is_history, &mut self.made.orders) {
                self.made.alerts += 1;
                self.made.put(self.encoder, &alert);
            }
        }
    }

    /// The batch.
    pub fn finish(self) -> Made {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> LogsStart {
        LogsStart {
            agent: "agent-1".into(),
            host_name: "web1".into(),
            host_id: "h".into(),
            zone: "UTC".into(),
            bundle: 1,
            files: Vec::new(),
            proxies: Vec::new(),
            credits: 8,
            history_seconds: 0,
        }
    }

    /// Rules that each match every line of sshd.
    fn rules(count: usize) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<(String, Vec<u8>)> =
            sakimori_content::builtin().into_iter().filter(|(path, _)| path.starts_with("logs/")).collect();
        for number in 0..count {
            let text = format!(
                "title: every line {number}\nid: 00000000-0000-4000-8000-{number:012}\nlogsource: {{ product: linux, service: \
                 auth }}\ndetection:\n  each:\n    event.action: ssh_login\n  condition: each\nlevel: low\nsakimori:\n  id: \
                 every_line_{number}\n  revision: 1\n  scope: host\n  title_ja: x\n"
            );
            files.push((format!("sigma/flood/{number}.yml"), text.into_bytes()));
        }
        files
    }

    #[test]
    fn lines_that_match_every_rule_make_a_batch_that_fits() {
        let (mut engine, errors) = Engine::load(&start(), 1, &rules(40));
        assert_eq!((errors, engine.rules()), (Vec::<String>::new(), 40));
        let mut encoder = Encoder::default();
        let input: LogInput = serde_json::from_str(r#"{"name":"auth","source":"linux/auth","file":"/x"}"#).unwrap();
        let now = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let mut maker = engine.maker(&mut encoder, &input, "b", now, 0);
        let lines = 2_000;
        for number in 0..lines {
            let line =
                format!("Jan  1 00:00:00 web1 sshd[7]: Failed password for root from 203.0.113.7 port {number} ssh2");
            maker.line(line.as_bytes(), number, 0);
        }
        let made = maker.finish();
        assert_eq!((made.problem, made.alerts), (None, MAX_ALERTS));
        assert_eq!(made.untold, lines * 40 - MAX_ALERTS as u64, "what has no room is counted");
        assert_eq!(u64::from(encoder.count()), lines + MAX_ALERTS as u64, "every line is an event");
        let header = sakimori_wire::batch::BatchHeader { id: "b".into(), ..Default::default() };
        let bytes = encoder.finish(&header).unwrap();
        assert_eq!(sakimori_wire::batch::decode(&bytes).unwrap().events.len(), 12_000);
    }
}
