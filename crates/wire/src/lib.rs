//! Messages between processes and machines: the agent channel (protobuf), the supervisor's messages with
//! its workers (postcard), and the framing of event batches, which is the same in a worker's message, in
//! the spool, on the wire and in the manager's journal.
#![forbid(unsafe_code)]

pub mod batch;
pub mod control;
pub mod ipc;
pub mod ipc_network;
pub mod ipc_triage;
pub mod machine;
pub mod scans;
pub mod status;
pub mod token;
pub mod triage;

/// Generated from `proto/agent.proto`.
#[allow(clippy::all, clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
pub mod agent {
    tonic::include_proto!("sakimori.agent.v1");
}

/// Version of the agent protocol that this build speaks.
pub const PROTOCOL: u32 = 1;

/// Largest batch in its framing, in bytes, that a peer accepts.
pub const MAX_BATCH: usize = 12 * 1024 * 1024;
