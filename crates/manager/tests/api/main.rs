//! The API against a real manager on free loopback ports.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod browser;
mod cloud;
mod connections;
mod factors;
mod login;
mod passkeys;
mod permissions;
mod resources;
mod searching;
mod secrets;
mod sessions;
mod sso;
mod support;
mod trials;
