//! Adapter to control state (SQLite, PostgreSQL) and the lake (Delta on disk or S3).
#![forbid(unsafe_code)]
#![allow(unexpected_cfgs)] // `fuzzing`, which cargo-fuzz sets
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod control;
pub mod lake;
pub mod query;
