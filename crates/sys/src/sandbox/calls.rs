//! The lists of system calls: what a worker may ask of the kernel, and what a tool may not.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::Sandbox;

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

/// What the worker with a network needs besides: names to addresses, connections, its folder. Which folder and which port
/// is Landlock's affair.
const NETWORKED: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fsync,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    // tokio's own pair for signals; a pair reaches nobody
    libc::SYS_socketpair,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// What no program that only reads asks for, and an attacker in it would.
const NOT_FOR_TOOLS: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_memfd_create,
    libc::SYS_mknodat,
];

/// Two filters, to be applied in this order.
pub fn filters(sandbox: &Sandbox, networked: bool) -> Result<(BpfProgram, BpfProgram), BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let errno = |number: libc::c_int| SeccompAction::Errno(number.unsigned_abs());
    let one = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = SeccompFilter::new(one, SeccompAction::Allow, errno(libc::ENOSYS), arch)?;
    let list = SeccompFilter::new(list(sandbox, networked)?, errno(libc::EPERM), SeccompAction::Allow, arch)?;
    Ok((no_clone3.try_into()?, list.try_into()?))
}

/// The filter of [`super::confine_tools`].
pub fn tools() -> Result<BpfProgram, BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let errno = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let mut list: BTreeMap<i64, Vec<SeccompRule>> = NOT_FOR_TOOLS.iter().map(|call| (*call, Vec::new())).collect();
    // Local sockets alone.
    let local = number(libc::AF_UNIX);
    list.insert(libc::SYS_socket, vec![SeccompRule::new(vec![condition(0, SeccompCmpOp::Ne, local)?])?]);
    list.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, libc::TIOCSTI)?])?]);
    SeccompFilter::new(list, SeccompAction::Allow, errno, arch)?.try_into()
}

fn condition(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operation, value)
}

fn number(value: libc::c_int) -> u64 {
    u64::from(value.unsigned_abs())
}

fn list(sandbox: &Sandbox, networked: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let when = |argument: u8, operation: SeccompCmpOp, value: u64| {
        SeccompRule::new(vec![condition(argument, operation, value)?])
    };
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
    if networked {
        list.extend(NETWORKED.iter().map(|call| (*call, Vec::new())));
        for (call, rules) in with_network()? {
            list.entry(call).or_default().extend(rules);
        }
    }
    Ok(list)
}

/// Calls of the worker with a network that depend on their arguments.
fn with_network() -> Result<Vec<(i64, Vec<SeccompRule>)>, BackendError> {
    // A socket of IPv4 or IPv6, a stream or datagrams: none that is local, raw, or the kernel's.
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            sockets.push(SeccompRule::new(vec![
                condition(0, SeccompCmpOp::Eq, number(family))?,
                condition(1, SeccompCmpOp::MaskedEq(0xf), number(kind))?,
            ])?);
        }
    }
    // Older C libraries load what resolves names when the first name is asked for: code from a file, never from memory.
    let from_file = SeccompRule::new(vec![condition(3, SeccompCmpOp::MaskedEq(number(libc::MAP_ANONYMOUS)), 0)?])?;
    let mut asks = Vec::new();
    for request in [libc::FIONREAD, libc::FIONBIO] {
        asks.push(SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?])?);
    }
    Ok(vec![(libc::SYS_socket, sockets), (libc::SYS_mmap, vec![from_file]), (libc::SYS_ioctl, asks)])
}
