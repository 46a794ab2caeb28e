//! What the tests of this folder stand on: the AWS simulator, the fake of what it does not answer, the wire before both, and
//! the second reader.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sakimori_cloud::aws::{Account, effects};
use sakimori_model::Order;
use sakimori_model::action::{Cause, Target};
use sakimori_respond::ports::{Effect, Look, Progress};
use serde_json::Value;

use crate::wire::Wire;

/// The region of all tests.
pub const REGION: &str = "us-east-1";
/// The simulator's account.
pub const ACCOUNT: &str = "123456789012";

/// All of it, for as long as this lives.
pub struct Stage {
    /// Before simulator and fake.
    pub wire: Wire,
    python: PathBuf,
    fake: String,
    folder: tempfile::TempDir,
    _running: [Running; 2],
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, port: u16) -> Running {
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(120);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "{command:?} does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    running
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Stage {
    /// None where the simulator is not there; the test is then noted as skipped.
    pub fn start() -> Option<Self> {
        let program = std::env::var_os("SAKIMORI_MOTO").map(PathBuf::from);
        let what = "the AWS simulator in SAKIMORI_MOTO (make test sets it)";
        if !sakimori_sys::harness::needs(program.is_some(), what) {
            return None;
        }
        let program = program?;
        let python = program.with_file_name("python3");
        let (of_simulator, of_fake) = (port(), port());
        let mut simulator = Command::new(&program);
        simulator.args(["-H", "127.0.0.1", "-p", &of_simulator.to_string()]);
        let mut fake = Command::new(&python);
        fake.arg("../../tools/aws-fake.py").arg(of_fake.to_string());
        let running = [start(&mut simulator, of_simulator), start(&mut fake, of_fake)];
        let fake = format!("127.0.0.1:{of_fake}");
        let routes = ["codepipeline:*", "wafv2:ListResourcesForWebACL", "iam:SimulatePrincipalPolicy"];
        let routes = routes.into_iter().map(|name| (name, fake.clone())).collect();
        let wire = Wire::start(&format!("127.0.0.1:{of_simulator}"), routes);
        let folder = tempfile::tempdir().unwrap();
        let secrets = "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = test\n";
        std::fs::write(folder.path().join("credentials"), secrets).unwrap();
        Some(Self { wire, python, fake, folder, _running: running })
    }

    /// The account that is played.
    pub fn account(&self) -> Account {
        Account {
            region: REGION.into(),
            endpoint_url: Some(self.wire.url().to_owned()),
            credentials_file: Some(self.folder.path().join("credentials")),
            ..Account::default()
        }
    }

    /// Its effects.
    pub async fn effects(&self) -> BTreeMap<&'static str, Arc<dyn Effect>> {
        effects(&self.account()).await.unwrap()
    }

    /// Asks by the second reader: each `[service, operation, arguments]`. What it calls is not counted.
    pub fn ask(&self, calls: Value) -> Vec<Value> {
        let known = self.wire.calls();
        let mut command = Command::new(&self.python);
        command.arg(here("read.py")).args([self.wire.url(), REGION]);
        let mut reader = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        reader.stdin.take().unwrap().write_all(calls.to_string().as_bytes()).unwrap();
        let out = reader.wait_with_output().unwrap();
        assert!(out.status.success(), "the second reader failed");
        self.wire.put_back(known);
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// Sets scenes by the second reader, all of which have to succeed.
    pub fn make(&self, calls: Value) -> Vec<Value> {
        let answers = self.ask(calls);
        assert!(answers.iter().all(|answer| answer.get("error").is_none()), "{answers:?}");
        answers
    }

    /// Sets the fake's scene.
    pub fn set(&self, state: Value) {
        let body = state.to_string();
        let mut stream = TcpStream::connect(&self.fake).unwrap();
        write!(stream, "PUT /set HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.contains("200"), "{answer}");
    }
}

fn here(name: &str) -> PathBuf {
    Path::new("tests/identities").join(name)
}

/// An order of an action on a resource.
pub fn order(action: &str, kind: &str, name: &str, inputs: &[(&str, &str)]) -> Order {
    Order {
        id: format!("{:032x}", u128::from(u64::from_le_bytes(*b"sakimori"))),
        action: action.into(),
        target: Target::resource(kind, name),
        expiry: None,
        cause: Cause { by: "test".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        signatures: Vec::new(),
    }
}

/// What the look found; it must be ready.
pub async fn ready(effect: &dyn Effect, order: &Order) -> (String, Vec<String>) {
    match effect.look(order).await.unwrap() {
        Look::Ready { former, would } => (former, would),
        other => panic!("{}: {other:?}", order.action),
    }
}

/// Why a look found nothing to do.
pub async fn nothing(effect: &dyn Effect, order: &Order) -> String {
    match effect.look(order).await.unwrap() {
        Look::NoEffect(why) => why,
        other => panic!("{}: {other:?}", order.action),
    }
}

/// Done, with this remark.
pub fn remark(progress: Progress) -> Option<String> {
    match progress {
        Progress::Done { remark } => remark,
        Progress::Pending { what, .. } => panic!("waits for {what}"),
    }
}

/// The whole life of an effect that can be undone, each step twice, since a crash repeats it: what `read` sees before and
/// after the undo is equal field by field, and differs between them. Returns what it saw in between.
pub async fn whole_life(effect: &dyn Effect, order: &Order, read: &dyn Fn() -> Value) -> Value {
    let before = read();
    let (former, would) = ready(effect, order).await;
    assert!(!would.is_empty() && read() == before, "a look changes nothing");
    // The crash between the look and the effect: the record is there, the effect is begun anew.
    let (again, _) = ready(effect, order).await;
    assert_eq!(again.len(), former.len());
    assert_eq!(remark(effect.apply(order, &former).await.unwrap()), None);
    let during = read();
    assert_ne!(during, before, "{} has an effect", order.action);
    assert_eq!(effect.verify(order, &former).await.unwrap(), None);
    assert_eq!(remark(effect.apply(order, &former).await.unwrap()), None);
    assert_eq!(read(), during, "twice is once");
    assert_eq!(remark(effect.undo(order, &former).await.unwrap()), None);
    assert_eq!(read(), before, "{} is taken back", order.action);
    assert!(effect.verify(order, &former).await.unwrap().is_some(), "and its absence is seen");
    assert_eq!(remark(effect.undo(order, &former).await.unwrap()), None);
    assert_eq!(read(), before, "twice is once");
    during
}
