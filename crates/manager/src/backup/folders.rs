//! Files that lie in folders: the state folder's own, and the user's content.

use std::fs::{self, File};
use std::io::{self, BufRead as _, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sakimori_runtime::sealing::{MOST_RING, Ring, is_sealed};

use super::archive::Writer;
use super::collect::is_draft;
use super::{BackupError, CONTROL, JOURNAL, LAKE, io};
use crate::sealing::files;

/// Largest file of the state folder or of the user's content that is taken, in bytes.
pub(super) const MOST_FILE: u64 = 1 << 30;
/// Most files of both.
const MOST_FILES: usize = 100_000;

/// What of the state folder is neither control state nor journal nor lake, nor a draft of something.
pub(super) fn is_of_state(name: &str) -> bool {
    let top = name.split('/').next().unwrap_or_default();
    let database = top.strip_prefix(CONTROL).is_some_and(|rest| matches!(rest, "" | "-wal" | "-shm" | "-journal"));
    !database && !matches!(top, JOURNAL | LAKE | super::restore::ASIDE) && !is_draft(top) && !name.ends_with(".new")
}

/// Regular files below a folder that `wanted` names by their relative names, in order.
pub(super) fn walk(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<(String, PathBuf)>, BackupError> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in io("read", &folder, fs::read_dir(&folder))? {
            let path = io("read", &folder, entry)?.path();
            let name = path.strip_prefix(dir).ok().and_then(Path::to_str).map(str::to_owned);
            let (Some(name), Ok(data)) = (name, fs::symlink_metadata(&path)) else { continue };
            if !wanted(&name) {
                continue;
            }
            if data.is_dir() {
                folders.push(path);
            } else if data.is_file() {
                found.push((name, path));
            }
            if found.len() + folders.len() > MOST_FILES {
                let dir = dir.display();
                return Err(BackupError::Source(format!(
                    "{dir} holds more than {MOST_FILES} files; is it the right one?"
                )));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A file as it is now; one that has gone since it was listed is left out.
pub(super) fn add_file<W: Write>(
    archive: &mut Writer<W>,
    name: &str,
    path: &Path,
    most: u64,
) -> Result<(), BackupError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => io("open", path, other)?,
    };
    let data = io("read", path, file.metadata())?;
    if data.len() > most {
        return Err(BackupError::Source(format!("{} is larger than {} MiB", path.display(), most >> 20)));
    }
    let mut file = io::BufReader::with_capacity(MOST_RING, file);
    let beginning = io("read", path, file.fill_buf())?;
    let is_key = name.strip_prefix("state/").is_some_and(|name| files::FILES.contains(&name));
    if is_key && !is_sealed(beginning) {
        return Err(BackupError::Source(format!(
            "{} is not sealed; start the manager, which seals it",
            path.display()
        )));
    }
    if data.len() <= MOST_RING as u64 && std::str::from_utf8(beginning).is_ok_and(|text| Ring::parse(text).is_ok()) {
        tracing::warn!(file = %path.display(), "a sealing key lies there; it is left out of the backup, keep it elsewhere");
        return Ok(());
    }
    io("copy", path, archive.add(name, data.permissions().mode(), data.len(), file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{FORMAT, Header, Manifest};
    use sakimori_model::Timestamp;

    #[test]
    fn keys_and_bundles_are_of_the_state_and_what_is_copied_otherwise_is_not() {
        for yes in ["bundle.key", "ca/ca.key", "bundles/7.bundle", "control", "lake.key", "sealing.key"] {
            assert!(is_of_state(yes), "{yes}");
        }
        for no in ["control.db", "control.db-wal", "journal/1.seg", "lake/x", "backup-1.db", "ca/ca.new", "restored/x"]
        {
            assert!(!is_of_state(no), "{no}");
        }
    }

    #[test]
    fn neither_a_plain_key_nor_a_sealing_key_gets_into_an_archive() {
        let dir = tempfile::tempdir().unwrap();
        let created = Timestamp::from_secs(1_790_000_000);
        let header = Header { format: FORMAT, version: String::new(), created, sealed_by: String::new() };
        let mut archive = Writer::begin(Vec::new(), header).unwrap();
        let path = dir.path().join("some.key");
        fs::write(&path, "sakimori-bundle-key:00").unwrap();
        let plain = add_file(&mut archive, "state/bundle.key", &path, MOST_FILE).unwrap_err().to_string();
        assert!(plain.contains("is not sealed"), "{plain}");
        fs::write(&path, format!("# ours\n{}{}\n", sakimori_runtime::sealing::KEY, "07".repeat(32))).unwrap();
        add_file(&mut archive, "content/seal.key", &path, MOST_FILE).unwrap();
        fs::write(&path, "anything else").unwrap();
        add_file(&mut archive, "content/notes", &path, MOST_FILE).unwrap();
        let manifest = Manifest {
            header: Header { format: FORMAT, version: String::new(), created, sealed_by: String::new() },
            table_version: 0,
            flush: 0,
            position: 0,
            records: 0,
            files: Vec::new(),
        };
        let bytes = archive.finish(manifest).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|piece| piece == text.as_bytes());
        assert!(holds("content/notes") && !holds("seal.key") && !holds(&"07".repeat(32)));
    }

    #[test]
    fn links_out_of_a_folder_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ca")).unwrap();
        fs::write(dir.path().join("ca/ca.key"), "k").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        let found = walk(dir.path(), &is_of_state).unwrap();
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ca/ca.key"]);
    }
}
