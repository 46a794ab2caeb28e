//! Enrolment tokens: one line of text with which a host joins. It carries the manager's address and the SHA-256 of its
//! CA, so the host's first connection is verified already. It works once, or for a group as often as it says: launch
//! templates and images carry such a one, bound by count, time and network.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sakimori_model::{Network, Timestamp};
use sakimori_store::control::enrolment::{self, Token};
use sakimori_store::control::{ControlError, Scope, agents};
use sakimori_wire::token::EnrolmentToken;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done, secret};
use crate::package::{self, Package};

/// Longest life of a one-time token, in hours.
const HOURS: i64 = 24 * 30;
/// Longest life of a group's token, in hours: templates live long.
const GROUP_HOURS: i64 = 24 * 366;
/// Most hosts of one token.
const MOST_USES: i64 = 10_000;
/// Hosts that are shown of one token.
const MOST_SHOWN: i64 = 1_000;
/// Most networks of one token.
const MOST_NETWORKS: usize = 32;

/// An enrolment token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Enrolment)]
pub struct EnrolmentView {
    /// UUIDv7.
    pub id: String,
    /// Tenant of the agent that it makes.
    pub tenant: String,
    /// Name for people.
    pub name: String,
    /// Tags that its agent gets.
    pub tags: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// How many hosts it may enrol; 1 is a one-time token.
    pub most_uses: i64,
    /// How many it did.
    pub uses: i64,
    /// From where it may be used; empty: from anywhere.
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    /// When it was last used.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used: Option<Timestamp>,
    /// The agent that it made last.
    pub used_by: Option<String>,
}

impl From<Token> for EnrolmentView {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            tenant: token.tenant,
            name: token.name,
            tags: token.tags,
            created_by: token.created_by,
            created: token.created,
            expires: token.expires,
            most_uses: token.most_uses,
            uses: token.uses,
            networks: token.networks,
            used: token.used,
            used_by: token.used_by,
        }
    }
}

/// An enrolment token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEnrolment {
    /// Name for people, 1 to 64 characters.
    pub name: String,
    /// Tags that its agent gets.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Hours that it is good for, 1 to 720, of a group's token to 8784; 24 where absent.
    pub hours: Option<i64>,
    /// How many hosts it may enrol, 1 to 10000; 1 where absent.
    pub uses: Option<i64>,
    /// Networks from which it may be used, at most 32; from anywhere where absent.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
}

/// An enrolment token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeEnrolment {
    /// What is given to `sakimori-agent enroll`: shown now and never again.
    pub token: String,
    /// What is typed on a Debian host, line by line: the package is fetched from this manager, compared with its SHA-256 and
    /// installed, and the host enrolled. Where the manager has no package, it has to lie beside.
    pub commands: Vec<String>,
    /// The package that hosts fetch from this manager with the token; null where it has none.
    pub package: Option<Package>,
    /// Where the manager looked for it.
    pub package_wanted: String,
    /// Does the token lead to this machine only? Then other hosts need another address: `link.advertise`.
    pub only_here: bool,
    /// The token.
    pub enrolment: EnrolmentView,
}

/// A token and the hosts that joined by it.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrolmentStatus {
    /// The token.
    pub enrolment: EnrolmentView,
    /// Can it still enrol a host?
    pub open: bool,
    /// Hosts that joined by it, the newest 1000.
    pub hosts: Vec<EnrolledHost>,
}

/// A host that joined.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrolledHost {
    /// Its agent.
    pub agent: String,
    /// Host name.
    pub host: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub enrolled: Timestamp,
    /// As its agent's state is listed.
    pub state: String,
}

/// `GET /enrolment-tokens/{id}`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<EnrolmentStatus>, Problem> {
    let pool = app.shared.control.read();
    let token = enrolment::get(pool, caller.tenant(), &id).await?;
    let hosts = agents::of_token(pool, caller.tenant(), &id, MOST_SHOWN).await?;
    let hosts = hosts.into_iter().map(|agent| EnrolledHost {
        state: crate::presence::shown(&agent, app.shared.links.connected(&agent.id)),
        agent: agent.id,
        host: agent.name,
        enrolled: agent.enrolled,
    });
    let open = token.uses < token.most_uses && token.expires > app.shared.clock.now();
    Ok(Json(EnrolmentStatus { enrolment: token.into(), open, hosts: hosts.collect() }))
}

/// `GET /enrolment-tokens`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<EnrolmentView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: String = place(query.cursor.as_deref())?.unwrap_or_default();
    let scope = Scope::One(caller.tenant().to_owned());
    let rows = enrolment::list(app.shared.control.read(), &scope, &after, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |token| token.id.clone(), EnrolmentView::from)))
}

/// `POST /enrolment-tokens`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewEnrolment>,
) -> Result<(StatusCode, Json<MadeEnrolment>), Problem> {
    let wrong = |place: &str, reason: &str| Problem::new(problem::ENROLMENT_INVALID).fault(place, reason);
    if !(1..=64).contains(&new.name.chars().count()) || new.name.chars().any(char::is_control) {
        return Err(wrong("name", "a name has 1 to 64 characters"));
    }
    if new.tags.len() > 32 || !new.tags.iter().all(|tag| slug(tag)) {
        return Err(wrong("tags", "at most 32 tags, each of 1 to 63 lower-case letters, digits, - and _"));
    }
    let uses = new.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        return Err(wrong("uses", "expected 1 to 10000"));
    }
    let (hours, longest) = (new.hours.unwrap_or(24), if uses > 1 { GROUP_HOURS } else { HOURS });
    if !(1..=longest).contains(&hours) {
        return Err(wrong("hours", &format!("expected 1 to {longest}")));
    }
    if new.networks.len() > MOST_NETWORKS {
        return Err(wrong("networks", "at most 32 networks"));
    }
    let shared = &app.shared;
    let (now, secret) = (shared.clock.now(), URL_SAFE_NO_PAD.encode(secret::random::<32>()));
    let token = Token {
        tenant: caller.tenant().to_owned(),
        id: sakimori_model::id::row_id(),
        name: new.name,
        tags: new.tags,
        created_by: caller.actor.clone(),
        created: now,
        expires: now.plus_secs(hours * 3_600),
        most_uses: uses,
        uses: 0,
        networks: new.networks,
        used: None,
        used_by: None,
    };
    let mut change = shared.control.begin().await?;
    enrolment::create(change.connection(), &token, &Sha256::digest(secret.as_bytes()).into()).await?;
    let enrolment = EnrolmentView::from(token);
    let done = Done {
        tenant: &enrolment.tenant,
        action: "enrolment-tokens:create",
        target: &enrolment.id,
        before: None,
        after: Some(&enrolment),
    };
    app.done(change, &caller, done).await?;
    let text =
        EnrolmentToken { address: crate::link::advertised(shared), ca_sha256: shared.authority.ca_sha256(), secret };
    let address = text.host_port().and_then(|(host, _)| host.parse::<IpAddr>().ok());
    let only_here = address.is_some_and(|address| address.is_loopback() || address.is_unspecified());
    let link = &shared.config.link;
    // A token that was made is shown, whatever is wrong with the package.
    let package = package::find(link).await.unwrap_or_else(|problem| {
        tracing::warn!(error = %problem, "the agent's package could not be read");
        None
    });
    let commands = package::commands(&text, shared.authority.ca_pem(), package.as_ref());
    let (token, package_wanted) = (text.to_string(), package::wanted(link).display().to_string());
    Ok((StatusCode::CREATED, Json(MadeEnrolment { token, commands, package, package_wanted, only_here, enrolment })))
}

/// `DELETE /enrolment-tokens/{id}`: a token that was used goes from the list; its agent stays.
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let scope = Scope::One(caller.tenant().to_owned());
    let mut change = app.shared.control.begin().await?;
    match enrolment::delete(change.connection(), &scope, &id).await {
        Err(ControlError::Missing(_)) => return Err(Problem::new(problem::ENROLMENT_MISSING)),
        other => other?,
    }
    let done: Done<'_, ()> =
        Done { tenant: caller.tenant(), action: "enrolment-tokens:delete", target: &id, before: None, after: None };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// May this be a tag, which names a policy layer too?
pub(super) fn slug(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}
