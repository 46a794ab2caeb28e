//! Why a rule fired: the rule as it is written, evaluated once more over an event, with each of its tests, the value
//! that it looked at and the part of it that matched.
//!
//! The verdict of each test is the evaluator's own trace, which never stops early; where in a value the match lies is
//! looked for here, by the same patterns. A correlation has no test of its own: it names the rules that it counts, and
//! those are evaluated. What cannot be shown more exactly than by its field (arrays of objects, references to other
//! fields) is shown by its field.

use std::collections::{BTreeMap, BTreeSet};

use rsigma_eval::explain::{ConditionTrace, DetectionTrace, ItemTrace, explain_rule};
use rsigma_eval::{CompiledDetection, CompiledMatcher, CompiledRule, Event as _, EventValue};
use sakimori_model::rule::RuleInfo;
use sakimori_model::{Event, Value};
use serde_json::Value as Json;

use crate::detector::is_rule;
use crate::rule::{Documents, Meta, Rule, Written, document_at};
use crate::view::View;

/// Most tests of a rule that are told.
const MOST_TESTS: usize = 500;
/// Most parts of one value that are marked.
const MOST_SPANS: usize = 50;
/// Most of a text that is looked through, in bytes.
const MOST_TEXT: usize = 64 * 1024;

/// A rule that can be asked.
pub struct Asked {
    /// Its envelope.
    pub info: RuleInfo,
    /// Its file in the bundle.
    pub file: String,
    /// Line of the file at which it begins.
    pub line: usize,
    /// The document as it is written.
    pub text: String,
    /// What it counts, where it is a correlation.
    pub counting: Option<Counting>,
    /// The rules that look at single events: itself, or those that it counts.
    rules: Vec<(Rule, String)>,
}

/// What a correlation counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counting {
    /// `event_count`, `value_count`, `temporal`, …
    pub kind: String,
    /// The rules, by their ids.
    pub rules: Vec<String>,
    /// Fields that make a group.
    pub group_by: Vec<String>,
    /// Within so many seconds.
    pub seconds: u64,
}

/// What a rule says of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The rule that looked at it.
    pub rule: String,
    /// Its condition, as it is written.
    pub condition: String,
    /// Does it match?
    pub matched: bool,
    /// Its tests, those that matched first.
    pub tests: Vec<Test>,
}

/// One test of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// The selection that it is of.
    pub selection: String,
    /// The field; none for a keyword, which is looked for in every text.
    pub field: Option<String>,
    /// `exact`, `contains`, `startswith`, `regex`, `cidr`, …
    pub test: String,
    /// What is asked for, at most some hundred characters.
    pub pattern: Option<String>,
    /// The event's value.
    pub value: Option<Json>,
    /// Did it hold?
    pub matched: bool,
    /// Does the condition want it not to hold?
    pub negated: bool,
    /// Where in which field's text.
    pub spans: Vec<Span>,
}

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The field.
    pub field: String,
    /// Which of its values, from 0.
    pub value: usize,
    /// Begins there, in UTF-16 units.
    pub from: usize,
    /// Ends before that.
    pub to: usize,
}

/// The rule of this id among the files of a bundle.
pub fn find(files: &BTreeMap<String, Vec<u8>>, id: &str) -> Option<Asked> {
    let texts: BTreeMap<&str, &str> = files
        .iter()
        .filter(|(path, _)| is_rule(path))
        .filter_map(|(path, bytes)| Some((path.as_str(), std::str::from_utf8(bytes).ok()?)))
        .collect();
    // Reading a file compiles its rules: only those that speak of it are read.
    let words: Vec<String> = id.split('-').filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let speaks = |path: &str, text: &str| {
        let (path, text) = (path.to_lowercase(), text.to_lowercase());
        words.iter().all(|word| path.contains(word.as_str()) || text.contains(word.as_str()))
    };
    let mut documents = Documents::default();
    for (path, text) in texts.iter().filter(|(path, text)| speaks(path, text)) {
        documents.read(path, text);
    }
    if let Some(at) = documents.rules.iter().position(|rule| rule.meta.info.id == id) {
        let rule = documents.rules.swap_remove(at);
        let mut asked = asked(&rule.meta, &texts, None, Vec::new());
        asked.rules.push((rule, asked.text.clone()));
        return Some(asked);
    }
    let at = documents.correlations.iter().position(|written| written.meta.info.id == id)?;
    let written = documents.correlations.swap_remove(at);
    let rules = counted(&written, &texts);
    let counting = Counting {
        kind: serde_json::to_value(written.rule.correlation_type)
            .ok()
            .and_then(|kind| kind.as_str().map(str::to_owned))
            .unwrap_or_default(),
        rules: rules.iter().map(|rule| rule.meta.info.id.clone()).collect(),
        group_by: written.rule.group_by.clone(),
        seconds: written.rule.timespan.seconds,
    };
    Some(asked(&written.meta, &texts, Some(counting), rules))
}

fn asked(meta: &Meta, texts: &BTreeMap<&str, &str>, counting: Option<Counting>, rules: Vec<Rule>) -> Asked {
    let text = |meta: &Meta| {
        texts.get(meta.file.as_str()).map(|text| document_at(text, meta.line)).unwrap_or_default().to_owned()
    };
    let rules = rules.into_iter().map(|rule| {
        let text = text(&rule.meta);
        (rule, text)
    });
    let rules = rules.collect();
    Asked { info: meta.info.clone(), file: meta.file.clone(), line: meta.line, text: text(meta), counting, rules }
}

/// The rules that a correlation counts, and those that its correlations count.
fn counted(written: &Written, texts: &BTreeMap<&str, &str>) -> Vec<Rule> {
    let (mut wanted, mut done) = (written.rule.rules.clone(), BTreeSet::new());
    let mut found: BTreeMap<String, Rule> = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if !done.insert(name.clone()) || done.len() > 64 {
            continue;
        }
        let is = |meta: &Meta| {
            meta.name.as_deref() == Some(&name) || meta.uuid.as_deref() == Some(&name) || meta.info.id == name
        };
        for (path, text) in texts.iter().filter(|(path, text)| text.contains(&name) || path.contains(&name)) {
            let mut documents = Documents::default();
            documents.read(path, text);
            for rule in documents.rules.into_iter().filter(|rule| is(&rule.meta)) {
                found.entry(rule.meta.info.id.clone()).or_insert(rule);
            }
            let above = documents.correlations.into_iter().filter(|other| is(&other.meta));
            wanted.extend(above.flat_map(|other| other.rule.rules));
        }
    }
    found.into_values().collect()
}

impl Asked {
    /// What its rules say of an event.
    pub fn judge(&self, event: &Event) -> Vec<Judged> {
        self.rules.iter().map(|(rule, text)| judged(rule, text, event)).collect()
    }
}

fn judged(rule: &Rule, text: &str, event: &Event) -> Judged {
    let view = View(event);
    let trace = explain_rule(&rule.compiled, &view);
    let mut tests = Vec::new();
    for condition in &trace.conditions {
        of_condition(condition, false, &rule.compiled, event, &mut tests);
    }
    tests.sort_by_key(|test| !(test.matched ^ test.negated));
    tests.truncate(MOST_TESTS);
    let condition = condition_of(text).unwrap_or_default();
    Judged { rule: rule.meta.info.id.clone(), condition, matched: trace.matched, tests }
}

/// The condition as it is written, of a document that has one.
fn condition_of(text: &str) -> Option<String> {
    let document: Json = yaml_serde::from_str(text).ok()?;
    let condition = document.get("detection")?.get("condition")?;
    Some(match condition {
        Json::String(text) => text.clone(),
        Json::Array(list) => list.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" or "),
        _ => return None,
    })
}

fn of_condition(trace: &ConditionTrace, negated: bool, rule: &CompiledRule, event: &Event, out: &mut Vec<Test>) {
    match trace {
        ConditionTrace::Selection { name, detection, .. } => of_selection(name, detection, negated, rule, event, out),
        ConditionTrace::And { children, .. } | ConditionTrace::Or { children, .. } => {
            children.iter().for_each(|child| of_condition(child, negated, rule, event, out));
        }
        ConditionTrace::Not { child, .. } => of_condition(child, !negated, rule, event, out),
        ConditionTrace::Quantified { branches, .. } => {
            for branch in branches {
                of_selection(&branch.name, &branch.detection, negated, rule, event, out);
            }
        }
    }
}

fn of_selection(
    name: &str,
    trace: &DetectionTrace,
    negated: bool,
    rule: &CompiledRule,
    event: &Event,
    out: &mut Vec<Test>,
) {
    let from = out.len();
    of_detection(trace, rule.detections.get(name), event, out);
    for test in out.iter_mut().skip(from) {
        name.clone_into(&mut test.selection);
        test.negated = negated;
    }
}

fn of_detection(trace: &DetectionTrace, compiled: Option<&CompiledDetection>, event: &Event, out: &mut Vec<Test>) {
    match (trace, compiled) {
        (DetectionTrace::AllOf { items, .. }, Some(CompiledDetection::AllOf(compiled))) => {
            for (item, compiled) in items.iter().zip(compiled) {
                out.push(of_item(item, Some(&compiled.matcher), event));
            }
        }
        (DetectionTrace::AllOf { items, .. }, _) => out.extend(items.iter().map(|item| of_item(item, None, event))),
        (
            DetectionTrace::AnyOf { branches, .. } | DetectionTrace::And { branches, .. },
            Some(CompiledDetection::AnyOf(compiled) | CompiledDetection::And(compiled)),
        ) => {
            for (branch, compiled) in branches.iter().zip(compiled) {
                of_detection(branch, Some(compiled), event, out);
            }
        }
        (DetectionTrace::AnyOf { branches, .. } | DetectionTrace::And { branches, .. }, _) => {
            branches.iter().for_each(|branch| of_detection(branch, None, event, out));
        }
        (DetectionTrace::Keywords { item, .. }, compiled) => {
            let matcher = match compiled {
                Some(CompiledDetection::Keywords(matcher)) => Some(matcher),
                _ => None,
            };
            out.push(of_item(item, matcher, event));
        }
        (DetectionTrace::ArrayMatch { field, quantifier, matched, .. }, _) => {
            let value = View(event).get_field(field).map(|value| value.to_json());
            out.push(Test {
                field: Some(field.clone()),
                test: format!("array, {quantifier} of its members"),
                value,
                ..bare(*matched)
            });
        }
        (DetectionTrace::Conditional { matched, .. } | DetectionTrace::Other { matched, .. }, _) => {
            out.push(bare(*matched));
        }
    }
}

fn bare(matched: bool) -> Test {
    Test {
        selection: String::new(),
        field: None,
        test: "condition".to_owned(),
        pattern: None,
        value: None,
        matched,
        negated: false,
        spans: Vec::new(),
    }
}

fn of_item(item: &ItemTrace, matcher: Option<&CompiledMatcher>, event: &Event) -> Test {
    let test = serde_json::to_value(item.matcher).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    let mut spans = Vec::new();
    if let Some(matcher) = matcher.filter(|_| item.matched) {
        match &item.field {
            Some(field) => {
                let texts = View(event).get_field(field).map(|value| texts(&value)).unwrap_or_default();
                mark(field, &texts, matcher, &mut spans);
            }
            None => {
                for (field, value) in event.slots() {
                    mark(field.name(), &slot_texts(value), matcher, &mut spans);
                }
                for (name, json) in event.rest() {
                    below(name, json, matcher, &mut spans);
                }
            }
        }
    }
    Test {
        field: item.field.clone(),
        test: test.unwrap_or_default(),
        pattern: item.pattern.clone(),
        value: item.actual.clone(),
        spans,
        ..bare(item.matched)
    }
}

fn below(path: &str, json: &Json, matcher: &CompiledMatcher, out: &mut Vec<Span>) {
    match json {
        Json::Object(object) => {
            object.iter().for_each(|(name, json)| below(&format!("{path}.{name}"), json, matcher, out))
        }
        Json::Array(list) => list.iter().for_each(|json| below(path, json, matcher, out)),
        Json::String(text) => mark(path, std::slice::from_ref(text), matcher, out),
        _ => {}
    }
}

fn slot_texts(value: &Value) -> Vec<String> {
    let text = |one: &Value| match one.to_json() {
        Json::String(text) => Some(text),
        _ => None,
    };
    value.each().iter().filter_map(text).collect()
}

/// Texts of a value, each of a list.
fn texts(value: &EventValue<'_>) -> Vec<String> {
    match value {
        EventValue::Array(list) => list.iter().map(|one| one.as_str().unwrap_or_default().into_owned()).collect(),
        one => one.as_str().map(|text| text.into_owned()).into_iter().collect(),
    }
}

fn mark(field: &str, texts: &[String], matcher: &CompiledMatcher, out: &mut Vec<Span>) {
    for (at, text) in texts.iter().enumerate() {
        let mut found = Vec::new();
        places(matcher, text, &mut found);
        found.sort_unstable();
        found.dedup();
        let utf16 = |byte: usize| text.get(..byte).map(|before| before.encode_utf16().count());
        for (from, to) in found {
            if let (Some(from), Some(to)) = (utf16(from), utf16(to))
                && out.len() < MOST_SPANS
            {
                out.push(Span { field: field.to_owned(), value: at, from, to });
            }
        }
    }
}

/// Where a text is met, in bytes; nothing where it is not met or the whole of it is not text.
fn places(matcher: &CompiledMatcher, text: &str, out: &mut Vec<(usize, usize)>) {
    if text.len() > MOST_TEXT {
        return;
    }
    match matcher {
        CompiledMatcher::Exact { value, case_insensitive } => {
            out.extend(occurrences(text, value, *case_insensitive).into_iter().filter(|at| *at == (0, text.len())));
        }
        CompiledMatcher::Contains { value, case_insensitive } => {
            out.extend(occurrences(text, value, *case_insensitive));
        }
        CompiledMatcher::StartsWith { value, case_insensitive } => {
            out.extend(occurrences(text, value, *case_insensitive).into_iter().filter(|at| at.0 == 0));
        }
        CompiledMatcher::EndsWith { value, case_insensitive } => {
            out.extend(occurrences(text, value, *case_insensitive).into_iter().filter(|at| at.1 == text.len()));
        }
        CompiledMatcher::AhoCorasickSet { needles, case_insensitive, .. } => {
            out.extend(needles.iter().flat_map(|needle| occurrences(text, needle, *case_insensitive)));
        }
        CompiledMatcher::Regex(pattern) => {
            out.extend(pattern.find_iter(text).take(MOST_SPANS).map(|found| (found.start(), found.end())));
        }
        CompiledMatcher::AnyOf(parts) | CompiledMatcher::AllOf(parts) => {
            parts.iter().for_each(|part| places(part, text, out));
        }
        CompiledMatcher::CaseInsensitiveGroup { children, .. } => {
            children.iter().for_each(|part| places(part, text, out));
        }
        CompiledMatcher::Not(_) | CompiledMatcher::Null | CompiledMatcher::Exists(_) => {}
        // Networks, numbers, other fields: the whole value is what was compared.
        other => {
            let value = EventValue::Str(std::borrow::Cow::Borrowed(text));
            let nothing = Json::Null;
            if other.matches(&value, &rsigma_eval::JsonEvent::borrow(&nothing)) {
                out.push((0, text.len()));
            }
        }
    }
}

/// Places of a text in another, where letters may be of another case; a letter may be of another length then.
fn occurrences(text: &str, wanted: &str, any_case: bool) -> Vec<(usize, usize)> {
    let wanted: Vec<char> = if any_case { wanted.to_lowercase().chars().collect() } else { wanted.chars().collect() };
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut letters: Vec<(char, usize, usize)> = Vec::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        let end = at + letter.len_utf8();
        if any_case {
            letters.extend(letter.to_lowercase().map(|lower| (lower, at, end)));
        } else {
            letters.push((letter, at, end));
        }
    }
    let same = |run: &&[(char, usize, usize)]| run.iter().map(|one| one.0).eq(wanted.iter().copied());
    let found = letters.windows(wanted.len()).filter(same).take(MOST_SPANS);
    found.filter_map(|run| Some((run.first()?.1, run.last()?.2))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RULES: &str = "title: Single\nname: single\nlogsource: { product: linux }\ndetection:\n  sel:\n    \
        url.path|contains: ['/etc/', 'PASSWD']\n    user.name: root\n    source.ip|cidr: 192.0.2.0/24\n  other:\n    \
        url.query|re: 'a+b'\n  calm:\n    host.name: good\n  keys: [needle]\n  condition: sel and (other or keys) and not calm\n\
        level: high\nsakimori: { id: single }\n---\ntitle: Many\ncorrelation:\n  type: event_count\n  rules: [single]\n  \
        group-by: [source.ip]\n  timespan: 5m\n  condition: { gte: 3 }\nlevel: high\nsakimori: { id: many }\n";

    fn event() -> Event {
        let document = json!({
            "url": {"path": "/ä/ETC/passwd", "query": "xaab"}, "user": {"name": "Root"}, "source": {"ip": "192.0.2.7"},
            "host": {"name": "web"}, "message": "a Needle",
        });
        Event::from_json(document.as_object().unwrap().clone()).0
    }

    fn files() -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([("sigma/x.yml".to_owned(), RULES.as_bytes().to_vec())])
    }

    #[test]
    fn each_test_says_what_it_looked_at_and_which_part_matched() {
        let asked = find(&files(), "single").unwrap();
        assert!(asked.text.starts_with("title: Single") && !asked.text.contains("Many"), "{}", asked.text);
        let judged = asked.judge(&event());
        assert!(judged[0].matched);
        assert_eq!(judged[0].condition, "sel and (other or keys) and not calm");
        let of = |field: &str| judged[0].tests.iter().find(|test| test.field.as_deref() == Some(field)).unwrap();
        let spans = |field: &str| of(field).spans.iter().map(|span| (span.from, span.to)).collect::<Vec<_>>();
        assert_eq!(spans("url.path"), [(2, 7), (7, 13)], "in UTF-16 units, whatever the case");
        assert_eq!(spans("url.query"), [(1, 4)]);
        assert_eq!(spans("source.ip"), [(0, 9)]);
        assert_eq!((of("user.name").selection.as_str(), spans("user.name")), ("sel", vec![(0, 4)]));
        let not = of("host.name");
        assert!(not.negated && !not.matched && not.spans.is_empty(), "{not:?}");
        let keys = judged[0].tests.iter().find(|test| test.field.is_none()).unwrap();
        assert_eq!(keys.spans, [Span { field: "message".into(), value: 0, from: 2, to: 8 }]);
    }

    #[test]
    fn a_rule_that_does_not_match_says_what_is_missing() {
        let mut other = event();
        other.set(sakimori_model::field::USER_NAME, "ann");
        let judged = find(&files(), "single").unwrap().judge(&other);
        assert!(!judged[0].matched);
        let user = judged[0].tests.iter().find(|test| test.field.as_deref() == Some("user.name")).unwrap();
        assert_eq!((user.matched, &user.value), (false, &Some(json!("ann"))));
    }

    #[test]
    fn a_correlation_asks_the_rules_that_it_counts() {
        let asked = find(&files(), "many").unwrap();
        let counting = asked.counting.clone().unwrap();
        assert_eq!((counting.kind.as_str(), counting.seconds), ("event_count", 300));
        assert_eq!((counting.rules, counting.group_by), (vec!["single".to_owned()], vec!["source.ip".to_owned()]));
        assert!(asked.judge(&event())[0].matched);
        assert!(find(&files(), "none").is_none());
    }

    #[test]
    fn every_rule_of_ours_is_found_by_its_id() {
        let files: BTreeMap<String, Vec<u8>> = std::fs::read_dir("../../content/sigma")
            .unwrap()
            .flat_map(|entry| {
                let path = entry.unwrap().path();
                let inner: Vec<_> = match path.is_dir() {
                    true => std::fs::read_dir(&path).unwrap().map(|one| one.unwrap().path()).collect(),
                    false => vec![path],
                };
                inner
            })
            .filter(|path| path.is_file())
            .map(|path| {
                (format!("sigma/{}", path.file_name().unwrap().to_string_lossy()), std::fs::read(&path).unwrap())
            })
            .collect();
        let (detector, _) = crate::Detector::from_files(&files, crate::Options::default());
        let mut seen = 0;
        for info in detector.rules() {
            assert_eq!(find(&files, &info.id).map(|asked| asked.info.id), Some(info.id.clone()));
            seen += 1;
        }
        assert!(seen > 0);
    }
}
