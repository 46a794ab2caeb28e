//! Backup and restore of a whole installation.
//!
//! A backup is one tar archive (any tar lists it), which holds everybody's events and is therefore for its owner alone.
//! Its private keys and named secrets are sealed ([`crate::sealing`]), and the key that opens them is not in it:
//!
//! | entry | what |
//! |---|---|
//! | `sakimori-backup.json` | first: format, version of the program, moment, which key sealed its secrets |
//! | `control.db` | control state as a SQLite file, wherever it lives |
//! | `journal/<first>` | journal records after the table's last flush, each with its length before it (u32, little-endian) |
//! | `state/…` | all other files of the state folder: agents' CA, bundle key, bundles |
//! | `content/…`, `config/manager.toml.sealed` | the user's own content, and the configuration, sealed: it may hold a password |
//! | `lake/…` | one version of the table: its data files, then its log |
//! | `manifest.json` | last: size and SHA-256 of every entry before it |
//!
//! Of a running manager it is one moment ([`collect`]): the table at one version, the journal from the record after
//! that version's last flush, and control state and the journal's end while ingest stands still between two batches.
//! A start from it does what a start after a crash does, so every event is there once. An archive without its
//! manifest, or with one byte changed, is refused as a whole ([`restore`]).

mod archive;
mod collect;
mod folders;
mod keys;
mod restore;
pub mod since;

use std::path::PathBuf;

use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::archive::{Listed, verify};
pub use self::collect::{Keep, Source, StandStill, of_running, of_stopped, remove_drafts, stand_still, write};
pub use self::restore::{Restored, restore};

/// Format of the archive. In 1 keys and configuration were plain.
pub const FORMAT: u32 = 2;
/// The oldest format that is read.
const OLDEST: u32 = 1;
/// Where control state lies in state folder and archive.
pub const CONTROL: &str = "control.db";
/// Folder of the journal.
pub const JOURNAL: &str = "journal";
/// Folder of the lake, where it is on disk.
pub const LAKE: &str = "lake";

/// The first entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// The moment that it shows.
    pub created: Timestamp,
    /// Names the key that sealed its secrets; empty in format 1.
    #[serde(default)]
    pub sealed_by: String,
}

/// The last entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The first entry again.
    pub header: Header,
    /// Version of the lake's table.
    pub table_version: u64,
    /// The manager's last flush in that version.
    pub flush: u64,
    /// Last journal record that this flush holds.
    pub position: u64,
    /// Journal records in the archive.
    pub records: u64,
    /// Every entry before this one.
    pub files: Vec<Listed>,
}

/// Why a backup or a restore cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// The archive is none, is cut off, or was changed.
    #[error("{0}; nothing was restored from it, use another backup")]
    Archive(String),
    /// There is something already where it is to be restored.
    #[error("{0}; a restore writes over nothing: {1}")]
    Occupied(String, &'static str),
    /// The keys that its secrets need are not at hand.
    #[error("{0}; nothing was restored")]
    Key(String),
    /// What is sealed does not open.
    #[error(transparent)]
    Sealing(#[from] crate::sealing::Error),
    /// What is to be backed up does not fit together.
    #[error("back up: {0}")]
    Source(String),
    /// Control state.
    #[error(transparent)]
    Control(#[from] sakimori_store::control::ControlError),
    /// The lake.
    #[error(transparent)]
    Lake(#[from] sakimori_store::lake::LakeError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] sakimori_journal::Error),
}

fn io<T>(doing: &'static str, path: &std::path::Path, result: std::io::Result<T>) -> Result<T, BackupError> {
    result.map_err(|source| BackupError::Io { doing, path: path.to_owned(), source })
}
