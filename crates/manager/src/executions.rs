//! Executions of playbooks: begun by alerts, findings, the clock, people and webhooks, and driven by
//! [`crate::jobs`]. What decides is [`sakimori_respond::execution`]; here rows are read, and what it says is written with the
//! orders in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use sakimori_model::{Action, Event, Order, Timestamp, field};
use sakimori_respond::actions::{self as catalog, Runs};
use sakimori_respond::execution::{self, Answer, Command, Execution, Facts};
use sakimori_respond::playbook::Playbook;
use sakimori_store::control::actions::MANAGER;
use sakimori_store::control::executions::{self, Revision, Row};
use sakimori_store::control::{Change, ControlError, Scope, actions, agents};
use serde_json::Value;

use crate::flood::{Key, Rate, Tally, Turn};
use crate::respond::{self, Account, Context, RespondError};
use crate::shared::Shared;

/// Kind of the bucket that bounds how many executions a playbook may begin.
pub const KIND: &str = "execution";
/// Longest alert that an execution keeps, in bytes.
pub const MAX_EVENT: usize = 1 << 20;
/// Most hosts that a share is counted of.
const MOST_HOSTS: i64 = 100_000;

/// Playbooks by their revision, so that each text is read once.
#[derive(Default)]
pub struct Known(BTreeMap<String, Arc<Playbook>>);

/// Most playbooks that are kept read.
const MOST_KNOWN: usize = 256;

impl Known {
    /// The playbook of a revision.
    async fn get(&mut self, shared: &Shared, revision: &str) -> Result<Arc<Playbook>, String> {
        if let Some(known) = self.0.get(revision) {
            return Ok(Arc::clone(known));
        }
        let found = executions::revision(shared.control.read(), revision).await.map_err(|error| error.to_string())?;
        let found = found.ok_or_else(|| format!("the text of revision {revision} is not known any more"))?;
        let playbook = Arc::new(Playbook::parse(&found.file, &found.text).map_err(|error| error.to_string())?);
        if self.0.len() >= MOST_KNOWN {
            self.0.clear();
        }
        self.0.insert(revision.to_owned(), Arc::clone(&playbook));
        Ok(playbook)
    }
}

/// What begins an execution.
pub struct Beginning<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// Which playbook.
    pub playbook: &'a Playbook,
    /// The alert or finding, or what a person gave.
    pub event: &'a Event,
    /// Id of the alert or finding; empty where there is none.
    pub alert: &'a str,
    /// The execution's id.
    pub id: String,
    /// `playbook:<id>`, or a person.
    pub by: &'a str,
}

/// Writes a new execution, of which nothing has begun. False where it is there already.
///
/// # Errors
/// The database failed.
pub async fn begin(change: &mut Change, beginning: Beginning<'_>, now: Timestamp) -> Result<bool, ControlError> {
    let Beginning { tenant, playbook, event, alert, id, by } = beginning;
    let mut execution = Execution::new(id.clone(), playbook, alert, by, now);
    let mut text = Value::Object(event.to_json()).to_string();
    if text.len() > MAX_EVENT {
        execution.state = execution::State::Failed;
        execution.reason = Some(format!("its alert has {} bytes, more than {MAX_EVENT}", text.len()));
        text = "{}".to_owned();
    }
    let revision = Revision {
        revision: playbook.revision.clone(),
        playbook: playbook.id.clone(),
        file: playbook.file.clone(),
        text: playbook.text.clone(),
        since: now.micros(),
    };
    executions::note_revision(change.connection(), &revision).await?;
    let row = Row {
        tenant: tenant.to_owned(),
        id,
        playbook: playbook.id.clone(),
        revision: playbook.revision.clone(),
        alert: alert.to_owned(),
        state: execution.state.name().to_owned(),
        started: now.micros(),
        changed: now.micros(),
        undo: String::new(),
        event: text,
        record: record(&execution)?,
    };
    executions::begin(change.connection(), &row).await
}

fn record(execution: &Execution) -> Result<String, ControlError> {
    serde_json::to_string(execution).map_err(|error| ControlError::Stored("execution", error.to_string()))
}

/// The record of a row.
///
/// # Errors
/// It is not what this program wrote.
pub fn read(row: &Row) -> Result<Execution, ControlError> {
    serde_json::from_str(&row.record).map_err(|error| ControlError::Stored("execution", error.to_string()))
}

/// What an alert or a finding begins, of a journal record.
pub struct Begun {
    /// The playbook, of those that are in force.
    pub playbook: Arc<Playbook>,
    /// The event.
    pub event: Event,
    /// Its id.
    pub id: String,
}

/// Begins what events of one journal record led to, within the bounds on floods: what is beyond them is counted and told.
///
/// # Errors
/// Control state or policy.
pub async fn begin_all(
    shared: &Shared,
    tenant: &str,
    begun: Vec<Begun>,
    position: i64,
    now: Timestamp,
) -> Result<(), RespondError> {
    let (_, effective) = crate::policy::of_tenant(shared, tenant).await.map_err(RespondError::Policy)?;
    let mut change = shared.control.begin().await?;
    let mut tally = Tally::default();
    for Begun { playbook, event, id } in begun {
        if !effective.policy.response.runs(&playbook.id, playbook.enabled) {
            continue;
        }
        let execution = execution::id_for(&playbook.id, &id);
        if executions::exists(change.connection(), tenant, &execution).await? {
            continue;
        }
        let by = format!("playbook:{}", playbook.id);
        let key = Key { tenant: tenant.to_owned(), source: by.clone(), kind: KIND.to_owned() };
        let rate = Rate::of(KIND, &shared.config.flood);
        if let Turn::Shed { began, first } = respond::floods(shared).take(&key, rate, now) {
            tally.shed(&key, "", &id, began, first);
            continue;
        }
        let beginning = Beginning { tenant, playbook: &playbook, event: &event, alert: &id, id: execution, by: &by };
        begin(&mut change, beginning, now).await?;
    }
    respond::settle(shared, &mut change, tenant, &tally, position, now).await?;
    change.commit().await?;
    shared.executions_changed.notify_one();
    Ok(())
}

/// Brings one execution as far as it can go now. True where something changed, so that another look may be worth it.
///
/// # Errors
/// Control state or policy; nothing is written then.
pub async fn drive(shared: &Shared, known: &mut Known, row: &Row) -> Result<bool, RespondError> {
    let now = shared.clock.now();
    let mut execution = read(row)?;
    let playbook = match known.get(shared, &row.revision).await {
        Ok(playbook) => playbook,
        Err(reason) => {
            execution.state = execution::State::Failed;
            execution.reason = Some(reason);
            let mut change = shared.control.begin().await?;
            executions::put(change.connection(), row, execution.state.name(), &record(&execution)?, now).await?;
            change.commit().await?;
            return Ok(true);
        }
    };
    let event = event_of(row)?;
    let tenant = row.tenant.as_str();
    let context = Context::of(shared, tenant).await?;
    let mut found = actions_of(shared, tenant, &execution).await?;
    let answers = answers_of(shared, tenant, &row.id).await?;
    let hosts = match playbook.limits.as_ref().is_some_and(|limits| limits.share.is_some()) {
        true => agents::list(shared.control.read(), &Scope::One(tenant.to_owned()), "", MOST_HOSTS).await?.len(),
        false => 0,
    };
    let mut change = shared.control.begin().await?;
    let done_by_others = match &playbook.limits {
        None => 0,
        Some(limits) => {
            let since = now.plus_secs(-i64::try_from(limits.within_seconds).unwrap_or(i64::MAX));
            let records = executions::recent(change.connection(), tenant, &playbook.id, since, &row.id).await?;
            let others = records.iter().filter_map(|record| serde_json::from_str::<Execution>(record).ok());
            others.map(|other| other.counted_since(since)).sum()
        }
    };
    let before = execution.clone();
    let facts = Facts {
        event: &event,
        now,
        actions: &found,
        answers: &answers,
        done_by_others,
        hosts,
        halted: context.halted.as_deref(),
        undo: (!row.undo.is_empty()).then_some(row.undo.as_str()),
    };
    let commands = execution::advance(&playbook, &mut execution, &facts);
    if commands.is_empty() && execution == before {
        return Ok(false);
    }
    for command in commands {
        match command {
            Command::Order(order) => order_in(shared, &mut change, (tenant, &context), &event, *order, now).await?,
            Command::TakeBack { action, reason, by } => {
                if let Some(action) = found.get_mut(&action) {
                    let why = (by.as_deref(), reason.as_str());
                    respond::take_back_in(&mut change, (tenant, &context), action, why, now).await?;
                }
            }
        }
    }
    executions::put(change.connection(), row, execution.state.name(), &record(&execution)?, now).await?;
    change.commit().await?;
    respond::told(shared);
    Ok(true)
}

/// The alert or finding of a row.
///
/// # Errors
/// It is not what this program wrote.
pub fn event_of(row: &Row) -> Result<Event, ControlError> {
    match serde_json::from_str(&row.event) {
        Ok(Value::Object(object)) => Ok(Event::from_json(object).0),
        Ok(_) => Err(ControlError::Stored("alert of an execution", "no object".to_owned())),
        Err(error) => Err(ControlError::Stored("alert of an execution", error.to_string())),
    }
}

/// The actions that an execution ordered, as they are now.
///
/// # Errors
/// The database failed.
pub async fn actions_of(
    shared: &Shared,
    tenant: &str,
    execution: &Execution,
) -> Result<BTreeMap<String, Action>, ControlError> {
    let scope = Scope::One(tenant.to_owned());
    let mut found = BTreeMap::new();
    for id in execution.actions() {
        match actions::get(shared.control.read(), &scope, id).await {
            Ok(job) => drop(found.insert(id.to_owned(), job.action)),
            Err(ControlError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn answers_of(shared: &Shared, tenant: &str, id: &str) -> Result<BTreeMap<String, Vec<Answer>>, ControlError> {
    let mut answers: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
    for answer in executions::answers(shared.control.read(), tenant, id).await? {
        let one = Answer { by: answer.person, allow: answer.allow, at: Timestamp::from_micros(answer.time) };
        answers.entry(answer.step).or_default().push(one);
    }
    Ok(answers)
}

/// Orders an action: of the manager's here, of a host's by its agent, which the event names.
async fn order_in(
    shared: &Shared,
    change: &mut Change,
    (tenant, context): (&str, &Context),
    event: &Event,
    order: Order,
    now: Timestamp,
) -> Result<(), RespondError> {
    let on_host = catalog::find(&order.action).is_some_and(|known| known.runs == Runs::Host);
    if !on_host {
        let account = Account { exempt: true, ..Account::default() };
        return respond::plan_in(shared, change, tenant, context, vec![order], account, now).await;
    }
    let agent = event.str(field::AGENT_ID).unwrap_or(MANAGER);
    let by = order.cause.by.clone();
    Ok(crate::orders::put_order(change, tenant, agent, &order, &by, now).await?)
}
