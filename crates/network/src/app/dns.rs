//! DNS over UDP and TCP (RFC 1035): questions, answers' names, and what is wrong with a message.
//!
//! A question and an answer are a transaction each. Names are followed through at most [`MOST_JUMPS`] pointers.

use std::borrow::Cow;

use super::access::{Look, Value};
use super::tx::Kind;
use super::{Dir, Parser, Status, Transactions};
use crate::reader::Reader;
use crate::rules::app_tests::AppTest;
use crate::rules::buffers::Buffer;

const MOST_JUMPS: usize = 255;
const MOST_LABELS: usize = 255;
/// Longest name as text.
const LONGEST_NAME: usize = 1025;
/// Most records of a message that are read.
const MOST_RECORDS: usize = 512;

/// One message.
#[derive(Debug, Default)]
pub(crate) struct DnsTx {
    pub response: bool,
    pub opcode: u8,
    pub rcode: u8,
    /// Names and types asked for.
    pub queries: Vec<(Vec<u8>, u16)>,
    /// Names and types of answers.
    pub answers: Vec<(Vec<u8>, u16)>,
}

impl DnsTx {
    pub(crate) fn values(&self, buffer: Buffer, look: Look<'_>) -> bool {
        let list = match buffer {
            Buffer::DnsQuery if !self.response => &self.queries,
            Buffer::DnsQueryName => &self.queries,
            Buffer::DnsAnswerName => &self.answers,
            _ => return false,
        };
        for (name, _) in list {
            if look(Value { data: Cow::Borrowed(name), last: true, file: None }) {
                break;
            }
        }
        !list.is_empty()
    }

    /// Bytes that it keeps.
    pub(crate) fn kept(&self) -> usize {
        let names = self.queries.iter().chain(&self.answers).map(|(name, _)| name.len() + 40);
        size_of::<Self>() + names.sum::<usize>()
    }

    pub(crate) fn holds(&self, test: &AppTest) -> bool {
        match test {
            AppTest::DnsOpcode(wanted) => wanted.holds(self.opcode),
            AppTest::DnsRcode(wanted) => self.response && wanted.holds(self.rcode),
            AppTest::DnsRrtype(wanted) => self.queries.iter().chain(&self.answers).any(|(_, kind)| wanted.holds(*kind)),
            _ => false,
        }
    }
}

/// Whether a message's head looks like DNS: it has room for what it announces.
pub(super) fn plausible(data: &[u8], length: usize) -> bool {
    let mut reader = Reader::new(data);
    let head = (reader.u16(), reader.u16(), reader.u16(), reader.u16(), reader.u16(), reader.u16());
    let (_, Some(_), Some(questions), Some(answers), Some(authority), Some(more)) = head else { return false };
    let records: usize = [questions, answers, authority, more].iter().map(|count| usize::from(*count)).sum();
    records > 0 && 12 + 2 * records <= length
}

/// The parser of one flow.
#[derive(Debug)]
pub(crate) struct Dns {
    udp: bool,
    buffers: [Vec<u8>; 2],
}

impl Dns {
    pub(crate) fn new(udp: bool) -> Self {
        Self { udp, buffers: [Vec::new(), Vec::new()] }
    }
}

/// Reads a message into a transaction; the direction is that of the bytes.
fn message(dir: Dir, data: &[u8], txs: &mut Transactions) {
    let mut reader = Reader::new(data);
    let head = (reader.u16(), reader.u16(), reader.u16(), reader.u16(), reader.u16(), reader.u16());
    let mut tx = DnsTx::default();
    let mut events: Vec<&'static str> = Vec::new();
    if let (_, Some(flags), Some(questions), Some(answers), Some(authority), Some(more)) = head {
        tx.response = flags & 0x8000 != 0;
        tx.opcode = ((flags >> 11) & 15) as u8;
        tx.rcode = (flags & 15) as u8;
        if dir == Dir::ToServer && tx.response {
            events.push("dns.not_a_request");
        }
        if dir == Dir::ToClient && !tx.response {
            events.push("dns.not_a_response");
        }
        if flags & 0x0040 != 0 {
            events.push("dns.z_flag_set");
        }
        if tx.opcode >= 7 || tx.opcode == 3 {
            events.push("dns.invalid_opcode");
        }
        let records = [answers, authority, more].iter().map(|count| usize::from(*count)).sum::<usize>();
        let whole = records_of(&mut tx, data, &mut reader, questions.into(), records, answers.into(), &mut events);
        if whole.is_none() {
            events.push("dns.malformed_data");
        }
    } else {
        events.push("dns.malformed_data");
    }
    if events.contains(&"dns.malformed_data") {
        // What cannot be read is no transaction; it is a fault of the one before it.
        if let Some(former) = txs.last() {
            former.event("dns.malformed_data");
        }
        return;
    }
    let tx = txs.open(Kind::Dns(Box::new(tx)));
    for event in events {
        tx.event(event);
    }
    tx.finish(dir);
    tx.finish(dir.other());
    // It is looked at in its own direction only.
    if let Some(state) = tx.state.get_mut(dir.other() as usize) {
        state.finished = true;
    }
}

fn records_of<'a>(
    tx: &mut DnsTx,
    data: &'a [u8],
    reader: &mut Reader<'a>,
    questions: usize,
    records: usize,
    answers: usize,
    events: &mut Vec<&'static str>,
) -> Option<()> {
    for _ in 0..questions.min(MOST_RECORDS) {
        let name = name(data, reader, events)?;
        let kind = reader.u16()?;
        reader.u16()?;
        tx.queries.push((name, kind));
    }
    for number in 0..records.min(MOST_RECORDS) {
        let name = name(data, reader, events)?;
        let kind = reader.u16()?;
        reader.u16()?;
        reader.u32()?;
        let value = reader.counted16()?;
        // Only an OPT record may have no data.
        if value.is_empty() && kind != 41 {
            return None;
        }
        if number < answers {
            tx.answers.push((name, kind));
        }
    }
    Some(())
}

/// A name with dots between its labels, through its pointers.
fn name<'a>(message: &'a [u8], reader: &mut Reader<'a>, events: &mut Vec<&'static str>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut jumps = 0;
    let mut labels = 0;
    let mut walk = *reader;
    let mut jumped = false;
    let mut cut = false;
    loop {
        let length = walk.u8()?;
        match length {
            0 => break,
            1..=63 => {
                let label = walk.take(length.into())?;
                labels += 1;
                if labels > MOST_LABELS {
                    events.push("dns.too_many_labels");
                    break;
                }
                if out.len() + label.len() + 1 > LONGEST_NAME {
                    if !events.contains(&"dns.name_too_long") {
                        events.push("dns.name_too_long");
                    }
                    cut = true;
                    if jumped {
                        break;
                    }
                    continue;
                }
                if cut {
                    continue;
                }
                if !out.is_empty() {
                    out.push(b'.');
                }
                out.extend_from_slice(label);
            }
            192..=255 => {
                let low = walk.u8()?;
                if !jumped {
                    *reader = walk;
                    jumped = true;
                }
                jumps += 1;
                if jumps > MOST_JUMPS {
                    events.push("dns.infinite_loop");
                    break;
                }
                let at = usize::from(length & 63) << 8 | usize::from(low);
                walk = Reader::new(message.get(at..)?);
            }
            _ => return None,
        }
    }
    if !jumped {
        *reader = walk;
    }
    Some(out)
}

impl Parser for Dns {
    fn data(&mut self, dir: Dir, data: &[u8], txs: &mut Transactions) -> Status {
        if self.udp {
            message(dir, data, txs);
            return Status::Going;
        }
        let Some(buffer) = self.buffers.get_mut(dir as usize) else { return Status::Going };
        buffer.extend_from_slice(data);
        loop {
            let mut reader = Reader::new(buffer);
            let Some(whole) = reader.counted16() else { return Status::Going };
            message(dir, whole, txs);
            let used = 2 + whole.len();
            buffer.drain(..used);
        }
    }

    fn kept(&self) -> usize {
        self.buffers.iter().map(Vec::capacity).sum()
    }

    fn gap(&mut self, dir: Dir, _: usize, _: &mut Transactions) -> Status {
        if let Some(buffer) = self.buffers.get_mut(dir as usize) {
            buffer.clear();
        }
        Status::Failed
    }

    fn end(&mut self, _: Dir, _: &mut Transactions) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppProto, play::play};

    fn question(name: &[&str]) -> Vec<u8> {
        let mut out = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.extend([0, 0, 1, 0, 1]);
        out
    }

    #[test]
    fn names_over_tcp() {
        let message = question(&["www", "example", "com"]);
        let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        let (one, two) = framed.split_at(9);
        let txs = play(AppProto::Dns, &[(Dir::ToServer, one), (Dir::ToServer, two)]);
        let Kind::Dns(dns) = &txs.list[0].kind else { panic!() };
        assert_eq!(dns.queries, [(b"www.example.com".to_vec(), 1)]);
    }

    #[test]
    fn a_loop_of_pointers_ends() {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend([0xc0, 12, 0, 1, 0, 1]);
        let mut txs = Transactions::default();
        super::message(Dir::ToServer, &message, &mut txs);
        assert!(txs.list[0].events.contains(&"dns.infinite_loop"));
        super::message(Dir::ToServer, &message[..14], &mut txs);
        assert_eq!(txs.list.len(), 1);
        assert!(txs.list[0].events.contains(&"dns.malformed_data"));
    }
}
