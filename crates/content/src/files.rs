//! A set of content files, by path, as it lies in a bundle.
//!
//! A path is relative, uses `/`, and each of its parts is made of ASCII letters, digits, `.`, `_` and `-` and
//! does not begin with `.`; so it names the same file on every system and none outside its folder. Count,
//! single size and sum are bounded where files come in, whether from a folder or from a bundle.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Path to content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Most files in one set.
pub const MAX_FILES: usize = 20_000;
/// Largest file, in bytes.
pub const MAX_FILE: u64 = 4 << 20;
/// All files together, in bytes: they travel to a worker in one frame of its channel (16 MiB).
pub const MAX_TOTAL: u64 = 14 << 20;
/// Longest path, in bytes.
pub const MAX_PATH: usize = 200;
/// Deepest path, in parts.
pub const MAX_PARTS: usize = 12;

static BUILTIN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// Why a set of files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The disk said no.
    #[error("read content {}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// A path that could mean something else elsewhere.
    #[error("content path {path:?} {reason}; rename the file")]
    Path {
        /// As it was found.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A bound was exceeded.
    #[error("content has {found} {what} and {most} are allowed; split it or leave files out")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much there is, or at least is.
        found: u64,
        /// The bound.
        most: u64,
    },
}

/// The content that this program was built with: `/content` of the source tree.
pub fn builtin() -> Files {
    BUILTIN.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect()
}

/// One file of it; `None` where it has none of this path.
pub fn builtin_file(path: &str) -> Option<&'static [u8]> {
    BUILTIN.iter().find(|(known, _)| *known == path).map(|(_, bytes)| *bytes)
}

/// Is this path safe and portable?
pub fn check_path(path: &str) -> Result<(), FilesError> {
    let wrong = |reason| Err(FilesError::Path { path: path.chars().take(MAX_PATH).collect(), reason });
    if path.is_empty() || path.len() > MAX_PATH {
        return wrong("is empty or too long");
    }
    if path.split('/').count() > MAX_PARTS {
        return wrong("has too many parts");
    }
    for part in path.split('/') {
        if part.is_empty() {
            return wrong("is absolute or has an empty part");
        }
        if part.starts_with('.') {
            return wrong("has a part that begins with a dot");
        }
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
            return wrong("has a character other than letters, digits, `.`, `_` and `-`");
        }
    }
    Ok(())
}

/// Checks paths and bounds of a set.
pub fn check(files: &Files) -> Result<(), FilesError> {
    bound("files", files.len() as u64, MAX_FILES as u64)?;
    let mut total = 0_u64;
    for (path, bytes) in files {
        check_path(path)?;
        let size = bytes.len() as u64;
        bound("bytes in one file", size, MAX_FILE)?;
        total = total.saturating_add(size);
    }
    bound("bytes", total, MAX_TOTAL)
}

/// Reads a folder. Hidden files and editors' leftovers (`name~`) are passed over, links are not followed.
pub fn read_dir(root: &Path) -> Result<Files, FilesError> {
    let mut files = Files::new();
    let mut total = 0_u64;
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in io(&folder, fs::read_dir(&folder))? {
            let entry = io(&folder, entry)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || name.ends_with('~') {
                continue;
            }
            let path = entry.path();
            let kind = io(&path, entry.file_type())?;
            let inside = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}/{name}") };
            check_path(&inside)?;
            if kind.is_dir() {
                // `check_path` bounds the depth, and a folder's own path is checked as a file's is.
                folders.push((path, inside));
            } else if kind.is_file() {
                bound("files", files.len() as u64 + 1, MAX_FILES as u64)?;
                let bytes = read_bounded(&path)?;
                total = total.saturating_add(bytes.len() as u64);
                bound("bytes", total, MAX_TOTAL)?;
                files.insert(inside, bytes);
            }
        }
    }
    Ok(files)
}

/// SHA-256 over paths and contents, hex: two sets are the same if and only if it is the same.
pub fn digest(files: &Files) -> String {
    let mut hash = Sha256::new();
    for (path, bytes) in files {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path.as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hex::encode(hash.finalize())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, FilesError> {
    let mut bytes = Vec::new();
    let file = io(path, fs::File::open(path))?;
    io(path, file.take(MAX_FILE + 1).read_to_end(&mut bytes))?;
    bound("bytes in one file", bytes.len() as u64, MAX_FILE)?;
    Ok(bytes)
}

fn bound(what: &'static str, found: u64, most: u64) -> Result<(), FilesError> {
    if found > most { Err(FilesError::TooLarge { what, found, most }) } else { Ok(()) }
}

fn io<T>(path: &Path, result: std::io::Result<T>) -> Result<T, FilesError> {
    result.map_err(|source| FilesError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_content_is_within_its_own_bounds_and_has_every_kind() {
        let files = builtin();
        check(&files).unwrap();
        for kind in ["logs/", "sigma/", "playbooks/"] {
            assert!(files.keys().any(|path| path.starts_with(kind)), "nothing under {kind}");
        }
        assert!(files.contains_key("logs/linux/auth/source.yaml"));
    }

    #[test]
    fn paths_that_could_leave_the_folder_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a/./b",
            ".git/config",
            "a\\b",
            "a\0b",
            "c:x",
            "ａ",
            "a b",
            "a\nb",
        ] {
            assert!(check_path(path).is_err(), "{path:?} was accepted");
        }
        assert!(check_path(&"a/".repeat(MAX_PARTS)).is_err());
        assert!(check_path(&"a".repeat(MAX_PATH + 1)).is_err());
        check_path(&"a".repeat(MAX_PATH)).unwrap();
        check_path("logs/linux/auth/cases/1.log").unwrap();
    }

    #[test]
    fn a_folder_is_read_without_links_and_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/one.yml"), "1").unwrap();
        fs::write(dir.path().join("a/two.yml~"), "2").unwrap();
        fs::write(dir.path().join(".hidden"), "3").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        let files = read_dir(dir.path()).unwrap();
        assert_eq!(files, Files::from([("a/b/one.yml".to_owned(), b"1".to_vec())]));
    }

    #[test]
    fn a_file_beyond_the_bound_is_refused_not_cut() {
        let dir = tempfile::tempdir().unwrap();
        let most = usize::try_from(MAX_FILE).unwrap();
        fs::write(dir.path().join("big"), vec![0; most]).unwrap();
        assert_eq!(read_dir(dir.path()).unwrap()["big"].len(), most);
        fs::write(dir.path().join("big"), vec![0; most + 1]).unwrap();
        assert!(matches!(read_dir(dir.path()), Err(FilesError::TooLarge { what: "bytes in one file", .. })));
    }

    #[test]
    fn the_digest_tells_where_one_file_ends() {
        let one = Files::from([("a".to_owned(), b"bc".to_vec())]);
        let two = Files::from([("ab".to_owned(), b"c".to_vec())]);
        assert_ne!(digest(&one), digest(&two));
        assert_eq!(digest(&one), digest(&one.clone()));
    }
}
