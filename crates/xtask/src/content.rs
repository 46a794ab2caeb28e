//! `xtask content`: the content proves itself.
//!
//! - Every log source has cases, a line for each expected event, and what is expected is ECS: each field is in
//!   the catalog with a value of its type, or lies under `sakimori.` or the vendor's own root.
//! - Every rule has tests beside it, they pass, and each of its mutants fails at least one of them.
//! - Slugs and Sigma ids are unique, and playbooks name rules that exist.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use sakimori_content::{Files, read_dir};
use sakimori_model::{Event, catalog};
use serde_json::Value as Json;

use crate::{mutants, rules};

/// Where a vendor's own record may lie beside the catalog.
const OWN_ROOTS: [&str; 8] =
    ["sakimori", "openssh", "systemd", "nginx", "aws", "trendmicro", "microsoft", "prometheus"];
/// Fewest lines that a log source shows.
const FEWEST_LINES: usize = 5;

/// Runs everything over `/content` and prints a summary.
pub fn run() -> anyhow::Result<()> {
    let report = check(&read_dir(&crate::tidy::root().join("content"))?)?;
    for failure in &report.failures {
        eprintln!("{failure}");
    }
    println!(
        "{} log lines, {} rules with {} cases and {} mutants, {} playbooks: {} failures",
        report.lines,
        report.rules,
        report.cases,
        report.mutants,
        report.playbooks,
        report.failures.len()
    );
    if report.failures.is_empty() { Ok(()) } else { bail!("content does not pass its tests; see above") }
}

/// What was looked at and what is wrong.
#[derive(Default)]
struct Report {
    lines: usize,
    rules: usize,
    cases: usize,
    mutants: usize,
    playbooks: usize,
    failures: Vec<String>,
}

fn check(files: &Files) -> anyhow::Result<Report> {
    let mut report = Report::default();
    log_sources(files, &mut report)?;
    let slugs = sigma(files, &mut report)?;
    playbooks(files, &slugs, &mut report)?;
    Ok(report)
}

fn text<'a>(files: &'a Files, path: &str) -> anyhow::Result<&'a str> {
    let bytes = files.get(path).with_context(|| format!("{path} is missing"))?;
    std::str::from_utf8(bytes).with_context(|| format!("{path} is not UTF-8"))
}

fn log_sources(files: &Files, report: &mut Report) -> anyhow::Result<()> {
    for folder in files.keys().filter_map(|path| path.strip_suffix("/source.yaml")) {
        text(files, &format!("{folder}/source.vrl"))?;
        let prefix = format!("{folder}/cases/");
        let mut lines = 0;
        for case in files.keys().filter_map(|path| path.strip_suffix(".log")).filter(|path| path.starts_with(&prefix)) {
            let log = text(files, &format!("{case}.log"))?;
            let expected = text(files, &format!("{case}.expected.json"))?;
            let expected: Vec<serde_json::Map<String, Json>> =
                serde_json::from_str(expected).with_context(|| format!("{case}.expected.json"))?;
            // A line of JSON may hold several records; the engine's own test counts those.
            let by_line = !text(files, &format!("{folder}/source.yaml"))?.lines().any(|line| line == "framing: json");
            if by_line && log.lines().count() != expected.len() {
                let found = log.lines().count();
                report.failures.push(format!("{case}: {found} lines and {} expected events", expected.len()));
            }
            lines += expected.len();
            for (at, event) in expected.into_iter().enumerate() {
                report.failures.extend(strangers(event).map(|path| format!("{case}: event {}: {path}", at + 1)));
            }
        }
        if lines < FEWEST_LINES {
            report.failures.push(format!("{folder}: {lines} lines in its cases, {FEWEST_LINES} are needed"));
        }
        report.lines += lines;
    }
    Ok(())
}

/// Fields of an expected event that are neither ECS as the catalog has it nor the vendor's own.
fn strangers(json: serde_json::Map<String, Json>) -> impl Iterator<Item = String> {
    let (event, repeats) = Event::from_json(json);
    let mut left = Vec::new();
    leaves(&Json::Object(event.rest().clone()), String::new(), &mut left);
    let repeated = (repeats > 0).then(|| format!("{repeats} repeated keys"));
    let foreign = left.into_iter().filter_map(|path| {
        let root = path.split('.').next().unwrap_or_default();
        if catalog::lookup(&path).is_some() {
            Some(format!("{path} has a value of another type than the catalog's"))
        } else if OWN_ROOTS.contains(&root) {
            None
        } else {
            Some(format!("{path} is not in the catalog"))
        }
    });
    repeated.into_iter().chain(foreign)
}

fn leaves(json: &Json, path: String, out: &mut Vec<String>) {
    match json {
        Json::Object(map) => {
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, path, out);
            }
        }
        _ => out.push(path),
    }
}

/// Runs the tests of all rules and their mutants; gives the slugs.
fn sigma(files: &Files, report: &mut Report) -> anyhow::Result<BTreeSet<String>> {
    let mut slugs = BTreeSet::new();
    let mut ids = BTreeMap::new();
    for path in files.keys().filter(|path| path.starts_with("sigma/") && path.ends_with(".yml")) {
        let rule = text(files, path)?;
        let (title, ours) = rules::head(rule).with_context(|| path.clone())?;
        let stem = path.trim_end_matches(".yml");
        let tests = rules::tests(text(files, &format!("{stem}.tests.yaml"))?).with_context(|| path.clone())?;
        if !files.contains_key(&format!("logs/{}/source.yaml", tests.source)) {
            report.failures.push(format!("{path}: its tests name the log source {}, which is not there", tests.source));
        }
        for id in rule.lines().filter_map(|line| line.strip_prefix("id: ")) {
            if let Some(other) = ids.insert(id.to_owned(), path.clone()) {
                report.failures.push(format!("{path}: id {id} is also in {other}"));
            }
        }
        if ours.revision == 0 || !["host", "wide"].contains(&ours.scope.as_str()) || ours.title_ja.is_empty() {
            report.failures.push(format!("{path}: `sakimori:` needs a revision from 1, scope host or wide, title_ja"));
        }
        let failures = rules::failures(rule, &title, &tests).with_context(|| path.clone())?;
        report.failures.extend(failures.into_iter().map(|failure| format!("{path} {failure}")));
        for mutant in mutants::of(rule).with_context(|| path.clone())? {
            report.mutants += 1;
            // A mutant that cannot be loaded shows nothing about the tests, but it cannot pass them either.
            if rules::failures(&mutant.text, &title, &tests).is_ok_and(|failures| failures.is_empty()) {
                report.failures.push(format!("{path}: no test needs this: {}", mutant.change));
            }
        }
        report.rules += 1;
        report.cases += tests.positive.len() + tests.negative.len();
        if !slugs.insert(ours.id.clone()) {
            report.failures.push(format!("{path}: another rule has the slug {}", ours.id));
        }
    }
    Ok(slugs)
}

fn playbooks(files: &Files, slugs: &BTreeSet<String>, report: &mut Report) -> anyhow::Result<()> {
    for path in files.keys().filter(|path| path.starts_with("playbooks/") && path.ends_with(".yml")) {
        let playbook: yaml_serde::Value = yaml_serde::from_str(text(files, path)?).with_context(|| path.clone())?;
        let rules =
            playbook.get("trigger").and_then(|trigger| trigger.get("alert")).and_then(|alert| alert.get("rules"));
        for rule in rules.and_then(yaml_serde::Value::as_sequence).into_iter().flatten() {
            if !rule.as_str().is_some_and(|rule| slugs.contains(rule)) {
                report.failures.push(format!("{path}: names a rule that is not there: {rule:?}"));
            }
        }
        report.playbooks += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_passes_its_tests() {
        let report = check(&sakimori_content::builtin()).unwrap();
        assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
        assert!(report.rules >= 10 && report.mutants >= 100 && report.lines >= 100 && report.playbooks >= 3);
    }

    #[test]
    fn a_rule_whose_tests_do_not_need_all_of_it_is_found() {
        let mut files = sakimori_content::builtin();
        let path = "sigma/linux/new_user.tests.yaml".to_owned();
        let weak = "source: linux/auth\npositive:\n  - name: a\n    events:\n      - { at: 0, host.name: h, event.action: user_created, event.outcome: success }\nnegative:\n  - name: b\n    events:\n      - { at: 0, host.name: h, event.action: x }\n";
        files.insert(path, weak.as_bytes().to_vec());
        let failures = check(&files).unwrap().failures;
        assert!(failures.iter().any(|failure| failure.contains("without event.outcome")), "{failures:?}");
    }

    #[test]
    fn an_expected_event_outside_ecs_is_found() {
        let json =
            serde_json::json!({"source": {"ip": "nowhere"}, "colour": "red", "openssh": {"auth": {"method": "x"}}});
        let found: Vec<_> = strangers(json.as_object().unwrap().clone()).collect();
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
