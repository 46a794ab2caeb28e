//! Capture files with the packets of alerted flows: a folder that root alone can enter, within a budget.
//!
//! A worker made them, which an enemy may have taken over, so nothing of them is believed: names have one form, sizes and
//! numbers have bounds of the policy's, and nothing is read from inside. When all together are too many, the oldest go;
//! when an hour has had its files, the next are not written. Both are counted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sakimori_model::Timestamp;
use sakimori_model::policy::KeepPackets;

use crate::files::{own_folder, remove_unfinished, write_atomically};

/// Ending of files.
const ENDING: &str = ".pcap";
/// Most files, whatever their size.
const MOST_FILES: usize = 20_000;
const HOUR: i64 = 3_600_000_000;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name without ending: time of the alert, queue, flow, rule.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

impl Item {
    /// When its alert was.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.part(0).and_then(|part| part.parse().ok()).unwrap_or(0))
    }

    /// Number of the rule that asked first.
    pub fn rule(&self) -> &str {
        self.part(3).unwrap_or_default()
    }

    fn part(&self, at: usize) -> Option<&str> {
        self.name.split('-').nth(at)
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there; so many older ones went.
    Kept(u64),
    /// Not written: it is too large, or the hour had its files.
    Shed,
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Oldest first.
    items: Vec<Item>,
    hour: (i64, u32),
}

impl Store {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// It is somebody else's, or others can enter it.
    pub fn open(folder: &Path) -> Result<Self> {
        let found = own_folder(folder, ENDING, is_name)?;
        let items = found.into_iter().map(|(name, size)| Item { name, size }).collect();
        Ok(Self { folder: folder.to_owned(), items, hour: (i64::MIN, 0) })
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

    /// A file's bytes.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        if !self.items.iter().any(|item| item.name == name) {
            bail!("there are no packets {name}; `sakimori-agent packets list` shows what there is");
        }
        fs::read(self.path(name)).with_context(|| format!("cannot read {}", self.path(name).display()))
    }

    /// Adds a file.
    ///
    /// # Errors
    /// A name of another form, or the disk says no.
    pub fn add(&mut self, name: &str, bytes: &[u8], budget: &KeepPackets, now: i64) -> Result<Added> {
        if !is_name(name) {
            bail!("a worker named a file in a form that is none");
        }
        let (size, most) = (bytes.len() as u64, u64::from(budget.total_mib) << 20);
        if now.saturating_sub(self.hour.0) >= HOUR || now < self.hour.0 {
            self.hour = (now, 0);
        }
        let fits = size <= (u64::from(budget.file_kib) << 10).min(most) && self.hour.1 < budget.files_per_hour;
        if !fits || self.items.iter().any(|item| item.name == name) {
            return Ok(Added::Shed);
        }
        self.hour.1 += 1;
        // Room first: the budget holds at each moment.
        let mut dropped = 0;
        while self.items.len() >= MOST_FILES || self.total() + size > most {
            let Some(oldest) = self.items.first().cloned() else { break };
            match fs::remove_file(self.path(&oldest.name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context("cannot delete the oldest file");
                }
                _ => {}
            }
            self.items.remove(0);
            dropped += 1;
        }
        write_atomically(&self.path(name), bytes, 0o600)?;
        let item = Item { name: name.to_owned(), size };
        let at = self.items.partition_point(|other| other.name <= item.name);
        self.items.insert(at, item);
        Ok(Added::Kept(dropped))
    }

    fn total(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{ENDING}"))
    }
}

/// Sixteen digits, and three parts of letters and digits.
fn is_name(name: &str) -> bool {
    let mut parts = name.split('-');
    let time = parts.next().is_some_and(|time| time.len() == 16 && time.bytes().all(|byte| byte.is_ascii_digit()));
    let rest: Vec<&str> = parts.collect();
    let plain = |part: &&str| (1..=20).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    time && rest.len() == 3 && rest.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn name(number: u64) -> String {
        format!("{number:016}-0-{number}-9100111")
    }

    fn budget() -> KeepPackets {
        KeepPackets { total_mib: 1, file_kib: 200, files_per_hour: 1_000, ..KeepPackets::default() }
    }

    fn on_disk(folder: &Path) -> (usize, u64) {
        let sizes = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size))
    }

    #[test]
    fn the_oldest_go_and_a_flood_stays_within_the_budget() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("packets");
        let mut store = Store::open(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let bytes = vec![7; 100 << 10];
        let mut dropped = 0;
        for number in 0..200 {
            match store.add(&name(number), &bytes, &budget(), 5).unwrap() {
                Added::Kept(gone) => dropped += gone,
                Added::Shed => panic!("there is room in the hour"),
            }
            let (count, size) = on_disk(&folder);
            assert!(count <= 10 && size <= 1 << 20, "{count} files of {size} bytes");
        }
        assert_eq!((dropped, store.items().len()), (190, 10));
        assert_eq!(store.items()[0].name, name(190));
        let mode = fs::metadata(folder.join(format!("{}.pcap", name(199)))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // The next process finds them.
        fs::write(folder.join(".x.pcap.new"), b"half").unwrap();
        fs::write(folder.join("else.pcap"), b"not ours").unwrap();
        let store = Store::open(&folder).unwrap();
        assert!(folder.join(".x.pcap.new").exists(), "who only looks does not touch what is being written");
        assert_eq!((store.items().len(), store.items()[9].rule()), (10, "9100111"));
        assert_eq!(store.read(&name(199)).unwrap(), bytes);
        assert!(store.read("else").is_err());
        assert_eq!(Store::open_to_add(&folder).unwrap().items(), store.items());
        assert!(!folder.join(".x.pcap.new").exists());
    }

    #[test]
    fn an_hour_has_so_many_files() {
        let place = tempfile::tempdir().unwrap();
        let mut store = Store::open(&place.path().join("packets")).unwrap();
        let few = KeepPackets { files_per_hour: 2, ..budget() };
        let mut add = |number, now| store.add(&name(number), b"x", &few, now).unwrap();
        assert_eq!((add(1, 10), add(2, 20), add(3, 30)), (Added::Kept(0), Added::Kept(0), Added::Shed));
        assert_eq!(add(4, 10 + HOUR), Added::Kept(0));
        assert_eq!(add(4, 11 + HOUR), Added::Shed, "it is there already");
    }

    #[test]
    fn what_a_worker_says_is_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let mut store = Store::open(&place.path().join("packets")).unwrap();
        for wrong in [
            "../../etc/cron.d/x",
            "0000000000000001-0-1",
            "x",
            "",
            "0000000000000001-0-1-9/..",
            "000000000000000a-0-1-1",
        ] {
            assert!(store.add(wrong, b"x", &budget(), 5).is_err(), "{wrong}");
        }
        assert_eq!(store.add(&name(1), &vec![0; 201 << 10], &budget(), 5).unwrap(), Added::Shed);
        assert_eq!(on_disk(&place.path().join("packets")).0, 0);
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("packets");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Store::open(&folder).unwrap_err().to_string().contains("mode 700"));
    }
}
