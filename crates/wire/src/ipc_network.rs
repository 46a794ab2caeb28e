//! Between the agent's supervisor and a `network` worker. As with the other workers, its events pass through the
//! supervisor as encoded batches that it does not open.

use sakimori_model::policy::{KeepPackets, RuleMode};
use sakimori_model::{Network, Order};
use serde::{Deserialize, Serialize};

use crate::batch::Loss;
use crate::ipc::as_bytes;

/// To the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToNetwork {
    /// First message; answered by [`FromNetwork::Ready`].
    Start(Box<NetworkStart>),
    /// Begin to judge. Beside it: memory of packets, memory of verdicts, bell.
    Ring,
    /// Other rules, from some packet on.
    Rules(NetworkRules),
    /// Other proxies whose X-Forwarded-For is believed.
    Proxies(Vec<Network>),
    /// A batch is spooled: one more may be sent.
    Taken,
    /// A file of packets was taken: the next may be sent.
    PacketsTaken,
    /// Send what is in hand and end.
    Stop,
}

/// What it needs to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkStart {
    /// The agent's id: origin of every batch.
    pub agent: String,
    /// `host.name`.
    pub host_name: String,
    /// `host.id`.
    pub host_id: String,
    /// Name of its stream.
    pub stream: String,
    /// First sequence number to use.
    pub next_sequence: u64,
    /// Number of the next event in the stream.
    pub next_event: u64,
    /// What was lost and is not told yet.
    pub losses: Vec<Loss>,
    /// Batches that may be on their way unspooled at a time.
    pub credits: u32,
    /// Proxies whose X-Forwarded-For is believed.
    pub proxies: Vec<Network>,
    /// What it judges by.
    pub rules: NetworkRules,
}

/// Rules and what the policy makes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    /// Number of the bundle.
    pub bundle: u64,
    /// Its files.
    pub files: Vec<(String, Vec<u8>)>,
    /// Drop what rules say to drop?
    pub prevent: bool,
    /// What differs: number of a rule or name of a group, and its mode. Later ones count more, a rule more than a group.
    pub overrides: Vec<(RuleOrGroup, RuleMode)>,
    /// Rules on trial.
    pub trial: Vec<u32>,
    /// Port of the loopback device where the daily probe asks, which has a rule of its own.
    pub probe: Option<u16>,
    /// Packets of which alerted flows are kept.
    pub keep: KeepPackets,
}

/// Whose mode it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleOrGroup {
    /// Number of a rule.
    Rule(u32),
    /// Name of a group.
    Group(String),
}

/// From the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromNetwork {
    /// Rules are in effect (or, on trial, would be).
    Ready {
        /// Number of the bundle.
        bundle: u64,
        /// Loaded rules.
        rules: u32,
        /// How many of them drop.
        preventing: u32,
        /// What did not load, with file, line and reason.
        errors: Vec<String>,
    },
    /// Alerts.
    Batch {
        /// Sequence in its stream.
        sequence: u64,
        /// [`crate::batch::encode`] of them.
        #[serde(with = "as_bytes")]
        bytes: Vec<u8>,
        /// Host actions that they ask for.
        orders: Vec<Order>,
    },
    /// The probe's request came by.
    Probed {
        /// It was dropped.
        dropped: bool,
    },
    /// Packets of an alerted flow, whole: answered by [`ToNetwork::PacketsTaken`], and until then no other is sent.
    Packets {
        /// Name of the file, which the alert's event has.
        name: String,
        /// The capture file.
        #[serde(with = "as_bytes")]
        bytes: Vec<u8>,
    },
    /// Figures since its start.
    Counters(NetworkCounters),
}

/// What a worker has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCounters {
    /// Packets judged.
    pub packets: u64,
    /// Connections and other flows.
    pub flows: u64,
    /// Alerts.
    pub alerts: u64,
    /// Alerts that were not told, since too many waited.
    pub untold: u64,
    /// Packets dropped or refused.
    pub dropped: u64,
    /// Flows whose content is encrypted and was not seen.
    pub encrypted: u64,
    /// Answers whose rest was passed over.
    pub bulk: u64,
    /// Bytes of it.
    pub bulk_bytes: u64,
    /// Flows that had to be forgotten since there were too many.
    pub forgotten: u64,
    /// Times when rules were changed.
    pub swaps: u64,
    /// Alerted flows whose packets were to be kept and were not, since there were too many.
    pub packets_shed: u64,
}

impl NetworkCounters {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            flows: self.flows + other.flows,
            alerts: self.alerts + other.alerts,
            untold: self.untold + other.untold,
            dropped: self.dropped + other.dropped,
            encrypted: self.encrypted + other.encrypted,
            bulk: self.bulk + other.bulk,
            bulk_bytes: self.bulk_bytes + other.bulk_bytes,
            forgotten: self.forgotten + other.forgotten,
            swaps: self.swaps + other.swaps,
            packets_shed: self.packets_shed + other.packets_shed,
        }
    }
}
