//! Keeps the WAF's sets equal to the actions that are in effect: one update for all that is pending.
//!
//! The whole desired set follows from the rows, so a crash anywhere is mended by running again. An action is
//! done once the set holds its address and a blocking rule of a web ACL refers to the set; where none does, it
//! ends without effect and the remedy is its reason.

use std::sync::Arc;
use std::time::Duration;

use sakimori_model::{ActionState, Timestamp};
use sakimori_respond::actions::waf_block::{self, SET_CAPACITY, desired};
use sakimori_respond::ports::{AddressSet, PortError};
use sakimori_respond::wide;
use sakimori_store::control::actions::{self, Job};
use sakimori_store::control::halts;
use tracing::warn;

use crate::metrics::Metrics;
use crate::respond::advance;
use crate::shared::Shared;

/// Longest time between two looks at the real set: drift is mended within it.
const DRIFT: Duration = Duration::from_secs(60);
/// How long the first address waits for others that come with it: an update is followed by none for a second, and who attacks
/// from several addresses at once would have all but the first wait for the next.
const GATHER: Duration = Duration::from_millis(100);
const STATES: [ActionState; 4] = [ActionState::Approved, ActionState::Running, ActionState::Done, ActionState::Undoing];

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let mut checked = None;
    loop {
        // Registered before the look, so that what is written meanwhile is not slept over.
        let changed = shared.actions_changed.notified();
        let wait = match &shared.waf {
            Some(waf) => reconcile(&shared, &**waf, &mut checked).await?,
            None => switched_off(&shared).await?,
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(wait) => {}
            () = shared.stop.wait() => return Ok(()),
        }
    }
}

/// No account is configured (any more): what is pending ends, and says what a person has to do.
async fn switched_off(shared: &Shared) -> Result<Duration, String> {
    let now = shared.clock.now();
    let mut jobs =
        actions::work(shared.control.read(), waf_block::ID, &STATES).await.map_err(|error| error.to_string())?;
    jobs.retain(|job| job.action.state != ActionState::Done || wide::is_over(&job.action, now));
    if !jobs.is_empty() {
        let write = async {
            let mut change = shared.control.begin().await?;
            for job in &mut jobs {
                let id = job.action.order.id.clone();
                let begun = matches!(job.action.state, ActionState::Done | ActionState::Undoing);
                if job.action.state == ActionState::Done {
                    let step = wide::to(&id, ActionState::Undoing);
                    advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
                }
                if !begun {
                    let reason = "no effect: cloud actions are off until cloud.waf is configured";
                    let step = wide::because(&id, ActionState::NoEffect, reason);
                    advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
                } else {
                    let reason = "cloud.waf is no longer configured; take the address out of the IP set by hand";
                    let step = wide::because(&id, ActionState::Failed, reason);
                    advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
                }
            }
            change.commit().await
        };
        write.await.map_err(|error| error.to_string())?;
        shared.outbox_changed.notify_one();
    }
    Ok(DRIFT)
}

/// One look: returns how long until the next is due by itself.
async fn reconcile(shared: &Shared, waf: &dyn AddressSet, checked: &mut Option<Timestamp>) -> Result<Duration, String> {
    let now = shared.clock.now();
    let jobs = actions::work(shared.control.read(), waf_block::ID, &STATES).await.map_err(|error| error.to_string())?;
    let stale = checked.is_none_or(|last| now.since(last) >= i64::try_from(DRIFT.as_micros()).unwrap_or(i64::MAX));
    let pending = jobs.iter().any(|job| is_due(job, now));
    if !pending && (jobs.is_empty() || !stale) {
        return Ok(until_next(&jobs, now));
    }
    tokio::time::sleep(GATHER).await;
    let now = shared.clock.now();
    let jobs = actions::work(shared.control.read(), waf_block::ID, &STATES).await.map_err(|error| error.to_string())?;
    let mut jobs = begin(shared, jobs, now).await?;
    let live = jobs
        .iter()
        .filter(|job| {
            matches!(job.action.state, ActionState::Running | ActionState::Done) && !wide::is_over(&job.action, now)
        })
        .filter_map(|job| {
            Some((wide::network(&job.action.order)?, job.action.done_at.unwrap_or(job.action.planned_at)))
        });
    let wanted = desired(live, SET_CAPACITY);
    match waf.replace(&wanted.networks).await {
        Ok(outcome) => {
            *checked = Some(now);
            if !outcome.added.is_empty() || !outcome.removed.is_empty() {
                Metrics::add(&shared.metrics.waf_updates, 1);
            }
            settle(shared, &mut jobs, &wanted, outcome.no_effect.as_deref()).await?;
        }
        Err(problem) => {
            warn!(error = %problem, "the WAF's sets could not be brought up to date");
            fail(shared, &jobs, &problem, now).await?;
        }
    }
    Ok(until_next(&jobs, shared.clock.now()).max(Duration::from_millis(50)))
}

fn is_due(job: &Job, now: Timestamp) -> bool {
    job.retry_at.is_none_or(|at| at <= now)
        && match job.action.state {
            ActionState::Done => wide::is_over(&job.action, now),
            _ => true,
        }
}

fn until_next(jobs: &[Job], now: Timestamp) -> Duration {
    jobs.iter()
        .filter_map(|job| match (job.retry_at, job.action.state) {
            (Some(at), _) => Some(at),
            (None, ActionState::Done) => job.action.expires_at,
            (None, state) => (!state.is_final()).then_some(now),
        })
        .map(|at| Duration::from_micros(u64::try_from(at.since(now)).unwrap_or(0)))
        .min()
        .unwrap_or(DRIFT)
        .clamp(Duration::from_millis(20), DRIFT)
}

/// What was approved is running before the effect begins (D18).
async fn begin(shared: &Shared, mut jobs: Vec<Job>, now: Timestamp) -> Result<Vec<Job>, String> {
    refuse_halted(shared, &mut jobs, now).await?;
    if jobs.iter().any(|job| job.action.state == ActionState::Approved) {
        let write = async {
            let mut change = shared.control.begin().await?;
            for job in &mut jobs {
                if job.action.state == ActionState::Approved {
                    let step = wide::to(&job.action.order.id, ActionState::Running);
                    advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
                }
            }
            change.commit().await
        };
        write.await.map_err(|error| error.to_string())?;
    }
    Ok(jobs)
}

/// What was not in effect when all answers were stopped does not begin.
async fn refuse_halted(shared: &Shared, jobs: &mut Vec<Job>, now: Timestamp) -> Result<(), String> {
    let begins = |job: &Job| matches!(job.action.state, ActionState::Approved | ActionState::Running);
    let mut tenants: Vec<String> = jobs.iter().filter(|job| begins(job)).map(|job| job.tenant.clone()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    for tenant in tenants {
        let write = async {
            let Some(why) = halts::get(shared.control.read(), &tenant).await?.words() else { return Ok(()) };
            let mut change = shared.control.begin().await?;
            for job in jobs.iter_mut().filter(|job| job.tenant == tenant && begins(job)) {
                let step = wide::because(&job.action.order.id.clone(), ActionState::Refused, why.clone());
                advance(&mut change, &tenant, &mut job.action, step, now).await?;
            }
            change.commit().await
        };
        write.await.map_err(|error: sakimori_store::control::ControlError| error.to_string())?;
    }
    jobs.retain(|job| !job.action.state.is_final());
    Ok(())
}

async fn settle(
    shared: &Shared,
    jobs: &mut [Job],
    wanted: &waf_block::Desired,
    no_effect: Option<&str>,
) -> Result<(), String> {
    let now = shared.clock.now();
    let write = async {
        let mut change = shared.control.begin().await?;
        for job in jobs.iter_mut() {
            let id = job.action.order.id.clone();
            let full = wide::network(&job.action.order).is_some_and(|network| wanted.dropped.contains(&network));
            let here = wide::network(&job.action.order).is_some_and(|network| wanted.networks.contains(&network));
            let step = match job.action.state {
                ActionState::Running | ActionState::Done if full => Some(wide::because(
                    &id,
                    ActionState::NoEffect,
                    format!("no effect: the set holds {SET_CAPACITY} addresses with newer evidence"),
                )),
                ActionState::Running if here => Some(match no_effect {
                    Some(reason) => wide::because(&id, ActionState::NoEffect, format!("no effect: {reason}")),
                    None => wide::to(&id, ActionState::Done),
                }),
                ActionState::Running => {
                    Some(wide::because(&id, ActionState::NoEffect, "no effect: its time was up before it began"))
                }
                // Out of the set only where no other action holds the address there.
                ActionState::Done if !here => wide::undone(&job.action, now),
                ActionState::Done if wide::is_over(&job.action, now) => wide::undone(&job.action, now),
                ActionState::Undoing => wide::undone(&job.action, now),
                _ => None,
            };
            if let Some(step) = step {
                advance(&mut change, &job.tenant, &mut job.action, step, now).await?;
            }
        }
        change.commit().await
    };
    let outcome = write.await;
    shared.outbox_changed.notify_one();
    shared.message_waiting.notify_one();
    outcome.map_err(|error: sakimori_store::control::ControlError| error.to_string())
}

async fn fail(shared: &Shared, jobs: &[Job], problem: &PortError, now: Timestamp) -> Result<(), String> {
    let asked = match problem {
        PortError::Transient { retry_after, .. } => *retry_after,
        PortError::Permanent { .. } => None,
    };
    let write = async {
        let mut change = shared.control.begin().await?;
        for job in jobs {
            let failures = job.failures + 1;
            let retry = match job.action.state {
                ActionState::Running if problem.is_transient() => wide::retry_at(failures, now, asked),
                ActionState::Running => None,
                // Taking back is never given up.
                _ if is_due(job, now) => Some(wide::retry_always_at(failures, now)),
                _ => continue,
            };
            match retry {
                Some(at) => actions::failed(change.connection(), job, at).await?,
                None => {
                    let mut action = job.action.clone();
                    let step = wide::because(&action.order.id.clone(), ActionState::Failed, problem.to_string());
                    advance(&mut change, &job.tenant, &mut action, step, now).await?;
                }
            }
        }
        change.commit().await
    };
    write.await.map_err(|error: sakimori_store::control::ControlError| error.to_string())
}
