//! Unsafe and the kernel: workers, descriptor passing, netlink, namespaces.
//!
//! - [`channel`]: frames and descriptors between two processes of ours
//! - [`worker`]: the one launcher of processes with few rights
//! - [`sandbox`]: what a worker gives up before it reads the first hostile byte
//! - [`cgroup`]: budgets that the kernel holds
//! - [`memory`]: sealed memory that is handed to workers
//! - [`file`]: files that are whole after a crash
//! - [`fanotify`]: the kernel asks before a file is opened or executed
//! - [`idle`]: processes that give way to all others
//! - [`inotify`]: waiting for files to change
//! - [`mounts`]: what is mounted, and when that changes
//! - [`netlink`], [`nft`]: our own encoder of netfilter's messages
//! - [`nfqueue`]: packets that wait for a verdict
//! - [`pace`]: whether to look for the next packet without sleep
//! - [`ring`]: packets to a worker that is trusted with nothing
//! - [`net`]: own addresses, gateways, name servers, ssh sessions
//! - [`rights`]: which of root's rights this process has
//! - [`harness`]: how a test says that it is skipped, and the `main` of tests whose program is started again as a worker
//! - [`lab`]: network namespaces for tests and the demo
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]
#![allow(unsafe_code)] // one of the two rooms for it; each block carries its SAFETY sentence

pub mod cgroup;
pub mod channel;
pub mod fanotify;
pub mod file;
pub mod harness;
pub mod idle;
pub mod inotify;
pub mod lab;
pub mod memory;
pub mod mounts;
pub mod net;
pub mod netlink;
pub mod nfqueue;
pub mod nft;
pub mod pace;
pub mod rights;
pub mod ring;
pub mod sandbox;
pub mod space;
pub mod worker;
