//! Which rules are worth evaluating on an event (D10).
//!
//! The rules of one log source are put under their witnesses: by field an exact table and one automaton, one
//! automaton over all texts for keywords, and those that have no witness, which are looked at every time. An
//! event then names its candidates in one pass over the fields that rules ask for. It may name too many, never
//! too few; a test holds that against the reference evaluator.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use aho_corasick::AhoCorasick;
use rsigma_eval::{Event as _, EventValue};

use crate::view::View;
use crate::witness::{Witness, Witnesses};

/// Candidates of a set of rules.
#[derive(Debug, Default)]
pub(crate) struct Index {
    always: Vec<usize>,
    fields: Vec<Probe>,
    anywhere: Option<Needles>,
}

/// What is asked of one field.
#[derive(Debug, Default)]
struct Probe {
    path: String,
    present: Vec<usize>,
    exact: HashMap<String, Vec<usize>>,
    needles: Option<Needles>,
}

/// Texts that are looked for at once, and the rules of each.
#[derive(Debug)]
struct Needles {
    automaton: AhoCorasick,
    rules: Vec<Vec<usize>>,
}

impl Needles {
    /// `None` where there are none; the rules back where the automaton cannot be built.
    fn build(texts: BTreeMap<String, Vec<usize>>, always: &mut Vec<usize>) -> Option<Self> {
        if texts.is_empty() {
            return None;
        }
        match AhoCorasick::new(texts.keys()) {
            Ok(automaton) => Some(Self { automaton, rules: texts.into_values().collect() }),
            Err(_) => {
                always.extend(texts.into_values().flatten());
                None
            }
        }
    }

    fn mark(&self, text: &str, found: &mut Vec<usize>) {
        for hit in self.automaton.find_overlapping_iter(text) {
            found.extend(self.rules.get(hit.pattern().as_usize()).into_iter().flatten());
        }
    }
}

impl Index {
    /// Puts rules, named by their numbers, under their witnesses.
    pub(crate) fn build<'a>(rules: impl Iterator<Item = (usize, &'a Witnesses)>) -> Self {
        #[derive(Default)]
        struct Asked {
            present: Vec<usize>,
            exact: HashMap<String, Vec<usize>>,
            holds: BTreeMap<String, Vec<usize>>,
        }
        let mut always = Vec::new();
        let mut fields: BTreeMap<&str, Asked> = BTreeMap::new();
        let mut anywhere: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (rule, witnesses) in rules {
            let Some(witnesses) = witnesses else {
                always.push(rule);
                continue;
            };
            for witness in witnesses {
                match witness {
                    Witness::Is(field, text) => {
                        fields.entry(field).or_default().exact.entry(text.clone()).or_default().push(rule);
                    }
                    Witness::Holds(field, text) => {
                        fields.entry(field).or_default().holds.entry(text.clone()).or_default().push(rule);
                    }
                    Witness::Present(field) => fields.entry(field).or_default().present.push(rule),
                    Witness::Anywhere(text) => anywhere.entry(text.clone()).or_default().push(rule),
                }
            }
        }
        let fields = fields
            .into_iter()
            .map(|(path, asked)| Probe {
                path: path.to_owned(),
                present: asked.present,
                exact: asked.exact,
                needles: Needles::build(asked.holds, &mut always),
            })
            .collect();
        let anywhere = Needles::build(anywhere, &mut always);
        Self { always, fields, anywhere }
    }

    /// Writes the numbers of the candidates, ascending, each once.
    pub(crate) fn candidates(&self, view: &View<'_>, found: &mut Vec<usize>) {
        found.clear();
        found.extend(&self.always);
        for probe in &self.fields {
            let Some(value) = view.get_field(&probe.path) else { continue };
            found.extend(&probe.present);
            if !probe.exact.is_empty() || probe.needles.is_some() {
                each_text(&value, &mut |text| {
                    if let Some(rules) = probe.exact.get(text) {
                        found.extend(rules);
                    }
                    if let Some(needles) = &probe.needles {
                        needles.mark(text, found);
                    }
                });
            }
        }
        if let Some(needles) = &self.anywhere {
            let hits = std::cell::RefCell::new(found);
            view.any_string_value(&|text| {
                needles.mark(&folded(text), &mut hits.borrow_mut());
                false
            });
            let found = hits.into_inner();
            found.sort_unstable();
            found.dedup();
            return;
        }
        found.sort_unstable();
        found.dedup();
    }
}

/// Every text of a value in lower case; numbers and booleans as the evaluator writes them.
fn each_text(value: &EventValue<'_>, each: &mut dyn FnMut(&str)) {
    match value {
        EventValue::Array(list) => list.iter().for_each(|one| each_text(one, each)),
        other => {
            if let Some(text) = other.as_str() {
                each(&folded(&text));
            }
        }
    }
}

fn folded(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        Cow::Owned(text.to_lowercase())
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}
