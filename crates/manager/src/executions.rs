//! Executions of playbooks: begun by alerts, findings, the clock, people and webhooks, and driven by
//! [`crate::jobs`]. What decides is [`sakimori_respond::execution`]; here rows are read, and what it says is written with the
//! orders in one transaction.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::shared::{Command as ToAgent, Shared};

/// Kind of the bucket that bounds how many executions a playbook may begin.
pub const KIND: &str = "execution";
/// Longest alert that an execution keeps, in bytes.
pub const MAX_EVENT: usize = 1 << 20;
/// Most hosts that a share is counted of.
const MOST_HOSTS: i64 = 100_000;

/// What the driver remembers: playbooks by their revision, so that each text is read once; when each action was last told to
/// be taken back, so that a host that is away is not asked again and again; which executions only wait.
#[derive(Default)]
pub struct Known {
    playbooks: BTreeMap<String, Arc<Playbook>>,
    told: BTreeMap<String, Timestamp>,
    rests: BTreeMap<String, Timestamp>,
}

/// Seconds between two tellings that the same action is to be taken back.
const TELL_EVERY: i64 = 30;
/// An execution that has waited for so many seconds is looked at every [`REST`] seconds.
const WAITS_LONG: i64 = 300;
const REST: i64 = 5;
/// Most entries of each kind that are remembered.
const MOST_REMEMBERED: usize = 100_000;

/// Most playbooks that are kept read.
const MOST_KNOWN: usize = 256;

impl Known {
    /// The playbook of a revision.
    async fn get(&mut self, shared: &Shared, revision: &str) -> Result<Arc<Playbook>, String> {
        if let Some(known) = self.playbooks.get(revision) {
            return Ok(Arc::clone(known));
        }
        let found = executions::revision(shared.control.read(), revision).await.map_err(|error| error.to_string())?;
        let found = found.ok_or_else(|| format!("the text of revision {revision} is not known any more"))?;
        let playbook = Arc::new(Playbook::parse(&found.file, &found.text).map_err(|error| error.to_string())?);
        if self.playbooks.len() >= MOST_KNOWN {
            self.playbooks.clear();
        }
        self.playbooks.insert(revision.to_owned(), Arc::clone(&playbook));
        Ok(playbook)
    }

    /// Is it the time to tell that an action is to be taken back?
    fn may_tell(&mut self, action: &str, now: Timestamp) -> bool {
        if self.told.len() >= MOST_REMEMBERED {
            self.told.clear();
        }
        let told = self.told.get(action).is_some_and(|last| now.since(*last) < TELL_EVERY * 1_000_000);
        if !told {
            self.told.insert(action.to_owned(), now);
        }
        !told
    }

    /// Does it only wait, and was it looked at just now?
    pub fn rests(&mut self, row: &Row, now: Timestamp) -> bool {
        if self.rests.len() >= MOST_REMEMBERED {
            self.rests.clear();
        }
        if now.since(Timestamp::from_micros(row.changed)) < WAITS_LONG * 1_000_000 || !row.undo.is_empty() {
            return false;
        }
        let rests = self.rests.get(&row.id).is_some_and(|last| (0..REST * 1_000_000).contains(&now.since(*last)));
        if !rests {
            self.rests.insert(row.id.clone(), now);
        }
        rests
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
    let before = execution.clone();
    let event = event_of(row)?;
    let tenant = row.tenant.as_str();
    let context = Context::of(shared, tenant).await?;
    let mut found = actions_of(shared, tenant, &execution).await?;
    let answers = answers_of(shared, tenant, &row.id).await?;
    let playbook = known.get(shared, &row.revision).await;
    let (done_by_others, hosts) = match &playbook {
        Ok(playbook) => counted(shared, row, playbook, now).await?,
        Err(_) => (0, 0),
    };
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
    let commands = match &playbook {
        Ok(playbook) => execution::advance(playbook, &mut execution, &facts),
        Err(reason) => {
            // Taking back needs no playbook.
            let commands = execution::take_back_only(&mut execution, &facts, reason);
            if execution.state == execution::State::Running {
                (execution.state, execution.reason) = (execution::State::Failed, Some(reason.clone()));
            }
            commands
        }
    };
    let mut change = shared.control.begin().await?;
    let (mut changed, mut hosts) = (execution != before, BTreeSet::new());
    for command in commands {
        match command {
            Command::Order(order) => {
                hosts.extend(order_in(shared, &mut change, (tenant, &context), &event, *order, now).await?);
                changed = true;
            }
            Command::TakeBack { action, reason, by } => {
                let Some(action) = found.get_mut(&action) else { continue };
                if action.place != MANAGER && !known.may_tell(&action.order.id, now) {
                    continue;
                }
                let why = (by.as_deref(), reason.as_str());
                changed |= respond::take_back_in(&mut change, (tenant, &context), action, why, now).await?;
                hosts.extend((action.place != MANAGER).then(|| action.place.clone()));
            }
            Command::Withdraw(id) => {
                if let Some(agent) = event.str(field::AGENT_ID) {
                    changed |= agents::answered(change.connection(), tenant, agent, &id, "order").await?;
                }
            }
        }
    }
    if !changed {
        return Ok(false);
    }
    executions::put(change.connection(), row, execution.state.name(), &record(&execution)?, now).await?;
    change.commit().await?;
    for host in &hosts {
        shared.links.tell(host, &ToAgent::Orders);
    }
    respond::told(shared);
    Ok(true)
}

/// What counts against a playbook's limits: actions of its other executions, and the tenant's hosts.
async fn counted(
    shared: &Shared,
    row: &Row,
    playbook: &Playbook,
    now: Timestamp,
) -> Result<(usize, usize), ControlError> {
    let Some(limits) = &playbook.limits else { return Ok((0, 0)) };
    let control = shared.control.read();
    let since = now.plus_secs(-i64::try_from(limits.within_seconds).unwrap_or(i64::MAX));
    let records = executions::recent(control, &row.tenant, &playbook.id, since, &row.id).await?;
    let many = i64::try_from(records.len()).unwrap_or(i64::MAX) >= executions::MOST_RECENT;
    let others = records.iter().filter_map(|record| serde_json::from_str::<Execution>(record).ok());
    let done = others.map(|other| other.counted_since(since)).sum();
    let hosts = match limits.share {
        Some(_) => agents::list(control, &Scope::One(row.tenant.clone()), "", MOST_HOSTS).await?.len(),
        None => 0,
    };
    // More than can be counted is more than any limit.
    Ok((if many { usize::MAX / 2 } else { done }, hosts))
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

/// Orders an action: of the manager's here, of a host's by its agent, which the event names. Gives the agent that has to
/// hear of it.
async fn order_in(
    shared: &Shared,
    change: &mut Change,
    (tenant, context): (&str, &Context),
    event: &Event,
    order: Order,
    now: Timestamp,
) -> Result<Option<String>, RespondError> {
    let on_host = catalog::find(&order.action).is_some_and(|known| known.runs == Runs::Host);
    if on_host && let Some(agent) = event.str(field::AGENT_ID) {
        let by = order.cause.by.clone();
        crate::orders::put_order(change, tenant, agent, &order, &by, now).await?;
        return Ok(Some(agent.to_owned()));
    }
    // What a step orders is bounded by its execution; questions are bounded as messages are, since each one waits.
    let exempt = !order.inputs.contains_key(execution::ASK);
    let account = Account { exempt, ..Account::default() };
    respond::plan_in(shared, change, tenant, context, vec![order], account, now).await?;
    Ok(None)
}
