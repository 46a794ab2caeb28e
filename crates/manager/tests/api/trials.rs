//! Rules on trial: what each would have stopped, and whether a server answered it.

use sakimori_model::{Event, Timestamp, field};
use sakimori_respond::playbook::TRIAL_REASON;
use serde_json::{Value, json};

use super::support::World;

const RULE: &str = "9100111";

fn hit(at: Timestamp, host: &str, client: &str, url: &str) -> Event {
    let mut event = Event::new();
    event.set(field::TIMESTAMP, at);
    event.set(field::EVENT_KIND, "alert");
    event.set(field::EVENT_REASON, TRIAL_REASON);
    event.set(field::RULE_ID, RULE);
    event.set(field::RULE_RULESET, "suricata");
    event.set(field::HOST_NAME, host.to_owned());
    for who in [field::CLIENT_IP, field::SOURCE_IP] {
        event.set(who, sakimori_model::Value::Ip(client.parse().unwrap()));
    }
    event.set(field::HTTP_REQUEST_METHOD, "GET");
    event.set(field::URL_ORIGINAL, url.to_owned());
    event.set(field::SAKIMORI_DETECT_BUNDLE, 7_i64);
    event.set(field::SAKIMORI_ALERT_ID, format!("{url}{client}"));
    event.set_path("sakimori.network.payload_printable", json!(format!("GET {url} HTTP/1.1")));
    event
}

fn access(at: Timestamp, host: &str, client: &str, url: &str, status: i64) -> Event {
    let mut event = Event::new();
    event.set(field::TIMESTAMP, at);
    event.set(field::EVENT_KIND, "event");
    event.set(field::HOST_NAME, host.to_owned());
    event.set(field::SOURCE_IP, sakimori_model::Value::Ip(client.parse().unwrap()));
    event.set(field::URL_ORIGINAL, url.to_owned());
    event.set(field::HTTP_RESPONSE_STATUS_CODE, status);
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_on_trial_is_shown_with_what_it_would_have_stopped() {
    let world = World::start().await;
    assert_eq!(world.ask("GET", "/api/v1/rules/trials", Value::Null).await["items"], json!([]));
    let before = world.now().plus_secs(-60);
    let layer = |trial: Value| json!({"tree": {"modules": {"intrusion_prevention": {"trial": trial}}}});
    world.ask("PUT", "/api/v1/policies/layers/tenant", layer(json!([9_100_111, 4]))).await;
    let now = world.now();
    let mut other = hit(now, "web-1", "192.0.2.9", "/else");
    other.set(field::RULE_ID, "9100002");
    let mut acting = hit(now, "web-1", "192.0.2.7", "/acting");
    acting.set(field::EVENT_REASON, "dropped, with the rest of its flow");
    let events = vec![
        // Before the trial, or no hit of it.
        hit(before, "web-1", "192.0.2.1", "/before"),
        acting,
        other,
        // Answered, by its own host alone; of another client's request, and long after, it is no answer.
        hit(now, "web-1", "192.0.2.2", "/docs/..%2f..%2fa"),
        access(now, "web-1", "192.0.2.2", "/docs/..%2f..%2fa", 200),
        hit(now, "web-2", "192.0.2.2", "/docs/..%2f..%2fa"),
        hit(now, "web-1", "192.0.2.3", "/b"),
        access(now, "web-1", "192.0.2.3", "/b", 404),
        access(now, "web-1", "192.0.2.9", "/b", 200),
        access(now.plus_secs(60), "web-1", "192.0.2.3", "/b", 200),
        // He does other things, too.
        hit(now, "web-1", "192.0.2.9", "/c"),
    ];
    world.events("default", events).await;
    let trial = world
        .wait(|| async {
            let found = world.ask("GET", "/api/v1/rules/trials", Value::Null).await;
            let trial = found["items"].as_array().unwrap().iter().find(|one| one["rule"] == 9_100_111).unwrap().clone();
            (trial["hits"] == 4).then_some(trial)
        })
        .await;
    assert_eq!(trial["title"], "Path traversal: upward again and again");
    assert_eq!((&trial["known"], &trial["first_bundle"]), (&json!(true), &json!(7)));
    assert_eq!((&trial["clients"], &trial["hosts"]), (&json!(3), &json!(2)));
    assert_eq!((&trial["answered"], &trial["honest_clients"]), (&json!(1), &json!(2)));
    assert_eq!((&trial["answered_share"], &trial["proposal"]), (&json!(0.25), &json!("wait")));
    assert_eq!(trial["layers"], json!(["tenant"]));
    let samples = trial["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 4);
    assert!(samples.iter().any(|one| one["request"] == "GET /c" && one["payload"] == "GET /c HTTP/1.1"), "{samples:?}");
    // A rule that no bundle has and that never matched is shown as that.
    let found = world.ask("GET", "/api/v1/rules/trials?days=1", Value::Null).await;
    let unknown = &found["items"][0];
    assert_eq!((&unknown["rule"], &unknown["known"], &unknown["hits"]), (&json!(4), &json!(false), &json!(0)));
    // A trial that begins anew counts from there.
    world.ask("PUT", "/api/v1/policies/layers/tenant", layer(json!([]))).await;
    world.ask("PUT", "/api/v1/policies/layers/tenant", layer(json!({"add": [9_100_111]}))).await;
    let found = world.ask("GET", "/api/v1/rules/trials", Value::Null).await;
    assert_eq!((&found["items"][0]["hits"], &found["items"][0]["samples"]), (&json!(0), &json!([])));
    let answer = world.send("GET", "/api/v1/rules/trials?days=0", &world.admin, &Value::Null).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    world.running.stop().await;
}
