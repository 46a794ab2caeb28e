//! Single sign-on against a strict provider of our own: it takes a code once, for the address and the verifier that it was
//! asked with, from the client that knows its secret. Then against hostile ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode as Status};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use sakimori_manager::sign_in::settings::{Grant, Provider as Configured};
use sakimori_runtime::SystemClock;
use sakimori_runtime::clock::{Clock, ManualClock};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::browser::{Browser, told};
use super::sessions::PASSWORD;
use super::support::{Answer, World};

const HOME: &str = "http://localhost:7600";
const BACK: &str = "http://localhost:7600/api/v1/sign-in/sso/corp/callback";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

struct Signer(EcdsaKeyPair, String);

impl Signer {
    fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        Self(pair, id.to_owned())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": self.1, "x": b64(&point[1..33]), "y": b64(&point[33..])})
    }

    fn token(&self, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(json!({"alg": "ES256", "kid": self.1}).to_string()), b64(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature.as_ref()))
    }
}

/// What the provider knows of a code.
struct Given {
    challenge: String,
    token: String,
}

struct Inner {
    issuer: String,
    signer: Signer,
    /// What it publishes, where that is not its key.
    keys: Option<String>,
    codes: BTreeMap<String, Given>,
    /// How often its keys were asked for.
    asked: u32,
    serial: u32,
}

/// A provider on this machine.
#[derive(Clone)]
struct Provider(Arc<Mutex<Inner>>);

impl Provider {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let inner =
            Inner { issuer, signer: Signer::new("k1"), keys: None, codes: BTreeMap::new(), asked: 0, serial: 0 };
        let provider = Self(Arc::new(Mutex::new(inner)));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(describe))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        provider
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The configuration of a manager that trusts it.
    fn configured(&self, secret_file: &std::path::Path) -> Configured {
        let grant = |group: &str, role: &str, tenant: &str| Grant {
            group: Some(group.into()),
            role: role.into(),
            tenant: tenant.into(),
            ..Grant::default()
        };
        Configured {
            id: "corp".into(),
            issuer: self.inner().issuer.clone(),
            client_id: "sakimori".into(),
            secret_file: Some(secret_file.to_owned()),
            create: true,
            grants: vec![
                grant("ops", "operator", "default"),
                grant("ghosts", "viewer", "nowhere"),
                Grant { group: None, email_domain: Some("corp.example".into()), ..grant("", "viewer", "default") },
            ],
            ..Configured::default()
        }
    }

    /// Somebody signs in there: the code, for what the browser was sent with.
    fn sign_in(&self, sent: &Url, now: i64, change: impl FnOnce(&mut Value)) -> String {
        let asked: BTreeMap<String, String> = sent.query_pairs().into_owned().collect();
        assert_eq!(asked["redirect_uri"], BACK);
        assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
        let mut inner = self.inner();
        let mut claims = json!({"iss": inner.issuer, "aud": "sakimori", "sub": "s-1", "nonce": asked["nonce"], "iat": now,
                                "exp": now + 300, "preferred_username": "mia", "groups": ["ops"]});
        change(&mut claims);
        let token = match claims.get("token").and_then(Value::as_str) {
            Some(whole) => whole.to_owned(),
            None => inner.signer.token(&claims),
        };
        inner.serial += 1;
        let code = format!("code-{}", inner.serial);
        inner.codes.insert(code.clone(), Given { challenge: asked["code_challenge"].clone(), token });
        code
    }
}

async fn describe(State(provider): State<Provider>) -> Json<Value> {
    let issuer = provider.inner().issuer.clone();
    let at = |path: &str| format!("{issuer}/{path}");
    Json(
        json!({"issuer": issuer, "authorization_endpoint": at("auth"), "token_endpoint": at("token"), "jwks_uri": at("keys"),
                "end_session_endpoint": at("out"), "authorization_response_iss_parameter_supported": true}),
    )
}

async fn keys(State(provider): State<Provider>) -> String {
    let mut inner = provider.inner();
    inner.asked += 1;
    inner.keys.clone().unwrap_or_else(|| json!({"keys": [inner.signer.jwk()]}).to_string())
}

async fn token(State(provider): State<Provider>, headers: HeaderMap, body: String) -> Result<Json<Value>, Status> {
    let said: BTreeMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let basic = format!("Basic {}", STANDARD.encode("sakimori:a+secret%21"));
    if headers.get("authorization").is_none_or(|shown| shown.as_bytes() != basic.as_bytes()) {
        return Err(Status::UNAUTHORIZED);
    }
    let given = provider.inner().codes.remove(&said["code"]).ok_or(Status::BAD_REQUEST)?;
    let fits = given.challenge == b64(Sha256::digest(&said["code_verifier"]));
    if !fits || said["redirect_uri"] != BACK || said["grant_type"] != "authorization_code" {
        return Err(Status::BAD_REQUEST);
    }
    Ok(Json(json!({"access_token": "unused", "token_type": "Bearer", "id_token": given.token})))
}

/// A manager that trusts a provider, and somebody's browser.
struct Site {
    world: World,
    provider: Provider,
    clock: Arc<ManualClock>,
    _secret: tempfile::TempDir,
}

impl Site {
    async fn start(change: impl FnOnce(&mut Configured)) -> Self {
        let provider = Provider::start().await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "a secret!\n").unwrap();
        let mut configured = provider.configured(&file);
        change(&mut configured);
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let world = World::start_with(clock.clone(), |config| {
            config.api.public_url = Some(HOME.into());
            config.sign_in.oidc = vec![configured];
        })
        .await;
        Self { world, provider, clock, _secret: dir }
    }

    fn now(&self) -> i64 {
        self.clock.now().micros() / 1_000_000
    }

    /// Sends a browser off; where to.
    async fn begin(&self, browser: &mut Browser<'_>) -> Url {
        let answer = browser.send_with("GET", "/api/v1/sign-in/sso/corp?return_to=/alerts", &Value::Null, &[]).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let set = answer.headers["set-cookie"].to_str().unwrap();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        Url::parse(answer.headers["location"].to_str().unwrap()).unwrap()
    }

    /// Brings it back with these parameters; where it ends.
    async fn end(&self, browser: &mut Browser<'_>, parameters: &[(&str, &str)]) -> String {
        let mut url = Url::parse(BACK).unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        let path = format!("{}?{}", url.path(), url.query().unwrap());
        let headers = [("sec-fetch-site", "cross-site".to_owned())];
        let answer = browser.send_with("GET", &path, &Value::Null, &headers).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        answer.headers["location"].to_str().unwrap().to_owned()
    }

    /// All of it, with claims that are changed.
    async fn whole(&self, browser: &mut Browser<'_>, change: impl FnOnce(&mut Value)) -> String {
        let sent = self.begin(browser).await;
        let code = self.provider.sign_in(&sent, self.now(), change);
        let issuer = self.provider.inner().issuer.clone();
        self.end(browser, &[("code", &code), ("state", &state(&sent)), ("iss", &issuer), ("session_state", "x")]).await
    }

    async fn users(&self) -> Vec<Value> {
        self.world.ask("GET", "/api/v1/users", Value::Null).await["items"].as_array().unwrap().clone()
    }
}

fn state(sent: &Url) -> String {
    sent.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
}

const REFUSED: &str = "/sign-in?problem=auth/sso";
const NO_ACCOUNT: &str = "/sign-in?problem=auth/account";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_signs_in_at_a_provider_and_has_the_role_that_it_says_now() {
    let site = Site::start(|_| {}).await;
    let ways = site.world.send("GET", "/api/v1/sign-in", "", &Value::Null).await.body;
    assert_eq!(ways["single_sign_on"], json!([{"id": "corp", "title": "corp", "url": "/api/v1/sign-in/sso/corp"}]));
    let mut browser = Browser::new(&site.world);
    assert_eq!(site.whole(&mut browser, |_| {}).await, "/alerts");
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["sakimori_session"], "what it began with is gone");
    let who = browser.who().await.body;
    assert_eq!((&who["name"], &who["role"], &who["tenant"]), (&json!("mia"), &json!("operator"), &json!("default")));
    assert_eq!((&who["way"], &who["second_factor"]), (&json!("sso:corp"), &json!("shown")));
    let out = who["sign_out_url"].as_str().unwrap();
    assert!(out.starts_with(&site.provider.inner().issuer) && out.contains("post_logout_redirect_uri="), "{out}");
    // The provider asks for second factors, and there is no password.
    let totp = browser.send("POST", "/api/v1/session/totp", &json!({"password": PASSWORD})).await;
    assert_eq!(told(&totp), (409, "factors/unavailable"));
    for password in ["!", PASSWORD] {
        let login = site.world.send("POST", "/api/v1/session", "", &json!({"name": "mia", "password": password})).await;
        assert_eq!(told(&login), (401, "auth/failed"));
    }
    let mia = site.users().await.into_iter().find(|user| user["name"] == "mia").unwrap();
    let path = format!("/api/v1/users/{}/password", mia["id"].as_str().unwrap());
    let given = site.world.send("PUT", &path, &site.world.admin, &json!({"password": PASSWORD})).await;
    assert_eq!(told(&given), (409, "factors/unavailable"), "nor is one given");
    // No group any more, and a verified address: the role is another, and former sessions end.
    let mut later = Browser::new(&site.world);
    let changed = |claims: &mut Value| {
        claims["groups"] = json!([]);
        claims["email"] = json!("mia@corp.example");
        claims["email_verified"] = json!(true);
    };
    assert_eq!(site.whole(&mut later, changed).await, "/alerts");
    assert_eq!(later.who().await.body["role"], "viewer");
    assert_eq!(told(&browser.who().await), (401, "auth/required"));
    assert_eq!(site.users().await.len(), 2, "it is the same user");
    // A key that was renewed is fetched.
    site.provider.inner().signer = Signer::new("k2");
    site.clock.set(site.clock.now().plus_secs(30));
    assert_eq!(site.whole(&mut later, |_| {}).await, "/alerts");
    assert_eq!(later.who().await.body["role"], "operator");
    let audit = site.world.ask("GET", "/api/v1/audit?limit=1000", Value::Null).await.to_string();
    for action in ["users:create", "users:change", "session:open"] {
        assert!(audit.contains(action), "{action}");
    }
    site.world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_forged_mixed_up_or_replayed_opens_nothing() {
    let site = Site::start(|_| {}).await;
    let before = site.world.rows().await;
    let other = Signer::new("k1");
    let now = site.now();
    let changes: Vec<(&str, Box<dyn FnOnce(&mut Value)>)> = vec![
        ("nonce", Box::new(|claims| claims["nonce"] = json!("other"))),
        ("audience", Box::new(|claims| claims["aud"] = json!("other"))),
        ("expired", Box::new(move |claims| claims["exp"] = json!(now - 61))),
        ("old", Box::new(move |claims| claims["iat"] = json!(now - 3_600))),
        ("issuer", Box::new(|claims| claims["iss"] = json!("https://evil.example"))),
        ("another key", Box::new(move |claims| claims["token"] = json!(other.token(claims)))),
        ("unknown key", Box::new(|claims| claims["token"] = json!(Signer::new("k9").token(claims)))),
        (
            "no algorithm",
            Box::new(|claims| {
                claims["token"] = json!(format!("{}.{}.", b64("{\"alg\":\"none\"}"), b64(claims.to_string())));
            }),
        ),
        ("no token", Box::new(|claims| claims["token"] = json!("x"))),
    ];
    for (what, change) in changes {
        let mut browser = Browser::new(&site.world);
        assert_eq!(site.whole(&mut browser, change).await, REFUSED, "{what}");
        assert!(browser.jar.is_empty(), "{what}");
    }
    // An HMAC by the public key.
    let key = site.provider.inner().signer.0.public_key().as_ref().to_vec();
    let forge = move |claims: &mut Value| {
        let signed = format!("{}.{}", b64("{\"alg\":\"HS256\",\"kid\":\"k1\"}"), b64(claims.to_string()));
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key), signed.as_bytes());
        claims["token"] = json!(format!("{signed}.{}", b64(tag.as_ref())));
    };
    assert_eq!(site.whole(&mut Browser::new(&site.world), forge).await, REFUSED);
    assert!(
        site.provider.inner().asked <= 3,
        "forged names of keys make it ask for keys no more often than now and then"
    );

    let mut browser = Browser::new(&site.world);
    let sent = site.begin(&mut browser).await;
    let (issuer, state) = (site.provider.inner().issuer.clone(), state(&sent));
    let fresh = || site.provider.sign_in(&sent, now, |_| {});
    for (what, parameters) in [
        ("another state", vec![("code", fresh()), ("state", "other".into()), ("iss", issuer.clone())]),
        ("no state", vec![("code", fresh()), ("iss", issuer.clone())]),
        ("another issuer", vec![("code", fresh()), ("state", state.clone()), ("iss", "https://evil.example".into())]),
        ("no issuer", vec![("code", fresh()), ("state", state.clone())]),
        ("an error", vec![("error", "access_denied".into()), ("state", state.clone()), ("iss", issuer.clone())]),
        ("no code", vec![("state", state.clone()), ("iss", issuer.clone())]),
    ] {
        // Each time with the cookie of the beginning, which an answer takes away.
        let kept = browser.jar.clone();
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(site.end(&mut browser, &parameters).await, REFUSED, "{what}");
        browser.jar = kept;
    }
    // Another browser has not begun.
    let code = fresh();
    let parameters = [("code", code.as_str()), ("state", state.as_str()), ("iss", issuer.as_str())];
    assert_eq!(site.end(&mut Browser::new(&site.world), &parameters).await, REFUSED);
    assert_eq!(site.world.rows().await, before, "nothing was made");
    // The right one, and the same again.
    let kept = browser.jar.clone();
    assert_eq!(site.end(&mut browser, &parameters).await, "/alerts");
    let code = fresh();
    browser.jar = kept;
    assert_eq!(
        site.end(&mut browser, &[("code", &code), ("state", &state), ("iss", &issuer)]).await,
        REFUSED,
        "replayed"
    );
    // Too late.
    let sent = site.begin(&mut browser).await;
    let (code, state) = (site.provider.sign_in(&sent, now, |_| {}), super::sso::state(&sent));
    site.clock.set(site.clock.now().plus_secs(601));
    assert_eq!(site.end(&mut browser, &[("code", &code), ("state", &state), ("iss", &issuer)]).await, REFUSED);
    site.world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_a_grant_or_with_a_taken_name_is_refused() {
    let site = Site::start(|_| {}).await;
    site.world.ask("POST", "/api/v1/users", json!({"name": "local", "role": "admin", "password": PASSWORD})).await;
    let refused: [(&str, fn(&mut Value)); 6] = [
        ("no group", |claims| claims["groups"] = json!(["other"])),
        ("an address that is not verified", |claims| {
            claims["groups"] = json!([]);
            claims["email"] = json!("mia@corp.example");
            claims["email_verified"] = json!(false);
        }),
        ("another domain", |claims| {
            claims["groups"] = json!([]);
            claims["email"] = json!("mia@evil.example");
            claims["email_verified"] = json!(true);
        }),
        ("a local user's name", |claims| claims["preferred_username"] = json!("local")),
        ("no name", |claims| claims["preferred_username"] = json!("mia <b>")),
        ("a tenant that is not there", |claims| claims["groups"] = json!(["ghosts"])),
    ];
    for (what, change) in refused {
        assert_eq!(site.whole(&mut Browser::new(&site.world), change).await, NO_ACCOUNT, "{what}");
    }
    assert_eq!(site.users().await.len(), 2, "nobody was made");
    assert_eq!(site.whole(&mut Browser::new(&site.world), |_| {}).await, "/alerts");
    // A disabled user stays out, whatever the provider says.
    let mia = site.users().await.into_iter().find(|user| user["name"] == "mia").unwrap();
    let path = format!("/api/v1/users/{}", mia["id"].as_str().unwrap());
    site.world.ask("PATCH", &path, json!({"disabled": true})).await;
    assert_eq!(site.whole(&mut Browser::new(&site.world), |_| {}).await, NO_ACCOUNT);
    site.world.running.stop().await;

    let site = Site::start(|configured| configured.create = false).await;
    assert_eq!(site.whole(&mut Browser::new(&site.world), |_| {}).await, NO_ACCOUNT, "none is made");
    site.world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_away_or_answers_without_end_costs_little() {
    let site = Site::start(|_| {}).await;
    let away = "/sign-in?problem=auth/provider-away";
    let huge = json!({"keys": [], "x": "a".repeat(2 << 20)}).to_string();
    let many = json!({"keys": vec![site.provider.inner().signer.jwk(); 1_000]}).to_string();
    for keys in [huge, many, "[]".into(), "{\"keys\":[]}".into()] {
        site.provider.inner().keys = Some(keys);
        assert_eq!(site.whole(&mut Browser::new(&site.world), |_| {}).await, away);
    }
    // A try that did not come about uses nothing up: the one that does, with the same beginning, is the first.
    let mut browser = Browser::new(&site.world);
    let sent = site.begin(&mut browser).await;
    let (kept, issuer) = (browser.jar.clone(), site.provider.inner().issuer.clone());
    for code in [site.provider.sign_in(&sent, site.now(), |_| {}), "none".to_owned()] {
        browser.jar = kept.clone();
        let end = site.end(&mut browser, &[("code", &code), ("state", &state(&sent)), ("iss", &issuer)]).await;
        assert_eq!(end, away, "{code}");
    }
    site.provider.inner().keys = None;
    browser.jar = kept;
    let code = site.provider.sign_in(&sent, site.now(), |_| {});
    let end = site.end(&mut browser, &[("code", &code), ("state", &state(&sent)), ("iss", &issuer)]).await;
    assert_eq!(end, "/alerts");
    assert_eq!(site.whole(&mut Browser::new(&site.world), |_| {}).await, "/alerts");
    site.world.running.stop().await;

    let site = Site::start(|configured| configured.issuer = "http://127.0.0.1:1".into()).await;
    let begun = "/api/v1/sign-in/sso/corp";
    let answer: Answer = Browser::new(&site.world).send_with("GET", begun, &Value::Null, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (303, away), "back to a page");
    assert!(!answer.headers.contains_key("set-cookie"), "nothing has begun");
    site.world.running.stop().await;
}
