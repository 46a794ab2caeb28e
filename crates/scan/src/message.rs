//! What travels between a worker and its parent: small frames; whatever is large goes beside them as sealed memory.

use sakimori_malware::{Kind, Limits, RuleError, Verdict};
use serde::{Deserialize, Serialize};

/// Largest sources of rules, and largest compiled set, in bytes.
pub const MAX_RULES: u64 = 512 << 20;

/// To the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Compile. Beside it: sealed memory with the sources ([`Sources`]), and empty memory for what comes out.
    Compile,
    /// Use these rules from now on. Beside it: sealed memory with a compiled set.
    Load(Limits),
    /// Judge. Beside it: files, of which the first has this number and the others those that follow it.
    Scan(u64),
}

/// Rule files by path, as they lie in memory.
pub type Sources = Vec<(String, Vec<u8>)>;

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// It is confined and ready, with what of Landlock this kernel has.
    Ready {
        /// `full`, `partly` or `none`.
        landlock: String,
    },
    /// Compiled, into the memory that came along.
    Compiled {
        /// YARA rules in it.
        rules: u64,
        /// Sums in it.
        sums: u64,
        /// What could not be loaded.
        errors: Vec<RuleError>,
    },
    /// The rules are in use.
    Loaded {
        /// YARA rules.
        rules: u64,
        /// Sums.
        sums: u64,
    },
    /// It could not do what it was asked, whose reason this is.
    Refused(String),
    /// What it says of the files of one message, in their order.
    Judged {
        /// The number that came with the first.
        first: u64,
        /// One for each.
        all: Vec<Judgement>,
    },
}

/// What is said of a file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Judgement {
    /// Bytes that were read.
    pub bytes: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// What it is, where that is told apart.
    pub kind: Option<Kind>,
}
