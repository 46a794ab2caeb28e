//! Triage packages on this host: a folder that root alone can enter, within a budget. When they are too many, the oldest go.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sakimori_model::Timestamp;
use sha2::{Digest, Sha256};

use crate::files::{own_folder, remove_unfinished, write_atomically};

/// Most packages that are kept.
pub const MOST_PACKAGES: usize = 8;
/// Most bytes of all.
pub const MOST_BYTES: u64 = 256 << 20;
/// Ending of files.
const ENDING: &str = ".triage.tar";

/// One package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name without ending: when it was made, and a part of the action's hash.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

impl Item {
    /// When it was made.
    pub fn made(&self) -> Timestamp {
        Timestamp::from_micros(self.name.split('-').next().and_then(|part| part.parse().ok()).unwrap_or(0))
    }
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Oldest first.
    items: Vec<Item>,
}

impl Store {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// It is somebody else's, or others can enter it.
    pub fn open(folder: &Path) -> Result<Self> {
        let found = own_folder(folder, ENDING, is_name)?;
        let items = found.into_iter().map(|(name, size)| Item { name, size }).collect();
        Ok(Self { folder: folder.to_owned(), items })
    }

    /// [`Store::open`] for the one process that adds files: what a crash left half written goes.
    ///
    /// # Errors
    /// As there.
    pub fn open_to_add(folder: &Path) -> Result<Self> {
        let store = Self::open(folder)?;
        remove_unfinished(folder);
        Ok(store)
    }

    /// All, oldest first.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The package of an action, where it was made.
    pub fn of(&self, action: &str) -> Option<&Item> {
        let end = format!("-{}", key(action));
        self.items.iter().rev().find(|item| item.name.ends_with(&end))
    }

    /// Keeps a package, and says its name and how many older ones went for it.
    ///
    /// # Errors
    /// It is larger than all may be, or the disk says no.
    pub fn add(&mut self, action: &str, made: Timestamp, bytes: &[u8]) -> Result<(String, usize)> {
        let size = bytes.len() as u64;
        if size > MOST_BYTES {
            bail!("a package of {size} bytes is larger than all together may be");
        }
        let name = format!("{:016}-{}", made.micros().max(0), key(action));
        let mut dropped = 0;
        // Room first: the budget holds at each moment.
        while self.items.len() >= MOST_PACKAGES || self.total() + size > MOST_BYTES {
            let Some(oldest) = self.items.first().map(|item| item.name.clone()) else { break };
            self.delete(&oldest)?;
            dropped += 1;
        }
        write_atomically(&self.path(&name), bytes, 0o600)?;
        self.items.retain(|item| item.name != name);
        let at = self.items.partition_point(|other| other.name < name);
        self.items.insert(at, Item { name: name.clone(), size });
        Ok((name, dropped))
    }

    /// A package, open for reading.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be read.
    pub fn read(&self, name: &str) -> Result<fs::File> {
        self.known(name)?;
        fs::File::open(self.path(name)).with_context(|| format!("cannot read {}", self.path(name).display()))
    }

    /// Deletes a package.
    ///
    /// # Errors
    /// There is none of this name, or the disk says no.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        self.known(name)?;
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot delete {}", self.path(name).display()));
            }
            _ => {}
        }
        self.items.retain(|item| item.name != name);
        Ok(())
    }

    fn known(&self, name: &str) -> Result<()> {
        if !self.items.iter().any(|item| item.name == name) {
            bail!("there is no package {name}; `sakimori-agent triage list` shows what there is");
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{ENDING}"))
    }
}

/// What of an action is in the name of its package.
fn key(action: &str) -> String {
    hex::encode(Sha256::digest(action).get(..8).unwrap_or_default())
}

/// Sixteen digits, and sixteen of a hash.
fn is_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(time, key)| {
        let digits = |text: &str, of: fn(&u8) -> bool| text.len() == 16 && text.as_bytes().iter().all(of);
        digits(time, u8::is_ascii_digit) && digits(key, u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_oldest_go_and_an_action_has_one_package() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("triage");
        let mut store = Store::open(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let mut gone = 0;
        for number in 0..3 * MOST_PACKAGES {
            let made = Timestamp::from_secs(1_800_000_000 + i64::try_from(number).unwrap());
            gone += store.add(&format!("a{number}"), made, b"x").unwrap().1;
            assert!(fs::read_dir(&folder).unwrap().count() <= MOST_PACKAGES);
        }
        assert_eq!((gone, store.items().len()), (2 * MOST_PACKAGES, MOST_PACKAGES));
        fs::write(folder.join(".x.new"), b"half").unwrap();
        fs::write(folder.join("else.triage.tar"), b"not ours").unwrap();
        let looked_at = Store::open(&folder).unwrap();
        assert!(folder.join(".x.new").exists(), "who only looks does not touch what is being written");
        let mut store = Store::open_to_add(&folder).unwrap();
        assert_eq!((store.items().len(), store.items()), (MOST_PACKAGES, looked_at.items()));
        assert!(store.of("a0").is_none() && !folder.join(".x.new").exists());
        let last = store.of(&format!("a{}", 3 * MOST_PACKAGES - 1)).unwrap().clone();
        assert_eq!(last.made(), Timestamp::from_secs(1_800_000_000 + 3 * MOST_PACKAGES as i64 - 1));
        let mode = fs::metadata(store.path(&last.name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        store.delete(&last.name).unwrap();
        assert!(store.read(&last.name).is_err() && store.read("../x").is_err());
        // By their size, too.
        store.items[0].size = MOST_BYTES;
        assert_eq!(store.add("b", Timestamp::from_secs(1_900_000_000), b"x").unwrap().1, 1);
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("triage");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Store::open(&folder).unwrap_err().to_string().contains("mode 700"));
    }
}
