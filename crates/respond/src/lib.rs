//! What is done about an alert: actions, their ledger, the playbooks that ask for them, against ports.
//!
//! - [`ports`]: what adapters implement (nftables, AWS WAF, HTTP).
//! - [`actions`]: the catalog; a descriptor and the pure part of each action.
//! - [`guard`]: what is never blocked on a host, whatever anybody says.
//! - [`seal`], [`mandate`]: who said it, and what a host lets the manager say.
//! - [`wide`]: the life of an action as pure functions, for host and manager alike.
//! - [`former`]: what an action in a cloud account finds before, and how what it leaves there is named.
//! - [`least`]: the least rights of actions in a cloud account.
//! - [`ledger`], [`host`]: the durable record on a host, and what drives it.
//! - [`event`]: what is told of an action.
//! - [`playbook`], [`condition`]: YAML and CEL to orders; [`execution`]: step by step, over crashes and approvals.
//! - [`message`]: what a person gets.
//!
//! Nothing here reads a clock or opens a socket; the ledger alone touches the disk.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod actions;
pub mod condition;
pub mod event;
pub mod execution;
pub mod former;
pub mod guard;
pub mod host;
pub mod least;
pub mod ledger;
pub mod mandate;
pub mod message;
pub mod playbook;
pub mod ports;
pub mod reach;
pub mod seal;
pub mod wide;

#[cfg(test)]
pub(crate) mod testing;
