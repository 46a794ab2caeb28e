//! One numbered, signed bundle.
//!
//! Integers are little-endian.
//!
//! ```text
//! bundle   = magic "SAKIBNDL" | version u16 = 1 | zero u16
//!          | manifest length u32 | manifest (JSON)
//!          | body length u32 | body (one zstd frame: the files, one after another, in the manifest's order)
//!          | key id (16 bytes) | signature (64 bytes)
//! key id   = first 16 bytes of SHA-256(public key)
//! manifest = {number, created, class, notes, files: [{path, size, sha256}]}, paths ascending
//! ```
//!
//! The signature is Ed25519 over all bytes before it. It is checked before the manifest is parsed or the body
//! unpacked, so that of a stranger's bundle no more than the three lengths is ever looked at. A bundle that
//! ends after its body is unsigned. Nothing may follow the signature.

use std::io::Read;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{self, Files, FilesError, MAX_FILE, MAX_FILES, MAX_TOTAL};
use crate::keys::key_id;

/// Largest bundle, in bytes: one frame of the agent's channels (16 MiB) with room to spare.
pub const MAX_BUNDLE: usize = 12 << 20;
/// Largest manifest, in bytes.
const MAX_MANIFEST: usize = 8 << 20;
/// Longest notes, in bytes.
pub const MAX_NOTES: usize = 64 << 10;

const MAGIC: &[u8; 8] = b"SAKIBNDL";
const VERSION: u16 = 1;
const KEY_ID: usize = 16;
const SIGNATURE: usize = 64;
const LEVEL: i32 = 9;

/// How urgently a bundle is meant to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Goes the usual way.
    #[default]
    Regular,
    /// Against something that is happening now.
    Emergency,
}

/// What is said of a bundle that is to be built. A plain number will do: `build(&files, 7, &key)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// From 1; a program never takes one that is not above what it had.
    pub number: u64,
    /// When it was made, if known.
    pub created: Option<Timestamp>,
    /// How urgent it is.
    pub class: Class,
    /// What changed, for people.
    pub notes: String,
}

impl From<u64> for Draft {
    fn from(number: u64) -> Self {
        Self { number, ..Self::default() }
    }
}

/// A bundle that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// How urgent it is.
    pub class: Class,
    /// What changed.
    pub notes: String,
    /// Its files.
    pub files: Files,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    class: Class,
    notes: String,
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    size: u64,
    sha256: String,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bytes are something else, or of a later format.
    #[error("read rule bundle: it is not a bundle of format {VERSION}; build it again with this release")]
    NotABundle,
    /// It ends too early.
    #[error("read rule bundle: it is cut off after {0} bytes; transfer it again")]
    CutOff(usize),
    /// It carries no signature.
    #[error("read rule bundle: it is not signed; sign it with the key that this program trusts")]
    Unsigned,
    /// Signed by a key that is not trusted here.
    #[error("read rule bundle: it is signed by key {found}, and {expected} is trusted here; build it with that key")]
    WrongKey {
        /// Id of the key that is named in it.
        found: String,
        /// Id of the trusted key.
        expected: String,
    },
    /// Its bytes are not those that were signed.
    #[error("read rule bundle: it was altered after it was signed ({0}); transfer it again")]
    Altered(&'static str),
    /// Not above the one that is in use.
    #[error("read rule bundle: number {number} is not above {have}, which was already taken; give it a higher number")]
    Older {
        /// Its number.
        number: u64,
        /// The highest one taken so far.
        have: u64,
    },
    /// A bound was exceeded.
    #[error("rule bundle: its {what} takes {found} bytes and {most} are allowed; leave files out")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much there is, or at least is.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// Number 0 means "no bundle".
    #[error("build rule bundle: its number must be at least 1")]
    NoNumber,
    /// A path or a bound of its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Compression or encoding said no.
    #[error("build rule bundle: {0}")]
    Encode(String),
}

/// Builds and signs a bundle of `files`.
pub fn build(files: &Files, draft: impl Into<Draft>, key: &SigningKey) -> Result<Vec<u8>, BundleError> {
    let draft = draft.into();
    if draft.number == 0 {
        return Err(BundleError::NoNumber);
    }
    bound("notes", draft.notes.len() as u64, MAX_NOTES as u64)?;
    files::check(files)?;
    let entries = files.iter().map(|(path, bytes)| Entry {
        path: path.clone(),
        size: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    });
    let manifest = Manifest {
        number: draft.number,
        created: draft.created,
        class: draft.class,
        notes: draft.notes,
        files: entries.collect(),
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|error| BundleError::Encode(error.to_string()))?;
    let body: Vec<u8> = files.values().flatten().copied().collect();
    let body = zstd::bulk::compress(&body, LEVEL).map_err(|error| BundleError::Encode(error.to_string()))?;

    let mut out = Vec::with_capacity(manifest.len() + body.len() + 128);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    for (what, part, most) in [("manifest", &manifest, MAX_MANIFEST), ("body", &body, MAX_BUNDLE)] {
        bound(what, part.len() as u64, most as u64)?;
        let length = u32::try_from(part.len()).expect("bounded above");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&key_id(&key.verifying_key()));
    let signature = key.sign(&out);
    out.extend_from_slice(&signature.to_bytes());
    bound("bundle", out.len() as u64, MAX_BUNDLE as u64)?;
    Ok(out)
}

/// Verifies a bundle against the trusted key. Its number must be above `newer_than` (0 takes any).
pub fn verify(bytes: &[u8], key: &VerifyingKey, newer_than: u64) -> Result<Bundle, BundleError> {
    let parts = split(bytes)?;
    let seal = parts.seal.ok_or(BundleError::Unsigned)?;
    let trusted = key_id(key);
    let sound = key.verify_strict(parts.signed, &Signature::from_bytes(&seal.signature)).is_ok();
    if !sound {
        // The key id is told only where it explains the refusal; it is itself under the signature.
        if seal.key_id != trusted {
            return Err(BundleError::WrongKey { found: hex::encode(seal.key_id), expected: hex::encode(trusted) });
        }
        return Err(BundleError::Altered("its signature does not fit"));
    }
    if seal.key_id != trusted {
        return Err(BundleError::Altered("it names another key"));
    }
    let manifest = manifest(parts.manifest)?;
    if manifest.number <= newer_than {
        return Err(BundleError::Older { number: manifest.number, have: newer_than });
    }
    unpack(manifest, parts.body)
}

/// Reads a bundle **without** asking who made it: for showing what a file holds, and the entry of the fuzzer,
/// which could never guess a signature. Nothing that it returns may be put to use.
pub fn read_untrusted(bytes: &[u8]) -> Result<Bundle, BundleError> {
    let parts = split(bytes)?;
    unpack(manifest(parts.manifest)?, parts.body)
}

struct Parts<'a> {
    signed: &'a [u8],
    manifest: &'a [u8],
    body: &'a [u8],
    seal: Option<Seal>,
}

struct Seal {
    key_id: [u8; KEY_ID],
    signature: [u8; SIGNATURE],
}

fn split(bytes: &[u8]) -> Result<Parts<'_>, BundleError> {
    bound("bundle", bytes.len() as u64, MAX_BUNDLE as u64)?;
    let cut = || BundleError::CutOff(bytes.len());
    let common = bytes.len().min(MAGIC.len());
    if bytes.get(..common) != MAGIC.get(..common) {
        return Err(BundleError::NotABundle);
    }
    let rest = bytes.get(MAGIC.len()..).ok_or_else(cut)?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    if *version != [VERSION.to_le_bytes(), [0, 0]].concat().as_slice() {
        return Err(BundleError::NotABundle);
    }
    let (manifest, rest) = part(rest, "manifest", MAX_MANIFEST)?.ok_or_else(cut)?;
    let (body, rest) = part(rest, "body", MAX_BUNDLE)?.ok_or_else(cut)?;
    let seal = if rest.is_empty() {
        None
    } else {
        let (key_id, signature) = rest.split_first_chunk::<KEY_ID>().ok_or_else(cut)?;
        if signature.len() > SIGNATURE {
            return Err(BundleError::Altered("something follows its signature"));
        }
        Some(Seal { key_id: *key_id, signature: signature.try_into().map_err(|_| cut())? })
    };
    let signed = bytes.get(..bytes.len().saturating_sub(SIGNATURE)).unwrap_or_default();
    Ok(Parts { signed, manifest, body, seal })
}

/// A length and that many bytes; `None` where they are not all there.
fn part<'a>(bytes: &'a [u8], what: &'static str, most: usize) -> Result<Option<(&'a [u8], &'a [u8])>, BundleError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    bound(what, length as u64, most as u64)?;
    Ok(rest.split_at_checked(length))
}

fn manifest(bytes: &[u8]) -> Result<Manifest, BundleError> {
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|_| BundleError::Altered("its manifest cannot be read"))?;
    if manifest.number == 0 {
        return Err(BundleError::NoNumber);
    }
    bound("notes", manifest.notes.len() as u64, MAX_NOTES as u64)?;
    if manifest.files.len() > MAX_FILES {
        let found = manifest.files.len() as u64;
        return Err(FilesError::TooLarge { what: "files", found, most: MAX_FILES as u64 }.into());
    }
    let mut total = 0_u64;
    let mut former: Option<&str> = None;
    for entry in &manifest.files {
        files::check_path(&entry.path)?;
        if former.is_some_and(|former| former >= entry.path.as_str()) {
            return Err(BundleError::Altered("its paths are not in order"));
        }
        former = Some(&entry.path);
        bound("one file", entry.size, MAX_FILE)?;
        total = total.saturating_add(entry.size);
    }
    bound("files", total, MAX_TOTAL)?;
    Ok(manifest)
}

/// Unpacks the body: exactly as many bytes as the manifest says, each file with its hash.
fn unpack(manifest: Manifest, body: &[u8]) -> Result<Bundle, BundleError> {
    const DAMAGED: BundleError = BundleError::Altered("its body cannot be unpacked");
    let mut reader = zstd::stream::read::Decoder::new(body).map_err(|_| DAMAGED)?;
    reader.window_log_max(24).map_err(|_| DAMAGED)?;
    let Manifest { number, created, class, notes, files: entries } = manifest;
    let mut files = Files::new();
    for entry in entries {
        let mut bytes = Vec::new();
        reader.by_ref().take(entry.size).read_to_end(&mut bytes).map_err(|_| DAMAGED)?;
        if bytes.len() as u64 != entry.size || hex::encode(Sha256::digest(&bytes)) != entry.sha256 {
            return Err(BundleError::Altered("a file is not the one in the manifest"));
        }
        files.insert(entry.path, bytes);
    }
    if reader.read(&mut [0]).map_err(|_| DAMAGED)? != 0 {
        return Err(BundleError::Altered("its body is longer than the manifest says"));
    }
    Ok(Bundle { number, created, class, notes, files })
}

fn bound(what: &'static str, found: u64, most: u64) -> Result<(), BundleError> {
    if found > most { Err(BundleError::TooLarge { what, found, most }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
