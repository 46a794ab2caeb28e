//! Rule files: those that this program was built with, and those that a user names.

use std::io::Read;
use std::path::{Path, PathBuf};

use sakimori_malware::rules::{HASH_ENDING, is_yara};

use crate::message::{MAX_RULES, Sources};

/// Most files that a user names, folders counted by what is in them.
pub const MAX_FILES: usize = 20_000;

/// A rule file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The disk said no.
    #[error("read rules {}: {source}", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// A file that is named and whose ending says something else.
    #[error("{} is no rule file: YARA rules end in .yar or .yara, lists of hashes in .hashes", .0.display())]
    Kind(PathBuf),
    /// Too many, or too large together.
    #[error("there are more than {MAX_FILES} rule files, or more than {} MiB of them: leave some out", MAX_RULES >> 20)]
    TooLarge,
}

/// The rules that this program was built with.
pub fn builtin() -> Sources {
    sakimori_content::builtin().into_iter().filter(|(path, _)| path.starts_with("malware/") && wanted(path)).collect()
}

/// Rule files by path, and all of folders, subfolders included.
///
/// # Errors
/// One cannot be read or is none, or they are too many.
pub fn read(paths: &[PathBuf]) -> Result<Sources, SourceError> {
    let mut sources = Sources::new();
    let mut left = MAX_RULES;
    for path in paths {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        if path.is_dir() {
            folders.push(path.clone());
        } else if wanted(&path.to_string_lossy()) {
            files.push(path.clone());
        } else if path.exists() {
            return Err(SourceError::Kind(path.clone()));
        } else {
            return Err(failed(path)(std::io::ErrorKind::NotFound.into()));
        }
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(failed(&folder))? {
                let entry = entry.map_err(failed(&folder))?;
                let kind = entry.file_type().map_err(failed(&entry.path()))?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) {
                    files.push(entry.path());
                }
                if folders.len() + files.len() > MAX_FILES {
                    return Err(SourceError::TooLarge);
                }
            }
        }
        files.sort();
        for file in files {
            let mut bytes = Vec::new();
            let opened = std::fs::File::open(&file).map_err(failed(&file))?;
            opened.take(left).read_to_end(&mut bytes).map_err(failed(&file))?;
            left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            if left == 0 || sources.len() >= MAX_FILES {
                return Err(SourceError::TooLarge);
            }
            sources.push((file.display().to_string(), bytes));
        }
    }
    Ok(sources)
}

fn wanted(path: &str) -> bool {
    is_yara(path) || path.ends_with(HASH_ENDING)
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> SourceError + use<> {
    let path = path.to_owned();
    move |source| SourceError::Read { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_read_and_other_kinds_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["a.yar", "b/c.yara", "b/d.hashes", "notes.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let sources = read(&[folder.path().into()]).unwrap();
        let names: Vec<&[u8]> = sources.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert_eq!(names, [&b"a.yar"[..], b"b/c.yara", b"b/d.hashes"]);
        assert!(matches!(read(&[folder.path().join("notes.txt")]), Err(SourceError::Kind(_))));
        assert!(matches!(read(&[folder.path().join("none.yar")]), Err(SourceError::Read { .. })));
    }

    #[test]
    fn the_built_in_rules_are_there() {
        let builtin = builtin();
        assert!(builtin.len() >= 8 && builtin.iter().all(|(path, _)| path.ends_with(".yar")));
    }
}
