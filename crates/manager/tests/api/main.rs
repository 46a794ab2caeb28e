//! The API against a real manager on free loopback ports.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cloud;
mod connections;
mod exceptions;
mod login;
mod permissions;
mod policies;
mod resources;
mod rules;
mod searching;
mod secrets;
mod servers;
mod support;
mod trials;
