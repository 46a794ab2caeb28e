//! Tokens of a provider, right ones and hostile ones; what a provider publishes; where browsers are sent.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use sakimori_identity::jwt::{self, Keys, MOST_KEYS};
use sakimori_identity::oidc::{self, Description, Expected, OLDEST, Refused, Request, SKEW};
use serde_json::{Value, json};

const NOW: i64 = 1_500;
const EXPECTED: Expected<'static> =
    Expected { issuer: "https://id.example", client: "sakimori", nonce: "n-1", now: NOW };
/// Made once with a key of 2048 bits that is kept nowhere: header and claims, signature, modulus.
const RS256: [&str; 3] = [
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJzYWtpbW9yaSIsInN1YiI6InMtMSIsIm5vbmNlIjoibi0xIiwiaWF0IjoxMDAwLCJleHAiOjIwMDB9",
    "YnFETcIIp9fvHBndUUHfc2bJhTdtxqtXSfBAVAHQLzViEIwynarXEjDvZAcl69osWTwXgaslz6X-UzexkFM51K8bAlwKsrd4geJWkP4oVVqD9rRFN6qD3C-hEM4YmYmjNm5nUXCGAn0HzrDGsXjFs8qmPbLJIcjza7P5f7Itypk7QlTNMdNd408tm18Kha3Ry0Cj5ux1CmzCkWeCcy1ER-hL8Dmd8HyFGLLuHhg7rsLqm3R1RvYLliNiEwy5FZ0y8Dmfkeo5CsGGq5PTEvqbHpsOvbaC7vWEi_pbmhp6odKRRfA8C6N3nf4FVbWT1jRBBENDTagdbVoXusYF2Nmb_w",
    "kHtHt87-2pmMEfxoGD0hWjTpLdz2ZbBN8cEwPvqJkKvm3SjC43v4qLU3sDU3_wj6s1RxnHjMx6bkF18quFijGovpDTL8zdM7VNXWriAgfpQEkzD4EI_OwriZYNtbKzziCRSQ0Xxtp_Dsz7sV0CFxgs2g3jWVRGBqCXQXknOKZOru5-bipLydmFt3-gPIh6yygaZjV3xyPHEjIG2gyhgXhMsPZfaUiaTgQ0aRSobtu9zIFYRf27VyiYDieQ5yobU1_D-G27BQ5SrouVA6Sh-9-rbzMnaazxolpfvypTqLoRctv0rvS1BVLWu9ByK_VHVGB2sja6TJ5XfMpOxJEISOLQ",
];

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "sakimori", "sub": "s-1", "nonce": "n-1", "iat": 1_000, "exp": 2_000})
}

/// A provider's key.
struct Signer {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        Self { pair, id }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": b64(&point[1..33]), "y": b64(&point[33..])})
    }

    fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": "ES256", "kid": self.id}), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature.as_ref()))
    }
}

fn set(keys: &[Value]) -> Keys {
    Keys::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn with(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Value {
    let mut changed = claims();
    change(changed.as_object_mut().unwrap());
    changed
}

#[test]
fn each_algorithm_that_is_listed_is_understood() {
    let ec = Signer::new("e");
    let keys = set(&[ec.jwk(), json!({"kty": "RSA", "kid": "r", "n": RS256[2], "e": "AQAB", "alg": "RS256"})]);
    let account = oidc::account(&ec.token(&claims()), &keys, EXPECTED).unwrap();
    assert_eq!(account.subject, "s-1");
    let rsa = format!("{}.{}", RS256[0], RS256[1]);
    assert_eq!(oidc::account(&rsa, &keys, EXPECTED).unwrap().subject, "s-1");
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
    let keys = set(&[json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())})]);
    let signed = format!("{}.{}", b64("{\"alg\":\"EdDSA\"}"), b64(claims().to_string()));
    let token = format!("{signed}.{}", b64(pair.sign(signed.as_bytes()).as_ref()));
    assert_eq!(oidc::account(&token, &keys, EXPECTED).unwrap().subject, "s-1", "no key is named, and one fits");
}

#[test]
fn no_algorithm_but_the_keys_own_counts() {
    let signer = Signer::new("e");
    let keys = set(&[signer.jwk()]);
    let refused = |token: &str| match oidc::account(token, &keys, EXPECTED) {
        Err(Refused::Token(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let body = b64(claims().to_string());
    for none in ["none", "None", "NONE", "", "HS256", "HS512", "RS512", "PS256", "ES384"] {
        let head = b64(json!({"alg": none, "kid": "e"}).to_string());
        assert_eq!(refused(&format!("{head}.{body}.")), jwt::Refused::Algorithm, "{none}");
    }
    // A public key as the secret of an HMAC, in each form that it is published in.
    for secret in [signer.pair.public_key().as_ref().to_vec(), signer.jwk().to_string().into_bytes()] {
        let signed = format!("{}.{body}", b64("{\"alg\":\"HS256\",\"kid\":\"e\"}"));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        assert_eq!(refused(&format!("{signed}.{}", b64(tag.as_ref()))), jwt::Refused::Algorithm);
    }
    // The algorithm of another kind of key.
    assert_eq!(refused(&signer.token_with(&json!({"alg": "RS256", "kid": "e"}), &claims())), jwt::Refused::Unknown);
    assert_eq!(refused(&Signer::new("other").token(&claims())), jwt::Refused::Unknown);
    assert_eq!(refused(&Signer::new("e").token(&claims())), jwt::Refused::Signature, "its name is taken");
    let own_key = json!({"alg": "ES256", "jwk": Signer::new("x").jwk()});
    assert_eq!(
        refused(&Signer::new("x").token_with(&own_key, &claims())),
        jwt::Refused::Signature,
        "a key in the token"
    );
    let critical = json!({"alg": "ES256", "kid": "e", "crit": ["b64"], "b64": false});
    assert_eq!(refused(&signer.token_with(&critical, &claims())), jwt::Refused::Form);
}

#[test]
fn each_claim_is_held_against_what_was_asked() {
    let signer = Signer::new("e");
    let keys = set(&[signer.jwk()]);
    let check = |claims: &Value| oidc::account(&signer.token(claims), &keys, EXPECTED).map(|account| account.subject);
    let tries: &[(&str, &'static str, Value)] = &[
        ("iss", "iss", json!("https://evil.example")),
        ("iss", "iss", json!("https://id.example/")),
        ("iss", "iss", Value::Null),
        ("aud", "aud", json!("another")),
        ("aud", "aud", json!(["another"])),
        ("aud", "aud", json!([])),
        ("aud", "aud", json!(vec!["sakimori"; 50])),
        ("aud", "azp", json!(["sakimori", "another"])),
        ("azp", "azp", json!("another")),
        ("azp", "azp", json!(7)),
        ("exp", "exp", json!(NOW - SKEW)),
        ("exp", "exp", json!("2000")),
        ("exp", "exp", Value::Null),
        ("iat", "iat", json!(NOW + SKEW + 1)),
        ("iat", "iat", json!(NOW - OLDEST - SKEW - 1)),
        ("iat", "iat", Value::Null),
        ("nbf", "nbf", json!(NOW + SKEW + 1)),
        ("nbf", "nbf", json!("soon")),
        ("nonce", "nonce", json!("n-2")),
        ("nonce", "nonce", json!("")),
        ("nonce", "nonce", Value::Null),
        ("sub", "sub", json!("")),
        ("sub", "sub", json!("s".repeat(256))),
        ("sub", "sub", json!(7)),
    ];
    for (claim, wanted, value) in tries {
        let changed = with(|claims| {
            claims.insert((*claim).to_owned(), value.clone());
        });
        assert_eq!(check(&changed), Err(Refused::Claim(*wanted)), "{claim} {value}");
    }
    let fine = with(|claims| {
        claims.insert("aud".into(), json!(["another", "sakimori"]));
        claims.insert("azp".into(), json!("sakimori"));
        claims.insert("exp".into(), json!(NOW - SKEW + 1));
        claims.insert("nbf".into(), json!(NOW + SKEW));
        claims.insert("iat".into(), json!(1_499.5));
    });
    assert_eq!(check(&fine).as_deref(), Ok("s-1"), "several audiences, a clock that is off");
    let without = Expected { nonce: "", ..EXPECTED };
    let empty = with(|claims| {
        claims.insert("nonce".into(), json!(""));
    });
    assert!(oidc::account(&signer.token(&empty), &keys, without).is_err(), "no nonce was asked for");
}

#[test]
fn only_a_verified_address_says_where_somebody_is_from() {
    let signer = Signer::new("e");
    let keys = set(&[signer.jwk()]);
    let of = |email: Value, verified: Value| {
        let claims = with(|claims| {
            claims.insert("email".into(), email);
            claims.insert("email_verified".into(), verified);
            claims.insert("groups".into(), json!(["ops", 7, "dev"]));
        });
        oidc::account(&signer.token(&claims), &keys, EXPECTED).unwrap()
    };
    let good = of(json!("ann@Corp.example"), json!(true));
    assert!(
        good.is_of_domain("corp.example") && !good.is_of_domain("example") && !good.is_of_domain("corp.example.evil")
    );
    assert!(good.is_in("groups", "dev") && !good.is_in("groups", "de") && !good.is_in("roles", "dev"));
    for (email, verified) in [
        (json!("ann@corp.example"), json!(false)),
        (json!("ann@corp.example"), json!("true")),
        (json!("ann@corp.example"), Value::Null),
        (json!("@corp.example"), json!(true)),
        (json!("a@evil.example@corp.example"), json!(true)),
        (json!("corp.example"), json!(true)),
        (json!(["ann@corp.example"]), json!(true)),
        (json!(format!("{}@corp.example", "a".repeat(400))), json!(true)),
    ] {
        assert!(!of(email.clone(), verified.clone()).is_of_domain("corp.example"), "{email} {verified}");
    }
}

#[test]
fn sets_of_keys_are_bounded_and_what_cannot_be_used_is_left_out() {
    let signer = Signer::new("e");
    let many = |count: usize| json!({"keys": vec![signer.jwk(); count]}).to_string();
    assert_eq!(Keys::read(many(MOST_KEYS).as_bytes()).unwrap().len(), MOST_KEYS);
    assert!(Keys::read(many(MOST_KEYS + 1).as_bytes()).is_none());
    let padded = format!("{{\"keys\":[],\"x\":\"{}\"}}", "a".repeat(jwt::MOST_SET));
    assert!(Keys::read(padded.as_bytes()).is_none());
    let others = [
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "e"}),
        json!({"kty": "EC", "crv": "P-384", "x": "", "y": ""}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}),
        json!({"kty": "EC", "crv": "P-256", "alg": "ES512", "x": b64([1; 32]), "y": b64([1; 32])}),
        json!({}),
    ];
    assert!(set(&others).is_empty());
    for bad in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[7]}"] {
        assert!(Keys::read(bad.as_bytes()).is_none(), "{bad}");
    }
    let token = signer.token(&with(|claims| {
        claims.insert("x".into(), json!("a".repeat(jwt::MOST)));
    }));
    assert_eq!(jwt::verify(&token, &set(&[signer.jwk()])).unwrap_err(), jwt::Refused::Form, "a token that is too long");
    let good = signer.token(&claims());
    for at in 0..good.len() {
        assert!(jwt::verify(&good[..at], &set(&[signer.jwk()])).is_err());
    }
    assert!(jwt::verify(&format!("{good}.x"), &set(&[signer.jwk()])).is_err());
}

#[test]
fn a_description_is_the_issuers_own_and_safe() {
    let said = json!({
        "issuer": "https://id.example", "authorization_endpoint": "https://id.example/auth?x=1",
        "token_endpoint": "https://id.example/token", "jwks_uri": "https://id.example/keys",
        "end_session_endpoint": "https://id.example/out", "authorization_response_iss_parameter_supported": true,
        "id_token_signing_alg_values_supported": ["HS256", "RS256"], "more": {"is": "ignored"}
    });
    let read = |said: &Value| Description::read(said.to_string().as_bytes(), "https://id.example");
    let good = read(&said).unwrap();
    assert!(good.names_issuer && !good.secret_in_form);
    for (name, value) in [
        ("issuer", json!("https://evil.example")),
        ("token_endpoint", json!("http://id.example/token")),
        ("jwks_uri", json!("file:///etc/passwd")),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("end_session_endpoint", json!("http://id.example/out")),
        ("id_token_signing_alg_values_supported", json!(["HS256", "none"])),
        ("token_endpoint", Value::Null),
    ] {
        let mut changed = said.clone();
        changed[name] = value;
        assert!(read(&changed).is_err(), "{name}");
    }
    let mut form = said.clone();
    form["token_endpoint_auth_methods_supported"] = json!(["client_secret_post", "private_key_jwt"]);
    assert!(read(&form).unwrap().secret_in_form);
    assert!(Description::read(&vec![b' '; oidc::MOST_DESCRIPTION + 1], "https://id.example").is_err());

    let scopes = ["email".to_owned()];
    let request =
        Request { client: "sakimori", back: "https://s/b", scopes: &scopes, state: "s", nonce: "n", verifier: "v" };
    let url = oidc::sign_in_url(&good, &request);
    for part in
        ["https://id.example/auth?x=1&", "response_type=code", "scope=openid+email", "code_challenge_method=S256"]
    {
        assert!(url.contains(part), "{url}");
    }
    assert!(!url.contains("verifier") && !url.contains("=v&"), "the verifier stays here: {url}");
    let out = oidc::sign_out_url(&good, "sakimori", "https://s/").unwrap();
    assert_eq!(out, "https://id.example/out?client_id=sakimori&post_logout_redirect_uri=https%3A%2F%2Fs%2F");
}

#[test]
fn an_issuer_is_https_or_this_machine() {
    for fine in [
        "https://id.example",
        "https://id.example/realms/main",
        "http://127.0.0.1:9",
        "http://localhost:9",
        "http://[::1]:9",
    ] {
        oidc::check_issuer(fine).unwrap();
    }
    for bad in [
        "http://id.example",
        "https://u:p@id.example",
        "https://id.example?x",
        "https://id.example#x",
        "x",
        "ftp://localhost",
    ] {
        assert!(oidc::check_issuer(bad).is_err(), "{bad}");
    }
}
