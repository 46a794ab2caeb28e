//! Exactly once with the lake in a bucket: the manager, a process of its own, gets SIGKILL at chosen requests to the
//! store, between journal, flush and commit; its agent sends again what was not acknowledged.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::disallowed_methods)]

#[path = "../link/agent.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod agent;
#[path = "../../../store/tests/s3/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod s3;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::{Agent, events};
use s3::{Asked, Fate, Store};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// Events of a batch.
const EACH: u64 = 4;

/// The manager's program beside this one.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.parent()?.parent()?.join("sakimori")).filter(|path| path.is_file())
}

struct Manager {
    process: Arc<Mutex<Child>>,
    config: PathBuf,
    api: String,
    password: String,
}

impl Manager {
    fn configure(dir: &Path, store: &Store) -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (api, config) = (free(), dir.join("manager.toml"));
        std::fs::write(dir.join("keys"), "[default]\naws_access_key_id = A\naws_secret_access_key = s\n").unwrap();
        let text = format!(
            "state_dir = \"{0}/state\"\n[api]\nlisten = \"{api}\"\n[link]\nlisten = \"{1}\"\n[lake]\n\
             url = \"s3://events/lake\"\nendpoint = \"{2}\"\nregion = \"us-east-1\"\n\
             credentials_file = \"{0}/keys\"\nflush_seconds = 1\nleast_free_percent = 0\n",
            dir.display(),
            free(),
            store.endpoint()
        );
        std::fs::write(&config, text).unwrap();
        let process = Arc::new(Mutex::new(Command::new("true").spawn().unwrap()));
        Self { process, config, api, password: String::new() }
    }

    async fn start(&mut self, program: &Path) {
        let mut command = Command::new(program);
        command.arg("manager").arg("--config").arg(&self.config).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let out = process.stdout.take().unwrap();
        *self.process.lock().unwrap() = process;
        if self.password.is_empty() {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).unwrap();
            self.password = line.split_whitespace().last().unwrap().to_owned();
        }
        let began = Instant::now();
        while self.client().get(self.url("/healthz")).send().await.is_err() {
            assert!(began.elapsed() < PATIENCE, "the manager does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn client(&self) -> reqwest::Client {
        reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api)
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let login = json!({"name": "admin", "password": self.password});
        let session = self.client().post(self.url("/api/v1/session")).json(&login).send().await.unwrap();
        let session: Value = session.json().await.unwrap();
        let request = self.client().request(method, self.url(path)).bearer_auth(session["token"].as_str().unwrap());
        let request = if body.is_null() { request } else { request.json(&body) };
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(reqwest::Method::GET, path, Value::Null).await
    }

    fn ended(&self) -> bool {
        self.process.lock().unwrap().try_wait().unwrap().is_some()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let mut process = self.process.lock().unwrap();
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// Where the manager dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// When a batch is acknowledged and nothing of it is flushed.
    Acknowledged,
    /// When a request for a file of this ending comes, of which nothing is done.
    Before(&'static str),
    /// When it was done, and nobody says so any more.
    After(&'static str),
}

/// Kills the manager at the first request that fits.
fn lie_in_wait(store: &Store, process: &Arc<Mutex<Child>>, moment: Moment) {
    let (process, done) = (Arc::clone(process), AtomicBool::new(false));
    store.play(move |asked: &Asked| {
        let (ending, fate) = match moment {
            Moment::Acknowledged => return Fate::Served,
            Moment::Before(ending) => (ending, Fate::Lost),
            Moment::After(ending) => (ending, Fate::AnswerLost),
        };
        if asked.method != "PUT" || !asked.key.ends_with(ending) || done.swap(true, Ordering::SeqCst) {
            return Fate::Served;
        }
        process.lock().unwrap().kill().unwrap();
        fate
    });
}

/// Sends from what the manager has on, until it has so many batches or is dead. Gives how many it has acknowledged.
async fn send(agent: &Agent, to: u64) -> u64 {
    let Ok(mut stream) = agent.open().await else { return 0 };
    let mut has = stream.welcome.iter().find(|one| one.0 == "auth").map_or(0, |one| one.1);
    while has < to {
        let events = events(usize::try_from(EACH).unwrap());
        stream.send(agent.batch_at("auth", has + 1, has * EACH, events)).await;
        match stream.try_receipt().await {
            Some((_, sequence)) => has = sequence,
            None => return has,
        }
    }
    has
}

#[test]
fn a_manager_that_is_killed_between_journal_flush_and_commit_stores_each_event_once() {
    let Some(program) = program() else {
        sakimori_sys::harness::needs(false, "the program sakimori (cargo build --workspace)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::start();
    let mut manager = Manager::configure(dir.path(), &store);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        manager.start(&program).await;
        let token = manager.ask(reqwest::Method::POST, "/api/v1/enrolment-tokens", json!({"name": "t"})).await;
        let agent = Agent::enrol(&token["token"].as_str().unwrap().parse().unwrap()).await.unwrap();
        let moments = [
            Moment::Acknowledged,
            Moment::Before(".parquet"),
            Moment::After(".parquet"),
            Moment::Before(".json"),
            Moment::After(".json"),
            Moment::Acknowledged,
            Moment::After(".json"),
            Moment::Before(".json"),
        ];
        let mut sent = 0;
        for moment in moments {
            lie_in_wait(&store, &manager.process, moment);
            sent = send(&agent, sent + 7).await.max(sent);
            if matches!(moment, Moment::Acknowledged) {
                manager.process.lock().unwrap().kill().unwrap();
            }
            let began = Instant::now();
            while !manager.ended() {
                assert!(began.elapsed() < PATIENCE, "{moment:?} never came");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            store.play(|_| Fate::Served);
            manager.start(&program).await;
            // What was acknowledged is there, and nothing twice.
            assert!(found(&manager).await >= sent * EACH, "{moment:?}");
        }
        let all = sent + 3;
        assert_eq!(send(&agent, all).await, all);
        assert_eq!(found(&manager).await, all * EACH);
        let began = Instant::now();
        loop {
            let books = manager.get("/api/v1/events/balance").await;
            let row = books["items"].as_array().unwrap().iter().find(|row| row["stream"] == "auth").unwrap();
            if row["balanced"] == true && row["stored"] == all * EACH {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{row}");
        }
        println!("{all} batches of {EACH} events, {} kills: each event once", moments.len());
    });
}

/// How many events of the stream there are, each with an id of its own.
async fn found(manager: &Manager) -> u64 {
    let page = manager.get("/api/v1/events?q=sakimori.stream:auth&limit=1000").await;
    let ids: Vec<&str> = page["items"].as_array().unwrap().iter().map(|e| e["event"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an event is there twice");
    ids.len() as u64
}
