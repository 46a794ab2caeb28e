//! Floods: what the engine keeps has a limit, and that it was reached is told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use sakimori_network::{Alert, Engine, GENERATOR, LoadOptions, RuleSet, Settings, Verdict, capture::Frame};

const START: i64 = 1_700_000_000_000_000;
const RULES: &str = "alert http any any -> any any (http.request_body; content:\"evil\"; sid:1;)\n\
    alert dns any any -> any any (dns.query; dataset:set,names,type string; noalert; sid:2;)\n";

struct Flood {
    engine: Engine,
    alerts: Vec<Alert>,
    packets: u64,
    /// Most that flows kept after any packet.
    most: u64,
}

impl Flood {
    fn new(settings: Settings) -> Self {
        let rules = RuleSet::load(&[("floods", RULES)], &LoadOptions::default(), &|_| None);
        assert_eq!(rules.refused, []);
        Self { engine: Engine::new(settings, Arc::new(rules)), alerts: Vec::new(), packets: 0, most: 0 }
    }

    /// A packet from a host with a number, ten milliseconds after the last.
    fn packet(&mut self, host: u32, proto: u8, fragment: u16, body: &[u8]) -> Verdict {
        let mut packet = vec![0x45, 0];
        packet.extend(u16::try_from(20 + body.len()).unwrap().to_be_bytes());
        packet.extend([0, 7]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, proto, 0, 0]);
        packet.extend((0x0a00_0000 + host).to_be_bytes());
        packet.extend([192, 0, 2, 80]);
        packet.extend(body);
        self.packets += 1;
        let time = START + i64::try_from(self.packets).unwrap() * 10_000;
        let frame = Frame { time, link: 101, data: &packet, cut: false, vouched: true };
        let verdict = self.engine.frame(&frame, self.packets, &mut self.alerts);
        self.most = self.most.max(self.engine.counters().kept);
        verdict
    }

    /// The engine's own alerts: which, and what they say.
    fn told(&self) -> Vec<(u32, String)> {
        let own = self.alerts.iter().filter(|alert| alert.rule.gid == GENERATOR);
        own.map(|alert| (alert.rule.sid - 9_000_000, String::from_utf8(alert.payload.clone()).unwrap())).collect()
    }
}

fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, if flags & 16 == 0 { 0 } else { 5 }];
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    out
}

fn question(number: u32) -> Vec<u8> {
    let name = format!("\x0bn{number:010}\x07example\0\0\x01\0\x01");
    let message = [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..], name.as_bytes()].concat();
    let length = u16::try_from(8 + message.len()).unwrap().to_be_bytes();
    [&[0x9c, 0x40, 0, 53][..], &length, &[0, 0], &message].concat()
}

#[test]
fn half_open_flows_are_bounded_by_their_number_and_that_is_told_once_a_minute() {
    let mut settings = Settings::inline();
    settings.flow.most = 1_000;
    let mut flood = Flood::new(settings);
    // Two hundred seconds, in each of which older flows are pushed out; half-open ones end by themselves after sixty.
    for host in 0..20_000 {
        assert_eq!(flood.packet(host, 6, 0, &tcp(2, b"")), Verdict::Accept);
    }
    assert_eq!(flood.engine.counters().flows_pushed_out, 19_000);
    assert!(flood.most < 4_000_000, "{}", flood.most);
    let told = flood.told();
    assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!((told[0].1.as_str(), told[1].1.as_str()), ("1 times", "6000 times"));
}

#[test]
fn names_of_many_flows_stay_within_the_memory_and_that_is_told() {
    let mut settings = Settings::inline();
    settings.flow.memory = 1 << 20;
    let mut flood = Flood::new(settings);
    for host in 0..20_000 {
        flood.packet(host, 17, 0, &question(host));
    }
    assert!(flood.most <= 1 << 20, "{}", flood.most);
    assert!(flood.engine.counters().flows_pushed_out > 10_000);
    assert_eq!(flood.told()[0], (2, "1 times".to_owned()));
}

#[test]
fn names_of_one_flow_leave_nothing_behind_but_the_set_that_a_rule_fills() {
    let mut flood = Flood::new(Settings::inline());
    for host in 0..1_000 {
        flood.packet(1, 17, 0, &question(host));
    }
    let early = flood.engine.counters().kept;
    for host in 0..210_000 {
        flood.packet(1, 17, 0, &question(host));
    }
    assert!(flood.engine.counters().kept <= early, "{} and {early}", flood.engine.counters().kept);
    assert_eq!(flood.told()[0].0, 6);
}

#[test]
fn bodies_that_never_end_are_looked_at_when_their_flow_has_to_go() {
    let mut settings = Settings::inline();
    settings.flow.memory = 4 << 20;
    let mut flood = Flood::new(settings);
    let mut request = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nevil".to_vec();
    request.resize(1_400, b'x');
    for host in 0..5_000 {
        flood.packet(host, 6, 0, &tcp(24, &request));
    }
    assert!(flood.most <= 4 << 20, "{}", flood.most);
    assert_eq!(flood.told()[0].0, 2);
    let found = flood.alerts.iter().filter(|alert| alert.rule.sid == 1 && alert.rule.gid == 1).count() as u64;
    assert_eq!(found, flood.engine.counters().flows_pushed_out);
}

#[test]
fn fragments_without_an_end_are_given_up_and_that_is_told() {
    let mut settings = Settings::inline();
    settings.defrag.memory = 1 << 20;
    let mut flood = Flood::new(settings);
    for host in 0..5_000 {
        flood.packet(host, 17, 0x2000, &[b'x'; 1_400]);
    }
    assert!(flood.engine.counters().fragments_given_up > 4_000);
    assert_eq!(flood.told()[0].0, 3);
}
