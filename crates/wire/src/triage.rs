//! A triage package: what a host wrote down of itself, signed by its identity, and how anybody holds it against that.
//!
//! ```text
//! FILE = tar of  package.tar.zst   the files, with manifest.json first: path, size and SHA-256 of each
//!                signature.json    the statement, the host's signature over it, the host's certificate
//! ```
//! The statement says which host made it, when, for which action, and size and SHA-256 of `package.tar.zst`. It is signed by
//! ECDSA on P-256 with SHA-256 (FIPS 186-5) by the key with which the host speaks to its manager; [`verify`] holds signature
//! and certificate against the manager's CA, and every file against the manifest. The package was made on a host that an enemy
//! may have had: sizes and numbers have bounds, and whatever is not as it should be is an error.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Version of the format.
pub const FORMAT: u32 = 1;
/// Largest `package.tar.zst`, in bytes.
pub const MAX_PACKAGE: u64 = 64 << 20;
/// Most bytes of all files in it together.
pub const MAX_CONTENT: u64 = 256 << 20;
/// Most files in it.
pub const MAX_FILES: usize = 20_000;
/// Largest `signature.json` and `manifest.json`, in bytes.
const MAX_STATEMENT: u64 = 64 << 10;
const MAX_MANIFEST: u64 = 16 << 20;
/// Names of the entries.
const PACKAGE: &str = "package.tar.zst";
const SIGNATURE: &str = "signature.json";
/// Name of the list of files, the first entry of the package.
pub const MANIFEST: &str = "manifest.json";
/// What the signature is over begins with this, so that it is none over anything else.
const DOMAIN: &[u8] = b"sakimori triage package 1\0";

/// What the host says of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// [`FORMAT`].
    pub format: u32,
    /// Id of the agent.
    pub agent: String,
    /// Name of the host.
    pub host: String,
    /// The action that asked for it.
    pub action: String,
    /// When it was made.
    pub made: sakimori_model::Timestamp,
    /// Bytes of `package.tar.zst`.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// The statement as its signed text, and who signed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// JSON of a [`Statement`].
    pub statement: String,
    /// The signature, hexadecimal; empty where the host has no identity.
    pub signature: String,
    /// The host's certificate, PEM.
    pub certificate: String,
}

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name in the package.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Why a package is not what it says.
#[derive(Debug, thiserror::Error)]
pub enum TriageError {
    /// It cannot be read.
    #[error("cannot read the package: {0}")]
    Read(#[from] io::Error),
    /// It is none, or damaged.
    #[error("it is no triage package: {0}")]
    Form(String),
    /// Something in it was changed.
    #[error("it was changed: {0}")]
    Changed(String),
    /// Nobody signed it, or somebody else.
    #[error("the signature does not hold: {0}")]
    Signature(String),
}

/// What holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the host says.
    pub statement: Statement,
    /// SHA-256 of the certificate that signed it, hexadecimal.
    pub certificate: String,
    /// Is the certificate the CA's? False where none was given.
    pub of_the_ca: bool,
    /// The files.
    pub files: Vec<Listed>,
}

/// The bytes that are signed.
pub fn to_sign(statement: &str) -> Vec<u8> {
    [DOMAIN, statement.as_bytes()].concat()
}

/// Writes a package with its signature.
///
/// # Errors
/// Where the writer says no.
pub fn write(out: impl Write, package: &[u8], signed: &Signed) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    let text = serde_json::to_vec_pretty(signed)?;
    append(&mut tar, SIGNATURE, &text)?;
    append(&mut tar, PACKAGE, package)?;
    tar.finish()
}

/// Adds a file to a tar: root's, for its owner alone, with no time.
///
/// # Errors
/// Where the writer says no.
pub fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

/// Reads the two parts of a package; what they hold is not looked at.
///
/// # Errors
/// It is none, or too large.
pub fn open(file: impl Read) -> Result<(Signed, Vec<u8>), TriageError> {
    let form = |text: &str| TriageError::Form(text.to_owned());
    let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut tar = tar::Archive::new(file.take(MAX_PACKAGE + (1 << 20)));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let most = match name.as_str() {
            PACKAGE => MAX_PACKAGE,
            SIGNATURE => MAX_STATEMENT,
            _ => return Err(form("it has something else in it")),
        };
        let bytes = read(&mut entry, most)?;
        if parts.insert(name, bytes).is_some() {
            return Err(form("it has a part twice"));
        }
    }
    let (Some(signed), Some(package)) = (parts.remove(SIGNATURE), parts.remove(PACKAGE)) else {
        return Err(form("a part is missing"));
    };
    let signed = serde_json::from_slice(&signed).map_err(|error| TriageError::Form(error.to_string()))?;
    Ok((signed, package))
}

/// Holds a package against its signature, its certificate against the CA (PEM), and every file against the manifest.
///
/// # Errors
/// What is not as it should be.
pub fn verify(file: impl Read, ca: Option<&str>) -> Result<Verified, TriageError> {
    let (signed, package) = open(file)?;
    let statement: Statement =
        serde_json::from_str(&signed.statement).map_err(|error| TriageError::Form(error.to_string()))?;
    if statement.format != FORMAT {
        return Err(TriageError::Form(format!("its format {} is not known here", statement.format)));
    }
    let (certificate, of_the_ca) = signer(&signed, &statement, ca)?;
    let sum = hex::encode(Sha256::digest(&package));
    if statement.bytes != package.len() as u64 || statement.sha256 != sum {
        return Err(TriageError::Changed(format!("{PACKAGE} is not the one that was signed")));
    }
    let files = files(&package, |_, _| Ok(()))?;
    Ok(Verified { statement, certificate, of_the_ca, files })
}

fn signer(signed: &Signed, statement: &Statement, ca: Option<&str>) -> Result<(String, bool), TriageError> {
    let bad = |text: &str| TriageError::Signature(text.to_owned());
    if signed.signature.is_empty() {
        return Err(bad("there is none; a host that is not enrolled has no identity to sign with"));
    }
    let signature = hex::decode(&signed.signature).map_err(|_| bad("it is no signature"))?;
    let der = der(&signed.certificate).ok_or_else(|| bad("the certificate cannot be read"))?;
    let (_, leaf) = X509Certificate::from_der(&der).map_err(|_| bad("the certificate cannot be read"))?;
    holds(&leaf, &to_sign(&signed.statement), &signature).map_err(|()| bad("the statement was changed"))?;
    let named = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    if named != Some(statement.agent.as_str()) {
        return Err(bad("the certificate is of another host than the statement names"));
    }
    let fingerprint = hex::encode(Sha256::digest(&der));
    let Some(ca) = ca else { return Ok((fingerprint, false)) };
    let ca = self::der(ca).ok_or_else(|| bad("the CA cannot be read"))?;
    let (_, ca) = X509Certificate::from_der(&ca).map_err(|_| bad("the CA cannot be read"))?;
    let issued =
        leaf.issuer() == ca.subject() && holds(&ca, leaf.tbs_certificate.as_ref(), &leaf.signature_value.data).is_ok();
    if !issued {
        return Err(bad("this CA did not issue the host's certificate"));
    }
    let made = statement.made.micros().div_euclid(1_000_000);
    let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    if !(from..=to).contains(&made) {
        return Err(bad("the certificate did not hold when the package was made"));
    }
    Ok((fingerprint, true))
}

/// Did the key of this certificate sign this?
fn holds(of: &X509Certificate<'_>, message: &[u8], signature: &[u8]) -> Result<(), ()> {
    let key = &of.public_key().subject_public_key.data;
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, key)
        .verify(message, signature)
        .map_err(drop)
}

/// The first certificate of a PEM text.
fn der(pem: &str) -> Option<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    Some(pem.contents)
}

/// The files of a `package.tar.zst`, each held against the manifest and handed on.
///
/// # Errors
/// One is not as the manifest says, or there are too many.
pub fn files(package: &[u8], mut each: impl FnMut(&str, &[u8]) -> io::Result<()>) -> Result<Vec<Listed>, TriageError> {
    let form = |text: &str| TriageError::Form(text.to_owned());
    let plain = zstd::Decoder::new(package)?.take(MAX_CONTENT + MAX_MANIFEST + (MAX_FILES as u64 + 2) * 1_024);
    let mut tar = tar::Archive::new(plain);
    let mut entries = tar.entries()?;
    let mut first = entries.next().ok_or_else(|| form("it is empty"))??;
    if first.path_bytes().as_ref() != MANIFEST.as_bytes() {
        return Err(form("its list is missing"));
    }
    let list = read(&mut first, MAX_MANIFEST)?;
    let list: Vec<Listed> = serde_json::from_slice(&list).map_err(|error| TriageError::Form(error.to_string()))?;
    if list.len() > MAX_FILES {
        return Err(form("it lists too many files"));
    }
    let mut left: BTreeMap<&str, &Listed> = list.iter().map(|one| (one.name.as_str(), one)).collect();
    for entry in entries {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(listed) = left.remove(name.as_str()) else {
            return Err(TriageError::Changed(format!("{name} is not on the list, or there twice")));
        };
        let bytes = read(&mut entry, MAX_CONTENT)?;
        if listed.size != bytes.len() as u64 || listed.sha256 != hex::encode(Sha256::digest(&bytes)) {
            return Err(TriageError::Changed(format!("{name} is not as the list says")));
        }
        each(&name, &bytes)?;
    }
    match left.keys().next() {
        Some(name) => Err(TriageError::Changed(format!("{name} is missing"))),
        None => Ok(list),
    }
}

fn read(from: &mut impl Read, most: u64) -> Result<Vec<u8>, TriageError> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(TriageError::Form(format!("a part has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "triage_tests.rs"]
mod tests;
