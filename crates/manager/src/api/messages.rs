//! Messages to people: the delivery log with every try, dead letters sent again, and whether a channel delivers.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_respond::actions::Safety;
use sakimori_store::control::Scope;
use sakimori_store::control::messages::{self, State as Stand, Stored, Try};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::access::Caller;
use super::extract::{Page, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done};
use crate::channels;
use crate::jobs::deliver;

/// A message, without what it says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageView {
    /// Its id, the same for every repeat.
    pub id: String,
    /// Its tenant.
    pub tenant: String,
    /// Channel.
    pub channel: String,
    /// `alert`, `close` (what an earlier message told is over) or `test`.
    pub kind: String,
    /// One line of what it says; of `close` the id of the earlier message.
    pub subject: String,
    /// `waiting`, `sending`, `sent` or `dead`.
    pub state: &'static str,
    /// How often it was tried.
    pub tries: i64,
    /// What the receiver calls it: `SEC-12`.
    pub reference: String,
    /// Why it was not sent yet, or is dead.
    pub reason: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
    /// When it is tried next, where it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retry_at: Option<Timestamp>,
}

/// A message with its tries.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageDetail {
    /// The message.
    #[serde(flatten)]
    pub message: MessageView,
    /// The actions that it carries out.
    pub actions: Vec<String>,
    /// Its facts: what a webhook is sent, and templates make words of; without the page where a question is answered.
    #[schema(value_type = Object)]
    pub facts: serde_json::Value,
    /// The first try and the newest.
    pub log: Vec<TryView>,
}

/// One try.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessageTry)]
pub struct TryView {
    /// From 1.
    pub number: i64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began: Timestamp,
    /// When it ended; absent where the manager ended meanwhile.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// `sending`, `delivered`, `not_taken` (the receiver has it not), `unknown` or `refused`.
    pub outcome: String,
    /// What came back, without secrets.
    pub answer: String,
}

/// Which messages.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct MessageQuery {
    /// `waiting`, `sending`, `sent` or `dead`.
    pub state: Option<String>,
    /// Of this channel.
    pub channel: Option<String>,
    /// Most rows, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// A channel of the configuration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub struct ChannelView {
    /// What playbooks call it.
    pub name: String,
    /// What its receiver is.
    pub kind: &'static str,
    /// The same in words.
    pub about: &'static str,
    /// `keyed`: a message is there once, however often it is tried; `repeatable`: where nobody knows whether it arrived it is
    /// repeated once, marked.
    pub repeats: &'static str,
    /// Is its receiver told when an alert is closed?
    pub closes: bool,
    /// Messages a minute at the most.
    pub per_minute: u32,
    /// Language of its messages.
    pub language: &'static str,
    /// Zone of the times in them.
    pub zone: String,
}

/// All channels.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelList {
    /// In the order of the configuration.
    pub items: Vec<ChannelView>,
}

fn view(message: Stored) -> MessageView {
    MessageView {
        id: message.id,
        tenant: message.tenant,
        channel: message.channel,
        kind: message.kind,
        subject: message.subject,
        state: message.state.name(),
        tries: message.tries,
        reference: message.reference,
        reason: message.reason,
        created: message.created,
        changed: message.changed,
        retry_at: (message.state == Stand::Waiting).then_some(message.retry_at),
    }
}

fn try_view(one: Try) -> TryView {
    let at = Timestamp::from_micros;
    TryView {
        number: one.number,
        began: at(one.began),
        ended: one.ended.map(at),
        outcome: one.outcome,
        answer: one.answer,
    }
}

/// `GET /messages`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<MessageQuery>,
) -> Result<Json<Page<MessageView>>, Problem> {
    let limit = limit(query.limit)?;
    let state = match query.state.as_deref().map(Stand::parse) {
        Some(None) => {
            let reason = "expected waiting, sending, sent or dead";
            return Err(Problem::new(problem::REQUEST_QUERY).fault("state", reason));
        }
        Some(state) => state,
        None => None,
    };
    let before: Option<(i64, String)> = place(query.cursor.as_deref())?;
    let scope = Scope::One(caller.tenant().to_owned());
    let which = (state, query.channel.as_deref());
    let rows = messages::list(app.shared.control.read(), &scope, which, before.as_ref(), limit + 1).await?;
    let place = |row: &Stored| (row.created.micros(), row.id.clone());
    Ok(Json(Page::of(rows, limit, place, view)))
}

/// `GET /messages/{id}`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<MessageDetail>, Problem> {
    let scope = Scope::One(caller.tenant().to_owned());
    let message = messages::get(app.shared.control.read(), &scope, &id).await?;
    let log = messages::tries(app.shared.control.read(), &message).await?;
    let mut facts: serde_json::Value = serde_json::from_str(&message.body).unwrap_or_default();
    // Whoever has the page of a question may answer it; who reads the log may not for that alone.
    if let Some(page) = facts.pointer_mut("/ask/url") {
        *page = serde_json::Value::Null;
    }
    Ok(Json(MessageDetail {
        actions: message.members.clone(),
        facts,
        log: log.into_iter().map(try_view).collect(),
        message: view(message),
    }))
}

/// `POST /messages/{id}/retry`
pub async fn retry(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<MessageView>), Problem> {
    let shared = &app.shared;
    let scope = Scope::One(caller.tenant().to_owned());
    let mut change = shared.control.begin().await?;
    let mut message = messages::get(change.connection(), &scope, &id).await?;
    if message.state != Stand::Dead {
        let detail = format!("message {id} is {}: a dead one alone is sent again", message.state.name());
        return Err(Problem::new(problem::MESSAGE_ALIVE).detail(detail));
    }
    if shared.channels.kind(&message.channel).is_none() {
        return Err(Problem::new(problem::CHANNEL_MISSING)
            .detail(format!("no channel named {} is configured", message.channel)));
    }
    let now = shared.clock.now();
    message.state = Stand::Waiting;
    // It counts anew; that it was tried stays, and marks what may be a repeat.
    (message.failures, message.unknown) = (0, 0);
    (message.changed, message.retry_at) = (now, now);
    messages::update(change.connection(), &message).await?;
    let done: Done<'_, ()> =
        Done { tenant: &message.tenant, action: "messages:retry", target: &message.id, before: None, after: None };
    app.done(change, &caller, done).await?;
    shared.channels.wake(&message.channel);
    Ok((StatusCode::ACCEPTED, Json(view(message))))
}

/// `GET /channels`
pub async fn channels(State(app): State<App>) -> Json<ChannelList> {
    let items = app.shared.config.notify.iter().filter_map(|channel| {
        let kind = channels::find(&channel.kind)?;
        Some(ChannelView {
            name: channel.name.clone(),
            kind: kind.id,
            about: kind.about,
            repeats: if kind.safety == Safety::Keyed { "keyed" } else { "repeatable" },
            closes: kind.closes,
            per_minute: channel.per_minute.unwrap_or(kind.rate.1),
            language: channel.language.name(),
            zone: channel.zone.clone(),
        })
    });
    Json(ChannelList { items: items.collect() })
}

/// `POST /channels/{name}/test`
pub async fn test(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<MessageView>), Problem> {
    let shared = &app.shared;
    if shared.channels.kind(&name).is_none() {
        return Err(Problem::new(problem::CHANNEL_MISSING));
    }
    let message = deliver::test(caller.tenant(), &name, &caller.actor, shared.clock.now());
    let mut change = shared.control.begin().await?;
    messages::put(change.connection(), &message, &[]).await?;
    let done: Done<'_, ()> =
        Done { tenant: caller.tenant(), action: "channels:test", target: &name, before: None, after: None };
    app.done(change, &caller, done).await?;
    shared.channels.wake(&name);
    Ok((StatusCode::ACCEPTED, Json(view(message))))
}
