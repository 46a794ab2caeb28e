//! The balance of the books (promise 3): for every agent and stream what was read, sent, arrived, is stored,
//! and was lost with its cause. in = stored + lost, or the row says what is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use sakimori_store::control::{Scope, agents, flushes};
use sakimori_wire::status::AgentStatus;
use serde::Serialize;

use crate::backup::since;
use crate::shared::Shared;

/// How often a difference is looked at again.
const TRIES: u32 = 20;

/// One stream's books.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Agent id, or `manager`.
    pub origin: String,
    /// Its host, where known.
    pub host: String,
    /// The stream.
    pub stream: String,
    /// Lines that the agent read, as it last said.
    pub read: Option<u64>,
    /// Events that the agent has spooled, as it last said.
    pub sent: Option<u64>,
    /// Events that have arrived and are durable here.
    pub arrived: u64,
    /// Events that a search finds.
    pub stored: u64,
    /// Events that were stored and whose retention is over.
    pub expired: u64,
    /// Lost, by cause.
    pub lost: Vec<Loss>,
    /// Still on its way from the agent.
    pub on_the_way: u64,
    /// Do the books balance: is everything that arrived stored, or was it for its time?
    pub balanced: bool,
}

/// A loss with its place and span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// How many.
    pub count: u64,
    /// Why.
    pub cause: String,
    /// Where.
    pub place: String,
    /// From when.
    pub from: String,
    /// Until when.
    pub to: String,
}

/// The books of a tenant, by origin and stream. What is between journal and memory at the moment is waited for
/// a little, so that a difference that is shown is one.
///
/// # Errors
/// Control state or lake that cannot be read.
pub async fn balance(shared: &Shared, tenant: &str) -> Result<Vec<Row>, String> {
    let mut rows = count(shared, tenant).await?;
    for _ in 0..TRIES {
        if rows.iter().all(|row| row.balanced) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        rows = count(shared, tenant).await?;
    }
    Ok(rows)
}

async fn count(shared: &Shared, tenant: &str) -> Result<Vec<Row>, String> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    let before = shared.ingest.streams(tenant);
    let stored = shared.lake.count_by_stream(tenant).await.map_err(|error| error.to_string())?;
    let after: BTreeMap<(String, String), u64> = shared
        .ingest
        .streams(tenant)
        .into_iter()
        .map(|(origin, stream, _, events)| ((origin, stream), events))
        .collect();
    for (origin, stream, _, events) in before {
        row(&mut rows, &origin, &stream).arrived = events;
    }
    for count in stored {
        row(&mut rows, &count.origin, &count.stream).stored = count.events;
    }
    // What goes between the two counts is counted in both; the caller asks again where books do not balance.
    for ((origin, stream), row) in &mut rows {
        let expired = shared.lake.expired(tenant, origin, stream).await;
        row.expired = expired.map_err(|error| error.to_string())?;
    }
    for lost in flushes::losses(shared.control.read(), tenant).await.map_err(|error| error.to_string())? {
        row(&mut rows, &lost.origin, &lost.stream).lost.push(Loss {
            count: lost.loss.count,
            cause: lost.loss.cause,
            place: lost.loss.place,
            from: lost.loss.from.to_string(),
            to: lost.loss.to.to_string(),
        });
    }
    let scope = Scope::One(tenant.to_owned());
    for agent in agents::list(shared.control.read(), &scope, "", 10_000).await.map_err(|error| error.to_string())? {
        let status: AgentStatus = serde_json::from_str(&agent.status).unwrap_or_default();
        for input in status.inputs {
            let row = row(&mut rows, &agent.id, &input.name);
            row.read = Some(input.lines);
            row.sent = Some(input.spooled);
        }
        for row in rows.values_mut().filter(|row| row.origin == agent.id) {
            row.host.clone_from(&agent.name);
        }
    }
    Ok(rows
        .into_iter()
        .map(|(key, mut row)| {
            // What this manager had and lost was sent and is not coming.
            let had: u64 = row.lost.iter().filter(|loss| loss.place == since::PLACE).map(|loss| loss.count).sum();
            row.on_the_way = row.sent.unwrap_or(row.arrived).saturating_sub(row.arrived + had);
            // More may have arrived while the lake counted.
            let arrived = row.arrived..=after.get(&key).copied().unwrap_or(row.arrived);
            row.balanced = arrived.contains(&(row.stored + row.expired));
            row
        })
        .collect())
}

fn row<'a>(rows: &'a mut BTreeMap<(String, String), Row>, origin: &str, stream: &str) -> &'a mut Row {
    rows.entry((origin.to_owned(), stream.to_owned())).or_insert_with(|| Row {
        origin: origin.to_owned(),
        stream: stream.to_owned(),
        ..Row::default()
    })
}
