//! CEL expressions of playbooks, with bounds on what they may cost.
//!
//! An expression is at most [`MAX_LENGTH`] bytes and [`MAX_DEPTH`] deep. Of the macros that loop only `exists` and
//! `all` are allowed, and none within another: each then walks one list of the event once, and nothing grows by
//! repetition. Regular expressions are of the linear kind, and must be written in the expression, not taken
//! from the event.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{Context, Env, Program, Value};
use sakimori_model::{Event, field};
use serde_json::json;

/// Longest expression, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Deepest nesting of an expression.
pub const MAX_DEPTH: u16 = 32;
/// Longest list that [`Condition::list`] gives.
pub const MAX_LIST: usize = 10_000;

/// Names that an expression may use beside `event` and `alert`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    /// `item`: within a `for_each`.
    pub item: bool,
    /// `steps.<id>`: the states of steps before, by their ids.
    pub steps: bool,
}

impl Names {
    fn has(self, name: &str) -> bool {
        match name {
            "event" | "alert" => true,
            "item" => self.item,
            "steps" => self.steps,
            _ => false,
        }
    }

    fn list(self) -> String {
        let all = ["event", "alert", "item", "steps"];
        all.into_iter().filter(|name| self.has(name)).collect::<Vec<_>>().join(", ")
    }
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A checked expression.
#[derive(Debug)]
pub struct Condition {
    program: Program,
    needs: Needs,
}

/// What expressions look at: the event's names on its first level, or the event as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// `event.<name>…` alone.
    Names(BTreeSet<String>),
    /// `event` itself, or by a name that is computed.
    Whole,
}

impl Default for Needs {
    fn default() -> Self {
        Self::Names(BTreeSet::new())
    }
}

impl Needs {
    /// What both need together.
    pub fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Names(mut one), Self::Names(other)) => {
                one.extend(other.iter().cloned());
                Self::Names(one)
            }
            _ => Self::Whole,
        }
    }

    fn of(at: &IdedExpr) -> Self {
        match &at.expr {
            Expr::Ident(name) if name == "event" => Self::Whole,
            Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "event") => {
                Self::Names(BTreeSet::from([select.field.clone()]))
            }
            other => children(other).into_iter().fold(Self::default(), |needs, child| needs.and(&Self::of(child))),
        }
    }
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    /// Line within the expression, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// What expressions see of one alert.
pub struct Scene<'a> {
    context: Context<'a, 'a>,
}

impl Scene<'_> {
    /// From an alert and its id, with what the expressions need of it: an alert has many fields, and a condition
    /// looks at few.
    pub fn new(alert: &Event, id: &str, needs: &Needs) -> Self {
        let event = serde_json::Value::Object(match needs {
            Needs::Whole => alert.to_json(),
            Needs::Names(names) => alert.to_json_of(|name| names.contains(name)),
        });
        let about = json!({
            "id": id,
            "rule": alert.str(field::RULE_ID),
            "severity": alert.long(field::EVENT_SEVERITY).unwrap_or(0),
            "count": alert.long(field::SAKIMORI_ALERT_COUNT).unwrap_or(0),
            "probe": alert.bool(field::SAKIMORI_PROBE).unwrap_or(false),
        });
        let mut context = Context::with_env(Arc::clone(&ENV));
        for (name, json) in [("event", event), ("alert", about)] {
            // JSON has nothing that CEL lacks; where the conversion fails all the same, nothing is found there.
            let value = cel::to_value(json).unwrap_or(Value::Null);
            context.add_variable_from_value(name, value);
        }
        Self { context }
    }

    /// What `item` is from now on.
    pub fn set_item(&mut self, item: &str) {
        self.context.add_variable_from_value("item", Value::from(item));
    }

    /// What `steps` is from now on: states by the ids of steps.
    pub fn set_steps(&mut self, states: &serde_json::Map<String, serde_json::Value>) {
        let value = cel::to_value(serde_json::Value::Object(states.clone())).unwrap_or(Value::Null);
        self.context.add_variable_from_value("steps", value);
    }
}

impl Condition {
    /// Compiles and checks an expression over `event` and `alert`.
    ///
    /// # Errors
    /// Line and reason.
    pub fn compile(source: &str) -> Result<Self, ConditionError> {
        Self::compile_with(source, Names::default())
    }

    /// Compiles and checks an expression that may use more names.
    ///
    /// # Errors
    /// Line and reason.
    pub fn compile_with(source: &str, names: Names) -> Result<Self, ConditionError> {
        let fail = |line: usize, reason: String| ConditionError { line, reason };
        if source.len() > MAX_LENGTH {
            return Err(fail(1, format!("an expression of {} bytes is longer than {MAX_LENGTH}", source.len())));
        }
        if nesting(source) > MAX_DEPTH {
            return Err(fail(1, format!("an expression is nested deeper than {MAX_DEPTH}")));
        }
        let program = ENV.compile(source).map_err(|errors| {
            let first = errors.errors.first();
            let line = first.and_then(|error| usize::try_from(error.pos.0).ok()).unwrap_or(1).max(1);
            fail(line, first.map_or_else(|| errors.to_string(), |error| error.msg.clone()))
        })?;
        walk(program.expression(), false, 0).map_err(|reason| fail(1, reason))?;
        for name in program.references().variables() {
            if !names.has(name) && !name.starts_with('@') && !is_loop_variable(program.expression(), name) {
                return Err(fail(1, format!("unknown name {name}; known are {}", names.list())));
            }
        }
        let needs = Needs::of(program.expression());
        Ok(Self { program, needs })
    }

    /// What it looks at.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Is it true? A field that is absent makes it false; anything else that cannot be answered is an error.
    pub fn holds(&self, scene: &Scene<'_>) -> Result<bool, String> {
        match self.program.execute(&scene.context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(_) => Err("it gives no true or false".to_owned()),
            Err(cel::ExecutionError::NoSuchKey(_)) => Ok(false),
            Err(error) => Err(short(&error.to_string())),
        }
    }

    /// The list of texts that it gives: of a list its texts, of a text that alone, of a field that is absent none.
    ///
    /// # Errors
    /// It gives something else, or more than [`MAX_LIST`].
    pub fn list(&self, scene: &Scene<'_>) -> Result<Vec<String>, String> {
        match self.program.execute(&scene.context) {
            Ok(Value::String(text)) => Ok(vec![text.to_string()]),
            Ok(Value::List(list)) if list.len() <= MAX_LIST => list
                .iter()
                .map(|one| match one {
                    Value::String(text) => Ok(text.to_string()),
                    _ => Err("its list holds something that is no text".to_owned()),
                })
                .collect(),
            Ok(Value::List(_)) => Err(format!("its list is longer than {MAX_LIST}")),
            Ok(_) => Err("it gives no list".to_owned()),
            Err(cel::ExecutionError::NoSuchKey(_)) => Ok(Vec::new()),
            Err(error) => Err(short(&error.to_string())),
        }
    }

    /// The text that it gives.
    pub fn text(&self, scene: &Scene<'_>) -> Result<String, String> {
        match self.program.execute(&scene.context) {
            Ok(Value::String(text)) => Ok(text.to_string()),
            Ok(_) => Err("its target gives no text".to_owned()),
            Err(error) => Err(short(&error.to_string())),
        }
    }
}

/// An error of the interpreter may quote whole values of the event.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The deepest nesting of brackets, before the parser recurses over it.
fn nesting(source: &str) -> u16 {
    let (mut depth, mut most) = (0_u16, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth = depth.saturating_add(1),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

fn is_loop_variable(at: &IdedExpr, name: &str) -> bool {
    let mut found = false;
    each(at, &mut |expr| {
        if let Expr::Comprehension(inner) = expr {
            found |= inner.iter_var == name || inner.iter_var2.as_deref() == Some(name) || inner.accu_var == name;
        }
    });
    found
}

/// Refuses what could run away.
fn walk(at: &IdedExpr, looping: bool, depth: u16) -> Result<(), String> {
    if depth > 4 * MAX_DEPTH {
        return Err(format!("an expression is nested deeper than {MAX_DEPTH}"));
    }
    let mut looping = looping;
    match &at.expr {
        Expr::Comprehension(inner) => {
            let yes_or_no = matches!(&inner.accu_init.expr, Expr::Literal(LiteralValue::Boolean(_)));
            if !yes_or_no {
                return Err("of the macros that loop only exists and all are allowed".to_owned());
            }
            if looping {
                return Err("a loop within a loop is not allowed".to_owned());
            }
            looping = true;
        }
        Expr::Call(call) if call.func_name == "matches" => {
            let literal = |expr: &IdedExpr| matches!(&expr.expr, Expr::Literal(LiteralValue::String(_)));
            if looping || !call.args.last().is_some_and(literal) {
                return Err("matches takes a regular expression that is written there, outside a loop".to_owned());
            }
        }
        _ => {}
    }
    for child in children(&at.expr) {
        walk(child, looping, depth + 1)?;
    }
    Ok(())
}

fn each(at: &IdedExpr, see: &mut impl FnMut(&Expr)) {
    see(&at.expr);
    for child in children(&at.expr) {
        each(child, see);
    }
}

fn children(expr: &Expr) -> Vec<&IdedExpr> {
    match expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(inner) => {
            vec![&inner.iter_range, &inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Struct(structure) => structure.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Event {
        let (event, _) = Event::from_json(
            json!({"source": {"ip": "192.0.2.1"}, "event": {"severity": 75}, "tags": ["a", "b"], "rule": {"id": "r"}})
                .as_object()
                .unwrap()
                .clone(),
        );
        event
    }

    fn ask(source: &str) -> Result<bool, String> {
        let condition = Condition::compile(source).map_err(|error| error.reason)?;
        let answer = condition.holds(&Scene::new(&alert(), "id", condition.needs()));
        assert_eq!(answer, condition.holds(&Scene::new(&alert(), "id", &Needs::Whole)), "{source}");
        answer
    }

    #[test]
    fn what_an_expression_needs_is_known() {
        let needs = |source: &str| Condition::compile(source).unwrap().needs().clone();
        let names = |names: &[&str]| Needs::Names(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(
            needs("has(event.source.ip) && event.tags.exists(x, x == event.user.name)"),
            names(&["source", "tags", "user"])
        );
        assert_eq!(needs("alert.severity > 3"), names(&[]));
        for source in ["event['source'].ip == 'x'", "'source' in event", "event == alert"] {
            assert_eq!(needs(source), Needs::Whole, "{source}");
        }
    }

    #[test]
    fn conditions_see_the_event_and_the_alert() {
        for source in [
            "event.source.ip == '192.0.2.1'",
            "alert.severity >= 50 && alert.rule == 'r' && alert.id == 'id'",
            "has(event.source.ip) && !has(event.user)",
            "event.tags.exists(tag, tag == 'b')",
            "event.tags.all(tag, tag != 'c')",
            "event.source.ip.matches('^192[.]')",
            "'a' in event.tags",
        ] {
            assert_eq!(ask(source), Ok(true), "{source}");
        }
        assert_eq!(ask("event.user.name == 'root'"), Ok(false), "an absent field makes it false");
        assert!(ask("event.source.ip").is_err());
    }

    #[test]
    fn what_could_run_away_is_refused() {
        let long = format!("event.a == '{}'", "x".repeat(MAX_LENGTH));
        let deep = format!("{}1{} == 1", "(".repeat(100), ")".repeat(100));
        let chain = format!("event{}", ".a".repeat(1000));
        for source in [
            long.as_str(),
            &deep,
            &chain,
            "event.tags.map(x, x + x).size() > 0",
            "event.tags.filter(x, true).size() > 0",
            "event.tags.exists(x, event.tags.exists(y, x == y))",
            "event.source.ip.matches(event.tags[0])",
            "event.tags.exists(x, x.matches('a+'))",
            "events.x == 1",
            "event.x ==",
            "",
        ] {
            assert!(Condition::compile(source).is_err(), "{}", source.chars().take(60).collect::<String>());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_brings_it_down(source in "[a-z().\\[\\]{}!?:&|'\"0-9+ -]{0,80}") {
            if let Ok(condition) = Condition::compile(&source) {
                let _ = condition.holds(&Scene::new(&alert(), "id", condition.needs()));
            }
        }
    }
}
