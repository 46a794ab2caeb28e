//! Lines through log sources, heads of lines, Sigma files, VRL programs, kept windows.

use std::cell::RefCell;
use std::collections::BTreeMap;

use sakimori_detect::arrival::{self, Opener};
use sakimori_detect::sns::Envelope;
use sakimori_detect::syslog::{self, Zone};
use sakimori_detect::syslog_frames::{self, Frames};
use sakimori_detect::{Detector, LineContext, LogSource, Normaliser, Options, Tz, forwarded};
use sakimori_model::id::EventId;
use sakimori_model::{Event, Network, field};

use super::{now, text};

/// Longest program and rule file that is tried: a long one takes long to compile and shows nothing new.
const MAX_PROGRAM: usize = 4_096;

thread_local! {
    static AUTH: RefCell<Normaliser> = RefCell::new(builtin("logs/linux/auth"));
    static NGINX: RefCell<Normaliser> = RefCell::new(builtin("logs/nginx/access"));
    static OPENER: RefCell<Opener> = RefCell::new(Opener::load(&sakimori_content::builtin(), &[]).0);
    static DETECTOR: RefCell<Detector> = RefCell::new(correlating());
}

fn builtin(folder: &str) -> Normaliser {
    let source = LogSource::load(folder, &sakimori_content::builtin()).expect("the content has it");
    Normaliser::new(&source).expect("its program compiles")
}

fn correlating() -> Detector {
    Detector::from_files(&sakimori_content::builtin(), Options::default()).0
}

/// Whatever a line holds, it becomes an event.
fn line(normaliser: &mut Normaliser, line: &[u8]) -> Event {
    let event = normaliser.parse(line, &LineContext::at(now()));
    assert!(event.timestamp().is_some(), "every event has a time");
    assert_eq!(Event::from_json(event.to_json()).1, 0, "and no key twice");
    event
}

/// A line through the log source of sshd, sudo, su and useradd.
pub fn auth_line(bytes: &[u8]) {
    let event = AUTH.with_borrow_mut(|normaliser| line(normaliser, bytes));
    assert!(event.get(field::EVENT_KIND).is_some(), "and a kind");
}

/// A line through the log source of nginx access logs.
pub fn nginx_line(bytes: &[u8]) {
    let event = NGINX.with_borrow_mut(|normaliser| line(normaliser, bytes));
    assert!(event.get(field::EVENT_KIND).is_some(), "and a kind");
}

/// A message that came by a way in: whatever it holds becomes events, each with the name of its occurrence, and not more than
/// a message may become.
pub fn arrival(bytes: &[u8]) {
    let mut events = Vec::new();
    OPENER.with_borrow_mut(|opener| opener.events(bytes, "m", &LineContext::at(now()), &mut events));
    assert!(events.len() <= arrival::MAX_RECORDS + 1);
    for event in events {
        assert!(event.timestamp().is_some() && event.get(field::EVENT_KIND).is_some());
        assert!(event.str(field::SAKIMORI_OCCURRENCE).is_some_and(|name| name.len() == 32));
        assert_eq!(event.get(field::SAKIMORI_ALERT_ID), None);
        assert_eq!(Event::from_json(event.to_json()).1, 0, "no key twice");
    }
}

/// An envelope of SNS: what is read is what its signature covers.
pub fn sns_envelope(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::parse(bytes) {
        let text = envelope.signed_text();
        assert!(text.contains(&envelope.message) && text.contains(&envelope.topic_arn));
        let again = serde_json::to_vec(&envelope).expect("it can be written");
        assert_eq!(Envelope::parse(&again), Ok(envelope));
    }
}

/// Messages of syslog out of a stream, in one piece and in many: the same, and bounded.
pub fn syslog_stream(bytes: &[u8]) {
    let all = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut frames, mut out) = (Frames::default(), Vec::new());
        for piece in pieces {
            frames.feed(piece, |message| out.push(message.to_vec()));
        }
        frames.finish(|message| out.push(message.to_vec()));
        (out, frames.cut())
    };
    let whole = all(&mut std::iter::once(bytes));
    assert_eq!(whole, all(&mut bytes.chunks(3)));
    for message in &whole.0 {
        assert!(!message.is_empty() && message.len() <= syslog_frames::MAX_MESSAGE);
        assert!(!syslog_frames::one_line(message).contains(&b'\n'));
    }
}

/// The head of a syslog line, in all its forms.
pub fn syslog_head(bytes: &[u8]) {
    let Some(line) = text(bytes) else { return };
    let head = syslog::parse(line, now(), &mut Zone::new(Tz::Asia__Tokyo));
    assert!(head.message.len() <= line.len());
    assert!(head.priority.is_none_or(|priority| priority <= 191));
    let _ = syslog::program(line);
}

/// A forwarded header behind trusted proxies: only what a trusted proxy wrote is believed.
pub fn forwarded(bytes: &[u8]) {
    let Some(header) = text(bytes) else { return };
    let trusted: Vec<Network> = ["192.0.2.0/24", "2001:db8::/32"].map(|text| text.parse().expect("a network")).into();
    let stranger = "203.0.113.9".parse().expect("an address");
    let behind = forwarded::client_behind(stranger, header, &trusted);
    assert_eq!((behind.client, behind.proxy), (stranger, None), "a stranger's header is not believed");
    let proxy = "192.0.2.1".parse().expect("an address");
    let behind = forwarded::client_behind(proxy, header, &trusted);
    assert_eq!(behind.proxy, Some(proxy));
}

/// A Sigma file: rules are loaded or reported with their line, and judge an event.
pub fn rule_load(bytes: &[u8]) {
    let Some(text) = text(bytes).filter(|text| text.len() <= MAX_PROGRAM) else { return };
    let (mut detector, errors) = Detector::load(&[("sigma/fuzz.yml", text)], Options::default());
    for error in errors {
        assert!(!error.to_string().is_empty());
    }
    let mut event = Event::new();
    event.set(field::EVENT_KIND, "event");
    event.set(field::EVENT_DATASET, "linux.auth");
    event.set(field::MESSAGE, "Failed password for root from 203.0.113.7 port 22 ssh2");
    event.set(field::USER_NAME, "root");
    let mut out = Vec::new();
    for index in 0..3 {
        let id = EventId { batch: "fuzz".into(), index };
        detector.feed(&event, &id, now(), "default", &mut out);
    }
    let kept = detector.snapshot();
    detector.restore(&kept).expect("what was kept can be taken back");
}

/// A log source: its description, a line of three dashes, and its program in VRL; or a program alone. It loads or is
/// refused with its line, and then makes an event of a line.
pub fn log_source(bytes: &[u8]) {
    let Some(text) = text(bytes).filter(|text| text.len() <= MAX_PROGRAM) else { return };
    let plain = "id: fuzz/one\ntitle: { en: a, ja: b }\ndataset: fuzz.one\n";
    let (description, program) = text.split_once("\n---\n").unwrap_or((plain, text));
    let files = BTreeMap::from([
        ("logs/fuzz/one/source.yaml".to_owned(), description.as_bytes().to_vec()),
        ("logs/fuzz/one/source.vrl".to_owned(), program.as_bytes().to_vec()),
    ]);
    let Ok(source) = LogSource::load("logs/fuzz/one", &files) else { return };
    match Normaliser::new(&source) {
        Ok(mut normaliser) => {
            line(&mut normaliser, b"Jan  1 00:00:00 web sshd[1]: a=\"b\" 203.0.113.7 {\"c\":[1,2]}");
            line(&mut normaliser, b"{\"a\":{\"b\":[1,null,\"x\"]},\"time\":\"2026-01-01T00:00:00Z\"}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Windows as they were kept: taken or refused; what was taken can be written again.
pub fn detector_restore(bytes: &[u8]) {
    DETECTOR.with_borrow_mut(|detector| {
        if detector.restore(bytes).is_ok() {
            let again = detector.snapshot();
            detector.restore(&again).expect("what was written can be read");
        }
    });
}
