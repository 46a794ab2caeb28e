//! Tests of Sigma rules: `<rule>.tests.yaml` beside `<rule>.yml`.
//!
//! ```yaml
//! source: linux/auth            # the log source whose fields the events use
//! positive:                     # each must make the rule fire
//!   - name: five guesses within a minute
//!     events:
//!       - { at: 0, event.action: ssh_login, … }   # `at` in seconds, `repeat` so many of it; all else ECS by dotted name
//! negative:                     # none may
//!   - …
//! ```
//!
//! The rule is evaluated by the reference implementation, whose semantics ours must equal (D10). A file may hold
//! several documents; the one with a `sakimori:` block is the rule, the others are parts that it counts.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use rsigma_eval::event::JsonEvent;
use rsigma_eval::{CorrelationConfig, CorrelationEngine};
use sakimori_model::Event;
use serde::Deserialize;
use serde_json::Value as Json;

/// The moment of `at: 0`, in seconds since the epoch.
const BEGIN: i64 = 1_795_000_000;

/// The tests of one rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// Slug of the log source.
    pub source: String,
    /// Must fire.
    pub positive: Vec<Case>,
    /// Must not.
    pub negative: Vec<Case>,
}

/// Events in order, and what they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// For people.
    pub name: String,
    events: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    at: i64,
    /// So many of it, at the same moment.
    #[serde(default = "once")]
    repeat: u32,
    #[serde(flatten)]
    fields: BTreeMap<String, Json>,
}

fn once() -> u32 {
    1
}

/// What is ours in a rule file.
#[derive(Deserialize)]
struct Document {
    title: String,
    #[serde(default)]
    sakimori: Option<Ours>,
}

/// The block `sakimori:`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ours {
    /// Slug.
    pub id: String,
    /// Revision, from 1.
    pub revision: u32,
    /// `host` or `wide`.
    pub scope: String,
    /// Japanese title.
    pub title_ja: String,
}

/// Title and block of the rule in a file.
pub fn head(text: &str) -> anyhow::Result<(String, Ours)> {
    let mut heads = Vec::new();
    for document in yaml_serde::Deserializer::from_str(text) {
        let document = Document::deserialize(document)?;
        if let Some(ours) = document.sakimori {
            heads.push((document.title, ours));
        }
    }
    match (heads.pop(), heads.len()) {
        (Some(head), 0) => Ok(head),
        (_, found) => bail!("expected one document with a `sakimori:` block, found {found}"),
    }
}

/// Runs the tests; what comes back is what failed.
pub fn failures(text: &str, title: &str, tests: &Tests) -> anyhow::Result<Vec<String>> {
    let mut failures = Vec::new();
    for (wanted, cases) in [(true, &tests.positive), (false, &tests.negative)] {
        for case in cases {
            let fired = fired(text, title, case)?;
            if fired != wanted {
                failures.push(format!("{}: {}", if wanted { "does not fire" } else { "fires" }, case.name));
            }
        }
    }
    Ok(failures)
}

/// Does the rule of this title fire on these events?
fn fired(text: &str, title: &str, case: &Case) -> anyhow::Result<bool> {
    let collection = rsigma_parser::parse_sigma_yaml(text)?;
    if let Some(error) = collection.errors.first() {
        bail!("{error}");
    }
    let mut engine = CorrelationEngine::new(CorrelationConfig::default());
    engine.add_collection(&collection)?;
    for step in &case.events {
        let mut event = Event::new();
        for (path, value) in &step.fields {
            event.set_path(path, value.clone());
        }
        let json = Json::Object(event.to_json());
        for _ in 0..step.repeat {
            let results = engine.process_event_at(&JsonEvent::borrow(&json), BEGIN + step.at);
            if results.iter().any(|result| result.header.rule_title == title) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Reads `<rule>.tests.yaml`.
pub fn tests(text: &str) -> anyhow::Result<Tests> {
    let tests: Tests = yaml_serde::from_str(text).context("read rule tests")?;
    if tests.positive.is_empty() || tests.negative.is_empty() {
        bail!("a rule has at least one positive and one negative case");
    }
    Ok(tests)
}
