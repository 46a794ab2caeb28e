//! fanotify(7): the kernel asks before a file is opened or executed, and waits for the answer.
//!
//! A thin, safe face of the calls: a [`Group`], its marks, events of a fixed size, answers. Every event brings a
//! descriptor of its file that raises no further events, whoever reads through it. What a listener opens by itself
//! under its own mark hangs for ever: after the first mark, whoever reads the group opens nothing (D11).
//!
//! [`has_writer`] is the one honest question about a file's writers: a read lease can be taken only when nobody has
//! it open to write or mapped to write, whatever its times say (D14).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Size of the kernel's record of one event.
const EVENT: usize = size_of::<libc::fanotify_event_metadata>();
/// Bytes read at once: many events, since each costs a system call otherwise.
const BUFFER: usize = EVENT * 256;

/// What is asked or told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// May it be opened? An answer is awaited.
    Open,
    /// May it be executed? An answer is awaited.
    Execute,
    /// Somebody who could write closed it.
    Written,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    /// What.
    pub what: What,
    /// Which process.
    pub pid: i32,
    /// The file.
    pub file: OwnedFd,
}

/// What one read brought.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events, in the order in which they happened.
    pub events: Vec<Event>,
    /// Events were lost in the kernel.
    pub overflow: bool,
}

/// What a mark covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// The whole file system, wherever it is mounted, containers included.
    FileSystem,
    /// One mount.
    Mount,
}

/// A group of marks, and the queue of their events.
#[derive(Debug)]
pub struct Group {
    group: OwnedFd,
}

impl Group {
    /// A new group, not blocking.
    ///
    /// # Errors
    /// No right (CAP_SYS_ADMIN), or a kernel without permission events.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_CONTENT
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_UNLIMITED_MARKS;
        // Without waiting: the kernel opens each file for us, and a pipe without a writer would hold us up.
        let files = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC | libc::O_NOATIME | libc::O_NONBLOCK;
        let files = u32::try_from(files).map_err(io::Error::other)?;
        // SAFETY: numbers only; the result is a new descriptor or -1.
        let group = unsafe { libc::fanotify_init(flags, files) };
        if group < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made a moment ago and nobody else has it.
        Ok(Self { group: unsafe { OwnedFd::from_raw_fd(group) } })
    }

    /// Asks for everything under a place, which may be any file or folder of the file system or mount.
    ///
    /// # Errors
    /// The file system cannot be marked, or the kernel has no permission events (`EINVAL`).
    pub fn mark(&self, place: BorrowedFd<'_>, cover: Cover) -> io::Result<()> {
        self.change(libc::FAN_MARK_ADD, place, cover)
    }

    /// Asks no more.
    ///
    /// # Errors
    /// It was not marked.
    pub fn unmark(&self, place: BorrowedFd<'_>, cover: Cover) -> io::Result<()> {
        self.change(libc::FAN_MARK_REMOVE, place, cover)
    }

    fn change(&self, change: libc::c_uint, place: BorrowedFd<'_>, cover: Cover) -> io::Result<()> {
        let cover = match cover {
            Cover::FileSystem => libc::FAN_MARK_FILESYSTEM,
            Cover::Mount => libc::FAN_MARK_MOUNT,
        };
        let mask = libc::FAN_OPEN_PERM | libc::FAN_OPEN_EXEC_PERM | libc::FAN_CLOSE_WRITE;
        let group = self.group.as_raw_fd();
        // SAFETY: a null path means the descriptor itself; both descriptors are open.
        let result = unsafe { libc::fanotify_mark(group, change | cover, mask, place.as_raw_fd(), std::ptr::null()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// What happened since the last call; does not wait.
    ///
    /// # Errors
    /// The queue cannot be read, or speaks another version.
    pub fn read(&self) -> io::Result<Batch> {
        let mut buffer = [0_u8; BUFFER];
        match rustix::io::read(&self.group, &mut buffer) {
            Ok(size) => parse(buffer.get(..size).unwrap_or_default()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Batch::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Answers an event that waits. One whose process is gone takes no answer, which is no error.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn answer(&self, file: BorrowedFd<'_>, allow: bool) -> io::Result<()> {
        let response = libc::fanotify_response {
            fd: file.as_raw_fd(),
            response: if allow { libc::FAN_ALLOW } else { libc::FAN_DENY },
        };
        // SAFETY: a plain record of two integers, read as its bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(std::ptr::from_ref(&response).cast::<u8>(), size_of::<libc::fanotify_response>())
        };
        match rustix::io::write(&self.group, bytes) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// Takes the kernel's records apart. Every descriptor in them is owned from here on.
fn parse(mut bytes: &[u8]) -> io::Result<Batch> {
    let mut batch = Batch::default();
    while bytes.len() >= EVENT {
        // SAFETY: at least as many bytes as the record has, any of which are a valid record; no alignment is assumed.
        let event: libc::fanotify_event_metadata = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        let length = usize::try_from(event.event_len).map_err(io::Error::other)?;
        if event.vers != libc::FANOTIFY_METADATA_VERSION || length < EVENT || length > bytes.len() {
            return Err(io::Error::other("the kernel speaks another version of fanotify"));
        }
        bytes = bytes.get(length..).unwrap_or_default();
        batch.overflow |= event.mask & libc::FAN_Q_OVERFLOW != 0;
        if event.fd < 0 {
            continue;
        }
        // SAFETY: the kernel made this descriptor for us with the record.
        let file = unsafe { OwnedFd::from_raw_fd(event.fd) };
        let what = if event.mask & libc::FAN_OPEN_EXEC_PERM != 0 {
            What::Execute
        } else if event.mask & libc::FAN_OPEN_PERM != 0 {
            What::Open
        } else {
            What::Written
        };
        batch.events.push(Event { what, pid: event.pid, file });
    }
    Ok(batch)
}

/// Has anybody the file open to write, or mapped to write? The descriptor must be open to read only.
///
/// # Errors
/// The file system knows no leases, or no right to ask: then nobody can tell.
pub fn has_writer(file: BorrowedFd<'_>) -> io::Result<bool> {
    let number = file.as_raw_fd();
    // SAFETY: numbers only. A lease that is given back at once disturbs nobody.
    if unsafe { libc::fcntl(number, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(number, libc::F_SETLEASE, libc::F_UNLCK) };
        return Ok(false);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EAGAIN) { Ok(true) } else { Err(error) }
}

/// Makes room for many descriptors: each event that waits holds one.
pub fn raise_descriptor_limit(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(wanted).max(now.current.unwrap_or(wanted));
    let raised = Rlimit { current: Some(wanted), maximum: Some(wanted.max(most)) };
    if setrlimit(Resource::Nofile, raised).is_err() {
        let within = Rlimit { current: Some(wanted.min(most)), maximum: now.maximum };
        let _ = setrlimit(Resource::Nofile, within);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_writer_and_a_writable_mapping_are_seen_and_readers_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let reader = File::open(&path).unwrap();
        let _other = File::open(&path).unwrap();
        assert!(!has_writer(reader.as_fd()).unwrap());
        let writer = File::options().read(true).write(true).open(&path).unwrap();
        assert!(has_writer(reader.as_fd()).unwrap());
        // SAFETY: a mapping of one byte that is unmapped below and never read.
        let mapping =
            unsafe { libc::mmap(std::ptr::null_mut(), 1, libc::PROT_WRITE, libc::MAP_SHARED, writer.as_raw_fd(), 0) };
        assert_ne!(mapping, libc::MAP_FAILED);
        drop(writer);
        assert!(has_writer(reader.as_fd()).unwrap(), "the mapping keeps it open to write");
        // SAFETY: the mapping from above.
        unsafe { libc::munmap(mapping, 1) };
        assert!(!has_writer(reader.as_fd()).unwrap());
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        assert!(parse(&[0; EVENT - 1]).unwrap().events.is_empty());
        assert!(parse(&[0; EVENT]).is_err());
        let mut long = vec![0_u8; EVENT];
        long[0] = 200;
        assert!(parse(&long).is_err());
    }
}
