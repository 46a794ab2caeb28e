//! The lake in a bucket: on a small store of our own whose conditional put is atomic, and on the AWS simulator.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

#[path = "../s3/mod.rs"]
mod s3;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use s3::{Fate, Store};
use sakimori_model::{Event, Timestamp, field};
use sakimori_store::lake::{BucketOptions, Committed, Interval, Lake, LakeOptions, StampedBatch, TableWriter};
use sakimori_store::query::Expr;
use sakimori_wire::batch::BatchHeader;

const PATIENCE: Duration = Duration::from_secs(60);

fn bucket(dir: &std::path::Path, endpoint: &str) -> BucketOptions {
    let file = dir.join("credentials");
    std::fs::write(&file, "[tests]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n").unwrap();
    BucketOptions {
        url: "s3://events/some/lake".into(),
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".into()),
        credentials: Some((file, "tests".into())),
    }
}

async fn open(dir: &std::path::Path, bucket: &BucketOptions, writer: &str) -> Lake {
    let mut options = LakeOptions::new(dir.join(writer), writer);
    options.bucket = Some(bucket.clone());
    Lake::open(options).await.unwrap()
}

/// Five events of a day that is over.
fn batch(origin: &str, sequence: u64) -> Arc<StampedBatch> {
    let arrival = Timestamp::from_secs(1_767_323_045);
    let events = (0..5_u64).map(|number| {
        let mut event = Event::new();
        event.set(field::TIMESTAMP, arrival);
        event.set(field::USER_NAME, format!("user{number}"));
        event
    });
    let id = sakimori_model::id::batch_id(origin, "auth", sequence);
    let header = BatchHeader { id, origin: origin.into(), stream: "auth".into(), sequence, ..BatchHeader::default() };
    let events = events.collect();
    Arc::new(StampedBatch { tenant: "default".into(), header, events, arrival, first_sequence: sequence * 5 })
}

/// How many events a search finds, each once.
async fn found(lake: &Lake) -> u64 {
    let hits = lake.search("default", &Expr::All, Interval::default(), 10_000, None).await.unwrap().hits;
    let ids: BTreeSet<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
    assert_eq!(ids.len(), hits.len(), "an event is there twice");
    assert_eq!(lake.count("default", &Expr::All, Interval::default()).await.unwrap(), hits.len() as u64);
    hits.len() as u64
}

/// All that one writer does with a table: flushes, searches, a restart, joining, retention, deletion.
async fn whole_life(bucket: &BucketOptions) {
    let dir = tempfile::tempdir().unwrap();
    let lake = open(dir.path(), bucket, "manager").await;
    for sequence in 1..=22 {
        lake.ingest(batch("a", sequence)).unwrap();
        lake.flush().await.unwrap();
    }
    lake.ingest(batch("a", 23)).unwrap();
    assert_eq!(found(&lake).await, 115, "table and memory");
    assert_eq!(lake.sql("default", "SELECT COUNT(*) FROM events").await.unwrap().rows.len(), 1);
    drop(lake);
    let lake = open(dir.path(), bucket, "manager").await;
    assert_eq!((found(&lake).await, lake.committed_flush().await.unwrap()), (110, 22), "after a restart");
    let now = Timestamp::from_micros(chrono::Utc::now().timestamp_micros());
    let joined = lake.compact(now).await.unwrap();
    assert_eq!((joined.files, joined.into), (22, 1));
    assert_eq!(found(&lake).await, 110, "joined");
    assert_eq!(lake.vacuum(now).await.unwrap(), 0, "a search may still read them");
    assert_eq!(lake.vacuum(now.plus_secs(7_200)).await.unwrap(), 22);
    assert_eq!(found(&lake).await, 110, "what is needed is there");
    assert_eq!(lake.expire(|_| 1, now).await.unwrap(), 110);
    assert_eq!((found(&lake).await, lake.expired("default", "a", "auth").await.unwrap()), (0, 110));
    let state: Vec<_> =
        std::fs::read_dir(dir.path().join("manager")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(state, ["_spill"], "nothing of the table is on this disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_lives_in_a_bucket_as_on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start();
    let bucket = bucket(dir.path(), &store.endpoint());
    let writer = TableWriter::open(&bucket).unwrap();
    assert!(writer.vacant().await.unwrap());
    whole_life(&bucket).await;
    assert!(!writer.vacant().await.unwrap());
    assert!(store.keys().iter().all(|key| key.starts_with("some/lake/")));
    let commits = store.count(|asked, _| asked.method == "PUT" && asked.key.ends_with(".json"));
    let conditional = store.count(|asked, _| asked.method == "PUT" && asked.key.ends_with(".json") && asked.only_new);
    assert_eq!(commits, conditional, "every commit is made only where there is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_that_commit_at_once_both_find_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start();
    let bucket = bucket(dir.path(), &store.endpoint());
    let (first, second) = (open(dir.path(), &bucket, "manager-1").await, open(dir.path(), &bucket, "manager-2").await);
    for round in 0..4 {
        // Both ask for the same version, and neither is served before the other has asked.
        let (asked, both) = (AtomicUsize::new(0), Arc::new(Barrier::new(2)));
        store.play(move |request| {
            if request.method == "PUT" && request.only_new && asked.fetch_add(1, Ordering::SeqCst) < 2 {
                both.wait();
            }
            Fate::Served
        });
        first.ingest(batch("a", round)).unwrap();
        second.ingest(batch("b", round)).unwrap();
        let (one, two) = tokio::join!(first.flush(), second.flush());
        one.and(two).unwrap();
    }
    let refused = store.count(|asked, status| asked.only_new && status == 412);
    assert!(refused >= 4, "{refused} commits were refused because the other was first");
    for lake in [&first, &second] {
        lake.refresh().await.unwrap();
        assert_eq!((found(lake).await, lake.committed_flush().await.unwrap()), (40, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_and_a_store_that_is_busy_store_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start();
    let bucket = bucket(dir.path(), &store.endpoint());
    let lake = open(dir.path(), &bucket, "manager").await;
    let mut sent = 0;
    for ends_with in [".json", ".parquet"] {
        for fate in [Fate::AnswerLost, Fate::Lost, Fate::Refused] {
            let met = AtomicUsize::new(0);
            store.play(move |asked| {
                let meant = asked.method == "PUT" && asked.key.ends_with(ends_with);
                if meant && met.fetch_add(1, Ordering::SeqCst) < 2 { fate } else { Fate::Served }
            });
            sent += 1;
            lake.ingest(batch("a", sent)).unwrap();
            let set = lake.seal().unwrap().unwrap();
            let began = Instant::now();
            // As the manager does: again, until it is known to be there.
            while let Err(error) = lake.commit(set.number).await {
                assert!(began.elapsed() < PATIENCE, "{error}");
                assert_eq!(found(&lake).await, sent * 5, "found all the time");
            }
            assert_eq!(lake.commit(set.number).await.unwrap(), Committed::Already);
            assert_eq!(found(&lake).await, sent * 5, "{ends_with} {fate:?}");
        }
    }
    drop(lake);
    let lake = open(dir.path(), &bucket, "manager").await;
    assert_eq!((found(&lake).await, lake.committed_flush().await.unwrap()), (sent * 5, sent));
}

/// The AWS simulator, for as long as this lives.
struct Simulator {
    process: Child,
    endpoint: String,
}

impl Simulator {
    /// None where the environment does not name it.
    fn start(test: &str) -> Option<Self> {
        let Some(program) = std::env::var_os("SAKIMORI_MOTO") else {
            sakimori_sys::harness::skip(test, "the AWS simulator in SAKIMORI_MOTO (make test sets it)");
            return None;
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let simulator = Self { process, endpoint: format!("http://127.0.0.1:{port}") };
        let began = Instant::now();
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                let request =
                    "PUT /events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                return Some(simulator);
            }
            assert!(began.elapsed() < PATIENCE, "the simulator does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_on_the_simulator_of_aws() {
    let Some(simulator) = Simulator::start("one_writer_on_the_simulator_of_aws") else { return };
    let dir = tempfile::tempdir().unwrap();
    whole_life(&bucket(dir.path(), &simulator.endpoint)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_and_keys_that_are_missing_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = LakeOptions::new(dir.path().join("spill"), "manager");
    options.bucket = Some(BucketOptions {
        credentials: Some((dir.path().join("none"), "x".into())),
        ..bucket(dir.path(), &format!("http://{nowhere}"))
    });
    let error = Lake::open(options).await.err().unwrap().to_string();
    assert!(error.contains("cannot read") && error.contains("none"), "{error}");
}
