//! Signals that hit one process, named by number and start, and never another that was given its number since
//! (pidfd_open(2), pidfd_send_signal(2)).

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::table;

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The process has it.
    Yes,
    /// The process has ended.
    Gone,
}

/// Sends a signal.
///
/// # Errors
/// The kernel refuses it.
pub fn send((pid, start): (u32, u64), signal: Signal) -> std::io::Result<Sent> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(Sent::Gone) };
    let handle = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(Sent::Gone),
        Err(error) => return Err(error.into()),
    };
    // After the handle was taken: if this is the one that is meant, the handle is of no later one.
    if table::one(pid).is_none_or(|row| row.start != start) {
        return Ok(Sent::Gone);
    }
    match pidfd_send_signal(&handle, signal) {
        Ok(()) => Ok(Sent::Yes),
        Err(Errno::SRCH) => Ok(Sent::Gone),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_who_began_then_is_hit() {
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let (pid, start) = table::one(child.id()).unwrap().id();
        for other in [start + 1, start.saturating_sub(1), 0] {
            assert_eq!(send((pid, other), Signal::KILL).unwrap(), Sent::Gone);
        }
        assert!(child.try_wait().unwrap().is_none(), "it lives");
        assert_eq!(send((pid, start), Signal::KILL).unwrap(), Sent::Yes);
        child.wait().unwrap();
        assert_eq!(send((pid, start), Signal::KILL).unwrap(), Sent::Gone);
        assert_eq!(send((u32::MAX, 1), Signal::KILL).unwrap(), Sent::Gone);
    }
}
