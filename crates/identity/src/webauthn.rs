//! Passkeys: what a browser sends when one is made or used (WebAuthn level 3, sections 7.1 and 7.2), checked.
//!
//! What is asked for: a resident key, the user verified by the device (a finger, a face, a PIN), no attestation. So a
//! passkey is two factors in itself and signs in without a name or password. Attestations that come anyway are those of a
//! key by itself, and are checked; makers' certificates are refused, since nobody asked for them and nothing is decided
//! by them.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::cbor::{self, Value};
use crate::cose::Key;

/// Length of a challenge, in bytes.
pub const CHALLENGE: usize = 32;
/// Longest id of a credential, in bytes: the standard's own bound.
pub const MOST_ID: usize = 1_023;
/// Longest of what a browser sends, in bytes: client data, authenticator data, attestation.
pub const MOST: usize = 16 << 10;
/// Flags of authenticator data.
const PRESENT: u8 = 1;
const VERIFIED: u8 = 1 << 2;
const MAY_BE_BACKED_UP: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_KEY: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

/// Why it is not accepted. None of it is told to who sent it: it goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("it has not the form")]
    Form,
    /// Made for another purpose.
    #[error("it is of another ceremony")]
    Ceremony,
    /// Not the challenge that was given.
    #[error("the challenge is another one")]
    Challenge,
    /// From another page, or from within one.
    #[error("it comes from another origin")]
    Origin,
    /// For another site.
    #[error("it is for another relying party")]
    Party,
    /// Nobody touched the device, or it does not know who did.
    #[error("the device did not verify its user")]
    Unverified,
    /// A key of a kind that was not asked for.
    #[error("the key is of a kind that is not taken")]
    Key,
    /// An attestation that is not taken.
    #[error("the attestation is not taken")]
    Attestation,
    /// The signature is not the key's.
    #[error("the signature is wrong")]
    Signature,
    /// The count went back: there are two of this key.
    #[error("the count of signatures went back: the key may have been copied")]
    Copied,
}

/// What was asked for.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// The challenge that was given.
    pub challenge: &'a [u8],
    /// Id of the relying party: the host that people see.
    pub party: &'a str,
    /// Is this origin ours?
    pub origin: &'a dyn Fn(&str) -> bool,
}

/// A passkey that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Id of the credential.
    pub credential: Vec<u8>,
    /// Its key, COSE.
    pub public_key: Vec<u8>,
    /// Its count of signatures.
    pub counter: u32,
    /// Lies on more than one device.
    pub backed_up: bool,
}

/// What a browser says of the page.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<String>,
}

/// A passkey that is made, from the two texts that a browser sends of it.
///
/// # Errors
/// Why it is not accepted.
pub fn made(expected: Expected<'_>, client_data: &[u8], attestation: &[u8]) -> Result<Made, Refused> {
    page(expected, client_data, "webauthn.create")?;
    if attestation.len() > MOST {
        return Err(Refused::Form);
    }
    let (object, rest) = cbor::read(attestation).ok_or(Refused::Form)?;
    let bytes = object.named("authData").and_then(Value::bytes).ok_or(Refused::Form)?;
    let data = Data::read(bytes).filter(|_| rest.is_empty()).ok_or(Refused::Form)?;
    data.check(expected.party)?;
    let credential = data.credential.ok_or(Refused::Form)?;
    let key = Key::read(credential.public_key).ok_or(Refused::Key)?;
    attested(&object, &key, &signed(bytes, client_data))?;
    Ok(Made {
        credential: credential.id.to_vec(),
        public_key: credential.public_key.to_vec(),
        counter: data.counter,
        backed_up: data.flags & BACKED_UP != 0,
    })
}

/// The count of signatures after a passkey was used, whose key and count are known.
///
/// # Errors
/// Why it is not accepted.
pub fn used(
    expected: Expected<'_>,
    (public_key, counter): (&[u8], u32),
    client_data: &[u8],
    data: &[u8],
    signature: &[u8],
) -> Result<u32, Refused> {
    page(expected, client_data, "webauthn.get")?;
    let key = Key::read(public_key).ok_or(Refused::Key)?;
    let read = Data::read(data).ok_or(Refused::Form)?;
    read.check(expected.party)?;
    if !key.verify(&signed(data, client_data), signature) {
        return Err(Refused::Signature);
    }
    // Many authenticators count nothing and say 0 forever.
    if (counter != 0 || read.counter != 0) && read.counter <= counter {
        return Err(Refused::Copied);
    }
    Ok(read.counter)
}

fn page(expected: Expected<'_>, client_data: &[u8], ceremony: &str) -> Result<(), Refused> {
    use base64::Engine as _;
    if client_data.len() > MOST {
        return Err(Refused::Form);
    }
    let said: ClientData = serde_json::from_slice(client_data).map_err(|_| Refused::Form)?;
    if said.kind != ceremony {
        return Err(Refused::Ceremony);
    }
    let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&said.challenge);
    if expected.challenge.is_empty() || challenge.ok().as_deref() != Some(expected.challenge) {
        return Err(Refused::Challenge);
    }
    if said.cross_origin || said.top_origin.is_some() || !(expected.origin)(&said.origin) {
        return Err(Refused::Origin);
    }
    Ok(())
}

/// What a key signs: the authenticator's words, and the hash of the browser's.
fn signed(data: &[u8], client_data: &[u8]) -> Vec<u8> {
    [data, &Sha256::digest(client_data)].concat()
}

/// Attestation "none", or "packed" by the key itself (sections 8.2 and 8.7).
fn attested(object: &Value<'_>, key: &Key, signed: &[u8]) -> Result<(), Refused> {
    let statement = object.named("attStmt").ok_or(Refused::Form)?;
    match (object.named("fmt").and_then(Value::text), statement) {
        (Some("none"), Value::Map(pairs)) if pairs.is_empty() => Ok(()),
        (Some("packed"), Value::Map(_)) if statement.named("x5c").is_none() => {
            let algorithm = statement.named("alg").and_then(Value::number);
            let signature = statement.named("sig").and_then(Value::bytes).ok_or(Refused::Form)?;
            let fine = algorithm == Some(key.algorithm()) && key.verify(signed, signature);
            if fine { Ok(()) } else { Err(Refused::Attestation) }
        }
        _ => Err(Refused::Attestation),
    }
}

/// Authenticator data (section 6.1).
struct Data<'a> {
    party: &'a [u8; 32],
    flags: u8,
    counter: u32,
    credential: Option<Credential<'a>>,
}

struct Credential<'a> {
    id: &'a [u8],
    public_key: &'a [u8],
}

impl<'a> Data<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > MOST {
            return None;
        }
        let (party, rest) = bytes.split_first_chunk::<32>()?;
        let (flags, rest) = rest.split_first()?;
        let (counter, mut rest) = rest.split_first_chunk::<4>()?;
        let mut credential = None;
        if flags & HAS_KEY != 0 {
            let (_maker, after) = rest.split_first_chunk::<16>()?;
            let (length, after) = after.split_first_chunk::<2>()?;
            let (id, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
            let (_, end) = cbor::read(after)?;
            let public_key = after.get(..after.len() - end.len())?;
            credential = Some(Credential { id, public_key }).filter(|one| (1..=MOST_ID).contains(&one.id.len()));
            credential.as_ref()?;
            rest = end;
        }
        if flags & HAS_EXTENSIONS != 0 {
            rest = cbor::read(rest)?.1;
        }
        // What may not be backed up is not backed up.
        let fine = rest.is_empty() && (flags & BACKED_UP == 0 || flags & MAY_BE_BACKED_UP != 0);
        fine.then(|| Self { party, flags: *flags, counter: u32::from_be_bytes(*counter), credential })
    }

    fn check(&self, party: &str) -> Result<(), Refused> {
        if *self.party != <[u8; 32]>::from(Sha256::digest(party)) {
            return Err(Refused::Party);
        }
        let both = PRESENT | VERIFIED;
        if self.flags & both == both { Ok(()) } else { Err(Refused::Unverified) }
    }
}
