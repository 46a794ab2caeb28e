//! Cuts this host off from all but its manager, in a table of its own ([`sakimori_sys::nft::isolate`]).
//!
//! The table comes and goes whole, in one transaction each way, so taking it away leaves the ruleset as it was. What may
//! pass is what was known when the isolation was ordered (the ledger keeps it, for a start without a network) and, of the
//! manager alone, what became known since: one that moved to another address of its name. Name servers are those of the order:
//! whoever edits resolv.conf(5) on an isolated host opens no way out. An isolation that would lose the manager at once, since no
//! address of it is known, is refused.
//!
//! What it does not see: frames that never become packets of this host's (a switch between two of its containers), and
//! programs that write to the device themselves, which only root can.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sakimori_model::{Action, Network};
use sakimori_respond::actions::isolate_host;
use sakimori_respond::ports::{Applied, HostEffect, Look, PortError};
use sakimori_sys::nft::Nft;
use sakimori_sys::nft::isolate::{self, MAX_NAMED, Plan};
use serde::{Deserialize, Serialize};

use super::block_address::port_error;

/// A time in the kernel that is off by no more than this is left alone, in milliseconds.
const SLACK_MS: u64 = 2_000;

/// What an isolated host needs to reach its manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// Is there a manager? A host without one has none to lose.
    pub managed: bool,
    /// Its addresses and port, or those of the proxy on the way to it.
    pub manager: BTreeSet<SocketAddr>,
    /// Name servers, where the manager is known by a name; else none.
    pub resolvers: BTreeSet<IpAddr>,
    /// Networks that the policy lets pass.
    pub allow: Vec<Network>,
}

/// The ways as they are now, shared with whoever learns of them.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Ways>>);

impl Known {
    /// Changes them. True where they are others now.
    pub fn update(&self, change: impl FnOnce(&mut Ways)) -> bool {
        let mut ways = self.lock();
        let before = ways.clone();
        change(&mut ways);
        *ways != before
    }

    fn lock(&self) -> MutexGuard<'_, Ways> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The effect of `isolate_host`, in the network namespace of the thread that calls it.
#[derive(Debug)]
pub struct Isolation {
    table: String,
    known: Known,
}

impl Isolation {
    /// With a table of this name, which is this effect's alone. Nothing is touched yet.
    pub fn new(table: &str, known: Known) -> Self {
        Self { table: table.to_owned(), known }
    }

    /// Takes a table of this name away; without one, does nothing. Needs no agent.
    ///
    /// # Errors
    /// No right, or the table is not ours.
    pub fn remove(table: &str) -> Result<(), PortError> {
        let mut nft = Nft::open().map_err(port_error)?;
        own(&mut nft, table)?;
        nft.delete_table(table).map_err(port_error)?;
        match nft.has_table(table).map_err(port_error)? {
            false => Ok(()),
            true => Err(PortError::transient(format!("table inet {table} is there again"))),
        }
    }

    /// Reads whether it is in effect: `None` where it is, else what is not so.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn verify(&self, action: &Action) -> Result<Option<String>, PortError> {
        let plan = self.plan(action, None)?;
        let mut nft = Nft::open().map_err(port_error)?;
        if !nft.isolates(&self.table, &plan).map_err(port_error)? {
            return Ok(Some(format!("the rules of table inet {} are not as they were made", self.table)));
        }
        Ok(match nft.isolated_ms(&self.table).map_err(port_error)? {
            Some(_) => None,
            None => Some(format!("the time of table inet {} is up", self.table)),
        })
    }

    /// What may pass for an action: what its record says, and where the manager is known to be now.
    fn plan(&self, action: &Action, left_ms: Option<u64>) -> Result<Plan, PortError> {
        let former = action.former.as_deref().unwrap_or("{}");
        let then: Ways = serde_json::from_str(former)
            .map_err(|error| PortError::permanent(format!("the record of the isolation is damaged: {error}")))?;
        let allowed = isolate_host::read(&action.order).map_err(PortError::permanent)?;
        let now = self.known.lock().clone();
        // What is known now first: where there are too many, the old ones are left out.
        let both = |now: Vec<SocketAddr>, then: &BTreeSet<SocketAddr>| {
            let more = then.iter().filter(|one| !now.contains(one)).copied().collect::<Vec<_>>();
            now.into_iter().chain(more).take(MAX_NAMED).collect::<Vec<_>>()
        };
        let allow: BTreeSet<Network> = allowed.into_iter().chain(now.allow.iter().copied()).collect();
        Ok(Plan {
            manager: both(now.manager.iter().copied().collect(), &then.manager),
            resolvers: then.resolvers.iter().copied().filter(is_elsewhere).take(MAX_NAMED).collect(),
            allow: allow.iter().map(|network| (network.address(), network.prefix())).take(MAX_NAMED).collect(),
            left_ms: left_ms.unwrap_or(1),
        })
    }
}

impl HostEffect for Isolation {
    fn look(&mut self, action: &Action) -> Result<Look, PortError> {
        let ways = self.known.lock().clone();
        if ways.managed && ways.manager.is_empty() {
            return Ok(Look::Refused(
                "no address of the manager is known yet: isolated now, this host would lose it".to_owned(),
            ));
        }
        let mut nft = Nft::open().map_err(port_error)?;
        own(&mut nft, &self.table)?;
        let allowed = isolate_host::read(&action.order).map_err(PortError::permanent)?;
        let would = vec![
            "drop all packets in, out and through, of connections that are open too".to_owned(),
            format!("let pass: loopback, DHCP, neighbours, the manager at {}", listed(ways.manager.iter())),
            format!("let pass by order and policy: {}", listed(allowed.iter().chain(&ways.allow))),
        ];
        let former = serde_json::to_string(&ways).map_err(|error| PortError::permanent(error.to_string()))?;
        Ok(Look::Ready { former, would })
    }

    fn apply(&mut self, action: &Action, left_ms: Option<u64>) -> Result<Applied, PortError> {
        let plan = self.plan(action, left_ms)?;
        let mut nft = Nft::open().map_err(port_error)?;
        own(&mut nft, &self.table)?;
        nft.apply(&isolate::install(&self.table, &plan)).map_err(port_error)?;
        match self.verify(action)? {
            None => Ok(Applied::Done { former: None, remark: None }),
            Some(what) => Err(PortError::transient(format!("it did not take effect: {what}"))),
        }
    }

    fn undo(&mut self, _action: &Action) -> Result<Option<String>, PortError> {
        Self::remove(&self.table).map(|()| None)
    }

    fn keep(&mut self, live: &[(&Action, Option<u64>)]) -> Result<(), PortError> {
        let Some((action, left_ms)) = live.last() else {
            // A table whose time is up cuts nobody off, but it is ours and stays only while its action does. Who may not
            // look made none.
            let there = Nft::open().and_then(|mut nft| nft.has_table(&self.table));
            return if matches!(there, Ok(true)) { Self::remove(&self.table) } else { Ok(()) };
        };
        let mut nft = Nft::open().map_err(port_error)?;
        let right = nft.isolates(&self.table, &self.plan(action, *left_ms)?).map_err(port_error)?;
        let there = nft.isolated_ms(&self.table).map_err(port_error)?;
        let in_time = there.zip(*left_ms).is_some_and(|(there, wanted)| there.abs_diff(wanted) <= SLACK_MS);
        if right && in_time {
            return Ok(());
        }
        if !right {
            tracing::warn!(table = self.table, "the host is not isolated as the ledger says: putting it right");
        }
        self.apply(action, *left_ms).map(drop)
    }
}

/// Can a name server be there that is not this host itself? One on the loopback device passes by the rule for that, and those
/// that it asks are among the others. A server on the link is as good as any.
fn is_elsewhere(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !broadcast
}

fn listed<T: ToString>(all: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = all.map(|one| one.to_string()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// A table of this name that holds something else is somebody else's.
fn own(nft: &mut Nft, table: &str) -> Result<(), PortError> {
    let chains = nft.chains(table).map_err(port_error)?;
    match chains.iter().find(|chain| !isolate::CHAINS.iter().any(|(own, _)| own == chain)) {
        Some(chain) => Err(PortError::permanent(format!(
            "table inet {table} holds the chain {chain}, which is not of Sakimori: name another table for Sakimori"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_elsewhere_and_may_be_on_the_link() {
        let is = |text: &str| is_elsewhere(&text.parse().unwrap());
        for own in ["127.0.0.53", "::1", "0.0.0.0", "::", "224.0.0.251", "ff02::fb", "255.255.255.255"] {
            assert!(!is(own), "{own}");
        }
        for server in ["192.0.2.53", "2001:db8::53", "169.254.169.253", "fe80::1"] {
            assert!(is(server), "{server}");
        }
    }
}
