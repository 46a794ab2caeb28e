//! Carries out the actions of cloud accounts, each through its [`Effect`]: look, write down what was there, do, verify; and
//! back, when its time is up or somebody wants it back.
//!
//! A crash anywhere repeats the last half: what is running has its former state in its row, and effects converge. What
//! cannot be finished is taken back before it is called failed, so that nothing stays half done. What is not in effect after
//! some looks is taken back too, since an answer that does not hold only seems to be one.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sakimori_model::ledger::Change;
use sakimori_model::{ActionState, Timestamp};
use sakimori_respond::ports::{Effect, Look, MAX_FORMER, PortError, Progress};
use sakimori_respond::wide;
use sakimori_store::control::actions::{self, Job};
use sakimori_store::control::{ControlError, halts};
use tracing::warn;

use crate::respond::advance;
use crate::shared::Shared;

/// Longest time between two looks at the rows.
const LONGEST: Duration = Duration::from_secs(30);
/// So many are carried out beside each other.
const BESIDE: usize = 8;
/// How long what is half done waits while all answers are stopped, in seconds.
const HALTED: i64 = 5;
const STATES: [ActionState; 4] = [ActionState::Approved, ActionState::Running, ActionState::Done, ActionState::Undoing];

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    loop {
        // Registered before the look, so that what is written meanwhile is not slept over.
        let changed = shared.actions_changed.notified();
        let wait = look(&shared).await.map_err(|error| error.to_string())?;
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(wait) => {}
            () = shared.stop.wait() => return Ok(()),
        }
    }
}

/// One look at the rows: returns how long until something is due by itself.
async fn look(shared: &Shared) -> Result<Duration, ControlError> {
    let now = shared.clock.now();
    let kinds = sakimori_respond::actions::CATALOG.iter().filter(|known| crate::accounts::carries(known));
    let mut jobs = Vec::new();
    for known in kinds {
        jobs.extend(actions::work(shared.control.read(), known.id, &STATES).await?);
    }
    let (due, later): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| is_due(job, now));
    let began = !due.is_empty();
    let mut work = futures::stream::iter(due.into_iter().map(|job| one(shared, job))).buffer_unordered(BESIDE);
    while let Some(outcome) = work.next().await {
        outcome?;
    }
    if began {
        shared.outbox_changed.notify_one();
        shared.message_waiting.notify_one();
        shared.executions_changed.notify_one();
        return Ok(Duration::from_millis(20));
    }
    let soonest = later.iter().filter_map(|job| job.retry_at.or_else(|| job.action.end())).min();
    let until = soonest.map_or(LONGEST, |at| Duration::from_micros(u64::try_from(at.since(now)).unwrap_or(0)));
    Ok(until.clamp(Duration::from_millis(20), LONGEST))
}

fn is_due(job: &Job, now: Timestamp) -> bool {
    job.retry_at.is_none_or(|at| at <= now)
        && (job.action.state != ActionState::Done || wide::is_over(&job.action, now))
}

async fn one(shared: &Shared, mut job: Job) -> Result<(), ControlError> {
    let id = job.action.order.id.clone();
    let effect = match shared.accounts.effect(&job.action.order) {
        Ok(effect) => Arc::clone(effect),
        Err(reason) if job.action.state == ActionState::Approved => {
            return write(shared, &mut job, [wide::because(&id, ActionState::NoEffect, reason)]).await.map(drop);
        }
        Err(reason) => {
            // Never given up: the account may be configured again, and what was done is in the ledger.
            warn!(action = id, reason, "an action in a cloud account can neither go on nor be taken back");
            return retry(shared, &job, None).await;
        }
    };
    match job.action.state {
        ActionState::Approved => begin(shared, &*effect, job).await,
        ActionState::Running => go_on(shared, &*effect, job).await,
        ActionState::Done => {
            let undoing = wide::to(&id, ActionState::Undoing);
            if write(shared, &mut job, [undoing]).await? { back(shared, &*effect, job).await } else { Ok(()) }
        }
        _ => back(shared, &*effect, job).await,
    }
}

/// Looks, and writes down what is there and that it is running, before the effect begins (D18).
async fn begin(shared: &Shared, effect: &dyn Effect, mut job: Job) -> Result<(), ControlError> {
    let id = job.action.order.id.clone();
    let halted = halts::get(shared.control.read(), &job.tenant).await?.words();
    if let Some(why) = halted {
        return write(shared, &mut job, [wide::because(&id, ActionState::Refused, why)]).await.map(drop);
    }
    if wide::is_over(&job.action, shared.clock.now()) {
        let reason = "no effect: its time was up before it began";
        return write(shared, &mut job, [wide::because(&id, ActionState::NoEffect, reason)]).await.map(drop);
    }
    let step = match effect.look(&job.action.order).await {
        Ok(Look::Ready { former, .. }) if former.len() <= MAX_FORMER => {
            Change { former: Some(former), ..wide::to(&id, ActionState::Running) }
        }
        Ok(Look::Ready { former, .. }) => {
            let reason = format!("what is there now is {} bytes, more than the ledger keeps", former.len());
            wide::because(&id, ActionState::Refused, reason)
        }
        Ok(Look::NoEffect(reason)) => wide::because(&id, ActionState::NoEffect, format!("no effect: {reason}")),
        Ok(Look::Refused(reason)) => wide::because(&id, ActionState::Refused, reason),
        Err(problem) => return look_failed(shared, job, &problem).await,
    };
    let goes_on = step.state == ActionState::Running;
    if write(shared, &mut job, [step]).await? && goes_on { go_on(shared, effect, job).await } else { Ok(()) }
}

/// Nothing was done yet: a failure that stays ends it.
async fn look_failed(shared: &Shared, mut job: Job, problem: &PortError) -> Result<(), ControlError> {
    let at = match problem {
        PortError::Transient { retry_after, .. } => wide::retry_at(job.failures + 1, shared.clock.now(), *retry_after),
        PortError::Permanent { .. } => None,
    };
    let Some(at) = at else {
        let id = job.action.order.id.clone();
        let steps = [wide::to(&id, ActionState::Running), wide::because(&id, ActionState::Failed, problem.to_string())];
        return write(shared, &mut job, steps).await.map(drop);
    };
    warn!(action = job.action.order.id, reason = %problem, again = %at, "the target of an action could not be looked at");
    retry(shared, &job, Some(at)).await
}

/// Does it, again after a crash, and looks whether it holds.
async fn go_on(shared: &Shared, effect: &dyn Effect, mut job: Job) -> Result<(), ControlError> {
    let id = job.action.order.id.clone();
    let order = job.action.order.clone();
    let former = job.action.former.clone().unwrap_or_default();
    if halts::get(shared.control.read(), &job.tenant).await?.words().is_some() {
        // Looked for right before every effect: what is half done waits, and may be taken back.
        let mut change = shared.control.begin().await?;
        actions::wait(change.connection(), &job, shared.clock.now().plus_secs(HALTED)).await?;
        return change.commit().await;
    }
    let reason = match effect.apply(&order, &former).await {
        Ok(Progress::Pending { what, again }) => {
            tracing::debug!(action = id, what, "waits for the provider");
            let mut change = shared.control.begin().await?;
            let at = shared.clock.now().plus_secs(i64::try_from(again.clamp(1, 300)).unwrap_or(300));
            actions::wait(change.connection(), &job, at).await?;
            return change.commit().await;
        }
        Ok(Progress::Done { remark }) => match effect.verify(&order, &former).await {
            Ok(None) => {
                let done = Change { reason: remark, ..wide::to(&id, ActionState::Done) };
                return write(shared, &mut job, [done]).await.map(drop);
            }
            Ok(Some(not)) => PortError::transient(format!("did not take effect: {not}")),
            Err(problem) => problem,
        },
        Err(problem) => problem,
    };
    let at = match &reason {
        PortError::Transient { retry_after, .. } => wide::retry_at(job.failures + 1, shared.clock.now(), *retry_after),
        PortError::Permanent { .. } => None,
    };
    if let Some(at) = at {
        warn!(action = id, kind = order.action, reason = %reason, again = %at, "an action in a cloud account is tried again");
        return retry(shared, &job, Some(at)).await;
    }
    warn!(action = id, kind = order.action, reason = %reason, "an action in a cloud account failed");
    if !wide::can_be_undone(&order) {
        return write(shared, &mut job, [wide::because(&id, ActionState::Failed, reason.to_string())]).await.map(drop);
    }
    let mut step = wide::because(&id, ActionState::Undoing, format!("failed, taken back: {reason}"));
    step.by = Some(FAILED.to_owned());
    if write(shared, &mut job, [step]).await? { back(shared, effect, job).await } else { Ok(()) }
}

/// Who takes back what failed.
const FAILED: &str = "failure";

/// Puts back what was there; never given up.
async fn back(shared: &Shared, effect: &dyn Effect, mut job: Job) -> Result<(), ControlError> {
    let now = shared.clock.now();
    let former = job.action.former.clone().unwrap_or_default();
    match effect.undo(&job.action.order, &former).await {
        Ok(Progress::Done { remark }) => {
            let state = match job.action.undone_by.as_deref() {
                Some(FAILED) => ActionState::Failed,
                _ => wide::undone(&job.action, now).map_or(ActionState::Undone, |step| step.state),
            };
            let step = Change { reason: remark, ..wide::to(&job.action.order.id.clone(), state) };
            write(shared, &mut job, [step]).await.map(drop)
        }
        Ok(Progress::Pending { again, .. }) => {
            let at = now.plus_secs(i64::try_from(again.clamp(1, 300)).unwrap_or(300));
            let mut change = shared.control.begin().await?;
            actions::wait(change.connection(), &job, at).await?;
            change.commit().await
        }
        Err(problem) => {
            warn!(action = job.action.order.id, reason = %problem, "an action cannot be taken back yet");
            retry(shared, &job, None).await
        }
    }
}

async fn retry(shared: &Shared, job: &Job, at: Option<Timestamp>) -> Result<(), ControlError> {
    let at = at.unwrap_or_else(|| wide::retry_always_at(job.failures + 1, shared.clock.now()));
    let mut change = shared.control.begin().await?;
    actions::failed(change.connection(), job, at).await?;
    change.commit().await
}

/// Writes steps, all or none. False where somebody else took one since the row was read: nothing is written then, and the
/// next look sees how it is.
async fn write(shared: &Shared, job: &mut Job, steps: impl IntoIterator<Item = Change>) -> Result<bool, ControlError> {
    let now = shared.clock.now();
    let mut change = shared.control.begin().await?;
    for step in steps {
        if !advance(&mut change, &job.tenant, &mut job.action, step, now).await? {
            return Ok(false);
        }
    }
    change.commit().await?;
    Ok(true)
}
