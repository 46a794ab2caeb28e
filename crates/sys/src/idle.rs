//! Giving way: a process or thread that works only when nobody else wants processor or disk (ioprio_set(2), nice(2)).
//!
//! The disk's class counts where its scheduler knows classes (BFQ); where it does not, the kernel takes no notice.

use std::io;

/// `IOPRIO_WHO_PROCESS`: one thread, by its number.
const WHO_PROCESS: libc::c_int = 1;
/// `IOPRIO_CLASS_IDLE` in the upper bits.
const CLASS_IDLE: libc::c_int = 3 << 13;
/// The nicest.
const NICE: i32 = 19;

/// This process, and what it starts from now on, gives way to all others.
///
/// # Errors
/// There is none, or it is not ours.
pub fn process(pid: u32) -> io::Result<()> {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    set(number.as_raw_nonzero().get())?;
    Ok(rustix::process::setpriority_process(Some(number), NICE)?)
}

/// The calling thread's disk accesses give way.
///
/// # Errors
/// The kernel refuses.
pub fn this_thread() -> io::Result<()> {
    set(0)
}

/// Is the disk class of this process, or thread, the idle one?
///
/// # Errors
/// There is none.
pub fn is_idle(pid: u32) -> io::Result<bool> {
    // SAFETY: ioprio_get takes two numbers and touches no memory of ours.
    let found = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, pid) };
    if found < 0 { Err(io::Error::last_os_error()) } else { Ok(found >> 13 == 3) }
}

fn set(pid: i32) -> io::Result<()> {
    // SAFETY: ioprio_set takes three numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, pid, CLASS_IDLE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_gives_way_is_seen_to() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!is_idle(child.id()).unwrap());
        process(child.id()).unwrap();
        assert!(is_idle(child.id()).unwrap());
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        // proc(5): the 19th field is the nice value; the second may hold spaces.
        assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("19"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process(0).is_err());
    }
}
