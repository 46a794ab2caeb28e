//! Heads exchanged with agents: where the audit log stands, as they remember it, and where their ledgers stood, as the
//! manager remembers it. A fork or a cut is an audit entry, which is an event, and stays with [`heads::Break`].

use sakimori_model::Timestamp;
use sakimori_store::control::agents::Agent;
use sakimori_store::control::heads::{self, AUDIT, Break, Head, LEDGER};
use sakimori_store::control::{ALL_TENANTS, ControlError, audit};
use sakimori_wire::agent as proto;

use crate::shared::Shared;

/// Most heads of one hello that are looked at.
const MOST: usize = 4;

/// Chains of the audit log that concern an agent.
fn chains(agent: &Agent) -> [&str; 2] {
    [&agent.tenant, ALL_TENANTS]
}

/// Holds what an agent remembers of the audit log against the log. Returns what the log says there, for the agent.
///
/// # Errors
/// The database failed.
pub async fn remembered(
    shared: &Shared,
    agent: &Agent,
    told: Vec<proto::AuditHead>,
) -> Result<Vec<proto::AuditHead>, ControlError> {
    let mut answers = Vec::new();
    for head in told.into_iter().take(MOST).filter(|head| chains(agent).contains(&head.chain.as_str())) {
        let sequence = head.sequence.cast_signed();
        let own = audit::hash_at(shared.control.read(), &head.chain, sequence).await?;
        let kind = format!("{AUDIT}{}", head.chain);
        let witness = Head {
            tenant: agent.tenant.clone(),
            agent: agent.id.clone(),
            kind: kind.clone(),
            sequence,
            hash: head.hash.clone(),
        };
        let mut change = shared.control.begin().await?;
        heads::put(change.connection(), &witness, shared.clock.now()).await?;
        change.commit().await?;
        if own.as_ref() != Some(&head.hash) {
            let what = if own.is_some() { "was another" } else { "is missing" };
            let detail = format!("entry {sequence} of the audit log ({}) {what}: the agent saw it", head.chain);
            broke(shared, agent, &kind, sequence, detail).await?;
        }
        answers.push(proto::AuditHead { hash: own.unwrap_or_default(), ..head });
    }
    Ok(answers)
}

/// Where the audit log stands now, and the record of the agent's ledger that is known.
///
/// # Errors
/// The database failed.
pub async fn now(shared: &Shared, agent: &Agent) -> Result<proto::HeadsDown, ControlError> {
    let mut heads_down = proto::HeadsDown::default();
    for chain in chains(agent) {
        if let Some((sequence, hash)) = audit::head(shared.control.read(), chain).await? {
            let sequence = sequence.cast_unsigned();
            heads_down.audit.push(proto::AuditHead { chain: chain.to_owned(), sequence, hash });
        }
    }
    let known = heads::get(shared.control.read(), &agent.tenant, &agent.id, LEDGER).await?;
    heads_down.ledger_sequence = known.map_or(0, |known| known.sequence.cast_unsigned());
    Ok(heads_down)
}

/// What an agent's ledger says at the record that is known, and where it stands.
///
/// # Errors
/// The database failed.
pub async fn ledger(shared: &Shared, agent: &Agent, told: proto::LedgerAt) -> Result<(), ControlError> {
    let known = heads::get(shared.control.read(), &agent.tenant, &agent.id, LEDGER).await?;
    if told.sequence != known.as_ref().map_or(0, |known| known.sequence.cast_unsigned()) || told.head.len() != 32 {
        return Ok(());
    }
    if let Some(known) = &known {
        let at = known.sequence;
        let detail = if told.head_sequence < told.sequence {
            Some(format!("the ledger ends at record {} and had record {at}: it was cut", told.head_sequence))
        } else if !told.hash.is_empty() && told.hash != known.hash {
            Some(format!("record {at} of the ledger was another: it was altered"))
        } else {
            None
        };
        if let Some(detail) = detail {
            return broke(shared, agent, LEDGER, at, detail).await;
        }
        if told.head_sequence == told.sequence {
            return Ok(());
        }
    }
    let head = Head {
        tenant: agent.tenant.clone(),
        agent: agent.id.clone(),
        kind: LEDGER.to_owned(),
        sequence: told.head_sequence.cast_signed(),
        hash: told.head,
    };
    let mut change = shared.control.begin().await?;
    heads::put(change.connection(), &head, shared.clock.now()).await?;
    change.commit().await
}

async fn broke(shared: &Shared, agent: &Agent, kind: &str, sequence: i64, detail: String) -> Result<(), ControlError> {
    tracing::error!(agent = agent.id, "{detail}");
    let now: Timestamp = shared.clock.now();
    let found =
        Break { tenant: agent.tenant.clone(), agent: agent.id.clone(), kind: kind.to_owned(), sequence, detail };
    let mut change = shared.control.begin().await?;
    if !heads::broke(change.connection(), &found, now).await? {
        return Ok(());
    }
    let action = if kind == LEDGER { "ledger:broken" } else { "audit:broken" };
    change
        .audit(&audit::Entry {
            tenant: &agent.tenant,
            time: now,
            actor: &format!("agent:{}", agent.id),
            action,
            target: &format!("{kind} {sequence}"),
            before: None,
            after: None,
            address: "",
            request: "",
        })
        .await?;
    change.commit().await?;
    shared.outbox_changed.notify_one();
    Ok(())
}
