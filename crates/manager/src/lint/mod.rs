//! Checking and testing the text of rules, in a process with few rights: what somebody writes into a page is parsed by the
//! engines' own parsers, and by no process that holds anything (D16).
//!
//! One worker a question (`sakimori worker lint`), two at a time, each killed after [`PATIENCE`]. What it is asked comes as
//! sealed memory. The manager links no engine for network and malware rules; the worker's side is in the program
//! (`cli/src/commands/lint.rs`).

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use sakimori_sys::channel::Waited;
use sakimori_sys::memory;
use sakimori_sys::worker::{WorkerSpec, spawn};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

/// User and group of these workers.
pub const UID: u32 = 64_108;
/// Longest text that is checked, in bytes.
pub const MOST_TEXT: usize = 256 << 10;
/// Largest question, in bytes: a text with the files that its tests need.
pub const MOST_ASKED: u64 = 32 << 20;
/// Most findings and failures of one answer.
pub const MOST_TOLD: usize = 200;
/// Longest text of one of them, in bytes.
const MOST_MESSAGE: usize = 2_000;
/// How long a worker may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Workers at a time.
const AT_A_TIME: usize = 2;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LintLanguage)]
pub enum Language {
    /// Sigma rules and correlations.
    Sigma,
    /// Network rules.
    Suricata,
    /// Malware rules.
    Yara,
    /// A list of hashes.
    Hash,
    /// The program of a log source.
    Vrl,
    /// A playbook.
    Playbook,
    /// A policy layer.
    Policy,
}

impl Language {
    /// As JSON has it; the code of its findings begins with it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigma => "sigma",
            Self::Suricata => "suricata",
            Self::Yara => "yara",
            Self::Hash => "hash",
            Self::Vrl => "vrl",
            Self::Playbook => "playbook",
            Self::Policy => "policy",
        }
    }
}

/// What a worker is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Language of the text.
    pub language: Language,
    /// What its errors call it.
    pub file: String,
    /// The text.
    pub text: String,
    /// Its tests, where they are to be run: name and text of their file.
    pub tests: Option<(String, String)>,
    /// Files of the bundle that checks and tests need.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Something that is wrong in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RuleFinding)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// `error`: it cannot be loaded; `warning`.
    pub severity: String,
    /// What is wrong, in English.
    pub message: String,
    /// `<language>/<what>`.
    pub code: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RuleCheck)]
pub struct Outcome {
    /// What is wrong in the text, at most 200, by place.
    pub findings: Vec<Finding>,
    /// Test cases that ran.
    pub cases: usize,
    /// What is wrong with them, at most 200.
    pub failures: Vec<String>,
}

impl Finding {
    /// An error at a line of a text; its column is where the line's text begins.
    pub fn error(language: Language, text: &str, line: usize, message: impl Into<String>) -> Self {
        let line = line.clamp(1, text.lines().count().max(1));
        let column =
            text.lines().nth(line - 1).map_or(0, |line| line.chars().take_while(|one| one.is_whitespace()).count());
        Self {
            line,
            column: column + 1,
            severity: "error".into(),
            message: short(&message.into()),
            code: format!("{}/invalid", language.name()),
        }
    }
}

fn short(text: &str) -> String {
    let end = (0..=MOST_MESSAGE.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

impl Ask {
    /// Reads what a worker was asked.
    ///
    /// # Errors
    /// It is no question.
    pub fn read(bytes: &[u8]) -> std::io::Result<Self> {
        postcard::from_bytes(bytes).map_err(std::io::Error::other)
    }
}

impl Outcome {
    /// As a worker answers it.
    ///
    /// # Errors
    /// An encoder says no.
    pub fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(std::io::Error::other)
    }

    /// Within what an answer may hold.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.findings.sort_by_key(|finding| (finding.line, finding.column));
        self.findings.truncate(MOST_TOLD);
        self.failures.truncate(MOST_TOLD);
        self.failures.iter_mut().for_each(|failure| *failure = short(failure));
        self
    }
}

/// Asks workers.
#[derive(Clone, Debug)]
pub struct Linter(Arc<Semaphore>);

impl Default for Linter {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// All workers are asked something.
    #[error("others are being checked; ask again")]
    Busy,
    /// It was not ended in time, or it ended its worker.
    #[error("{0}")]
    Ended(String),
    /// No worker can be started.
    #[error("no worker can be started: {0}")]
    None(String),
}

impl Linter {
    /// Checks a text, and runs its tests where there are some.
    ///
    /// # Errors
    /// See [`LintError`].
    pub async fn ask(&self, ask: Ask) -> Result<Outcome, LintError> {
        let seat = Arc::clone(&self.0).try_acquire_owned().map_err(|_| LintError::Busy)?;
        let asked = tokio::task::spawn_blocking(move || {
            let outcome = exchange(&ask);
            drop(seat);
            outcome
        });
        asked.await.map_err(|error| LintError::None(error.to_string()))?
    }
}

fn exchange(ask: &Ask) -> Result<Outcome, LintError> {
    let none = |error: &dyn std::fmt::Display| LintError::None(error.to_string());
    let bytes = postcard::to_stdvec(ask).map_err(|error| none(&error))?;
    let asked = memory::sealed("rules to check", &bytes).map_err(|error| none(&error))?;
    let spec = WorkerSpec { network: false, ..WorkerSpec::own("lint", &["worker", "lint"], UID, UID) };
    let worker = spawn(&spec).map_err(|error| none(&error))?;
    let ended = |error: std::io::Error| LintError::Ended(format!("the process that checks ended: {error}"));
    worker.channel.send(&[], &[asked.as_fd()]).map_err(ended)?;
    // Dropping the worker kills it.
    match worker.channel.recv_timeout(PATIENCE) {
        Ok(Waited::Frame((body, _))) => {
            let outcome: Outcome = postcard::from_bytes(&body).map_err(|error| LintError::Ended(error.to_string()))?;
            Ok(outcome.bounded())
        }
        Ok(Waited::TimedOut) => Err(LintError::Ended(format!("it takes longer than {} s", PATIENCE.as_secs()))),
        Ok(Waited::Closed) => Err(LintError::Ended("the process that checked it ended".into())),
        Err(error) => Err(ended(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_stands_where_the_text_of_its_line_begins_and_within_the_text() {
        let finding = |line| {
            let found = Finding::error(Language::Sigma, "a: 1\n   b: 2\n", line, "x");
            (found.line, found.column)
        };
        assert_eq!((finding(1), finding(2), finding(9), finding(0)), ((1, 1), (2, 4), (2, 4), (1, 1)));
        assert_eq!(Finding::error(Language::Vrl, "", 7, "x").line, 1);
    }

    #[test]
    fn an_answer_is_bounded_and_in_order() {
        let text = "a\nb\n";
        let long = "é".repeat(MOST_MESSAGE);
        let findings =
            (0..MOST_TOLD + 5).map(|at| Finding::error(Language::Yara, text, 2 - at % 2, long.clone())).collect();
        let outcome = Outcome { findings, cases: 1, failures: vec![long; MOST_TOLD + 1] }.bounded();
        assert_eq!((outcome.findings.len(), outcome.failures.len()), (MOST_TOLD, MOST_TOLD));
        assert!(outcome.findings.iter().all(|one| one.message.len() <= MOST_MESSAGE) && outcome.findings[0].line == 1);
        assert!(outcome.failures[0].len() <= MOST_MESSAGE);
    }
}
