//! Passkeys of local users: made in a session, named, removed. Signing in with one is [`super::sign_in`]'s.
//!
//! What goes out and comes back has the form that browsers read and write themselves
//! (`PublicKeyCredential.parseCreationOptionsFromJSON`, `toJSON`).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sakimori_identity::cose;
use sakimori_identity::webauthn::{self, CHALLENGE, Expected};
use sakimori_model::Timestamp;
use sakimori_store::control::passkeys::{self, Passkey};
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

use super::access::Caller;
use super::authenticate::Visit;
use super::extract::Body;
use super::factors::{Again, local, own_way_first};
use super::problem::{self, Problem};
use super::session::again;
use super::{App, Done, browser, secret};
use crate::sign_in::ticket::SECONDS;

/// What tickets for a new passkey are for.
const PURPOSE: &str = "passkey new";
/// Milliseconds that a browser waits for its user.
pub(super) const PATIENCE: u32 = 300_000;

/// A passkey.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Passkey)]
pub struct PasskeyView {
    /// UUIDv7.
    pub id: String,
    /// What its user calls it.
    pub name: String,
    /// Lies on more than one device.
    pub backed_up: bool,
    /// When made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When last used.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used: Option<Timestamp>,
}

impl From<Passkey> for PasskeyView {
    fn from(passkey: Passkey) -> Self {
        let Passkey { id, name, backed_up, created, last_used, .. } = passkey;
        Self { id, name, backed_up, created, last_used }
    }
}

/// For whom passkeys are made: the host that people see, and the origins of its pages.
pub(super) struct Party {
    /// The host.
    pub id: String,
    origin: Option<String>,
}

impl Party {
    /// Of an installation: the host of `api.public_url`, else `localhost`, of any port. None where people are given an
    /// address without a name, which browsers make no passkeys for.
    pub fn of(app: &App) -> Option<Self> {
        Self::at(app.shared.config.api.public_url.as_deref())
    }

    fn at(public_url: Option<&str>) -> Option<Self> {
        let Some(text) = public_url else { return Some(Self { id: "localhost".into(), origin: None }) };
        let url = Url::parse(text).ok()?;
        let Some(Host::Domain(name)) = url.host() else { return None };
        let safe = url.scheme() == "https" || name == "localhost";
        let origin = browser::origin_of(text)?.to_ascii_lowercase();
        safe.then(|| Self { id: name.to_owned(), origin: Some(origin) })
    }

    /// Is this origin that of our pages?
    pub fn has(&self, origin: &str) -> bool {
        match &self.origin {
            Some(ours) => ours == origin,
            None => Url::parse(origin).is_ok_and(|url| {
                url.host() == Some(Host::Domain("localhost")) && ["http", "https"].contains(&url.scheme())
            }),
        }
    }
}

/// What a browser makes a passkey from.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewPasskeyOptions {
    /// To be sent back with the passkey.
    pub ticket: String,
    /// For `navigator.credentials.create`, in its JSON form.
    pub public_key: CreationOptions,
}

/// `PublicKeyCredentialCreationOptionsJSON`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreationOptions {
    challenge: String,
    rp: RelyingParty,
    user: PasskeyUser,
    pub_key_cred_params: Vec<KeyKind>,
    timeout: u32,
    exclude_credentials: Vec<KnownCredential>,
    authenticator_selection: Selection,
    attestation: &'static str,
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelyingParty {
    id: String,
    name: &'static str,
}

/// For whom.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyUser {
    id: String,
    name: String,
    display_name: String,
}

/// A kind of key, by COSE's number.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyKind {
    #[serde(rename = "type")]
    kind: &'static str,
    alg: i64,
}

/// A credential that is there already.
#[derive(Debug, Serialize, ToSchema)]
pub struct KnownCredential {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
}

/// What is asked of the authenticator.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    resident_key: &'static str,
    require_resident_key: bool,
    user_verification: &'static str,
}

/// A passkey that a browser made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPasskey {
    /// That of the options.
    pub ticket: String,
    /// What its user calls it, 1 to 64 characters.
    pub name: String,
    /// What `navigator.credentials.create` gave, as its `toJSON` writes it.
    pub credential: MadeCredential,
}

/// As much of `RegistrationResponseJSON` as is read.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MadeCredential {
    /// What the authenticator and the browser say.
    pub response: MadeResponse,
}

/// `AuthenticatorAttestationResponseJSON`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MadeResponse {
    /// base64url.
    #[serde(rename = "clientDataJSON")]
    pub client_data: String,
    /// base64url.
    #[serde(rename = "attestationObject")]
    pub attestation: String,
}

/// What a ticket for a new passkey is about.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    tenant: String,
    user: String,
    challenge: [u8; CHALLENGE],
}

/// `POST /session/passkeys/options`
pub async fn options(
    State(app): State<App>,
    visit: Visit,
    caller: Caller,
    Body(body): Body<Again>,
) -> Result<Json<NewPasskeyOptions>, Problem> {
    let user = local(&app, &caller).await?;
    own_way_first(&app, &caller).await?;
    let party = Party::of(&app).ok_or_else(unavailable)?;
    again(&app, &visit, &caller, &body.password, body.code.as_deref(), "password").await?;
    let known = passkeys::of_user(app.shared.control.read(), &user.tenant, &user.id).await?;
    let begun = Begun { tenant: user.tenant, user: user.id.clone(), challenge: secret::random() };
    let ticket = app.tickets.make(PURPOSE, &begun, app.shared.clock.now()).map_err(|error| Problem::failed(&error))?;
    debug_assert!(i64::from(PATIENCE) < SECONDS * 1_000);
    let kind = "public-key";
    let public_key = CreationOptions {
        challenge: URL_SAFE_NO_PAD.encode(begun.challenge),
        rp: RelyingParty { id: party.id, name: "Sakimori" },
        user: PasskeyUser { id: URL_SAFE_NO_PAD.encode(&user.id), display_name: user.name.clone(), name: user.name },
        pub_key_cred_params: cose::ALGORITHMS.iter().map(|alg| KeyKind { kind, alg: *alg }).collect(),
        timeout: PATIENCE,
        exclude_credentials: known
            .iter()
            .map(|one| KnownCredential { kind, id: URL_SAFE_NO_PAD.encode(&one.credential) })
            .collect(),
        authenticator_selection: Selection {
            resident_key: "required",
            require_resident_key: true,
            user_verification: "required",
        },
        attestation: "none",
    };
    Ok(Json(NewPasskeyOptions { ticket, public_key }))
}

/// `POST /session/passkeys`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NewPasskey>,
) -> Result<(StatusCode, Json<PasskeyView>), Problem> {
    let user = local(&app, &caller).await?;
    own_way_first(&app, &caller).await?;
    let party = Party::of(&app).ok_or_else(unavailable)?;
    if !(1..=64).contains(&body.name.chars().count()) || body.name.chars().any(char::is_control) {
        return Err(Problem::new(problem::FACTOR_INVALID).fault("name", "a name has 1 to 64 characters"));
    }
    let now = app.shared.clock.now();
    let ticket = app.tickets.read::<Begun>(PURPOSE, &body.ticket, now);
    let ticket = ticket.filter(|ticket| ticket.about.tenant == user.tenant && ticket.about.user == user.id);
    let ticket = ticket.ok_or_else(|| refused("the ticket is used, late or another one's"))?;
    let response = &body.credential.response;
    let origin = |origin: &str| party.has(origin);
    let expected = Expected { challenge: &ticket.about.challenge, party: &party.id, origin: &origin };
    let (client_data, attestation) = (decode(&response.client_data)?, decode(&response.attestation)?);
    let made = webauthn::made(expected, &client_data, &attestation).map_err(refused)?;
    if !app.tickets.take(&ticket, now) {
        return Err(refused("the ticket was used meanwhile"));
    }
    let passkey = Passkey {
        tenant: user.tenant,
        id: sakimori_model::id::row_id(),
        user_id: user.id,
        name: body.name,
        credential: made.credential,
        public_key: made.public_key,
        counter: made.counter.into(),
        backed_up: made.backed_up,
        created: now,
        last_used: None,
    };
    let mut change = app.shared.control.begin().await?;
    passkeys::create(change.connection(), &passkey).await?;
    let view = PasskeyView::from(passkey);
    let done =
        Done { tenant: &caller.home, action: "factors:passkey", target: &view.id, before: None, after: Some(&view) };
    app.done(change, &caller, done).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// `DELETE /session/passkeys/{id}`
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let user = caller.person()?;
    own_way_first(&app, &caller).await?;
    let mut change = app.shared.control.begin().await?;
    passkeys::delete(change.connection(), &caller.home, user, &id).await?;
    let done: Done<'_, ()> =
        Done { tenant: &caller.home, action: "factors:passkey-remove", target: &id, before: None, after: None };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Bytes of base64url.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    let fine = text.len() <= webauthn::MOST * 2;
    URL_SAFE_NO_PAD.decode(if fine { text } else { "=" }).map_err(refused)
}

/// The same answer whatever is wrong; the log has the reason.
pub(super) fn refused(reason: impl std::fmt::Display) -> Problem {
    tracing::warn!(%reason, "a passkey was not accepted");
    Problem::new(problem::AUTH_PASSKEY)
}

/// Passkeys need a name that people reach the manager by.
pub(super) fn unavailable() -> Problem {
    Problem::new(problem::FACTOR_UNAVAILABLE).detail("passkeys need api.public_url with https and a host name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_for_a_name_and_its_own_origin() {
        let at = |url| Party::at(url).map(|party| party.id);
        assert_eq!(at(Some("https://sakimori.example:7600/x")).as_deref(), Some("sakimori.example"));
        assert_eq!(at(Some("http://localhost:7600")).as_deref(), Some("localhost"));
        assert_eq!(at(None).as_deref(), Some("localhost"));
        for without in ["https://192.0.2.1", "http://sakimori.example", "nonsense"] {
            assert_eq!(at(Some(without)), None, "{without}");
        }
        let party = Party::at(Some("https://sakimori.example:7600/x")).unwrap();
        assert!(party.has("https://sakimori.example:7600"));
        for other in ["https://sakimori.example", "http://sakimori.example:7600", "https://a.sakimori.example:7600", ""]
        {
            assert!(!party.has(other), "{other}");
        }
        let here = Party::at(None).unwrap();
        assert!(here.has("http://localhost:7600") && !here.has("http://localhost.evil.example") && !here.has("null"));
    }
}
