//! For every operation of the OpenAPI document a request that succeeds, and the things that it is about.

use sakimori_manager::jobs::deliver;
use sakimori_respond::seal::{self, Act};
use sakimori_store::control::factors::{self, Totp};
use sakimori_store::control::messages::{self, State, Stored};
use sakimori_store::control::passkeys::{self, Passkey};
use serde_json::{Value, json};

use super::support::World;

/// The password of everybody.
pub const PASSWORD: &str = "correct horse battery";

/// A request that succeeds for who holds the permission, made anew for each try.
pub struct Try {
    pub path: String,
    pub body: Value,
    pub status: u16,
}

fn attempt(path: impl Into<String>, body: Value, status: u16) -> Try {
    Try { path: path.into(), body, status }
}

/// The request of an operation, for things of the tenant `default`. `None`: nobody has written one yet.
pub async fn request(world: &World, operation: &str, serial: u32) -> Option<Try> {
    let fresh = format!("x{serial}");
    let get = |path: &str| Some(attempt(path, Value::Null, 200));
    Some(match operation {
        "get /healthz"
        | "get /readyz"
        | "get /metrics"
        | "get /api/v1/session"
        | "get /api/v1/session/factors"
        | "get /api/v1/sessions"
        | "get /api/v1/sign-in"
        | "get /api/v1/users"
        | "get /api/v1/tokens"
        | "get /api/v1/tenants"
        | "get /api/v1/agents"
        | "get /api/v1/enrolment-tokens"
        | "get /api/v1/policies/layers"
        | "get /api/v1/events"
        | "get /api/v1/events/count"
        | "get /api/v1/events/balance"
        | "get /api/v1/events/tail"
        | "get /api/v1/events/search"
        | "get /api/v1/events/histogram"
        | "get /api/v1/events/export"
        | "get /api/v1/fields"
        | "get /api/v1/live"
        | "get /api/v1/now"
        | "get /api/v1/searches"
        | "get /api/v1/alerts"
        | "get /api/v1/actions"
        | "get /api/v1/actions/shed"
        | "get /api/v1/messages"
        | "get /api/v1/channels"
        | "get /api/v1/orders"
        | "get /api/v1/halt"
        | "get /api/v1/playbooks"
        | "get /api/v1/executions"
        | "get /api/v1/cloud/accounts"
        | "get /api/v1/secrets"
        | "get /api/v1/bouncers"
        | "get /api/v1/sealing"
        | "get /api/v1/rules"
        | "get /api/v1/rules/titles"
        | "get /api/v1/rules/trials"
        | "get /api/v1/rules/noisy"
        | "get /api/v1/exceptions"
        | "get /api/v1/log-sources"
        | "get /api/v1/policies/schema"
        | "get /api/v1/policies/rollouts"
        | "get /api/v1/bundles/current"
        | "get /api/v1/proof"
        | "get /api/v1/proof/channels"
        | "get /api/v1/audit"
        | "get /api/v1/audit/verify" => return get(operation.strip_prefix("get ")?),
        // No account is configured, so nobody outside is asked.
        "post /api/v1/cloud/check" => attempt("/api/v1/cloud/check", json!({"actions": ["bucket_close"]}), 200),
        "post /api/v1/session" => {
            attempt("/api/v1/session", json!({"name": "viewer", "password": PASSWORD, "tenant": "default"}), 201)
        }
        "delete /api/v1/session" => attempt("/api/v1/session", Value::Null, 204),
        "put /api/v1/session/password" => {
            attempt("/api/v1/session/password", json!({"old": PASSWORD, "new": PASSWORD}), 204)
        }
        "put /api/v1/session/language" => attempt("/api/v1/session/language", json!({"language": "ja"}), 200),
        "post /api/v1/session/totp" => attempt("/api/v1/session/totp", json!({"password": PASSWORD}), 200),
        // Six digits could be right.
        "post /api/v1/session/totp/confirm" => attempt("/api/v1/session/totp/confirm", json!({"code": "x"}), 401),
        "post /api/v1/session/totp/remove" => {
            attempt("/api/v1/session/totp/remove", json!({"password": PASSWORD}), 204)
        }
        // Nobody has set up a device.
        "post /api/v1/session/recovery-codes" => {
            attempt("/api/v1/session/recovery-codes", json!({"password": PASSWORD}), 404)
        }
        "post /api/v1/session/passkeys/options" => {
            attempt("/api/v1/session/passkeys/options", json!({"password": PASSWORD}), 200)
        }
        "post /api/v1/session/passkeys" => {
            let credential = json!({"response": {"clientDataJSON": "", "attestationObject": ""}});
            attempt("/api/v1/session/passkeys", json!({"ticket": "x", "name": "x", "credential": credential}), 401)
        }
        // One's own, and this is nobody's.
        "delete /api/v1/session/passkeys/{id}" => attempt("/api/v1/session/passkeys/x", Value::Null, 404),
        "delete /api/v1/sessions/{id}" => attempt("/api/v1/sessions/x", Value::Null, 404),
        "delete /api/v1/sessions" => attempt("/api/v1/sessions", Value::Null, 204),
        "post /api/v1/sign-in/passkey/options" => attempt("/api/v1/sign-in/passkey/options", Value::Null, 200),
        // It does not come from a page of ours.
        "post /api/v1/sign-in/passkey" => {
            let response = json!({"clientDataJSON": "", "authenticatorData": "", "signature": ""});
            let body = json!({"ticket": "x", "credential": {"id": "x", "response": response}});
            attempt("/api/v1/sign-in/passkey", body, 403)
        }
        "get /api/v1/sign-in/sso/{provider}" => attempt("/api/v1/sign-in/sso/nowhere", Value::Null, 404),
        "get /api/v1/sign-in/sso/{provider}/callback" => {
            attempt("/api/v1/sign-in/sso/nowhere/callback", Value::Null, 404)
        }
        "get /api/v1/users/{id}/factors" => attempt(format!("{}/factors", user(world, &fresh).await), Value::Null, 200),
        "delete /api/v1/users/{id}/sessions" => {
            attempt(format!("{}/sessions", user(world, &fresh).await), Value::Null, 204)
        }
        "delete /api/v1/users/{id}/totp" => attempt(format!("{}/totp", strong(world, &fresh).await), Value::Null, 204),
        "delete /api/v1/users/{id}/passkeys" => {
            attempt(format!("{}/passkeys", strong(world, &fresh).await), Value::Null, 204)
        }
        "post /api/v1/users" => attempt(
            "/api/v1/users",
            json!({"name": fresh, "role": "viewer", "password": PASSWORD, "tenant": "default"}),
            201,
        ),
        "get /api/v1/users/{id}" => attempt(user(world, &fresh).await, Value::Null, 200),
        "patch /api/v1/users/{id}" => attempt(user(world, &fresh).await, json!({"disabled": true}), 200),
        "delete /api/v1/users/{id}" => attempt(user(world, &fresh).await, Value::Null, 204),
        "put /api/v1/users/{id}/password" => {
            attempt(format!("{}/password", user(world, &fresh).await), json!({"password": PASSWORD}), 204)
        }
        "post /api/v1/tokens" => {
            attempt("/api/v1/tokens", json!({"name": fresh, "role": "viewer", "tenant": "default"}), 201)
        }
        "delete /api/v1/tokens/{id}" => {
            let made = world.ask("POST", "/api/v1/tokens", json!({"name": "t", "role": "viewer"})).await;
            attempt(format!("/api/v1/tokens/{}", made["token"]["id"].as_str()?), Value::Null, 204)
        }
        "post /api/v1/tenants" => attempt("/api/v1/tenants", json!({"id": fresh}), 201),
        "get /api/v1/agents/{id}" => attempt(agent(world).await, Value::Null, 200),
        "get /api/v1/agents/{id}/policy" => attempt(format!("{}/policy", agent(world).await), Value::Null, 200),
        "post /api/v1/agents/{id}/revoke" => attempt(format!("{}/revoke", agent(world).await), Value::Null, 200),
        "delete /api/v1/agents/{id}" => {
            let path = agent(world).await;
            world.ask("POST", &format!("{path}/revoke"), Value::Null).await;
            attempt(path, Value::Null, 204)
        }
        "post /api/v1/enrolment-tokens" => attempt("/api/v1/enrolment-tokens", json!({"name": fresh}), 201),
        "delete /api/v1/enrolment-tokens/{id}" => {
            let made = world.ask("POST", "/api/v1/enrolment-tokens", json!({"name": fresh})).await;
            attempt(format!("/api/v1/enrolment-tokens/{}", made["enrolment"]["id"].as_str()?), Value::Null, 204)
        }
        "put /api/v1/policies/layers/{layer}" => {
            let body = json!({"tree": {"modules": {"block_address": {"expiry_seconds": serial + 60}}}});
            attempt(layer(world).await, body, 200)
        }
        "get /api/v1/policies/layers/{layer}/history" => {
            attempt(format!("{}/history", layer(world).await), Value::Null, 200)
        }
        "get /api/v1/policies/layers/{layer}/versions/{number}" => {
            let path = layer(world).await;
            let written = world.ask("PUT", &path, json!({"tree": {}})).await;
            attempt(format!("{path}/versions/{}", written["number"]), Value::Null, 200)
        }
        "get /api/v1/policies/layers/{layer}/diff" => attempt(format!("{}/diff", layer(world).await), Value::Null, 200),
        "post /api/v1/policies/layers/{layer}/rollback" => {
            attempt(format!("{}/rollback", layer(world).await), json!({"to": 0}), 200)
        }
        "post /api/v1/policies/preview" => {
            attempt("/api/v1/policies/preview", json!({"layer": "tenant", "tree": {}}), 200)
        }
        "post /api/v1/policies/rollouts" => attempt("/api/v1/policies/rollouts", rollout(world, &fresh).await, 201),
        "get /api/v1/policies/rollouts/{id}" => attempt(begun(world, &fresh).await, Value::Null, 200),
        "post /api/v1/policies/rollouts/{id}/continue" => {
            attempt(format!("{}/continue", begun(world, &fresh).await), json!({}), 200)
        }
        "post /api/v1/policies/rollouts/{id}/withdraw" => {
            attempt(format!("{}/withdraw", begun(world, &fresh).await), json!({}), 200)
        }
        "get /api/v1/agents/{id}/overview" => attempt(format!("{}/overview", agent(world).await), Value::Null, 200),
        "get /api/v1/enrolment-tokens/{id}" => {
            let made = world.ask("POST", "/api/v1/enrolment-tokens", json!({"name": fresh})).await;
            attempt(format!("/api/v1/enrolment-tokens/{}", made["enrolment"]["id"].as_str()?), Value::Null, 200)
        }
        "post /api/v1/exceptions" => attempt("/api/v1/exceptions", json!({"rule": fresh, "reason": "a test"}), 201),
        "post /api/v1/exceptions/preview" => attempt("/api/v1/exceptions/preview", json!({"rule": fresh}), 200),
        "get /api/v1/exceptions/{id}" => attempt(exception(world, &fresh).await, Value::Null, 200),
        "patch /api/v1/exceptions/{id}" => attempt(exception(world, &fresh).await, json!({"days": 3}), 200),
        "delete /api/v1/exceptions/{id}" => attempt(exception(world, &fresh).await, Value::Null, 204),
        "get /api/v1/rules/{id}" => attempt("/api/v1/rules/made-up", Value::Null, 404),
        // This program is no worker: what is checked here ends it (the program's own tests check more).
        "post /api/v1/rules/lint" => attempt("/api/v1/rules/lint", json!({"language": "policy", "text": ""}), 422),
        "post /api/v1/rules/{id}/test" => attempt("/api/v1/rules/made-up/test", json!({}), 404),
        "put /api/v1/rules/{id}/state" => {
            let body = json!({"layer": "tenant", "state": if serial % 2 == 0 { "off" } else { "detect" }});
            attempt("/api/v1/rules/7000001/state", body, 200)
        }
        "post /api/v1/events/sql" => attempt("/api/v1/events/sql", json!({"sql": "SELECT 1"}), 200),
        "post /api/v1/events/search" => attempt("/api/v1/events/search", json!({"q": "*", "count": true}), 200),
        "get /api/v1/events/values" => attempt("/api/v1/events/values?field=rule.id", Value::Null, 200),
        "get /api/v1/events/{id}" => attempt(event(world).await, Value::Null, 200),
        "get /api/v1/events/{id}/related" => attempt(format!("{}/related", event(world).await), Value::Null, 200),
        "get /api/v1/alerts/{id}/why" => {
            attempt(format!("/api/v1/alerts/{}/why", world.alert("default").await), Value::Null, 200)
        }
        "post /api/v1/searches" => {
            attempt("/api/v1/searches", json!({"name": fresh, "q": "user.name:root", "shared": true}), 201)
        }
        "get /api/v1/searches/{id}" => attempt(saved(world, &fresh).await, Value::Null, 200),
        "put /api/v1/searches/{id}" => {
            attempt(saved(world, &fresh).await, json!({"name": format!("{fresh}-2"), "shared": true}), 200)
        }
        "delete /api/v1/searches/{id}" => attempt(saved(world, &fresh).await, Value::Null, 204),
        "get /api/v1/alerts/{id}" => {
            attempt(format!("/api/v1/alerts/{}", world.alert("default").await), Value::Null, 200)
        }
        "patch /api/v1/alerts/{id}" => {
            let path = format!("/api/v1/alerts/{}", world.alert("default").await);
            attempt(path, json!({"status": "closed", "comment": "a test"}), 200)
        }
        "post /api/v1/agents/{id}/scans" => attempt(
            format!("{}/scans", agent(world).await),
            json!({"paths": ["/srv", "/tmp"], "report_only": true}),
            202,
        ),
        "get /api/v1/agents/{id}/scans/{scan}" => {
            let path = format!("{}/scans", agent(world).await);
            let begun = world.ask("POST", &path, json!({"paths": ["/srv"]})).await;
            attempt(format!("{path}/{}", begun["id"].as_str()?), Value::Null, 200)
        }
        "post /api/v1/actions" => {
            let agent = world.agent("default").await;
            attempt(
                "/api/v1/actions",
                json!({"action": "block_address", "target": "203.0.113.77", "agent": agent, "reason": "by hand"}),
                202,
            )
        }
        "get /api/v1/actions/{id}" => {
            attempt(format!("/api/v1/actions/{}", world.action("default").await), Value::Null, 200)
        }
        "post /api/v1/playbooks/check" => attempt("/api/v1/playbooks/check", json!({"text": "id: x"}), 200),
        "get /api/v1/playbooks/{id}/revisions" => attempt("/api/v1/playbooks/asks/revisions", Value::Null, 200),
        "post /api/v1/playbooks/{id}/rehearse" => {
            attempt("/api/v1/playbooks/asks/rehearse", json!({"since_seconds": 60}), 200)
        }
        "post /api/v1/playbooks/{id}/run" => attempt("/api/v1/playbooks/asks/run", json!({}), 202),
        "get /api/v1/executions/{id}" => {
            attempt(format!("/api/v1/executions/{}", world.execution().await), Value::Null, 200)
        }
        "post /api/v1/executions/{id}/answer" => {
            attempt(format!("/api/v1/executions/{}/answer", world.execution().await), json!({"allow": true}), 202)
        }
        "post /api/v1/executions/{id}/undo" => {
            attempt(format!("/api/v1/executions/{}/undo", world.execution().await), Value::Null, 202)
        }
        // A link that is signed by nobody.
        "get /answer/{token}" | "post /answer/{token}" => attempt("/answer/x.y", Value::Null, 404),
        "post /api/v1/actions/{id}/undo" => {
            attempt(format!("/api/v1/actions/{}/undo", world.action("default").await), Value::Null, 202)
        }
        "post /api/v1/actions/{id}/confirm" => {
            attempt(format!("/api/v1/actions/{}/confirm", world.provisional("default").await), Value::Null, 202)
        }
        "get /api/v1/messages/{id}" => attempt(message(world, State::Sent).await, Value::Null, 200),
        "post /api/v1/messages/{id}/retry" => {
            attempt(format!("{}/retry", message(world, State::Dead).await), Value::Null, 202)
        }
        "post /api/v1/channels/{name}/test" => attempt("/api/v1/channels/desk/test", Value::Null, 202),
        "post /api/v1/orders/{id}/signatures" => {
            let agent = world.agent("default").await;
            let body = json!({"action": "block_address", "target": "192.0.0.0/16", "agent": agent});
            let ordered = world.ask("POST", "/api/v1/actions", body).await;
            let (id, order) = (ordered["id"].as_str()?, serde_json::from_value(ordered["order"].clone()).unwrap());
            let key = sakimori_content::keys::generate().unwrap();
            let (now, act) = (world.now(), Act::Order(&order));
            let seal = seal::seal(&key, &agent, act, now, now.plus_secs(600));
            let body = json!({"agent": agent, "kind": "order", "seal": hex::encode(seal)});
            attempt(format!("/api/v1/orders/{id}/signatures"), body, 202)
        }
        "post /api/v1/halt" => attempt("/api/v1/halt", json!({"undo": true, "reason": "a test"}), 202),
        "post /api/v1/halt/resume" => attempt("/api/v1/halt/resume", json!({}), 202),
        "post /api/v1/actions/undo" => {
            world.action("default").await;
            attempt("/api/v1/actions/undo", json!({"action": "waf_block"}), 202)
        }
        "put /api/v1/bundles/current" => {
            let key = &world.running.shared.bundle_signer;
            let number = world.running.shared.bundle.load().number + 1;
            let mut files = sakimori_content::files::builtin();
            files.insert("playbooks/asks.yml".to_owned(), super::support::ASKS.into());
            files.insert("network/own.rules".to_owned(), super::support::OWN_RULES.into());
            let bytes = sakimori_content::bundle::build(&files, number, key).unwrap();
            attempt("/api/v1/bundles/current", Value::String(hex::encode(bytes)), 200)
        }
        "put /api/v1/secrets/{name}" => {
            attempt(format!("/api/v1/secrets/{fresh}"), Value::String(hex::encode("value")), 200)
        }
        "delete /api/v1/secrets/{name}" => {
            let path = format!("/api/v1/secrets/{fresh}");
            world.ask("PUT", &path, Value::String(hex::encode("value"))).await;
            attempt(path, Value::Null, 204)
        }
        "post /api/v1/bouncers" => attempt("/api/v1/bouncers", json!({"name": fresh}), 201),
        "delete /api/v1/bouncers/{name}" => {
            world.ask("POST", "/api/v1/bouncers", json!({"name": fresh})).await;
            attempt(format!("/api/v1/bouncers/{fresh}"), Value::Null, 204)
        }
        // Open, but for who shows a bouncer's key, or what the way in wants to see.
        "get /v1/decisions" | "get /v1/decisions/stream" => attempt(operation.strip_prefix("get ")?, Value::Null, 403),
        "post /v1/usage-metrics" => attempt("/v1/usage-metrics", json!({}), 403),
        "post /api/v1/ingest/{way}" => attempt("/api/v1/ingest/nowhere", json!({}), 404),
        "post /api/v1/sealing/rotate" => attempt("/api/v1/sealing/rotate", json!({"forget_older": true}), 200),
        "post /api/v1/backups" => attempt("/api/v1/backups", Value::Null, 200),
        _ => return None,
    })
}

/// A message that is over.
pub async fn message(world: &World, state: State) -> String {
    let made = deliver::test("default", "desk", "ann", world.now());
    let mut change = world.running.shared.control.begin().await.unwrap();
    messages::put(change.connection(), &Stored { state, ..made.clone() }, &[]).await.unwrap();
    change.commit().await.unwrap();
    format!("/api/v1/messages/{}", made.id)
}

async fn user(world: &World, name: &str) -> String {
    let body = json!({"name": format!("u-{name}"), "role": "viewer", "password": PASSWORD});
    let made = world.ask("POST", "/api/v1/users", body).await;
    format!("/api/v1/users/{}", made["id"].as_str().unwrap())
}

/// An event of the tenant `default`, as the path of one.
async fn event(world: &World) -> String {
    let alert = world.alert("default").await;
    let found = world.ask("GET", &format!("/api/v1/events/search?q=sakimori.alert.id:{alert}"), Value::Null).await;
    let id = found["items"][0]["id"].as_str().unwrap();
    format!("/api/v1/events/{}", id.replace('/', "%2F").replace(':', "%3A"))
}

/// A search that is shared.
async fn saved(world: &World, name: &str) -> String {
    let body = json!({"name": format!("s-{name}"), "q": "*", "shared": true});
    let made = world.ask("POST", "/api/v1/searches", body).await;
    format!("/api/v1/searches/{}", made["id"].as_str().unwrap())
}

/// A user with a second factor and a passkey, as rows.
async fn strong(world: &World, name: &str) -> String {
    let path = user(world, name).await;
    let (id, now) = (path.rsplit('/').next().unwrap().to_owned(), world.now());
    let (tenant, credential) = ("default".to_owned(), id.clone().into_bytes());
    let mut change = world.running.shared.control.begin().await.unwrap();
    let sealed = world.running.shared.sealing.seal_totp(&tenant, &id, &[7; 20]).unwrap();
    let totp = Totp { tenant: tenant.clone(), user_id: id.clone(), sealed, confirmed: true, step: 0, created: now };
    factors::put_totp(change.connection(), &totp).await.unwrap();
    let passkey = Passkey {
        tenant,
        id: sakimori_model::id::row_id(),
        user_id: id,
        name: "x".into(),
        credential,
        public_key: vec![0],
        counter: 0,
        backed_up: false,
        created: now,
        last_used: None,
    };
    passkeys::create(change.connection(), &passkey).await.unwrap();
    change.commit().await.unwrap();
    path
}

/// A roll-out of a group's layer, with two hosts of which one gets it first.
pub async fn rollout(world: &World, group: &str) -> Value {
    let (first, _) = (world.agent_of("default", &[group]).await, world.agent_of("default", &[group]).await);
    json!({"layer": format!("group:{group}"), "tree": {}, "first": {"agents": [first]}})
}

async fn begun(world: &World, group: &str) -> String {
    let body = rollout(world, group).await;
    let made = world.ask("POST", "/api/v1/policies/rollouts", body).await;
    format!("/api/v1/policies/rollouts/{}", made["id"].as_str().unwrap())
}

async fn exception(world: &World, rule: &str) -> String {
    let made = world.ask("POST", "/api/v1/exceptions", json!({"rule": rule, "reason": "a test"})).await;
    format!("/api/v1/exceptions/{}", made["id"].as_str().unwrap())
}

async fn agent(world: &World) -> String {
    format!("/api/v1/agents/{}", world.agent("default").await)
}

async fn layer(world: &World) -> String {
    format!("/api/v1/policies/layers/host:{}", world.agent("default").await)
}
