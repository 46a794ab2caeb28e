//! The file of the mandate: what this host lets its manager do ([`sakimori_respond::mandate`]).
//!
//! Only root may be able to change it: the file and every folder above it belong to root, and nobody else may write
//! there (a folder with the sticky bit keeps others from replacing what is root's). A file that is there and cannot be
//! trusted or read is worse than none: then the manager may do nothing, and `status` and `doctor` say so.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sakimori_respond::mandate::Mandate;

use crate::files::roots_alone;

/// Largest file that is read.
const MAX_BYTES: u64 = 256 * 1024;

/// A mandate and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// It.
    pub mandate: Mandate,
    /// `default`, or the path of the file.
    pub source: String,
    /// Why the file is not trusted.
    pub problem: Option<String>,
    /// Device, inode, size and time of change, to see whether it changed; `None` where it is not there.
    stamp: Option<(u64, u64, u64, i64, i64)>,
}

impl Loaded {
    /// Reads the file at this path. Never fails: see [`Loaded::problem`].
    pub fn read(path: &Path) -> Self {
        let stamp = stamp(path);
        match read(path) {
            Ok(None) => Self { mandate: Mandate::default(), source: "default".into(), problem: None, stamp },
            Ok(Some(mandate)) => Self { mandate, source: path.display().to_string(), problem: None, stamp },
            Err(error) => Self {
                mandate: Mandate::nothing(),
                source: path.display().to_string(),
                problem: Some(format!("{error:#}; the manager may do nothing here until that is mended")),
                stamp,
            },
        }
    }

    /// Is the file another than it was when it was read?
    pub fn is_stale(&self, path: &Path) -> bool {
        self.stamp != stamp(path)
    }

    /// For status: the source, or why it is not trusted.
    pub fn words(&self) -> String {
        self.problem.clone().unwrap_or_else(|| self.source.clone())
    }
}

fn stamp(path: &Path) -> Option<(u64, u64, u64, i64, i64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

fn read(path: &Path) -> Result<Option<Mandate>> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open the mandate {}", path.display())),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        bail!("the mandate {} is no regular file", path.display());
    }
    roots_alone(path, &found)?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    let mandate: Mandate = toml(&text).with_context(|| format!("the mandate {} is wrong", path.display()))?;
    mandate.check().map_err(|reason| anyhow::anyhow!("the mandate {} is wrong: {reason}", path.display()))?;
    Ok(Some(mandate))
}

fn toml(text: &str) -> Result<Mandate> {
    Ok(::toml::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn put(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_guide_shows_the_defaults() {
        let guide = include_str!("../../../docs/configuration.md");
        let (_, after) = guide.split_once("```toml mandate\n").expect("an example");
        let (example, _) = after.split_once("```").expect("its end");
        assert_eq!(toml(example).expect("it is right"), Mandate::default());
    }

    #[test]
    fn only_a_file_that_root_alone_can_change_is_trusted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mandate.toml");
        assert_eq!(Loaded::read(&path).source, "default");
        put(&path, "[alone]\nwidest_v4 = 32\n", 0o644);
        let good = Loaded::read(&path);
        assert_eq!((good.problem.clone(), good.mandate.alone.widest_v4), (None, 32));
        assert!(!good.is_stale(&path));
        let refused = |why: &str| {
            let loaded = Loaded::read(&path);
            assert!(loaded.problem.as_ref().is_some_and(|problem| problem.contains(why)), "{why}: {loaded:?}");
            assert_eq!(loaded.mandate, Mandate::nothing(), "{why}");
        };
        put(&path, "", 0o666);
        refused("may be written by others");
        assert!(good.is_stale(&path));
        put(&path, "[alone]\nwidest = 3\n", 0o600);
        refused("widest");
        put(&path, "[operators]\nneeded = 1\n", 0o600);
        refused("needed");
        put(&path, "", 0o600);
        chown(&path, Some(1000), None).unwrap();
        refused("belongs to user 1000");
        chown(&path, Some(0), None).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        refused("may be written by others");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        symlink(folder.path().join("elsewhere"), &path).unwrap();
        refused("cannot open");
    }
}
