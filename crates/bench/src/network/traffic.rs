//! Traffic that is made: conversations of HTTP, DNS and TLS, a hundred at a time, as frames in a capture file. The same
//! size gives the same traffic. By bytes it is mostly answers of HTTP (pages, JSON, images), as at a web server.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};

use super::rules::WORDS;

/// Head of a capture file: little-endian pcap of Ethernet frames, in microseconds.
pub(super) const HEAD: &[u8] = &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
/// Conversations at a time.
const TOGETHER: usize = 100;
/// Longest payload of a segment.
const SEGMENT: usize = 1_448;
const FIN: u8 = 1;
const SYN: u8 = 2;
const PUSH: u8 = 8;
const ACK: u8 = 16;

/// Writes a frame with its record.
pub(super) fn put(out: &mut impl Write, time: i64, frame: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(std::io::Error::other)?.to_le_bytes();
    let part = |number: i64| u32::try_from(number).unwrap_or(0).to_le_bytes();
    for word in [part(time / 1_000_000), part(time % 1_000_000), length, length] {
        out.write_all(&word)?;
    }
    out.write_all(frame)
}

/// Writes a capture of so many bytes of frames; gives its bytes and packets.
pub(super) fn write(to: &Path, size: u64) -> Result<(u64, u64)> {
    let mut random = StdRng::seed_from_u64(11);
    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(HEAD)?;
    let (mut bytes, mut packets, mut time) = (0, 0, 1_700_000_000_000_000);
    let mut number = 0;
    let mut open: Vec<VecDeque<Vec<u8>>> = Vec::new();
    loop {
        while open.len() < TOGETHER && bytes < size {
            number += 1;
            open.push(conversation(&mut random, number));
        }
        if open.is_empty() {
            break;
        }
        let at = random.random_range(0..open.len());
        // A few at a time, as they come off a wire.
        for _ in 0..random.random_range(1..6) {
            match open.get_mut(at).and_then(VecDeque::pop_front) {
                Some(frame) => {
                    time += random.random_range(5..30);
                    put(&mut out, time, &frame)?;
                    bytes += frame.len() as u64;
                    packets += 1;
                }
                None => {
                    open.swap_remove(at);
                    break;
                }
            }
        }
    }
    out.flush()?;
    Ok((bytes, packets))
}

struct Talk {
    client: (Ipv4Addr, u16),
    server: (Ipv4Addr, u16),
    /// Next sequence numbers of client and server.
    next: [u32; 2],
    frames: VecDeque<Vec<u8>>,
}

fn conversation(random: &mut StdRng, number: u32) -> VecDeque<Vec<u8>> {
    let [_, b, c, d] = number.to_be_bytes();
    let kind = random.random_range(0..100);
    let port = match kind {
        0..40 => 80,
        40..75 => 53,
        _ => 443,
    };
    let mut talk = Talk {
        client: (Ipv4Addr::new(10, b.wrapping_add(1), c, d), random.random_range(32_768..61_000)),
        server: (Ipv4Addr::new(192, 0, 2, random.random_range(1..20)), port),
        next: [random.next_u32(), random.next_u32()],
        frames: VecDeque::new(),
    };
    match port {
        53 => talk.names(random),
        80 => {
            talk.open();
            for _ in 0..random.random_range(1..8) {
                let [request, answer] = http(random);
                talk.say(true, &request);
                talk.say(false, &answer);
            }
            talk.close();
        }
        _ => {
            talk.open();
            let name = format!("{}{}.{}.example", word(random), random.random_range(0..1_000), word(random));
            talk.say(true, &hello(&name, random));
            talk.say(false, &records(2, 3_000, random));
            talk.say(true, &records(1, 300, random));
            for _ in 0..random.random_range(1..4) {
                talk.say(true, &records(1, 600, random));
                let length = random.random_range(1_000..60_000);
                talk.say(false, &records(4, length, random));
            }
            talk.close();
        }
    }
    talk.frames
}

impl Talk {
    fn open(&mut self) {
        self.segment(true, SYN, &[]);
        self.segment(false, SYN | ACK, &[]);
        self.segment(true, ACK, &[]);
    }

    fn close(&mut self) {
        self.segment(true, FIN | ACK, &[]);
        self.segment(false, FIN | ACK, &[]);
        self.segment(true, ACK, &[]);
    }

    fn say(&mut self, client: bool, bytes: &[u8]) {
        for (at, part) in bytes.chunks(SEGMENT).enumerate() {
            self.segment(client, PUSH | ACK, part);
            if at % 2 == 1 {
                self.segment(!client, ACK, &[]);
            }
        }
        self.segment(!client, ACK, &[]);
    }

    fn segment(&mut self, client: bool, flags: u8, payload: &[u8]) {
        let ((from, to), (mine, theirs)) = if client {
            ((self.client, self.server), (self.next[0], self.next[1]))
        } else {
            ((self.server, self.client), (self.next[1], self.next[0]))
        };
        let mut tcp = Vec::with_capacity(20 + payload.len());
        tcp.extend(from.1.to_be_bytes());
        tcp.extend(to.1.to_be_bytes());
        tcp.extend(mine.to_be_bytes());
        tcp.extend(if flags & ACK == 0 { [0; 4] } else { theirs.to_be_bytes() });
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(payload);
        let more = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        let mine = if client { &mut self.next[0] } else { &mut self.next[1] };
        *mine = mine.wrapping_add(more);
        self.frames.push_back(frame(from.0, to.0, 6, tcp, 16));
    }

    fn names(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(1..4) {
            let name = format!("{}-{}.{}.example", word(random), random.random_range(0..10_000), word(random));
            let id = random.next_u32().to_be_bytes();
            let mut question = Vec::new();
            for label in name.split('.') {
                question.push(label.len() as u8);
                question.extend(label.as_bytes());
            }
            question.extend([0, 0, 1, 0, 1]);
            let mut query = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            query.extend(&question);
            let mut answer = vec![id[0], id[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
            answer.extend(&question);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, 2, 7]);
            for (client, text) in [(true, query), (false, answer)] {
                let (from, to) = if client { (self.client, self.server) } else { (self.server, self.client) };
                let mut udp = Vec::new();
                udp.extend(from.1.to_be_bytes());
                udp.extend(to.1.to_be_bytes());
                udp.extend((8 + text.len() as u16).to_be_bytes());
                udp.extend([0, 0]);
                udp.extend(text);
                self.frames.push_back(frame(from.0, to.0, 17, udp, 6));
            }
        }
    }
}

/// An Ethernet frame of an IPv4 packet; the sum of its body is at a place.
fn frame(from: Ipv4Addr, to: Ipv4Addr, proto: u8, mut body: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let length = body.len() as u16;
    let mut pseudo = Vec::with_capacity(12 + body.len());
    pseudo.extend(from.octets());
    pseudo.extend(to.octets());
    pseudo.extend([0, proto]);
    pseudo.extend(length.to_be_bytes());
    pseudo.extend(&body);
    let checksum = sum(&pseudo).to_be_bytes();
    if let Some(place) = body.get_mut(sum_at..sum_at + 2) {
        place.copy_from_slice(&checksum);
    }
    let mut head = vec![0x45, 0];
    head.extend((20 + length).to_be_bytes());
    head.extend([0, 0, 0x40, 0, 64, proto, 0, 0]);
    head.extend(from.octets());
    head.extend(to.octets());
    let checksum = sum(&head).to_be_bytes();
    if let Some(place) = head.get_mut(10..12) {
        place.copy_from_slice(&checksum);
    }
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    out.extend(head);
    out.extend(body);
    out
}

/// The Internet checksum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut total: u64 = 0;
    for pair in bytes.chunks(2) {
        total += u64::from(u16::from_be_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn word(random: &mut StdRng) -> &'static str {
    WORDS.choose(random).copied().unwrap_or("index")
}

/// A request and its answer.
fn http(random: &mut StdRng) -> [Vec<u8>; 2] {
    let number: u32 = random.random_range(0..1_000_000);
    let (a, b, c) = (word(random), word(random), word(random));
    let path = match random.random_range(0..4) {
        0 => format!("/{a}/{b}.html"),
        1 => format!("/{a}/{b}/{number}?{c}={number}&{b}={a}"),
        2 => format!("/{a}/{b}-{number}.jpg"),
        _ => format!("/api/v1/{a}/{number}"),
    };
    let posts = random.random_range(0..10) == 0;
    let form = format!("{a}={number}&{b}%5B{c}%5D={number}&text={}", words(40, random).replace(' ', "+"));
    let mut request = format!(
        "{} {path} HTTP/1.1\r\nHost: www.{c}.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) \
         Gecko/20100101 Firefox/128.0\r\nAccept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n\
         Accept-Language: ja,en;q=0.5\r\nCookie: session={:016x}; {a}={number}\r\nReferer: https://www.{c}.example/{b}\r\n",
        if posts { "POST" } else { "GET" },
        random.next_u64()
    );
    if posts {
        request += &format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", form.len());
    }
    request += "\r\n";
    if posts {
        request += &form;
    }
    let (kind, body) = match random.random_range(0..4) {
        0 | 1 => ("text/html; charset=utf-8", page(random).into_bytes()),
        2 => ("application/json", json(random).into_bytes()),
        _ => {
            let mut image = vec![0; random.random_range(2_000..50_000)];
            random.fill_bytes(&mut image);
            ("image/jpeg", image)
        }
    };
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nConnection: keep-alive\r\nVary: Accept-Encoding\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    [request.into_bytes(), answer]
}

fn words(count: usize, random: &mut StdRng) -> String {
    (0..count).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

fn page(random: &mut StdRng) -> String {
    let mut out =
        "<!DOCTYPE html><html><head><title>A page</title><script>var a=document.cookie;</script></head><body>"
            .to_owned();
    for _ in 0..random.random_range(5..60) {
        out +=
            &format!("<div class=\"{}\"><a href=\"/{}\">{}</a></div>\n", word(random), word(random), words(30, random));
    }
    out + "</body></html>"
}

fn json(random: &mut StdRng) -> String {
    let items: Vec<String> = (0..random.random_range(5..80))
        .map(|_| format!("{{\"id\":{},\"{}\":\"{}\"}}", random.next_u32(), word(random), words(8, random)))
        .collect();
    format!("[{}]", items.join(","))
}

/// A ClientHello (RFC 8446) with a name.
fn hello(name: &str, random: &mut StdRng) -> Vec<u8> {
    let mut body = vec![3, 3];
    let mut bytes = [0; 64];
    random.fill_bytes(&mut bytes);
    body.extend(bytes.get(..32).unwrap_or_default());
    body.push(32);
    body.extend(bytes.get(32..).unwrap_or_default());
    body.extend([0, 6, 0x13, 1, 0x13, 2, 0xc0, 0x2f, 1, 0]);
    let length = name.len() as u16;
    let mut extensions = vec![0, 0];
    extensions.extend((length + 5).to_be_bytes());
    extensions.extend((length + 3).to_be_bytes());
    extensions.push(0);
    extensions.extend(length.to_be_bytes());
    extensions.extend(name.as_bytes());
    extensions.extend([0, 10, 0, 4, 0, 2, 0, 29, 0, 43, 0, 3, 2, 3, 4]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut out = vec![22, 3, 1];
    out.extend((body.len() as u16 + 4).to_be_bytes());
    out.extend([1, 0]);
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

/// Records of application data, so many bytes in all.
fn records(count: usize, length: usize, random: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        let mut part = vec![0; (length / count).min(16_000)];
        random.fill_bytes(&mut part);
        out.extend([23, 3, 3]);
        out.extend((part.len() as u16).to_be_bytes());
        out.extend(part);
    }
    out
}
