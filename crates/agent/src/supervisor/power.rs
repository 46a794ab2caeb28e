//! What the manager says is judged here before anything is done: is it sealed by the key that was pinned at enrolment,
//! for this host and for now; does the host's mandate let the manager say it; is it newer than what was said before.
//! What is not is refused and told, and has no effect.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use ed25519_dalek::VerifyingKey;
use sakimori_model::{ActionState, Order, Timestamp};
use sakimori_respond::guard::{MOST_OPERATORS, Rate};
use sakimori_respond::mandate::{Authority, Mandate, Objection};
use sakimori_respond::seal::{self, Act, SealError};
use sakimori_wire::ipc::{Reply, ToUplink};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use crate::enroll::Enrolled;
use crate::files::write_atomically;
use crate::halt::{self, Halted};
use crate::mandate_file::Loaded;

/// Most refusals a minute that are told; more are in the log only.
const MOST_TOLD: u32 = 60;
/// How long addresses of operators are respected without word of the manager, in seconds: as long as a session lasts.
const OPERATORS_SECONDS: i64 = 12 * 3_600;

/// Keys, mandate, and what was said last.
pub struct Power {
    host: String,
    bundle_key: Option<VerifyingKey>,
    order_key: Option<VerifyingKey>,
    /// The mandate.
    pub loaded: Loaded,
    /// Number of the last halt or resume.
    pub halt_number: u64,
    /// The halt that is acted on.
    pub halted: Option<Halted>,
    told: Rate,
}

#[derive(Serialize, Deserialize)]
struct Operators {
    until: Timestamp,
    addresses: Vec<IpAddr>,
}

impl Power {
    /// For this host.
    ///
    /// # Errors
    /// Where a pinned key is damaged.
    pub fn open(state: &Path, mandate: &Path, host: &str, enrolled: Option<&Enrolled>) -> Result<Self> {
        let read = |text: &str| -> Result<Option<VerifyingKey>> {
            if text.is_empty() {
                return Ok(None);
            }
            let bytes = hex::decode(text).context("agent.json is damaged; enrol this host again")?;
            Ok(Some(sakimori_content::keys::public_from_bytes(&bytes).context("agent.json holds no usable key")?))
        };
        Ok(Self {
            host: host.to_owned(),
            bundle_key: enrolled.map_or(Ok(None), |enrolled| read(&enrolled.bundle_key))?,
            order_key: enrolled.map_or(Ok(None), |enrolled| read(&enrolled.order_key))?,
            loaded: Loaded::read(mandate),
            halt_number: std::fs::read_to_string(number_file(state))
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
            halted: None,
            told: Rate::default(),
        })
    }

    /// What the manager may do here.
    pub fn mandate(&self) -> &Mandate {
        &self.loaded.mandate
    }

    /// Id of the pinned order key; empty where there is none.
    pub fn order_key_id(&self) -> Vec<u8> {
        self.order_key.map_or_else(Vec::new, |key| sakimori_content::keys::key_id(&key).to_vec())
    }

    fn sealed(&self, seals: &[Vec<u8>], act: Act<'_>, now: Timestamp) -> Result<u32, SealError> {
        const WHO: &str = "the manager's order key";
        let key = self.order_key.ok_or(SealError::Missing(WHO))?;
        seal::verify(&key, WHO, seals, &self.host, act, now)?;
        Ok(self.mandate().operators(seals, &self.host, act, now))
    }

    fn signers(&self) -> Vec<String> {
        self.mandate().operators.keys.iter().map(|one| format!("{} {}", one.name, one.key)).collect()
    }
}

fn number_file(state: &Path) -> std::path::PathBuf {
    state.join("halt-number")
}

fn operators_file(state: &Path) -> std::path::PathBuf {
    state.join("operators.json")
}

impl Supervisor {
    /// Is it sealed, and does the mandate allow it? The operators who sealed it too, or `None` where it was refused and
    /// that was told.
    pub(super) fn judged(
        &mut self,
        what: &str,
        seals: &[Vec<u8>],
        act: Act<'_>,
        allowed: bool,
    ) -> Result<u32, Objection> {
        let outcome = match self.power.sealed(seals, act, self.now()) {
            Err(error) => Err(Objection::Never(error.to_string())),
            Ok(operators) => match self.power.mandate().allows(allowed, operators, what) {
                Some(objection) => Err(objection),
                None => Ok(operators),
            },
        };
        if let Err(objection) = &outcome {
            self.refused(what, objection);
        }
        outcome
    }

    fn refused(&mut self, what: &str, objection: &Objection) {
        let message = format!("the manager may not {what}: {objection}");
        if self.power.told.take(self.now(), MOST_TOLD) {
            self.say("manager-refused", message, |_| {});
        } else {
            tracing::warn!("{message}");
        }
    }

    /// An order came down.
    pub(super) fn take_order(&mut self, order: Order) -> Result<()> {
        let id = order.id.clone();
        let operators = match self.judged("order this", &order.signatures, Act::Order(&order), true) {
            Ok(operators) => operators,
            Err(objection) => {
                self.reply(Reply { id, reason: objection.to_string(), ..Reply::default() });
                return Ok(());
            }
        };
        let now = self.now();
        let authority = Authority::Manager { operators };
        match self.actions.action(&id) {
            Some(known) if !known.order.same(&order) => {
                let objection = Objection::Never(format!("another order of the id {id} is in the ledger"));
                self.refused("order this", &objection);
                self.reply(Reply { id, reason: objection.to_string(), ..Reply::default() });
                return Ok(());
            }
            Some(_) => {}
            None => {
                if let Some(Objection::Lacks { operators, reason }) =
                    self.power.mandate().objection(&order, authority, now)
                {
                    let signers = self.power.signers();
                    self.reply(Reply { id, reason, lacks: operators, signers, ..Reply::default() });
                    return Ok(());
                }
                let told = self.actions.submit_as(vec![order], authority, now)?;
                self.spool_actions(told)?;
            }
        }
        let (accepted, reason) = match self.actions.action(&id) {
            None => (false, "it is not in the ledger".to_owned()),
            Some(action) => (
                !matches!(action.state, ActionState::Refused | ActionState::NoEffect | ActionState::Failed),
                action.reason.clone().unwrap_or_default(),
            ),
        };
        self.reply(Reply { id, accepted, reason, ..Reply::default() });
        Ok(())
    }

    /// It is told again until it is answered, so what cannot be undone is answered too.
    pub(super) fn take_undo(&mut self, id: String, by: &str, seals: &[Vec<u8>]) -> Result<()> {
        let allowed = self.power.mandate().alone.undo;
        let reply = Reply { id: id.clone(), undo: true, ..Reply::default() };
        match self.judged("take actions back", seals, Act::Undo { action: &id, by }, allowed) {
            Ok(_) => {}
            Err(Objection::Lacks { operators, reason }) => {
                let signers = self.power.signers();
                self.reply(Reply { reason, lacks: operators, signers, ..reply });
                return Ok(());
            }
            Err(objection) => {
                self.reply(Reply { reason: objection.to_string(), ..reply });
                return Ok(());
            }
        }
        let told = self.actions.undo(vec![id.clone()], by, self.now())?;
        self.spool_actions(told)?;
        let (accepted, reason) = match self.actions.action(&id) {
            None => (false, "it is not in the ledger".to_owned()),
            Some(action) if action.state == ActionState::Undone => (true, String::new()),
            Some(action) => (false, format!("it is {}", action.state.name())),
        };
        self.reply(Reply { accepted, reason, ..reply });
        Ok(())
    }

    /// A policy came down.
    pub(super) fn take_sealed_policy(&mut self, number: u64, json: &[u8], seal: Vec<u8>) -> Result<()> {
        let allowed = self.power.mandate().alone.policy;
        match self.judged("send this policy", &[seal], Act::Policy { number, json }, allowed) {
            Ok(_) => self.take_policy(number, json),
            Err(_) => Ok(()),
        }
    }

    /// The order key came down, for an agent that has none: taken once, on the word of the bundle key.
    pub(super) fn take_order_key(&mut self, key: &[u8], seals: &[Vec<u8>]) -> Result<()> {
        let (Some(bundle_key), Ok(bytes)) = (self.power.bundle_key, <[u8; 32]>::try_from(key)) else { return Ok(()) };
        if self.power.order_key.is_some_and(|known| known.as_bytes() == &bytes) {
            return Ok(());
        }
        let outcome = if self.power.order_key.is_some() {
            Err("an order key is pinned already; enrol this host again for another one".to_owned())
        } else {
            let act = Act::OrderKey(&bytes);
            seal::verify(&bundle_key, "the bundle key", seals, &self.power.host, act, self.now())
                .map_err(|error| error.to_string())
                .and_then(|()| sakimori_content::keys::public_from_bytes(&bytes).map_err(|error| error.to_string()))
        };
        match outcome {
            Ok(key) => {
                Enrolled::pin_order_key(&self.config.enrolled_file(), &bytes)?;
                self.power.order_key = Some(key);
                self.say("order-key-pinned", "the manager's order key is pinned".to_owned(), |_| {});
                self.tell_versions();
            }
            Err(reason) => self.refused("give an order key", &Objection::Never(reason)),
        }
        Ok(())
    }

    /// All answers stop, or go on, on the manager's word.
    pub(super) fn take_halt(&mut self, number: u64, halted: bool, mark: Halted, seals: &[Vec<u8>]) -> Result<()> {
        let act = Act::Halt { number, halted, undo: mark.undo, by: &mark.by, reason: &mark.reason };
        let allowed = self.power.mandate().alone.halt;
        if self.judged("stop or resume all answers", seals, act, allowed).is_err() || number <= self.power.halt_number {
            return Ok(());
        }
        let state = self.config.agent.state.clone();
        if halted {
            halt::put(&state, mark)?;
        } else if halt::read(&state).is_some_and(|there| there.manager) {
            halt::take(&state)?;
        }
        write_atomically(&number_file(&state), number.to_string().as_bytes(), 0o600)?;
        self.power.halt_number = number;
        self.tell_versions();
        self.look_at_halt()?;
        self.report()
    }

    /// Acts on the mark where it was put or taken since the last look.
    pub(super) fn look_at_halt(&mut self) -> Result<()> {
        let there = halt::read(&self.config.agent.state);
        if there == self.power.halted {
            return Ok(());
        }
        let now = self.now();
        match &there {
            Some(mark) => {
                let undo = mark.undo && !self.power.halted.as_ref().is_some_and(|before| before.undo);
                self.say("answers-halted", mark.words(), |_| {});
                if undo {
                    let told = self.actions.undo_by_policy(&mark.words(), now)?;
                    self.spool_actions(told)?;
                }
            }
            None => {
                self.say("answers-resumed", "answers go on".to_owned(), |_| {});
                let told = self.actions.agree(now)?;
                self.spool_actions(told)?;
            }
        }
        self.power.halted = there;
        self.intrusion_prevention.doubt();
        // Modules that act by themselves only look from now on, or act again.
        self.apply_policy()
    }

    /// Addresses from which operators are signed in.
    pub(super) fn take_operators(&mut self, addresses: Vec<IpAddr>, seals: &[Vec<u8>]) -> Result<()> {
        if addresses.len() > MOST_OPERATORS {
            let reason = format!("{} addresses are more than {MOST_OPERATORS}", addresses.len());
            self.refused("name addresses of operators", &Objection::Never(reason));
            return Ok(());
        }
        let allowed = self.power.mandate().alone.spare_operators;
        if self.judged("name addresses of operators", seals, Act::Operators(&addresses), allowed).is_err() {
            return Ok(());
        }
        let now = self.now();
        let kept = Operators { until: now.plus_secs(OPERATORS_SECONDS), addresses };
        write_atomically(&operators_file(&self.config.agent.state), &serde_json::to_vec(&kept)?, 0o600)?;
        let told = self.actions.set_operators(kept.addresses, now)?;
        self.spool_actions(told)
    }

    /// Reads mandate and operators as a start finds them.
    pub(super) fn begin_power(&mut self) -> Result<()> {
        if let Some(problem) = self.power.loaded.problem.clone() {
            self.say("mandate-refused", problem, |_| {});
        }
        let now = self.now();
        let kept = std::fs::read(operators_file(&self.config.agent.state)).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Operators>(&bytes).ok());
        let kept = kept.filter(|kept| kept.until > now && self.power.mandate().alone.spare_operators);
        let told = self.actions.set_mandate(self.power.mandate().clone(), now)?;
        self.spool_actions(told)?;
        if let Some(kept) = kept {
            let told = self.actions.set_operators(kept.addresses, now)?;
            self.spool_actions(told)?;
        }
        self.look_at_halt()
    }

    /// Takes a mandate that was changed.
    pub(super) fn look_at_mandate(&mut self) -> Result<()> {
        if !self.power.loaded.is_stale(&self.config.agent.mandate) {
            return Ok(());
        }
        self.power.loaded = Loaded::read(&self.config.agent.mandate);
        match self.power.loaded.problem.clone() {
            Some(problem) => self.say("mandate-refused", problem, |_| {}),
            None => self.say("mandate-applied", format!("the mandate is {}", self.power.loaded.source), |_| {}),
        }
        let told = self.actions.set_mandate(self.power.mandate().clone(), self.now())?;
        self.spool_actions(told)?;
        self.apply_policy()
    }

    pub(super) fn reply(&self, reply: Reply) {
        if let Some(link) = &self.link {
            link.send(&ToUplink::OrderReply(reply));
        }
    }
}
