//! Public keys of passkeys, in COSE (RFC 9053), and the signatures that ring can check by them.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

use crate::cbor::{self, Value};

/// The algorithms that are asked for and taken, the one that is preferred first: ES256, EdDSA, RS256.
pub const ALGORITHMS: &[i64] = &[-7, -8, -257];
/// Longest key, in bytes: one of RSA with 4096 bits has 534.
pub const MOST: usize = 1_100;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// ES256: a point of P-256, uncompressed.
    P256(Vec<u8>),
    /// EdDSA over Ed25519.
    Ed25519(Vec<u8>),
    /// RS256: modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
}

impl Key {
    /// Reads a key that fills the bytes; none where it is of another kind.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MOST {
            return None;
        }
        let (value, rest) = cbor::read(bytes)?;
        rest.is_empty().then(|| Self::of(&value)).flatten()
    }

    /// The key that a value is.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        let number = |key| value.at(key).and_then(Value::number);
        let bytes = |key| value.at(key).and_then(Value::bytes);
        let coordinate = |key| bytes(key).filter(|bytes| bytes.len() == 32);
        match (number(1)?, number(3)?) {
            (2, -7) if number(-1) == Some(1) => Some(Self::P256([&[4][..], coordinate(-2)?, coordinate(-3)?].concat())),
            (1, -8) if number(-1) == Some(6) => Some(Self::Ed25519(coordinate(-2)?.to_vec())),
            (3, -257) => {
                let (modulus, exponent) = (bytes(-1)?, bytes(-2)?);
                let fine = (256..=1_024).contains(&modulus.len()) && (1..=8).contains(&exponent.len());
                fine.then(|| Self::Rsa(modulus.to_vec(), exponent.to_vec()))
            }
            _ => None,
        }
    }

    /// COSE's number of its algorithm.
    pub fn algorithm(&self) -> i64 {
        match self {
            Self::P256(_) => -7,
            Self::Ed25519(_) => -8,
            Self::Rsa(..) => -257,
        }
    }

    /// Did this key sign this?
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
            Self::Rsa(n, e) => rsa(n, e, message, signature),
        }
    }
}

/// RSASSA-PKCS1-v1_5 with SHA-256. ring refuses a number with zeros before it, which some write.
pub(crate) fn rsa(n: &[u8], e: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = RsaPublicKeyComponents { n: without_zeros(n), e: without_zeros(e) };
    key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
}

fn without_zeros(number: &[u8]) -> &[u8] {
    number.iter().position(|byte| *byte != 0).and_then(|at| number.get(at..)).unwrap_or_default()
}
