//! A host in one answer, joining one, and how log sources do.

use sakimori_model::{Event, field};
use sakimori_store::control::agents;
use sakimori_wire::status::{AgentStatus, InputStatus, ModuleStatus, NetworkStatus, ProofStatus, RulesStatus};
use serde_json::{Value, json};

use super::support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_told_in_one_answer() {
    let world = World::start().await;
    let block = world.provisional("default").await;
    let action = world.ask("GET", &format!("/api/v1/actions/{block}"), Value::Null).await;
    let agent = action["place"].as_str().unwrap().to_owned();
    let status = AgentStatus {
        version: "1.2.3".into(),
        policy: 1,
        bundle: 1,
        modules: vec![
            ModuleStatus {
                id: "antimalware".into(),
                state: "failing".into(),
                detail: "no fanotify; use a newer kernel".into(),
                restarts: 2,
                rules: None,
            },
            ModuleStatus {
                id: "intrusion_prevention".into(),
                state: "on".into(),
                detail: "in the agent's words".into(),
                rules: Some(RulesStatus::new(12_u64, &["line 7: no such keyword"])),
                ..Default::default()
            },
            ModuleStatus { id: "block_address".into(), state: "off".into(), ..Default::default() },
        ],
        proofs: vec![ProofStatus {
            module: "uplink".into(),
            ok: true,
            at: world.now(),
            proven: Some(world.now()),
            ..Default::default()
        }],
        blocks: 1,
        network: Some(NetworkStatus { packets: 900, dropped: 7, encrypted_flows: 3, ..Default::default() }),
        ..Default::default()
    };
    let mut change = world.running.shared.control.begin().await.unwrap();
    let text = serde_json::to_string(&status).unwrap();
    agents::set_status(change.connection(), &agent, &text, world.now()).await.unwrap();
    change.commit().await.unwrap();
    let mut event = Event::new();
    event.set(field::TIMESTAMP, world.now());
    event.set(field::EVENT_KIND, "alert");
    event.set(field::SAKIMORI_ALERT_ID, "abcdef0123");
    event.set(field::AGENT_ID, agent.clone());
    world.events("default", vec![event]).await;
    let path = format!("/api/v1/agents/{agent}/overview");
    let told = world
        .wait(|| async {
            let answer = world.send("GET", &path, &world.admin, &Value::Null).await.body;
            (answer["alerts"].as_array().is_some_and(|alerts| alerts.len() == 1)).then_some(answer)
        })
        .await;
    assert_eq!((&told["version"], &told["agent"]["id"]), (&json!("1.2.3"), &json!(agent)));
    let prevention = &told["modules"][1];
    assert_eq!(
        (&prevention["lacks"], &prevention["rules"], &prevention["traffic"]["encrypted"]),
        (&json!(""), &json!({ "loaded": 12, "refused": 1, "why": "line 7: no such keyword" }), &json!(3))
    );
    assert_eq!(
        (&told["modules"][0]["lacks"], &told["modules"][0]["proof"]["state"]),
        (&json!("no fanotify; use a newer kernel"), &json!("failing"))
    );
    assert_eq!((&told["modules"][2]["proof"], &told["uplink"]["state"]), (&Value::Null, &json!("proven")));
    assert_eq!((&told["blocks"][0]["action"], &told["quarantine"]), (&json!(block), &json!([])));
    let left = told["blocks"][0]["seconds_left"].as_i64().unwrap();
    assert!((3_000..=3_600).contains(&left), "{left}");
    assert!(told["policy"]["origin"]["response.allow"] == json!(["default"]) && told["policy_taken"] == true);
    assert_eq!(told["actions"].as_array().unwrap().len(), 1);
    assert!(told["rules"]["newest"].as_u64() >= Some(1));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_comes_with_what_is_typed_and_says_who_joined() {
    let world = World::start().await;
    let made = world.ask("POST", "/api/v1/enrolment-tokens", json!({"name": "web", "tags": ["web"]})).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(
        made["commands"],
        json!(["sudo dpkg --install sakimori-agent_*.deb", format!("sudo sakimori-agent enroll {token}")])
    );
    assert_eq!(made["only_here"], true, "the manager of a test listens on loopback");
    let id = made["enrolment"]["id"].as_str().unwrap();
    let path = format!("/api/v1/enrolment-tokens/{id}");
    let waits = world.ask("GET", &path, Value::Null).await;
    assert_eq!((&waits["open"], &waits["hosts"]), (&json!(true), &json!([])));
    assert!(!waits.to_string().contains(token), "the secret is shown once");
    world.joined("default", &["web"], id).await;
    let joined = world.ask("GET", &path, Value::Null).await;
    assert_eq!((&joined["hosts"][0]["host"], &joined["hosts"][0]["state"]), (&json!("web-1"), &json!("away")));
    let answer = world.send("GET", "/api/v1/enrolment-tokens/x", &world.admin, &Value::Null).await;
    assert_eq!(answer.body["code"], "enrolment/missing");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_went_quiet_stands_first() {
    let world = World::start().await;
    let agent = world.agent("default").await;
    let input = |name: &str, state: &str| InputStatus {
        name: name.into(),
        source: "linux/auth".into(),
        state: state.into(),
        lost: 3,
        ..Default::default()
    };
    let status = AgentStatus { inputs: vec![input("auth", "absent")], ..Default::default() };
    let mut change = world.running.shared.control.begin().await.unwrap();
    let text = serde_json::to_string(&status).unwrap();
    agents::set_status(change.connection(), &agent, &text, world.now()).await.unwrap();
    change.commit().await.unwrap();
    // Two hundred events some hours ago, and none since; ten of the last minutes, of which one could not be read.
    let event = |source: &str, seconds: i64, wrong: bool| {
        let mut event = Event::new();
        event.set(field::TIMESTAMP, world.now().plus_secs(-seconds));
        event.set(field::SAKIMORI_SOURCE, source.to_owned());
        if wrong {
            event.set(field::ERROR_MESSAGE, "x");
        }
        event
    };
    world.events("default", (0..200).map(|at| event("nginx/access", 9_000 + at, false)).collect()).await;
    world.events("default", (0..10).map(|at| event("linux/auth", 60 + at, at == 0)).collect()).await;
    let told = world
        .wait(|| async {
            let answer = world.send("GET", "/api/v1/log-sources", &world.admin, &Value::Null).await.body;
            (answer["items"].as_array().is_some_and(|items| items.len() == 3)).then_some(answer)
        })
        .await;
    let shown: Vec<(&Value, &Value)> =
        told["items"].as_array().unwrap().iter().map(|item| (&item["source"], &item["health"])).collect();
    assert_eq!(
        shown,
        [
            (&json!("nginx/access"), &json!("quiet")),
            (&json!("linux/auth"), &json!("unread")),
            (&json!("linux/auth"), &json!("unknown")),
        ]
    );
    let unread = &told["items"][1];
    assert_eq!((&unread["events_hour"], &unread["unread"], &unread["balanced"]), (&json!(10), &json!(1), &json!(true)));
    let lag = unread["lag_seconds"].as_f64().unwrap();
    assert!((60.0..200.0).contains(&lag), "{lag}");
    assert_eq!(
        (&told["items"][2]["state"], &told["items"][2]["host"], &told["items"][2]["lost"]),
        (&json!("absent"), &json!("web-1"), &json!(3))
    );
    world.running.stop().await;
}
