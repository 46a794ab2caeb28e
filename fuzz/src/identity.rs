//! Proofs of who somebody is: what a browser sends of a passkey, what a provider sends.

use sakimori_identity::webauthn::{self, Expected, Refused};
use sakimori_identity::{cbor, cose, jwt, oidc, recovery, totp};

/// The challenge, the party and the origin of the corpus.
const EXPECTED: Expected<'static> =
    Expected { challenge: &[7; 32], party: "sakimori.example", origin: &|origin| origin == "https://sakimori.example" };

/// The first line is client data, the rest an attestation object, and then authenticator data. What is made has a key that
/// reads and an id within bounds; without the key's owner nothing is used.
pub fn passkey(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (client, rest) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    if let Ok(made) = webauthn::made(EXPECTED, client, rest) {
        assert!((1..=webauthn::MOST_ID).contains(&made.credential.len()));
        let key = cose::Key::read(&made.public_key).expect("the key of a passkey reads");
        assert!(cose::ALGORITHMS.contains(&key.algorithm()));
        let used = webauthn::used(EXPECTED, (&made.public_key, made.counter), client, rest, rest);
        assert_eq!(used, Err(Refused::Ceremony), "it was made, not used");
    }
    if let Some((_, left)) = cbor::read(rest) {
        assert!(left.len() < rest.len());
    }
    let _ = cose::Key::read(rest);
}

/// The first line is a set of keys, the second a token, the rest a provider's description. What is accepted says what was
/// asked for. Each line is also a code that somebody typed.
pub fn id_token(bytes: &[u8]) {
    let Some(text) = super::text(bytes) else { return };
    let (set, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (token, description) = rest.split_once('\n').unwrap_or((rest, ""));
    let expected = oidc::Expected { issuer: "https://id.example", client: "sakimori", nonce: "n-1", now: 1_500 };
    if let Some(keys) = jwt::Keys::read(set.as_bytes()) {
        assert!(keys.len() <= jwt::MOST_KEYS);
        if let Ok(account) = oidc::account(token, &keys, expected) {
            assert!((1..=255).contains(&account.subject.len()));
            assert!(!account.is_of_domain("") && account.verified_email().is_none_or(|email| email.len() <= 320));
        }
    }
    if let Ok(description) = oidc::Description::read(description.as_bytes(), "https://id.example") {
        assert!([&description.token, &description.keys].iter().all(|url| ["https", "http"].contains(&url.scheme())));
    }
    for typed in [set, token, description] {
        if let Some(code) = recovery::read(typed) {
            assert_eq!(recovery::read(&recovery::text(&code)), Some(code));
        }
        let _ = totp::check(b"12345678901234567890", typed, 1_500);
    }
}
