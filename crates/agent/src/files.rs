//! Files of the state folder are written whole or not at all: under another name, synced, renamed, and the
//! folder synced. What other files are trusted with, only root may be able to change.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Bits of a mode that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// In a folder with this bit nobody renames or removes what is another's.
const STICKY: u32 = 0o1000;
/// Ending of a file that is being written.
const UNFINISHED: &str = ".new";

/// Writes a file so that a crash at any moment leaves the former or the new content.
///
/// # Errors
/// Where the disk says no; the former content is still there.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    let beside = folder.join(format!(".{name}{UNFINISHED}"));
    let attempt = || -> std::io::Result<()> {
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A new file: never through a link that somebody placed under this name.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

/// Opens a folder of this user's alone, or makes it, and lists its files of an ending whose names are right: without the ending,
/// by their names, with their sizes.
///
/// # Errors
/// It is somebody else's, or others can enter it.
pub fn own_folder(folder: &Path, ending: &str, is_name: impl Fn(&str) -> bool) -> Result<Vec<(String, u64)>> {
    match DirBuilder::new().mode(0o700).recursive(true).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", folder.display()));
        }
        _ => {}
    }
    let found = std::fs::symlink_metadata(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    let own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if !own || found.permissions().mode() & 0o077 != 0 {
        bail!("{} must be a folder of this user that nobody else can enter (mode 700)", folder.display());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(ending).filter(|name| is_name(name)) {
            files.push((name.to_owned(), entry.metadata().map_or(0, |found| found.len())));
        }
    }
    files.sort();
    Ok(files)
}

/// Removes what a crash left of [`write_atomically`]. For the one process that writes into the folder, before it does: to another
/// process, what this one is writing looks the same.
pub fn remove_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Can root alone change this file, or put another in its place? `found` is what its descriptor or path says.
///
/// # Errors
/// Who else can, and where.
pub fn roots_alone(path: &Path, found: &std::fs::Metadata) -> Result<()> {
    check(path, found, false)?;
    for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
        let found = std::fs::metadata(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
        check(folder, &found, true)?;
    }
    Ok(())
}

fn check(path: &Path, found: &std::fs::Metadata, folder: bool) -> Result<()> {
    if found.uid() != 0 {
        bail!("{} belongs to user {}, not to root", path.display(), found.uid());
    }
    let sticky = folder && found.mode() & STICKY != 0;
    if found.mode() & WRITABLE_BY_OTHERS != 0 && !sticky {
        bail!("{} may be written by others than root (mode {:o})", path.display(), found.mode() & 0o7777);
    }
    Ok(())
}
