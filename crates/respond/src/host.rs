//! The actions of one host: orders in, blocks in the kernel and files in quarantine, a ledger of it all, events out.
//!
//! ```text
//! submit → plan → guard → approved, running ──fsync──→ block → done ──fsync──→ events
//! undo   → undoing ──fsync──→ unblock → undone ──fsync──→ events
//! ```
//!
//! What is written before an effect says that it will happen, so after a crash [`HostActions::start`] does it
//! again; every effect is idempotent. Any number of orders share one fsync before and one after. An effect that
//! fails is tried again by [`HostActions::tick`] with growing waits; a block is given up after
//! [`crate::wide::TRIES`], taking one back never is.
//!
//! Several live actions may cover one target: the kernel keeps it until the last of them ends. An order whose
//! target is blocked already by an alert's action is fresh evidence: it prolongs that one and ends as `no_effect`.
//!
//! Files have the same life with another effect ([`files`]): they are taken and given back one by one, and stay until a
//! person wants them back. Scans ([`scans`]) run as long as their record does. All else goes through a port by the slug of
//! its action ([`carrying`]): isolations and locked users ([`lasting`]), which are looked at first and kept, processes and
//! packages of triage ([`acting`]). What takes "all" back means blocks, and what expires of the rest; files stay. What takes
//! longer than a loop may wait is handed out ([`HostActions::take_jobs`]) and reported back.
//!
//! What could lock people out (a network, an isolation, a switch to prevent) is provisional: written with a deadline at
//! which it is taken back by itself, by the kernel's own timeout too, unless [`HostActions::confirm`] came before.

mod acting;
mod admit;
mod carrying;
mod effects;
mod files;
mod index;
mod lasting;
mod scans;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use sakimori_journal::Recovery;
use sakimori_model::action::Target;
use sakimori_model::ledger::Hash;
use sakimori_model::policy::{Antimalware, BlockAddress, Mode, Policy, Response, Switch};
use sakimori_model::{Action, ActionState, Network, Order, Timestamp};

pub use crate::event::Changes;
use crate::guard::{GuardContext, MOST_OPERATORS, Rate, Surroundings, never};
use crate::ledger::{Keep, Ledger, LedgerError};
use crate::mandate::{Authority, Mandate};
use crate::ports::{AddressBlocker, FileVault, HostEffect, PathScanner, PortError};
use crate::wide::{self, Limits, Undo};
pub use carrying::{Job, Report};

/// Which actions to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that is in effect and ends by itself. Files and locked users stay: who wants them back names them.
    All,
    /// These, by id. One that is not known, or has ended, is passed over.
    Ids(Vec<String>),
}

/// The actions of one host.
pub struct HostActions<B> {
    ledger: Ledger,
    blocker: B,
    place: String,
    policy: BlockAddress,
    guard: GuardContext,
    mandate: Mandate,
    rate: Rate,
    /// Actions that are approved, running or done, by target.
    live: BTreeMap<Network, Vec<Arc<str>>>,
    live_count: usize,
    /// Ends of done actions.
    ends: BTreeSet<(Timestamp, Arc<str>)>,
    /// Effects that are still owed: running or undoing, with failures so far and the next try.
    owed: HashMap<Arc<str>, Owed>,
    /// Targets that a person unblocked, and until when they are left alone.
    graces: BTreeMap<Network, Timestamp>,
    /// Targets whose timeout in the kernel is older than the ledger's end.
    stale: BTreeSet<Network>,
    vault: Option<Box<dyn FileVault>>,
    antimalware: Antimalware,
    /// Files that were taken lately.
    taken: Rate,
    scanner: Option<Box<dyn PathScanner>>,
    /// Scans that are ordered and not over.
    scanning: BTreeSet<Arc<str>>,
    /// Scans that alerts began lately.
    scans: Rate,
    response: Response,
    /// Who carries out what is neither a block nor about files, by action.
    effects: BTreeMap<&'static str, Box<dyn HostEffect>>,
    /// Actions of those that are approved, running or done.
    lasting: BTreeSet<Arc<str>>,
    /// Actions of those whose time in the kernel is older than the ledger's end.
    renewals: BTreeSet<Arc<str>>,
    /// Users that were locked lately.
    locks: Rate,
    /// Actions about processes and packages of triage that alerts led to lately, by their slugs.
    acts: BTreeMap<&'static str, Rate>,
    /// What is to be carried out elsewhere.
    jobs: Vec<Job>,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    failures: u32,
    at: Timestamp,
    /// Is it being carried out elsewhere? Then nothing is due before the report.
    out: bool,
}

impl Owed {
    fn at(at: Timestamp) -> Self {
        Self { failures: 0, at, out: false }
    }
}

/// What one call has changed so far.
#[derive(Default)]
struct Touched {
    ids: Vec<Arc<str>>,
    seen: HashSet<Arc<str>>,
}

impl Touched {
    fn add(&mut self, id: &Arc<str>) {
        if self.seen.insert(Arc::clone(id)) {
            self.ids.push(Arc::clone(id));
        }
    }
}

impl<B: AddressBlocker> HostActions<B> {
    /// Opens the ledger in `dir`. Nothing is done to the kernel before [`HostActions::start`].
    pub fn open(
        dir: impl AsRef<Path>,
        place: &str,
        policy: &Policy,
        surroundings: Surroundings,
        blocker: B,
        now: Timestamp,
    ) -> Result<(Self, Recovery), LedgerError> {
        let (ledger, recovery) = Ledger::open(dir, Keep::default(), now)?;
        let mut host = Self {
            ledger,
            blocker,
            place: place.to_owned(),
            policy: policy.modules.block_address.clone(),
            guard: GuardContext::new(&policy.response, surroundings),
            mandate: Mandate::default(),
            rate: Rate::default(),
            live: BTreeMap::new(),
            live_count: 0,
            ends: BTreeSet::new(),
            owed: HashMap::new(),
            graces: BTreeMap::new(),
            stale: BTreeSet::new(),
            vault: None,
            antimalware: policy.modules.antimalware.clone(),
            taken: Rate::default(),
            scanner: None,
            scanning: BTreeSet::new(),
            scans: Rate::default(),
            response: policy.response.clone(),
            effects: BTreeMap::new(),
            lasting: BTreeSet::new(),
            renewals: BTreeSet::new(),
            locks: Rate::default(),
            acts: BTreeMap::new(),
            jobs: Vec::new(),
        };
        let known: Vec<Arc<Action>> = host.ledger.actions().cloned().collect();
        let minute = now.plus_secs(-60);
        let mut recent: Vec<Timestamp> = Vec::new();
        for action in known {
            let was_new = !matches!(action.state, ActionState::Refused | ActionState::NoEffect);
            if was_new && action.planned_at > minute && action.planned_at <= now {
                recent.push(action.planned_at);
            }
            host.index(&action, now);
        }
        recent.sort();
        for at in recent {
            host.rate.take(at, u32::MAX);
        }
        Ok((host, recovery))
    }

    /// Where files are taken to. Without one no file is taken.
    pub fn with_vault(self, vault: Box<dyn FileVault>) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// Who scans. Without one no path is scanned by order.
    pub fn with_scanner(self, scanner: Box<dyn PathScanner>) -> Self {
        Self { scanner: Some(scanner), ..self }
    }

    /// Carries orders of this host's own rules out, see [`HostActions::submit_as`].
    pub fn submit(&mut self, orders: Vec<Order>, now: Timestamp) -> Result<Changes, LedgerError> {
        self.submit_as(orders, Authority::Rules, now)
    }

    /// Carries orders out on somebody's word. An order whose id is known changes nothing. On an error what was written
    /// stays written, and its effects are owed: [`HostActions::tick`] goes on with them.
    pub fn submit_as(
        &mut self,
        orders: Vec<Order>,
        authority: Authority,
        now: Timestamp,
    ) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        let mut running = Vec::new();
        for order in orders {
            if self.ledger.get(&order.id).is_some() {
                continue;
            }
            if let Some(id) = self.admit(order, authority, now, &mut touched)? {
                running.push(id);
            }
        }
        self.carry_out(running, now, &mut touched)?;
        self.refresh(now)?;
        Ok(self.changes(touched, now))
    }

    /// Takes actions back before their time.
    pub fn undo(&mut self, which: &Which, by: Undo<'_>, now: Timestamp) -> Result<Changes, LedgerError> {
        let ids: Vec<Arc<str>> = match which {
            Which::All => self.live.values().flatten().cloned().chain(self.ending()).chain(self.passing()).collect(),
            Which::Ids(ids) => ids.iter().map(|id| Arc::from(id.as_str())).collect(),
        };
        let mut touched = Touched::default();
        let mut undoing = Vec::new();
        for id in ids {
            let Some(action) = self.ledger.get(&id) else { continue };
            if let Some(change) = wide::undo(action, by, now, &Limits::from(&self.policy)) {
                let state = change.state;
                self.change(change, now, &mut touched)?;
                if state == ActionState::Undoing {
                    undoing.push(id);
                }
            }
        }
        self.take_back(undoing, now, &mut touched)?;
        Ok(self.changes(touched, now))
    }

    /// Begins a change of a setting that is in effect from now on and is taken back at a deadline unless it is
    /// confirmed. What was begun for the same setting before is over. The effect is the caller's: an action of a
    /// setting that ends says that the former state applies again.
    pub fn begin_setting(&mut self, order: Order, now: Timestamp) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        if self.ledger.get(&order.id).is_none() {
            self.end_settings(&order.target, &mut touched, now)?;
            let mut action = wide::plan(order, &self.place, now, &Limits::from(&self.policy));
            (action.expires_at, action.expires_at_most) = (None, None);
            action.confirm_by = Some(wide::later(now, wide::CONFIRM_SECONDS));
            let id = action.order.id.clone();
            action.apply(&wide::to(&id, ActionState::Approved), now);
            self.begin(action, now, &mut touched)?;
            self.change(wide::to(&id, ActionState::Running), now, &mut touched)?;
            self.change(wide::to(&id, ActionState::Done), now, &mut touched)?;
            self.owed.remove(id.as_str());
            self.ledger.sync()?;
        }
        Ok(self.changes(touched, now))
    }

    /// Ends what was begun for a setting: another state of it was decided on.
    pub fn end_setting(&mut self, setting: &Target, now: Timestamp) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        self.end_settings(setting, &mut touched, now)?;
        Ok(self.changes(touched, now))
    }

    fn end_settings(&mut self, setting: &Target, touched: &mut Touched, now: Timestamp) -> Result<(), LedgerError> {
        let over: Vec<Arc<Action>> = self
            .ledger
            .actions()
            .filter(|action| action.order.target == *setting && action.state == ActionState::Done)
            .cloned()
            .collect();
        let mut ids = Vec::new();
        for action in over {
            let by = Undo::Policy("another policy came");
            if let Some(change) = wide::undo(&action, by, now, &Limits::from(&self.policy)) {
                self.change(change, now, touched)?;
                ids.push(Arc::from(action.order.id.as_str()));
            }
        }
        self.take_back(ids, now, touched)
    }

    /// Confirms a provisional action: it stays until its own end. False where there is nothing to confirm.
    pub fn confirm(
        &mut self,
        id: &str,
        by: &str,
        checks: &str,
        now: Timestamp,
    ) -> Result<(bool, Changes), LedgerError> {
        let mut touched = Touched::default();
        let change = self.ledger.get(id).and_then(|action| wide::confirm(action, by, checks, now));
        let confirmed = change.is_some();
        if let Some(change) = change {
            self.change(change, now, &mut touched)?;
            self.refresh(now)?;
            self.ledger.sync()?;
        }
        Ok((confirmed, self.changes(touched, now)))
    }

    /// Provisional actions that wait for their confirmation.
    pub fn provisional(&self) -> impl Iterator<Item = &Arc<Action>> {
        self.ledger.actions().filter(|action| action.state == ActionState::Done && action.confirm_by.is_some())
    }

    /// What time brings: ends that are reached, effects that are owed, records that are no longer needed.
    pub fn tick(&mut self, now: Timestamp) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        self.settle(now, false, &mut touched)?;
        self.refresh(now)?;
        self.graces.retain(|_, until| *until > now);
        self.ledger.sync()?;
        self.ledger.tidy(now)?;
        Ok(self.changes(touched, now))
    }

    /// The next moment at which [`HostActions::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Timestamp> {
        let end = self.ends.first().map(|(end, _)| *end);
        self.owed.values().filter(|owed| !owed.out).map(|owed| owed.at).chain(end).min()
    }

    /// After a start: makes isolations hold, finishes what a crash interrupted, and makes the kernel hold what the ledger says,
    /// with the time that is left, and nothing else.
    ///
    /// # Errors
    /// The ledger's. Where the kernel cannot be read the second value says so; the caller tries again.
    pub fn start(&mut self, now: Timestamp) -> Result<(Changes, Option<PortError>), LedgerError> {
        // Before all else: what follows may take its time, and no isolated host is open meanwhile.
        let kept = self.keep_lasting(now).err();
        let mut changes = self.enforce(now)?;
        let mut touched = Touched::default();
        self.settle(now, true, &mut touched)?;
        self.missed_files(now, &mut touched)?;
        let failure = self.reconcile(now).err().or(kept);
        changes.append(self.changes(touched, now));
        Ok((changes, failure))
    }

    /// Takes all blocks back, since the module goes off.
    pub fn stop(&mut self, now: Timestamp) -> Result<Changes, LedgerError> {
        self.unblock_all("block_address is off", now)
    }

    fn unblock_all(&mut self, why: &str, now: Timestamp) -> Result<Changes, LedgerError> {
        let blocks = self.live.values().flatten().map(|id| id.to_string()).collect();
        self.undo(&Which::Ids(blocks), Undo::Policy(why), now)
    }

    /// Applies a new policy: off or detect takes everything back, and a target that is now on the allow-list.
    pub fn set_policy(&mut self, policy: &Policy, now: Timestamp) -> Result<Changes, LedgerError> {
        self.policy = policy.modules.block_address.clone();
        self.antimalware = policy.modules.antimalware.clone();
        self.guard.allow.clone_from(&policy.response.allow);
        self.guard.trusted_proxies.clone_from(&policy.response.trusted_proxies);
        self.guard.playbooks_off.clone_from(&policy.response.playbooks_off);
        self.response.clone_from(&policy.response);
        for effect in self.effects.values_mut() {
            effect.set_policy(policy);
        }
        let mut changes = self.enforce_lasting(now)?;
        changes.append(self.enforce(now)?);
        Ok(changes)
    }

    /// Applies a mandate: what it excepts is unblocked.
    pub fn set_mandate(&mut self, mandate: Mandate, now: Timestamp) -> Result<Changes, LedgerError> {
        self.guard.excepted.clone_from(&mandate.never.block);
        self.mandate = mandate;
        self.enforce(now)
    }

    /// Addresses from which operators are signed in: one that is blocked is let in again.
    pub fn set_operators(&mut self, mut addresses: Vec<IpAddr>, now: Timestamp) -> Result<Changes, LedgerError> {
        addresses.truncate(MOST_OPERATORS);
        self.guard.operators = addresses;
        self.enforce(now)
    }

    /// Applies what surrounds the host now; a block that hits it is taken back.
    pub fn set_surroundings(&mut self, surroundings: Surroundings, now: Timestamp) -> Result<Changes, LedgerError> {
        if self.guard.surroundings == surroundings {
            return Ok(Changes::default());
        }
        self.guard.surroundings = surroundings;
        self.enforce(now)
    }

    /// An action by its id.
    pub fn action(&self, id: &str) -> Option<&Arc<Action>> {
        self.ledger.get(id)
    }

    /// All known actions, in no order.
    pub fn actions(&self) -> impl Iterator<Item = &Arc<Action>> {
        self.ledger.actions()
    }

    /// How many are approved, running or done.
    pub fn live(&self) -> usize {
        self.live_count
    }

    /// Sequence and hash of the ledger's newest record.
    pub fn head(&self) -> (u64, Hash) {
        self.ledger.head()
    }

    /// The ledger, for reading.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The port, for reading.
    pub fn blocker(&mut self) -> &mut B {
        &mut self.blocker
    }

    /// Takes back what policy or guard would not allow any more.
    fn enforce(&mut self, now: Timestamp) -> Result<Changes, LedgerError> {
        if self.policy.state == Switch::Off {
            return self.stop(now);
        }
        if self.policy.mode == Mode::Detect {
            return self.unblock_all("block_address only detects now", now);
        }
        let mut hit: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (network, ids) in &self.live {
            if let Some(reason) = never(network, &self.guard) {
                hit.entry(reason).or_default().extend(ids.iter().map(|id| id.to_string()));
            }
        }
        let mut changes = Changes::default();
        for (reason, ids) in hit {
            changes.append(self.undo(&Which::Ids(ids), Undo::Policy(&reason), now)?);
        }
        Ok(changes)
    }

    fn changes(&self, touched: Touched, now: Timestamp) -> Changes {
        Changes::new(now, touched.ids.iter().filter_map(|id| self.ledger.get(id)).cloned().collect())
    }
}
