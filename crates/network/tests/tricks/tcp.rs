//! Segments that lie over one another, lie about themselves, or do not belong to the connection.

use super::talk::{ACK, FIN, PSH, RST, SYN, Seg, Talk, URG};
use super::{Rule, Trick};

const REQUEST: &[u8] = b"GET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n";
const DECOY: &[u8] = b"GET /etc/xxxxxx HTTP/1.1\r\nHost: a\r\n\r\n";
const LENGTH: u32 = REQUEST.len() as u32;

pub const TRICKS: &[Trick] = &[
    uri("segments of one byte", |talk| {
        talk.open();
        talk.up_in(REQUEST, 1);
        talk.served();
    }),
    bytes("segments of one byte, in the stream's bytes", |talk| {
        talk.open();
        talk.up_in(REQUEST, 1);
        talk.served();
    }),
    uri("segments, the last first", |talk| {
        talk.open();
        for (at, part) in REQUEST.chunks(5).enumerate().collect::<Vec<_>>().into_iter().rev() {
            talk.seg(&Seg::up(at as u32 * 5, part));
        }
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("segments that overlap with the same bytes", |talk| {
        talk.open();
        for at in (0..LENGTH).step_by(4) {
            talk.seg(&Seg::up(at, &REQUEST[at as usize..REQUEST.len().min(at as usize + 9)]));
        }
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("sent again with other bytes, before the acknowledgement", |talk| {
        talk.open();
        talk.seg(&Seg::up(0, &REQUEST[..20]));
        talk.seg(&Seg::up(0, &DECOY[..20]));
        talk.seg(&Seg::up(20, &REQUEST[20..]));
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("sent again with other bytes, after the acknowledgement", |talk| {
        talk.open();
        talk.up(REQUEST);
        talk.seg(&Seg::up(0, DECOY));
        talk.served();
    }),
    uri("a decoy ahead of its turn, which a segment from the left replaces whole", |talk| {
        talk.open();
        talk.seg(&Seg::up(8, &DECOY[8..14]));
        talk.seg(&Seg::up(4, &REQUEST[4..20]));
        talk.seg(&Seg::up(0, &REQUEST[..4]));
        talk.seg(&Seg::up(20, &REQUEST[20..]));
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("a decoy ahead of its turn, whose beginning a segment from the left replaces", |talk| {
        talk.open();
        talk.seg(&Seg::up(8, b"xxxxx\x77d HTTP/1.1\r\n"));
        talk.seg(&Seg::up(4, &REQUEST[4..14]));
        talk.seg(&Seg::up(0, &REQUEST[..4]));
        talk.seg(&Seg::up(26, &REQUEST[26..]));
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("an attack ahead of its turn, then a decoy at its end", |talk| {
        talk.open();
        talk.seg(&Seg::up(4, &REQUEST[4..20]));
        talk.seg(&Seg::up(10, &DECOY[10..20]));
        talk.seg(&Seg::up(0, &REQUEST[..4]));
        talk.seg(&Seg::up(20, &REQUEST[20..]));
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("a decoy with a wrong checksum", |talk| before(talk, Seg { bad_sum: true, ..Seg::up(0, DECOY) })),
    uri("a decoy that acknowledges what was never sent", |talk| before(talk, Seg::up(0, DECOY).ack(0x4000_0000))),
    uri("a decoy without an acknowledgement", |talk| before(talk, Seg::up(0, DECOY).flags(PSH))),
    uri("a decoy without any flag", |talk| before(talk, Seg::up(0, DECOY).flags(0))),
    uri("a decoy far out of the window", |talk| before(talk, Seg::up(0x2000_0000, DECOY))),
    uri("a decoy from before the window", |talk| before(talk, Seg::up(0u32.wrapping_sub(400_000), DECOY))),
    uri("a decoy with an old timestamp", |talk| {
        talk.syn(&stamp(5_000, 0));
        talk.seg(&Seg::up(0, b"").flags(ACK).options(&stamp(5_001, 5_000)));
        talk.seg(&Seg::up(0, DECOY).options(&stamp(1, 5_000)));
        talk.seg(&Seg::up(0, REQUEST).options(&stamp(5_002, 5_000)));
        talk.sent[0] = LENGTH;
        talk.seg(&Seg::down(0, b"").flags(ACK).options(&stamp(5_001, 5_002)));
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        talk.seg(&Seg::down(0, answer).options(&stamp(5_002, 5_002)));
        talk.sent[1] = answer.len() as u32;
        talk.seg(&Seg::up(LENGTH, b"").flags(ACK).options(&stamp(5_003, 5_002)));
    }),
    uri("numbers that wrap in the request", |talk| {
        talk.isn = [u32::MAX - 10, u32::MAX - 3];
        talk.open();
        talk.up_in(REQUEST, 7);
        talk.served();
    }),
    uri("an urgent byte in the path", |talk| {
        talk.open();
        talk.seg(&Seg {
            urgent: 9,
            flags: PSH | ACK | URG,
            ..Seg::up(0, b"GET /etcX/passwd HTTP/1.1\r\nHost: a\r\n\r\n")
        });
        talk.reached(REQUEST.len() + 1);
        talk.served();
    }),
    uri("an urgent pointer beyond the segment", |talk| {
        talk.open();
        talk.seg(&Seg { urgent: 900, flags: PSH | ACK | URG, ..Seg::up(0, REQUEST) });
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("an urgent pointer without the flag", |talk| {
        talk.open();
        talk.seg(&Seg { urgent: 6, ..Seg::up(0, REQUEST) });
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("a decoy on the SYN", |talk| {
        let before_first = u32::MAX;
        talk.seg(&Seg::up(before_first, DECOY).flags(SYN).ack(0));
        talk.seg(&Seg::down(before_first, b"").flags(SYN | ACK));
        talk.seg(&Seg::up(0, b"").flags(ACK));
        talk.up(REQUEST);
        talk.served();
    }),
    uri("the request on the SYN, by fast open", |talk| {
        let (before_first, cookie) = (u32::MAX, [34, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
        talk.seg(&Seg::up(before_first, REQUEST).flags(SYN).ack(0).options(&cookie));
        talk.sent[0] = LENGTH;
        talk.seg(&Seg::down(before_first, b"").flags(SYN | ACK));
        talk.seg(&Seg::up(LENGTH, b"").flags(ACK));
        talk.served();
    }),
    uri("the request with the handshake's last packet", |talk| {
        talk.syn(&[]);
        talk.up(REQUEST);
        talk.served();
    }),
    uri("another SYN with another number before the answer", |talk| {
        talk.seg(&Seg::up(70_000, b"").flags(SYN).ack(0));
        talk.open();
        talk.up(REQUEST);
        talk.served();
    }),
    uri("a SYN inside the connection", |talk| before(talk, Seg::up(500, b"").flags(SYN).ack(0))),
    uri("a SYN and ACK of the client inside the connection", |talk| before(talk, Seg::up(0, b"").flags(SYN | ACK))),
    uri("a reset with a wrong number", |talk| before(talk, Seg::up(0x3000_0000, b"").flags(RST))),
    uri("a reset in the window, but not at its beginning", |talk| before(talk, Seg::up(1_000, b"").flags(RST))),
    uri("a reset with a wrong checksum", |talk| before(talk, Seg { bad_sum: true, ..Seg::up(0, b"").flags(RST) })),
    uri("a reset of the server with a wrong number", |talk| {
        before(talk, Seg::down(0x3000_0000, b"").flags(RST | ACK));
    }),
    uri("a reset of the server in the window, but not at its beginning", |talk| {
        before(talk, Seg::down(500, b"").flags(RST | ACK));
    }),
    uri("an end with a wrong number", |talk| before(talk, Seg::up(0x3000_0000, b"").flags(FIN | ACK))),
    uri("an end with a wrong checksum", |talk| before(talk, Seg { bad_sum: true, ..Seg::up(0, b"").flags(FIN | ACK) })),
    uri("an end before what it ends", |talk| {
        talk.open();
        talk.seg(&Seg::up(LENGTH, b"").flags(FIN | ACK));
        talk.seg(&Seg::up(0, REQUEST));
        talk.sent[0] = LENGTH + 1;
        talk.server_has();
        talk.down(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }),
    uri("the request together with the end", |talk| {
        talk.open();
        talk.seg(&Seg::up(0, REQUEST).flags(PSH | ACK | FIN));
        talk.sent[0] = LENGTH + 1;
        talk.server_has();
        talk.down(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }),
    Trick {
        area: "TCP",
        name: "the answer after the client's end",
        rule: Rule::Answer,
        play: |talk| {
            talk.open();
            talk.up(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            talk.seg(&Seg::up(talk.sent[0], b"").flags(FIN | ACK));
            talk.sent[0] += 1;
            talk.down(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nevil-payload");
        },
    },
    uri("a segment of which nothing but a keep-alive comes before", |talk| before(talk, Seg::up(u32::MAX, b"G"))),
    uri("the client's ports used again after a reset", |talk| {
        talk.open();
        talk.up(DECOY);
        talk.seg(&Seg::up(LENGTH, b"").flags(RST | ACK));
        talk.isn = [700_000, 800_000];
        talk.sent = [0; 2];
        talk.open();
        talk.up(REQUEST);
        talk.served();
    }),
];

const fn uri(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "TCP", name, rule: Rule::Uri, play }
}

const fn bytes(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "TCP", name, rule: Rule::Bytes, play }
}

/// A segment that the server does not take, before the request.
fn before(talk: &mut Talk, seg: Seg) {
    talk.open();
    talk.seg(&seg);
    talk.up(REQUEST);
    talk.served();
}

fn stamp(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}
