//! What a manager that was restored has to bear with: its agents know more than it does.
//!
//! They have let go of batches that the former manager acknowledged after the backup was made, so a stream may go on
//! behind a gap, once; the gap is a loss with its count, its cause and its span. And they have taken bundles and
//! policies of later numbers, so numbers go on far above. `restored.json` in the state folder tells that a restore was
//! made; the first start adds how far each stream had come.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use sakimori_model::Timestamp;
use sakimori_wire::batch::{BatchHeader, Loss};
use serde::{Deserialize, Serialize};

use super::{BackupError, io};
use crate::ingest::Streams;

/// The file.
pub const FILE: &str = "restored.json";
/// Numbers of bundles and policies go on so far above those of the backup.
pub const STEP: u64 = 1_000_000;
/// Cause of the losses.
const CAUSE: &str = "restored_from_backup";
/// Place of the losses: the manager had them.
pub const PLACE: &str = "manager";
/// Largest file, in bytes.
const MOST: u64 = 256 << 20;

/// Tenant, origin, stream.
type Key = (String, String, String);

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The moment of the backup.
    pub backup: Timestamp,
    /// When it was restored.
    pub restored: Timestamp,
    /// The next bundle has this number at least.
    pub bundle: u64,
    /// How far each stream had come in the backup; none before the first start.
    pub streams: Option<Vec<(String, String, String, u64)>>,
}

impl Since {
    /// Reads the file; `None` in a folder that no backup was restored into.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn load(state: &Path) -> Result<Option<Self>, BackupError> {
        let path = state.join(FILE);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return io("read", &path, Err(error)),
            Ok(data) if data.len() > MOST => {
                return io("read", &path, Err(std::io::Error::other(format!("it is larger than {} MiB", MOST >> 20))));
            }
            Ok(_) => {}
        }
        let bytes = io("read", &path, std::fs::read(&path))?;
        let since = serde_json::from_slice(&bytes).map_err(std::io::Error::from);
        io("read", &path, since).map(Some)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, state: &Path) -> Result<(), BackupError> {
        let path = state.join(FILE);
        let draft = path.with_extension("new");
        let write = || {
            let mut file = std::fs::File::create(&draft)?;
            std::io::Write::write_all(&mut file, &serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            std::fs::File::open(state)?.sync_all()
        };
        io("write", &path, write())
    }
}

/// Which streams may still go on behind a gap. Empty where nothing was restored.
#[derive(Debug, Default)]
pub struct Gaps {
    backup: Timestamp,
    open: HashMap<Key, u64>,
    /// Agents of the backup: their streams may be ones that it does not know.
    agents: HashSet<String>,
}

impl Gaps {
    /// As the file says and the streams stand; a first start notes how they stand.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(
        state: &Path,
        streams: &Streams,
        agents: impl Iterator<Item = (String, Timestamp)>,
    ) -> Result<Self, BackupError> {
        let Some(mut since) = Since::load(state)? else { return Ok(Self::default()) };
        let known = match since.streams.take() {
            Some(known) => known,
            None => {
                let known: Vec<_> = streams
                    .iter()
                    .map(|((tenant, origin, stream), at)| (tenant.clone(), origin.clone(), stream.clone(), at.0))
                    .collect();
                Since { streams: Some(known.clone()), ..since.clone() }.save(state)?;
                known
            }
        };
        let still = |(tenant, origin, stream, at): (String, String, String, u64)| {
            let key = (tenant, origin, stream);
            (streams.get(&key).map_or(0, |now| now.0) == at).then_some((key, at))
        };
        let agents = agents.filter(|(_, enrolled)| *enrolled <= since.backup).map(|(id, _)| id).collect();
        Ok(Self { backup: since.backup, open: known.into_iter().filter_map(still).collect(), agents })
    }

    /// May this batch follow the stream's last one, `last` with so many events up to it? Then what lies between is
    /// lost, and this is how much.
    pub fn over(&self, tenant: &str, header: &BatchHeader, last: (u64, u64), now: Timestamp) -> Option<Loss> {
        let key = (tenant.to_owned(), header.origin.clone(), header.stream.clone());
        let may = self.open.contains_key(&key) || (last.0 == 0 && self.agents.contains(&header.origin));
        (may && header.sequence > last.0 + 1).then(|| Loss {
            count: header.first_event.saturating_sub(last.1),
            cause: CAUSE.into(),
            place: PLACE.into(),
            from: self.backup,
            to: now,
        })
    }

    /// The stream goes on without gaps from here.
    pub fn close(&mut self, tenant: &str, header: &BatchHeader) {
        if !self.open.is_empty() {
            self.open.remove(&(tenant.to_owned(), header.origin.clone(), header.stream.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(stream: &str, sequence: u64, first_event: u64) -> BatchHeader {
        BatchHeader { origin: "a".into(), stream: stream.into(), sequence, first_event, ..BatchHeader::default() }
    }

    fn key(stream: &str) -> Key {
        ("default".into(), "a".into(), stream.into())
    }

    fn streams(list: &[(&str, u64)]) -> Streams {
        list.iter().map(|(stream, at)| (key(stream), (*at, at * 10))).collect()
    }

    fn agents() -> impl Iterator<Item = (String, Timestamp)> {
        [("a", 5), ("new", 500)].into_iter().map(|(id, at)| (id.to_owned(), Timestamp::from_secs(at)))
    }

    #[test]
    fn a_stream_of_the_backup_may_jump_once_and_what_it_jumps_over_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(900);
        let mut gaps = Gaps::open(dir.path(), &streams(&[("auth", 3)]), agents()).unwrap();
        assert_eq!(gaps.over("default", &header("auth", 9, 90), (3, 30), now), None, "nothing was restored");
        let since = Since { backup: Timestamp::from_secs(100), restored: now, bundle: STEP, streams: None };
        since.save(dir.path()).unwrap();
        gaps = Gaps::open(dir.path(), &streams(&[("auth", 3), ("web", 4)]), agents()).unwrap();
        let loss = gaps.over("default", &header("auth", 9, 90), (3, 30), now).unwrap();
        assert_eq!((loss.count, loss.place.as_str(), loss.from), (60, PLACE, Timestamp::from_secs(100)));
        assert_eq!(gaps.over("default", &header("auth", 4, 30), (3, 30), now), None, "the next one is no gap");
        assert_eq!(gaps.over("other", &header("auth", 9, 90), (3, 30), now), None, "another tenant's");
        gaps.close("default", &header("auth", 9, 90));
        assert_eq!(gaps.over("default", &header("auth", 19, 190), (9, 100), now), None, "once");
        // A later start knows which streams have gone on since.
        gaps = Gaps::open(dir.path(), &streams(&[("auth", 9), ("web", 4)]), agents()).unwrap();
        assert_eq!(gaps.over("default", &header("auth", 19, 190), (9, 100), now), None);
        assert!(gaps.over("default", &header("web", 8, 80), (4, 40), now).is_some());
    }

    #[test]
    fn a_stream_that_the_backup_does_not_know_may_begin_anywhere_where_its_agent_is_older() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(900);
        Since { backup: Timestamp::from_secs(100), restored: now, bundle: 1, streams: None }.save(dir.path()).unwrap();
        let gaps = Gaps::open(dir.path(), &Streams::new(), agents()).unwrap();
        assert!(gaps.over("default", &header("later", 7, 70), (0, 0), now).is_some());
        let young = BatchHeader { origin: "new".into(), ..header("later", 7, 70) };
        assert_eq!(gaps.over("default", &young, (0, 0), now), None);
    }
}
