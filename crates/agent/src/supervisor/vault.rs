//! The quarantine of `host` as the ledger's port, opened when it is first needed.
//!
//! The order names a path; the descriptor that was judged is kept beside it as evidence until the order is carried
//! out, so that exactly that file is taken wherever its name has gone. After a crash there is none: then the file at
//! the path is taken, if its content is what was judged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use sakimori_host::quarantine::{Bounds, Cause, Quarantine, QuarantineError, Taken};
use sakimori_model::action::Target;
use sakimori_model::{Action, Timestamp};
use sakimori_respond::actions::quarantine_file::SHA256;
use sakimori_respond::ports::{FileVault, Held, PortError, Taking};
use sha2::{Digest, Sha256};

use crate::quarantine::GivenBack;

/// How often a file that is being renamed is looked for again.
const RENAMES: usize = 3;
/// Most descriptors that are kept; the oldest goes first, and its path is what is left.
const MAX_EVIDENCE: usize = 64;

/// Files that were judged, by the order about them; shared with the loop.
#[derive(Clone, Debug, Default)]
pub struct Evidence(Arc<Mutex<VecDeque<(String, File)>>>);

impl Evidence {
    /// Keeps the file that an order speaks of.
    pub fn keep(&self, order: &str, file: File) {
        let mut kept = self.lock();
        if kept.len() >= MAX_EVIDENCE {
            kept.pop_front();
        }
        kept.push_back((order.to_owned(), file));
    }

    fn of(&self, order: &str) -> Option<File> {
        self.lock().iter().find(|(id, _)| id == order).and_then(|(_, file)| file.try_clone().ok())
    }

    fn forget(&self, order: &str) {
        self.lock().retain(|(id, _)| id != order);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, File)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the store on first use.
pub struct Vault {
    folder: PathBuf,
    given_back: GivenBack,
    evidence: Evidence,
    /// Where a person wants the next file back, where not at its place.
    elsewhere: Elsewhere,
}

/// Where an item goes instead of its place: its id and the path; shared with the loop.
pub type Elsewhere = Arc<Mutex<Option<(String, PathBuf)>>>;

impl Vault {
    /// Touches nothing.
    pub fn new(folder: &Path, given_back: &Path, evidence: Evidence, elsewhere: Elsewhere) -> Self {
        Self { folder: folder.to_owned(), given_back: GivenBack::at(given_back), evidence, elsewhere }
    }

    fn store(&self) -> Result<Quarantine, QuarantineError> {
        Quarantine::open(&self.folder, Bounds::default())
    }

    fn was_given_back(&self, action: &Action) -> bool {
        action.order.inputs.get(SHA256).is_some_and(|sum| self.given_back.has_content(sum))
    }

    /// What this action took before a crash.
    fn taken_before(store: &Quarantine, action: &str) -> Result<Option<String>, QuarantineError> {
        let items = store.list()?;
        Ok(items.into_iter().flatten().find(|item| item.cause.action == action).map(|item| item.id))
    }
}

impl FileVault for Vault {
    fn take(&mut self, action: &Action, now: Timestamp) -> Result<Taking, PortError> {
        let order = &action.order;
        let Target::File(path) = &order.target else { return Err(PortError::permanent("it is no file")) };
        let store = Quarantine::open_to_take(&self.folder, Bounds::default()).map_err(port)?;
        let file = match self.evidence.of(&order.id) {
            Some(file) => file,
            None => {
                if let Some(former) = Self::taken_before(&store, &order.id).map_err(port)? {
                    return Ok(Taking::Taken { former, remark: None });
                }
                let wanted = order.inputs.get(SHA256).map_or("", String::as_str);
                match judged(Path::new(path), wanted) {
                    Ok(file) => file,
                    Err(reason) => return Ok(Taking::Gone(reason)),
                }
            }
        };
        let cause =
            Cause { rule: order.cause.rule.clone(), title: order.cause.title.clone(), action: order.id.clone() };
        let mut taken = store.take(&file, &cause, now);
        // Whoever wrote it may be giving it its final name.
        for _ in 0..RENAMES {
            if !matches!(taken, Err(QuarantineError::Moved(_))) {
                break;
            }
            taken = store.take(&file, &cause, now);
        }
        match taken {
            Err(error @ (QuarantineError::Moved(_) | QuarantineError::Unfit(_))) => {
                self.evidence.forget(&order.id);
                Ok(Taking::Gone(error.to_string()))
            }
            Err(error) => Err(port(error)),
            Ok(Taken { item, other_links }) => {
                self.evidence.forget(&order.id);
                let mut remarks = Vec::new();
                if item.path != *path {
                    remarks.push(format!("its name had become {}", item.path));
                }
                if other_links > 0 {
                    remarks.push(format!("{other_links} other names are left; nobody can open it by them either"));
                }
                let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
                Ok(Taking::Taken { former: item.id, remark })
            }
        }
    }

    fn give_back(&mut self, action: &Action, former: &str) -> Result<(), PortError> {
        let store = self.store().map_err(port)?;
        let item = match store.item(former) {
            Ok(item) => item,
            // A crash came between giving it back and the record of that.
            Err(QuarantineError::Unknown(_)) if self.was_given_back(action) => return Ok(()),
            Err(error) => return Err(port(error)),
        };
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let to = elsewhere.take_if(|(id, _)| id == former).map(|(_, path)| path);
        let place = to.clone().or_else(|| item.original_path());
        // Noted first: whoever opens it the moment it is back must not be refused.
        if let Some(place) = &place {
            self.given_back.add(&item.sha256, place).map_err(|error| PortError::permanent(format!("{error:#}")))?;
        }
        store.restore(former, to.as_deref()).map(drop).map_err(port)
    }

    fn held(&mut self, action: &Action, former: &str) -> Held {
        match self.store().and_then(|store| store.item(former)) {
            Err(QuarantineError::Unknown(_)) if self.was_given_back(action) => Held::GivenBack,
            Err(QuarantineError::Unknown(_)) => Held::Deleted,
            _ => Held::Here,
        }
    }
}

/// The file at a path, if its content is what was judged.
fn judged(path: &Path, sha256: &str) -> Result<File, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(error) => return Err(format!("{} cannot be opened any more: {error}", path.display())),
    };
    let mut hash = Sha256::new();
    let mut piece = vec![0_u8; 256 << 10];
    let most = Bounds::default().file;
    let mut size = 0_u64;
    let mut reader = (&file).take(most.saturating_add(1));
    loop {
        let read = reader.read(&mut piece).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        if read == 0 {
            break;
        }
        size = size.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        hash.update(piece.get(..read).unwrap_or_default());
    }
    if size > most || hex::encode(hash.finalize()) != sha256.to_ascii_lowercase() {
        return Err(format!("{} is not the file any more that was judged", path.display()));
    }
    Ok(file)
}

fn port(error: QuarantineError) -> PortError {
    match error {
        // A full disk, a folder that comes back: worth another try.
        QuarantineError::Io { .. } => PortError::transient(error.to_string()),
        _ => PortError::permanent(error.to_string()),
    }
}
