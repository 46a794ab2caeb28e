//! What the agent tells: what became of actions, what happens to itself, and how it stands.

use anyhow::Result;
use sakimori_model::action::Target;
use sakimori_model::{Event, field};
use sakimori_wire::status::{AgentStatus, SpoolStatus};

use super::{Link, Supervisor, actions};
use crate::spool;

/// Most provisional actions that the status names.
const MOST_PROVISIONAL: usize = 16;

impl Supervisor {
    /// Spools what became of actions.
    pub(super) fn spool_actions(&mut self, events: actions::Told) -> Result<()> {
        let Some(position) = events.position else { return Ok(()) };
        let reverted = |action: &std::sync::Arc<sakimori_model::Action>| {
            matches!(action.order.target, Target::Setting(_)) && action.state.is_final()
        };
        let setting_ended = events.actions.iter().any(reverted);
        let now_head = postcard::to_stdvec(&position)?;
        let mut group = Vec::new();
        for action in &events.actions {
            let mut event = sakimori_respond::event::of(action, events.at);
            self.facts.mark(&mut event, &self.agent);
            group.push(event);
            // Small groups: an event with its whole record takes kilobytes while it is made.
            if group.len() == 200 {
                self.append_actions(std::mem::take(&mut group), &now_head);
            }
        }
        if !group.is_empty() {
            self.append_actions(group, &now_head);
        }
        self.tell_versions();
        self.setting_ended |= setting_ended;
        Ok(())
    }

    fn append_actions(&mut self, group: Vec<Event>, position: &[u8]) {
        if let Err(error) = self.spool.append_own(spool::ACTIONS_STREAM, group, Some(position.to_vec())) {
            tracing::error!(error = format!("{error:#}"), "action records are not spooled");
        }
    }

    /// Says something about the agent itself, as an event.
    pub(super) fn say(&mut self, action: &'static str, message: String, more: impl FnOnce(&mut Event)) {
        tracing::info!(action, "{message}");
        let mut event = Event::new();
        event.set(field::TIMESTAMP, self.now());
        event.set(field::EVENT_KIND, "event");
        event.set(field::EVENT_MODULE, "sakimori");
        event.set(field::EVENT_DATASET, "sakimori.agent");
        event.set(field::EVENT_ACTION, action);
        event.push(field::EVENT_CATEGORY, "host");
        event.push(field::EVENT_TYPE, "info");
        event.set(field::MESSAGE, message);
        self.facts.mark(&mut event, &self.agent);
        more(&mut event);
        self.said.push(event);
    }

    /// The agent's state.
    pub(super) fn status(&self) -> AgentStatus {
        let status = AgentStatus {
            agent: self.agent.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            policy: self.policy.number,
            bundle: self.bundles.number(),
            connected: self.link.as_ref().is_some_and(Link::is_connected),
            modules: crate::modules::CATALOG
                .iter()
                .map(|module| match module.id {
                    "log_inspection" => self.logs.status(&self.policy.policy),
                    "antimalware" => self.antimalware.status(&self.policy.policy),
                    "intrusion_prevention" => self.intrusion_prevention.status(&self.policy.policy),
                    _ => self.actions.status(&self.policy.policy),
                })
                .collect(),
            inputs: self.logs.input_status(&self.spool),
            spool: SpoolStatus {
                bytes: self.spool.bytes(),
                most_bytes: self.config.spool.most_bytes,
                waiting: self.spool.waiting(),
            },
            blocks: self.actions.live(),
            proofs: self.proof.status(),
            budgets: self.budgets.status(),
            halted: self.power.halted.as_ref().map(crate::halt::Halted::words),
            halt_number: self.power.halt_number,
            mandate: self.power.loaded.words(),
            held: self.policy.held.clone(),
            provisional: self.actions.provisional().into_iter().take(MOST_PROVISIONAL).collect(),
            network: self.intrusion_prevention.figures(),
            scans: self.scans.status(self.now()),
            waits_for: Vec::new(),
        };
        AgentStatus { waits_for: self.waits_for(&status), ..status }
    }

    pub(super) fn report(&mut self) -> Result<()> {
        let status = self.status();
        if let Some(link) = &mut self.link
            && link.is_connected()
        {
            link.status(serde_json::to_vec(&status)?);
        }
        Ok(())
    }
}
