//! Detection and playbooks as a fold over the journal (D8): what was folded once may be folded again after a
//! crash, and nothing comes of it twice.
//!
//! Events that an agent judged carry its bundle; host-scope rules are judged here only on those without. An
//! alert of the manager's own rules becomes a batch of its own in the journal, named by the alert's id, so
//! that a replay finds it there. Orders are keyed by alert; a host action's events are projected into rows.

use std::collections::HashSet;
use std::sync::Arc;

use sakimori_content::files::Files;
use sakimori_detect::{Detector, LogSource, Options, Place};
use sakimori_model::rule::Scope;
use sakimori_model::{Action, Event, Order, Value, field};
use sakimori_respond::playbook::{self, Playbook, Setting, Trigger};
use sakimori_store::control::flushes;
use sakimori_store::lake::{LakeError, StampedBatch};
use sakimori_wire::batch::{Batch, BatchHeader};
use tracing::{error, warn};

use crate::executions::{self, Begun};
use crate::ingest::occurrences;
use crate::ingest::{MANAGER, Record};
use crate::metrics::Metrics;
use crate::notices;
use crate::respond::{self, Account};
use crate::shared::{LiveEvent, Shared};

/// Name of the stored state.
pub const CHECKPOINT: &str = "detect";
/// Version of the engine whose snapshots can be restored.
pub const ENGINE: &str = concat!("sakimori-detect ", env!("CARGO_PKG_VERSION"));

/// Rules and playbooks at work.
pub struct Fold {
    detector: Detector,
    playbooks: Vec<Arc<Playbook>>,
    /// Own alerts that lie in the journal after the checkpoint.
    told: HashSet<String>,
    /// Does a playbook begin with findings?
    looks_at_findings: bool,
    errors: Vec<String>,
}

/// Alerts of the manager's own rules, by tenant.
pub type OwnAlerts = Vec<(String, Vec<Event>)>;

impl Fold {
    /// Loads rules and playbooks; what cannot be loaded is in [`Fold::errors`].
    pub fn load(files: &Files, bundle: u64) -> Self {
        let (sources, mut problems) = LogSource::load_all(files);
        let options =
            Options { place: Place::Manager, bundle: Some(bundle), ..Options::default() }.with_sources(&sources);
        let (detector, more) = Detector::from_files(files, options);
        problems.extend(more);
        let mut errors: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let contents = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let (playbooks, more) = playbook::load(contents, Scope::Wide);
        errors.extend(more);
        let playbooks: Vec<_> = playbooks.into_iter().map(Arc::new).collect();
        let looks_at_findings = playbooks.iter().any(|one| matches!(one.trigger, Trigger::Finding { .. }));
        Self { detector, playbooks, looks_at_findings, told: HashSet::new(), errors }
    }

    /// What could not be loaded, each with file, line and reason.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Takes stored windows; where they are of another engine it begins with none and says so.
    pub fn restore(&mut self, checkpoint: &flushes::Checkpoint) {
        if checkpoint.engine != ENGINE {
            warn!(found = checkpoint.engine, "detection's state is of another engine; windows begin empty");
        } else if let Err(problem) = self.detector.restore(&checkpoint.state) {
            warn!(error = %problem, "detection's state cannot be restored; windows begin empty");
        }
    }

    /// Open windows.
    pub fn snapshot(&self) -> Vec<u8> {
        self.detector.snapshot()
    }

    /// New rules; windows of rules that are unchanged go on.
    pub fn swap(&mut self, files: &Files, bundle: u64) {
        let state = self.detector.snapshot();
        let told = std::mem::take(&mut self.told);
        *self = Self { told, ..Self::load(files, bundle) };
        if let Err(problem) = self.detector.restore(&state) {
            warn!(error = %problem, "windows begin empty after the change of rules");
        }
    }

    /// An own alert batch that lies in the journal.
    pub fn note_told(&mut self, batch: &str) {
        self.told.insert(batch.to_owned());
    }

    /// After a checkpoint: what is before it is not folded again.
    pub fn forget_told(&mut self) {
        self.told.clear();
    }

    /// Folds one journal record. `into_lake` is false where the table has it already. Returns own alerts that
    /// are not in the journal yet.
    ///
    /// # Errors
    /// Control state that fails: the record is then folded again after a restart.
    pub async fn batch(
        &mut self,
        shared: &Arc<Shared>,
        position: u64,
        record: &Record,
        mut batch: Batch,
        into_lake: bool,
    ) -> Result<OwnAlerts, String> {
        let header = batch.header.clone();
        if header.bundle > 0 {
            for event in &mut batch.events {
                event.set(field::SAKIMORI_DETECT_BUNDLE, header.bundle.cast_signed());
            }
        }
        for event in &mut batch.events {
            if is_alert(event) {
                shared.exceptions.mark(&record.tenant, event, record.received);
            }
        }
        let mut found = Vec::new();
        let mut alerts = Vec::new();
        let mut host_actions = Vec::new();
        let (mut findings, mut asked) = (Vec::new(), Vec::new());
        for (index, event) in batch.events.iter().enumerate() {
            // What an exception holds back is kept and led to nothing.
            if is_alert(event) && event.get(field::SAKIMORI_ALERT_EXCEPTION).is_none() {
                alerts.push(event.clone());
            }
            if self.looks_at_findings && event.str(field::EVENT_KIND) == Some("state") {
                // Named by itself, so that the same finding told again begins nothing again.
                let named = event.str(field::EVENT_HASH).map(str::to_owned);
                findings.push((named.unwrap_or_else(|| batch.event_id(index).to_string()), event.clone()));
            }
            if self.is_asked_by(&header.origin) && event.bool(field::SAKIMORI_REPEATED) != Some(true) {
                asked.push((batch.event_id(index).to_string(), event.clone()));
            }
            if header.origin != MANAGER {
                self.detector.feed(event, &batch.event_id(index), record.received, &record.tenant, &mut found);
                if let Some(action) = projected(event, &header) {
                    host_actions.push(action);
                }
            }
        }
        if into_lake {
            self.store(shared, record, batch).await;
        }
        let (mut orders, mut begun) = (Vec::new(), Vec::new());
        for alert in &alerts {
            orders.extend(self.orders(alert, record));
            if let Some(id) = alert.str(field::SAKIMORI_ALERT_ID) {
                begun.extend(self.begun(alert, id));
            }
        }
        for (id, finding) in findings {
            begun.extend(self.begun(&finding, &id));
        }
        for (id, event) in asked {
            begun.extend(self.asked(&header.origin, &event, &id));
        }
        Metrics::add(&shared.metrics.alerts, alerts.len() as u64);
        self.write(shared, position, record, &header, host_actions, (orders, begun)).await?;
        found
            .retain(|alert| alert.str(field::SAKIMORI_ALERT_ID).is_some_and(|id| self.told.insert(alert_batch_id(id))));
        Ok(if found.is_empty() { Vec::new() } else { vec![(record.tenant.clone(), found)] })
    }

    fn orders(&self, alert: &Event, record: &Record) -> Vec<Order> {
        let Some(id) = alert.str(field::SAKIMORI_ALERT_ID) else { return Vec::new() };
        let setting = Setting { place: MANAGER, now: record.received, scope: Scope::Wide };
        self.playbooks.iter().flat_map(|playbook| playbook.evaluate(alert, id, &setting)).collect()
    }

    /// The executions that an alert or finding begins.
    fn begun(&self, event: &Event, id: &str) -> Vec<Begun> {
        let stepwise = self.playbooks.iter().filter(|playbook| !playbook.is_plain());
        let fits = stepwise.filter(|playbook| playbook.fits(event, id, Scope::Wide).is_ok());
        fits.map(|playbook| Begun { playbook: Arc::clone(playbook), event: event.clone(), id: id.to_owned() }).collect()
    }

    /// Does a playbook begin with what comes by this way in?
    fn is_asked_by(&self, origin: &str) -> bool {
        let Some(from) = origin.strip_prefix(occurrences::ORIGIN) else { return false };
        self.playbooks.iter().any(|one| matches!(&one.trigger, Trigger::Webhook { way } if way == from))
    }

    /// The executions that an event of a way in begins.
    fn asked(&self, origin: &str, event: &Event, id: &str) -> Vec<Begun> {
        let from = origin.strip_prefix(occurrences::ORIGIN).unwrap_or_default();
        let fits = self.playbooks.iter().filter(|one| {
            matches!(&one.trigger, Trigger::Webhook { way } if way == from) && one.condition_holds(event, id).is_ok()
        });
        fits.map(|playbook| Begun { playbook: Arc::clone(playbook), event: event.clone(), id: id.to_owned() }).collect()
    }

    /// Into the lake's memory. While that is full it waits for the flush: senders wait behind it.
    pub async fn store(&self, shared: &Arc<Shared>, record: &Record, batch: Batch) {
        let watched = shared.live.receiver_count() > 0;
        if watched {
            for (index, event) in batch.events.iter().enumerate() {
                let mut event = event.clone();
                let id = batch.event_id(index);
                sakimori_store::lake::stamp(&mut event, &record.tenant, &id, &batch.header.stream, record.received);
                let arrival = record.arrival.saturating_add(index as u64);
                let _ = shared.live.send(Arc::new(LiveEvent { tenant: record.tenant.clone(), arrival, event }));
            }
        }
        let stamped = Arc::new(StampedBatch {
            tenant: record.tenant.clone(),
            header: batch.header,
            events: batch.events,
            arrival: record.received,
            first_sequence: record.arrival,
        });
        loop {
            match shared.lake.ingest(Arc::clone(&stamped)) {
                Ok(()) | Err(LakeError::Repeated(_)) => return,
                Err(LakeError::Full(_)) => {
                    // The claimed flush is being written; what it frees is seen here.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    if shared.lake.sealed().is_empty() {
                        // Nothing is being written: memory is full of what is not sealed, which the journal holds.
                        error!(
                            "the lake's memory is full and nothing is sealed; a batch waits in the journal for a restart"
                        );
                        return;
                    }
                }
                Err(problem) => {
                    error!(error = %problem, batch = stamped.header.id, "a batch could not be taken into the lake; the journal holds it");
                    return;
                }
            }
        }
    }

    async fn write(
        &self,
        shared: &Arc<Shared>,
        position: u64,
        record: &Record,
        header: &BatchHeader,
        host_actions: Vec<Action>,
        (mut orders, begun): (Vec<Order>, Vec<Begun>),
    ) -> Result<(), String> {
        let tenant = &record.tenant;
        if !host_actions.is_empty() || !header.losses.is_empty() {
            let outcome = async {
                let mut change = shared.control.begin().await?;
                let at = position.cast_signed();
                respond::project(shared, &mut change, tenant, &host_actions, at, record.received).await?;
                let connection = change.connection();
                let sequence = header.sequence.cast_signed();
                flushes::put_losses(connection, tenant, &header.origin, &header.stream, sequence, &header.losses)
                    .await?;
                change.commit().await
            };
            outcome.await.map_err(|error| error.to_string())?;
        }
        if !orders.is_empty() {
            let (_, effective) = crate::policy::of_tenant(shared, tenant).await?;
            let enabled = |id: &str| self.playbooks.iter().any(|one| one.id == id && one.enabled);
            orders.retain(|order| match order.cause.by.strip_prefix("playbook:") {
                Some(id) => effective.policy.response.runs(id, enabled(id)),
                None => true,
            });
        }
        if !begun.is_empty() {
            let at = position.cast_signed();
            let outcome = executions::begin_all(shared, tenant, begun, at, record.received).await;
            outcome.map_err(|error| error.to_string())?;
        }
        if !orders.is_empty() {
            // What the manager says of itself is bounded where it is said: nobody else can write into that stream.
            let exempt = header.origin == MANAGER && header.stream == notices::STREAM;
            let account = Account { position: position.cast_signed(), exempt };
            let planned = respond::plan(shared, tenant, orders, account, record.received);
            planned.await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Is it an alert that can be asked for by its id?
fn is_alert(event: &Event) -> bool {
    event.get(field::SAKIMORI_ALERT_ID).is_some() && event.str(field::EVENT_KIND) == Some("alert")
}

/// A host's action as its agent tells it: only of its own place.
fn projected(event: &Event, header: &BatchHeader) -> Option<Action> {
    let Some(Value::Json(record)) = event.get(field::SAKIMORI_ACTION_RECORD) else { return None };
    let action: Action = serde_json::from_value((**record).clone()).ok()?;
    (action.place == header.origin).then_some(action)
}

fn alert_batch_id(alert: &str) -> String {
    format!("{MANAGER}:alert:{alert}")
}

/// A batch of own alerts. Its id is that of its first alert.
pub fn alert_batch(alerts: Vec<Event>, sequence: u64, first_event: u64) -> Batch {
    let id = alerts.first().and_then(|alert| alert.str(field::SAKIMORI_ALERT_ID)).map(alert_batch_id);
    let header = BatchHeader {
        id: id.unwrap_or_default(),
        origin: MANAGER.into(),
        stream: "detect".into(),
        sequence,
        first_event,
        ..BatchHeader::default()
    };
    Batch { header, events: alerts }
}

/// Ids under which the alerts of a journalled batch of the manager's are known.
pub fn told_ids(batch: &Batch) -> impl Iterator<Item = String> + '_ {
    let own = batch.header.origin == MANAGER && batch.header.stream == "detect";
    batch.events.iter().filter(move |_| own).filter_map(|event| event.str(field::SAKIMORI_ALERT_ID)).map(alert_batch_id)
}
