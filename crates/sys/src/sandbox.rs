//! What a worker gives up before it reads the first byte that an enemy may have written.
//!
//! [`enter`] is called once, right after [`crate::worker::connect`], while the process has one thread. From then on it
//! computes on what is handed to it and answers on the channel that it has, and that is all:
//!
//! - Landlock (kernel 5.13 and later): no path can be opened, read, written or executed, no TCP port used, no socket
//!   or signal reaches a process outside;
//! - limits: memory that can be written to, open files, no core dump;
//! - seccomp: a list of system calls that are let through; every other answers `EPERM`, and `clone3` `ENOSYS` so that
//!   the C library makes threads by `clone`, whose flags can be looked at. Nothing on the list makes a descriptor
//!   from a name or an address, or a process.
//!
//! What the kernel lacks is told in [`Confined`], for `doctor` and the module's own state; seccomp is a must.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

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

/// Calls that are let through whatever their arguments.
const ALLOWED: &[libc::c_long] = &[
    // what is open already
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // memory
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // threads and their end
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // time and chance
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // answered with ENOSYS by the other filter
    libc::SYS_clone3,
];

/// What may be asked of a descriptor; not whom it signals.
const FCNTL: &[libc::c_int] = &[
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_DUPFD_CLOEXEC,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
];

/// Gives it up, for good.
///
/// # Errors
/// The process has more than one thread, or the kernel refuses a limit or the filter: end the process then.
pub fn enter(sandbox: &Sandbox) -> io::Result<Confined> {
    // Landlock binds the thread that asks for it and those that it starts.
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("a sandbox is entered before the first thread is started"));
    }
    // SAFETY: prctl takes plain numbers here. Nobody of the same user may look into this process any more.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let landlock = landlock().map_err(io::Error::other)?;
    let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Core, limit(0))?;
    setrlimit(Resource::Data, limit(sandbox.memory))?;
    setrlimit(Resource::Nofile, limit(sandbox.descriptors))?;
    let (no_clone3, list) = filters(sandbox).map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&no_clone3).map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&list).map_err(io::Error::other)?;
    Ok(Confined { landlock })
}

/// A ruleset that handles everything and allows nothing.
fn landlock() -> Result<Landlock, landlock::RulesetError> {
    const NEWEST: ABI = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(match (status.landlock, status.ruleset) {
        (LandlockStatus::Available { .. }, RulesetStatus::FullyEnforced) => Landlock::Full,
        (LandlockStatus::Available { .. }, RulesetStatus::PartiallyEnforced) => Landlock::Partly,
        _ => Landlock::None,
    })
}

fn filters(sandbox: &Sandbox) -> Result<(BpfProgram, BpfProgram), seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let errno = |number: libc::c_int| SeccompAction::Errno(number.unsigned_abs());
    let one = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = SeccompFilter::new(one, SeccompAction::Allow, errno(libc::ENOSYS), arch)?;
    let list = SeccompFilter::new(list(sandbox)?, errno(libc::EPERM), SeccompAction::Allow, arch)?;
    Ok((no_clone3.try_into()?, list.try_into()?))
}

fn list(sandbox: &Sandbox) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let when = |argument: u8, operation: SeccompCmpOp, value: u64| {
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operation, value)?])
    };
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    let mut list: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let executable = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let rules = match sandbox.executable_memory {
            true => Vec::new(),
            false => vec![when(2, SeccompCmpOp::MaskedEq(executable), 0)?],
        };
        list.insert(call, rules);
    }
    // A thread, never a process.
    let thread = number(libc::CLONE_THREAD);
    list.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // A panic that aborts signals its own thread.
    let own = u64::from(std::process::id());
    list.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, own)?]);
    list.insert(libc::SYS_prctl, vec![when(0, SeccompCmpOp::Eq, number(libc::PR_SET_NAME))?]);
    let fcntl: Result<Vec<_>, _> = FCNTL.iter().map(|command| when(1, SeccompCmpOp::Eq, number(*command))).collect();
    list.insert(libc::SYS_fcntl, fcntl?);
    Ok(list)
}
