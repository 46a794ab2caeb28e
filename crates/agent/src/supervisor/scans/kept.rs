//! What of scans outlives the agent: the one under way with its position, those that wait, what is done with of schedules,
//! and what came of the last. A small file of the state folder; one that is damaged is told, and begun anew.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sakimori_model::Timestamp;
use sakimori_model::policy::{Found, Left, Scan};
use sakimori_wire::scans::{ScanCounts, ScanName, ScanStatus};
use serde::{Deserialize, Serialize};

use super::plan::Turn;
use crate::files::write_atomically;

/// Largest file that is read.
const MAX_FILE: u64 = 8 << 20;
/// Most scans whose size is remembered.
const MAX_PAST: usize = 64;
/// Name of a scan that the policy does not name.
pub const MANUAL: &str = "manual";

/// All of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Of each scan of the policy, by name.
    pub turns: BTreeMap<String, Turn>,
    /// What waits, the next one first.
    pub waiting: VecDeque<Request>,
    /// What is under way, or paused.
    pub work: Option<Work>,
    /// How large scans were that ran to their end.
    past: BTreeMap<String, Past>,
    /// What came of the last one.
    pub last: Option<ScanStatus>,
}

/// A scan that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who asked.
    pub by: String,
    /// Where.
    pub paths: Vec<PathBuf>,
    /// What is left out.
    pub exclude: Left,
    /// Most processor time, in hundredths of one processor.
    pub cpu_percent: u32,
    /// What happens to what is found.
    pub action: Found,
    /// File systems of other hosts too?
    pub network: bool,
}

impl Request {
    /// A scan of the policy, or one that is written as such.
    pub fn of(scan: &Scan, by: &str) -> Self {
        Self {
            id: sakimori_model::id::row_id(),
            name: scan.name.clone(),
            by: by.to_owned(),
            paths: scan.paths.iter().map(PathBuf::from).collect(),
            exclude: scan.exclude.clone(),
            cpu_percent: scan.cpu_percent,
            action: scan.action,
            network: scan.network,
        }
    }

    /// Id and name.
    pub fn names(&self) -> ScanName {
        ScanName { id: self.id.clone(), name: self.name.clone() }
    }

    /// Under which its size is remembered.
    fn key(&self) -> String {
        format!("{} {}", self.name, self.places().join(" "))
    }

    fn places(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.display().to_string()).collect()
    }
}

/// A scan under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What was asked for.
    pub request: Request,
    /// Since when.
    pub began: Timestamp,
    /// The file that it was done with last, as hexadecimal bytes; empty before the first.
    pub position: String,
    /// What it did.
    pub counts: ScanCounts,
    /// Bundles that it used.
    pub bundles: Vec<u64>,
    /// Time of work, in microseconds.
    pub worked: i64,
    /// Time of pauses that are over, in microseconds.
    pub paused: i64,
    /// It is paused, since then.
    pub paused_since: Option<Timestamp>,
    /// How often it went on after a start of the agent.
    pub continued: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    files: u64,
    bytes: u64,
    at: Timestamp,
}

impl Work {
    /// Begins now.
    pub fn new(request: Request, now: Timestamp) -> Self {
        Self {
            request,
            began: now,
            position: String::new(),
            counts: ScanCounts::default(),
            bundles: Vec::new(),
            worked: 0,
            paused: 0,
            paused_since: None,
            continued: 0,
        }
    }

    /// The file that it was done with last.
    pub fn after(&self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let bytes = hex::decode(&self.position).ok().filter(|bytes| !bytes.is_empty())?;
        Some(std::ffi::OsString::from_vec(bytes).into())
    }

    /// Notes the file that it was done with last.
    pub fn done_with(&mut self, path: &Path) {
        use std::os::unix::ffi::OsStrExt;
        self.position = hex::encode(path.as_os_str().as_bytes());
    }

    /// It goes on: the pause is over.
    pub fn go_on(&mut self, now: Timestamp) {
        if let Some(since) = self.paused_since.take() {
            self.paused += now.since(since).max(0);
        }
    }
}

impl Kept {
    /// Reads the file; one that is not there is empty.
    ///
    /// # Errors
    /// It is damaged.
    pub fn load(path: &Path) -> Result<Self> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(stat) if stat.len() > MAX_FILE => anyhow::bail!("{} is larger than it can be", path.display()),
            _ => {}
        }
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk says no.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, &serde_json::to_vec(self)?, 0o600)
    }

    /// Remembers the size of a scan that ran to its end.
    pub fn remember(&mut self, work: &Work, now: Timestamp) {
        let oldest = self.past.iter().min_by_key(|(_, past)| past.at).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest.filter(|_| self.past.len() >= MAX_PAST) {
            self.past.remove(&oldest);
        }
        let past = Past { files: work.counts.files, bytes: work.counts.bytes, at: now };
        self.past.insert(work.request.key(), past);
    }

    /// How a scan stands, without what only the running one knows.
    pub fn describe(&self, work: &Work, now: Timestamp) -> ScanStatus {
        let past = self.past.get(&work.request.key());
        let paused = work.paused + work.paused_since.map_or(0, |since| now.since(since).max(0));
        let seconds = |micros: i64| u64::try_from(micros / 1_000_000).unwrap_or(0);
        ScanStatus {
            id: work.request.id.clone(),
            name: work.request.name.clone(),
            paths: work.request.places(),
            by: work.request.by.clone(),
            began: work.began,
            counts: work.counts,
            path: work.after().map(|path| path.display().to_string()).unwrap_or_default(),
            expected_files: past.map_or(0, |past| past.files),
            expected_bytes: past.map_or(0, |past| past.bytes),
            worked_seconds: seconds(work.worked),
            paused_seconds: seconds(paused),
            seconds_left: past.and_then(|past| left(past, work)),
            bundles: work.bundles.clone(),
            continued: work.continued,
            ..ScanStatus::default()
        }
    }
}

/// Seconds that are left, if it goes on as it went.
fn left(past: &Past, work: &Work) -> Option<u64> {
    let worked = u64::try_from(work.worked / 1_000).ok().filter(|worked| *worked > 0)?;
    let (done, all) = match work.counts.bytes > 0 && past.bytes > 0 {
        true => (work.counts.bytes, past.bytes),
        false => (work.counts.files, past.files),
    };
    if done == 0 {
        return None;
    }
    let left = u128::from(all.saturating_sub(done)) * u128::from(worked) / u128::from(done) / 1_000;
    u64::try_from(left).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(name: &str) -> Work {
        let scan = serde_json::json!({"name": name, "paths": ["/nonexistent"]});
        let request = Request::of(&serde_json::from_value(scan).unwrap(), "root");
        Work::new(request, Timestamp::from_secs(1_000))
    }

    #[test]
    fn a_position_survives_whatever_its_name_is_made_of() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scans.json");
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"/srv/\xff\x01\n/x"));
        let mut kept = Kept::load(&file).unwrap();
        let mut under_way = work("n");
        assert_eq!(under_way.after(), None);
        under_way.done_with(odd);
        kept.work = Some(under_way);
        kept.save(&file).unwrap();
        let again = Kept::load(&file).unwrap().work.unwrap();
        assert_eq!(again.after().as_deref(), Some(odd));
        std::fs::write(&file, "{\"work\": 5}").unwrap();
        assert!(Kept::load(&file).unwrap_err().to_string().contains("damaged"));
        std::fs::write(&file, "{\"of_a_later_version\": 5}").unwrap();
        assert!(Kept::load(&file).is_ok(), "what is not known is passed over");
    }

    #[test]
    fn what_is_left_is_told_by_the_last_time() {
        let mut kept = Kept::default();
        let mut first = work("n");
        first.counts = ScanCounts { files: 100, bytes: 1_000, ..ScanCounts::default() };
        let now = Timestamp::from_secs(2_000);
        assert_eq!(kept.describe(&first, now).seconds_left, None, "nothing is known of the first time");
        kept.remember(&first, now);
        first.counts.bytes = 250;
        first.worked = 10_000_000;
        first.paused_since = Some(Timestamp::from_secs(1_990));
        let told = kept.describe(&first, now);
        assert_eq!((told.expected_files, told.seconds_left), (100, Some(30)));
        assert_eq!((told.worked_seconds, told.paused_seconds), (10, 10));
        for n in 0..100 {
            kept.remember(&work(&format!("m{n}")), Timestamp::from_secs(3_000 + n));
        }
        assert!(kept.past.len() <= MAX_PAST && kept.describe(&first, now).expected_files == 0, "the oldest goes");
    }
}
