//! What a person at the host asks for by hand: actions of the host, and files in quarantine.

use std::collections::BTreeMap;

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
