//! Signed tokens (RFC 7515, 7519) and the keys that sign them (RFC 7517): read, and verified by the algorithm that the
//! *key* is of. RS256, ES256 and EdDSA are known; `none` and HMAC do not exist here, so a public key is never a secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cose;

/// The algorithms that are known.
pub const ALGORITHMS: &[&str] = &["RS256", "ES256", "EdDSA"];
/// Longest token, in bytes.
pub const MOST: usize = 32 << 10;
/// Longest set of keys, in bytes.
pub const MOST_SET: usize = 256 << 10;
/// Most keys of a set.
pub const MOST_KEYS: usize = 64;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("the token has not the form")]
    Form,
    /// An algorithm that is not known, `none` among them.
    #[error("the token's algorithm is not one of RS256, ES256, EdDSA")]
    Algorithm,
    /// No key of its name and algorithm: the set may have been renewed.
    #[error("the token is signed by a key that the provider does not publish")]
    Unknown,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
}

enum Material {
    Rsa(Vec<u8>, Vec<u8>),
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

struct Key {
    id: Option<String>,
    material: Material,
}

/// A set of public keys.
pub struct Keys(Vec<Key>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Map<String, Value>>,
}

impl Keys {
    /// Reads a set; keys of other kinds and uses are left out. None where it is no set, too large, or has too many keys.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MOST_SET {
            return None;
        }
        let set: Set = serde_json::from_slice(bytes).ok()?;
        (set.keys.len() <= MOST_KEYS).then(|| Self(set.keys.iter().filter_map(key).collect()))
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn key(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
    if text("use").is_some_and(|used| used != "sig") {
        return None;
    }
    let (algorithm, material) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            ("RS256", Some(Material::Rsa(n, e)).filter(|_| text("n").is_some_and(|n| n.len() <= 1_400))?)
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            let fine = x.len() == 32 && y.len() == 32;
            ("ES256", fine.then(|| Material::P256([&[4][..], &x, &y].concat()))?)
        }
        ("OKP", Some("Ed25519")) => ("EdDSA", bytes("x").filter(|x| x.len() == 32).map(Material::Ed25519)?),
        _ => return None,
    };
    let own = text("alg").is_none_or(|named| named == algorithm);
    own.then(|| Key { id: text("kid").map(str::to_owned), material })
}

impl Material {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(..) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(n, e) => cose::rsa(n, e, message, signature),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that a reader has to know: none is known here.
    #[serde(default)]
    crit: Option<Value>,
}

/// The claims of a token, once one of the keys is found to have signed it.
///
/// # Errors
/// Why it is not accepted; [`Refused::Unknown`] may change with a newer set.
pub fn verify(token: &str, keys: &Keys) -> Result<Map<String, Value>, Refused> {
    if token.len() > MOST {
        return Err(Refused::Form);
    }
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Form);
    };
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused::Form);
    let header: Header = serde_json::from_slice(&decode(head)?).map_err(|_| Refused::Form)?;
    if header.crit.is_some() {
        return Err(Refused::Form);
    }
    if !ALGORITHMS.contains(&header.alg.as_str()) {
        return Err(Refused::Algorithm);
    }
    let fits = |key: &&Key| key.material.algorithm() == header.alg && (header.kid.is_none() || key.id == header.kid);
    let candidates: Vec<&Key> = keys.0.iter().filter(fits).collect();
    if candidates.is_empty() {
        return Err(Refused::Unknown);
    }
    let signed = token.get(..head.len() + 1 + body.len()).unwrap_or_default();
    let signature = decode(signature)?;
    if !candidates.iter().any(|key| key.material.verify(signed.as_bytes(), &signature)) {
        return Err(Refused::Signature);
    }
    serde_json::from_slice(&decode(body)?).map_err(|_| Refused::Form)
}
