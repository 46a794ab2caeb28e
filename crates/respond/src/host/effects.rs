//! Effects on the kernel, and the records around them: what is owed is carried out, taken back, tried again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sakimori_model::ledger::Change;
use sakimori_model::{ActionState, Network, Timestamp};

use super::{HostActions, Owed, Touched};
use crate::ledger::LedgerError;
use crate::ports::{AddressBlocker, BlockEntry, PortError};
use crate::wide;

/// A kernel timeout that is off by no more than this is left alone, in milliseconds.
const TIMEOUT_SLACK_MS: u64 = 2_000;

impl<B: AddressBlocker> HostActions<B> {
    /// Runs actions whose running state is written: fsync, block, done, fsync.
    pub(super) fn carry_out(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        self.owe(&ids, now);
        if ids.is_empty() {
            return self.ledger.sync();
        }
        self.ledger.sync()?;
        let (scans, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.is_scan(id));
        self.begin_scans(scans, now, touched)?;
        let (files, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.is_of_file(id));
        self.take_files(files, now, touched)?;
        let (effects, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.is_of_port(id));
        self.apply_effects(effects, now, touched)?;
        // What a crash kept from its record: the effect of a setting is that it is in the ledger.
        let is_network = |host: &Self, id: &Arc<str>| {
            host.ledger.get(id).is_none_or(|action| wide::network(&action.order).is_some())
        };
        let (ids, settings): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| is_network(self, id));
        for id in settings {
            self.settled(wide::to(&id, ActionState::Done), now, touched)?;
        }
        let targets: Vec<(Arc<str>, Network)> = self.targets(ids);
        if let Some(why) = self.blocker.halted().filter(|_| !targets.is_empty()) {
            return self.give_up(targets, &why, now, touched);
        }
        let mut work = if targets.is_empty() { Vec::new() } else { vec![targets] };
        while let Some(mut group) = work.pop() {
            let entries = self.entries(group.iter().map(|(_, network)| *network), now);
            let outcome = self.blocker.block(&entries);
            match outcome {
                Ok(()) => {
                    for (id, _) in group {
                        self.settled(wide::to(&id, ActionState::Done), now, touched)?;
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

    /// All answers were stopped before the effect: none takes place, and what a crash may have left of one goes.
    fn give_up(
        &mut self,
        targets: Vec<(Arc<str>, Network)>,
        why: &str,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for (id, network) in targets {
            self.settled(wide::because(&id, ActionState::Refused, why), now, touched)?;
            if !self.live.contains_key(&network)
                && let Err(error) = self.blocker.unblock(&[network])
            {
                tracing::warn!(%error, %network, "what an interrupted block left cannot be removed; it has a timeout");
            }
        }
        self.ledger.sync()
    }

    pub(super) fn failed(
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
                self.owed.insert(Arc::clone(id), Owed { failures, at, out: false });
                Ok(())
            }
            None if self.is_of_port(id) => self.withdraw(id, false, &error.to_string(), now, touched),
            None => {
                self.settled(wide::because(id, ActionState::Failed, error.to_string()), now, touched)?;
                // Any part of a failed call may have taken effect.
                let target = self.ledger.get(id).and_then(|action| wide::network(&action.order));
                if let Some(target) = target.filter(|target| !self.live.contains_key(target))
                    && let Err(error) = self.blocker.unblock(&[target])
                {
                    tracing::warn!(%error, %target, "what a failed block left cannot be removed; it has a timeout");
                }
                Ok(())
            }
        }
    }

    /// Takes the effect of actions back (undoing, or done and over): unblock what nothing else covers, then write
    /// the end.
    pub(super) fn take_back(
        &mut self,
        ids: Vec<Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        self.owe(&ids, now);
        self.ledger.sync()?;
        if ids.is_empty() {
            return Ok(());
        }
        let (scans, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.is_scan(id));
        self.end_scans(scans, now, touched)?;
        let (files, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.is_of_file(id));
        self.give_files_back(files, now, touched)?;
        let (effects, ids): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.is_of_port(id));
        self.take_effects_back(effects, now, touched)?;
        if ids.is_empty() {
            return self.ledger.sync();
        }
        let ending: HashSet<Arc<str>> = ids.iter().cloned().collect();
        let (networks, settings): (Vec<Arc<str>>, Vec<Arc<str>>) = ids
            .into_iter()
            .partition(|id| self.ledger.get(id).is_none_or(|action| wide::network(&action.order).is_some()));
        // The end of an action that has no effect in the kernel is its record.
        self.all_undone(settings, now, touched)?;
        self.ledger.sync()?;
        let targets = self.targets(networks);
        let networks: BTreeSet<Network> = targets.iter().map(|(_, network)| *network).collect();
        let covered =
            |network: &Network| self.live.get(network).is_some_and(|ids| ids.iter().any(|id| !ending.contains(id)));
        let (kept, gone): (Vec<Network>, Vec<Network>) = networks.into_iter().partition(covered);
        let kept = self.entries_without(kept.into_iter(), &ending, now);
        let mut outcome = if gone.is_empty() { Ok(()) } else { self.blocker.unblock(&gone) };
        // While all answers are stopped the kernel keeps the longer time that it has; a start mends that.
        if outcome.is_ok() && !kept.is_empty() && self.blocker.halted().is_none() {
            outcome = self.blocker.block(&kept);
        }
        match outcome {
            Ok(()) => {
                self.all_undone(targets.into_iter().map(|(id, _)| id), now, touched)?;
                self.ledger.sync()
            }
            Err(error) => {
                tracing::warn!(%error, actions = targets.len(), "blocks could not be taken back; trying again");
                targets.into_iter().for_each(|(id, _)| self.still_owed(id, now));
                Ok(())
            }
        }
    }

    /// Taking back failed: it is tried again, always.
    pub(super) fn still_owed(&mut self, id: Arc<str>, now: Timestamp) {
        let failures = self.owed.get(&id).map_or(0, |owed| owed.failures) + 1;
        self.owed.insert(id, Owed { failures, at: wide::retry_always_at(failures, now), out: false });
    }

    /// From now on these effects are to be carried out or taken back, by this call or a later one.
    fn owe(&mut self, ids: &[Arc<str>], now: Timestamp) {
        for id in ids {
            self.owed.entry(Arc::clone(id)).or_insert(Owed::at(now));
        }
    }

    /// What was owed is done, or is given up: writes which.
    pub(super) fn settled(&mut self, change: Change, now: Timestamp, touched: &mut Touched) -> Result<(), LedgerError> {
        self.owed.remove(change.action.as_str());
        self.change(change, now, touched)
    }

    /// The effects of these are taken back.
    pub(super) fn all_undone(
        &mut self,
        ids: impl IntoIterator<Item = Arc<str>>,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<(), LedgerError> {
        for id in ids {
            match self.ledger.get(&id).and_then(|action| wide::undone(action, now)) {
                Some(change) => self.settled(change, now, touched)?,
                None => drop(self.owed.remove(&id)),
            }
        }
        Ok(())
    }

    /// Does what is due: with `all`, every owed effect whether its time to try again has come or not.
    pub(super) fn settle(&mut self, now: Timestamp, all: bool, touched: &mut Touched) -> Result<(), LedgerError> {
        let mut back = Vec::new();
        while let Some((end, id)) = self.ends.first().cloned().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, Arc::clone(&id)));
            self.owed.entry(id).or_insert(Owed::at(now));
        }
        let mut run = Vec::new();
        let is_due = |owed: &Owed| !owed.out && (all || owed.at <= now);
        let due: Vec<Arc<str>> =
            self.owed.iter().filter(|(_, owed)| is_due(owed)).map(|(id, _)| Arc::clone(id)).collect();
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
    pub(super) fn reconcile(&mut self, now: Timestamp) -> Result<(), PortError> {
        let there: HashMap<Network, u64> =
            self.blocker.blocked()?.into_iter().map(|entry| (entry.network, entry.timeout_ms)).collect();
        let wanted: Vec<Network> = self.live.keys().copied().collect();
        let wanted = self.entries(wanted.into_iter(), now);
        let known: HashSet<Network> = wanted.iter().map(|entry| entry.network).collect();
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
        if missing.is_empty() || self.blocker.halted().is_some() { Ok(()) } else { self.blocker.block(&missing) }
    }

    /// Brings the kernel's timeouts up to actions that were prolonged. What fails is tried again by the next tick.
    pub(super) fn refresh(&mut self, now: Timestamp) -> Result<(), LedgerError> {
        self.renew_lasting(now)?;
        if self.stale.is_empty() || self.blocker.halted().is_some() {
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

    pub(super) fn targets(&self, ids: Vec<Arc<str>>) -> Vec<(Arc<str>, Network)> {
        let network = |id: &Arc<str>| self.ledger.get(id).and_then(|action| wide::network(&action.order));
        ids.into_iter().filter_map(|id| network(&id).map(|network| (id, network))).collect()
    }

    pub(super) fn entries(&self, networks: impl Iterator<Item = Network>, now: Timestamp) -> Vec<BlockEntry> {
        self.entries_without(networks, &Default::default(), now)
    }

    /// Kernel entries for these targets, each with the longest time that a live action gives it.
    pub(super) fn entries_without(
        &self,
        networks: impl Iterator<Item = Network>,
        without: &HashSet<Arc<str>>,
        now: Timestamp,
    ) -> Vec<BlockEntry> {
        let left = |network: &Network| {
            let ids = self.live.get(network)?;
            let ids = ids.iter().filter(|id| !without.contains(*id));
            ids.filter_map(|id| self.ledger.get(id)?.end()).map(|end| end.since(now)).max()
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
}
