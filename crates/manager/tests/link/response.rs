//! Playbooks step by step against a real manager, with providers that are played here: approvals by name and by link, undo,
//! failures, and a kill at every boundary.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sakimori_cloud::aws;
use sakimori_manager::accounts::{Accounts, Effects};
use sakimori_manager::config::Channel;
use sakimori_manager::{Manager, Outside, Running};
use sakimori_model::{Event, Network, Order, field};
use sakimori_respond::actions::{self, Runs};
use sakimori_respond::ports::{AddressSet, BoxFuture, Effect, Look, PortError, Progress, SetOutcome};
use sakimori_runtime::clock::{ManualClock, SharedClock};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_store::control::sql;
use serde_json::{Value, json};

use super::agent::{Agent, World};
use super::bounds::Hook;

pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until there is something.
pub async fn wait<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Everything outside, which lives on while managers come and go.
#[derive(Default)]
pub struct Outer {
    /// What is in effect: `action target`.
    pub state: Mutex<BTreeSet<String>>,
    /// Every change of it, in order.
    pub changes: Mutex<Vec<String>>,
    /// Calls that came to a boundary: before and after each effect.
    pub crossed: AtomicUsize,
    /// The boundary at which a call never ends, unless it is let go.
    pub gate: Mutex<Option<usize>>,
    let_go: tokio::sync::Notify,
    pub reached: AtomicBool,
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
pub struct Site<'a> {
    pub world: &'a World,
    pub manager: Running,
}

pub fn content(world: &World, playbook: &str) {
    let folder = world.state().with_file_name("content").join("playbooks");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tried.yml"), playbook).unwrap();
}

impl<'a> Site<'a> {
    pub async fn start(world: &'a World, outer: &Arc<Outer>, hook: &str) -> Self {
        Self::start_at(world, outer, hook, Arc::new(SystemClock)).await
    }

    async fn start_at(world: &'a World, outer: &Arc<Outer>, hook: &str, clock: SharedClock) -> Self {
        let mut config = world.config();
        config.content_dir = Some(world.state().with_file_name("content"));
        let channel =
            |name: &str| Channel { name: name.into(), url: hook.to_owned(), burst_seconds: 0, ..Channel::default() };
        config.notify = vec![channel("ops")];
        config.api.public_url = Some("http://sakimori.example".to_owned());
        let effects: Effects = actions::CATALOG
            .iter()
            .filter(|known| known.runs == Runs::Account)
            .map(|known| (known.id, Arc::new(Played(Arc::clone(outer))) as Arc<dyn Effect>))
            .collect();
        let outside = Outside {
            waf: Some(Arc::new(PlayedSets(Arc::clone(outer)))),
            accounts: Accounts::of([("main".to_owned(), aws::Account::default(), effects)]),
        };
        let manager = world.know_first(Manager::start_on(config, clock, outside).await.unwrap());
        Self { world, manager }
    }

    pub async fn executions(&self) -> Vec<Value> {
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

pub fn alert() -> Event {
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

pub const STEPS: &str = "id: tried
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

pub async fn send(site: &Site<'_>, alert: Event) -> Agent {
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
        let site = Site::start(&world, &outer, &url).await;
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
        let site = Site::start(&world, &outer, &url).await;
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
        let site = Site::start(&world, &outer, &url).await;
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
        let site = Site::start(&world, &outer, &url).await;
        send_alert(&site).await;
        wait("the question", async || (!hook.sent().is_empty()).then_some(())).await;
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
fn an_answer_has_a_comment_and_the_ledger_is_searched_by_text() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, ASKS);
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url).await;
        send_alert(&site).await;
        wait("the question", async || (!hook.sent().is_empty()).then_some(())).await;
        let id = site.executions().await[0]["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/executions/{id}/answer");
        let long = json!({"allow": true, "comment": "x".repeat(1_001)});
        assert_eq!(world.status(&site.manager, &path, long).await, 400);
        let said = json!({"allow": true, "comment": " the owner was asked "});
        assert_eq!(world.status(&site.manager, &path, said).await, 202);
        site.until("done").await;
        assert_eq!(site.detail(&id).await["answers"][0]["comment"], "the owner was asked");
        for (text, count) in
            [("akiaexample", 1), ("Stolen-Key", 2), ("PLAYBOOK:tried", 2), ("planned_at", 0), ("%25", 0)]
        {
            let found = world.ask(&site.manager, &format!("/api/v1/actions?text={text}")).await;
            assert_eq!(found["items"].as_array().unwrap().len(), count, "{text}: {found}");
        }
        site.manager.stop().await;
    });
}

#[test]
fn a_playbook_is_checked_rehearsed_and_run_by_hand() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, &STEPS.replace("title:", "enabled: false\ntitle:"));
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url).await;
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

#[test]
fn a_finding_begins_a_playbook_once_and_an_alert_does_not() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    let finding = "{ finding: { datasets: [posture.aws], severity_at_least: medium } }";
    content(&world, &STEPS.replace("{ alert: { rules: [stolen-key], scope: wide } }", finding));
    let found = |dataset: &str| {
        let mut event = alert();
        event.remove(field::SAKIMORI_ALERT_ID);
        event.set(field::EVENT_KIND, "state");
        event.set(field::EVENT_DATASET, dataset.to_owned());
        event.set(field::EVENT_HASH, "one finding");
        event
    };
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url).await;
        send(&site, alert()).await;
        send(&site, found("posture.other")).await;
        send(&site, found("posture.aws")).await;
        site.until("done").await;
        // The same, told again.
        send(&site, found("posture.aws")).await;
        assert_eq!(site.executions().await.len(), 1);
        assert_eq!(outer.changes.lock().unwrap().len(), 2);
        site.manager.stop().await;
    });
}

#[test]
fn the_clock_begins_a_playbook_at_its_time_and_catches_up_once() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    let text = "id: tried\ntitle: { en: Every hour }\ntrigger: { schedule: { cron: \"0 * * * *\", zone: Asia/Tokyo } }\n\
                steps:\n  - { action: notify, channel: ops }\n";
    content(&world, text);
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let hours = |count: i64| clock.set(clock.now().plus_secs(count * 3_600));
    let wait = async |site: &Site<'_>, count: usize| {
        let began = Instant::now();
        while site.executions().await.len() < count {
            assert!(began.elapsed() < PATIENCE, "{:?}", site.executions().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    world.run(async {
        let url = hook.listen().await;
        let shared: SharedClock = Arc::clone(&clock) as SharedClock;
        let site = Site::start_at(&world, &outer, &url, shared).await;
        // Known from its first look on.
        let known = "SELECT COUNT(*) FROM playbook_runs";
        while sql::query_scalar::<i64>(known).fetch_one(site.manager.shared.control.read()).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(site.executions().await.is_empty(), "what lies before is not caught up");
        hours(1);
        wait(&site, 1).await;
        // Five times were missed: one is made up for.
        hours(5);
        wait(&site, 2).await;
        hours(1);
        wait(&site, 3).await;
        assert_eq!(site.executions().await.len(), 3);
        site.manager.stop().await;
    });
}
