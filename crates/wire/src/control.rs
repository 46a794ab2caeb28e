//! What a person at the host asks of a running agent over its control socket, and what it answers: one JSON line each.

use std::collections::BTreeMap;

use sakimori_model::{Action, Network, Timestamp};
use serde::{Deserialize, Serialize};

/// An action of this host by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActAsk {
    /// Its slug.
    pub action: String,
    /// On what, as an order names it.
    pub target: String,
    /// For how many seconds, where it ends by itself.
    pub seconds: Option<u32>,
    /// Inputs beyond the target.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Who asks.
    pub by: String,
}

/// What to do with a file in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum QuarantineAsk {
    /// Put it back.
    Restore {
        /// Id of the item.
        id: String,
        /// Here instead of at its place.
        to: Option<std::path::PathBuf>,
        /// Who asks.
        by: String,
    },
    /// Delete it for good.
    Delete {
        /// Id of the item.
        id: String,
        /// Who asks.
        by: String,
    },
}

/// Asked of a running agent over its control socket (root only): `sakimori-agent status | actions | …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// State of modules, inputs and link.
    Status,
    /// Actions of the host's ledger.
    Actions {
        /// Ended ones too.
        all: bool,
    },
    /// Take back one action, or all.
    Undo {
        /// Ids; empty means all.
        ids: Vec<String>,
        /// Who asks.
        by: String,
    },
    /// Block by hand, through guard and ledger like any other.
    Block {
        /// What.
        networks: Vec<Network>,
        /// Until when.
        expiry: Timestamp,
        /// Who asks.
        by: String,
    },
    /// An action of this host by hand, through guard and ledger like any other.
    Act(ActAsk),
    /// Something about a file in quarantine.
    Quarantine(QuarantineAsk),
    /// Something about scans.
    Scan(crate::scans::ScanAsk),
    /// Results of the probes.
    Proof {
        /// Begin a run; results are those before it until it is over.
        run: bool,
    },
    /// Confirm provisional actions.
    Confirm {
        /// Ids.
        ids: Vec<String>,
        /// Who asks.
        by: String,
    },
    /// Read the ledger from the disk again and hold it against what the manager saw.
    Verify,
    /// The mark that stops all answers was put or taken away: act on it now.
    Halted,
    /// End the agent in good order.
    Stop {
        /// Since it is taken off the host.
        #[serde(default)]
        uninstall: bool,
    },
}

/// What a running agent answers, one JSON line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Its state.
    Status(Box<crate::status::AgentStatus>),
    /// Actions.
    Actions {
        /// In the order of their beginning.
        actions: Vec<Action>,
    },
    /// Results of the probes.
    Proof {
        /// One a module that is on.
        proofs: Vec<crate::status::ProofStatus>,
        /// Is a run under way?
        running: bool,
    },
    /// How scans stand.
    Scans {
        /// All of them.
        scans: Box<crate::scans::ScansStatus>,
        /// What the question led to, for people.
        said: String,
    },
    /// How many were done, and why others were not.
    Done {
        /// Count.
        count: u64,
        /// Reasons of those that were not done, at most 100.
        refused: Vec<String>,
    },
    /// It could not be done.
    Failed {
        /// Why.
        reason: String,
    },
}
