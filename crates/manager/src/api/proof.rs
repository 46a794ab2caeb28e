//! Proof of protection: for each host and module whether its newest harmless probe did what the module is for, and for
//! each channel whether a message arrived lately. What does less than the policy says, and why, is here in one place.

use axum::Json;
use axum::extract::State;
use sakimori_model::action::ActionState;
use sakimori_model::{Action, Timestamp};
use sakimori_respond::actions::notify;
use sakimori_store::control::Scope;
use sakimori_store::control::actions::{self, Filter};
use sakimori_store::control::agents::{self, Agent};
use sakimori_wire::status::{AgentStatus, ProofStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::extract::{Page, PageQuery, Query, limit, place};
use super::problem::Problem;

/// What was proven longer ago is stale: a day, and what a probe may be late.
const FRESH: i64 = 26 * 3_600;

/// How it stands with the proof of one thing.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProofView {
    /// Module, `uplink`, or the channel's name.
    pub subject: String,
    /// `proven` (within the last day), `stale`, or `failing`.
    pub state: &'static str,
    /// When it was last proven.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub proven: Option<Timestamp>,
    /// How long the answer took, in milliseconds.
    pub took_ms: Option<u64>,
    /// What was seen, or what is wrong.
    pub detail: String,
}

/// A host and its modules.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostProof {
    /// Agent.
    pub agent: String,
    /// Host name.
    pub host: String,
    /// Is its agent connected?
    pub connected: bool,
    /// One row for each module that is on.
    pub modules: Vec<ProofView>,
}

/// `GET /proof`
pub async fn hosts(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<HostProof>>, Problem> {
    let limit = limit(query.limit)?;
    let after: String = place(query.cursor.as_deref())?.unwrap_or_default();
    let scope = Scope::One(caller.tenant().to_owned());
    let rows = agents::list(app.shared.control.read(), &scope, &after, limit + 1).await?;
    let now = app.shared.clock.now();
    let mut page = Page::of(
        rows,
        limit,
        |agent| agent.id.clone(),
        |agent| {
            let connected = app.shared.links.connected(&agent.id);
            (agent.revoked.is_none(), host(&agent, connected, now))
        },
    );
    page.items.retain(|(active, _)| *active);
    Ok(Json(Page { items: page.items.into_iter().map(|(_, host)| host).collect(), next: page.next }))
}

fn host(agent: &Agent, connected: bool, now: Timestamp) -> HostProof {
    let status: AgentStatus = serde_json::from_str(&agent.status).unwrap_or_default();
    let on = status.modules.iter().filter(|module| module.state != "off").map(|module| module.id.as_str());
    let modules = on.chain(["uplink"]).map(|module| of_module(&status, module, now)).collect();
    HostProof { agent: agent.id.clone(), host: agent.name.clone(), connected, modules }
}

pub(super) fn of_module(status: &AgentStatus, id: &str, now: Timestamp) -> ProofView {
    let module = status.modules.iter().find(|module| module.id == id);
    let proof = status.proofs.iter().find(|proof| proof.module == id);
    let proven = proof.and_then(|proof| proof.proven);
    let (state, detail) = match (module, proof) {
        (Some(module), _) if module.state == "failing" => ("failing", module.detail.clone()),
        (_, Some(proof)) if !proof.ok => ("failing", proof.detail.clone()),
        (_, Some(proof)) => (age(proven, now), proof.detail.clone()),
        (_, None) => ("stale", "it was not probed yet".to_owned()),
    };
    ProofView { subject: id.to_owned(), state, proven, took_ms: proof.map(|proof| proof.took_ms), detail }
}

/// Does the newest probe of a module say that it does not work, or that long ago that it may not?
pub(super) fn is_lacking(proof: &ProofStatus, now: Timestamp) -> bool {
    !proof.ok || age(proof.proven, now) != "proven"
}

fn age(proven: Option<Timestamp>, now: Timestamp) -> &'static str {
    if proven.is_some_and(|at| now.since(at) <= FRESH * 1_000_000) { "proven" } else { "stale" }
}

/// Channels, each with its newest message.
#[derive(Debug, Serialize, ToSchema)]
pub struct Channels {
    /// In the order of the configuration.
    pub items: Vec<ProofView>,
}

/// `GET /proof/channels`
pub async fn channels(State(app): State<App>) -> Result<Json<Channels>, Problem> {
    let now = app.shared.clock.now();
    let mut items = Vec::new();
    for channel in &app.shared.config.notify {
        let newest = newest_message(&app.shared, &channel.name).await?;
        let findings = app.shared.channels.kind(&channel.name).is_some_and(|kind| kind.findings.is_some());
        items.push(of_channel((&channel.name, findings), newest.as_ref(), now));
    }
    Ok(Json(Channels { items }))
}

/// The newest message to this channel, of any tenant, that was sent or given up.
pub(crate) async fn newest_message(
    shared: &crate::shared::Shared,
    channel: &str,
) -> Result<Option<Action>, sakimori_store::control::ControlError> {
    let filter = Filter {
        states: vec![ActionState::Done, ActionState::Failed],
        kind: Some(notify::ID.to_owned()),
        target: Some(channel.to_owned()),
        ..Filter::default()
    };
    let scope = Scope::All;
    let newest = actions::list(shared.control.read(), &scope, &filter, None, 1).await?;
    Ok(newest.into_iter().next().map(|job| job.action))
}

/// `findings`: it takes those, and nothing else proves it.
fn of_channel((name, findings): (&str, bool), newest: Option<&Action>, now: Timestamp) -> ProofView {
    let newest = newest.filter(|action| !findings || !action.order.cause.alert.is_empty());
    let (state, proven, detail) = match newest {
        None if findings => ("stale", None, "no finding was told there yet".to_owned()),
        None => ("stale", None, "no message was sent to it yet".to_owned()),
        Some(action) if action.state == ActionState::Failed => {
            ("failing", None, action.reason.clone().unwrap_or_default())
        }
        Some(action) => (age(action.done_at, now), action.done_at, "its receiver took a message".to_owned()),
    };
    ProofView { subject: name.to_owned(), state, proven, took_ms: None, detail }
}

#[cfg(test)]
mod tests {
    use sakimori_model::Order;
    use sakimori_model::action::{Cause, Target};
    use sakimori_respond::wide::{self, Limits};
    use sakimori_wire::status::ModuleStatus;

    use super::*;

    #[test]
    fn a_channel_of_findings_is_proven_by_a_finding_and_by_nothing_else() {
        let now = Timestamp::from_secs(1_800_000_000);
        let limits = Limits { expiry_seconds: 1, expiry_most_seconds: 1, grace_seconds: 0 };
        let of = |findings, alert: &str| {
            let order = Order {
                id: "a".into(),
                action: notify::ID.into(),
                target: Target::Channel("siem".into()),
                expiry: None,
                cause: Cause { alert: alert.into(), ..Cause::default() },
                via: None,
                probe: false,
                inputs: Default::default(),
                signatures: Vec::new(),
            };
            let mut action = wide::plan(order, "manager", now, &limits);
            (action.state, action.done_at) = (ActionState::Done, Some(now));
            of_channel(("siem", findings), Some(&action), now).state
        };
        assert_eq!((of(true, ""), of(true, "0a1b"), of(false, "")), ("stale", "proven", "proven"));
        assert_eq!(of_channel(("siem", true), None, now).detail, "no finding was told there yet");
    }

    #[test]
    fn proven_stale_and_failing_are_told_apart() {
        let at = |hours: i64| Timestamp::from_secs(1_800_000_000 + hours * 3_600);
        let module = |id: &str, state: &str| ModuleStatus { id: id.into(), state: state.into(), ..Default::default() };
        let proof = |id: &str, ok: bool| ProofStatus {
            module: id.into(),
            ok,
            at: at(0),
            proven: ok.then(|| at(0)),
            detail: "seen".into(),
            ..Default::default()
        };
        let status = AgentStatus {
            modules: vec![module("a", "on"), module("b", "failing"), module("c", "on"), module("d", "on")],
            proofs: vec![proof("a", true), proof("b", true), proof("c", false)],
            ..Default::default()
        };
        let states = |now| ["a", "b", "c", "d"].map(|id| of_module(&status, id, now).state);
        assert_eq!(states(at(1)), ["proven", "failing", "failing", "stale"]);
        assert_eq!(states(at(27)), ["stale", "failing", "failing", "stale"]);
    }
}
