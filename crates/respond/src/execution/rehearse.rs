//! A rehearsal: what a playbook would do about an event, if every action succeeded and people allowed what they are asked.
//! It is the same code that drives executions, so that the dry run and the simulation against the past do not differ from
//! what would happen.

use std::collections::BTreeMap;

use sakimori_model::{Action, ActionState, Event, Order, Timestamp};

use super::{Answer, Command, Execution, Facts, State, StepState, advance, id_for};
use crate::actions::{self, TargetKind};
use crate::playbook::Playbook;
use crate::wide::{self, Limits};

/// Most passes of one rehearsal: more than any playbook has steps, items and waits within its own bounds.
const MOST: usize = 5_000;

/// One thing that would happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Would {
    /// The step's place.
    pub step: String,
    /// A sentence, in English.
    pub text: String,
    /// What would be ordered.
    pub order: Option<Order>,
}

/// What would be done, in this order, and how it would end. `done_by_others` counts against the playbook's limits.
pub fn rehearse(
    playbook: &Playbook,
    event: &Event,
    alert: &str,
    now: Timestamp,
    (done_by_others, hosts): (usize, usize),
) -> (Vec<Would>, State, Option<String>) {
    let mut execution = Execution::new(id_for(&playbook.id, alert), playbook, alert, "rehearsal", now);
    let mut actions: BTreeMap<String, Action> = BTreeMap::new();
    let mut answers: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
    let (mut now, mut told) = (now, Vec::new());
    for _ in 0..MOST {
        let before = execution.clone();
        let facts =
            Facts { event, now, actions: &actions, answers: &answers, done_by_others, hosts, halted: None, undo: None };
        let commands = advance(playbook, &mut execution, &facts);
        let begins = told.len();
        for command in commands {
            match command {
                Command::Order(order) => {
                    told.push(would(&execution, &order));
                    let mut action = wide::plan(*order, "manager", now, &NO_LIMITS);
                    action.state = ActionState::Done;
                    actions.insert(action.order.id.clone(), action);
                }
                Command::Withdraw(_) => {}
                Command::TakeBack { action, .. } => {
                    told.push(Would { step: String::new(), text: format!("take back {action}"), order: None });
                    if let Some(action) = actions.get_mut(&action) {
                        action.state = ActionState::Undone;
                    }
                }
            }
        }
        for (place, step) in &execution.steps {
            let was = before.steps.get(place).map(|step| step.state);
            if was != Some(step.state) && matches!(step.state, StepState::Skipped | StepState::Failed) {
                let reason = step.reason.clone().unwrap_or_default();
                told.push(Would { step: place.clone(), text: format!("{}: {reason}", step.state.name()), order: None });
            }
        }
        // Of one pass, in the order of the steps.
        let number = |one: &Would| execution.steps.get(&one.step).map_or(u32::MAX, |step| step.number);
        if let Some(pass) = told.get_mut(begins..) {
            pass.sort_by_key(number);
        }
        if execution.state.is_over() {
            break;
        }
        let asked: Vec<String> = execution.questions().map(|(place, ..)| place.to_owned()).collect();
        let unanswered: Vec<String> = asked.into_iter().filter(|place| !answers.contains_key(place)).collect();
        if unanswered.is_empty() && execution == before {
            match execution.wake_at() {
                Some(until) => {
                    told.push(Would { step: String::new(), text: format!("wait until {until}"), order: None });
                    now = until.max(now.plus_secs(1));
                }
                None => break,
            }
        }
        for place in unanswered {
            let persons = (0..5).map(|nth| Answer { by: format!("person {nth}"), allow: true, at: now }).collect();
            answers.insert(place, persons);
        }
    }
    (told, execution.state, execution.reason)
}

const NO_LIMITS: Limits = Limits { expiry_seconds: 3_600, expiry_most_seconds: u64::MAX >> 24, grace_seconds: 0 };

fn would(execution: &Execution, order: &Order) -> Would {
    let ordered_by = |step: &super::Progress| step.action.as_deref() == Some(order.id.as_str());
    let step = execution.steps.iter().find(|(_, step)| ordered_by(step)).map(|(place, _)| place.clone());
    let asked = order.inputs.get(super::ASK).and_then(|ask| serde_json::from_str::<serde_json::Value>(ask).ok());
    let step = step.or_else(|| Some(asked.as_ref()?.get("step")?.as_str()?.to_owned()));
    let text = match asked {
        Some(_) => format!("ask {}, and go on if it is allowed", order.target),
        None => {
            let end = order.expiry.map(|end| format!(" until {end}")).unwrap_or_default();
            let undo = match actions::find(&order.action) {
                Some(known) if known.undo.is_none() && known.target != TargetKind::Channel => "; cannot be taken back",
                _ => "",
            };
            format!("{} {}{end}{undo}", order.action, order.target)
        }
    };
    Would { step: step.unwrap_or_default(), text, order: Some(order.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    #[test]
    fn a_rehearsal_tells_all_that_would_be_done() {
        let text = "id: p\ntitle: { en: P }\ntrigger: { alert: { scope: wide } }\nsteps:\n  \
                    - { action: waf_block, target: event.source.ip, when: 'false' }\n  \
                    - approval: { ask: ops, within: 1h, text: { en: Sure? } }\n  \
                    - wait: 5m\n  \
                    - { for_each: event.related.ip, steps: [ { action: waf_block, target: item } ] }\n";
        let playbook = Playbook::parse("p.yml", text).unwrap();
        let json = serde_json::json!({"related": {"ip": ["198.51.100.8", "198.51.100.9"]}});
        let event = Event::from_json(json.as_object().unwrap().clone()).0;
        let (told, state, reason) = rehearse(&playbook, &event, "a", now(0), (0, 0));
        let texts: Vec<_> = told.iter().map(|one| one.text.as_str()).collect();
        assert_eq!((state, reason), (State::Done, None), "{texts:?}");
        let wanted = ["skipped: its condition is false", "ask ops, and go on if it is allowed", "wait until"];
        for (text, wanted) in texts.iter().zip(wanted) {
            assert!(text.starts_with(wanted), "{texts:?}");
        }
        assert!(texts.iter().any(|text| *text == "waf_block 198.51.100.9"), "{texts:?}");
        let (_, state, reason) = rehearse(
            &Playbook::parse("p.yml", &text.replace("steps:\n  - {", "limits: { most: 1, within: 1h }\nsteps:\n  - {"))
                .unwrap(),
            &event,
            "a",
            now(0),
            (1, 0),
        );
        assert_eq!(state, State::Compensated, "{reason:?}");
    }
}
