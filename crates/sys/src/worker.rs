//! The one launcher of workers: a process of our own program with few rights and one channel.
//!
//! Bytes that an enemy wrote are parsed in workers only (D16). [`spawn`] starts one: its own user and group, no
//! supplementary groups, no way back to more rights (`no_new_privs`, no ambient capabilities), no descriptor but
//! standard ones and its channel, an empty environment, umask 077, folder `/`, a process group of its own, and
//! death when the parent dies; where [`WorkerSpec::network`] is false and the parent is root, a network namespace
//! with nothing in it. Before it reads the first byte, a worker gives up what it needed to start: [`crate::sandbox`].
//! One that only opens files for others ([`WorkerSpec::opens`]) keeps the parent's user.
//!
//! [`spawn_tool`] starts somebody else's program (`journalctl`) the same way, with pipes in place of the channel; since
//! it cannot confine itself, the thread that forks it is confined ([`crate::sandbox::confine_tools`]).
//!
//! The kernel's death signal goes by the *thread* that forked, so every fork happens on one thread that lives as long
//! as the process. Without root a worker runs as the parent's user; [`Identity`] says so, and the caller reports it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::cgroup::Group;
use crate::channel::Channel;

/// Environment variable: number of the channel's descriptor.
const CHANNEL_VARIABLE: &str = "SAKIMORI_WORKER_CHANNEL";
/// Environment variable: name of the worker.
const NAME_VARIABLE: &str = "SAKIMORI_WORKER_NAME";
/// What of the parent's environment a worker keeps: how it logs, and where the zone files are.
const KEPT: &[&str] = &["RUST_LOG", "RUST_BACKTRACE", "TZDIR"];

/// What to start.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// Short name: shown by `ps` and written to logs.
    pub name: String,
    /// Program; this very program, also after its file was replaced or removed, where `None`.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// User id to run as. Not 0.
    pub uid: u32,
    /// Group id to run as. Not 0.
    pub gid: u32,
    /// Environment beside the few variables that every worker has.
    pub env: Vec<(OsString, OsString)>,
    /// Does it share the parent's network? If not, and the parent is root, it sees an empty one.
    pub network: bool,
    /// The control group that it lives in; the parent's where `None`.
    pub group: Option<Group>,
    /// Does it give way to all other programs, at the processor and at the disk?
    pub idle: bool,
    /// Does it keep the parent's user and rights? For what opens what root alone may open, and may be held up by it: such a one
    /// parses nothing, and is ended without a loss.
    pub opens: bool,
}

impl WorkerSpec {
    /// This program again, with these arguments.
    pub fn own(name: &str, args: &[&str], uid: u32, gid: u32) -> Self {
        Self {
            name: name.to_owned(),
            program: None,
            args: args.iter().map(OsString::from).collect(),
            uid,
            gid,
            env: Vec::new(),
            network: true,
            group: None,
            idle: false,
            opens: false,
        }
    }
}

/// Who a worker runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A user of its own.
    Own {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// The parent's user, since the parent is not root and cannot change it: report it.
    Shared {
        /// User id.
        uid: u32,
    },
}

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    /// Name, as given.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Our end of its channel.
    pub channel: Channel,
    /// Who it runs as.
    pub identity: Identity,
    /// Is its network namespace an empty one?
    pub without_network: bool,
    process: Process,
}

/// A child with a handle that stays its own after its number is used again.
#[derive(Debug)]
struct Process {
    child: Child,
    handle: OwnedFd,
    ended: bool,
}

/// Why a worker did not start, or was not one.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The specification is wrong.
    #[error("cannot start worker {name}: {reason}")]
    Spec {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The system refused.
    #[error("cannot start worker {name}: {attempt}: {source}")]
    Start {
        /// Its name.
        name: String,
        /// What was attempted.
        attempt: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// This process was not started as a worker.
    #[error("this command is started by the agent itself, not by hand: {0}")]
    NotAWorker(String),
}

/// Another program that runs with a worker's few rights. Dropping it kills it.
#[derive(Debug)]
pub struct Tool {
    /// Process id.
    pub pid: u32,
    /// Who it runs as.
    pub identity: Identity,
    process: Process,
    errors: OwnedFd,
}

/// Most bytes of a tool's complaints that are kept.
const MAX_COMPLAINT: usize = 4_096;

/// Starts a worker.
///
/// # Errors
/// The ids are 0, the program is missing, or the kernel refuses one of the restrictions: nothing runs then.
pub fn spawn(spec: &WorkerSpec) -> Result<Worker, WorkerError> {
    let (ours, theirs) = Channel::pair().map_err(failed(spec, "make its channel"))?;
    let ground = if spec.network { Ground::Shared } else { Ground::NoNetwork };
    let (process, identity) = start(spec, ground, Some(&theirs), |_| {})?;
    let pid = process.child.id();
    let without_network = !spec.network && launcher(ground).without_network;
    Ok(Worker { name: spec.name.clone(), pid, channel: ours, identity, without_network, process })
}

/// Starts a tool; what it writes comes out of the descriptor returned beside it, which may be handed on. It has no network
/// whatever the specification says, writes no file, and looks into no other process.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_tool(spec: &WorkerSpec) -> Result<(Tool, OwnedFd), WorkerError> {
    let pipe =
        || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(spec, "make a pipe")(error.into()));
    let (output, output_end) = pipe()?;
    let (errors, errors_end) = pipe()?;
    // A tool that complains more than the pipe holds must not stand still because nobody listens.
    for end in [&errors, &errors_end] {
        rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK)
            .map_err(|error| failed(spec, "make a pipe")(error.into()))?;
    }
    let (process, identity) = start(spec, Ground::Tools, None, |command| {
        command.stdout(output_end).stderr(errors_end);
    })?;
    let pid = process.child.id();
    Ok((Tool { pid, identity, process, errors }, output))
}

fn failed(spec: &WorkerSpec, attempt: &'static str) -> impl FnOnce(io::Error) -> WorkerError + use<> {
    let name = spec.name.clone();
    move |source| WorkerError::Start { name, attempt, source }
}

fn start(
    spec: &WorkerSpec,
    ground: Ground,
    theirs: Option<&Channel>,
    wire: impl FnOnce(&mut Command),
) -> Result<(Process, Identity), WorkerError> {
    if !spec.opens && (spec.uid == 0 || spec.gid == 0) {
        return Err(WorkerError::Spec { name: spec.name.clone(), reason: "a worker never runs as root" });
    }
    let root = rustix::process::geteuid().is_root() && !spec.opens;
    let mut command = prepare(spec, theirs, root);
    wire(&mut command);
    let attempt = "start the program with its restrictions";
    let mut child = launcher(ground).run(command).map_err(failed(spec, attempt))?;
    let handle = match pidfd(&child) {
        Ok(handle) => handle,
        Err(error) => {
            // It was started a moment ago and is ours to end.
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(spec, "get a handle of the process")(error));
        }
    };
    if let Some(Err(error)) = spec.group.as_ref().map(|group| group.add(child.id())) {
        tracing::warn!(worker = spec.name, %error, "a worker runs without its budget");
    }
    if spec.idle
        && let Err(error) = crate::idle::process(child.id())
    {
        tracing::warn!(worker = spec.name, %error, "a worker does not give way to others");
    }
    let identity = if root {
        Identity::Own { uid: spec.uid, gid: spec.gid }
    } else {
        Identity::Shared { uid: rustix::process::geteuid().as_raw() }
    };
    Ok((Process { child, handle, ended: false }, identity))
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The command with everything but the fork.
fn prepare(spec: &WorkerSpec, theirs: Option<&Channel>, root: bool) -> Command {
    let channel = theirs.map(|theirs| theirs.as_fd().as_raw_fd());
    let mut command = Command::new(spec.program.as_deref().unwrap_or_else(|| "/proc/self/exe".as_ref()));
    command
        .arg0(format!("sakimori-worker-{}", spec.name))
        .args(&spec.args)
        .env_clear()
        .envs(KEPT.iter().filter_map(|key| Some((*key, std::env::var_os(key)?))))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    if let Some(channel) = channel {
        command.env(CHANNEL_VARIABLE, channel.to_string()).env(NAME_VARIABLE, &spec.name);
    }
    if root {
        // The standard library empties the supplementary groups, then sets group and user.
        command.gid(spec.gid).uid(spec.uid);
    }
    let parent = rustix::process::getpid();
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    // SAFETY: `confine` runs between fork and exec of a process that may have other threads; it allocates
    // nothing, takes no lock and calls system calls only. `theirs` outlives the fork (see `start`).
    unsafe { command.pre_exec(move || confine(channel, parent, most)) };
    command
}

/// The last steps in the child before exec, already as its own user.
fn confine(channel: Option<RawFd>, parent: Pid, most: u64) -> io::Result<()> {
    // SAFETY: prctl, umask, fcntl and syscall take plain numbers here and touch no memory of ours.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))?;
        // After the change of user, which clears it.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        libc::umask(0o077);
    }
    // The parent may have died before the death signal was asked for.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let Some(channel) = channel else { return close_on_exec(3, RawFd::MAX, most) };
    close_on_exec(3, channel - 1, most)?;
    close_on_exec(channel + 1, RawFd::MAX, most)?;
    // SAFETY: the channel is open in the child, which is a copy of the parent.
    unsafe { check(libc::fcntl(channel, libc::F_SETFD, 0)) }
}

/// Marks descriptors, both ends included, to close on exec. Not closed at once: the standard library reports
/// a failed exec over one of them.
fn close_on_exec(first: RawFd, last: RawFd, most: u64) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: close_range with this flag changes descriptor flags only.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return Ok(());
    }
    // Kernels before 5.11: one by one up to the limit on open files.
    let last = last.min(RawFd::try_from(most).unwrap_or(RawFd::MAX));
    for number in first..=last {
        // SAFETY: a number that is not open is answered with EBADF.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Process {
    fn kill(&self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended = true;
        Ok(status)
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.ended |= status.is_some();
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.kill();
            let _ = self.child.wait();
        }
    }
}

impl Worker {
    /// Ends it at once, whatever it does.
    pub fn kill(&self) -> io::Result<()> {
        self.process.kill()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }

    /// Its status, if it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// A descriptor that becomes readable at its end, for poll.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.process.handle.as_fd()
    }
}

impl Tool {
    /// Ends it at once.
    pub fn kill(&self) -> io::Result<()> {
        self.process.kill()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }

    /// Its status, if it has ended.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// A descriptor that becomes readable at its end, for poll.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.process.handle.as_fd()
    }

    /// What it wrote to standard error since the last call, cut to 4 KiB; does not wait.
    pub fn complaint(&self) -> String {
        let mut buffer = [0_u8; MAX_COMPLAINT];
        let size = rustix::io::read(&self.errors, &mut buffer).unwrap_or(0);
        String::from_utf8_lossy(buffer.get(..size).unwrap_or_default()).trim().to_owned()
    }
}

/// What a launcher's children stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// The parent's network.
    Shared,
    /// An empty network namespace.
    NoNetwork,
    /// The same, and what a tool must not have is gone before it begins.
    Tools,
}

/// A thread that forks: what it forks inherits its network namespace and its confinement.
struct Launcher {
    jobs: Mutex<mpsc::Sender<Job>>,
    without_network: bool,
}

type Job = (Command, mpsc::Sender<io::Result<Child>>);

fn launcher(ground: Ground) -> &'static Launcher {
    static SHARED: OnceLock<Launcher> = OnceLock::new();
    static EMPTY: OnceLock<Launcher> = OnceLock::new();
    static TOOLS: OnceLock<Launcher> = OnceLock::new();
    let which = match ground {
        Ground::Shared => &SHARED,
        Ground::NoNetwork => &EMPTY,
        Ground::Tools => &TOOLS,
    };
    which.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, began) = mpsc::channel();
        // Where no thread can be made, `run` finds nobody at the other end and says so.
        let _ = std::thread::Builder::new().name("launcher".to_owned()).spawn(move || {
            // SAFETY: a namespace of this thread's own changes nothing for the others.
            let empty = ground != Ground::Shared && unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            let refused = match ground {
                Ground::Tools => crate::sandbox::confine_tools().err().map(|error| error.to_string()),
                Ground::Shared | Ground::NoNetwork => None,
            };
            let _ = ready.send(empty);
            for (mut command, answer) in inbox {
                let _ = answer.send(match &refused {
                    Some(reason) => Err(io::Error::other(format!("cannot confine it: {reason}"))),
                    None => command.spawn(),
                });
            }
        });
        Launcher { jobs: Mutex::new(jobs), without_network: began.recv().unwrap_or(false) }
    })
}

impl Launcher {
    fn run(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the launcher thread could not be started");
        let (answer, result) = mpsc::channel();
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).send((command, answer)).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }
}

/// In the worker: takes the channel to the parent. Call it first and once.
///
/// # Errors
/// This process was not started by [`spawn`].
pub fn connect() -> Result<Channel, WorkerError> {
    let missing = |reason: &str| WorkerError::NotAWorker(reason.to_owned());
    let number = std::env::var(CHANNEL_VARIABLE).map_err(|_| missing("it has no channel"))?;
    let number: RawFd = number.parse().map_err(|_| missing("its channel has no number"))?;
    let channel = Channel::from_inherited(number).map_err(|error| missing(&error.to_string()))?;
    if let Some(name) = name() {
        let _ = rustix::thread::set_name(&short_name(&name));
    }
    Ok(channel)
}

/// In a worker: its name.
pub fn name() -> Option<OsString> {
    std::env::var_os(NAME_VARIABLE)
}

/// What the kernel shows as the name of the process: at most 15 bytes.
fn short_name(name: &OsStr) -> std::ffi::CString {
    let text: Vec<u8> = name.as_encoded_bytes().iter().copied().filter(|byte| *byte != 0).take(15).collect();
    std::ffi::CString::new(text).unwrap_or_default()
}
