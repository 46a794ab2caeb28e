//! Playbooks step by step against a real manager, with providers that are played here: approvals by name and by link, undo,
//! failures, and a kill at every boundary.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sakimori_cloud::aws;
use sakimori_manager::accounts::{Accounts, Effects};
use sakimori_manager::config::{Channel, Config};
use sakimori_manager::{Manager, Outside, Running};
use sakimori_model::{Event, Network, Order, field};
use sakimori_respond::actions::{self, Runs};
use sakimori_respond::playbook::{Playbook, Trigger};
use sakimori_respond::ports::{AddressSet, BoxFuture, Effect, Look, PortError, Progress, SetOutcome};
use sakimori_runtime::{Clock, SystemClock};
use serde_json::{Value, json};

use super::agent::{Agent, World};
use super::bounds::Hook;

const PATIENCE: Duration = Duration::from_secs(120);

/// Everything outside, which lives on while managers come and go.
#[derive(Default)]
struct Outer {
    /// What is in effect: `action target`.
    state: Mutex<BTreeSet<String>>,
    /// Every change of it, in order.
    changes: Mutex<Vec<String>>,
    /// Calls that came to a boundary: before and after each effect.
    crossed: AtomicUsize,
    /// The boundary at which a call never ends, unless it is let go.
    gate: Mutex<Option<usize>>,
    let_go: tokio::sync::Notify,
    reached: AtomicBool,
    /// Orders whose effect fails for good: `action target`.
    broken: Mutex<BTreeSet<String>>,
}

impl Outer {
    async fn cross(&self) {
        let number = self.crossed.fetch_add(1, Ordering::SeqCst);
        let stops = *self.gate.lock().unwrap() == Some(number);
        if stops {
            self.reached.store(true, Ordering::SeqCst);
            self.let_go.notified().await;
        }
    }

    fn set(&self, name: &str, on: bool) {
        let mut state = self.state.lock().unwrap();
        let changed = if on { state.insert(name.to_owned()) } else { state.remove(name) };
        if changed {
            self.changes.lock().unwrap().push(format!("{}{name}", if on { '+' } else { '-' }));
        }
    }
}

struct Played(Arc<Outer>);

fn name(order: &Order) -> String {
    format!("{} {}", order.action, order.target)
}

impl Effect for Played {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            self.0.cross().await;
            let there = self.0.state.lock().unwrap().contains(&name(order));
            Ok(match there {
                true => Look::NoEffect("it is so already".to_owned()),
                false => Look::Ready { former: "{}".to_owned(), would: vec![format!("would {}", name(order))] },
            })
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, _: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            self.0.cross().await;
            if self.0.broken.lock().unwrap().contains(&name(order)) {
                return Err(PortError::permanent("the provider says no"));
            }
            self.0.set(&name(order), true);
            self.0.cross().await;
            Ok(Progress::Done { remark: None })
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, _: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            self.0.cross().await;
            let there = self.0.state.lock().unwrap().contains(&name(order));
            Ok((!there).then(|| "it is not so".to_owned()))
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, _: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            self.0.cross().await;
            self.0.set(&name(order), false);
            self.0.cross().await;
            Ok(Progress::Done { remark: None })
        })
    }
}

struct PlayedSets(Arc<Outer>);

impl AddressSet for PlayedSets {
    fn replace<'a>(&'a self, desired: &'a BTreeSet<Network>) -> BoxFuture<'a, Result<SetOutcome, PortError>> {
        Box::pin(async move {
            self.0.cross().await;
            let wanted: BTreeSet<String> = desired.iter().map(|network| format!("waf_block {network}")).collect();
            let held: BTreeSet<String> =
                self.0.state.lock().unwrap().iter().filter(|name| name.starts_with("waf_block ")).cloned().collect();
            let networks = |names: &[&String]| names.iter().filter_map(|name| name[10..].parse().ok()).collect();
            let (added, removed): (Vec<_>, Vec<_>) =
                (wanted.difference(&held).collect(), held.difference(&wanted).collect());
            for name in &added {
                self.0.set(name, true);
            }
            for name in &removed {
                self.0.set(name, false);
            }
            self.0.cross().await;
            Ok(SetOutcome { added: networks(&added), removed: networks(&removed), no_effect: None })
        })
    }

    fn read<'a>(&'a self) -> BoxFuture<'a, Result<BTreeSet<Network>, PortError>> {
        Box::pin(async { Ok(BTreeSet::new()) })
    }
}

/// A manager with one playbook more.
struct Site<'a> {
    world: &'a World,
    manager: Running,
}

fn content(world: &World, playbook: &str) {
    let folder = world.state().with_file_name("content").join("playbooks");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tried.yml"), playbook).unwrap();
}

impl<'a> Site<'a> {
    async fn start(world: &'a World, outer: &Arc<Outer>, hook: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = world.config();
        config.content_dir = Some(world.state().with_file_name("content"));
        let channel =
            |name: &str| Channel { name: name.into(), url: hook.to_owned(), burst_seconds: 0, ..Channel::default() };
        config.notify = vec![channel("ops")];
        config.api.public_url = Some("http://sakimori.example".to_owned());
        change(&mut config);
        let effects: Effects = actions::CATALOG
            .iter()
            .filter(|known| known.runs == Runs::Account)
            .map(|known| (known.id, Arc::new(Played(Arc::clone(outer))) as Arc<dyn Effect>))
            .collect();
        let outside = Outside {
            waf: Some(Arc::new(PlayedSets(Arc::clone(outer)))),
            accounts: Accounts::of([("main".to_owned(), aws::Account::default(), effects)]),
        };
        let manager = world.know_first(Manager::start_on(config, Arc::new(SystemClock), outside).await.unwrap());
        Self { world, manager }
    }

    async fn executions(&self) -> Vec<Value> {
        let page = self.world.ask(&self.manager, "/api/v1/executions").await;
        page["items"].as_array().unwrap().clone()
    }

    /// Waits until the only execution is in this state.
    async fn until(&self, state: &str) -> Value {
        self.wait(state, |one| one["state"] == state).await
    }

    async fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let all = self.executions().await;
            if let Some(one) = all.first().filter(|one| holds(one)) {
                return one.clone();
            }
            assert!(began.elapsed() < PATIENCE, "waited for {what}: {all:#?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn detail(&self, id: &str) -> Value {
        self.world.ask(&self.manager, &format!("/api/v1/executions/{id}")).await
    }
}

fn alert() -> Event {
    let mut event = Event::new();
    event.set(field::TIMESTAMP, SystemClock.now());
    event.set(field::EVENT_KIND, "alert");
    // Below what the built-in playbooks ask for.
    event.set(field::EVENT_SEVERITY, 50);
    event.set(field::RULE_ID, "stolen-key");
    event.set(field::RULE_NAME, "A stolen key is used");
    event.set(field::USER_NAME, "AKIAEXAMPLE");
    event.set(field::SOURCE_IP, "198.51.100.7".parse::<std::net::IpAddr>().unwrap());
    event.set(field::SAKIMORI_ALERT_ID, "5f".repeat(16));
    event
}

const STEPS: &str = "id: tried
title: { en: Lock the key, ja: 鍵を止める }
trigger: { alert: { rules: [stolen-key], scope: wide } }
steps:
  - { id: key, action: access_key_deactivate, target: event.user.name }
  - { action: waf_block, target: event.source.ip }
  - { action: notify, channel: ops }
";

const ASKS: &str = "id: tried
title: { en: Lock the key, ja: 鍵を止める }
trigger: { alert: { rules: [stolen-key], scope: wide } }
steps:
  - approval: { ask: ops, within: 30m, text: { en: Shall the key be locked?, ja: 鍵を止めますか } }
  - { action: access_key_deactivate, target: event.user.name }
";

async fn send_alert(site: &Site<'_>) -> Agent {
    send(site, alert()).await
}

async fn send(site: &Site<'_>, alert: Event) -> Agent {
    let agent = Agent::enrol(&site.world.token(&site.manager).await).await.unwrap();
    let mut stream = agent.open().await.unwrap();
    stream.send(agent.batch("cloud", 1, vec![alert])).await;
    stream.receipt().await;
    agent
}

#[test]
fn steps_are_done_in_order_and_taken_back_in_reverse() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, STEPS);
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url, |_| {}).await;
        send_alert(&site).await;
        let done = site.until("done").await;
        let id = done["id"].as_str().unwrap();
        let wanted = ["+access_key_deactivate access_key/AKIAEXAMPLE", "+waf_block 198.51.100.7"];
        assert_eq!(*outer.changes.lock().unwrap(), wanted);
        assert_eq!(hook.sent().len(), 1);
        assert_eq!(hook.sent()[0]["alerts"][0]["actions"].as_array().unwrap().len(), 2, "{}", hook.sent()[0]);
        let detail = site.detail(id).await;
        assert_eq!(detail["actions"].as_array().unwrap().len(), 3);
        assert_eq!(detail["text"], STEPS);
        assert_eq!(world.status(&site.manager, &format!("/api/v1/executions/{id}/undo"), json!({})).await, 202);
        let undone = site.until("undone").await;
        assert_eq!(undone["steps"]["2"]["state"], "kept", "a message stays sent: {undone}");
        assert!(outer.state.lock().unwrap().is_empty());
        let back = ["-waf_block 198.51.100.7", "-access_key_deactivate access_key/AKIAEXAMPLE"];
        assert_eq!(outer.changes.lock().unwrap()[2..], back);
        assert_eq!(world.status(&site.manager, &format!("/api/v1/executions/{id}/undo"), json!({})).await, 409);
        site.manager.stop().await;
    });
}

#[test]
fn what_is_taken_back_while_it_is_looked_at_is_not_carried_out() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, STEPS);
    *outer.gate.lock().unwrap() = Some(0);
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url, |_| {}).await;
        send_alert(&site).await;
        while !outer.reached.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let actions = world.ask(&site.manager, "/api/v1/actions?action=access_key_deactivate").await;
        let id = actions["items"][0]["order"]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.status(&site.manager, &format!("/api/v1/actions/{id}/undo"), json!({})).await, 202);
        outer.let_go.notify_one();
        site.until("stopped").await;
        let action = world.ask(&site.manager, &format!("/api/v1/actions/{id}")).await;
        assert_eq!(action["state"], "undone", "{action}");
        assert!(outer.changes.lock().unwrap().is_empty(), "{:?}", outer.changes.lock().unwrap());
        site.manager.stop().await;
    });
}

#[test]
fn what_fails_leaves_nothing_half_done() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(
        &world,
        &STEPS.replace("waf_block, target: event.source.ip", "access_key_deactivate, target: '\"AKIABROKEN\"'"),
    );
    outer.broken.lock().unwrap().insert("access_key_deactivate access_key/AKIABROKEN".to_owned());
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url, |_| {}).await;
        send_alert(&site).await;
        let over = site.until("compensated").await;
        assert!(over["reason"].as_str().unwrap().contains("the provider says no"), "{over}");
        assert!(outer.state.lock().unwrap().is_empty(), "{:?}", outer.changes.lock().unwrap());
        assert!(hook.sent().is_empty(), "the step after it was not begun");
        site.manager.stop().await;
    });
}

#[test]
fn a_question_is_answered_by_name_or_by_its_link_and_by_nobody_else() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, ASKS);
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url, |_| {}).await;
        send_alert(&site).await;
        let began = Instant::now();
        while hook.sent().is_empty() {
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let asked = hook.sent()[0]["ask"].clone();
        assert_eq!(asked["question_ja"], "鍵を止めますか");
        let link = asked["url"].as_str().unwrap().strip_prefix("http://sakimori.example").unwrap().to_owned();
        let (client, base) = (reqwest::Client::new(), format!("http://{}", site.manager.api_addr));
        let shown = client.get(format!("{base}{link}")).send().await.unwrap();
        assert!(shown.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        assert!(shown.text().await.unwrap().contains("Shall the key be locked?"));
        assert!(outer.changes.lock().unwrap().is_empty(), "to look at it changes nothing");
        let mut forged = link.clone();
        forged.replace_range(
            link.len() - 6..link.len() - 5,
            if link.as_bytes()[link.len() - 6] == b'A' { "B" } else { "A" },
        );
        assert_eq!(client.get(format!("{base}{forged}")).send().await.unwrap().status(), 404);
        let post = |link: &str, body: &str| client.post(format!("{base}{link}")).body(body.to_owned()).send();
        assert_eq!(post(&forged, "answer=allow").await.unwrap().status(), 404);
        assert_eq!(post(&link, "answer=perhaps").await.unwrap().status(), 400);
        assert_eq!(site.executions().await[0]["state"], "running");
        assert_eq!(post(&link, "answer=allow").await.unwrap().status(), 200);
        let done = site.until("done").await;
        assert_eq!(done["steps"]["0"]["reason"], "allowed by link to ops");
        assert_eq!(outer.changes.lock().unwrap().len(), 1);
        assert_eq!(post(&link, "answer=deny").await.unwrap().status(), 404, "it waits for nobody any more");
        let id = done["id"].as_str().unwrap();
        let path = format!("/api/v1/executions/{id}/answer");
        assert_eq!(world.status(&site.manager, &path, json!({"allow": false})).await, 409);
        let audit = world.ask(&site.manager, "/api/v1/audit?limit=50").await.to_string();
        assert!(audit.contains("executions:allow"), "{audit}");
        site.manager.stop().await;
    });
}

#[test]
fn a_playbook_is_checked_rehearsed_and_run_by_hand() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, &STEPS.replace("title:", "enabled: false\ntitle:"));
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url, |_| {}).await;
        send_alert(&site).await;
        let (manager, ask) =
            (&site.manager, async |path: &str, body: Value| world.post(&site.manager, path, body).await);
        let listed = world.ask(manager, "/api/v1/playbooks").await;
        let tried = listed["items"].as_array().unwrap().iter().find(|one| one["id"] == "tried").unwrap().clone();
        assert_eq!((tried["on"].clone(), tried["stepwise"].clone()), (json!(false), json!(true)));
        let bad =
            ask("/api/v1/playbooks/check", json!({"file": "p.yml", "text": STEPS.replace("waf_block", "waf_blok")}))
                .await;
        assert_eq!((bad["good"].clone(), bad["line"].clone()), (json!(false), json!(6)), "{bad}");
        let began = Instant::now();
        let past = loop {
            let past = ask("/api/v1/playbooks/tried/rehearse", json!({"since_seconds": 3600})).await;
            if past["begun"] == 1 {
                break past;
            }
            assert!(began.elapsed() < PATIENCE, "{past}");
        };
        assert_eq!(past["orders"], json!({"access_key_deactivate": 1, "notify": 1, "waf_block": 1}), "{past}");
        assert!(site.executions().await.is_empty() && outer.changes.lock().unwrap().is_empty(), "it is off");
        let alert = "5f".repeat(16);
        let dry = ask("/api/v1/playbooks/tried/run", json!({"alert": alert, "dry_run": true})).await;
        let key = "would access_key_deactivate access_key/AKIAEXAMPLE";
        assert_eq!(dry["would"][0]["changes"], json!([key]), "{dry}");
        let run = ask("/api/v1/playbooks/tried/run", json!({"alert": alert})).await;
        site.until("done").await;
        assert_eq!(site.executions().await[0]["id"], run["execution"]);
        assert_eq!(outer.changes.lock().unwrap().len(), 2);
        world
            .put(manager, "/api/v1/policies/layers/tenant", json!({"tree": {"response": {"playbooks_on": ["tried"]}}}))
            .await;
        let listed = world.ask(manager, "/api/v1/playbooks").await.to_string();
        assert!(listed.contains("\"on\":true"));
        site.manager.stop().await;
    });
}

/// What a run left: boundaries, changes outside, ids of messages.
#[derive(Debug)]
struct Left {
    boundaries: usize,
    changes: Vec<String>,
    sent: Vec<String>,
}

/// Runs a playbook to its end and back, killed at a boundary where one is given; what it asks is allowed.
fn run_and_kill(playbook: &str, event: &Event, boundary: Option<usize>) -> Left {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, playbook);
    *outer.gate.lock().unwrap() = boundary;
    // The receiver of messages lives on too.
    let receiver = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = receiver.block_on(hook.listen());
    let there_and_back = async |site: &Site<'_>| {
        let began = Instant::now();
        loop {
            let all = site.executions().await;
            assert!(began.elapsed() < PATIENCE, "{all:#?} at {boundary:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Some(one) = all.first() else { continue };
            let path = |end: &str| format!("/api/v1/executions/{}/{end}", one["id"].as_str().unwrap());
            match one["state"].as_str().unwrap() {
                "running" if one["steps"].to_string().contains("waiting") => {
                    // A second answer of the same person is refused, and so is one that came too late.
                    world.status(&site.manager, &path("answer"), json!({"allow": true})).await;
                }
                "done" => {
                    world.status(&site.manager, &path("undo"), json!({})).await;
                }
                "undone" => return,
                "running" | "undoing" => {}
                _ => panic!("it ended otherwise: {one:#} at {boundary:?}"),
            }
        }
    };
    let killed = world.run(async {
        let site = Site::start(&world, &outer, &url, |_| {}).await;
        send(&site, event.clone()).await;
        let reached = async {
            while !outer.reached.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = there_and_back(&site) => false,
            () = reached => true,
        }
    });
    if killed {
        world.kill();
        *outer.gate.lock().unwrap() = None;
        world.run(async {
            let site = Site::start(&world, &outer, &url, |_| {}).await;
            there_and_back(&site).await;
            site.manager.stop().await;
        });
    }
    // What cannot be taken back stays, and nothing else.
    for name in outer.state.lock().unwrap().iter() {
        let action = actions::find(name.split(' ').next().unwrap()).unwrap();
        assert!(action.undo.is_none(), "{name} stayed at {boundary:?}");
    }
    let changes = outer.changes.lock().unwrap().clone();
    // A question that was answered meanwhile need not be asked any more.
    let told = hook.sent().into_iter().filter(|message| message["ask"].is_null());
    let sent = told.map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    Left { boundaries: outer.crossed.load(Ordering::SeqCst), changes, sent }
}

fn every_boundary(playbook: &str, event: &Event) -> usize {
    let whole = run_and_kill(playbook, event, None);
    assert!(whole.boundaries >= 4, "{whole:?}");
    for boundary in 0..whole.boundaries {
        let again = run_and_kill(playbook, event, Some(boundary));
        assert_eq!(again.changes, whole.changes, "killed at boundary {boundary}");
        let different: BTreeSet<&String> = again.sent.iter().collect();
        let wanted: BTreeSet<&String> = whole.sent.iter().collect();
        assert_eq!(different.len(), wanted.len(), "killed at boundary {boundary}: {again:?}");
        assert!(again.sent.len() <= whole.sent.len() + 1, "at most one repeat: {again:?}");
    }
    whole.boundaries
}

#[test]
fn a_kill_at_every_boundary_leaves_every_effect_once() {
    every_boundary(STEPS, &alert());
}

/// What each shipped playbook that goes step by step is about.
fn examples() -> Vec<(&'static str, Value)> {
    let stays = json!({
        "rule": {"id": "finding-malware-stays", "name": "Malware that is still there"},
        "event": {"severity": 100},
        "cloud": {"instance": {"id": "i-0a1b2c3d"}},
    });
    let of = |rule: &str, more: Value| {
        let mut event = json!({"rule": {"id": rule, "name": rule}, "event": {"severity": 75}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    vec![
        ("isolate-on-malware", stays.clone()),
        ("isolate-when-cleaning-failed", stays.clone()),
        ("replace-in-group", stays.clone()),
        ("snapshot-and-terminate", stays),
        ("isolate-desktop", of("finding-malware", json!({"host": {"name": "PC-0042"}}))),
        (
            "deactivate-stolen-key",
            of(
                "finding-stolen-key",
                json!({"user": {"name": "deploy"}, "sakimori": {"cloud": {"access_key": "AKIAEXAMPLE"}}}),
            ),
        ),
        ("block-network-flood", of("web-network-flood", json!({"sakimori": {"client_network": "203.0.113.0/24"}}))),
        ("close-open-bucket", of("finding-open-bucket", json!({"sakimori": {"cloud": {"bucket": "photos"}}}))),
    ]
}

fn shipped(id: &str) -> String {
    let path = format!("{}/../../content/playbooks/{id}.yml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("enabled: false"), "{id}");
    text.replace("enabled: false", "enabled: true").replace(&format!("id: {id}\n"), "id: tried\n")
}

fn example(mut event: Value) -> Event {
    event["sakimori"]["alert"] = json!({"id": "5f".repeat(16)});
    event["event"]["kind"] = json!("alert");
    // Below what the built-in playbooks that are switched on ask for.
    event["event"]["severity"] = json!(50);
    let mut event = Event::from_json(event.as_object().unwrap().clone()).0;
    event.set(field::TIMESTAMP, SystemClock.now());
    event
}

fn of_all(nth: usize) {
    for (id, event) in examples().into_iter().skip(nth).step_by(2) {
        let text = shipped(id).replace("severity_at_least: high", "severity_at_least: medium");
        println!("{id}: {} boundaries", every_boundary(&text, &example(event)));
    }
}

#[test]
fn a_kill_at_every_boundary_of_shipped_playbooks() {
    of_all(0);
}

#[test]
fn a_kill_at_every_boundary_of_the_other_shipped_playbooks() {
    of_all(1);
}

#[test]
fn no_shipped_playbook_that_goes_step_by_step_is_left_out() {
    let folder = format!("{}/../../content/playbooks", env!("CARGO_MANIFEST_DIR"));
    let stepwise: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yml"))
        .map(|path| Playbook::parse(&path.to_string_lossy(), &std::fs::read_to_string(&path).unwrap()).unwrap())
        .filter(|playbook| !playbook.is_plain() && !matches!(playbook.trigger, Trigger::Manual))
        .map(|playbook| playbook.id)
        .collect();
    let tried: BTreeSet<String> = examples().into_iter().map(|(id, _)| id.to_owned()).collect();
    assert_eq!(stepwise, tried);
}
