//! Rule bundles: build, sign, verify, keep on disk, swap while running.
//!
//! Rules, log sources and playbooks reach a host as one numbered, signed bundle, and the number goes with
//! every event that it judged (`sakimori.detect.bundle`). This crate knows the files and none of their
//! languages.
//!
//! - [`files`]: a set of files, by path; what a path may be.
//! - [`bundle`]: the format; [`build`] and [`verify`].
//! - [`keys`]: the key that signs, its public half as text.
//! - [`store`]: the current and the former bundle of a program, installed atomically.
//! - [`builtin`]: the content that this program was built with.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod bundle;
pub mod files;
pub mod keys;
pub mod store;

pub use bundle::{Bundle, BundleError, Class, Draft, build, verify};
pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use files::{Files, builtin, digest, read_dir};
pub use store::{BundleStore, StoreError};
