//! Whatever is in a capture, nothing panics, and each run ends: captures of our own, with bytes changed at random.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use sakimori_network::capture::Capture;
use sakimori_network::{Engine, RuleSet, Settings};

const RULES: &str = "alert http any any -> any any (msg:\"a\"; http.uri; content:\"passwd\"; sid:1;)\n\
    alert http any any -> any any (msg:\"b\"; file.data; content:\"secret\"; sid:2;)\n\
    alert tcp any any -> any any (msg:\"c\"; content:\"GET\"; pcre:\"/pass(wd)?/\"; sid:3;)\n\
    alert tls any any -> any any (msg:\"d\"; tls.sni; content:\"example\"; sid:4;)\n\
    alert dns any any -> any any (msg:\"e\"; dns.query; content:\"example\"; sid:5;)\n";

/// Ethernet, IPv4, and what follows, without right checksums.
fn packet(proto: u8, source: [u8; 4], target: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x02; 12];
    out.extend([0x08, 0x00, 0x45, 0]);
    out.extend(u16::try_from(20 + body.len()).unwrap().to_be_bytes());
    out.extend([0, 1, 0, 0, 64, proto, 0, 0]);
    out.extend(source);
    out.extend(target);
    out.extend(body);
    out
}

fn tcp(from: u16, to: u16, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = [from.to_be_bytes(), to.to_be_bytes()].concat();
    out.extend(seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    out
}

fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0]);
    for (second, packet) in packets.iter().enumerate() {
        let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
        out.extend(u32::try_from(1_700_000_000 + second).unwrap().to_le_bytes());
        out.extend([0; 4]);
        out.extend(length);
        out.extend(length);
        out.extend(packet);
    }
    out
}

/// One connection: a request and its answer, in two segments each.
fn connection(port: u16, request: &[u8], answer: &[u8]) -> Vec<Vec<u8>> {
    let (client, server) = ([192, 0, 2, 1], [198, 51, 100, 1]);
    let (first, second) = request.split_at(request.len() / 2);
    let up = |seq: u32, ack: u32, flags, payload: &[u8]| {
        packet(6, client, server, &tcp(40_000, port, seq, ack, flags, payload))
    };
    let down = |seq: u32, ack: u32, flags, payload: &[u8]| {
        packet(6, server, client, &tcp(port, 40_000, seq, ack, flags, payload))
    };
    let (half, all) = (u32::try_from(first.len()).unwrap(), u32::try_from(request.len()).unwrap());
    let got = u32::try_from(answer.len()).unwrap();
    vec![
        up(100, 0, 0x02, b""),
        down(500, 101, 0x12, b""),
        up(101, 501, 0x10, b""),
        up(101, 501, 0x18, first),
        up(101 + half, 501, 0x18, second),
        down(501, 101 + all, 0x18, answer),
        up(101 + all, 501 + got, 0x11, b""),
        down(501 + got, 102 + all, 0x11, b""),
    ]
}

fn samples() -> Vec<Vec<u8>> {
    let hello = [
        &b"\x16\x03\x01\x00\x4e\x01\x00\x00\x4a\x03\x03"[..],
        &[7; 32],
        b"\x00\x00\x02\x13\x01\x01\x00\x00\x1f\x00\x00\x00\x10\x00\x0e\x00\x00\x0bexample.com\x00\x2b\x00\x03\x02\x03\x04\x00\x17\x00\x00",
    ]
    .concat();
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
    let udp = [&b"\x9c\x40\x00\x35\x00\x25\x00\x00"[..], query].concat();
    let web = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n";
    let mail =
        b"EHLO a\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\nContent-Type: \
        multipart/mixed; boundary=z\r\n\r\n--z\r\nContent-Transfer-Encoding: base64\r\n\r\nc2VjcmV0\r\n--z--\r\n.\r\n";
    vec![
        pcap(&connection(80, b"GET /etc/passwd HTTP/1.1\r\nHost: example.com\r\n\r\n", web)),
        pcap(&connection(443, &hello, b"\x15\x03\x03\x00\x02\x02\x28")),
        pcap(&connection(25, mail, b"220 a\r\n250 b\r\n")),
        pcap(&connection(22, b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14aaaaaaaaaa")),
        pcap(&[packet(17, [192, 0, 2, 1], [198, 51, 100, 53], &udp)]),
    ]
}

fn alerts(rules: &Arc<RuleSet>, file: &[u8]) -> Vec<u32> {
    let mut settings = Settings::default();
    settings.stream.checksums = false;
    let mut engine = Engine::new(settings, Arc::clone(rules));
    let mut found = Vec::new();
    if let Ok(mut frames) = Capture::open(file) {
        let mut number = 0;
        while let Some(Ok(frame)) = frames.next() {
            number += 1;
            engine.frame(&frame, number, &mut found);
        }
    }
    engine.finish(&mut found);
    let mut sids: Vec<u32> = found.iter().map(|alert| alert.rule.sid).collect();
    sids.sort_unstable();
    sids
}

#[test]
fn changed_bytes_bring_nothing_down() {
    let rules = Arc::new(RuleSet::load(&[("own", RULES)], &Settings::default().load, &|_: &str| None));
    assert_eq!(rules.refused, []);
    let samples = samples();
    assert_eq!(alerts(&rules, &samples[0]), [1, 2, 3]);
    assert_eq!(alerts(&rules, &samples[1]), [4]);
    assert_eq!(alerts(&rules, &samples[4]), [5]);
    // Xorshift: the same bytes in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for round in 0..3_000 {
        let mut file = samples[round % samples.len()].clone();
        for _ in 0..=next(6) {
            let at = next(file.len());
            match next(4) {
                0 => file[at] = 0xff,
                1 => file[at] = 0,
                2 => file.truncate(at.max(24)),
                _ => file[at] ^= u8::try_from(1 + next(255)).unwrap(),
            }
        }
        alerts(&rules, &file);
    }
}

#[test]
fn thousands_of_messages_in_one_record_do_not_grow_the_stack() {
    let rules = Arc::new(RuleSet::default());
    let mut record = b"\x16\x03\x03\x3f\xfc".to_vec();
    record.extend(b"\x0e\x00\x00\x00".repeat(0x3ffc / 4));
    let mut packets = connection(443, &record[..1_000], b"x");
    packets.truncate(5);
    for (at, part) in record[1_000..].chunks(1_000).enumerate() {
        let seq = 101 + 1_000 + u32::try_from(at * 1_000).unwrap();
        packets.push(packet(6, [192, 0, 2, 1], [198, 51, 100, 1], &tcp(40_000, 443, seq, 501, 0x18, part)));
    }
    let file = pcap(&packets);
    std::thread::Builder::new().stack_size(256 * 1024).spawn(move || alerts(&rules, &file)).unwrap().join().unwrap();
}
