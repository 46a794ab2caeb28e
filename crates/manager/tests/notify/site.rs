//! A manager with channels, things to tell, and looks at what became of the messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sakimori_manager::config::{Channel, Config};
use sakimori_manager::respond::{self, Account};
use sakimori_manager::{Manager, Outside, Running};
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Event, Order, Timestamp, field};
use sakimori_runtime::clock::ManualClock;
use sakimori_runtime::{Clock, SystemClock};
use sakimori_store::control::messages::{self, State, Stored, Try};
use sakimori_store::control::{DEFAULT_TENANT, Scope};
use sakimori_wire::batch::{Batch, BatchHeader, encode};

const PATIENCE: Duration = Duration::from_secs(120);

/// Values as an attacker may choose them.
pub const HOSTILE: &str =
    "<!channel> </b><script>alert(1)</script> [x](javascript:y) `*_~ |=\\ ]\r\nBcc: all@example.com";

/// A manager on a runtime of its own, so that a test can end it as a crash would.
pub struct Site {
    pub running: Option<Running>,
    runtime: Option<tokio::runtime::Runtime>,
    config: Config,
    pub clock: Arc<ManualClock>,
    serial: u32,
}

/// A channel of this kind, with settings.
pub fn channel(kind: &str, url: &str, settings: &[(&str, &str)]) -> Channel {
    Channel {
        name: "ops".into(),
        kind: kind.into(),
        url: url.into(),
        burst_seconds: 0,
        settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Channel::default()
    }
}

/// A file with a secret.
pub fn secret(dir: &std::path::Path, value: &str) -> Option<std::path::PathBuf> {
    let path = dir.join(format!("secret-{}", value.len()));
    std::fs::write(&path, format!("{value}\n")).unwrap();
    Some(path)
}

impl Site {
    pub fn start(dir: &std::path::Path, channels: Vec<Channel>) -> Self {
        Self::start_with(dir, channels, |_| {})
    }

    pub fn start_with(dir: &std::path::Path, channels: Vec<Channel>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { state_dir: dir.join("state"), notify: channels, ..Config::default() };
        config.api.listen = "127.0.0.1:0".parse().unwrap();
        config.link.listen = "127.0.0.1:0".parse().unwrap();
        config.api.public_url = Some("https://console.example".into());
        config.lake.least_free_percent = 0;
        change(&mut config);
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let mut site = Self { running: None, runtime: None, config, clock, serial: 0 };
        site.up();
        site
    }

    /// Starts it, or starts it anew.
    pub fn up(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let started = runtime.block_on(Manager::start_on(config, clock, Outside::default()));
        self.running = Some(started.unwrap());
        self.runtime = Some(runtime);
    }

    /// Ends it as a crash does: nothing that is under way ends in order.
    pub fn crash(&mut self) {
        let (running, runtime) = (self.running.take(), self.runtime.take());
        runtime.unwrap().shutdown_timeout(Duration::from_secs(30));
        drop(running);
    }

    pub fn stop(mut self) {
        let running = self.running.take().unwrap();
        self.runtime.as_ref().unwrap().block_on(running.stop());
    }

    pub fn shared(&self) -> &sakimori_manager::shared::Shared {
        &self.running.as_ref().unwrap().shared
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.set(self.clock.now().plus_secs(seconds));
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An alert in which all that may come from outside is hostile; its id.
    pub fn alert(&mut self) -> String {
        self.alert_of("")
    }

    /// The same, of what came by this log source.
    pub fn alert_of(&mut self, source: &str) -> String {
        self.serial += 1;
        let id = format!("{:032x}", 0xa1e7_0000 + self.serial);
        let mut event = Event::new();
        event.set(field::TIMESTAMP, self.now());
        event.set(field::EVENT_KIND, "alert");
        event.set(field::EVENT_SEVERITY, 50);
        event.set(field::SAKIMORI_ALERT_ID, id.clone());
        event.set(field::RULE_ID, format!("rule-{}", self.serial));
        event.set(field::RULE_NAME, "不正なログイン / brute force");
        event.set(field::SOURCE_IP, "192.0.2.7".parse::<std::net::IpAddr>().unwrap());
        event.set(field::USER_NAME, HOSTILE);
        event.set(field::HOST_NAME, "web1");
        event.set(field::MESSAGE, HOSTILE);
        if !source.is_empty() {
            event.set(field::SAKIMORI_SOURCE, source.to_owned());
        }
        let sequence = u64::from(self.serial);
        let header = BatchHeader {
            id: format!("test/{sequence}/{}", self.now().micros()),
            origin: "manager".into(),
            stream: format!("test-{sequence}-{}", self.now().micros()),
            sequence: 1,
            count: 1,
            ..BatchHeader::default()
        };
        let bytes = encode(&Batch { header, events: vec![event] }).unwrap();
        self.block_on(async {
            self.shared().ingest.submit(DEFAULT_TENANT, "manager", bytes).await.unwrap();
        });
        let query = format!("sakimori.alert.id:\"{id}\" and event.kind:alert");
        self.until("the alert can be found", || {
            let query = sakimori_store::query::parse(&query).unwrap();
            let found = self.block_on(self.shared().lake.search(
                DEFAULT_TENANT,
                &query,
                sakimori_store::lake::Interval::default(),
                1,
                None,
            ));
            found.ok().filter(|found| !found.hits.is_empty())
        });
        id
    }

    /// Has a playbook ask for a message about this alert; the message's id.
    pub fn tell(&self, alert: &str, inputs: &[(&str, &str)]) -> String {
        self.tell_by("manager", alert, inputs)
    }

    /// The same for another reason, so that it is another message.
    pub fn tell_by(&self, place: &str, alert: &str, inputs: &[(&str, &str)]) -> String {
        let target = Target::Channel("ops".into());
        let id = sakimori_respond::wide::order_id(alert, "notify", &target, place);
        let order = Order {
            id: id.clone(),
            action: "notify".into(),
            target,
            expiry: None,
            cause: Cause {
                alert: alert.into(),
                rule: alert.into(),
                title: "t".into(),
                by: "playbook:x".into(),
                ..Cause::default()
            },
            via: None,
            probe: false,
            inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            signatures: Vec::new(),
        };
        self.block_on(respond::plan(self.shared(), DEFAULT_TENANT, vec![order], Account::default(), self.now()))
            .unwrap();
        self.shared().message_waiting.notify_one();
        id
    }

    /// An alert, and a message about it that the receiver has.
    pub fn told(&mut self) -> Stored {
        let alert = self.alert();
        let id = self.tell(&alert, &[("text", "Look at it.")]);
        self.sent(&id)
    }

    pub fn message(&self, id: &str) -> Option<Stored> {
        let scope = Scope::One(DEFAULT_TENANT.into());
        self.block_on(messages::get(self.shared().control.read(), &scope, id)).ok()
    }

    pub fn tries(&self, message: &Stored) -> Vec<Try> {
        self.block_on(messages::tries(self.shared().control.read(), message)).unwrap()
    }

    /// Waits for a message to be sent; the clock goes on meanwhile.
    pub fn sent(&self, id: &str) -> Stored {
        let message = self.over(id);
        assert_eq!(message.state, State::Sent, "{message:?} {:?}", self.tries(&message));
        message
    }

    /// Waits for a message to be sent or given up; the clock goes on meanwhile.
    pub fn over(&self, id: &str) -> Stored {
        self.until("a message is over", || {
            self.pass(1);
            self.message(id).filter(|message| matches!(message.state, State::Sent | State::Dead))
        })
    }

    /// Closes an alert as a person does, and waits for what tells of it.
    pub fn close(&self, alert: &str, message: &str) -> Stored {
        use sakimori_store::control::alerts::{self, Note, Status};
        let note = Note {
            tenant: DEFAULT_TENANT.into(),
            alert: alert.into(),
            status: Status::Closed,
            comment: String::new(),
            author: "user:ann".into(),
            changed: self.now(),
        };
        self.block_on(async {
            let mut change = self.shared().control.begin().await.unwrap();
            alerts::put(change.connection(), &note).await.unwrap();
            let (of, said) = ((DEFAULT_TENANT, alert), ("user:ann", "a drill"));
            sakimori_manager::jobs::deliver::close(self.shared(), &mut change, of, said, self.now()).await.unwrap();
            change.commit().await.unwrap();
        });
        self.shared().channels.wake("ops");
        self.sent(&format!("{message}-closed"))
    }

    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The AWS simulator, for as long as this lives.
pub struct Simulator {
    process: std::process::Child,
    pub url: String,
}

/// Starts it; none where the environment does not name it.
pub fn simulator(test: &str) -> Option<Simulator> {
    let Some(program) = std::env::var_os("SAKIMORI_MOTO") else {
        sakimori_sys::harness::skip(test, "the AWS simulator in SAKIMORI_MOTO (make test sets it)");
        return None;
    };
    let port = port();
    let mut command = std::process::Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let one = Simulator { process: command.spawn().unwrap(), url: format!("http://127.0.0.1:{port}") };
    listens(port);
    Some(one)
}

/// A port that is free now.
pub fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens there.
pub fn listens(port: u16) {
    let end = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A certificate of localhost that signs itself, and its key; none where openssl is absent.
pub fn certificate(dir: &std::path::Path) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).ok()?;
    let (certificate, key) = (dir.join("server.pem"), dir.join("server.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Some((certificate, key))
}
