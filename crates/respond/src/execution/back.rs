//! Taking an execution back: what it did, the last first, one after the other. It needs the record and no playbook.

use sakimori_model::ActionState;

use super::{Command, Execution, Facts, State, StepState};
use crate::wide;

/// Takes all of it back, as [`advance`] does on a person's word: for one whose playbook cannot be read any more.
pub fn take_back_only(execution: &mut Execution, facts: &Facts<'_>, reason: &str) -> Vec<Command> {
    if execution.state != State::Undoing {
        if matches!(execution.state, State::Undone | State::Compensated) || facts.undo.is_none() {
            return Vec::new();
        }
        (execution.state, execution.becomes) = (State::Undoing, Some(State::Undone));
        execution.reason = Some(reason.to_owned());
    }
    undo(execution, facts)
}

/// Takes back what was done, the last first, one after the other.
pub(super) fn undo(execution: &mut Execution, facts: &Facts<'_>) -> Vec<Command> {
    let mut commands = Vec::new();
    loop {
        let last = execution
            .steps
            .values_mut()
            .filter(|step| step.action.is_some() && !matches!(step.state, StepState::Undone | StepState::Kept))
            .max_by_key(|step| step.number);
        let Some(step) = last else {
            execution.state = execution.becomes.take().unwrap_or(State::Compensated);
            return commands;
        };
        let id = step.action.clone().unwrap_or_default();
        let mut over = |state: StepState, reason: Option<String>| {
            (step.state, step.since, step.reason) = (state, facts.now, reason.or_else(|| step.reason.take()));
        };
        match facts.actions.get(&id) {
            None => {
                // Nobody took it yet, and nobody is to take it any more.
                commands.push(Command::Withdraw(id));
                over(StepState::Undone, None);
            }
            Some(action) if action.state.is_final() => over(StepState::Undone, action.reason.clone()),
            Some(action) if action.state == ActionState::Done && !wide::can_be_undone(&action.order) => {
                over(StepState::Kept, Some("it cannot be taken back".to_owned()));
            }
            Some(action) if action.state == ActionState::Running && !wide::can_be_undone(&action.order) => {
                over(StepState::Kept, Some("it goes on, and cannot be taken back".to_owned()));
            }
            Some(action) => {
                if action.state != ActionState::Undoing {
                    let reason = execution.reason.clone().unwrap_or_default();
                    commands.push(Command::TakeBack { action: id, reason, by: facts.undo.map(str::to_owned) });
                }
                return commands;
            }
        }
    }
}
