//! One version of the table as files, for a copy of it: what a backup reads.
//!
//! A version is the log from the last checkpoint at or before it, and the data files that it names. While a
//! [`TableCopy`] lives nothing is deleted, so that it can be read for as long as it takes; flushes, compaction
//! and retention go on, since they only add versions.

use std::sync::Arc;

use bytes::Bytes;
use deltalake_core::DeltaTable;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::sync::OwnedRwLockReadGuard;

use super::place::{BucketOptions, Place};
use super::upkeep::files;
use super::{Lake, LakeError, table};

/// Folder of the log.
const LOG: &str = "_delta_log";
/// Points at the newest checkpoint.
const LAST: &str = "_last_checkpoint";

/// A file of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableFile {
    /// Its name below the table.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A version of the table that is held until this is dropped.
pub struct TableCopy {
    lake: Lake,
    store: Arc<dyn ObjectStore>,
    /// The version.
    pub version: u64,
    /// The writer's last flush in it.
    pub flush: u64,
    /// Its data files.
    pub data: Vec<TableFile>,
    /// Its log, in the order in which it may be written elsewhere: a reader finds no table before the last of it.
    pub log: Vec<TableFile>,
    _held: OwnedRwLockReadGuard<()>,
}

impl Lake {
    /// Holds the version that searches read now.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn table_copy(&self) -> Result<TableCopy, LakeError> {
        let lake = self.clone();
        self.inner
            .engine
            .finish(async move {
                let held = Arc::clone(&lake.inner.readers).read_owned().await;
                let table = lake.table();
                let flush = table::committed(&table, &lake.inner.options.writer).await?;
                let size = |size: i64| u64::try_from(size).unwrap_or(0);
                let mut data: Vec<TableFile> = files(&table)?
                    .iter()
                    .map(|file| TableFile { name: file.path().into_owned(), size: size(file.size()) })
                    .collect();
                data.sort();
                let version = table.version().unwrap_or(0);
                let store = table.log_store().object_store(None);
                let log = log_of(&table, store.as_ref(), version).await?;
                Ok(TableCopy { lake: lake.clone(), store, version, flush, data, log, _held: held })
            })
            .await
    }
}

impl TableCopy {
    /// The bytes of one of its files, piece by piece.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read(&self, name: &str) -> Result<BoxStream<'static, Result<Bytes, LakeError>>, LakeError> {
        let (store, name) = (Arc::clone(&self.store), name.to_owned());
        self.lake
            .inner
            .engine
            .finish(async move {
                let path = Path::parse(&name).map_err(|error| LakeError::Internal(error.to_string()))?;
                let stream = store.get(&path).await.map_err(LakeError::store("read", &name))?.into_stream();
                Ok(stream.map_err(move |error| LakeError::store("read", &name)(error)).boxed())
            })
            .await
    }
}

/// Puts the files of a copy into a bucket.
pub struct TableWriter {
    place: Place,
    written: Vec<String>,
}

impl TableWriter {
    /// For this place; nothing is asked of it yet.
    ///
    /// # Errors
    /// An address that is none.
    pub fn open(options: &BucketOptions) -> Result<Self, LakeError> {
        let nowhere = std::path::Path::new("");
        Ok(Self { place: Place::open(nowhere, Some(options))?, written: Vec::new() })
    }

    /// Is there nothing yet?
    ///
    /// # Errors
    /// The store's.
    pub async fn vacant(&self) -> Result<bool, LakeError> {
        let store = self.place.table()?.log_store().object_store(None);
        let first = store.list(None).next().await.transpose();
        Ok(first.map_err(LakeError::store("list", "the bucket"))?.is_none())
    }

    /// Writes one file.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), LakeError> {
        self.written.push(name.to_owned());
        self.place.write(name, bytes).await
    }

    /// Deletes what was written, as far as the store lets.
    pub async fn give_up(self) {
        for name in self.written.iter().rev() {
            if let Err(error) = self.place.delete(name).await {
                tracing::warn!(%error, "an object of a restore that failed is left");
            }
        }
    }
}

/// The log files that a reader of this version needs: the newest checkpoint up to it and the commits from there on.
async fn log_of(table: &DeltaTable, store: &dyn ObjectStore, version: u64) -> Result<Vec<TableFile>, LakeError> {
    let all: Vec<_> = store.list(Some(&Path::from(LOG))).try_collect().await.map_err(LakeError::store("list", LOG))?;
    let named = |name: &str| {
        let found = all.iter().find(|one| one.location.filename() == Some(name))?;
        Some(TableFile { name: format!("{LOG}/{name}"), size: found.size })
    };
    let checkpoint = all
        .iter()
        .filter_map(|one| one.location.filename()?.strip_suffix(".checkpoint.parquet")?.parse::<u64>().ok())
        .filter(|at| *at <= version)
        .max();
    let mut log: Vec<TableFile> =
        checkpoint.and_then(|at| named(&format!("{at:020}.checkpoint.parquet"))).into_iter().collect();
    // Where it names a later one it is left out: a reader lists the folder then.
    if let (Some(at), Some(last)) = (checkpoint, named(LAST)) {
        let text = store.get(&Path::from(last.name.as_str())).await.map_err(LakeError::store("read", LAST))?;
        let text = text.bytes().await.map_err(LakeError::store("read", LAST))?;
        let said: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        if said.get("version").and_then(serde_json::Value::as_u64) == Some(at) {
            log.push(TableFile { size: text.len() as u64, ..last });
        }
    }
    for number in checkpoint.map_or(0, |at| at + 1)..=version {
        let commit = named(&format!("{number:020}.json")).ok_or_else(|| {
            LakeError::Internal(format!("version {number} of {} is gone; try again", table.table_url()))
        })?;
        log.push(commit);
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::super::samples::batch;
    use super::super::{Interval, LakeOptions};
    use super::*;
    use crate::query::Expr;
    use sakimori_model::Timestamp;

    async fn open(dir: &std::path::Path) -> Lake {
        Lake::open(LakeOptions::new(dir, "manager-1")).await.unwrap()
    }

    async fn copy_to(copy: &TableCopy, dir: &std::path::Path) {
        for file in copy.data.iter().chain(&copy.log) {
            let path = dir.join(&file.name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let pieces: Vec<Bytes> = copy.read(&file.name).await.unwrap().try_collect().await.unwrap();
            assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>() as u64, file.size, "{}", file.name);
            std::fs::write(path, pieces.concat()).unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_is_the_version_of_its_moment_whatever_is_written_joined_and_deleted_meanwhile() {
        // Before the first checkpoint of the log, and after it.
        for flushes in [3, 23] {
            let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let lake = open(dir.path()).await;
            for number in 0..flushes {
                lake.ingest(batch("default", number + 1, number * 5, 5).into()).unwrap();
                lake.flush().await.unwrap();
            }
            let copy = lake.table_copy().await.unwrap();
            assert_eq!(copy.flush, flushes);
            lake.ingest(batch("default", 900, 900, 7).into()).unwrap();
            lake.flush().await.unwrap();
            #[expect(clippy::disallowed_methods, reason = "what is taken out has the time of this machine")]
            let later = Timestamp::from_micros(chrono::Utc::now().timestamp_micros()).plus_secs(3 * 86_400);
            assert!(lake.compact(later).await.unwrap().files > 0);
            assert_eq!(lake.vacuum(later.plus_secs(86_400)).await.unwrap(), 0, "held");
            copy_to(&copy, other.path()).await;
            drop(copy);
            assert!(lake.vacuum(later.plus_secs(86_400)).await.unwrap() > 0, "no longer held");
            let copied = open(other.path()).await;
            let count = copied.count("default", &Expr::All, Interval::default()).await.unwrap();
            assert_eq!((count, copied.committed_flush().await.unwrap()), (flushes * 5, flushes));
            copied.ingest(batch("default", 901, 901, 1).into()).unwrap();
            copied.flush().await.unwrap();
            assert_eq!(copied.committed_flush().await.unwrap(), flushes + 1);
        }
    }
}
