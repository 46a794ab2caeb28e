//! A topic that is subscribed over HTTP, whose Amazon is played by a strict listener: it serves one certificate and takes one
//! confirmation. Keys and signatures are OpenSSL's.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sakimori_detect::sns::Envelope;
use sakimori_runtime::{Clock, SystemClock};
use sakimori_sys::harness;
use serde_json::{Value, json};

use super::world::{World, on};

const TOPIC: &str = "arn:aws:sns:ap-northeast-1:444455556666:findings";

/// Where the service keeps its certificate, as it names them.
const CERTIFICATE: &str = "/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";

/// Serves the certificate at [`CERTIFICATE`], and notes what else is asked.
fn amazon(certificate: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            let _ = reader.read_line(&mut first);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|size| size > 2) {
                line.clear();
            }
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            notes.lock().unwrap().push(path.clone());
            let (status, body) = match path.as_str() {
                CERTIFICATE => ("200 OK", certificate.clone()),
                path if path.starts_with("/?Action=ConfirmSubscription&") => ("200 OK", b"<Confirmed/>".to_vec()),
                _ => ("400 Bad Request", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    (origin, asked)
}

fn openssl(arguments: &[&str], input: &str) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{arguments:?}");
    out.stdout
}

fn key(dir: &Path, name: &str) -> (String, Vec<u8>) {
    let (key, certificate) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pem")));
    let (key, certificate) = (key.to_str().unwrap().to_owned(), certificate.to_str().unwrap().to_owned());
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=sns.test"];
    openssl(&[&new[..], &["-keyout", &key, "-out", &certificate]].concat(), "");
    let bytes = std::fs::read(certificate).unwrap();
    (key, bytes)
}

/// Signs an envelope, as SNS does.
fn signed(mut envelope: Value, key: &str, version: &str) -> String {
    envelope["SignatureVersion"] = json!(version);
    let text = Envelope::parse(envelope.to_string().as_bytes()).unwrap().signed_text();
    let digest = if version == "1" { "-sha1" } else { "-sha256" };
    envelope["Signature"] = json!(STANDARD.encode(openssl(&["dgst", digest, "-sign", key], &text)));
    envelope.to_string()
}

fn outcome(answer: &(u16, Value)) -> (u16, String) {
    let code = answer.1["code"].as_str().map(str::to_owned);
    (answer.0, code.unwrap_or_else(|| format!("{}+{}", answer.1["events"], answer.1["repeated"])))
}

fn envelope(origin: &str, kind: &str, id: &str) -> Value {
    let message = json!({"AlarmName": id, "NewStateValue": "ALARM", "StateChangeTime": "2026-11-24T10:00:00Z"});
    json!({"Type": kind, "MessageId": id, "TopicArn": TOPIC, "Message": message.to_string(),
        "Timestamp": SystemClock.now().to_string(), "SigningCertURL": format!("{origin}{CERTIFICATE}")})
}

async fn post(world: &World, body: &str) -> (u16, String) {
    outcome(&world.post("topic", &[], body).await)
}

pub fn believed() {
    let there = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !harness::needs(there, "openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (ours, certificate) = key(dir.path(), "ours");
    let (theirs, _) = key(dir.path(), "theirs");
    let (origin, asked) = amazon(certificate);
    let settings = format!("[[ingest.sns]]\nname = \"topic\"\ntopics = [\"{TOPIC}\"]\nendpoint = \"{origin}\"\n");
    on(async {
        let world = World::start(&settings).await;
        let one = envelope(&origin, "Notification", "m-1");
        for version in ["1", "2"] {
            let body = signed(envelope(&origin, "Notification", &format!("v{version}")), &ours, version);
            assert_eq!(post(&world, &body).await, (200, "1+0".into()), "version {version}");
            assert_eq!(post(&world, &body).await, (200, "0+1".into()), "posted again, it is here");
        }
        let change = |name: &str, value: Value| {
            let mut changed = one.clone();
            changed[name] = value;
            changed
        };
        let whole = signed(one.clone(), &ours, "2");
        let mut broken: Value = serde_json::from_str(&whole).unwrap();
        broken["Message"] = json!("{}");
        let old = SystemClock.now().plus_secs(-90_000).to_string();
        let other = "arn:aws:sns:ap-northeast-1:444455556666:other";
        for (body, wanted) in [
            (signed(one.clone(), &theirs, "2"), (403, "ways/forged")),
            (broken.to_string(), (403, "ways/forged")),
            (
                signed(change("SigningCertURL", json!(format!("http://127.0.0.1:1{CERTIFICATE}"))), &ours, "2"),
                (403, "ways/forged"),
            ),
            (signed(one.clone(), &ours, "3"), (403, "ways/forged")),
            (signed(change("TopicArn", json!(other)), &ours, "2"), (403, "ways/topic")),
            (signed(change("Timestamp", json!(old)), &ours, "2"), (403, "ways/stale")),
            ("{}".into(), (422, "ways/unreadable")),
            ("no json".into(), (422, "ways/unreadable")),
        ] {
            assert_eq!(post(&world, &body).await, (wanted.0, wanted.1.to_owned()), "{body}");
        }
        assert_eq!(world.find("event.dataset:aws.cloudwatch_alarm", 2).await.len(), 2, "nothing of what was refused");

        // A subscription: only of our topic, and never the address that the message names.
        let mut hello = envelope(&origin, "SubscriptionConfirmation", "s-1");
        (hello["Token"], hello["SubscribeURL"]) = (json!("t0k/n"), json!("http://127.0.0.1:1/evil"));
        let before = asked.lock().unwrap().len();
        let mut foreign = hello.clone();
        foreign["TopicArn"] = json!(other);
        assert_eq!(post(&world, &signed(foreign, &ours, "1")).await.0, 403);
        assert_eq!(asked.lock().unwrap().len(), before);
        assert_eq!(post(&world, &signed(hello, &ours, "1")).await.0, 200);
        let all = asked.lock().unwrap().clone();
        assert_eq!(all.iter().filter(|path| *path == CERTIFICATE).count(), 1, "it is kept: {all:?}");
        let topic = "arn%3Aaws%3Asns%3Aap-northeast-1%3A444455556666%3Afindings";
        assert_eq!(all.last().unwrap(), &format!("/?Action=ConfirmSubscription&TopicArn={topic}&Token=t0k%2Fn"));

        let mut end = envelope(&origin, "UnsubscribeConfirmation", "u-1");
        (end["Token"], end["SubscribeURL"]) = (json!("t"), json!("http://x/"));
        assert_eq!(post(&world, &signed(end, &ours, "1")).await.0, 200);
        let told = world.find("rule.id:way-unsubscribed", 1).await;
        assert!(told[0]["message"].as_str().unwrap().contains(TOPIC), "{told:?}");
    });
}
