//! What is mounted, and being told when that changes: a face of `/proc/self/mountinfo` (proc(5)).
//!
//! Names in it are chosen by whoever may mount, containers included, so they are read as bytes and bounded in number.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Most mounts that are looked at.
pub const MAX_MOUNTS: usize = 100_000;
/// Longest table, in bytes.
const MAX_TABLE: u64 = 64 << 20;

/// File systems without files of anybody: nothing to protect, and some whose files must not be opened by chance.
const PSEUDO: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// The kernel's number of it; used again after it is gone.
    pub id: u64,
    /// Device of its file system, `major:minor`: the same wherever it is mounted.
    pub device: String,
    /// Where.
    pub point: PathBuf,
    /// Kind of file system.
    pub kind: String,
}

impl Mount {
    /// Does it hold files of somebody?
    pub fn holds_files(&self) -> bool {
        !PSEUDO.contains(&self.kind.as_str())
    }
}

/// The table, and whether it changed.
#[derive(Debug)]
pub struct Mounts {
    table: File,
}

impl Mounts {
    /// Opens the table of this process's mount namespace.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn open() -> io::Result<Self> {
        Ok(Self { table: File::open("/proc/self/mountinfo")? })
    }

    /// All mounts, as they are now.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Mount>> {
        self.table.rewind()?;
        let mut text = Vec::new();
        (&self.table).take(MAX_TABLE).read_to_end(&mut text)?;
        Ok(parse_table(&text))
    }

    /// Waits until something is mounted or unmounted, no longer than this. True where that may have happened.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn changed(&self, limit: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut wanted = [PollFd::new(&self.table, PollFlags::PRI)];
        match poll(&mut wanted, Some(&limit)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// The mounts of a table's text; a line that is none is passed over, and no more than [`MAX_MOUNTS`] are taken.
pub fn parse_table(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse).take(MAX_MOUNTS).collect()
}

/// One line: `36 35 98:0 /root /mnt options optional… - ext4 /dev/x options`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let kind = String::from_utf8_lossy(fields.skip_while(|field| *field != b"-").nth(1)?).into_owned();
    Some(Mount { id, device, point, kind })
}

/// `\040` stands for a space, and so on.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digit = |byte: &u8| byte.checked_sub(b'0').filter(|value| *value < 8);
        let escaped = after.first_chunk::<3>().filter(|_| *first == b'\\').and_then(|[a, b, c]| {
            let value = u32::from(digit(a)?) * 64 + u32::from(digit(b)?) * 8 + u32::from(digit(c)?);
            u8::try_from(value).ok()
        });
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Mounts that hold files at or below these paths, and those that the paths themselves lie on; one a file system.
pub fn covering(mounts: &[Mount], paths: &[PathBuf]) -> Vec<Mount> {
    let mut wanted: Vec<Mount> = Vec::new();
    let mut take = |mount: &Mount| {
        if mount.holds_files() && !wanted.iter().any(|own| own.device == mount.device) {
            wanted.push(mount.clone());
        }
    };
    for path in paths {
        mounts.iter().filter(|mount| mount.point.starts_with(path)).for_each(&mut take);
        // Of those above, the last one mounted at the deepest point is what the path shows.
        let above = mounts.iter().filter(|mount| is_above(&mount.point, path));
        if let Some(under) = above.max_by_key(|mount| mount.point.components().count()) {
            take(under);
        }
    }
    wanted
}

fn is_above(point: &Path, path: &Path) -> bool {
    path.starts_with(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mount(device: &str, point: &str, kind: &str) -> Mount {
        Mount { id: 1, device: device.into(), point: point.into(), kind: kind.into() }
    }

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let line = br"36 35 98:0 / /srv/a\040b\134 rw,noatime master:1 shared:2 - ext4 /dev/root rw";
        let expected = Mount { id: 36, device: "98:0".into(), point: "/srv/a b\\".into(), kind: "ext4".into() };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"x"), None);
        assert_eq!(unescape(br"\04"), br"\04");
        assert_eq!(unescape(br"\999\777"), br"\999\777");
    }

    #[test]
    fn a_path_brings_its_file_system_and_what_is_mounted_below() {
        let table = [
            mount("1:1", "/", "ext4"),
            mount("0:5", "/proc", "proc"),
            mount("1:2", "/srv", "xfs"),
            mount("1:3", "/srv/www/uploads", "tmpfs"),
            mount("1:2", "/mnt/again", "xfs"),
        ];
        let points = |paths: &[&str]| -> Vec<String> {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            covering(&table, &paths).iter().map(|mount| mount.point.display().to_string()).collect()
        };
        assert_eq!(points(&["/srv/www"]), ["/srv/www/uploads", "/srv"]);
        assert_eq!(points(&["/"]), ["/", "/srv", "/srv/www/uploads"]);
        assert_eq!(points(&["/etc"]), ["/"]);
        assert_eq!(points(&["/srv", "/mnt/again"]), ["/srv", "/srv/www/uploads"]);
        assert!(points(&[]).is_empty());
    }

    #[test]
    fn this_machine_has_a_root() {
        let mut mounts = Mounts::open().unwrap();
        let table = mounts.read().unwrap();
        assert!(table.iter().any(|mount| mount.point == Path::new("/")));
        assert_eq!(mounts.read().unwrap().len(), table.len());
        let _ = mounts.changed(Duration::ZERO).unwrap();
    }

    proptest! {
        #[test]
        fn any_line_is_a_mount_or_none(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
            prop_assert!(unescape(&line).len() <= line.len());
        }
    }
}
