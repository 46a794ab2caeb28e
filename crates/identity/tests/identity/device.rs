//! An authenticator of our own, with the browser before it: makes and uses passkeys as WebAuthn writes them, and lies where
//! a test tells it to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};

/// Its key.
pub enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// An authenticator with one passkey, and what its browser says.
pub struct Device {
    pub pair: Pair,
    pub id: Vec<u8>,
    pub party: String,
    pub origin: String,
    pub flags: u8,
    pub counter: u32,
    /// More of client data: `,"crossOrigin":true`.
    pub more: String,
}

/// Present, verified.
pub const USUAL: u8 = 0x05;

pub fn p256() -> Pair {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    Pair::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random).unwrap())
}

pub fn ed25519() -> Pair {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Pair::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
}

fn head(kind: u8, length: usize) -> Vec<u8> {
    match length {
        0..=23 => vec![kind << 5 | u8::try_from(length).unwrap()],
        24..=255 => vec![kind << 5 | 24, u8::try_from(length).unwrap()],
        _ => [&[kind << 5 | 25][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    }
}

pub fn bytes(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len()), bytes.to_vec()].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    [head(3, text.len()), text.as_bytes().to_vec()].concat()
}

pub fn number(number: i64) -> Vec<u8> {
    if number < 0 { head(1, usize::try_from(-1 - number).unwrap()) } else { head(0, usize::try_from(number).unwrap()) }
}

pub fn map(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = head(5, pairs.len());
    for (key, value) in pairs {
        out.extend([key.clone(), value.clone()].concat());
    }
    out
}

impl Pair {
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// In COSE.
    pub fn public(&self) -> Vec<u8> {
        match self {
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                map(&[
                    (number(1), number(2)),
                    (number(3), number(-7)),
                    (number(-1), number(1)),
                    (number(-2), bytes(&point[1..33])),
                    (number(-3), bytes(&point[33..])),
                ])
            }
            Self::Ed25519(pair) => map(&[
                (number(1), number(1)),
                (number(3), number(-8)),
                (number(-1), number(6)),
                (number(-2), bytes(pair.public_key().as_ref())),
            ]),
        }
    }
}

impl Device {
    pub fn new(pair: Pair, party: &str, origin: &str) -> Self {
        let id = Sha256::digest(pair.public()).to_vec();
        let (party, origin) = (party.to_owned(), origin.to_owned());
        Self { pair, id, party, origin, flags: USUAL, counter: 0, more: String::new() }
    }

    pub fn client_data(&self, kind: &str, challenge: &[u8]) -> Vec<u8> {
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        let (origin, more) = (&self.origin, &self.more);
        format!("{{\"type\":\"{kind}\",\"challenge\":\"{challenge}\",\"origin\":\"{origin}\"{more}}}").into_bytes()
    }

    pub fn data(&self, with_key: bool) -> Vec<u8> {
        let mut out = Sha256::digest(&self.party).to_vec();
        out.push(self.flags | if with_key { 0x40 } else { 0 });
        out.extend(self.counter.to_be_bytes());
        if with_key {
            out.extend([0; 16]);
            out.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
            out.extend(&self.id);
            out.extend(self.pair.public());
        }
        out
    }

    /// Makes its passkey: client data and attestation object.
    pub fn make(&self, challenge: &[u8]) -> (Vec<u8>, Vec<u8>) {
        self.make_with(challenge, "none", &map(&[]))
    }

    pub fn make_with(&self, challenge: &[u8], format: &str, statement: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let object = map(&[
            (text("fmt"), text(format)),
            (text("attStmt"), statement.to_vec()),
            (text("authData"), bytes(&self.data(true))),
        ]);
        (self.client_data("webauthn.create", challenge), object)
    }

    /// Uses it: client data, authenticator data, signature.
    pub fn answer(&self, challenge: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (client, data) = (self.client_data("webauthn.get", challenge), self.data(false));
        let signature = self.pair.sign(&[&data[..], &Sha256::digest(&client)].concat());
        (client, data, signature)
    }
}
