//! What the engine says of packets that are held until it has judged them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use sakimori_network::{Alert, Engine, LoadOptions, Prepared, RuleSet, Settings, Verdict, capture::Frame};

const CLIENT: [u8; 4] = [203, 0, 113, 7];
const SERVER: [u8; 4] = [192, 0, 2, 80];
const START: i64 = 1_700_000_000_000_000;

fn rules(text: &str) -> Arc<RuleSet> {
    let rules = RuleSet::load(&[("test.rules", text)], &LoadOptions::default(), &|_| None);
    assert!(rules.refused.is_empty(), "{:?}", rules.refused);
    Arc::new(rules)
}

/// One connection through an engine.
struct Talk {
    engine: Engine,
    alerts: Vec<Alert>,
    port: u16,
    urgent: u8,
    time: i64,
}

impl Talk {
    fn new(text: &str) -> Self {
        let engine = Engine::new(Settings::inline(), rules(text));
        Self { engine, alerts: Vec::new(), port: 40_000, urgent: 0, time: START }
    }

    fn open(text: &str) -> Self {
        let mut talk = Self::new(text);
        talk.handshake();
        talk
    }

    fn handshake(&mut self) {
        assert_eq!(self.up(0, 0, 2, b""), Verdict::Accept);
        assert_eq!(self.down(0, 1, 18, b""), Verdict::Accept);
        assert_eq!(self.up(1, 1, 16, b""), Verdict::Accept);
    }

    fn up(&mut self, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Verdict {
        let ports = (self.port, 80);
        self.packet(CLIENT, SERVER, ports, seq, ack, flags, payload)
    }

    fn down(&mut self, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Verdict {
        let ports = (80, self.port);
        self.packet(SERVER, CLIENT, ports, seq, ack, flags, payload)
    }

    #[allow(clippy::too_many_arguments)]
    fn packet(
        &mut self,
        src: [u8; 4],
        dst: [u8; 4],
        ports: (u16, u16),
        seq: u32,
        ack: u32,
        flags: u8,
        payload: &[u8],
    ) -> Verdict {
        let length = u16::try_from(40 + payload.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
        packet.extend([src, dst].concat());
        packet.extend(ports.0.to_be_bytes());
        packet.extend(ports.1.to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.extend(ack.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, self.urgent]);
        packet.extend(payload);
        self.time += 100;
        let frame = Frame { time: self.time, link: 101, data: &packet, cut: false, vouched: true };
        self.engine.frame(&frame, 1, &mut self.alerts)
    }

    fn sids(&self) -> Vec<u32> {
        self.alerts.iter().map(|alert| alert.rule.sid).collect()
    }
}

const URI: &str = "drop http any any -> any any (http.uri; content:\"/evil\"; sid:1;)";

#[test]
fn the_rest_of_a_dropped_connection_is_dropped_in_both_directions_and_the_next_one_is_not() {
    let mut talk = Talk::open(URI);
    assert_eq!(talk.up(1, 1, 24, b"GET /evil HTTP/1.1\r\n\r\n"), Verdict::DropFlow);
    assert_eq!(talk.up(23, 1, 24, b"GET /good HTTP/1.1\r\n\r\n"), Verdict::DropFlow);
    assert_eq!(talk.down(1, 1, 16, b""), Verdict::DropFlow);
    assert_eq!(talk.sids(), [1]);
    talk.port += 1;
    talk.handshake();
    assert_eq!(talk.up(1, 1, 24, b"GET /good HTTP/1.1\r\n\r\n"), Verdict::Accept);
}

#[test]
fn each_kind_of_refusal_answers_the_sides_that_it_names() {
    for (action, first, client, server) in [
        ("reject", Verdict::Reject, Verdict::Reject, Verdict::Drop),
        ("rejectdst", Verdict::Drop, Verdict::Drop, Verdict::Reject),
        ("rejectboth", Verdict::Reject, Verdict::Reject, Verdict::Reject),
    ] {
        let mut talk = Talk::open(&URI.replace("drop", action));
        assert_eq!(talk.up(1, 1, 24, b"GET /evil HTTP/1.1\r\n\r\n"), first, "{action}");
        assert_eq!(talk.up(1, 1, 24, b"GET /evil HTTP/1.1\r\n\r\n"), client, "{action}");
        assert_eq!(talk.down(1, 1, 16, b""), server, "{action}");
    }
}

#[test]
fn a_rule_that_was_decided_to_look_only_lets_the_connection_go_on_and_still_sees_what_follows() {
    let mut talk = Talk::new("");
    let mut set = RuleSet::load(&[("a", URI)], &LoadOptions::default(), &|_| None);
    set.decide(|_| Some(sakimori_network::Action::Alert));
    talk.engine = Engine::new(Settings::inline(), Arc::new(set));
    talk.handshake();
    let request = b"GET /evil HTTP/1.1\r\n\r\n";
    assert_eq!(talk.up(1, 1, 24, request), Verdict::Accept);
    assert_eq!(talk.up(23, 1, 24, request), Verdict::Accept);
    assert_eq!(talk.sids(), [1, 1]);
    assert!(talk.alerts.iter().all(|alert| !alert.blocked && alert.rule.written.blocks()));
}

/// An answer that says its length, and so much of its body.
fn answer(talk: &mut Talk, seq: u32, ack: u32, length: u32, bytes: u32) -> Option<Verdict> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(talk.down(seq, ack, 24, head.as_bytes()), Verdict::Accept);
    let mut at = seq + u32::try_from(head.len()).unwrap();
    let end = at + bytes;
    while at < end {
        let size = (end - at).min(30_000);
        let verdict = talk.down(at, ack, 16, &vec![b'x'; size as usize]);
        at += size;
        talk.up(ack, at, 16, b"");
        if verdict != Verdict::Accept {
            return Some(verdict);
        }
    }
    None
}

#[test]
fn the_rest_of_a_long_answer_is_passed_over_until_the_client_speaks_and_its_next_request_is_judged() {
    let mut talk = Talk::open(URI);
    assert_eq!(talk.up(1, 1, 24, b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n"), Verdict::Accept);
    let length = 200 << 20;
    assert_eq!(answer(&mut talk, 1, 39, length, 8 << 20), Some(Verdict::AcceptFarReplies));
    // Only acknowledgements come from now on, at first some and then one by one, and say how far the answer is.
    let whole =
        1 + u32::try_from(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").len()).unwrap() + length;
    for ahead in [180 << 20, 120 << 20, (64 << 20) + 1] {
        assert_eq!(talk.up(39, whole - ahead, 16, b""), Verdict::Accept);
    }
    assert_eq!(talk.up(39, whole - (64 << 20), 16, b""), Verdict::AcceptReplies);
    for ahead in (1 << 20..64 << 20).rev().step_by(500_000) {
        assert_eq!(talk.up(39, whole - ahead, 16, b""), Verdict::Accept);
    }
    // Near the end it is looked at again.
    assert_eq!(talk.up(39, whole - 100_000, 16, b""), Verdict::InspectReplies);
    assert_eq!(talk.up(39, whole, 16, b""), Verdict::Accept);
    assert!(talk.engine.counters().bulk == 1 && talk.engine.counters().bulk_bytes > 190 << 20);
    assert_eq!(talk.up(39, whole, 24, b"GET /evil HTTP/1.1\r\n\r\n"), Verdict::DropFlow);
    assert_eq!(talk.sids(), [1]);
}

#[test]
fn a_client_that_speaks_during_a_long_answer_is_judged_at_once() {
    let mut talk = Talk::open(URI);
    assert_eq!(talk.up(1, 1, 24, b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n"), Verdict::Accept);
    assert_eq!(answer(&mut talk, 1, 39, 1 << 30, 8 << 20), Some(Verdict::AcceptFarReplies));
    assert_eq!(talk.up(39, 2 << 20, 24, b"GET /good HTTP/1.1\r\n\r\n"), Verdict::InspectReplies);
    assert_eq!(talk.up(61, 2 << 20, 24, b"GET /evil HTTP/1.1\r\n\r\n"), Verdict::DropFlow);
}

#[test]
fn of_requests_in_a_row_each_answer_is_judged_but_the_last() {
    let mut talk = Talk::open(URI);
    let get = b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert_eq!(talk.up(1, 1, 24, &get.repeat(2)), Verdict::Accept);
    let length = 8 << 20;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let ack = 1 + 2 * u32::try_from(get.len()).unwrap();
    assert_eq!(answer(&mut talk, 1, ack, length, length), None);
    let next = 1 + u32::try_from(head.len()).unwrap() + length;
    assert_eq!(talk.down(next, ack, 24, head.as_bytes()), Verdict::AcceptReplies);
    assert_eq!(talk.engine.counters().bulk, 1);
}

#[test]
fn an_answer_that_is_not_much_longer_than_what_is_judged_of_it_is_followed_by_every_acknowledgement() {
    let mut talk = Talk::open(URI);
    assert_eq!(talk.up(1, 1, 24, b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n"), Verdict::Accept);
    assert_eq!(answer(&mut talk, 1, 39, 80 << 20, 8 << 20), Some(Verdict::AcceptReplies));
}

#[test]
fn rules_change_between_two_packets_of_a_connection() {
    let mut talk = Talk::open(URI);
    assert_eq!(talk.up(1, 1, 24, b"GET /other?x="), Verdict::Accept);
    let next = rules("drop http any any -> any any (http.uri; content:\"/other\"; sid:2;)");
    talk.engine.change_rules(Prepared::new(next, &Settings::inline()));
    assert_eq!(talk.up(14, 1, 24, b"1 HTTP/1.1\r\n\r\n"), Verdict::DropFlow);
    assert_eq!(talk.sids(), [2]);
}

#[test]
fn a_connection_that_is_older_than_the_engine_is_judged_from_its_middle() {
    let mut talk = Talk::new(URI);
    // The engine before it may have passed over the answers.
    assert_eq!(talk.up(500, 900, 16, b""), Verdict::InspectReplies);
    assert_eq!(talk.down(900, 500, 24, b"HTTP/1.1 304 Not Modified\r\n\r\n"), Verdict::Accept);
    assert_eq!(talk.up(500, 929, 24, b"GET /evil HTTP/1.1\r\n\r\n"), Verdict::DropFlow);
}

#[test]
fn bytes_that_do_not_belong_to_the_connection_do_not_go_on() {
    let mut talk = Talk::open(URI);
    // An acknowledgement of what was never sent: our view of the connection and the server's could differ.
    assert_eq!(talk.up(1, 5 << 20, 24, b"GET /evil HTTP/1.1\r\n\r\n"), Verdict::Drop);
    assert_eq!(talk.engine.counters().alien, 1);
    assert_eq!(talk.up(1, 1, 24, b"GET /good HTTP/1.1\r\n\r\n"), Verdict::Accept);
}

#[test]
fn what_comes_too_early_and_cannot_be_kept_does_not_go_on() {
    let mut talk = Talk::open(URI);
    let mut refused = 0;
    for number in 0..6_000_u32 {
        let verdict = talk.up(10 + number * 2, 1, 24, b"x");
        assert!(verdict.accepts() || verdict == Verdict::Drop);
        refused += u32::from(!verdict.accepts());
    }
    assert!(refused > 1_000, "{refused}");
    assert_eq!(talk.engine.counters().not_kept, u64::from(refused));
}

#[test]
fn a_segment_that_says_something_else_than_what_was_judged_does_not_go_on() {
    let mut talk = Talk::open(URI);
    // A decoy before its turn; some receivers would let a segment that begins further left replace it.
    assert_eq!(talk.up(6, 1, 24, b"good HTTP/1.1\r\n\r\n"), Verdict::Accept);
    assert_eq!(talk.up(1, 1, 24, b"GET /evil"), Verdict::Drop);
    assert_eq!(talk.engine.counters().alien, 1);
    assert_eq!(talk.sids(), Vec::<u32>::new());
    // The same bytes once more are no harm, nor is a keep-alive about what has arrived.
    assert_eq!(talk.up(1, 1, 24, b"GET /good"), Verdict::Accept);
    assert_eq!(talk.down(1, 23, 16, b""), Verdict::Accept);
    assert_eq!(talk.up(22, 1, 16, b"\0"), Verdict::Accept);
}

#[test]
fn what_is_too_much_to_be_told_still_takes_effect() {
    let text = "alert tcp any any -> any any (content:\"evil\"; sid:2;)\n\
        alert tcp any any -> any any (content:\"vil\"; sid:3;)\n\
        drop tcp any any -> any any (content:\"il\"; sid:4;)";
    let mut settings = Settings::inline();
    settings.outcome.most_alerts = 2;
    let options = LoadOptions {
        action_order: vec![sakimori_network::Action::Alert, sakimori_network::Action::Drop],
        ..LoadOptions::default()
    };
    let set = RuleSet::load(&[("a", text)], &options, &|_| None);
    let mut talk = Talk::new("");
    talk.engine = Engine::new(settings, Arc::new(set));
    talk.handshake();
    assert!(!talk.up(1, 1, 24, b"GET /evil HTTP/1.1\r\n\r\n").accepts());
    assert_eq!((talk.sids(), talk.engine.counters().discarded), (vec![2, 3], 1));
}

#[test]
fn a_detection_filter_and_a_threshold_of_one_rule_count_apart() {
    let rule = "alert tcp any any -> any any (content:\"evil\"; \
        detection_filter:track by_src, count 2, seconds 60; threshold:type limit, track by_src, count 2, seconds 60; sid:1;)";
    let mut talk = Talk::open(rule);
    let told: Vec<usize> = (0..6)
        .map(|number| {
            talk.up(1 + number * 4, 1, 24, b"evil");
            talk.sids().len()
        })
        .collect();
    // The first two are below the filter, the next two are told, and then the limit holds.
    assert_eq!(told, [0, 0, 1, 2, 2, 2]);
}

#[test]
fn who_resets_a_connection_and_goes_on_is_remarkable_and_still_judged() {
    let text = format!("{URI}\nalert tcp any any -> any any (stream-event:suspected_rst_inject; sid:2;)");
    let mut talk = Talk::open(&text);
    assert_eq!(talk.up(1, 1, 20, b""), Verdict::Accept);
    assert_eq!(talk.up(1, 1, 24, b"GET /evil HTTP/1.1\r\n\r\n"), Verdict::DropFlow);
    assert_eq!(talk.sids(), [1, 2]);
}

#[test]
fn what_is_sent_again_around_urgent_data_goes_on() {
    let mut talk = Talk::open(URI);
    assert_eq!(talk.up(1, 1, 24, b"GET /go"), Verdict::Accept);
    talk.urgent = 1;
    assert_eq!(talk.up(8, 1, 24 | 32, b"!od HTTP/1.1\r\n"), Verdict::Accept);
    talk.urgent = 0;
    // The server has got neither, and both come once more.
    assert_eq!(talk.up(1, 1, 24, b"GET /go"), Verdict::Accept);
    talk.urgent = 1;
    assert_eq!(talk.up(8, 1, 24 | 32, b"!od HTTP/1.1\r\n"), Verdict::Accept);
}
