//! The API against a real manager on free loopback ports.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod browser;
mod cloud;
mod connections;
mod exceptions;
mod factors;
mod login;
mod passkeys;
mod permissions;
mod policies;
mod requests;
mod resources;
mod rules;
mod searching;
mod secrets;
mod servers;
mod sessions;
mod sso;
mod support;
mod trials;
