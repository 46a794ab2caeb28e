//! Heads exchanged: this host remembers where the manager's audit log stood, and the manager where this host's ledger
//! stood. Who alters or cuts either log would have to alter the other side's memory too.
//!
//! What the manager says of an entry that is remembered must be what it said before; a fork or a cut is an event, and
//! the memory stays as it was. What the manager remembers of this ledger is looked up and answered, and kept beside the
//! ledger for `sakimori-agent actions verify`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use sakimori_model::ledger::Hash;
use sakimori_wire::ipc::ToUplink;
use serde::{Deserialize, Serialize};

use super::Supervisor;
use crate::files::write_atomically;

/// Most chains of the audit log that are remembered: the tenant's, and the installation's.
const MOST: usize = 4;

/// A chain of the audit log as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    sequence: u64,
    hash: String,
    /// What the manager said that does not fit, once it did.
    broken: Option<String>,
}

/// What is remembered of the manager's audit log.
#[derive(Debug, Default)]
pub struct Heads(BTreeMap<String, Head>);

/// What a word of the manager's is beside what is remembered.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Nothing new.
    Same,
    /// Further than before.
    Further,
    /// It contradicts: why.
    Broken(String),
}

impl Heads {
    /// As they were kept.
    pub fn load(state: &Path) -> Self {
        let kept = std::fs::read(state.join("audit-heads.json")).ok();
        Self(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    fn keep(&self, state: &Path) -> Result<()> {
        write_atomically(&state.join("audit-heads.json"), &serde_json::to_vec(&self.0)?, 0o600)
    }

    /// For the next hello: chain, number, hash.
    pub fn known(&self) -> Vec<(String, u64, Vec<u8>)> {
        let all = self.0.iter();
        all.map(|(chain, head)| (chain.clone(), head.sequence, hex::decode(&head.hash).unwrap_or_default())).collect()
    }

    /// Takes one word of the manager's.
    fn take(&mut self, chain: &str, sequence: u64, hash: &[u8]) -> Word {
        let hash = hex::encode(hash);
        let Some(known) = self.0.get_mut(chain) else {
            if self.0.len() >= MOST || hash.len() != 64 {
                return Word::Same;
            }
            self.0.insert(chain.to_owned(), Head { sequence, hash, broken: None });
            return Word::Further;
        };
        if known.broken.is_some() {
            return Word::Same;
        }
        let why = match sequence.cmp(&known.sequence) {
            std::cmp::Ordering::Equal if hash == known.hash => return Word::Same,
            std::cmp::Ordering::Equal if hash.is_empty() => {
                format!("entry {sequence} of the manager's audit log ({chain}) was there and is missing")
            }
            std::cmp::Ordering::Equal => format!("entry {sequence} of the manager's audit log ({chain}) was another"),
            std::cmp::Ordering::Less => {
                format!("the manager's audit log ({chain}) ends at {sequence} and had entry {}", known.sequence)
            }
            std::cmp::Ordering::Greater if hash.len() == 64 => {
                (known.sequence, known.hash) = (sequence, hash);
                return Word::Further;
            }
            std::cmp::Ordering::Greater => return Word::Same,
        };
        known.broken = Some(why.clone());
        Word::Broken(why)
    }
}

/// The record of this ledger that the manager saw last, as it is kept for `actions verify`.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    sequence: u64,
    hash: String,
}

/// What the manager saw of this host's ledger.
pub fn seen(state: &Path) -> Vec<(u64, Hash)> {
    let kept = std::fs::read(state.join("ledger-seen.json")).ok();
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Seen>(&bytes).ok());
    let mut hash = [0; 32];
    let fits = kept.as_ref().is_some_and(|kept| hex::decode_to_slice(&kept.hash, &mut hash).is_ok());
    kept.filter(|_| fits).map(|kept| (kept.sequence, hash)).into_iter().collect()
}

impl Supervisor {
    /// The manager says where its audit log stands, and which record of this ledger it knows.
    pub(super) fn take_heads(&mut self, audit: Vec<(String, u64, Vec<u8>)>, ledger: u64) -> Result<()> {
        let mut changed = false;
        for (chain, sequence, hash) in audit.into_iter().take(2 * MOST) {
            let word = self.heads.take(&chain, sequence, &hash);
            changed |= word != Word::Same;
            if let Word::Broken(why) = word {
                self.say("audit-broken", why, |_| {});
            }
        }
        let state = self.config.agent.state.clone();
        if changed {
            self.heads.keep(&state)?;
            self.tell_versions();
        }
        let head = self.actions.head();
        let hash = if ledger == 0 { None } else { self.actions.hash_at(ledger)? };
        let before = seen(&state);
        if ledger > head.0 && !self.cut_told {
            self.cut_told = true;
            let why = format!("the manager saw record {ledger} of this host's ledger, which ends at {}", head.0);
            self.say("ledger-broken", why, |_| {});
        } else if let Some(hash) = hash
            && before.first().is_none_or(|(sequence, _)| *sequence < ledger)
        {
            let seen = Seen { sequence: ledger, hash: hex::encode(hash) };
            write_atomically(&state.join("ledger-seen.json"), &serde_json::to_vec(&seen)?, 0o600)?;
        }
        if let Some(link) = &self.link {
            let hash = hash.map_or_else(Vec::new, |hash| hash.to_vec());
            link.send(&ToUplink::LedgerAt { sequence: ledger, hash, head });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_and_a_cut_are_found_and_the_memory_stays() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = || {
            let mut heads = Heads::default();
            assert_eq!(heads.take("default", 5, &[1; 32]), Word::Further);
            assert_eq!(heads.take("default", 5, &[1; 32]), Word::Same);
            assert_eq!(heads.take("default", 9, &[2; 32]), Word::Further);
            heads
        };
        for (sequence, hash, why) in [
            (9, vec![3; 32], "was another"),
            (9, Vec::new(), "is missing"),
            (4, vec![1; 32], "ends at 4 and had entry 9"),
        ] {
            let mut heads = fresh();
            let Word::Broken(said) = heads.take("default", sequence, &hash) else { panic!("{why}") };
            assert!(said.contains(why), "{said}");
            assert_eq!(heads.take("default", 10, &[4; 32]), Word::Same, "what comes later does not cover it up");
            heads.keep(folder.path()).unwrap();
            assert_eq!(Heads::load(folder.path()).known(), [("default".to_owned(), 9, vec![2; 32])]);
        }
        let mut heads = fresh();
        for number in 0..100 {
            heads.take(&format!("chain{number}"), 1, &[1; 32]);
        }
        assert_eq!(heads.known().len(), MOST);
    }
}
