//! The bundles of one program: the current one in memory for whoever judges with it, the current and the
//! former on disk.
//!
//! A bundle is a file named by its number, `00000000000000000007.bundle`. It is written beside under another
//! name, synced, renamed, and the folder synced, so a crash at any moment leaves a whole file of the former or
//! of the new one. The two newest are kept. Before a new one is taken a check of the caller's loads it in a
//! throw-away engine; whatever is refused leaves the former in use.
//!
//! At the start the newest that verifies is current. If a newer file is damaged, the former one serves, and
//! the damaged one may come again; an older one than was ever here may not.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use ed25519_dalek::VerifyingKey;

use crate::bundle::{self, Bundle, BundleError, MAX_BUNDLE};

const SUFFIX: &str = ".bundle";
const UNFINISHED: &str = ".new";
/// Current and former.
const KEPT: usize = 2;
/// Most entries of the folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Why a bundle was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It did not verify.
    #[error(transparent)]
    Refused(#[from] BundleError),
    /// It verified, but this program cannot work with it.
    #[error("load rule bundle {number} on trial: {reason}; the former one stays in use")]
    Unusable {
        /// Its number.
        number: u64,
        /// What the trial said.
        reason: String,
    },
    /// The disk said no.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
}

/// Current and former bundle of a program. One process owns a folder.
pub struct BundleStore {
    dir: PathBuf,
    key: VerifyingKey,
    current: ArcSwapOption<Bundle>,
    former: ArcSwapOption<Bundle>,
    /// Held while a bundle is installed: the number that a new one must be above.
    floor: Mutex<u64>,
}

impl BundleStore {
    /// Opens the folder, makes it if it is absent, and loads what is there and verifies with `key`.
    pub fn open(dir: &Path, key: VerifyingKey) -> Result<Self, StoreError> {
        io("make folder for rule bundles", dir, fs::create_dir_all(dir))?;
        let mut sound = Vec::new();
        let mut floor = 0;
        for number in numbers(dir)? {
            if sound.len() == KEPT {
                break;
            }
            match read(&path_of(dir, number)).and_then(|bytes| Ok(bundle::verify(&bytes, &key, 0)?)) {
                Ok(bundle) if bundle.number == number => {
                    floor = floor.max(number);
                    sound.push(Arc::new(bundle));
                }
                Ok(bundle) => {
                    tracing::error!(number, inside = bundle.number, "rule bundle has another's name; left out")
                }
                Err(error) => {
                    tracing::error!(number, %error, "rule bundle on disk is damaged; an earlier one serves");
                    // It was taken once, so nothing below it may come; it may come again itself.
                    floor = floor.max(number.saturating_sub(1));
                }
            }
        }
        let mut sound = sound.into_iter();
        Ok(Self {
            dir: dir.to_owned(),
            key,
            current: ArcSwapOption::new(sound.next()),
            former: ArcSwapOption::new(sound.next()),
            floor: Mutex::new(floor),
        })
    }

    /// The bundle in use.
    pub fn current(&self) -> Option<Arc<Bundle>> {
        self.current.load_full()
    }

    /// The one that was in use before.
    pub fn former(&self) -> Option<Arc<Bundle>> {
        self.former.load_full()
    }

    /// Number of the bundle in use, 0 without one.
    pub fn number(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |bundle| bundle.number)
    }

    /// The signed bytes of the bundle in use, as they came: what is handed on to others.
    pub fn current_bytes(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.number() {
            0 => Ok(None),
            number => read(&path_of(&self.dir, number)).map(Some),
        }
    }

    /// Takes a bundle: verifies it, has it loaded on trial by `trial`, makes it durable, puts it to use.
    /// On any error the former one stays, on disk and in use.
    pub fn install(
        &self,
        bytes: &[u8],
        trial: impl FnOnce(&Bundle) -> Result<(), String>,
    ) -> Result<Arc<Bundle>, StoreError> {
        let mut floor = self.floor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bundle = bundle::verify(bytes, &self.key, *floor)?;
        let number = bundle.number;
        trial(&bundle).map_err(|reason| StoreError::Unusable { number, reason })?;
        self.write(number, bytes)?;
        let bundle = Arc::new(bundle);
        *floor = number;
        self.former.store(self.current.swap(Some(bundle.clone())));
        self.tidy();
        tracing::info!(number, files = bundle.files.len(), "rule bundle in use");
        Ok(bundle)
    }

    fn write(&self, number: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let path = path_of(&self.dir, number);
        let beside = path.with_extension("bundle.new");
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        let renamed = written.and_then(|()| fs::rename(&beside, &path));
        if renamed.is_err() {
            let _ = fs::remove_file(&beside);
        }
        io("write rule bundle", &path, renamed)?;
        io("sync folder of rule bundles", &self.dir, File::open(&self.dir).and_then(|dir| dir.sync_all()))
    }

    /// Removes what is neither current nor former. Failing costs disk, not correctness.
    fn tidy(&self) {
        let keep = [&self.current, &self.former].map(|slot| slot.load().as_ref().map(|bundle| bundle.number));
        for number in numbers(&self.dir).unwrap_or_default() {
            if !keep.contains(&Some(number)) {
                let path = path_of(&self.dir, number);
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an old rule bundle");
                }
            }
        }
    }
}

/// Numbers of the bundles in a folder, highest first; unfinished ones are removed.
fn numbers(dir: &Path) -> Result<Vec<u64>, StoreError> {
    const DOING: &str = "list rule bundles in";
    let mut numbers = Vec::new();
    for entry in io(DOING, dir, fs::read_dir(dir))?.take(MAX_ENTRIES) {
        let name = io(DOING, dir, entry)?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(UNFINISHED) {
            let _ = fs::remove_file(dir.join(&*name));
        } else if let Some(number) = name.strip_suffix(SUFFIX).filter(|stem| stem.len() == 20) {
            numbers.extend(number.parse::<u64>().ok().filter(|number| *number > 0));
        }
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{SUFFIX}"))
}

/// Reads one byte more than allowed at the most; [`bundle::verify`] refuses what is too large.
fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    const DOING: &str = "read rule bundle";
    let mut bytes = Vec::new();
    let file = io(DOING, path, File::open(path))?;
    io(DOING, path, file.take(MAX_BUNDLE as u64 + 1).read_to_end(&mut bytes))?;
    Ok(bytes)
}

fn io<T>(doing: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Io { doing, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::build;
    use crate::files::Files;
    use ed25519_dalek::SigningKey;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn made(number: u64) -> Vec<u8> {
        let files = Files::from([("sigma/a.yml".to_owned(), number.to_string().into_bytes())]);
        build(&files, number, &key()).unwrap()
    }

    fn open(dir: &Path) -> BundleStore {
        BundleStore::open(dir, key().verifying_key()).unwrap()
    }

    fn fine(_: &Bundle) -> Result<(), String> {
        Ok(())
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn current_and_former_stay_over_a_restart_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        assert!(store.current().is_none() && store.current_bytes().unwrap().is_none());
        for number in [3, 4, 9] {
            store.install(&made(number), fine).unwrap();
        }
        let store = open(dir.path());
        assert_eq!((store.number(), store.former().unwrap().number), (9, 4));
        assert_eq!(store.current_bytes().unwrap().unwrap(), made(9));
        assert_eq!(names(dir.path()), ["00000000000000000004.bundle", "00000000000000000009.bundle"]);
    }

    #[test]
    fn whatever_is_refused_leaves_the_former_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.install(&made(5), fine).unwrap();
        let stranger = build(&Files::new(), 9, &SigningKey::from_bytes(&[1; 32])).unwrap();
        let unsigned = made(9)[..made(9).len() - 80].to_vec();
        let cut = made(9)[..made(9).len() / 2].to_vec();
        let mut altered = made(9);
        altered[40] ^= 1;
        for bytes in [made(5), made(4), stranger, unsigned, cut, altered] {
            assert!(matches!(store.install(&bytes, fine), Err(StoreError::Refused(_))));
        }
        let error = store.install(&made(9), |_| Err("sigma/a.yml:1: no title".into())).unwrap_err();
        assert!(error.to_string().contains("sigma/a.yml:1"), "{error}");
        assert_eq!(store.number(), 5);
        assert_eq!(open(dir.path()).number(), 5);
        assert_eq!(names(dir.path()).len(), 1);
        store.install(&made(9), fine).unwrap();
    }

    #[test]
    fn who_holds_the_former_keeps_it_while_the_new_one_comes() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.install(&made(1), fine).unwrap();
        let held = store.current().unwrap();
        store.install(&made(2), fine).unwrap();
        assert_eq!((held.number, held.files["sigma/a.yml"].as_slice()), (1, b"1".as_slice()));
        assert_eq!(store.number(), 2);
    }

    #[test]
    fn a_crash_while_writing_leaves_the_former_and_no_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).install(&made(1), fine).unwrap();
        fs::write(dir.path().join("00000000000000000002.bundle.new"), &made(2)[..50]).unwrap();
        assert_eq!(open(dir.path()).number(), 1);
        assert_eq!(names(dir.path()), ["00000000000000000001.bundle"]);
    }

    #[test]
    fn damage_on_disk_falls_back_and_only_the_damaged_one_may_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.install(&made(3), fine).unwrap();
        store.install(&made(7), fine).unwrap();
        let path = path_of(dir.path(), 7);
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();

        let store = open(dir.path());
        assert_eq!(store.number(), 3);
        assert!(matches!(store.install(&made(6), fine), Err(StoreError::Refused(BundleError::Older { have: 6, .. }))));
        store.install(&made(7), fine).unwrap();
        assert_eq!(open(dir.path()).number(), 7);
    }

    #[test]
    fn a_renamed_older_bundle_is_not_taken_for_a_newer() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.install(&made(3), fine).unwrap();
        fs::copy(path_of(dir.path(), 3), path_of(dir.path(), 8)).unwrap();
        assert_eq!(open(dir.path()).number(), 3);
    }
}
