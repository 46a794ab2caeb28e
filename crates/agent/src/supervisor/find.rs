//! Finding the files of a log input again: after a restart, a rotation or a cut.
//!
//! A log is a path, and files that were there before. A position names files by device, inode and the hash of
//! their first bytes; each is looked for in the folder of the path, under any name:
//!
//! - found by identity with the same beginning: it is read on, whatever it is called now;
//! - its inode is there with another beginning, or is gone, but a file beside it begins the same and is at
//!   least as long: copytruncate; the copy is read on from the offset;
//! - found nowhere: what was left of it is lost, and counted.
//!
//! Between the oldest file of a position and the current one there may be files that this agent never saw (two
//! rotations while it was down): rotated siblings (`auth.log.1`, `auth.log-20260101`) that are younger than it
//! are read whole. Compressed files are not read. The supervisor reads no more of a file than the first 256
//! bytes, for the hash.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sakimori_wire::ipc::{FileIdentity, FilePosition};

use crate::worker_logs::tail::head_of;

/// Most files of a folder that are looked at.
const MAX_SIBLINGS: usize = 4_096;
/// Most unseen rotated files that are read before the current one.
const MAX_UNSEEN: usize = 64;

/// A file and where to go on in it.
#[derive(Debug)]
pub struct Opened {
    /// The file, open for reading.
    pub file: File,
    /// Where.
    pub position: FilePosition,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Search {
    /// Files to read, the oldest first; the current one, where it exists, is the last.
    pub files: Vec<Opened>,
    /// Is there a file at the path?
    pub present: bool,
    /// Cause of each part of the position that was not found.
    pub lost: Vec<&'static str>,
}

struct Candidate {
    path: PathBuf,
    file: File,
    identity: FileIdentity,
    size: u64,
    changed: (i64, i64),
    /// The name is the log's own with a rotation's ending.
    rotated: bool,
}

/// Opens the current file at a path, where there is one: a regular file, after links.
///
/// # Errors
/// Where there is something else, or it cannot be opened.
pub fn open_current(path: &Path) -> io::Result<Option<(File, FileIdentity)>> {
    match open(path) {
        Ok(file) => {
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            Ok(Some((file, identity(&metadata))))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds all files of an input after this position (none: it was never read).
///
/// # Errors
/// Where the folder or a file cannot be read.
pub fn find(path: &Path, position: Option<&[FilePosition]>) -> io::Result<Search> {
    let current = open_current(path)?;
    let mut search = Search { present: current.is_some(), ..Search::default() };
    let wanted = position.unwrap_or_default();
    let is_plain = |(file, identity): &(File, FileIdentity)| {
        wanted.len() == 1
            && wanted.iter().all(|one| one.file == *identity && begins_as(file, *one) && longer(file, one.offset))
    };
    // The usual case needs no look at the folder: the file is where it was.
    if wanted.is_empty() || current.as_ref().is_some_and(is_plain) {
        if let Some((file, identity)) = current {
            let position =
                wanted.first().copied().unwrap_or(FilePosition { file: identity, ..FilePosition::default() });
            search.files.push(Opened { file, position });
        }
        return Ok(search);
    }
    let mut siblings = siblings(path)?;
    let mut oldest: Option<(i64, i64)> = None;
    let mut seen: Vec<FileIdentity> = current.iter().map(|(_, identity)| *identity).collect();
    let mut current_position = None;
    for one in wanted {
        if let Some((file, identity)) = &current
            && *identity == one.file
            && begins_as(file, *one)
            && longer(file, one.offset)
        {
            current_position = Some(*one);
            continue;
        }
        let by_identity = siblings
            .iter()
            .position(|other| other.identity == one.file && begins_as(&other.file, *one) && other.size >= one.offset);
        let by_beginning = || {
            siblings.iter().position(|other| {
                one.head.0 > 0
                    && other.rotated
                    && other.size >= one.offset
                    && begins_as(&other.file, *one)
                    && !seen.contains(&other.identity)
            })
        };
        match by_identity.or_else(by_beginning) {
            Some(at) => {
                let found = siblings.swap_remove(at);
                seen.push(found.identity);
                oldest = Some(oldest.map_or(found.changed, |time| time.min(found.changed)));
                search.files.push(Opened { file: found.file, position: FilePosition { file: found.identity, ..*one } });
            }
            // Nothing of it was read and it is gone or empty: nothing is known to be lost.
            None if one.offset == 0 => {}
            None if current.as_ref().is_some_and(|(_, identity)| *identity == one.file) => {
                search.lost.push("truncated");
            }
            None => search.lost.push("rotated_away"),
        }
    }
    if let Some(oldest) = oldest {
        search.files.extend(unseen(siblings, &seen, oldest, wanted, current.as_ref().map(|(file, _)| file)));
    }
    if let Some((file, identity)) = current {
        let position = current_position.unwrap_or(FilePosition { file: identity, ..FilePosition::default() });
        search.files.push(Opened { file, position });
    }
    Ok(search)
}

/// Rotated files that are younger than the oldest of the position and that nobody read, by age. A copy of a
/// file that is read (copytruncate) is not one of them.
fn unseen(
    siblings: Vec<Candidate>,
    seen: &[FileIdentity],
    oldest: (i64, i64),
    wanted: &[FilePosition],
    current: Option<&File>,
) -> Vec<Opened> {
    let is_copy = |candidate: &Candidate| {
        let of_wanted = wanted.iter().any(|one| one.head.0 > 0 && begins_as(&candidate.file, *one));
        let of_current = current.is_some_and(|file| {
            head_of(file, 256)
                .ok()
                .is_some_and(|head| head.0 > 0 && head_of(&candidate.file, head.0).ok() == Some(head))
        });
        of_wanted || of_current
    };
    let mut found: Vec<Candidate> = siblings
        .into_iter()
        .filter(|other| other.rotated && other.changed > oldest && !seen.contains(&other.identity) && other.size > 0)
        .filter(|other| !is_copy(other))
        .collect();
    found.sort_by(|a, b| a.changed.cmp(&b.changed).then_with(|| a.path.cmp(&b.path)));
    let skip = found.len().saturating_sub(MAX_UNSEEN);
    found
        .into_iter()
        .skip(skip)
        .map(|one| Opened { position: FilePosition { file: one.identity, ..FilePosition::default() }, file: one.file })
        .collect()
}

/// Regular files in the folder of a path, other than the one at the path.
fn siblings(path: &Path) -> io::Result<Vec<Candidate>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MAX_SIBLINGS) {
        let entry = entry?;
        let other = entry.file_name();
        let Some(other) = other.to_str().filter(|other| *other != name) else { continue };
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // One that vanishes between listing and opening was not there.
        let Ok(file) = open(&entry.path()) else { continue };
        let Ok(metadata) = file.metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        found.push(Candidate {
            path: entry.path(),
            identity: identity(&metadata),
            size: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            rotated: is_rotated(name, other),
            file,
        });
    }
    Ok(found)
}

/// Is `other` the name of a rotated `name`: `auth.log.1`, `auth.log-20260101`, `auth.log.2026-01-01`?
pub fn is_rotated(name: &str, other: &str) -> bool {
    let number = |ending: &str| {
        ending.bytes().any(|byte| byte.is_ascii_digit())
            && ending.bytes().all(|byte| byte.is_ascii_digit() || b".-_T".contains(&byte))
    };
    if let Some(ending) = other.strip_prefix(name) {
        return ending.starts_with(['.', '-', '_']) && number(ending);
    }
    // `access-20260101.log` beside `access.log`.
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    other
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(extension))
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|ending| ending.starts_with(['.', '-', '_']) && number(ending))
}

fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK a FIFO at the path would hold the supervisor.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits() | rustix::fs::OFlags::NOCTTY.bits()).unwrap_or(0);
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn identity(metadata: &std::fs::Metadata) -> FileIdentity {
    FileIdentity { device: metadata.dev(), inode: metadata.ino() }
}

fn begins_as(file: &File, position: FilePosition) -> bool {
    position.head.0 == 0 || head_of(file, position.head.0).is_ok_and(|head| head == position.head)
}

fn longer(file: &File, offset: u64) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() >= offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::time::{Duration, SystemTime};

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("temporary folder"))
        }
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
        fn write(&self, name: &str, text: &str, age: u64) {
            fs::write(self.path(name), text).expect("written");
            let file = fs::OpenOptions::new().write(true).open(self.path(name)).expect("open");
            let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            file.set_modified(base - Duration::from_secs(age)).expect("time set");
        }
        fn position(&self, name: &str, offset: u64) -> FilePosition {
            let file = File::open(self.path(name)).expect("open");
            FilePosition {
                file: identity(&file.metadata().expect("metadata")),
                head: head_of(&file, offset as u32).expect("head"),
                offset,
            }
        }
        /// The unread part of each file that was found.
        fn unread(&self, position: &[FilePosition]) -> (Vec<String>, Search) {
            let mut search = find(&self.path("auth.log"), Some(position)).expect("found");
            let texts = search
                .files
                .iter_mut()
                .map(|opened| {
                    let mut text = String::new();
                    opened.file.read_to_string(&mut text).expect("read");
                    text[opened.position.offset as usize..].to_owned()
                })
                .collect();
            (texts, search)
        }
    }

    #[test]
    fn a_file_that_stayed_is_read_on() {
        let folder = Folder::new();
        folder.write("auth.log", "one\ntwo\n", 10);
        let position = folder.position("auth.log", 4);
        assert_eq!(folder.unread(&[position]).0, ["two\n"]);
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_first_with_those_between() {
        let folder = Folder::new();
        folder.write("auth.log", "one\ntwo\n", 100);
        let position = folder.position("auth.log", 4);
        folder.write("auth.log.9", "older\n", 500);
        fs::rename(folder.path("auth.log"), folder.path("auth.log.2")).expect("renamed");
        folder.write("auth.log.1", "three\n", 50);
        folder.write("auth.log.3.gz", "packed\n", 40);
        folder.write("auth.log.bak", "other\n", 40);
        folder.write("auth.log", "four\n", 10);
        let (texts, search) = folder.unread(&[position]);
        assert_eq!(texts, ["two\n", "three\n", "four\n"]);
        assert!(search.lost.is_empty() && search.present);
    }

    #[test]
    fn the_copy_of_a_cut_file_is_read_on() {
        let folder = Folder::new();
        folder.write("auth.log", "one\ntwo\n", 100);
        let position = folder.position("auth.log", 4);
        fs::copy(folder.path("auth.log"), folder.path("auth.log.1")).expect("copied");
        fs::OpenOptions::new().write(true).truncate(true).open(folder.path("auth.log")).expect("cut");
        assert_eq!(folder.unread(&[position]).0, ["two\n", ""]);
        folder.write("auth.log", "a new first line that is longer\n", 1);
        let (texts, search) = folder.unread(&[position]);
        assert_eq!(texts, ["two\n", "a new first line that is longer\n"]);
        assert!(search.lost.is_empty());
    }

    #[test]
    fn what_is_nowhere_is_lost_and_said() {
        let folder = Folder::new();
        folder.write("auth.log", "one\ntwo\n", 100);
        let position = folder.position("auth.log", 4);
        folder.write("auth.log", "x\n", 1);
        let (texts, search) = folder.unread(&[position]);
        assert_eq!((texts, search.lost), (vec!["x\n".to_owned()], vec!["truncated"]));
        fs::remove_file(folder.path("auth.log")).expect("removed");
        let (texts, search) = folder.unread(&[position]);
        assert!(texts.is_empty() && !search.present);
        assert_eq!(search.lost, ["rotated_away"]);
    }

    #[test]
    fn names_of_rotated_files() {
        for other in ["auth.log.1", "auth.log-20260101", "auth.log.2026-01-01", "auth-20260101.log", "auth.log.1.2"] {
            assert!(is_rotated("auth.log", other), "{other}");
        }
        for other in
            ["auth.log.gz", "auth.log.1.gz", "auth.logs", "auth.log.bak", "mail.log.1", "auth.log.", "auth.log"]
        {
            assert!(!is_rotated("auth.log", other), "{other}");
        }
    }
}
