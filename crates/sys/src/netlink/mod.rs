//! Netlink: our own encoder, decoder and socket, for nfnetlink batches and rtnetlink dumps.
//!
//! Messages are written and read in `message`. nfnetlink changes go in *batches*, which the kernel carries out whole
//! or not at all; each message asks for an answer, so that an error names the message that failed. A dump that the
//! kernel marks as interrupted (something changed meanwhile) is asked for again. What is read is bounded.

mod message;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

pub use message::{HEADER, MAX_VALUE, Message, Received, attribute, attributes, attributes_with_flags, messages};
use message::{NLMSG_ERROR, verdict};

/// Most bytes of one batch; each batch is one transaction.
pub const MAX_BATCH: usize = 1024 * 1024;
/// Most bytes that the answer to one dump may have.
pub const MAX_DUMP: usize = 256 * 1024 * 1024;

const MAX_INTERRUPTED: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(20);

const NLMSG_DONE: u16 = 3;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
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

/// A socket to one part of the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    sequence: u32,
    batch_limit: usize,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
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

    /// As much room for what arrives as the system gives.
    pub fn receive_room(&self, bytes: usize) {
        use rustix::net::sockopt;
        if sockopt::set_socket_recv_buffer_size_force(&self.socket, bytes).is_err() {
            // What it had is less, not none.
            let _ = sockopt::set_socket_recv_buffer_size(&self.socket, bytes);
        }
    }

    /// Sends bytes that are messages, and waits for no answer.
    ///
    /// # Errors
    /// The socket failed.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match rustix::net::send(&self.socket, bytes, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
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
        self.write(bytes).map_err(|source| NetlinkError::Socket { attempt: attempt.to_owned(), source })
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
