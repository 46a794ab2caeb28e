//! Taking a file: copy it, make the copy durable, then remove exactly that file.
//!
//! The caller hands over a descriptor of what was judged. Its path is the kernel's (`/proc/self/fd`); the folder is
//! opened without following any link, and the name in it is first renamed to one that nobody else knows, then compared
//! with the descriptor. Only the very inode that was judged is removed; a file that was put in its place meanwhile
//! gets its name back.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, OFlags, RenameFlags, ResolveFlags, Stat, StatxFlags, openat, openat2,
    renameat, renameat_with, statat, statx, unlinkat,
};
use rustix::io::Errno;
use sakimori_model::Timestamp;
use sha2::{Digest, Sha256};

use super::item::{self, Cause, Item};
use super::{Quarantine, QuarantineError, UNFINISHED, file_name};

/// How much is copied at once.
const PIECE: usize = 256 << 10;
/// Most ends of a path that are tried.
const MAX_ENDS: usize = 64;
/// How often a path is asked for that may be in memory.
const MAX_TRIES: usize = 8;
/// Most bytes of the names of extended attributes, and of one value: the kernel's own limits.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The item.
    pub item: Item,
    /// Other names under which the content is still there.
    pub other_links: u64,
}

pub fn take(store: &Quarantine, file: &File, cause: &Cause, now: Timestamp) -> Result<Taken, QuarantineError> {
    let stat = rustix::fs::fstat(file).map_err(QuarantineError::io("look at the file"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(QuarantineError::Unfit("it is no regular file"));
    }
    if stat.st_nlink == 0 {
        return Err(QuarantineError::Unfit("it has no name any more: it goes with its last user"));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let (items, bytes) = store.used()?;
    let bounds = store.bounds;
    let count = u64::try_from(items).unwrap_or(u64::MAX).saturating_add(1);
    let most = u64::try_from(bounds.items).unwrap_or(u64::MAX);
    for (what, found, most) in [
        ("the bytes of the file", size, bounds.file),
        ("the bytes of all items", bytes.saturating_add(size), bounds.total),
        ("the number of items", count, most),
    ] {
        if found > most {
            return Err(QuarantineError::Full { what, found, most });
        }
    }
    // Before anything is copied: is it still there at all?
    let (path, folder) = place_of(file, &stat)?;
    let name = path.file_name().ok_or(QuarantineError::Unfit("it has no path"))?;
    let flags = rustix::fs::ioctl_getflags(file).unwrap_or(IFlags::empty());
    let id = format!("{}-{:08x}", now.micros().max(0), rand::random::<u32>());
    let mut item = Item::describe(&stat, attributes(file)?, flags.bits()).with_path(&path);
    item.id.clone_from(&id);
    item.taken = now;
    item.cause = cause.clone();
    copy(store, file, &mut item)?;
    if let Err(error) = remove(file, &stat, &folder, name, &path, flags) {
        // Nothing was removed, so nothing is kept either.
        let _ = unlinkat(&store.folder, file_name(&id)?, AtFlags::empty());
        return Err(error);
    }
    Ok(Taken { other_links: item.links.saturating_sub(1), item })
}

/// The path by which this process can reach a descriptor's file, where there is one.
pub fn path_of(file: &File) -> Option<PathBuf> {
    path_among(file, |_| true)
}

/// The same, tried only for paths that are `wanted`. An open file has its path in memory, so that is all that is looked at, and
/// neither a mount that hangs nor one that is made on demand is waited for (from Linux 5.12 on).
pub fn path_among(file: &File, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let it = identity(file)?;
    let told = told_path(file).ok()?;
    ends(&told).filter(|path| wanted(path)).find(|path| leads_to(path, it))
}

/// Where a descriptor's file is: its path, and its folder, opened without following any link on the way.
///
/// The kernel says the path of the mount namespace in which the file was opened. Where the root there lies deeper than
/// the root here, that path begins with folders that are not here: its ends are tried too, the longest first, and the
/// one counts that leads to the very file.
fn place_of(file: &File, stat: &Stat) -> Result<(PathBuf, File), QuarantineError> {
    let told = told_path(file)?;
    let it = identity(file);
    let others = ends(&told).skip(1).filter(|path| it.is_some_and(|it| leads_to(path, it)));
    for path in std::iter::once(told.clone()).chain(others) {
        if let Ok((folder, name)) = folder_of(&path)
            && is_same(stat, &statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW))
        {
            return Ok((path, folder));
        }
    }
    folder_of(&told)?;
    Err(QuarantineError::Moved(told))
}

fn told_path(file: &File) -> Result<PathBuf, QuarantineError> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let told = std::fs::read_link(link).map_err(QuarantineError::std("find the path of the file"))?;
    if told.is_absolute() { Ok(told) } else { Err(QuarantineError::Unfit("it has no path on this host")) }
}

/// Device and number of an inode, as they are known without asking a server.
fn identity(file: impl AsFd) -> Option<(u32, u32, u64)> {
    let told = statx(file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    Some((told.stx_dev_major, told.stx_dev_minor, told.stx_ino))
}

/// Does the path lead to this inode, as far as what is in memory tells?
fn leads_to(path: &Path, it: (u32, u32, u64)) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |resolve| openat2(CWD, path, flags, Mode::empty(), resolve);
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A rename or a mount anywhere at that moment makes the kernel say that it does not know (openat2(2)).
    let mut tries = (0..MAX_TRIES).map(|_| open(resolve | ResolveFlags::CACHED));
    let opened = match tries.find(|opened| !matches!(opened, Err(Errno::AGAIN))) {
        // Linux 5.11 and before.
        Some(Err(Errno::INVAL)) => open(resolve),
        Some(opened) => opened,
        None => return false,
    };
    opened.ok().and_then(identity) == Some(it)
}

/// An absolute path, and what is left of it without its first folder, its first two, and so on.
fn ends(path: &Path) -> impl Iterator<Item = PathBuf> {
    let parts: Vec<&OsStr> = path.iter().skip(1).collect();
    let ends = 0..parts.len().min(MAX_ENDS);
    ends.map(move |from| parts.iter().skip(from).fold(PathBuf::from("/"), |path, part| path.join(part)))
}

/// The folder of a path, opened without following any link on the way, and the name in it.
pub fn folder_of(path: &Path) -> Result<(File, &OsStr), QuarantineError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(QuarantineError::Unfit("it has no path"));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = openat2(CWD, folder, flags, Mode::empty(), resolve);
    Ok((File::from(opened.map_err(QuarantineError::io("open the folder of the file"))?), name))
}

fn is_same(stat: &Stat, other: &rustix::io::Result<Stat>) -> bool {
    other.as_ref().is_ok_and(|other| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino))
}

/// All extended attributes.
fn attributes(file: &File) -> Result<Vec<(String, Vec<u8>)>, QuarantineError> {
    let mut names = vec![0_u8; MAX_ATTRIBUTE];
    let size = match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(size) => size,
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(QuarantineError::io("list the extended attributes")(error)),
    };
    let mut found = Vec::new();
    for name in names.get(..size).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; MAX_ATTRIBUTE];
        match rustix::fs::fgetxattr(file, name, value.as_mut_slice()) {
            Ok(size) => value.truncate(size),
            // Gone since the list was made.
            Err(rustix::io::Errno::NODATA) => continue,
            Err(error) => return Err(QuarantineError::io("read an extended attribute")(error)),
        }
        let name = String::from_utf8(name.to_vec())
            .map_err(|_| QuarantineError::Unfit("an extended attribute has a name that is no text"))?;
        found.push((name, value));
    }
    Ok(found)
}

/// Writes the item beside the others, whole and durable, or leaves nothing.
fn copy(store: &Quarantine, file: &File, item: &mut Item) -> Result<(), QuarantineError> {
    let unfinished = format!("{UNFINISHED}{}", item.id);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = openat(&store.folder, &unfinished, flags, Mode::RUSR);
    let new = File::from(new.map_err(QuarantineError::io("make an item"))?);
    let written = write(&new, file, item, store.bounds.file).and_then(|()| {
        let io = QuarantineError::io("give an item its name");
        new.sync_all().map_err(QuarantineError::std("make an item durable"))?;
        renameat(&store.folder, &unfinished, &store.folder, file_name(&item.id)?).map_err(io)?;
        store.sync()
    });
    if written.is_err() {
        let _ = unlinkat(&store.folder, &unfinished, AtFlags::empty());
    }
    written
}

fn write(mut new: &File, file: &File, item: &mut Item, most: u64) -> Result<(), QuarantineError> {
    let io = QuarantineError::std("write an item");
    let key: [u8; 32] = rand::random();
    new.write_all(&item::head(&key)).map_err(&io)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0_u8; PIECE];
    let mut at = 0_u64;
    loop {
        let size = file.read_at(&mut piece, at).map_err(QuarantineError::std("read the file"))?;
        let bytes = piece.get_mut(..size).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hash.update(&*bytes);
        item::turn(bytes, &key, at);
        new.write_all(bytes).map_err(&io)?;
        at = at.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
        // It may grow under our hands.
        if at > most {
            return Err(QuarantineError::Full { what: "the bytes of the file", found: at, most });
        }
    }
    item.size = at;
    item.sha256 = hex::encode(hash.finalize());
    new.write_all(&item::tail(item)?).map_err(&io)
}

/// Removes the name, if it is still of the file that was judged.
fn remove(
    file: &File,
    stat: &Stat,
    folder: &File,
    name: &OsStr,
    path: &Path,
    flags: IFlags,
) -> Result<(), QuarantineError> {
    let guarded = IFlags::IMMUTABLE | IFlags::APPEND;
    if flags.intersects(guarded) {
        // An intruder's way to keep a file: `chattr +i`.
        let error = QuarantineError::io("make the file removable");
        rustix::fs::ioctl_setflags(file, flags - guarded).map_err(error)?;
    }
    let aside = format!(".sakimori-{:016x}", rand::random::<u64>());
    let moved = renameat_with(folder, name, folder, &aside, RenameFlags::NOREPLACE);
    // Some file systems do not know the flag; the name is chance, so nothing is replaced.
    let moved = match moved {
        Err(rustix::io::Errno::INVAL) => renameat(folder, name, folder, &aside),
        other => other,
    };
    if moved.is_ok() && is_same(stat, &statat(folder, &aside, AtFlags::SYMLINK_NOFOLLOW)) {
        unlinkat(folder, &aside, AtFlags::empty()).map_err(QuarantineError::io("remove the file"))?;
        return folder.sync_all().map_err(QuarantineError::std("make the removal durable"));
    }
    if moved.is_ok() {
        // Somebody else's file: it gets its name back, unless that is taken again.
        let _ = renameat_with(folder, &aside, folder, name, RenameFlags::NOREPLACE);
    }
    if flags.intersects(guarded) {
        let _ = rustix::fs::ioctl_setflags(file, flags);
    }
    match moved {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Err(QuarantineError::Moved(path.to_owned())),
        Err(error) => Err(QuarantineError::io("take the file's name away")(error)),
    }
}
