//! Packets of alerted flows, from the network workers to the disk: a thread of its own writes them, so that the loop waits
//! for no disk. Where it does not keep up, what comes is counted and let go.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sakimori_model::policy::KeepPackets;
use sakimori_runtime::{Clock, SystemClock};

use crate::packets::store::{Added, Store};

/// Files on their way to the disk.
const MOST_WAITING: usize = 4;

/// What was done since the agent's start.
#[derive(Debug, Default)]
pub struct Figures {
    kept: AtomicU64,
    dropped: AtomicU64,
    shed: AtomicU64,
}

struct Job {
    name: String,
    bytes: Vec<u8>,
    budget: KeepPackets,
}

/// Writes packets. Its thread begins with the first file and ends with this.
pub struct PacketWriter {
    to: Option<SyncSender<Job>>,
    figures: Arc<Figures>,
}

impl PacketWriter {
    /// Touches nothing.
    pub fn new() -> Self {
        Self { to: None, figures: Arc::default() }
    }

    /// Has a file written into the folder, within the budget.
    pub fn write(&mut self, folder: &Path, name: String, bytes: Vec<u8>, budget: KeepPackets) {
        if self.to.is_none() {
            let (to, jobs) = sync_channel(MOST_WAITING);
            let (folder, figures) = (folder.to_owned(), self.figures.clone());
            let begun =
                std::thread::Builder::new().name("packets".into()).spawn(move || work(&folder, &jobs, &figures));
            match begun {
                Ok(_) => self.to = Some(to),
                Err(error) => tracing::error!(%error, "cannot start a thread for packets"),
            }
        }
        let sent = self.to.as_ref().is_some_and(|to| to.try_send(Job { name, bytes, budget }).is_ok());
        if !sent {
            self.figures.shed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Files that were written, those that went for them, and those that were not written.
    pub fn figures(&self) -> (u64, u64, u64) {
        let [kept, dropped, shed] =
            [&self.figures.kept, &self.figures.dropped, &self.figures.shed].map(|one| one.load(Ordering::Relaxed));
        (kept, dropped, shed)
    }
}

fn work(folder: &Path, jobs: &Receiver<Job>, figures: &Figures) {
    let mut store = None;
    for Job { name, bytes, budget } in jobs {
        let added = match &mut store {
            Some(store) => Ok(store),
            none => Store::open_to_add(folder).map(|opened| none.insert(opened)),
        }
        .and_then(|store: &mut Store| store.add(&name, &bytes, &budget, SystemClock.now().micros()));
        match added {
            Ok(Added::Kept(dropped)) => {
                figures.kept.fetch_add(1, Ordering::Relaxed);
                figures.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
            Ok(Added::Shed) => {
                figures.shed.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "packets of an alerted flow are not kept");
                figures.shed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
