//! shadow(5) rewritten while nobody else does, and in one step.
//!
//! We rewrite it ourselves instead of running `usermod`: that program cannot put back what was there (it unlocks by taking
//! one mark away, and not where the hash is empty then), is not on every system, and reads settings of which some run other
//! programs. What it does to keep others out we do as well: the lock of lckpwdf(3) on `/etc/.pwd.lock`, which libc, PAM and
//! systemd take, and the file `shadow.lock` with the holder's process id, which the shadow tools and `vipw` take. The new
//! table has owner, mode and extended attributes (SELinux's label, ACLs) of the old one, and takes its place by a rename.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, XattrFlags};
use sakimori_respond::ports::PortError;

use super::accounts::MAX_TABLE;

/// Most bytes of the names of extended attributes, and of one value.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// The folder `/etc` of a system, at its root.
#[derive(Clone, Debug)]
pub struct Tables {
    folder: PathBuf,
}

/// The locks; while it lives nobody else who keeps to them writes.
struct Locks {
    _process: File,
    file: PathBuf,
}

impl Drop for Locks {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.file) {
            tracing::warn!(%error, file = %self.file.display(), "a lock is left; it ends with this process");
        }
    }
}

impl Tables {
    /// Below this root; `/` for the system's own.
    pub fn at(root: &Path) -> Self {
        Self { folder: root.join("etc") }
    }

    /// A table: `passwd`, `group`, `shadow`.
    ///
    /// # Errors
    /// It cannot be read, is no plain file, or is too large.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, PortError> {
        self.open(name).map(|(_, bytes)| bytes)
    }

    fn open(&self, name: &str) -> Result<(File, Vec<u8>), PortError> {
        let path = self.folder.join(name);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                PortError::permanent(format!("cannot read {}: {error}", path.display()))
            }
            _ => PortError::transient(format!("cannot read {}: {error}", path.display())),
        };
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
        let mut file = File::options().read(true).custom_flags(flags).open(&path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() || about.nlink() != 1 {
            return Err(PortError::permanent(format!("{} is no plain file of one name", path.display())));
        }
        let mut bytes = Vec::new();
        (&mut file).take(MAX_TABLE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_TABLE {
            return Err(PortError::permanent(format!("{} is larger than {MAX_TABLE} bytes", path.display())));
        }
        Ok((file, bytes))
    }

    /// Changes shadow(5): `change` gets the table and gives the new one and what it has to say.
    ///
    /// # Errors
    /// Somebody else writes it now, the change cannot be made, or the disk fails; the table is as before then.
    pub fn change<T>(&self, change: impl FnOnce(&[u8]) -> Result<(Vec<u8>, T), String>) -> Result<T, PortError> {
        let _locks = self.lock()?;
        let (old, bytes) = self.open("shadow")?;
        let (new, said) = change(&bytes).map_err(PortError::permanent)?;
        if new != bytes {
            self.replace(&old, &new)
                .map_err(|error| PortError::transient(format!("cannot rewrite the table of passwords: {error}")))?;
        }
        Ok(said)
    }

    fn replace(&self, old: &File, bytes: &[u8]) -> io::Result<()> {
        let beside = self.folder.join(".shadow.sakimori");
        // A leftover of a crash; nobody else has this name while we hold the locks.
        remove(&beside)?;
        let written = (|| {
            let about = old.metadata()?;
            let mut new = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
            fchown(&new, Some(about.uid()), Some(about.gid()))?;
            new.set_permissions(std::fs::Permissions::from_mode(about.mode() & 0o7777))?;
            copy_attributes(old, &new)?;
            new.write_all(bytes)?;
            new.sync_all()?;
            std::fs::rename(&beside, self.folder.join("shadow"))
        })();
        if written.is_err() {
            let _ = remove(&beside);
        }
        written?;
        sakimori_sys::file::sync_folder(&self.folder)
    }

    fn lock(&self) -> Result<Locks, PortError> {
        let busy = |what: &str| PortError::transient(format!("{what}: the table of passwords is being changed"));
        let failed = |error: io::Error| PortError::transient(format!("cannot lock the table of passwords: {error}"));
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let path = self.folder.join(".pwd.lock");
        let process =
            File::options().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path);
        let process = process.map_err(failed)?;
        rustix::fs::fcntl_lock(&process, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| busy("somebody holds .pwd.lock"))?;
        let (own, file) = (self.folder.join(".shadow.sakimori.lock"), self.folder.join("shadow.lock"));
        remove(&own).map_err(failed)?;
        let made = (|| {
            let mut made = File::options().write(true).create_new(true).mode(0o600).open(&own)?;
            made.write_all(format!("{}\0", std::process::id()).as_bytes())
        })();
        let linked = made.and_then(|()| {
            std::fs::hard_link(&own, &file).or_else(|error| {
                // Its holder may be dead: then it holds nothing.
                if error.kind() != io::ErrorKind::AlreadyExists || is_held(&file) {
                    return Err(error);
                }
                remove(&file)?;
                std::fs::hard_link(&own, &file)
            })
        });
        remove(&own).map_err(failed)?;
        match linked {
            Ok(()) => Ok(Locks { _process: process, file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(busy("somebody holds shadow.lock")),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Does the process live that a lock names? One that names none is taken for held.
fn is_held(file: &Path) -> bool {
    let mut text = [0_u8; 32];
    let read = File::open(file).and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default()).into_owned();
    match text.trim_end_matches(['\0', '\n']).parse::<u32>() {
        Ok(pid) => Path::new(&format!("/proc/{pid}")).exists(),
        Err(_) => true,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0_u8; MAX_ATTRIBUTE];
    let size = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok(size) => size,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names.get(..size).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; MAX_ATTRIBUTE];
        let size = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        rustix::fs::fsetxattr(to, name, value.get(..size).unwrap_or_default(), XattrFlags::empty())?;
    }
    Ok(())
}
