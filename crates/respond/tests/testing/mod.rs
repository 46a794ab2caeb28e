//! What tests of hosts share: a kernel that is a map, and a stop that a test can pull. Both outlive the agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sakimori_model::Network;
use sakimori_respond::ports::{AddressBlocker, BlockEntry, PortError};

/// The kernel of a host.
#[derive(Clone, Default)]
pub struct Kernel {
    /// What is blocked, each with the time that it was given, in milliseconds.
    pub held: Arc<Mutex<BTreeMap<Network, u64>>>,
    /// Who stopped all answers.
    pub halted: Arc<Mutex<Option<String>>>,
}

impl AddressBlocker for Kernel {
    fn block(&mut self, entries: &[BlockEntry]) -> Result<(), PortError> {
        self.held.lock().unwrap().extend(entries.iter().map(|entry| (entry.network, entry.timeout_ms)));
        Ok(())
    }

    fn unblock(&mut self, networks: &[Network]) -> Result<(), PortError> {
        self.held.lock().unwrap().retain(|network, _| !networks.contains(network));
        Ok(())
    }

    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        let held = self.held.lock().unwrap();
        Ok(held.iter().map(|(network, timeout_ms)| BlockEntry { network: *network, timeout_ms: *timeout_ms }).collect())
    }

    fn halted(&mut self) -> Option<String> {
        self.halted.lock().unwrap().clone()
    }
}
