//! Keeps the WAF's sets equal to the actions that are in effect: one update for all that is pending.
//!
//! The whole desired set follows from the rows, so a crash anywhere is mended by running again. An action is
//! done once the set holds its address and a blocking rule of a web ACL refers to the set; where none does, it
//! ends without effect and the remedy is its reason; that blocks have no effect is told as an alert, too. What must not be
//! blocked any more (an operator signed in from there, it came onto the allow-list) is taken out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sakimori_model::rule::Severity;
use sakimori_model::{ActionState, Timestamp};
use sakimori_respond::actions::waf_block::{self, desired};
use sakimori_respond::guard::Verdict;
use sakimori_respond::ports::{AddressSet, PortError};
use sakimori_respond::wide;
use sakimori_store::control::actions::{self, Job};
use tracing::warn;

use crate::metrics::Metrics;
use crate::notices::{self, Notice};
use crate::respond::{Context, advance, take_back_in};
use crate::shared::Shared;

/// Longest time between two looks at the real set: drift is mended within it.
const DRIFT: Duration = Duration::from_secs(60);
/// How long the first address waits for others that come with it: an update is followed by none for a second, and who attacks
/// from several addresses at once would have all but the first wait for the next.
const GATHER: Duration = Duration::from_millis(100);
const STATES: [ActionState; 4] = [ActionState::Approved, ActionState::Running, ActionState::Done, ActionState::Undoing];

/// How often it is told that blocks have no effect, in microseconds, and `rule.id` of that alert.
const TELL_EVERY: i64 = 3_600 * 1_000_000;
const NOTICE: &str = "waf-without-effect";

/// What a look remembers of those before.
#[derive(Debug, Default)]
struct Looked {
    /// When the real set was last seen.
    checked: Option<Timestamp>,
    /// When it was last told that blocks have no effect.
    told: Option<Timestamp>,
}

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let mut looked = Looked::default();
    loop {
        // Registered before the look, so that what is written meanwhile is not slept over.
        let changed = shared.actions_changed.notified();
        let wait = match &shared.waf {
            Some(waf) => reconcile(&shared, &**waf, &mut looked).await?,
            None => switched_off(&shared).await?,
        };
        tokio::select! {
            // First of all: nothing that came waits for the clock.
            biased;
            () = changed => {}
            () = shared.clock.sleep(wait) => {}
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
async fn reconcile(shared: &Shared, waf: &dyn AddressSet, looked: &mut Looked) -> Result<Duration, String> {
    let now = shared.clock.now();
    let jobs = actions::work(shared.control.read(), waf_block::ID, &STATES).await.map_err(|error| error.to_string())?;
    let drift = i64::try_from(DRIFT.as_micros()).unwrap_or(i64::MAX);
    let stale = looked.checked.is_none_or(|last| now.since(last) >= drift);
    let mut pending = jobs.iter().any(|job| is_due(job, now));
    if !pending && !jobs.is_empty() {
        let contexts = contexts(shared, &jobs).await?;
        pending = jobs.iter().any(|job| is_spared(job, &contexts).is_some());
    }
    if !pending && (jobs.is_empty() || !stale) {
        return Ok(until_next(&jobs, now));
    }
    shared.clock.sleep(GATHER).await;
    let now = shared.clock.now();
    let jobs = actions::work(shared.control.read(), waf_block::ID, &STATES).await.map_err(|error| error.to_string())?;
    let mut jobs = begin(shared, jobs, now).await?;
    let live = jobs
        .iter()
        .filter(|job| {
            matches!(job.action.state, ActionState::Running | ActionState::Done) && !wide::is_over(&job.action, now)
        })
        .filter_map(|job| Some((wide::network(&job.action.order)?, seen_at(job))));
    let wanted = desired(live, waf.capacity());
    match waf.replace(&wanted.networks).await {
        Ok(outcome) => {
            looked.checked = Some(now);
            if !outcome.added.is_empty() || !outcome.removed.is_empty() {
                Metrics::add(&shared.metrics.waf_updates, 1);
            }
            if let Some(reason) = &outcome.no_effect {
                tell_without_effect(shared, &jobs, reason, &mut looked.told).await?;
            }
            settle(shared, &mut jobs, &wanted, (waf.capacity(), outcome.no_effect.as_deref())).await?;
        }
        Err(problem) => {
            warn!(error = %problem, "the WAF's sets could not be brought up to date");
            fail(shared, &jobs, &problem, now).await?;
        }
    }
    Ok(until_next(&jobs, shared.clock.now()).max(Duration::from_millis(50)))
}

/// When its target was last seen to attack: what is in effect takes no step but for fresh evidence.
fn seen_at(job: &Job) -> Timestamp {
    if job.action.prolonged > 0 { job.changed } else { job.action.planned_at }
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

/// What each tenant's policy, people and stop say.
async fn contexts(shared: &Shared, jobs: &[Job]) -> Result<BTreeMap<String, Context>, String> {
    let tenants: BTreeSet<&String> = jobs.iter().map(|job| &job.tenant).collect();
    let mut contexts = BTreeMap::new();
    for tenant in tenants {
        let context = Context::of(shared, tenant).await.map_err(|error| error.to_string())?;
        contexts.insert(tenant.clone(), context);
    }
    Ok(contexts)
}

/// Must its target not be blocked any more, since it was ordered? Why.
fn is_spared(job: &Job, contexts: &BTreeMap<String, Context>) -> Option<String> {
    let begins = matches!(job.action.state, ActionState::Approved | ActionState::Running | ActionState::Done);
    match waf_block::judge(&job.action.order, &contexts.get(&job.tenant).filter(|_| begins)?.waf) {
        Verdict::Allowed => None,
        Verdict::Refused(reason) | Verdict::NoEffect(reason) => Some(reason),
    }
}

/// Tells it, once an hour: whoever attacks meanwhile must not make it more.
async fn tell_without_effect(
    shared: &Shared,
    jobs: &[Job],
    reason: &str,
    told: &mut Option<Timestamp>,
) -> Result<(), String> {
    let now = shared.clock.now();
    if told.is_some_and(|last| (0..TELL_EVERY).contains(&now.since(last))) {
        return Ok(());
    }
    warn!(reason, "blocks in the WAF have no effect");
    let (what, remedy) = reason.split_once("; ").unwrap_or((reason, "see sakimori doctor"));
    let notice = Notice {
        what: NOTICE.to_owned(),
        title: "Blocks in the WAF have no effect".to_owned(),
        about: "cloud.waf".to_owned(),
        message: what.to_owned(),
        remedy: remedy.to_owned(),
        severity: Some(Severity::High),
    };
    let tenants: BTreeSet<&String> = jobs.iter().map(|job| &job.tenant).collect();
    let write = async {
        let mut change = shared.control.begin().await?;
        for tenant in tenants {
            notices::put(&mut change, tenant, &notice, now).await?;
        }
        change.commit().await
    };
    write.await.map_err(|error: sakimori_store::control::ControlError| error.to_string())?;
    *told = Some(now);
    Ok(())
}

/// What was approved is running before the effect begins (D18).
async fn begin(shared: &Shared, mut jobs: Vec<Job>, now: Timestamp) -> Result<Vec<Job>, String> {
    let contexts = contexts(shared, &jobs).await?;
    refuse(shared, &mut jobs, &contexts, now).await?;
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

/// What was not in effect when all answers were stopped does not begin, nor what must not be blocked any more; what is in effect
/// of the latter is taken back.
async fn refuse(
    shared: &Shared,
    jobs: &mut Vec<Job>,
    contexts: &BTreeMap<String, Context>,
    now: Timestamp,
) -> Result<(), String> {
    let begins = |job: &Job| matches!(job.action.state, ActionState::Approved | ActionState::Running);
    let write = async {
        let mut change = None;
        for job in jobs.iter_mut() {
            let Some(context) = contexts.get(&job.tenant) else { continue };
            let halted = context.halted.clone().filter(|_| begins(job));
            let Some(why) = halted.or_else(|| is_spared(job, contexts)) else { continue };
            let change = match &mut change {
                Some(change) => change,
                none => none.insert(shared.control.begin().await?),
            };
            if begins(job) {
                let step = wide::because(&job.action.order.id.clone(), ActionState::Refused, why);
                advance(change, &job.tenant, &mut job.action, step, now).await?;
            } else {
                take_back_in(change, (&job.tenant, context), &mut job.action, (None, &why), now).await?;
            }
        }
        match change {
            Some(change) => change.commit().await,
            None => Ok(()),
        }
    };
    write.await.map_err(|error: sakimori_store::control::ControlError| error.to_string())?;
    jobs.retain(|job| !job.action.state.is_final());
    Ok(())
}

async fn settle(
    shared: &Shared,
    jobs: &mut [Job],
    wanted: &waf_block::Desired,
    (capacity, no_effect): (usize, Option<&str>),
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
                    format!("no effect: the set holds {capacity} addresses with newer evidence"),
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
