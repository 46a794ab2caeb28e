//! Orders that wait for their host's answer: what they lack, and the signatures of operators on them.
//!
//! Operators sign elsewhere, with keys that never come here; what comes is a seal. Whether it counts is for the host to
//! say, whose mandate names the operators: here it is held against the keys that the host named, so that a mistake is
//! seen at once.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::{Order, Timestamp};
use sakimori_respond::mandate::public;
use sakimori_respond::seal::{self, Act};
use sakimori_store::control::agents::{self, Waiting};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::Body;
use super::problem::{self, Problem};
use super::{App, Done};
use crate::shared::Command;

/// Most orders of one answer.
const MOST: i64 = 1_000;

/// Something that waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitingOrder {
    /// Id of the action.
    pub id: String,
    /// Agent of the host.
    pub agent: String,
    /// `order` or `undo`.
    pub kind: String,
    /// The order, or who asked for the undo: what is signed.
    #[schema(value_type = Object)]
    pub content: Value,
    /// When it was noted.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Operators who still have to sign it, as the host said; 0 where the host has not answered.
    pub lacks: i64,
    /// Those who may, `name ed25519:hex`.
    pub signers: Vec<String>,
    /// Names of those who did, or ids of their keys.
    pub signed: Vec<String>,
}

/// All that waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitingOrders {
    /// Oldest first, at most 1000.
    pub items: Vec<WaitingOrder>,
}

/// A signature.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignature {
    /// Agent of the host.
    pub agent: String,
    /// `order` or `undo`.
    pub kind: String,
    /// The seal, hex.
    pub seal: String,
}

/// `GET /orders`
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<WaitingOrders>, Problem> {
    let rows = agents::waiting(app.shared.control.read(), caller.tenant(), MOST).await?;
    let mut items = Vec::new();
    for row in rows {
        items.push(view(&app, caller.tenant(), row).await?);
    }
    Ok(Json(WaitingOrders { items }))
}

/// `POST /orders/{id}/signatures`
pub async fn sign(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewSignature>,
) -> Result<(StatusCode, Json<WaitingOrder>), Problem> {
    let missing = || Problem::new(problem::ACTION_MISSING);
    let shared = &app.shared;
    let rows = agents::orders(shared.control.read(), caller.tenant(), &new.agent).await?;
    let row = rows.into_iter().find(|row| row.id == id && row.kind == new.kind).ok_or_else(missing)?;
    let bytes = hex::decode(&new.seal).ok().filter(|bytes| bytes.len() == seal::LENGTH);
    let bytes = bytes.ok_or_else(|| wrong("it is no seal; sakimori operator sign makes one"))?;
    let key = check(&row, &bytes, shared.clock.now()).map_err(wrong)?;
    let mut change = shared.control.begin().await?;
    let waiting = (row.id.as_str(), row.kind.as_str());
    let now = shared.clock.now();
    if !agents::put_seal(change.connection(), caller.tenant(), &row.agent, waiting, &key, &bytes, now).await? {
        return Err(wrong(format!("it waits no more, or has {} signatures", agents::MOST_SEALS)));
    }
    let done: Done<'_, ()> =
        Done { tenant: caller.tenant(), action: "orders:sign", target: &row.id, before: None, after: None };
    app.done(change, &caller, done).await?;
    shared.links.tell(&row.agent, &Command::Orders);
    Ok((StatusCode::ACCEPTED, Json(view(&app, caller.tenant(), row).await?)))
}

fn wrong(reason: impl std::fmt::Display) -> Problem {
    Problem::new(problem::ACTION_INVALID).fault("seal", reason)
}

/// Id of the key, where the seal is good for this row as far as can be told here.
fn check(row: &Waiting, bytes: &[u8], now: Timestamp) -> Result<[u8; 16], String> {
    let key = seal::key_of(bytes).ok_or("it is no seal; sakimori operator sign makes one")?;
    if seal::not_after(bytes).is_none_or(|until| until <= now) {
        return Err("its time is over; sign again".into());
    }
    let signers: Vec<String> = serde_json::from_str(&row.signers).unwrap_or_default();
    if signers.is_empty() {
        return Ok(key);
    }
    let mut keys = signers.iter().filter_map(|signer| public(signer.rsplit(' ').next()?));
    let signer = keys.find(|one| sakimori_model::id::key_id(one.as_bytes()) == key);
    let signer = signer.ok_or("it is of a key that the host's mandate does not name")?;
    let order = serde_json::from_str::<Order>(&row.payload).ok();
    let act = match (&order, row.kind.as_str()) {
        (_, "undo") => Act::Undo { action: &row.id, by: &row.payload },
        (Some(order), _) => Act::Order(order),
        (None, _) => return Err("the order cannot be read any more".into()),
    };
    let seals = [bytes.to_vec()];
    seal::verify(&signer, "an operator", &seals, &row.agent, act, now).map_err(|error| error.to_string())?;
    Ok(key)
}

async fn view(app: &App, tenant: &str, row: Waiting) -> Result<WaitingOrder, Problem> {
    let seals = agents::seals(app.shared.control.read(), tenant, &row.agent, &row.id, &row.kind).await?;
    let signers: Vec<String> = serde_json::from_str(&row.signers).unwrap_or_default();
    let name = |id: [u8; 16]| {
        let known = signers.iter().find(|signer| {
            let key = signer.rsplit(' ').next().and_then(public);
            key.is_some_and(|key| sakimori_model::id::key_id(key.as_bytes()) == id)
        });
        known.and_then(|signer| signer.rsplit_once(' ')).map_or_else(|| hex::encode(id), |(name, _)| name.to_owned())
    };
    let signed = seals.iter().filter_map(|seal| seal::key_of(seal)).map(name).collect();
    let content = match row.kind.as_str() {
        "undo" => json!({ "by": row.payload }),
        _ => serde_json::from_str(&row.payload).unwrap_or(Value::Null),
    };
    Ok(WaitingOrder {
        id: row.id,
        agent: row.agent,
        kind: row.kind,
        content,
        created: Timestamp::from_micros(row.created),
        lacks: row.lacks,
        signers,
        signed,
    })
}
