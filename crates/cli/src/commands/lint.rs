//! The worker that checks and tests the text of rules for the manager's API (`manager::lint`): it confines itself, is asked
//! once, answers, and ends. The checkers are those of `rules check`, `net rules check`, `scan` and `playbook check`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use sakimori_detect::testcases::{Bench, Tests};
use sakimori_detect::{Detector, LogSource, Normaliser, Options};
use sakimori_malware::{Limits, Scanner, testcases as malware_tests};
use sakimori_manager::lint::{Ask, Finding, Language, MOST_ASKED, Outcome};
use sakimori_model::policy::{Layer, default_layer, merge};
use sakimori_network::{LoadOptions, RuleSet, testcases};
use sakimori_respond::playbook::Playbook;
use sakimori_sys::sandbox::{self, Sandbox};
use sakimori_sys::{memory, worker};

/// Seconds that YARA rules may take for one sample.
const SECONDS: u64 = 5;
/// Where a program stands while it is checked.
const FOLDER: &str = "logs/checked/program";

/// Runs until the answer is sent. Call it first in the process.
///
/// # Errors
/// This process is no worker, cannot be confined, or the parent sends what no parent sends.
pub fn run() -> io::Result<()> {
    let channel = worker::connect().map_err(io::Error::other)?;
    sandbox::enter(&Sandbox::SCAN)?;
    // What an engine fails at is its end here, and told by that; its own report would only fill the log.
    std::panic::set_hook(Box::new(|_| {}));
    let Some((_, descriptors)) = channel.recv()? else { return Ok(()) };
    let asked = descriptors.into_iter().next().ok_or_else(|| io::Error::other("a question came without its memory"))?;
    let bytes = memory::read_sealed(&asked.into(), MOST_ASKED)?;
    let outcome = outcome(&Ask::read(&bytes)?).bounded();
    channel.send(&outcome.to_bytes()?, &[])
}

/// Checks a text, and runs its tests where it is good.
pub fn outcome(ask: &Ask) -> Outcome {
    let mut outcome = Outcome { findings: findings(ask), ..Outcome::default() };
    if let Some((file, text)) = ask.tests.as_ref().filter(|_| outcome.findings.is_empty()) {
        match tests(ask, file, text) {
            Ok((cases, failures)) => (outcome.cases, outcome.failures) = (cases, failures),
            Err(reason) => outcome.failures.push(reason),
        }
    }
    outcome
}

fn findings(ask: &Ask) -> Vec<Finding> {
    let wrong = |line: usize, reason: &str| Finding::error(ask.language, &ask.text, line, reason);
    match ask.language {
        Language::Sigma => {
            let (sources, _) = LogSource::load_all(&ask.files);
            let options = Options::default().with_sources(&sources);
            let (_, errors) = Detector::load(&[(ask.file.as_str(), ask.text.as_str())], options);
            errors.iter().filter(|error| error.file == ask.file).map(|error| wrong(error.line, &error.reason)).collect()
        }
        Language::Suricata => {
            let rules = RuleSet::load(&[(ask.file.as_str(), ask.text.as_str())], &LoadOptions::default(), &|_| None);
            rules.refused.iter().map(|refused| wrong(refused.line, &refused.reason)).collect()
        }
        Language::Yara | Language::Hash => {
            let ending = if ask.language == Language::Yara { "checked.yar" } else { "checked.hashes" };
            let (_, errors) = sakimori_malware::RuleSet::compile([(ending, ask.text.as_bytes())]);
            errors.iter().map(|error| wrong(error.line, &error.reason)).collect()
        }
        Language::Vrl => program(ask).err().map(|(line, reason)| wrong(line, &reason)).into_iter().collect(),
        Language::Playbook => {
            let parsed = Playbook::parse(&ask.file, &ask.text);
            parsed.err().map(|error| wrong(error.line, &error.reason)).into_iter().collect()
        }
        Language::Policy => layer(ask).err().map(|(line, reason)| wrong(line, &reason)).into_iter().collect(),
    }
}

/// Compiles a program under a description of nothing in particular.
fn program(ask: &Ask) -> Result<(), (usize, String)> {
    let described = "id: checked/program\ntitle: { en: Checked, ja: 検査 }\ndataset: checked.program\nmodule: checked\nframing: line\n";
    let files = BTreeMap::from([
        (format!("{FOLDER}/source.yaml"), described.as_bytes().to_vec()),
        (format!("{FOLDER}/source.vrl"), ask.text.as_bytes().to_vec()),
    ]);
    let source = LogSource::load(FOLDER, &files).map_err(|error| (error.line, error.reason))?;
    Normaliser::new(&source).map(|_| ()).map_err(|error| (error.line, error.reason))
}

fn layer(ask: &Ask) -> Result<(), (usize, String)> {
    let tree = match yaml_serde::from_str::<serde_json::Value>(&ask.text) {
        Ok(serde_json::Value::Object(tree)) => tree,
        Ok(serde_json::Value::Null) => return Ok(()),
        Ok(_) => return Err((1, "expected groups of settings".into())),
        Err(error) => return Err((error.location().map_or(1, |at| at.line()), error.to_string())),
    };
    let merged = merge(&[default_layer(), Layer { name: ask.file.clone(), tree }]);
    merged.map(|_| ()).map_err(|error| (line_of(&ask.text, &error.path), format!("{}: {}", error.path, error.reason)))
}

/// The line where the last part of a dotted path stands, after those before it.
fn line_of(text: &str, path: &str) -> usize {
    let mut parts = path.split('.').peekable();
    let mut found = 1;
    for (at, line) in text.lines().enumerate() {
        let Some(part) = parts.peek() else { break };
        let name = line.trim_start().trim_start_matches(['"', '\'']);
        if name
            .strip_prefix(*part)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
        {
            found = at + 1;
            parts.next();
        }
    }
    found
}

fn tests(ask: &Ask, file: &str, text: &str) -> Result<(usize, Vec<String>), String> {
    match ask.language {
        Language::Sigma => {
            let (mut bench, _) = Bench::new(&ask.files);
            let tests = Tests::read(file, text).map_err(|error| error.to_string())?;
            let report = bench.run((ask.file.as_str(), ask.text.as_str()), file, &tests);
            report.map(|report| (report.cases, report.failures)).map_err(|error| error.to_string())
        }
        Language::Suricata => {
            let cases = testcases::read(text).map_err(|(line, reason)| format!("{file}:{line}: {reason}"))?;
            // Other files' rules may have a part in a conversation's end.
            let others: Vec<(String, String)> = ask
                .files
                .iter()
                .filter(|(path, _)| path.ends_with(".rules") && **path != ask.file)
                .map(|(path, bytes)| (path.clone(), String::from_utf8_lossy(bytes).into_owned()))
                .collect();
            let mut texts: Vec<(&str, &str)> =
                others.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            texts.push((ask.file.as_str(), ask.text.as_str()));
            texts.sort_unstable();
            let rules = Arc::new(RuleSet::load(&texts, &LoadOptions::default(), &|_| None));
            let failures = cases.iter().flat_map(|case| case.failures(&rules)).collect();
            Ok((cases.len(), failures))
        }
        Language::Yara => {
            let tests = malware_tests::Tests::read(file, text).map_err(|error| error.to_string())?;
            let (rules, _) = sakimori_malware::RuleSet::compile([("checked.yar", ask.text.as_bytes())]);
            let limits = Limits { seconds: SECONDS, ..Limits::default() };
            let failures = tests.run(&mut Scanner::new(&rules, limits));
            Ok((tests.positive.len() + tests.negative.len(), failures))
        }
        Language::Hash | Language::Vrl | Language::Playbook | Language::Policy => {
            Err("tests of this kind are not run here".into())
        }
    }
}

#[cfg(test)]
mod tests_of_it {
    use super::*;

    fn ask(language: Language, text: &str) -> Ask {
        Ask { language, file: "checked".into(), text: text.into(), tests: None, files: BTreeMap::new() }
    }

    #[test]
    fn each_language_s_own_checker_says_what_is_wrong_and_where() {
        let sigma = "title: x\nlogsource: { product: linux }\ndetection:\n  a:\n    b: 1\n  condition: a and c\n";
        let cases = [
            (
                Language::Sigma,
                sigma,
                "title: x\nlogsource: { product: linux }\ndetection:\n  a:\n    user.name: x\n  condition: a\n",
                None,
            ),
            (
                Language::Suricata,
                "\nalert tcp any any -> any any (msg:\"x\"; nonsense; sid:1;)\n",
                "alert tcp any any -> any any (msg:\"x\"; sid:1;)\n",
                Some(2),
            ),
            (Language::Yara, "rule a {\n  condition:\n    nonsense\n}\n", "rule a { condition: true }\n", Some(3)),
            (Language::Hash, "# x\nzz\n", "d41d8cd98f00b204e9800998ecf84270  x\n", Some(2)),
            (Language::Vrl, ".a = 1\n.b = nonsense(\n", ".event.action = \"x\"\n", None),
            (
                Language::Playbook,
                "id: x\ntrigger: nonsense\n",
                "id: asks\ntitle: { en: Asks }\ntrigger: { manual: {} }\nsteps:\n  - notify: { channel: ops, text: { en: x } }\n",
                None,
            ),
            (
                Language::Policy,
                "modules:\n  block_address:\n    mod: detect\n",
                "modules:\n  block_address:\n    mode: detect\n",
                Some(3),
            ),
        ];
        for (language, bad, good, line) in cases {
            let found = outcome(&ask(language, bad)).findings;
            assert!(!found.is_empty(), "{language:?}");
            if let Some(line) = line {
                assert_eq!(found[0].line, line, "{found:?}");
            }
            assert_eq!(
                (found[0].severity.as_str(), found[0].code.as_str()),
                ("error", format!("{}/invalid", language.name()).as_str())
            );
            if language != Language::Playbook {
                assert_eq!(outcome(&ask(language, good)).findings, [], "{language:?}");
            }
        }
    }

    #[test]
    fn tests_beside_built_in_rules_run_and_fail_where_they_should() {
        let files = sakimori_content::files::builtin();
        let text = |path: &str| String::from_utf8(files[path].clone()).unwrap();
        for (language, rule, tests) in [
            (Language::Sigma, "sigma/web/path_traversal.yml", "sigma/web/path_traversal.tests.yaml"),
            (Language::Suricata, "network/scanners.rules", "network/scanners.tests"),
            (Language::Yara, "malware/miner.yar", "malware/miner.tests.yaml"),
        ] {
            let wanted = |path: &&String| path.starts_with("logs/") || path.starts_with("network/");
            let beside =
                files.iter().filter(|(path, _)| wanted(path)).map(|(path, bytes)| (path.clone(), bytes.clone()));
            let mut ask = Ask {
                language,
                file: rule.into(),
                text: text(rule),
                tests: Some((tests.into(), text(tests))),
                files: beside.collect(),
            };
            let found = outcome(&ask);
            assert!(found.cases > 2 && found.findings.is_empty(), "{found:?}");
            assert_eq!(found.failures, Vec::<String>::new(), "{rule}");
            ask.tests = Some((tests.into(), "nonsense".into()));
            assert_eq!(outcome(&ask).failures.len(), 1, "{rule}");
        }
    }

    #[test]
    fn a_path_is_found_in_its_text() {
        let text = "modules:\n  antimalware:\n    mode: detect\n  block_address:\n    \"mode\": nonsense\n";
        assert_eq!(line_of(text, "modules.block_address.mode"), 5);
        assert_eq!((line_of(text, "policy"), line_of(text, "")), (1, 1));
    }
}
