//! `POST /ingest/{way}`: what others send us. Open to everybody who can show who he is to this way ([`crate::ingest`]); the
//! answer is 2xx once what was sent is durable, and never before.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use sakimori_detect::sns::{Envelope, Kind as Of};
use sakimori_model::rule::Severity;
use sakimori_store::control::{Scope, messages};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::extract::Raw;
use super::problem::{self, Problem};
use crate::ingest::IngestError;
use crate::ingest::settings::{Sns, Webhook};
use crate::ingest::sns::{self, Doubt};
use crate::ingest::ways::{Delivered, Kind, Way};
use crate::ingest::webhook::{self, Shown};
use crate::ingest::worker::Message;
use crate::notices::{self, Notice};

/// What became of what was sent.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Taken {
    /// Events that were taken.
    pub events: u64,
    /// Events that were here before.
    pub repeated: u64,
}

impl From<Delivered> for Taken {
    fn from(delivered: Delivered) -> Self {
        Self { events: delivered.events, repeated: delivered.repeated }
    }
}

/// `POST /ingest/{way}`
pub async fn take(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Json<Taken>, Problem> {
    // Who has no way in is not told which there are.
    let (way, kind) = app.shared.ways.find(&name).ok_or_else(|| Problem::new(problem::WAY_MISSING))?;
    let _seat = way.seats.try_acquire().map_err(|_| Problem::new(problem::SERVER_NOT_READY).retry_after(2))?;
    let taken = match kind {
        Kind::Webhook(settings) => posted(&app, way, settings, &headers, &body).await,
        Kind::Sns(settings) => published(&app, way, settings, &body).await,
        Kind::Sqs(_) | Kind::Syslog(_) => Err(Problem::new(problem::WAY_MISSING)),
    };
    if let Err(problem) = &taken {
        tracing::warn!(way = way.name, code = problem.code.code, "what was sent was refused");
    }
    taken.map(Json)
}

async fn posted(app: &App, way: &Way, settings: &Webhook, headers: &HeaderMap, body: &[u8]) -> Result<Taken, Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let shown = Shown {
        sakimori: text("x-sakimori-signature"),
        github: text("x-hub-signature-256"),
        authorization: text(header::AUTHORIZATION.as_str()),
    };
    let shared = &app.shared;
    let secret = shared.sealing.named(&shared.control, &way.tenant, &settings.secret).await;
    let secret = secret.map_err(|error| Problem::failed(&error))?;
    let Some(secret) = secret else {
        tracing::error!(way = way.name, secret = settings.secret, "a webhook has no secret; sakimori secrets set");
        return Err(Problem::new(problem::SERVER_NOT_READY).retry_after(60));
    };
    let seal =
        webhook::check(settings, secret.expose().trim_ascii(), shown, body, shared.clock.now()).map_err(|doubt| {
            match doubt {
                webhook::Doubt::Missing | webhook::Doubt::Forged => Problem::new(problem::WAY_FORGED),
                webhook::Doubt::Stale => Problem::new(problem::WAY_STALE),
            }
        })?;
    let replays = &shared.ways.replays;
    if seal.is_some_and(|seal| replays.knows(&seal)) {
        return Err(Problem::new(problem::WAY_REPLAYED));
    }
    // A channel that leads back here would begin the playbook whose message this is, again and again.
    if let Some(id) = text("x-sakimori-message")
        && messages::get(shared.control.read(), &Scope::All, id).await.is_ok()
    {
        return Err(Problem::new(problem::WAY_OWN));
    }
    let message = Message { id: seal.map(hex::encode).unwrap_or_default(), body: body.to_vec(), sender: None };
    let delivered = way.take(shared, vec![message], Vec::new()).await.map_err(refused)?;
    if let Some(seal) = seal {
        replays.note(seal);
    }
    Ok(delivered.into())
}

async fn published(app: &App, way: &Way, settings: &Sns, body: &[u8]) -> Result<Taken, Problem> {
    let shared = &app.shared;
    let envelope = way.parser.envelope(shared, body.to_vec()).await;
    let envelope = envelope.map_err(|reason| refused(IngestError::NotReady(reason)))?;
    let envelope = envelope.map_err(|reason| Problem::new(problem::WAY_UNREADABLE).detail(reason))?;
    let believed = sns::check(&shared.ways.certificates, settings, &envelope, shared.clock.now()).await;
    believed.map_err(|doubt| match doubt {
        Doubt::Topic => Problem::new(problem::WAY_TOPIC),
        Doubt::Forged(reason) => Problem::new(problem::WAY_FORGED).detail(reason),
        Doubt::Stale => Problem::new(problem::WAY_STALE),
        Doubt::Later(reason) => {
            tracing::warn!(way = way.name, reason, "a message of SNS could not be checked");
            Problem::new(problem::SERVER_NOT_READY).retry_after(10)
        }
    })?;
    match envelope.kind {
        Of::Notification => {
            let message = Message { id: envelope.message_id, body: body.to_vec(), sender: None };
            Ok(way.take(shared, vec![message], Vec::new()).await.map_err(refused)?.into())
        }
        Of::SubscriptionConfirmation => {
            sns::confirm(settings, &envelope).await.map_err(|reason| {
                tracing::warn!(way = way.name, reason, "a subscription could not be confirmed");
                Problem::new(problem::SERVER_NOT_READY).retry_after(10)
            })?;
            tracing::info!(way = way.name, topic = envelope.topic_arn, "a subscription is confirmed");
            Ok(Taken::default())
        }
        Of::UnsubscribeConfirmation => {
            unsubscribed(app, way, &envelope).await?;
            Ok(Taken::default())
        }
    }
}

/// A topic that says nothing any more is a source that went quiet: somebody has to know.
async fn unsubscribed(app: &App, way: &Way, envelope: &Envelope) -> Result<(), Problem> {
    let shared = &app.shared;
    let notice = Notice {
        what: "way-unsubscribed".into(),
        title: "A topic sends nothing any more".into(),
        about: format!("{} {}", way.name, envelope.topic_arn),
        message: format!("the subscription of {} to {} was ended", way.name, envelope.topic_arn),
        remedy: "subscribe it again where it was not ended on purpose".into(),
        severity: Some(Severity::Medium),
    };
    let mut change = shared.control.begin().await?;
    notices::put(&mut change, &way.tenant, &notice, shared.clock.now()).await?;
    change.commit().await?;
    shared.outbox_changed.notify_one();
    Ok(())
}

fn refused(error: IngestError) -> Problem {
    match error {
        IngestError::Refused(reason) => Problem::new(problem::WAY_UNREADABLE).detail(reason),
        other => {
            tracing::warn!(error = %other, "what was sent could not be taken");
            Problem::new(problem::SERVER_NOT_READY).retry_after(5)
        }
    }
}
