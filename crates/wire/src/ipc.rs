//! Between the agent's supervisor and its workers: typed messages over a socket pair, postcard encoded.
//!
//! The supervisor is root and parses nothing hostile: a worker's events pass through it as encoded
//! batches that it does not open. Orders are typed and judged by the guard before anything happens.

use sakimori_model::action::Order;
use sakimori_model::policy::LogInput;
use sakimori_model::{Network, Timestamp};
use serde::{Deserialize, Serialize};

use crate::batch::Loss;
pub use crate::control::{ActAsk, Answer, Ask, QuarantineAsk};

/// To the `logs` worker. Descriptors travel beside the message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToLogs {
    /// First message: who this host is and what rules apply. Descriptor: an inotify queue on which the
    /// supervisor watches the open files (the worker cannot watch paths); readable means that one grew.
    Start(Box<LogsStart>),
    /// New rules; the descriptor-free content of a verified bundle.
    Bundle {
        /// Its number.
        number: u64,
        /// Path and content of each file.
        files: Vec<(String, Vec<u8>)>,
    },
    /// New policy values that matter to parsing.
    Proxies(Vec<Network>),
    /// An input opens. Descriptors: one a file, in the order of `files`, or the read end of a pipe. For an
    /// input that is open already, the files are those that follow the ones it has.
    Open {
        /// Which input.
        #[serde(with = "as_json")]
        input: LogInput,
        /// Where to go on in each file, the oldest first; empty for a pipe.
        files: Vec<FilePosition>,
        /// Begin anew with these files and forget the ones it has (a file was cut, or is new to it).
        replace: bool,
        /// Was this input never read before? What lies in it already is then history.
        fresh: bool,
        /// First sequence number to use, where it was not open.
        next_sequence: u64,
        /// Number of the next event in the stream, where it was not open.
        next_event: u64,
        /// What could not be found again.
        losses: Vec<Loss>,
    },
    /// An input is no longer wanted.
    Close {
        /// Its name.
        name: String,
    },
    /// Detection state as it was kept, before any replay.
    Restore(Snapshot),
    /// A batch from the spool that the last snapshot does not cover: feed detection, say nothing.
    Replay(#[serde(with = "as_bytes")] Vec<u8>),
    /// The last replay was sent; go on live.
    Live,
    /// A batch is spooled: the worker may send one more on any stream.
    Taken {
        /// Its stream.
        stream: String,
        /// Its sequence.
        sequence: u64,
    },
    /// Finish what is in hand, send a snapshot, end.
    Stop,
}

/// Bytes in one piece: as a sequence of numbers each byte would be a call.
pub(crate) mod as_bytes {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A policy leaves out what is absent, which a format without names cannot; so it travels as its JSON.
mod as_json {
    use sakimori_model::policy::LogInput;
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub fn serialize<S: Serializer>(input: &LogInput, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(input).map_err(ser::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogInput, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// What the `logs` worker needs to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogsStart {
    /// The agent's id: origin of every batch.
    pub agent: String,
    /// `host.name`.
    pub host_name: String,
    /// `host.id`.
    pub host_id: String,
    /// Time zone of the host, IANA name.
    pub zone: String,
    /// Number of the bundle.
    pub bundle: u64,
    /// Its files.
    pub files: Vec<(String, Vec<u8>)>,
    /// Proxies whose X-Forwarded-For is believed.
    pub proxies: Vec<Network>,
    /// Batches that may be on their way unspooled at a time.
    pub credits: u32,
    /// What was in a log before it was read for the first time, and is older than this by its own time, leads to
    /// alerts but no host action. 0: no such limit.
    pub history_seconds: u64,
}

/// Detection state tied to positions in the streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Last sequence that is folded in, per stream.
    pub covers: Vec<(String, u64)>,
    /// State of the engine, packed by the worker; empty where it was too large to keep.
    #[serde(with = "as_bytes")]
    pub state: Vec<u8>,
}

/// Which file this is, over restarts and renames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// A place in a file: identity, a hash over its first bytes (inodes are used again), and the offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePosition {
    /// Which file.
    pub file: FileIdentity,
    /// Length and CRC-32C of the first bytes that were read, at most 256.
    pub head: (u32, u32),
    /// Bytes that were read; always the beginning of a line.
    pub offset: u64,
}

/// Where an input goes on; the position of a batch is this, postcard encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// In files that are not done with, the oldest first: after a rotation the former one is read to its end.
    Files(Vec<FilePosition>),
    /// In the journal, after its entry of this cursor.
    Journal {
        /// `__CURSOR`.
        cursor: String,
    },
}

/// From the `logs` worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromLogs {
    /// Ready for inputs; rules that could not be loaded, each with file, line and reason.
    Ready {
        /// Loaded rules.
        rules: u32,
        /// What did not load.
        errors: Vec<String>,
    },
    /// Events, alerts among them, in the framing of [`crate::batch`], with what is to be done at once.
    Batch {
        /// Stream, for the spool.
        stream: String,
        /// Sequence in it.
        sequence: u64,
        /// [`crate::batch::encode`] of them.
        #[serde(with = "as_bytes")]
        bytes: Vec<u8>,
        /// Events in it.
        count: u32,
        /// Host actions that the alerts ask for.
        orders: Vec<Order>,
    },
    /// A file was cut: nothing is read from the input until it is opened anew.
    Cut {
        /// Name of the input.
        name: String,
        /// Where it stood in each of its files.
        files: Vec<FilePosition>,
    },
    /// Detection state; what it covers need not be replayed.
    Snapshot(Snapshot),
    /// Figures of each input.
    Counters(Vec<InputCounters>),
}

/// What an input did since its worker began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputCounters {
    /// Its name.
    pub name: String,
    /// Lines read.
    pub lines: u64,
    /// Events made of them.
    pub events: u64,
    /// Alerts.
    pub alerts: u64,
    /// When the last line came.
    pub last: Option<Timestamp>,
}

/// To the `uplink` worker. The first message carries the descriptor of the identity folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToUplink {
    /// Connect, and keep connected.
    Start(Box<UplinkStart>),
    /// A batch of the spool.
    Batch {
        /// Its stream.
        stream: String,
        /// Its sequence.
        sequence: u64,
        /// The batch.
        #[serde(with = "as_bytes")]
        bytes: Vec<u8>,
    },
    /// Answer to each [`FromUplink::Connected`]: the batches that follow begin with the first one that the
    /// manager does not have. Batches from before it belong to an earlier connection and are dropped.
    Resume,
    /// State of modules and books, JSON of [`crate::status::AgentStatus`].
    Status(Vec<u8>),
    /// Reply to an order or an undo.
    OrderReply(Reply),
    /// A provisional action, and the checks that hold after it.
    Provisional {
        /// Its id.
        id: String,
        /// The checks.
        checks: Vec<String>,
    },
    /// What the ledger says at a record that the manager knows.
    LedgerAt {
        /// The record.
        sequence: u64,
        /// Hash of the chain there; empty where it is not there.
        hash: Vec<u8>,
        /// Newest record and hash.
        head: (u64, Vec<u8>),
    },
    /// What the next hello says.
    Versions {
        /// Number of the policy in effect.
        policy: u64,
        /// Number of the bundle in effect.
        bundle: u64,
        /// Newest record of the ledger, and the head of its hash chain.
        ledger: (u64, Vec<u8>),
        /// Id of the order key that is pinned.
        order_key: Vec<u8>,
        /// Number of the last halt or resume.
        halt: u64,
        /// Heads of the manager's audit log that are remembered: chain, number, hash.
        audit: Vec<(String, u64, Vec<u8>)>,
    },
    /// Say this to the manager after all that was handed over, close the stream and end.
    Stop(Farewell),
}

/// Why the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Farewell {
    /// Somebody stopped it.
    Stopped,
    /// The host shuts down.
    HostStops,
    /// It is taken off the host.
    Uninstalled,
}

/// Asked of the `enrol` worker, once: the whole enrolment, so that no root process speaks to the network.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAsk {
    /// The token, as the manager shows it.
    pub token: String,
    /// Proxy to tunnel through, `http://host:port`.
    pub proxy: Option<String>,
    /// Host facts, encoded `agent::Host`.
    pub host: Vec<u8>,
}

/// What came of it: the answer, or why not.
pub type EnrolAnswer = Result<EnrolDone, String>;

/// A new identity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolDone {
    /// Private key, PEM.
    pub key_pem: String,
    /// The agent's certificate, PEM.
    pub certificate_pem: String,
    /// The manager's CA, PEM; the one that the token names.
    pub ca_pem: String,
    /// The agent's id.
    pub agent_id: String,
    /// Ed25519 public key that signs bundles.
    pub bundle_key: Vec<u8>,
    /// Key that seals orders and policies; empty where the manager has none.
    pub order_key: Vec<u8>,
    /// `host:port` of the manager's agent channel.
    pub link_address: String,
}

/// What the `uplink` worker needs to begin. Key, certificate and CA lie in the identity folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStart {
    /// `host:port` of the manager's agent channel.
    pub address: String,
    /// Proxy to tunnel through, `http://host:port`.
    pub proxy: Option<String>,
    /// This agent's id.
    pub agent: String,
    /// Host facts, encoded `agent::Host`.
    pub host: Vec<u8>,
    /// Modules with their config-schema versions.
    pub modules: Vec<(String, u32)>,
    /// Engines with their versions.
    pub engines: Vec<(String, String)>,
}

/// From the `uplink` worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromUplink {
    /// The stream is up; what the manager has of each stream.
    Connected {
        /// The manager's address as connected, which is never blocked.
        peer: std::net::IpAddr,
        /// Last durable sequence per stream.
        received: Vec<(String, u64)>,
        /// Numbers of the newest policy and bundle for this agent, where the manager says them.
        newest: Option<(u64, u64)>,
    },
    /// The stream is down; it is tried again by itself.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// Durable at the manager.
    Receipt {
        /// Stream.
        stream: String,
        /// Up to this sequence.
        sequence: u64,
    },
    /// A policy, JSON of the effective one.
    Policy {
        /// Its number.
        number: u64,
        /// JSON.
        json: Vec<u8>,
        /// Seal over it.
        signature: Vec<u8>,
    },
    /// A bundle, not yet verified.
    Bundle(#[serde(with = "as_bytes")] Vec<u8>),
    /// An order.
    Order(Box<Order>),
    /// Take back an action.
    Undo {
        /// Its id.
        action: String,
        /// Who asked.
        by: String,
        /// Seals over it.
        signatures: Vec<Vec<u8>>,
    },
    /// The order key, for who has none.
    OrderKey {
        /// It.
        key: Vec<u8>,
        /// Seals of the bundle key over it.
        signatures: Vec<Vec<u8>>,
    },
    /// All automatic answers stop, or go on.
    Halt {
        /// Its number.
        number: u64,
        /// Stop?
        halted: bool,
        /// Take back what is in effect?
        undo: bool,
        /// Who asked.
        by: String,
        /// Why.
        reason: String,
        /// Seals over it.
        signatures: Vec<Vec<u8>>,
    },
    /// A provisional action is to stay.
    Confirm {
        /// Its id.
        action: String,
        /// Who confirms.
        by: String,
        /// Seals over it.
        signatures: Vec<Vec<u8>>,
    },
    /// Addresses of the manager's name, before the next connection.
    Resolved(Vec<std::net::IpAddr>),
    /// Addresses from which operators are signed in.
    Operators {
        /// They.
        addresses: Vec<std::net::IpAddr>,
        /// Seals over them.
        signatures: Vec<Vec<u8>>,
    },
    /// Heads of the manager's audit log (chain, number, hash), and the record of this ledger that it knows.
    Heads {
        /// They.
        audit: Vec<(String, u64, Vec<u8>)>,
        /// The record; 0 for none.
        ledger: u64,
    },
}

/// Reply to an order or an undo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Id of the action.
    pub id: String,
    /// Taken into the ledger?
    pub accepted: bool,
    /// Why not.
    pub reason: String,
    /// To an undo?
    pub undo: bool,
    /// So many operators more have to sign it.
    pub lacks: u32,
    /// Those who may.
    pub signers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_with_and_without_its_optional_parts_survives() {
        for file in [None, Some("/var/log/auth.log".to_owned())] {
            let input = LogInput {
                name: "auth".into(),
                source: "linux/auth".into(),
                file,
                journal: None,
                zone: None,
                probe: true,
            };
            let message = ToLogs::Open {
                input,
                files: vec![FilePosition::default()],
                replace: true,
                fresh: false,
                next_sequence: 3,
                next_event: 9,
                losses: Vec::new(),
            };
            let bytes = postcard::to_stdvec(&message).expect("encodes");
            assert_eq!(postcard::from_bytes::<ToLogs>(&bytes).expect("decodes"), message);
        }
    }
}
