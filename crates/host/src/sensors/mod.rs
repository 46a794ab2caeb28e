//! Sensors: each sees one kind of thing on this host.

pub mod guard;
pub mod holders;
pub mod journald;
pub mod opens;
