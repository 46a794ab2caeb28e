//! Files to sandboxed workers, verdicts back.
//!
//! What an enemy wrote is never parsed in the process that opened it (D16): the parent opens files and hands their
//! descriptors to workers, which can open nothing themselves. Rules, too, are compiled in a worker. A worker that dies
//! or falls silent costs the file that it had in hand, and is started again.
//!
//! - [`worker`]: what a worker does, from its first call on
//! - [`judge`]: one worker as its parent sees it: compile, load, hand over, collect
//! - [`tree`]: a scan of paths by several workers, with progress, pause and a share of the processors
//! - [`report`]: what came of a scan, and the exit code that says it
//! - [`sources`]: rule files of this program and of a user
//! - [`walk`]: the files below paths
//! - [`exclude`]: patterns of what is left out
//! - [`message`]: what travels between the two
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod exclude;
pub mod judge;
pub mod message;
pub mod report;
pub mod sources;
pub mod tree;
pub mod walk;
pub mod worker;

pub use exclude::Exclusions;
pub use judge::{Compiled, Judge, JudgeError, compile};
pub use report::Report;
pub use tree::{Control, Options, Outcome, Totals, scan};
