//! Single sign-on (OpenID Connect Core 1.0, authorization code with PKCE, RFC 7636): what a provider publishes of itself,
//! where a browser is sent, and whether the token that comes back is this provider's word about somebody, to us, now.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use url::{Host, Url};

use crate::jwt;

/// Longest description of a provider, in bytes.
pub const MOST_DESCRIPTION: usize = 64 << 10;
/// Seconds that the provider's clock may be off.
pub const SKEW: i64 = 60;
/// Oldest token, in seconds since it was issued: it is fetched at once.
pub const OLDEST: i64 = 600;
/// Most groups of somebody that are looked at.
pub const MOST_GROUPS: usize = 2_000;
/// Most audiences of a token.
const MOST_AUDIENCES: usize = 16;
/// Longest subject (OpenID Connect Core 1.0, section 2).
const MOST_SUBJECT: usize = 255;
/// Longest claim that is shown.
const MOST_TEXT: usize = 320;

/// Why a provider or its word is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The description cannot be used.
    #[error("the provider's description is not one that can be used: {0}")]
    Description(&'static str),
    /// The token itself.
    #[error(transparent)]
    Token(#[from] jwt::Refused),
    /// A claim.
    #[error("the token's claim {0} is not right")]
    Claim(&'static str),
}

/// Can this be an issuer: https, or http on this machine, with nothing behind the path?
///
/// # Errors
/// Why not.
pub fn check_issuer(issuer: &str) -> Result<(), String> {
    let url = Url::parse(issuer).map_err(|error| format!("{issuer:?} is no URL: {error}"))?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(format!("{issuer:?}: expected a URL without user, query and fragment"));
    }
    if safe(&url) { Ok(()) } else { Err(format!("{issuer:?}: expected https (http is for this machine alone)")) }
}

fn safe(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.has_host() && (url.scheme() == "https" || (url.scheme() == "http" && here))
}

/// Where a provider describes itself (OpenID Connect Discovery 1.0, section 4).
pub fn description_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

/// What a provider publishes of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Where people sign in.
    pub authorization: Url,
    /// Where a code becomes a token.
    pub token: Url,
    /// Where its keys are.
    pub keys: Url,
    /// Where people sign out, where it says so.
    pub sign_out: Option<Url>,
    /// Does its answer name its issuer (RFC 9207)?
    pub names_issuer: bool,
    /// Does it take the client's secret in the form instead of the header, and there alone?
    pub secret_in_form: bool,
}

#[derive(Deserialize)]
struct Published {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    end_session_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    id_token_signing_alg_values_supported: Option<Vec<String>>,
}

impl Description {
    /// Reads what the provider of this issuer publishes.
    ///
    /// # Errors
    /// It is another's, unsafe, or signs by nothing that is known.
    pub fn read(bytes: &[u8], issuer: &str) -> Result<Self, Refused> {
        if bytes.len() > MOST_DESCRIPTION {
            return Err(Refused::Description("it is too large"));
        }
        let said: Published =
            serde_json::from_slice(bytes).map_err(|_| Refused::Description("it is no description"))?;
        if said.issuer != issuer {
            return Err(Refused::Description("it is of another issuer"));
        }
        let known = |all: Vec<String>| all.iter().any(|one| jwt::ALGORITHMS.contains(&one.as_str()));
        if !said.id_token_signing_alg_values_supported.is_none_or(known) {
            return Err(Refused::Description("it signs by none of RS256, ES256, EdDSA"));
        }
        let place = |text: &str| {
            Url::parse(text).ok().filter(safe).ok_or(Refused::Description("an address in it is not https"))
        };
        let methods = said.token_endpoint_auth_methods_supported.unwrap_or_default();
        let takes = |name: &str| methods.iter().any(|method| method == name);
        Ok(Self {
            authorization: place(&said.authorization_endpoint)?,
            token: place(&said.token_endpoint)?,
            keys: place(&said.jwks_uri)?,
            sign_out: said.end_session_endpoint.as_deref().map(place).transpose()?,
            names_issuer: said.authorization_response_iss_parameter_supported,
            secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }
}

/// What a browser is sent to a provider with.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the provider calls us.
    pub client: &'a str,
    /// Where it sends the browser back to.
    pub back: &'a str,
    /// Scopes beside `openid`.
    pub scopes: &'a [String],
    /// Comes back as it is: binds the answer to the browser.
    pub state: &'a str,
    /// Comes back in the token: binds it to this request.
    pub nonce: &'a str,
    /// The secret of the exchange, of which only the hash is sent now.
    pub verifier: &'a str,
}

/// Where a browser is sent.
pub fn sign_in_url(description: &Description, request: &Request<'_>) -> String {
    let mut url = description.authorization.clone();
    let scopes: Vec<&str> = std::iter::once("openid").chain(request.scopes.iter().map(String::as_str)).collect();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", request.client)
        .append_pair("redirect_uri", request.back)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("state", request.state)
        .append_pair("nonce", request.nonce)
        .append_pair("code_challenge", &challenge(request.verifier))
        .append_pair("code_challenge_method", "S256");
    url.into()
}

/// Where a browser is sent to be signed out (OpenID Connect RP-Initiated Logout 1.0).
pub fn sign_out_url(description: &Description, client: &str, back: &str) -> Option<String> {
    let mut url = description.sign_out.clone()?;
    url.query_pairs_mut().append_pair("client_id", client).append_pair("post_logout_redirect_uri", back);
    Some(url.into())
}

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// What a token is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// What it calls us.
    pub client: &'a str,
    /// What the browser was sent with.
    pub nonce: &'a str,
    /// Seconds since 1970.
    pub now: i64,
}

/// Somebody, as a provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The provider's own name of the account.
    pub subject: String,
    /// What the claims say else.
    claims: Map<String, Value>,
}

impl Account {
    /// A claim that is text; none where it is too long to be shown.
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str().filter(|text| (1..=MOST_TEXT).contains(&text.len()))
    }

    /// The address, where the provider says that it is verified.
    pub fn verified_email(&self) -> Option<&str> {
        let verified = self.claims.get("email_verified") == Some(&Value::Bool(true));
        self.text("email").filter(|_| verified)
    }

    /// Is this one of the groups that a claim lists?
    pub fn is_in(&self, claim: &str, group: &str) -> bool {
        match self.claims.get(claim) {
            Some(Value::String(one)) => one == group,
            Some(Value::Array(all)) => all.iter().take(MOST_GROUPS).any(|one| one.as_str() == Some(group)),
            _ => false,
        }
    }

    /// Is the verified address of this domain?
    pub fn is_of_domain(&self, domain: &str) -> bool {
        let of = self.verified_email().and_then(|email| email.rsplit_once('@'));
        of.is_some_and(|(name, of)| !name.is_empty() && !name.contains('@') && of.eq_ignore_ascii_case(domain))
    }
}

/// Who signed in, by a token (OpenID Connect Core 1.0, section 3.1.3.7).
///
/// # Errors
/// Why it is not accepted; [`jwt::Refused::Unknown`] may change with newer keys.
pub fn account(token: &str, keys: &jwt::Keys, expected: Expected<'_>) -> Result<Account, Refused> {
    let claims = jwt::verify(token, keys)?;
    let text = |name: &'static str| claims.get(name).and_then(Value::as_str);
    let wrong = |name| Err(Refused::Claim(name));
    if text("iss") != Some(expected.issuer) {
        return wrong("iss");
    }
    let several = match claims.get("aud") {
        Some(Value::String(one)) if one == expected.client => false,
        Some(Value::Array(all)) if all.len() <= MOST_AUDIENCES => {
            if !all.iter().any(|one| one.as_str() == Some(expected.client)) {
                return wrong("aud");
            }
            all.len() > 1
        }
        _ => return wrong("aud"),
    };
    match claims.get("azp") {
        None if !several => {}
        Some(Value::String(party)) if party == expected.client => {}
        _ => return wrong("azp"),
    }
    // Whole seconds, or with a fraction (RFC 7519, section 2).
    #[expect(clippy::cast_possible_truncation, reason = "a float is cut to the nearest whole number that there is")]
    let number = |name: &'static str| match claims.get(name) {
        Some(Value::Number(number)) => number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64)),
        _ => None,
    };
    let now = expected.now;
    if number("exp").is_none_or(|exp| exp.saturating_add(SKEW) <= now) {
        return wrong("exp");
    }
    if number("iat").is_none_or(|iat| iat > now + SKEW || iat < now - OLDEST - SKEW) {
        return wrong("iat");
    }
    if claims.contains_key("nbf") && number("nbf").is_none_or(|nbf| nbf > now + SKEW) {
        return wrong("nbf");
    }
    let nonce = text("nonce").unwrap_or_default();
    if expected.nonce.is_empty() || !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return wrong("nonce");
    }
    match text("sub") {
        Some(subject) if (1..=MOST_SUBJECT).contains(&subject.len()) => {
            Ok(Account { subject: subject.to_owned(), claims })
        }
        _ => wrong("sub"),
    }
}
