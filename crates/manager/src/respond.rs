//! What the manager does about alerts: orders become rows, rows are driven by the reconcilers in
//! [`crate::jobs`], and every step is in ledger, audit log and outbox of one transaction.

use std::sync::{MutexGuard, PoisonError};

use sakimori_model::ledger::Change as Step;
use sakimori_model::{Action, ActionState, Order, Timestamp};
use sakimori_respond::actions::{Runs, notify, waf_block, waf_rate_rule};
use sakimori_respond::guard::Verdict;
use sakimori_respond::seal::Act;
use sakimori_respond::wide::{self, Limits, Undo};
use sakimori_store::control::actions::{self, Job, MANAGER};
use sakimori_store::control::{Change, ControlError, Scope, halts, shed};
use sakimori_wire::agent::{Down, UndoDown, down};

use crate::flood::{Floods, Key, Rate, Tally, Turn};
use crate::metrics::Metrics;
use crate::notices;
use crate::shared::{Command, Shared};

/// Repeats of one target that get rows of their own, so that each of few alerts shows what was done; more are counted.
const MOST_REPEATS: i64 = 8;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum RespondError {
    /// Control state failed, or there is no such action.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It is not in a state that can be taken back.
    #[error("action {id} is {state}: there is nothing to take back")]
    NothingToUndo {
        /// Its id.
        id: String,
        /// Its state.
        state: &'static str,
    },
    /// The policy of the tenant cannot be read.
    #[error("{0}")]
    Policy(String),
    /// No such action on the catalog, or one for another place.
    #[error("{0}")]
    Unknown(String),
}

/// On whose account orders are planned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// The journal record whose alerts ask for them; 0 where none does.
    pub position: i64,
    /// Are they bounded by themselves, as what a person orders and what the manager says of itself is?
    pub exempt: bool,
}

/// Plans orders as actions of the manager. An order that is known already is left as it is; one for a target that is in
/// effect prolongs what is there and, after the first few, is only counted in its row; what floods ask for beyond the
/// rate is counted and told once ([`crate::flood`]).
///
/// # Errors
/// Control state or policy; nothing is planned then.
pub async fn plan(
    shared: &Shared,
    tenant: &str,
    orders: Vec<Order>,
    account: Account,
    now: Timestamp,
) -> Result<(), RespondError> {
    let context = Context::of(shared, tenant).await?;
    let mut change = shared.control.begin().await?;
    plan_in(shared, &mut change, tenant, &context, orders, account, now).await?;
    change.commit().await?;
    told(shared);
    Ok(())
}

/// Plans orders within a change; whoever commits it then calls [`told`].
///
/// # Errors
/// As [`plan`].
pub async fn plan_in(
    shared: &Shared,
    change: &mut Change,
    tenant: &str,
    context: &Context,
    orders: Vec<Order>,
    account: Account,
    now: Timestamp,
) -> Result<(), RespondError> {
    let mut tally = Tally::default();
    for order in orders {
        plan_one(shared, change, tenant, order, context, (account, &mut tally), now).await?;
    }
    Ok(settle(shared, change, tenant, &tally, account.position, now).await?)
}

/// Wakes all that has to do with actions.
pub fn told(shared: &Shared) {
    shared.actions_changed.notify_waiters();
    shared.outbox_changed.notify_one();
    shared.message_waiting.notify_one();
    shared.executions_changed.notify_one();
}

/// Writes what a call folded and shed.
///
/// # Errors
/// The database failed.
pub async fn settle(
    shared: &Shared,
    change: &mut Change,
    tenant: &str,
    tally: &Tally,
    position: i64,
    now: Timestamp,
) -> Result<(), ControlError> {
    for (id, count) in &tally.folds {
        actions::fold(change.connection(), tenant, id, *count, position).await?;
    }
    for row in tally.rows(position, now) {
        shed::add(change.connection(), &row).await?;
    }
    for (tenant, notice) in tally.notices(&shared.config.flood) {
        tracing::warn!(tenant, about = notice.about, "{}; {}", notice.message, notice.remedy);
        notices::put(change, tenant, &notice, now).await?;
    }
    Metrics::add(&shared.metrics.shed, tally.count());
    Ok(())
}

/// What a tenant's policy and state say of all its orders.
pub struct Context {
    limits: Limits,
    /// Whom the WAF must let through.
    pub waf: waf_block::WafContext,
    /// Why nothing is done, where all answers are stopped.
    pub halted: Option<String>,
}

impl Context {
    /// Reads it.
    ///
    /// # Errors
    /// Control state or policy.
    pub async fn of(shared: &Shared, tenant: &str) -> Result<Self, RespondError> {
        let (_, effective) = crate::policy::of_tenant(shared, tenant).await.map_err(RespondError::Policy)?;
        let response = effective.policy.response;
        let operators = crate::stream::operators(shared, tenant).await?;
        let waf = waf_block::WafContext { allow: response.allow, trusted_proxies: response.trusted_proxies, operators };
        let halted = halts::get(shared.control.read(), tenant).await?.words();
        Ok(Self { limits: Limits::from(&effective.policy.modules.block_address), waf, halted })
    }
}

async fn plan_one(
    shared: &Shared,
    change: &mut Change,
    tenant: &str,
    order: Order,
    context: &Context,
    (account, tally): (Account, &mut Tally),
    now: Timestamp,
) -> Result<(), RespondError> {
    let bounded = !account.exempt && !wide::by_hand(&order.cause);
    let key = Key { tenant: tenant.to_owned(), source: order.cause.by.clone(), kind: order.action.clone() };
    let rate = Rate::of(&order.action, &shared.config.flood);
    let has_room = !bounded || floods(shared).has_room(&key, rate, now);
    // Where there is no room a message costs nothing, and a block what tells whether its target is blocked already.
    if has_room && actions::exists(change.connection(), tenant, &order.id).await? {
        return Ok(());
    }
    let mut action = wide::plan(order, MANAGER, now, &context.limits);
    let known = sakimori_respond::actions::find(&action.order.action);
    if known.is_some_and(|known| !known.expires || (known.runs == Runs::Account && action.order.expiry.is_none())) {
        // A message that was sent stays sent, and an isolation ends when a person or its playbook says so.
        action.expires_at = None;
        action.expires_at_most = None;
    }
    let (verdict, covering) = match has_room || action.order.action != notify::ID {
        true => judge(shared, change, tenant, &action, context, now).await?,
        false => (Verdict::Allowed, None),
    };
    if let Some((id, folded)) = covering.filter(|_| bounded) {
        if id == action.order.id {
            // A journal that is read again asks for the same again.
            return Ok(());
        }
        let more = tally.folds.entry(id).or_insert(0);
        *more += 1;
        if folded + *more > MOST_REPEATS {
            return Ok(());
        }
    }
    if bounded && let Turn::Shed { began, first } = floods(shared).take(&key, rate, now) {
        let target = action.order.target.to_string();
        tally.shed(&key, &target, &target, began, first);
        return Ok(());
    }
    actions::begin(change, tenant, &action, now).await?;
    let id = action.order.id.clone();
    let step = match verdict {
        Verdict::Allowed => wide::to(&id, ActionState::Approved),
        Verdict::Refused(reason) => wide::because(&id, ActionState::Refused, reason),
        Verdict::NoEffect(reason) => wide::because(&id, ActionState::NoEffect, reason),
    };
    advance(change, tenant, &mut action, step, now).await?;
    Ok(())
}

pub(crate) fn floods(shared: &Shared) -> MutexGuard<'_, Floods> {
    shared.floods.lock().unwrap_or_else(PoisonError::into_inner)
}

/// May it be carried out? And the action that covers its target already, with what is folded into it.
async fn judge(
    shared: &Shared,
    change: &mut Change,
    tenant: &str,
    action: &Action,
    context: &Context,
    now: Timestamp,
) -> Result<(Verdict, Option<(String, i64)>), RespondError> {
    let order = &action.order;
    if order.action == notify::ID {
        let channels = shared.config.notify.iter().map(|channel| channel.name.as_str());
        return Ok((notify::judge(order, channels), None));
    }
    let verdict = first_look(shared, order, context);
    if verdict != Verdict::Allowed {
        return Ok((verdict, None));
    }
    let known = actions::on_target(change.connection(), tenant, &order.action, &order.target.to_string()).await?;
    let by_hand = wide::by_hand(&order.cause);
    for Job { action: mut other, folded, .. } in known {
        if !by_hand && other.grace_until.is_some_and(|until| until > now) {
            let until = other.grace_until.unwrap_or(now);
            let reason = format!("taken back by hand (action {}); not repeated until {until}", other.order.id);
            return Ok((Verdict::Refused(reason), None));
        }
        if wide::is_live(other.state) {
            let step = action.expires_at.filter(|end| is_worth_it(&other, *end, &context.limits));
            if let Some(step) = step.and_then(|end| wide::prolong(&other, end)) {
                advance(change, tenant, &mut other, step, now).await?;
            }
            let until = other.expires_at.map(|end| format!(", until {end}")).unwrap_or_default();
            let reason = format!("no effect: in effect already by action {}{until}", other.order.id);
            return Ok((Verdict::NoEffect(reason), Some((other.order.id, folded))));
        }
    }
    Ok((Verdict::Allowed, None))
}

/// What can be told without looking at what else is in effect.
fn first_look(shared: &Shared, order: &Order, context: &Context) -> Verdict {
    let verdict = match order.action.as_str() {
        waf_block::ID => waf_block::judge(order, &context.waf),
        waf_rate_rule::ID if !order.probe => waf_rate_rule::judge(order, &context.waf),
        _ if order.probe => Verdict::Refused("what follows from a probe stays on the host".to_owned()),
        _ => Verdict::Allowed,
    };
    if verdict != Verdict::Allowed {
        return verdict;
    }
    if let Some(why) = &context.halted {
        return Verdict::Refused(why.clone());
    }
    match order.action.as_str() {
        waf_block::ID if shared.waf.is_none() => {
            Verdict::NoEffect("no effect: cloud actions are off until cloud.waf is configured".into())
        }
        waf_block::ID => Verdict::Allowed,
        // Only one whose event names no host comes here.
        _ if sakimori_respond::actions::find(&order.action).is_some_and(|known| known.runs == Runs::Host) => {
            Verdict::Refused("the event names no agent (agent.id) that could carry it out".to_owned())
        }
        _ => match shared.accounts.effect(order) {
            Ok(_) => Verdict::Allowed,
            Err(reason) => Verdict::NoEffect(format!("no effect: {reason}")),
        },
    }
}

/// Does an end lie so much later that it is worth the rows? Every alert of a flood asks for an end that is a little later.
fn is_worth_it(action: &Action, end: Timestamp, limits: &Limits) -> bool {
    let least = i64::try_from(limits.expiry_seconds / 20).unwrap_or(i64::MAX).clamp(1, 60) * 1_000_000;
    let end = action.expires_at_most.map_or(end, |most| end.min(most));
    action.expires_at.is_none_or(|now| end.since(now) >= least)
}

/// Notes what became of actions of a host, as its agent told it. Repeats of a target that is blocked there already are
/// counted in its row, after the first few; what is new beyond the host's rate is counted and told once. All of it is in
/// the host's own ledger, and among the events.
///
/// # Errors
/// The database failed.
pub async fn project(
    shared: &Shared,
    change: &mut Change,
    tenant: &str,
    host_actions: &[Action],
    position: i64,
    now: Timestamp,
) -> Result<(), ControlError> {
    let mut tally = Tally::default();
    for action in host_actions {
        let repeats = action.state == ActionState::NoEffect && !wide::by_hand(&action.order.cause);
        if repeats && let Some((id, folded)) = actions::covering(change.connection(), tenant, action).await? {
            let more = tally.folds.entry(id).or_insert(0);
            *more += 1;
            if folded + *more > MOST_REPEATS {
                continue;
            }
        }
        let key = Key { tenant: tenant.to_owned(), source: action.place.clone(), kind: shed::PROJECTION.to_owned() };
        let rate = Rate::of(&key.kind, &shared.config.flood);
        let has_room = floods(shared).has_room(&key, rate, now);
        let known = !has_room && actions::exists(change.connection(), tenant, &action.order.id).await?;
        // What became of a row that is here is always noted, and what a person ordered always listed.
        if !known
            && !wide::by_hand(&action.order.cause)
            && let Turn::Shed { began, first } = floods(shared).take(&key, rate, now)
        {
            tally.shed(&key, "", &action.order.target.to_string(), began, first);
            continue;
        }
        actions::put(change.connection(), tenant, action, position, now).await?;
    }
    settle(shared, change, tenant, &tally, position, now).await
}

/// Takes a step of an action of the manager's: row, ledger, audit, outbox. False where its state forbids it, and where
/// somebody else took a step since it was read: it is then as that left it.
///
/// # Errors
/// The database failed.
pub async fn advance(
    change: &mut Change,
    tenant: &str,
    action: &mut Action,
    step: Step,
    now: Timestamp,
) -> Result<bool, ControlError> {
    if let Some(held) = actions::held(change.connection(), tenant, &action.order.id).await?
        && held.state != action.state
    {
        *action = held;
        return Ok(false);
    }
    if !action.apply(&step, now) {
        return Ok(false);
    }
    actions::step(change, tenant, action, step, now).await?;
    Ok(true)
}

/// Takes an action back before its time. One of a host is told to its agent, now or when it connects.
///
/// # Errors
/// See [`RespondError`].
pub async fn undo(shared: &Shared, tenant: &str, id: &str, by: &str) -> Result<Action, RespondError> {
    let now = shared.clock.now();
    let mut action = actions::get(shared.control.read(), &Scope::One(tenant.to_owned()), id).await?.action;
    if action.place != MANAGER {
        if wide::is_finished(&action) {
            return Err(RespondError::NothingToUndo { id: id.to_owned(), state: action.state.name() });
        }
        let mut change = shared.control.begin().await?;
        crate::orders::put_undo(&mut change, tenant, &action, by, now).await?;
        change.commit().await?;
        let signatures = vec![crate::seals::by_manager(shared, &action.place, Act::Undo { action: id, by })];
        let undo = UndoDown { action_id: id.to_owned(), by: by.to_owned(), signatures };
        shared.links.tell(&action.place, &Command::Send(Down { message: Some(down::Message::Undo(undo)) }));
        return Ok(action);
    }
    let context = Context::of(shared, tenant).await?;
    let mut change = shared.control.begin().await?;
    if !take_back(&mut change, tenant, &mut action, Undo::Person(by), &context, now).await? {
        return Err(RespondError::NothingToUndo { id: id.to_owned(), state: action.state.name() });
    }
    change.commit().await?;
    told(shared);
    Ok(action)
}

/// Takes an action of the manager's back, also where it took a step since it was read. False where there is nothing to take
/// back.
async fn take_back(
    change: &mut Change,
    tenant: &str,
    action: &mut Action,
    who: Undo<'_>,
    context: &Context,
    now: Timestamp,
) -> Result<bool, ControlError> {
    for _ in 0..2 {
        let Some(step) = wide::undo(action, who, now, &context.limits) else { return Ok(false) };
        if advance(change, tenant, action, step, now).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes an action back within a change, for an execution. False where nothing changed. Whoever commits it then calls
/// [`told`], and tells the agent of a host's action.
///
/// # Errors
/// The database failed.
pub async fn take_back_in(
    change: &mut Change,
    (tenant, context): (&str, &Context),
    action: &mut Action,
    (by, reason): (Option<&str>, &str),
    now: Timestamp,
) -> Result<bool, ControlError> {
    if action.place != MANAGER {
        crate::orders::put_undo(change, tenant, action, by.unwrap_or("system"), now).await?;
        return Ok(true);
    }
    let who = by.map_or(Undo::Policy(reason), Undo::Person);
    take_back(change, tenant, action, who, context, now).await
}

/// Takes back all own actions of a tenant that are in effect, in the change that stops all answers.
///
/// # Errors
/// The database failed, or the tenant's policy cannot be read.
pub async fn undo_own(
    shared: &Shared,
    change: &mut Change,
    tenant: &str,
    why: &str,
    now: Timestamp,
) -> Result<u64, RespondError> {
    let context = Context::of(shared, tenant).await?;
    let live = [ActionState::Approved, ActionState::Running, ActionState::Done];
    let mut undone = 0;
    for known in sakimori_respond::actions::CATALOG.iter().filter(|known| known.runs != Runs::Host) {
        for mut job in actions::work(shared.control.read(), known.id, &live).await? {
            if job.tenant == tenant
                && wide::can_be_undone(&job.action.order)
                && take_back(change, tenant, &mut job.action, Undo::Policy(why), &context, now).await?
            {
                undone += 1;
            }
        }
    }
    Ok(undone)
}

/// Lets a provisional action of a host stay, on a person's word.
///
/// # Errors
/// There is none, it waits for no confirmation, or its host is away.
pub async fn confirm(shared: &Shared, tenant: &str, id: &str, by: &str) -> Result<Action, RespondError> {
    let action = actions::get(shared.control.read(), &Scope::One(tenant.to_owned()), id).await?.action;
    let now = shared.clock.now();
    if action.state != ActionState::Done || action.confirm_by.is_none_or(|until| until <= now) {
        return Err(RespondError::Unknown(format!("action {id} waits for no confirmation")));
    }
    if !shared.links.tell(&action.place, &Command::Confirm(id.to_owned(), by.to_owned())) {
        let reason =
            format!("the host of action {id} is not connected; confirm it there: sakimori-agent actions confirm");
        return Err(RespondError::Unknown(reason));
    }
    Ok(action)
}

/// An order by hand: for the manager it is planned here, for a host it is sent to its agent.
///
/// # Errors
/// See [`RespondError`].
pub async fn order(shared: &Shared, tenant: &str, place: &str, order: Order, by: &str) -> Result<(), RespondError> {
    let now = shared.clock.now();
    let known = sakimori_respond::actions::find(&order.action)
        .ok_or_else(|| RespondError::Unknown(format!("unknown action {}", order.action)))?;
    let here = known.runs != Runs::Host;
    if here != (place == MANAGER) {
        return Err(RespondError::Unknown(format!("{} is not carried out by {place}", order.action)));
    }
    if here {
        return plan(shared, tenant, vec![order], Account { exempt: true, ..Account::default() }, now).await;
    }
    if let Some(why) = halts::get(shared.control.read(), tenant).await?.words() {
        return Err(RespondError::Unknown(format!("{why}; sakimori resume lets them go on")));
    }
    let mut change = shared.control.begin().await?;
    crate::orders::put_order(&mut change, tenant, place, &order, by, now).await?;
    change.commit().await?;
    shared.links.tell(place, &Command::Orders);
    Ok(())
}
