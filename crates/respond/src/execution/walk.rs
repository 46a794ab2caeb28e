//! One pass over an execution: what can begin begins, what is over is noted, what failed is answered.

use std::collections::BTreeMap;

use sakimori_model::action::Target;
use sakimori_model::rule::Scope;
use sakimori_model::{ActionState, Order, Timestamp};

use super::{Command, Execution, Facts, Progress, Question, State, StepState, back};
use crate::actions::{Runs, TargetKind, notify};
use crate::condition::Scene;
use crate::playbook::{Act, Ask, Each, Naming, OnFailure, Otherwise, Playbook, Quiet, Setting, Step, What};
use crate::wide;

/// Input of the message that asks people something: JSON that [`crate::message`] shows as a question.
pub const ASK: &str = "ask";

/// Brings an execution as far as it can go now, and says what has to be done for it.
pub fn advance(playbook: &Playbook, execution: &mut Execution, facts: &Facts<'_>) -> Vec<Command> {
    if execution.state.is_over() && facts.undo.is_none() {
        return Vec::new();
    }
    let mut commands = {
        let scene = Scene::new(facts.event, &execution.alert, &playbook.needs);
        let mut walk = Walk { playbook, execution, facts, scene, holds: false, commands: Vec::new() };
        if let Some(by) = facts.undo
            && !matches!(walk.execution.state, State::Undone | State::Compensated)
            && walk.execution.becomes != Some(State::Undone)
        {
            walk.take_all_back(State::Undone, format!("taken back by {by}"));
        }
        if walk.execution.state == State::Running {
            walk.run();
        }
        walk.commands
    };
    if execution.state == State::Undoing {
        commands.extend(back::undo(execution, facts));
    }
    commands
}

/// How a step or a list of them stands.
enum Flow {
    /// Something is waited for.
    Going,
    /// It is over: on to the next.
    Over,
    /// It failed.
    Failed(String, OnFailure),
    /// The whole execution ends.
    Ends(State, String),
}

struct Walk<'a> {
    playbook: &'a Playbook,
    execution: &'a mut Execution,
    facts: &'a Facts<'a>,
    scene: Scene<'a>,
    /// Something beside failed: what is under way comes to its end, and nothing new begins.
    holds: bool,
    commands: Vec<Command>,
}

impl<'a> Walk<'a> {
    fn run(&mut self) {
        let playbook = self.playbook;
        let flow = match self.quiet() {
            Flow::Over => self.list(&playbook.steps, "", None),
            other => other,
        };
        match flow {
            Flow::Going => {}
            Flow::Over => self.end(State::Done, None),
            Flow::Ends(state, reason) => self.end(state, Some(reason)),
            Flow::Failed(reason, OnFailure::Undo) => self.take_all_back(State::Compensated, reason),
            Flow::Failed(reason, _) => self.end(State::Failed, Some(reason)),
        }
    }

    fn end(&mut self, state: State, reason: Option<String>) {
        self.execution.state = state;
        self.execution.reason = reason.or_else(|| self.execution.reason.take());
        let now = self.facts.now;
        for step in self.execution.steps.values_mut().filter(|step| step.state == StepState::Waiting) {
            // Nobody has to answer any more.
            (step.state, step.since) = (StepState::Skipped, now);
        }
    }

    fn take_all_back(&mut self, becomes: State, reason: String) {
        self.end(State::Undoing, Some(reason));
        self.execution.becomes = Some(becomes);
    }

    /// In quiet hours it waits, asks or does nothing; once it has begun it goes on.
    fn quiet(&mut self) -> Flow {
        let Some(hours) = &self.playbook.quiet_hours else { return Flow::Over };
        let place = "quiet_hours";
        let until = match self.execution.steps.get(place) {
            None if self.execution.steps.is_empty() => match hours.until(self.facts.now) {
                Some(until) => until,
                None => {
                    self.note(place, StepState::Skipped);
                    return Flow::Over;
                }
            },
            None => return Flow::Over,
            Some(known) if known.state != StepState::Waiting => return Flow::Over,
            Some(known) => known.until.unwrap_or(self.facts.now),
        };
        match &hours.then {
            Quiet::Skip => Flow::Ends(State::Skipped, format!("quiet hours until {until}")),
            Quiet::Ask(ask) => self.ask(ask, place, OnFailure::Stop),
            Quiet::Wait => self.wait(place, until),
        }
    }

    fn list(&mut self, steps: &'a [Step], prefix: &str, item: Option<&str>) -> Flow {
        for (at, step) in steps.iter().enumerate() {
            let place = format!("{prefix}{at}");
            if let Some(ends) = self.stops(&place) {
                return ends;
            }
            match self.step(step, &place, item) {
                Flow::Over => {}
                Flow::Failed(reason, OnFailure::Continue) => {
                    if let Some(known) = self.execution.steps.get_mut(&place) {
                        known.reason.get_or_insert(reason);
                    }
                }
                other => return other,
            }
        }
        Flow::Over
    }

    /// Does anything end it before a step that has not begun?
    fn stops(&mut self, place: &str) -> Option<Flow> {
        if self.execution.steps.contains_key(place) {
            return None;
        }
        if let Some(why) = self.facts.halted {
            return Some(Flow::Ends(State::Stopped, why.to_owned()));
        }
        self.set_steps();
        let stop = self.playbook.stop_when.as_ref()?;
        match stop.holds(&self.scene) {
            Ok(false) => None,
            Ok(true) => Some(Flow::Ends(State::Stopped, "its stop condition holds".to_owned())),
            Err(reason) => Some(Flow::Ends(State::Stopped, format!("its stop condition cannot be answered: {reason}"))),
        }
    }

    fn step(&mut self, step: &'a Step, place: &str, item: Option<&str>) -> Flow {
        match self.execution.steps.get(place).map(|known| (known.state, known.reason.clone())) {
            Some((StepState::Done | StepState::Skipped, _)) => return Flow::Over,
            Some((StepState::Failed, reason)) => {
                let reason = reason.unwrap_or_default();
                return match (&step.what, step.on_failure) {
                    (What::Ask(_), OnFailure::Stop) => Flow::Ends(State::Denied, reason),
                    (_, then) => Flow::Failed(reason, then),
                };
            }
            Some(_) => {}
            None if self.holds => return Flow::Over,
            None => {
                self.set_item(item);
                match step.when.as_ref().map(|when| when.holds(&self.scene)) {
                    None | Some(Ok(true)) => {}
                    Some(Ok(false)) => {
                        self.note(place, StepState::Skipped).reason = Some("its condition is false".to_owned());
                        return Flow::Over;
                    }
                    Some(Err(reason)) => {
                        let reason = format!("its condition cannot be answered: {reason}");
                        return self.fail(place, reason, step.on_failure);
                    }
                }
            }
        }
        match &step.what {
            What::Act(act) => self.act(act, place, item, step.on_failure),
            What::Ask(ask) => self.ask(ask, place, step.on_failure),
            What::Wait(seconds) => {
                let until = self.execution.steps.get(place).and_then(|known| known.until);
                self.wait(place, until.unwrap_or_else(|| wide::later(self.facts.now, *seconds)))
            }
            What::Beside(steps) => self.beside(steps, place, item, step.on_failure),
            What::Each(each) => self.each(each, place, step.on_failure),
        }
    }

    fn beside(&mut self, steps: &'a [Step], place: &str, item: Option<&str>, then: OnFailure) -> Flow {
        if !self.execution.steps.contains_key(place) {
            self.note(place, StepState::Ordered);
        }
        let (mut going, mut failed, mut ends) = (false, None, None);
        let held = self.holds;
        for (at, step) in steps.iter().enumerate() {
            match self.step(step, &format!("{place}.{at}"), item) {
                Flow::Going => going = true,
                Flow::Over | Flow::Failed(_, OnFailure::Continue) => {}
                Flow::Failed(reason, inner) => failed = failed.or(Some((reason, inner))),
                Flow::Ends(state, reason) => ends = ends.or(Some((state, reason))),
            }
            self.holds |= failed.is_some() || ends.is_some();
        }
        self.holds = held;
        match (going, ends, failed) {
            // What is under way comes to its end first.
            (true, ..) => Flow::Going,
            (false, Some((state, reason)), _) => Flow::Ends(state, reason),
            (false, None, Some((reason, inner))) => self.fail(place, reason, inner.within(then)),
            (false, None, None) => self.over(place, None),
        }
    }

    fn each(&mut self, each: &'a Each, place: &str, then: OnFailure) -> Flow {
        let items = match self.execution.steps.get(place) {
            Some(known) => known.items.clone(),
            None => match each.list.list(&self.scene) {
                Ok(items) if items.len() > each.most => {
                    let reason = format!("{} items, more than the {} that the playbook allows", items.len(), each.most);
                    return self.fail(place, reason, then);
                }
                Ok(items) => {
                    self.note(place, StepState::Ordered).items.clone_from(&items);
                    items
                }
                Err(reason) => return self.fail(place, reason, then),
            },
        };
        for (at, item) in items.iter().enumerate() {
            match self.list(&each.steps, &format!("{place}[{at}]."), Some(item)) {
                Flow::Over => {}
                Flow::Failed(reason, inner) => {
                    return self.fail(place, format!("{item}: {reason}"), inner.within(then));
                }
                other => return other,
            }
        }
        self.over(place, None)
    }

    fn wait(&mut self, place: &str, until: Timestamp) -> Flow {
        if until <= self.facts.now {
            return self.over(place, None);
        }
        if !self.execution.steps.contains_key(place) {
            self.note(place, StepState::Waiting).until = Some(until);
        }
        Flow::Going
    }

    fn ask(&mut self, ask: &Ask, place: &str, then: OnFailure) -> Flow {
        let now = self.facts.now;
        let Some(known) = self.execution.steps.get(place) else {
            let until = wide::later(now, ask.within_seconds);
            let question = Question {
                en: ask.text.en.clone(),
                ja: ask.text.ja.clone(),
                persons: ask.persons,
                otherwise: ask.otherwise,
            };
            let order = self.question(ask, place, &question, until);
            let asked = order.id.clone();
            let note = self.note(place, StepState::Waiting);
            (note.until, note.question, note.asked) = (Some(until), Some(question), Some(asked));
            self.commands.push(Command::Order(Box::new(order)));
            return Flow::Going;
        };
        let (until, asked) = (known.until.unwrap_or(now), known.asked.clone());
        let answers = self.facts.answers.get(place).map(Vec::as_slice).unwrap_or_default();
        let counted = || answers.iter().filter(|answer| answer.at <= until);
        let denied = |walk: &mut Self, reason: String| match then {
            OnFailure::Stop => {
                let note = walk.note(place, StepState::Failed);
                note.reason = Some(reason.clone());
                Flow::Ends(State::Denied, reason)
            }
            _ => walk.fail(place, reason, then),
        };
        if let Some(no) = counted().find(|answer| !answer.allow) {
            let reason = format!("denied by {}", no.by);
            return denied(self, reason);
        }
        let names: std::collections::BTreeSet<&str> = counted().map(|answer| answer.by.as_str()).collect();
        if names.len() >= usize::try_from(ask.persons).unwrap_or(usize::MAX) {
            let reason = format!("allowed by {}", names.into_iter().collect::<Vec<_>>().join(", "));
            return self.over(place, Some(reason));
        }
        if now < until {
            return Flow::Going;
        }
        let sent = asked.is_some_and(|id| {
            let known = self.facts.actions.get(&id).map(|action| action.state);
            known.is_some_and(|state| {
                !matches!(state, ActionState::Failed | ActionState::Refused | ActionState::NoEffect)
            })
        });
        match ask.otherwise {
            // Silence means yes only where somebody could have said no.
            Otherwise::Allow if !sent => denied(self, "the question could not be sent to anybody".to_owned()),
            Otherwise::Allow => self.over(place, Some("nobody answered; that allows it".to_owned())),
            Otherwise::Deny => denied(self, "nobody answered in time".to_owned()),
        }
    }

    /// The message that asks.
    fn question(&self, ask: &Ask, place: &str, question: &Question, until: Timestamp) -> Order {
        let target = Target::Channel(ask.channel.clone());
        let keyed_by = format!("{} {place} ask", self.execution.id);
        let asked = serde_json::json!({
            "execution": self.execution.id,
            "step": place,
            "playbook": self.playbook.id,
            "title_en": self.playbook.title.en,
            "title_ja": self.playbook.title.ja,
            "en": question.en,
            "ja": question.ja,
            "persons": question.persons,
            "until": until.to_string(),
            "otherwise": question.otherwise,
        });
        Order {
            id: wide::order_id(&keyed_by, notify::ID, &target, MANAGER),
            action: notify::ID.to_owned(),
            target,
            expiry: None,
            cause: self.playbook.cause(self.facts.event, &self.execution.alert),
            via: None,
            probe: false,
            inputs: BTreeMap::from([(ASK.to_owned(), asked.to_string())]),
            signatures: Vec::new(),
        }
    }

    fn act(&mut self, act: &'a Act, place: &str, item: Option<&str>, then: OnFailure) -> Flow {
        let known = self.execution.steps.get(place).filter(|known| known.action.is_some());
        let Some(known) = known else {
            return self.begin(act, place, item, then, 0);
        };
        let (id, retries, until) = (known.action.clone().unwrap_or_default(), known.retries, known.until);
        let Some(action) = self.facts.actions.get(&id) else {
            // A host tells of its action once it has taken the order.
            return match act.action.runs {
                Runs::Host if until.is_some_and(|end| end <= self.facts.now) => {
                    self.commands.push(Command::Withdraw(id));
                    self.fail(place, "its host did not take the order in time".to_owned(), then)
                }
                Runs::Host => Flow::Going,
                _ => self.begin(act, place, item, then, retries),
            };
        };
        match action.state {
            ActionState::Done | ActionState::Expired => self.over(place, action.reason.clone()),
            ActionState::NoEffect => self.over(place, action.reason.clone()),
            ActionState::Undoing | ActionState::Undone if until.is_some_and(|end| end <= self.facts.now) => {
                self.fail(place, "it took longer than its time-out".to_owned(), then)
            }
            ActionState::Undoing => Flow::Going,
            ActionState::Undone => {
                let by = action.undone_by.as_deref().unwrap_or("the system");
                let note = self.note(place, StepState::Undone);
                note.reason = Some(format!("taken back by {by}"));
                Flow::Ends(
                    State::Stopped,
                    format!("{} of {} was taken back by {by}", act.action.id, action.order.target),
                )
            }
            ActionState::Failed | ActionState::Refused => {
                let reason = action.reason.clone().unwrap_or_else(|| action.state.name().to_owned());
                if action.state == ActionState::Failed && retries < act.retries {
                    return self.begin(act, place, item, then, retries + 1);
                }
                self.fail(place, format!("{} of {}: {reason}", act.action.id, action.order.target), then)
            }
            ActionState::Planned | ActionState::Approved | ActionState::Running => {
                if until.is_some_and(|end| end <= self.facts.now) {
                    if !wide::can_be_undone(&action.order) {
                        let reason = "it took longer than its time-out, goes on, and cannot be taken back";
                        return self.fail(place, reason.to_owned(), then);
                    }
                    let reason = "it took longer than its time-out".to_owned();
                    self.commands.push(Command::TakeBack { action: id, reason, by: None });
                }
                Flow::Going
            }
        }
    }

    fn begin(&mut self, act: &'a Act, place: &str, item: Option<&str>, then: OnFailure, retries: u32) -> Flow {
        if let Some(why) = self.facts.halted {
            return Flow::Ends(State::Stopped, why.to_owned());
        }
        self.set_item(item);
        let keyed_by = format!("{} {place} {retries}", self.execution.id);
        let setting = Setting { place: MANAGER, now: self.facts.now, scope: Scope::Wide };
        let naming = Naming { keyed_by: &keyed_by, setting: &setting };
        let order = self.playbook.order(act, self.facts.event, &self.execution.alert, &self.scene, &naming);
        let mut order = match order {
            Ok(order) => order,
            Err(reason) => return self.fail(place, format!("{}: {reason}", act.action.id), then),
        };
        let counts = act.action.target != TargetKind::Channel && !self.hits_already(place, &order.target);
        if counts
            && !self.execution.steps.contains_key(place)
            && let Some(flow) = self.over_limit(place, then)
        {
            return flow;
        }
        if order.cause.alert.is_empty() && self.execution.by.starts_with("playbook:") {
            // Nobody ordered it by hand.
            order.cause.alert = format!("execution:{}", self.execution.id);
        }
        let longest = act.timeout_seconds.or((act.action.runs == Runs::Host).then_some(HOST_SECONDS));
        let until = longest.map(|seconds| wide::later(self.facts.now, seconds));
        let id = order.id.clone();
        let note = self.note(place, StepState::Ordered);
        (note.action, note.retries, note.counts, note.until) = (Some(id), retries, counts, until);
        self.commands.push(Command::Order(Box::new(order)));
        Flow::Going
    }

    /// Does another step of this execution act on the same target and count? An instance of which a snapshot is made, which is
    /// isolated and detached is one instance.
    fn hits_already(&self, place: &str, target: &Target) -> bool {
        let ordered = |id: &str| {
            let now = self.commands.iter().find_map(|command| match command {
                Command::Order(order) if order.id == id => Some(&order.target),
                _ => None,
            });
            now.or_else(|| self.facts.actions.get(id).map(|action| &action.order.target))
        };
        self.execution.counting().any(|(other, step)| {
            other != place && step.action.as_deref().and_then(ordered).is_some_and(|other| other == target)
        })
    }

    /// Would one more be too many? Then it is refused, or people are asked.
    fn over_limit(&mut self, place: &str, then: OnFailure) -> Option<Flow> {
        let limits = self.playbook.limits.as_ref()?;
        let asked = format!("{place}!limit");
        let own = self.execution.counted_since(before(self.facts.now, limits.within_seconds));
        if !self.execution.steps.contains_key(&asked)
            && let Ok(()) = limits.allow(self.facts.done_by_others + own, self.facts.hosts)
        {
            return None;
        }
        let Some(ask) = &limits.ask else {
            let reason = limits.allow(self.facts.done_by_others + own, self.facts.hosts).err();
            return Some(self.fail(place, format!("refused: {}", reason.unwrap_or_default()), then));
        };
        match self.execution.steps.get(&asked).map(|known| known.state) {
            Some(StepState::Done) => None,
            _ => match self.ask(ask, &asked, OnFailure::Stop) {
                Flow::Over => None,
                other => Some(other),
            },
        }
    }

    fn over(&mut self, place: &str, reason: Option<String>) -> Flow {
        self.note(place, StepState::Done).reason = reason;
        Flow::Over
    }

    fn fail(&mut self, place: &str, reason: String, then: OnFailure) -> Flow {
        self.note(place, StepState::Failed).reason = Some(reason.clone());
        Flow::Failed(reason, then)
    }

    /// Notes a step's state; one that is new gets the next number.
    fn note(&mut self, place: &str, state: StepState) -> &mut Progress {
        let now = self.facts.now;
        if !self.execution.steps.contains_key(place) {
            self.execution.next += 1;
        }
        let number = self.execution.next;
        let step = self.execution.steps.entry(place.to_owned()).or_insert_with(|| Progress {
            state,
            since: now,
            number,
            action: None,
            asked: None,
            retries: 0,
            counts: false,
            until: None,
            reason: None,
            items: Vec::new(),
            question: None,
        });
        (step.state, step.since) = (state, now);
        step
    }

    fn set_item(&mut self, item: Option<&str>) {
        if let Some(item) = item {
            self.scene.set_item(item);
        }
        self.set_steps();
    }

    /// The states of the steps that have a name, for conditions.
    fn set_steps(&mut self) {
        let mut states = serde_json::Map::new();
        names(&self.playbook.steps, "", &mut |name, place| {
            if let Some(step) = self.execution.steps.get(place) {
                states.insert(name.to_owned(), step.state.name().into());
            }
        });
        self.scene.set_steps(&states);
    }
}

/// How long a host may take to accept an order where the step has no time-out, in seconds.
const HOST_SECONDS: u64 = 900;
/// The place that carries an execution's actions out.
const MANAGER: &str = "manager";

/// Each step that has a name, with its place; of those within a loop none has one place.
fn names(steps: &[Step], prefix: &str, see: &mut impl FnMut(&str, &str)) {
    for (at, step) in steps.iter().enumerate() {
        let place = format!("{prefix}{at}");
        if let Some(name) = &step.name {
            see(name, &place);
        }
        if let What::Beside(inner) = &step.what {
            names(inner, &format!("{place}."), see);
        }
    }
}

fn before(now: Timestamp, seconds: u64) -> Timestamp {
    now.plus_secs(-i64::try_from(seconds).unwrap_or(i64::MAX))
}
