//! Works the last hours out: each part from where it is cheapest to ask.

use sakimori_model::Timestamp;
use sakimori_model::action::Target;
use sakimori_store::control::agents::{self, Agent};
use sakimori_store::control::{Scope, actions, executions as rows, flushes, halts};
use sakimori_store::lake::Interval;
use sakimori_store::query::Expr;
use sakimori_wire::status::AgentStatus;

use super::{
    AlertCounts, Approval, Approvals, Block, Blocks, Books, Disk, HOSTS, Hosts, Ingest, Lack, Now, Stopped, Unprotected,
};
use crate::api::App;
use crate::api::problem::Problem;
use crate::executions as driver;

/// Most rows of each list.
const ROWS: usize = 20;
/// Most executions that are looked through for questions.
const EXECUTIONS: i64 = 500;
/// Kinds of actions that block an address.
const BLOCKS: &[&str] = &["block_address", "waf_block"];

/// The last hours of a tenant, from a moment on.
pub(super) async fn look(app: &App, tenant: &str, at: Timestamp, from: Timestamp) -> Result<Now, Problem> {
    let control = app.shared.control.read();
    let hosts = agents::list(control, &Scope::One(tenant.to_owned()), "", HOSTS).await?;
    let (events, actions, blocks, approvals, ingest, books) = tokio::join!(
        events(app, tenant, from),
        actions::since(control, tenant, from),
        blocks(app, tenant, at),
        approvals(app, tenant),
        ingest(app, tenant, at, &hosts),
        books(app, tenant),
    );
    let (events, (ingest, mut books)) = (events?, (ingest?, books?));
    books.dead = events.dead;
    let status = app.shared.lake.status()?;
    Ok(Now {
        at,
        from,
        stopped: stopped(&actions?, &events),
        alerts: events.alerts,
        approvals: approvals?,
        orders_waiting: agents::waiting(control, tenant, 1_000).await?.len() as u64,
        blocks: blocks?,
        hosts: unprotected(app, hosts, at),
        ingest,
        disk: Disk { free: status.disk_free, size: status.disk_size, full: crate::disk::no_room(&app.shared) },
        books,
        halted: halts::get(control, tenant).await?.words(),
    })
}

/// What the lake says of these hours.
#[derive(Debug, Default)]
struct Seen {
    alerts: AlertCounts,
    ips: u64,
    malware: u64,
    dead: u64,
}

async fn events(app: &App, tenant: &str, from: Timestamp) -> Result<Seen, Problem> {
    // A time and constants of ours: nothing that anybody wrote is in the statement.
    let sql = format!(
        "SELECT \"event.kind\", \"rule.ruleset\", \"event.outcome\", \"event.severity\", COUNT(*) FROM events \
         WHERE \"sakimori.time\" >= TIMESTAMP '{from}' AND (\"event.kind\" = 'alert' OR \"event.dataset\" = '{}') \
         AND \"sakimori.probe\" IS NOT TRUE AND \"sakimori.alert.exception\" IS NULL GROUP BY 1, 2, 3, 4",
        sakimori_detect::arrival::DEAD
    );
    let table = app.shared.lake.sql(tenant, &sql).await?;
    let mut seen = Seen::default();
    for row in &table.rows {
        let [kind, ruleset, outcome, severity, count] = row.as_slice() else { continue };
        let count = count.as_u64().unwrap_or(0);
        if kind.as_str() != Some("alert") {
            seen.dead += count;
            continue;
        }
        seen.alerts.total += count;
        *seen.alerts.by_severity.entry(severity_name(severity.as_i64().unwrap_or(0))).or_default() += count;
        match (ruleset.as_str(), outcome.as_str()) {
            (Some("suricata"), Some("success")) => seen.ips += count,
            (Some("yara" | "hash"), Some("success")) => seen.malware += count,
            _ => {}
        }
    }
    Ok(seen)
}

/// The name of ECS's number.
fn severity_name(number: i64) -> &'static str {
    use sakimori_model::rule::Severity;
    let all = [
        (Severity::Critical, "critical"),
        (Severity::High, "high"),
        (Severity::Medium, "medium"),
        (Severity::Low, "low"),
    ];
    all.into_iter().find(|(severity, _)| number >= severity.number()).map_or("informational", |(_, name)| name)
}

fn stopped(actions: &[(String, String, i64)], seen: &Seen) -> Stopped {
    let taken = ["done", "undoing", "undone", "expired"];
    let of = |kind: &str| -> u64 {
        let those = actions.iter().filter(|(of, state, _)| of == kind && taken.contains(&state.as_str()));
        those.map(|(_, _, count)| u64::try_from(*count).unwrap_or(0)).sum()
    };
    Stopped {
        host_block: of("block_address"),
        ips_prevent: seen.ips,
        malware_denied: seen.malware.max(of("quarantine_file")),
        quarantined: of("quarantine_file"),
        waf: of("waf_block"),
    }
}

async fn blocks(app: &App, tenant: &str, at: Timestamp) -> Result<Blocks, Problem> {
    let control = app.shared.control.read();
    let active = u64::try_from(actions::in_effect(control, tenant, BLOCKS).await?).unwrap_or(0);
    let rows = i64::try_from(ROWS).unwrap_or(0);
    let items = actions::blocks(control, tenant, BLOCKS, rows).await?;
    let block = |action: sakimori_model::Action| Block {
        target: match &action.order.target {
            Target::Network(network) if network.is_host() => network.address().to_string(),
            other => other.to_string(),
        },
        id: action.order.id,
        action: action.order.action,
        place: action.place,
        since: action.done_at,
        until: action.expires_at,
        seconds_left: action.expires_at.map(|end| (end.since(at) / 1_000_000).max(0)),
        rule: action.order.cause.rule,
        title: action.order.cause.title,
        alert: action.order.cause.alert,
    };
    Ok(Blocks { active, items: items.into_iter().map(|(action, _)| block(action)).collect() })
}

async fn approvals(app: &App, tenant: &str) -> Result<Approvals, Problem> {
    let mut approvals = Approvals::default();
    for row in rows::at_work(app.shared.control.read(), tenant, EXECUTIONS).await? {
        let execution = driver::read(&row)?;
        for (step, question, until) in execution.questions() {
            approvals.waiting += 1;
            if approvals.items.len() < ROWS {
                approvals.items.push(Approval {
                    execution: row.id.clone(),
                    step: step.to_owned(),
                    playbook: row.playbook.clone(),
                    alert: row.alert.clone(),
                    en: question.en.clone(),
                    ja: question.ja.clone(),
                    persons: question.persons,
                    until,
                });
            }
        }
    }
    Ok(approvals)
}

fn unprotected(app: &App, agents: Vec<Agent>, at: Timestamp) -> Hosts {
    let mut hosts = Hosts::default();
    for agent in agents {
        let connected = app.shared.links.connected(&agent.id);
        let state = crate::presence::shown(&agent, connected);
        if matches!(state.as_str(), "revoked" | "retired") {
            continue;
        }
        hosts.total += 1;
        hosts.connected += u64::from(connected);
        let why = lacks(&agent, connected, &state, at);
        if !why.is_empty() {
            hosts.unprotected += 1;
            if hosts.items.len() < ROWS {
                hosts.items.push(Unprotected { agent: agent.id, host: agent.name, state, why });
            }
        }
    }
    hosts
}

fn lacks(agent: &Agent, connected: bool, state: &str, at: Timestamp) -> Vec<Lack> {
    let status: AgentStatus = serde_json::from_str(&agent.status).unwrap_or_default();
    let mut why = Vec::new();
    if !connected {
        let last = agent.last_seen.map_or_else(|| "it was never seen".to_owned(), |seen| format!("last seen {seen}"));
        why.push(Lack { module: "agent".into(), state: "disconnected", detail: format!("{state}; {last}") });
    }
    if let Some(halted) = &status.halted {
        why.push(Lack { module: "agent".into(), state: "halted", detail: halted.clone() });
    }
    for module in &status.modules {
        if module.state == "failing" {
            why.push(Lack { module: module.id.clone(), state: "failing", detail: module.detail.clone() });
        } else if module.state != "off"
            && let Some(proof) = status.proofs.iter().find(|proof| proof.module == module.id)
            && crate::api::proof::is_lacking(proof, at)
        {
            why.push(Lack { module: module.id.clone(), state: "unproven", detail: proof.detail.clone() });
        }
    }
    why
}

async fn ingest(app: &App, tenant: &str, at: Timestamp, hosts: &[Agent]) -> Result<Ingest, Problem> {
    let shared = &app.shared;
    let extent = shared.lake.extent(tenant).await?;
    let newest = extent.last;
    let minute = newest.map(|last| Interval { from: Some(last.plus_secs(-60)), to: Some(last.plus_secs(1)) });
    let lately = match minute {
        Some(minute) => shared.lake.count_up_to(tenant, &Expr::All, minute, 1_000_000).await?.0,
        None => 0,
    };
    let waiting =
        |agent: &Agent| serde_json::from_str::<AgentStatus>(&agent.status).map_or(0, |status| status.spool.waiting);
    Ok(Ingest {
        ready: shared.ingest.ready(),
        arrived: shared.ingest.streams(tenant).iter().map(|(.., events)| events).sum(),
        per_second: (f64::from(u32::try_from(lately).unwrap_or(u32::MAX)) / 6.0).round() / 10.0,
        newest,
        quiet_seconds: newest.map(|last| (at.since(last) / 1_000_000).max(0)),
        waiting_on_hosts: hosts.iter().filter(|agent| agent.revoked.is_none()).map(waiting).sum(),
        waiting_events: shared.lake.status()?.waiting_events,
    })
}

async fn books(app: &App, tenant: &str) -> Result<Books, Problem> {
    let shared = &app.shared;
    let streams = shared.ingest.streams(tenant);
    let arrived: u64 = streams.iter().map(|(.., events)| events).sum();
    let stored = shared.lake.extent(tenant).await?.events;
    let mut expired = 0;
    for (origin, stream, ..) in &streams {
        expired += shared.lake.expired(tenant, origin, stream).await?;
    }
    let lost = flushes::losses(shared.control.read(), tenant).await?.iter().map(|lost| lost.loss.count).sum();
    let between = i64::try_from(arrived).unwrap_or(i64::MAX) - i64::try_from(stored + expired).unwrap_or(i64::MAX);
    Ok(Books { arrived, stored, expired, dead: 0, lost, between })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_is_counted_by_layer_and_what_was_refused_is_not() {
        let row = |kind: &str, state: &str, count| (kind.to_owned(), state.to_owned(), count);
        let actions = [
            row("block_address", "done", 3),
            row("block_address", "expired", 2),
            row("block_address", "refused", 9),
            row("waf_block", "undone", 1),
            row("notify", "done", 50),
        ];
        let stopped = stopped(&actions, &Seen { ips: 7, malware: 4, ..Seen::default() });
        assert_eq!((stopped.host_block, stopped.waf, stopped.ips_prevent, stopped.malware_denied), (5, 1, 7, 4));
    }

    #[test]
    fn numbers_of_severity_have_names() {
        assert_eq!([0, 1, 99, 100].map(severity_name)[0], "informational");
        assert_eq!(severity_name(sakimori_model::rule::Severity::High.number()), "high");
        assert_eq!(severity_name(sakimori_model::rule::Severity::Critical.number()), "critical");
    }
}
