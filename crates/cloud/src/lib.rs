//! Adapters to cloud accounts. They know no rules: they carry out what `respond` decided.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod aws;
