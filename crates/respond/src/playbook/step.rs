//! The steps of a playbook, checked.

use std::collections::BTreeMap;

use sakimori_model::rule::Text;

use crate::actions::Descriptor;
use crate::condition::Condition;

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Its name, where the author gave it one; conditions of later steps see its state by it.
    pub name: Option<String>,
    /// Done only where this is true.
    pub when: Option<Condition>,
    /// What is done.
    pub what: What,
    /// What follows where it fails.
    pub on_failure: OnFailure,
}

/// What a step does.
#[derive(Debug)]
pub enum What {
    /// Orders an action and waits until it is in effect.
    Act(Box<Act>),
    /// Asks people, and goes on if they allow it.
    Ask(Ask),
    /// Several at once; goes on when all are over.
    Beside(Vec<Step>),
    /// The steps once for each text of a list, one after the other.
    Each(Each),
    /// Waits so many seconds.
    Wait(u64),
}

/// An action to be ordered.
#[derive(Debug)]
pub struct Act {
    /// Which.
    pub action: &'static Descriptor,
    /// On what.
    pub target: Aim,
    /// Seconds until it ends by itself; the policy's where absent.
    pub expiry_seconds: Option<u64>,
    /// Inputs as written.
    pub inputs: BTreeMap<String, String>,
    /// Inputs that the event gives.
    pub computed: BTreeMap<String, Condition>,
    /// How often it is ordered again where it failed.
    pub retries: u32,
    /// Seconds after which what is not in effect is taken back and has failed.
    pub timeout_seconds: Option<u64>,
}

/// What a step acts on.
#[derive(Debug)]
pub enum Aim {
    /// What an expression gives.
    Expression(Condition),
    /// A notification channel.
    Channel(String),
}

/// A question to people.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The channel that is told.
    pub channel: String,
    /// Seconds in which an answer counts.
    pub within_seconds: u64,
    /// What holds where nobody answers.
    pub otherwise: Otherwise,
    /// How many people must allow it.
    pub persons: u32,
    /// The question.
    pub text: Text,
}

/// What holds where nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// It goes on.
    Allow,
    /// It ends.
    Deny,
}

/// Steps for each text of a list.
#[derive(Debug)]
pub struct Each {
    /// Gives the list.
    pub list: Condition,
    /// More than so many are too many: the execution fails before the first.
    pub most: usize,
    /// What is done with each; expressions see it as `item`.
    pub steps: Vec<Step>,
}

/// What follows where a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// What the execution did is taken back, the last first.
    Undo,
    /// It ends, and what was done stays.
    Stop,
    /// The next step.
    Continue,
}

impl OnFailure {
    /// What follows for the step that holds one that failed so: its own way, but where the inner one stops all.
    pub(crate) fn within(self, outer: Self) -> Self {
        if self == Self::Stop { Self::Stop } else { outer }
    }
}

impl Step {
    /// All actions that it may order, with those of steps within it.
    pub fn acts(&self) -> Vec<&Act> {
        match &self.what {
            What::Act(act) => vec![act],
            What::Beside(steps) => steps.iter().flat_map(Self::acts).collect(),
            What::Each(each) => each.steps.iter().flat_map(Self::acts).collect(),
            What::Ask(_) | What::Wait(_) => Vec::new(),
        }
    }

    /// All expressions, with those of steps within it.
    pub fn expressions(&self) -> Vec<&Condition> {
        let mut all: Vec<&Condition> = self.when.iter().collect();
        match &self.what {
            What::Act(act) => {
                all.extend(act.computed.values());
                if let Aim::Expression(target) = &act.target {
                    all.push(target);
                }
            }
            What::Beside(steps) => all.extend(steps.iter().flat_map(Self::expressions)),
            What::Each(each) => {
                all.push(&each.list);
                all.extend(each.steps.iter().flat_map(Self::expressions));
            }
            What::Ask(_) | What::Wait(_) => {}
        }
        all
    }

    /// Is it nothing but an order: nothing to wait for, nothing that depends on how it ends?
    pub fn is_plain(&self) -> bool {
        let plain = |act: &Act| act.retries == 0 && act.timeout_seconds.is_none();
        self.name.is_none()
            && matches!(&self.what, What::Act(act) if plain(act))
            && self.on_failure == OnFailure::Continue
    }
}
