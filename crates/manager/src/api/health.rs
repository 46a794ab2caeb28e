//! Is it alive, is it ready, and its figures. Open to everybody: they tell nothing of what is protected, and are
//! worked out once a second at the most, however often they are asked for.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sakimori_model::Timestamp;
use sakimori_store::control::actions;
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::App;

/// A value that is worked out once a second.
#[derive(Clone)]
pub struct Once<T>(Arc<Mutex<Option<(Timestamp, T)>>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Once<T> {
    async fn get(&self, now: Timestamp, work: impl Future<Output = T>) -> T {
        let mut kept = self.0.lock().await;
        match kept.as_ref() {
            Some((at, value)) if (0..1_000_000).contains(&now.since(*at)) => value.clone(),
            _ => {
                let value = work.await;
                *kept = Some((now, value.clone()));
                value
            }
        }
    }
}

/// Whether the manager can do its work.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Are all of these ready?
    pub ready: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    /// `journal`, `control`, `bundle`, `disk`.
    pub id: &'static str,
    /// Is it as it should be?
    pub ready: bool,
    /// What is wrong and what to do; empty where nothing is.
    pub detail: String,
}

/// `GET /healthz`: the process answers.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub async fn ready(State(app): State<App>) -> Response {
    let readiness = app.readiness.get(app.shared.clock.now(), look(&app)).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn look(app: &App) -> Readiness {
    let shared = &app.shared;
    let check =
        |id, problem: Option<String>| Check { id, ready: problem.is_none(), detail: problem.unwrap_or_default() };
    let journal = (!shared.ingest.ready()).then(|| "the journal takes nothing; see the log for why".to_owned());
    let control = shared.control.ping().await.err().map(|error| error.to_string());
    let bundle = (shared.bundle.load().number == 0).then(|| "no rule bundle is loaded; see the log for why".to_owned());
    let disk = crate::disk::no_room(shared);
    let checks =
        vec![check("journal", journal), check("control", control), check("bundle", bundle), check("disk", disk)];
    Readiness { ready: checks.iter().all(|check| check.ready), checks }
}

/// `GET /metrics`
pub async fn metrics(State(app): State<App>) -> Response {
    let text = app.figures.get(app.shared.clock.now(), figures(&app)).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are floats")]
async fn figures(app: &App) -> String {
    let shared = &app.shared;
    let lake = shared.lake.status().unwrap_or_default();
    let mut gauges: Vec<(String, &str, f64)> = vec![
        ("agents_connected".into(), "agents with an open stream", shared.links.count() as f64),
        ("bundle_number".into(), "rule bundle in force", shared.bundle.load().number as f64),
        ("lake_waiting_events".into(), "events in memory, not yet in the table", lake.waiting_events as f64),
        ("lake_waiting_bytes".into(), "their bytes", lake.waiting_bytes as f64),
        ("lake_table_version".into(), "version of the table", lake.version as f64),
        (
            "ways_forgotten_occurrences".into(),
            "occurrences of ways in that were forgotten for want of room",
            shared.ingest.forgotten() as f64,
        ),
        ("disk_free_bytes".into(), "free below state_dir", lake.disk_free as f64),
        ("api_feeds_free".into(), "live feeds that could still be opened", app.feeds.available_permits() as f64),
    ];
    for (state, count) in actions::counts(shared.control.read()).await.unwrap_or_default() {
        gauges.push((format!("actions_{state}"), "actions in this state", count as f64));
    }
    let gauges: Vec<(&str, &str, f64)> =
        gauges.iter().map(|(name, help, value)| (name.as_str(), *help, *value)).collect();
    shared.metrics.render(&gauges)
}
