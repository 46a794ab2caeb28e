//! Quarantine: malicious files out of everybody's reach, and back exactly as they were.
//!
//! An item is one file of a folder that root alone can enter ([`item`] has the format): the content, unreadable to any
//! program that might run or find it, and all that is needed to put it back: path, owner, mode, times, extended
//! attributes, inode flags. [`Quarantine::take`] goes by descriptor and never by a path that somebody else may have
//! swapped in between; [`Quarantine::restore`] makes the file complete before it has a name.
//!
//! Crash-safe: an item is whole and durable before the original goes, and the original is back and durable before the
//! item goes. A crash leaves at worst both. Hard links elsewhere keep the content: [`Taken::other_links`] says how
//! many there are.

mod item;
mod restore;
mod take;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use sakimori_model::Timestamp;

pub use item::{Cause, Item};
pub use take::{Taken, path_among, path_of};

/// Ending of items.
const ENDING: &str = ".item";
/// Beginning of what is being written.
const UNFINISHED: &str = ".new-";

/// Bounds of a quarantine. When they are reached, nothing old goes in silence: the next file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest file, in bytes.
    pub file: u64,
    /// All items together, in bytes.
    pub total: u64,
    /// Most items.
    pub items: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { file: 1 << 30, total: 10 << 30, items: 100_000 }
    }
}

/// Why something was not done. The original, or the item, is where it was.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The system said no.
    #[error("quarantine: {attempt}: {source}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// The store's folder is not ours alone.
    #[error("quarantine: {path} must be a folder of this user that nobody else can enter: {reason}", path = path.display())]
    Store {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A bound was reached.
    #[error("quarantine: {what} would be {found}, and {most} are allowed; delete items or raise the bound")]
    Full {
        /// Of what.
        what: &'static str,
        /// How much.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// The path leads to another file by now, or to none.
    #[error("quarantine: {path} is not the file any more that was judged", path = .0.display())]
    Moved(PathBuf),
    /// It is no regular file, or has no path.
    #[error("quarantine: {0}")]
    Unfit(&'static str),
    /// There is no such item.
    #[error("quarantine: there is no item {0}; `sakimori-agent quarantine list` shows them")]
    Unknown(String),
    /// An item is not what was written.
    #[error("quarantine: item {id} is damaged: {reason}")]
    Damaged {
        /// Its id.
        id: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something is where the file would go.
    #[error("quarantine: {path} exists; move it away first", path = .0.display())]
    Exists(PathBuf),
}

impl QuarantineError {
    fn io(attempt: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |error| Self::Io { attempt, source: error.into() }
    }

    fn std(attempt: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { attempt, source }
    }
}

/// A store of quarantined files.
#[derive(Debug)]
pub struct Quarantine {
    folder: File,
    bounds: Bounds,
}

impl Quarantine {
    /// Opens a store, or makes it. For looking, giving back and deleting, also beside the process that takes.
    ///
    /// # Errors
    /// The folder is somebody else's, open to others, or no folder.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, QuarantineError> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(QuarantineError::io("make its folder")(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder =
            File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(QuarantineError::io("open its folder"))?);
        let stat = rustix::fs::fstat(&folder).map_err(QuarantineError::io("look at its folder"))?;
        let wrong = |reason| Err(QuarantineError::Store { path: path.to_owned(), reason });
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return wrong("it belongs to somebody else");
        }
        if stat.st_mode & 0o077 != 0 {
            return wrong("others may enter it; chmod 700");
        }
        Ok(Self { folder, bounds })
    }

    /// [`Quarantine::open`] for the one that takes: what a crash left unfinished goes. Beside another that takes it would remove
    /// what that one is writing.
    ///
    /// # Errors
    /// As there, or the folder cannot be read.
    pub fn open_to_take(path: &Path, bounds: Bounds) -> Result<Self, QuarantineError> {
        let store = Self::open(path, bounds)?;
        for name in store.names(UNFINISHED, "")? {
            let _ = unlinkat(&store.folder, &name, AtFlags::empty());
        }
        Ok(store)
    }

    /// All items, oldest first. A damaged one is told by its id and does not hide the others.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Item, QuarantineError>>, QuarantineError> {
        let mut names = self.names("", ENDING)?;
        // Ids begin with the time.
        names.sort();
        let items = names.iter().map(|name| self.item(name.trim_end_matches(ENDING)));
        // What somebody gave back or deleted meanwhile is no damage.
        Ok(items.filter(|item| !matches!(item, Err(QuarantineError::Unknown(_)))).collect())
    }

    /// One item.
    ///
    /// # Errors
    /// There is none of this id, or it is damaged.
    pub fn item(&self, id: &str) -> Result<Item, QuarantineError> {
        item::read(&self.open_item(id)?, id)
    }

    /// Puts a file of the caller's choice under quarantine: see [`take`].
    ///
    /// # Errors
    /// The file stays where it is.
    pub fn take(&self, file: &File, cause: &Cause, now: Timestamp) -> Result<Taken, QuarantineError> {
        take::take(self, file, cause, now)
    }

    /// Puts an item back where it was, or elsewhere, and takes it out of the store.
    ///
    /// # Errors
    /// Something is there, the folder is gone, the item is damaged. It stays in the store.
    pub fn restore(&self, id: &str, to: Option<&Path>) -> Result<PathBuf, QuarantineError> {
        let path = restore::restore(self, id, to)?;
        self.delete(id)?;
        Ok(path)
    }

    /// Deletes an item for good.
    ///
    /// # Errors
    /// There is none of this id, or the disk says no.
    pub fn delete(&self, id: &str) -> Result<(), QuarantineError> {
        self.open_item(id)?;
        unlinkat(&self.folder, file_name(id)?, AtFlags::empty()).map_err(QuarantineError::io("delete an item"))?;
        self.sync()
    }

    fn open_item(&self, id: &str) -> Result<File, QuarantineError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.folder, file_name(id)?, flags, Mode::empty()) {
            Ok(file) => Ok(File::from(file)),
            Err(rustix::io::Errno::NOENT) => Err(QuarantineError::Unknown(id.to_owned())),
            Err(error) => Err(QuarantineError::io("open an item")(error)),
        }
    }

    fn sync(&self) -> Result<(), QuarantineError> {
        self.folder.sync_all().map_err(QuarantineError::std("make its folder durable"))
    }

    /// Names in the folder by beginning and end.
    fn names(&self, beginning: &str, ending: &str) -> Result<Vec<String>, QuarantineError> {
        let error = QuarantineError::io("read its folder");
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.folder).map_err(&error)? {
            let entry = entry.map_err(&error)?;
            let name = entry.file_name().to_string_lossy();
            if name.starts_with(beginning) && name.ends_with(ending) && name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    /// Items and their bytes on disk.
    fn used(&self) -> Result<(usize, u64), QuarantineError> {
        let names = self.names("", ENDING)?;
        let mut bytes = 0_u64;
        for name in &names {
            if let Ok(stat) = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
        }
        Ok((names.len(), bytes))
    }
}

/// Name of an item's file; an id is made of letters, digits and dashes, so it names nothing elsewhere.
fn file_name(id: &str) -> Result<String, QuarantineError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(fits) {
        return Err(QuarantineError::Unknown(id.chars().take(64).collect()));
    }
    Ok(format!("{id}{ENDING}"))
}
