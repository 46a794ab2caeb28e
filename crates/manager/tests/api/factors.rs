//! Codes of a device, recovery codes, who has to have them, and an admin's reset.

use std::sync::Arc;

use sakimori_identity::{recovery, totp};
use sakimori_runtime::SystemClock;
use sakimori_runtime::clock::{Clock, ManualClock};
use sakimori_store::control::factors;
use serde_json::{Value, json};

use super::browser::{Browser, told};
use super::sessions::{PASSWORD, world};
use super::support::World;

/// The bytes of base32.
fn bytes(text: &str) -> Vec<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut out, mut bits, mut have) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes() {
        bits = bits << 5 | u32::try_from(letters.iter().position(|one| *one == letter).unwrap()).unwrap();
        have += 5;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from(bits >> have & 255).unwrap());
        }
    }
    out
}

/// The device of a user: shows the code of now, of so many steps later.
struct Device<'a>(Vec<u8>, &'a ManualClock);

impl Device<'_> {
    fn code(&self, later: i64) -> String {
        let now = self.1.now().micros() / 1_000_000;
        format!("{:06}", totp::code(&self.0, totp::step(now) + later))
    }
}

/// Sets codes up, in a browser that is signed in; gives the device and the recovery codes.
async fn set_up<'a>(browser: &mut Browser<'_>, clock: &'a ManualClock) -> (Device<'a>, Vec<String>) {
    let begun = browser.send("POST", "/api/v1/session/totp", &json!({"password": PASSWORD})).await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    let secret = begun.body["secret"].as_str().unwrap();
    assert!(begun.body["uri"].as_str().unwrap().contains(secret));
    let device = Device(bytes(secret), clock);
    let done = browser.send("POST", "/api/v1/session/totp/confirm", &json!({"code": device.code(0)})).await;
    assert_eq!(done.status, 200, "{}", done.body);
    let codes: Vec<String> = serde_json::from_value(done.body["codes"].clone()).unwrap();
    (device, codes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_needed_once_it_is_set_up_and_good_once_within_its_time() {
    let (world, clock) = world().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    let wrong = browser.send("POST", "/api/v1/session/totp", &json!({"password": "wrong wrong wrong"})).await;
    assert_eq!(told(&wrong), (422, "users/invalid"), "an open session alone is not enough");
    // Begun is not set up: nothing is asked for.
    browser.send("POST", "/api/v1/session/totp", &json!({"password": PASSWORD})).await;
    assert_eq!(Browser::new(&world).sign_in("ann", PASSWORD, None).await.status, 201);
    let (device, codes) = set_up(&mut browser, &clock).await;
    assert_eq!((codes.len(), browser.who().await.body["second_factor"].clone()), (10, json!("shown")));
    let again = browser.send("POST", "/api/v1/session/totp/confirm", &json!({"code": device.code(1)})).await;
    assert_eq!(told(&again), (404, "factors/missing"));

    let mut other = Browser::new(&world);
    assert_eq!(told(&other.sign_in("ann", PASSWORD, None).await), (401, "auth/code-needed"));
    assert_eq!(
        told(&other.sign_in("ann", "wrong wrong wrong", None).await),
        (401, "auth/failed"),
        "not before the password"
    );
    assert_eq!(
        told(&other.sign_in("ann", PASSWORD, Some(&device.code(0))).await),
        (401, "auth/code"),
        "used to set up"
    );
    assert_eq!(told(&other.sign_in("ann", PASSWORD, Some(&device.code(2))).await), (401, "auth/code"), "too early");
    assert_eq!(other.sign_in("ann", PASSWORD, Some(&device.code(1))).await.status, 201, "a clock that is one step off");
    assert_eq!(told(&other.sign_in("ann", PASSWORD, Some(&device.code(1))).await), (401, "auth/code"), "replayed");
    clock.set(clock.now().plus_secs(120));
    assert_eq!(told(&other.sign_in("ann", PASSWORD, Some(&device.code(-2))).await), (401, "auth/code"), "too late");
    // Programs as well.
    let body = json!({"name": "ann", "password": PASSWORD, "code": device.code(0)});
    assert_eq!(world.send("POST", "/api/v1/session", "", &body).await.status, 201);

    // It lies sealed, and nothing that is told holds it.
    let pool = world.running.shared.control.read();
    let users = world.ask("GET", "/api/v1/users", Value::Null).await;
    let ann = users["items"].as_array().unwrap().iter().find(|one| one["name"] == "ann").unwrap()["id"].clone();
    let row = factors::totp(pool, "default", ann.as_str().unwrap()).await.unwrap().unwrap();
    assert!(row.sealed.starts_with("sakimori-sealed:1:"));
    world.ask("POST", "/api/v1/sealing/rotate", json!({"forget_older": true})).await;
    clock.set(clock.now().plus_secs(60));
    assert_eq!(other.sign_in("ann", PASSWORD, Some(&device.code(0))).await.status, 201, "sealed anew");
    let told = format!("{users}{}", world.ask("GET", "/api/v1/audit?limit=1000", Value::Null).await);
    assert!(told.contains("factors:totp") && !told.contains(&totp::base32(&device.0)));
    assert!(codes.iter().all(|code| !told.contains(code)));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_show_one_code_at_once_one_gets_in() {
    let (world, clock) = world().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    let (device, codes) = set_up(&mut browser, &clock).await;
    for code in [device.code(1), codes[0].clone()] {
        let body = json!({"name": "ann", "password": PASSWORD, "code": code});
        let tries = (0..4).map(|_| world.send("POST", "/api/v1/session", "", &body));
        let answers = futures::future::join_all(tries).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{code}");
        clock.set(clock.now().plus_secs(3_700));
    }
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_codes_are_slowed_down_longer_than_passwords_and_recovery_codes_are_good_once() {
    let (world, clock) = world().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    let (device, codes) = set_up(&mut browser, &clock).await;
    let mut other = Browser::new(&world);
    let mut seen = Vec::new();
    for _ in 0..6 {
        // Neither a code of now nor a recovery code.
        let answer = other.sign_in("ann", PASSWORD, Some("no code")).await;
        assert_eq!(answer.headers.contains_key("retry-after"), answer.status == 429);
        seen.push(told(&answer).1.to_owned());
    }
    assert_eq!(seen[..5], vec!["auth/code"; 5]);
    assert_eq!(seen[5], "auth/throttled", "and a right password forgives none of it");
    assert_eq!(told(&other.sign_in("ann", PASSWORD, Some(&device.code(1))).await).1, "auth/throttled");
    // Another user of the same network is let in.
    let password = world.running.first_password.clone().unwrap();
    world.login("admin", &password, None).await;
    clock.set(clock.now().plus_secs(3));
    assert_eq!(other.sign_in("ann", PASSWORD, Some(&codes[3].to_uppercase())).await.status, 201);
    assert_eq!(told(&other.sign_in("ann", PASSWORD, Some(&codes[3])).await), (401, "auth/code"), "once");
    let left = browser.send("GET", "/api/v1/session/factors", &Value::Null).await.body;
    assert_eq!((&left["recovery_codes"], &left["totp"]), (&json!(9), &json!(true)));
    clock.set(clock.now().plus_secs(60));
    let body = json!({"password": PASSWORD, "code": device.code(0)});
    let renewed = browser.send("POST", "/api/v1/session/recovery-codes", &body).await;
    assert_eq!(renewed.body["codes"].as_array().unwrap().len(), 10, "{}", renewed.body);
    assert_eq!(
        told(&other.sign_in("ann", PASSWORD, Some(&codes[4])).await),
        (401, "auth/code"),
        "the former ones are gone"
    );
    assert!(recovery::read(renewed.body["codes"][0].as_str().unwrap()).is_some());
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_must_have_a_second_factor_can_do_nothing_else_before() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = World::start_with(clock.clone(), |config| {
        config.sign_in.second_factor = vec!["operator".into()];
        config.sign_in.second_factor_by_tenant.insert("acme".into(), Vec::new());
    })
    .await;
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    for tenant in ["default", "acme"] {
        let body = json!({"name": "ann", "role": "operator", "password": PASSWORD, "tenant": tenant});
        world.ask("POST", "/api/v1/users", body).await;
    }
    let free = world.login("ann", PASSWORD, Some("acme")).await;
    assert_eq!(world.send("GET", "/api/v1/alerts", &free, &Value::Null).await.status, 200);
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    let who = browser.who().await.body;
    assert_eq!(who["second_factor"], "required");
    let held = who["permissions"].as_array().unwrap();
    assert!(held.iter().all(|one| one.as_str().unwrap().starts_with("session:")) && !held.is_empty());
    for (method, path) in [("GET", "/api/v1/alerts"), ("GET", "/api/v1/agents"), ("POST", "/api/v1/enrolment-tokens")] {
        let body = if method == "POST" { json!({"name": "x"}) } else { Value::Null };
        assert_eq!(told(&browser.send(method, path, &body).await), (403, "auth/factor-required"), "{path}");
    }
    set_up(&mut browser, &clock).await;
    assert_eq!(browser.send("GET", "/api/v1/alerts", &Value::Null).await.status, 200);
    assert_eq!(browser.who().await.body["second_factor"], "shown");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_resets_what_was_lost_and_another_tenants_admin_does_not() {
    let (world, clock) = world().await;
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    let body = json!({"name": "eve", "role": "admin", "password": PASSWORD, "tenant": "acme"});
    world.ask("POST", "/api/v1/users", body).await;
    let eve = world.login("eve", PASSWORD, Some("acme")).await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    let users = world.ask("GET", "/api/v1/users", Value::Null).await;
    let ann = users["items"].as_array().unwrap().iter().find(|one| one["name"] == "ann").unwrap()["id"].clone();
    let path = |rest: &str| format!("/api/v1/users/{}/{rest}", ann.as_str().unwrap());
    assert_eq!(told(&world.send("DELETE", &path("totp"), &world.admin, &Value::Null).await), (404, "factors/missing"));
    set_up(&mut browser, &clock).await;
    for (method, rest) in [("GET", "factors"), ("DELETE", "totp"), ("DELETE", "passkeys"), ("DELETE", "sessions")] {
        assert_eq!(told(&world.send(method, &path(rest), &eve, &Value::Null).await), (404, "users/missing"), "{rest}");
        assert_eq!(browser.send(method, &path(rest), &Value::Null).await.status, 403, "an operator");
    }
    let shown = world.ask("GET", &path("factors"), Value::Null).await;
    assert_eq!(
        (&shown["totp"], &shown["recovery_codes"], &shown["required"]),
        (&json!(true), &json!(10), &json!(false))
    );
    world.ask("DELETE", &path("totp"), Value::Null).await;
    assert_eq!(told(&browser.who().await), (401, "auth/required"), "the user's sessions end");
    assert_eq!(browser.sign_in("ann", PASSWORD, None).await.status, 201, "the password is enough again");
    let audit = world.ask("GET", "/api/v1/audit?limit=1000", Value::Null).await;
    let entry =
        audit["items"].as_array().unwrap().iter().find(|one| one["action"] == "users:totp-reset").unwrap().clone();
    assert_eq!((&entry["actor"], &entry["target"]), (&json!("user:admin"), &ann));
    world.running.stop().await;
}
