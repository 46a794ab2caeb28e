//! Exceptions over alerts: what one holds back, what none holds back, and who is told.

use sakimori_model::{Event, field};
use serde_json::{Value, json};

use super::support::World;

/// An alert of a rule, as an agent would send it; its id.
async fn alert(world: &World, rule: &str, ruleset: Option<&str>, user: &str, agent: &str) -> String {
    let id = sakimori_model::id::row_id().replace('-', "");
    let mut event = Event::new();
    event.set(field::TIMESTAMP, world.now());
    event.set(field::EVENT_KIND, "alert");
    event.set(field::SAKIMORI_ALERT_ID, id.clone());
    event.set(field::RULE_ID, rule.to_owned());
    event.set(field::RULE_NAME, format!("Title of {rule}"));
    if let Some(ruleset) = ruleset {
        event.set(field::RULE_RULESET, ruleset.to_owned());
    }
    event.set(field::USER_NAME, user.to_owned());
    event.set(field::AGENT_ID, agent.to_owned());
    event.set(field::HOST_NAME, "web-1");
    world.events("default", vec![event]).await;
    let path = format!("/api/v1/events/count?q=sakimori.alert.id:{id}");
    world
        .wait(|| async {
            (world.send("GET", &path, &world.admin, &Value::Null).await.body["count"] == 1).then_some(())
        })
        .await;
    id
}

async fn status(world: &World, id: &str) -> Value {
    world.ask("GET", &format!("/api/v1/alerts/{id}"), Value::Null).await["status"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expected_alert_is_kept_and_told_to_nobody() {
    let world = World::start().await;
    let agent = world.agent_of("default", &["web"]).await;
    let other = world.agent_of("default", &["db"]).await;
    let early = alert(&world, "ssh", Some("sigma"), "backup", &agent).await;
    let body = json!({"rule": "ssh", "fields": {"user.name": "backup"}, "group": "web", "reason": "nightly copy"});
    let seen = world.ask("POST", "/api/v1/exceptions/preview", body.clone()).await;
    assert_eq!((&seen["looked_at"], &seen["held"]), (&json!(1), &json!(1)));
    let made = world.ask("POST", "/api/v1/exceptions", body).await;
    assert_eq!(
        (&made["condition"], &made["owner"], &made["ended"]),
        (&json!("user.name:\"backup\""), &json!("admin"), &json!(false))
    );
    assert!(made["concerns"].as_str().unwrap().contains("host's own playbook"));
    let held = alert(&world, "ssh", Some("sigma"), "backup", &agent).await;
    assert_eq!(status(&world, &held).await, "suppressed");
    for (rule, ruleset, user, agent) in [
        ("ssh", Some("sigma"), "root", &agent),
        ("ssh", Some("sigma"), "backup", &other),
        ("web", Some("sigma"), "backup", &agent),
        ("ssh", None, "backup", &agent),
    ] {
        let id = alert(&world, rule, ruleset, user, agent).await;
        assert_eq!(status(&world, &id).await, "open", "{rule} {ruleset:?} {user}");
    }
    assert_eq!(status(&world, &early).await, "open", "what was told stays told");
    let listed = world.ask("GET", "/api/v1/alerts", Value::Null).await;
    assert!(listed["items"].as_array().unwrap().iter().all(|alert| alert["id"] != held.as_str()));
    let asked = world.ask("GET", "/api/v1/alerts?q=sakimori.alert.exception:*", Value::Null).await;
    assert_eq!((asked["items"].as_array().unwrap().len(), &asked["items"][0]["id"]), (1, &json!(held)));

    let path = format!("/api/v1/exceptions/{}", made["id"].as_str().unwrap());
    let used = world.ask("GET", &path, Value::Null).await;
    assert_eq!(used["used"], 1);
    assert!(used["last_used"].is_string());
    let soon = world.ask("GET", "/api/v1/exceptions?ending_within_days=30", Value::Null).await;
    assert_eq!(soon["items"], json!([]));
    world.ask("PATCH", &path, json!({"days": 20, "owner": "ann"})).await;
    let soon = world.ask("GET", "/api/v1/exceptions?ending_within_days=30", Value::Null).await;
    assert_eq!((soon["items"].as_array().unwrap().len(), &soon["items"][0]["owner"]), (1, &json!("ann")));
    world.ask("PATCH", &path, json!({"days": 0})).await;
    let after = alert(&world, "ssh", Some("sigma"), "backup", &agent).await;
    assert_eq!(status(&world, &after).await, "open", "it has ended");
    assert_eq!(world.ask("GET", "/api/v1/exceptions", Value::Null).await["items"], json!([]));
    let ended = world.ask("GET", "/api/v1/exceptions?ended=true", Value::Null).await;
    assert_eq!(ended["items"][0]["ended"], true);
    assert_eq!(world.send("DELETE", &path, &world.admin, &Value::Null).await.status, 204);
    let log = world.ask("GET", "/api/v1/audit", Value::Null).await;
    let actions: Vec<&str> =
        log["items"].as_array().unwrap().iter().filter_map(|entry| entry["action"].as_str()).collect();
    for verb in ["exceptions:create", "exceptions:change", "exceptions:delete"] {
        assert!(actions.contains(&verb), "{verb}: {actions:?}");
    }
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_needs_a_reason_and_is_within_bounds() {
    let world = World::start().await;
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    let stranger = world.agent("acme").await;
    for (body, code) in [
        (json!({"rule": "x"}), "exceptions/invalid"),
        (json!({"rule": "", "reason": "y"}), "exceptions/invalid"),
        (json!({"rule": "x", "reason": "y", "days": 366}), "exceptions/invalid"),
        (json!({"rule": "x", "reason": "y", "days": 0}), "exceptions/invalid"),
        (json!({"rule": "x", "reason": "y", "fields": {"nonsense": "z"}}), "exceptions/invalid"),
        (json!({"rule": "x", "reason": "y", "fields": {"user.name": "z"}, "condition": "a"}), "exceptions/invalid"),
        (json!({"rule": "x", "reason": "y", "condition": "user.name:("}), "events/query"),
        (json!({"rule": "x", "reason": "y", "agent": stranger}), "agents/missing"),
        (json!({"rule": "x", "reason": "y", "group": "a b"}), "exceptions/invalid"),
        (json!({"rule": "x", "reason": "y", "owner": " "}), "exceptions/invalid"),
        (json!({"rule": "x", "reason": "z".repeat(1_001)}), "exceptions/invalid"),
    ] {
        let answer = world.send("POST", "/api/v1/exceptions", &world.admin, &body).await;
        assert_eq!(answer.body["code"], code, "{body}: {}", answer.body);
    }
    assert_eq!(world.ask("GET", "/api/v1/exceptions", Value::Null).await["items"], json!([]));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_noisy_rule_comes_with_an_exception_that_helps() {
    let world = World::start().await;
    let agent = world.agent("default").await;
    for _ in 0..4 {
        alert(&world, "ssh", Some("sigma"), "backup", &agent).await;
    }
    alert(&world, "ssh", Some("sigma"), "root", &agent).await;
    alert(&world, "web", Some("sigma"), "x", &agent).await;
    let noisy = world.ask("GET", "/api/v1/rules/noisy?days=1", Value::Null).await;
    let first = &noisy["items"][0];
    assert_eq!((&first["rule"], &first["alerts"], &first["title"]), (&json!("ssh"), &json!(5), &json!("Title of ssh")));
    assert_eq!(first["per_day"], 5.0);
    let proposal = &first["proposal"];
    assert_eq!(proposal["fields"], json!({"user.name": "backup", "host.name": "web-1"}), "{first}");
    assert_eq!(proposal["held"], 4);
    let body = json!({"rule": proposal["rule"], "fields": proposal["fields"], "reason": "as proposed"});
    world.ask("POST", "/api/v1/exceptions", body).await;
    let held = alert(&world, "ssh", Some("sigma"), "backup", &agent).await;
    assert_eq!(status(&world, &held).await, "suppressed");
    let noisy = world.ask("GET", "/api/v1/rules/noisy?days=1&limit=1", Value::Null).await;
    assert_eq!((&noisy["items"][0]["alerts"], noisy["items"].as_array().unwrap().len()), (&json!(5), 1));
    for path in ["/api/v1/rules/noisy?days=0", "/api/v1/rules/noisy?limit=51"] {
        assert_eq!(world.send("GET", path, &world.admin, &Value::Null).await.body["code"], "request/query");
    }
    world.running.stop().await;
}
