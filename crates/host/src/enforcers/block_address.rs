//! Blocks addresses and networks on this host: hash sets with timeouts in an nftables table of our own (D13).
//!
//! The table holds one set for each family and prefix length in use, `block4_24` say, and one rule for each:
//! `ip saddr & 255.255.255.0 @block4_24 counter drop`. So every block is an element with its own timeout, blocks may
//! overlap, and the kernel ends each by itself, whether or not an agent runs. Sets `allow…` come first in the chain;
//! what they match is accepted *here* and still judged by everybody else's chains. The chain stands at hook
//! prerouting, priority raw, before connection tracking: a block also cuts connections that exist, and costs least.
//! It drops IPv6 neighbour discovery from a blocked neighbour too.
//!
//! A table that is there when the agent starts is adopted with its elements, and put right where rules are missing.
//! Other tables are never touched; a table of our name that holds chains or sets of somebody else is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sakimori_model::Network;
use sakimori_respond::ports::{AddressBlocker, BlockEntry, PortError};
use sakimori_sys::netlink::{Message, NetlinkError};
use sakimori_sys::nft::{Element, Family, Nft, SetInfo, Verdict, encode};

/// Name of the agent's table; the demo and probes use others.
pub const TABLE: &str = "sakimori";
/// Most networks on the allow-list.
pub const MAX_ALLOWED: usize = 10_000;
/// The one chain.
const CHAIN: &str = "block";
const CHANGED: &str = "the nftables table was changed by somebody else: putting it right";

/// Which set: what for, family, prefix length. Ordered as the rules are: allow first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct SetKey {
    block: bool,
    family: Family,
    prefix: u8,
}

impl SetKey {
    fn of(network: &Network, block: bool) -> Self {
        Self { block, family: Family::of(network.address()), prefix: network.prefix() }
    }

    fn name(self) -> String {
        let (purpose, family) =
            (if self.block { "block" } else { "allow" }, if self.family == Family::V4 { 4 } else { 6 });
        format!("{purpose}{family}_{}", self.prefix)
    }

    /// From a set of our table; `None` where it is not one of ours.
    fn read(set: &SetInfo) -> Option<Self> {
        let (block, rest) = match set.name.strip_prefix("block") {
            Some(rest) => (true, rest),
            None => (false, set.name.strip_prefix("allow")?),
        };
        let prefix = rest.split_once('_')?.1.parse().ok()?;
        let key = Self { block, family: set.family?, prefix };
        (key.name() == set.name && set.timeouts == block).then_some(key)
    }
}

/// The blocks of one table, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Blocker {
    table: String,
    nft: Nft,
    /// Sets that are in the kernel, as far as we know.
    sets: BTreeSet<SetKey>,
    /// To restore the allow-list where somebody emptied the ruleset; `None` until it was given.
    allowed: Option<BTreeSet<Network>>,
}

impl Blocker {
    /// Adopts the table, or makes it.
    ///
    /// # Errors
    /// No right to change nftables, a kernel without them, or a table of this name that is not ours.
    pub fn open(table: &str) -> Result<Self, PortError> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if table.is_empty() || table.len() > 64 || !table.bytes().all(valid) {
            return Err(PortError::permanent("a table's name has 1 to 64 letters, digits and underscores"));
        }
        let nft = Nft::open().map_err(port_error)?;
        let mut blocker = Self { table: table.to_owned(), nft, sets: BTreeSet::new(), allowed: None };
        blocker.put_right()?;
        Ok(blocker)
    }

    /// Removes the table with everything in it; without one, does nothing. Needs no agent.
    ///
    /// # Errors
    /// No right, or the table is not ours.
    pub fn remove(table: &str) -> Result<(), PortError> {
        let mut nft = Nft::open().map_err(port_error)?;
        own_sets(&mut nft, table)?;
        nft.delete_table(table).map_err(port_error)?;
        Ok(())
    }

    /// Makes the allow-list hold exactly these, in one step. What it holds is never dropped by this table.
    ///
    /// # Errors
    /// More than [`MAX_ALLOWED`] networks, or the kernel refused; the former list stays then.
    pub fn allow(&mut self, networks: &[Network]) -> Result<(), PortError> {
        let wanted: BTreeSet<Network> = networks.iter().copied().collect();
        if wanted.len() > MAX_ALLOWED {
            return Err(PortError::permanent(format!(
                "the allow-list has {} networks and {MAX_ALLOWED} is the most: gather them into larger ones",
                wanted.len()
            )));
        }
        self.put_right()?;
        if self.allowed_in_kernel()? != wanted {
            self.replace_allowed(&wanted)?;
        }
        self.allowed = Some(wanted);
        Ok(())
    }

    /// The allow-list, read from the kernel.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn allowed(&mut self) -> Result<Vec<Network>, PortError> {
        Ok(self.allowed_in_kernel()?.into_iter().collect())
    }

    fn allowed_in_kernel(&mut self) -> Result<BTreeSet<Network>, PortError> {
        let mut all = BTreeSet::new();
        for key in own_sets(&mut self.nft, &self.table)?.into_iter().filter(|key| !key.block) {
            let elements = self.nft.elements(&self.table, &key.name()).map_err(port_error)?;
            all.extend(elements.iter().filter_map(|element| Network::new(element.address, key.prefix)));
        }
        Ok(all)
    }

    /// One transaction: the chain is emptied, the allow sets are made anew, all rules come back.
    fn replace_allowed(&mut self, wanted: &BTreeSet<Network>) -> Result<(), PortError> {
        let mut by_set: BTreeMap<SetKey, Vec<Element>> = BTreeMap::new();
        for network in wanted {
            let element = Element { address: network.address(), timeout_ms: None };
            by_set.entry(SetKey::of(network, false)).or_default().push(element);
        }
        let mut changes = vec![encode::flush_chain(&self.table, CHAIN)];
        for old in self.sets.iter().filter(|key| !key.block) {
            changes.push(if by_set.contains_key(old) {
                encode::flush_set(&self.table, &old.name())
            } else {
                encode::delete_set(&self.table, &old.name())
            });
        }
        for (number, (key, elements)) in (1..).zip(&by_set) {
            if !self.sets.contains(key) {
                changes.push(self.new_set(*key, number));
            }
            changes.extend(encode::add_elements(&self.table, &key.name(), elements, false));
        }
        let blocks = self.sets.iter().filter(|key| key.block);
        let sets: BTreeSet<SetKey> = by_set.keys().chain(blocks).copied().collect();
        changes.extend(sets.iter().map(|key| self.rule(*key)));
        self.nft.apply(&changes).map_err(port_error)?;
        self.sets = sets;
        Ok(())
    }

    /// Makes table and chain where they are missing, and the rules where they are not as they should be.
    fn put_right(&mut self) -> Result<(), PortError> {
        let sets = own_sets(&mut self.nft, &self.table)?;
        let rules = self.nft.rules(&self.table, CHAIN).map_err(port_error)?;
        let mut changes = vec![encode::new_table(&self.table), encode::new_chain(&self.table, CHAIN)];
        if !in_order(&sets, &rules) {
            changes.push(encode::flush_chain(&self.table, CHAIN));
            changes.extend(sets.iter().map(|key| self.rule(*key)));
        }
        self.nft.apply(&changes).map_err(port_error)?;
        self.sets = sets;
        if let Some(allowed) = self.allowed.clone()
            && self.allowed_in_kernel()? != allowed
        {
            self.replace_allowed(&allowed)?;
        }
        Ok(())
    }

    /// Makes the sets that are missing, each with its rule behind the others.
    fn make_sets(&mut self, wanted: &BTreeSet<SetKey>) -> Result<(), PortError> {
        let missing: Vec<SetKey> = wanted.difference(&self.sets).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut changes = Vec::new();
        for (number, key) in (1..).zip(&missing) {
            changes.push(self.new_set(*key, number));
            changes.push(self.rule(*key));
        }
        self.nft.apply(&changes).map_err(port_error)?;
        self.sets.extend(missing);
        Ok(())
    }

    fn new_set(&self, key: SetKey, number: u32) -> Message {
        encode::new_set(&self.table, &key.name(), key.family, key.block, number)
    }

    fn rule(&self, key: SetKey) -> Message {
        let verdict = if key.block { Verdict::Drop } else { Verdict::Accept };
        encode::new_rule(&self.table, CHAIN, &key.name(), key.family, key.prefix, verdict)
    }

    fn try_block(&mut self, by_set: &BTreeMap<SetKey, Vec<Element>>) -> Result<(), PortError> {
        self.make_sets(&by_set.keys().copied().collect())?;
        for (key, elements) in by_set {
            self.nft.add(&self.table, &key.name(), elements).map_err(port_error)?;
        }
        Ok(())
    }

    /// Has somebody removed the table, the chain or a set since we last looked?
    fn damaged(&mut self) -> Result<bool, PortError> {
        let sets = own_sets(&mut self.nft, &self.table)?;
        let rules = self.nft.rules(&self.table, CHAIN).map_err(port_error)?;
        let chains = self.nft.chains(&self.table).map_err(port_error)?;
        Ok(sets != self.sets || chains.is_empty() || !in_order(&sets, &rules))
    }
}

impl AddressBlocker for Blocker {
    fn block(&mut self, entries: &[BlockEntry]) -> Result<(), PortError> {
        let mut by_set: BTreeMap<SetKey, Vec<Element>> = BTreeMap::new();
        for entry in entries {
            if entry.network.prefix() == 0 {
                return Err(PortError::permanent(
                    "the whole internet is not blocked: a network has a prefix of 1 or more",
                ));
            }
            let element = Element { address: entry.network.address(), timeout_ms: Some(entry.timeout_ms) };
            by_set.entry(SetKey::of(&entry.network, true)).or_default().push(element);
        }
        match self.try_block(&by_set) {
            // Somebody emptied the ruleset behind our back: make the table again, once.
            Err(error) if self.damaged()? => {
                tracing::warn!(%error, table = self.table, "{CHANGED}");
                self.put_right()?;
                self.try_block(&by_set)
            }
            other => other,
        }
    }

    fn unblock(&mut self, networks: &[Network]) -> Result<(), PortError> {
        let mut by_set: BTreeMap<SetKey, Vec<IpAddr>> = BTreeMap::new();
        for network in networks {
            by_set.entry(SetKey::of(network, true)).or_default().push(network.address());
        }
        self.sets = own_sets(&mut self.nft, &self.table)?;
        for (key, addresses) in by_set.iter().filter(|(key, _)| self.sets.contains(key)) {
            self.nft.delete(&self.table, &key.name(), addresses).map_err(port_error)?;
        }
        Ok(())
    }

    /// Also puts the table right where somebody changed it, so that what is read is in force.
    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        if self.damaged()? {
            tracing::warn!(table = self.table, "{CHANGED}");
            self.put_right()?;
        }
        let mut all = Vec::new();
        for key in self.sets.iter().filter(|key| key.block) {
            let elements = self.nft.elements(&self.table, &key.name()).map_err(port_error)?;
            all.extend(elements.iter().filter_map(|element| {
                let network = Network::new(element.address, key.prefix)?;
                Some(BlockEntry { network, timeout_ms: element.timeout_ms.unwrap_or(u64::MAX).max(1) })
            }));
        }
        Ok(all)
    }
}

/// Does every set have its one rule, all allow rules before all block rules?
fn in_order(sets: &BTreeSet<SetKey>, rules: &[String]) -> bool {
    let mut names: Vec<String> = sets.iter().map(|key| key.name()).collect();
    let mut found = rules.to_vec();
    names.sort_unstable();
    found.sort_unstable();
    names == found && rules.is_sorted_by_key(|name| name.starts_with("block"))
}

/// The sets of our table.
fn own_sets(nft: &mut Nft, table: &str) -> Result<BTreeSet<SetKey>, PortError> {
    let foreign = |what: &str, name: &str| {
        PortError::permanent(format!(
            "table inet {table} holds the {what} {name}, which is not of Sakimori: name another table for Sakimori"
        ))
    };
    let chains = nft.chains(table).map_err(port_error)?;
    if let Some(chain) = chains.iter().find(|chain| *chain != CHAIN) {
        return Err(foreign("chain", chain));
    }
    let sets = nft.sets(table).map_err(port_error)?;
    sets.iter().map(|set| SetKey::read(set).ok_or_else(|| foreign("set", &set.name))).collect()
}

/// What a person can mend, and what may go away by itself.
pub(super) fn port_error(error: NetlinkError) -> PortError {
    match error.errno() {
        Some(libc::EPERM) => PortError::permanent(format!("{error}; run the agent as root or give it CAP_NET_ADMIN")),
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL) => PortError::permanent(
            format!("{error}; this kernel may lack nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)"),
        ),
        Some(libc::EEXIST) => PortError::permanent(format!(
            "{error}; something of this name and another kind is there: name another table for Sakimori"
        )),
        _ => PortError::transient(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sets_are_read_back_and_others_are_not_ours() {
        for (text, name) in [("192.0.2.0/24", "block4_24"), ("2001:db8::/64", "block6_64"), ("192.0.2.1", "block4_32")]
        {
            let network: Network = text.parse().unwrap();
            let key = SetKey::of(&network, true);
            assert_eq!(key.name(), name);
            let set = SetInfo { name: name.to_owned(), family: Some(key.family), timeouts: true };
            assert_eq!(SetKey::read(&set), Some(key));
            assert_eq!(SetKey::read(&SetInfo { timeouts: false, ..set }), None);
        }
        for name in ["block4_024", "block5_24", "block4", "mine", "block6_24", "block4_24x"] {
            let set = SetInfo { name: name.to_owned(), family: Some(Family::V4), timeouts: true };
            assert_eq!(SetKey::read(&set), None, "{name}");
        }
    }

    #[test]
    fn rules_are_in_order_when_allow_comes_first_and_each_set_has_one() {
        let key = |text: &str, block| SetKey::of(&text.parse().unwrap(), block);
        let sets = BTreeSet::from([key("192.0.2.1", true), key("192.0.2.1", false), key("2001:db8::/64", true)]);
        let rules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(in_order(&sets, &rules(&["allow4_32", "block6_64", "block4_32"])));
        assert!(!in_order(&sets, &rules(&["block4_32", "allow4_32", "block6_64"])));
        assert!(!in_order(&sets, &rules(&["allow4_32", "block4_32"])));
        assert!(!in_order(&sets, &rules(&["allow4_32", "block4_32", "block4_32", "block6_64"])));
        assert!(!in_order(&sets, &rules(&["allow4_32", "block4_32", "block6_64", ""])));
        assert!(in_order(&BTreeSet::new(), &[]));
    }
}
