//! Unsafe and the kernel: workers, descriptor passing, netlink, namespaces.
//!
//! - [`channel`]: frames and descriptors between two processes of ours
//! - [`worker`]: the one launcher of processes with few rights
//! - [`file`]: files that are whole after a crash
//! - [`inotify`]: waiting for files to change
//! - [`netlink`], [`nft`]: our own encoder of netfilter's messages
//! - [`net`]: own addresses, gateways, name servers, ssh sessions
//! - [`lab`]: network namespaces for tests and the demo
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]
#![allow(unsafe_code)] // one of the two rooms for it; each block carries its SAFETY sentence

pub mod channel;
pub mod file;
pub mod inotify;
pub mod lab;
pub mod net;
pub mod netlink;
pub mod nft;
pub mod worker;
