//! Sessions of browsers: cookies, rotation, forged requests, idle ones, signing out, what one's own list shows.

use std::sync::Arc;

use sakimori_runtime::SystemClock;
use sakimori_runtime::clock::{Clock, ManualClock};
use serde_json::{Value, json};

use super::browser::{Browser, told};
use super::support::World;

pub const PASSWORD: &str = "correct horse battery";

/// A manager with a clock that is moved by hand, and the user ann.
pub async fn world() -> (World, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = World::start_at(clock.clone()).await;
    world.ask("POST", "/api/v1/users", json!({"name": "ann", "role": "operator", "password": PASSWORD})).await;
    (world, clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_has_a_cookie_that_is_renewed_at_sign_in_and_good_as_nothing_else() {
    let (world, _) = world().await;
    let mut browser = Browser::new(&world);
    let first = browser.sign_in("ann", PASSWORD, None).await;
    assert_eq!(first.status, 201, "{}", first.body);
    assert!(first.body.get("token").is_none(), "no script reads the secret");
    let set = first.headers["set-cookie"].to_str().unwrap();
    for part in ["sakimori_session=skc_", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Domain") && !set.contains("Secure"), "it is in the clear, on loopback: {set}");
    let cookie = browser.jar["sakimori_session"].clone();
    assert_eq!(world.send("GET", "/api/v1/session", &cookie, &Value::Null).await.status, 401, "no bearer token");
    let who = browser.who().await.body;
    assert_eq!(
        (&who["kind"], &who["way"], &who["second_factor"]),
        (&json!("user"), &json!("password"), &json!("none"))
    );
    assert_eq!((&who["idle_seconds"], &who["csrf"]), (&json!(3_600), &json!(browser.csrf)));

    browser.sign_in("ann", PASSWORD, None).await;
    assert_ne!(browser.jar["sakimori_session"], cookie);
    let mut old = Browser::new(&world);
    old.jar.insert("sakimori_session".into(), cookie);
    assert_eq!(told(&old.who().await), (401, "auth/required"), "the one of before has ended");
    // A program's token is no cookie.
    let mut forged = Browser::new(&world);
    forged.jar.insert("sakimori_session".into(), world.login("ann", PASSWORD, None).await);
    assert_eq!(told(&forged.who().await), (401, "auth/required"));
    // A proxy that speaks TLS to the browser gets the name that no other host can set.
    let mut secure = Browser::new(&world);
    secure.origin = secure.origin.replace("http://", "https://");
    let answer = secure.sign_in("ann", PASSWORD, None).await;
    let set = answer.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("__Host-sakimori_session=") && set.ends_with("; Secure"), "{set}");
    assert_eq!(secure.who().await.status, 200);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_request_changes_nothing_and_a_bearer_token_needs_no_origin() {
    let (world, _) = world().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    let (ours, csrf) = (browser.origin.clone(), browser.csrf.clone());
    let before = world.rows().await;
    let body = json!({"name": "x"});
    let tries: [(&str, Vec<(&str, String)>); 7] = [
        ("auth/origin", vec![("sakimori-csrf", csrf.clone())]),
        ("auth/origin", vec![("origin", "https://evil.example".into()), ("sakimori-csrf", csrf.clone())]),
        ("auth/origin", vec![("origin", "null".into()), ("sakimori-csrf", csrf.clone())]),
        ("auth/origin", vec![("origin", format!("{ours}0")), ("sakimori-csrf", csrf.clone())]),
        (
            "auth/origin",
            vec![("origin", ours.clone()), ("sec-fetch-site", "cross-site".into()), ("sakimori-csrf", csrf.clone())],
        ),
        ("auth/csrf", vec![("origin", ours.clone())]),
        ("auth/csrf", vec![("origin", ours.clone()), ("sakimori-csrf", csrf.to_lowercase())]),
    ];
    for (code, headers) in tries {
        let answer = browser.send_with("POST", "/api/v1/enrolment-tokens", &body, &headers).await;
        assert_eq!(told(&answer), (403, code), "{headers:?}");
    }
    let read =
        browser.send_with("GET", "/api/v1/alerts", &Value::Null, &[("sec-fetch-site", "cross-site".into())]).await;
    assert_eq!(told(&read), (403, "auth/origin"));
    // Nor does another site sign a browser in.
    let mut other = Browser::new(&world);
    other.origin = "https://evil.example".into();
    assert_eq!(told(&other.sign_in("ann", PASSWORD, None).await), (403, "auth/origin"));
    assert!(other.jar.is_empty());
    assert_eq!(world.rows().await, before, "nothing was changed");
    assert_eq!(browser.send("POST", "/api/v1/enrolment-tokens", &body).await.status, 201);
    let evil = world.client.post(world.url("/api/v1/enrolment-tokens")).header("origin", "https://evil.example");
    assert_eq!(evil.bearer_auth(&world.admin).json(&body).send().await.unwrap().status(), 201);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browsers_session_ends_when_idle_and_any_at_its_limit() {
    let (world, clock) = world().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    let program = world.login("ann", PASSWORD, None).await;
    for _ in 0..3 {
        clock.set(clock.now().plus_secs(3_500));
        assert_eq!(browser.who().await.status, 200, "it is used");
    }
    clock.set(clock.now().plus_secs(3_601));
    assert_eq!(told(&browser.who().await), (401, "auth/required"), "it was idle");
    assert_eq!(world.send("GET", "/api/v1/session", &program, &Value::Null).await.status, 200, "a program's is not");
    clock.set(clock.now().plus_secs(12 * 3_600));
    assert_eq!(world.send("GET", "/api/v1/session", &program, &Value::Null).await.status, 401);
    // However much it is used, a browser's ends after twelve hours too.
    browser.sign_in("ann", PASSWORD, None).await;
    for _ in 0..13 {
        assert_eq!(browser.who().await.status, 200);
        clock.set(clock.now().plus_secs(3_500));
    }
    assert_eq!(told(&browser.who().await), (401, "auth/required"));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_idleness_ends_no_session_that_is_used_every_half() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = World::start_with(clock.clone(), |config| config.sign_in.idle_minutes = 1).await;
    world.ask("POST", "/api/v1/users", json!({"name": "ann", "role": "operator", "password": PASSWORD})).await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    for second in (0..300).step_by(30) {
        clock.set(clock.now().plus_secs(30));
        assert_eq!(browser.who().await.status, 200, "after {second} s");
    }
    clock.set(clock.now().plus_secs(61));
    assert_eq!(told(&browser.who().await), (401, "auth/required"));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_that_speaks_tls_the_public_address_makes_cookies_secure() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let url = Some("https://console.example".to_owned());
    let world = World::start_with(clock, |config| config.api.public_url = url).await;
    world.ask("POST", "/api/v1/users", json!({"name": "ann", "role": "operator", "password": PASSWORD})).await;
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["__Host-sakimori_session"]);
    assert_eq!(browser.who().await.status, 200);
    let secret = browser.jar["__Host-sakimori_session"].clone();
    let mut forged = Browser::new(&world);
    forged.jar.insert("sakimori_session".into(), secret);
    assert_eq!(told(&forged.who().await), (401, "auth/required"), "the plain name, which any host near could set");
    let out = browser.send("DELETE", "/api/v1/session", &Value::Null).await;
    assert!(out.headers["set-cookie"].to_str().unwrap().starts_with("__Host-sakimori_session=; "));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ones_own_sessions_are_listed_and_ended_here_there_and_everywhere() {
    let (world, _) = world().await;
    let (mut here, mut there) = (Browser::new(&world), Browser::new(&world));
    here.sign_in("ann", PASSWORD, None).await;
    there.sign_in("ann", PASSWORD, None).await;
    let program = world.login("ann", PASSWORD, None).await;
    let list = here.send("GET", "/api/v1/sessions", &Value::Null).await.body;
    let all = list["sessions"].as_array().unwrap();
    assert_eq!(all.len(), 3, "none of the admin's: {list}");
    assert_eq!(all.iter().map(|one| one["browser"].as_bool().unwrap()).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(all.iter().map(|one| one["current"].as_bool().unwrap()).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((&all[2]["agent"], &all[2]["address"]), (&json!("a browser"), &json!("127.0.0.1")));
    let path = |at: usize| format!("/api/v1/sessions/{}", all[at]["id"].as_str().unwrap());
    // Not even an admin over all ends it as if it were their own.
    assert_eq!(told(&world.send("DELETE", &path(1), &world.admin, &Value::Null).await), (404, "sessions/missing"));
    assert_eq!(here.send("DELETE", &path(1), &Value::Null).await.status, 204);
    assert_eq!((there.who().await.status.as_u16(), here.who().await.status.as_u16()), (401, 200));
    let out = here.send("DELETE", "/api/v1/session", &Value::Null).await;
    assert_eq!((out.status.as_u16(), here.jar.len()), (204, 0));
    assert_eq!(world.send("GET", "/api/v1/session", &program, &Value::Null).await.status, 200);
    here.sign_in("ann", PASSWORD, None).await;
    assert_eq!(here.send("DELETE", "/api/v1/sessions", &Value::Null).await.status, 204);
    assert_eq!(world.send("GET", "/api/v1/session", &program, &Value::Null).await.status, 401, "everywhere");
    let token = world.ask("POST", "/api/v1/tokens", json!({"name": "t", "role": "admin"})).await;
    let token = token["secret"].as_str().unwrap();
    assert_eq!(told(&world.send("GET", "/api/v1/sessions", token, &Value::Null).await), (404, "users/missing"));
    let who = world.send("GET", "/api/v1/session", token, &Value::Null).await.body;
    assert_eq!((&who["kind"], &who["csrf"]), (&json!("token"), &Value::Null));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_keeps_browsers_careful_and_a_language_is_remembered() {
    let (world, _) = world().await;
    for path in ["/healthz", "/api/v1/session", "/api/v1/sign-in", "/nowhere"] {
        let headers = world.send("GET", path, "", &Value::Null).await.headers;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(headers[name], value, "{path} {name}");
        }
        assert!(headers["permissions-policy"].to_str().unwrap().contains("camera=()"), "{path}");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
    let mut browser = Browser::new(&world);
    browser.sign_in("ann", PASSWORD, None).await;
    assert_eq!(browser.who().await.body["language"], Value::Null);
    let set = browser.send("PUT", "/api/v1/session/language", &json!({"language": "ja"})).await;
    assert_eq!((set.status.as_u16(), &browser.who().await.body["language"]), (200, &json!("ja")));
    let bad = browser.send("PUT", "/api/v1/session/language", &json!({"language": "xx"})).await;
    assert_eq!(told(&bad), (422, "users/invalid"));
    let ways = browser.send("GET", "/api/v1/sign-in", &Value::Null).await.body;
    assert_eq!(ways, json!({"password": true, "passkeys": true, "single_sign_on": []}));
    world.running.stop().await;
}
