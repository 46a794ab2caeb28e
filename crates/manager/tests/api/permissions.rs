//! Every route of the OpenAPI document as every role: exactly what the table of permissions says, and nothing
//! changed where it says no.

use std::sync::Arc;

use sakimori_manager::api::access::Permission;
use sakimori_manager::config::Channel;
use sakimori_runtime::SystemClock;
use sakimori_store::control::messages::State;
use sakimori_store::control::users::Role;
use serde_json::{Value, json};

use super::requests::{PASSWORD, message, request, rollout};
use super::support::World;

/// Somebody who tries: a name that is unique, a role, a tenant.
struct Person {
    name: &'static str,
    role: Role,
    tenant: &'static str,
}

const PEOPLE: [Person; 5] = [
    Person { name: "viewer", role: Role::Viewer, tenant: "default" },
    Person { name: "operator", role: Role::Operator, tenant: "default" },
    Person { name: "admin2", role: Role::Admin, tenant: "default" },
    Person { name: "root", role: Role::Admin, tenant: "*" },
    Person { name: "other", role: Role::Admin, tenant: "acme" },
];

impl Person {
    /// A session of its own for each try: some routes end it.
    async fn login(&self, world: &World) -> String {
        world.login(self.name, PASSWORD, Some(self.tenant)).await
    }
}

/// Does an operation change anything? (A POST that asks changes nothing.)
fn changes(operation: &str) -> bool {
    !operation.starts_with("get ")
        && ![
            "events/sql",
            "events/search",
            "cloud/check",
            "playbooks/check",
            "playbooks/{id}/rehearse",
            // What these would change is not there.
            "session/totp/confirm",
            "session/recovery-codes",
            "session/passkeys/options",
            "session/passkeys",
            "session/passkeys/{id}",
            "sessions/{id}",
            "policies/preview",
            "exceptions/preview",
            "rules/lint",
            "rules/{id}/test",
        ]
        .iter()
        .any(|one| operation.ends_with(one))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_as_every_role_does_what_the_table_says() {
    // Nobody listens there: what becomes of messages does not matter here, and no playbook names it.
    let desk = Channel { name: "desk".into(), url: "http://127.0.0.1:9/".into(), ..Channel::default() };
    let world = World::start_with(Arc::new(SystemClock), |config| config.notify = vec![desk]).await;
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    for person in &PEOPLE {
        let body =
            json!({"name": person.name, "role": person.role.name(), "password": PASSWORD, "tenant": person.tenant});
        world.ask("POST", "/api/v1/users", body).await;
    }
    let document: Value = serde_json::from_str(&sakimori_manager::api::document().to_json().unwrap()).unwrap();
    let mut serial = 0;
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, described) in operations.as_object().unwrap() {
            let operation = format!("{method} {path}");
            let permission =
                described.get("x-permission").and_then(Value::as_str).map(|name| Permission::find(name).unwrap());
            let secured = described["security"].as_array().is_some_and(|schemes| !schemes.is_empty());
            assert_eq!(permission.is_some(), secured, "{operation}");
            serial += 1;
            let first = request(&world, &operation, serial).await;
            let first = first.unwrap_or_else(|| panic!("{operation} has no request in this test: write one"));
            let Some(permission) = permission else {
                let answer = world.send(&method.to_uppercase(), &first.path, "", &first.body).await;
                assert_eq!(answer.status, first.status, "{operation} is open to everybody: {}", answer.body);
                continue;
            };
            let method = method.to_uppercase();
            let before = world.rows().await;
            for token in ["", "skt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "nonsense"] {
                let answer = world.send(&method, &first.path, token, &first.body).await;
                assert_eq!(answer.status, 401, "{operation} without a token: {}", answer.body);
                assert_eq!(answer.body["code"], "auth/required");
            }
            assert_eq!(world.rows().await, before, "{operation} without a token changed something");
            for person in &PEOPLE {
                let own = person.tenant == "default" || person.tenant == "*";
                let held = permission.held(person.role, person.tenant == "*");
                if held && own {
                    serial += 1;
                    let fresh = request(&world, &operation, serial).await.unwrap();
                    let token = person.login(&world).await;
                    let before = world.rows().await;
                    let answer = world.send(&method, &fresh.path, &token, &fresh.body).await;
                    assert_eq!(answer.status, fresh.status, "{operation} as {}: {}", person.name, answer.body);
                    assert_eq!(world.rows().await != before, changes(&operation), "{operation} as {}", person.name);
                    tried += 1;
                    continue;
                }
                // Who lacks the permission is refused before anything is looked up; who has it in another tenant
                // finds nothing there.
                let wanted = match held {
                    false => 403,
                    // Playbooks are the bundle's, and the bundle is everybody's.
                    true if path.contains("/playbooks/{id}") || path.contains("/rules/{id}") => continue,
                    true if first.path.contains("/layers/host:") || path.contains("{id}") => 404,
                    true => continue,
                };
                let token = person.login(&world).await;
                let before = world.rows().await;
                let answer = world.send(&method, &first.path, &token, &first.body).await;
                assert_eq!(answer.status, wanted, "{operation} as {}: {}", person.name, answer.body);
                assert_eq!(world.rows().await, before, "{operation} as {} changed something", person.name);
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "only {tried} tries");
    let verified = world.ask("GET", "/api/v1/audit/verify", Value::Null).await;
    assert_eq!(verified["whole"], true, "{verified}");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_sees_nothing_of_another_in_any_list() {
    let world = World::start().await;
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    let body = json!({"name": "other", "role": "admin", "password": PASSWORD, "tenant": "acme"});
    world.ask("POST", "/api/v1/users", body).await;
    let token = world.login("other", PASSWORD, Some("acme")).await;
    world.agent("default").await;
    world.action("default").await;
    world.alert("default").await;
    world.ask("POST", "/api/v1/enrolment-tokens", json!({"name": "x"})).await;
    world.ask("POST", "/api/v1/tokens", json!({"name": "x", "role": "viewer"})).await;
    world.ask("PUT", "/api/v1/policies/layers/tenant", json!({"tree": {"response": {"allow": ["192.0.2.1"]}}})).await;
    world.ask("PUT", "/api/v1/secrets/x", Value::String(hex::encode("value"))).await;
    message(&world, State::Sent).await;
    world.ask("POST", "/api/v1/bouncers", json!({"name": "x"})).await;
    world.ask("POST", "/api/v1/searches", json!({"name": "x", "q": "*", "shared": true})).await;
    world.ask("POST", "/api/v1/exceptions", json!({"rule": "x", "reason": "y"})).await;
    let body = rollout(&world, "web").await;
    world.ask("POST", "/api/v1/policies/rollouts", body).await;
    let of_tenant = ["agents", "actions", "alerts", "enrolment-tokens", "tokens", "secrets", "messages", "bouncers"];
    let further = ["searches", "events/search?q=event.kind:alert", "exceptions", "policies/rollouts"];
    for list in of_tenant.into_iter().chain(further) {
        let path = format!("/api/v1/{list}");
        let own = world.send("GET", &path, &world.admin, &Value::Null).await;
        assert!(!own.body["items"].as_array().unwrap().is_empty(), "{list}");
        let answer = world.send("GET", &path, &token, &Value::Null).await;
        assert_eq!(answer.body["items"], json!([]), "{list}");
    }
    let users = world.send("GET", "/api/v1/users", &token, &Value::Null).await.body;
    assert_eq!(users["items"].as_array().unwrap().len(), 1);
    let layers = world.send("GET", "/api/v1/policies/layers", &token, &Value::Null).await.body;
    assert_eq!(layers["layers"], json!([]));
    let count = world.send("GET", "/api/v1/events/count?q=event.kind:alert", &token, &Value::Null).await.body;
    assert_eq!(count["count"], 0);
    let sql = json!({"sql": "SELECT COUNT(*) FROM events WHERE \"event.kind\" = 'alert'"});
    assert_eq!(world.send("POST", "/api/v1/events/sql", &token, &sql).await.body["rows"], json!([[0]]));
    // Naming the other tenant helps only those over all.
    for (token, status) in [(&token, 404), (&world.admin, 200)] {
        let request =
            world.client.get(world.url("/api/v1/users")).bearer_auth(token).header("sakimori-tenant", "default");
        assert_eq!(request.send().await.unwrap().status().as_u16(), status);
    }
    // Nor can a user or token be made in another tenant, or over all.
    for tenant in ["default", "*"] {
        for (path, body) in [
            ("/api/v1/users", json!({"name": "spy", "role": "admin", "password": PASSWORD, "tenant": tenant})),
            ("/api/v1/tokens", json!({"name": "spy", "role": "admin", "tenant": tenant})),
        ] {
            let answer = world.send("POST", path, &token, &body).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.body["code"]),
                (404, &json!("tenants/missing")),
                "{path} {tenant}"
            );
        }
    }
    world.running.stop().await;
}
