//! A long flow that is judged packet by packet takes no new memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use sakimori_network::{Engine, LoadOptions, RuleSet, Settings, capture::Frame};

/// Packets after which nothing grows any more: kept bodies have reached their limits.
const WARM: u64 = 2_000;
const JUDGED: u64 = 4_000;

const RULES: &str = "\
alert http any any -> any any (http.uri; content:\"/etc/passwd\"; sid:1;)
alert http any any -> any any (http.request_body; content:\"never there\"; sid:2;)
alert http any any -> any any (file.data; content:\"never there either\"; sid:3;)
alert tcp any any -> any any (flow:established; content:\"nor this\"; sid:4;)
alert tcp any any -> any any (flow:established; content:\"aaaa\"; pcre:\"/aaaab+c/\"; sid:5;)
";

fn packet(up: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (client, server) = ([203, 0, 113, 7], [192, 0, 2, 80]);
    let (src, dst, sport, dport) = if up { (client, server, 40_000u16, 80u16) } else { (server, client, 80, 40_000) };
    let mut out = vec![0x45, 0];
    out.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    out.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    out.extend(src);
    out.extend(dst);
    out.extend(sport.to_be_bytes());
    out.extend(dport.to_be_bytes());
    out.extend(seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    out
}

/// Allocations of [`JUDGED`] packets (segments and their acknowledgements) of one long body.
fn allocations(settings: Settings, upload: bool) -> u64 {
    let rules = RuleSet::load(&[("own", RULES)], &LoadOptions::default(), &|_| None);
    assert_eq!(rules.refused, []);
    let mut engine = Engine::new(settings, Arc::new(rules));
    let head: &[u8] = if upload {
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\n\r\n"
    } else {
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    };
    let answer: &[u8] = if upload { b"" } else { b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n" };
    let (mut up, mut down) = (1 + head.len() as u32, 1 + answer.len() as u32);
    let mut packets = vec![
        packet(true, 0, 0, 2, b""),
        packet(false, 0, 1, 18, b""),
        packet(true, 1, 1, 24, head),
        packet(false, 1, up, 24, answer),
    ];
    let body = [b'a'; 1_400];
    for _ in 0..(WARM + JUDGED) / 2 {
        let (sent, got) = if upload { (&mut up, down) } else { (&mut down, up) };
        packets.push(packet(upload, *sent, got, 24, &body));
        *sent += 1_400;
        packets.push(packet(!upload, got, *sent, 16, b""));
    }
    let mut alerts = Vec::new();
    let mut judge = |number: usize, data: &[u8]| {
        let time = 1_700_000_000_000_000 + i64::try_from(number).unwrap() * 100;
        let frame = Frame { time, link: 101, data, cut: false, vouched: true };
        assert!(engine.frame(&frame, number as u64, &mut alerts).accepts());
    };
    let (warm, rest) = packets.split_at(packets.len() - JUDGED as usize);
    for (number, data) in warm.iter().enumerate() {
        judge(number, data);
    }
    let counted = allocation_counter::measure(|| {
        for (number, data) in rest.iter().enumerate() {
            judge(warm.len() + number, data);
        }
    });
    assert!(alerts.is_empty());
    counted.count_total
}

#[test]
fn a_long_flow_takes_no_new_memory() {
    let mut between = Settings::inline();
    // All of it is judged, and nothing passed over.
    between.stream.bulk = None;
    let mut watching = Settings::default();
    watching.stream.depth = 0;
    let mut found = Vec::new();
    for (way, settings) in [("between", between), ("watching", watching)] {
        for upload in [true, false] {
            let count = allocations(settings.clone(), upload);
            let per_thousand = count * 1_000 / JUDGED;
            println!("{way}, upload {upload}: {per_thousand} allocations in 1,000 packets");
            found.push(per_thousand);
        }
    }
    assert!(found.iter().all(|count| *count <= 10), "{found:?}");
}
