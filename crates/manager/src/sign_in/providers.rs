//! What is asked of providers of single sign-on, by the one HTTP client: their description, their keys, a token for a code.
//!
//! Answers are bounded in size and time. Description and keys are kept; keys are fetched anew when a token names one that
//! is not there, at most every [`PAUSE`] seconds, so that neither a provider's rotation nor a forged token is a bother. A
//! provider that does not answer is not asked again for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::RequestBuilder;
use sakimori_identity::jwt::{self, Keys};
use sakimori_identity::oidc::{self, Account, Description, Expected};
use sakimori_model::Timestamp;
use sakimori_runtime::Secret;
use sakimori_store::control::DEFAULT_TENANT;
use serde::Deserialize;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::settings::{Provider, SignIn};
use crate::shared::Shared;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds for which a description is kept.
const KEEP: i64 = 3_600;
/// Seconds between two fetches of keys, and after a failure.
const PAUSE: i64 = 10;
/// Longest answer to a code, in bytes.
const MOST_ANSWER: usize = 64 << 10;
/// Longest file with a client's secret.
const MOST_SECRET: u64 = 4_096;

/// Why a sign-in at a provider did not come about. It goes to the log; people are told that it failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot be reached, or its answer is too large or says no.
    #[error("ask the provider {id} at {place}: {reason}")]
    Unreachable {
        /// The provider.
        id: String,
        /// What was asked for.
        place: String,
        /// What came back.
        reason: String,
    },
    /// Its word is not accepted.
    #[error("the provider {id}: {reason}")]
    Refused {
        /// The provider.
        id: String,
        /// Why.
        reason: oidc::Refused,
    },
    /// The secret of the client cannot be read.
    #[error("the secret of the client at the provider {0}: {1}")]
    Secret(String, String),
}

/// All providers of the configuration.
#[derive(Default)]
pub struct Providers(BTreeMap<String, Arc<Known>>);

/// One of them, and what is known of it.
pub struct Known {
    /// As it is configured.
    pub provider: Provider,
    client: reqwest::Client,
    kept: Mutex<Kept>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    description: Option<(Timestamp, Arc<Description>)>,
    keys: Option<(Timestamp, Arc<Keys>)>,
    failed: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Answer {
    id_token: String,
}

impl Providers {
    /// Of a configuration. Nothing is asked yet.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn open(settings: &SignIn) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let mut all = BTreeMap::new();
        for provider in &settings.oidc {
            let mut builder = sakimori_runtime::http::builder(PATIENCE);
            if let Some(path) = &provider.ca_file {
                let pem = std::fs::read(path)
                    .with_context(|| format!("read {}, ca_file of sign_in.oidc {:?}", path.display(), provider.id))?;
                builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
            }
            let known = Known {
                provider: provider.clone(),
                client: builder.build()?,
                kept: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
            };
            all.insert(provider.id.clone(), Arc::new(known));
        }
        Ok(Self(all))
    }

    /// The provider of this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Known>> {
        self.0.get(id)
    }

    /// All of them, by id.
    pub fn all(&self) -> impl Iterator<Item = &Provider> {
        self.0.values().map(|known| &known.provider)
    }
}

impl Known {
    /// What the provider publishes of itself.
    ///
    /// # Errors
    /// It cannot be reached, or published something else.
    pub async fn description(&self, now: Timestamp) -> Result<Arc<Description>, Failure> {
        let fresh = |kept: &Kept| {
            kept.description.as_ref().filter(|(at, _)| is_within(*at, now, KEEP)).map(|(_, one)| Arc::clone(one))
        };
        if let Some(found) = fresh(&self.kept()) {
            return Ok(found);
        }
        // Many who come at once ask once.
        let _turn = self.turn.lock().await;
        let (found, failed, old) = {
            let kept = self.kept();
            let failed = kept.failed.is_some_and(|at| is_within(at, now, PAUSE));
            (fresh(&kept), failed, kept.description.as_ref().map(|(_, one)| Arc::clone(one)))
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let url = oidc::description_url(&self.provider.issuer);
        if failed {
            return old.ok_or_else(|| self.unreachable(&url, "it failed a moment ago"));
        }
        let read = match self.fetch(self.client.get(&url), &url, oidc::MOST_DESCRIPTION).await {
            Ok(bytes) => Description::read(&bytes, &self.provider.issuer).map_err(|reason| self.refused(reason)),
            Err(error) => Err(error),
        };
        match read {
            Ok(read) => {
                let read = Arc::new(read);
                self.kept().description = Some((now, Arc::clone(&read)));
                Ok(read)
            }
            Err(error) => {
                self.kept().failed = Some(now);
                // A provider that is away for a moment is still where it was.
                old.ok_or(error)
            }
        }
    }

    /// The description, where it is known already.
    pub fn known_description(&self) -> Option<Arc<Description>> {
        self.kept().description.as_ref().map(|(_, one)| Arc::clone(one))
    }

    async fn keys(
        &self,
        description: &Description,
        now: Timestamp,
        older_than: Option<Timestamp>,
    ) -> Result<(Timestamp, Arc<Keys>), Failure> {
        let fits = |kept: &Kept| {
            let found = kept.keys.as_ref().filter(|(at, _)| is_within(*at, now, KEEP));
            let renewed = |at: Timestamp| older_than.is_none_or(|than| at > than || is_within(at, now, PAUSE));
            found.filter(|(at, _)| renewed(*at)).map(|(at, keys)| (*at, Arc::clone(keys)))
        };
        if let Some(found) = fits(&self.kept()) {
            return Ok(found);
        }
        let _turn = self.turn.lock().await;
        if let Some(found) = fits(&self.kept()) {
            return Ok(found);
        }
        let place = description.keys.as_str();
        let bytes = self.fetch(self.client.get(place), place, jwt::MOST_SET).await?;
        let keys = Keys::read(&bytes).filter(|keys| !keys.is_empty());
        let keys = Arc::new(keys.ok_or_else(|| self.unreachable(place, "it gave no keys that can be used"))?);
        self.kept().keys = Some((now, Arc::clone(&keys)));
        Ok((now, keys))
    }

    /// Who signed in: the code becomes a token, and the token is held against what the browser was sent with.
    ///
    /// # Errors
    /// The provider says no or cannot be reached, or its token is not accepted.
    pub async fn account(
        &self,
        shared: &Shared,
        (code, back): (&str, &str),
        (verifier, nonce): (&str, &str),
    ) -> Result<Account, Failure> {
        let now = shared.clock.now();
        let description = self.description(now).await?;
        let token = self.token(shared, &description, (code, back), verifier).await?;
        let expected = Expected {
            issuer: &self.provider.issuer,
            client: &self.provider.client_id,
            nonce,
            now: now.micros().div_euclid(1_000_000),
        };
        let (at, keys) = self.keys(&description, now, None).await?;
        let read = match oidc::account(&token, &keys, expected) {
            Err(oidc::Refused::Token(jwt::Refused::Unknown)) => {
                let (_, keys) = self.keys(&description, now, Some(at)).await?;
                oidc::account(&token, &keys, expected)
            }
            read => read,
        };
        read.map_err(|reason| self.refused(reason))
    }

    async fn token(
        &self,
        shared: &Shared,
        description: &Description,
        exchanged: (&str, &str),
        verifier: &str,
    ) -> Result<String, Failure> {
        let secret = self.secret(shared).await?;
        let request = self.exchange(description, exchanged, verifier, secret);
        let place = description.token.as_str();
        let bytes = self.fetch(request, place, MOST_ANSWER).await?;
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|_| self.unreachable(place, "its answer holds no id_token"))?;
        Ok(answer.id_token)
    }

    /// The request by which a code becomes a token (RFC 6749, section 4.1.3; RFC 7636).
    fn exchange(
        &self,
        description: &Description,
        (code, back): (&str, &str),
        verifier: &str,
        secret: Option<Secret<String>>,
    ) -> RequestBuilder {
        let client = self.provider.client_id.as_str();
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code").append_pair("code", code);
        form.append_pair("redirect_uri", back).append_pair("code_verifier", verifier);
        let mut request = self.client.post(description.token.clone());
        match secret {
            // RFC 6749, section 2.3.1: both are encoded as in a form, then joined.
            Some(secret) if !description.secret_in_form => {
                let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = STANDARD.encode(format!("{}:{}", encode(client), encode(secret.expose())));
                request = request.header("authorization", format!("Basic {pair}"));
            }
            Some(secret) => {
                form.append_pair("client_id", client).append_pair("client_secret", secret.expose());
            }
            None => {
                form.append_pair("client_id", client);
            }
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header("accept", "application/json").body(form.finish())
    }

    async fn secret(&self, shared: &Shared) -> Result<Option<Secret<String>>, Failure> {
        let fail = |reason: String| Failure::Secret(self.provider.id.clone(), reason);
        let bytes = match (&self.provider.secret_file, &self.provider.secret) {
            (Some(path), _) => {
                let read = std::fs::metadata(path).and_then(|file| match file.len() {
                    0..=MOST_SECRET => std::fs::read(path),
                    _ => Err(std::io::Error::other("it is too large")),
                });
                Secret::new(read.map_err(|error| fail(format!("read {}: {error}", path.display())))?)
            }
            (None, Some(name)) => {
                let (tenant, name) = name.split_once('/').unwrap_or((DEFAULT_TENANT, name));
                let found = shared.sealing.named(&shared.control, tenant, name).await;
                let found = found.map_err(|error| fail(error.to_string()))?;
                found.ok_or_else(|| fail(format!("it is not set; sakimori secrets set {name} sets it")))?
            }
            (None, None) => return Ok(None),
        };
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| fail("it is no text".into()))?;
        Ok(Some(Secret::new(text.trim().to_owned())))
    }

    /// An answer of 200, of so many bytes at the most.
    async fn fetch(&self, request: RequestBuilder, place: &str, most: usize) -> Result<Vec<u8>, Failure> {
        let mut response = request.send().await.map_err(|error| self.unreachable(place, error.without_url()))?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(self.unreachable(place, format_args!("it answered {}", response.status())));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(place, error.without_url()))? {
            if bytes.len() + piece.len() > most {
                return Err(self.unreachable(place, format_args!("its answer has more than {most} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn unreachable(&self, place: &str, reason: impl std::fmt::Display) -> Failure {
        Failure::Unreachable { id: self.provider.id.clone(), place: place.to_owned(), reason: reason.to_string() }
    }

    fn refused(&self, reason: oidc::Refused) -> Failure {
        Failure::Refused { id: self.provider.id.clone(), reason }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_within(at: Timestamp, now: Timestamp, seconds: i64) -> bool {
    (0..seconds * 1_000_000).contains(&now.since(at))
}
