//! The manager's secrets at rest (docs/adr/0015): sealed (`sakimori_runtime::sealing`) under a key that lies neither in
//! the database nor in the state folder, so that whoever has a copy of both, as a backup is one, has no key.
//!
//! | what | where | place that it is bound to |
//! |---|---|---|
//! | private keys of the manager | files of the state folder ([`files::FILES`]) | `key`, `*`, name of the file |
//! | named secrets of tenants | table `secrets` | `secret`, tenant, name |
//! | secrets of users' codes | table `totp` | `totp`, tenant, id of the user |
//! | the configuration, which may hold a password | in a backup | `backup`, `*`, name of the entry |
//!
//! A start opens the key ([`keyfile`]), seals what an older version left in plain, and seals anew what is under an older
//! key. Each step leaves what can be read: a file is replaced whole, a database's rows change in one transaction, and the
//! key file holds the new key before the first secret needs it. So a start after a crash goes on with what is left.

pub mod files;
pub mod keyfile;
mod rotate;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use sakimori_content::keys::{self, Use};
use sakimori_runtime::Secret;
use sakimori_runtime::sealing::{KeyId, Place, Ring, SealingError, sealed_by};
use sakimori_store::control::{ALL_TENANTS, Control, ControlError};

use crate::config::Config;
use keyfile::KeyPlace;
pub use rotate::{Rotated, rotate};

/// Why secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// The key file cannot be made.
    #[error("make the sealing key {}: {source}; name another place with seal_key in the configuration", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// Others can read a key.
    #[error("read {}: its mode is {mode:o} and its owner {owner}; make it its owner's alone (chmod 600), and rotate the key \
             if others were on this machine", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's uid.
        owner: u32,
    },
    /// The key file holds something else.
    #[error("read the sealing key {}: {reason}; restore it from your copy", path.display())]
    NotKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: SealingError,
    },
    /// The key would go into every backup.
    #[error("the sealing key {} lies below {}, which backups copy; name a place outside of it with seal_key in the \
             configuration", path.display(), dir.display())]
    Inside {
        /// The key file.
        path: PathBuf,
        /// The folder.
        dir: PathBuf,
    },
    /// Sealed secrets are there, and no key.
    #[error("{what} is sealed under the key {id}, and the key file {} is missing; put your copy of it there, or name its \
             place with seal_key in the configuration. No new key is made while sealed secrets are there", path.display())]
    Missing {
        /// A sealed secret.
        what: String,
        /// The key that is needed.
        id: KeyId,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The key is another one.
    #[error("{what} is sealed under the key {id}, and {} holds {held}; put the right key file there, or add its lines \
             below the first one", path.display())]
    Other {
        /// A sealed secret.
        what: String,
        /// The key that is needed.
        id: KeyId,
        /// Where the keys are from.
        path: PathBuf,
        /// Which there are.
        held: String,
    },
    /// A sealed secret that cannot be one of this place.
    #[error("open {what}: {reason}; restore it from a backup")]
    Damaged {
        /// The secret.
        what: String,
        /// What is wrong.
        reason: SealingError,
    },
    /// The key cannot be changed from here.
    #[error("the sealing key comes from {}, which this program cannot change; put a new line first into its source (sakimori \
             secrets keygen FILE makes one) and start the manager again, which seals everything anew", .0.display())]
    Fixed(PathBuf),
    /// The key file is not what this manager runs with.
    #[error("{} is not the key file that this manager was started with; start it again first", .0.display())]
    Changed(PathBuf),
    /// No room for one more key.
    #[error("the key file holds as many keys as it may; forget the older ones with --forget-older, after a new backup")]
    Full,
    /// Sealing itself failed.
    #[error("seal: {0}")]
    Seal(#[from] SealingError),
    /// Control state.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Result of sealing.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn io<T>(doing: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::Io { doing, path: path.to_owned(), source })
}

/// Called before each step that changes something on the disk, with what it is. A test ends there.
pub type Step<'a> = &'a mut (dyn FnMut(&str) + Send);

/// The sealing keys of a manager, and where they lie.
pub struct Sealing {
    /// Where the keys lie.
    pub place: KeyPlace,
    ring: ArcSwap<Ring>,
}

impl Sealing {
    /// Opens the key of a configuration, making it where nothing is sealed yet; then seals what is not sealed by it.
    ///
    /// # Errors
    /// A key that is missing, exposed or another one, with the next step.
    pub async fn open(config: &Config, control: &Control) -> Result<Self> {
        Self::open_at(KeyPlace::of(config)?, &config.state_dir, control, &mut |_| {}).await
    }

    async fn open_at(place: KeyPlace, state: &Path, control: &Control, step: Step<'_>) -> Result<Self> {
        let ring = match place.load()? {
            Some(ring) => ring,
            None => {
                let sealed = match files::any_sealed(state)? {
                    None => rows::any_sealed(control).await?,
                    some => some,
                };
                if let Some((what, id)) = sealed {
                    return Err(Error::Missing { what, id, path: place.path().to_owned() });
                }
                step("key file");
                let ring = place.make(step)?;
                tracing::info!(key = %ring.newest(), file = %place.path().display(), "a sealing key was made; keep a copy elsewhere");
                ring
            }
        };
        let opener = Opener { ring: &ring, place: place.path() };
        let count = files::settle(&opener, state, step)? + rows::settle(&opener, control, step).await?;
        if count > 0 {
            tracing::info!(count, key = %ring.newest(), "secrets were sealed");
        }
        Ok(Self { place, ring: ArcSwap::from_pointee(ring) })
    }

    /// One of a fixed key, for tests of what uses it.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let ring = Ring::parse(&format!("{}{}", sakimori_runtime::sealing::KEY, "07".repeat(32))).unwrap();
        Self { place: KeyPlace::File("/nonexistent/seal.key".into()), ring: ArcSwap::from_pointee(ring) }
    }

    /// The keys as they are now.
    pub fn ring(&self) -> Arc<Ring> {
        self.ring.load_full()
    }

    /// The signing key of this use in the state folder, made where it is absent.
    ///
    /// # Errors
    /// One that cannot be opened, read or made.
    pub fn signing_key(&self, state: &Path, name: &'static str, purpose: Use) -> anyhow::Result<SigningKey> {
        let make = || anyhow::Ok(Secret::new(keys::to_text(&keys::generate()?, purpose).expose().as_bytes().to_vec()));
        signing_key(&self.key_file(state, name, make)?, purpose, &state.join(name))
    }

    /// A private key of the state folder, made where it is absent.
    ///
    /// # Errors
    /// One that cannot be opened, read or made.
    pub fn key_file(
        &self,
        state: &Path,
        name: &'static str,
        make: impl FnOnce() -> anyhow::Result<Secret<Vec<u8>>>,
    ) -> anyhow::Result<Secret<Vec<u8>>> {
        let ring = self.ring();
        let opener = Opener { ring: &ring, place: self.place.path() };
        if let Some(found) = files::load(&opener, state, name)? {
            return Ok(found);
        }
        let made = make()?;
        Ok(files::make(&opener, state, name, &made)?)
    }

    /// Seals a tenant's secret for its name. Within the change that writes it, so that it is not sealed by a key of
    /// before a rotation.
    ///
    /// # Errors
    /// A secret that is too large.
    pub fn seal_named(&self, tenant: &str, name: &str, secret: &[u8]) -> Result<String> {
        Ok(self.ring().seal(rows::place(tenant, name), secret)?)
    }

    /// Seals the secret of a user's codes, within the change that writes it.
    ///
    /// # Errors
    /// A secret that is too large.
    pub fn seal_totp(&self, tenant: &str, user: &str, secret: &[u8]) -> Result<String> {
        Ok(self.ring().seal(rows::totp_place(tenant, user), secret)?)
    }

    /// Opens the secret of a user's codes.
    ///
    /// # Errors
    /// It does not open.
    pub fn open_totp(&self, tenant: &str, user: &str, sealed: &str) -> Result<Secret<Vec<u8>>> {
        let ring = self.ring();
        let opener = Opener { ring: &ring, place: self.place.path() };
        opener.open(rows::totp_place(tenant, user), &rows::totp_words(tenant, user), sealed)
    }

    /// Opens a tenant's secret; `None` where nobody set it.
    ///
    /// # Errors
    /// The database failed, or it does not open.
    pub async fn named(&self, control: &Control, tenant: &str, name: &str) -> Result<Option<Secret<Vec<u8>>>> {
        let sealed = sakimori_store::control::secrets::sealed(control.read(), tenant, name).await?;
        let ring = self.ring();
        let opener = Opener { ring: &ring, place: self.place.path() };
        sealed.map(|sealed| opener.open(rows::place(tenant, name), &rows::words(tenant, name), &sealed)).transpose()
    }
}

/// The manager's key for bundles, from its file, for who may read the sealing key too.
///
/// # Errors
/// One that is absent or cannot be opened.
pub fn bundle_key(config: &Config, path: &Path) -> anyhow::Result<SigningKey> {
    let sealed = io("read", path, std::fs::read_to_string(path))?;
    let place = KeyPlace::of(config)?;
    let what = path.display().to_string();
    let ring = place.load()?.ok_or_else(|| match sealed_by(&sealed) {
        Some(id) => Error::Missing { what: what.clone(), id, path: place.path().to_owned() },
        None => Error::Damaged { what: what.clone(), reason: SealingError::Form },
    })?;
    let opened = Opener { ring: &ring, place: place.path() }.open(files::place(files::BUNDLE), &what, &sealed)?;
    signing_key(&opened, Use::Bundle, path)
}

fn signing_key(text: &Secret<Vec<u8>>, purpose: Use, path: &Path) -> anyhow::Result<SigningKey> {
    let key = std::str::from_utf8(text.expose()).ok().and_then(|text| keys::from_text(text, purpose));
    Ok(key.ok_or_else(|| keys::KeyError::NotAKey { path: path.to_owned() })?)
}

/// Opens and seals, with errors that name the key file.
pub(crate) struct Opener<'a> {
    /// The keys.
    pub ring: &'a Ring,
    /// Where they are from.
    pub place: &'a Path,
}

impl Opener<'_> {
    /// Opens what was sealed for a place; `what` names it in an error.
    pub fn open(&self, place: Place<'_>, what: &str, sealed: &str) -> Result<Secret<Vec<u8>>> {
        self.ring.open(place, sealed).map_err(|reason| match reason {
            SealingError::Unknown(id) => {
                let held: Vec<String> = self.ring.ids().map(|id| id.to_string()).collect();
                let held = held.join(", ");
                Error::Other { what: what.to_owned(), id, path: self.place.to_owned(), held }
            }
            reason => Error::Damaged { what: what.to_owned(), reason },
        })
    }
}

/// A place of the installation's own.
fn own<'a>(purpose: &'a str, name: &'a str) -> Place<'a> {
    Place { purpose, tenant: ALL_TENANTS, name }
}

/// Where the configuration belongs in a backup.
pub(crate) fn in_backup(name: &str) -> Place<'_> {
    own("backup", name)
}

#[cfg(test)]
mod tests;
