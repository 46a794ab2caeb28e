//! Detection snapshots are written by a thread of their own, so that the loop never waits for their fsync.
//! What a snapshot covers need not be replayed, so it is told to the loop once the file is durable.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, SyncSender, channel};

use anyhow::{Context, Result};
use sakimori_wire::ipc::Snapshot;

use super::Message;
use crate::files::write_atomically;

/// Writes snapshots.
pub struct Saver {
    to: Sender<Snapshot>,
    path: PathBuf,
}

impl Saver {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(state: &Path, done: SyncSender<Message>) -> Result<Self> {
        let path = state.join("detection.snapshot");
        let (to, from) = channel::<Snapshot>();
        let file = path.clone();
        std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || {
                while let Ok(mut snapshot) = from.recv() {
                    // Only the newest counts.
                    while let Ok(newer) = from.try_recv() {
                        snapshot = newer;
                    }
                    let Ok(bytes) = postcard::to_stdvec(&snapshot) else { continue };
                    match write_atomically(&file, &bytes, 0o600) {
                        Ok(()) => {
                            let _ = done.send(Message::SnapshotKept(snapshot.covers));
                        }
                        Err(error) => tracing::error!(error = format!("{error:#}"), "a snapshot is not kept"),
                    }
                }
            })
            .context("cannot start a thread")?;
        Ok(Self { to, path })
    }

    /// Writes this one, soon.
    pub fn save(&self, snapshot: Snapshot) {
        let _ = self.to.send(snapshot);
    }

    /// The last one that was written.
    pub fn load(&self) -> Option<Snapshot> {
        let bytes = std::fs::read(&self.path).ok()?;
        let snapshot = postcard::from_bytes(&bytes).ok();
        if snapshot.is_none() {
            tracing::warn!("the detection snapshot is damaged; detection begins with what the spool holds");
        }
        snapshot
    }

    /// Forgets it: its sequences belong to another agent id, or its rules to another bundle.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
