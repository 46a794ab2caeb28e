//! Watching folders for files that come and go: inotify in a thread of its own that tells the loop. What
//! happened is looked up there; here only that something did, and never more often than the loop looks.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use anyhow::{Context, Result};
use rustix::fs::inotify;

use super::Message;

/// Folders that are watched.
pub struct Folders {
    queue: Arc<OwnedFd>,
    watched: BTreeSet<PathBuf>,
    /// A message is on its way.
    told: Arc<AtomicBool>,
}

impl Folders {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where inotify is not there.
    pub fn start(to: SyncSender<Message>) -> Result<Self> {
        let queue = Arc::new(inotify::init(inotify::CreateFlags::CLOEXEC).context("cannot use inotify")?);
        let told = Arc::new(AtomicBool::new(false));
        let (reading, pending) = (Arc::clone(&queue), Arc::clone(&told));
        std::thread::Builder::new()
            .name("folders".into())
            .spawn(move || {
                let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
                let mut reader = inotify::Reader::new(reading.as_fd(), &mut buffer);
                loop {
                    match reader.next() {
                        Ok(_) => {}
                        Err(rustix::io::Errno::INTR) => continue,
                        Err(error) => {
                            tracing::error!(%error, "folders with logs are not watched any more, only looked at");
                            return;
                        }
                    }
                    if !pending.swap(true, Ordering::AcqRel) && to.send(Message::Folder).is_err() {
                        return;
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { queue, watched: BTreeSet::new(), told })
    }

    /// The loop looks now; what happens from here on is told again.
    pub fn looked(&self) {
        self.told.store(false, Ordering::Release);
    }

    /// Watches the folder of this file, where it exists. One that vanished and came back is watched anew.
    pub fn watch(&mut self, file: &Path) {
        let Some(folder) = file.parent() else { return };
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::ONLYDIR;
        match inotify::add_watch(self.queue.as_fd(), folder, flags) {
            Ok(_) => {
                self.watched.insert(folder.to_owned());
            }
            Err(error) => {
                if self.watched.remove(folder) {
                    tracing::debug!(folder = %folder.display(), %error, "a folder with logs is gone");
                }
            }
        }
    }
}

/// A queue for the `logs` worker, on which open files are watched for growth.
///
/// # Errors
/// Where inotify is not there.
pub fn growth_queue() -> Result<OwnedFd> {
    inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).context("cannot use inotify")
}

/// Watches an open file for growth.
///
/// # Errors
/// Where no more can be watched; it is then only looked at now and then.
pub fn growth(queue: &OwnedFd, file: &std::fs::File) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    inotify::add_watch(queue, path, inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF)?;
    Ok(())
}
