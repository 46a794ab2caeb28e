//! Waiting for files to change: a thin, safe face of inotify(7).
//!
//! Watches are added by path in one process; the queue's descriptor may be read in another, which cannot see paths.
//! The queue is bounded by the kernel; when it overflows, [`Change::overflow`] says that anything may have changed.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags};
pub use rustix::fs::inotify::{ReadFlags, WatchFlags};

/// Most changes that one [`drain`] returns; the rest stays queued.
pub const MAX_CHANGES: usize = 4_096;

/// What a watch is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub i32);

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which watch; -1 where changes were lost.
    pub watch: WatchId,
    /// What happened.
    pub what: ReadFlags,
    /// Name inside the watched folder.
    pub name: Option<OsString>,
}

impl Change {
    /// Were changes lost, so that everything has to be looked at?
    pub fn overflow(&self) -> bool {
        self.what.contains(ReadFlags::QUEUE_OVERFLOW)
    }
}

/// A queue of changes.
#[derive(Debug)]
pub struct Inotify {
    queue: OwnedFd,
}

impl Inotify {
    /// An empty queue, not blocking.
    pub fn new() -> io::Result<Self> {
        Ok(Self { queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }

    /// Watches a path; watching it again changes what is waited for.
    pub fn watch(&self, path: &Path, what: WatchFlags) -> io::Result<WatchId> {
        Ok(WatchId(inotify::add_watch(&self.queue, path, what)?))
    }

    /// Stops watching; one that is gone is no error.
    pub fn unwatch(&self, watch: WatchId) -> io::Result<()> {
        match inotify::remove_watch(&self.queue, watch.0) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What changed since the last call.
    pub fn drain(&self) -> io::Result<Vec<Change>> {
        drain(self.queue.as_fd())
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// What changed, from a queue's descriptor; does not wait.
pub fn drain(queue: BorrowedFd<'_>) -> io::Result<Vec<Change>> {
    let mut space = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = inotify::Reader::new(queue, &mut space);
    let mut changes = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => changes.push(Change {
                watch: WatchId(event.wd()),
                what: event.events(),
                name: event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())),
            }),
            Err(rustix::io::Errno::AGAIN) => return Ok(changes),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if changes.len() >= MAX_CHANGES && reader.is_buffer_empty() {
            return Ok(changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_and_one_that_appears_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "a").unwrap();
        let queue = Inotify::new().unwrap();
        assert!(queue.drain().unwrap().is_empty());
        let file = queue.watch(&path, WatchFlags::MODIFY).unwrap();
        let all = queue.watch(folder.path(), WatchFlags::CREATE).unwrap();
        std::fs::write(&path, "ab").unwrap();
        std::fs::write(folder.path().join("new"), "").unwrap();
        let changes = drain(queue.as_fd()).unwrap();
        assert!(changes.iter().any(|c| c.watch == file && c.what.contains(ReadFlags::MODIFY)));
        assert!(changes.iter().any(|c| c.watch == all && c.name.as_deref() == Some("new".as_ref())));
        queue.unwatch(file).unwrap();
        queue.unwatch(file).unwrap();
    }
}
