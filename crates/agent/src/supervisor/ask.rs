//! Answers to the control socket.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::Sender;

use anyhow::Result;
use sakimori_model::action::{Cause, Target};
use sakimori_model::{ActionState, Network, Order, Timestamp, id};
use sakimori_respond::actions::{self, Runs, TargetKind, collect_triage, process};
use sakimori_respond::mandate::Authority;
use sakimori_wire::ipc::{ActAsk, Answer, Ask, Farewell, QuarantineAsk};

use super::aside::Asked;
use super::{Message, Supervisor};

/// Most reasons in one answer.
const MAX_REASONS: usize = 100;

impl Supervisor {
    /// Answers; what is to be spooled is spooled after the answer, which need not wait for it.
    pub(super) fn answer(&mut self, ask: Ask, reply: &Sender<Answer>) -> Result<()> {
        let now = self.now();
        match ask {
            Ask::Status => {
                let _ = reply.send(Answer::Status(Box::new(self.status())));
            }
            Ask::Actions { all } => {
                let _ = reply.send(Answer::Actions { actions: self.actions.list(all) });
            }
            Ask::Undo { ids, by } => {
                let told = self.actions.undo(ids.clone(), &by, now)?;
                let count = told.actions.len() as u64;
                let changed: HashSet<&str> = told.actions.iter().map(|action| action.order.id.as_str()).collect();
                let refused = ids
                    .iter()
                    .filter(|id| !changed.contains(id.as_str()))
                    .take(MAX_REASONS)
                    .map(|id| match self.actions.action(id) {
                        None => format!("{id}: no such action on this host"),
                        Some(action) => format!("{id}: it is {} already", action.state.name()),
                    })
                    .collect();
                let _ = reply.send(Answer::Done { count, refused });
                self.spool_actions(told)?;
            }
            Ask::Block { networks, expiry, by } => {
                let orders = networks.into_iter().map(|network| by_hand(network, expiry, &by)).collect();
                let told = self.actions.submit_as(orders, Authority::Root, now)?;
                let done = told.actions.iter().filter(|action| action.state == ActionState::Done).count();
                let refused = told
                    .actions
                    .iter()
                    .filter(|action| action.state != ActionState::Done)
                    .take(MAX_REASONS)
                    .map(|action| {
                        let reason = action.reason.as_deref().unwrap_or(action.state.name());
                        format!("{}: {reason}", action.order.target)
                    })
                    .collect();
                let _ = reply.send(Answer::Done { count: done as u64, refused });
                self.spool_actions(told)?;
            }
            Ask::Act(ask) => {
                let answer = match acted(ask, now) {
                    Err(reason) => Answer::Failed { reason },
                    Ok(order) => {
                        let id = order.id.clone();
                        // A package takes minutes: who asks for one looks again.
                        let waits = order.action != collect_triage::ID;
                        let told = self.actions.submit_as(vec![order], Authority::Root, now)?;
                        self.spool_actions(told)?;
                        if waits && self.actions.is_out(&id) {
                            self.asked.push(Asked::new(id, reply.clone()));
                            return Ok(());
                        }
                        match self.actions.action(&id) {
                            Some(action) => Answer::Actions { actions: vec![(**action).clone()] },
                            None => Answer::Failed {
                                reason: "what surrounds this host is not known yet; it is carried out then".to_owned(),
                            },
                        }
                    }
                };
                let _ = reply.send(answer);
            }
            Ask::Proof { run } => {
                if run {
                    self.proof.run_now();
                }
                let _ = reply.send(Answer::Proof { proofs: self.proof.status(), running: self.proof.is_running() });
            }
            Ask::Quarantine(ask) => self.answer_quarantine(ask, reply)?,
            Ask::Scan(ask) => self.answer_scan(ask, reply)?,
            Ask::Confirm { ids, by } => {
                let mut refused = Vec::new();
                let mut count = 0;
                for id in ids {
                    match self.confirm(&id, &by, "a person at the host")? {
                        true => count += 1,
                        false => refused.push(format!("{id}: nothing waits for a confirmation under this id")),
                    }
                }
                refused.truncate(MAX_REASONS);
                let _ = reply.send(Answer::Done { count, refused });
            }
            Ask::Verify => {
                let seen = super::heads::seen(&self.config.agent.state);
                let _ = reply.send(match self.actions.verify(&seen) {
                    Ok(count) => Answer::Done { count, refused: Vec::new() },
                    Err(error) => Answer::Failed { reason: format!("{error:#}") },
                });
            }
            Ask::Halted => {
                self.look_at_halt()?;
                let count = u64::from(self.power.halted.is_some());
                let _ = reply.send(Answer::Done { count, refused: Vec::new() });
                self.report()?;
            }
            Ask::Stop { uninstall } => {
                let _ = reply.send(Answer::Done { count: 1, refused: Vec::new() });
                let farewell = if uninstall { Farewell::Uninstalled } else { Farewell::Stopped };
                self.handle(Message::Stop(farewell))?;
            }
        }
        Ok(())
    }
}

impl Supervisor {
    fn answer_quarantine(&mut self, ask: QuarantineAsk, reply: &Sender<Answer>) -> Result<()> {
        let now = self.now();
        let refused = |reason: String| Answer::Done { count: 0, refused: vec![reason] };
        match ask {
            QuarantineAsk::Restore { id, to, by } => {
                let Some(action) = self.actions.that_took(&id).map(|action| action.order.id.clone()) else {
                    let _ = reply.send(refused(format!("{id}: no action of this host has it in quarantine")));
                    return Ok(());
                };
                if let Some(to) = to {
                    self.actions.give_back_to(&id, to);
                }
                let told = self.actions.undo(vec![action.clone()], &by, now)?;
                let answer = match self.actions.action(&action) {
                    Some(now) if now.state == ActionState::Undone => Answer::Done { count: 1, refused: Vec::new() },
                    Some(now) => refused(format!("{id}: {}", now.reason.as_deref().unwrap_or(now.state.name()))),
                    None => refused(format!("{id}: no such action on this host")),
                };
                let _ = reply.send(answer);
                self.spool_actions(told)
            }
            QuarantineAsk::Delete { id, by } => match self.actions.delete(&self.config, &id, &by, now) {
                Ok(told) => {
                    let _ = reply.send(Answer::Done { count: 1, refused: Vec::new() });
                    self.spool_actions(told)
                }
                Err(error) => {
                    let _ = reply.send(refused(format!("{id}: {error:#}")));
                    Ok(())
                }
            },
        }
    }
}

fn by_hand(network: Network, expiry: Timestamp, by: &str) -> Order {
    order("block_address", Target::Network(network), Some(expiry), BTreeMap::new(), by)
}

/// An order of root's at this host, for one of the host's own actions. What the action does not know is refused here, before
/// there is a record: who asks for a dry run must never get the act.
fn acted(ask: ActAsk, now: Timestamp) -> Result<Order, String> {
    let ActAsk { action, target, seconds, inputs, by } = ask;
    let here = || {
        let begun = |known: &&&actions::Descriptor| known.runs == Runs::Host && known.target != TargetKind::Setting;
        actions::CATALOG.iter().filter(begun)
    };
    let known = actions::find(&action).filter(|known| here().any(|one| one == known)).ok_or_else(|| {
        let hosts: Vec<&str> = here().map(|known| known.id).collect();
        format!("this host has no action {action}; it has {}", hosts.join(", "))
    })?;
    let has = |name: &str| known.inputs.iter().any(|input| input.name == name);
    if inputs.contains_key(process::DRY_RUN) && !has(process::DRY_RUN) {
        return Err(format!("{} has no dry run; nothing was done", known.id));
    }
    process::check_inputs(&inputs, known)?;
    if seconds.is_some() && !known.expires {
        return Err(format!("{} does not end by itself", known.id));
    }
    let expiry = seconds.map(|seconds| now.plus_secs(i64::from(seconds)));
    Ok(order(known.id, known.target.read(&target)?, expiry, inputs, &by))
}

fn order(action: &str, target: Target, expiry: Option<Timestamp>, inputs: BTreeMap<String, String>, by: &str) -> Order {
    Order {
        id: id::row_id(),
        action: action.to_owned(),
        target,
        expiry,
        cause: Cause { by: by.to_owned(), title: "by hand".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs,
        signatures: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(action: &str, target: &str, seconds: Option<u32>, inputs: &[(&str, &str)]) -> Result<Order, String> {
        let inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (action, target, by) = (action.to_owned(), target.to_owned(), "ann".to_owned());
        acted(ActAsk { action, target, seconds, inputs, by }, Timestamp::from_secs(1_800_000_000))
    }

    #[test]
    fn what_an_action_does_not_know_is_refused_and_a_dry_run_above_all() {
        for action in actions::CATALOG.iter().filter(|known| known.runs == Runs::Host) {
            let dry = ask(action.id, "x", None, &[("dry_run", "true")]);
            let knows = action.inputs.iter().any(|input| input.name == "dry_run");
            assert!(knows || dry.is_err(), "{}", action.id);
        }
        assert!(ask("lock_user", "mallory", None, &[("dry_run", "true")]).unwrap_err().contains("no dry run"));
        assert!(ask("lock_user", "mallory", None, &[("end_session", "true")]).unwrap_err().contains("no input"));
        assert!(ask("lock_user", "mallory", Some(60), &[]).unwrap_err().contains("does not end by itself"));
        assert!(ask("notify", "ops", None, &[]).unwrap_err().contains("this host has no action"));
        assert!(ask("prevent_mode", "x", None, &[]).unwrap_err().contains("this host has no action"));
        let order = ask("kill_tree", "4711@99", None, &[("dry_run", "true")]).unwrap();
        assert!(process::is_dry_run(&order));
        let order = ask("isolate_host", "this", Some(60), &[("allow", "[]")]).unwrap();
        assert_eq!(order.expiry, Some(Timestamp::from_secs(1_800_000_060)));
    }
}
