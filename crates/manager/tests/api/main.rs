//! The API against a real manager on free loopback ports.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cloud;
mod connections;
mod login;
mod permissions;
mod resources;
mod searching;
mod secrets;
mod support;
mod trials;
