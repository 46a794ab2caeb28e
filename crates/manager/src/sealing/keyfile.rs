//! Where the sealing key lies: in a file outside of everything that a backup copies.
//!
//! 1. `seal_key` of the configuration.
//! 2. A credential of systemd's (`LoadCredential=sakimori-seal-key:…`), in the folder `$CREDENTIALS_DIRECTORY`.
//! 3. `seal.key` beside the configuration file. Where there is no such file, or it lies in a folder that is backed up:
//!    beside the state folder, under its name and `.seal.key`.
//!
//! The file is its owner's alone; it is made at the first start, and never while sealed secrets are there.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sakimori_runtime::sealing::{MOST_RING, Ring, SealingError};

use super::files::{Over, write_private};
use super::{Error, Result, Step, io};
use crate::config::Config;

/// Name of the file.
pub const NAME: &str = "seal.key";
/// Name of systemd's credential.
pub const CREDENTIAL: &str = "sakimori-seal-key";
const ABOUT: &str = "# Sealing keys of a Sakimori manager, the newest first. Keep a copy elsewhere: without it no backup can be\n\
    # restored. Keep it apart from the backups: with both, somebody is this manager.\n";

/// Where the key is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file of the manager's own.
    File(PathBuf),
    /// A file that systemd hands over for as long as the manager runs.
    Credential(PathBuf),
}

impl KeyPlace {
    /// As a configuration and the environment say.
    ///
    /// # Errors
    /// A place that backups copy.
    pub fn of(config: &Config) -> Result<Self> {
        Self::find(config, std::env::var_os("CREDENTIALS_DIRECTORY"))
    }

    pub(super) fn find(config: &Config, credentials: Option<OsString>) -> Result<Self> {
        let copied: Vec<PathBuf> =
            std::iter::once(&config.state_dir).chain(&config.content_dir).map(|dir| real(dir)).collect();
        let copied_with = |path: &Path| copied.iter().find(|dir| real(path).starts_with(dir)).cloned();
        if config.seal_key.is_none()
            && let Some(path) = credentials.map(|dir| PathBuf::from(dir).join(CREDENTIAL)).filter(|path| path.exists())
        {
            return Ok(Self::Credential(path));
        }
        let default = || {
            let by_file = config.file.as_deref().map(real).and_then(|file| Some(file.parent()?.join(NAME)));
            let by_state = || {
                let mut whole = real(&config.state_dir).into_os_string();
                whole.push(format!(".{NAME}"));
                PathBuf::from(whole)
            };
            by_file.filter(|path| copied_with(path).is_none()).unwrap_or_else(by_state)
        };
        let path = config.seal_key.clone().unwrap_or_else(default);
        match copied_with(&path) {
            Some(dir) => Err(Error::Inside { path, dir }),
            None => Ok(Self::File(path)),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Credential(path) => path,
        }
    }

    /// The keys; `None` where the file is absent.
    ///
    /// # Errors
    /// A file that others can read, or that holds something else.
    pub fn load(&self) -> Result<Option<Ring>> {
        // systemd lets a service's user read a credential by an entry that shows as the group's.
        let allowed = if matches!(self, Self::Credential(_)) { 0o740 } else { 0o700 };
        load(self.path(), allowed)
    }

    /// Makes a key where none is; of two programs that do it at once, both get one and the same.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(super) fn make(&self, step: Step<'_>) -> Result<Ring> {
        let ring = Ring::generate()?;
        let path = self.path();
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            make_folder(dir).map_err(|source| Error::Make { path: path.to_owned(), source })?;
        }
        match write_private(path, text(&ring).as_bytes(), Over::Nothing, step) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = self.load()?;
                found.ok_or_else(|| Error::Make { path: path.to_owned(), source: error })
            }
            Err(source) => Err(Error::Make { path: path.to_owned(), source }),
            Ok(()) => Ok(ring),
        }
    }

    /// Writes a ring in place of the one that is there, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Fixed`] for a credential; a disk that says no.
    pub(crate) fn save(&self, ring: &Ring, step: Step<'_>) -> Result<()> {
        let Self::File(path) = self else { return Err(Error::Fixed(self.path().to_owned())) };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            io("make", dir, make_folder(dir))?;
        }
        io("write", path, write_private(path, text(ring).as_bytes(), Over::Anything, step))
    }
}

/// Keys of any file, for a restore.
///
/// # Errors
/// As [`KeyPlace::load`], and where it is absent.
pub fn read(path: &Path) -> Result<Ring> {
    load(path, 0o700)?.ok_or_else(|| Error::Io {
        doing: "read the sealing key",
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })
}

fn load(path: &Path, allowed: u32) -> Result<Option<Ring>> {
    const DOING: &str = "read the sealing key";
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => io(DOING, path, other)?,
    };
    let data = io(DOING, path, file.metadata())?;
    let (mode, owner) = (data.permissions().mode() & 0o777, data.uid());
    if mode & !allowed != 0 || (owner != 0 && owner != rustix::process::geteuid().as_raw()) {
        return Err(Error::Exposed { path: path.to_owned(), mode, owner });
    }
    let mut text = String::new();
    let most = MOST_RING as u64 + 1;
    let read = file.take(most).read_to_string(&mut text);
    let wrong = |reason| Error::NotKeys { path: path.to_owned(), reason };
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(wrong(SealingError::Keys)),
        other => io(DOING, path, other).and_then(|_| Ring::parse(&text).map(Some).map_err(wrong)),
    }
}

fn text(ring: &Ring) -> String {
    format!("{ABOUT}{}", ring.to_text().expose())
}

fn make_folder(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

/// A path without links as far as it is there.
fn real(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in whole.ancestors() {
        if let Ok(found) = there.canonicalize() {
            return whole
                .strip_prefix(there)
                .map_or(found.clone(), |rest| if rest.as_os_str().is_empty() { found } else { found.join(rest) });
        }
    }
    whole
}
