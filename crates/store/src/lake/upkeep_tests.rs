//! Nothing is lost or counted twice by joining, expiring and deleting, and searches see the same before and after.

use std::fs::{self, File};
use std::path::Path;

use super::super::place::parquet_files;
use super::super::samples::{at, batch};
use super::super::{Interval, LakeOptions};
use super::*;
use crate::query::Expr;

async fn open(dir: &Path) -> Lake {
    Lake::open(LakeOptions::new(dir.join("lake"), "manager-1")).await.unwrap()
}

/// So many flushes of ten events each.
async fn filled(lake: &Lake, tenant: &str, flushes: u64) {
    for number in 0..flushes {
        lake.ingest(batch(tenant, number + 1, number * 10, 10).into()).unwrap();
        lake.flush().await.unwrap();
    }
}

async fn found(lake: &Lake, tenant: &str) -> Vec<String> {
    let hits = lake.search(tenant, &Expr::All, Interval::default(), 1_000, None).await.unwrap().hits;
    hits.iter().map(|hit| format!("{} {:?}", hit.id, hit.event)).collect()
}

async fn count(lake: &Lake, tenant: &str) -> u64 {
    lake.count(tenant, &Expr::All, Interval::default()).await.unwrap()
}

fn on_disk(dir: &Path) -> usize {
    parquet_files(&dir.join("lake")).unwrap().len()
}

const DAY_SECONDS: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn joining_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    filled(&lake, "default", 12).await;
    filled(&lake, "b~ ö", 3).await;
    let before = (found(&lake, "default").await, found(&lake, "b~ ö").await);
    assert_eq!(before.0.len(), 120);
    assert_eq!(
        lake.compact(at(60)).await.unwrap(),
        Compacted { files: 12, into: 1 },
        "three of today are not worth it"
    );
    assert_eq!(lake.compact(at(DAY_SECONDS)).await.unwrap(), Compacted { files: 3, into: 1 });
    assert_eq!(lake.compact(at(DAY_SECONDS)).await.unwrap(), Compacted::default(), "what is joined stays");
    for (path, _) in parquet_files(&dir.path().join("lake")).unwrap() {
        let file = File::open(dir.path().join("lake").join(path)).unwrap();
        let parquet = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let filtered =
            parquet.metadata().row_group(0).columns().iter().filter(|one| one.bloom_filter_offset().is_some());
        assert!(filtered.clone().any(|one| one.column_path().string() == "source.ip"));
        assert!(filtered.count() < 10, "the others have none");
    }
    assert_eq!((found(&lake, "default").await, found(&lake, "b~ ö").await), before);
    // Flushes go on after it, also in a process that opens the table anew.
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!((found(&lake, "default").await, found(&lake, "b~ ö").await), before);
    lake.ingest(batch("default", 99, 500, 10).into()).unwrap();
    lake.flush().await.unwrap();
    assert_eq!(count(&lake, "default").await, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_go_after_their_time_and_stay_in_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    filled(&lake, "default", 3).await;
    filled(&lake, "short", 2).await;
    let keep = |tenant: &str| if tenant == "short" { 7 } else { 90 };
    assert_eq!(lake.expire(keep, at(7 * DAY_SECONDS)).await.unwrap(), 0);
    assert_eq!(lake.expire(keep, at(9 * DAY_SECONDS)).await.unwrap(), 20);
    assert_eq!((count(&lake, "short").await, count(&lake, "default").await), (0, 30));
    assert_eq!(lake.expired("short", "agent-1", "auth").await.unwrap(), 20);
    assert_eq!(lake.expired("default", "agent-1", "auth").await.unwrap(), 0);
    // What comes late for a day that is over goes too, and is added.
    lake.ingest(batch("short", 7, 500, 5).into()).unwrap();
    lake.flush().await.unwrap();
    assert_eq!(lake.expire(keep, at(9 * DAY_SECONDS)).await.unwrap(), 5);
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!(lake.expired("short", "agent-1", "auth").await.unwrap(), 25);
    assert_eq!(lake.committed_flush().await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_deleted_when_nothing_can_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    filled(&lake, "default", 8).await;
    lake.compact(at(60)).await.unwrap();
    let orphan = dir.path().join("lake/organization.id=default/day=2026-01-02/manager-1-9-x.parquet");
    fs::write(&orphan, b"never committed").unwrap();
    // Files have the time of this machine, so this test has it too.
    #[expect(clippy::disallowed_methods)]
    let now = Timestamp::from_micros(chrono::Utc::now().timestamp_micros());
    assert_eq!(lake.vacuum(now).await.unwrap(), 0, "a search may still read them");
    assert_eq!(on_disk(dir.path()), 10);
    assert_eq!(lake.vacuum(now.plus_secs(PINNED + 60)).await.unwrap(), 8);
    assert!(orphan.exists(), "it may come to its commit yet");
    assert_eq!(lake.vacuum(now.plus_secs(UNBORN + 60)).await.unwrap(), 1);
    assert_eq!(on_disk(dir.path()), 1);
    assert_eq!(count(&lake, "default").await, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn flushes_and_upkeep_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    filled(&lake, "default", 9).await;
    let other = lake.clone();
    let mut flushes = tokio::task::JoinSet::new();
    flushes.spawn(async move {
        for number in 9..30 {
            other.ingest(batch("default", number + 1, number * 10, 10).into()).unwrap();
            other.flush().await.unwrap();
        }
    });
    let mut joined = 0;
    while flushes.try_join_next().is_none() {
        joined += lake.compact(at(2 * DAY_SECONDS)).await.unwrap().files;
    }
    assert!(joined > 0);
    assert_eq!(count(&lake, "default").await, 300);
    assert_eq!(lake.committed_flush().await.unwrap(), 30);
}
