//! Enforcers: each carries out one kind of decision on this host.

pub mod block_address;
pub mod isolate_host;
pub mod lock_user;
pub mod quarantine;
pub mod queue_packets;
