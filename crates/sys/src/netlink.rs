//! Netlink: our own encoder, decoder and socket, for nfnetlink batches and rtnetlink dumps.
//!
//! A message is a header of sixteen bytes and attributes of type, length and value, each padded to four bytes
//! (netlink(7), RFC 3549). nfnetlink changes go in *batches*, which the kernel carries out whole or not at all; each
//! message asks for an answer, so that an error names the message that failed. A dump that the kernel marks as
//! interrupted (something changed meanwhile) is asked for again. What is read is bounded, and a reader never panics.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Bytes of a message's header.
pub const HEADER: usize = 16;
/// Longest value of an attribute, in bytes: its length has sixteen bits.
pub const MAX_VALUE: usize = 65_531;
/// Most bytes of one batch; each batch is one transaction.
pub const MAX_BATCH: usize = 1024 * 1024;
/// Most bytes that the answer to one dump may have.
pub const MAX_DUMP: usize = 256 * 1024 * 1024;

const MAX_INTERRUPTED: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(20);
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE: u16 = 0x3fff;
const NLMSGERR_ATTR_MSG: u16 = 1;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// Why talking to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused a message.
    #[error("cannot {attempt}: message {number} of {count}: {error}{detail}")]
    Refused {
        /// What the message was to do.
        attempt: String,
        /// Which message of the batch failed, from 1.
        number: usize,
        /// How many the batch has.
        count: usize,
        /// The kernel's answer.
        error: io::Error,
        /// The kernel's own words, with a leading separator, or empty.
        detail: String,
    },
    /// The socket failed.
    #[error("cannot {attempt}: {source}")]
    Socket {
        /// What was attempted.
        attempt: String,
        /// What came back.
        source: io::Error,
    },
    /// What was asked for is larger than a message or an answer may be.
    #[error("cannot {attempt}: {reason}")]
    TooLarge {
        /// What was attempted.
        attempt: String,
        /// The limit.
        reason: &'static str,
    },
    /// What is dumped changes faster than it can be read.
    #[error("cannot {attempt}: it changed during each of {MAX_INTERRUPTED} readings")]
    Interrupted {
        /// What was attempted.
        attempt: String,
    },
}

impl NetlinkError {
    /// The kernel's error number.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { error, .. } => error.raw_os_error(),
            Self::Socket { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A message that is being written, and what it is for.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
    attempt: String,
    /// An attribute did not fit.
    overflow: bool,
}

impl Message {
    /// A message with its fixed part; `attempt` completes "cannot …" in errors.
    pub fn new(attempt: impl Into<String>, kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        pad(&mut bytes);
        Self { bytes, attempt: attempt.into(), overflow: false }
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.with(kind, |message| message.bytes.extend(value))
    }

    /// Adds an attribute that holds attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.with(kind | NLA_F_NESTED, fill)
    }

    /// Adds text with its closing zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.with(kind, |message| {
            message.bytes.extend(value.bytes());
            message.bytes.push(0);
        })
    }

    /// Adds a number in network order.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    fn with(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => put(&mut self.bytes, start, &length.to_ne_bytes()),
            Err(_) => self.overflow = true,
        }
        pad(&mut self.bytes);
        self
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The whole message with its length and sequence number filled in.
    ///
    /// # Errors
    /// An attribute was too long.
    pub fn finish(&self, sequence: u32, flags: u16) -> Result<Vec<u8>, NetlinkError> {
        let too_large =
            || NetlinkError::TooLarge { attempt: self.attempt.clone(), reason: "a message holds at most 64 KiB" };
        if self.overflow {
            return Err(too_large());
        }
        let mut bytes = self.bytes.clone();
        let length = u32::try_from(bytes.len()).map_err(|_| too_large())?;
        put(&mut bytes, 0, &length.to_ne_bytes());
        let own = bytes.get(6..8).and_then(|two| two.try_into().ok()).map_or(0, u16::from_ne_bytes);
        put(&mut bytes, 6, &(own | flags).to_ne_bytes());
        put(&mut bytes, 8, &sequence.to_ne_bytes());
        Ok(bytes)
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
}

/// A message as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Type.
    pub kind: u16,
    /// Flags.
    pub flags: u16,
    /// Sequence number.
    pub sequence: u32,
    /// All behind the header.
    pub body: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The messages in a buffer; ends at the first that is not whole.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let body = rest.get(HEADER..length)?;
        let message = Received { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)?, body };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a buffer, as type (without flags) and value; ends at the first that is not whole.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        let kind = u16_at(rest, 2)? & NLA_TYPE;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A socket to one part of the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    sequence: u32,
    batch_limit: usize,
}

impl Socket {
    /// To netfilter.
    pub fn netfilter() -> Result<Self, NetlinkError> {
        Self::open("netfilter", Some(netlink::NETFILTER))
    }

    /// To routing.
    pub fn route() -> Result<Self, NetlinkError> {
        Self::open("routing", None)
    }

    fn open(name: &str, protocol: Option<rustix::net::Protocol>) -> Result<Self, NetlinkError> {
        let fail = |error: rustix::io::Errno| NetlinkError::Socket {
            attempt: format!("open a netlink socket to {name}"),
            source: error.into(),
        };
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(fail)?;
        use rustix::net::sockopt;
        // With CAP_NET_ADMIN beyond the system's limit, else up to it.
        let wanted = 4 * MAX_BATCH;
        if sockopt::set_socket_send_buffer_size_force(&socket, wanted).is_err() {
            sockopt::set_socket_send_buffer_size(&socket, wanted).map_err(fail)?;
        }
        if sockopt::set_socket_recv_buffer_size_force(&socket, wanted).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, wanted).map_err(fail)?;
        }
        let room = sockopt::socket_send_buffer_size(&socket).map_err(fail)?;
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: the pointer and the length describe `on`, which outlives the call.
            unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                );
            }
            // Without these the answers are longer and say less; nothing else depends on them.
        }
        Ok(Self { socket, sequence: 1, batch_limit: (room / 2).min(MAX_BATCH) })
    }

    /// Carries out all of these or none, in one nfnetlink transaction.
    ///
    /// # Errors
    /// The first message that was refused; nothing took effect then.
    pub fn batch(&mut self, subsystem: u8, batch: &[Message]) -> Result<(), NetlinkError> {
        let Some(first) = batch.first() else { return Ok(()) };
        let begin = self.sequence;
        let fixed = [0, 0, 0, subsystem];
        let mut bytes = Message::new("begin a batch", BATCH_BEGIN, 0, &fixed).finish(begin, 0)?;
        for (message, sequence) in batch.iter().zip(begin.wrapping_add(1)..) {
            bytes.extend(message.finish(sequence, NLM_F_ACK)?);
        }
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let end = begin.wrapping_add(count).wrapping_add(1);
        bytes.extend(Message::new("end a batch", BATCH_END, 0, &fixed).finish(end, 0)?);
        self.sequence = end.wrapping_add(1);
        if bytes.len() > self.batch_limit + MAX_VALUE {
            return Err(NetlinkError::TooLarge {
                attempt: first.attempt.clone(),
                reason: "the transaction is larger than the socket's buffer",
            });
        }
        self.send(&first.attempt, &bytes)?;
        let mut answered = 0;
        let mut failure: Option<(usize, i32, String)> = None;
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 64 * 1024];
        while answered < batch.len() {
            let size = self.read(&first.attempt, &mut buffer, deadline)?;
            for message in messages(buffer.get(..size).unwrap_or_default()) {
                let index = message.sequence.wrapping_sub(begin);
                if message.kind != NLMSG_ERROR || index > count {
                    continue;
                }
                let (code, detail) = verdict(&message);
                // An answer to the beginning or the end is about the batch as a whole: no other comes.
                let whole = index == 0 && code != 0;
                if code != 0 && failure.is_none() {
                    failure = Some((usize::try_from(index).unwrap_or(0), code, detail));
                }
                answered = if whole { batch.len() } else { answered + 1 };
            }
        }
        match failure {
            None => Ok(()),
            Some((number, code, detail)) => Err(NetlinkError::Refused {
                attempt: batch.get(number.saturating_sub(1)).unwrap_or(first).attempt.clone(),
                number,
                count: batch.len(),
                error: io::Error::from_raw_os_error(code),
                detail,
            }),
        }
    }

    /// As [`Socket::batch`], in as many transactions as the socket's limits ask for.
    ///
    /// # Errors
    /// As there; earlier transactions stay.
    pub fn batches(&mut self, subsystem: u8, all: &[Message]) -> Result<(), NetlinkError> {
        let mut rest = all;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest
                .iter()
                .take_while(|message| {
                    size += message.size();
                    size <= self.batch_limit
                })
                .count()
                .clamp(1, rest.len());
            let (now, later) = rest.split_at_checked(fits).unwrap_or((rest, &[]));
            self.batch(subsystem, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Asks for one thing and gives each part of the answer to `take`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn get(&mut self, request: &Message, mut take: impl FnMut(Received<'_>)) -> Result<(), NetlinkError> {
        self.exchange(request, NLM_F_ACK, &mut take).map(|_| ())
    }

    /// Asks for all and returns what `take` made of each part; asks again where the kernel says that it changed.
    ///
    /// # Errors
    /// The kernel refused, it changed every time, or the answer is larger than [`MAX_DUMP`].
    pub fn dump<T>(
        &mut self,
        request: &Message,
        mut take: impl FnMut(Received<'_>, &mut Vec<T>),
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..MAX_INTERRUPTED {
            let mut all = Vec::new();
            if self.exchange(request, NLM_F_DUMP, &mut |message| take(message, &mut all))? {
                return Ok(all);
            }
        }
        Err(NetlinkError::Interrupted { attempt: request.attempt.clone() })
    }

    /// True where the answer is whole and of one moment.
    fn exchange(
        &mut self,
        request: &Message,
        flags: u16,
        take: &mut dyn FnMut(Received<'_>),
    ) -> Result<bool, NetlinkError> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.send(&request.attempt, &request.finish(sequence, flags)?)?;
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 64 * 1024];
        let mut whole = true;
        let mut total = 0;
        loop {
            let size = self.read(&request.attempt, &mut buffer, deadline)?;
            total += size;
            if total > MAX_DUMP {
                return Err(NetlinkError::TooLarge {
                    attempt: request.attempt.clone(),
                    reason: "the answer is larger than 256 MiB",
                });
            }
            for message in messages(buffer.get(..size).unwrap_or_default()).filter(|m| m.sequence == sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let (code, detail) = verdict(&message);
                        if code == libc::EINTR || code == libc::EAGAIN {
                            return Ok(false);
                        }
                        if code == 0 {
                            return Ok(whole);
                        }
                        let error = io::Error::from_raw_os_error(code);
                        let attempt = request.attempt.clone();
                        return Err(NetlinkError::Refused { attempt, number: 1, count: 1, error, detail });
                    }
                    _ => take(message),
                }
            }
        }
    }

    fn send(&self, attempt: &str, bytes: &[u8]) -> Result<(), NetlinkError> {
        loop {
            match rustix::net::send(&self.socket, bytes, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(NetlinkError::Socket { attempt: attempt.to_owned(), source: error.into() });
                }
            }
        }
    }

    fn read(&self, attempt: &str, buffer: &mut [u8], deadline: Instant) -> Result<usize, NetlinkError> {
        let fail = |source: io::Error| NetlinkError::Socket { attempt: attempt.to_owned(), source };
        loop {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                // The second number is the true length: longer than the buffer means that the end is lost.
                Ok((size, true_size)) if true_size <= size => return Ok(size),
                Ok(_) => return Err(fail(io::Error::other("an answer is longer than the buffer"))),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(fail(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer")));
                    }
                    let limit = Timespec::try_from(left).map_err(|error| fail(io::Error::other(error)))?;
                    match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&limit)) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(fail(error.into())),
                    }
                }
                Err(error) => return Err(fail(error.into())),
            }
        }
    }
}

/// Error number (0: none) and the kernel's words from an answer of type error or done.
fn verdict(message: &Received<'_>) -> (i32, String) {
    let code = u32_at(message.body, 0).map_or(0, |code| code.cast_signed().saturating_neg());
    let mut detail = String::new();
    if message.kind == NLMSG_ERROR && message.flags & NLM_F_ACK_TLVS != 0 {
        // Behind the code stands the header of our message, and the rest of it unless it was left off.
        let ours = u32_at(message.body, 4).and_then(|length| usize::try_from(length).ok()).unwrap_or(HEADER);
        let skip = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { ours.next_multiple_of(4) };
        let words = message.body.get(4 + skip..).and_then(|rest| attribute(rest, NLMSGERR_ATTR_MSG));
        if let Some(words) = words {
            let words = String::from_utf8_lossy(words);
            detail = format!(" ({})", words.trim_end_matches('\0').chars().take(200).collect::<String>());
        }
    }
    (code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in any::<u16>(), sequence in any::<u32>(), fixed in proptest::collection::vec(any::<u8>(), 4..=4),
            values in proptest::collection::vec((0_u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            inner in proptest::collection::vec((0_u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..50)), 0..9),
        ) {
            let mut message = Message::new("test", kind, 0, &fixed);
            for (kind, value) in &values {
                message.attribute(*kind, value);
            }
            message.nested(7, |message| {
                for (kind, value) in &inner {
                    message.attribute(*kind, value);
                }
            });
            let mut bytes = message.finish(sequence, 0).unwrap();
            prop_assert_eq!(bytes.len() % 4, 0);
            bytes.extend(message.finish(sequence.wrapping_add(1), 4).unwrap());
            let read: Vec<_> = messages(&bytes).collect();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (kind, 1, sequence));
            prop_assert_eq!(read[1].flags, 5);
            let found: Vec<_> = attributes(&read[0].body[4..]).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(&found[..values.len()], &values[..]);
            let nested: Vec<_> = attributes(&found[values.len()].1).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(nested, inner);
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_run_for_ever(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            for message in messages(&bytes).take(1_000) {
                attributes(message.body).take(1_000).for_each(drop);
                verdict(&message);
                verdict(&Received { kind: NLMSG_ERROR, flags: NLM_F_ACK_TLVS, ..message });
            }
            prop_assert!(attributes(&bytes).take(1_000).count() < 1_000);
        }
    }

    #[test]
    fn an_attribute_that_does_not_fit_is_refused() {
        let mut message = Message::new("hold much", 1, 0, &[]);
        message.attribute(1, &vec![0; MAX_VALUE]);
        assert!(message.finish(1, 0).is_ok());
        message.attribute(1, &vec![0; MAX_VALUE + 1]);
        assert!(message.finish(1, 0).unwrap_err().to_string().contains("cannot hold much"));
    }
}
