//! What a person at the host asks for by hand: orders of any action, and files in quarantine.

use std::collections::BTreeMap;

use sakimori_model::Timestamp;
use serde::{Deserialize, Serialize};

/// An order of an action of the catalog, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Slug of the action.
    pub action: String,
    /// What to act on.
    pub target: String,
    /// Until when, where it ends by itself and not as the policy says.
    pub expiry: Option<Timestamp>,
    /// Inputs of the action, by name.
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
