//! The network engine: rules and settings, captures, and the parser of each protocol.

use std::sync::Arc;

use sakimori_network::capture::Capture;
use sakimori_network::{AppProto, Engine, LoadOptions, Prepared, RuleSet, Settings, exercise};

const RULES: &str = r#"
alert ip any any -> any any (content:"a"; byte_jump:1,0,relative; content:"b"; distance:0; sid:1;)
alert http any any -> any any (http.uri; content:"a"; pcre:"/(?<=a)b/"; file_data; content:"x"; sid:2;)
drop dns any any -> any any (dns.query; content:"a"; sid:3;)
alert tcp any any -> any any (base64_decode:bytes 30, offset 2; base64_data; content:"c"; sid:4;)
alert http any any -> any any (http.user_agent; to_lowercase; url_decode; content:"a"; sid:5;)
alert tcp any any -> any any (flags:S; threshold:type both, track by_src, count 2, seconds 5; sid:6;)
"#;

/// A rule file: what can be read loads and the rest is listed, and what loads judges a packet.
pub fn rules(bytes: &[u8]) {
    let Some(text) = super::text(bytes) else { return };
    let set = RuleSet::load(&[("fuzz", text)], &LoadOptions::default(), &|_| None);
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(set.len() + set.refused.len() <= lines, "a line is one rule at the most");
    if !set.is_empty() {
        judge(&Arc::new(set), SMALL);
    }
}

/// A configuration in the form of suricata.yaml.
pub fn settings(bytes: &[u8]) {
    let Some(text) = super::text(bytes) else { return };
    let _ = Settings::default().apply_yaml(text, &[]);
}

/// A capture file: frames until its end or its damage.
pub fn capture(bytes: &[u8]) {
    let Ok(mut capture) = Capture::open(bytes) else { return };
    let mut damage = 0;
    while let Some(frame) = capture.next() {
        match frame {
            Ok(frame) => assert!(frame.data.len() <= bytes.len()),
            Err(_) => damage += 1,
        }
    }
    assert!(damage <= 1, "damage is the last that is told");
}

/// A capture file through the whole engine: decoding, fragments, streams, protocols, rules.
pub fn frames(bytes: &[u8]) {
    thread_local! {
        static SET: Arc<RuleSet> = Arc::new(RuleSet::load(&[("fuzz", RULES)], &LoadOptions::default(), &|_| None));
    }
    SET.with(|set| judge(set, bytes));
}

/// The same as an engine that stands between, with room for little: flows and fragments are pushed out all the time,
/// segments are dropped, rules are changed. What it keeps stays within its limit.
pub fn inline(bytes: &[u8]) {
    const LIMIT: usize = 64 << 10;
    thread_local! {
        static SET: Arc<RuleSet> = Arc::new(RuleSet::load(&[("fuzz", RULES)], &LoadOptions::default(), &|_| None));
    }
    let Ok(mut capture) = Capture::open(bytes) else { return };
    let mut settings = Settings::inline();
    settings.stream.checksums = false;
    settings.stream.bulk = Some(1 << 10);
    (settings.flow.most, settings.flow.memory) = (6, LIMIT);
    (settings.defrag.trackers, settings.defrag.memory) = (2, 4 << 10);
    let rules = SET.with(Arc::clone);
    let mut engine = Engine::new(settings.clone(), Arc::clone(&rules));
    let mut alerts = Vec::new();
    let (mut now, mut number) = (i64::MIN, 0);
    while let Some(Ok(frame)) = capture.next() {
        number += 1;
        engine.frame(&frame, number, &mut alerts);
        // A flow that speaks at this very moment stays, however much it keeps.
        if frame.time > now {
            let one = bytes.len() as u64 * 16 + (1 << 20);
            assert!(engine.counters().kept <= LIMIT as u64 + one, "{}", engine.counters().kept);
        }
        now = frame.time;
        if number % 16 == 0 {
            engine.change_rules(Prepared::new(Arc::clone(&rules), &settings));
        }
    }
    engine.finish(&mut alerts);
    assert_eq!(engine.counters().kept, 0, "flows that are gone keep nothing");
}

/// threshold.config and classification.config, and a rule that they are about.
pub fn thresholds(bytes: &[u8]) {
    let Some(text) = super::text(bytes) else { return };
    let options =
        LoadOptions { thresholds: text.to_owned(), classification: text.to_owned(), ..LoadOptions::default() };
    let set = RuleSet::load(&[("fuzz", RULES)], &options, &|_| None);
    judge(&Arc::new(set), SMALL);
}

fn judge(rules: &Arc<RuleSet>, file: &[u8]) {
    let Ok(mut capture) = Capture::open(file) else { return };
    let mut settings = Settings::default();
    settings.stream.midstream = true;
    settings.stream.checksums = false;
    let mut engine = Engine::new(settings, Arc::clone(rules));
    let mut alerts = Vec::new();
    let mut number = 0;
    while let Some(Ok(frame)) = capture.next() {
        number += 1;
        engine.frame(&frame, number, &mut alerts);
    }
    engine.finish(&mut alerts);
    for alert in &alerts {
        let _ = alert.event();
    }
}

/// One frame: a TCP segment with a request, of raw IPv4.
const SMALL: &[u8] =
    b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x65\x00\x00\x00\
    \x01\x00\x00\x00\x00\x00\x00\x00\x3b\x00\x00\x00\x3b\x00\x00\x00\
    \x45\x00\x00\x3b\x00\x01\x00\x00\x40\x06\x00\x00\xc0\x00\x02\x01\xc6\x33\x64\x01\
    \x9c\x40\x00\x50\x00\x00\x00\x01\x00\x00\x00\x01\x50\x18\xff\xff\x00\x00\x00\x00GET /ab HTTP/1.1\r\n\r";

/// Requests and answers of HTTP/1, their bodies, codings and parts.
pub fn http1(bytes: &[u8]) {
    exercise(AppProto::Http1, bytes);
}

/// Frames of HTTP/2, and their packed headers.
pub fn http2(bytes: &[u8]) {
    exercise(AppProto::Http2, bytes);
}

/// Questions and answers of DNS.
pub fn dns(bytes: &[u8]) {
    exercise(AppProto::Dns, bytes);
}

/// Records and handshakes of TLS.
pub fn tls(bytes: &[u8]) {
    exercise(AppProto::Tls, bytes);
}

/// Banners and key exchanges of SSH.
pub fn ssh(bytes: &[u8]) {
    exercise(AppProto::Ssh, bytes);
}

/// Mail, with its parts in MIME.
pub fn smtp(bytes: &[u8]) {
    exercise(AppProto::Smtp, bytes);
}

/// Commands of FTP, and what is sent on its second connection.
pub fn ftp(bytes: &[u8]) {
    exercise(AppProto::Ftp, bytes);
    exercise(AppProto::FtpData, bytes);
}
