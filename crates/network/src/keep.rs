//! Packets of flows that a rule said something of, kept as capture files: those before the alert, as far as a ring of
//! the last packets still has them, and those after it up to a number, a size and a time.
//!
//! The engine's caller hands over each packet and each alert that asks for it, and takes what is complete; nothing is
//! written here. All of it is bounded: the ring, how many flows are kept at once and how large each may become, how many
//! are begun in an hour. What an alert asked for and did not get is counted.

use std::collections::VecDeque;

use crate::capture::Frame;

/// What a packet costs in the ring beside its bytes.
const PACKET_COST: usize = size_of::<Past>();
/// Flows that are kept at once, and complete ones that wait to be taken.
const MOST_RUNNING: usize = 16;
const MOST_WAITING: usize = 8;
const HOUR: i64 = 3_600_000_000;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLimits {
    /// Most bytes of a packet.
    pub snap: usize,
    /// Bytes of the ring of packets before an alert.
    pub ring: usize,
    /// Most packets of a file.
    pub packets: usize,
    /// Most bytes of a file.
    pub bytes: usize,
    /// How long packets are kept after the alert, in microseconds.
    pub after: i64,
    /// Most files that are begun in an hour.
    pub files_per_hour: u32,
}

/// A complete capture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name, which the alert's event has: time of the alert, lane, flow, number of the rule that asked first. Files
    /// sort by it as they began.
    pub name: String,
    /// The file: pcap with the link type of the packet that alerted, times in microseconds.
    pub bytes: Vec<u8>,
    pub packets: usize,
}

/// A packet in the ring.
#[derive(Clone, Copy, Debug)]
struct Past {
    time: i64,
    flow: u64,
    link: u32,
    kept: u32,
    whole: u32,
}

#[derive(Debug)]
struct Running {
    flow: u64,
    link: u32,
    until: i64,
    kept: Kept,
}

/// Keeps packets. One an engine.
#[derive(Debug)]
pub struct Recorder {
    limits: KeepLimits,
    /// Goes into each name, so that files of several engines differ.
    lane: String,
    past: VecDeque<Past>,
    bytes: VecDeque<u8>,
    running: Vec<Running>,
    waiting: VecDeque<Kept>,
    /// The latest time of any packet: alerts of flows that end late have an earlier one.
    now: i64,
    hour: (i64, u32),
    /// Flow, time and name of the file that was begun last.
    last: Option<(u64, i64, String)>,
    /// Flows that were to be kept and were not, since there were too many.
    pub shed: u64,
}

impl Recorder {
    pub fn new(limits: KeepLimits, lane: &str) -> Self {
        Self {
            limits,
            lane: lane.to_owned(),
            past: VecDeque::new(),
            bytes: VecDeque::new(),
            running: Vec::new(),
            waiting: VecDeque::new(),
            now: i64::MIN,
            hour: (i64::MIN, 0),
            last: None,
            shed: 0,
        }
    }

    /// A packet that the engine has judged, and the flow that it belongs to. `whole` is its length on the wire.
    pub fn packet(&mut self, frame: &Frame<'_>, whole: usize, flow: Option<u64>) {
        self.now = self.now.max(frame.time);
        self.end_until(self.now);
        let Some(flow) = flow else { return };
        let data = frame.data.get(..self.limits.snap.min(frame.data.len())).unwrap_or_default();
        let small = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let one = Past {
            time: frame.time,
            flow,
            link: frame.link,
            kept: small(data.len()),
            whole: small(whole.max(data.len())),
        };
        if let Some(at) = self.running.iter().position(|running| running.flow == flow && running.link == frame.link) {
            let full = self.running.get_mut(at).is_some_and(|running| !running.add(&self.limits, &one, [data, &[]]));
            if full {
                self.complete(at);
            }
        }
        if data.len() + PACKET_COST > self.limits.ring {
            return;
        }
        while self.bytes.len() + data.len() + (self.past.len() + 1) * PACKET_COST > self.limits.ring {
            let Some(oldest) = self.past.pop_front() else { break };
            self.bytes.drain(..(oldest.kept as usize).min(self.bytes.len()));
        }
        self.bytes.extend(data);
        self.past.push_back(one);
    }

    /// An alert of a rule asks for the packets of its flow. Call it after [`Recorder::packet`] with the packet that
    /// alerted. Gives the name of the file that they will be in, or nothing where there are too many.
    pub fn keep(&mut self, rule: u32, flow: u64, time: i64) -> Option<String> {
        if let Some(running) = self.running.iter().find(|running| running.flow == flow) {
            return Some(running.kept.name.clone());
        }
        // Of several alerts of one packet the first may have filled the file.
        if let Some((_, _, name)) = self.last.as_ref().filter(|last| (last.0, last.1) == (flow, time)) {
            return Some(name.clone());
        }
        if self.now.saturating_sub(self.hour.0) >= HOUR {
            self.hour = (self.now, 0);
        }
        let link = self.past.iter().rev().find(|past| past.flow == flow).map(|past| past.link);
        // A flow that ended unseen for long has no packets any more.
        let Some(link) = link else { return self.not_kept() };
        if self.running.len() >= MOST_RUNNING || self.hour.1 >= self.limits.files_per_hour {
            return self.not_kept();
        }
        self.hour.1 += 1;
        let name = format!("{:016}-{}-{flow}-{rule}", time.max(0), self.lane);
        self.last = Some((flow, time, name.clone()));
        let mut bytes = Vec::with_capacity(FILE_HEADER);
        // Little-endian, version 2.4, times in microseconds (pcap, draft-ietf-opsawg-pcap).
        for word in [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, u32::try_from(self.limits.snap).unwrap_or(u32::MAX), link] {
            bytes.extend_from_slice(&u32::to_le_bytes(word));
        }
        let kept = Kept { name: name.clone(), bytes, packets: 0 };
        let mut running = Running { flow, link, until: self.now.max(time).saturating_add(self.limits.after), kept };
        let fits = self.fill(&mut running);
        self.running.push(running);
        if !fits {
            self.complete(self.running.len() - 1);
        }
        Some(name)
    }

    /// What the ring has of a flow. Where that is too much the newest counts: it holds what alerted.
    fn fill(&self, running: &mut Running) -> bool {
        let mine = |past: &&Past| past.flow == running.flow && past.link == running.link;
        let (mut from, mut room, mut packets) = (self.past.len(), self.limits.bytes.saturating_sub(FILE_HEADER), 0);
        for (at, past) in self.past.iter().enumerate().rev() {
            if !mine(&past) {
                continue;
            }
            let cost = past.kept as usize + RECORD_HEADER;
            if cost > room || packets >= self.limits.packets {
                break;
            }
            (from, room, packets) = (at, room - cost, packets + 1);
        }
        let mut start = self.past.iter().take(from).map(|past| past.kept as usize).sum::<usize>();
        let (one, two) = self.bytes.as_slices();
        for past in self.past.iter().skip(from) {
            let end = start + past.kept as usize;
            if past.flow == running.flow && past.link == running.link {
                let head = one.get(start.min(one.len())..end.min(one.len())).unwrap_or_default();
                let tail = two.get(start.saturating_sub(one.len())..end.saturating_sub(one.len())).unwrap_or_default();
                if !running.add(&self.limits, past, [head, tail]) {
                    return false;
                }
            }
            start = end;
        }
        true
    }

    fn not_kept(&mut self) -> Option<String> {
        self.shed += 1;
        None
    }

    /// Ends what has lasted long enough by then.
    fn end_until(&mut self, now: i64) {
        while let Some(at) = self.running.iter().position(|running| running.until < now) {
            self.complete(at);
        }
    }

    fn complete(&mut self, at: usize) {
        let running = self.running.swap_remove(at);
        if self.waiting.len() >= MOST_WAITING {
            self.shed += 1;
        } else {
            self.waiting.push_back(running.kept);
        }
    }

    /// The next complete file, if there is one by this time.
    pub fn take(&mut self, now: i64) -> Option<Kept> {
        self.end_until(now);
        self.waiting.pop_front()
    }

    /// Ends all that is under way: whoever kept packets ends.
    pub fn finish(&mut self) -> Vec<Kept> {
        let running = self.running.drain(..).map(|running| running.kept);
        self.waiting.drain(..).chain(running).collect()
    }

    #[cfg(test)]
    fn held(&self) -> usize {
        let files = self.running.iter().map(|one| &one.kept).chain(&self.waiting).map(|kept| kept.bytes.len());
        self.bytes.len() + self.past.len() * PACKET_COST + files.sum::<usize>()
    }
}

impl Running {
    /// Adds a packet; false where the file is full, with or without it.
    fn add(&mut self, limits: &KeepLimits, past: &Past, data: [&[u8]; 2]) -> bool {
        let length: usize = data.iter().map(|part| part.len()).sum();
        if self.kept.bytes.len() + RECORD_HEADER + length > limits.bytes || self.kept.packets >= limits.packets {
            return false;
        }
        let part = |number: i64| u32::try_from(number).unwrap_or(0);
        let (seconds, micros) = (part(past.time.div_euclid(1_000_000)), part(past.time.rem_euclid(1_000_000)));
        for word in [seconds, micros, past.kept, past.whole] {
            self.kept.bytes.extend_from_slice(&word.to_le_bytes());
        }
        for part in data {
            self.kept.bytes.extend_from_slice(part);
        }
        self.kept.packets += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Capture;

    const LIMITS: KeepLimits =
        KeepLimits { snap: 100, ring: 4_000, packets: 20, bytes: 2_000, after: 1_000, files_per_hour: 100 };

    fn packet(recorder: &mut Recorder, time: i64, flow: u64, data: &[u8]) {
        let frame = Frame { time, link: 101, data, cut: false, vouched: true };
        recorder.packet(&frame, data.len(), Some(flow));
    }

    /// Times and bytes of a file, as our own reader has them.
    fn read(kept: &Kept) -> Vec<(i64, Vec<u8>, bool)> {
        let mut capture = Capture::open(kept.bytes.as_slice()).unwrap();
        let mut found = Vec::new();
        while let Some(frame) = capture.next() {
            let frame = frame.unwrap();
            assert_eq!(frame.link, 101);
            found.push((frame.time, frame.data.to_vec(), frame.cut));
        }
        assert_eq!(found.len(), kept.packets);
        found
    }

    #[test]
    fn packets_before_and_after_of_this_flow_and_no_other() {
        let mut recorder = Recorder::new(LIMITS, "0");
        packet(&mut recorder, 1_000_001, 7, b"before");
        packet(&mut recorder, 1_000_002, 8, b"another");
        packet(&mut recorder, 1_000_003, 7, &[b'x'; 150]);
        let name = recorder.keep(4711, 7, 1_000_003).unwrap();
        assert_eq!(name, "0000000001000003-0-7-4711");
        assert_eq!(recorder.keep(4712, 7, 1_000_003), Some(name.clone()), "it is being kept already");
        packet(&mut recorder, 1_000_010, 7, b"after");
        packet(&mut recorder, 1_000_011, 8, b"another");
        assert_eq!(recorder.take(1_000_900), None);
        packet(&mut recorder, 1_001_004, 7, b"too late");
        let kept = recorder.take(1_001_004).unwrap();
        assert_eq!(kept.name, name);
        let expected = [
            (1_000_001, b"before".to_vec(), false),
            (1_000_003, vec![b'x'; 100], true),
            (1_000_010, b"after".to_vec(), false),
        ];
        assert_eq!(read(&kept), expected);
        assert_eq!(recorder.take(i64::MAX), None);
    }

    #[test]
    fn of_a_long_flow_the_packets_around_the_alert() {
        let mut recorder = Recorder::new(LIMITS, "0");
        for number in 0..1_000 {
            packet(&mut recorder, number, 7, &number.to_be_bytes());
        }
        let name = recorder.keep(1, 7, 999);
        assert_eq!(recorder.keep(2, 7, 999), name, "another rule, the same packet");
        packet(&mut recorder, 1_000, 7, b"no room");
        let kept = recorder.take(1_000).unwrap();
        let times: Vec<i64> = read(&kept).iter().map(|packet| packet.0).collect();
        assert_eq!(times, (980..1_000).collect::<Vec<_>>(), "20 packets, the newest");
        // What is over may be kept anew; there is nothing of a flow that never was.
        assert!(recorder.keep(1, 7, 1_000).is_some());
        assert_eq!((recorder.keep(1, 99, 1_000), recorder.shed), (None, 1));
    }

    #[test]
    fn a_flood_of_alerts_stays_within_its_bounds() {
        let mut recorder = Recorder::new(LIMITS, "0");
        let (mut most, mut taken, mut named) = (0, 0, 0);
        for number in 0..100_000_u64 {
            let time = i64::try_from(number).unwrap() * 10;
            packet(&mut recorder, time, number, &[b'y'; 90]);
            named += usize::from(recorder.keep(1, number, time).is_some());
            most = most.max(recorder.held());
            taken += usize::from(recorder.take(time).is_some());
        }
        taken += recorder.finish().len();
        assert!(most <= LIMITS.ring + (MOST_RUNNING + MOST_WAITING) * LIMITS.bytes, "{most}");
        assert_eq!((named, taken), (100, 100), "an hour's files, and each that was named is there");
        assert_eq!(recorder.shed, 100_000 - 100);
        let later = 2 * HOUR;
        packet(&mut recorder, later, 1, b"z");
        assert!(recorder.keep(1, 1, later).is_some(), "another hour");
    }

    #[test]
    fn who_takes_nothing_loses_the_newest_and_it_is_counted() {
        let mut recorder = Recorder::new(KeepLimits { after: 0, ..LIMITS }, "0");
        for number in 0..20_u64 {
            let time = i64::try_from(number).unwrap() * 10;
            packet(&mut recorder, time, number, b"a");
            recorder.keep(1, number, time);
        }
        assert_eq!(recorder.finish().len(), MOST_WAITING + 1);
        assert_eq!(recorder.shed, 20 - MOST_WAITING as u64 - 1);
    }

    #[test]
    fn a_packet_larger_than_all_room_is_left_out() {
        let mut recorder = Recorder::new(KeepLimits { snap: 10_000, ..LIMITS }, "0");
        packet(&mut recorder, 1, 7, &[0; 5_000]);
        assert_eq!(recorder.keep(1, 7, 1), None);
        packet(&mut recorder, 2, 7, &[0; 3_000]);
        assert!(recorder.keep(1, 7, 2).is_some());
        assert_eq!(recorder.finish()[0].packets, 0, "the file holds less than the ring");
    }
}
