//! Connections are bounded, by address and in all, and whoever is slow on purpose holds one for little.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sakimori_runtime::SystemClock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::support::World;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection from another address of this machine.
async fn from(world: &World, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(world.running.api_addr).await.unwrap()
}

/// What the other side says until it closes; how long that took.
async fn until_closed(mut stream: TcpStream) -> (String, Duration) {
    let (began, mut said) = (Instant::now(), Vec::new());
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("it stays open for ever");
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

/// The first line of the answer to a request whose connection stays.
async fn asks(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 4096];
    let count = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap_or(0);
    String::from_utf8_lossy(&buffer[..count]).lines().next().unwrap_or_default().to_owned()
}

fn count_of(world: &World) -> u64 {
    world.running.shared.metrics.api_refused.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_its_share_others_go_on_and_it_is_told_once() {
    let world = World::start_with(Arc::new(SystemClock), |config| {
        config.api.connections = 100;
        config.api.connections_of_address = 10;
        config.api.head_seconds = 3_600;
    })
    .await;
    let mut seated = Vec::new();
    for _ in 0..10 {
        let mut stream = from(&world, "127.0.0.2").await;
        assert_eq!(asks(&mut stream).await, "HTTP/1.1 200 OK");
        seated.push(stream);
    }
    for round in 1..=200 {
        let (said, _) = until_closed(from(&world, "127.0.0.2").await).await;
        assert_eq!((said.as_str(), count_of(&world)), ("", round));
    }
    // Others, up to all that there are; the machine's own 127.0.0.1 has some for itself.
    for number in 3..=20 {
        for _ in 0..5 {
            let mut stream = from(&world, &format!("127.0.0.{number}")).await;
            if asks(&mut stream).await == "HTTP/1.1 200 OK" {
                seated.push(stream);
            }
        }
    }
    // This test's own connection from 127.0.0.1, by which it signed in, may sit among them.
    assert!((100 - 100 / 8 - 1..=100 - 100 / 8).contains(&seated.len()), "{}", seated.len());
    assert_eq!(world.ask("GET", "/api/v1/agents", Value::Null).await["items"], serde_json::json!([]));
    let metrics = world.send("GET", "/metrics", "", &Value::Null).await.body;
    let refused = format!("sakimori_api_connections_refused_total {}", count_of(&world));
    assert!(metrics.as_str().unwrap().contains(&refused), "{metrics}");
    // A place that was left is free again.
    drop(seated);
    world
        .wait(|| async {
            let mut stream = from(&world, "127.0.0.2").await;
            (asks(&mut stream).await == "HTTP/1.1 200 OK").then_some(())
        })
        .await;
    let events = "/api/v1/events/count?q=event.action:api-connections-refused";
    let told = || async { world.ask("GET", events, Value::Null).await["count"].as_u64().filter(|count| *count > 0) };
    assert_eq!(world.wait(told).await, 1, "hundreds within a minute are one event");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_slow_bodies_and_rest_end() {
    let world = World::start_with(Arc::new(SystemClock), |config| {
        (config.api.head_seconds, config.api.body_seconds, config.api.idle_seconds) = (1, 2, 1);
    })
    .await;
    // Nothing at all; half a head; the beginning of HTTP/2 and no request.
    for said in
        [&b""[..], b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"]
    {
        let mut stream = from(&world, "127.0.0.2").await;
        stream.write_all(said).await.unwrap();
        let (_, took) = until_closed(stream).await;
        assert!(took >= Duration::from_millis(900), "{took:?} for {said:?}");
    }
    // A head byte by byte.
    let mut stream = from(&world, "127.0.0.2").await;
    let began = Instant::now();
    while stream.write_all(b"x").await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "a head for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A body byte by byte: it is answered and closed long before it is whole.
    let mut stream = from(&world, "127.0.0.2").await;
    stream
        .write_all(b"POST /api/v1/session HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 4000\r\n\r\n")
        .await
        .unwrap();
    let began = Instant::now();
    let (mut read, mut write) = stream.into_split();
    let answer = async {
        let mut buffer = [0; 4096];
        let count = read.read(&mut buffer).await.unwrap_or(0);
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let drip = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::select! {
        answer = answer => answer,
        () = async { drip.await; std::future::pending().await } => unreachable!(),
        () = tokio::time::sleep(PATIENCE) => panic!("a body for ever"),
    };
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(1_900) && began.elapsed() < Duration::from_secs(40));
    // A rest between two requests.
    let mut stream = from(&world, "127.0.0.2").await;
    assert_eq!(asks(&mut stream).await, "HTTP/1.1 200 OK");
    let (_, took) = until_closed(stream).await;
    assert!(took >= Duration::from_millis(900), "{took:?}");
    // A feed that says nothing for longer than that is no rest.
    let mut feed = from(&world, "127.0.0.3").await;
    let head = format!("GET /api/v1/events/tail HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", world.admin);
    feed.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    let count = feed.read(&mut buffer).await.unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..count]));
    let ends = async { while feed.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    assert!(tokio::time::timeout(Duration::from_secs(4), ends).await.is_err(), "the feed was cut off");
    world.running.stop().await;
}
