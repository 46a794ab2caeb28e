//! The archive: a tar with a header first and a manifest last, both written and read as a stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BackupError, FORMAT, Header, Manifest, OLDEST};

/// Name of the first entry.
const FIRST: &str = "sakimori-backup.json";
/// Name of the last entry.
const LAST: &str = "manifest.json";
/// Largest first entry, in bytes.
const MOST_HEADER: u64 = 64 << 10;
/// Largest manifest, in bytes: some millions of files.
const MOST_MANIFEST: u64 = 1 << 30;

/// An entry of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

/// Writes an archive.
pub struct Writer<W: Write> {
    tar: tar::Builder<W>,
    header: Header,
    files: Vec<Listed>,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn begin(out: W, header: Header) -> io::Result<Self> {
        let mut writer = Self { tar: tar::Builder::new(out), header, files: Vec::new() };
        let text = serde_json::to_vec_pretty(&writer.header)?;
        writer.add(FIRST, 0o600, text.len() as u64, text.as_slice())?;
        Ok(writer)
    }

    /// Adds an entry of exactly this size.
    pub fn add(&mut self, name: &str, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
        let mut content = Hashing { inner: content, hash: Sha256::new(), left: size };
        self.tar.append_data(&mut self.entry(mode, size), name, &mut content)?;
        if content.left > 0 {
            return Err(io::Error::other(format!("{name} ended {} bytes before its size", content.left)));
        }
        let sha256 = hex::encode(content.hash.finalize());
        self.files.push(Listed { name: name.to_owned(), size, sha256 });
        Ok(())
    }

    /// Ends it with the manifest, whose list of files this fills.
    pub fn finish(mut self, mut manifest: Manifest) -> io::Result<W> {
        manifest.header = self.header.clone();
        manifest.files = std::mem::take(&mut self.files);
        let text = serde_json::to_vec(&manifest)?;
        self.tar.append_data(&mut self.entry(0o600, text.len() as u64), LAST, text.as_slice())?;
        self.tar.into_inner()
    }

    fn entry(&self, mode: u32, size: u64) -> tar::Header {
        let mut entry = tar::Header::new_gnu();
        entry.set_mode(mode & 0o777);
        entry.set_size(size);
        entry.set_mtime(u64::try_from(self.header.created.micros() / 1_000_000).unwrap_or(0));
        entry
    }
}

/// Passes at most so many bytes on and hashes them.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let room = buffer.get_mut(..most).unwrap_or_default();
        let read = self.inner.read(room)?;
        self.hash.update(room.get(..read).unwrap_or_default());
        self.left -= read as u64;
        Ok(read)
    }
}

/// What is told of each entry while an archive is read: its name, mode, and bytes, all of which must be read.
pub type Entry<'a> = (&'a str, u32, &'a mut dyn Read);

/// Reads an archive to its end, hands each entry to `with`, and compares all of it with the manifest. What `with`
/// made of the entries is good only after this has returned `Ok`.
pub fn read(path: &Path, mut with: impl FnMut(Entry<'_>) -> Result<(), BackupError>) -> Result<Manifest, BackupError> {
    let broken = |reason: String| BackupError::Archive(format!("{}: {reason}", path.display()));
    let cut = |error: io::Error| broken(format!("it is cut off or no backup ({error})"));
    let file = super::io("open", path, File::open(path))?;
    let mut tar = tar::Archive::new(io::BufReader::with_capacity(1 << 20, file));
    let mut seen: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut manifest: Option<Manifest> = None;
    let mut header: Option<Header> = None;
    for entry in tar.entries().map_err(cut)? {
        let entry = entry.map_err(cut)?;
        let name = entry.path().ok().and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_default();
        let (size, mode) = (entry.size(), entry.header().mode().unwrap_or(0o600) & 0o777);
        if !entry.header().entry_type().is_file() || !plain(&name) {
            return Err(broken(format!("{name:?} has no place in a backup")));
        }
        if manifest.is_some() || seen.contains_key(&name) {
            return Err(broken(format!("{name} comes after the end or twice")));
        }
        let mut content = Hashing { inner: entry, hash: Sha256::new(), left: size };
        match &header {
            None if name == FIRST && size <= MOST_HEADER => header = Some(first(&mut content).map_err(broken)?),
            None => return Err(broken("it is no backup of Sakimori".into())),
            Some(_) if name == LAST && size <= MOST_MANIFEST => {
                manifest = Some(serde_json::from_reader(&mut content).map_err(|error| cut(error.into()))?);
                continue;
            }
            Some(_) => with((&name, mode, &mut content))?,
        }
        // What nobody wanted is hashed too.
        io::copy(&mut content, &mut io::sink()).map_err(cut)?;
        if content.left > 0 {
            return Err(broken(format!("{name} is cut off")));
        }
        seen.insert(name, (size, hex::encode(content.hash.finalize())));
    }
    let manifest = manifest.ok_or_else(|| broken("it is cut off: its manifest is missing".into()))?;
    for listed in &manifest.files {
        match seen.remove(&listed.name) {
            Some((size, sha256)) if (size, &sha256) == (listed.size, &listed.sha256) => {}
            Some(_) => return Err(broken(format!("{} was changed", listed.name))),
            None => return Err(broken(format!("{} is missing", listed.name))),
        }
    }
    match seen.pop_first() {
        Some((name, _)) => Err(broken(format!("{name} is not in its manifest"))),
        None if header.as_ref() != Some(&manifest.header) => Err(broken("header and manifest differ".into())),
        None => Ok(manifest),
    }
}

fn first(content: &mut impl Read) -> Result<Header, String> {
    let header: serde_json::Value = serde_json::from_reader(content).map_err(|_| "it is no backup of Sakimori")?;
    let format = header.get("format").and_then(serde_json::Value::as_u64);
    if !format.is_some_and(|format| (u64::from(OLDEST)..=u64::from(FORMAT)).contains(&format)) {
        let format = format.map_or_else(|| "unknown".to_owned(), |format| format.to_string());
        return Err(format!("its format is {format} and this program reads {FORMAT}; use the version that wrote it"));
    }
    serde_json::from_value(header).map_err(|error| format!("its header cannot be read ({error})"))
}

/// The first entry alone.
///
/// # Errors
/// A file that cannot be read, or that is no backup.
pub fn header(path: &Path) -> Result<Header, BackupError> {
    let broken = |reason: String| BackupError::Archive(format!("{}: {reason}", path.display()));
    let no = || broken("it is no backup of Sakimori".into());
    let mut tar = tar::Archive::new(io::BufReader::new(super::io("open", path, File::open(path))?));
    let mut entries = tar.entries().map_err(|_| no())?;
    let mut entry = entries.next().and_then(Result::ok).ok_or_else(no)?;
    let named = entry.path().is_ok_and(|name| name == Path::new(FIRST)) && entry.size() <= MOST_HEADER;
    if !named {
        return Err(no());
    }
    first(&mut entry).map_err(broken)
}

/// Goes through an archive and compares it with its manifest; nothing is written anywhere.
///
/// # Errors
/// A file that cannot be read, or an archive that is not whole.
pub fn verify(path: &Path) -> Result<Manifest, BackupError> {
    read(path, |_| Ok(()))
}

/// A relative name that leads nowhere else.
fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 4_096
        && !name.contains('\0')
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::Timestamp;

    fn manifest() -> Manifest {
        let created = Timestamp::from_secs(1_790_000_000);
        let header = Header { format: FORMAT, version: "0.1.0".into(), created, sealed_by: "12ab".into() };
        Manifest { header, table_version: 3, flush: 2, position: 9, records: 1, files: Vec::new() }
    }

    fn archive(dir: &Path, entries: &[(&str, &[u8])]) -> std::path::PathBuf {
        let path = dir.join("backup.tar");
        let mut writer = Writer::begin(File::create(&path).unwrap(), manifest().header).unwrap();
        for (name, bytes) in entries {
            writer.add(name, 0o640, bytes.len() as u64, *bytes).unwrap();
        }
        writer.finish(manifest()).unwrap();
        path
    }

    #[test]
    fn entries_come_back_with_their_bytes_and_modes_and_any_tar_lists_them() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("lake/{}/file", "x".repeat(200));
        let path = archive(dir.path(), &[("control.db", b"rows"), (&long, b""), ("state/ca/ca.key", b"key")]);
        let mut seen = Vec::new();
        let found = read(&path, |(name, mode, content)| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            seen.push((name.to_owned(), mode, bytes));
            Ok(())
        });
        let found = found.unwrap();
        assert_eq!(header(&path).unwrap(), found.header);
        assert_eq!((found.table_version, found.flush, found.position, found.records), (3, 2, 9, 1));
        assert_eq!(found.files.len(), 4);
        assert_eq!(seen[0], ("control.db".to_owned(), 0o640, b"rows".to_vec()));
        assert_eq!(seen[1].0, long);
        let listed = std::process::Command::new("tar").arg("tf").arg(&path).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("state/ca/ca.key\n"));
    }

    #[test]
    fn an_archive_that_is_cut_off_anywhere_or_changed_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(dir.path(), &[("control.db", b"some rows"), ("state/bundle.key", &[7; 700])]);
        let whole = std::fs::read(&path).unwrap();
        assert!(verify(&path).is_ok());
        // Two empty blocks end a tar; all before them counts.
        for length in (0..whole.len() - 1_024).step_by(97) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(verify(&path), Err(BackupError::Archive(_))), "cut at {length}");
        }
        let mut survived = 0;
        for at in (0..whole.len() - 1_024).step_by(13) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            survived += usize::from(verify(&path).is_ok());
        }
        // What is between an entry and the next block means nothing, all else is under a checksum or a hash.
        let padding = whole.len() / 13;
        assert!(survived < padding * 3 / 4, "{survived}");
        let content = whole.windows(9).position(|bytes| bytes == b"some rows").unwrap();
        let mut changed = whole;
        changed[content] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(verify(&path).unwrap_err().to_string().contains("control.db was changed"));
    }

    #[test]
    fn names_that_lead_elsewhere_links_and_other_files_are_refused() {
        for good in ["control.db", "state/ca/ca.key"] {
            assert!(plain(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../b", "./a", "a\0b"] {
            assert!(!plain(bad), "{bad:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.tar");
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        let text = serde_json::to_vec(&manifest().header).unwrap();
        let mut entry = tar::Header::new_gnu();
        entry.set_size(text.len() as u64);
        tar.append_data(&mut entry, FIRST, text.as_slice()).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "state/link", "/etc").unwrap();
        tar.into_inner().unwrap();
        assert!(verify(&path).unwrap_err().to_string().contains("has no place in a backup"));
        std::fs::write(&path, b"PK\x03\x04 something else").unwrap();
        assert!(verify(&path).is_err() && header(&path).is_err());
    }

    #[test]
    fn an_entry_that_is_shorter_than_said_makes_no_archive() {
        let mut writer = Writer::begin(Vec::new(), manifest().header).unwrap();
        assert!(writer.add("control.db", 0o600, 10, b"short".as_slice()).is_err());
    }
}
