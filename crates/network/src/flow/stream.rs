//! One direction of a TCP connection: segments become bytes in order.
//!
//! Places are 64-bit offsets from the first byte. Segments are kept as pieces that do not overlap; where a new one
//! lies over old ones, the target's policy says whose bytes stay. Application and raw inspection each have their
//! own progress; what both have passed (less a window that inline inspection looks back on) is let go.
//!
//! Bounds: bytes held by one stream and by all, pieces of one stream.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::decode::Overlap;

/// Most pieces of one stream.
const MOST_PIECES: usize = 4096;
/// Most urgent bytes that are remembered.
const MOST_URGENT: usize = 64;
/// Most emptied pieces that are kept for use, and how large one may be.
const MOST_SPARE: usize = 4;
const LARGEST_SPARE: usize = 2048;
/// What a piece takes besides its bytes.
const PIECE_COST: usize = 96;
/// Most bytes that one stream may hold beyond what was consumed.
const MOST_HELD: usize = 4 << 20;

#[derive(Debug)]
struct Piece {
    /// Its first byte's place.
    start: u64,
    /// Where the segment began that the bytes came in.
    origin: u64,
    data: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }
}

/// What comes next for the application layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// Bytes from the progress on.
    Data(usize),
    /// So many bytes will not come.
    Gap(u64),
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Sequence number of offset 0.
    pub base: u32,
    pub isn: u32,
    /// The next byte that the sender will send.
    pub next_seq: u32,
    pub last_ack: u32,
    pub window: u32,
    pub scale: u8,
    pub last_timestamp: u32,
    pub last_timestamp_time: i64,
    pub timestamps: bool,
    /// By their places: what comes in order goes to the end.
    pieces: VecDeque<Piece>,
    held: usize,
    /// Urgent bytes that were taken out, by their distance from the first byte: what is behind one moves up.
    urgent: Vec<u64>,
    /// Emptied pieces, so that a stream that goes on takes no new memory.
    spare: Vec<Vec<u8>>,
    /// Highest byte that was ever inserted.
    pub right: u64,
    pub app_progress: u64,
    pub raw_progress: u64,
    /// Raw inspection is asked for now.
    pub trigger: bool,
    /// No more is kept: the depth was reached.
    pub depth_reached: bool,
    pub gap_seen: bool,
    pub fin: bool,
    /// Segments that could not be kept.
    pub lost: u64,
    /// Whether a segment lay over another with other bytes.
    pub different_overlap: bool,
}

/// Signed distance of sequence numbers.
pub(crate) fn ahead(one: u32, other: u32) -> i32 {
    one.wrapping_sub(other) as i32
}

impl Stream {
    pub(crate) fn start(&mut self, isn: u32) {
        self.isn = isn;
        self.base = isn.wrapping_add(1);
        self.next_seq = self.base;
        self.last_ack = self.base;
    }

    /// Offset of a sequence number near the present; `None` before the first byte.
    pub(crate) fn offset(&self, seq: u32) -> Option<u64> {
        let distance = self.distance(seq)?;
        Some(distance - self.urgent.iter().filter(|urgent| **urgent < distance).count() as u64)
    }

    /// How far a sequence number is from the first byte, urgent bytes included.
    fn distance(&self, seq: u32) -> Option<u64> {
        let near = self.app_progress.max(self.right) + self.urgent.len() as u64;
        let near_seq = self.base.wrapping_add(near as u32);
        near.checked_add_signed(i64::from(ahead(seq, near_seq)))
    }

    /// The byte with this number is urgent, and no part of the stream, however often it is sent.
    pub(crate) fn take_out(&mut self, seq: u32) {
        let Some(distance) = self.distance(seq) else { return };
        if let Err(at) = self.urgent.binary_search(&distance) {
            self.urgent.insert(at, distance);
        }
        if self.urgent.len() > MOST_URGENT {
            // The oldest becomes a part of where counting begins.
            self.urgent.remove(0);
            self.urgent.iter_mut().for_each(|distance| *distance -= 1);
            self.base = self.base.wrapping_add(1);
        }
    }

    /// The bytes of a segment without its urgent ones.
    pub(crate) fn without_urgent<'p>(&self, seq: u32, payload: &'p [u8]) -> Cow<'p, [u8]> {
        let Some(start) = self.distance(seq).filter(|_| !self.urgent.is_empty()) else { return Cow::Borrowed(payload) };
        let places = start..start + payload.len() as u64;
        if !self.urgent.iter().any(|urgent| places.contains(urgent)) {
            return Cow::Borrowed(payload);
        }
        let kept = places.zip(payload).filter(|(place, _)| self.urgent.binary_search(place).is_err());
        Cow::Owned(kept.map(|(_, byte)| *byte).collect())
    }

    /// Bytes that the other side has acknowledged, as an offset.
    pub(crate) fn acked(&self) -> u64 {
        self.offset(self.last_ack).unwrap_or(0).min(self.right)
    }

    /// Puts a segment in. Gives whether there was room.
    pub(crate) fn insert(&mut self, seq: u32, data: &[u8], policy: Overlap, depth: u64, from: u64) -> bool {
        let Some(mut start) = self.offset(seq) else {
            // It begins before the first byte: what lies after it counts.
            let skip = ahead(self.base, seq);
            let Some(rest) = usize::try_from(skip).ok().and_then(|skip| data.get(skip..)) else { return true };
            return rest.is_empty() || self.insert(self.base, rest, policy, depth, from);
        };
        let origin = start;
        let mut data = data;
        if start < from {
            let Some(rest) = usize::try_from(from - start).ok().and_then(|skip| data.get(skip..)) else { return true };
            (start, data) = (from, rest);
        }
        if depth > 0 && start + data.len() as u64 > depth {
            self.depth_reached = true;
            let room = usize::try_from(depth.saturating_sub(start)).unwrap_or(0);
            data = data.get(..room.min(data.len())).unwrap_or_default();
        }
        if data.is_empty() {
            return true;
        }
        if self.pieces.len() >= MOST_PIECES || self.held + data.len() > MOST_HELD {
            self.lost += 1;
            return false;
        }
        self.right = self.right.max(start + data.len() as u64);
        self.lay(start, origin, data, policy);
        true
    }

    /// How many pieces begin at a place or before it.
    fn up_to(&self, at: u64) -> usize {
        // Nearly always all of them, or all but the last.
        match self.pieces.back() {
            Some(last) if last.start > at => self.pieces.partition_point(|piece| piece.start <= at),
            _ => self.pieces.len(),
        }
    }

    /// The piece that holds a place.
    fn covering(&self, at: u64) -> Option<usize> {
        let index = self.up_to(at).checked_sub(1)?;
        self.pieces.get(index).filter(|piece| at < piece.end()).map(|_| index)
    }

    /// Lays bytes over what is there.
    fn lay(&mut self, start: u64, origin: u64, data: &[u8], policy: Overlap) {
        let end = start + data.len() as u64;
        let mut at = start;
        while at < end {
            // The old piece that holds this place or comes next.
            let index = self.covering(at).unwrap_or_else(|| self.up_to(at));
            let Some(piece) = self.pieces.get_mut(index).filter(|piece| piece.start < end) else {
                return self.put(at, origin, slice(data, start, at, end));
            };
            if piece.start > at {
                let stop = piece.start;
                self.put(at, origin, slice(data, start, at, stop));
                at = stop;
                continue;
            }
            let stop = piece.end().min(end);
            let fresh = slice(data, start, at, stop);
            let skip = (at - piece.start) as usize;
            let Some(place) = piece.data.get_mut(skip..skip + fresh.len()) else { return };
            if place != fresh {
                self.different_overlap = true;
                if newer_wins(policy, origin, piece.origin) {
                    place.copy_from_slice(fresh);
                }
            }
            at = stop;
        }
    }

    /// Puts bytes where none are.
    fn put(&mut self, at: u64, origin: u64, data: &[u8]) {
        if !data.is_empty() {
            self.held += data.len();
            let index = self.up_to(at);
            let mut kept = self.spare.pop().unwrap_or_default();
            kept.extend_from_slice(data);
            self.pieces.insert(index, Piece { start: at, origin, data: kept });
        }
    }

    /// Bytes in a row from a place on, up to a limit, put into the buffer.
    pub(crate) fn copy(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        let mut at = from;
        let Some(first) = self.covering(from) else { return };
        for piece in self.pieces.range(first..).take_while(|piece| piece.start < to) {
            if at < piece.start {
                return;
            }
            let skip = (at - piece.start) as usize;
            let count = (piece.data.len() - skip).min((to - at) as usize);
            out.extend_from_slice(piece.data.get(skip..skip + count).unwrap_or_default());
            at += count as u64;
        }
    }

    /// The bytes between two places, if they lie in one piece: taken out of it without a copy, with how many of them come
    /// before. [`Stream::give_back`] has to follow before anything else is done here.
    pub(crate) fn lend(&mut self, from: u64, to: u64) -> Option<(Vec<u8>, usize)> {
        let index = self.covering(from)?;
        let piece = self.pieces.get_mut(index).filter(|piece| piece.end() >= to)?;
        Some((std::mem::take(&mut piece.data), (from - piece.start) as usize))
    }

    /// What was lent from a place.
    pub(crate) fn give_back(&mut self, from: u64, data: Vec<u8>) {
        let index = self.up_to(from).saturating_sub(1);
        if let Some(piece) = self.pieces.get_mut(index) {
            piece.data = data;
        }
    }

    /// The first place from here on that has a byte.
    pub(crate) fn first_from(&self, from: u64) -> Option<u64> {
        match self.covering(from) {
            Some(_) => Some(from),
            None => self.pieces.get(self.up_to(from)).map(|piece| piece.start),
        }
    }

    /// Where the run of bytes that begins at a place ends.
    pub(crate) fn run_end(&self, from: u64) -> u64 {
        let Some(first) = self.covering(from) else { return from };
        let mut at = from;
        for piece in self.pieces.range(first..) {
            if piece.start > at {
                break;
            }
            at = piece.end();
        }
        at
    }

    /// The start of the run of bytes around a place.
    pub(crate) fn run_start(&self, from: u64) -> u64 {
        let mut at = from;
        let before = self.pieces.partition_point(|piece| piece.start < from);
        for piece in self.pieces.range(..before).rev() {
            if piece.end() < at {
                break;
            }
            at = piece.start;
        }
        at
    }

    /// What the application layer gets next, of what lies before `limit`; a gap is one once bytes behind it are
    /// acknowledged.
    pub(crate) fn next(&self, limit: u64, acked: u64) -> Next {
        let from = self.app_progress;
        if self.covering(from).is_some() {
            let end = self.run_end(from).min(limit);
            return if end > from { Next::Data((end - from) as usize) } else { Next::Nothing };
        }
        match self.first_from(from) {
            Some(start) if acked > start => Next::Gap(start - from),
            None if acked > from && self.right > from => Next::Gap(acked - from),
            _ => Next::Nothing,
        }
    }

    /// Lets go of what both inspections have passed.
    pub(crate) fn prune(&mut self, look_back: u64, raw: bool) {
        let raw_from = if raw { self.raw_progress.saturating_sub(look_back) } else { u64::MAX };
        let keep = self.app_progress.min(raw_from);
        while let Some(mut piece) = self.pieces.pop_front_if(|piece| piece.end() <= keep) {
            self.held -= piece.data.len();
            if self.spare.len() < MOST_SPARE && piece.data.capacity() <= LARGEST_SPARE {
                piece.data.clear();
                self.spare.push(piece.data);
            }
        }
        // A long piece of which only the end is needed.
        if let Some(piece) = self.pieces.front_mut()
            && piece.data.len() > 64 << 10
            && keep > piece.start + (piece.data.len() as u64) / 2
        {
            let cut = (keep - piece.start) as usize;
            piece.data.drain(..cut);
            piece.start = keep;
            self.held -= cut;
        }
    }

    /// Bytes that are kept, with what keeping a piece takes.
    pub(crate) fn kept(&self) -> usize {
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        self.held + self.pieces.len() * PIECE_COST + spare
    }

    /// Would a segment lie beyond what comes next, and so have to be kept?
    pub(crate) fn is_ahead(&self, seq: u32) -> bool {
        self.offset(seq).is_some_and(|start| start > self.app_progress)
    }

    /// Passes over all that the other side has acknowledged; gives how many bytes were not seen.
    pub(crate) fn pass_over(&mut self, ack: u32) -> u64 {
        let Some(to) = self.offset(ack).filter(|to| *to > self.app_progress) else { return 0 };
        let missed = to - self.app_progress;
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.start < to) {
            self.held -= piece.data.len();
        }
        self.app_progress = to;
        self.raw_progress = self.raw_progress.max(to);
        self.right = self.right.max(to);
        if ahead(ack, self.next_seq) > 0 {
            self.next_seq = ack;
        }
        self.last_ack = ack;
        missed
    }
}

fn slice(data: &[u8], start: u64, from: u64, to: u64) -> &[u8] {
    data.get((from - start) as usize..(to - start) as usize).unwrap_or_default()
}

/// Whether the newer of two segments counts where they overlap.
fn newer_wins(policy: Overlap, new: u64, old: u64) -> bool {
    match policy {
        Overlap::Bsd | Overlap::Windows | Overlap::Solaris | Overlap::Linux => new < old,
        Overlap::OldLinux => new <= old,
        Overlap::BsdRight => new >= old,
        Overlap::First => false,
        Overlap::Last => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(policy: Overlap, parts: &[(u32, &[u8])]) -> (Stream, Vec<u8>) {
        let mut stream = Stream::default();
        stream.start(99);
        for (seq, data) in parts {
            stream.insert(*seq, data, policy, 0, 0);
        }
        let mut out = Vec::new();
        stream.copy(0, u64::MAX, &mut out);
        (stream, out)
    }

    #[test]
    fn order_and_gaps() {
        let (stream, out) = stream(Overlap::Bsd, &[(103, b"def"), (100, b"ab")]);
        assert_eq!((out.as_slice(), stream.run_end(0)), (&b"ab"[..], 2));
        assert_eq!(stream.next(6, 0), Next::Data(2));
        let (mut stream, out) = self::stream(Overlap::Bsd, &[(103, b"def"), (100, b"ab"), (102, b"c")]);
        assert_eq!(out, b"abcdef");
        stream.app_progress = 6;
        stream.raw_progress = 6;
        stream.prune(0, true);
        assert_eq!(stream.held, 0);
    }

    #[test]
    fn urgent_bytes_are_taken_out_however_often_they_come() {
        let mut stream = Stream::default();
        stream.start(99);
        let mut put = |seq: u32, data: &[u8], urgent: Option<u32>| {
            urgent.into_iter().for_each(|urgent| stream.take_out(urgent));
            let data = stream.without_urgent(seq, data).into_owned();
            stream.insert(seq, &data, Overlap::First, 0, 0);
            let mut out = Vec::new();
            stream.copy(0, u64::MAX, &mut out);
            (out, std::mem::take(&mut stream.different_overlap))
        };
        assert_eq!(put(100, b"ab", None), (b"ab".to_vec(), false));
        assert_eq!(put(102, b"!cd", Some(102)), (b"abcd".to_vec(), false));
        for _ in 0..2 {
            assert_eq!(put(100, b"ab", None), (b"abcd".to_vec(), false));
            assert_eq!(put(102, b"!cd", Some(102)), (b"abcd".to_vec(), false));
            // Also where it is not said to be urgent any more.
            assert_eq!(put(101, b"b!c", None), (b"abcd".to_vec(), false));
        }
        for number in 0..100 {
            put(105 + 2 * number, b"!e", Some(105 + 2 * number));
        }
        assert_eq!(put(305, b"f", None).0, [b"abcd".to_vec(), vec![b'e'; 100], b"f".to_vec()].concat());
    }

    #[test]
    fn overlaps_by_policy() {
        let parts: &[(u32, &[u8])] = &[(102, b"OLD"), (100, b"newer")];
        assert_eq!(stream(Overlap::Bsd, parts).1, b"newer");
        assert_eq!(stream(Overlap::First, parts).1, b"neOLD");
        let same: &[(u32, &[u8])] = &[(100, b"EVIL"), (100, b"GOOD")];
        assert_eq!(stream(Overlap::Bsd, same).1, b"EVIL");
        assert_eq!(stream(Overlap::OldLinux, same).1, b"GOOD");
        assert!(stream(Overlap::Last, same).0.different_overlap);
    }

    #[test]
    fn what_is_missing_and_acknowledged_is_a_gap() {
        let (stream, _) = stream(Overlap::Bsd, &[(105, b"x")]);
        assert_eq!(stream.next(6, 3), Next::Nothing);
        assert_eq!(stream.next(6, 6), Next::Gap(5));
    }

    #[test]
    fn bounded() {
        let mut stream = Stream::default();
        stream.start(0);
        for number in 0..20_000u32 {
            stream.insert(number * 10 + 5, b"abc", Overlap::Bsd, 0, 0);
        }
        assert!(stream.pieces.len() <= MOST_PIECES && stream.lost > 0);
    }
}
