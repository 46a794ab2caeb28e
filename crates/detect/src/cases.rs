//! The cases beside a log source, run as its tests: `cases/<n>.log` with a line an event (of JSON, a message a line), and
//! `cases/<n>.expected.json` with the events as nested ECS.
//!
//! Lines are read at noon UTC of 24 November 2026 by nobody in particular. What the engine stamps on every event
//! (original, dataset, module, created, host.name, source) is not part of an expected event.

use std::collections::BTreeMap;

use sakimori_model::{Event, Timestamp, field};
use serde_json::{Map, Value as Json};

use crate::arrival::{self, Arrived};
use crate::error::ContentError;
use crate::normalise::{LineContext, Normaliser};
use crate::source::{Framing, LogSource};

/// What cases showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were run.
    pub cases: usize,
    /// What is not as it should be, for people.
    pub failures: Vec<String>,
}

/// The moment at which lines of cases are read.
pub fn read_at() -> Timestamp {
    Timestamp::parse("2026-11-24T12:00:00Z").expect("a time")
}

/// The records of a case: its lines, and of JSON what each line holds ([`crate::arrival`]). A line that is no message stays.
pub fn records(log: &[u8], source: &LogSource) -> Vec<Vec<u8>> {
    let lines = log.strip_suffix(b"\n").unwrap_or(log).split(|byte| *byte == b'\n');
    let each = |line: &[u8]| -> Vec<Vec<u8>> {
        if source.framing != Framing::Json {
            return vec![line.to_vec()];
        }
        let arrived = arrival::open(line, "", std::slice::from_ref(source));
        let read = arrived.into_iter().map(|arrived| match arrived {
            Arrived::Record(record) => record.line,
            Arrived::Dead(_, original, _) => original,
        });
        read.collect()
    };
    lines.flat_map(each).collect()
}

/// Runs the cases in the folder of a log source, `logs/linux/auth`. Every line is one case.
///
/// # Errors
/// A case file that cannot be read.
pub fn run(
    folder: &str,
    normaliser: &mut Normaliser,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Report, ContentError> {
    let prefix = format!("{}/cases/", folder.trim_end_matches('/'));
    let mut report = Report::default();
    for (path, log) in files.iter().filter(|(path, _)| path.starts_with(&prefix)) {
        let Some(stem) = path.strip_suffix(".log") else { continue };
        let file = format!("{stem}.expected.json");
        let expected = files.get(&file).ok_or_else(|| ContentError::new(&file, 1, "the file is missing"))?;
        let expected: Vec<Map<String, Json>> = serde_json::from_slice(expected)
            .map_err(|error| ContentError::new(&file, error.line(), error.to_string()))?;
        let lines = records(log, normaliser.source());
        if lines.len() != expected.len() {
            report.failures.push(format!("{path}: {} lines and {} expected events", lines.len(), expected.len()));
        }
        for (at, (line, expected)) in lines.into_iter().zip(expected).enumerate() {
            report.cases += 1;
            let mut event = normaliser.parse(&line, &LineContext::at(read_at()));
            let expected = Event::from_json(expected).0;
            for stamped in [
                field::EVENT_ORIGINAL,
                field::EVENT_DATASET,
                field::EVENT_MODULE,
                field::EVENT_CREATED,
                field::HOST_NAME,
                field::SAKIMORI_SOURCE,
            ] {
                event.remove(stamped);
            }
            if event != expected {
                let text = |event: &Event| Json::Object(event.to_json()).to_string();
                report.failures.push(format!(
                    "{path}:{}: expected {}\n  but it became {}",
                    at + 1,
                    text(&expected),
                    text(&event)
                ));
            }
        }
    }
    Ok(report)
}
