//! Webhooks: who posts shows who it is by a signature over the body, or by a token; what was shown once is not believed twice.
//!
//! | proof | header | covers | against a replay |
//! |---|---|---|---|
//! | `sakimori` | `X-Sakimori-Signature: t=…,v1=…` | time and body | the time lies within the window, and each signature is taken once |
//! | `github` | `X-Hub-Signature-256: sha256=…` | the body | each body is taken once |
//! | `token` | `Authorization: Bearer …` | nothing | only the occurrences of what it brings; for senders that cannot sign, by TLS |
//!
//! A signature is remembered once what it brought is durable, so that a sender whom we refused for want of room may try again.
//! That memory is bounded and ends with the process; what a request brought is known beyond that, by its occurrences
//! ([`super::occurrences`]): a record that does not name itself is named by the signature. So a replay after a restart is
//! answered, and nothing is stored twice.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use hmac::{Hmac, Mac};
use sakimori_model::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::settings::{Proof, Webhook};

/// Largest body, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// Longest header that is looked at.
const MAX_HEADER: usize = 512;

/// Headers that show who posts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// `X-Sakimori-Signature`.
    pub sakimori: Option<&'a str>,
    /// `X-Hub-Signature-256`.
    pub github: Option<&'a str>,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
}

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The header is missing or cannot be read.
    Missing,
    /// It was signed by another key, or something was changed.
    Forged,
    /// Its time lies outside of the window.
    Stale,
}

/// What a believed request is called: the hash of its proof, by which a replay is known. None for a token, which is the same
/// in every request.
pub type Seal = Option<[u8; 32]>;

/// Most signatures that are remembered.
pub const MOST: usize = 65_536;

/// Signatures that were believed, of all ways.
#[derive(Debug, Default)]
pub struct Replays(Mutex<(HashSet<[u8; 32]>, VecDeque<[u8; 32]>)>);

impl Replays {
    /// Was it believed before?
    pub fn knows(&self, seal: &[u8; 32]) -> bool {
        self.0.lock().is_ok_and(|all| all.0.contains(seal))
    }

    /// Remembers it; the oldest goes where there are too many.
    pub fn note(&self, seal: [u8; 32]) {
        let Ok(mut all) = self.0.lock() else { return };
        if all.0.insert(seal) {
            all.1.push_back(seal);
            if all.1.len() > MOST
                && let Some(oldest) = all.1.pop_front()
            {
                all.0.remove(&oldest);
            }
        }
    }
}

/// Is the request of who knows the secret?
///
/// # Errors
/// Why not.
pub fn check(way: &Webhook, secret: &[u8], shown: Shown<'_>, body: &[u8], now: Timestamp) -> Result<Seal, Doubt> {
    let header = |header: Option<&'_ str>| header.filter(|text| text.len() <= MAX_HEADER).map(str::to_owned);
    // An empty key would be everybody's.
    if secret.is_empty() {
        return Err(Doubt::Forged);
    }
    match way.proof {
        Proof::Sakimori => {
            let header = header(shown.sakimori).ok_or(Doubt::Missing)?;
            let (mut seconds, mut mac) = (None, None);
            for part in header.split(',') {
                match part.trim().split_once('=') {
                    Some(("t", value)) => seconds = value.parse::<i64>().ok(),
                    Some(("v1", value)) => mac = hex::decode(value).ok(),
                    _ => {}
                }
            }
            let (Some(seconds), Some(mac)) = (seconds, mac) else { return Err(Doubt::Missing) };
            verify(secret, &[seconds.to_string().as_bytes(), b".", body], &mac)?;
            let apart = now.since(Timestamp::from_micros(seconds.saturating_mul(1_000_000))).unsigned_abs();
            if apart > u64::from(way.window_seconds) * 1_000_000 {
                return Err(Doubt::Stale);
            }
            Ok(Some(Sha256::digest(&mac).into()))
        }
        Proof::Github => {
            let header = header(shown.github).ok_or(Doubt::Missing)?;
            let mac = header.strip_prefix("sha256=").and_then(|text| hex::decode(text).ok()).ok_or(Doubt::Missing)?;
            verify(secret, &[body], &mac)?;
            Ok(Some(Sha256::digest(&mac).into()))
        }
        Proof::Token => {
            let header = header(shown.authorization).ok_or(Doubt::Missing)?;
            let token = header.strip_prefix("Bearer ").ok_or(Doubt::Missing)?;
            // Of equal length, so that time tells nothing.
            let (ours, theirs) = (Sha256::digest(secret), Sha256::digest(token.trim().as_bytes()));
            if bool::from(ours.ct_eq(&theirs)) { Ok(None) } else { Err(Doubt::Forged) }
        }
    }
}

fn verify(secret: &[u8], parts: &[&[u8]], mac: &[u8]) -> Result<(), Doubt> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| Doubt::Forged)?;
    parts.iter().for_each(|part| hmac.update(part));
    hmac.verify_slice(mac).map_err(|_| Doubt::Forged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_respond::message::signature;

    fn way(proof: Proof) -> Webhook {
        let text = "name = \"a\"\nsecret = \"s\"\n";
        Webhook { proof, ..toml::from_str(text).unwrap() }
    }

    #[test]
    fn our_own_signature_is_believed_within_the_window_and_names_the_request() {
        let (way, now) = (way(Proof::Sakimori), Timestamp::from_secs(1_800_000_000));
        let header = signature(b"key", now, "{}");
        let shown = Shown { sakimori: Some(&header), ..Shown::default() };
        let seal = check(&way, b"key", shown, b"{}", now).unwrap();
        assert!(seal.is_some());
        assert_eq!(check(&way, b"key", shown, b"{}", now.plus_secs(299)).unwrap(), seal);
        for (key, body, at, doubt) in [
            (&b"other"[..], &b"{}"[..], now, Doubt::Forged),
            (b"key", b"{ }", now, Doubt::Forged),
            (b"", b"{}", now, Doubt::Forged),
            (b"key", b"{}", now.plus_secs(301), Doubt::Stale),
            (b"key", b"{}", now.plus_secs(-301), Doubt::Stale),
        ] {
            assert_eq!(check(&way, key, shown, body, at), Err(doubt));
        }
        for bad in ["", "t=1", "v1=00", "t=x,v1=00", "t=1,v1=zz", &"t=1,".repeat(1_000)] {
            let shown = Shown { sakimori: Some(bad), github: Some(&header), ..Shown::default() };
            assert_eq!(check(&way, b"key", shown, b"{}", now), Err(Doubt::Missing), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_remembered_and_the_memory_is_bounded() {
        let replays = Replays::default();
        let seal = |n: usize| -> [u8; 32] { Sha256::digest(n.to_be_bytes()).into() };
        for n in 0..=MOST {
            assert!(!replays.knows(&seal(n)));
            replays.note(seal(n));
        }
        assert!(replays.knows(&seal(MOST)) && replays.knows(&seal(1)) && !replays.knows(&seal(0)));
    }

    #[test]
    fn githubs_signature_and_a_token_are_believed() {
        let now = Timestamp::from_secs(1);
        let mut mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        mac.update(b"body");
        let header = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let shown = Shown { github: Some(&header), ..Shown::default() };
        assert!(check(&way(Proof::Github), b"key", shown, b"body", now).unwrap().is_some());
        assert_eq!(check(&way(Proof::Github), b"key", shown, b"bodY", now), Err(Doubt::Forged));
        let token = Shown { authorization: Some("Bearer key"), ..Shown::default() };
        assert_eq!(check(&way(Proof::Token), b"key", token, b"x", now), Ok(None));
        for (bad, doubt) in [("Bearer keY", Doubt::Forged), ("Basic key", Doubt::Missing), ("Bearer ", Doubt::Forged)] {
            let shown = Shown { authorization: Some(bad), ..Shown::default() };
            assert_eq!(check(&way(Proof::Token), b"key", shown, b"x", now), Err(doubt));
        }
        assert_eq!(check(&way(Proof::Token), b"key", shown, b"x", now), Err(Doubt::Missing));
    }
}
