//! Files are opened in two steps: first only their place (`O_PATH`), which touches nothing and waits for nobody, then, where that
//! is of the kind that was asked for, the file itself by its descriptor. So a pipe or a device is never opened, whatever is put
//! in the place of a file meanwhile. Nor is what lies on a file system that a program serves (FUSE): that one may never answer.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, makedev, open as open_at_path, openat, openat2,
    statx,
};
use rustix::io::Errno;

/// What becomes of links on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are followed: root alone made them.
    Followed,
    /// With one there is no file.
    Refused,
}

/// Why something is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It lies on a file system that a program serves.
    Served,
    /// It is not there, of another kind, or not for us.
    Other,
}

impl From<Errno> for Refusal {
    fn from(_: Errno) -> Self {
        Self::Other
    }
}

/// The devices of file systems that programs serve.
#[derive(Debug, Default)]
pub struct Served(BTreeSet<String>);

impl Served {
    /// As this process sees them mounted.
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Of lines of mountinfo (proc(5)): the device is the third word, the kind stands behind the minus.
    fn parse(mounts: &str) -> Self {
        let served = |line: &&str| line.split_once(" - ").is_some_and(|(_, kind)| kind.starts_with("fuse"));
        Self(mounts.lines().filter(served).filter_map(|line| line.split(' ').nth(2).map(str::to_owned)).collect())
    }

    fn has(&self, device: u64) -> bool {
        self.0.contains(&format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
    }
}

/// Opens a file or a folder for reading.
///
/// # Errors
/// Why not.
pub fn open(path: &Path, links: Links, kind: FileType, served: &Served) -> Result<File, Refusal> {
    let place = place(path, links)?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(&place, "", flags, StatxFlags::BASIC_STATS)?;
    if FileType::from_raw_mode(found.stx_mode.into()) != kind {
        return Err(Refusal::Other);
    }
    if served.has(makedev(found.stx_dev_major, found.stx_dev_minor)) {
        return Err(Refusal::Served);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let own = format!("/proc/self/fd/{}", place.as_raw_fd());
    Ok(open_at_path(own, flags, Mode::empty()).map(File::from)?)
}

/// The place of a file, without opening it.
fn place(path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = match links {
        Links::Followed => ResolveFlags::NO_MAGICLINKS,
        Links::Refused => ResolveFlags::NO_SYMLINKS,
    };
    match openat2(CWD, path, flags, Mode::empty(), resolve) {
        // Before Linux 5.6, or where a filter of calls does not know it.
        Err(Errno::NOSYS | Errno::PERM) if links == Links::Refused => step_by_step(path),
        Err(Errno::NOSYS | Errno::PERM) => openat(CWD, path, flags, Mode::empty()),
        other => other,
    }
}

/// One name after the other, none of them a link.
fn step_by_step(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut at = openat(CWD, if path.is_absolute() { "/" } else { "." }, flags, Mode::empty())?;
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL),
        };
        at = openat(at.as_fd(), name, flags, Mode::empty())?;
        let found = statx(&at, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)?;
        if FileType::from_raw_mode(found.stx_mode.into()) == FileType::Symlink {
            return Err(Errno::LOOP);
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_plain_files_are_opened_and_links_as_far_as_they_may_be_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/file"), "x").unwrap();
        symlink(at("real"), at("link")).unwrap();
        assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let served = Served::default();
        let file = |name: &str, links| open(&at(name), links, FileType::RegularFile, &served);
        assert!(file("real/file", Links::Refused).is_ok() && file("link/file", Links::Followed).is_ok());
        assert_eq!(file("link/file", Links::Refused).unwrap_err(), Refusal::Other);
        // Opening a pipe for reading would wait for a writer, and wake one that waits.
        for odd in ["fifo", "real", "missing"] {
            assert_eq!(file(odd, Links::Followed).unwrap_err(), Refusal::Other, "{odd}");
        }
        assert_eq!(
            open(Path::new("/dev/null"), Links::Refused, FileType::RegularFile, &served).unwrap_err(),
            Refusal::Other
        );
        assert!(open(&at("link"), Links::Followed, FileType::Directory, &served).is_ok());
        // The same one by one, as on older kernels.
        assert!(step_by_step(&at("real/file")).is_ok());
        for wrong in ["link/file", "link", "real/../real/file", "missing"] {
            assert!(step_by_step(&at(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_program_serves_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let device = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(folder.path()).unwrap());
        let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let mounts = format!("1 0 7:1 / / rw - ext4 /dev/x rw\n2 1 {number} / /mnt rw shared:1 - fuse.sshfs x rw\n");
        let served = Served::parse(&mounts);
        let file = open(&folder.path().join("file"), Links::Refused, FileType::RegularFile, &served);
        assert_eq!(file.unwrap_err(), Refusal::Served);
        assert_eq!(Served::parse(&mounts).0.len(), 1);
    }
}
