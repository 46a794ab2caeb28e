//! The nftables blocker of `host`, opened when it is first needed: a module that is off has no table.

use std::path::{Path, PathBuf};

use sakimori_host::block_address::Blocker;
use sakimori_model::Network;
use sakimori_respond::ports::{AddressBlocker, BlockEntry, PortError};

/// Opens the table on first use, and again after a failure.
pub struct LazyBlocker {
    table: String,
    open: Option<Blocker>,
    allow: Vec<Network>,
    state: PathBuf,
}

impl LazyBlocker {
    /// Touches nothing. The state folder is where the mark that stops all answers would be.
    pub fn new(table: &str, state: &Path) -> Self {
        Self { table: table.to_owned(), open: None, allow: Vec::new(), state: state.to_owned() }
    }

    /// What the table never drops. Applied now where the table is open, else with it.
    pub fn set_allow(&mut self, allow: Vec<Network>) -> Result<(), PortError> {
        self.allow = allow;
        match &mut self.open {
            Some(open) => open.allow(&self.allow),
            None => Ok(()),
        }
    }

    /// Removes the table: the module is off.
    pub fn remove(&mut self) -> Result<(), PortError> {
        self.open = None;
        Blocker::remove(&self.table)
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Blocker) -> Result<T, PortError>) -> Result<T, PortError> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let mut opened = Blocker::open(&self.table)?;
                opened.allow(&self.allow)?;
                none.insert(opened)
            }
        };
        act(open)
    }
}

impl AddressBlocker for LazyBlocker {
    fn block(&mut self, entries: &[BlockEntry]) -> Result<(), PortError> {
        self.with(|open| open.block(entries))
    }

    fn unblock(&mut self, networks: &[Network]) -> Result<(), PortError> {
        if networks.is_empty() {
            return Ok(());
        }
        self.with(|open| open.unblock(networks))
    }

    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        self.with(Blocker::blocked)
    }

    fn halted(&mut self) -> Option<String> {
        crate::halt::read(&self.state).map(|halted| halted.words())
    }
}
