//! What the engine says of packets that it is shown, and cannot stop.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, dead_code)]

#[path = "tricks/talk.rs"]
mod talk;

use std::sync::Arc;

use sakimori_network::{Engine, LoadOptions, RuleSet, Settings, capture::Frame};
use talk::{ACK, Seg, Talk};

/// Signatures that alert, with the number of the frame, in the order of the alerts.
fn alerts(text: &str, frames: &[Vec<u8>]) -> Vec<(u32, u64)> {
    let rules = RuleSet::load(&[("own", text)], &LoadOptions::default(), &|_| None);
    assert_eq!(rules.refused, []);
    let mut settings = Settings::default();
    settings.stream.midstream = true;
    let mut engine = Engine::new(settings, Arc::new(rules));
    let mut alerts = Vec::new();
    for (number, data) in (1..).zip(frames) {
        let time = 1_700_000_000_000_000 + i64::try_from(number).unwrap() * 1_000;
        engine.frame(&Frame { time, link: 1, data, cut: false, vouched: false }, number, &mut alerts);
    }
    engine.finish(&mut alerts);
    alerts.iter().map(|alert| (alert.rule.sid, alert.packet)).collect()
}

#[test]
fn a_connection_of_which_the_answer_is_the_first_that_is_seen_is_turned_around_by_its_words() {
    let mut talk = Talk::new([203, 0, 113, 7], 8_080);
    talk.sent = [40, 0];
    talk.down(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let rule = "alert http any any -> any any (flow:to_client; http.stat_code; content:\"200\"; sid:1;)";
    assert_eq!(alerts(rule, &talk.frames).len(), 1);
}

#[test]
fn bytes_before_and_behind_a_gap_are_looked_at_apart_and_as_soon_as_it_is_known_to_be_one() {
    let mut talk = Talk::new([203, 0, 113, 7], 80);
    talk.open();
    talk.up(b"GET /1 HTTP/1.0\r\n\r\n");
    talk.down(b"HTTP/1.0 200 OK\r\n\r\nwool");
    // A hundred bytes that were lost to us, but not to the client.
    talk.sent[1] += 100;
    talk.client_has();
    talk.down(b"lamb wool");
    let after = talk.frames.len() as u64;
    talk.down(b" and more");
    talk.close();
    let rules = "alert tcp any any -> any any (flow:to_client; content:\"lamb\"; sid:1;)\n\
        alert tcp any any -> any any (flow:to_client; content:\"wool\"; content:\"lamb\"; distance:0; sid:2;)";
    let found = alerts(rules, &talk.frames);
    assert_eq!(found.iter().map(|alert| alert.0).collect::<Vec<_>>(), [1]);
    // What lies before it with the next packet of that direction, what lies behind it with the one after that.
    assert!(found[0].1 > after && found[0].1 <= after + 4, "{found:?}");
}

#[test]
fn a_reset_that_its_sender_does_not_keep_to_is_an_event() {
    let mut talk = Talk::new([203, 0, 113, 7], 80);
    talk.open();
    talk.seg(&Seg::up(0, b"").flags(talk::RST | ACK));
    talk.up(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.served();
    let rule = "alert tcp any any -> any any (stream-event:suspected_rst_inject; sid:1;)";
    assert_eq!(alerts(rule, &talk.frames), [(1, 5)]);
}

#[test]
fn an_extension_header_with_nearly_nothing_behind_it_is_an_event() {
    let mut packet = vec![0x60, 0, 0, 0, 0, 9, 44, 64];
    packet.extend([0x20; 32]);
    packet.extend([58, 0, 0, 0, 0, 0, 0, 1, 128]);
    let mut talk = Talk::new([203, 0, 113, 7], 80);
    talk.ether(0x86dd, &packet);
    let rules = "alert pkthdr any any -> any any (decode-event:ipv6.trunc_exthdr; sid:1;)\n\
        alert pkthdr any any -> any any (decode-event:ipv6.exthdr_useless_fh; sid:2;)";
    assert_eq!(alerts(rules, &talk.frames), [(1, 1), (2, 1)]);
}

#[test]
fn what_the_clients_of_teredo_agree_on_is_no_tunnel_yet() {
    let inner = [&[0x60, 0, 0, 0, 0, 8, 58, 64][..], &[0x20; 32], &[133, 0, 0, 0, 0, 0, 0, 0]].concat();
    let authentication = [&[0, 1, 0, 0][..], &[7; 9]].concat();
    for (head, tunnels) in [(Vec::new(), 1), (vec![0; 8], 1), (authentication, 0)] {
        let mut talk = Talk::new([203, 0, 113, 7], 3_544);
        let body = talk.datagram(&[head, inner.clone()].concat());
        let packet = talk.ipv4(true, 17, 0, 64, &body);
        talk.ether(0x0800, &packet);
        let found = alerts("alert icmp any any -> any any (itype:133; sid:1;)", &talk.frames);
        assert_eq!(found.len(), tunnels);
    }
}

#[test]
fn a_value_that_comes_later_is_found_by_its_words_and_by_a_pattern_alone() {
    let mut talk = Talk::new([203, 0, 113, 7], 25);
    talk.open();
    talk.down(b"220 a\r\n");
    for word in
        ["EHLO a", "MAIL FROM:<a@a>", "RCPT TO:<first@b>", "RCPT TO:<second@b>", "DATA", "Subject: x\r\n\r\nhi\r\n."]
    {
        talk.up(format!("{word}\r\n").as_bytes());
        talk.down(if word == "DATA" { b"354 go\r\n" } else { b"250 ok\r\n" });
    }
    talk.close();
    let of = |steps: &str, sid: u32| format!("alert smtp any any -> any any (smtp.rcpt_to; {steps} sid:{sid};)\n");
    let rules = [
        of(r#"content:"second";"#, 1),
        of(r#"pcre:"/sec.nd@/i";"#, 2),
        of(r#"content:"b"; pcre:"/second@b$/";"#, 3),
        of(r#"pcre:"/third@/";"#, 4),
    ];
    let mut found: Vec<u32> = alerts(&rules.concat(), &talk.frames).iter().map(|alert| alert.0).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
}
