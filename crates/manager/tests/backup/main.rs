//! Backup and restore of a whole installation, against real managers and a played agent that goes on sending.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

#[path = "../link/agent.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod agent;

#[path = "../../../store/tests/postgres/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod postgres;
#[path = "../../../store/tests/s3/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod s3;
mod sealed;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::{Agent, Stream, World, events};
use sakimori_manager::backup::{self, BackupError};
use sakimori_manager::config::Config;
use sakimori_manager::{Running, jobs};
use sakimori_runtime::{Secret, SystemClock};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// Events of a batch.
const EACH: u64 = 5;

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Flushes until nothing waits: what the manager tells of itself may come when a flush has begun.
async fn flushed(manager: &Running) {
    let nothing_waits = async || {
        manager.shared.flush_now.notify_one();
        manager.shared.lake.status().unwrap().waiting_events == 0
    };
    until("a flush", nothing_waits).await;
}

/// Sends a batch of the stream `auth` and waits for its receipt.
async fn send(agent: &Agent, stream: &mut Stream, sequence: u64) {
    let events = events(usize::try_from(EACH).unwrap());
    stream.send(agent.batch_at("auth", sequence, (sequence - 1) * EACH, events)).await;
    assert_eq!(stream.receipt().await, ("auth".to_owned(), sequence));
}

/// A backup by the API, as a file.
async fn download(world: &World, manager: &Running, file: &Path) {
    let answer = world.request(manager, reqwest::Method::POST, "/api/v1/backups").await.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(answer.headers()["content-type"], "application/x-tar");
    std::fs::write(file, answer.bytes().await.unwrap()).unwrap();
}

/// Restores a backup of one world into another, with the key of the first.
fn restore(file: &Path, from: &World, world: &World) -> Result<backup::Restored, BackupError> {
    restore_to(file, &world.config(), Some(&from.seal_key()))
}

fn restore_to(file: &Path, config: &Config, key: Option<&Path>) -> Result<backup::Restored, BackupError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    backup::restore(file, config, key, &SystemClock, runtime.handle())
}

async fn books(world: &World, manager: &Running) -> Value {
    let books = world.ask(manager, "/api/v1/events/balance").await;
    for row in books["items"].as_array().unwrap() {
        assert_eq!(row["balanced"], true, "{row}");
    }
    books["items"].as_array().unwrap().iter().find(|row| row["stream"] == "auth").unwrap().clone()
}

/// How many events of the stream there are, each with an id of its own.
async fn found(world: &World, manager: &Running) -> u64 {
    let (mut ids, mut count, mut cursor) = (BTreeSet::new(), 0, String::new());
    loop {
        let page = world.ask(manager, &format!("/api/v1/events?q=sakimori.stream:auth&limit=1000{cursor}")).await;
        for event in page["items"].as_array().unwrap() {
            ids.insert(event["event"]["id"].as_str().unwrap().to_owned());
            count += 1;
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids.len() as u64, count, "an event is there twice");
    count
}

#[test]
fn a_backup_of_a_working_manager_holds_each_event_once_and_agents_go_on_with_the_restored_one() {
    let (world, other) = (World::new(), World::new());
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("backup.tar");
    let (mut agent, acknowledged, before) = world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let sender = {
            let (agent, sent, stop) = (agent.clone(), Arc::clone(&sent), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut stream = agent.open().await.unwrap();
                for sequence in 1.. {
                    send(&agent, &mut stream, sequence).await;
                    sent.store(sequence, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        return sequence;
                    }
                }
                unreachable!("it counts on")
            })
        };
        // Flushes go on all the time too, and upkeep is done between them.
        let flusher = {
            let (shared, stop) = (Arc::clone(&manager.shared), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    shared.flush_now.notify_one();
                    jobs::upkeep::round(&shared).await;
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            })
        };
        let flushed = || manager.shared.lake.status().unwrap().committed;
        until("three flushes", async || flushed() >= 3).await;
        let before = sent.load(Ordering::SeqCst);
        download(&world, &manager, &file).await;
        let after = flushed();
        until("two flushes after it", async || flushed() >= after + 2).await;
        stop.store(true, Ordering::SeqCst);
        flusher.await.unwrap();
        (agent, sender.await.unwrap(), before)
    });
    world.kill();
    let manifest = backup::verify(&file).unwrap();
    assert!(manifest.flush >= 3, "{manifest:?}");
    let restored = restore(&file, &world, &other).unwrap();
    assert_eq!(restored.manifest, manifest);
    for secret in ["bundle.key", "ca/ca.key", "control.db"] {
        let data = std::fs::metadata(restored.state.join(secret)).unwrap();
        assert_eq!(data.permissions().mode() & 0o077, 0, "{secret} is its owner's alone");
    }
    other.know(&world);
    let held = other.run(async {
        let manager = other.start().await;
        agent.address = manager.link_addr.to_string();
        let mut stream = agent.open().await.unwrap();
        let held = stream.welcome.iter().find(|one| one.0 == "auth").unwrap().1;
        assert!((before..=acknowledged).contains(&held), "{before} <= {held} <= {acknowledged}");
        assert_eq!(found(&other, &manager).await, held * EACH);
        assert!(stream.policy().await.0 > backup::since::STEP, "above what the former manager may have told");
        assert!(stream.bundle().await > backup::since::STEP);
        // The agent has let go of what the former manager acknowledged.
        send(&agent, &mut stream, acknowledged + 1).await;
        let row = books(&other, &manager).await;
        assert_eq!((&row["arrived"], &row["stored"]), (&((held + 1) * EACH).into(), &((held + 1) * EACH).into()));
        let lost: u64 = row["lost"].as_array().unwrap().iter().map(|loss| loss["count"].as_u64().unwrap()).sum();
        assert_eq!(lost, (acknowledged - held) * EACH, "{row}");
        // Once: from here on a gap is one.
        stream.send(agent.batch("auth", acknowledged + 3, events(1))).await;
        assert_eq!(stream.end().await.code(), tonic::Code::Unavailable);
        let audit = other.ask(&manager, "/api/v1/audit?limit=100").await.to_string();
        assert!(audit.contains("backups:create") && audit.contains("backups:restore"), "{audit}");
        manager.shared.flush_now.notify_one();
        held
    });
    other.kill();
    other.run(async {
        let manager = other.start().await;
        assert_eq!(found(&other, &manager).await, (held + 1) * EACH, "after a crash of the restored one");
        agent.address = manager.link_addr.to_string();
        let mut stream = agent.open().await.unwrap();
        send(&agent, &mut stream, acknowledged + 2).await;
        assert_eq!(books(&other, &manager).await["lost"].as_array().unwrap().len(), 1);
        manager.stop().await;
    });
}

/// A manager with ten batches, of which some are in the table, and its backup after its end.
fn stopped(world: &World, folder: &Path) -> PathBuf {
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        for sequence in 1..=10 {
            send(&agent, &mut stream, sequence).await;
            if sequence == 6 {
                manager.shared.flush_now.notify_one();
                until("a flush", async || manager.shared.lake.status().unwrap().committed >= 1).await;
            }
        }
        let running = backup::of_stopped(&world.config(), &SystemClock).await.err().unwrap().to_string();
        assert!(running.contains("another process has it open"), "{running}");
    });
    world.kill();
    let file = folder.join("stopped.tar");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let source = runtime.block_on(backup::of_stopped(&world.config(), &SystemClock)).unwrap();
    backup::write(source, std::fs::File::create(&file).unwrap(), runtime.handle()).unwrap();
    file
}

#[test]
fn a_manager_that_was_killed_is_backed_up_from_its_state_folder() {
    let (world, other) = (World::new(), World::new());
    let files = tempfile::tempdir().unwrap();
    let content = files.path().join("content");
    let file = stopped(&world, files.path());
    let manifest = backup::verify(&file).unwrap();
    assert!(manifest.flush == 1 && manifest.records > 0, "{manifest:?}");
    assert!(!content.exists());
    let left = std::fs::read_dir(world.state()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().starts_with("backup-")).count(), 0, "no draft is left");
    restore(&file, &world, &other).unwrap();
    other.know(&world);
    other.run(async {
        let manager = other.start().await;
        assert_eq!(found(&other, &manager).await, 10 * EACH);
        books(&other, &manager).await;
        manager.stop().await;
    });
}

#[test]
fn nothing_is_written_over_and_a_changed_backup_restores_nothing() {
    let (world, other) = (World::new(), World::new());
    let files = tempfile::tempdir().unwrap();
    let file = stopped(&world, files.path());
    let taken = restore(&file, &world, &world).unwrap_err().to_string();
    assert!(taken.contains("is not empty") && taken.contains("writes over nothing"), "{taken}");
    // A data file of the lake, which would be found missing only when somebody searches.
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|four| four == b"PAR1\x15\x04\x15\x00" || &four[..4] == b"PAR1").unwrap();
    bytes[at + 20] ^= 1;
    let changed = files.path().join("changed.tar");
    std::fs::write(&changed, &bytes).unwrap();
    let refused = restore(&changed, &world, &other).unwrap_err().to_string();
    assert!(refused.contains("was changed") && refused.contains("nothing was restored"), "{refused}");
    std::fs::write(&changed, &bytes[..bytes.len() / 2]).unwrap();
    assert!(restore(&changed, &world, &other).is_err());
    let left: Vec<_> = std::fs::read_dir(other.state().parent().unwrap()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // An empty folder is as good as none, and the whole backup goes there.
    std::fs::create_dir(other.state()).unwrap();
    restore(&file, &world, &other).unwrap();
}

#[test]
fn one_backup_is_made_at_a_time_and_one_that_nobody_reads_on_holds_nothing_up() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        // More than fits between the manager and a reader that does not read.
        for sequence in 1..=40 {
            let mut events = events(20);
            for event in &mut events {
                let noise: String = (0..1_500).map(|_| uuid::Uuid::now_v7().to_string()).collect();
                event.set(sakimori_model::field::EVENT_ORIGINAL, noise);
            }
            stream.send(agent.batch("auth", sequence, events)).await;
            stream.receipt().await;
        }
        let ask =
            async || world.request(&manager, reqwest::Method::POST, "/api/v1/backups").await.send().await.unwrap();
        let first = ask().await;
        assert_eq!(first.status(), 200);
        let second = ask().await;
        assert_eq!(second.status(), 409);
        assert!(second.text().await.unwrap().contains("backups/busy"));
        drop(first);
        until("the first one is given up", async || ask().await.status() == 200).await;
        until("the journal lets go again", async || {
            manager.shared.flush_now.notify_one();
            manager.shared.journal_kept.load(Ordering::SeqCst) == u64::MAX
        })
        .await;
        manager.stop().await;
    });
}

/// A name that a restore and the test agree on.
fn events_bucket(folder: &Path, store: &s3::Store, config: &mut Config) {
    let keys = folder.join("keys");
    std::fs::write(&keys, "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n").unwrap();
    config.lake.url = Some("s3://events/lake".into());
    config.lake.endpoint = Some(store.endpoint());
    config.lake.region = Some("us-east-1".into());
    config.lake.credentials_file = Some(keys);
}

#[test]
fn an_installation_moves_to_a_server_and_a_bucket_and_back_to_a_disk() {
    let Some(server) = postgres::server("an_installation_moves_to_a_server_and_a_bucket_and_back_to_a_disk") else {
        return;
    };
    let (world, moved, back) = (World::new(), World::new(), World::new());
    let files = tempfile::tempdir().unwrap();
    let file = stopped(&world, files.path());
    let store = s3::Store::start();
    let url = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(server.database());
    let place = |config: &mut Config| {
        config.store.url = Some(Secret::new(url.clone()));
        events_bucket(files.path(), &store, config);
    };
    let mut config = moved.config();
    place(&mut config);
    // What is not whole leaves no table in the bucket and no row on the server.
    let cut = files.path().join("cut.tar");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 4_096]).unwrap();
    assert!(restore_to(&cut, &config, Some(&world.seal_key())).is_err());
    assert_eq!((store.keys(), moved.state().exists()), (Vec::new(), false));
    restore_to(&file, &config, Some(&world.seal_key())).unwrap();
    let mut third = back.config();
    place(&mut third);
    let taken = restore_to(&file, &third, Some(&world.seal_key())).unwrap_err().to_string();
    assert!(taken.contains("holds an installation"), "{taken}");
    third.store.url = None;
    let taken = restore_to(&file, &third, Some(&world.seal_key())).unwrap_err().to_string();
    assert!(taken.contains("s3://events/lake is not empty"), "{taken}");

    moved.know(&world);
    back.know(&world);
    let again = files.path().join("again.tar");
    moved.run(async {
        let manager = moved.start_with(place).await;
        assert_eq!(found(&moved, &manager).await, 10 * EACH);
        let agent = Agent::enrol(&moved.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        for sequence in 1..=4 {
            send(&agent, &mut stream, sequence).await;
        }
        flushed(&manager).await;
        send(&agent, &mut stream, 5).await;
        download(&moved, &manager, &again).await;
        assert_eq!(found(&moved, &manager).await, 15 * EACH);
        assert!(!moved.state().join("control.db").exists(), "control state is on the server");
        assert!(!moved.state().join("lake/_delta_log").exists(), "the table is in the bucket");
    });
    moved.kill();
    moved.run(async {
        let manager = moved.start_with(place).await;
        assert_eq!(found(&moved, &manager).await, 15 * EACH, "after a crash");
        manager.stop().await;
    });
    restore(&again, &world, &back).unwrap();
    back.run(async {
        let manager = back.start().await;
        assert_eq!(found(&back, &manager).await, 15 * EACH);
        assert_eq!(back.ask(&manager, "/api/v1/audit/verify").await["whole"], true);
        manager.stop().await;
    });
}
