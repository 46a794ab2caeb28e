//! The files below paths, opened.
//!
//! Links are not followed, and file systems that hold no files of anybody (`proc`, `sysfs`, …) are passed over, as are
//! those of other hosts that lie below the paths, unless they are asked for. Everything is opened from its folder's
//! descriptor, without waiting (a pipe would hold the scan) and only then looked at, so nothing can be put in its place
//! between the two.
//!
//! The order is that of the names' bytes, folder by folder, so a path is a position: [`Walk::new`] goes on after one,
//! whatever came and went since. Names wait in memory, no more than [`WAITING`]: of a folder with more the smallest are
//! taken, and the folder is read again for the next.

use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::exclude::Exclusions;

/// Deepest folder, in levels below where the walk began.
pub const MAX_DEPTH: usize = 256;
/// Most names that wait in all folders together, but for [`LEAST`] of each.
pub const WAITING: usize = 50_000;
/// So many names of a folder may always wait.
const LEAST: usize = 256;

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

/// File systems of other hosts, and those that a program answers for: they may be slow, endless, or not there.
const FOREIGN: &[u64] = &[
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2
    0x00c3_6400, // Ceph
    0x7375_7245, // Coda
    0x6b41_4653, // AFS
    0x0102_1997, // 9p
    0x0bd0_0bd0, // Lustre
    0x6573_5546, // FUSE
];
/// The same by name, as the table of mounts has them: one that does not answer is not even opened.
const FOREIGN_KINDS: &[&str] = &["nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "coda", "afs", "9p", "lustre", "fuse"];

/// What the walk comes upon.
#[derive(Debug)]
pub enum Step {
    /// A regular file, opened.
    File(PathBuf, File),
    /// Something that is left out, with everything below it.
    Passed(PathBuf, Why),
    /// Something that should have been looked at and could not be.
    Unreadable(PathBuf, io::Error),
}

/// Why something is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was told to be.
    Excluded,
    /// Its file system holds no files of anybody, or is another host's.
    FileSystem,
}

/// The walk.
#[derive(Debug)]
pub struct Walk<'e> {
    exclusions: &'e Exclusions,
    /// Are file systems of other hosts walked through?
    network: bool,
    /// Where such a file system is mounted and not asked for.
    stay_off: BTreeSet<PathBuf>,
    roots: VecDeque<PathBuf>,
    /// Folders that are being gone through, the deepest last.
    folders: Vec<Folder>,
    /// Names that wait in all of them.
    waiting: usize,
    most_waiting: usize,
    /// Below the first root: what was done with.
    after: Vec<OsString>,
}

/// A folder that is being gone through.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    opened: File,
    device: u64,
    /// Names to come, the next one last.
    names: Vec<OsString>,
    /// There are more names after this one.
    more_after: Option<OsString>,
    /// In the folder of this name, what was done with.
    after: Option<(OsString, Vec<OsString>)>,
}

impl<'e> Walk<'e> {
    /// Begins at these paths, in their order, or after this file below one of them. They are made absolute; one that lies
    /// below another is gone through with that. `network`: file systems of other hosts too.
    pub fn new(paths: &[PathBuf], exclusions: &'e Exclusions, network: bool, after: Option<&Path>) -> Self {
        let mut roots: VecDeque<PathBuf> = VecDeque::new();
        for path in paths {
            let path: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.clone()).components().collect();
            if !roots.iter().any(|root| path.starts_with(root)) {
                roots.retain(|root| !root.starts_with(&path));
                roots.push_back(path);
            }
        }
        let mut stay_off = if network { BTreeSet::new() } else { foreign_mounts() };
        for path in paths {
            stay_off.remove(path);
        }
        let mut walk = Self {
            exclusions,
            network,
            stay_off,
            roots,
            folders: Vec::new(),
            waiting: 0,
            most_waiting: WAITING,
            after: Vec::new(),
        };
        if let Some(after) = after
            && let Some(at) = walk.roots.iter().position(|root| after.starts_with(root))
        {
            walk.roots.drain(..at);
            let below = walk.roots.front().and_then(|root| after.strip_prefix(root).ok());
            let names = below.into_iter().flat_map(Path::components).filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            });
            walk.after = names.collect();
            if walk.after.is_empty() {
                // The root was a file.
                walk.roots.pop_front();
            }
        }
        walk
    }

    /// Looks at something: in its folder, or a root, which has none. `after`: what of it was done with.
    fn look(&mut self, name: &OsStr, in_folder: bool, after: Vec<OsString>) -> Option<Step> {
        let folder = self.folders.last().filter(|_| in_folder);
        let path = folder.map_or_else(|| PathBuf::from(name), |folder| folder.path.join(name));
        if self.exclusions.matches(&path) {
            return Some(Step::Passed(path, Why::Excluded));
        }
        if self.stay_off.contains(&path) {
            return Some(Step::Passed(path, Why::FileSystem));
        }
        let opened = match folder {
            Some(folder) => open_in(&folder.opened, name),
            None => open(&path),
        };
        let opened = match opened {
            Ok(opened) => opened,
            // Gone since its folder was read, or a link or socket found where a file was: nothing to scan.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) if in_folder => {
                return None;
            }
            Err(error) => return Some(Step::Unreadable(path, error.into())),
        };
        let stat = match rustix::fs::fstat(&opened) {
            Ok(stat) => stat,
            Err(error) => return Some(Step::Unreadable(path, error.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if self.exclusions.ends(&path) => Some(Step::Passed(path, Why::Excluded)),
            FileType::RegularFile => Some(Step::File(path, opened)),
            FileType::Directory => {
                let crossed = folder.is_some_and(|folder| folder.device != stat.st_dev);
                self.enter(path, opened, stat.st_dev, crossed, after)
            }
            _ => None,
        }
    }

    fn enter(&mut self, path: PathBuf, opened: File, device: u64, crossed: bool, after: Vec<OsString>) -> Option<Step> {
        match rustix::fs::fstatfs(&opened) {
            Err(error) => return Some(Step::Unreadable(path, error.into())),
            Ok(found) => {
                let is =
                    |list: &[u64]| u64::try_from(found.f_type).is_ok_and(|kind| list.contains(&(kind & 0xffff_ffff)));
                if is(PSEUDO) || (crossed && !self.network && is(FOREIGN)) {
                    return Some(Step::Passed(path, Why::FileSystem));
                }
            }
        }
        if self.folders.len() >= MAX_DEPTH {
            return Some(Step::Unreadable(path, io::Error::other(format!("it lies deeper than {MAX_DEPTH} folders"))));
        }
        let mut after = after.into_iter();
        let first = after.next();
        let rest: Vec<OsString> = after.collect();
        // Of a folder on the way to the position, that name itself is gone through again; the position itself is not.
        let from = first.as_deref().map(|name| (name, !rest.is_empty()));
        let most = self.room();
        match read(&opened, from, most) {
            Err(error) => Some(Step::Unreadable(path, error)),
            Ok((names, more)) => {
                self.waiting += names.len();
                let more_after = names.first().filter(|_| more).cloned();
                let after = first.filter(|_| !rest.is_empty()).map(|name| (name, rest));
                self.folders.push(Folder { path, opened, device, names, more_after, after });
                None
            }
        }
    }

    fn room(&self) -> usize {
        self.most_waiting.saturating_sub(self.waiting).max(LEAST.min(self.most_waiting))
    }

    /// Reads on in the folder at hand, or leaves it.
    fn read_on(&mut self) -> Option<Step> {
        let most = self.room();
        let folder = self.folders.last_mut()?;
        let Some(last) = folder.more_after.take() else {
            self.folders.pop();
            return None;
        };
        match read(&folder.opened, Some((&last, false)), most) {
            Ok((names, more)) => {
                self.waiting += names.len();
                folder.more_after = names.first().filter(|_| more).cloned();
                folder.names = names;
                None
            }
            Err(error) => {
                let path = folder.path.clone();
                self.folders.pop();
                Some(Step::Unreadable(path, error))
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let step = match self.folders.last_mut() {
                None => {
                    let root = self.roots.pop_front()?;
                    let after = std::mem::take(&mut self.after);
                    self.look(root.as_os_str(), false, after)
                }
                Some(folder) => match folder.names.pop() {
                    None => self.read_on(),
                    Some(name) => {
                        self.waiting -= 1;
                        let on_the_way = folder.after.take().filter(|(first, _)| *first == name);
                        self.look(&name, true, on_the_way.map(|(_, rest)| rest).unwrap_or_default())
                    }
                },
            };
            if step.is_some() {
                return step;
            }
        }
    }
}

/// The smallest names of a folder after one, or from it on, in falling order, and whether there are more. What is neither
/// file nor folder is not among them.
fn read(folder: &File, from: Option<(&OsStr, bool)>, most: usize) -> io::Result<(Vec<OsString>, bool)> {
    let mut smallest: BinaryHeap<OsString> = BinaryHeap::new();
    let mut more = false;
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let wanted = matches!(entry.file_type(), FileType::Directory | FileType::RegularFile | FileType::Unknown);
        if name == c"." || name == c".." || !wanted {
            continue;
        }
        let name = OsStr::from_bytes(name.to_bytes());
        if from.is_some_and(|(first, too)| name < first || (name == first && !too)) {
            continue;
        }
        if smallest.len() < most {
            smallest.push(name.to_owned());
        } else {
            more = true;
            if let Some(mut largest) = smallest.peek_mut().filter(|largest| largest.as_os_str() > name) {
                *largest = name.to_owned();
            }
        }
    }
    let mut names = smallest.into_sorted_vec();
    names.reverse();
    Ok((names, more))
}

/// Where file systems of other hosts are mounted; empty where the table cannot be read.
fn foreign_mounts() -> BTreeSet<PathBuf> {
    let table = sakimori_sys::mounts::Mounts::open().and_then(|mut mounts| mounts.read()).unwrap_or_default();
    let foreign = |kind: &str| FOREIGN_KINDS.contains(&kind) || kind.starts_with("fuse.");
    table.into_iter().filter(|mount| foreign(&mount.kind)).map(|mount| mount.point).collect()
}

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens to read, without following a link at the end, waiting, or leaving a trace where that is allowed.
pub fn open(path: &Path) -> Result<File, rustix::io::Errno> {
    open_at(|flags| rustix::fs::open(path, flags, Mode::empty()))
}

/// The same, of a name in a folder.
fn open_in(folder: &File, name: &OsStr) -> Result<File, rustix::io::Errno> {
    open_at(|flags| rustix::fs::openat(folder, name, flags, Mode::empty()))
}

fn open_at(
    open: impl Fn(OFlags) -> Result<std::os::fd::OwnedFd, rustix::io::Errno>,
) -> Result<File, rustix::io::Errno> {
    match open(FLAGS | OFlags::NOATIME) {
        // Only a file's owner and root may leave its time of access alone.
        Err(rustix::io::Errno::PERM) => open(FLAGS),
        other => other,
    }
    .map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Files below a folder, by their paths in it, in the order of the walk with so many names in memory.
    fn walked(root: &Path, exclusions: &Exclusions, most: usize, after: Option<&Path>) -> Vec<String> {
        let mut walk = Walk::new(&[root.to_owned()], exclusions, false, after.map(|path| root.join(path)).as_deref());
        walk.most_waiting = most;
        let mut found = Vec::new();
        while let Some(step) = walk.next() {
            assert!(walk.waiting <= most + walk.folders.len() * LEAST.min(most), "{} wait", walk.waiting);
            match step {
                Step::File(path, _) => found.push(path.strip_prefix(root).unwrap().display().to_string()),
                Step::Passed(..) => {}
                Step::Unreadable(path, error) => panic!("{}: {error}", path.display()),
            }
        }
        found
    }

    fn tree(files: &BTreeSet<String>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        folder
    }

    #[test]
    fn a_large_folder_is_read_piece_by_piece_and_wholly() {
        let files: BTreeSet<String> = (0..2_000).map(|n| format!("{:04}", (n * 7_919) % 2_000)).collect();
        let folder = tree(&files);
        let found = walked(folder.path(), &Exclusions::default(), 300, None);
        assert_eq!(found, files.into_iter().collect::<Vec<_>>(), "each once, in order");
    }

    #[test]
    fn one_path_below_another_is_walked_once() {
        let folder = tree(&["a/b/c".to_owned(), "d".to_owned()].into());
        let inside = |name: &str| folder.path().join(name);
        let none = Exclusions::default();
        let roots = [inside("a/b"), inside("d"), folder.path().to_owned(), inside("a")];
        assert_eq!(Walk::new(&roots, &none, false, None).count(), 2);
        let left = Walk::new(&[inside("d"), inside("a")], &none, false, Some(&inside("d"))).collect::<Vec<_>>();
        assert!(matches!(&left[..], [Step::File(path, _)] if *path == inside("a/b/c")), "{left:?}");
    }

    #[test]
    fn what_is_left_out_is_told_once_with_all_below_it() {
        let folder = tree(&["out/1".to_owned(), "out/2".to_owned(), "a.iso".to_owned(), "kept".to_owned()].into());
        let exclusions = Exclusions::new(&["out"]).unwrap().with_extensions(&["iso"]);
        let steps: Vec<Step> = Walk::new(&[folder.path().to_owned()], &exclusions, false, None).collect();
        let passed = steps.iter().filter(|step| matches!(step, Step::Passed(_, Why::Excluded))).count();
        assert_eq!((steps.len(), passed), (3, 2));
        let proc: Vec<Step> = Walk::new(&["/proc".into()], &exclusions, true, None).collect();
        assert!(matches!(proc[..], [Step::Passed(_, Why::FileSystem)]), "asked for or not: {proc:?}");
    }

    #[test]
    fn where_another_host_s_file_system_is_mounted_nothing_is_opened_unless_it_is_named() {
        let folder = tree(&["nfs/a".to_owned(), "own".to_owned()].into());
        let (place, none) = (folder.path().join("nfs"), Exclusions::default());
        let steps = |paths: &[PathBuf]| -> Vec<String> {
            let mut walk = Walk::new(paths, &none, false, None);
            walk.stay_off = [place.clone()].into();
            walk.stay_off.retain(|place| !paths.contains(place));
            let name = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            walk.map(|step| match step {
                Step::File(path, _) => name(path),
                Step::Passed(path, why) => format!("{} {why:?}", name(path)),
                Step::Unreadable(path, error) => format!("{} {error}", name(path)),
            })
            .collect()
        };
        assert_eq!(steps(&[folder.path().to_owned()]), ["nfs FileSystem", "own"]);
        assert_eq!(steps(&[folder.path().to_owned(), place.clone()]), ["nfs/a", "own"]);
        assert_eq!(steps(std::slice::from_ref(&place)), ["nfs/a"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever came and went since: everything after the position is walked, and nothing before it.
        #[test]
        fn a_walk_goes_on_after_a_position(
            files in prop::collection::btree_set("[a-c]{1,2}(/[a-c.]{2,3}){0,3}", 1..40),
            at in any::<prop::sample::Index>(),
            gone in any::<bool>(),
            most in 1_usize..6,
        ) {
            // A name is a file or a folder, not both.
            let files: BTreeSet<String> = files
                .iter()
                .filter(|file| !file.contains("..") && !files.iter().any(|other| other.starts_with(&format!("{file}/"))))
                .cloned()
                .collect();
            prop_assume!(!files.is_empty());
            let folder = tree(&files);
            let none = Exclusions::default();
            let all = walked(folder.path(), &none, most, None);
            prop_assert_eq!(all.len(), files.len());
            let at = at.index(all.len());
            if gone {
                std::fs::remove_file(folder.path().join(&all[at])).unwrap();
            }
            let rest = walked(folder.path(), &none, most, Some(Path::new(&all[at])));
            prop_assert_eq!(&rest[..], &all[at + 1..]);
        }
    }
}
