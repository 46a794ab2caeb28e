//! What is asked of a running agent about its own host, on the control socket.

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
    pub inputs: std::collections::BTreeMap<String, String>,
    /// Who asks.
    pub by: String,
}
