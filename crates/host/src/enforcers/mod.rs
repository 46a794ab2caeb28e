//! Enforcers: each carries out one kind of decision on this host.

pub mod block_address;
pub mod quarantine;
pub mod queue_packets;
