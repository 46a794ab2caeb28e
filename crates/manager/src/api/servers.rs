//! A host in one answer, for its page: who it is, how its modules do and what each lacks, what is proven, which policy and
//! rules it has, what is in quarantine and blocked, and what happened lately.

use axum::Json;
use axum::extract::{Path, State};
use sakimori_model::{Action, ActionState, Timestamp};
use sakimori_respond::actions::{block_address, quarantine_file};
use sakimori_store::control::actions::{self, Filter};
use sakimori_store::control::{Scope, alerts as notes};
use sakimori_store::query;
use sakimori_wire::status::{AgentStatus, ModuleStatus, RulesStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::actions::ActionView;
use super::agents::{self, AgentView};
use super::alerts::{self, AlertView};
use super::events::{SearchQuery, find};
use super::extract::Page;
use super::policies::EffectivePolicy;
use super::problem::{self, Problem};
use super::proof::{self, ProofView};
use crate::exceptions::condition;
use crate::policy::of_agent;

/// Rows of each list.
const SHOWN: i64 = 50;
/// Alerts and actions of lately.
const LATELY: i64 = 20;

/// A module of a host.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerModule {
    /// Slug.
    pub id: String,
    /// `on`, `off` or `failing`.
    pub state: String,
    /// What it lacks and what to do, or why it is failing; empty where its rules and figures say all.
    pub lacks: String,
    /// How often it was started again after a crash.
    pub restarts: u64,
    /// Its rules, while it is on and has some.
    pub rules: Option<ModuleRules>,
    /// What it judged of the network, where that is its work and it is on.
    pub traffic: Option<ModuleTraffic>,
    /// What its newest probe showed; absent while it is off.
    pub proof: Option<ProofView>,
}

/// Rules of a module.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModuleRules {
    /// Those in use.
    pub loaded: u64,
    /// Those that did not load.
    pub refused: u64,
    /// Why the first of these did not.
    pub why: String,
}

/// What intrusion prevention judged and what it did not see, since the agent's start.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModuleTraffic {
    /// Packets that were judged.
    pub packets: u64,
    /// Packets that were dropped or refused.
    pub dropped: u64,
    /// Connections whose content is encrypted and was not seen.
    pub encrypted: u64,
    /// Bytes of answers that were passed over.
    pub passed_over_bytes: u64,
    /// Packets that went as the policy says, since nobody judged them in time.
    pub by_policy: u64,
}

/// Rules of a host.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerRules {
    /// The bundle that it has.
    pub bundle: u64,
    /// The bundle in force.
    pub newest: u64,
    /// Has it the newest?
    pub current: bool,
    /// Seconds since the newest was made; absent where it does not say.
    pub age_seconds: Option<i64>,
}

/// A block in effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerBlock {
    /// Id of the action.
    pub action: String,
    /// What is blocked.
    pub target: String,
    /// Title of the rule behind it, in English.
    pub why: String,
    /// That rule's id; empty where a person ordered it.
    pub rule: String,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends: Option<Timestamp>,
    /// Seconds until then.
    pub seconds_left: Option<i64>,
    /// Until when somebody has to confirm it, where it ends otherwise.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub confirm_by: Option<Timestamp>,
}

/// A file in quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerQuarantined {
    /// Id of the action; undoing it gives the file back.
    pub action: String,
    /// Where it was.
    pub path: String,
    /// Title of the rule behind it, in English.
    pub why: String,
    /// That rule's id; empty where a person ordered it.
    pub rule: String,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}

/// A host.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Server)]
pub struct ServerView {
    /// The agent, with the facts of its host.
    pub agent: AgentView,
    /// Version of the agent's program, as it last said; empty before its first word.
    pub version: String,
    /// Its modules.
    pub modules: Vec<ServerModule>,
    /// Whether what it says arrives.
    pub uplink: ProofView,
    /// Its rules.
    pub rules: ServerRules,
    /// The policy that applies, and why.
    pub policy: EffectivePolicy,
    /// Has it taken that policy?
    pub policy_taken: bool,
    /// Settings that the host's own mandate holds.
    pub held: Vec<String>,
    /// Who stopped all its answers, and why; absent while they run.
    pub halted: Option<String>,
    /// Blocks in effect, the newest 50.
    pub blocks: Vec<ServerBlock>,
    /// Blocks in effect, as the host counts them.
    pub blocks_count: u64,
    /// Files in quarantine, the newest 50.
    pub quarantine: Vec<ServerQuarantined>,
    /// The newest 20 alerts.
    pub alerts: Vec<AlertView>,
    /// The newest 20 actions.
    pub actions: Vec<ActionView>,
}

/// `GET /agents/{id}/overview`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<ServerView>, Problem> {
    let agent = agents::find(&app, &caller, &id).await?;
    let (shared, now) = (&app.shared, app.shared.clock.now());
    let status: AgentStatus = serde_json::from_str(&agent.status).unwrap_or_default();
    let applies = of_agent(shared, &agent).await;
    let (number, effective) = applies.map_err(|reason| Problem::new(problem::POLICY_INVALID).detail(reason))?;
    let policy = serde_json::to_value(&effective.policy).map_err(|error| Problem::failed(&error))?;
    let opened = app.content.get(&app).await?;
    let newest = opened.bundle.number;
    let rules = ServerRules {
        bundle: status.bundle,
        newest,
        current: status.bundle == newest,
        age_seconds: opened.bundle.created.map(|created| now.since(created) / 1_000_000),
    };
    let modules = status.modules.iter().map(|module| module_of(&status, module, now));
    let in_effect = async |kind: &str| actions_of(&app, &caller, &id, Some(kind), &[ActionState::Done], SHOWN).await;
    let blocks = in_effect(block_address::ID).await?.into_iter().map(|action| ServerBlock {
        target: action.order.target.to_string(),
        why: action.order.cause.title.clone(),
        rule: action.order.cause.rule.clone(),
        ends: action.expires_at,
        seconds_left: action.expires_at.map(|end| (end.since(now) / 1_000_000).max(0)),
        confirm_by: action.confirm_by,
        action: action.order.id,
    });
    let blocks = blocks.collect();
    let quarantine = in_effect(quarantine_file::ID).await?.into_iter().map(|action| ServerQuarantined {
        path: action.order.target.to_string(),
        why: action.order.cause.title.clone(),
        rule: action.order.cause.rule.clone(),
        since: action.done_at,
        action: action.order.id,
    });
    let quarantine = quarantine.collect();
    let lately = actions_of(&app, &caller, &id, None, &[], LATELY).await?;
    Ok(Json(ServerView {
        version: status.version.clone(),
        modules: modules.collect(),
        uplink: proof::of_module(&status, "uplink", now),
        rules,
        policy: EffectivePolicy { number, policy, origin: effective.origin },
        policy_taken: status.policy >= number,
        held: status.held.clone(),
        halted: status.halted.clone(),
        blocks,
        blocks_count: status.blocks,
        quarantine,
        alerts: alerts_of(&app, &caller, &id).await?,
        actions: lately.into_iter().map(ActionView::from).collect(),
        agent: agents::view(&app, agent),
    }))
}

async fn actions_of(
    app: &App,
    caller: &Caller,
    agent: &str,
    kind: Option<&str>,
    states: &[ActionState],
    most: i64,
) -> Result<Vec<Action>, Problem> {
    let filter = Filter {
        states: states.to_vec(),
        kind: kind.map(str::to_owned),
        place: Some(agent.to_owned()),
        ..Filter::default()
    };
    let scope = Scope::One(caller.tenant().to_owned());
    let jobs = actions::list(app.shared.control.read(), &scope, &filter, None, most).await?;
    Ok(jobs.into_iter().map(|job| job.action).collect())
}

struct Found(sakimori_model::Event);

impl From<sakimori_model::Event> for Found {
    fn from(event: sakimori_model::Event) -> Self {
        Self(event)
    }
}

async fn alerts_of(app: &App, caller: &Caller, agent: &str) -> Result<Vec<AlertView>, Problem> {
    let text = format!("event.kind:alert and {}", condition([("agent.id", agent)]));
    let search = SearchQuery { limit: Some(LATELY), ..SearchQuery::default() };
    let page: Page<Found> = find(app, caller, &query::parse(&text)?, &search).await?;
    let events: Vec<sakimori_model::Event> = page.items.into_iter().map(|found| found.0).collect();
    let id = |event: &sakimori_model::Event| event.str(sakimori_model::field::SAKIMORI_ALERT_ID).map(str::to_owned);
    let ids: Vec<String> = events.iter().filter_map(id).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let notes = notes::of(app.shared.control.read(), caller.tenant(), &ids).await?;
    Ok(events
        .into_iter()
        .map(|event| {
            let note = id(&event).and_then(|id| notes.get(&id).cloned());
            alerts::view(event, note.as_ref())
        })
        .collect())
}

fn module_of(status: &AgentStatus, module: &ModuleStatus, now: Timestamp) -> ServerModule {
    let rules = module.rules.clone().map(|RulesStatus { loaded, refused, why }| ModuleRules { loaded, refused, why });
    let traffic = status.network.filter(|_| module.id == "intrusion_prevention" && module.state == "on");
    ServerModule {
        id: module.id.clone(),
        state: module.state.clone(),
        lacks: if rules.is_some() { String::new() } else { module.detail.clone() },
        restarts: module.restarts,
        rules,
        traffic: traffic.map(|network| ModuleTraffic {
            packets: network.packets,
            dropped: network.dropped,
            encrypted: network.encrypted_flows,
            passed_over_bytes: network.passed_over_bytes,
            by_policy: network.by_policy,
        }),
        proof: (module.state != "off").then(|| proof::of_module(status, &module.id, now)),
    }
}
