//! What boots a Debian by `systemd-nspawn`: the package, and the guide of the first day. One program, so that they run beside
//! each other.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod first_day;
mod machine;
mod pack;
