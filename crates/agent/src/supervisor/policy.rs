//! The policy in effect: the last one of the manager, kept in `policy.json` for a start without it, or this
//! host's own over the default one. A number never goes back.

use std::path::Path;

use anyhow::{Context, Result, bail};
use sakimori_model::policy::Policy;
use serde::{Deserialize, Serialize};

use super::Supervisor;
use crate::config::Config;
use crate::files::write_atomically;

/// A policy and its number; 0 for this host's own.
#[derive(Debug)]
pub struct InEffect {
    /// It.
    pub policy: Policy,
    /// Its number.
    pub number: u64,
    /// What was wrong with the one on disk.
    pub problem: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    number: u64,
    policy: Policy,
}

impl InEffect {
    /// The one on disk, or this host's own.
    ///
    /// # Errors
    /// Where this host's own layer is wrong.
    pub fn load(config: &Config) -> Result<Self> {
        let own = |problem| Ok(Self { policy: config.local_policy()?, number: 0, problem });
        match std::fs::read(config.agent.state.join("policy.json")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => own(None),
            Err(error) => own(Some(format!("cannot read policy.json: {error}; the host's own policy applies"))),
            Ok(bytes) => match serde_json::from_slice::<Kept>(&bytes) {
                Ok(kept) => Ok(Self { policy: kept.policy, number: kept.number, problem: None }),
                Err(error) => own(Some(format!("policy.json is damaged: {error}; the host's own policy applies"))),
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
        let policy: Policy =
            serde_json::from_slice(json).with_context(|| format!("policy {number} is not understood"))?;
        let mut names: Vec<&str> = policy.modules.log_inspection.sources.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            bail!("policy {number} has two inputs named {}", twice.first().unwrap_or(&""));
        }
        let kept = Kept { number, policy };
        write_atomically(&state.join("policy.json"), &serde_json::to_vec(&kept)?, 0o600)?;
        self.policy = kept.policy;
        self.number = number;
        Ok(true)
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
        match self.policy.take(number, json, &self.config.agent.state) {
            Ok(false) => Ok(()),
            Err(error) => {
                self.say("policy-refused", format!("{error:#}"), |_| {});
                Ok(())
            }
            Ok(true) => {
                self.say("policy-applied", format!("policy {number} is in effect"), |_| {});
                let events = self.actions.set_policy(&self.policy.policy, self.now())?;
                self.spool_actions(events)?;
                self.apply_logs()?;
                self.apply_antimalware();
                self.apply_intrusion_prevention();
                if let Some(link) = &mut self.link {
                    link.versions(number, self.bundles.number(), &self.actions.head());
                }
                self.report()
            }
        }
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
        let again = InEffect::load(&config).expect("kept");
        assert_eq!((again.number, again.policy.modules.block_address.expiry_seconds), (3, 7));
    }
}
