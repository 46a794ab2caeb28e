//! The policy in effect: the last one of the manager, kept in `policy.json` for a start without it, or this
//! host's own over the default one. A number never goes back. What applies is what was sent, as far as the host's
//! mandate lets it, and without what was taken back since nothing confirmed it. What a later manager says and this version
//! does not know is passed over, told, and kept for the version that knows it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use sakimori_model::policy::{self, Policy};
use sakimori_respond::actions::prevent_mode;
use sakimori_respond::mandate::Mandate;
use serde::{Deserialize, Serialize};

use super::Supervisor;
use crate::config::Config;
use crate::files::write_atomically;

/// A policy and its number; 0 for this host's own.
#[derive(Debug)]
pub struct InEffect {
    /// What applies.
    pub policy: Policy,
    /// What was sent.
    sent: Policy,
    /// This host's own.
    own: Policy,
    /// Its number.
    pub number: u64,
    /// Paths that were sent and do not apply.
    pub held: Vec<String>,
    /// Keys that this version does not know.
    pub unknown: Vec<String>,
    /// What was wrong with the one on disk.
    pub problem: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    number: u64,
    /// As it was sent.
    policy: Box<serde_json::value::RawValue>,
}

fn read(json: &[u8]) -> Result<(u64, Policy, Vec<String>)> {
    let kept: Kept = serde_json::from_slice(json)?;
    let (policy, unknown) = policy::read(kept.policy.get().as_bytes())?;
    Ok((kept.number, policy, unknown))
}

impl InEffect {
    /// The one on disk, or this host's own.
    ///
    /// # Errors
    /// Where this host's own layer is wrong.
    pub fn load(config: &Config) -> Result<Self> {
        let own = config.local_policy()?;
        let sent = |sent: Policy, number, unknown, problem| {
            Ok(Self { policy: sent.clone(), sent, own: own.clone(), number, held: Vec::new(), unknown, problem })
        };
        let own = |problem| sent(own.clone(), 0, Vec::new(), problem);
        match std::fs::read(config.agent.state.join("policy.json")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => own(None),
            Err(error) => own(Some(format!("cannot read policy.json: {error}; the host's own policy applies"))),
            Ok(bytes) => match read(&bytes) {
                Ok((number, policy, unknown)) => sent(policy, number, unknown, None),
                Err(error) => own(Some(format!("policy.json is damaged: {error:#}; the host's own policy applies"))),
            },
        }
    }

    /// Takes one of the manager's. False where it is the one in effect.
    ///
    /// # Errors
    /// Where it is older or not understood; the one in effect stays.
    pub fn take(&mut self, number: u64, json: &[u8], state: &Path) -> Result<bool> {
        if number == self.number {
            return Ok(false);
        }
        if number < self.number {
            bail!("policy {number} is older than {}, which is in effect", self.number);
        }
        let (policy, unknown) = policy::read(json).with_context(|| format!("policy {number} is not understood"))?;
        let mut names: Vec<&str> = policy.modules.log_inspection.sources.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            bail!("policy {number} has two inputs named {}", twice.first().unwrap_or(&""));
        }
        let kept = Kept { number, policy: serde_json::from_slice(json)? };
        write_atomically(&state.join("policy.json"), &serde_json::to_vec(&kept)?, 0o600)?;
        self.policy = policy.clone();
        self.sent = policy;
        self.unknown = unknown;
        self.number = number;
        Ok(true)
    }

    /// Computes what applies: the mandate holds what the manager sent, never what root at this host wrote; a module
    /// whose switch to prevent was taken back only looks, and while all answers are stopped all do.
    pub fn apply(&mut self, mandate: &Mandate, is_reverted: impl Fn(&str) -> bool, halted: bool) {
        (self.policy, self.held) = match self.number {
            0 => (self.sent.clone(), Vec::new()),
            _ => mandate.hold(&self.sent, &self.own),
        };
        let acting: Vec<&str> = prevent_mode::acting(&self.policy).collect();
        for module in acting.into_iter().filter(|module| is_reverted(module)) {
            self.policy = prevent_mode::only_looking(&self.policy, module);
            self.held.push(format!("modules.{module}.mode"));
        }
        self.held.sort();
        self.held.dedup();
        if halted {
            for (module, _) in prevent_mode::MODULES {
                self.policy = prevent_mode::only_looking(&self.policy, module);
            }
        }
    }
}

/// The id of an agent that is not enrolled, made once.
///
/// # Errors
/// Where it cannot be kept.
pub fn own_id(state: &Path) -> Result<String> {
    let path = state.join("agent-id");
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let id = sakimori_model::id::row_id();
    write_atomically(&path, id.as_bytes(), 0o600)?;
    Ok(id)
}

impl Supervisor {
    /// A policy came down.
    pub(super) fn take_policy(&mut self, number: u64, json: &[u8]) -> Result<()> {
        let before = self.policy.policy.clone();
        match self.policy.take(number, json, &self.config.agent.state) {
            Ok(false) => Ok(()),
            Err(error) => {
                self.say("policy-refused", format!("{error:#}"), |_| {});
                Ok(())
            }
            Ok(true) => {
                self.begin_switches(&before, number)?;
                self.apply_policy()?;
                let held = match self.policy.held.as_slice() {
                    [] => String::new(),
                    held => format!("; this host does not let it change {}", held.join(", ")),
                };
                let unknown = match self.policy.unknown.as_slice() {
                    [] => String::new(),
                    unknown => format!("; this version of the agent does not know {}", unknown.join(", ")),
                };
                self.say("policy-applied", format!("policy {number} is in effect{held}{unknown}"), |_| {});
                self.tell_versions();
                self.report()
            }
        }
    }

    /// A module that acts under the new policy and did not before does so provisionally.
    fn begin_switches(&mut self, before: &Policy, number: u64) -> Result<()> {
        let now = self.now();
        self.policy.apply(self.power.mandate(), |_| false, false);
        let acting: Vec<&str> = prevent_mode::acting(&self.policy.policy).collect();
        let switched = prevent_mode::switched(before, &self.policy.policy);
        for module in prevent_mode::MODULES.iter().map(|(name, _)| *name) {
            let told = if switched.contains(&module) {
                self.actions.begin_setting(prevent_mode::order(module, number, &self.agent), now)?
            } else if !acting.contains(&module) {
                self.actions.end_setting(&prevent_mode::setting(module), now)?
            } else {
                continue;
            };
            self.spool_actions(told)?;
        }
        Ok(())
    }

    /// Makes everything follow what applies now.
    pub(super) fn apply_policy(&mut self) -> Result<()> {
        let actions = &self.actions;
        let halted = self.power.halted.is_some();
        self.policy.apply(self.power.mandate(), |module| actions.is_reverted(module), halted);
        let told = self.actions.set_policy(&self.policy.policy, self.now())?;
        self.spool_actions(told)?;
        self.apply_logs()?;
        self.apply_antimalware();
        self.apply_intrusion_prevention();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_only_grow_and_what_is_wrong_changes_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut config = Config::default();
        config.agent.state = folder.path().to_owned();
        let mut policy = InEffect::load(&config).expect("default");
        assert_eq!(policy.number, 0);
        let mut changed = policy.policy.clone();
        changed.modules.block_address.expiry_seconds = 7;
        let json = serde_json::to_vec(&changed).expect("json");
        assert!(policy.take(3, &json, folder.path()).expect("newer"));
        assert!(!policy.take(3, &json, folder.path()).expect("the same"));
        assert!(policy.take(2, &json, folder.path()).is_err());
        assert!(policy.take(4, json!({"modules": 1}).to_string().as_bytes(), folder.path()).is_err());
        let mut later: serde_json::Value = serde_json::from_slice(&json).expect("json");
        later["modules"]["decoys"] = json!({"state": "on"});
        let again = InEffect::load(&config).expect("kept");
        assert_eq!((again.number, again.policy.modules.block_address.expiry_seconds), (3, 7));
        assert!(policy.take(5, later.to_string().as_bytes(), folder.path()).expect("newer"));
        assert_eq!(policy.unknown, ["modules.decoys"]);
        let again = InEffect::load(&config).expect("kept");
        assert_eq!((again.number, again.unknown, again.problem), (5, vec!["modules.decoys".to_owned()], None));
        let text = std::fs::read_to_string(folder.path().join("policy.json")).expect("kept");
        assert!(text.contains("decoys"), "kept as it was sent, for the version that knows it");
    }
}
