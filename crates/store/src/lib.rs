//! Adapter to control state (SQLite) and the lake (Delta).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod control;
pub mod lake;
pub mod query;
