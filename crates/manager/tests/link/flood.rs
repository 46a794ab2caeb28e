//! Floods of the agents' channel: whoever knocks, guesses or stays does not keep an agent out.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::Code;

use crate::agent::{Agent, World, believing, events};

/// As `crowd.rs` has them.
const HANDSHAKES_OF_ONE: usize = 64;
const STRANGERS_OF_ONE: usize = 16;

/// A connection from another address of this host, so that the agent's own is not the attacker's.
async fn attacker(target: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(target.parse().unwrap()).await.unwrap()
}

/// Does the other side close within this time?
async fn closes(stream: &mut (impl AsyncReadExt + Unpin), limit: Duration) -> bool {
    let mut buffer = [0; 1024];
    let end = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(limit, end).await.is_ok()
}

#[test]
fn a_flood_of_strangers_keeps_no_agent_out() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let token = world.token(&manager).await;
        let agent = Agent::enrol(&token).await.unwrap();
        let target = manager.shared.link_address.get().unwrap().to_string();

        // Strangers that finish their handshake and stay.
        let mut tls = believing();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(tls));
        let mut seated = Vec::new();
        let mut closed = 0;
        for _ in 0..STRANGERS_OF_ONE + 8 {
            let name = ServerName::try_from("localhost").unwrap();
            let Ok(mut stream) = connector.connect(name, attacker(&target).await).await else {
                closed += 1;
                continue;
            };
            if closes(&mut stream, Duration::from_millis(300)).await {
                closed += 1;
            } else {
                seated.push(stream);
            }
        }
        assert_eq!((seated.len(), closed), (STRANGERS_OF_ONE, 8));

        // And many that never begin one.
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES_OF_ONE * 2 {
            silent.push(attacker(&target).await);
        }
        let mut turned_away = 0;
        for stream in silent.iter_mut().rev().take(HANDSHAKES_OF_ONE) {
            turned_away += usize::from(closes(stream, Duration::from_millis(500)).await);
        }
        assert!(turned_away >= HANDSHAKES_OF_ONE / 2, "{turned_away} of the second half were closed");

        // Meanwhile an agent connects, is heard, and a new host enrols.
        let mut stream = agent.open().await.unwrap();
        stream.send(agent.batch("auth", 1, events(3))).await;
        assert_eq!(stream.receipt().await, ("auth".to_owned(), 1));
        Agent::enrol(&world.token(&manager).await).await.unwrap();

        // Guesses cost no row, however many.
        let mut guess = world.token(&manager).await;
        guess.secret = "guessed".into();
        let rows = async || {
            let audit = world.ask(&manager, "/api/v1/audit?limit=1000").await.to_string();
            audit.matches("\"agents:").count()
        };
        let before = rows().await;
        assert!(before >= 2, "the two hosts that enrolled");
        for _ in 0..50 {
            // After a few from one network it need not even be looked up.
            let code = Agent::enrol(&guess).await.err().unwrap().code();
            assert!(matches!(code, Code::PermissionDenied | Code::ResourceExhausted), "{code:?}");
        }
        assert_eq!(rows().await, before);

        // A stranger's time ends by itself.
        let first = seated.first_mut().unwrap();
        assert!(closes(first, Duration::from_secs(60)).await, "a stranger stays for ever");
        manager.stop().await;
    });
}

#[test]
fn a_flood_of_the_console_s_port_keeps_no_agent_out() {
    let world = World::new();
    world.run(async {
        let manager = world
            .start_with(|config| {
                config.api.connections = 64;
                config.api.head_seconds = 3_600;
            })
            .await;
        let token = world.token(&manager).await;
        let target = manager.api_addr.to_string();
        // From many addresses, all of whose connections stay and say nothing.
        let mut silent = Vec::new();
        for number in 0..512_u32 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(format!("127.0.{}.{}:0", 1 + number / 250, 2 + number % 250).parse().unwrap()).unwrap();
            silent.extend(socket.connect(target.parse().unwrap()).await);
        }
        let refused = &manager.shared.metrics.api_refused;
        let began = std::time::Instant::now();
        while refused.load(std::sync::atomic::Ordering::Relaxed) < 512 - 64 {
            assert!(began.elapsed() < Duration::from_secs(60), "they are not refused");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let agent = Agent::enrol(&token).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        stream.send(agent.batch("auth", 1, events(1))).await;
        stream.receipt().await;
        // And whoever stands at the machine gets in.
        assert_eq!(world.ask(&manager, "/api/v1/agents").await["items"].as_array().unwrap().len(), 1);
        manager.stop().await;
    });
}
