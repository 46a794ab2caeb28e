//! The kernel's freezer of control groups, version 2 (kernel documentation `cgroup-v2`, `cgroup.freeze`; Linux 5.2 and later):
//! a process that is put into a frozen group does nothing more until it is put out of it again, and cannot undo that itself.
//! It can still be ended. Version 1 has another freezer, which holds against signals too; it is not used.
//!
//! The groups lie below the root of the hierarchy, so that no limit of anybody's applies to them. Where a process was before
//! is a path below the same root; who keeps it can put the process back, over a restart of the program too.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use super::{find, make, own_hierarchies, put, read, write};

/// How long an empty group may take to go.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most processes that are read of a group.
const MAX_MEMBERS: usize = 1 << 20;

/// The hierarchy that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freezer {
    root: PathBuf,
}

impl Freezer {
    /// The freezer of this host.
    ///
    /// # Errors
    /// No hierarchy of version 2 is mounted, it cannot be written to, or the kernel has no freezer in it.
    pub fn find() -> io::Result<Self> {
        let unified = own_hierarchies().into_iter().find(|one| one.controllers.is_empty());
        let root = unified.ok_or_else(|| io::Error::other("no control groups of version 2 are mounted"))?.root;
        rustix::fs::access(&root, rustix::fs::Access::WRITE_OK)
            .map_err(|error| io::Error::other(format!("{}: {}", root.display(), io::Error::from(error))))?;
        Ok(Self { root })
    }

    /// Makes a group of this name, frozen. One that is there already is frozen.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn freeze(&self, name: &str) -> io::Result<()> {
        let group = self.root.join(name);
        make(&group)?;
        let frozen = write(&group.join("cgroup.freeze"), "1");
        if frozen.is_err() {
            let _ = fs::remove_dir(&group);
        }
        frozen
    }

    /// Puts a process, with all its threads, into the group of this name.
    ///
    /// # Errors
    /// The process is gone, or the kernel refuses.
    pub fn take(&self, name: &str, pid: u32) -> io::Result<()> {
        put(&self.root.join(name), pid)
    }

    /// The group that a process is in, below the root of the hierarchy: `/system.slice/nginx.service`; `/` for the root itself.
    /// `None` where the process is gone or its group lies outside of what is mounted here.
    pub fn place(&self, pid: u32) -> Option<String> {
        let (own, mounts) = (read(Path::new(&format!("/proc/{pid}/cgroup"))), read(Path::new("/proc/self/mountinfo")));
        let unified = find::hierarchies(&own, &mounts).into_iter().find(|one| one.controllers.is_empty())?;
        let below = unified.own.strip_prefix(&self.root).ok()?;
        is_plain(below).then(|| format!("/{}", below.display()))
    }

    /// Is it in the group of this name?
    pub fn has(&self, name: &str, pid: u32) -> bool {
        self.place(pid).is_some_and(|place| place.strip_prefix('/') == Some(name))
    }

    /// Puts a process into the group where it was. One that was removed meanwhile is made again; where that cannot be, the
    /// process goes into the nearest group above it. Where it is now.
    ///
    /// # Errors
    /// The process is gone, or no group takes it.
    pub fn put_back(&self, place: &str, pid: u32) -> io::Result<String> {
        let below = Path::new(place.trim_start_matches('/'));
        if !is_plain(below) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{place} is no group")));
        }
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for below in below.ancestors() {
            let group = self.root.join(below);
            outcome = fs::create_dir_all(&group).and_then(|()| put(&group, pid));
            match &outcome {
                Ok(()) => return Ok(format!("/{}", below.display())),
                // The process is gone: no other group helps.
                Err(_) if !Path::new(&format!("/proc/{pid}")).exists() => break,
                Err(_) => {}
            }
        }
        outcome.map(|()| String::new())
    }

    /// The processes of a group.
    pub fn members(&self, name: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.root.join(name).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).take(MAX_MEMBERS).collect()
    }

    /// Does the kernel say that every process of the group stands still?
    pub fn is_frozen(&self, name: &str) -> bool {
        read(&self.root.join(name).join("cgroup.events")).lines().any(|line| line == "frozen 1")
    }

    /// Lets a group go on and removes it. One that is not there is no error.
    ///
    /// # Errors
    /// Somebody is in it still.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let group = self.root.join(name);
        if !group.exists() {
            return Ok(());
        }
        write(&group.join("cgroup.freeze"), "0")?;
        let until = Instant::now() + PATIENCE;
        // The kernel lets go of one that has just been put out a moment later.
        loop {
            match fs::remove_dir(&group) {
                Err(error) if error.kind() != io::ErrorKind::NotFound && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => return other,
            }
        }
    }
}

/// Nothing but names: no way up.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_stands_still_in_the_group_and_goes_back_where_it_was() {
        if !crate::harness::root() {
            return;
        }
        let freezer = Freezer::find();
        if !crate::harness::needs(freezer.is_ok(), "control groups of version 2 that can be written to") {
            return;
        }
        let freezer = freezer.unwrap();
        let (name, home) = (format!("skm-frozen-{}", std::process::id()), format!("skm-home-{}", std::process::id()));
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        fs::create_dir(freezer.root.join(&home)).unwrap();
        put(&freezer.root.join(&home), pid).unwrap();
        let place = freezer.place(pid).unwrap();
        assert_eq!(place, format!("/{home}"));
        freezer.freeze(&name).unwrap();
        freezer.freeze(&name).unwrap();
        freezer.take(&name, pid).unwrap();
        assert!(freezer.has(&name, pid) && freezer.members(&name) == [pid]);
        let until = Instant::now() + Duration::from_secs(60);
        while !freezer.is_frozen(&name) {
            assert!(Instant::now() < until, "it is not frozen");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Who removes empty groups removed it meanwhile.
        fs::remove_dir(freezer.root.join(&home)).unwrap();
        assert_eq!(freezer.put_back(&place, pid).unwrap(), place);
        assert_eq!(freezer.place(pid).unwrap(), place);
        freezer.remove(&name).unwrap();
        freezer.remove(&name).unwrap();
        assert!(freezer.put_back("/../x", pid).is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        freezer.remove(&home).unwrap();
    }
}
