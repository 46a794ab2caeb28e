//! The files of a triage package, within bounds, and the archive of them: a list first, then each file.
//!
//! What does not fit is left out and noted, the notes are a file of their own, and no name leaves the package's folder.

use std::collections::BTreeMap;

use anyhow::Result;
use sakimori_wire::triage::{self, Listed, MANIFEST, MAX_FILES, MAX_PACKAGE};
use sha2::{Digest, Sha256};

/// Most bytes of all files together. What cannot be compressed still fits into the largest package.
const MAX_GATHERED: usize = 60 << 20;
const _: () = assert!((MAX_GATHERED as u64) + (2 << 20) < MAX_PACKAGE);
/// Most notes, and most bytes of one.
const MAX_NOTES: usize = 10_000;
const MAX_NOTE: usize = 1_000;
/// Longest name of a file.
const MAX_NAME: usize = 1_000;
/// The notes.
const NOTES: &str = "notes.txt";

/// Files by their names.
#[derive(Debug, Default)]
pub struct Package {
    files: BTreeMap<String, Vec<u8>>,
    bytes: usize,
    notes: Vec<String>,
    dropped_notes: u32,
}

impl Package {
    /// Adds a file, or adds to it. What does not fit is noted.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let name = inside(name);
        let is_new = !self.files.contains_key(&name);
        if self.bytes.saturating_add(bytes.len()) > MAX_GATHERED {
            return self.note(&format!("{name} is left out: the package is full ({MAX_GATHERED} bytes)"));
        }
        // Room for the notes.
        if is_new && self.files.len() + 1 >= MAX_FILES {
            return self.note(&format!("{name} is left out: the package has {MAX_FILES} files"));
        }
        self.bytes += bytes.len();
        self.files.entry(name).or_default().extend_from_slice(bytes);
    }

    /// Says something to who reads it.
    pub fn note(&mut self, text: &str) {
        if self.notes.len() >= MAX_NOTES {
            self.dropped_notes += 1;
            return;
        }
        let mut text = super::mask::plain(text);
        text.truncate(text.floor_char_boundary(MAX_NOTE));
        self.notes.push(text);
    }

    /// The archive, the number of its files, and of its notes.
    ///
    /// # Errors
    /// It cannot be packed.
    pub fn finish(mut self) -> Result<(Vec<u8>, u32, u32)> {
        let notes = u32::try_from(self.notes.len()).unwrap_or(u32::MAX).saturating_add(self.dropped_notes);
        if self.dropped_notes > 0 {
            self.notes.push(format!("and {} notes more", self.dropped_notes));
        }
        if !self.notes.is_empty() {
            let text = self.notes.join("\n") + "\n";
            self.files.insert(NOTES.to_owned(), text.into_bytes());
        }
        let listed = |(name, bytes): (&String, &Vec<u8>)| Listed {
            name: name.clone(),
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
        };
        let list: Vec<Listed> = self.files.iter().map(listed).collect();
        let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 3)?);
        triage::append(&mut tar, MANIFEST, &serde_json::to_vec(&list)?)?;
        for (name, bytes) in &self.files {
            triage::append(&mut tar, name, bytes)?;
        }
        let package = tar.into_inner()?.finish()?;
        Ok((package, u32::try_from(list.len()).unwrap_or(u32::MAX), notes))
    }
}

/// A name below the package's own folder, of plain characters.
fn inside(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    let mut name = parts.collect::<Vec<_>>().join("/").replace(|c: char| c.is_control() || c == '\\', "_");
    name.truncate(name.floor_char_boundary(MAX_NAME));
    let name = name.trim_end_matches('/').to_owned();
    if name.is_empty() || name == MANIFEST || name == NOTES { format!("host/{name}_") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_was_added_and_names_stay_inside() {
        let mut package = Package::default();
        package.add("/etc/crontab", b"one\n");
        package.add("/etc/crontab", b"two\n");
        package.add("../../etc/passwd\n", b"x");
        package.add(&format!("/{}", "long/".repeat(400)), b"y");
        package.add("manifest.json", b"mine");
        package.add("empty", b"");
        package.note("a\nb");
        let (bytes, files, notes) = package.finish().unwrap();
        let mut seen = BTreeMap::new();
        triage::files(&bytes, |name, bytes| {
            seen.insert(name.to_owned(), bytes.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!((files as usize, notes), (seen.len(), 1));
        assert_eq!(seen["etc/crontab"], b"one\ntwo\n");
        assert_eq!(seen["etc/passwd_"], b"x");
        assert_eq!(seen["host/manifest.json_"], b"mine");
        assert_eq!(seen["notes.txt"], b"a?b\n");
        assert!(seen.keys().all(|name| !name.starts_with('/') && !name.contains("..") && name.len() <= MAX_NAME));
    }

    #[test]
    fn what_does_not_fit_is_noted() {
        let mut package = Package::default();
        for number in 0..MAX_FILES + 50 {
            package.add(&format!("cron/{number}"), b"x");
        }
        let big = vec![7_u8; 20 << 20];
        for number in 0..5 {
            package.add(&format!("cron/{number}"), &big);
        }
        assert!(package.bytes <= MAX_GATHERED);
        let (bytes, files, notes) = package.finish().unwrap();
        assert!(files as usize <= MAX_FILES && notes >= 50 && (bytes.len() as u64) < MAX_PACKAGE);
        let mut lines = 0;
        triage::files(&bytes, |name, bytes| {
            lines += if name == NOTES { bytes.iter().filter(|byte| **byte == b'\n').count() } else { 0 };
            Ok(())
        })
        .unwrap();
        assert_eq!(lines, notes as usize);
    }
}
