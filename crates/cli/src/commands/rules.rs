//! `rules`: do rules, log sources and playbooks load, and do they do what the examples beside them say? Works
//! without a manager, on a content folder (with sigma/, logs/, playbooks/) or on any folder of Sigma files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use sakimori_content::files;
use sakimori_detect::testcases::{Bench, Tests};
use sakimori_detect::{ContentError, Detector, LogSource, Normaliser, Options, cases};
use sakimori_respond::playbook::Playbook;
use serde_json::json;

use super::{noisy, trials, with_api};
use crate::args::Shared;
use crate::output;

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Load everything and print what is wrong, each as file:line: reason
    #[command(after_help = "Example:\n  sakimori rules check content")]
    Check {
        /// The folder
        dir: PathBuf,
    },
    /// Run the examples beside rules (<rule>.tests.yaml) and log sources (cases/)
    #[command(after_help = "Example:\n  sakimori rules test content")]
    Test {
        /// The folder
        dir: PathBuf,
    },
    /// Show network rules on trial: what each would have stopped, whether a server answered it, and what is proposed
    #[command(after_help = "Examples:\n  sakimori rules trial\n  sakimori rules trial --rule 9100111 --days 7")]
    Trial(trials::TrialArgs),
    /// Show rules that speak too often, each with an exception that would help
    #[command(after_help = "Examples:\n  sakimori rules noisy\n  sakimori rules noisy --days 1 --limit 3")]
    Noisy(noisy::NoisyArgs),
}

type Files = BTreeMap<String, Vec<u8>>;

pub fn run(shared: &Shared, command: &RulesCommand) -> Result<ExitCode> {
    let (dir, test) = match command {
        RulesCommand::Check { dir } => (dir, false),
        RulesCommand::Test { dir } => (dir, true),
        RulesCommand::Trial(args) => {
            return with_api(shared, async |api| trials::run(&api, args, shared.json).await);
        }
        RulesCommand::Noisy(args) => {
            return with_api(shared, async |api| noisy::run(&api, args, shared.json).await);
        }
    };
    let own = files::read_dir(dir)?;
    // Rules of a folder without log sources are about the built-in ones.
    let mut all: Files = files::builtin().into_iter().filter(|(path, _)| path.starts_with("logs/")).collect();
    all.extend(own.clone());
    let mut report = Report::default();
    if test {
        report.test(dir, &own, &all);
    } else {
        report.check(dir, &own, &all);
    }
    report.show(shared.json, test)
}

#[derive(Default)]
struct Report {
    rules: usize,
    sources: usize,
    playbooks: usize,
    cases: usize,
    problems: Vec<String>,
}

impl Report {
    fn wrong(&mut self, dir: &Path, error: &ContentError) {
        let problem = format!("{}:{}: {}", dir.join(&error.file).display(), error.line, error.reason);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn check(&mut self, dir: &Path, own: &Files, all: &Files) {
        let (sources, errors) = LogSource::load_all(all);
        errors.iter().for_each(|error| self.wrong(dir, error));
        for source in sources.iter().filter(|source| own.contains_key(&format!("logs/{}/source.yaml", source.id))) {
            self.sources += 1;
            if let Err(error) = Normaliser::new(source) {
                self.wrong(dir, &error);
            }
        }
        let sigma: Vec<(&str, &str)> =
            sigma(own, |file, reason| self.problems.push(format!("{}:1: {reason}", dir.join(file).display())));
        let (detector, errors) = Detector::load(&sigma, Options::default().with_sources(&sources));
        errors.iter().for_each(|error| self.wrong(dir, error));
        self.rules = detector.rules().count();
        for (path, bytes) in own.iter().filter(|(path, _)| is_playbook(path)) {
            let text = String::from_utf8_lossy(bytes);
            match Playbook::parse(path, &text) {
                Ok(_) => self.playbooks += 1,
                Err(error) => {
                    self.problems.push(format!("{}:{}: {}", dir.join(path).display(), error.line, error.reason))
                }
            }
        }
        for (path, bytes) in own.iter().filter(|(path, _)| path.ends_with(".tests.yaml")) {
            if let Err(error) = Tests::read(path, &String::from_utf8_lossy(bytes)) {
                self.wrong(dir, &error);
            }
        }
    }

    fn test(&mut self, dir: &Path, own: &Files, all: &Files) {
        let (sources, errors) = LogSource::load_all(all);
        errors.iter().for_each(|error| self.wrong(dir, error));
        for source in sources.iter().filter(|source| own.contains_key(&format!("logs/{}/source.yaml", source.id))) {
            self.sources += 1;
            let ran = Normaliser::new(source)
                .and_then(|mut normaliser| cases::run(&format!("logs/{}", source.id), &mut normaliser, all));
            self.ran(dir, ran);
        }
        let (mut bench, _) = Bench::new(all);
        let rules: Vec<(&str, &str)> =
            sigma(own, |file, reason| self.problems.push(format!("{}:1: {reason}", dir.join(file).display())));
        for (path, text) in rules {
            self.rules += 1;
            let tests_file = format!("{}.tests.yaml", path.trim_end_matches(".yml").trim_end_matches(".yaml"));
            let Some(bytes) = own.get(&tests_file) else {
                self.problems.push(format!(
                    "{}:1: it has no tests; write {} beside it, with positive and negative cases",
                    dir.join(path).display(),
                    Path::new(&tests_file).file_name().unwrap_or_default().to_string_lossy()
                ));
                continue;
            };
            let ran = Tests::read(&tests_file, &String::from_utf8_lossy(bytes))
                .and_then(|tests| bench.run((path, text), &tests_file, &tests));
            self.ran(dir, ran);
        }
    }

    fn ran(&mut self, dir: &Path, ran: Result<cases::Report, ContentError>) {
        match ran {
            Ok(report) => {
                self.cases += report.cases;
                self.problems.extend(report.failures);
            }
            Err(error) => self.wrong(dir, &error),
        }
    }

    fn show(self, json: bool, test: bool) -> Result<ExitCode> {
        if json {
            output::json(&json!({
                "ok": self.problems.is_empty(), "rules": self.rules, "log_sources": self.sources,
                "playbooks": self.playbooks, "cases": self.cases, "problems": self.problems,
            }))?;
        } else {
            for problem in &self.problems {
                output::line(format!("{}{problem}{}", output::BAD, output::PLAIN))?;
            }
            let counted = if test {
                format!("{} cases of {} rules and {} log sources", self.cases, self.rules, self.sources)
            } else {
                format!("{} rules, {} log sources, {} playbooks", self.rules, self.sources, self.playbooks)
            };
            output::line(match self.problems.len() {
                0 => format!("{counted}: all well"),
                count => format!("{counted}; {count} problems"),
            })?;
        }
        Ok(if self.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn is_playbook(path: &str) -> bool {
    path.starts_with("playbooks/") && path.ends_with(".yml")
}

/// The Sigma files of a folder: those under sigma/ of a content folder, else every .yml.
fn sigma(own: &Files, mut wrong: impl FnMut(&str, &str)) -> Vec<(&str, &str)> {
    let content = own.keys().any(|path| path.starts_with("sigma/"));
    let mut out = Vec::new();
    for (path, bytes) in own {
        let here = if content { path.starts_with("sigma/") } else { !is_playbook(path) && !path.starts_with("logs/") };
        if !here || !path.ends_with(".yml") {
            continue;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => out.push((path.as_str(), text)),
            Err(_) => wrong(path, "it is no UTF-8 text"),
        }
    }
    out
}
