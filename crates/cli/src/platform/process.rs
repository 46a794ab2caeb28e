//! Which processes are ours. A process is known by id and start time, and signalled through a descriptor of it, so
//! that an id that the kernel has given to somebody else is never signalled.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::Paths;

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub started: u64,
}

/// What runs, as run.json keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The supervising process.
    pub supervisor: Known,
    /// The kernel's boot in which this was written; start times of another say nothing.
    pub boot: String,
    /// The manager.
    pub manager: Option<Known>,
    /// The agent.
    pub agent: Option<Known>,
}

impl Run {
    /// With this process as supervisor.
    pub fn of_this_process() -> Result<Self> {
        let own = i32::try_from(std::process::id()).context("a process id is a small number")?;
        let supervisor = Known::of(own).context("/proc does not show this process; is it mounted?")?;
        Ok(Self { supervisor, boot: boot(), manager: None, agent: None })
    }

    /// Writes run.json.
    pub fn save(&self, paths: &Paths) -> Result<()> {
        let new = paths.run.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&new, &paths.run))
            .with_context(|| format!("cannot write {}", paths.run.display()))
    }

    /// Does a part of it run a program that was replaced since?
    pub fn outdated(&self) -> bool {
        [Some(self.supervisor), self.manager, self.agent].into_iter().flatten().any(Known::outdated)
    }

    fn load(paths: &Paths) -> Option<Self> {
        let run: Self = serde_json::from_slice(&std::fs::read(&paths.run).ok()?).ok()?;
        (run.boot == boot()).then_some(run)
    }
}

impl Known {
    /// The process that has this id now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything; after it come state (3) and so on to start time (22).
        let rest = stat.rsplit_once(')')?.1;
        let mut fields = rest.split_whitespace();
        if fields.next()? == "Z" {
            return None;
        }
        Some(Self { pid, started: fields.nth(18)?.parse().ok()? })
    }

    /// Does it run?
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Was its program's file replaced or removed since it started, by a newer build say?
    fn outdated(self) -> bool {
        let file = std::fs::read_link(format!("/proc/{}/exe", self.pid));
        self.alive() && file.is_ok_and(|file| file.to_string_lossy().ends_with(" (deleted)"))
    }

    /// A descriptor of it, `None` where it is gone.
    fn open(self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // After opening: the descriptor is of whoever had the id then, and this says who it was.
        self.alive().then_some(fd)
    }

    /// Asks it to end and waits; ends it the hard way where it does not in time.
    pub fn end(self, patience: Duration) -> Result<()> {
        let Some(fd) = self.open() else { return Ok(()) };
        for (signal, patience) in [(Signal::TERM, patience), (Signal::KILL, Duration::from_secs(10))] {
            match pidfd_send_signal(&fd, signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(error) => bail!("cannot stop process {}: {error}", self.pid),
            }
            let until = Instant::now() + patience;
            while Instant::now() < until {
                let tick = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
                if matches!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&tick)), Ok(ready) if ready > 0) {
                    return Ok(());
                }
            }
        }
        bail!("process {} does not end; see what it waits for: cat /proc/{0}/wchan", self.pid)
    }
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What runs from this state folder; `None` where its supervising process does not.
pub fn running(paths: &Paths) -> Option<Run> {
    Run::load(paths).filter(|run| run.supervisor.alive())
}

/// Ends what a supervising process left that was killed itself: agent first, then manager.
pub fn end_leftovers(paths: &Paths, patience: Duration) -> Result<()> {
    if let Some(run) = Run::load(paths) {
        for known in [run.agent, run.manager].into_iter().flatten() {
            known.end(patience)?;
        }
    }
    Ok(())
}

/// Ends all: the supervising process ends the others in order; whatever is left is ended here.
pub fn end_all(paths: &Paths, patience: Duration) -> Result<()> {
    if let Some(run) = Run::load(paths) {
        run.supervisor.end(patience)?;
    }
    end_leftovers(paths, patience)?;
    match std::fs::remove_file(&paths.run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", paths.run.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_reused_id_is_left_alone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let known = Known::of(i32::try_from(child.id()).unwrap()).unwrap();
        let other = Known { started: known.started + 1, ..known };
        other.end(Duration::from_secs(1)).unwrap();
        assert!(known.alive() && child.try_wait().unwrap().is_none());
        known.end(Duration::from_secs(20)).unwrap();
        assert!(!known.alive());
        child.wait().unwrap();
    }

    #[test]
    fn a_run_of_another_boot_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        let run = Run::of_this_process().unwrap();
        run.save(&paths).unwrap();
        assert_eq!(running(&paths), Some(run.clone()));
        Run { boot: "another".into(), ..run }.save(&paths).unwrap();
        assert_eq!(running(&paths), None);
    }
}
