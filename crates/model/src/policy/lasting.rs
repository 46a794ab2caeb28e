//! Answers on a host that change how it may be used until they are taken back: an isolation, a locked user.

use serde::{Deserialize, Serialize};

use super::Mode;
use crate::address::Network;

/// The action `isolate_host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IsolateHost {
    /// Act, or say what it would do.
    pub mode: Mode,
    /// How long an isolation lasts, in seconds, unless its order says otherwise.
    pub expiry_seconds: u64,
    /// The longest that one may last, from its beginning.
    pub expiry_most_seconds: u64,
    /// Stay isolated where nothing confirms it: also a host that cannot reach its manager any more.
    pub stay: bool,
    /// Networks whose traffic passes all the same, in every isolation: a forensic station.
    pub allow: Vec<Network>,
}

impl Default for IsolateHost {
    fn default() -> Self {
        Self {
            mode: Mode::Prevent,
            expiry_seconds: 86_400,
            expiry_most_seconds: 30 * 86_400,
            stay: false,
            allow: Vec::new(),
        }
    }
}

/// The action `lock_user`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LockUser {
    /// Act, or say what it would do.
    pub mode: Mode,
    /// Users that are never locked, by name.
    pub never_lock: Vec<String>,
    /// Most users in a minute; more are refused.
    pub most_per_minute: u32,
}

impl Default for LockUser {
    fn default() -> Self {
        Self { mode: Mode::Prevent, never_lock: Vec::new(), most_per_minute: 5 }
    }
}
