//! Turns rows of the outbox into events of the lake: audit entries, states of the manager's own actions, notices.
//!
//! A row is written in the transaction of its change, and gone once its event is durable; the stream's sequence
//! is the row's number, so that a row that was sent before a crash is not sent again.

use std::sync::Arc;
use std::time::Duration;

use sakimori_model::{Action, Event, field};
use sakimori_store::control::actions::OUTBOX_KIND;
use sakimori_store::control::outbox::{self, Message};
use sakimori_wire::batch::{Batch, BatchHeader, encode};

use super::wake;
use crate::ingest::{IngestError, MANAGER};
use crate::notices;
use crate::shared::Shared;

/// Rows that are taken at a time.
const MOST: i64 = 1_000;

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    loop {
        while drain(&shared).await? {}
        if !wake(&shared, &shared.outbox_changed, Duration::from_secs(1)).await {
            return Ok(());
        }
    }
}

/// Sends one portion; true where there may be more.
async fn drain(shared: &Shared) -> Result<bool, String> {
    let rows = outbox::after(shared.control.read(), 0, MOST).await.map_err(|error| error.to_string())?;
    let Some(last) = rows.last().map(|row| row.sequence) else { return Ok(false) };
    let mut tenants: Vec<&str> = rows.iter().map(|row| row.tenant.as_str()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    for tenant in tenants {
        for (kind, stream) in [(OUTBOX_KIND, "actions"), ("audit", "audit"), (notices::STREAM, notices::STREAM)] {
            let (sent, first_event) = shared.ingest.stream(tenant, MANAGER, stream);
            let portion: Vec<&Message> = rows
                .iter()
                .filter(|row| row.tenant == tenant && row.kind == kind && row.sequence.cast_unsigned() > sent)
                .collect();
            let Some(sequence) = portion.last().map(|row| row.sequence.cast_unsigned()) else { continue };
            let events = portion.iter().filter_map(|row| event(row)).collect();
            let header = BatchHeader {
                id: sakimori_model::id::batch_id(&format!("{MANAGER}/{tenant}"), stream, sequence),
                origin: MANAGER.into(),
                stream: stream.into(),
                sequence,
                first_event,
                ..BatchHeader::default()
            };
            let bytes = encode(&Batch { header, events }).map_err(|error| error.to_string())?;
            match shared.ingest.submit(tenant, MANAGER, bytes).await {
                Ok(_) => {}
                Err(IngestError::NotReady(_)) => return Ok(false),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    let mut change = shared.control.begin().await.map_err(|error| error.to_string())?;
    outbox::taken_up_to(change.connection(), last).await.map_err(|error| error.to_string())?;
    change.commit().await.map_err(|error| error.to_string())?;
    Ok(rows.len() >= usize::try_from(MOST).unwrap_or(usize::MAX))
}

fn event(row: &Message) -> Option<Event> {
    if row.kind == OUTBOX_KIND {
        let action: Action = serde_json::from_str(&row.payload).ok()?;
        return Some(sakimori_respond::event::of(&action, row.created));
    }
    if row.kind == notices::STREAM {
        return notices::event(row);
    }
    let entry: serde_json::Value = serde_json::from_str(&row.payload).ok()?;
    let text = |name: &str| entry.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let mut event = Event::new();
    event.set(field::TIMESTAMP, row.created);
    event.set(field::EVENT_KIND, "event");
    event.push(field::EVENT_CATEGORY, "configuration");
    event.push(field::EVENT_TYPE, "change");
    event.set(field::EVENT_MODULE, "sakimori");
    event.set(field::EVENT_DATASET, "sakimori.audit");
    event.set(field::EVENT_ACTION, text("action"));
    let actor = text("actor");
    if let Some(name) = actor.strip_prefix("user:") {
        event.set(field::USER_NAME, name.to_owned());
    }
    event.set_path("sakimori.audit", entry);
    Some(event)
}
