//! What the engine writes as EVE JSON of small conversations of our own: the fields by which tools that read
//! Suricata's output know what they have.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use sakimori_network::{Engine, LoadOptions, RuleSet, Settings, capture::Frame, eve};
use serde_json::{Value, json};

const CLIENT: [u8; 4] = [203, 0, 113, 7];
const SERVER: [u8; 4] = [192, 0, 2, 80];

/// An engine and what it wrote.
struct Replay {
    engine: Engine,
    time: i64,
    written: Vec<Value>,
}

impl Replay {
    fn new(settings: Settings, rules: &str) -> Self {
        let rules = RuleSet::load(&[("test.rules", rules)], &LoadOptions::default(), &|_| None);
        assert!(rules.refused.is_empty(), "{:?}", rules.refused);
        let mut engine = Engine::new(settings, Arc::new(rules));
        engine.record();
        // 2026-01-02T03:04:05 UTC.
        Self { engine, time: 1_767_323_045_000_000, written: Vec::new() }
    }

    fn packet(&mut self, up: bool, ports: (u16, u16), proto: u8, transport: &[u8], payload: &[u8]) {
        let (src, dst, ports) = if up { (CLIENT, SERVER, ports) } else { (SERVER, CLIENT, (ports.1, ports.0)) };
        let length = u16::try_from(24 + transport.len() + payload.len()).unwrap();
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 1, 0x40, 0, 64, proto, 0, 0]);
        bytes.extend([src, dst].concat());
        bytes.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
        bytes.extend(transport);
        bytes.extend(payload);
        self.time += 1_000;
        let mut alerts = Vec::new();
        let frame = Frame { time: self.time, link: 101, data: &bytes, cut: false, vouched: true };
        self.engine.frame(&frame, 1, &mut alerts);
        for alert in alerts {
            self.written.push(eve::alert(&Value::Object(alert.event().to_json())).unwrap());
        }
        self.written.extend(self.engine.take_records().0);
    }

    fn datagram(&mut self, up: bool, ports: (u16, u16), payload: &[u8]) {
        let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
        self.packet(up, ports, 17, &[length[0], length[1], 0, 0], payload);
    }

    /// A connection on which one says this, then the other that, and both end.
    fn talk(&mut self, ports: (u16, u16), asked: &[u8], answered: &[u8]) {
        let (mut sent, mut came) = (1_u32, 1_u32);
        let segment = |seq: u32, ack: u32, flags: u8| {
            [&seq.to_be_bytes()[..], &ack.to_be_bytes(), &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]].concat()
        };
        self.packet(true, ports, 6, &segment(0, 0, 2), b"");
        self.packet(false, ports, 6, &segment(0, 1, 18), b"");
        self.packet(true, ports, 6, &segment(1, 1, 16), b"");
        self.packet(true, ports, 6, &segment(sent, came, 24), asked);
        sent += u32::try_from(asked.len()).unwrap();
        self.packet(false, ports, 6, &segment(came, sent, 24), answered);
        came += u32::try_from(answered.len()).unwrap();
        self.packet(true, ports, 6, &segment(sent, came, 17), b"");
        self.packet(false, ports, 6, &segment(came, sent + 1, 17), b"");
        self.packet(true, ports, 6, &segment(sent + 1, came + 1, 16), b"");
    }

    fn end(mut self) -> Vec<Value> {
        self.engine.finish(&mut Vec::new());
        self.written.extend(self.engine.take_records().0);
        self.written
    }
}

fn of<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|one| one["event_type"] == kind).collect()
}

/// All of these fields, by pointer, have these values.
fn has(record: &Value, fields: &[(&str, Value)]) {
    for (path, wanted) in fields {
        assert_eq!(record.pointer(path), Some(wanted), "{path} of {record}");
    }
}

#[test]
fn a_request_is_an_alert_a_transaction_a_file_and_a_flow() {
    let rules = "alert http any any -> any any (msg:\"Admin\"; http.uri; content:\"/admin\"; classtype:attempted-admin; \
                 sid:7; rev:3; gid:9;)";
    let mut replay = Replay::new(Settings::default(), rules);
    let asked =
        "GET /admin?a=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: probe/1\r\nReferer: http://a.example/\r\n\r\n";
    let answered = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    replay.talk((40_000, 80), asked.as_bytes(), answered.as_bytes());
    let all = replay.end();
    let [alert] = of(&all, "alert")[..] else { panic!("{all:?}") };
    has(
        alert,
        &[
            ("/src_ip", json!("203.0.113.7")),
            ("/src_port", json!(40_000)),
            ("/dest_ip", json!("192.0.2.80")),
            ("/dest_port", json!(80)),
            ("/proto", json!("TCP")),
            ("/app_proto", json!("http")),
            ("/direction", json!("to_server")),
            ("/alert/action", json!("allowed")),
            ("/alert/gid", json!(9)),
            ("/alert/signature_id", json!(7)),
            ("/alert/rev", json!(3)),
            ("/alert/signature", json!("Admin")),
            ("/alert/severity", json!(3)),
            ("/http/hostname", json!("shop.example")),
            ("/http/url", json!("/admin?a=1")),
            ("/http/http_method", json!("GET")),
            ("/http/http_user_agent", json!("probe/1")),
        ],
    );
    assert!(alert["timestamp"].as_str().unwrap().starts_with("2026-01-02T03:04:05.0"), "{alert}");
    assert!(alert["timestamp"].as_str().unwrap().ends_with("+0000"));
    // Watching, a parser gets its bytes with their acknowledgement, which carries none itself.
    assert!(alert["payload_printable"].as_str().unwrap().starts_with("GET /admin"), "{alert}");
    let [http] = of(&all, "http")[..] else { panic!("{all:?}") };
    has(
        http,
        &[
            ("/src_ip", json!("203.0.113.7")),
            ("/tx_id", json!(0)),
            ("/http/hostname", json!("shop.example")),
            ("/http/url", json!("/admin?a=1")),
            ("/http/http_refer", json!("http://a.example/")),
            ("/http/http_content_type", json!("text/plain")),
            ("/http/protocol", json!("HTTP/1.1")),
            ("/http/status", json!(200)),
            ("/http/length", json!(5)),
        ],
    );
    assert_eq!(http["flow_id"], alert["flow_id"]);
    let [file] = of(&all, "fileinfo")[..] else { panic!("{all:?}") };
    has(
        file,
        &[
            ("/src_ip", json!("192.0.2.80")),
            ("/dest_ip", json!("203.0.113.7")),
            ("/fileinfo/size", json!(5)),
            ("/fileinfo/state", json!("CLOSED")),
            ("/fileinfo/md5", json!("5d41402abc4b2a76b9719d911017c592")),
            ("/fileinfo/stored", json!(false)),
            ("/http/url", json!("/admin?a=1")),
        ],
    );
    let [flow] = of(&all, "flow")[..] else { panic!("{all:?}") };
    has(
        flow,
        &[
            ("/flow/pkts_toserver", json!(5)),
            ("/flow/pkts_toclient", json!(3)),
            ("/flow/state", json!("closed")),
            ("/flow_id", alert["flow_id"].clone()),
        ],
    );
}

#[test]
fn what_was_stopped_says_so() {
    let mut settings = Settings::default();
    settings.prevent();
    let mut replay = Replay::new(settings, "drop http any any -> any any (http.uri; content:\"/admin\"; sid:7;)");
    replay.talk((40_000, 80), b"GET /admin HTTP/1.1\r\n\r\n", b"");
    let all = replay.end();
    let [alert] = of(&all, "alert")[..] else { panic!("{all:?}") };
    has(alert, &[("/alert/action", json!("blocked")), ("/alert/gid", json!(1)), ("/alert/rev", json!(0))]);
}

#[test]
fn a_name_asked_for_is_a_question_and_an_answer() {
    let name = b"\x03www\x07example\x00";
    let question = [&b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"[..], name, b"\x00\x1c\x00\x01"].concat();
    let answer = [
        &b"\x12\x34\x81\x83\x00\x01\x00\x01\x00\x00\x00\x00"[..],
        name,
        b"\x00\x1c\x00\x01\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c",
    ]
    .concat();
    let mut replay = Replay::new(Settings::default(), "");
    replay.datagram(true, (5_353, 53), &question);
    replay.datagram(false, (5_353, 53), &answer);
    let all = replay.end();
    let [asked, told] = of(&all, "dns")[..] else { panic!("{all:?}") };
    has(
        asked,
        &[
            ("/proto", json!("UDP")),
            ("/dest_port", json!(53)),
            ("/dns/type", json!("query")),
            ("/dns/rrname", json!("www.example")),
            ("/dns/rrtype", json!("AAAA")),
        ],
    );
    has(
        told,
        &[
            ("/src_port", json!(53)),
            ("/dns/type", json!("answer")),
            ("/dns/version", json!(2)),
            ("/dns/rcode", json!("NXDOMAIN")),
            ("/dns/answers/0/rrname", json!("www.example")),
            ("/dns/answers/0/rrtype", json!("CNAME")),
        ],
    );
    assert_eq!(of(&all, "flow").len(), 1);
}

#[test]
fn a_handshake_names_the_server_and_the_version() {
    let sni = [&b"\x00\x00\x00\x11\x00\x0f\x00\x00\x0c"[..], b"shop.example"].concat();
    let body = [
        &b"\x03\x03"[..],
        &[7; 32],
        b"\x00\x00\x02\x13\x01\x01\x00",
        &u16::try_from(sni.len()).unwrap().to_be_bytes(),
        &sni,
    ]
    .concat();
    let message = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let record = [&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()][..], &message].concat();
    let mut replay = Replay::new(Settings::default(), "");
    replay.talk((40_000, 443), &record, b"");
    let all = replay.end();
    let [tls] = of(&all, "tls")[..] else { panic!("{all:?}") };
    has(tls, &[("/app_proto", json!("tls")), ("/tls/sni", json!("shop.example")), ("/tls/version", json!("TLS 1.2"))]);
    assert!(tls["tls"]["ja3"]["hash"].as_str().is_some_and(|hash| hash.len() == 32), "{tls}");
}

#[test]
fn where_nobody_asked_nothing_is_kept() {
    let rules = RuleSet::load(&[], &LoadOptions::default(), &|_| None);
    let mut engine = Engine::new(Settings::default(), Arc::new(rules));
    engine.finish(&mut Vec::new());
    assert_eq!(engine.take_records(), (Vec::new(), 0));
}
