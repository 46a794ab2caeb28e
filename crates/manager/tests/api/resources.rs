//! What each resource does beyond letting the right people in.

use futures::StreamExt;
use sakimori_model::{Event, field};
use serde_json::{Value, json};

use super::support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_a_code_a_language_and_the_place_of_what_is_wrong() {
    let world = World::start().await;
    let request = world.client.get(world.url("/api/v1/events?q=source.ip:(")).bearer_auth(&world.admin);
    let answer = request.header("accept-language", "ja, en;q=0.5").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["content-language"], "ja");
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["code"], "events/query");
    assert_eq!(body["title"], "検索文を解釈できません");
    assert_eq!(body["instance"], format!("urn:uuid:{id}"));
    assert!(body["errors"][0]["place"].as_str().unwrap().starts_with("q, column"), "{body}");
    for (method, path, body, code) in [
        ("GET", "/api/v1/nothing", Value::Null, "request/path"),
        ("PUT", "/api/v1/users", Value::Null, "request/method"),
        ("POST", "/api/v1/users", json!({"nme": 1}), "request/body"),
        ("POST", "/api/v1/users", json!({"name": "a b", "role": "admin", "password": "x"}), "users/invalid"),
        ("GET", "/api/v1/users?limit=0", Value::Null, "request/query"),
        ("GET", "/api/v1/users?lim=1", Value::Null, "request/query"),
        ("GET", "/api/v1/users?cursor=x", Value::Null, "request/cursor"),
        ("GET", "/api/v1/events?cursor=x", Value::Null, "request/cursor"),
        ("GET", "/api/v1/events?from=yesterday", Value::Null, "request/query"),
        ("POST", "/api/v1/events/sql", json!({"sql": "DROP TABLE events"}), "events/refused"),
        ("POST", "/api/v1/tenants", json!({"id": "../x"}), "tenants/invalid"),
        ("PUT", "/api/v1/policies/layers/x", json!({"tree": {}}), "policies/layer"),
        ("POST", "/api/v1/actions", json!({"action": "rm", "target": "x"}), "actions/invalid"),
        ("POST", "/api/v1/actions/undo", json!({}), "actions/invalid"),
        ("GET", "/api/v1/alerts/%22%20or%20x", Value::Null, "alerts/missing"),
        ("PUT", "/api/v1/bundles/current", Value::String("00".into()), "bundles/refused"),
    ] {
        let answer = world.send(method, path, &world.admin, &body).await;
        assert_eq!(answer.body["code"], code, "{method} {path}: {}", answer.body);
        assert_eq!(answer.body["status"], answer.status.as_u16());
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    let large = json!({"name": "x".repeat(2 << 20)});
    let answer = world.send("POST", "/api/v1/users", &world.admin, &large).await;
    assert_eq!(answer.body["code"], "request/too-large");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_paged_to_their_end() {
    let world = World::start().await;
    for number in 0..5 {
        world.ask("POST", "/api/v1/tokens", json!({"name": format!("t{number}"), "role": "viewer"})).await;
        world.action("default").await;
    }
    for list in ["tokens", "actions", "audit"] {
        let (mut seen, mut next, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = world.ask("GET", &format!("/api/v1/{list}?limit=2{next}"), Value::Null).await;
            seen.extend(page["items"].as_array().unwrap().iter().map(ToString::to_string));
            pages += 1;
            match page["next"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        let whole = world.ask("GET", &format!("/api/v1/{list}?limit=1000"), Value::Null).await;
        let whole: Vec<String> = whole["items"].as_array().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(seen, whole, "{list}");
        assert!(pages >= 3 && whole.len() >= 5, "{list}");
    }
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_token_works_until_it_is_deleted() {
    let world = World::start().await;
    let made = world.ask("POST", "/api/v1/tokens", json!({"name": "ci", "role": "viewer", "days": 1})).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with(made["token"]["prefix"].as_str().unwrap()));
    let who = world.send("GET", "/api/v1/session", secret, &Value::Null).await.body;
    assert_eq!((&who["name"], &who["tenant"]), (&json!("ci"), &json!("default")));
    let listed = world.ask("GET", "/api/v1/tokens", Value::Null).await;
    assert!(listed["items"][0]["last_used"].is_string());
    assert!(!listed.to_string().contains(secret));
    world.ask("DELETE", &format!("/api/v1/tokens/{}", made["token"]["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(world.send("GET", "/api/v1/session", secret, &Value::Null).await.status, 401);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_checked_kept_and_explained() {
    let world = World::start().await;
    let agent = world.agent("default").await;
    let yaml = "modules:\n  block_address:\n    mode: detect\nresponse:\n  allow: [192.0.2.0/24]\n";
    let first = world.ask("PUT", "/api/v1/policies/layers/tenant", json!({"yaml": yaml, "over": 0})).await;
    let host = format!("/api/v1/policies/layers/host:{agent}");
    world.ask("PUT", &host, json!({"tree": {"modules": {"block_address": {"mode": "prevent"}}}})).await;
    let policy = world.ask("GET", &format!("/api/v1/agents/{agent}/policy"), Value::Null).await;
    assert_eq!(policy["policy"]["modules"]["block_address"]["mode"], "prevent");
    assert_eq!(policy["origin"]["modules.block_address.mode"], json!([format!("host:{agent}")]));
    assert_eq!(policy["origin"]["response.allow"], json!(["tenant"]));
    let typo = json!({"tree": {"modules": {"block_adress": {}}}});
    let answer = world.send("PUT", "/api/v1/policies/layers/tenant", &world.admin, &typo).await;
    assert_eq!(answer.body["code"], "policies/invalid");
    assert_eq!(answer.body["errors"][0]["place"], "tenant: modules.block_adress");
    let stale = json!({"tree": {}, "over": first["number"].as_i64().unwrap() - 1});
    let answer = world.send("PUT", "/api/v1/policies/layers/tenant", &world.admin, &stale).await;
    assert_eq!(answer.body["code"], "policies/stale");
    world.ask("PUT", "/api/v1/policies/layers/tenant", json!({"tree": {}, "over": first["number"]})).await;
    let history = world.ask("GET", "/api/v1/policies/layers/tenant/history", Value::Null).await;
    assert_eq!(history["items"].as_array().unwrap().len(), 2);
    let after = world.ask("GET", &format!("/api/v1/agents/{agent}/policy"), Value::Null).await;
    assert!(after["number"].as_u64() > policy["number"].as_u64());
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_in_the_audit_log_and_soon_in_the_lake() {
    let world = World::start().await;
    let made = world.ask("POST", "/api/v1/tokens", json!({"name": "ci", "role": "viewer"})).await;
    let id = made["token"]["id"].as_str().unwrap();
    world.ask("DELETE", &format!("/api/v1/tokens/{id}"), Value::Null).await;
    let log = world.ask("GET", "/api/v1/audit", Value::Null).await;
    let of = |action: &str| {
        let entries = log["items"].as_array().unwrap();
        entries.iter().find(|entry| entry["action"] == action && entry["target"] == id).unwrap().clone()
    };
    let (create, delete) = (of("tokens:create"), of("tokens:delete"));
    assert_eq!((&create["actor"], &create["address"]), (&json!("user:admin"), &json!("127.0.0.1")));
    assert_eq!((&create["before"], &delete["after"]), (&Value::Null, &Value::Null));
    assert_eq!(create["after"], delete["before"], "what was made is what was deleted");
    assert!(!log.to_string().contains(made["secret"].as_str().unwrap()));
    let query = "/api/v1/events/count?q=event.dataset:sakimori.audit%20and%20event.action:%22tokens:delete%22";
    world
        .wait(|| async {
            let answer = world.send("GET", query, &world.admin, &Value::Null).await;
            (answer.body["count"] == 1).then_some(())
        })
        .await;
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_found_answered_and_counted_by_rule() {
    let world = World::start().await;
    let id = world.alert("default").await;
    let path = format!("/api/v1/alerts/{id}");
    assert_eq!(world.ask("GET", &path, Value::Null).await["status"], "open");
    world.ask("PATCH", &path, json!({"status": "acknowledged"})).await;
    world.ask("PATCH", &path, json!({"comment": "it is our scanner"})).await;
    let found = world.ask("GET", "/api/v1/alerts?q=rule.id:made-up-rule", Value::Null).await;
    let alert = &found["items"][0];
    assert_eq!((&alert["status"], &alert["comment"]), (&json!("acknowledged"), &json!("it is our scanner")));
    assert_eq!(alert["event"]["sakimori"]["alert"]["status"], "acknowledged");
    assert_eq!(alert["changed_by"], "user:admin");
    let rules = world.ask("GET", "/api/v1/rules", Value::Null).await;
    assert!(rules["items"].as_array().unwrap().len() > 5, "{rules}");
    let playbooks = world.ask("GET", "/api/v1/playbooks", Value::Null).await;
    assert!(!playbooks["items"].as_array().unwrap().is_empty());
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_orders_nothing_and_an_order_by_hand_is_sent() {
    let world = World::start().await;
    let agent = world.agent("default").await;
    world
        .ask("PUT", "/api/v1/policies/layers/tenant", json!({"tree": {"response": {"allow": ["192.0.2.0/24"]}}}))
        .await;
    let body = |target: &str, dry: bool| json!({"action": "block_address", "target": target, "agent": agent, "seconds": 60, "dry_run": dry});
    let before = world.rows().await;
    let allowed = world.ask("POST", "/api/v1/actions", body("203.0.113.5", true)).await;
    assert_eq!((&allowed["verdict"], &allowed["place"]), (&json!("allowed"), &json!(agent)));
    let refused = world.ask("POST", "/api/v1/actions", body("192.0.2.5", true)).await;
    assert_eq!(refused["verdict"], "refused");
    assert_eq!(world.rows().await, before);
    let answer = world.send("POST", "/api/v1/actions", &world.admin, &body("203.0.113.5", false)).await;
    assert_eq!(answer.status, 202);
    let log = world.ask("GET", "/api/v1/audit", Value::Null).await;
    let entries = log["items"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["target"] == answer.body["id"]).unwrap();
    assert_eq!((&entry["actor"], &entry["address"]), (&json!("user:admin"), &json!("127.0.0.1")));
    let waits = world.rows().await.into_iter().find(|row| row.starts_with("agent_orders")).unwrap();
    assert!(waits.contains(answer.body["id"].as_str().unwrap()) && waits.contains("203.0.113.5"), "{waits}");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_of_an_isolation_and_a_lock_what_the_host_would_say() {
    let world = World::start().await;
    let agent = world.agent("default").await;
    let never = json!({"tree": {"response": {"lock_user": {"never_lock": ["breakglass"]}}}});
    world.ask("PUT", "/api/v1/policies/layers/tenant", never).await;
    let wide = json!({"allow": "[\"0.0.0.0/0\"]"});
    for (action, target, inputs, verdict) in [
        ("isolate_host", "this", json!({}), "allowed"),
        ("isolate_host", agent.as_str(), json!({"allow": "[\"192.0.2.7\"]"}), "allowed"),
        ("isolate_host", "another", json!({}), "refused"),
        ("isolate_host", "this", wide, "refused"),
        ("lock_user", "mallory", json!({"end_sessions": "true"}), "allowed"),
        ("lock_user", "breakglass", json!({}), "refused"),
        ("lock_user", "-mallory", json!({}), "refused"),
    ] {
        let body = json!({"action": action, "target": target, "agent": agent, "inputs": inputs, "dry_run": true});
        let said = world.ask("POST", "/api/v1/actions", body).await;
        assert_eq!(said["verdict"], verdict, "{action} {target}: {said}");
    }
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_feed_shows_what_a_search_would_find() {
    let world = World::start().await;
    let url = world.url("/api/v1/events/tail?q=user.name:ann");
    let response = world.client.get(url).bearer_auth(&world.admin).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let event = |name: &'static str| {
        let mut event = Event::new();
        event.set(field::USER_NAME, name);
        event
    };
    world.events("acme", vec![event("ann")]).await;
    world.events("default", vec![event("bob"), event("ann")]).await;
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    while !text.contains("\n\n") || !text.contains("data:") {
        text.push_str(&String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()));
    }
    let data = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap();
    let shown: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&shown["user"]["name"], &shown["organization"]["id"]), (&json!("ann"), &json!("default")));
    let found = world.ask("GET", "/api/v1/events?q=user.name:ann", Value::Null).await;
    assert_eq!(found["items"], json!([shown]));
    // A feed that is open does not hold up the end.
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_readiness_and_figures_are_open() {
    let world = World::start().await;
    let ready = world.send("GET", "/readyz", "", &Value::Null).await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    let ids: Vec<&str> =
        ready.body["checks"].as_array().unwrap().iter().map(|check| check["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["journal", "control", "bundle", "disk"]);
    let figures = world.send("GET", "/metrics", "", &Value::Null).await.body;
    let figures = figures.as_str().unwrap();
    assert!(
        figures.contains("# TYPE sakimori_agents_connected gauge") && figures.contains("sakimori_api_requests_total ")
    );
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_token_carries_the_way_to_the_manager_and_its_ca() {
    let world = World::start().await;
    let made = world.ask("POST", "/api/v1/enrolment-tokens", json!({"name": "web", "tags": ["web"]})).await;
    let token: sakimori_wire::token::EnrolmentToken = made["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(token.address, world.running.link_addr.to_string());
    assert_eq!(token.ca_sha256, world.running.shared.authority.ca_sha256());
    let listed = world.ask("GET", "/api/v1/enrolment-tokens", Value::Null).await;
    assert!(!listed.to_string().contains(&token.secret));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_the_api_is_served_by_the_managers_own_ca() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = sakimori_manager::config::Config { state_dir: dir.path().join("state"), ..Default::default() };
    config.api.listen = "127.0.0.1:0".parse().unwrap();
    config.link.listen = "127.0.0.1:0".parse().unwrap();
    config.api.tls = true;
    let running = sakimori_manager::Manager::start(config).await.unwrap();
    let ca = reqwest::Certificate::from_pem(running.shared.authority.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
    let url = format!("https://{}/healthz", running.api_addr);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    let stranger = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    assert!(stranger.get(&url).send().await.is_err(), "a client that does not know the CA does not connect");
    running.stop().await;
}
