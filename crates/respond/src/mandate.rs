//! The mandate: what this host lets its manager do, from a file that only root can write (D18). Pure.
//!
//! Whoever has the manager has its keys. So the host itself says what those keys alone may do: which actions, how wide
//! and how long, which settings stay as they are here, which networks are never blocked. What is wider needs seals of
//! several operators, whose keys the file names and the manager never has. The host's own rules come with bundles that
//! the manager signs, so they have the same limits and no way around them. Where there is no file, [`Mandate::default`]
//! applies; where it cannot be trusted, [`Mandate::nothing`].

use std::collections::BTreeSet;

use ed25519_dalek::VerifyingKey;
use sakimori_model::action::Target;
use sakimori_model::policy::Policy;
use sakimori_model::{Network, Order, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::actions::{block_address, collect_triage, prevent_mode, quarantine_file, scan_paths};
use crate::seal::{self, Act};

/// Most networks, paths and keys that a mandate lists, each.
pub const MOST: usize = 256;

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mandate {
    /// What the manager's key alone may do.
    pub alone: Alone,
    /// What nobody may do here but root at this host.
    pub never: Never,
    /// What a policy of the manager's may not change here.
    pub policy: Hold,
    /// Whose seals allow more.
    pub operators: Operators,
}

/// What the manager's key alone may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alone {
    /// Actions that it may order.
    pub actions: Vec<String>,
    /// Actions that this host's own rules, which come in bundles of the manager's, may lead to.
    pub rules: Vec<String>,
    /// May it take actions back?
    pub undo: bool,
    /// May it stop all automatic answers?
    pub halt: bool,
    /// May it send policies?
    pub policy: bool,
    /// May it name addresses, from which operators are signed in, that are then not blocked?
    pub spare_operators: bool,
    /// Shortest prefix of an IPv4 network that is blocked.
    pub widest_v4: u8,
    /// Shortest prefix of an IPv6 network that is blocked.
    pub widest_v6: u8,
    /// Longest block, in seconds, prolonging included.
    pub longest_seconds: u64,
    /// Most new blocks a minute.
    pub most_per_minute: u32,
}

/// What nobody may do here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Never {
    /// Networks that are never blocked on this host.
    pub block: Vec<Network>,
}

/// What a policy of the manager's may not change here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hold {
    /// Modules that it may not switch off: this host's own section applies where it does.
    pub keep_on: Vec<String>,
    /// Modules that it may not let act: they only detect.
    pub detect_only: Vec<String>,
    /// Dotted paths that stay as this host's own configuration has them.
    pub fixed: Vec<String>,
    /// Folders below which logs may be read; any where empty.
    pub logs_below: Vec<String>,
}

/// Whose seals allow more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operators {
    /// How many different ones; 0: none can.
    pub needed: u32,
    /// Their public keys.
    pub keys: Vec<OperatorKey>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorKey {
    /// Name, for records.
    pub name: String,
    /// `ed25519:` and 64 hexadecimal digits.
    pub key: String,
}

impl Default for Alone {
    /// What hosts without a file allow: single addresses and small networks, for at most 30 days; scans and triage packages,
    /// which only read.
    fn default() -> Self {
        Self {
            actions: [block_address::ID, scan_paths::ID, collect_triage::ID].map(str::to_owned).into(),
            rules: [block_address::ID, quarantine_file::ID, scan_paths::ID, collect_triage::ID]
                .map(str::to_owned)
                .into(),
            undo: true,
            halt: true,
            policy: true,
            spare_operators: true,
            widest_v4: 24,
            widest_v6: 48,
            longest_seconds: 30 * 86_400,
            most_per_minute: 200_000,
        }
    }
}

/// On whose word something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// This host's own rules and playbooks.
    Rules,
    /// The manager, whose seal was verified, and so many operators.
    Manager {
        /// Different operators of the mandate whose seals were verified.
        operators: u32,
    },
    /// Root at this host.
    Root,
}

/// Why the mandate does not cover an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Nobody's seal changes that.
    Never(String),
    /// It needs so many more operators.
    Lacks {
        /// How many.
        operators: u32,
        /// What goes beyond the mandate.
        reason: String,
    },
}

impl std::fmt::Display for Objection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never(reason) => f.write_str(reason),
            Self::Lacks { operators, reason } => write!(f, "{reason}: {operators} more operators have to sign it"),
        }
    }
}

impl Mandate {
    /// The manager's key may do nothing; for a file that is there and cannot be trusted. The host's own rules go on: who
    /// damages the file must not switch protection off by that.
    pub fn nothing() -> Self {
        let alone = Alone {
            actions: Vec::new(),
            undo: false,
            halt: false,
            policy: false,
            spare_operators: false,
            ..Alone::default()
        };
        Self { alone, ..Self::default() }
    }

    /// What is wrong with its values.
    ///
    /// # Errors
    /// The first thing, with its place.
    pub fn check(&self) -> Result<(), String> {
        let lists = [self.never.block.len(), self.policy.fixed.len(), self.operators.keys.len()];
        if lists.iter().any(|length| *length > MOST) {
            return Err(format!("a list has more than {MOST} entries"));
        }
        let mut seen = BTreeSet::new();
        for one in &self.operators.keys {
            let key = public(&one.key).ok_or_else(|| {
                format!("operators.keys: the key of {} is none; sakimori operator public prints one", one.name)
            })?;
            if !seen.insert(*key.as_bytes()) {
                return Err(format!("operators.keys: the key of {} is there twice", one.name));
            }
        }
        if self.operators.needed as usize > self.operators.keys.len() {
            return Err(format!(
                "operators.needed is {}, and there are {} keys",
                self.operators.needed,
                self.operators.keys.len()
            ));
        }
        if self.alone.widest_v4 > 32 || self.alone.widest_v6 > 128 {
            return Err("alone.widest_v4 is at most 32, alone.widest_v6 at most 128".into());
        }
        Ok(())
    }

    /// How many different operators of the mandate sealed this act for this host.
    pub fn operators(&self, seals: &[Vec<u8>], host: &str, act: Act<'_>, now: Timestamp) -> u32 {
        let keys = self.operators.keys.iter().filter_map(|one| public(&one.key));
        let good = keys.filter(|key| seal::verify(key, "an operator", seals, host, act, now).is_ok());
        u32::try_from(good.count()).unwrap_or(u32::MAX)
    }

    /// Does the mandate cover this order, on this word? `None` where it does.
    pub fn objection(&self, order: &Order, authority: Authority, now: Timestamp) -> Option<Objection> {
        if let Target::Network(network) = &order.target
            && let Some(entry) = self.never.block.iter().find(|entry| entry.overlaps(network))
        {
            return Some(Objection::Never(format!("never blocked: {entry} is excepted by this host's mandate")));
        }
        if authority == Authority::Root {
            return None;
        }
        let actions = if authority == Authority::Rules { &self.alone.rules } else { &self.alone.actions };
        let reason = self.beyond(order, actions, now)?;
        self.lacks(authority, reason)
    }

    /// May the manager do this, which is not an order, with these operators?
    pub fn allows(&self, allowed: bool, operators: u32, what: &str) -> Option<Objection> {
        if allowed {
            return None;
        }
        self.lacks(Authority::Manager { operators }, format!("this host's mandate lets the manager alone not {what}"))
    }

    fn lacks(&self, authority: Authority, reason: String) -> Option<Objection> {
        let signed = match authority {
            Authority::Manager { operators } if self.operators.needed > 0 => operators,
            _ => return Some(Objection::Never(reason)),
        };
        match self.operators.needed.saturating_sub(signed) {
            0 => None,
            operators => Some(Objection::Lacks { operators, reason }),
        }
    }

    /// What of an order goes beyond what the manager's key alone may do.
    fn beyond(&self, order: &Order, actions: &[String], now: Timestamp) -> Option<String> {
        let alone = &self.alone;
        if !actions.contains(&order.action) {
            let action: String = order.action.chars().filter(|c| !c.is_control()).take(64).collect();
            return Some(format!("this host's mandate does not name the action {action}"));
        }
        if let Target::Network(network) = &order.target {
            let widest = if network.address().is_ipv4() { alone.widest_v4 } else { alone.widest_v6 };
            if network.prefix() < widest {
                return Some(format!("{network} is wider than /{widest}, the widest of this host's mandate"));
            }
        }
        let most = now.plus_secs(i64::try_from(alone.longest_seconds).unwrap_or(i64::MAX));
        let too_long = order.expiry.is_some_and(|end| end > most);
        too_long.then(|| {
            format!("it lasts longer than {} seconds, the longest of this host's mandate", alone.longest_seconds)
        })
    }

    /// A policy of the manager's as far as it may apply here, and the paths that were held. `own` is this host's own.
    pub fn hold(&self, policy: &Policy, own: &Policy) -> (Policy, Vec<String>) {
        let (Ok(mut tree), Ok(own_tree)) = (serde_json::to_value(policy), serde_json::to_value(own)) else {
            return (own.clone(), vec!["all".into()]);
        };
        let mut held = Vec::new();
        for module in &self.policy.keep_on {
            let path = format!("modules.{module}");
            if leaf(&tree, &format!("{path}.state")).is_some_and(|state| state == "off") {
                put(&mut tree, &own_tree, &path, &mut held);
            }
        }
        for path in &self.policy.fixed {
            put(&mut tree, &own_tree, path, &mut held);
        }
        for module in &self.policy.detect_only {
            let path = format!("modules.{module}.mode");
            if let Some(mode) = leaf_mut(&mut tree, &path)
                && *mode != "detect"
            {
                *mode = "detect".into();
                held.push(path);
            }
        }
        let Ok(mut policy) = serde_json::from_value::<Policy>(tree) else {
            // What is fixed here does not fit the rest.
            return (own.clone(), vec!["all".into()]);
        };
        // Where the mode is not all that makes a module act.
        let acting: Vec<&str> = prevent_mode::acting(&policy).collect();
        for module in acting.into_iter().filter(|module| self.policy.detect_only.iter().any(|one| one == module)) {
            policy = prevent_mode::only_looking(&policy, module);
            held.push(format!("modules.{module}.overrides"));
        }
        let own_sources = &own.modules.log_inspection.sources;
        policy.modules.log_inspection.sources.retain(|input| {
            let kept = input.file.as_deref().is_none_or(|file| self.may_read(file)) || own_sources.contains(input);
            if !kept {
                held.push(format!("modules.log_inspection.sources.{}", input.name));
            }
            kept
        });
        (policy, held)
    }

    /// Is this log below a folder that may be read? A way up and down again is none.
    fn may_read(&self, file: &str) -> bool {
        let below = &self.policy.logs_below;
        let plain = !std::path::Path::new(file).components().any(|part| part == std::path::Component::ParentDir);
        below.is_empty() || (plain && below.iter().any(|folder| std::path::Path::new(file).starts_with(folder)))
    }
}

/// An operator's public key.
pub fn public(text: &str) -> Option<VerifyingKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim().strip_prefix("ed25519:")?, &mut bytes).ok()?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
}

fn leaf<'a>(tree: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(tree, |at, name| at.get(name))
}

fn leaf_mut<'a>(tree: &'a mut Json, path: &str) -> Option<&'a mut Json> {
    path.split('.').try_fold(tree, |at, name| at.get_mut(name))
}

/// Takes a part of the one tree over from the other.
fn put(tree: &mut Json, own: &Json, path: &str, held: &mut Vec<String>) {
    if let (Some(to), Some(from)) = (leaf_mut(tree, path), leaf(own, path))
        && to != from
    {
        to.clone_from(from);
        held.push(path.to_owned());
    }
}

#[cfg(test)]
#[path = "mandate_tests.rs"]
mod tests;
