//! The audit log: who changed what, newest first, and whether its chain of hashes is whole.

use axum::Json;
use axum::extract::State;
use sakimori_model::Timestamp;
use sakimori_store::control::audit::{self, Record, Verdict};
use sakimori_store::control::{heads, retire};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::extract::{Page, PageQuery, Query, limit, place};
use super::problem::Problem;

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Whose chain, `*` for the installation's.
    pub tenant: String,
    /// From 1 in its chain, without gaps.
    pub sequence: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// `user:<name>`, `token:<name>`, `agent:<id>` or `system`.
    pub actor: String,
    /// `resource:verb`.
    pub action: String,
    /// Id of what changed.
    pub target: String,
    /// SHA-256 of the thing before, hex.
    pub before: Option<String>,
    /// SHA-256 of the thing after, hex.
    pub after: Option<String>,
    /// Where the request came from.
    pub address: String,
    /// Id of the request.
    pub request: String,
    /// Hash of the entry before, hex.
    pub previous: String,
    /// Hash of this entry, hex.
    pub hash: String,
}

impl From<Record> for AuditEntry {
    fn from(record: Record) -> Self {
        Self {
            tenant: record.tenant,
            sequence: record.sequence,
            time: record.time,
            actor: record.actor,
            action: record.action,
            target: record.target,
            before: record.before.map(hex::encode),
            after: record.after.map(hex::encode),
            address: record.address,
            request: record.request,
            previous: hex::encode(record.previous),
            hash: hex::encode(record.hash),
        }
    }
}

/// How the chains stand.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verified {
    /// Are all of them whole, and as the agents remember them?
    pub whole: bool,
    /// Each chain.
    pub chains: Vec<Chain>,
    /// What agents remember of them.
    pub witnesses: Vec<Witness>,
    /// Forks and cuts that were found: of this log, and of ledgers of agents.
    pub breaks: Vec<BreakView>,
}

/// What an agent remembers of a chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct Witness {
    /// The agent.
    pub agent: String,
    /// The chain.
    pub chain: String,
    /// The entry.
    pub sequence: i64,
    /// Is it the same here?
    pub agrees: bool,
}

/// A fork or a cut.
#[derive(Debug, Serialize, ToSchema)]
pub struct BreakView {
    /// Whose ledger, or who remembers otherwise.
    pub agent: String,
    /// `ledger`, or `audit:` and the chain.
    pub kind: String,
    /// The record.
    pub sequence: i64,
    /// What was found.
    pub detail: String,
}

/// How one chain stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Chain {
    /// Whose, `*` for the installation's.
    pub tenant: String,
    /// `audit`, or `ledger`: of the manager's own actions.
    pub log: &'static str,
    /// Entries in order, from the first; of a ledger those that were retired among them.
    pub entries: i64,
    /// Hash of the last of them, hex.
    pub head: String,
    /// The first entry that is altered or missing.
    pub broken_at: Option<i64>,
}

impl Chain {
    fn of(log: &'static str, verdict: Verdict) -> Self {
        Self {
            log,
            tenant: verdict.tenant,
            entries: verdict.entries,
            head: hex::encode(verdict.head),
            broken_at: verdict.broken_at,
        }
    }
}

/// `GET /audit`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let limit = limit(query.limit)?;
    let before: Option<(i64, String, i64)> = place(query.cursor.as_deref())?;
    let rows = audit::list(app.shared.control.read(), &caller.scope(), before.as_ref(), limit + 1).await?;
    let at = |record: &Record| (record.time.micros(), record.tenant.clone(), record.sequence);
    Ok(Json(Page::of(rows, limit, at, AuditEntry::from)))
}

/// `GET /audit/verify`
pub async fn verify(State(app): State<App>, caller: Caller) -> Result<Json<Verified>, Problem> {
    let verdicts = audit::verify(app.shared.control.read(), &caller.scope()).await?;
    let ledgers = retire::verify(app.shared.control.read(), &caller.scope()).await?;
    let audits = verdicts.into_iter().map(|verdict| Chain::of("audit", verdict));
    let chains: Vec<Chain> = audits.chain(ledgers.into_iter().map(|verdict| Chain::of("ledger", verdict))).collect();
    let mut witnesses = Vec::new();
    for head in heads::witnesses(app.shared.control.read(), &caller.scope()).await? {
        let chain = head.kind.strip_prefix(heads::AUDIT).unwrap_or_default().to_owned();
        let own = audit::hash_at(app.shared.control.read(), &chain, head.sequence).await?;
        let agrees = own.as_ref() == Some(&head.hash);
        witnesses.push(Witness { agent: head.agent, chain, sequence: head.sequence, agrees });
    }
    let breaks = heads::breaks(app.shared.control.read(), &caller.scope()).await?;
    let breaks: Vec<BreakView> = breaks
        .into_iter()
        .map(|one| BreakView { agent: one.agent, kind: one.kind, sequence: one.sequence, detail: one.detail })
        .collect();
    let whole = chains.iter().all(|chain| chain.broken_at.is_none())
        && witnesses.iter().all(|witness| witness.agrees)
        && breaks.is_empty();
    Ok(Json(Verified { whole, chains, witnesses, breaks }))
}
