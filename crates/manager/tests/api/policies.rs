//! Changes of policy: seen before they are written, taken back, and given to some hosts first.

use std::sync::Arc;

use sakimori_manager::jobs::rollouts;
use sakimori_manager::shared::Command;
use sakimori_model::Timestamp;
use sakimori_runtime::clock::SharedClock;
use sakimori_store::control::agents;
use sakimori_wire::status::{AgentStatus, ModuleStatus};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::support::World;

const TENANT: &str = "/api/v1/policies/layers/tenant";

fn seconds(seconds: i64) -> Value {
    json!({"modules": {"block_address": {"expiry_seconds": seconds}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_before_it_is_written_and_taken_back_after() {
    let world = World::start().await;
    let (web, db) = (world.agent_of("default", &["web"]).await, world.agent_of("default", &["db"]).await);
    world.ask("PUT", "/api/v1/policies/layers/group:db", json!({"tree": seconds(5)})).await;
    let before = world.rows().await;
    let seen = world.ask("POST", "/api/v1/policies/preview", json!({"layer": "tenant", "tree": seconds(60)})).await;
    assert_eq!(world.rows().await, before, "a preview writes nothing");
    assert_eq!((&seen["affected"], &seen["hosts"], &seen["from"]), (&json!(1), &json!(2), &json!(0)));
    let group = &seen["groups"][0];
    assert_eq!((&group["named"][0]["agent"], &group["layers"]), (&json!(web), &json!(["tenant"])));
    let change = &group["changes"][0];
    assert_eq!((&change["before"], &change["after"]), (&json!(3_600), &json!(60)));
    assert_eq!((&change["before_from"], &change["after_from"]), (&json!(["default"]), &json!(["tenant"])));
    assert!(!change["title"].as_str().unwrap().is_empty() && !change["title_ja"].as_str().unwrap().is_empty());
    let settings = seen["settings"].as_array().unwrap();
    assert_eq!((settings.len(), &settings[0]["path"]), (1, &json!("modules.block_address.expiry_seconds")));

    let body = json!({"tree": seconds(60), "over": 0, "reason": "shorter"});
    let first = world.ask("PUT", TENANT, body).await;
    let second = world.ask("PUT", TENANT, json!({"tree": seconds(90)})).await;
    let history = world.ask("GET", &format!("{TENANT}/history"), Value::Null).await;
    assert_eq!(
        (&history["items"][1]["reason"], &history["items"][1]["author"]),
        (&json!("shorter"), &json!("user:admin"))
    );
    let one = world.ask("GET", &format!("{TENANT}/versions/{}", first["number"]), Value::Null).await;
    assert_eq!((&one["tree"], &one["reason"]), (&seconds(60), &json!("shorter")));
    let diff = world.ask("GET", &format!("{TENANT}/diff"), Value::Null).await;
    assert_eq!((&diff["from"], &diff["to"]), (&first["number"], &second["number"]));
    assert_eq!((&diff["settings"][0]["before"], &diff["settings"][0]["after"]), (&json!(60), &json!(90)));
    let back = format!("{TENANT}/diff?from={}&to={}", second["number"], first["number"]);
    assert_eq!(world.ask("GET", &back, Value::Null).await["settings"][0]["after"], 60);

    let body = json!({"to": first["number"], "over": second["number"], "reason": "too long"});
    let third = world.ask("POST", &format!("{TENANT}/rollback"), body.clone()).await;
    assert_eq!(third["tree"], first["tree"]);
    assert!(third["number"].as_i64() > second["number"].as_i64());
    assert_eq!(third["reason"], format!("back to {}: too long", first["number"]));
    let stale = world.send("POST", &format!("{TENANT}/rollback"), &world.admin, &body).await;
    assert_eq!(stale.body["code"], "policies/stale");
    let log = world.ask("GET", "/api/v1/audit", Value::Null).await;
    assert!(log["items"].as_array().unwrap().iter().any(|entry| entry["action"] == "policies:rollback"));
    for (method, path, body, code) in [
        ("POST", format!("{TENANT}/rollback"), json!({"to": 9_999}), "policies/version"),
        ("GET", format!("{TENANT}/versions/9999"), Value::Null, "policies/version"),
        ("GET", format!("{TENANT}/diff?to=9999"), Value::Null, "policies/version"),
        ("POST", "/api/v1/policies/preview".into(), json!({"layer": "x", "tree": {}}), "policies/layer"),
        ("POST", "/api/v1/policies/preview".into(), json!({"layer": "tenant"}), "request/body"),
        ("POST", "/api/v1/policies/preview".into(), json!({"layer": "tenant", "tree": {"x": 1}}), "policies/invalid"),
        ("PUT", TENANT.into(), json!({"tree": {}, "reason": "x".repeat(1_001)}), "policies/invalid"),
    ] {
        let answer = world.send(method, &path, &world.admin, &body).await;
        assert_eq!(answer.body["code"], code, "{method} {path}: {}", answer.body);
    }
    let schema = world.ask("GET", "/api/v1/policies/schema", Value::Null).await;
    assert_eq!(schema["properties"]["presence"]["properties"]["silent_after_seconds"]["default"], 30);
    let policy = world.ask("GET", &format!("/api/v1/agents/{db}/policy"), Value::Null).await;
    assert_eq!(policy["policy"]["modules"]["block_address"]["expiry_seconds"], 5);
    world.running.stop().await;
}

/// What an agent would say of itself.
async fn says(world: &World, agent: &str, policy: u64, state: &str) {
    let module = ModuleStatus { id: "block_address".into(), state: state.into(), ..Default::default() };
    let status = AgentStatus { policy, modules: vec![module], ..Default::default() };
    let status = serde_json::to_string(&status).unwrap();
    let mut change = world.running.shared.control.begin().await.unwrap();
    agents::set_status(change.connection(), agent, &status, world.now()).await.unwrap();
    change.commit().await.unwrap();
}

/// A stream of an agent.
fn connect(world: &World, agent: &str) -> mpsc::Receiver<Command> {
    let (sender, receiver) = mpsc::channel(64);
    world.running.shared.links.add(("default", agent), 1, sender);
    receiver
}

struct At(std::sync::atomic::AtomicI64);

impl sakimori_runtime::Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

async fn applied(world: &World, agent: &str) -> (Value, u64) {
    let policy = world.ask("GET", &format!("/api/v1/agents/{agent}/policy"), Value::Null).await;
    (policy["policy"]["modules"]["block_address"]["expiry_seconds"].clone(), policy["number"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_out_goes_on_when_its_first_hosts_are_well_and_halts_when_one_fails() {
    let clock = Arc::new(At(std::sync::atomic::AtomicI64::new(
        sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock).micros(),
    )));
    let world = World::start_at(Arc::clone(&clock) as SharedClock).await;
    let pass = |seconds: i64| clock.0.fetch_add(seconds * 1_000_000, std::sync::atomic::Ordering::SeqCst);
    let (one, two) = (world.agent_of("default", &["canary"]).await, world.agent_of("default", &[]).await);
    let _connected = connect(&world, &one);
    says(&world, &one, 1, "on").await;
    let begin = |minutes: Value| {
        json!({
            "layer": "tenant", "tree": seconds(77), "first": {"groups": ["canary"]}, "minutes": minutes, "reason": "try",
        })
    };
    let made = world.ask("POST", "/api/v1/policies/rollouts", begin(json!(2))).await;
    let path = format!("/api/v1/policies/rollouts/{}", made["id"].as_str().unwrap());
    assert_eq!((&made["state"], &made["hosts"][0]["agent"]), (&json!("first"), &json!(one)));
    let (seconds_one, number) = applied(&world, &one).await;
    assert_eq!((seconds_one, applied(&world, &two).await.0), (json!(77), json!(3_600)));
    // Nobody writes the layer meanwhile, nor begins another.
    for (method, path, body) in
        [("PUT", TENANT, json!({"tree": {}})), ("POST", "/api/v1/policies/rollouts", begin(json!(2)))]
    {
        assert_eq!(world.send(method, path, &world.admin, &body).await.body["code"], "rollouts/busy");
    }
    says(&world, &one, number, "on").await;
    rollouts::round(&world.running.shared).await.unwrap();
    assert_eq!(world.ask("GET", &path, Value::Null).await["state"], "first", "its time is not over");
    pass(121);
    rollouts::round(&world.running.shared).await.unwrap();
    let done = world.ask("GET", &path, Value::Null).await;
    assert_eq!(done["state"], "done", "{done}");
    let after = applied(&world, &two).await;
    assert_eq!(after.0, 77);
    assert!(applied(&world, &one).await.1 > number && after.1 == applied(&world, &one).await.1);
    let history = world.ask("GET", &format!("{TENANT}/history"), Value::Null).await;
    assert_eq!(
        (&history["items"][0]["number"], &history["items"][0]["author"]),
        (&done["number"], &json!("user:admin"))
    );

    // Another, whose first host fails: the hosts keep what they have, and people are told.
    let body = json!({"layer": "tenant", "tree": seconds(88), "first": {"agents": [one]}, "minutes": 2});
    let made = world.ask("POST", "/api/v1/policies/rollouts", body).await;
    let path = format!("/api/v1/policies/rollouts/{}", made["id"].as_str().unwrap());
    let (_, number) = applied(&world, &one).await;
    says(&world, &one, number, "failing").await;
    pass(121);
    rollouts::round(&world.running.shared).await.unwrap();
    let halted = world.ask("GET", &path, Value::Null).await;
    assert_eq!(halted["state"], "halted");
    assert!(halted["why"].as_str().unwrap().contains("1 of 1 hosts fail: web-1: block_address"), "{halted}");
    rollouts::round(&world.running.shared).await.unwrap();
    assert_eq!((applied(&world, &one).await.0, applied(&world, &two).await.0), (json!(88), json!(77)));
    let alert = "/api/v1/events/count?q=event.kind:alert%20and%20rule.id:policy-rollout-halted";
    world
        .wait(|| async {
            (world.send("GET", alert, &world.admin, &Value::Null).await.body["count"] == 1).then_some(())
        })
        .await;
    let back = world.ask("POST", &format!("{path}/withdraw"), json!({"reason": "it fails"})).await;
    assert_eq!((&back["state"], &back["why"]), (&json!("withdrawn"), &json!("by user:admin: it fails")));
    let (seconds_one, later) = applied(&world, &one).await;
    assert_eq!(seconds_one, 77);
    assert!(later > number, "an agent takes no older policy");
    for verb in ["continue", "withdraw"] {
        let answer = world.send("POST", &format!("{path}/{verb}"), &world.admin, &json!({})).await;
        assert_eq!(answer.body["code"], "rollouts/over");
    }
    // A halted one may also go on.
    let body = json!({"layer": "tenant", "tree": seconds(99), "first": {"percent": 50}});
    let made = world.ask("POST", "/api/v1/policies/rollouts", body).await;
    assert_eq!(made["hosts"].as_array().unwrap().len(), 1);
    let path = format!("/api/v1/policies/rollouts/{}/continue", made["id"].as_str().unwrap());
    assert_eq!(world.ask("POST", &path, json!({})).await["state"], "done");
    assert_eq!(applied(&world, &two).await.0, 99);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_went_away_neither_hold_a_roll_out_up_nor_count_as_well() {
    let clock = Arc::new(At(std::sync::atomic::AtomicI64::new(
        sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock).micros(),
    )));
    let world = World::start_at(Arc::clone(&clock) as SharedClock).await;
    let pass = |seconds: i64| clock.0.fetch_add(seconds * 1_000_000, std::sync::atomic::Ordering::SeqCst);
    let (one, two) = (world.agent_of("default", &["canary"]).await, world.agent_of("default", &["canary"]).await);
    world.agent_of("default", &[]).await;
    let state = async |path: &str| {
        rollouts::round(&world.running.shared).await.unwrap();
        world.ask("GET", path, Value::Null).await
    };
    let begin = async |value: i64| {
        let body = json!({"layer": "tenant", "tree": seconds(value), "first": {"groups": ["canary"]}, "minutes": 2});
        let made = world.ask("POST", "/api/v1/policies/rollouts", body).await;
        format!("/api/v1/policies/rollouts/{}", made["id"].as_str().unwrap())
    };
    let path = begin(77).await;
    for agent in [&one, &two] {
        let number = applied(&world, agent).await.1;
        says(&world, agent, number, "on").await;
    }
    pass(121);
    let waits = state(&path).await;
    assert_eq!(waits["state"], "first", "both took it, and neither is there to say how it does: {waits}");
    // One is revoked, the other comes.
    world.ask("POST", &format!("/api/v1/agents/{one}/revoke"), Value::Null).await;
    let _connected = connect(&world, &two);
    assert_eq!(state(&path).await["state"], "done");

    let path = begin(88).await;
    world.ask("POST", &format!("/api/v1/agents/{two}/revoke"), Value::Null).await;
    let halted = state(&path).await;
    assert_eq!(halted["state"], "halted", "nobody is left who could say: {halted}");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_out_that_is_none_is_refused() {
    let world = World::start().await;
    let (own, other) = (world.agent_of("default", &["web"]).await, world.agent_of("default", &["web"]).await);
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    let stranger = world.agent_of("acme", &["web"]).await;
    let body = |layer: &str, first: Value| json!({"layer": layer, "tree": seconds(1), "first": first});
    for (body, code) in [
        (body("tenant", json!({})), "rollouts/invalid"),
        (body("tenant", json!({"percent": 0})), "rollouts/invalid"),
        (body("tenant", json!({"percent": 100})), "rollouts/invalid"),
        (body("tenant", json!({"percent": 5, "agents": [own]})), "rollouts/invalid"),
        (body("tenant", json!({"agents": [own, other]})), "rollouts/invalid"),
        (body("tenant", json!({"agents": [stranger]})), "rollouts/invalid"),
        (body("tenant", json!({"groups": ["nobody"]})), "rollouts/invalid"),
        (body(&format!("host:{own}"), json!({"percent": 5})), "rollouts/invalid"),
        (body(&format!("host:{stranger}"), json!({"percent": 5})), "agents/missing"),
        (json!({"layer": "tenant", "tree": {"x": 1}, "first": {"agents": [own]}}), "policies/invalid"),
        (json!({"layer": "tenant", "tree": {}, "first": {"agents": [own]}, "over": 7}), "policies/stale"),
        (json!({"layer": "tenant", "tree": {}, "first": {"agents": [own]}, "minutes": 0}), "rollouts/invalid"),
    ] {
        let before = world.rows().await;
        let answer = world.send("POST", "/api/v1/policies/rollouts", &world.admin, &body).await;
        assert_eq!(answer.body["code"], code, "{body}: {}", answer.body);
        assert_eq!(world.rows().await, before, "{body}");
    }
    world.running.stop().await;
}
