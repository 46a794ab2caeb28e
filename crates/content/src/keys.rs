//! Keys that sign: made once, each kept in a file of its own, its public half handed out as text. The manager has one
//! for bundles and one for orders to hosts; an operator has one that never lies on the manager.
//!
//! Ed25519 (RFC 8032). The file holds the 32 bytes of the private key as hexadecimal text after a word that
//! says what it is (the manager seals its own, and keeps no plain file); only its owner may read it, and a file that others can read is refused, because whoever
//! has it can give rules to every host. A pipe is read as well, so that a key can come out of what keeps it sealed.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::TryRngCore;
use sakimori_runtime::Secret;

/// What a key is for. Its file says so, so that one is not taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Signs bundles of rules.
    Bundle,
    /// Seals what the manager tells its hosts.
    Order,
    /// Seals orders that need people.
    Operator,
}

impl Use {
    fn word(self) -> &'static str {
        match self {
            Self::Bundle => "sakimori-bundle-key:",
            Self::Order => "sakimori-order-key:",
            Self::Operator => "sakimori-operator-key:",
        }
    }
}

const PUBLIC: &str = "ed25519:";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The disk said no.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// Others can read the private key.
    #[error("read signing key {}: its mode is {mode:o}; make a new key if others were on this machine, or run chmod 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("read signing key {}: it holds no signing key; restore it from a copy or move it away", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("make signing key: no random bytes from the system")]
    NoChance,
    /// A text that should be a public key.
    #[error("read public key: expected `ed25519:` and 64 hexadecimal digits of a key")]
    NotPublic,
}

/// Loads the bundle key at `path`, or makes one there (mode 0600, durable) if nothing is there.
pub fn load_or_make(path: &Path) -> Result<SigningKey, KeyError> {
    load_or_make_for(path, Use::Bundle)
}

/// Loads the key of this use at `path`, or makes one there (mode 0600, durable) if nothing is there.
pub fn load_or_make_for(path: &Path, purpose: Use) -> Result<SigningKey, KeyError> {
    match load_for(path, purpose) {
        Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => make(path, purpose),
        other => other,
    }
}

/// Loads the bundle key at `path`.
pub fn load(path: &Path) -> Result<SigningKey, KeyError> {
    load_for(path, Use::Bundle)
}

/// Loads the key of this use at `path`.
pub fn load_for(path: &Path, purpose: Use) -> Result<SigningKey, KeyError> {
    const DOING: &str = "read signing key";
    let file = io(DOING, path, fs::File::open(path))?;
    let mode = io(DOING, path, file.metadata())?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    io(DOING, path, file.take(4096).read_to_string(&mut text))?;
    from_text(&text, purpose).ok_or_else(|| KeyError::NotAKey { path: path.to_owned() })
}

/// The private key as its file holds it, for who keeps it elsewhere than in a plain file.
pub fn to_text(key: &SigningKey, purpose: Use) -> Secret<String> {
    Secret::new(format!("{}{}\n", purpose.word(), hex::encode(key.to_bytes())))
}

/// Reads what [`to_text`] wrote; `None` where it is no key of this use.
pub fn from_text(text: &str, purpose: Use) -> Option<SigningKey> {
    text.trim_end().strip_prefix(purpose.word()).and_then(bytes32).map(|bytes| SigningKey::from_bytes(&bytes))
}

/// Makes a key at `path`, which must not exist. Another process that makes it at the same moment wins or
/// loses whole: the file appears complete, by a link that refuses to replace.
fn make(path: &Path, purpose: Use) -> Result<SigningKey, KeyError> {
    const DOING: &str = "make signing key";
    let key = generate()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let _ = fs::remove_file(&beside);
    let mut file = io(DOING, path, OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside))?;
    let written = file.write_all(to_text(&key, purpose).expose().as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&beside, path));
    let _ = fs::remove_file(&beside);
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return load_for(path, purpose),
        other => io(DOING, path, other)?,
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    io(DOING, folder, fs::File::open(folder).and_then(|folder| folder.sync_all()))?;
    Ok(key)
}

/// A new key, kept nowhere.
pub fn generate() -> Result<SigningKey, KeyError> {
    let mut seed = [0_u8; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut seed).map_err(|_| KeyError::NoChance)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// The public half as text: `ed25519:` and 64 hexadecimal digits.
pub fn public_text(key: &VerifyingKey) -> String {
    format!("{PUBLIC}{}", hex::encode(key.as_bytes()))
}

/// Reads what [`public_text`] wrote.
pub fn parse_public(text: &str) -> Result<VerifyingKey, KeyError> {
    let bytes = text.trim().strip_prefix(PUBLIC).and_then(bytes32).ok_or(KeyError::NotPublic)?;
    public_from_bytes(&bytes)
}

/// The public half from its 32 bytes, as the enrolment reply carries it.
pub fn public_from_bytes(bytes: &[u8]) -> Result<VerifyingKey, KeyError> {
    let bytes = bytes.try_into().map_err(|_| KeyError::NotPublic)?;
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).ok_or(KeyError::NotPublic)
}

/// First 16 bytes of the SHA-256 of the public key: tells keys apart in bundles and messages.
pub fn key_id(key: &VerifyingKey) -> [u8; 16] {
    sakimori_model::id::key_id(key.as_bytes())
}

fn bytes32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn io<T>(doing: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T, KeyError> {
    result.map_err(|source| KeyError::Io { doing, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(load_or_make(&path).unwrap().to_bytes(), made.to_bytes());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left beside the key");
        let other = load_or_make_for(&path, Use::Order).unwrap_err();
        assert!(matches!(other, KeyError::NotAKey { .. }), "a key for bundles is none for orders");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.key");
        load_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_make(&path).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn a_damaged_key_file_is_an_error_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.key");
        fs::write(&path, "sakimori-bundle-key:00ff\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load_or_make(&path), Err(KeyError::NotAKey { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "sakimori-bundle-key:00ff\n");
    }

    #[test]
    fn a_key_comes_out_of_a_pipe_from_what_keeps_it_sealed() {
        use std::os::fd::AsRawFd;
        let (reader, mut writer) = std::io::pipe().unwrap();
        let key = generate().unwrap();
        writeln!(writer, "{}{}", Use::Operator.word(), hex::encode(key.to_bytes())).unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        assert_eq!(load_for(&path, Use::Operator).unwrap().to_bytes(), key.to_bytes());
    }

    #[test]
    fn the_public_half_goes_through_text() {
        let key = generate().unwrap().verifying_key();
        assert_eq!(parse_public(&public_text(&key)).unwrap(), key);
        for text in ["", "ed25519:", "ed25519:zz", &format!("ed25519:{}", "0".repeat(64))] {
            assert!(parse_public(text).is_err(), "{text}");
        }
        assert_ne!(key_id(&key), key_id(&generate().unwrap().verifying_key()));
    }
}
