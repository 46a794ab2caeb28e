//! Actions: what is done about an alert, as one durable record with a beginning and an end.
//!
//! An action is owned by the place that carries it out (D18): a host action by the agent's ledger, a cloud
//! action or a message by the manager's. Its states:
//!
//! ```text
//! planned → approved → running → done ─┬→ expired          (its time was up)
//!     │         │          │      ↑    └→ undoing → undone (by hand, or by a policy change)
//!     │         │          │      └─────────┘              (it cannot be taken back now)
//!     └→ refused └→ refused ├→ no_effect                   (it would have done nothing here; the reason says why)
//!                           ├→ failed                      (retries are used up)
//!                           └→ undoing → failed, refused   (the same, of what may have had a part of its effect)
//! ```

use serde::{Deserialize, Serialize};

use crate::address::Network;
use crate::time::Timestamp;

/// Where an action is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// Written down, not yet allowed.
    Planned,
    /// Allowed, by policy or by a person.
    Approved,
    /// Being carried out; after a crash it is carried out again.
    Running,
    /// In effect.
    Done,
    /// Being taken back; after a crash it is taken back again.
    Undoing,
    /// Taken back before its time.
    Undone,
    /// Its time was up and it was taken back.
    Expired,
    /// Not carried out, since it would change nothing here; see the reason.
    NoEffect,
    /// Not carried out, since a rule forbids it (allow-list, own address, rate); see the reason.
    Refused,
    /// Tried and given up; see the reason.
    Failed,
}

impl ActionState {
    /// The name that JSON, the lake and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Approved => "approved",
            Self::Running => "running",
            Self::Done => "done",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::Expired => "expired",
            Self::NoEffect => "no_effect",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Will nothing more happen to it?
    pub fn is_final(self) -> bool {
        matches!(self, Self::Undone | Self::Expired | Self::NoEffect | Self::Refused | Self::Failed)
    }

    /// May it go from here to there?
    pub fn may_become(self, next: Self) -> bool {
        use ActionState as S;
        match self {
            S::Planned => matches!(next, S::Approved | S::Refused | S::NoEffect | S::Expired),
            S::Approved => matches!(next, S::Running | S::Refused | S::NoEffect | S::Undone | S::Expired),
            S::Running => matches!(next, S::Done | S::NoEffect | S::Failed | S::Refused | S::Undoing),
            S::Done => matches!(next, S::Done | S::Undoing | S::Expired | S::NoEffect),
            // Back to done where it cannot be taken back: it is in effect, and the reason says what is in the way.
            S::Undoing => matches!(next, S::Undone | S::Expired | S::Failed | S::Refused | S::Done),
            S::Undone | S::Expired | S::NoEffect | S::Refused | S::Failed => false,
        }
    }
}

/// Why an action exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Id of the alert, a hash of rule, group and events (D8); actions are keyed by it.
    pub alert: String,
    /// Slug of the rule.
    pub rule: String,
    /// Title of the rule, in English.
    pub title: String,
    /// Ids of the contributing events, at most [`MAX_EVIDENCE`].
    pub events: Vec<String>,
    /// Playbook that asked for it, or the user who did by hand.
    pub by: String,
}

/// Most event ids that a cause carries.
pub const MAX_EVIDENCE: usize = 32;

/// What an action acts on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An address or network.
    Network(Network),
    /// A notification channel by its name.
    Channel(String),
    /// A file or a folder on the host, by its path.
    File(String),
    /// A setting of a host by its dotted path in the policy, `modules.antimalware.mode`.
    Setting(String),
    /// Anything else that has a kind and a name, as `kind/name`: `instance/i-0a1b`, `access_key/AKIA…`, `bucket/photos`,
    /// `process/4711@123456`.
    Resource(String),
}

impl Target {
    /// A resource of this kind and name.
    pub fn resource(kind: &str, name: &str) -> Self {
        Self::Resource(format!("{kind}/{name}"))
    }

    /// The name of a resource of this kind; `None` for all else.
    pub fn name_of(&self, kind: &str) -> Option<&str> {
        match self {
            Self::Resource(text) => text.strip_prefix(kind)?.strip_prefix('/'),
            _ => None,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Channel(text) | Self::File(text) | Self::Setting(text) | Self::Resource(text) => f.write_str(text),
        }
    }
}

/// What a playbook, a person or the manager asks for, before any ledger knows it. This is the order that
/// goes to a host (D18): an agent accepts or refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Id of the action: of (alert, action, target, place) for an automatic one, so that a replay finds it.
    pub id: String,
    /// Slug of the action: `block_address`, `quarantine_file`, `scan_paths`, `waf_block`, `notify`.
    pub action: String,
    /// What to act on.
    pub target: Target,
    /// When it ends by itself; every enforcement has an end.
    pub expiry: Option<Timestamp>,
    /// Why.
    pub cause: Cause,
    /// The proxy through which the client came, where it did: a host cannot block such a client.
    pub via: Option<std::net::IpAddr>,
    /// Is it a probe's consequence, which stays on the host?
    pub probe: bool,
    /// Inputs of the action beyond the target, by name (a message's text).
    pub inputs: std::collections::BTreeMap<String, String>,
    /// Seals over the order for one host: of the manager's order key, and of operators (`respond::seal`). Empty where
    /// the order comes from the host itself, or is carried out by the manager.
    pub signatures: Vec<Vec<u8>>,
}

impl Order {
    /// Does it ask for the same? Who sealed it, and when, does not matter.
    pub fn same(&self, other: &Self) -> bool {
        let bare = |order: &Self| Self { signatures: Vec::new(), ..order.clone() };
        bare(self) == bare(other)
    }
}

/// One action with its whole state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What was asked.
    pub order: Order,
    /// Who carries it out: an agent's id, or `manager`.
    pub place: String,
    /// Where it is in its life.
    pub state: ActionState,
    /// Why it is refused, without effect or failed, in English.
    pub reason: Option<String>,
    /// What was there before, for the undo.
    pub former: Option<String>,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// When it last took effect.
    pub done_at: Option<Timestamp>,
    /// When it reached a final state.
    pub ended_at: Option<Timestamp>,
    /// When it ends by itself (prolonged by fresh evidence only).
    pub expires_at: Option<Timestamp>,
    /// Latest end that prolonging may reach.
    pub expires_at_most: Option<Timestamp>,
    /// How often fresh evidence prolonged it.
    pub prolonged: u32,
    /// After an undo by hand: until when it is not repeated on this target.
    pub grace_until: Option<Timestamp>,
    /// Who took it back, where a person did.
    pub undone_by: Option<String>,
    /// Provisional: it is taken back at this moment unless it is confirmed before. `None` once it is, and for what
    /// needs no confirmation.
    #[serde(default)]
    pub confirm_by: Option<Timestamp>,
}

impl Action {
    /// When it is taken back by itself, as things stand.
    pub fn end(&self) -> Option<Timestamp> {
        match (self.expires_at, self.confirm_by) {
            (Some(end), Some(confirm)) => Some(end.min(confirm)),
            (end, confirm) => end.or(confirm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_stay() {
        use ActionState as S;
        let all = [
            S::Planned,
            S::Approved,
            S::Running,
            S::Done,
            S::Undoing,
            S::Undone,
            S::Expired,
            S::NoEffect,
            S::Refused,
            S::Failed,
        ];
        for state in all {
            assert_eq!(state.is_final(), !all.iter().any(|next| state.may_become(*next)), "{}", state.name());
            let json = serde_json::to_value(state).expect("a name");
            assert_eq!(json, state.name());
        }
    }
}
