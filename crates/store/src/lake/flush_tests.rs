//! From memory to table: nothing twice, nothing missing, whatever happens between.

use std::sync::atomic::{AtomicBool, Ordering};

use super::samples::{at, batch};
use super::*;
use crate::query::Expr;

async fn open(dir: &std::path::Path) -> Lake {
    Lake::open(LakeOptions::new(dir.join("lake"), "manager-1")).await.unwrap()
}

async fn count(lake: &Lake) -> u64 {
    lake.count("default", &Expr::All, Interval::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_at_once_and_after_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    assert_eq!(count(&lake).await, 0);
    lake.ingest(batch("default", 1, 0, 30).into()).unwrap();
    assert_eq!(count(&lake).await, 30, "in memory");
    let set = lake.seal().unwrap().unwrap();
    assert_eq!((set.number, set.events, set.batches.len()), (1, 30, 1));
    lake.ingest(batch("default", 2, 30, 20).into()).unwrap();
    assert_eq!(count(&lake).await, 50, "sealed and active");
    assert!(matches!(lake.commit(1).await.unwrap(), Committed::Now { .. }));
    assert_eq!(count(&lake).await, 50, "table and active");
    assert_eq!(lake.committed_flush().await.unwrap(), 1);
    lake.flush().await.unwrap();
    assert_eq!(count(&lake).await, 50);
    assert_eq!(lake.status().unwrap().waiting_events, 0);
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!(count(&lake).await, 50, "after a restart");
    assert_eq!(lake.committed_flush().await.unwrap(), 2);
    lake.ingest(batch("default", 3, 50, 1).into()).unwrap();
    assert_eq!(lake.seal().unwrap().unwrap().number, 3, "numbers go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_waits_is_refused_the_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.ingest(batch("default", 1, 0, 3).into()).unwrap();
    assert!(matches!(lake.ingest(batch("default", 1, 0, 3).into()), Err(LakeError::Repeated(_))));
    lake.seal().unwrap().unwrap();
    assert!(matches!(lake.ingest(batch("default", 1, 0, 3).into()), Err(LakeError::Repeated(_))));
    assert!(lake.holds("default:agent-1:auth:1"));
    assert_eq!(count(&lake).await, 3);
    lake.flush().await.unwrap();
    assert!(!lake.holds("default:agent-1:auth:1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_file_and_commit_leaves_nothing_to_count() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    lake.ingest(batch("default", 1, 0, 10).into()).unwrap();
    lake.seal().unwrap().unwrap();
    lake.inner.crash_before_commit.store(true, Ordering::SeqCst);
    assert!(lake.commit(1).await.is_err());
    assert_eq!(count(&lake).await, 10, "still in memory");
    drop(lake);
    let lake = open(dir.path()).await;
    assert_eq!((count(&lake).await, lake.committed_flush().await.unwrap()), (0, 0), "the file is an orphan");
    lake.ingest(batch("default", 1, 0, 10).into()).unwrap();
    assert_eq!(lake.seal().unwrap().unwrap().number, 1, "the same number again");
    lake.commit(1).await.unwrap();
    assert_eq!(count(&lake).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_the_table_has_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    // The first process lost the answer to its commit; the second replays the same flush.
    let (first, second) = (open(dir.path()).await, open(dir.path()).await);
    for lake in [&first, &second] {
        lake.ingest(batch("default", 1, 0, 10).into()).unwrap();
        lake.seal().unwrap().unwrap();
    }
    assert!(matches!(first.commit(1).await.unwrap(), Committed::Now { .. }));
    assert_eq!(second.commit(1).await.unwrap(), Committed::Already);
    assert_eq!(second.commit(1).await.unwrap(), Committed::Already);
    assert_eq!((count(&first).await, count(&second).await), (10, 10));
    assert!(matches!(second.commit(5).await, Err(LakeError::NotNext(5))));
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_while_flushes_commit_see_every_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let stored = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (lake, stop, stored) = (lake.clone(), stop.clone(), stored.clone());
        readers.spawn(async move {
            let mut searches = 0;
            while !stop.load(Ordering::SeqCst) {
                let before = stored.load(Ordering::SeqCst);
                let found = count(&lake).await;
                let after = stored.load(Ordering::SeqCst);
                // The writer counts a batch just after it is in, so one may be found early.
                assert!(found >= before && found <= after + 7, "{before} <= {found} <= {after}");
                searches += 1;
            }
            searches
        });
    }
    for round in 0..12 {
        for part in 0..3 {
            let sequence = round * 3 + part;
            lake.ingest(batch("default", sequence + 1, sequence * 7, 7).into()).unwrap();
            stored.fetch_add(7, Ordering::SeqCst);
        }
        lake.flush().await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(searches) = readers.join_next().await {
        assert!(searches.unwrap() > 0);
    }
    assert_eq!(count(&lake).await, 12 * 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_share_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).await;
    let second = Lake::open(LakeOptions::new(dir.path().join("lake"), "manager-2")).await.unwrap();
    for round in 0..4 {
        first.ingest(batch("default", round * 2, round * 10, 5).into()).unwrap();
        second.ingest(batch("default", round * 2 + 1, round * 10 + 5, 5).into()).unwrap();
        let (one, two) = tokio::join!(first.flush(), second.flush());
        one.and(two).unwrap();
    }
    for lake in [&first, &second] {
        lake.refresh().await.unwrap();
        assert_eq!((count(lake).await, lake.committed_flush().await.unwrap()), (40, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flush_numbers_outlive_checkpoints_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    // Another writer's number is written once, long before the checkpoint.
    let other = Lake::open(LakeOptions::new(dir.path().join("lake"), "manager-2")).await.unwrap();
    other.ingest(batch("other", 1, 0, 1).into()).unwrap();
    other.flush().await.unwrap();
    let lake = open(dir.path()).await;
    for sequence in 0..22 {
        lake.ingest(batch("default", sequence + 1, sequence, 1).into()).unwrap();
        lake.flush().await.unwrap();
    }
    drop((lake, other));
    let log = dir.path().join("lake/_delta_log");
    assert!(log.join("_last_checkpoint").exists());
    let names = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
    for name in names.filter(|name| name.extension().is_some_and(|end| end == "json")) {
        // What the checkpoint covers may be cleaned away at any time.
        let version: u64 = name.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        if version < 15 {
            std::fs::remove_file(name).unwrap();
        }
    }
    let lake = open(dir.path()).await;
    assert_eq!((count(&lake).await, lake.committed_flush().await.unwrap()), (22, 22));
    let other = Lake::open(LakeOptions::new(dir.path().join("lake"), "manager-2")).await.unwrap();
    assert_eq!(other.committed_flush().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_batches_stay_small_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path()).await;
    for number in 0..600 {
        lake.ingest(batch("default", number + 1, number, 1).into()).unwrap();
    }
    let small = lake.status().unwrap().waiting_bytes;
    lake.ingest(batch("default", 9_999, 600, 600).into()).unwrap();
    let large = lake.status().unwrap().waiting_bytes - small;
    assert!(small < large * 3, "{small} bytes for 600 batches of one event, {large} for one of 600");
    assert!(lake.pin("default").unwrap().memory.len() < 15);
    assert_eq!(count(&lake).await, 1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn due_by_age_and_by_size_and_memory_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LakeOptions::new(dir.path().join("lake"), "manager-1");
    options.flush_bytes = 200_000;
    options.max_memory = 300_000;
    let lake = Lake::open(options).await.unwrap();
    assert!(!lake.due(at(1_000)), "nothing waits");
    lake.ingest(batch("default", 1, 0, 1).into()).unwrap();
    assert!(!lake.due(at(59)));
    assert!(lake.due(at(60)));
    let mut sequence = 1;
    let full = loop {
        sequence += 1;
        match lake.ingest(batch("default", sequence, 0, 100).into()) {
            Ok(()) => assert!(sequence < 1_000),
            Err(error) => break error,
        }
    };
    assert!(lake.due(at(0)));
    assert!(matches!(full, LakeError::Full(_)), "{full}");
    lake.flush().await.unwrap();
    lake.ingest(batch("default", 5_000, 0, 1).into()).unwrap();
    assert!(lake.status().unwrap().disk_free > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_todays_columns_is_given_them_and_old_rows_are_found_through_the_rest() {
    use deltalake_core::kernel::StructField;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lake");
    // A table of an older version, which had no column for the user's name.
    std::fs::create_dir_all(&path).unwrap();
    let url = deltalake_core::ensure_table_uri(path.to_string_lossy()).unwrap();
    let without = |name: &str| name != "user.name";
    let fields: Vec<StructField> = layout::layout().delta().into_iter().filter(|field| without(field.name())).collect();
    let table = deltalake_core::DeltaTableBuilder::from_url(url).unwrap().build().unwrap();
    let table = table.create().with_columns(fields).with_partition_columns(["organization.id", "day"]).await.unwrap();
    let mut old = batch("default", 1, 0, 1);
    let user = old.events[0].remove(sakimori_model::field::USER_NAME).unwrap();
    let mut segment = segment::Segment::new(1);
    let old = std::sync::Arc::new(old);
    let days = rows::encode(std::slice::from_ref(&old)).unwrap();
    // Its rows hold the name in the rest, nested.
    let days = days.into_iter().map(|(day, rows)| (day, as_old(&rows, &user))).collect();
    segment.add(&old, Some(days)).unwrap();
    let place = place::Place::open(&path, None).unwrap();
    let adds = table::write_files(&place, "manager-1", &segment).await.unwrap();
    table::commit(&table, "manager-1", 1, adds).await.unwrap();

    let lake = open(dir.path()).await;
    lake.ingest(batch("default", 2, 0, 1).into()).unwrap();
    lake.flush().await.unwrap();
    let search = crate::query::parse("user.name:user0").unwrap();
    let found = lake.search("default", &search, Interval::default(), 10, None).await.unwrap();
    let names: Vec<_> = found.hits.iter().map(|hit| hit.event.str(sakimori_model::field::USER_NAME)).collect();
    assert_eq!(names, [Some("user0"), Some("user0")]);
}

fn as_old(
    rows: &datafusion::arrow::array::RecordBatch,
    user: &sakimori_model::Value,
) -> datafusion::arrow::array::RecordBatch {
    let at = layout::layout().rest();
    let mut columns = rows.columns().to_vec();
    let rest = serde_json::json!({"user": {"name": user.to_json()}}).to_string();
    columns[at] = std::sync::Arc::new(datafusion::arrow::array::StringArray::from(vec![rest]));
    datafusion::arrow::array::RecordBatch::try_new(rows.schema(), columns).unwrap()
}
