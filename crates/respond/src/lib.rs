//! Actions, ledger and playbooks against ports.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod message;
pub mod ports;
