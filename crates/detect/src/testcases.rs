//! The examples beside a rule, run as its tests: `<rule>.tests.yaml` beside `<rule>.yml`.
//!
//! ```yaml
//! source: linux/auth              # log source of events and lines that name no other
//! positive:                       # the rule makes an alert of each
//!   - name: five guesses within a minute
//!     count: 1                    # exactly so many alerts; at least one, where absent
//!     events:                     # ECS by dotted names; `at` in seconds from the beginning, `repeat` so many of it
//!       - { at: 0, event.action: ssh_login, event.outcome: failure, source.ip: 203.0.113.7 }
//!   - name: the same as it stands in the log
//!     lines:                      # raw lines, read by the source's own program
//!       - at: 0
//!         line: "{time} web-1 sshd[{n}]: Failed password for {user} from 203.0.113.7 port 22 ssh2"
//!         repeat: 5               # so many lines, 1 where absent
//!         every: 10               # seconds between them, 0 where absent
//!         vary: { user: [root, admin] }   # in turn
//!         source: linux/auth      # where it is another one
//! negative:                       # no alert of any of these
//!   - …
//! ```
//!
//! In a line `{n}` is the number of the repetition from 0, `{time}` its time as syslog writes it, `{iso}` in
//! RFC 3339, `{clf}` as web servers write it; all in UTC.

use std::collections::BTreeMap;

use sakimori_model::id::EventId;
use sakimori_model::{Event, Timestamp, field};
use serde::Deserialize;
use serde_json::Value as Json;

pub use crate::cases::Report;
use crate::detector::Detector;
use crate::error::ContentError;
use crate::normalise::{LineContext, Normaliser};
use crate::options::Options;
use crate::source::LogSource;

/// The moment of `at: 0`.
const BEGIN: i64 = 1_795_000_000;
/// Most lines that one step may stand for.
const MAX_REPEAT: u32 = 100_000;

/// The tests of one rule file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// Log source of what names no other.
    pub source: String,
    /// Each makes an alert.
    pub positive: Vec<Case>,
    /// None does.
    pub negative: Vec<Case>,
}

/// Events and lines in order of time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// For people.
    pub name: String,
    /// Exactly so many alerts.
    #[serde(default)]
    pub count: Option<usize>,
    #[serde(default)]
    events: Vec<Step>,
    #[serde(default)]
    lines: Vec<Lines>,
}

#[derive(Clone, Debug, Deserialize)]
struct Step {
    at: i64,
    #[serde(default = "one")]
    repeat: u32,
    #[serde(flatten)]
    fields: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    at: i64,
    line: String,
    #[serde(default = "one")]
    repeat: u32,
    #[serde(default)]
    every: i64,
    #[serde(default)]
    vary: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    source: Option<String>,
}

fn one() -> u32 {
    1
}

impl Tests {
    /// Reads the tests of a rule.
    ///
    /// # Errors
    /// What is wrong, with file and line; also where there is no positive or no negative case.
    pub fn read(file: &str, text: &str) -> Result<Self, ContentError> {
        let tests: Self = yaml_serde::from_str(text).map_err(|error| ContentError::yaml(file, 1, &error))?;
        if tests.positive.is_empty() || tests.negative.is_empty() {
            return Err(ContentError::new(file, 1, "a rule has at least one positive and one negative case"));
        }
        let steps = tests.positive.iter().chain(&tests.negative).flat_map(|case| &case.lines);
        let mut events = tests.positive.iter().chain(&tests.negative).flat_map(|case| &case.events);
        if steps.clone().any(|step| step.repeat > MAX_REPEAT) || events.any(|step| step.repeat > MAX_REPEAT) {
            return Err(ContentError::new(file, 1, format!("a line is repeated {MAX_REPEAT} times at most")));
        }
        Ok(tests)
    }
}

/// Runs tests of rules; keeps what is costly to prepare from one to the next.
pub struct Bench {
    sources: Vec<LogSource>,
    normalisers: BTreeMap<String, Normaliser>,
}

impl Bench {
    /// A bench for the content's files.
    pub fn new(files: &BTreeMap<String, Vec<u8>>) -> (Self, Vec<ContentError>) {
        let (sources, errors) = LogSource::load_all(files);
        (Self { sources, normalisers: BTreeMap::new() }, errors)
    }

    /// Runs the tests of one rule file. Only alerts of that file's rules count.
    ///
    /// # Errors
    /// A rule that does not load, or tests that name a source that is not there.
    pub fn run(&mut self, rule: (&str, &str), tests_file: &str, tests: &Tests) -> Result<Report, ContentError> {
        let mut report = Report::default();
        for (wanted, cases) in [(true, &tests.positive), (false, &tests.negative)] {
            for case in cases {
                let options = Options::default().with_sources(&self.sources);
                let (mut detector, errors) = Detector::load(&[rule], options);
                if let Some(error) = errors.into_iter().next() {
                    return Err(error);
                }
                let mut alerts = Vec::new();
                let wrong = |reason: String| ContentError::new(tests_file, 1, reason);
                for (at, (time, event)) in self.events(case, &tests.source).map_err(wrong)?.into_iter().enumerate() {
                    let id = EventId { batch: "tests:rule:1".into(), index: u32::try_from(at).unwrap_or(u32::MAX) };
                    detector.feed(&event, &id, time, "", &mut alerts);
                }
                report.cases += 1;
                let right = match (wanted, case.count) {
                    (true, Some(count)) => alerts.len() == count,
                    (true, None) => !alerts.is_empty(),
                    (false, _) => alerts.is_empty(),
                };
                if !right {
                    report.failures.push(format!("{tests_file}: {}: it made {} alerts", case.name, alerts.len()));
                }
            }
        }
        Ok(report)
    }

    /// The events of a case in order of time.
    fn events(&mut self, case: &Case, source: &str) -> Result<Vec<(Timestamp, Event)>, String> {
        let mut all = Vec::new();
        for step in &case.events {
            let source = self.source(source)?;
            let time = Timestamp::from_secs(BEGIN + step.at);
            let mut event = Event::new();
            event.set(field::TIMESTAMP, time);
            event.set(field::EVENT_DATASET, source.dataset.clone());
            event.set(field::EVENT_MODULE, source.module.clone());
            for (path, value) in &step.fields {
                event.set_path(path, value.clone());
            }
            all.extend(std::iter::repeat_n((time, event), step.repeat as usize));
        }
        for step in &case.lines {
            let id = step.source.as_deref().unwrap_or(source);
            if !self.normalisers.contains_key(id) {
                let normaliser = Normaliser::new(self.source(id)?).map_err(|error| error.to_string())?;
                self.normalisers.insert(id.to_owned(), normaliser);
            }
            let Some(normaliser) = self.normalisers.get_mut(id) else { continue };
            for number in 0..step.repeat {
                let time = Timestamp::from_secs(BEGIN + step.at + i64::from(number) * step.every);
                let line = filled(step, number, time);
                all.push((time, normaliser.parse(line.as_bytes(), &LineContext::at(time))));
            }
        }
        all.sort_by_key(|(time, _)| *time);
        Ok(all)
    }

    fn source(&self, id: &str) -> Result<&LogSource, String> {
        self.sources.iter().find(|source| source.id == id).ok_or_else(|| format!("there is no log source {id}"))
    }
}

fn filled(step: &Lines, number: u32, time: Timestamp) -> String {
    let moment = time.to_chrono();
    let mut line = step
        .line
        .replace("{n}", &number.to_string())
        .replace("{time}", &moment.format("%b %e %H:%M:%S").to_string())
        .replace("{iso}", &time.to_string())
        .replace("{clf}", &moment.format("%d/%b/%Y:%H:%M:%S +0000").to_string());
    for (name, values) in &step.vary {
        if let Some(value) = values.get(number as usize % values.len().max(1)) {
            line = line.replace(&format!("{{{name}}}"), value);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "title: A\nname: login\nlogsource: { product: acme }\ndetection:\n  a: { event.action: login }\n  condition: a\n---\ntitle: B\nname: many\ncorrelation:\n  type: event_count\n  rules: [login]\n  group-by: [user.name]\n  timespan: 1m\n  condition: { gte: 3 }\n";

    fn files() -> BTreeMap<String, Vec<u8>> {
        let yaml =
            "id: acme/audit\ntitle: { en: Audit }\ndataset: acme.audit\nframing: syslog\nsigma: [{ product: acme }]\n";
        let vrl = "words = split(string!(.message), \" \")\n.event.action = words[0]\n.user.name = words[1]\n";
        BTreeMap::from([
            ("logs/acme/audit/source.yaml".to_owned(), yaml.as_bytes().to_vec()),
            ("logs/acme/audit/source.vrl".to_owned(), vrl.as_bytes().to_vec()),
        ])
    }

    fn run(tests: &str) -> Report {
        let (mut bench, errors) = Bench::new(&files());
        assert!(errors.is_empty(), "{errors:?}");
        let tests = Tests::read("many.tests.yaml", tests).unwrap();
        bench.run(("many.yml", RULE), "many.tests.yaml", &tests).unwrap()
    }

    #[test]
    fn events_and_lines_are_both_understood() {
        let report = run("source: acme/audit
positive:
  - name: events
    count: 1
    events:
      - { at: 0, event.action: login, user.name: aiko }
      - { at: 10, event.action: login, user.name: aiko }
      - { at: 20, event.action: login, user.name: aiko }
  - name: lines
    count: 2
    lines:
      - { at: 0, line: \"{time} web-1 acme[{n}]: login {who}\", repeat: 6, every: 5, vary: { who: [aiko, mika] } }
negative:
  - name: too slow
    lines:
      - { at: 0, line: \"{iso} web-1 acme: login aiko\", repeat: 6, every: 31 }
");
        assert_eq!(report, Report { cases: 3, failures: Vec::new() });
    }

    #[test]
    fn what_fails_is_named() {
        let report = run("source: acme/audit
positive:
  - { name: nothing at all }
negative:
  - name: something
    lines: [{ at: 0, line: \"{time} h acme: login aiko\", repeat: 3 }]
");
        assert_eq!(report.failures.len(), 2);
        assert!(report.failures[0].contains("nothing at all") && report.failures[1].contains("something"));
    }

    #[test]
    fn wrong_tests_are_refused_with_their_line() {
        let error = Tests::read("x.tests.yaml", "source: a\npositive: []\nnegative: []\ncolour: red\n").unwrap_err();
        assert_eq!(error.line, 4, "{error}");
        assert!(Tests::read("x.tests.yaml", "source: a\npositive: []\nnegative: []\n").is_err());
    }
}
