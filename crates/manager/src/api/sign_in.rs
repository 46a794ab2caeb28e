//! What is open to who is not signed in: which ways there are, and signing in with a passkey. No name is typed for one, so
//! nothing here tells who exists. Single sign-on is [`super::sso`]'s.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sakimori_identity::webauthn::{self, CHALLENGE, Expected};
use sakimori_store::control::{ALL_TENANTS, Scope, passkeys, users};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::authenticate::{self, Opening, Shown, Visit, by_network, failed, throttled};
use super::extract::Body;
use super::passkeys::{PATIENCE, Party, decode, refused, unavailable};
use super::password::address_wait;
use super::problem::{self, Problem};

const PURPOSE: &str = "passkey sign-in";

/// The ways to sign in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignInWays {
    /// By name and password.
    pub password: bool,
    /// By a passkey.
    pub passkeys: bool,
    /// By providers.
    pub single_sign_on: Vec<SignInProvider>,
}

/// A provider of single sign-on.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignInProvider {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// Where a browser goes; `?return_to=/a/page` names where it ends.
    pub url: String,
}

/// What a browser signs in by a passkey from.
#[derive(Debug, Serialize, ToSchema)]
pub struct PasskeyChallenge {
    /// To be sent back with the answer.
    pub ticket: String,
    /// For `navigator.credentials.get`, in its JSON form.
    pub public_key: RequestOptions,
}

/// `PublicKeyCredentialRequestOptionsJSON`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestOptions {
    challenge: String,
    rp_id: String,
    timeout: u32,
    user_verification: &'static str,
}

/// A passkey that was used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyAnswer {
    /// That of the challenge.
    pub ticket: String,
    /// What `navigator.credentials.get` gave, as its `toJSON` writes it.
    pub credential: UsedCredential,
}

/// As much of `AuthenticationResponseJSON` as is read.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UsedCredential {
    /// Id of the credential, base64url.
    pub id: String,
    /// What the authenticator and the browser say.
    pub response: UsedResponse,
}

/// `AuthenticatorAssertionResponseJSON`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UsedResponse {
    /// base64url.
    #[serde(rename = "clientDataJSON")]
    pub client_data: String,
    /// base64url.
    #[serde(rename = "authenticatorData")]
    pub data: String,
    /// base64url.
    pub signature: String,
    /// Whose the authenticator says it is, base64url.
    #[serde(rename = "userHandle")]
    pub user: Option<String>,
}

/// `GET /sign-in`
pub async fn ways(State(app): State<App>) -> Json<SignInWays> {
    let provider = |one: &crate::sign_in::settings::Provider| SignInProvider {
        id: one.id.clone(),
        title: one.title().to_owned(),
        url: format!("/api/v1/sign-in/sso/{}", one.id),
    };
    Json(SignInWays {
        password: true,
        passkeys: Party::of(&app).is_some(),
        single_sign_on: app.shared.providers.all().map(provider).collect(),
    })
}

/// `POST /sign-in/passkey/options`
pub async fn passkey_options(State(app): State<App>) -> Result<Json<PasskeyChallenge>, Problem> {
    let party = Party::of(&app).ok_or_else(unavailable)?;
    let challenge: [u8; CHALLENGE] = super::secret::random();
    let made = app.tickets.make(PURPOSE, &challenge, app.shared.clock.now());
    let public_key = RequestOptions {
        challenge: URL_SAFE_NO_PAD.encode(challenge),
        rp_id: party.id,
        timeout: PATIENCE,
        user_verification: "required",
    };
    Ok(Json(PasskeyChallenge { ticket: made.map_err(|error| Problem::failed(&error))?, public_key }))
}

/// `POST /sign-in/passkey`: opens a session of a browser. Failures are counted by network.
pub async fn passkey(
    State(app): State<App>,
    visit: Visit,
    Body(answer): Body<PasskeyAnswer>,
) -> Result<Response, Problem> {
    if !visit.own_page {
        return Err(Problem::new(problem::AUTH_ORIGIN));
    }
    let by_address = by_network(&visit.network);
    throttled(&app, &[(ALL_TENANTS, &by_address)]).await?;
    match used(&app, &visit, &answer).await {
        Err(problem) if problem.code.code == "auth/passkey" => {
            failed(&app, &[((ALL_TENANTS, &by_address), address_wait)]).await?;
            Err(problem)
        }
        other => other,
    }
}

async fn used(app: &App, visit: &Visit, answer: &PasskeyAnswer) -> Result<Response, Problem> {
    let party = Party::of(app).ok_or_else(unavailable)?;
    let now = app.shared.clock.now();
    let ticket = app.tickets.read::<[u8; CHALLENGE]>(PURPOSE, &answer.ticket, now);
    let ticket = ticket.ok_or_else(|| refused("the ticket is used or late"))?;
    let response = &answer.credential.response;
    let id = decode(&answer.credential.id)?;
    let known = passkeys::by_credential(app.shared.control.read(), &id).await?;
    let known = known.ok_or_else(|| refused("nobody has this credential"))?;
    let user = users::get(app.shared.control.read(), &Scope::One(known.tenant.clone()), &known.user_id).await?;
    if user.disabled {
        return Err(refused("the user is disabled"));
    }
    if let Some(handle) = response.user.as_deref().filter(|handle| !handle.is_empty())
        && decode(handle)? != user.id.as_bytes()
    {
        return Err(refused("it is another user's"));
    }
    let origin = |origin: &str| party.has(origin);
    let expected = Expected { challenge: &ticket.about, party: &party.id, origin: &origin };
    let counted = u32::try_from(known.counter).unwrap_or(u32::MAX);
    let (client_data, data) = (decode(&response.client_data)?, decode(&response.data)?);
    let signature = decode(&response.signature)?;
    let counter = webauthn::used(expected, (&known.public_key, counted), &client_data, &data, &signature);
    let counter = counter.map_err(refused)?;
    if !app.tickets.take(&ticket, now) {
        return Err(refused("the ticket was used meanwhile"));
    }
    let mut change = app.shared.control.begin().await?;
    if !passkeys::used(change.connection(), &known, counter.into(), now).await? {
        return Err(refused("another use came in between"));
    }
    let way = "passkey".to_owned();
    let opening = Opening { user, way, shown: Shown::Other, browser: true, forgiven: &[] };
    authenticate::answer_in(app, change, visit, opening).await
}
