//! The world of the tests: the effects with the front before the simulator, and the second reader behind it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use sakimori_cloud::aws::{Account, effects};
use sakimori_model::Order;
use sakimori_model::action::{Cause, Target};
use sakimori_respond::ports::{Effect, Look, PortError, Progress};
use serde_json::{Value as Json, json};

use super::front::{Call, Fate, Front};

static WORLD: OnceLock<World> = OnceLock::new();

/// So often is asked again whether something is over.
const MOST: usize = 20;

/// What all tests share.
pub struct World {
    /// What stands before the simulator.
    pub front: Front,
    /// Are all tests run, so that all that is called was called?
    pub whole: bool,
    /// Rights that each action used.
    pub used: Mutex<BTreeMap<String, BTreeSet<String>>>,
    reader: Mutex<Reader>,
    effects: BTreeMap<&'static str, Arc<dyn Effect>>,
    runtime: tokio::runtime::Runtime,
}

struct Reader {
    _process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// Starts it. The reader ends with this process, whose end closes its input.
pub fn start(simulator: SocketAddr, fake: SocketAddr, whole: bool) {
    let front = Front::start(simulator, fake);
    let python = Path::new(&std::env::var_os("SAKIMORI_MOTO").unwrap()).with_file_name("python3");
    let mut process = Command::new(python)
        .arg("tests/effects/reader.py")
        .args([format!("http://{simulator}"), format!("http://{}", front.address)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (to, from) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint_url = Some(format!("http://{}", front.address));
    let account = Account { region: "us-east-1".into(), endpoint_url, ..Account::default() };
    let effects = runtime.block_on(effects(&account)).unwrap();
    let reader = Mutex::new(Reader { _process: process, to, from });
    let world = World { front, whole, used: Mutex::default(), reader, effects, runtime };
    assert!(WORLD.set(world).is_ok());
}

/// The world.
pub fn world() -> &'static World {
    WORLD.get().unwrap()
}

impl World {
    fn ask(&self, request: &Json) -> Json {
        let mut reader = self.reader.lock().unwrap();
        writeln!(reader.to, "{request}").unwrap();
        let mut line = String::new();
        reader.from.read_line(&mut line).unwrap();
        let answer: Json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(answer["error"].is_null(), "{request}: {}", answer["error"]);
        answer
    }
}

/// One region, which one test has for itself.
pub struct Scene {
    /// Its name.
    pub region: &'static str,
    /// The calls of the last step.
    pub calls: RefCell<Vec<Call>>,
}

/// How a sweep breaks calls that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// From this one on they are refused, as if the process had died before it.
    Before,
    /// This one is carried out and its answer lost, and what follows is refused, as if the process had died after it.
    After,
}

impl Scene {
    /// A region for a test.
    pub fn new(region: &'static str) -> Self {
        world().front.heal();
        Self { region, calls: RefCell::default() }
    }

    /// A call of the second reader's, to set the scene.
    pub fn call(&self, service: &str, operation: &str, arguments: Json) -> Json {
        let (region, action) = (self.region, "call");
        world().ask(&json!({
            "do": action, "service": service, "operation": operation, "region": region, "arguments": arguments,
        }))
    }

    /// Changes the desktops of this region.
    pub fn desktops(&self, change: impl FnOnce(&mut serde_json::Map<String, Json>)) {
        let fake = world().front.desktops;
        let mut state: Json = serde_json::from_str(&ask(fake, "GET", "")).unwrap();
        if state["desktops"][self.region].is_null() {
            state["desktops"][self.region] = json!({});
        }
        change(state["desktops"][self.region].as_object_mut().unwrap());
        ask(fake, "PUT", &json!({ "desktops": state["desktops"] }).to_string());
    }

    /// What the second reader sees.
    pub fn see(&self) -> Json {
        world().ask(&json!({ "do": "see", "region": self.region }))
    }

    /// An instance in the default VPC with these groups. Its interface is spelled out: of groups that are given to the
    /// instance itself the simulator says ever after that its interfaces have them, whatever these are given.
    pub fn instance(&self, groups: &[String]) -> String {
        let image = self.call("ec2", "describe_images", json!({ "Owners": ["amazon"] }));
        let image = image["Images"][0]["ImageId"].clone();
        let mut interface = json!({ "DeviceIndex": 0, "SubnetId": self.subnet() });
        if !groups.is_empty() {
            interface["Groups"] = json!(groups);
        }
        let asked = json!({ "ImageId": image, "MinCount": 1, "MaxCount": 1, "NetworkInterfaces": [interface] });
        text(&self.call("ec2", "run_instances", asked)["Instances"][0]["InstanceId"])
    }

    /// The default VPC.
    pub fn vpc(&self) -> String {
        text(&self.call("ec2", "describe_vpcs", json!({}))["Vpcs"][0]["VpcId"])
    }

    /// A subnet of it.
    pub fn subnet(&self) -> String {
        let found = self.call("ec2", "describe_subnets", json!({}));
        text(&found["Subnets"][0]["SubnetId"])
    }

    /// A security group, with the rule outwards that AWS gives it.
    pub fn group(&self, name: &str) -> String {
        let asked = json!({ "GroupName": name, "Description": name, "VpcId": self.vpc() });
        text(&self.call("ec2", "create_security_group", asked)["GroupId"])
    }

    /// An order with a new id.
    pub fn order(&self, action: &str, kind: &str, name: &str, inputs: &[(&str, &str)]) -> Order {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let region = [("region", self.region)];
        let inputs = inputs.iter().chain(&region);
        Order {
            id: format!("{id:032x}"),
            action: action.to_owned(),
            target: Target::resource(kind, name),
            expiry: None,
            cause: Cause { by: "test".into(), ..Cause::default() },
            via: None,
            probe: false,
            inputs: inputs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            signatures: Vec::new(),
        }
    }

    fn during<'a, T>(&self, order: &'a Order, step: impl FnOnce(&'a dyn Effect) -> T) -> T {
        let effect = world().effects.get(order.action.as_str()).unwrap_or_else(|| panic!("no effect {}", order.action));
        world().front.calls();
        let outcome = step(&**effect);
        let calls = world().front.calls();
        assert!(calls.iter().all(|call| call.region == self.region), "in the region of the order");
        let mut used = world().used.lock().unwrap();
        let used = used.entry(order.action.clone()).or_default();
        used.extend(calls.iter().map(Call::right));
        // Tags of what is being made are a right of their own.
        used.extend(
            calls.iter().filter(|call| call.body.contains("TagSpecification.1")).map(|_| "ec2:CreateTags".to_owned()),
        );
        self.calls.replace(calls);
        outcome
    }

    /// Changes that the last step made, in their order.
    pub fn changes(&self) -> Vec<String> {
        self.calls.borrow().iter().filter(|call| call.changes()).map(|call| call.operation.clone()).collect()
    }

    /// Looks, and holds that looking changed nothing.
    pub fn look(&self, order: &Order) -> Result<Look, PortError> {
        let found = self.during(order, |effect| world().runtime.block_on(effect.look(order)));
        assert_eq!(self.changes(), Vec::<String>::new(), "looking changes nothing");
        found
    }

    /// Looks; it can be done. The former state and what would be done.
    pub fn ready(&self, order: &Order) -> (String, Vec<String>) {
        match self.look(order) {
            Ok(Look::Ready { former, would }) => (former, would),
            other => panic!("{other:?}"),
        }
    }

    /// One attempt to do it.
    pub fn apply(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        self.during(order, |effect| world().runtime.block_on(effect.apply(order, former)))
    }

    /// Does it, and waits until it is done and in effect. The remark.
    pub fn done(&self, order: &Order, former: &str) -> Option<String> {
        let remark = self.until(|| self.apply(order, former)).unwrap();
        assert_eq!(self.verify(order, former), Ok(None));
        remark
    }

    /// Reads whether it is in effect.
    pub fn verify(&self, order: &Order, former: &str) -> Result<Option<String>, PortError> {
        let found = self.during(order, |effect| world().runtime.block_on(effect.verify(order, former)));
        assert_eq!(self.changes(), Vec::<String>::new(), "verifying changes nothing");
        found
    }

    /// One attempt to take it back.
    pub fn undo(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        self.during(order, |effect| world().runtime.block_on(effect.undo(order, former)))
    }

    /// Takes it back and waits until that is done. The remark.
    pub fn undone(&self, order: &Order, former: &str) -> Option<String> {
        self.until(|| self.undo(order, former)).unwrap()
    }

    fn until(&self, step: impl Fn() -> Result<Progress, PortError>) -> Result<Option<String>, PortError> {
        for _ in 0..MOST {
            match step()? {
                Progress::Done { remark } => return Ok(remark),
                Progress::Pending { again, what } => assert!((1..=300).contains(&again) && !what.is_empty()),
            }
        }
        panic!("it does not end");
    }

    /// Breaks it at every change that it makes, on the way there and on the way back: once it goes on from the written former
    /// state, it is done; once the way back goes on, all is as before.
    pub fn sweep(&self, make: impl Fn() -> Order) {
        let before = self.see();
        for how in [Break::Before, Break::After] {
            for at in 0.. {
                assert!(at < 60, "it makes no end of changes");
                let order = make();
                let (former, _) = self.ready(&order);
                let there = self.broken(how, at, || self.until(|| self.apply(&order, &former)));
                self.done(&order, &former);
                let back = self.broken(how, at, || self.until(|| self.undo(&order, &former)));
                self.undone(&order, &former);
                assert_same(&before, &self.see(), &format!("{} broken {how:?} change {at}", order.action));
                if there && back {
                    break;
                }
            }
        }
    }

    /// Runs a step that is broken at a change. Was it over before?
    fn broken(&self, how: Break, at: usize, step: impl FnOnce() -> Result<Option<String>, PortError>) -> bool {
        let mut changes = 0;
        world().front.play(move |call| {
            if !call.changes() {
                return Fate::Answered;
            }
            changes += 1;
            match how {
                _ if changes <= at => Fate::Answered,
                Break::After if changes == at + 1 => Fate::Lost,
                _ => Fate::Refused,
            }
        });
        let outcome = step();
        world().front.heal();
        assert!(outcome.as_ref().err().is_none_or(PortError::is_transient), "what broke is tried again: {outcome:?}");
        outcome.is_ok()
    }
}

/// Asks the fake for its state, or sets it.
fn ask(fake: SocketAddr, method: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(fake).unwrap();
    write!(stream, "{method} /set HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}

/// A text of an answer.
pub fn text(value: &Json) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The same, field by field; says where it is not.
pub fn assert_same(before: &Json, after: &Json, when: &str) {
    let mut found = Vec::new();
    differences(before, after, String::new(), &mut found);
    assert!(found.is_empty(), "{when}:\n{}", found.join("\n"));
}

fn differences(before: &Json, after: &Json, at: String, found: &mut Vec<String>) {
    match (before, after) {
        (Json::Object(one), Json::Object(other)) => {
            for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
                differences(&before[key], &after[key], format!("{at}/{key}"), found);
            }
        }
        _ if before == after => {}
        _ => found.push(format!("{at}: {before} before, {after} after")),
    }
}
