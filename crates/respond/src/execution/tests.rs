use std::collections::BTreeMap;

use proptest::prelude::*;
use sakimori_model::{Action, ActionState, Event, Order, Timestamp};
use serde_json::json;

use super::*;
use crate::testing::now;
use crate::wide::{self, Limits};

const LIMITS: Limits = Limits { expiry_seconds: 60, expiry_most_seconds: 100, grace_seconds: 30 };

/// A driver of the test's own: carries orders out as it is told.
struct World {
    playbook: Playbook,
    execution: Execution,
    event: Event,
    now: Timestamp,
    actions: BTreeMap<String, Action>,
    /// In the order in which they were ordered.
    ordered: Vec<String>,
    answers: BTreeMap<String, Vec<Answer>>,
    others: usize,
    undo: Option<String>,
    halted: Option<String>,
    taken_back: Vec<String>,
}

impl World {
    fn new(text: &str, event: serde_json::Value) -> Self {
        let playbook = Playbook::parse("p.yml", text).unwrap();
        let event = Event::from_json(event.as_object().unwrap().clone()).0;
        let execution = Execution::new(id_for(&playbook.id, "alert-1"), &playbook, "alert-1", "playbook:x", now(0));
        Self {
            playbook,
            execution,
            event,
            now: now(0),
            actions: BTreeMap::new(),
            ordered: Vec::new(),
            answers: BTreeMap::new(),
            others: 0,
            undo: None,
            halted: None,
            taken_back: Vec::new(),
        }
    }

    /// One pass; what is ordered is approved. Gives what was ordered, as `action target`.
    fn pass(&mut self) -> Vec<String> {
        let facts = Facts {
            event: &self.event,
            now: self.now,
            actions: &self.actions,
            answers: &self.answers,
            done_by_others: self.others,
            hosts: 10,
            halted: self.halted.as_deref(),
            undo: self.undo.as_deref(),
        };
        let commands = advance(&self.playbook, &mut self.execution, &facts);
        let mut ordered = Vec::new();
        for command in commands {
            match command {
                Command::Order(order) => {
                    ordered.push(format!("{} {}", order.action, order.target));
                    self.order(*order);
                }
                Command::Withdraw(id) => drop(self.actions.remove(&id)),
                Command::TakeBack { action, by, .. } => {
                    let known = self.actions.get_mut(&action).unwrap();
                    let who = by.as_deref().map_or(wide::Undo::Policy("x"), wide::Undo::Person);
                    let step = wide::undo(known, who, self.now, &LIMITS).unwrap();
                    assert!(known.apply(&step, self.now));
                    self.taken_back.push(action);
                }
            }
        }
        self.now = self.now.plus_secs(1);
        ordered
    }

    fn order(&mut self, order: Order) {
        if !self.actions.contains_key(&order.id) {
            self.ordered.push(order.id.clone());
        }
        let mut action = wide::plan(order, "manager", self.now, &LIMITS);
        assert!(action.apply(&wide::to(&action.order.id.clone(), ActionState::Approved), self.now));
        self.actions.insert(action.order.id.clone(), action);
    }

    /// Lets the nth action that was ordered come to this state.
    fn let_be(&mut self, nth: usize, state: ActionState) {
        let action = self.actions.get_mut(&self.ordered[nth]).unwrap();
        action.state = state;
        action.reason = Some(format!("as told: {}", state.name()));
    }

    fn state_of(&self, place: &str) -> StepState {
        self.execution.steps[place].state
    }

    fn answer(&mut self, place: &str, by: &str, allow: bool) {
        let answer = Answer { by: by.to_owned(), allow, at: self.now };
        self.answers.entry(place.to_owned()).or_default().push(answer);
    }
}

fn event() -> serde_json::Value {
    json!({"source": {"ip": "198.51.100.7"}, "rule": {"id": "r", "name": "R"}, "event": {"severity": 75},
        "related": {"ip": ["198.51.100.8", "198.51.100.9"]}})
}

fn with(steps: &str) -> String {
    format!("id: p\ntitle: {{ en: P }}\ntrigger: {{ alert: {{ scope: wide }} }}\n{steps}")
}

const TWO: &str = "steps:
  - { id: first, action: waf_block, target: event.source.ip }
  - { id: tell, action: notify, channel: ops }
";

#[test]
fn steps_come_one_after_the_other_and_a_second_look_orders_nothing_again() {
    let mut world = World::new(&with(TWO), event());
    assert_eq!(world.pass(), ["waf_block 198.51.100.7"]);
    assert_eq!(world.pass(), Vec::<String>::new(), "it waits");
    world.let_be(0, ActionState::Done);
    assert_eq!(world.pass(), ["notify ops"]);
    world.let_be(1, ActionState::Done);
    world.pass();
    assert_eq!((world.execution.state, world.state_of("0")), (State::Done, StepState::Done));
    assert_eq!(world.pass(), Vec::<String>::new());
}

#[test]
fn an_order_that_was_lost_is_given_again_under_the_same_id() {
    let mut world = World::new(&with(TWO), event());
    world.pass();
    let first = world.ordered.clone();
    world.actions.clear();
    assert_eq!(world.pass(), ["waf_block 198.51.100.7"]);
    assert_eq!(world.actions.keys().cloned().collect::<Vec<_>>(), first);
}

#[test]
fn what_fails_takes_back_what_was_done_the_last_first() {
    let steps = "steps:
  - { action: waf_block, target: event.source.ip }
  - { action: waf_block, target: '\"198.51.100.20\"' }
  - { action: notify, channel: ops }
  - { action: waf_block, target: '\"198.51.100.21\"' }
";
    let mut world = World::new(&with(steps), event());
    for nth in 0..3 {
        world.pass();
        world.let_be(nth, ActionState::Done);
    }
    world.pass();
    world.let_be(3, ActionState::Failed);
    for _ in 0..6 {
        world.pass();
        for nth in 0..2 {
            if world.actions[&world.ordered[nth]].state == ActionState::Undoing {
                world.let_be(nth, ActionState::Undone);
            }
        }
    }
    assert_eq!(world.taken_back, [world.ordered[1].clone(), world.ordered[0].clone()]);
    assert_eq!(world.execution.state, State::Compensated);
    assert_eq!((world.state_of("2"), world.state_of("3")), (StepState::Kept, StepState::Undone));
    assert!(world.execution.reason.as_ref().unwrap().contains("as told: failed"), "{:?}", world.execution.reason);
}

#[test]
fn a_step_may_go_on_or_stop_and_is_tried_again() {
    let steps = "steps:
  - { id: a, action: waf_block, target: event.source.ip, retries: 1, on_failure: continue }
  - { action: notify, channel: ops, when: steps.a == \"failed\" }
  - { action: waf_block, target: '\"nonsense\"', on_failure: stop }
";
    let mut world = World::new(&with(steps), event());
    world.pass();
    world.let_be(0, ActionState::Failed);
    assert_eq!(world.pass(), ["waf_block 198.51.100.7"]);
    world.let_be(1, ActionState::Failed);
    assert_eq!(world.pass(), ["notify ops"]);
    world.let_be(2, ActionState::Done);
    world.pass();
    assert_eq!(world.execution.state, State::Failed);
    assert_eq!(world.ordered.len(), 3);
}

#[test]
fn people_are_asked_and_their_answer_counts_while_it_is_time() {
    let steps = "steps:
  - approval: { ask: ops, within: 30m, persons: 2, text: { en: Shall it?, ja: よいか } }
  - { action: waf_block, target: event.source.ip }
";
    let ask = || {
        let mut world = World::new(&with(steps), event());
        assert_eq!(world.pass(), ["notify ops"]);
        let asked: serde_json::Value =
            serde_json::from_str(&world.actions[&world.ordered[0]].order.inputs["ask"]).unwrap();
        assert_eq!((asked["en"].as_str(), asked["step"].as_str()), (Some("Shall it?"), Some("0")));
        assert_eq!(world.execution.wake_at(), Some(now(1800)));
        assert_eq!(world.execution.questions().count(), 1);
        world
    };
    let mut yes = ask();
    yes.answer("0", "ann", true);
    yes.answer("0", "ann", true);
    assert!(yes.pass().is_empty(), "one person twice is one");
    yes.answer("0", "ben", true);
    assert_eq!(yes.pass(), ["waf_block 198.51.100.7"]);
    let mut no = ask();
    no.answer("0", "ann", true);
    no.answer("0", "ben", false);
    no.pass();
    assert_eq!((no.execution.state, no.execution.reason.as_deref()), (State::Denied, Some("denied by ben")));
    let mut late = ask();
    late.now = now(1801);
    late.answer("0", "ann", true);
    late.answer("0", "ben", true);
    late.pass();
    assert_eq!(late.execution.state, State::Denied);
    let mut silence = World::new(&with(&steps.replace("persons: 2", "otherwise: allow")), event());
    silence.pass();
    silence.now = now(1801);
    assert_eq!(silence.pass(), ["waf_block 198.51.100.7"]);
}

#[test]
fn silence_is_no_yes_where_nobody_could_hear_the_question() {
    let steps = "steps:
  - approval: { ask: ops, within: 30m, otherwise: allow, text: { en: Shall it? } }
  - { action: waf_block, target: event.source.ip }
";
    for state in [ActionState::Failed, ActionState::Refused, ActionState::NoEffect] {
        let mut world = World::new(&with(steps), event());
        world.pass();
        world.let_be(0, state);
        world.now = now(1801);
        assert!(world.pass().is_empty());
        assert_eq!(world.execution.state, State::Denied, "{}", world.execution.reason.clone().unwrap_or_default());
    }
}

#[test]
fn beside_one_that_failed_nothing_new_begins_and_a_no_is_a_no_at_any_time() {
    let steps = "steps:
  - parallel:
      - approval: { ask: ops, within: 30m, text: { en: Shall it? } }
      - { action: waf_block, target: event.source.ip }
      - { for_each: event.related.ip, steps: [ { action: waf_block, target: item } ] }
";
    let mut world = World::new(&with(steps), event());
    assert_eq!(world.pass(), ["notify ops", "waf_block 198.51.100.7", "waf_block 198.51.100.8"]);
    world.answer("0.0", "ann", false);
    world.let_be(2, ActionState::Done);
    assert!(world.pass().is_empty(), "the next of the loop is not begun");
    world.let_be(1, ActionState::Done);
    assert!(world.pass().is_empty());
    assert_eq!(world.execution.state, State::Denied, "{:?}", world.execution.reason);
}

#[test]
fn taking_back_does_not_wait_for_what_cannot_be_taken_back() {
    let mut world = World::new(&with(TWO), event());
    world.pass();
    world.let_be(0, ActionState::Done);
    world.pass();
    world.let_be(1, ActionState::Running);
    world.undo = Some("ann".to_owned());
    world.pass();
    assert_eq!((world.state_of("1"), world.taken_back.len()), (StepState::Kept, 1));
}

#[test]
fn the_blast_radius_refuses_or_asks() {
    let refuse = format!("limits: {{ most: 2, within: 1h }}\n{TWO}");
    let mut world = World::new(&with(&refuse), event());
    world.others = 2;
    assert!(world.pass().is_empty());
    assert_eq!(world.execution.state, State::Compensated);
    assert!(world.execution.reason.as_ref().unwrap().contains("number 3"), "{:?}", world.execution.reason);
    let asks = format!("limits: {{ share: 20, within: 1h, ask: ops }}\n{TWO}");
    let mut world = World::new(&with(&asks), event());
    world.others = 2;
    assert_eq!(world.pass(), ["notify ops"]);
    world.answer("0!limit", "ann", true);
    assert_eq!(world.pass(), ["waf_block 198.51.100.7"]);
    let mut within = World::new(&with(&asks), event());
    within.others = 1;
    assert_eq!(within.pass(), ["waf_block 198.51.100.7"]);
    assert_eq!(within.execution.counted_since(now(-1)), 1, "a message does not count");
}

#[test]
fn several_actions_on_one_target_are_one_against_the_limit() {
    let steps = "limits: { most: 1, within: 1h }
steps:
  - { id: first, action: waf_block, target: event.source.ip }
  - { id: again, action: waf_block, target: event.source.ip }
  - { id: other, action: waf_block, target: '\"203.0.113.9\"' }
";
    let mut world = World::new(&with(steps), event());
    assert_eq!(world.pass(), ["waf_block 198.51.100.7"]);
    world.let_be(0, ActionState::Done);
    assert_eq!(world.pass(), ["waf_block 198.51.100.7"], "the same one again is no second one");
    assert_eq!(world.execution.counted_since(now(-1)), 1);
    world.let_be(1, ActionState::Done);
    assert_eq!(world.pass(), Vec::<String>::new());
    assert!(world.execution.reason.as_ref().unwrap().contains("number 2"), "{:?}", world.execution.reason);
    // One that failed is not one that was hit.
    let mut world = World::new(&with(steps), event());
    world.pass();
    world.let_be(0, ActionState::Failed);
    world.pass();
    assert_eq!(world.execution.counted_since(now(-1)), 0);
}

#[test]
fn quiet_hours_wait_skip_or_ask() {
    // now(0) is 2027-01-15 08:00:00 UTC.
    let quiet = |then: &str| with(&format!("quiet_hours: {{ from: \"07:00\", to: \"09:00\", {then} }}\n{TWO}"));
    let mut wait = World::new(&quiet("then: wait"), event());
    assert!(wait.pass().is_empty());
    assert_eq!(wait.execution.wake_at(), Some(now(3600)));
    wait.now = now(3600);
    assert_eq!(wait.pass(), ["waf_block 198.51.100.7"]);
    let mut skip = World::new(&quiet("then: skip"), event());
    skip.pass();
    assert_eq!(skip.execution.state, State::Skipped);
    let mut ask = World::new(&quiet("then: ask, ask: ops"), event());
    assert_eq!(ask.pass(), ["notify ops"]);
    ask.answer("quiet_hours", "ann", true);
    assert_eq!(ask.pass(), ["waf_block 198.51.100.7"]);
}

#[test]
fn loops_and_what_runs_beside_each_other() {
    let steps = "steps:
  - for_each: event.related.ip
    most: 2
    steps: [ { action: waf_block, target: item } ]
  - parallel:
      - { action: waf_block, target: event.source.ip }
      - { action: notify, channel: ops }
";
    let mut world = World::new(&with(steps), event());
    assert_eq!(world.pass(), ["waf_block 198.51.100.8"]);
    world.let_be(0, ActionState::Done);
    assert_eq!(world.pass(), ["waf_block 198.51.100.9"]);
    world.let_be(1, ActionState::Done);
    assert_eq!(world.pass(), ["waf_block 198.51.100.7", "notify ops"]);
    world.let_be(2, ActionState::Refused);
    world.pass();
    assert_eq!(world.execution.state, State::Running, "the other comes to its end first");
    world.let_be(3, ActionState::Done);
    world.pass();
    assert_eq!(world.execution.state, State::Undoing);
    let mut many = World::new(&with(&steps.replace("most: 2", "most: 1")), event());
    assert!(many.pass().is_empty());
    assert!(many.execution.reason.as_ref().unwrap().contains("2 items, more than the 1"), "{:?}", many.execution);
}

#[test]
fn a_time_out_takes_back_and_a_person_s_undo_ends_it() {
    let steps = "steps:
  - { action: waf_block, target: event.source.ip, timeout: 10s }
  - { action: notify, channel: ops }
";
    let mut world = World::new(&with(steps), event());
    world.pass();
    world.let_be(0, ActionState::Running);
    assert!(world.pass().is_empty() && world.taken_back.is_empty());
    world.now = now(10);
    world.pass();
    assert_eq!(world.taken_back.len(), 1);
    world.let_be(0, ActionState::Undone);
    world.pass();
    assert_eq!(world.execution.state, State::Compensated);
    let mut taken = World::new(&with(steps), event());
    taken.pass();
    taken.let_be(0, ActionState::Undone);
    taken.pass();
    assert_eq!(taken.execution.state, State::Stopped);
    let mut halted = World::new(&with(steps), event());
    halted.halted = Some("all answers are stopped".to_owned());
    assert!(halted.pass().is_empty());
    assert_eq!(halted.execution.state, State::Stopped);
    let stop = format!("stop_when: steps.first == \"done\"\n{TWO}");
    let mut stops = World::new(&with(&stop), event());
    stops.pass();
    stops.let_be(0, ActionState::Done);
    assert!(stops.pass().is_empty());
    assert_eq!(stops.execution.state, State::Stopped);
}

#[test]
fn a_person_takes_all_of_it_back() {
    let mut world = World::new(&with(TWO), event());
    for nth in 0..2 {
        world.pass();
        world.let_be(nth, ActionState::Done);
    }
    world.pass();
    assert_eq!(world.execution.state, State::Done);
    world.undo = Some("ann".to_owned());
    world.pass();
    assert_eq!(world.actions[&world.ordered[0]].undone_by.as_deref(), Some("ann"));
    world.let_be(0, ActionState::Undone);
    world.pass();
    assert_eq!(world.execution.state, State::Undone);
    world.pass();
    assert_eq!(world.execution.state, State::Undone, "once");
}

proptest! {
    /// However its actions end, an execution ends, orders nothing twice, and leaves nothing behind where it was taken back.
    #[test]
    fn every_execution_ends(ends in prop::collection::vec(0_u8..5, 8), undo in prop::option::of(0_usize..6)) {
        let steps = "steps:
  - { action: waf_block, target: event.source.ip, retries: 1 }
  - parallel:
      - { action: waf_block, target: '\"198.51.100.20\"' }
      - { action: notify, channel: ops }
  - for_each: event.related.ip
    steps: [ { action: waf_block, target: item, timeout: 5s } ]
";
        let mut world = World::new(&with(steps), event());
        let mut next = 0;
        for turn in 0..60 {
            if undo == Some(turn) {
                world.undo = Some("ann".to_owned());
            }
            world.pass();
            for id in world.ordered.clone() {
                let action = world.actions.get_mut(&id).unwrap();
                match action.state {
                    ActionState::Undoing => action.state = ActionState::Undone,
                    ActionState::Approved => {
                        let how = ends.get(next % ends.len()).copied().unwrap_or(0);
                        next += 1;
                        action.state = match how {
                            0 | 1 => ActionState::Done,
                            2 => ActionState::Failed,
                            3 => ActionState::NoEffect,
                            // Stays under way until its time-out, or for ever where it has none.
                            _ if action.order.target.to_string() == "198.51.100.8" => ActionState::Approved,
                            _ => ActionState::Refused,
                        };
                    }
                    _ => {}
                }
            }
        }
        prop_assert!(world.execution.state.is_over(), "{:?}", world.execution);
        let unique: std::collections::BTreeSet<_> = world.ordered.iter().collect();
        prop_assert_eq!(unique.len(), world.ordered.len());
        if matches!(world.execution.state, State::Compensated | State::Undone) {
            for action in world.actions.values().filter(|action| action.order.action == "waf_block") {
                prop_assert!(action.state.is_final(), "{:?}", action);
            }
        }
    }
}
