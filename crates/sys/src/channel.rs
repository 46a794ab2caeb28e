//! A channel between two processes of ours: frames over a Unix stream socket pair, with descriptors beside them.
//!
//! A frame is eight bytes (length of the body and number of descriptors, both `u32` little-endian) and the body.
//! Descriptors travel as `SCM_RIGHTS` with the first byte of the header. The other side may have been taken
//! over, so its claims are checked: a body is at most [`MAX_FRAME`] bytes and is allocated as it arrives, at
//! most [`MAX_DESCRIPTORS`] descriptors come with it, and a frame whose descriptors do not add up ends the channel.
//!
//! Copies share one state: two writers never mix their frames, and a reader that ran out of time halfway through
//! a frame goes on there the next time.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};

/// Longest body of a frame, in bytes.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// Most descriptors that travel with one frame (the kernel's own limit is 253).
pub const MAX_DESCRIPTORS: usize = 250;

const HEADER: usize = 8;
/// How much of a body is made room for at once: a claimed length alone costs nothing.
const CHUNK: usize = 64 * 1024;

/// A body and the descriptors that came with it.
pub type Frame = (Vec<u8>, Vec<OwnedFd>);

/// What a wait with a limit brought.
#[derive(Debug)]
pub enum Waited {
    /// A whole frame.
    Frame(Frame),
    /// The other side closed between two frames.
    Closed,
    /// The time is up; what had arrived of a frame is kept.
    TimedOut,
}

/// One end. Cheap to copy with [`Channel::try_clone`]; closed when the last copy is dropped.
#[derive(Clone, Debug)]
pub struct Channel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    socket: OwnedFd,
    reader: Mutex<Partial>,
    writer: Mutex<()>,
    /// A frame was left half written or made no sense: nothing after it can be read.
    broken: AtomicBool,
}

/// What has arrived of a frame.
#[derive(Debug, Default)]
struct Partial {
    header: Vec<u8>,
    body: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Two connected ends, closed over exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(one), Self::new(other)))
    }

    /// An end on a connected Unix stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        let inner =
            Inner { socket, reader: Mutex::default(), writer: Mutex::default(), broken: AtomicBool::new(false) };
        Self { inner: Arc::new(inner) }
    }

    /// The end that a parent left open under this number. Call it once a number, before other descriptors open.
    ///
    /// # Errors
    /// The number is not an open socket.
    pub fn from_inherited(number: RawFd) -> io::Result<Self> {
        if number < 3 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an inherited channel has a number of 3 or more"));
        }
        // SAFETY: the descriptor is only looked at here; a number that is not open is answered with EBADF.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::net::sockopt::socket_type(borrowed)? != SocketType::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the inherited channel is no stream socket"));
        }
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
        // SAFETY: the parent left this descriptor for us and nothing else in this process knows its number.
        Ok(Self::new(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// A copy: one thread reads on the one, another writes on the other.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(self.clone())
    }

    /// The socket alone, for an asynchronous runtime; whatever was read halfway is lost with the channel.
    pub fn into_std(self) -> io::Result<UnixStream> {
        Ok(UnixStream::from(self.inner.socket.try_clone()?))
    }

    /// A write that cannot go on for this long fails, and the channel with it. `None` waits for ever.
    pub fn set_send_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_timeout(&self.inner.socket, rustix::net::sockopt::Timeout::Send, limit)?)
    }

    /// Ends both directions now; a reader or writer that waits wakes up.
    pub fn close(&self) {
        self.inner.broken.store(true, Ordering::Release);
        // An error means that the other side was quicker.
        let _ = rustix::net::shutdown(&self.inner.socket, Shutdown::Both);
    }

    /// Sends one frame; waits while the other side is slow.
    ///
    /// # Errors
    /// `InvalidInput` where it is too large (nothing was sent and the channel lives on); anything else ends it.
    pub fn send(&self, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if body.len() > MAX_FRAME || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a frame holds at most {MAX_FRAME} bytes and {MAX_DESCRIPTORS} descriptors, not {} and {}",
                    body.len(),
                    descriptors.len()
                ),
            ));
        }
        let _turn = lock(&self.inner.writer);
        self.check()?;
        let result = self.write(body, descriptors);
        if result.is_err() {
            self.close();
        }
        result
    }

    fn write(&self, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let count = u32::try_from(descriptors.len()).map_err(io::Error::other)?;
        let mut header = [0_u8; HEADER];
        for (to, from) in header.iter_mut().zip(length.to_le_bytes().into_iter().chain(count.to_le_bytes())) {
            *to = from;
        }
        let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(descriptors).size()];
        let mut pending = descriptors;
        let mut sent = 0;
        while sent < HEADER + body.len() {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !pending.is_empty() && !control.push(SendAncillaryMessage::ScmRights(pending)) {
                return Err(io::Error::other("the descriptors do not fit into the control message"));
            }
            let head = header.get(sent.min(HEADER)..).unwrap_or_default();
            let rest = body.get(sent.saturating_sub(HEADER)..).unwrap_or_default();
            let parts = [IoSlice::new(head), IoSlice::new(rest)];
            match rustix::net::sendmsg(&self.inner.socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    sent += n;
                    pending = &[];
                }
                Err(rustix::io::Errno::INTR) => {}
                // tokio shares the open file with us and may have made it non-blocking.
                Err(rustix::io::Errno::AGAIN) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next frame; `None` when the other side closed between two frames.
    ///
    /// # Errors
    /// The other side closed within a frame, or sent one that is too large or whose descriptors do not add up.
    pub fn recv(&self) -> io::Result<Option<Frame>> {
        loop {
            match self.recv_until(None)? {
                Waited::Frame(frame) => return Ok(Some(frame)),
                Waited::Closed => return Ok(None),
                Waited::TimedOut => {}
            }
        }
    }

    /// The next frame, waiting no longer than this for the whole of it. Zero asks what is there.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub fn recv_timeout(&self, limit: Duration) -> io::Result<Waited> {
        self.recv_until(Some(Instant::now() + limit))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> io::Result<Waited> {
        let mut partial = lock(&self.inner.reader);
        let result = self.read(&mut partial, deadline);
        if result.is_err() {
            *partial = Partial::default();
            self.close();
        }
        result
    }

    fn read(&self, partial: &mut Partial, deadline: Option<Instant>) -> io::Result<Waited> {
        loop {
            let (missing, in_header) = match partial.claims()? {
                None => (HEADER - partial.header.len(), true),
                Some((length, count)) if partial.body.len() == length => {
                    if partial.descriptors.len() != count {
                        return Err(invalid("a frame came with another number of descriptors than it claims"));
                    }
                    let whole = std::mem::take(partial);
                    return Ok(Waited::Frame((whole.body, whole.descriptors)));
                }
                Some((length, _)) => ((length - partial.body.len()).min(CHUNK), false),
            };
            let target = if in_header { &mut partial.header } else { &mut partial.body };
            let before = target.len();
            target.resize(before + missing, 0);
            let room = target.get_mut(before..).unwrap_or_default();
            // What is there is taken before it is waited for: that is one system call where frames follow each other.
            let outcome = receive(self.inner.socket.as_fd(), room, &mut partial.descriptors, deadline.is_some());
            let got = *outcome.as_ref().unwrap_or(&0);
            target.truncate(before + got);
            match outcome {
                Ok(0) if partial.header.is_empty() => return Ok(Waited::Closed),
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the channel closed within a frame")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.readable(deadline)? {
                        return Ok(Waited::TimedOut);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits; false where the time is up.
    fn readable(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let limit = match deadline {
                None => None,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    Some(Timespec::try_from(left).map_err(io::Error::other)?)
                }
            };
            let mut wanted = [PollFd::new(&self.inner.socket, PollFlags::IN)];
            match poll(&mut wanted, limit.as_ref()) {
                Ok(count) => return Ok(count > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.inner.broken.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the channel is closed"));
        }
        Ok(())
    }
}

impl AsFd for Channel {
    /// For poll beside other descriptors; readable means that [`Channel::recv_timeout`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.socket.as_fd()
    }
}

impl Partial {
    /// Length and number of descriptors as claimed, once the header is whole.
    fn claims(&self) -> io::Result<Option<(usize, usize)>> {
        let Some((length, count)) = self.header.split_first_chunk::<4>() else { return Ok(None) };
        let Some((count, _)) = count.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
        let count = usize::try_from(u32::from_le_bytes(*count)).map_err(io::Error::other)?;
        if length > MAX_FRAME || count > MAX_DESCRIPTORS {
            return Err(invalid("a frame claims more than a frame may hold"));
        }
        Ok(Some((length, count)))
    }
}

/// Reads once into `room`; descriptors that came along are kept.
fn receive(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    at_once: bool,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | if at_once { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(room)], &mut control, flags)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = part {
            descriptors.extend(list);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(invalid("descriptors of a frame were lost: this process has too many open"));
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(invalid("a frame came with more descriptors than a frame may hold"));
    }
    Ok(message.bytes)
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The state stays sound when a thread panics while holding it: every step leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn frames_of_every_size_arrive_whole_and_in_order() {
        let (one, other) = Channel::pair().unwrap();
        let sizes = [0, 1, 7, 8, 65_535, 65_536, 65_537, 3_000_000, MAX_FRAME];
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (n, size) in sizes.iter().enumerate() {
                    one.send(&vec![n as u8; *size], &[]).unwrap();
                }
            });
            for (n, size) in sizes.iter().enumerate() {
                let (body, descriptors) = other.recv().unwrap().unwrap();
                assert_eq!((body.len(), descriptors.len()), (*size, 0));
                assert!(body.iter().all(|byte| *byte == n as u8));
            }
            assert!(other.recv().unwrap().is_none(), "the writer is gone");
        });
    }

    #[test]
    fn descriptors_arrive_with_their_frame() {
        let (one, other) = Channel::pair().unwrap();
        let mut files: Vec<_> = (0..MAX_DESCRIPTORS).map(|_| tempfile::tempfile().unwrap()).collect();
        for (n, file) in files.iter_mut().enumerate() {
            write!(file, "{n}").unwrap();
            file.rewind().unwrap();
        }
        one.send(b"none", &[]).unwrap();
        one.send(b"all", &files.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
        one.send(b"none", &[]).unwrap();
        assert!(other.recv().unwrap().unwrap().1.is_empty());
        let (body, descriptors) = other.recv().unwrap().unwrap();
        assert_eq!((body.as_slice(), descriptors.len()), (b"all".as_slice(), MAX_DESCRIPTORS));
        for (n, descriptor) in descriptors.into_iter().enumerate() {
            let mut text = String::new();
            std::fs::File::from(descriptor).read_to_string(&mut text).unwrap();
            assert_eq!(text, n.to_string());
        }
        assert!(other.recv().unwrap().unwrap().1.is_empty());
    }

    #[test]
    fn too_large_is_refused_and_the_channel_lives_on() {
        let (one, other) = Channel::pair().unwrap();
        let error = one.send(&vec![0; MAX_FRAME + 1], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        one.send(b"after", &[]).unwrap();
        assert_eq!(other.recv().unwrap().unwrap().0, b"after");
    }

    #[test]
    fn a_claim_of_more_than_allowed_ends_the_channel() {
        for claim in [[0xff_u8; 8], [1, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 251, 0, 0, 0]] {
            let (mut raw, end) = UnixStream::pair().unwrap();
            let other = Channel::new(end.into());
            raw.write_all(&claim).unwrap();
            assert_eq!(other.recv().unwrap_err().kind(), io::ErrorKind::InvalidData, "{claim:?}");
            assert!(other.send(b"x", &[]).is_err());
        }
    }

    #[test]
    fn descriptors_that_do_not_add_up_end_the_channel() {
        let (mut raw, end) = UnixStream::pair().unwrap();
        let other = Channel::new(end.into());
        raw.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, b'x']).unwrap();
        assert_eq!(other.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_wait_that_ran_out_within_a_frame_goes_on_there() {
        let (mut raw, end) = UnixStream::pair().unwrap();
        let other = Channel::new(end.into());
        for part in [&[4_u8, 0, 0][..], &[0, 0, 0, 0, 0, b'a'], b"bc"] {
            raw.write_all(part).unwrap();
            assert!(matches!(other.recv_timeout(Duration::from_millis(5)).unwrap(), Waited::TimedOut));
        }
        raw.write_all(b"d").unwrap();
        let Waited::Frame((body, _)) = other.recv_timeout(Duration::from_secs(10)).unwrap() else { panic!("no frame") };
        assert_eq!(body, b"abcd");
        raw.write_all(&[9, 0]).unwrap();
        drop(raw);
        assert_eq!(other.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_that_waits_wakes_when_its_side_closes() {
        let (_one, other) = Channel::pair().unwrap();
        let reader = other.try_clone().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || reader.recv());
            other.close();
            assert!(waiting.join().unwrap().unwrap().is_none());
        });
    }

    #[test]
    fn a_side_that_does_not_read_cannot_hold_the_writer_for_ever() {
        let (one, _other) = Channel::pair().unwrap();
        one.set_send_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(one.send(&vec![0; MAX_FRAME], &[]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(one.send(b"x", &[]).is_err(), "half a frame was written");
    }
}
