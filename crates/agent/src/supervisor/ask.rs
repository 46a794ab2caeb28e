//! Answers to the control socket.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::Sender;

use anyhow::Result;
use sakimori_model::action::{Cause, Target};
use sakimori_model::{ActionState, Network, Order, Timestamp, id};
use sakimori_respond::actions::{self, Runs, TargetKind};
use sakimori_respond::mandate::Authority;
use sakimori_wire::ipc::{ActAsk, Answer, Ask, Farewell, QuarantineAsk, Wanted};

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
            Ask::Order(wanted) => {
                let order = match ordered(wanted) {
                    Ok(order) => order,
                    Err(reason) => {
                        let _ = reply.send(Answer::Done { count: 0, refused: vec![reason] });
                        return Ok(());
                    }
                };
                let id = order.id.clone();
                let told = self.actions.submit_as(vec![order], Authority::Root, now)?;
                let refused = match self.actions.action(&id) {
                    Some(known) if matches!(known.state, ActionState::Done | ActionState::Running) => Vec::new(),
                    Some(known) => vec![known.reason.clone().unwrap_or_else(|| known.state.name().to_owned())],
                    None => vec!["the surroundings of this host are not known yet; it is carried out then".to_owned()],
                };
                let _ = reply.send(Answer::Done { count: u64::from(refused.is_empty()), refused });
                self.spool_actions(told)?;
            }
            Ask::Act(ask) => {
                let answer = match acted(ask, now) {
                    Err(reason) => Answer::Failed { reason },
                    Ok(order) => {
                        let id = order.id.clone();
                        let told = self.actions.submit_as(vec![order], Authority::Root, now)?;
                        self.spool_actions(told)?;
                        let action = self.actions.action(&id).map(|action| (**action).clone());
                        Answer::Actions { actions: action.into_iter().collect() }
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

/// An order of an action of the catalog, from words.
fn ordered(wanted: Wanted) -> Result<Order, String> {
    let Wanted { action, target, expiry, inputs, by } = wanted;
    let known = actions::find(&action).filter(|known| known.runs == Runs::Host);
    let known = known.ok_or_else(|| {
        let here = actions::CATALOG.iter().filter(|known| known.runs == Runs::Host).map(|known| known.id);
        format!("expected an action of hosts: {}", here.collect::<Vec<_>>().join(", "))
    })?;
    if expiry.is_some() && !known.expires {
        return Err(format!("{action} does not end by itself"));
    }
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

/// An order of root's at this host, for one of the host's own actions.
fn acted(ask: ActAsk, now: Timestamp) -> Result<Order, String> {
    let ActAsk { action, target, seconds, inputs, by } = ask;
    let known = actions::find(&action).filter(|known| known.runs == Runs::Host);
    let target = match known.map(|known| known.target) {
        None | Some(TargetKind::Channel | TargetKind::Setting) => {
            let hosts = actions::CATALOG.iter().filter(|known| known.runs == Runs::Host).map(|known| known.id);
            let hosts: Vec<&str> = hosts.collect();
            return Err(format!("this host has no action {action}; it has {}", hosts.join(", ")));
        }
        Some(TargetKind::Network) => Target::Network(target.parse::<Network>().map_err(|error| error.to_string())?),
        Some(TargetKind::File) => Target::File(target),
        Some(TargetKind::Resource(kind)) => actions::resource(kind, &target)?,
    };
    let cause = Cause { by, title: "by hand".into(), ..Cause::default() };
    Ok(Order {
        id: id::row_id(),
        action,
        target,
        expiry: seconds.map(|seconds| now.plus_secs(i64::from(seconds))),
        cause,
        via: None,
        probe: false,
        inputs,
        signatures: Vec::new(),
    })
}
