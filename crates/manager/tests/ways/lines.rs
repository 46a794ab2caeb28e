//! Syslog: datagrams, both framings, TLS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use super::world::{PATIENCE, World, on};

const SETTINGS: &str = "
[[ingest.syslog]]
name = \"datagrams\"
listen = \"127.0.0.1:0\"
transport = \"udp\"
lines_per_second = 50
sources = [\"trendmicro/apex_one\"]
[[ingest.syslog]]
name = \"streams\"
listen = \"127.0.0.1:0\"
transport = \"tcp\"
[[ingest.syslog]]
name = \"sealed\"
listen = \"127.0.0.1:0\"
transport = \"tls\"
[[ingest.syslog]]
name = \"closed\"
listen = \"127.0.0.1:0\"
transport = \"udp\"
senders = [\"192.0.2.0/24\"]
";

fn cef(n: usize) -> String {
    format!(
        "<13>Nov 24 10:00:00 central CEF:0|Trend Micro|Apex Central|2019|AV:Unable to clean file|Eicar|3|deviceExternalId={n} dhost=DESKTOP-07 duser=aiko act=Unable to clean file"
    )
}

async fn address(world: &World, way: &str) -> std::net::SocketAddr {
    let until = Instant::now() + PATIENCE;
    loop {
        let bound = world.running().shared.syslog_addresses.lock().unwrap().get(way).copied();
        if let Some(bound) = bound {
            return bound;
        }
        assert!(Instant::now() < until, "{way} does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What of a way is stored, and what is counted as lost, by cause.
async fn books(world: &World, way: &str) -> (u64, u64, Vec<String>) {
    let balance = world.get("/api/v1/events/balance").await;
    let rows = balance["items"].as_array().unwrap().clone();
    let Some(row) = rows.iter().find(|row| row["origin"] == json!(format!("way:{way}"))) else {
        return (0, 0, Vec::new());
    };
    let lost = row["lost"].as_array().cloned().unwrap_or_default();
    let causes = lost.iter().map(|loss| loss["cause"].as_str().unwrap().to_owned()).collect();
    let count = |loss: &Value| loss["count"].as_u64().unwrap();
    (row["stored"].as_u64().unwrap(), lost.iter().map(count).sum(), causes)
}

pub fn datagrams() {
    on(async {
        let world = World::start(SETTINGS).await;
        let to = address(&world, "datagrams").await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let sent = 400;
        for n in 0..sent {
            socket.send_to(cef(n).as_bytes(), to).await.unwrap();
        }
        let until = Instant::now() + PATIENCE;
        let (stored, lost, causes) = loop {
            let books = books(&world, "datagrams").await;
            if books.0 + books.1 >= sent as u64 {
                break books;
            }
            assert!(Instant::now() < until, "{books:?} of {sent}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(stored + lost, sent as u64, "stored and counted is sent");
        assert!(stored >= 50 && lost > 0 && causes.iter().all(|cause| cause == "pace"), "{stored} {lost} {causes:?}");
        let found = world.find("event.dataset:trendmicro.apex_one", 50).await;
        assert_eq!(found[0]["observer"]["ip"], json!("127.0.0.1"));
        assert_eq!(
            (&found[0]["host"]["name"], &found[0]["sakimori"]["finding"]["result"]),
            (&json!("DESKTOP-07"), &json!("clean_failed"))
        );
        world.find("event.kind:alert AND rule.id:finding-malware-stays", 50).await;

        // A datagram with a line feed in it is one message, of one who may not send none.
        let forged = format!("<13>Nov 24 10:00:00 central something\n{}", cef(9_999));
        let closed = address(&world, "closed").await;
        socket.send_to(forged.as_bytes(), closed).await.unwrap();
        let until = Instant::now() + PATIENCE;
        while books(&world, "closed").await != (0, 1, vec!["sender".to_owned()]) {
            assert!(Instant::now() < until, "{:?}", books(&world, "closed").await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let before = world.events("event.dataset:trendmicro.apex_one").await.len();
        tokio::time::sleep(Duration::from_secs(1)).await;
        socket.send_to(forged.as_bytes(), to).await.unwrap();
        let one = world.find("sakimori.way:datagrams AND event.original:*something*", 1).await;
        assert_eq!(one.len(), 1);
        assert!(world.events("event.dataset:trendmicro.apex_one").await.len() <= before + 1);
    });
}

pub fn streams() {
    on(async {
        let world = World::start(SETTINGS).await;
        let mut plain = TcpStream::connect(address(&world, "streams").await).await.unwrap();
        let (one, two, three) = (cef(1), cef(2), cef(3));
        let stream = format!("{one}\n{} {two}{three}", two.len());
        // In pieces, and ended without a line feed.
        for piece in stream.as_bytes().chunks(37) {
            plain.write_all(piece).await.unwrap();
            plain.flush().await.unwrap();
        }
        plain.shutdown().await.unwrap();
        let found = world.find("sakimori.way:streams", 3).await;
        let ids = |found: &[Value]| {
            let mut ids: Vec<String> =
                found.iter().map(|one| one["sakimori"]["finding"]["id"].as_str().unwrap_or("?").to_owned()).collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&found), ["1", "2", "3"]);

        let mut roots = rustls::RootCertStore::empty();
        let authority = world.running().shared.authority.ca_pem().as_bytes().to_vec();
        roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tcp = TcpStream::connect(address(&world, "sealed").await).await.unwrap();
        let mut sealed = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await.unwrap();
        sealed.write_all(format!("{} {}", cef(4).len(), cef(4)).as_bytes()).await.unwrap();
        sealed.shutdown().await.unwrap();
        assert_eq!(ids(&world.find("sakimori.way:sealed", 1).await), ["4"]);
        // In the clear nothing comes in there.
        let mut clear = TcpStream::connect(address(&world, "sealed").await).await.unwrap();
        clear.write_all(format!("{}\n", cef(5)).as_bytes()).await.unwrap();
        let _ = clear.shutdown().await;
        tokio::time::timeout(PATIENCE, tokio::io::copy(&mut clear, &mut tokio::io::sink())).await.unwrap().ok();
        assert_eq!(world.events("sakimori.way:sealed").await.len(), 1);
    });
}
