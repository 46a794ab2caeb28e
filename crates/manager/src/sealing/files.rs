//! The manager's private keys: files of the state folder, each sealed for its name.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use sakimori_runtime::Secret;
use sakimori_runtime::sealing::{KeyId, MOST, Place, SealingError, is_sealed, sealed_by};

use super::{Error, Opener, Result, Step, io, own};

/// Signs bundles of rules.
pub const BUNDLE: &str = "bundle.key";
/// Seals orders to hosts.
pub const ORDER: &str = "order.key";
/// Signs certificates of agents.
pub const CA: &str = "ca/ca.key";
/// All of them.
pub const FILES: [&str; 3] = [BUNDLE, ORDER, CA];

/// The place of a file.
pub(super) fn place(name: &str) -> Place<'_> {
    own("key", name)
}

/// What a file holds, as it lies there; `None` where it is absent.
fn read(state: &Path, name: &str) -> Result<Option<Secret<Vec<u8>>>> {
    let path = state.join(name);
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => io("read", &path, other)?,
    };
    let data = io("read", &path, file.metadata())?;
    let mut bytes = Vec::new();
    io("read", &path, file.take(2 * MOST as u64).read_to_end(&mut bytes))?;
    let mode = data.permissions().mode() & 0o777;
    // What is sealed tells nobody anything.
    if !is_sealed(&bytes) && mode & 0o077 != 0 {
        return Err(Error::Exposed { path, mode, owner: data.uid() });
    }
    Ok(Some(Secret::new(bytes)))
}

/// A private key, sealed or not; `None` where the file is absent.
pub(crate) fn load(by: &Opener<'_>, state: &Path, name: &str) -> Result<Option<Secret<Vec<u8>>>> {
    let Some(bytes) = read(state, name)? else { return Ok(None) };
    if !is_sealed(bytes.expose()) {
        return Ok(Some(bytes));
    }
    let what = state.join(name).display().to_string();
    by.open(place(name), &what, &String::from_utf8_lossy(bytes.expose())).map(Some)
}

/// Keeps a new private key, unless another program was first: then that one's counts.
pub(super) fn make(by: &Opener<'_>, state: &Path, name: &str, key: &Secret<Vec<u8>>) -> Result<Secret<Vec<u8>>> {
    let path = state.join(name);
    let sealed = by.ring.seal(place(name), key.expose())?;
    match write_private(&path, format!("{sealed}\n").as_bytes(), Over::Nothing, &mut |_| {}) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            load(by, state, name)?.ok_or(Error::Io { doing: "make", path, source: error })
        }
        other => io("make", &path, other).map(|()| key.clone()),
    }
}

/// Seals the files that are not sealed by the newest key; gives how many.
pub(crate) fn settle(by: &Opener<'_>, state: &Path, step: Step<'_>) -> Result<usize> {
    let mut count = 0;
    for name in FILES {
        let Some(bytes) = read(state, name)? else { continue };
        let path = state.join(name);
        let text = String::from_utf8_lossy(bytes.expose());
        if is_sealed(bytes.expose()) && sealed_by(&text) == Some(by.ring.newest()) {
            continue;
        }
        let secret = match is_sealed(bytes.expose()) {
            true => by.open(place(name), &path.display().to_string(), &text)?,
            false => bytes.clone(),
        };
        let sealed = by.ring.seal(place(name), secret.expose())?;
        step(name);
        io("seal", &path, write_private(&path, format!("{sealed}\n").as_bytes(), Over::Anything, step))?;
        count += 1;
    }
    Ok(count)
}

/// A file that is sealed, and its key, where there is one.
pub(super) fn any_sealed(state: &Path) -> Result<Option<(String, KeyId)>> {
    for name in FILES {
        let what = state.join(name).display().to_string();
        match read(state, name)? {
            Some(bytes) if is_sealed(bytes.expose()) => {
                let id = sealed_by(&String::from_utf8_lossy(bytes.expose()));
                let id = id.ok_or_else(|| Error::Damaged { what: what.clone(), reason: SealingError::Form })?;
                return Ok(Some((what, id)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// What a write may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// It is an error where something is there.
    Nothing,
    /// What is there goes.
    Anything,
}

/// Whole or not at all, also where the power fails; for nobody else to read.
pub(crate) fn write_private(path: &Path, bytes: &[u8], over: Over, step: Step<'_>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mut write = || {
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        step("draft");
        match over {
            Over::Anything => fs::rename(&beside, path)?,
            Over::Nothing => fs::hard_link(&beside, path)?,
        }
        step("in place");
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    };
    let outcome = write();
    let _ = fs::remove_file(&beside);
    outcome
}
