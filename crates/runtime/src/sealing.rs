//! Secrets at rest: sealed under a key that lies elsewhere. Pure. (Seals on orders are signatures, and something else.)
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 over RFC 8439) with 24 random bytes of nonce. The associated data names
//! where the secret belongs, so that what is sealed for one place does not open in another; texts have their length
//! before them. What is sealed names the key, so that older ones can be opened while the newest seals.
//!
//! ```text
//! sealed:  sakimori-sealed:1:<key id, 16 hex>:<base64url without padding: nonce (24), ciphertext, tag (16)>
//! data:    "sakimori sealed 1\n"  key id (8)  text(purpose)  text(tenant)  text(name)
//! key id:  the first 8 bytes of SHA-256 over "sakimori sealing key 1\n" and the key
//! keys:    sakimori-sealing-key:1:<64 hex>      a line each, the newest first; empty lines and lines with # are skipped
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use rand::TryRngCore as _;
use sha2::{Digest, Sha256};

use crate::Secret;

/// How what is sealed begins.
pub const SEALED: &str = "sakimori-sealed:1:";
/// How a line with a key begins.
pub const KEY: &str = "sakimori-sealing-key:1:";
/// Longest secret, in bytes.
pub const MOST: usize = 1 << 20;
/// Most keys of a ring: the newest, and older ones for what was sealed before.
pub const MOST_KEYS: usize = 16;
/// Longest text of a ring, in bytes.
pub const MOST_RING: usize = 16 << 10;
const DATA: &[u8] = b"sakimori sealed 1\n";
const KEY_ID: &[u8] = b"sakimori sealing key 1\n";
const NONCE: usize = 24;
const TAG: usize = 16;

/// Why something cannot be sealed or opened. None of it names a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// It has not the form.
    #[error("it is not sealed, or cut off")]
    Form,
    /// No key of the ring sealed it.
    #[error("it is sealed under the key {0}, which is not among the keys at hand")]
    Unknown(KeyId),
    /// Its tag does not fit.
    #[error("it was altered, or sealed for another place")]
    Wrong,
    /// More than [`MOST`] bytes.
    #[error("it is larger than {} KiB", MOST >> 10)]
    Large,
    /// No ring.
    #[error("expected lines of `{KEY}` and 64 hexadecimal digits, the newest key first, {MOST_KEYS} at the most")]
    Keys,
    /// A ring has [`MOST_KEYS`] already.
    #[error("there are {MOST_KEYS} keys already")]
    Full,
    /// The operating system gave no random bytes.
    #[error("no random bytes from the system")]
    NoChance,
}

/// Names a key, and tells nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = SealingError;

    /// 16 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, SealingError> {
        let mut id = [0; 8];
        let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hex::decode_to_slice(text, &mut id).ok().filter(|()| lower).map(|()| Self(id)).ok_or(SealingError::Form)
    }
}

/// Where a secret belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// What it is: `key`, `secret`.
    pub purpose: &'a str,
    /// Whose it is; `*` for the installation's.
    pub tenant: &'a str,
    /// Its name.
    pub name: &'a str,
}

#[derive(Clone)]
struct Key {
    id: KeyId,
    bytes: Secret<[u8; 32]>,
}

impl Key {
    fn of(bytes: [u8; 32]) -> Self {
        let hash: [u8; 32] = Sha256::new().chain_update(KEY_ID).chain_update(bytes).finalize().into();
        let id = hash.first_chunk().copied().unwrap_or_default();
        Self { id: KeyId(id), bytes: Secret::new(bytes) }
    }
}

/// Sealing keys, the newest first.
#[derive(Clone)]
pub struct Ring {
    newest: Key,
    older: Vec<Key>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Ring {
    /// A ring of one new key.
    ///
    /// # Errors
    /// [`SealingError::NoChance`].
    pub fn generate() -> Result<Self, SealingError> {
        Ok(Self { newest: Key::of(random()?), older: Vec::new() })
    }

    /// Reads what [`Ring::to_text`] wrote.
    ///
    /// # Errors
    /// [`SealingError::Keys`].
    pub fn parse(text: &str) -> Result<Self, SealingError> {
        if text.len() > MOST_RING {
            return Err(SealingError::Keys);
        }
        let mut keys: Vec<Key> = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut bytes = [0; 32];
            let digits = line.strip_prefix(KEY).ok_or(SealingError::Keys)?;
            hex::decode_to_slice(digits, &mut bytes).map_err(|_| SealingError::Keys)?;
            let key = Key::of(bytes);
            if !keys.iter().any(|known| known.id == key.id) {
                keys.push(key);
            }
        }
        if keys.is_empty() || keys.len() > MOST_KEYS {
            return Err(SealingError::Keys);
        }
        let newest = keys.remove(0);
        Ok(Self { newest, older: keys })
    }

    /// The ring as text, for a file that its owner alone reads.
    pub fn to_text(&self) -> Secret<String> {
        let lines = self.keys().map(|key| format!("{KEY}{}\n", hex::encode(key.bytes.expose())));
        Secret::new(lines.collect())
    }

    /// The key that seals.
    pub fn newest(&self) -> KeyId {
        self.newest.id
    }

    /// All keys, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys().map(|key| key.id)
    }

    /// Is this key in the ring?
    pub fn has(&self, id: KeyId) -> bool {
        self.ids().any(|known| known == id)
    }

    /// With a new key before the others.
    ///
    /// # Errors
    /// [`SealingError::Full`], [`SealingError::NoChance`].
    pub fn renewed(&self) -> Result<Self, SealingError> {
        Self::generate()?.with(self)
    }

    /// With the keys of another ring behind its own.
    ///
    /// # Errors
    /// [`SealingError::Full`].
    pub fn with(&self, other: &Self) -> Result<Self, SealingError> {
        let mut all = self.clone();
        all.older.extend(other.keys().filter(|key| !self.has(key.id)).cloned());
        if all.older.len() < MOST_KEYS { Ok(all) } else { Err(SealingError::Full) }
    }

    /// Without the older keys.
    #[must_use]
    pub fn newest_alone(&self) -> Self {
        Self { newest: self.newest.clone(), older: Vec::new() }
    }

    /// Seals a secret for its place, with the newest key.
    ///
    /// # Errors
    /// [`SealingError::Large`], [`SealingError::NoChance`].
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<String, SealingError> {
        self.seal_with(place, secret, random()?)
    }

    fn seal_with(&self, place: Place<'_>, secret: &[u8], nonce: [u8; NONCE]) -> Result<String, SealingError> {
        if secret.len() > MOST {
            return Err(SealingError::Large);
        }
        let Key { id, bytes } = &self.newest;
        let aad = data(*id, place);
        let cipher = XChaCha20Poly1305::new(bytes.expose().into());
        let sealed = cipher.encrypt((&nonce).into(), Payload { msg: secret, aad: &aad });
        let sealed = sealed.map_err(|_| SealingError::Large)?;
        Ok(format!("{SEALED}{id}:{}", URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Opens what was sealed for this place by any key of the ring. One line end behind it is of no account.
    ///
    /// # Errors
    /// [`SealingError::Form`], [`SealingError::Unknown`], [`SealingError::Wrong`].
    pub fn open(&self, place: Place<'_>, sealed: &str) -> Result<Secret<Vec<u8>>, SealingError> {
        let (id, body) = parts(sealed)?;
        let key = self.keys().find(|key| key.id == id).ok_or(SealingError::Unknown(id))?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| SealingError::Form)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or(SealingError::Form)?;
        if rest.len() < TAG {
            return Err(SealingError::Form);
        }
        let cipher = XChaCha20Poly1305::new(key.bytes.expose().into());
        let opened = cipher.decrypt(nonce.into(), Payload { msg: rest, aad: &data(id, place) });
        opened.map(Secret::new).map_err(|_| SealingError::Wrong)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.older)
    }
}

/// Does this begin as what is sealed?
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(SEALED.as_bytes())
}

/// Which key sealed this; `None` where it has not the form.
pub fn sealed_by(sealed: &str) -> Option<KeyId> {
    parts(sealed).ok().map(|(id, _)| id)
}

fn parts(sealed: &str) -> Result<(KeyId, &str), SealingError> {
    let longest = SEALED.len() + 18 + (NONCE + MOST + TAG).div_ceil(3) * 4;
    let rest = sealed.strip_suffix('\n').unwrap_or(sealed).strip_prefix(SEALED).ok_or(SealingError::Form)?;
    let (id, body) = rest.split_once(':').ok_or(SealingError::Form)?;
    if sealed.len() > longest {
        return Err(SealingError::Form);
    }
    Ok((id.parse()?, body))
}

/// The associated data.
fn data(id: KeyId, place: Place<'_>) -> Vec<u8> {
    let mut out = DATA.to_vec();
    out.extend(id.0);
    for text in [place.purpose, place.tenant, place.name] {
        out.extend((text.len() as u64).to_be_bytes());
        out.extend(text.as_bytes());
    }
    out
}

fn random<const N: usize>() -> Result<[u8; N], SealingError> {
    let mut bytes = [0; N];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|_| SealingError::NoChance)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "sealing_tests.rs"]
mod tests;
