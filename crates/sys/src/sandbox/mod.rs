//! What a worker gives up before it reads the first byte that an enemy may have written.
//!
//! [`enter`] is called once, right after [`crate::worker::connect`], while the process has one thread. From then on it
//! computes on what is handed to it and answers on the channel that it has, and that is all:
//!
//! - Landlock (kernel 5.13 and later, `walls.rs`): no path can be opened, read, written or executed, no TCP port used,
//!   no socket or signal reaches a process outside;
//! - limits: memory that can be written to, open files, no core dump;
//! - seccomp (`calls.rs`): a list of system calls that are let through; every other answers `EPERM`, and `clone3`
//!   `ENOSYS` so that the C library makes threads by `clone`, whose flags can be looked at. Nothing on the list makes a
//!   descriptor from a name or an address, or a process.
//!
//! The one worker with a network enters by [`enter_networked`]: it keeps one folder, what names are resolved with, and
//! the way to two or three TCP ports. A program of somebody else's (`journalctl`) is forked by a thread that went
//! through [`confine_tools`], since it cannot be asked to confine itself.
//!
//! What the kernel lacks is told in [`Confined`], for `doctor` and the module's own state; seccomp is a must.

mod calls;
mod walls;

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{Resource, Rlimit, setrlimit};

/// What a worker keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// May it make memory executable (YARA-X compiles rules to machine code)?
    pub executable_memory: bool,
    /// Most bytes of memory that it can write to.
    pub memory: u64,
    /// Most descriptors that are open at once.
    pub descriptors: u64,
}

impl Sandbox {
    /// The `logs` worker, also while two sets of rules are loaded: bounds, not what it needs. It has as many files open
    /// as there may be inputs, each with some that were rotated.
    pub const LOGS: Self = Self { executable_memory: false, memory: 4 << 30, descriptors: 4_096 };
    /// A worker that scans: rules, a file, and what YARA-X needs to match the one against the other.
    pub const SCAN: Self = Self { executable_memory: true, memory: 2 << 30, descriptors: 64 };
    /// A worker that reads what came by a way in: programs of log sources, and some messages at a time.
    pub const INGEST: Self = Self { executable_memory: false, memory: 1 << 30, descriptors: 32 };
    /// The `uplink` worker: batches on their way, a bundle, one connection.
    pub const UPLINK: Self = Self { executable_memory: false, memory: 1 << 30, descriptors: 128 };
}

/// What the worker with a network keeps of the world.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a> {
    /// A folder of its own, in which it may read, write and rename.
    pub folder: BorrowedFd<'a>,
    /// TCP ports that it may connect to. That of name servers is added.
    pub ports: &'a [u16],
}

/// What holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confined {
    /// Landlock holds, with what this kernel has of it.
    pub landlock: Landlock,
}

/// How far Landlock holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// All that is known to this program.
    Full,
    /// An older kernel: paths are closed, some of the rest is not.
    Partly,
    /// The kernel has none, or it is switched off.
    None,
}

/// Gives it up, for good.
///
/// # Errors
/// The process has more than one thread, or the kernel refuses a limit or the filter: end the process then.
pub fn enter(sandbox: &Sandbox) -> io::Result<Confined> {
    confine(sandbox, None)
}

/// Gives up all but a network and a folder, for good. No program can be run, no local socket connected, no port but
/// those named reached by TCP where the kernel has rules for ports (6.7 and later).
///
/// # Errors
/// As [`enter`].
pub fn enter_networked(sandbox: &Sandbox, outside: Outside<'_>) -> io::Result<Confined> {
    confine(sandbox, Some(outside))
}

fn confine(sandbox: &Sandbox, outside: Option<Outside<'_>>) -> io::Result<Confined> {
    // Landlock binds the thread that asks for it and those that it starts.
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("a sandbox is entered before the first thread is started"));
    }
    // SAFETY: prctl takes plain numbers here. Nobody of the same user may look into this process any more.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let landlock = match outside {
        None => walls::closed(),
        Some(outside) => walls::networked(outside),
    };
    let landlock = landlock.map_err(io::Error::other)?;
    let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Core, limit(0))?;
    setrlimit(Resource::Data, limit(sandbox.memory))?;
    setrlimit(Resource::Nofile, limit(sandbox.descriptors))?;
    let (no_clone3, list) = calls::filters(sandbox, outside.is_some()).map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&no_clone3).map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&list).map_err(io::Error::other)?;
    Ok(Confined { landlock })
}

/// Confines the calling thread and whatever it forks, for good, to what a program of the system that reads needs: it
/// may read and run what the system installed and read logs; it writes nothing, speaks to no address, and looks into no
/// process.
///
/// # Errors
/// The kernel refuses the filter.
pub fn confine_tools() -> io::Result<Landlock> {
    let landlock = walls::tools().map_err(io::Error::other)?;
    seccompiler::apply_filter(&calls::tools().map_err(io::Error::other)?).map_err(io::Error::other)?;
    Ok(landlock)
}
