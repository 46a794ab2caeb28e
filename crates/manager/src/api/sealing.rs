//! The key that seals secrets: which it is and where it lies, and a new one. The key itself never leaves the manager.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sakimori_store::control::ALL_TENANTS;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::Body;
use super::problem::{self, Problem};
use super::{App, Done};
use crate::sealing::{Error, Sealing, keyfile::KeyPlace, rotate};

/// How secrets are sealed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sealing)]
pub struct SealingView {
    /// Names the key that seals; not the key.
    pub key: String,
    /// Names of older keys, which open what was sealed before.
    pub older: Vec<String>,
    /// The key file on the manager's machine.
    pub file: String,
    /// Can the manager change it? Not where systemd hands it over.
    pub changeable: bool,
}

/// How a new key is made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Forget the older keys: backups that were made before can be restored only with a copy of the former key file.
    #[serde(default)]
    pub forget_older: bool,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rotated)]
pub struct RotatedView {
    /// Secrets that were sealed anew.
    pub sealed: usize,
    /// How secrets are sealed now.
    pub sealing: SealingView,
}

fn view(sealing: &Sealing) -> SealingView {
    let ring = sealing.ring();
    let mut ids = ring.ids().map(|id| id.to_string());
    SealingView {
        key: ids.next().unwrap_or_default(),
        older: ids.collect(),
        file: sealing.place.path().display().to_string(),
        changeable: matches!(sealing.place, KeyPlace::File(_)),
    }
}

/// `GET /sealing`
pub async fn get(State(app): State<App>) -> Json<SealingView> {
    Json(view(&app.shared.sealing))
}

/// `POST /sealing/rotate`
pub async fn renew(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewKey>,
) -> Result<Json<RotatedView>, Problem> {
    let shared = &app.shared;
    // Not while a backup is made: it is under one key.
    let _permit = Arc::clone(&shared.backups)
        .try_acquire_owned()
        .map_err(|_| Problem::new(problem::SEALING_BUSY).retry_after(60))?;
    let before = view(&shared.sealing);
    let state = &shared.config.state_dir;
    let done = rotate(&shared.sealing, state, &shared.control, new.forget_older, &mut |_| {}).await;
    let done = done.map_err(|error| match error {
        Error::Fixed(_) | Error::Changed(_) | Error::Full => Problem::new(problem::SEALING_REFUSED).detail(error),
        other => Problem::failed(&other),
    })?;
    tracing::info!(key = %done.key, sealed = done.sealed, older = done.older, "there is a new sealing key");
    let after = view(&shared.sealing);
    let change = shared.control.begin().await?;
    let entry = Done {
        tenant: ALL_TENANTS,
        action: "sealing:rotate",
        target: &after.key,
        before: Some(&before),
        after: Some(&after),
    };
    app.done(change, &caller, entry).await?;
    Ok(Json(RotatedView { sealed: done.sealed, sealing: after }))
}
