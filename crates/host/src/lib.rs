//! Adapter to the protected host: sensors see, enforcers act. Neither knows a rule.
//!
//! - [`enforcers`]: what carries out a decision: [`block_address`] and [`isolate_host`] on nftables, [`lock_user`] in
//!   the tables of accounts, [`quarantine`] of files, [`queue_packets`] to where they are inspected
//! - [`keeper`]: holds the fanotify group, and [`keeper::pump`] a packet queue, so that the kernel is always answered
//! - [`processes`]: who descends from whom, ended or frozen
//! - [`sensors`]: what sees: [`journald`], [`opens`] of files and the [`guard`] that answers for them, [`holders`] of a file
//! - [`surroundings`]: what must never be blocked on this host ([`guard_facts`])
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod enforcers;
pub mod keeper;
pub mod processes;
pub mod sensors;
pub mod surroundings;

pub use enforcers::{block_address, isolate_host, lock_user, quarantine, queue_packets};
pub use sensors::{guard, holders, journald, opens};
pub use surroundings::guard_facts;
