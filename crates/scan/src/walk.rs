//! The files below paths, opened.
//!
//! Links are not followed, and file systems that hold no files of anybody (`proc`, `sysfs`, …) are passed over. A file
//! is opened without waiting (a pipe would hold the scan) and only then looked at, so nothing can be put in its place
//! between the two. Folders are read one after another: what waits is one list of names a level.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::exclude::Exclusions;

/// Deepest folder, in levels below where the walk began.
pub const MAX_DEPTH: usize = 256;

/// File systems without files, by the number that statfs tells.
const PSEUDO: &[u64] = &[
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x27_e0eb,   // cgroup
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6165_676c, // pstore
    0xcafe_4a11, // bpf
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
    0x6265_6570, // configfs
    0x6573_5543, // fusectl
    0xde5e_81e4, // efivarfs
    0x5346_414f, // AFS root
    0x187,       // autofs
    0x6e73_6673, // nsfs
];

/// What the walk comes upon.
#[derive(Debug)]
pub enum Step {
    /// A regular file, open for reading.
    File(PathBuf, File),
    /// Something that should have been read and could not be.
    Unreadable(PathBuf, io::Error),
}

/// A walk over some paths.
pub struct Walk<'e> {
    exclusions: &'e Exclusions,
    /// What is still to do: paths, and how deep each lies.
    waiting: Vec<(PathBuf, usize)>,
}

impl<'e> Walk<'e> {
    /// Begins at these paths, in their order. They are made absolute.
    pub fn new(paths: &[PathBuf], exclusions: &'e Exclusions) -> Self {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Self { exclusions, waiting: paths.iter().rev().map(|path| (absolute(path), 0)).collect() }
    }

    fn folder(&mut self, path: &Path, opened: File, depth: usize) -> io::Result<()> {
        let kind = rustix::fs::fstatfs(&opened)?;
        if u64::try_from(kind.f_type).is_ok_and(|kind| PSEUDO.contains(&kind)) {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err(io::Error::other(format!("it lies deeper than {MAX_DEPTH} folders")));
        }
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(opened)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let wanted = matches!(entry.file_type(), FileType::Directory | FileType::RegularFile | FileType::Unknown);
            let inside = path.join(std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes()) as &std::ffi::OsStr);
            if wanted && !self.exclusions.matches(&inside) {
                names.push((inside, depth + 1));
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.waiting.append(&mut names);
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let (path, depth) = self.waiting.pop()?;
            if depth == 0 && self.exclusions.matches(&path) {
                continue;
            }
            let opened = match open(&path) {
                Ok(opened) => opened,
                // Gone since its folder was read, or a link or socket found where a file was: nothing to scan.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) if depth > 0 => {
                    continue;
                }
                Err(error) => return Some(Step::Unreadable(path, error.into())),
            };
            let kind = match rustix::fs::fstat(&opened) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(error) => return Some(Step::Unreadable(path, error.into())),
            };
            match kind {
                FileType::RegularFile => return Some(Step::File(path, opened)),
                FileType::Directory => {
                    if let Err(error) = self.folder(&path, opened, depth) {
                        return Some(Step::Unreadable(path, error));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Opens to read, without following a link at the end, waiting, or leaving a trace where that is allowed.
pub fn open(path: &Path) -> Result<File, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only a file's owner and root may leave its time of access alone.
        Err(rustix::io::Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
        other => other,
    }
    .map(File::from)
}
