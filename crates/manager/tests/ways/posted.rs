//! Webhooks, and the worker behind them.

use hmac::{Hmac, Mac};
use sakimori_model::Timestamp;
use sakimori_respond::message::signature;
use sakimori_runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::world::{World, on};

const SETTINGS: &str = "
[[ingest.webhook]]
name = \"signed\"
secret = \"key\"
[[ingest.webhook]]
name = \"forge\"
proof = \"github\"
secret = \"key\"
[[ingest.webhook]]
name = \"alerts\"
proof = \"token\"
secret = \"key\"
sources = [\"prometheus/alertmanager\"]
";

fn alarm(name: &str) -> String {
    json!({"AlarmName": name, "NewStateValue": "ALARM", "StateChangeTime": "2026-11-24T10:00:00Z",
        "AlarmArn": "arn:aws:cloudwatch:ap-northeast-1:444455556666:alarm:x"})
    .to_string()
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or(""))
}

fn taken(answer: &(u16, Value)) -> (u16, u64, u64) {
    (answer.0, answer.1["events"].as_u64().unwrap_or(99), answer.1["repeated"].as_u64().unwrap_or(99))
}

pub fn webhook() {
    on(async {
        let mut world = World::start(SETTINGS).await;
        let body = alarm("one");
        let now = SystemClock.now();
        let sign = |at: Timestamp, body: &str| signature(b"k3y", at, body);
        let header = sign(now, &body);
        let shown = [("X-Sakimori-Signature", header.as_str())];
        assert_eq!(code(&world.post("signed", &shown, &body).await), (503, "server/not-ready"), "no secret yet");
        world.put_secret("key", "k3y\n").await;
        for (way, headers, body, wanted) in [
            ("nowhere", &shown[..], body.as_str(), (404, "ways/missing")),
            ("signed", &[], &body, (403, "ways/forged")),
            ("signed", &shown, "{}", (403, "ways/forged")),
            ("forge", &shown, &body, (403, "ways/forged")),
            ("alerts", &[("Authorization", "Bearer other")], &body, (403, "ways/forged")),
            ("signed", &[("X-Sakimori-Signature", &sign(now.plus_secs(-400), &body))], &body, (403, "ways/stale")),
        ] {
            assert_eq!(code(&world.post(way, headers, body).await), wanted, "{way} {headers:?}");
        }
        assert!(world.events("sakimori.way:*").await.is_empty(), "nothing was done of what was refused");
        let large = "x".repeat((1 << 20) + 1);
        assert_eq!(code(&world.post("signed", &shown, &large).await).0, 413);

        assert_eq!(taken(&world.post("signed", &shown, &body).await), (200, 1, 0));
        assert_eq!(code(&world.post("signed", &shown, &body).await), (409, "ways/replayed"));
        // Who sends the same again and signs it anew means it.
        let later = sign(now.plus_secs(1), &body);
        assert_eq!(taken(&world.post("signed", &[("X-Sakimori-Signature", &later)], &body).await), (200, 1, 0));

        let mut mac = Hmac::<Sha256>::new_from_slice(b"k3y").unwrap();
        mac.update(body.as_bytes());
        let github = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let shown = [("X-Hub-Signature-256", github.as_str())];
        assert_eq!(taken(&world.post("forge", &shown, &body).await), (200, 1, 0));
        assert_eq!(code(&world.post("forge", &shown, &body).await), (409, "ways/replayed"));
        // The memory of signatures ends with the process; that of occurrences does not.
        world.again().await;
        assert_eq!(taken(&world.post("forge", &shown, &body).await), (200, 0, 1));

        // A group of alerts as Alertmanager repeats it, with one more alert in it.
        let alert = |name: &str, print: &str| {
            json!({"status": "firing", "labels": {"alertname": name, "severity": "critical", "node": "shop-web-1"},
                "annotations": {}, "startsAt": "2026-11-24T09:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": print})
        };
        let group = |alerts: Value| {
            json!({"version": "4", "groupKey": "g", "receiver": "us", "status": "firing", "alerts": alerts}).to_string()
        };
        let token = [("Authorization", "Bearer k3y")];
        let first = group(json!([alert("Down", "a")]));
        assert_eq!(taken(&world.post("alerts", &token, &first).await), (200, 1, 0));
        let grown = group(json!([alert("Down", "a"), alert("Slow", "b")]));
        assert_eq!(taken(&world.post("alerts", &token, &grown).await), (200, 1, 1));
        let alerts = world.find("event.kind:alert AND rule.id:finding-high", 2).await;
        assert_eq!(alerts.len(), 2);
        assert_eq!(alerts[0]["host"]["name"], json!("shop-web-1"));
        // A way takes what its sources are; all else is a dead letter, and none of it is lost.
        assert_eq!(taken(&world.post("alerts", &token, &alarm("two")).await), (200, 1, 0));
        let dead = world.find("event.dataset:sakimori.dead_letter", 1).await;
        assert_eq!(dead[0]["sakimori"]["way"], json!("alerts"));
    });
}

pub fn begins_a_playbook() {
    on(async {
        let content = tempfile::tempdir().unwrap();
        let folder = content.path().join("playbooks");
        std::fs::create_dir(&folder).unwrap();
        let playbook = "id: asked\ntitle: { en: Asked }\ntrigger: { webhook: { way: signed } }\n\
                        when: event.event.dataset == \"aws.cloudwatch_alarm\"\nsteps:\n  - { action: notify, channel: nobody }\n";
        std::fs::write(folder.join("asked.yml"), playbook).unwrap();
        let settings = format!("content_dir = {:?}\n{SETTINGS}", content.path().display().to_string());
        let world = World::start(&settings).await;
        world.put_secret("key", "k3y").await;
        let now = SystemClock.now();
        let post = async |way: &str, body: &str, at: Timestamp| {
            let header = signature(b"k3y", at, body);
            world.post(way, &[("X-Sakimori-Signature", &header)], body).await.0
        };
        let body = alarm("one");
        assert_eq!(post("signed", &body, now).await, 200);
        let begun = async || world.get("/api/v1/executions?playbook=asked").await["items"].as_array().unwrap().len();
        let until = std::time::Instant::now();
        while begun().await == 0 {
            assert!(until.elapsed() < std::time::Duration::from_secs(60), "the request began nothing");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        // Forged or replayed, it begins nothing; by another way neither.
        assert_eq!(post("signed", &body, now).await, 409);
        assert_eq!(world.post("signed", &[], &alarm("two")).await.0, 403);
        let group =
            json!({"version": "4", "groupKey": "g", "receiver": "us", "status": "firing", "alerts": []}).to_string();
        world.post("alerts", &[("Authorization", "Bearer k3y")], &group).await;
        assert_eq!(begun().await, 1);
    });
}

/// A channel that leads back into the way whose playbook it tells of: the message is known for ours and begins nothing.
pub fn own_message() {
    on(async {
        let content = tempfile::tempdir().unwrap();
        let folder = content.path().join("playbooks");
        std::fs::create_dir(&folder).unwrap();
        let playbook = "id: asked\ntitle: { en: Asked }\ntrigger: { webhook: { way: signed } }\n\
                        steps:\n  - { action: notify, channel: itself }\n";
        std::fs::write(folder.join("asked.yml"), playbook).unwrap();
        // Between the two, since the manager's port is not known before: passes on what it gets, and what is answered.
        let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = format!(
            "content_dir = {:?}\n[[notify]]\nname = \"itself\"\nurl = \"http://{}/\"\nsecret = \"key\"\nburst_seconds = 0\n{SETTINGS}",
            content.path().display().to_string(),
            between.local_addr().unwrap()
        );
        let world = World::start(&settings).await;
        world.put_secret("key", "k3y").await;
        let body = alarm("one");
        let header = signature(b"k3y", SystemClock.now(), &body);
        assert_eq!(world.post("signed", &[("X-Sakimori-Signature", &header)], &body).await.0, 200);
        let (mut stream, _) = between.accept().await.unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        let (head, sent) = loop {
            let count = stream.read(&mut buffer).await.unwrap();
            bytes.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, sent)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap().trim().to_owned();
            if sent.len() >= length.parse::<usize>().unwrap() {
                break (head, sent.to_owned());
            }
        };
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        let (signed, message) = (value("x-sakimori-signature:"), value("x-sakimori-message:"));
        let shown = [("X-Sakimori-Signature", signed.as_str()), ("X-Sakimori-Message", message.as_str())];
        let answer = world.post("signed", &shown, &sent).await;
        assert_eq!(code(&answer), (409, "ways/own"));
        // Another's message by the same way is taken.
        let other = [("X-Sakimori-Signature", signed.as_str()), ("X-Sakimori-Message", "another-manager")];
        let answered = "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answered.as_bytes()).await.unwrap();
        let begun = async || world.get("/api/v1/executions?playbook=asked").await["items"].as_array().unwrap().len();
        assert_eq!(begun().await, 1, "it began nothing");
        assert_eq!(world.post("signed", &other, &sent).await.0, 200);
    });
}

/// Processes that this one started whose name begins so.
fn children(name: &str) -> Vec<i32> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<i32>().ok()) else { continue };
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
        if line.starts_with(name) && parent == Some(&own) {
            found.push(pid);
        }
    }
    found
}

pub fn worker_dies() {
    on(async {
        let world = World::start(SETTINGS).await;
        world.put_secret("key", "k3y").await;
        let now = SystemClock.now();
        let post = async |body: String| {
            let header = signature(b"k3y", now, &body);
            taken(&world.post("signed", &[("X-Sakimori-Signature", &header)], &body).await)
        };
        assert_eq!(post(alarm("one")).await, (200, 1, 0));
        let workers = children("sakimori-worker-ingest");
        assert_eq!(workers.len(), 1, "only the way that is used has one");
        let pid = rustix::process::Pid::from_raw(workers[0]).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // What is asked of a worker that is dying is asked again of the next one, or is a dead letter: never nothing.
        assert_eq!(post(alarm("two")).await, (200, 1, 0));
        assert_eq!(post(alarm("three")).await, (200, 1, 0));
        let found = world.find("sakimori.way:signed", 3).await;
        assert_eq!(found.len(), 3);
        assert!(found.iter().filter(|event| event["event"]["dataset"] == json!("aws.cloudwatch_alarm")).count() >= 2);
        assert_ne!(children("sakimori-worker-ingest"), workers);
    });
}
