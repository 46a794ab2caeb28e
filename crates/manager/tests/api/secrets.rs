//! Named secrets: set, replaced, deleted, never read back; and a channel that signs by one.

use std::sync::Arc;

use sakimori_manager::channels::{Failure, Outgoing};
use sakimori_manager::config::Channel;
use sakimori_model::Timestamp;
use sakimori_respond::message::{SIGNATURE_HEADER, signature};
use sakimori_runtime::SystemClock;
use sakimori_runtime::sealing::is_sealed;
use sakimori_store::control::secrets;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::support::World;

const VALUE: &str = "a secret of 1794";

fn hex_of(text: &str) -> Value {
    Value::String(hex::encode(text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_set_replaced_and_deleted_and_never_read_back() {
    let world = World::start().await;
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    let body = json!({"name": "other", "role": "admin", "password": "correct horse battery", "tenant": "acme"});
    world.ask("POST", "/api/v1/users", body).await;
    let other = world.login("other", "correct horse battery", Some("acme")).await;
    let first = world.ask("PUT", "/api/v1/secrets/pager", hex_of(VALUE)).await;
    assert_eq!((&first["name"], &first["tenant"]), (&json!("pager"), &json!("default")));
    let control = &world.running.shared.control;
    let sealed = async |tenant: &str| secrets::sealed(control.read(), tenant, "pager").await.unwrap();
    let before = sealed("default").await.unwrap();
    assert!(is_sealed(before.as_bytes()));
    // Another tenant's of the same name is another one.
    let set = world.send("PUT", "/api/v1/secrets/pager", &other, &hex_of("theirs")).await;
    assert_eq!((set.status.as_u16(), &set.body["tenant"]), (200, &json!("acme")));
    assert_eq!(sealed("default").await.unwrap(), before);
    let second = world.ask("PUT", "/api/v1/secrets/pager", hex_of("another value")).await;
    assert_eq!(second["created"], first["created"]);
    assert_ne!(sealed("default").await.unwrap(), before);
    let shared = &world.running.shared;
    let opened = shared.sealing.named(control, "default", "pager").await.unwrap().unwrap();
    assert_eq!(opened.expose(), b"another value");

    let all = world.ask("GET", "/api/v1/secrets", Value::Null).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 2, "over all tenants");
    let own = world.send("GET", "/api/v1/secrets", &other, &Value::Null).await.body;
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    let audit = world.ask("GET", "/api/v1/audit?limit=100", Value::Null).await;
    let told = format!("{all}{own}{first}{second}{audit}{}", set.body);
    assert!(audit.to_string().matches("secrets:set").count() == 3);
    for value in [VALUE, "another value", "theirs", &before] {
        assert!(!told.contains(value) && !told.contains(&hex::encode(value)), "{value}");
    }
    assert_eq!(world.send("GET", "/api/v1/secrets/pager", &world.admin, &Value::Null).await.status, 405);

    for (name, body, status, code) in [
        ("Pager", hex_of("x"), 422, "secrets/invalid"),
        ("..", hex_of("x"), 404, "request/path"),
        ("pager", hex_of(" \n"), 422, "secrets/invalid"),
        ("pager", hex_of(&"x".repeat((64 << 10) + 1)), 413, "request/too-large"),
    ] {
        let answer = world.send("PUT", &format!("/api/v1/secrets/{name}"), &world.admin, &body).await;
        assert_eq!((answer.status.as_u16(), answer.body["code"].as_str()), (status, Some(code)), "{name}");
    }
    let gone = async |token: &str| world.send("DELETE", "/api/v1/secrets/pager", token, &Value::Null).await.status;
    assert_eq!(gone(&world.admin).await, 204);
    assert_eq!(gone(&world.admin).await, 404);
    assert_eq!(gone(&other).await, 204, "its own was left alone");
    world.running.stop().await;
}

/// Answers each request with 200 and gives the value of its signature.
async fn receive(listener: &TcpListener) -> Option<String> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"{}") {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    let text = String::from_utf8(got).unwrap();
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case(SIGNATURE_HEADER).then(|| value.to_owned())
    })
}

fn outgoing(channel: &str) -> Outgoing<'_> {
    let created = Timestamp::from_secs(1);
    Outgoing { channel, id: "m", may_be_repeat: false, reference: "", closes: None, created, body: "{}" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_signs_by_the_secret_that_it_names_as_it_is_now_and_sends_nothing_without() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let channel = |name: &str, secret: &str| Channel {
        name: name.into(),
        url: url.clone(),
        secret: Some(secret.into()),
        burst_seconds: 0,
        ..Channel::default()
    };
    let channels = vec![channel("ops", "pager"), channel("theirs", "acme/pager")];
    let world = World::start_with(Arc::new(SystemClock), |config| config.notify = channels).await;
    let shared = &world.running.shared;
    let send = async |channel: &str| {
        let message = outgoing(channel);
        let (sent, got) = tokio::join!(shared.channels.send(&message), receive(&listener));
        sent.unwrap();
        got.unwrap()
    };
    let signed_by = |header: &str, key: &str| {
        let seconds: i64 = header.split(['=', ',']).nth(1).unwrap().parse().unwrap();
        signature(key.as_bytes(), sakimori_model::Timestamp::from_secs(seconds), "{}") == header
    };
    let without = shared.channels.send(&outgoing("ops")).await.unwrap_err();
    assert!(matches!(without, Failure::NotTaken { .. }), "it is tried again");
    assert!(without.to_string().contains("secrets set pager"), "{without}");
    world.ask("PUT", "/api/v1/secrets/pager", hex_of(&format!("{VALUE}\n"))).await;
    assert!(signed_by(&send("ops").await, VALUE), "a line end is none of it");
    world.ask("PUT", "/api/v1/secrets/pager", hex_of("replaced")).await;
    world.ask("POST", "/api/v1/sealing/rotate", json!({"forget_older": true})).await;
    assert!(signed_by(&send("ops").await, "replaced"), "as it is now");
    let listed = world.ask("GET", "/api/v1/secrets", Value::Null).await;
    assert_eq!(listed["items"][0]["used_by"], json!(["ops"]));
    // Another tenant's is named with it.
    assert!(shared.channels.send(&outgoing("theirs")).await.unwrap_err().to_string().contains("acme"));
    world.ask("DELETE", "/api/v1/secrets/pager", Value::Null).await;
    assert!(shared.channels.send(&outgoing("ops")).await.is_err());
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rotation_runs_beside_a_backup_or_over_a_key_file_that_was_changed() {
    let world = World::start().await;
    let shared = &world.running.shared;
    let before = world.ask("GET", "/api/v1/sealing", Value::Null).await;
    let file = world.dir.path().canonicalize().unwrap().join("state.seal.key");
    assert_eq!((&before["file"], &before["changeable"]), (&json!(file), &json!(true)));
    let backup = Arc::clone(&shared.backups).acquire_owned().await.unwrap();
    let busy = world.send("POST", "/api/v1/sealing/rotate", &world.admin, &json!({})).await;
    assert_eq!((busy.status.as_u16(), &busy.body["code"]), (409, &json!("sealing/busy")));
    drop(backup);
    // The file is another one by now.
    let ring = sakimori_runtime::sealing::Ring::generate().unwrap();
    let kept = std::fs::read(&file).unwrap();
    std::fs::write(&file, ring.to_text().expose()).unwrap();
    let refused = world.send("POST", "/api/v1/sealing/rotate", &world.admin, &json!({})).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("sealing/refused")));
    std::fs::write(&file, kept).unwrap();
    let rotated = world.ask("POST", "/api/v1/sealing/rotate", json!({})).await;
    assert_eq!(rotated["sealing"]["older"], json!([before["key"]]));
    assert_ne!(rotated["sealing"]["key"], before["key"]);
    world.running.stop().await;
}
