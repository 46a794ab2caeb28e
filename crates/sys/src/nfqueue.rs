//! NFQUEUE: the kernel hands a packet over and waits for a verdict (`linux/netfilter/nfnetlink_queue.h`).
//!
//! A [`Queue`] belongs to the socket that bound it. Packets are taken many at a time, and whole: one that the network
//! card or a local sender would cut only later (GSO) comes in one piece. Verdicts of packets that follow one another
//! and are alike go as one message, many messages in one call. A message is read up to its bound; what is not
//! understood is counted and left.
//!
//! Nothing is asked of connection tracking here (`NFQA_CFG_F_CONNTRACK`): many kernels are built without it, and the
//! rules carry marks between packets and connections themselves ([`crate::nft::queue`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::netlink::{Message, NetlinkError, Socket, attributes, messages};

/// nfnetlink's number of queues.
const SUBSYSTEM: u16 = 3 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIG: u16 = SUBSYSTEM | 2;
const VERDICT_BATCH: u16 = SUBSYSTEM | 3;
const ERROR: u16 = 2;
/// Packets that are taken at once.
const TOGETHER: usize = 32;
/// Longest message of a packet: 64 KiB of it, and what the kernel says beside.
const LONGEST: usize = 66 * 1024;
/// Longest part of a packet that the kernel copies, its own limit.
const COPY: u32 = 0xffff;
/// Most bytes of verdicts that are sent at once.
const MOST_SENT: usize = 32 * 1024;
/// What the socket may hold before the kernel has to drop or let pass.
const ROOM: usize = 16 << 20;

/// How a queue is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Packets that may wait for their verdict.
    pub length: u32,
    /// Let packets through that do not fit; drop them otherwise.
    pub open: bool,
}

/// Whether a packet's transport checksum can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The kernel or the network card has looked, or will write it itself.
    Settled,
    /// Nobody has looked yet.
    Unknown,
}

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its number in this queue.
    pub id: u32,
    /// EtherType of what is in it.
    pub protocol: u16,
    /// Netfilter's number of the hook: 1 input, 2 forward, 3 output.
    pub hook: u8,
    /// Its mark.
    pub mark: u32,
    /// About its checksum.
    pub checksum: Checksum,
    /// How long it is, in bytes.
    pub length: u32,
    /// The packet from its IP header on; shorter than `length` where it is longer than can be copied.
    pub payload: &'a [u8],
}

/// What becomes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// This one and all with smaller numbers that have none yet.
    pub up_to: u32,
    /// Go on, or drop.
    pub accept: bool,
    /// A new mark.
    pub mark: Option<u32>,
}

/// What a reading brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Packets.
    pub packets: usize,
    /// There may be more.
    pub more: bool,
    /// The socket had no room: the kernel did with some packets what the queue says of such.
    pub overrun: bool,
    /// Messages that are nothing known.
    pub odd: u64,
}

/// A bound queue. Dropping it gives it back; the kernel then drops what waits in it.
pub struct Queue {
    socket: Socket,
    number: u16,
    buffer: Vec<u8>,
    out: Vec<u8>,
    /// The answer to the binding was not seen yet.
    binding: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("number", &self.number).finish_non_exhaustive()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Queue {
    /// Binds a queue in the network namespace of this thread. No packet comes before the whole of it is set.
    ///
    /// # Errors
    /// It is somebody else's already, or this process lacks CAP_NET_ADMIN.
    pub fn bind(number: u16, options: Options) -> Result<Self, NetlinkError> {
        let mut socket = Socket::netfilter()?;
        socket.receive_room(ROOM);
        // Until a copy mode is set, the kernel hands nothing over: this answer comes alone.
        let mut bind = config(format!("bind queue {number} (does another program read it?)"), number);
        bind.attribute(1, &[1, 0, 0, 0]).number(3, options.length);
        flags(&mut bind, options.open);
        socket.get(&bind, |_| {})?;
        let mut copy = config(format!("have the packets of queue {number} copied"), number);
        let [a, b, c, d] = COPY.to_be_bytes();
        copy.attribute(2, &[a, b, c, d, 2]);
        let mut queue = Self { socket, number, buffer: vec![0; TOGETHER * LONGEST], out: Vec::new(), binding: true };
        queue.tell(&copy)?;
        Ok(queue)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What is done with packets that do not fit, from now on.
    ///
    /// # Errors
    /// The socket failed.
    pub fn set_open(&mut self, open: bool) -> Result<(), NetlinkError> {
        let mut message = config(format!("set the flags of queue {}", self.number), self.number);
        flags(&mut message, open);
        self.tell(&message)
    }

    /// Sends without waiting: an answer would come among packets. A refusal is seen by [`Queue::read`].
    fn tell(&mut self, message: &Message) -> Result<(), NetlinkError> {
        let bytes = message.finish(0, 0)?;
        self.socket
            .write(&bytes)
            .map_err(|source| NetlinkError::Socket { attempt: format!("change queue {}", self.number), source })
    }

    /// Takes what is there, at most 32 packets, without waiting.
    ///
    /// # Errors
    /// The socket failed, or the kernel refused the binding.
    pub fn read(&mut self, mut take: impl FnMut(Packet<'_>)) -> io::Result<Read> {
        let mut read = Read::default();
        let mut lengths = [None; TOGETHER];
        match receive(self.socket.as_fd(), &mut self.buffer, &mut lengths) {
            Ok(count) => read.more = count == TOGETHER,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS) => return Ok(Read { overrun: true, more: true, ..read }),
                Some(libc::EAGAIN | libc::EINTR) => return Ok(read),
                _ => return Err(error),
            },
        }
        for (buffer, length) in self.buffer.chunks(LONGEST).zip(lengths.into_iter().flatten()) {
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                match message.kind {
                    PACKET => match packet(message.body) {
                        Some(packet) => {
                            self.binding = false;
                            read.packets += 1;
                            take(packet);
                        }
                        None => read.odd += 1,
                    },
                    ERROR if self.binding && refusal(message.body).is_some_and(|code| code != libc::ENOENT) => {
                        let code = refusal(message.body).unwrap_or(libc::EINVAL);
                        return Err(io::Error::from_raw_os_error(code));
                    }
                    // A verdict on packets that are gone: their device or their rule was taken away.
                    ERROR => {}
                    _ => read.odd += 1,
                }
            }
        }
        Ok(read)
    }

    /// Gives verdicts, in the order of their packets.
    ///
    /// # Errors
    /// The socket failed.
    pub fn answer(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.out.clear();
        for verdict in verdicts {
            put(&mut self.out, self.number, verdict);
            if self.out.len() >= MOST_SENT {
                self.socket.write(&self.out)?;
                self.out.clear();
            }
        }
        if self.out.is_empty() { Ok(()) } else { self.socket.write(&self.out) }
    }
}

/// Joins what can be said at once: verdicts of the same kind that follow one another. One that is behind another is
/// contained in it, since each is of all packets before it too.
pub fn join(verdicts: &mut Vec<Verdict>, next: Verdict) {
    let behind = |last: &Verdict| last.up_to.wrapping_sub(next.up_to).cast_signed() >= 0;
    match verdicts.last_mut() {
        Some(last) if behind(last) => {}
        Some(last) if last.accept == next.accept && last.mark == next.mark => last.up_to = next.up_to,
        _ => verdicts.push(next),
    }
}

fn config(attempt: String, number: u16) -> Message {
    let [high, low] = number.to_be_bytes();
    Message::new(attempt, CONFIG, 0, &[0, 0, high, low])
}

/// GSO packets whole, and open where that is wanted.
fn flags(message: &mut Message, open: bool) {
    const OPEN: u32 = 1;
    const GSO: u32 = 4;
    message.number(5, GSO | if open { OPEN } else { 0 }).number(4, GSO | OPEN);
}

/// A verdict as its message; by hand, since there are millions.
fn put(out: &mut Vec<u8>, number: u16, verdict: &Verdict) {
    let length: u32 = if verdict.mark.is_some() { 40 } else { 32 };
    out.extend(length.to_ne_bytes());
    out.extend(VERDICT_BATCH.to_ne_bytes());
    out.extend(1_u16.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([0, 0]);
    out.extend(number.to_be_bytes());
    out.extend(12_u16.to_ne_bytes());
    out.extend(2_u16.to_ne_bytes());
    out.extend(u32::from(verdict.accept).to_be_bytes());
    out.extend(verdict.up_to.to_be_bytes());
    if let Some(mark) = verdict.mark {
        out.extend(8_u16.to_ne_bytes());
        out.extend(3_u16.to_ne_bytes());
        out.extend(mark.to_be_bytes());
    }
}

/// The kernel's error number in an answer.
fn refusal(body: &[u8]) -> Option<i32> {
    let code = i32::from_ne_bytes(body.first_chunk::<4>().copied()?);
    (code != 0).then_some(code.saturating_neg())
}

/// A packet from the body of its message.
fn packet(body: &[u8]) -> Option<Packet<'_>> {
    let number = |value: &[u8]| value.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let mut packet =
        Packet { id: 0, protocol: 0, hook: 0, mark: 0, checksum: Checksum::Settled, length: 0, payload: &[] };
    let (mut head, mut whole) = (false, None);
    for (kind, value) in attributes(body.get(4..)?) {
        match kind {
            1 => {
                let [a, b, c, d, high, low, hook] = *value.first_chunk::<7>()?;
                packet.id = u32::from_be_bytes([a, b, c, d]);
                packet.protocol = u16::from_be_bytes([high, low]);
                packet.hook = hook;
                head = true;
            }
            3 => packet.mark = number(value)?,
            10 => packet.payload = value,
            13 => whole = Some(number(value)?),
            // Whether it is not verified; one whose sum is not written yet is the kernel's own.
            14 if number(value)? & 4 != 0 => packet.checksum = Checksum::Unknown,
            _ => {}
        }
    }
    packet.length = whole.unwrap_or(u32::try_from(packet.payload.len()).ok()?);
    head.then_some(packet)
}

/// Takes up to 32 messages, and gives how many; their lengths go into a list, `None` for one that did not fit.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], lengths: &mut [Option<usize>; TOGETHER]) -> io::Result<usize> {
    let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; TOGETHER];
    // SAFETY: headers of zeros name no memory; what they are to name is set below.
    let mut heads: [libc::mmsghdr; TOGETHER] = unsafe { std::mem::zeroed() };
    for ((head, part), place) in heads.iter_mut().zip(&mut parts).zip(buffer.chunks_mut(LONGEST)) {
        *part = libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: place.len() };
        head.msg_hdr.msg_iov = part;
        head.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: each header names one part, which names a piece of `buffer` of its own, or none; all outlive the call,
    // and the count is that of the headers.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            heads.as_mut_ptr(),
            libc::c_uint::try_from(heads.len()).unwrap_or(0),
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    for (head, length) in heads.iter().take(count).zip(lengths) {
        let cut = head.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        *length = usize::try_from(head.msg_len).ok().filter(|_| !cut);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_verdict_is_written_as_any_message_is() {
        for mark in [None, Some(0x1000_0007)] {
            let mut plain = Message::new("x", VERDICT_BATCH, 0, &[0, 0, 1, 2]);
            plain.attribute(2, &[[0, 0, 0, 1], [0, 0, 0, 9]].concat());
            if let Some(mark) = mark {
                plain.number(3, mark);
            }
            let mut out = Vec::new();
            put(&mut out, 0x0102, &Verdict { up_to: 9, accept: true, mark });
            assert_eq!(out, plain.finish(0, 0).unwrap());
        }
    }

    #[test]
    fn verdicts_that_are_alike_are_one() {
        let verdict = |up_to, accept, mark| Verdict { up_to, accept, mark };
        let mut joined = Vec::new();
        for next in [(1, true, None), (2, true, None), (3, false, None), (4, true, Some(1)), (5, true, Some(1))] {
            join(&mut joined, verdict(next.0, next.1, next.2));
        }
        join(&mut joined, verdict(3, true, Some(1)));
        assert_eq!(joined, [verdict(2, true, None), verdict(3, false, None), verdict(5, true, Some(1))]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = packet(&bytes);
            let _ = refusal(&bytes);
        }
    }
}
