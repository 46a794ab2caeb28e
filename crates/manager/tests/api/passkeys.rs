//! Passkeys: made in a session, used to sign in without name or password, and what is refused.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sakimori_runtime::clock::{Clock, ManualClock};
use serde_json::{Value, json};

use super::browser::{Browser, told};
use super::sessions::{PASSWORD, world};
use super::support::{Answer, World};

#[path = "../../../identity/tests/identity/device.rs"]
mod device;
use device::{Device, ed25519, p256};

const ORIGIN: &str = "http://localhost:7600";

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn challenge(body: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(body["public_key"]["challenge"].as_str().unwrap()).unwrap()
}

/// Makes a passkey in a browser that is signed in.
async fn make(browser: &mut Browser<'_>, device: &Device, name: &str) -> Answer {
    let options = browser.send("POST", "/api/v1/session/passkeys/options", &json!({"password": PASSWORD})).await;
    assert_eq!(options.status, 200, "{}", options.body);
    let (client, object) = device.make(&challenge(&options.body));
    let response = json!({"clientDataJSON": b64(&client), "attestationObject": b64(&object), "transports": ["usb"]});
    let credential = json!({"id": b64(&device.id), "rawId": b64(&device.id), "type": "public-key", "response": response,
                            "clientExtensionResults": {}});
    let body = json!({"ticket": options.body["ticket"], "name": name, "credential": credential});
    browser.send("POST", "/api/v1/session/passkeys", &body).await
}

/// What a browser sends to sign in by a device.
async fn answer(browser: &mut Browser<'_>, device: &Device, user: Option<&str>) -> Value {
    let options = browser.send("POST", "/api/v1/sign-in/passkey/options", &Value::Null).await;
    assert_eq!(
        (&options.body["public_key"]["rpId"], options.body["public_key"].get("allowCredentials")),
        (&json!("localhost"), None)
    );
    let (client, data, signature) = device.answer(&challenge(&options.body));
    let response = json!({"clientDataJSON": b64(&client), "authenticatorData": b64(&data), "signature": b64(&signature),
                          "userHandle": user.map(|user| b64(user.as_bytes()))});
    json!({"ticket": options.body["ticket"], "credential": {"id": b64(&device.id), "type": "public-key", "response": response}})
}

async fn sign_in(world: &World, device: &Device, user: Option<&str>) -> Answer {
    let mut browser = Browser::new(world);
    let body = answer(&mut browser, device, user).await;
    browser.send("POST", "/api/v1/sign-in/passkey", &body).await
}

/// ann, signed in, with a passkey on this device.
async fn ann<'a>(world: &'a World, device: &Device) -> (Browser<'a>, String, String) {
    let mut browser = Browser::new(world);
    let id = browser.sign_in("ann", PASSWORD, None).await.body["user"]["id"].as_str().unwrap().to_owned();
    let made = make(&mut browser, device, "blue key").await;
    assert_eq!(made.status, 201, "{}", made.body);
    let passkey = made.body["id"].as_str().unwrap().to_owned();
    (browser, id, passkey)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passkey_signs_in_without_name_or_password_and_is_listed_and_removed() {
    let (world, _) = world().await;
    let mut device = Device::new(p256(), "localhost", ORIGIN);
    let (mut browser, id, passkey) = ann(&world, &device).await;
    let factors = browser.send("GET", "/api/v1/session/factors", &Value::Null).await.body;
    assert_eq!(
        (&factors["passkeys"][0]["name"], &factors["passkeys"][0]["last_used"]),
        (&json!("blue key"), &Value::Null)
    );
    device.counter = 3;
    let mut other = Browser::new(&world);
    let body = answer(&mut other, &device, Some(&id)).await;
    let opened = other.send("POST", "/api/v1/sign-in/passkey", &body).await;
    assert_eq!(opened.status, 201, "{}", opened.body);
    assert!(opened.body.get("token").is_none() && opened.body["user"]["name"] == "ann");
    let who = other.who().await.body;
    assert_eq!((&who["way"], &who["second_factor"]), (&json!("passkey"), &json!("shown")));
    let again = other.send("POST", "/api/v1/sign-in/passkey", &body).await;
    assert_eq!(told(&again), (401, "auth/passkey"), "an answer is good once");
    // A second one on another device; one credential is not two passkeys.
    let second = Device::new(ed25519(), "localhost", ORIGIN);
    assert_eq!(make(&mut browser, &second, "phone").await.status, 201);
    assert_eq!(told(&make(&mut browser, &second, "phone").await), (409, "factors/exists"));
    assert_eq!(told(&make(&mut browser, &second, "").await), (422, "factors/invalid"));
    assert_eq!(sign_in(&world, &second, None).await.status, 201);
    let path = format!("/api/v1/session/passkeys/{passkey}");
    assert_eq!(told(&world.send("DELETE", &path, &world.admin, &Value::Null).await), (404, "factors/missing"));
    assert_eq!(browser.send("DELETE", &path, &Value::Null).await.status, 204);
    device.counter = 4;
    assert_eq!(told(&sign_in(&world, &device, None).await), (401, "auth/passkey"));
    let audit = world.ask("GET", "/api/v1/audit?limit=1000", Value::Null).await.to_string();
    assert!(audit.contains("factors:passkey\"") && audit.contains("factors:passkey-remove"));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lies_is_refused_alike_and_slowed_down() {
    let (world, clock) = world().await;
    let mut device = Device::new(p256(), "localhost", ORIGIN);
    let (_, id, _) = ann(&world, &device).await;
    let good = (device.origin.clone(), device.party.clone(), device.flags);
    let lies: [fn(&mut Device); 4] = [
        |device| device.origin = "http://localhost.evil.example".into(),
        |device| device.party = "evil.example".into(),
        |device| device.flags = 1,
        |device| device.id = vec![9; 32],
    ];
    let own = device.id.clone();
    for lie in lies {
        lie(&mut device);
        assert_eq!(told(&sign_in(&world, &device, Some(&id)).await), (401, "auth/passkey"));
        (device.origin, device.party, device.flags) = good.clone();
        device.id.clone_from(&own);
    }
    assert_eq!(told(&sign_in(&world, &device, Some("somebody")).await), (401, "auth/passkey"), "another user");
    let mut thief = Device::new(p256(), "localhost", ORIGIN);
    thief.id.clone_from(&own);
    assert_eq!(told(&sign_in(&world, &thief, None).await), (401, "auth/passkey"), "another key");
    // A challenge is good for ten minutes.
    let mut browser = Browser::new(&world);
    let body = answer(&mut browser, &device, None).await;
    clock.set(clock.now().plus_secs(601));
    assert_eq!(told(&browser.send("POST", "/api/v1/sign-in/passkey", &body).await), (401, "auth/passkey"));
    // Nor is one for a new passkey one to sign in.
    let mut foreign = Browser::new(&world);
    foreign.origin = "https://evil.example".into();
    let body = answer(&mut foreign, &device, None).await;
    assert_eq!(told(&foreign.send("POST", "/api/v1/sign-in/passkey", &body).await), (403, "auth/origin"));
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(told(&sign_in(&world, &thief, None).await).1.to_owned());
    }
    assert_eq!(codes.last().map(String::as_str), Some("auth/throttled"), "{codes:?}");
    clock.set(clock.now().plus_secs(3_700));
    assert_eq!(sign_in(&world, &device, None).await.status, 201);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_only_the_password_sets_up_nothing_beside_a_passkey_and_removes_none() {
    let clock = Arc::new(ManualClock::at(sakimori_runtime::SystemClock.now()));
    let world = World::start_with(clock, |config| config.sign_in.second_factor = vec!["operator".into()]).await;
    world.ask("POST", "/api/v1/users", json!({"name": "ann", "role": "operator", "password": PASSWORD})).await;
    // Where nothing is set up, the password is enough to set up the first.
    let mut device = Device::new(p256(), "localhost", ORIGIN);
    let (_, _, passkey) = ann(&world, &device).await;
    let mut thief = Browser::new(&world);
    assert_eq!(thief.sign_in("ann", PASSWORD, None).await.body["user"]["name"], "ann");
    assert_eq!(thief.who().await.body["second_factor"], "required");
    let again = json!({"password": PASSWORD});
    let confirm = json!({"code": "123456"});
    let begun = json!({"ticket": "x", "name": "x", "credential": {"response": {"clientDataJSON": "", "attestationObject": ""}}});
    let one = format!("/api/v1/session/passkeys/{passkey}");
    for (method, path, body) in [
        ("POST", "/api/v1/session/totp", &again),
        ("POST", "/api/v1/session/totp/confirm", &confirm),
        ("POST", "/api/v1/session/passkeys/options", &again),
        ("POST", "/api/v1/session/passkeys", &begun),
        ("DELETE", &one, &Value::Null),
    ] {
        assert_eq!(told(&thief.send(method, path, body).await), (403, "factors/first"), "{method} {path}");
    }
    // The owner shows the passkey, and then may.
    device.counter = 1;
    let mut owner = Browser::new(&world);
    let body = answer(&mut owner, &device, None).await;
    let opened = owner.send("POST", "/api/v1/sign-in/passkey", &body).await;
    assert_eq!(opened.status, 201, "{}", opened.body);
    owner.who().await;
    assert_eq!(owner.send("POST", "/api/v1/session/totp", &again).await.status, 200);
    assert_eq!(owner.send("DELETE", &one, &Value::Null).await.status, 204);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_key_and_a_disabled_user_do_not_get_in() {
    let (world, _) = world().await;
    let mut device = Device::new(ed25519(), "localhost", ORIGIN);
    let (_, id, _) = ann(&world, &device).await;
    device.counter = 7;
    assert_eq!(sign_in(&world, &device, None).await.status, 201);
    assert_eq!(told(&sign_in(&world, &device, None).await), (401, "auth/passkey"), "the count stands still");
    world.ask("PATCH", &format!("/api/v1/users/{id}"), json!({"disabled": true})).await;
    device.counter = 8;
    assert_eq!(told(&sign_in(&world, &device, None).await), (401, "auth/passkey"));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_people_are_given_an_address_without_a_name_there_are_no_passkeys() {
    let clock = Arc::new(ManualClock::at(sakimori_runtime::SystemClock.now()));
    let url = Some("https://192.0.2.1".to_owned());
    let world = World::start_with(clock, |config| config.api.public_url = url).await;
    let ways = world.send("GET", "/api/v1/sign-in", "", &Value::Null).await.body;
    assert_eq!(ways["passkeys"], false);
    let options = world.send("POST", "/api/v1/sign-in/passkey/options", "", &Value::Null).await;
    assert_eq!(told(&options), (409, "factors/unavailable"));
    world.running.stop().await;
}
