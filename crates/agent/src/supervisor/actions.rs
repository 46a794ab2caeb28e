//! The host's actions: the ledger of `respond` over the nftables of `host`, and what of it is still to be
//! told to the manager.
//!
//! Every state change is an event of the stream `actions`. Its batches carry the number of the ledger's newest
//! record as their position: where a crash came between ledger and spool, a start finds the ledger ahead and
//! tells the state of every action that changed since, which is the same to a reader as the lost event.

mod known;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sakimori_host::guard_facts;
use sakimori_host::processes::freeze::Freezing;
use sakimori_host::processes::kill::Killer;
use sakimori_host::quarantine::{Bounds, Quarantine};
use sakimori_model::action::Target;
use sakimori_model::policy::Policy;
use sakimori_model::{Action, Network, Order, Timestamp};
use sakimori_respond::actions::{collect_triage, freeze_processes, kill_tree};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{Changes, HostActions, Job, Report, Which};
use sakimori_respond::mandate::{Authority, Mandate};
use sakimori_respond::ports::{AddressBlocker, HostEffect, PortError};
use sakimori_respond::wide::Undo;
use serde::{Deserialize, Serialize};

use super::blocker::LazyBlocker;
use super::lasting::Way;
use super::scans::Wishes;
use super::triage;
use super::vault::{Elsewhere, Evidence, Vault};
use crate::config::Config;
use crate::enroll::Enrolled;
use crate::modules::block_address::DESCRIPTOR;

/// Facts about the surroundings that are younger than this are fresh enough for a block.
const FRESH: Duration = Duration::from_millis(200);
/// Between two looks where nothing is blocked.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A change may have been written this much before the position that is compared with, in seconds.
const SLACK: i64 = 5;
/// Most addresses of a manager that are known: the last ones.
pub const MOST_MANAGERS: usize = 8;
/// Most orders that wait for the surroundings to be known.
const MAX_HELD: usize = 10_000;

/// What is to be spooled.
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// Changed actions, each as it stands.
    pub actions: Vec<Arc<Action>>,
    /// Position of the stream after them; `None` where there is nothing to tell.
    pub position: Option<Position>,
}

/// Position of the stream `actions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Sequence of the ledger's newest record that is told.
    pub record: u64,
    /// When it was told.
    pub at: Timestamp,
}

/// Ledger, blocker and guard.
pub struct Actions {
    host: HostActions<LazyBlocker>,
    managers: Vec<std::net::IpAddr>,
    /// What an isolated host needs to reach its manager.
    way: Way,
    /// Are the surroundings known? Until then nothing is blocked, and orders wait.
    known: bool,
    held: Vec<(Order, Authority)>,
    looked: Instant,
    problem: Option<String>,
    evidence: Evidence,
    elsewhere: Elsewhere,
    wishes: Wishes,
}

impl Actions {
    /// Opens ledger and table. Nothing is done to the kernel yet.
    ///
    /// # Errors
    /// Where the ledger cannot be opened.
    pub fn open(
        config: &Config,
        (agent, enrolled): (&str, Option<&Enrolled>),
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Self> {
        let mut blocker = LazyBlocker::new(&config.block_address.table, &config.agent.state);
        // Nothing is open yet, so this cannot fail.
        let _ = blocker.set_allow(allow_of(policy));
        let dir = config.agent.state.join("ledger");
        let way = Way::of(config, enrolled);
        let managers: Vec<std::net::IpAddr> = way.literal().into_iter().collect();
        let facts = guard_facts(&[]);
        way.allow(policy);
        way.update(&managers, facts.as_ref().unwrap_or(&Surroundings::default()));
        let problem = facts.as_ref().err().map(ToString::to_string);
        let known = facts.is_ok();
        let (host, recovery) = HostActions::open(&dir, agent, policy, facts.unwrap_or_default(), blocker, now)
            .with_context(|| format!("cannot open the action ledger in {}", dir.display()))?;
        let (evidence, elsewhere) = (Evidence::default(), Elsewhere::default());
        let vault = Vault::new(&config.quarantine(), &config.given_back(), evidence.clone(), Arc::clone(&elsewhere));
        let wishes = Wishes::default();
        let mut host = host.with_vault(Box::new(vault)).with_scanner(Box::new(wishes.clone()));
        let frozen = Freezing::new(&config.agent.state.join("frozen"));
        let effects: [(&'static str, Box<dyn HostEffect>); 3] = [
            (kill_tree::ID, Box::new(Killer::new())),
            (freeze_processes::ID, Box::new(frozen)),
            (collect_triage::ID, Box::new(triage::Packages::new(config))),
        ];
        host = way.with_effects(host, config);
        for (id, mut effect) in effects {
            effect.set_policy(policy);
            host = host.with_effect(id, effect);
        }
        if recovery.torn_bytes > 0 {
            tracing::info!(bytes = recovery.torn_bytes, "the end of the action ledger was torn and is cut off");
        }
        Ok(Self {
            host,
            managers,
            way,
            known,
            held: Vec::new(),
            looked: Instant::now(),
            problem,
            evidence,
            elsewhere,
            wishes,
        })
    }

    /// Makes isolations hold that the ledger has, and nothing else.
    pub fn hold(&mut self, now: Timestamp) {
        if let Some(error) = self.host.watch(now) {
            tracing::warn!(%error, "what is in effect on this host cannot be looked after");
        }
    }

    /// Makes the kernel hold what the ledger says, and takes orders that a crash kept from the ledger.
    ///
    /// # Errors
    /// The ledger's.
    pub fn begin(
        &mut self,
        pending: Vec<Order>,
        told: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<(Told, Option<String>)> {
        let told: Option<Position> = told.and_then(|bytes| postcard::from_bytes(bytes).ok());
        let behind = told.map_or(0, |position| position.record) < self.host.head().0;
        let since = told.map_or(Timestamp::from_micros(i64::MIN), |position| position.at.plus_secs(-SLACK));
        let mut untold: Vec<Arc<Action>> = Vec::new();
        if behind {
            untold.extend(self.host.actions().filter(|action| changed_since(action, since)).cloned());
            untold.sort_by(|a, b| a.planned_at.cmp(&b.planned_at).then_with(|| a.order.id.cmp(&b.order.id)));
        }
        let (mut changes, problem) = self.host.start(now)?;
        let fresh = pending.into_iter().filter(|order| order.expiry.is_none_or(|end| end > now)).collect();
        if let Some(problem) = problem {
            self.problem = Some(problem.to_string());
        }
        changes.append(self.carry_out(fresh, Authority::Rules, now)?);
        let mut out = self.told(&changes, now);
        if !untold.is_empty() {
            let again: HashSet<&str> = changes.actions().iter().map(|action| action.order.id.as_str()).collect();
            untold.retain(|action| !again.contains(action.order.id.as_str()));
            untold.append(&mut out.actions);
            out.actions = untold;
            out.position = Some(self.position(now));
        }
        Ok((out, self.problem.clone()))
    }

    /// Carries orders of this host's own rules out.
    ///
    /// # Errors
    /// The ledger's.
    pub fn submit(&mut self, orders: Vec<Order>, now: Timestamp) -> Result<Told> {
        self.submit_as(orders, Authority::Rules, now)
    }

    /// Carries orders out on somebody's word, with surroundings that are fresh.
    ///
    /// # Errors
    /// The ledger's.
    pub fn submit_as(&mut self, orders: Vec<Order>, authority: Authority, now: Timestamp) -> Result<Told> {
        let mut changes = Changes::default();
        if self.looked.elapsed() > FRESH {
            changes.append(self.refresh(now)?);
        }
        changes.append(self.carry_out(orders, authority, now)?);
        Ok(self.told(&changes, now))
    }

    fn carry_out(&mut self, orders: Vec<Order>, authority: Authority, now: Timestamp) -> Result<Changes> {
        if !self.known {
            let room = MAX_HELD.saturating_sub(self.held.len());
            self.held.extend(orders.into_iter().take(room).map(|order| (order, authority)));
            return Ok(Changes::default());
        }
        let mut changes = self.host.submit_as(orders, authority, now)?;
        for (order, authority) in std::mem::take(&mut self.held) {
            changes.append(self.host.submit_as(vec![order], authority, now)?);
        }
        Ok(changes)
    }

    /// Begins a switch of a module to prevent, which is taken back unless it is confirmed.
    ///
    /// # Errors
    /// The ledger's.
    pub fn begin_setting(&mut self, order: Order, now: Timestamp) -> Result<Told> {
        let changes = self.host.begin_setting(order, now)?;
        Ok(self.told(&changes, now))
    }

    /// Ends what was begun for a setting.
    ///
    /// # Errors
    /// The ledger's.
    pub fn end_setting(&mut self, setting: &Target, now: Timestamp) -> Result<Told> {
        let changes = self.host.end_setting(setting, now)?;
        Ok(self.told(&changes, now))
    }

    /// Confirms a provisional action. False where there is nothing to confirm.
    ///
    /// # Errors
    /// The ledger's.
    pub fn confirm(&mut self, id: &str, by: &str, checks: &str, now: Timestamp) -> Result<(bool, Told)> {
        let (confirmed, changes) = self.host.confirm(id, by, checks, now)?;
        Ok((confirmed, self.told(&changes, now)))
    }

    /// Takes back all that is in effect, since everything is stopped.
    ///
    /// # Errors
    /// The ledger's.
    pub fn undo_by_policy(&mut self, why: &str, now: Timestamp) -> Result<Told> {
        let mut changes = self.host.undo(&Which::All, Undo::Policy(why), now)?;
        // The command may have taken the whole table away already: the kernel then agrees by itself.
        let (again, problem) = self.host.start(now)?;
        changes.append(again);
        self.problem = problem.map(|problem| problem.to_string());
        Ok(self.told(&changes, now))
    }

    /// Makes the kernel agree with the ledger.
    ///
    /// # Errors
    /// The ledger's.
    pub fn agree(&mut self, now: Timestamp) -> Result<Told> {
        let (changes, problem) = self.host.start(now)?;
        self.problem = problem.map(|problem| problem.to_string());
        Ok(self.told(&changes, now))
    }

    /// Applies a mandate.
    ///
    /// # Errors
    /// The ledger's.
    pub fn set_mandate(&mut self, mandate: Mandate, now: Timestamp) -> Result<Told> {
        let changes = self.host.set_mandate(mandate, now)?;
        Ok(self.told(&changes, now))
    }

    /// Addresses from which operators are signed in, never blocked from now on.
    ///
    /// # Errors
    /// The ledger's.
    pub fn set_operators(&mut self, addresses: Vec<std::net::IpAddr>, now: Timestamp) -> Result<Told> {
        let changes = self.host.set_operators(addresses, now)?;
        Ok(self.told(&changes, now))
    }

    /// Takes actions back on a person's word.
    ///
    /// # Errors
    /// The ledger's.
    pub fn undo(&mut self, ids: Vec<String>, by: &str, now: Timestamp) -> Result<Told> {
        let which = if ids.is_empty() { Which::All } else { Which::Ids(ids) };
        let changes = self.host.undo(&which, Undo::Person(by), now)?;
        Ok(self.told(&changes, now))
    }

    /// Takes actions back for a reason of this program's own; they may be repeated at once.
    ///
    /// # Errors
    /// The ledger's.
    pub fn undo_for(&mut self, ids: Vec<String>, reason: &str, now: Timestamp) -> Result<Told> {
        let changes = self.host.undo(&Which::Ids(ids), Undo::Policy(reason), now)?;
        Ok(self.told(&changes, now))
    }

    /// What is blocked now, read from the kernel.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn blocked(&mut self) -> Result<Vec<Network>, PortError> {
        Ok(self.host.blocker().blocked()?.into_iter().map(|entry| entry.network).collect())
    }

    /// Keeps the file that an order speaks of until it is carried out.
    pub fn keep_evidence(&self, order: &str, file: std::fs::File) {
        self.evidence.keep(order, file);
    }

    /// What the ledger wishes to be scanned.
    pub fn scan_wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// A scan is over; one that no action asked for changes nothing.
    ///
    /// # Errors
    /// The ledger's.
    pub fn scanned(&mut self, id: &str, whole: bool, report: &str, now: Timestamp) -> Result<Told> {
        let changes = self.host.scanned(id, whole, report, now)?;
        Ok(self.told(&changes, now))
    }

    /// What is to be carried out elsewhere.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        self.host.take_jobs()
    }

    /// Takes what became of something that was carried out elsewhere.
    ///
    /// # Errors
    /// The ledger's.
    pub fn reported(&mut self, report: Report, now: Timestamp) -> Result<Told> {
        let changes = self.host.reported(report, now)?;
        Ok(self.told(&changes, now))
    }

    /// A person deletes an item for good.
    ///
    /// # Errors
    /// There is none, or the ledger fails.
    pub fn delete(&mut self, config: &Config, item: &str, by: &str, now: Timestamp) -> Result<Told> {
        Quarantine::open(&config.quarantine(), Bounds::default())?.delete(item)?;
        let Some(id) = self.that_took(item).map(|action| action.order.id.clone()) else {
            return Ok(self.told(&Changes::default(), now));
        };
        let changes = self.host.deleted(&id, by, now)?;
        Ok(self.told(&changes, now))
    }

    /// The next file that is given back goes here.
    pub fn give_back_to(&self, item: &str, path: std::path::PathBuf) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = Some((item.to_owned(), path));
    }

    /// Takes all actions back, since the agent is uninstalled.
    ///
    /// # Errors
    /// The ledger's.
    pub fn end(&mut self, now: Timestamp) -> Result<()> {
        self.host.undo(&Which::All, Undo::Policy("the agent is uninstalled"), now)?;
        // Nobody is there any more who would carry them out elsewhere.
        for job in self.host.take_jobs() {
            self.host.reported(job.run(|| None), now)?;
        }
        Ok(())
    }

    /// What time brings.
    ///
    /// # Errors
    /// The ledger's.
    pub fn tick(&mut self, now: Timestamp) -> Result<Told> {
        if self.host.next_tick().is_none_or(|at| at > now) {
            return Ok(self.told(&Changes::default(), now));
        }
        let changes = self.host.tick(now)?;
        Ok(self.told(&changes, now))
    }

    /// Looks at what surrounds the host, every few seconds, or at once where something is not as it should be.
    ///
    /// # Errors
    /// The ledger's.
    pub fn look(&mut self, now: Timestamp) -> Result<Told> {
        let due = !self.known || self.problem.is_some() || self.looked.elapsed() >= LOOK_EVERY;
        let changes = if due { self.refresh(now)? } else { Changes::default() };
        Ok(self.told(&changes, now))
    }

    /// Applies a policy.
    ///
    /// # Errors
    /// The ledger's.
    pub fn set_policy(&mut self, policy: &Policy, now: Timestamp) -> Result<Told> {
        let allowed = self.host.blocker().set_allow(allow_of(policy));
        let allows = self.way.allow(policy);
        let changes = self.host.set_policy(policy, now)?;
        if allows {
            self.host.renew_isolations(now)?;
        }
        let removed = if (DESCRIPTOR.is_on)(policy) { Ok(()) } else { self.host.blocker().remove() };
        if let Err(error) = allowed.and(removed) {
            self.problem = Some(error.to_string());
        }
        Ok(self.told(&changes, now))
    }

    /// The manager's address (or the proxy's), never blocked from now on.
    ///
    /// # Errors
    /// The ledger's.
    pub fn set_manager(&mut self, address: std::net::IpAddr, now: Timestamp) -> Result<Told> {
        if self.managers.last() == Some(&address) && self.looked.elapsed() < LOOK_EVERY {
            return Ok(self.told(&Changes::default(), now));
        }
        // A manager behind several addresses: the last few.
        self.managers.retain(|known| *known != address);
        if self.managers.len() >= MOST_MANAGERS {
            self.managers.remove(0);
        }
        self.managers.push(address);
        let changes = self.refresh(now)?;
        Ok(self.told(&changes, now))
    }

    fn refresh(&mut self, now: Timestamp) -> Result<Changes> {
        self.looked = Instant::now();
        let mut surroundings: Surroundings = match guard_facts(&[]) {
            Ok(facts) => facts,
            // What was known stays; where nothing was ever known, nothing is blocked.
            Err(error) => {
                self.problem = Some(error.to_string());
                return Ok(Changes::default());
            }
        };
        self.known = true;
        surroundings.manager.extend(self.managers.iter().copied());
        if self.way.update(&self.managers, &surroundings) {
            self.host.renew_isolations(now)?;
        }
        let mut changes = self.host.set_surroundings(surroundings, now)?;
        self.hold(now);
        if self.problem.is_some() {
            // Something did not answer before: make the kernel agree with the ledger again.
            let (again, problem) = self.host.start(now)?;
            self.problem = problem.map(|problem| problem.to_string());
            changes.append(again);
        }
        if !self.held.is_empty() {
            changes.append(self.carry_out(Vec::new(), Authority::Rules, now)?);
        }
        Ok(changes)
    }

    fn position(&self, now: Timestamp) -> Position {
        Position { record: self.host.head().0, at: now }
    }

    fn told(&self, changes: &Changes, now: Timestamp) -> Told {
        let position = (!changes.is_empty()).then(|| self.position(now));
        Told { at: now, actions: changes.actions().to_vec(), position }
    }
}

fn allow_of(policy: &Policy) -> Vec<Network> {
    policy.response.allow.iter().chain(&policy.response.trusted_proxies).copied().collect()
}

fn changed_since(action: &Action, since: Timestamp) -> bool {
    let times = [Some(action.planned_at), action.done_at, action.ended_at];
    times.into_iter().flatten().any(|time| time >= since) || !action.state.is_final()
}
