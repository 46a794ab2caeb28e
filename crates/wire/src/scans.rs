//! Scans of an agent, as it tells of them: the one that is under way, those that wait, and what came of the last.

use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScansStatus {
    /// The one under way, a paused one too.
    pub now: Option<ScanStatus>,
    /// Ids and names of those that wait for it, the next one first.
    pub waiting: Vec<ScanName>,
    /// When scans of the policy begin next.
    pub next: Vec<ScanTurn>,
    /// The last one that ended.
    pub last: Option<ScanStatus>,
}

/// Which scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanName {
    /// Its id, one a run.
    pub id: String,
    /// Its name in the policy; `manual` where it has none.
    pub name: String,
}

/// When a scan of the policy begins next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanTurn {
    /// Its name.
    pub name: String,
    /// When.
    pub at: Timestamp,
}

/// How a scan stands, or what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanStatus {
    /// Its id, one a run.
    pub id: String,
    /// Its name in the policy; `manual` where it has none.
    pub name: String,
    /// Where it looks.
    pub paths: Vec<String>,
    /// Who asked for it; `schedule` where nobody did.
    pub by: String,
    /// `fetching` (the newest bundle is awaited), `loading` (rules), `scanning`, `pausing`, `paused`, `stopping`; at the end
    /// `finished`, `cancelled` or `failed`.
    pub state: String,
    /// Why, where there is something to say.
    pub detail: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What it did so far.
    pub counts: ScanCounts,
    /// The file that it was done with last.
    pub path: String,
    /// Files that the same scan had when it last ran to its end; 0 where that is not known.
    pub expected_files: u64,
    /// Bytes likewise.
    pub expected_bytes: u64,
    /// Time of work, seconds: without pauses.
    pub worked_seconds: u64,
    /// Time of pauses, seconds.
    pub paused_seconds: u64,
    /// How long it takes still, where that can be said.
    pub seconds_left: Option<u64>,
    /// Numbers of the rule bundles that it used, in their order; 0 is what the program was built with.
    pub bundles: Vec<u64>,
    /// How often it went on after the agent was started again.
    pub continued: u64,
}

/// What a scan did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanCounts {
    /// Files with a verdict.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Malicious files.
    pub found: u64,
    /// Files whose content is not what their name says.
    pub disguised: u64,
    /// Files and folders that were left out, as the scan says.
    pub excluded: u64,
    /// File systems that were left out.
    pub elsewhere: u64,
    /// Files above the largest size.
    pub too_large: u64,
    /// Files that the engine did not judge in time, or failed at.
    pub failed: u64,
    /// Files and folders that could not be read.
    pub unreadable: u64,
}

impl ScanCounts {
    /// Both together.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self {
            files: self.files + more.files,
            bytes: self.bytes + more.bytes,
            found: self.found + more.found,
            disguised: self.disguised + more.disguised,
            excluded: self.excluded + more.excluded,
            elsewhere: self.elsewhere + more.elsewhere,
            too_large: self.too_large + more.too_large,
            failed: self.failed + more.failed,
            unreadable: self.unreadable + more.unreadable,
        }
    }
}

/// Asked about scans over the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ScanAsk {
    /// Begin one.
    Start {
        /// A scan of the policy, by its name.
        name: Option<String>,
        /// Else these places.
        paths: Vec<String>,
        /// Patterns of what is left out of those.
        exclude: Vec<String>,
        /// Most processor time, in hundredths of one processor.
        cpu_percent: Option<u32>,
        /// Leave what is found where it is?
        report_only: bool,
        /// Who asks.
        by: String,
    },
    /// How they stand.
    Status,
    /// Stop for now.
    Pause,
    /// Go on.
    Resume,
    /// End the one of this id, or the one under way.
    Cancel {
        /// Its id.
        id: Option<String>,
    },
}
