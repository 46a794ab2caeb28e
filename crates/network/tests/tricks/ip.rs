//! Fragments, headers between, and tunnels.

use super::talk::{ACK, PSH, SYN, Seg, Talk, checksum, header4, pseudo};
use super::{Rule, Trick};

const REQUEST: &[u8] = b"GET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n";
const DECOY: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n";

pub const TRICKS: &[Trick] = &[
    uri("none", |talk| {
        talk.open();
        talk.up(REQUEST);
        talk.served();
    }),
    uri("fragments of 8 bytes", |talk| in_fragments(talk, |parts| parts)),
    uri("fragments, the last first", |talk| {
        in_fragments(talk, |mut parts| {
            parts.reverse();
            parts
        });
    }),
    uri("fragments, shuffled and each twice", |talk| {
        in_fragments(talk, |parts| {
            let (even, odd): (Vec<_>, Vec<_>) = parts.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
            let shuffled: Vec<_> = odd.into_iter().chain(even).map(|(_, part)| part).collect();
            let last = shuffled.len() - 1;
            shuffled
                .iter()
                .take(last)
                .flat_map(|part| [part.clone(), part.clone()])
                .chain([shuffled[last].clone()])
                .collect()
        });
    }),
    uri("fragments, a decoy after the attack at the same place", |talk| {
        in_fragments(talk, |mut parts| {
            let decoy = parts.iter().map(|(at, more, bytes)| (*at, *more, vec![b'x'; bytes.len()])).nth(3);
            parts.splice(4..4, decoy);
            parts
        });
    }),
    uri("fragments that overlap with the same bytes", |talk| {
        talk.open();
        let body = talk.segment(&Seg::up(0, REQUEST), &talk.ends(true));
        let part = |from: usize, to: usize| (from, to < body.len(), body[from..to.min(body.len())].to_vec());
        talk.fragments(6, &[part(0, 32), part(16, 48), part(32, body.len())]);
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("fragments between which others with another number come", |talk| {
        talk.open();
        let body = talk.segment(&Seg::up(0, REQUEST), &talk.ends(true));
        let decoy = talk.segment(&Seg::up(0, DECOY), &talk.ends(true));
        talk.fragments(6, &[(0, true, body[..24].to_vec())]);
        talk.fragments(6, &[(0, true, decoy[..24].to_vec())]);
        talk.id -= 2;
        talk.fragments(6, &[(24, false, body[24..].to_vec())]);
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("IP options", |talk| {
        talk.open();
        let body = talk.segment(&Seg::up(0, REQUEST), &talk.ends(true));
        let packet = header4(&talk.ends(true), 6, 77, 0, 64, &[7, 7, 4, 0, 0, 0, 0, 0], &body);
        talk.ether(0x0800, &packet);
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("bytes of Ethernet behind the packet", |talk| {
        talk.open();
        let mut packet = talk.packet(&Seg::up(0, REQUEST));
        packet.extend(b"xxxxxxxx");
        talk.ether(0x0800, &packet);
        talk.reached(REQUEST.len());
        talk.served();
    }),
    uri("a decoy with a wrong IP checksum", |talk| {
        talk.open();
        let mut packet = talk.packet(&Seg::up(0, DECOY));
        packet[10] ^= 0x55;
        talk.ether(0x0800, &packet);
        talk.up(REQUEST);
        talk.served();
    }),
    uri("two VLAN tags", |talk| {
        wrapped(talk, |talk, packet| {
            let tagged = [&[0, 7, 0x81, 0, 0, 8, 8, 0][..], packet].concat();
            talk.ether(0x88a8, &tagged);
        });
    }),
    uri("in GRE", |talk| {
        wrapped(talk, |talk, packet| {
            let body = [&[0, 0, 8, 0][..], packet].concat();
            let outer = header4(&[203, 0, 113, 1, 203, 0, 113, 2], 47, 5, 0, 64, &[], &body);
            talk.ether(0x0800, &outer);
        });
    }),
    uri("in IP in IP", |talk| {
        wrapped(talk, |talk, packet| {
            let outer = header4(&[203, 0, 113, 1, 203, 0, 113, 2], 4, 5, 0, 64, &[], packet);
            talk.ether(0x0800, &outer);
        });
    }),
    uri("in VXLAN", |talk| {
        wrapped(talk, |talk, packet| {
            let mut inner = vec![8, 0, 0, 0, 0, 0, 9, 0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
            inner.extend(packet);
            let mut udp = vec![0x30, 0x39, 0x12, 0xb5];
            udp.extend(((8 + inner.len()) as u16).to_be_bytes());
            udp.extend([0, 0]);
            udp.extend(inner);
            let outer = header4(&[203, 0, 113, 1, 203, 0, 113, 2], 17, 5, 0, 64, &[], &udp);
            talk.ether(0x0800, &outer);
        });
    }),
    v6("IPv6", |talk| six(talk, |next, body| vec![ipv6(next, body)])),
    v6("IPv6, options before TCP", |talk| {
        six(talk, |next, body| {
            let hop = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[next, 1, 1, 12], &[0; 12], body].concat();
            vec![ipv6(0, &hop)]
        });
    }),
    v6("IPv6, a fragment that is whole", |talk| {
        six(talk, |next, body| vec![ipv6(44, &[&[next, 0, 0, 0, 0, 0, 0, 9][..], body].concat())])
    }),
    v6("IPv6, fragments, the last first", |talk| {
        six(talk, |next, body| {
            let cut = 16.min(body.len());
            let (one, two) = body.split_at(cut);
            let second = ipv6(44, &[&[next, 0, 0, 16, 0, 0, 0, 9][..], two].concat());
            vec![second, ipv6(44, &[&[next, 0, 0, 1, 0, 0, 0, 9][..], one].concat())]
        });
    }),
    v6("IPv6, fragments of which the second names another protocol", |talk| {
        six(talk, |next, body| {
            let (one, two) = body.split_at(16.min(body.len()));
            let first = ipv6(44, &[&[next, 0, 0, 1, 0, 0, 0, 9][..], one].concat());
            vec![first, ipv6(44, &[&[17, 0, 0, 16, 0, 0, 0, 9][..], two].concat())]
        });
    }),
];

const fn uri(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "IP", name, rule: Rule::Uri, play }
}

const fn v6(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "IP", name, rule: Rule::UriOfSix, play }
}

/// The request as one segment in fragments of eight bytes, which may be moved.
fn in_fragments(talk: &mut Talk, moved: fn(Vec<Part>) -> Vec<Part>) {
    talk.open();
    let body = talk.segment(&Seg::up(0, REQUEST), &talk.ends(true));
    let last = body.chunks(8).count() - 1;
    let parts = body.chunks(8).enumerate().map(|(at, bytes)| (at * 8, at < last, bytes.to_vec())).collect();
    talk.fragments(6, &moved(parts));
    talk.reached(REQUEST.len());
    talk.served();
}

type Part = (usize, bool, Vec<u8>);

/// The whole conversation with each packet in something else.
fn wrapped(talk: &mut Talk, wrap: fn(&mut Talk, &[u8])) {
    talk.open();
    talk.up(REQUEST);
    talk.served();
    for frame in std::mem::take(&mut talk.frames) {
        wrap(talk, &frame[14..]);
    }
}

/// Addresses of a conversation over IPv6: the client's ends with its IPv4 address, which is how rules know it.
fn ends6(talk: &Talk, up: bool) -> Vec<u8> {
    let client = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0][..], &talk.client].concat();
    let server = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80];
    if up { [&client, &server[..]].concat() } else { [&server[..], &client].concat() }
}

fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend([next, 64]);
    out.extend(body);
    out
}

/// The conversation over IPv6; a segment of the client with bytes goes through the function, which leaves the addresses out.
fn six(talk: &mut Talk, pack: fn(u8, &[u8]) -> Vec<Vec<u8>>) {
    let before = u32::MAX;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let turns = [
        (Seg::up(before, b"").flags(SYN).ack(0), [0, 0]),
        (Seg::down(before, b"").flags(SYN | ACK), [0, 0]),
        (Seg::up(0, b"").flags(ACK), [0, 0]),
        (Seg::up(0, REQUEST).flags(PSH | ACK), [REQUEST.len() as u32, 0]),
        (Seg::down(0, b"").flags(ACK), [REQUEST.len() as u32, 0]),
        (Seg::down(0, answer), [REQUEST.len() as u32, answer.len() as u32]),
        (Seg::up(REQUEST.len() as u32, b"").flags(ACK), [0, 0]),
    ];
    for (seg, sent) in turns {
        let ends = ends6(talk, seg.up);
        let body = talk.segment(&seg, &ends);
        debug_assert_eq!(checksum(&pseudo(&ends, 6, &body)), 0);
        let packets = if seg.up && !seg.payload.is_empty() { pack(6, &body) } else { vec![ipv6(6, &body)] };
        for mut packet in packets {
            packet.splice(8..8, ends.iter().copied());
            talk.ether(0x86dd, &packet);
        }
        if sent != [0, 0] {
            talk.sent = sent;
        }
    }
}
