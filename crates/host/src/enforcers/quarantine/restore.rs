//! Putting a file back: first complete, then named.
//!
//! The content is written into a file without a name in the folder where it belongs, checked against its sum, given
//! owner, mode, attributes and times in the order in which one does not undo the other, made durable, and only then
//! linked under its name, which fails if something is there. So nobody ever sees a part of it, and nothing is
//! overwritten.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, IFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags, fchmod, fchown, fsetxattr, futimens, linkat,
    openat,
};
use rustix::process::{Gid, Uid};
use sha2::{Digest, Sha256};

use super::item::{self, HEAD, Item};
use super::take::folder_of;
use super::{Quarantine, QuarantineError};

const PIECE: usize = 256 << 10;

pub fn restore(store: &Quarantine, id: &str, to: Option<&Path>) -> Result<PathBuf, QuarantineError> {
    let stored = store.open_item(id)?;
    let item = item::read(&stored, id)?;
    let damaged = |reason| QuarantineError::Damaged { id: id.to_owned(), reason };
    let path = match to {
        Some(path) => path.to_owned(),
        None => item.original_path().ok_or_else(|| damaged("its path cannot be read"))?,
    };
    let (folder, name) = folder_of(&path)?;
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let new = openat(&folder, c".", flags, Mode::empty());
    let new = File::from(new.map_err(QuarantineError::io("make a file in its folder"))?);
    fill(&new, &stored, &item)?;
    dress(&new, &item)?;
    new.sync_all().map_err(QuarantineError::std("make the file durable"))?;
    // By way of /proc, since linking a bare descriptor asks for a capability that a container may lack.
    let link = format!("/proc/self/fd/{}", new.as_raw_fd());
    match linkat(CWD, link.as_str(), &folder, name, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(QuarantineError::Exists(path)),
        Err(error) => return Err(QuarantineError::io("give the file its name")(error)),
    }
    // Last: an immutable file takes no name.
    let kept = IFlags::from_bits_truncate(item.flags) & settable();
    if !kept.is_empty() {
        let error = QuarantineError::io("set the inode flags");
        let own = rustix::fs::ioctl_getflags(&new).map_err(&error)?;
        rustix::fs::ioctl_setflags(&new, (own - settable()) | kept).map_err(&error)?;
    }
    folder.sync_all().map_err(QuarantineError::std("make the folder durable"))?;
    Ok(path)
}

/// Flags that a person sets; the rest are the file system's own.
fn settable() -> IFlags {
    IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NODUMP | IFlags::NOATIME | IFlags::SYNC
}

/// Writes the content and checks it.
fn fill(mut new: &File, stored: &File, item: &Item) -> Result<(), QuarantineError> {
    let key = item::key(stored, &item.id)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0_u8; PIECE];
    let mut at = 0_u64;
    while at < item.size {
        let wanted = usize::try_from(item.size - at).unwrap_or(PIECE).min(PIECE);
        let bytes = piece.get_mut(..wanted).unwrap_or_default();
        stored.read_exact_at(bytes, HEAD as u64 + at).map_err(QuarantineError::std("read an item"))?;
        item::turn(bytes, &key, at);
        hash.update(&*bytes);
        new.write_all(bytes).map_err(QuarantineError::std("write the file"))?;
        at += wanted as u64;
    }
    if hex::encode(hash.finalize()) != item.sha256 {
        return Err(QuarantineError::Damaged { id: item.id.clone(), reason: "its content is not what was taken" });
    }
    Ok(())
}

/// Owner first, since a change of owner clears set-user-id bits and capabilities; times last.
fn dress(new: &File, item: &Item) -> Result<(), QuarantineError> {
    let owner = (Some(Uid::from_raw(item.uid)), Some(Gid::from_raw(item.gid)));
    fchown(new, owner.0, owner.1).map_err(QuarantineError::io("give the file back to its owner"))?;
    fchmod(new, Mode::from_raw_mode(item.mode)).map_err(QuarantineError::io("set the file's mode"))?;
    for (name, value) in &item.attributes {
        let reason = "an extended attribute cannot be read";
        let value = hex::decode(value).map_err(|_| QuarantineError::Damaged { id: item.id.clone(), reason })?;
        fsetxattr(new, name.as_str(), &value, XattrFlags::empty())
            .map_err(QuarantineError::io("set an extended attribute"))?;
    }
    let time = |(seconds, nanoseconds): (i64, i64)| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time(item.accessed), last_modification: time(item.modified) };
    futimens(new, &times).map_err(QuarantineError::io("set the file's times"))
}
