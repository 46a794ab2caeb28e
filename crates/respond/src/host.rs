//! The actions of one host: orders in, blocks in the kernel, a ledger of it all, events out.
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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use sakimori_journal::Recovery;
use sakimori_model::ledger::{Change, Hash, Step};
use sakimori_model::policy::{BlockAddress, Mode, Policy, Switch};
use sakimori_model::{Action, ActionState, Network, Order, Timestamp};

pub use crate::event::Changes;
use crate::guard::{GuardContext, Rate, Surroundings, Verdict, judge, never};
use crate::ledger::{Keep, Ledger, LedgerError, step};
use crate::ports::{AddressBlocker, BlockEntry, PortError};
use crate::wide::{self, Limits, Undo};

/// A kernel timeout that is off by no more than this is left alone, in milliseconds.
const TIMEOUT_SLACK_MS: u64 = 2_000;

/// Which actions to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that are in effect.
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
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    failures: u32,
    at: Timestamp,
}

/// What one call has changed so far.
#[derive(Default)]
struct Touched {
    ids: Vec<Arc<str>>,
    seen: std::collections::HashSet<Arc<str>>,
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
            rate: Rate::default(),
            live: BTreeMap::new(),
            live_count: 0,
            ends: BTreeSet::new(),
            owed: HashMap::new(),
            graces: BTreeMap::new(),
            stale: BTreeSet::new(),
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

    /// Carries orders out. An order whose id is known changes nothing. On an error what was written stays written,
    /// and its effects are owed: [`HostActions::tick`] goes on with them.
    pub fn submit(&mut self, orders: Vec<Order>, now: Timestamp) -> Result<Changes, LedgerError> {
        let mut touched = Touched::default();
        let mut running = Vec::new();
        for order in orders {
            if self.ledger.get(&order.id).is_some() {
                continue;
            }
            if let Some(id) = self.admit(order, now, &mut touched)? {
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
            Which::All => self.live.values().flatten().cloned().collect(),
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
        self.owed.values().map(|owed| owed.at).chain(end).min()
    }

    /// After a start: finishes what a crash interrupted, and makes the kernel hold what the ledger says, with the
    /// time that is left, and nothing else.
    ///
    /// # Errors
    /// The ledger's. Where the kernel cannot be read the second value says so; the caller tries again.
    pub fn start(&mut self, now: Timestamp) -> Result<(Changes, Option<PortError>), LedgerError> {
        let mut changes = self.enforce(now)?;
        let mut touched = Touched::default();
        self.settle(now, true, &mut touched)?;
        let failure = self.reconcile(now).err();
        changes.append(self.changes(touched, now));
        Ok((changes, failure))
    }

    /// Takes everything back, since the module goes off or the agent is uninstalled.
    pub fn stop(&mut self, now: Timestamp) -> Result<Changes, LedgerError> {
        self.undo(&Which::All, Undo::Policy("block_address is off"), now)
    }

    /// Applies a new policy: off or detect takes everything back, and a target that is now on the allow-list.
    pub fn set_policy(&mut self, policy: &Policy, now: Timestamp) -> Result<Changes, LedgerError> {
        self.policy = policy.modules.block_address.clone();
        self.guard.allow.clone_from(&policy.response.allow);
        self.guard.trusted_proxies.clone_from(&policy.response.trusted_proxies);
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

    /// The port, for reading.
    pub fn blocker(&mut self) -> &mut B {
        &mut self.blocker
    }

    /// Plans and judges one order and writes what comes of it, not yet durable. The id where it is to run.
    fn admit(&mut self, order: Order, now: Timestamp, touched: &mut Touched) -> Result<Option<Arc<str>>, LedgerError> {
        let action = wide::plan(order, &self.place, now, &Limits::from(&self.policy));
        let id: Arc<str> = Arc::from(action.order.id.as_str());
        let mut absorbed = None;
        let verdict = self.verdict(&action, now, &mut absorbed);
        let (state, reason) = match verdict {
            Verdict::Allowed => (ActionState::Approved, None),
            Verdict::Refused(reason) => (ActionState::Refused, Some(reason)),
            Verdict::NoEffect(reason) => (ActionState::NoEffect, Some(reason)),
        };
        if let Some(change) = absorbed {
            self.change(change, now, touched)?;
        }
        let mut action = action;
        action.apply(&Change { reason, ..wide::to(&id, state) }, now);
        self.begin(action, now, touched)?;
        if state != ActionState::Approved {
            return Ok(None);
        }
        self.change(wide::to(&id, ActionState::Running), now, touched)?;
        Ok(Some(id))
    }

    fn verdict(&mut self, action: &Action, now: Timestamp, absorbed: &mut Option<Change>) -> Verdict {
        let order = &action.order;
        let verdict = judge(order, &self.guard);
        let (Verdict::Allowed, Some(network)) = (&verdict, wide::network(order)) else { return verdict };
        if self.policy.state == Switch::Off {
            return Verdict::NoEffect("no effect: block_address is off".to_owned());
        }
        if wide::is_over(action, now) {
            return Verdict::Refused("its time was up before it could be carried out".to_owned());
        }
        if self.policy.mode == Mode::Detect {
            return Verdict::NoEffect(format!("detect mode: would block {network}"));
        }
        if let Some((target, until)) = self.grace(&network, now).filter(|_| !wide::by_hand(&order.cause)) {
            return Verdict::Refused(format!("a person unblocked {target}: not blocked again before {until}"));
        }
        if let Some(other) = self.covering(&network).filter(|_| !wide::by_hand(&order.cause)) {
            *absorbed = action.expires_at.and_then(|end| wide::prolong(&other, end));
            let end = absorbed.as_ref().and_then(|change| change.expires_at).or(other.expires_at);
            let end = end.map(|end| format!(", until {end}")).unwrap_or_default();
            return Verdict::NoEffect(format!("already blocked by action {}{end}", other.order.id));
        }
        if self.live_count >= self.policy.most as usize {
            return Verdict::Refused(format!("the most blocks at a time, {}, are in effect", self.policy.most));
        }
        if !self.rate.take(now, self.policy.most_per_minute) {
            return Verdict::Refused(format!(
                "the most new blocks a minute, {}, were made",
                self.policy.most_per_minute
            ));
        }
        Verdict::Allowed
    }

    /// A target that a person unblocked, that shares an address with this network and is still to be left alone.
    fn grace(&self, network: &Network, now: Timestamp) -> Option<(Network, Timestamp)> {
        let hit = |(target, until): (&Network, &Timestamp)| (*until > now).then_some((*target, *until));
        let wider = (0..=network.prefix())
            .filter_map(|prefix| Network::new(network.address(), prefix))
            .filter_map(|wider| self.graces.get_key_value(&wider))
            .find_map(hit);
        // Networks sort by their first address, so those within this one follow each other.
        wider.or_else(|| {
            let within = self.graces.range(network..).take_while(|(target, _)| network.contains(target.address()));
            within.filter(|(target, _)| target.overlaps(network)).find_map(hit)
        })
    }

    /// A live action of an alert with exactly this target.
    fn covering(&self, network: &Network) -> Option<Arc<Action>> {
        let ids = self.live.get(network)?;
        let mut actions = ids.iter().filter_map(|id| self.ledger.get(id));
        actions.find(|action| action.state != ActionState::Undoing).cloned()
    }

    /// Runs actions whose running state is written: fsync, block, done, fsync.
    fn carry_out(&mut self, ids: Vec<Arc<str>>, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        for id in &ids {
            self.owed.entry(Arc::clone(id)).or_insert(Owed { failures: 0, at: now });
        }
        if ids.is_empty() {
            return self.ledger.sync();
        }
        self.ledger.sync()?;
        let targets: Vec<(Arc<str>, Network)> = self.targets(ids);
        let mut work = vec![targets];
        while let Some(mut group) = work.pop() {
            let entries = self.entries(group.iter().map(|(_, network)| *network), now);
            let outcome = self.blocker.block(&entries);
            match outcome {
                Ok(()) => {
                    for (id, _) in group {
                        self.owed.remove(&id);
                        self.change(wide::to(&id, ActionState::Done), now, touched)?;
                    }
                }
                // One entry that the kernel refuses must not fail the others: find it by halving.
                Err(PortError::Permanent { .. }) if group.len() > 1 => {
                    let half = group.split_off(group.len() / 2);
                    work.extend([half, group]);
                }
                Err(error) => {
                    for (id, _) in group {
                        self.failed(&id, &error, now, touched)?;
                    }
                }
            }
        }
        self.ledger.sync()
    }

    fn failed(
        &mut self,
        id: &Arc<str>,
        error: &PortError,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        let failures = self.owed.get(id).map_or(0, |owed| owed.failures) + 1;
        let (again, asked) = match error {
            PortError::Transient { retry_after, .. } => (true, *retry_after),
            PortError::Permanent { .. } => (false, None),
        };
        match wide::retry_at(failures, now, asked).filter(|_| again) {
            Some(at) => {
                self.owed.insert(Arc::clone(id), Owed { failures, at });
                Ok(())
            }
            None => {
                self.owed.remove(id);
                self.change(wide::because(id, ActionState::Failed, error.to_string()), now, touched)
            }
        }
    }

    /// Takes the effect of actions back (undoing, or done and over): unblock what nothing else covers, then write
    /// the end.
    fn take_back(&mut self, ids: Vec<Arc<str>>, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        for id in &ids {
            self.owed.entry(Arc::clone(id)).or_insert(Owed { failures: 0, at: now });
        }
        self.ledger.sync()?;
        if ids.is_empty() {
            return Ok(());
        }
        let ending: std::collections::HashSet<Arc<str>> = ids.iter().cloned().collect();
        let targets = self.targets(ids);
        let networks: BTreeSet<Network> = targets.iter().map(|(_, network)| *network).collect();
        let covered =
            |network: &Network| self.live.get(network).is_some_and(|ids| ids.iter().any(|id| !ending.contains(id)));
        let (kept, gone): (Vec<Network>, Vec<Network>) = networks.into_iter().partition(covered);
        let kept = self.entries_without(kept.into_iter(), &ending, now);
        let mut outcome = if gone.is_empty() { Ok(()) } else { self.blocker.unblock(&gone) };
        if outcome.is_ok() && !kept.is_empty() {
            outcome = self.blocker.block(&kept);
        }
        match outcome {
            Ok(()) => {
                for (id, _) in targets {
                    self.owed.remove(&id);
                    let change = self.ledger.get(&id).and_then(|action| wide::undone(action, now));
                    if let Some(change) = change {
                        self.change(change, now, touched)?;
                    }
                }
                self.ledger.sync()
            }
            Err(error) => {
                tracing::warn!(%error, actions = targets.len(), "blocks could not be taken back; trying again");
                for (id, _) in targets {
                    let failures = self.owed.get(&id).map_or(0, |owed| owed.failures) + 1;
                    self.owed.insert(id, Owed { failures, at: wide::retry_always_at(failures, now) });
                }
                Ok(())
            }
        }
    }

    /// Does what is due: with `all`, every owed effect whether its time to try again has come or not.
    fn settle(&mut self, now: Timestamp, all: bool, touched: &mut Touched) -> Result<(), LedgerError> {
        let mut back = Vec::new();
        while let Some((end, id)) = self.ends.first().cloned().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, Arc::clone(&id)));
            self.owed.entry(id).or_insert(Owed { failures: 0, at: now });
        }
        let mut run = Vec::new();
        let due: Vec<Arc<str>> =
            self.owed.iter().filter(|(_, owed)| all || owed.at <= now).map(|(id, _)| Arc::clone(id)).collect();
        for id in due {
            let Some(action) = self.ledger.get(&id).cloned() else { continue };
            match wide::next(&action, now) {
                wide::Next::Run if wide::is_over(&action, now) && action.state == ActionState::Running => {
                    self.change(wide::to(&id, ActionState::Undoing), now, touched)?;
                    back.push(id);
                }
                wide::Next::Run => {
                    if action.state == ActionState::Approved {
                        self.change(wide::to(&id, ActionState::Running), now, touched)?;
                    }
                    run.push(id);
                }
                wide::Next::TakeBack => back.push(id),
                _ => {
                    self.owed.remove(&id);
                }
            }
        }
        if !run.is_empty() {
            self.carry_out(run, now, touched)?;
        }
        if back.is_empty() { Ok(()) } else { self.take_back(back, now, touched) }
    }

    /// Makes the kernel hold exactly what is live, with the time that is left.
    fn reconcile(&mut self, now: Timestamp) -> Result<(), PortError> {
        let there: HashMap<Network, u64> =
            self.blocker.blocked()?.into_iter().map(|entry| (entry.network, entry.timeout_ms)).collect();
        let wanted: Vec<Network> = self.live.keys().copied().collect();
        let wanted = self.entries(wanted.into_iter(), now);
        let known: std::collections::HashSet<Network> = wanted.iter().map(|entry| entry.network).collect();
        let extra: Vec<Network> = there.keys().filter(|network| !known.contains(network)).copied().collect();
        let missing: Vec<BlockEntry> = wanted
            .into_iter()
            .filter(|entry| {
                there.get(&entry.network).is_none_or(|left| left.abs_diff(entry.timeout_ms) > TIMEOUT_SLACK_MS)
            })
            .collect();
        if !extra.is_empty() {
            self.blocker.unblock(&extra)?;
        }
        if missing.is_empty() { Ok(()) } else { self.blocker.block(&missing) }
    }

    /// Takes back what policy or guard would not allow any more.
    fn enforce(&mut self, now: Timestamp) -> Result<Changes, LedgerError> {
        if self.policy.state == Switch::Off {
            return self.stop(now);
        }
        if self.policy.mode == Mode::Detect {
            return self.undo(&Which::All, Undo::Policy("block_address only detects now"), now);
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

    /// Brings the kernel's timeouts up to actions that were prolonged. What fails is tried again by the next tick.
    fn refresh(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        if self.stale.is_empty() {
            return Ok(());
        }
        self.ledger.sync()?;
        self.stale.retain(|network| self.live.contains_key(network));
        let entries = self.entries(self.stale.iter().copied(), now);
        match self.blocker.block(&entries) {
            Ok(()) => self.stale.clear(),
            Err(error) => tracing::warn!(%error, "blocks could not be prolonged in the kernel; trying again"),
        }
        Ok(())
    }

    fn begin(&mut self, action: Action, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        let id: Arc<str> = Arc::from(action.order.id.as_str());
        self.ledger.append(Step::Begin(Box::new(action)), now)?;
        self.after(&id, now, touched);
        Ok(())
    }

    /// Writes a change (not yet durable) and brings the indexes up to it.
    fn change(&mut self, change: Change, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        let id: Arc<str> = Arc::from(change.action.as_str());
        if let Some(former) = self.ledger.get(&id).cloned() {
            self.unindex(&id, &former);
        }
        let prolongs = change.state == ActionState::Done && change.expires_at.is_some();
        let written = self.ledger.append(step(change), now);
        self.after(&id, now, touched);
        written?;
        if prolongs {
            self.stale.extend(self.ledger.get(&id).and_then(|action| wide::network(&action.order)));
        }
        Ok(())
    }

    fn after(&mut self, id: &Arc<str>, now: Timestamp, touched: &mut Touched) {
        if let Some(action) = self.ledger.get(id).cloned() {
            self.index(&action, now);
            touched.add(id);
        }
    }

    fn index(&mut self, action: &Action, now: Timestamp) {
        let id: Arc<str> = Arc::from(action.order.id.as_str());
        let Some(network) = wide::network(&action.order) else { return };
        if wide::is_live(action.state) {
            self.live.entry(network).or_default().push(Arc::clone(&id));
            self.live_count += 1;
        }
        if let (ActionState::Done, Some(end)) = (action.state, action.expires_at) {
            self.ends.insert((end, Arc::clone(&id)));
        }
        if matches!(action.state, ActionState::Approved | ActionState::Running | ActionState::Undoing) {
            self.owed.entry(id).or_insert(Owed { failures: 0, at: now });
        }
        if let Some(until) = action.grace_until.filter(|until| *until > now) {
            let known = self.graces.entry(network).or_insert(until);
            *known = until.max(*known);
        }
    }

    fn unindex(&mut self, id: &Arc<str>, action: &Action) {
        let Some(network) = wide::network(&action.order) else { return };
        if wide::is_live(action.state)
            && let Some(ids) = self.live.get_mut(&network)
        {
            ids.retain(|other| other != id);
            self.live_count -= 1;
            if ids.is_empty() {
                self.live.remove(&network);
            }
        }
        if let Some(end) = action.expires_at {
            self.ends.remove(&(end, Arc::clone(id)));
        }
    }

    fn targets(&self, ids: Vec<Arc<str>>) -> Vec<(Arc<str>, Network)> {
        let network = |id: &Arc<str>| self.ledger.get(id).and_then(|action| wide::network(&action.order));
        ids.into_iter().filter_map(|id| network(&id).map(|network| (id, network))).collect()
    }

    fn entries(&self, networks: impl Iterator<Item = Network>, now: Timestamp) -> Vec<BlockEntry> {
        self.entries_without(networks, &Default::default(), now)
    }

    /// Kernel entries for these targets, each with the longest time that a live action gives it.
    fn entries_without(
        &self,
        networks: impl Iterator<Item = Network>,
        without: &std::collections::HashSet<Arc<str>>,
        now: Timestamp,
    ) -> Vec<BlockEntry> {
        let left = |network: &Network| {
            let ids = self.live.get(network)?;
            let ids = ids.iter().filter(|id| !without.contains(*id));
            ids.filter_map(|id| self.ledger.get(id)?.expires_at).map(|end| end.since(now)).max()
        };
        let mut entries: Vec<BlockEntry> = networks
            .map(|network| {
                let micros = left(&network).unwrap_or(0).max(0);
                BlockEntry { network, timeout_ms: u64::try_from(micros / 1000).unwrap_or(0).max(1) }
            })
            .collect();
        entries.sort();
        entries.dedup_by_key(|entry| entry.network);
        entries
    }

    fn changes(&self, touched: Touched, now: Timestamp) -> Changes {
        Changes::new(now, touched.ids.iter().filter_map(|id| self.ledger.get(id)).cloned().collect())
    }
}
